"""The cases of ``bad_inputs.py``: what is typed, which files it names, and whether it should be refused."""

import json
import random
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """One command line."""

    name: str
    words: tuple[str, ...]
    """The first is the command; ``{in}`` is the folder of inputs, ``{student}`` a checkpoint there, ``{out}``
    a folder of its own.
    """
    expected: str
    """``refuse``, ``accept``, or ``either`` where both are right."""
    apart: bool = False
    """Whether it runs in a process of its own, with limited memory."""


GOOD = '{"question": "Ann has 3 pens and buys 4. How many?", "answer": "3+4=7\\n#### 7"}\n'
STEPS = '{"question": "Ann has 3 pens. How many?", "steps": ["3"], "answer": "3"}\n'
MANY = "".join(GOOD.replace("3", str(number)) for number in range(1, 41))

REFUSED_DATA: dict[str, bytes] = {
    "empty": b"",
    "blank lines": b"\n \n\r\n",
    "byte order mark alone": b"\xef\xbb\xbf",
    "prose": b"Once upon a time\nthere was a king.\n",
    "table": b"question,answer\n1+1?,2\n",
    "web page": b"<html><body>404</body></html>\n",
    "empty list": b"[]",
    "list of numbers": b"[1, 2, 3]",
    "torn list": b'[{"question": "q", "answer": "#### 1"},',
    "number": b"3\n",
    "null": b"null\n",
    "empty object": b"{}\n",
    "UTF-16": MANY.encode("utf-16"),
    "gzip": b"\x1f\x8b\x08\x00" + bytes(40),
    "zip": b"PK\x03\x04" + bytes(40),
    "Parquet": b"PAR1" + bytes(40),
    "NUL bytes": bytes(1000),
    "Latin-1": b'{"question": "M\xfcller?", "answer": "#### 1"}\n' * 3,
    "carriage returns alone": MANY.replace("\n", "\r").encode(),
    "carriage returns in text": b"q||a #### 1\rq||b #### 2\r",
    "no question": b'{"answer": "#### 1"}\n',
    "no answer": b'{"question": "q"}\n',
    "answer null": b'{"question": "q", "answer": null}\n',
    "answer list": b'{"question": "q", "answer": ["1"]}\n',
    "answer without mark": b'{"question": "q", "answer": "seven"}\n',
    "nothing after the mark": b'{"question": "q", "answer": "a ####"}\n',
    "empty question": b'{"question": " ", "answer": "a #### 1"}\n',
    "question a number": b'{"question": 3, "answer": "a #### 1"}\n',
    "several numbers": (
        STEPS * 19 + STEPS.replace('"answer": "3"', '"answer": "148 (dollars); 296 (dollars)"')
    ).encode(),
    "range": (STEPS * 19 + STEPS.replace('"answer": "3"', '"answer": "5-6"')).encode(),
    "steps a text": STEPS.replace('["3"]', '"3"').encode(),
    "steps of numbers": STEPS.replace('["3"]', "[3]").encode(),
    "no steps at all": STEPS.replace('["3"]', "[]").encode(),
    "answer not a number": STEPS.replace('"answer": "3"', '"answer": NaN').encode(),
    "the same key twice": b'{"question": "q", "question": "r", "answer": "a #### 1"}\n',
    "half of a surrogate pair": b'{"question": "\\ud800", "answer": "a #### 1"}\n',
    "escapes in keys": b'{"\\u001b[2J\\u001b[31mquestion": "q", "answer": "a"}\n',
    "huge keys": json.dumps({"k" * 100_000: 1}).encode(),
    "deep lists": b'{"question": ' + b"[" * 100_000 + b"\n",
    "deep objects": b'{"question": ' + b'{"a":' * 900 + b"1" + b"}" * 901 + b"\n",
    "number of many digits": b'{"question": "q", "answer": ' + b"9" * 5000 + b"}\n",
    "one bad row in ten": (MANY[: MANY.index("\n", 700) + 1] + '{"question": 3}\n').encode(),
    "everything too long": GOOD.replace("Ann", "Ann " * 5000).encode(),
    "two objects on a line": (GOOD.strip() + GOOD).encode(),
}
ACCEPTED_DATA: dict[str, bytes] = {
    "plain": MANY.encode(),
    "no line break at the end": MANY.rstrip().encode(),
    "CRLF": MANY.replace("\n", "\r\n").encode(),
    "byte order mark": b"\xef\xbb\xbf" + MANY.encode(),
    "emoji": MANY.replace("Ann", "Ann 🙂👩‍👩‍👧").encode(),
    "markup": MANY.replace("Ann", "<script>alert(1)</script>").encode(),
    "escapes in texts": MANY.replace("Ann", "\\u001b[31mAnn").encode(),
    "blank lines between": MANY.replace("\n", "\n\n").encode(),
    "one row": GOOD.encode(),
    "the same row": (GOOD * 20).encode(),
    "list": json.dumps([json.loads(line) for line in MANY.splitlines()]).encode(),
    "text": b"".join(b"Ann has %d pens?||<<%d+1=2>> #### %d\n" % (n, n, n) for n in range(20)),
    "steps": (STEPS * 20).encode(),
    "one bad row in two hundred": (MANY * 5 + '{"question": 3}\n').encode(),
    "one long row": (MANY + GOOD.replace("Ann", "Ann " * 200_000)).encode(),
}
PATHS = {
    "missing": ("{in}/none.jsonl", "refuse"),
    "folder": ("{in}", "refuse"),
    "empty name": ("", "refuse"),
    "pattern of nothing": ("{in}/none-*.jsonl", "refuse"),
    "pattern": ("{in}/plain*.jsonl", "accept"),
    "null device": ("/dev/null", "refuse"),
    "endless device": ("/dev/zero", "refuse"),
    "inside a device": ("/dev/null/x", "refuse"),
    "memory of a process": ("/proc/self/mem", "refuse"),
    "nothing in proc": ("/proc/none", "refuse"),
    "long name": ("n" * 300, "refuse"),
    "link to itself": ("{in}/loop", "refuse"),
    "pipe": ("{in}/pipe", "accept"),
}
REFUSED_OPTIONS = (
    *(
        "--batch_size true",
        "--batch_size 0",
        "--batch_size -1",
        "--batch_size 1.5",
        "--batch_size x",
        "--batch_size 99999999999999999999",
    ),
    *(
        '--lr "0.1"',
        "--lr 0",
        "--lr -1",
        "--lr NaN",
        "--lr Infinity",
        "--lr 1e400",
        "--lr fast",
        "--lr [1]",
        "--lr 1e300",
        "--lr",
    ),
    *(
        "--epochs 0",
        "--epochs 1e18",
        "--epochs true",
        "--max_steps 0",
        "--max_steps -2",
        "--max_steps 1e30",
        "--seed -1",
        "--seed 1e10",
    ),
    *(
        "--num_workers 100000",
        "--num_workers -1",
        "--num_workers true",
        "--target_len 0",
        "--target_len 100000",
        "--target_len 1e9",
    ),
    *(
        "--num_iterations 9",
        "--num_iterations -1",
        "--subset_size 0",
        "--subset_size 1e22",
        "--subset_size true",
        "--max_length 3",
    ),
    *(
        "--max_length 1e30",
        "--kv_method rkw",
        "--kv_loss l3",
        "--kv_weight abc",
        "--kv_weight -1",
        "--kv_weight true",
        "--bf16 perhaps",
    ),
    *(
        "--fp16",
        "--save_steps -1",
        "--logging_steps 0",
        "--torch_dtype int8",
        "--lora_r -1",
        "--device_map nowhere",
        "--streaming --max_steps -1",
    ),
    *(
        "--a.b.c 1",
        "--trianing.lr 1",
        "--training.lrr 1",
        "--nonsense 1",
        "rows.jsonl",
        "--training.lr.x 3",
        "--training 3",
        "--model.name x",
    ),
    *(
        "--gradient_accumulation_steps 0",
        "--evaluation.max_new_tokens 99999999",
        "--evaluation.modes latent",
        "--data.max_bad_rows 2",
    ),
    *(
        "--shuffle_kv --batch_size 1",
        "--resume --training.overwrite true",
        "--prompt_template chat",
        "--model_name {in}/plain.jsonl",
    ),
    *(
        "--output_dir {in}/plain.jsonl",
        "--output_dir /dev/null/x",
        "--output_dir /proc/none/x",
        "--output_dir {in}/earlier",
        "--teacher_name {in}",
        "--teacher_models {in}",
        "--teacher_models x y",
        "--teacher_models x --teacher_name x",
        "--teacher_models x --teacher_weights 1 2",
        "--teacher_models x --teacher_weights -1",
        "--teacher_models x --teacher_weights 0",
        "--teacher_weights 1",
        "--rope_scaling_factor 2",
        "--phase 3",
        "--teachers.a.kind live --teachers.a.name x --teachers.a.layers.kind cka --bridge.kind lift",
        "--teachers.a.kind live --teachers.a.name x --bridge.kind same",
        "--teachers.a.kind live --teachers.a.name x --teachers.a.adapter.kind mean",
        "--teachers.a.kind live --teachers.a.name x --teachers.a.layers.kind deepest",
        "--teachers.a.kind live --teachers.a.name x --teachers.a.weight 0",
        "--teachers.a.kind live --teachers.a.name x --teachers.a.device cpu --teachers.a.device_map auto",
        "--teachers.a.kind live --teachers.a.name x --teachers.a.rope_scaling.rope_type ntk",
        "--teachers.a/b.kind live --teachers.a/b.name x",
        "--lr 1 --learning_rate 1",
    ),
)
ACCEPTED_OPTIONS = (
    *(
        "--max_steps 1e0",
        "--subset_size 1000000",
        "--batch_size 65536",
        "--num_workers 1",
        "--seed 4294967295",
        "--streaming",
        "--lr 1",
    ),
    *(
        "--target_len 1 --num_iterations 1",
        "--shuffle_kv",
        "--kv_method uniform",
        "--kv_weight auto",
        "--gradient_checkpointing",
    ),
)
DEEP = "[" * 5000 + "]" * 5000
CONFIGS: dict[str, tuple[bytes, str]] = {
    "broken.toml": (b"[model\n", "refuse"),
    "deep.toml": (f"model = {DEEP}".encode(), "refuse"),
    "dotted.toml": (f"{'a.' * 5000}a = 1".encode(), "refuse"),
    "deep.json": (f'{{"model": {DEEP}}}'.encode(), "refuse"),
    "latin.toml": (b'a = "\xfc"', "refuse"),
    "list.json": (b"[1]", "refuse"),
    "escapes.json": (b'{"\\u001b[31mmodel": 1}', "refuse"),
    "types.json": (b'{"model": [], "data": 3, "training": null}', "refuse"),
    "empty.toml": (b"", "refuse"),
}


