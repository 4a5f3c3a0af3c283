"""Valid combinations of latent slots M, passes T and their layout, and the slots that a pass computes."""

LAYOUTS = ("shift", "blocks")
"""``shift``: the state of a slot is the next slot's input. ``blocks``: it is that slot's own next input."""


def check_slots(slots: int, passes: int, layout: str = "shift") -> None:
    """Refuse numbers of latent slots and passes outside ``M >= 1`` and ``0 <= T <= M``.

    In ``blocks`` no slot is ever final, so there T has no upper limit.

    Args:
        slots: Number of latent slots, M.
        passes: Number of Jacobi passes, T.
        layout: ``shift`` or ``blocks``.

    Raises:
        ValueError: naming the number and what to choose.
    """
    if slots < 1:
        raise ValueError(f"latent.slots is {slots}; a latent student needs at least 1 slot (KaVa uses 24).")
    if passes < 0:
        raise ValueError(
            f"latent.passes is {passes}; choose 0 (pause tokens) up to latent.slots = {slots} (one slot "
            "after another)."
        )
    if passes > slots and layout == "shift":
        raise ValueError(
            f"latent.passes is {passes} with {slots} slots: after {slots} passes every slot is final, so "
            "more change nothing. "
            f"Choose latent.passes <= {slots}."
        )


def num_placeholders(slots: int, passes: int, layout: str) -> int:
    """Number of ``<latent>`` tokens that the packed forward pass reads.

    Args:
        slots: Number of latent slots, M.
        passes: Number of passes, T.
        layout: ``shift`` or ``blocks``.

    Returns:
        M in ``blocks``. M - T in ``shift``, where the last T slots are first computed by a latent pass.
    """
    if layout == "blocks":
        return slots
    return slots - passes
