"""What becomes of a model family in the library's hands: right, refused with a sentence, wrong or crashed."""

import copy
import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import transformers as tf
from torch import Tensor

import pico
import pico_families
import pico_tokenizer
from kvdistill.kv import ModelKV, ModelOutput
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.decode import generate_ids
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.teacher import CausalLMTeacher
from pico_plain import Noted, Plain, Row, importance, noting, shifted_keys, teacher_text, without_factor

PACKAGE = str(Path(__import__("kvdistill").__file__).parent)
TOLERANCE = 2e-4
SLOTS, STEPS = 3, 3
ENDS = (1, 2)
"""The tokenizer's end of sequence, and the token that closes the answers."""
WORDS = [f"w{number}" for number in range(pico_families.VOCABULARY - 3)]
ROWS: tuple[Row, ...] = (
    {"question": (11, 4, 37, 52, 19), "cot": (8, 41, 23, 30, 55, 17, 6, 29), "answer": (14, 2)},
    {"question": (45, 12, 33, 9, 27, 50, 21), "cot": (16, 38, 5, 47, 24, 31), "answer": (40, 26, 2)},
    {"question": (20, 58, 7, 44, 13, 36), "cot": (49, 10, 35, 22, 57, 15, 42, 28, 3), "answer": (32, 2)},
)
"""Questions, chains of thought and answers of unlike lengths; prompts and cues are the same for all."""
ROWS = tuple({"cue": (7,), "student_cue": (8, 9), "prompt": (18, 25), **row} for row in ROWS)


@dataclass
class Part:
    """What became of a model as teacher or as student."""

    verdict: str = "right"
    reason: str = ""
    errors: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str, found: Tensor, expected: Tensor) -> None:
        """Note how far a result lies from the reference, relative to its size."""
        if found.shape != expected.shape:
            error = math.inf
        else:
            error = float(
                (found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-9)
            )
        error = math.inf if math.isnan(error) else error
        self.errors[name] = max(self.errors.get(name, 0.0), error)

    def conclude(self) -> None:
        """Wrong where an error is above the tolerance."""
        if self.verdict == "right" and self.errors and max(self.errors.values()) > TOLERANCE:
            worst = sorted(self.errors, key=self.errors.__getitem__, reverse=True)
            self.verdict = "wrong"
            self.reason = ", ".join(
                f"{name} {self.errors[name]:.1e}" for name in worst if self.errors[name] > TOLERANCE
            )


@dataclass(frozen=True)
class Verdict:
    """One line of the matrix."""

    case: pico_families.Case
    kind: str
    reason: str
    worst: float
    seconds: float


@contextmanager
def caught(part: Part, stage: str, may_refuse: bool) -> Iterator[None]:
    """Turn an exception into a verdict: refused where the library itself says no in a sentence, before any
    text is read.

    The first verdict stays: what follows a failure tells nothing.
    """
    try:
        yield
    except Exception as error:  # whatever a family raises is its verdict
        last = traceback.extract_tb(error.__traceback__)[-1]
        if part.verdict != "right":
            return
        ours = isinstance(error, ValueError) and last.filename.startswith(PACKAGE)
        text = (str(error).strip().splitlines() or [""])[0]
        if ours and may_refuse:
            part.verdict, part.reason = "refused", text
        elif ours:
            part.verdict, part.reason = "refused late", f"{stage}: {text}"
        else:
            place = "/".join(Path(last.filename).parts[-2:])
            part.verdict, part.reason = (
                "crashed",
                f"{stage}: {type(error).__name__}: {text[:160]} ({place}:{last.lineno})",
            )


def judge(case: pico_families.Case) -> Verdict:
    """Build a case's model and hold the library's results against plain calls."""
    start = time.perf_counter()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers has much to say about odd sizes
        model = pico_families.build(case)
        teacher, student = judge_teacher(model, case), judge_student(model, case)
    kind, reason = conclusion(teacher, student)
    worst = max([0.0, *teacher.errors.values(), *student.errors.values()])
    return Verdict(case, kind, reason, worst, time.perf_counter() - start)


def conclusion(teacher: Part, student: Part) -> tuple[str, str]:
    """One verdict of two."""
    teacher.conclude()
    student.conclude()
    parts = {"teacher": teacher, "student": student}
    for kind in ("crashed", "wrong", "refused late"):
        found = [f"{name}: {part.reason}" for name, part in parts.items() if part.verdict == kind]
        if found:
            return kind, "; ".join(found)
    if teacher.verdict == student.verdict:
        return teacher.verdict, student.reason
    if student.verdict == "refused":
        return "right as teacher only", student.reason
    return "right as student only", teacher.reason


def judge_teacher(model: tf.PreTrainedModel, case: pico_families.Case) -> Part:
    """Values, keys and importance of a frozen teacher in padded batches."""
    part, own = Part(), copy.deepcopy(model)
    with caught(part, "CausalLMTeacher", may_refuse=True):
        teacher = CausalLMTeacher(own, "teacher")
        with caught(part, "read", may_refuse=case.long):
            caches = [teacher.read(pico.batch(ROWS, side, extra=1)) for side in ("right", "left")]
            for sample, row in enumerate(ROWS):
                compare_cache(part, model, row, [cut(cache, sample) for cache in caches])
    return part


