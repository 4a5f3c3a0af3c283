"""Students on pico backbones whose tokenizer knows sixty words."""

import torch
import transformers as tf

import pico
from kvdistill.latent.config import LatentConfig
from kvdistill.latent.reasoner import LatentReasoner
from pico_tokenizer import word_level

WORDS = [f"w{number}" for number in range(57)]
"""With three special tokens the tokenizer has 60, the latent tokens are 60 to 62, and a backbone of 60 rows
has to grow.
"""
NEW = [60, 61, 62]
LORA = {"r": 2, "lora_alpha": 8, "target_modules": "all-linear"}


def small(name: str) -> tf.PreTrainedModel:
    """A pico backbone with a row for each word and none for the latent tokens."""
    config = pico.CONFIGS[name]()
    config.vocab_size = 60
    return pico.from_config(config)


def lora_for(name: str) -> dict[str, object]:
    return {**LORA, "fan_in_fan_out": name == "gpt2"}


def student(backbone: tf.PreTrainedModel, **settings: object) -> LatentReasoner:
    """A student whose trained weights have moved from where they started."""
    model = LatentReasoner.build(
        backbone, word_level(WORDS), LatentConfig(slots=4, passes=2, **settings)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model
