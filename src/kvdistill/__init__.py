"""Teach a small language model to reason in a few latent slots by distilling KV caches.

The public names are imported on first use, so ``import kvdistill`` loads neither torch nor transformers. It
registers the student with transformers, so ``AutoModel.from_pretrained(checkpoint)`` works.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvdistill.latent.auto import register_config

if TYPE_CHECKING:
    from kvdistill.capture.cache import kv_from_cache, kv_to_cache
    from kvdistill.capture.model_kv import capture_kv
    from kvdistill.commands.evaluate import evaluate
    from kvdistill.compress import (
        RKV,
        Attention,
        Cosine,
        Full,
        FullResampled,
        LeftCrop,
        Random,
        RightCrop,
        RKVDecode,
        StepEnd,
        Uniform,
    )
    from kvdistill.config import load as load_config
    from kvdistill.kv import LayerKV, ModelKV
    from kvdistill.latent.config import LatentConfig
    from kvdistill.latent.reasoner import LatentReasoner
    from kvdistill.losses import KVLoss
    from kvdistill.pipeline import Distillation
    from kvdistill.run.train import train

__version__ = "0.1.0"

__all__ = [
    "RKV",
    "Attention",
    "Cosine",
    "Distillation",
    "Full",
    "FullResampled",
    "KVLoss",
    "LatentConfig",
    "LatentReasoner",
    "LayerKV",
    "LeftCrop",
    "ModelKV",
    "RKVDecode",
    "Random",
    "RightCrop",
    "StepEnd",
    "Uniform",
    "capture_kv",
    "evaluate",
    "kv_from_cache",
    "kv_to_cache",
    "load_config",
    "train",
]

_MODULES = {
    "Distillation": "kvdistill.pipeline",
    "KVLoss": "kvdistill.losses",
    "LatentConfig": "kvdistill.latent.config",
    "LatentReasoner": "kvdistill.latent.reasoner",
    "LayerKV": "kvdistill.kv",
    "ModelKV": "kvdistill.kv",
    "capture_kv": "kvdistill.capture.model_kv",
    "evaluate": "kvdistill.commands.evaluate",
    "kv_from_cache": "kvdistill.capture.cache",
    "kv_to_cache": "kvdistill.capture.cache",
    "load_config": "kvdistill.config",
    "train": "kvdistill.run.train",
}
"""Public name -> the module that defines it; the other names are compressors, in ``kvdistill.compress``."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kvdistill' has no attribute {name!r}")
    module = import_module(_MODULES.get(name, "kvdistill.compress"))
    value = getattr(module, "load" if name == "load_config" else name)
    globals()[name] = value  # later look-ups find the name without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_config()
