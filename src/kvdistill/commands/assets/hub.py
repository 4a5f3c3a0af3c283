"""Fetch models and data sets into the hub cache ahead of time, after a check of the disk space."""

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
"""Disk space that has to stay free: 5 % of the download and 1 GiB."""
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".py")
"""Suffixes of configuration, tokenizer and code files; weights are matched by ``_WEIGHTS``."""


@dataclass(frozen=True)
class Asset:
    """A model or a data set of the hub with the files that are needed."""

    kind: Kind
    name: str
    option: str | None
    """A model's revision, or a data set's configuration."""
    sizes: dict[str, int]
    """Bytes of each needed file."""
    here: frozenset[str]
    """Files that are already in the cache."""

    @property
    def missing(self) -> int:
        """Bytes still to be downloaded."""
        return sum(size for file, size in self.sizes.items() if file not in self.here)

    def __str__(self) -> str:
        total = sum(self.sizes.values())
        text = f"{self.name}: {len(self.sizes)} files, {size_text(total)}"
        if len(self.here) >= len(self.sizes):
            return f"{text}; all are here already"
        if self.here:
            return f"{text}; {size_text(total - self.missing)} are here already, and the download resumes"
        return text


def find_model(name: str, revision: str | None = None) -> Asset:
    """Look up the files of a model that are needed to load it.

    Args:
        name: hub name, ``owner/name``.
        revision: branch, tag or commit; None takes main.

    Raises:
        HubError: if the hub does not answer, or the model does not exist, is not accessible, or has no
            safetensors weights.
    """
    sizes, sha = _look_up("model", name, revision)
    return _asset(
        "model", name, revision, {file: sizes[file] for file in model_files(name, list(sizes))}, sha
    )


def find_data(name: str, config: str | None = None) -> Asset:
    """Look up the files of a data set, or of one configuration where that has its own folder.

    Args:
        name: hub name, ``owner/name``.
        config: the data set's configuration; None takes the default.

    Raises:
        HubError: if the hub does not answer, or the data set does not exist or is not accessible.
    """
    sizes, sha = _look_up("dataset", name)
    config = config or default_config(name)
    own = {file: size for file, size in sizes.items() if file.startswith(f"{config}/")}
    return _asset("dataset", name, config, own or sizes, sha)


def _look_up(kind: Kind, name: str, revision: str | None = None) -> tuple[dict[str, int], str | None]:
    """Bytes of each file on the hub, and the commit hash."""
    with in_words(kind, name):
        validate_repo_id(name)
        api = HfApi()
        api.auth_check(name, repo_type=kind)
        ask = {"model": api.model_info, "dataset": api.dataset_info}[kind]
        info = ask(name, revision=revision, files_metadata=True)
    return {file.rfilename: file.size or 0 for file in info.siblings or []}, info.sha


def _asset(kind: Kind, name: str, option: str | None, sizes: dict[str, int], sha: str | None) -> Asset:
    cached = {file: try_to_load_from_cache(name, file, revision=sha, repo_type=kind) for file in sizes}
    return Asset(
        kind, name, option, sizes, frozenset(file for file, path in cached.items() if isinstance(path, str))
    )


def model_files(name: str, files: Sequence[str]) -> list[str]:
    """The files that a model is loaded from: safetensors weights, configuration, tokenizer and code.

    Args:
        name: hub name, for the message.
        files: all files of the repository; those in subfolders are left out, as are other weight formats.

    Raises:
        HubError: if there are no safetensors weights.
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
    """Check that the missing files fit on the disk of the cache, with 5 % and 1 GiB to spare.

    Raises:
        HubError: if they do not.
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
    """Fetch models and data sets into the cache, and print where they are.

    Args:
        assets: what is fetched, in this order.
        jsonl: folder for data sets as JSON lines; None writes none.
        overwrite: whether JSON lines files with other content are replaced.

    Raises:
        HubError: if they do not fit on the disk, the hub refuses, or a JSON lines file with other content
            exists.
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
        # One file at a time: the threads of snapshot_download would delay Ctrl-C until their files are done.
        for file in asset.sizes:
            hf_hub_download(asset.name, file, revision=asset.option)
        folder = snapshot_download(asset.name, revision=asset.option, allow_patterns=list(asset.sizes))
    named = asset.name
    if asset.option is not None:
        named = f"'{folder}'"
    return (
        f"{asset.name} is in {folder}\n  Use it: --model_name {named} (on nodes without a network, set "
        "HF_HUB_OFFLINE=1)"
    )
