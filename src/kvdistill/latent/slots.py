"""Which numbers of latent slots and passes fit together."""


def check_slots(slots: int, passes: int) -> None:
    """Refuse numbers of latent slots and passes that make no sense.

    Raises:
        ValueError: saying which number is wrong and what to choose.
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
