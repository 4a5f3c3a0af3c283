"""What a compressor keeps: the step and word of the token in each slot, and whether it is a step's result."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from kvdistill.capture.attention import evaluating
from kvdistill.compress import Compressor
from kvdistill.data.collate import collate
from kvdistill.data.encode import pad_id_of
from kvdistill.evaluation.roles import NONE, TokenRoles, token_roles
from kvdistill.kv import ModelKV
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.losses.axis import fitting_weights
from kvdistill.records.probes import KeptLayer, KeptTokens
from kvdistill.text import Encoded


@dataclass(frozen=True, slots=True)
class KeptSlots:
    """Roles of the tokens that the slots of one layer keep; shapes and values as in ``TokenRoles``."""

    role: Int[Tensor, "B H M"]
    result: Int[Tensor, "B H M"]
    mask: Bool[Tensor, "B H M"]
    """True where the slot keeps a token."""


def measure_kept(
    model: LatentReasoner,
    samples: Sequence[Encoded],
    methods: Mapping[str, Compressor],
    batch_size: int = 32,
) -> list[KeptTokens]:
    """What compressors keep of a student's teacher-mode cache over chains of thought.

    Nothing has to be trained with the compressors: the numbers are those of the targets that training would
    start with.

    Args:
        model: A student with a tokenizer, at any point of its training.
        samples: Examples; those without a chain of thought are left out.
        methods: Compressors by the names that they have in the result.
        batch_size: Chains of thought per forward pass; does not change the result.

    Returns:
        One record per compressor, in order; empty where no sample has a chain of thought.

    Raises:
        ValueError: if the model has no tokenizer, or a compressor cannot be used on its cache.

    Source: ours.
    """
    if model.tokenizer is None:
        raise ValueError("This student has no tokenizer: load it from a folder that holds one.")
    if not methods:
        return []
    roles: list[TokenRoles] = []
    kept: dict[str, list[tuple[KeptSlots, ...]]] = {name: [] for name in methods}
    layer_ids: tuple[int, ...] = ()
    # Caches are large and are dropped after each batch; roles are a few integers per slot.
    for kv, tokens in _teacher_caches(model, samples, pad_id_of(model.tokenizer), batch_size):
        layer_ids = kv.layer_ids
        roles.append(tokens)
        for name, method in methods.items():
            kept[name].append(kept_slots(method, kv, tokens, model.config.slots))
    if not roles:
        return []
    return [
        _summary(name, method, layer_ids, roles, kept[name], model.config.slots)
        for name, method in methods.items()
    ]


def kept_tokens(name: str, method: Compressor, kv: ModelKV, roles: TokenRoles, slots: int) -> KeptTokens:
    """What a compressor keeps of one cache.

    Args:
        name: Of the compressor in the result.
        method: The compressor.
        kv: The cache of a batch over the chain of thought, un-rotated, N tokens.
        roles: Of the tokens of the same batch.
        slots: M, the number of the student's latent slots.

    Returns:
        The numbers of each layer.

    Raises:
        ValueError: where the compressor raises it.

    Source: ours.
    """
    return _summary(name, method, kv.layer_ids, [roles], [kept_slots(method, kv, roles, slots)], slots)


def kept_slots(method: Compressor, kv: ModelKV, roles: TokenRoles, slots: int) -> tuple[KeptSlots, ...]:
    """Roles of the tokens that a compressor keeps.

    Args:
        method: The compressor.
        kv: The cache of a batch over the chain of thought, un-rotated, N tokens.
        roles: Of the tokens of the same batch.
        slots: M, the number of the student's latent slots.

    Returns:
        One entry per layer, on the CPU; where the compressor blends tokens no slot keeps one.

    Raises:
        ValueError: where the compressor raises it.
    """
    found = []
    with torch.no_grad():
        compressed = method.compress(kv, slots)
    for layer in compressed.layers:
        positions, mask = layer.positions.cpu(), layer.mask.cpu()
        if method.blends_tokens:
            mask = torch.zeros_like(mask)
        # (B, N) -> (B, H, N), to be read at the kept positions (B, H, M).
        wide = (-1, positions.shape[1], -1)
        role = roles.role[:, None].expand(wide).gather(-1, positions)
        result = roles.result[:, None].expand(wide).gather(-1, positions)
        found.append(KeptSlots(role, result.masked_fill(~mask, NONE), mask))
    return tuple(found)


def role_entropy(kept: KeptSlots) -> float | None:
    """Entropy over samples of the role of a slot, in bits.

    ``H = -Σ p log2 p`` with the shares ``p`` of the roles that one slot of one head keeps, averaged over
    heads and slots. A slot weighs as many samples as it keeps a token in.

    Args:
        kept: Roles of one layer, of as many samples as there are.

    Returns:
        Bits, from 0; None where no slot keeps a token.
    """
    num = int(kept.mask.sum())
    if num == 0:
        return None
    bits = 0.0
    # (B, H, M) -> a column of B samples per head and slot.
    for role, mask in zip(kept.role.flatten(1).T, kept.mask.flatten(1).T, strict=True):
        counts = role[mask].unique(return_counts=True)[1].double()
        bits -= float((counts * (counts / counts.sum()).log2()).sum())
    # A sum of one role is 0, which may come out as -0.
    return max(bits / num, 0.0)


def steps_covered(kept: KeptSlots, roles: TokenRoles) -> float | None:
    """Share of the steps whose result at least one slot of a head keeps, averaged over heads.

    Args:
        kept: Roles of one layer.
        roles: Of all tokens of the same samples.

    Returns:
        0 to 1; None where no step has a result, or no slot keeps a token.
    """
    num_steps = int(roles.result.max()) + 1
    if num_steps == 0 or not kept.mask.any():
        return None
    # Whether a sample has a step (B, S) and a head keeps its result (B, H, S).
    there = F.one_hot(roles.result + 1, num_steps + 1)[..., 1:].any(dim=1)
    covered = F.one_hot(kept.result + 1, num_steps + 1)[..., 1:].any(dim=2)
    return float(covered.sum() / (there.sum() * covered.shape[1]))


def fitted_slots(roles: TokenRoles, slots: int, layer_id: int) -> KeptLayer:
    """What M slots stand for where a loss reads them between their places, as that of ``full`` does.

    A token counts with its weight in the slots that fit the target best; where a slot is one token, the
    numbers are those of a compressor that keeps it.

    Args:
        roles: Of all tokens.
        slots: M, the number of the student's latent slots.
        layer_id: Which layer it is; the numbers are the same for all.

    Returns:
        Share of results in a slot, and the largest weight (at most 1) that the result of a step has in any
        slot, both as means; a role is not defined.
    """
    tokens = roles.mask[:, None]
    all_slots = torch.ones(len(tokens), 1, slots, dtype=torch.bool)
    # (B, M, N); slots that no token reads are left out.
    weights = fitting_weights(tokens, all_slots, torch.float64)[:, 0]
    results = weights * (roles.result != NONE)[:, None]
    shares = results.sum(-1)[weights.any(-1)]
    # (B, N, S): the token that is the result of a step.
    steps = F.one_hot(roles.result + 1)[..., 1:]
    heaviest = (steps * results.amax(1).clamp(max=1)[..., None]).sum() / steps.sum()
    return KeptLayer(
        layer=layer_id,
        tokens=float(roles.mask.sum(-1).double().mean()),
        result_share=float(shares.mean()),
        steps_covered=float(heaviest),
        role_entropy=None,
    )


def _teacher_caches(
    model: LatentReasoner, samples: Sequence[Encoded], pad_id: int, batch_size: int
) -> Iterator[tuple[ModelKV, TokenRoles]]:
    """Teacher-mode caches over chains of thought, a batch at a time, with the roles of their tokens."""
    samples = [sample for sample in samples if sample.teacher_mode.cot.ids]
    for start in range(0, len(samples), batch_size):
        some = samples[start : start + batch_size]
        batch = collate(some, pad_id).to(model.device)
        with torch.no_grad(), evaluating(model):
            kv = model(batch=batch, mode="cot").kv
        spans = [sample.teacher_mode.cot.spans for sample in some]
        yield kv, token_roles(spans, [sample.example.steps for sample in some])


def _summary(
    name: str,
    method: Compressor,
    layer_ids: Sequence[int],
    roles: list[TokenRoles],
    batches: list[tuple[KeptSlots, ...]],
    slots: int,
) -> KeptTokens:
    """One compressor's record, from the roles and the kept slots of each batch."""
    everything = TokenRoles(*(_stacked(roles, field) for field in ("role", "result", "mask")))
    layers = []
    for layer_id, parts in zip(layer_ids, zip(*batches, strict=True), strict=True):
        kept = KeptSlots(*(_stacked(parts, field) for field in ("role", "result", "mask")))
        if method.keeps_tokens and _has_results(everything):
            layers.append(fitted_slots(everything, slots, layer_id))
        else:
            layers.append(_layer(layer_id, kept, everything))
    base_share = None
    if _has_results(everything):
        base_share = float((everything.result != NONE).sum() / everything.mask.sum())
    return KeptTokens(method=name, num=len(everything.mask), base_share=base_share, layers=layers)