def cases() -> list[Case]:
    """All of them, in a fixed order."""
    train = ("train", "--config", "{in}/base.toml")
    plain = (*train, "--train_file", "{in}/plain.jsonl")
    found = [
        Case(f"data: {name}", (*train, "--train_file", f"{{in}}/{slug(name)}"), "refuse")
        for name in REFUSED_DATA
    ]
    found += [
        Case(f"data: {name}", (*train, "--train_file", f"{{in}}/{slug(name)}"), "accept")
        for name in ACCEPTED_DATA
    ]
    found += [
        Case(f"path: {name}", (*train, "--train_file", path), expected)
        for name, (path, expected) in PATHS.items()
    ]
    found += [Case(f"option: {line}", (*plain, *line.split(" ")), "refuse") for line in REFUSED_OPTIONS]
    found += [Case(f"option: {line}", (*plain, *line.split(" ")), "accept") for line in ACCEPTED_OPTIONS]
    found += [Case("option: deep value", (*plain, "--model.config.x", DEEP), "refuse")]
    found += [
        Case(f"damaged: {n}", (*train, "--train_file", f"{{in}}/{slug(f'damaged {n}')}"), "either")
        for n in range(8)
    ]
    found += [
        Case(
            f"huge row{' in a stream' * bool(more)}",
            (*train, "--train_file", "{in}/huge.jsonl", *more),
            "accept",
            apart=True,
        )
        for more in ((), ("--streaming",))
    ]
    for name, (_, expected) in CONFIGS.items():
        found.append(Case(f"config: {name}", ("train", "--config", f"{{in}}/{name}"), expected))
    found += [
        Case(f"config: {name}", ("train", "--config", name), "refuse")
        for name in ("{in}/none.toml", "{in}", "/dev/zero", "n" * 300)
    ]
    found += [
        Case("config: byte order mark", ("train", "--config", "{in}/marked.toml", *plain[3:]), "accept")
    ]
    return found + _others()


