import pytest

from kvdistill.data.split import Split, belongs, style_of, window

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@pytest.mark.parametrize("total", [0, 1, 6, 10, 24, 40320])
def test_windows_cover_every_place_once(total: int) -> None:
    assert [place for split in SPLITS for place in window(total, split)] == list(range(total))


def test_windows_by_hand() -> None:
    assert [len(window(40320, split)) for split in SPLITS] == [32256, 4032, 4032]
    assert window(6, "validation") == range(4, 5)


def test_a_hash_gives_every_problem_one_split_in_the_same_shares() -> None:
    homes = [[split for split in SPLITS if belongs(f"7+{n}", split)] for n in range(5000)]
    assert all(len(home) == 1 for home in homes)
    assert [round(sum(home == [split] for home in homes) / 5000, 1) for split in SPLITS] == [0.8, 0.1, 0.1]


def test_mixed_styles_take_turns() -> None:
    assert [style_of("mixed", i) for i in range(3)] == ["briefly", "fully", "briefly"]
    assert {style_of("terse", i) for i in range(3)} == {"briefly"}
    assert {style_of("verbose", i) for i in range(3)} == {"fully"}