def _layer(layer_id: int, kept: KeptSlots, roles: TokenRoles) -> KeptLayer:
    """The numbers of one layer; what is not defined is None."""
    num = int(kept.mask.sum())
    layer = KeptLayer(layer=layer_id, tokens=None, result_share=None, steps_covered=None, role_entropy=None)
    if num == 0:
        return layer
    layer = replace(layer, tokens=float(kept.mask.sum(-1).double().mean()))
    if not _has_results(roles):
        return layer
    return replace(
        layer,
        result_share=float((kept.result != NONE).sum() / num),
        steps_covered=steps_covered(kept, roles),
        role_entropy=role_entropy(kept),
    )


def _has_results(roles: TokenRoles) -> bool:
    """Whether any token carries the result of a step: otherwise shares and roles mean nothing."""
    return bool((roles.result != NONE).any())


def _stacked(parts: Sequence[TokenRoles] | Sequence[KeptSlots], field: str) -> Tensor:
    """One tensor of all batches, padded at the end to the longest: -1, or False in a mask."""
    tensors = [getattr(part, field) for part in parts]
    width = max(tensor.shape[-1] for tensor in tensors)
    absent = {"mask": False}.get(field, NONE)
    return torch.cat([F.pad(tensor, (0, width - tensor.shape[-1]), value=absent) for tensor in tensors])