def _others() -> list[Case]:
    """Of the other commands."""
    student, data = "{student}", ("--data", "{in}/plain.jsonl", "--num", "2", "--max-new-tokens", "4")
    ask = ("evaluate", "--checkpoint", student, "--output", "{out}")
    found = [
        Case(f"evaluate: checkpoint {name}", ("evaluate", "--checkpoint", name, *data), "refuse")
        for name in ("{in}/plain.jsonl", "{in}/none", "{in}/hollow", "")
    ]
    found += [
        Case(f"evaluate: data {name}", (*ask, "--data", name), "refuse")
        for name in ("{in}/none.jsonl", "{in}/empty", "{in}", "{in}/base.toml", "/dev/null")
    ]
    found += [
        Case(f"evaluate: {line}", (*ask, *data, *line.split(" ")), "refuse")
        for line in (
            "--modes cto",
            "--num 0",
            "--batch-size -1",
            "--max-new-tokens 99999999",
            "--format gsmk",
            "--nonsense 1",
        )
    ]
    found += [
        Case(f"evaluate: {line}", (*ask, *data, "--modes", line), "accept")
        for line in ("direct", "latent,latent")
    ]
    reports = (
        "none",
        "plain.jsonl",
        "hollow",
        "report list",
        "report deep",
        "report keys",
        "report version",
        "report escapes",
    )
    found += [
        Case(f"report: {name}", ("report", f"{{in}}/{name.replace(' ', '_')}"), "refuse") for name in reports
    ]
    found += [
        Case(f"analyze: {name}", ("analyze", "--output_base", f"{{in}}/{name}"), "refuse")
        for name in ("none", "plain.jsonl", "hollow")
    ]
    found += [Case("report: a run", ("report", "{in}/reported"), "accept")]
    found += [
        Case(f"demo: {line}", ("demo", "--output", "{out}", *line.split(" ")), "refuse")
        for line in (
            "--seed -1",
            "--seed abc",
            "--seed 99999999999",
            "--share 0",
            "--share nan",
            "--output {in}/plain.jsonl",
        )
    ]
    found += [
        Case(f"walk: {line}", ("walk", *line.split(" ")), "refuse")
        for line in ("--training.task direct", "--latent.slots true")
    ]
    return [*found, Case("walk", ("walk",), "accept")]


def slug(name: str) -> str:
    """The file of a case."""
    return name.replace(" ", "_") + ("" if name == "empty" else ".jsonl")


def write_inputs(folder: Path, seed: int) -> None:
    """Every file that the cases name, but for the student of an earlier run."""
    for name, content in (REFUSED_DATA | ACCEPTED_DATA).items():
        (folder / slug(name)).write_bytes(content)
    for name, (content, _) in CONFIGS.items():
        (folder / name).write_bytes(content)
    rng = random.Random(seed)
    for number in range(8):
        damaged = bytearray(MANY.encode())
        for _ in range(2**number // 2):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        end = rng.randrange(len(damaged)) if number % 2 else len(damaged)
        (folder / slug(f"damaged {number}")).write_bytes(damaged[:end])
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "hollow").mkdir()
    records = {
        "list": b"[]",
        "deep": f'{{"version": 1, "seed": {DEEP}}}'.encode(),
        "keys": b'{"version": 1}',
        "version": b'{"version": 99}',
        "escapes": b'{"version": 1, "\\u001b[31mkey": 1}',
    }
    for name, content in records.items():
        (folder / f"report_{name}").mkdir()
        (folder / f"report_{name}" / "run.json").write_bytes(content)
