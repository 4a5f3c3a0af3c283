"""Question vectors: the student's own keys at the question, by which teachers are routed."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from kvdistill.capture.call import AttentionCall
from kvdistill.capture.extract import unrotated
from kvdistill.capture.pieces import Piece
from kvdistill.capture.sequence import Sequence
from kvdistill.kv import Geometry
from kvdistill.latent.passes import forward_pass, no_offset
from kvdistill.text import Batch, QuestionRead

if TYPE_CHECKING:
    from kvdistill.latent.reasoner import LatentReasoner


def question_layer(geometry: Geometry, layer: int | None) -> int:
    """The layer whose keys are the question's vector.

    Args:
        geometry: The student's attention layers.
        layer: Index of the layer in the model, from 0; None takes the middle one.

    Returns:
        The index.

    Raises:
        ValueError: if the student has no attention layer of that index.
    """
    if layer is None:
        return geometry.layer_ids[len(geometry.layer_ids) // 2]
    if layer not in geometry.layer_ids:
        known = ", ".join(map(str, geometry.layer_ids))
        raise ValueError(f"fusion.layer is {layer}, and the student has the attention layers {known}.")
    return layer


def question_of(
    sequence: Sequence, call: AttentionCall, geometry: Geometry, read: QuestionRead
) -> Float[Tensor, "B d"]:
    """The question's vector from a forward pass that begins with the question.

    Args:
        sequence: What the pass has read; its first piece is the question.
        call: What its attention layers have captured.
        geometry: The student's attention layers.
        read: Layer and tokens.

    Returns:
        (B, H K): un-rotated keys before any cue, heads concatenated, outside the autograd graph.
    """
    piece = sequence.pieces[0]
    width = piece.ids.shape[1]
    keys = call.seen[read.layer].keys[:, :, :width].detach()
    positions = sequence.positions[:, :width].to(keys.device)
    mask = piece.mask.to(keys.device)
    # (B, H, S, K) -> (B, S, H K)
    flat = unrotated(keys, positions, geometry.layer(read.layer).rope).float().transpose(1, 2).flatten(2)
    if read.pool == "mean":
        return (flat * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
    # Padding may be on either side, so the last valid column is looked for.
    columns = torch.arange(width, device=keys.device)
    last = torch.where(mask, columns, 0).amax(1)
    return flat[torch.arange(len(flat), device=keys.device), last]


def question_sequence(batch: Batch) -> Sequence:
    """The questions of a batch alone, as a sequence that begins at position 0.

    Args:
        batch: B samples.

    Returns:
        A sequence of one piece.
    """
    question = batch.student_mode.question
    return Sequence((Piece("question", "shared", question.ids, question.mask),), no_offset(question))


@torch.no_grad()
def question_vectors(model: "LatentReasoner", batch: Batch, read: QuestionRead) -> Float[Tensor, "B d"]:
    """The vectors of questions alone, as for prototypes and at inference; one pass over the question.

    Args:
        model: The student.
        batch: B samples; only their questions are read.
        read: Layer and tokens.

    Returns:
        (B, H K), those of ``TwoModes.question``.
    """
    packed = forward_pass(model, question_sequence(batch))
    return question_of(packed.sequence, packed.call, model.geometry(), read)
