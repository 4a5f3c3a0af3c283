"""Load tokenizers and causal language models by name, from a folder or the hub, with readable errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from kvdistill.config import ModelSection, RunConfig, SyntheticData, TeacherSection
from kvdistill.console.messages import did_you_mean
from kvdistill.data import word_tokenizer
from kvdistill.latent.config import LatentConfig
from kvdistill.models.checkpoint_integrity import (
    explain_load_failure,
    first_line,
    read_backbone,
    require_regular_files,
)
from kvdistill.models.memory import is_out_of_memory
from kvdistill.records.manifest import require_unchanged

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_backbone(section: ModelSection, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The student's backbone: a pretrained causal language model, or a new one from a configuration.

    Args:
        section: ``model`` of the configuration: a name, or the settings of a new model.
        tokenizer: gives a new model its vocabulary size and special token ids.

    Returns:
        The transformers model, on one device.

    Raises:
        ValueError: if the model cannot be found or loaded, or a setting is misspelled.
    """
    options = options_of(section)
    if section.name is None:
        return AutoModelForCausalLM.from_config(
            _described(section.config or {}, tokenizer), trust_remote_code=False, **options
        )
    with placed(section) as place:
        model = pretrained("model", section, options | place)
    require_one_device(section, model)
    # Checkpoints of the student are read without remote code, so its backbone may not depend on it.
    if type(model).__module__.startswith("transformers_modules"):
        remedy = "choose another model"
        if model.config.model_type in CONFIG_MAPPING:
            remedy = "leave --trust_remote_code out"
        raise ValueError(
            f"model.name: {section.name} runs as {type(model).__name__} of its own code, which a checkpoint "
            "of the student would be read "
            f"back without: {remedy}. A separate teacher (--teacher_name) may bring its code."
        )
    return model


@contextmanager
def placed(section: ModelSection | TeacherSection, option: str = "model") -> Iterator[dict[str, Any]]:
    """Loading options for the section's device; explains errors of the placement inside the block.

    Args:
        section: a model's ``device_map``, or a teacher's ``device`` or ``device_map``.
        option: name of the section in error messages.

    Raises:
        ValueError: if the model cannot be placed on that device.
    """
    options: dict[str, Any] = {}
    setting, place = "device_map", section.device_map
    if isinstance(section, TeacherSection) and section.device is not None:
        setting, place = "device", section.device
    if place is not None:
        options["device_map"] = place
    try:
        yield options
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        unplaced = isinstance(error, OSError | ValueError) and "device_map" not in str(error)
        if place is None or unplaced or is_out_of_memory(error):
            raise
        raise ValueError(
            f"{option}.{setting} is {place!r}, and {section.name} cannot be put there ({first_line(error)}): "
            "name one device of this "
            f"machine (cpu, cuda:0), or leave {setting} out."
        ) from error


def require_one_device(section: ModelSection, model: Any) -> None:
    """Refuse a model that is spread over several devices.

    Raises:
        ValueError: names the devices.
    """
    places = set(getattr(model, "hf_device_map", {}).values())
    if len(places) > 1:
        raise ValueError(
            f"model.device_map {section.device_map!r} spreads {section.name} over "
            f"{', '.join(map(str, sorted(places, key=str)))}, but a "
            "training step compares its layers and needs them on one device: name one (cpu, cuda:0), or "
            "leave device_map out and train "
            "adapters (--lora_r) in bfloat16 (--torch_dtype bfloat16) with gradient checkpointing."
        )


def is_student(name: str | None) -> bool:
    """Whether the folder ``name`` holds a saved latent student (by ``model_type`` in its config.json)."""
    path = Path(name or "") / "config.json"
    return path.is_file() and b'"kvdistill_latent"' in path.read_bytes()


def options_of(section: ModelSection | TeacherSection) -> dict[str, Any]:
    """Keyword arguments of ``from_pretrained`` and ``from_config``: dtype and attention implementation."""
    options: dict[str, Any] = {"dtype": DTYPES[section.dtype]}
    if isinstance(section, TeacherSection) and section.revision is not None:
        options["revision"] = section.revision
    if section.attention is not None:
        options["attn_implementation"] = section.attention
    return options


def pretrained(option: str, section: ModelSection | TeacherSection, options: dict[str, Any]) -> Any:
    """A pretrained causal language model, from safetensors alone.

    Args:
        option: name of the section in error messages: ``model``, ``teacher``, ``teachers.NAME``.
        section: the model's name and whether its remote code may run.
        options: keyword arguments of ``from_pretrained``.

    Returns:
        The transformers model.

    Raises:
        ValueError: if it is not there, is incomplete, or needs remote code that is not allowed.
    """
    name = str(section.name)
    try:
        return read_backbone(name, trust_remote_code=section.trust_remote_code, **options)
    except (OSError, ValueError) as error:
        if ("device_map" in options and "device_map" in str(error)) or is_out_of_memory(error):
            raise
        raise not_loaded(f"{option}.name", name, error) from error


