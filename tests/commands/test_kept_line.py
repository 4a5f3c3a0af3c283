"""The line of ``kvdistill trace`` on what a compressor keeps, by hand."""

import re
from dataclasses import replace

from kvdistill.commands.kept_line import kept_line
from kvdistill.records.probes import KeptLayer, KeptTokens

LAYER = KeptLayer(layer=0, tokens=4.0, result_share=0.775, steps_covered=0.9, role_entropy=0.24)
KEPT = KeptTokens(method="rkv", num=8, base_share=0.25, layers=[LAYER])
NOTHING = KeptLayer(layer=1, tokens=None, result_share=None, steps_covered=None, role_entropy=None)


def test_by_hand() -> None:
    two = replace(KEPT, layers=[LAYER, replace(LAYER, layer=1, tokens=2.5, result_share=0.5)])
    assert kept_line(two, blends_tokens=False) == (
        "slots that hold a step's result: layer 0: 3.1 of 4 (78 %), role entropy 0.2 bits; "
        "layer 1: 1.2 of 2.5 (50 %), role entropy 0.2 bits"
    )
    assert kept_line(replace(KEPT, layers=[NOTHING]), blends_tokens=False).endswith(": layer 1: none")


def test_of_many_layers_the_first_and_the_last_are_described() -> None:
    many = replace(KEPT, layers=[replace(LAYER, layer=index) for index in range(5)])
    assert re.findall(r"layer (\d):", kept_line(many, blends_tokens=False)) == ["0", "4"]
    few = replace(many, layers=many.layers[:4])
    assert re.findall(r"layer (\d):", kept_line(few, blends_tokens=False)) == ["0", "1", "2", "3"]


def test_what_is_not_defined_is_said() -> None:
    assert kept_line(replace(KEPT, method="mean"), blends_tokens=True) == (
        "mean blends tokens, so that no slot holds one"
    )
    between = replace(KEPT, method="full", layers=[replace(LAYER, role_entropy=None)])
    assert kept_line(between, blends_tokens=False).endswith(": layer 0: 78 % of what a slot blends")
    without = replace(KEPT, base_share=None)
    assert kept_line(without, blends_tokens=False) == "no step of the chains of thought has a result"
