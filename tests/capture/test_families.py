"""Every causal language model of transformers is right or refused: the matrix of families, and the judge
itself.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as tf

from conftest import ROOT, chosen_repeats
from kvdistill.kv import ModelKV, TwoModes
from kvdistill.latent.reasoner import LatentReasoner
from kvdistill.teacher import CausalLMTeacher
from kvdistill.text import Batch
from pico_variants import CASES, NOT_TINY, Case
from pico_verdicts import judge

TABLE: Path = ROOT / "benchmarks" / "results" / "families.md"
SAMPLE = (
    *(
        "llama/yarn",
        "gemma2/mixed",
        "gpt_oss/default",
        "cohere/qk_norm",
        "granite/scaled",
        "gemma4_text/wide",
        "deepseek_v3/default",
    ),
    *(
        "modernbert-decoder/default",
        "roberta/decoder",
        "lfm2/default",
        "granitemoehybrid/attention_first",
        "zaya/default",
    ),
    *("doge/default", "diffllama/default", "phimoe/default", "llama4_text/chunks"),
    *(
        "stablelm/default",
        "stablelm/qk_norm",
        "biogpt/default",
        "qwen3_next/attention_only",
        "whisper/default",
    ),
)
"""One configuration for each thing that a family does of its own; the others are tried where
KVDISTILL_REPEATS=large.
"""
BY_NAME = {str(case): case for case in CASES}
CHOSEN = list(CASES) if chosen_repeats() == "large" else [BY_NAME[name] for name in SAMPLE]
LLAMA = Case("llama")


def table() -> dict[str, str]:
    """Configuration -> verdict, as committed."""
    rows = [
        line.strip("| ").split(" | ")
        for line in TABLE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ][1:]
    return {f"{family}/{name}": verdict for family, name, verdict, *_ in rows}


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_a_family_is_right_or_refused(case: Case) -> None:
    verdict = judge(case)
    assert verdict.kind in ("right", "right as teacher only", "refused"), verdict.reason
    assert verdict.kind == table()[str(case)], f"the committed table has another verdict; {verdict.reason}"


def test_the_table_holds_every_family() -> None:
    tried = {str(case) for case in CASES}
    assert len(tried) == len(CASES)
    assert set(table()) == tried | {f"{family}/default" for family in NOT_TINY}
    assert set(table().values()) == {"right", "right as teacher only", "refused", "not tried"}
    if f"transformers {tf.__version__}," in TABLE.read_text(encoding="utf-8"):
        known = set(tf.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        assert {case.family for case in CASES} | set(NOT_TINY) == known


def test_the_judge_sees_a_wrong_student(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LatentReasoner.forward

    def louder(self: LatentReasoner, batch: Batch) -> TwoModes:
        two = forward(self, batch)
        return replace(
            two,
            teacher=replace(
                two.teacher, rows=replace(two.teacher.rows, logits=two.teacher.rows.logits * 1.001)
            ),
        )

    monkeypatch.setattr(LatentReasoner, "forward", louder)
    verdict = judge(LLAMA)
    assert verdict.kind == "wrong"
    assert "teacher logits 1.0e-03" in verdict.reason
    assert "student T=" not in verdict.reason


def test_the_judge_sees_a_wrong_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    read = CausalLMTeacher.read

    def smeared(self: CausalLMTeacher, batch: Batch) -> ModelKV:
        kv = read(self, batch)
        return kv.map(tuple(layer.replace(importance=layer.importance.flip(-1)) for layer in kv.layers))

    monkeypatch.setattr(CausalLMTeacher, "read", smeared)
    verdict = judge(LLAMA)
    assert verdict.kind == "wrong"
    assert verdict.reason.startswith("teacher: importance ")


def test_the_judge_tells_refusals_from_crashes_and_from_late_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(self: LatentReasoner, *_: object) -> None:
        raise KeyError("no such layer")

    monkeypatch.setattr(LatentReasoner, "forward", late)
    verdict = judge(LLAMA)
    assert verdict.kind == "crashed"
    assert "student: forward with T = 1: KeyError: 'no such layer'" in verdict.reason
    refused = judge(Case("bloom"))
    assert refused.kind == "refused"
    assert "attention interface" in refused.reason
    assert torch.get_num_threads() == 1
