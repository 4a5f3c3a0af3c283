"""The configuration that a latent student is saved and loaded with."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from kvdistill.latent.auto import register_model
from kvdistill.latent.slots import check_slots

SPECIAL_TOKENS = {"bot": "<bot>", "eot": "<eot>", "latent": "<latent>"}
"""Tokens that enclose and hold the latent slots, by what they are for."""
DELIMITERS = ("student", "both")
FEEDBACKS = ("mlp", "none")
OPTIONAL = {"special": dict, "template": dict, "lora": dict, "base": str, "base_fingerprint": str}
"""Settings that may be None, with the type that they have otherwise."""
TYPES: dict[str, type] = {
    "slots": int,
    "passes": int,
    "feedback": str,
    "delimiters": str,
    "taught": bool,
} | OPTIONAL


class LatentConfig(PreTrainedConfig):
    """What a latent student is: its backbone, its slots and passes, and the tokens that enclose them.

    Args:
        backbone: configuration of the causal language model, as an object or a dictionary.
        slots: number of latent slots, M.
        passes: number of Jacobi passes over them, T; M is the sequential recurrence, 0 gives pause tokens.
        feedback: ``mlp`` maps the last hidden state of a slot to the input of the next; ``none`` hands it
            over as it is.
        delimiters: ``student`` (only student mode reads ``<bot>`` and ``<eot>``, as published) or ``both``.
        special: ids of ``<bot>``, ``<eot>`` and ``<latent>``.
        template: how questions become text, as written by the data part; kept so that a saved student reads
            as it was taught.
        lora: settings of peft's LoRA, or None where all weights are trained.
        taught: whether the latent slots have been trained, and not only explicit reasoning.
        base: the model folder or hub name that frozen weights come from, or None where the checkpoint holds
            every weight.
        base_fingerprint: of those frozen weights, so that others in their place are noticed; None where they
            do not count.

    Raises:
        ValueError: if slots and passes make no sense together, or a setting is misspelt.
    """

    model_type = "kvdistill_latent"

    def __init__(
        self,
        backbone: PreTrainedConfig | dict[str, Any] | None = None,
        slots: int = 24,
        passes: int = 3,
        feedback: str = "mlp",
        delimiters: str = "student",
        **kwargs: Any,
    ) -> None:
        register_model()  # a configuration is built before AutoModel looks its model class up
        if isinstance(backbone, dict):
            if not isinstance(backbone.get("model_type"), str):
                raise ValueError(
                    "The backbone of a latent student has no model_type: give one of transformers', such as "
                    "'llama'."
                )
            backbone = AutoConfig.for_model(**backbone)
        self.backbone = backbone
        self.slots, self.passes, self.feedback, self.delimiters = slots, passes, feedback, delimiters
        self.special: dict[str, int] | None = kwargs.pop("special", None)
        self.template: dict[str, Any] | None = kwargs.pop("template", None)
        self.lora: dict[str, Any] | None = kwargs.pop("lora", None)
        self.taught: bool = kwargs.pop("taught", False)
        self.base: str | None = kwargs.pop("base", None)
        self.base_fingerprint: str | None = kwargs.pop("base_fingerprint", None)
        self._check_types()
        check_slots(slots, passes)
        for name, value, known in (("feedback", feedback, FEEDBACKS), ("delimiters", delimiters, DELIMITERS)):
            if value not in known:
                raise ValueError(f"latent.{name} is {value!r}; choose one of {', '.join(known)}.")
        super().__init__(**kwargs)
        if backbone is not None:
            self.tie_word_embeddings = bool(getattr(backbone, "tie_word_embeddings", False))

    def _check_types(self) -> None:
        """A config.json that was edited may hold anything."""
        for name, kind in TYPES.items():
            value = getattr(self, name)
            if type(value) is not kind and not (value is None and name in OPTIONAL):
                raise ValueError(f"latent.{name} is {value!r}; it has to be of type {kind.__name__}.")
        special = self.special
        if special is not None and (
            special.keys() != SPECIAL_TOKENS.keys()
            or not all(type(number) is int for number in special.values())
        ):
            raise ValueError(
                f"The special tokens of a latent student are {special!r}; give the ids of "
                f"{', '.join(SPECIAL_TOKENS)}."
            )


AutoConfig.register(LatentConfig.model_type, LatentConfig, exist_ok=True)
