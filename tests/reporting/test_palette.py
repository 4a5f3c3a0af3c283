"""Every method has its color, the same everywhere, readable on light and on dark pages."""

import pytest
from matplotlib.colors import to_rgb

from kvdistill.reporting.palette import EXPERIMENTS, METHODS, PAPER, experiment, method, themed, variables


def contrast(one: str, other: str) -> float:
    def luminance(color: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colors_are_readable_on_both_pages() -> None:
    for known in METHODS.values():
        assert contrast(known.tint.light, PAPER.light) >= 3.0
        assert contrast(known.tint.dark, PAPER.dark) >= 4.5


def test_methods_that_share_a_report_differ_in_color_and_marker() -> None:
    demo = [METHODS[key] for key in ("cot", "cot_terse", "direct", "e1", "step_end", "right_crop", "rkv")]
    study = [METHODS[key] for key in EXPERIMENTS.values()]
    for shown in (demo, study):
        assert (
            len({known.tint for known in shown}) == len({known.marker for known in shown}) == len(shown) == 7
        )


def test_names_are_readable_and_an_experiment_has_the_color_of_its_method() -> None:
    assert method("right_crop").label == "latent, right-crop"
    assert method("my_method").label == "latent, my-method"
    assert method("my_method") == method("my_method")
    assert experiment("E3").tint == method("right_crop").tint and experiment("E3").label == "E3"


@pytest.mark.parametrize("name", ["", "$", "\udcff", "日本"])
def test_any_name_has_a_color(name: str) -> None:
    assert method(name).tint in {known.tint for known in METHODS.values()}


def test_a_figure_takes_the_colors_of_the_page_and_keeps_others() -> None:
    assert (
        themed('<path style="fill: #0072B2; stroke: #ffffff"/>')
        == '<path style="fill: var(--blue); stroke: var(--paper)"/>'
    )
    assert themed('<path style="fill: #123456"/>') == '<path style="fill: #123456"/>'
    assert "--blue: #0072b2;" in variables(dark=False) and "--blue: #5ab4ee;" in variables(dark=True)