def cut(cache: ModelKV, sample: int) -> list[tuple[int, Tensor, Tensor, Tensor]]:
    """Layer id, keys, values and importance of one sample, without padding."""
    found = []
    for layer_id, layer in zip(cache.layer_ids, cache.layers, strict=True):
        kept = layer.mask[sample, 0]
        parts = (states[sample][:, kept] for states in (layer.keys, layer.values, layer.importance))
        found.append((layer_id, *parts))
    return found


def compare_cache(
    part: Part, model: tf.PreTrainedModel, row: Row, caches: list[list[tuple[int, Tensor, Tensor, Tensor]]]
) -> None:
    """Hold the cache over a chain of thought against what the plain model's attention is given."""
    text = teacher_text(row)
    first = len(row["question"]) + len(row["cue"])
    columns = range(first, first + len(row["cot"]))
    rows = list(range(len(text) - len(row["answer"]) - 1, len(text) - 1))
    with noting(model) as noted:
        logits = model(input_ids=torch.tensor([text])).logits
    keys = shifted_keys(model, text, columns, logits)
    calls: dict[int | None, Noted] = {call.layer_id: call for call in noted}
    for cache in caches:
        assert [layer_id for layer_id, *_ in cache] == sorted(calls)
        for layer_id, own_keys, values, own_importance in cache:
            call = calls[layer_id]
            part.measure("values", values, call.values[0][:, columns])
            part.measure("importance", own_importance, importance(call, columns, rows))
            if keys is not None:
                part.measure(
                    "keys",
                    own_keys,
                    without_factor(model, keys[layer_id], call.keys[0][:, columns], own_keys),
                )


def judge_student(model: tf.PreTrainedModel, case: pico_families.Case) -> Part:
    """Cross entropy of both modes for one and two passes, latent values, and answers, in padded batches."""
    part, reference = Part(), copy.deepcopy(model)
    with caught(part, "build", may_refuse=True):
        config = LatentConfig(slots=SLOTS, passes=1)
        student = LatentReasoner.build(copy.deepcopy(model), pico_tokenizer.word_level(WORDS), config).eval()
        with caught(part, "reference", may_refuse=False):
            weights = student.backbone.state_dict()
            rows = student.backbone.get_input_embeddings().weight.shape[0]
            if rows != reference.get_input_embeddings().weight.shape[0]:
                reference.resize_token_embeddings(rows)
            reference.load_state_dict(weights)
            plain = Plain(reference, student.feedback, student.special._asdict())
            for passes in (1, 2):
                student.config.passes = passes
                with caught(part, f"forward with T = {passes}", may_refuse=case.long):
                    for side in ("right", "left"):
                        two = student(pico.batch(ROWS, side, extra=1))
                        compare_modes(part, plain, passes, (two.teacher, two.student))
            for reasoning in ("latent", "cot", "direct"):
                with caught(part, f"generate {reasoning}", may_refuse=case.long):
                    compare_answers(part, plain, student, reasoning)
    return part


def compare_modes(part: Part, plain: Plain, passes: int, modes: tuple[ModelOutput, ModelOutput]) -> None:
    """Cross entropy, logits and latent values of every sample against the plain model's."""
    teacher, student = modes
    for sample, row in enumerate(ROWS):
        labels = [*row["cot"], *row["prompt"], *row["answer"]]
        logits = plain.model(input_ids=torch.tensor([teacher_text(row)])).logits[0]
        compare_logits(part, "teacher", (teacher, sample), logits[-len(labels) - 1 : -1], labels)
        inputs = plain.closed(row, SLOTS, passes)
        with noting(plain.model) as noted:
            logits = plain.model(inputs_embeds=inputs).logits[0]
        labels = list(row["answer"])
        compare_logits(part, f"student T={passes}", (student, sample), logits[-len(labels) - 1 : -1], labels)
        first = len(row["question"]) + len(row["student_cue"]) + 1
        calls = {call.layer_id: call for call in noted}
        for layer_id, layer in zip(student.kv.layer_ids, student.kv.layers, strict=True):
            part.measure(
                f"latent values T={passes}",
                layer.values[sample],
                calls[layer_id].values[0][:, first : first + SLOTS],
            )


def compare_logits(
    part: Part, name: str, found: tuple[ModelOutput, int], logits: Tensor, labels: list[int]
) -> None:
    """Logits of one sample's labels, and their mean cross entropy."""
    mode, sample = found
    own = mode.rows.logits[mode.rows.sample == sample]
    assert mode.rows.labels[mode.rows.sample == sample].tolist() == labels
    targets = torch.tensor(labels)
    entropy: Callable[[Tensor], Tensor] = partial(torch.nn.functional.cross_entropy, target=targets)
    part.measure(f"{name} CE", entropy(own), entropy(logits))
    part.measure(f"{name} logits", own, logits)


def compare_answers(part: Part, plain: Plain, student: LatentReasoner, reasoning: str) -> None:
    """Generated ids of a padded batch against greedy decoding of each sample alone."""
    together = generate_ids(student, pico.batch(ROWS, "left"), reasoning, STEPS).tolist()
    wrong = 0
    for found, row in zip(together, ROWS, strict=True):
        if reasoning == "latent":
            start = plain.closed(row, SLOTS, student.config.passes, answer=False)
        else:
            text = [*row["question"], *row["cue"], *(row["prompt"] if reasoning == "direct" else ())]
            start = torch.tensor([text])
        expected = plain.greedy(start, STEPS, ENDS)
        wrong += found[: len(expected)] != expected
    part.errors[f"answers {reasoning}"] = wrong / len(ROWS)
