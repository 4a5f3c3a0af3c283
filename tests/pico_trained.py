"""A tiny student that learns in seconds to answer right, and whose answers can only come out of its latent
slots.

The question is two names, the chain of thought reads them backwards, the answer is the first of them. A
window of three tokens keeps the answer away from the question: it sees the last latent slot, ``<eot>`` and
itself. Some questions open with words that say nothing, so that lengths differ.
"""

from copy import deepcopy
from dataclasses import asdict
from functools import cache

import torch
import transformers as tf

from kvdistill.compress import StepEnd
from kvdistill.data import Plain, encode_all, word_tokenizer
from kvdistill.data.collate import collate
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner, add_latent_tokens
from kvdistill.losses.objective import Objective
from kvdistill.pipeline import Distillation
from kvdistill.target import Control, NoControl, SameBridge, TargetBuilder
from kvdistill.teacher import OWN, SelfDistillation
from kvdistill.text import Encoded, Example

NAMES = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay")
TEMPLATE = Plain(prompt="answer")
OBJECTIVE = Objective(codi_weight=1.0, kv_weight=1.0)


def examples() -> list[Example]:
    """All 36 pairs of names."""
    pairs = [(first, second) for first in NAMES for second in NAMES]
    return [
        Example(question="please " * (index % 3) + f"{a} {b}", steps=(b, a), answer=a, sample_id=f"{index}")
        for index, (a, b) in enumerate(pairs)
    ]


def student(seed: int = 0, **settings: object) -> LatentReasoner:
    """An untrained student with its tokenizer; two slots, two passes, delimiters in both modes unless
    ``settings`` say otherwise.
    """
    tokenizer = word_tokenizer([*NAMES, "please", "answer"])
    add_latent_tokens(tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = tf.AutoModelForCausalLM.from_config(
            tf.MistralConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=64,
                vocab_size=len(tokenizer),
                max_position_embeddings=64,
                sliding_window=3,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
                tie_word_embeddings=False,
            )
        )
        latent = {"slots": 2, "passes": 2, "delimiters": "both", "template": asdict(TEMPLATE)} | settings
        return LatentReasoner.build(backbone, tokenizer, LatentConfig(**latent))


def wild(**settings: object) -> LatentReasoner:
    """An untrained student with weights so large that it says something else to every other question."""
    model = student(seed=2, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6 if parameter.ndim > 1 else 1)
    return model.eval()


def samples(model: LatentReasoner) -> tuple[Encoded, ...]:
    """All pairs of names as the student reads them."""
    assert model.tokenizer is not None
    return encode_all(examples(), model.tokenizer, TEMPLATE).samples


def distillation(
    model: LatentReasoner, objective: Objective = OBJECTIVE, control: Control | None = None
) -> Distillation:
    """The step that trains the student, with the cache at the step ends as its target."""
    builder = TargetBuilder(StepEnd(), control or NoControl(), model.config.slots)
    return Distillation(model, [SelfDistillation(model.geometry)], SameBridge({OWN: builder}), objective)


def trained() -> LatentReasoner:
    """A copy of the trained student, in evaluation mode; it is trained once, in a few seconds."""
    return deepcopy(_trained())


@cache
def _trained() -> LatentReasoner:
    model, steps = student(), 120
    batch, step = collate(samples(model), 0), distillation(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda index: min(1, index / 10) * (1 - index / steps)
    )
    for index in range(steps):
        optimizer.zero_grad()
        step(batch, index, index / steps).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()
