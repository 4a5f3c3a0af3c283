"""Configuration of a latent student, saved as its ``config.json``."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from kvdistill.latent.auto import register_model
from kvdistill.latent.slots import LAYOUTS, check_slots
from kvdistill.records.renamed import STUDENT, present_names

SPECIAL_TOKENS = {"bot": "<bot>", "eot": "<eot>", "latent": "<latent>"}
"""Role -> text of the tokens that enclose and fill the latent slots."""
DELIMITERS = ("student", "both")
FEEDBACKS = ("mlp", "none", "add")
OPTIONAL = {"special": dict, "template": dict, "lora": dict, "base": str, "base_fingerprint": str}
"""Settings that may be None, and their type otherwise."""
TYPES: dict[str, type] = {
    "slots": int,
    "passes": int,
    "feedback": str,
    "delimiters": str,
    "layout": str,
    "latents_trained": bool,
} | OPTIONAL


class LatentConfig(PreTrainedConfig):
    """Settings of a latent student: backbone, slots, passes, delimiters.

    Args:
        backbone: Configuration of the causal language model, as an object or a dictionary.
        slots: Number of latent slots, M.
        passes: Number of Jacobi passes over them, T. T = M is the sequential recurrence, one slot after
            another; T = 0 gives pause tokens.
        feedback: ``mlp`` maps the last hidden state of a slot to an input; ``none`` passes it
            unchanged; ``add`` adds it to the embedding of ``<latent>``.
        delimiters: ``student`` (only student mode reads ``<bot>`` and ``<eot>``, as published) or ``both``.
        layout: ``shift`` makes the state of a slot the input of the next slot, ``blocks`` of that slot itself
            in the next pass.
        special: Ids of ``<bot>``, ``<eot>`` and ``<latent>``, by role.
        template: How questions become text, as a dictionary; kept so that a saved student reads prompts in
            the format that it was trained on.
        lora: Settings of peft's LoRA; None where all weights are trained.
        latents_trained: Whether the latent slots have been trained, and not only chains of thought.
        base: Model folder or hub name that the frozen weights come from; None where the checkpoint holds
            every weight.
        base_fingerprint: Fingerprint of those frozen weights, so that a changed base model is noticed; None
            skips the check.

    Raises:
        ValueError: if ``slots`` and ``passes`` do not fit together, or a setting has an unknown value.
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
        # A dictionary where a config.json is read, an object where a student is built.
        if isinstance(backbone, dict):
            if not isinstance(backbone.get("model_type"), str):
                raise ValueError(
                    "The backbone of a latent student has no model_type: give one of transformers', such as "
                    "'llama'."
                )
            backbone = AutoConfig.for_model(**backbone)
        self.backbone = backbone
        self.slots, self.passes, self.feedback, self.delimiters = slots, passes, feedback, delimiters
        self.layout: str = kwargs.pop("layout", "shift")
        kwargs = present_names(kwargs, STUDENT)
        self.special: dict[str, int] | None = kwargs.pop("special", None)
        self.template: dict[str, Any] | None = kwargs.pop("template", None)
        self.lora: dict[str, Any] | None = kwargs.pop("lora", None)
        self.latents_trained: bool = kwargs.pop("latents_trained", False)
        self.base: str | None = kwargs.pop("base", None)
        self.base_fingerprint: str | None = kwargs.pop("base_fingerprint", None)
        self._check_types()
        check_slots(slots, passes, self.layout)
        for name, value, known in (
            ("feedback", feedback, FEEDBACKS),
            ("delimiters", delimiters, DELIMITERS),
            ("layout", self.layout, LAYOUTS),
        ):
            if value not in known:
                raise ValueError(f"latent.{name} is {value!r}; choose one of {', '.join(known)}.")
        super().__init__(**kwargs)
        # transformers ties weights by the setting of this configuration, whose value is the backbone's.
        if backbone is not None:
            self.tie_word_embeddings = bool(getattr(backbone, "tie_word_embeddings", False))

    def _check_types(self) -> None:
        """Refuse values of the wrong type, since a ``config.json`` may have been edited by hand."""
        for name, kind in TYPES.items():
            value = getattr(self, name)
            # Not isinstance: True is an int.
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
