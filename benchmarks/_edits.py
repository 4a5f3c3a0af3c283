"""Edits of a checkpoint's JSON files and of what lies around it, for the benchmark of damages."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from _damages import CODE, Damage, Place, deep, edit, of_files, of_weights
from safetensors.torch import load_file, save_file

Change = Callable[[Any], Any]
EARLIER = "manifest of the earlier version, "
"""How the names of damages begin under which the manifest holds sizes alone."""

BARE = "no manifest, "
"""How the names of damages begin that the model's files alone have to tell, as in a folder that
``save_pretrained`` wrote.
"""
PLAUSIBLE = ("rope_theta", "passes", "other heads", "other model", "template other")
"""Edits that make another model, which nothing but a hash tells from the one that was saved."""


def edits() -> Iterator[Damage]:
    """By hand, and well meant."""
    for name, change in _of_config().items():
        yield Damage(f"config.json: {name}", _edited("config.json", change), loads=True)
        if name not in PLAUSIBLE:
            yield Damage(f"{BARE}config.json: {name}", bare(_edited("config.json", change)), loads=True)
    for name, change in _of_state().items():
        yield Damage(f"trainer_state.json: {name}", _edited("trainer_state.json", change))
        if name not in (
            "step + 1",
            "step - 1",
            "max_steps",
        ):  # sizes alone do not tell those, where the size is the same
            yield Damage(
                f"{EARLIER}trainer_state.json: {name}", earlier(_edited("trainer_state.json", change))
            )
    for name, change in _of_manifest().items():
        yield Damage(
            f"contents.json: {name}",
            _edited("contents.json", change),
            loads=name not in ("other step", "other name"),
        )
    for name, value in (("deep", deep(500)), ("very deep", None), ("list", []), ("text", "x")):
        yield Damage(
            f"run.json: {name}",
            _written(
                "run.json", "[" * 50_000 if value is None else json.dumps({"version": 1, "config": value})
            ),
        )


def _of_config() -> dict[str, Change]:
    return {
        "rope_theta": lambda c: _inside(c, rope_parameters={"rope_theta": 7.0, "rope_type": "default"}),
        "slots two": lambda c: c | {"slots": "two"},
        "slots 2.0": lambda c: c | {"slots": 2.0},
        "slots true": lambda c: c | {"slots": True},
        "passes": lambda c: c | {"passes": 2},
        "hidden 64 as text": lambda c: _inside(c, hidden_size="64"),
        "special without keys": lambda c: c | {"special": {}},
        "special as text": lambda c: c | {"special": {"bot": "a", "eot": "b", "latent": "c"}},
        "special as a list": lambda c: c | {"special": [1, 2, 3]},
        "no special": lambda c: c | {"special": None},
        "vocabulary of 10^9": lambda c: _inside(c, vocab_size=10**9),
        "10^9 layers": lambda c: _inside(c, num_hidden_layers=10**9),
        "width 10^9": lambda c: _inside(c, hidden_size=10**9),
        "intermediate 10^9": lambda c: _inside(c, intermediate_size=10**9),
        "other heads": lambda c: _inside(c, num_attention_heads=4, num_key_value_heads=4),
        "other model": lambda c: _inside(c, model_type="mistral"),
        "no such model": lambda c: _inside(c, model_type="lama"),
        "no backbone": lambda c: c | {"backbone": None},
        "backbone a list": lambda c: c | {"backbone": [1]},
        "lora as text": lambda c: c | {"lora": "yes"},
        "lora unknown": lambda c: c | {"lora": {"rr": 2}},
        "template a list": lambda c: c | {"template": [1]},
        "template other": lambda c: c | {"template": {"kind": "plain", "prompt": "other"}},
        "dtype": lambda c: c | {"dtype": "float61"},
        "latents_trained": lambda c: c | {"latents_trained": "no"},
        "base elsewhere": lambda c: c | {"base": "/nowhere/at/all"},
        "a list": lambda c: [c],
        "null": lambda c: None,
        "a number": lambda c: 3,
        "deep": lambda c: c | {"more": deep(500)},
        "slots deep": lambda c: c | {"slots": deep(90)},
    }


def _of_state() -> dict[str, Change]:
    return {
        "step + 1": lambda s: s | {"global_step": s["global_step"] + 1},
        "step - 1": lambda s: s | {"global_step": s["global_step"] - 1},
        "step as text": lambda s: s | {"global_step": str(s["global_step"])},
        "step 4.0": lambda s: s | {"global_step": float(s["global_step"])},
        "max_steps": lambda s: s | {"max_steps": s["global_step"]},
        "unknown key": lambda s: s | {"more": 1},
        "history a number": lambda s: s | {"log_history": 3},
        "history of text": lambda s: s | {"log_history": ["loss"]},
        "epoch as text": lambda s: s | {"epoch": "one"},
        "a list": lambda s: [s],
        "null": lambda s: None,
        "deep": lambda s: s | {"more": deep(500)},
    }


def _of_manifest() -> dict[str, Change]:
    def without(name: str) -> Change:
        return lambda m: m | {"files": {key: value for key, value in m["files"].items() if key != name}}

    return {
        "a list": lambda m: [m],
        "null": lambda m: None,
        "empty": lambda m: {},
        "no files": lambda m: m | {"files": {}},
        "files a list": lambda m: m | {"files": list(m["files"])},
        "files numbers": lambda m: m | {"files": dict.fromkeys(m["files"], 7)},
        "other step": lambda m: m | {"global_step": m["global_step"] + 1},
        "other name": lambda m: m | {"checkpoint": "checkpoint-ep7"},
        "other version": lambda m: m | {"version": 3},
        "no version": lambda m: {key: value for key, value in m.items() if key != "version"},
        "unknown key": lambda m: m | {"more": 1},
        "without the model": without("model.safetensors"),
        "without the tokenizer": without("tokenizer.json"),
        "without the config": without("config.json"),
        "deep": lambda m: m | {"files": deep(500)},
    }


def of_others() -> Iterator[Damage]:
    """Tokenizer, files that came along, and what lies around the checkpoint."""

    def names(text: str) -> str:
        return text.replace('"Ann"', '"?"').replace('"Bob"', '"Ann"').replace('"?"', '"Bob"')

    def exchanged(place: Place, chance: random.Random) -> None:
        path = place.newest / "tokenizer.json"
        path.write_text(names(path.read_text()))

    code = {"auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}, "tokenizer_class": "Own"}
    yield Damage("tokenizer.json: two words exchanged", exchanged, loads=True)
    yield Damage(
        "tokenizer_config.json: wrong types",
        _edited("tokenizer_config.json", lambda c: dict.fromkeys(c, 3)),
        loads=True,
    )
    yield Damage(
        "tokenizer_config.json: code",
        _with_code(_edited("tokenizer_config.json", lambda c: c | code)),
        loads=True,
    )
    yield Damage(
        "config.json: code",
        _with_code(_edited("config.json", lambda c: c | {"auto_map": {"AutoConfig": "own.Own"}})),
        loads=True,
    )
    for name in (
        "own.py",
        "added_tokens.json",
        "adapter_config.json",
        "pytorch_model.bin",
        "chat_template.jinja",
        "vocab.txt",
        "more.safetensors",
    ):
        yield Damage(f"{name}: came along", _written(f"{{newest}}/{name}", "{}"), loads=True)
    for name in ("scaler.pt", "optimizer.bin"):
        yield Damage(
            f"{name}: came along", _written(f"{{newest}}/{name}", "{}"), loads=name == "optimizer.bin"
        )
    for name in ("notes.txt", "evaluation_test_latent.json", "README.md"):
        yield Damage(f"{name}: came along", _written(f"{{newest}}/{name}", "{}"), read=False, loads=True)
    yield Damage(
        f"{BARE}tokenizer: code",
        bare(_with_code(_edited("tokenizer_config.json", lambda c: c | code))),
        loads=True,
    )
    for damage in (*of_weights(), *of_files("model.safetensors"), *of_files("tokenizer.json")):
        if not any(word in damage.name for word in ("exchanged", "half")):
            yield Damage(f"{BARE}{damage.name}", bare(damage.apply), loads=True)
    yield Damage(
        "config.json: other white space", _edited("config.json", lambda c: c), read=False, loads=True
    )


def of_the_run() -> Iterator[Damage]:
    """Files beside the newest checkpoint."""
    for name in ("metrics.jsonl", "training_log.txt"):
        yield Damage(f"{name}: deleted", lambda place, _, name=name: (place.run / name).unlink(), read=False)
        yield Damage(f"{name}: garbage", _written(name, "{{{\n\0"), read=False)
    yield Damage(
        "earlier checkpoint: weights",
        lambda place, _: (place.older / "model.safetensors").write_bytes(b"x"),
        read=False,
    )
    yield Damage(
        "earlier checkpoint: state",
        lambda place, _: edit(place.older / "trainer_state.json", lambda s: s | {"global_step": 3000}),
    )


def of_earlier_versions() -> Iterator[Damage]:
    """Damages that loading has to notice: the manifest of an earlier version holds sizes alone."""

    def zeros(name: str) -> Callable[[Place, random.Random], None]:
        return lambda place, _: (place.newest / name).write_bytes(bytes((place.newest / name).stat().st_size))

    def saved(name: str, value: Any) -> Callable[[Place, random.Random], None]:
        return lambda place, _: torch.save(value, place.newest / name)

    def carried(place: Place, chance: random.Random) -> None:
        path = place.newest / "carried.safetensors"
        save_file(load_file(path), path, {"plaice": "null"})

    def older_trainable(place: Place, chance: random.Random) -> None:
        state = torch.load(place.newest / "optimizer.pt", weights_only=True)
        state["param_groups"] = state["param_groups"][:1]
        torch.save(state, place.newest / "optimizer.pt")

    yield Damage(f"{EARLIER}nothing damaged", earlier(lambda place, _: None), read=False, loads=True)
    for name in (
        "model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "carried.safetensors",
        "trainer_state.json",
    ):
        yield Damage(f"{EARLIER}{name}: zeros", earlier(zeros(name)), loads=name == "model.safetensors")
    for name, value in (
        ("rng_state.pth", []),
        ("scheduler.pt", {}),
        ("optimizer.pt", {}),
        ("optimizer.pt", [1]),
        ("rng_state.pth", {"python": 3}),
    ):
        yield Damage(f"{EARLIER}{name}: {value}", earlier(saved(name, value)))
    yield Damage(f"{EARLIER}carried.safetensors: without its place", earlier(carried))
    yield Damage(f"{EARLIER}optimizer.pt: of other parameters", earlier(older_trainable))


def earlier(apply: Callable[[Place, random.Random], None]) -> Callable[[Place, random.Random], None]:
    """The same damage under a manifest that lists sizes alone, as earlier versions wrote it, taken after the
    damage.
    """

    def changed(place: Place, chance: random.Random) -> None:
        apply(place, chance)
        files = [
            path
            for path in sorted(place.newest.rglob("*"))
            if path.name not in ("contents.json", "config.json")
        ]
        (place.newest / "contents.json").write_text(
            json.dumps({path.name: path.stat().st_size for path in files})
        )

    return changed


def bare(apply: Callable[[Place, random.Random], None]) -> Callable[[Place, random.Random], None]:
    """The same damage in a checkpoint without a manifest."""

    def changed(place: Place, chance: random.Random) -> None:
        apply(place, chance)
        (place.newest / "contents.json").unlink()

    return changed


def _inside(config: Any, **settings: Any) -> Any:
    return config | {"backbone": config["backbone"] | settings}


def _edited(name: str, change: Change) -> Callable[[Place, random.Random], None]:
    return lambda place, _: edit(place.newest / name, change)


def _with_code(apply: Callable[[Place, random.Random], None]) -> Callable[[Place, random.Random], None]:
    def changed(place: Place, chance: random.Random) -> None:
        apply(place, chance)
        (place.newest / "own.py").write_text(CODE)

    return changed


def _written(name: str, text: str) -> Callable[[Place, random.Random], None]:
    return lambda place, _: Path(place.run, name.replace("{newest}", place.newest.name)).write_text(text)
