"""Check that the runs of a study are comparable: find options that differ although they should not."""

import json
import re
from collections.abc import Mapping, Sequence

from kvdistill.config import FREE, with_defaults
from kvdistill.console.wording import plural
from kvdistill.records.jsonfile import by_dotted_name
from kvdistill.reporting.studies.experiments import Run, seeds_in_words

CLAIMED = ("E1", "E2", "E3", "E4", "E5")
"""The experiments that take part in claims."""
_IMMATERIAL = FREE | {
    *("training.logging_steps", "training.save_steps", "training.gradient_checkpointing"),
    *("evaluation.modes", "evaluation.batch_size"),
    "loss.kv.axis",  # follows from target.method
}


def differences(runs: Sequence[Run]) -> list[str]:
    """Describe each option that differs between latent runs but does not define their experiments.

    What depends on the seed (seeds, ``seed<k>`` in ``model.name``) may differ between seeds, and has to be
    equal within one.

    Args:
        runs: runs of a study; those that train no latents are left out.

    Returns:
        One sentence per option; empty where the runs are comparable.
    """
    latent = [run for run in runs if run.record.config["training"]["task"] == "latent"]
    flat = {id(run): by_dotted_name(with_defaults(run.record.config)) for run in latent}
    found = []
    for option in sorted({name for options in flat.values() for name in options} - _IMMATERIAL):
        values = dict.fromkeys(flat, "absent")
        values |= {key: json.dumps(options[option]) for key, options in flat.items() if option in options}
        by_seed = option == "model.name" or option.endswith(".seed")
        between_seeds = values
        # Between seeds, model paths are compared without the seed's number, and seeds not at all.
        if option == "model.name":
            between_seeds = {key: re.sub(r"seed[-_]?\d+", "seed*", path) for key, path in values.items()}
        elif by_seed:
            between_seeds = dict.fromkeys(values, "")
        companies: dict[str, list[Run]] = {}
        for run in latent:
            companies.setdefault(_company(option, run.experiment), []).append(run)
        for company in companies.values():
            said = _said(option, company, between_seeds, latent)
            if by_seed and not said:
                for seed in sorted({run.record.seed for run in company}):
                    said += _said(option, [run for run in company if run.record.seed == seed], values, latent)
            found += said
    return found


def _company(option: str, experiment: str) -> str:
    """The group of runs that have to agree on an option; E5 is E4 with another control."""
    if option.startswith(("loss.kv.", "teacher", "target.anneal_layers")):
        return {"E1": "no KV"}.get(experiment, "KV")
    if option.startswith("target.control."):
        return experiment
    if option == "loss.kv_weight" or option.startswith("target."):
        return {"E5": "E4"}.get(experiment, experiment)
    return "all"


def _said(
    option: str, company: Sequence[Run], values: Mapping[int, str], everyone: Sequence[Run]
) -> list[str]:
    by_value: dict[str, list[Run]] = {}
    for run in company:
        by_value.setdefault(values[id(run)], []).append(run)
    if len(by_value) < 2:
        return []
    return [
        f"{option}: "
        + "; ".join(f"{value} in {_who(runs, everyone)}" for value, runs in by_value.items())
        + "."
    ]


def _who(runs: Sequence[Run], everyone: Sequence[Run]) -> str:
    names = []
    for experiment in dict.fromkeys(run.experiment for run in runs):
        seeds = sorted(run.record.seed for run in runs if run.experiment == experiment)
        if seeds == sorted(run.record.seed for run in everyone if run.experiment == experiment):
            names.append(experiment)
        else:
            names.append(f"{experiment} ({plural(len(seeds), 'seed')} {seeds_in_words(seeds)})")
    return ", ".join(names)
