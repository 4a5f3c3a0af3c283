"""Target utility: how well a student answers with a target in the place of its latent cache.

It needs no training: a constant, shuffled, leaked or decorative target shows at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from kvdistill.capture.attention import evaluating
from kvdistill.compress import CompressorMethod
from kvdistill.evaluation.evaluate import chance_of, decode, judged, left_padded
from kvdistill.evaluation.log_probability import answer_sums
from kvdistill.evaluation.probes import pairable
from kvdistill.kv import ModelKV
from kvdistill.latent.given_slots import answer_with_slots
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.records.utility import TargetUtility, utility_of
from kvdistill.target import Control, NoControl, TargetBuilder, TargetMean
from kvdistill.text import Batch, Encoded

TargetOf = Callable[[Batch], ModelKV]
"""From a batch of B samples to its target: un-rotated, M slots, in the student's geometry."""


def target_utility(
    model: LatentReasoner,
    samples: Sequence[Encoded],
    targets: Mapping[str, TargetOf],
    batch_size: int = 32,
    max_new_tokens: int = 32,
    batch_of: Callable[[Sequence[Encoded]], Batch] | None = None,
) -> list[TargetUtility]:
    """Accuracy and log-probability of answers with each target in the place of the student's latent cache.

    The student reads question, cue, ``<bot>``, the target's slots at the positions of its own, ``<eot>`` and
    the answer prompt; masked slots are not attended. Its latent passes are not run.

    Args:
        model: A student with a tokenizer, at any point of its training.
        samples: N held-out questions with their answers, at least one; for targets from chains of thought,
            with those.
        targets: By name, functions from a batch to its target. They are called without gradient, with the
            student in evaluation mode.
        batch_size: Questions per batch; raised where the last batch would hold a single question, so that
            controls find another sample. It does not change the result otherwise.
        max_new_tokens: Upper limit of tokens per answer.
        batch_of: Collates samples, such as for teachers with tokenizers of their own; by default as for the
            student alone. Padding may be on either side.

    Returns:
        One record per target, in order.

    Raises:
        ValueError: without questions or a tokenizer, or if a target does not fit the student.

    Source: ours.
    """
    if not samples:
        raise ValueError("There is no question to measure the utility of targets on: give at least one.")
    if len(samples) > 1:
        batch_size = pairable(len(samples), batch_size)
    batch_of = batch_of or partial(left_padded, model)
    said: dict[str, list[str]] = {name: [] for name in targets}
    nats: dict[str, list[float]] = {name: [] for name in targets}
    with evaluating(model), torch.no_grad():
        for start in range(0, len(samples), batch_size):
            batch = batch_of(samples[start : start + batch_size]).to(model.device)
            for name, target_of in targets.items():
                answers = answer_with_slots(model, batch, target_of(batch), max_new_tokens)
                said[name] += decode(model, answers.ids)
                nats[name] += answer_sums(answers.rows, len(batch)).tolist()
    chance = chance_of(samples)
    return [utility_of(name, judged(said[name], samples, "latent"), nats[name], chance) for name in targets]


def own_latents(model: LatentReasoner) -> TargetOf:
    """The student's own latent cache as a target: its utility is that of the student's ordinary answers.

    Args:
        model: The student.

    Returns:
        A function from a batch to its latent cache, M slots.
    """

    def target_of(batch: Batch) -> ModelKV:
        # Student mode does not see the chain of thought; an empty one is cheaper.
        return model(replace(batch, teacher_mode=batch.teacher_mode.without_cot())).student.kv

    return target_of


def own_target(model: LatentReasoner, method: CompressorMethod) -> TargetOf:
    """The target of self-distillation: the compressed cache of the student's teacher mode.

    Args:
        model: The student.
        method: A compressor to M slots.

    Returns:
        A function from a batch with chains of thought to its target, M slots.
    """
    build = TargetBuilder(method, NoControl(), model.config.slots)

    def target_of(batch: Batch) -> ModelKV:
        return build(model(batch, "cot").kv, batch.cot_id, 0)

    return target_of


def controlled(target_of: TargetOf, control: Control, seed: int = 0) -> TargetOf:
    """A target with a negative control, such as another sample's target.

    Args:
        target_of: The target.
        control: The control; ``MeanTarget`` takes the mean over each batch.
        seed: Seed of the partners.

    Returns:
        A function from a batch to the controlled target. It raises a ValueError for a batch of one where the
        control takes another sample's target.
    """

    def target(batch: Batch) -> ModelKV:
        found = target_of(batch)
        mean = None
        if control.needs_running_mean:
            mean = TargetMean.over(found)
        return control.apply(found, batch.cot_id, seed, mean)

    return target
