"""Models and data sets fetched ahead of time, after a look at the disk."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.utils import validate_repo_id

from kvdistill.commands.assets.errors import HubError, Kind, in_words
from kvdistill.commands.assets.export import default_config, export, load_splits
from kvdistill.console.wording import size_text

SPARE_SHARE, SPARE_BYTES = 0.05, 2**30
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")
"""Of configuration, tokenizer and code; the weights are told by their whole name."""


@dataclass(frozen=True)
class Asset:
    """A model or a data set, and the files of it that are needed."""

    kind: Kind
    name: str
    option: str | None
    """A model's revision, a data set's configuration."""
    sizes: dict[str, int]
    """Bytes of each file."""
    here: frozenset[str]
    """Files that are in the cache."""

    @property
    def missing(self) -> int:
        """Bytes still to be fetched."""
        return sum(size for file, size in self.sizes.items() if file not in self.here)

    def __str__(self) -> str:
        total, some = sum(self.sizes.values()), bool(self.here)
        goes_on = (
            f"; {size_text(total - self.missing)} are here already, so it goes on from there" if some else ""
        )
        state = goes_on if len(self.here) < len(self.sizes) else "; all are here already"
        return f"{self.name}: {len(self.sizes)} files, {size_text(total)}{state}"


def find_model(name: str, revision: str | None = None) -> Asset:
    """Ask the hub for a model's files.

    Raises:
        HubError: if the hub does not answer, there is no such model, no access to it, or no safetensors
            weights in it.
    """
    sizes, sha = _look_up("model", name, revision)
    return _asset(
        "model", name, revision, {file: sizes[file] for file in model_files(name, list(sizes))}, sha
    )


def find_data(name: str, config: str | None = None) -> Asset:
    """Ask the hub for a data set's files: those of its configuration, where it has a folder of its own.

    Raises:
        HubError: if the hub does not answer, there is no such data set, or no access to it.
    """
    sizes, sha = _look_up("dataset", name)
    config = config or default_config(name)
    own = {file: size for file, size in sizes.items() if file.startswith(f"{config}/")}
    return _asset("dataset", name, config, own or sizes, sha)


def _look_up(kind: Kind, name: str, revision: str | None = None) -> tuple[dict[str, int], str | None]:
    """The bytes of each file at the hub, and the commit."""
    with in_words(kind, name):
        validate_repo_id(name)
        api = HfApi()
        api.auth_check(name, repo_type=kind)
        ask = api.model_info if kind == "model" else api.dataset_info
        info = ask(name, revision=revision, files_metadata=True)
    return {file.rfilename: file.size or 0 for file in info.siblings or []}, info.sha


def _asset(kind: Kind, name: str, option: str | None, sizes: dict[str, int], sha: str | None) -> Asset:
    cached = {file: try_to_load_from_cache(name, file, revision=sha, repo_type=kind) for file in sizes}
    return Asset(
        kind, name, option, sizes, frozenset(file for file, path in cached.items() if isinstance(path, str))
    )


def model_files(name: str, files: Sequence[str]) -> list[str]:
    """What a model is loaded from: its weights as safetensors, once, and the small files beside them; nothing
    out of folders.

    Raises:
        HubError: if there are no such weights.
    """
    weights = [file for file in files if _WEIGHTS.fullmatch(file)]
    if not weights:
        raise HubError(
            f"{name} has no weights as safetensors, the only form that is loaded here. Choose another "
            "model, or convert this one where "
            "you trust its files: AutoModelForCausalLM.from_pretrained(name).save_pretrained(folder)."
        )
    return [file for file in files if file in weights or (file.endswith(_SUFFIXES) and "/" not in file)]


def require_space(assets: Sequence[Asset]) -> None:
    """See whether what is missing fits on the disk of the cache, with something to spare.

    Raises:
        HubError: if it does not.
    """
    missing = sum(asset.missing for asset in assets)
    needed = missing * (1 + SPARE_SHARE) + SPARE_BYTES
    cache = Path(constants.HF_HUB_CACHE).absolute()
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    if missing and needed > free:
        raise HubError(
            f"The disk of {cache} has {size_text(free)} free; {size_text(missing)} are still to be fetched, "
            "which need "
            f"{size_text(needed)} with 5 % and 1 GiB to spare. Free some space, or name a folder on another "
            "disk with --cache_dir."
        )


def download(assets: Sequence[Asset], jsonl: Path | None = None, overwrite: bool = False) -> None:
    """Fetch models and data sets into the cache, and say where they are; data sets also as JSON lines, if a
    folder is given.

    Raises:
        HubError: if they do not fit on the disk, the hub refuses, or a file of rows with other content is
            there.
    """
    require_space(assets)
    for asset in assets:
        print(asset, flush=True)
        if asset.kind == "model":
            print(_fetch_model(asset), flush=True)
            continue
        splits = load_splits(asset.name, asset.option)
        print(
            f"{asset.name} is in the cache: "
            f"{', '.join(f'{split} {len(rows):,} rows' for split, rows in splits.items())}",
            flush=True,
        )
        if jsonl is not None:
            print(*export(asset.name, splits, jsonl, overwrite), sep="\n", flush=True)


def _fetch_model(asset: Asset) -> str:
    with in_words("model", asset.name):
        # One after the other, here: the threads of snapshot_download would hold up Ctrl-C until their files
        # are whole.
        for file in asset.sizes:
            hf_hub_download(asset.name, file, revision=asset.option)
        folder = snapshot_download(asset.name, revision=asset.option, allow_patterns=list(asset.sizes))
    named = asset.name if asset.option is None else f"'{folder}'"
    return (
        f"{asset.name} is in {folder}\n  Use it: --model_name {named} (on nodes without a network, set "
        "HF_HUB_OFFLINE=1)"
    )
