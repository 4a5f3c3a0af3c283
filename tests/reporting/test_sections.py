"""Sections of a report, each by its numbers."""

from dataclasses import replace
from pathlib import Path

import pico_reports
from kvdistill.records.probes import KeptLayer, KeptTokens, ProbesRecord
from kvdistill.records.schema import Bar, EvaluationRecord
from kvdistill.reporting import sections
from kvdistill.reporting.blocks import Folded, Missing, Words
from kvdistill.reporting.page import Section
from pico_reports import rows

SUMMARY = replace(
    pico_reports.SUMMARY,
    bars={"gain": Bar(value=0.2, bar=0.1), "passes": Bar(value=7.0, bar=5.0, at_most=True)},
)


def test_the_headline_is_computed() -> None:
    title, lead = sections.headline(SUMMARY, {})
    assert "80.0\N{NO-BREAK SPACE}% right in 7 passes" in title
    for part in (
        "(latent, R-KV)",
        "60.0",
        "90.0",
        "in 40 sequential forward passes",
        "30.0",
        "took 2.0 minutes",
    ):
        assert part in lead
    assert sections.headline(None, {})[0] == "Latent reasoning demo"


def test_bars_say_reached_or_not() -> None:
    section = sections.bars(SUMMARY)
    assert rows(section) == [
        [["gain", "0.2", "at least 0.1", "reached"], ["passes", "7", "at most 5", "not reached"]]
    ]
    assert section.blocks[0] == Words("1 of 2 bars reached.")


def test_compressors_are_ranked_and_the_winner_on_validation_is_marked() -> None:
    (table,) = rows(sections.methods(SUMMARY))
    assert table == [
        ["latent, crop", "85.0 %", ""],
        ["latent, R-KV", "80.0 %", "chosen"],
        ["latent, uniform", "70.0 %", ""],
    ]


def test_the_lead_is_honest_about_the_terse_chain() -> None:
    fields = {
        "data_set": "t",
        "num": 10,
        "correct": 9,
        "sequential_passes_mean": 8.0,
        "tokens_mean": 1.0,
        "ms_batch32": None,
    }
    terse = EvaluationRecord(mode="cot_terse", ms_batch1=5.1, chance=0.125, **fields)
    summary = replace(SUMMARY, cot_terse=0.9, passes_cot_terse=8.0, ms_latent=6.1)
    lead = sections.headline(summary, {"cot_terse": terse})[1].replace("\N{NO-BREAK SPACE}", " ")
    assert "90.0 % in 8 sequential forward passes and 5.1 ms a question where it is terse" in lead
    assert (
        "fewer passes than the terse chain, but the terse chain is more often right and faster here." in lead
    )
    assert "chance (always the most frequent answer) is 12.5 %" in lead
    ahead = sections.headline(replace(summary, cot_terse=0.8, ms_latent=5.0), {"cot_terse": terse})[1]
    assert "fewer passes than the terse chain. " in ahead


def test_a_value_that_would_mislead_has_its_own_text() -> None:
    bars = {
        "steps": Bar(value=4.0, bar=1.5, text="at least 4.0 (not there after 600)"),
        "minutes": Bar(value=2.895, bar=6.0, at_most=True),
    }
    shown = rows(sections.bars(replace(SUMMARY, bars=bars)))[0]
    assert [row[1] for row in shown] == ["at least 4.0 (not there after 600)", "2.9"]


def test_probes_of_uneven_length_show_a_dash(tmp_path: Path) -> None:
    probes = ProbesRecord(
        zeroed=0.1,
        swapped=0.2,
        fewer={1: 0.3, 12: 0.5, 0: 0.4},
        top_words=[["7", "8"]],
        step_match=[0.9, 0.8],
    )
    section = sections.probes(tmp_path, probes, SUMMARY, 0.125)
    (slots,) = rows(section)
    changed, words = rows(Section("", [block.block for block in section.blocks if isinstance(block, Folded)]))
    kept = ["only the first 12 slots", "only the first slot", "no slot"]
    assert [row[0] for row in changed] == ["as trained", "set to zero", "of another question", *kept]
    assert [row[1] for row in changed] == ["80.0 %", "10.0 %", "20.0 %", "50.0 %", "30.0 %", "40.0 %"]
    assert slots == [["slot 1", "90.0 %"], ["slot 2", "80.0 %"]] and words == [
        ["slot 1", "7, 8"],
        ["slot 2", "–"],
    ]


def test_what_the_compressors_keep_is_a_row_a_layer(tmp_path: Path) -> None:
    layer = KeptLayer(layer=0, tokens=4.0, result_share=0.75, steps_covered=0.5, role_entropy=0.126)
    blank = KeptLayer(layer=1, tokens=None, result_share=None, steps_covered=None, role_entropy=None)
    kept = [
        KeptTokens(method="rkv", num=256, base_share=0.25, layers=[layer, blank]),
        KeptTokens(method="right_crop", num=256, base_share=0.25, layers=[layer]),
    ]
    probes = ProbesRecord(zeroed=0.1, swapped=0.2, fewer={}, top_words=[], step_match=[], kept=kept)
    section = sections.probes(tmp_path, probes, None, None)
    assert rows(section)[-1] == [
        ["latent, R-KV, layer 0", "75.0 %", "50.0 %", "0.13"],
        ["latent, R-KV, layer 1", "–", "–", "–"],
        ["latent, right-crop, layer 0", "75.0 %", "50.0 %", "0.13"],
    ]
    (told,) = [block.text for block in section.blocks if isinstance(block, Words)]
    assert "over 256 questions" in told
    assert "(25.0\N{NO-BREAK SPACE}% of all tokens do)" in told


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert sections.probes(tmp_path, None, SUMMARY, None).blocks == [Missing("probes.json", "kvdistill demo")]
    assert sections.made(tmp_path, "kvdistill train", None).blocks == [Missing("run.json", "kvdistill train")]
    assert all(
        isinstance(section.blocks[0], Missing) for section in (sections.bars(None), sections.methods(None))
    )
