"""``kvdistill study`` on the command line."""

from pathlib import Path

import pytest

from kvdistill.cli import main
from kvdistill.records.study import PLAN
from pico_study import TOML, plan, study_file, write_run


def test_report_and_export_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan("e1", "rkv").write(tmp_path / "study" / PLAN)
    write_run(tmp_path / "study" / "e1" / "seed0", 0, 20)
    assert main(["study", "report", str(tmp_path / "study")]) == 0
    assert (tmp_path / "study" / "report.html").is_file()
    assert main(["study", "export", str(tmp_path / "study"), str(tmp_path / "records")]) == 0
    assert "MiB of records" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "records")]) == 0


def test_run_takes_its_options_and_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", "run", str(study_file(tmp_path)), "--output", str(tmp_path / "out"), "--dry-run"]
    assert main([*words, "--arms", "E1", "--seeds", "1"]) == 0
    assert "2 runs, 2 to do" in capsys.readouterr().out
    assert main([*words, "--arms", "E3"]) == 2
    assert "kvdistill study: " in capsys.readouterr().err
    study_file(tmp_path, TOML.replace("kv_weight = 0.0", "kv_weigth = 0.0"))
    assert main(words) == 2
    assert "there is no option loss.kv_weigth. Did you mean 'kv_weight'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["study"], ["study", "run"], ["study", "run", "a.toml", "--output", "b", "--minutes", "0"]]
)
def test_what_is_missing_or_out_of_range_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
