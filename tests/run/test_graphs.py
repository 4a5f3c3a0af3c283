"""When a run computes its steps from CUDA graphs, and the widths of its batches."""

import pytest
import torch

import pico
import pico_steps
from kvdistill.run.graphs import padded, use_graphs
from kvdistill.training.cuda_graphs import StepGraphs
from kvdistill.training.ranks import Ranks
from kvdistill.training_step import FineTuning
from pico_students import config


def test_only_a_run_on_a_gpu_that_asks_for_graphs_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvdistill.training.cuda_graphs.CudaRecorder", lambda: None)
    plain, asked = config(), config(training={"cuda_graphs": True})
    step, said = FineTuning(pico_steps.student()), []
    for each, device in ((plain, "cuda"), (asked, "cpu")):
        use_graphs(each, step, torch.device(device), Ranks(), said.append)
        assert not isinstance(step.forward, StepGraphs)
    assert said == ["training.cuda_graphs has no effect: the run is on cpu"]
    use_graphs(asked, step, torch.device("cuda"), Ranks(), said.append)
    assert isinstance(step.forward, StepGraphs)
    with pytest.raises(ValueError, match="in one process, and 2 train here"):
        use_graphs(asked, step, torch.device("cuda"), Ranks(size=2), said.append)


def test_batches_are_padded_where_it_is_asked_for() -> None:
    batch = pico.batch(pico_steps.rows())

    def collate(samples: object) -> dict[str, object]:
        return {"batch": batch, "place": samples}

    assert padded(config(), collate) is collate
    found = padded(config(training={"pad_to_multiple_of": 8}), collate)(3)
    assert found["place"] == 3
    assert found["batch"].teacher_mode.cot.ids.shape[1] % 8 == 0
