"""Valid combinations of latent slots M and Jacobi passes T."""


def check_slots(slots: int, passes: int) -> None:
    """Refuse numbers of latent slots and passes outside ``M >= 1`` and ``0 <= T <= M``.

    Args:
        slots: Number of latent slots, M.
        passes: Number of Jacobi passes, T.

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
    if passes > slots:
        raise ValueError(
            f"latent.passes is {passes} with {slots} slots: after {slots} passes every slot is final, so "
            "more change nothing. "
            f"Choose latent.passes <= {slots}."
        )