def load_tokenizer(config: RunConfig) -> PreTrainedTokenizerBase:
    """The run's tokenizer: the named one, the model's own, or one made for an embedded task.

    For an embedded task it is word-level, or what ``model.new_tokenizer`` trains on the task's words.

    Raises:
        ValueError: if none is named and the data needs one, or it has no padding or end-of-sequence token.
    """
    section = config.model
    name = section.tokenizer or section.name
    if name is None:
        return _task_tokenizer(config)
    option = "model.tokenizer"
    if section.tokenizer is None:
        option = "model.name"
    tokenizer = open_tokenizer(option, name, section.trust_remote_code)
    if type(tokenizer).__module__.startswith("transformers_modules"):
        raise ValueError(
            f"{name} brings a tokenizer of its own code ({type(tokenizer).__name__}), which a checkpoint of "
            "the student would be read back "
            "without: choose another tokenizer (--model.tokenizer)."
        )
    _name_tokens(tokenizer, section.special_tokens)
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        lacking = "padding"
        if tokenizer.eos_token_id is None:
            lacking = "end-of-sequence"
        raise ValueError(
            f"The tokenizer {name} has no {lacking} token. Name one in the configuration: "
            '--model.special_tokens \'{"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}\'.'
        )
    return tokenizer


def _task_tokenizer(config: RunConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a new backbone, made from the words of an embedded task and of the answer prompt."""
    train = config.data.train
    if not isinstance(train, SyntheticData):
        raise ValueError(
            "model.tokenizer is missing: a new backbone on a data file needs a tokenizer (folder, hub "
            "name or tokenizer.json)."
        )
    words = list(train.task.words())
    if config.data.template is not None:
        words += config.data.template.prompt.split()
    if config.model.new_tokenizer is not None:
        return config.model.new_tokenizer.train(tuple(dict.fromkeys(words)))
    return word_tokenizer(words)


def open_tokenizer(
    option: str, name: str, trust_remote_code: bool, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Args:
        option: the configuration option that names it, for error messages.
        name: a folder, a hub name, or a tokenizer.json.
        trust_remote_code: whether code beside the tokenizer may run.
        revision: branch, tag or commit on the hub; None is the newest.

    Raises:
        ValueError: if it is not there, is damaged, or needs remote code that is not allowed.
    """
    # A model folder without tokenizer files gets its own message, with the remedy.
    if (Path(name) / "config.json").is_file() and not any(
        any(Path(name).glob(file)) for file in ("tokenizer*", "vocab*", "*.model")
    ):
        remedy = "copy its files there"
        if not option.startswith("teacher"):
            remedy = f"name one with --model.tokenizer (folder, hub name or tokenizer.json), or {remedy}"
        raise ValueError(
            f"{option}: {name} holds no tokenizer (no tokenizer.json or tokenizer_config.json): {remedy}."
        )
    require_regular_files(Path(name))
    if is_student(name):
        require_unchanged(Path(name))
    try:
        if not name.endswith(".json"):
            return AutoTokenizer.from_pretrained(
                name, trust_remote_code=trust_remote_code, revision=revision or "main"
            )
        if not Path(name).is_file():
            raise FileNotFoundError(f"there is no file {name}")
        return PreTrainedTokenizerFast(tokenizer_file=name)
    except Exception as error:  # a damaged tokenizer.json raises a bare Exception
        raise not_loaded(option, name, error) from error


def _described(settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Any:
    """A transformers configuration with these settings; vocabulary and special ids are the tokenizer's."""
    kind = str(settings.get("model_type"))
    if kind not in CONFIG_MAPPING or kind == LatentConfig.model_type:
        raise ValueError(
            f"model.config.model_type is {kind!r}: give one of transformers', such as "
            f"'llama'.{did_you_mean(kind, CONFIG_MAPPING)}"
        )
    build: Any = CONFIG_MAPPING[kind]
    known = build().to_dict().keys() | build.attribute_map | {"rope_theta", "rope_scaling"}
    for name in settings.keys() - known:
        raise ValueError(f"model.config: {kind} has no setting {name!r}.{did_you_mean(name, known)}")
    own = {"vocab_size": len(tokenizer)} | {
        name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")
    }
    return build(**own | {name: value for name, value in settings.items() if name != "model_type"})


def _name_tokens(tokenizer: PreTrainedTokenizerBase, special: dict[str, str]) -> None:
    for token, text in special.items():
        if token not in tokenizer.SPECIAL_TOKENS_ATTRIBUTES:
            near = did_you_mean(token, tokenizer.SPECIAL_TOKENS_ATTRIBUTES)
            raise ValueError(f"model.special_tokens: there is no special token {token!r}.{near}")
        if text not in tokenizer.get_vocab():
            raise ValueError(
                f"model.special_tokens: {text!r} is no token of {tokenizer.name_or_path}. Name one of its "
                "own."
            )
        setattr(tokenizer, token, text)


def not_loaded(option: str, name: str, error: Exception) -> ValueError:
    """The error for a model or tokenizer that could not be loaded, with the option that names it."""
    if "trust_remote_code" in str(error):
        allow = f"--{option.rpartition('.')[0]}.trust_remote_code true"
        return ValueError(
            f"{option}: {name} brings code of its own, which is not run unless you allow it: read it, then "
            f"say {allow}."
        )
    return ValueError(f"{option}: {name!r} could not be loaded: {explain_load_failure(name, error)}.")
