"""How often a table of competence gives a question to the teacher that knows its rules.

    kvdistill study run experiments/studies/complementary.toml --output outputs/complementary
    python benchmarks/competence_groups.py outputs/complementary

In that study teacher a knows the rules of group 2 and teacher b those of group 3; both know group 1, which is
left out. For each seed and choice of figures: the share of questions whose weight is the higher one for the
teacher that knows them (equal weights count half), and that weight's mean. The last line is JSON.
"""

import re
import sys
from pathlib import Path
from statistics import fmean

from _measure import print_json

from kvdistill.config import load
from kvdistill.config.data import SyntheticData
from kvdistill.data.keys import question_key
from kvdistill.data.split import Split
from kvdistill.fuse.methods import FIGURES
from kvdistill.records.competence import CompetenceTable

CONFIG = Path(__file__).resolve().parents[1] / "experiments" / "configs" / "rules_groups.toml"
CHOICES = (FIGURES, ("answer_nats",), ("right",))
KNOWS = {2: 0, 3: 1}
"""Group of rules -> place of the teacher that knows it."""


def groups_of(seed: int) -> dict[str, int]:
    """The group of every training and validation question, by its key."""
    data, found = load(CONFIG, []).data, {}
    splits: tuple[tuple[Split, int], ...] = (("train", 8192), ("validation", 256))
    for name, num in splits:
        section = getattr(data, name)
        assert isinstance(section, SyntheticData)
        for example in section.task.make(num, name, seed):
            rules = re.findall(r"\br(\d+)", example.question)
            found[question_key(example)] = (int(rules[0]) - 1) % 3 + 1
    return found


def agreement(table: CompetenceTable, groups: dict[str, int]) -> dict[str, float]:
    """Share of questions given to the teacher that knows them, by group, and the mean of that weight."""
    found: dict[str, float] = {}
    for group, teacher in KNOWS.items():
        keys = [key for key in table.figures if groups.get(key) == group]
        weights = [table.target(key, ("a", "b"))[teacher] for key in keys]
        found[f"group{group}"] = fmean((weight > 0.5) + 0.5 * (weight == 0.5) for weight in weights)
        found[f"group{group}_weight"] = fmean(weights)
    return found


def main(study: Path) -> None:
    """Print a table over seeds and figures, and their means as JSON."""
    folders = sorted((study / "competence").glob("seed*"))
    if not folders:
        sys.exit(f"{study}/competence has no tables: run the study first, as the head of this file says.")
    rows: dict[str, list[dict[str, float]]] = {}
    for folder in folders:
        table, groups = CompetenceTable.read(folder), groups_of(int(folder.name.removeprefix("seed")))
        for figures in CHOICES:
            name = "+".join(figures)
            row = agreement(table.only(figures), groups)
            rows.setdefault(name, []).append(row)
            cells = [f"{key} {value:.3f}" for key, value in row.items()]
            print(f"{folder.name:<8}{name:<28}{'  '.join(cells)}")
    print_json(
        {name: {key: fmean(row[key] for row in each) for key in each[0]} for name, each in rows.items()}
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/complementary"))
