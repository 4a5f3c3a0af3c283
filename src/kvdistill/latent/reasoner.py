"""``LatentReasoner``: the transformers model of the student, a causal LM that reasons in latent slots."""

from pathlib import Path
from typing import Any, Literal, cast, overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from kvdistill.capture import rotation
from kvdistill.capture.architecture import Architecture, examine
from kvdistill.capture.argument_relay import register_argument_relay
from kvdistill.capture.attention import body_of, require_mask_support
from kvdistill.capture.position_limit import register_position_check
from kvdistill.kv import Geometry, ModelOutput, TwoModes
from kvdistill.latent.config import SPECIAL_TOKENS, LatentConfig
from kvdistill.latent.embeddings import (
    add_latent_tokens,
    num_rows,
    require_rows,
    resize_embeddings,
    scaled_logits,
)
from kvdistill.latent.feedback import Feedback, new_feedback
from kvdistill.latent.layout import Special
from kvdistill.latent.load import check_files, load_adapter, read_config, read_tokenizer
from kvdistill.latent.lora import add_lora, new_rows, trained_state
from kvdistill.latent.modes import teacher_forward, two_modes
from kvdistill.models.checkpoint_integrity import (
    SAFE,
    diagnose_load_errors,
    fingerprint,
    require_finite,
    require_fit,
    share,
)
from kvdistill.models.hub import UPLOAD_OPTIONS, checkpoint_folder
from kvdistill.text import Batch


class LatentReasoner(PreTrainedModel):
    """A causal language model with M latent slots: backbone, feedback, teacher mode and student mode.

    Source: KaVa, https://arxiv.org/abs/2510.02312, section 3.
    """

    config_class = LatentConfig
    config: LatentConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _supports_attention_backend = True
    tokenizer: PreTrainedTokenizerBase | None = None

    def __init__(self, config: LatentConfig, backbone: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if config.backbone is None or config.special is None:
            raise ValueError(
                "A latent student needs a backbone and its special tokens: build one with "
                "LatentReasoner.build(...)."
            )
        if backbone is None:
            backbone = _new_backbone(config)
        self.backbone: PreTrainedModel = backbone
        if config.lora is not None:
            add_lora(self.backbone, config.lora)
        # The backbone's own defaults (sampling, penalties) would silently change answers.
        self.backbone.generation_config = GenerationConfig()
        embedding: Tensor = self.backbone.get_input_embeddings().weight  # pyright: ignore
        feedback = new_feedback(config.feedback, embedding.shape[-1])
        self.feedback = feedback.to(self.backbone.device, self.backbone.dtype)
        self.special = Special(**config.special)
        # For good: without a kv_call the capturing wrapper calls the plain backend.
        self.backbone.config._attn_implementation = require_mask_support(self.backbone)
        register_argument_relay(self.backbone)
        # A function, since the architecture is measured at the first call, after this.
        register_position_check(self.backbone, lambda: self.architecture().is_learned)
        self._architecture: Architecture | None = None
        self.post_init()

    @classmethod
    def build(
        cls, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: LatentConfig
    ) -> "LatentReasoner":
        """New student on a backbone: adds the latent tokens and initializes the feedback.

        Args:
            backbone: Used in place, not copied.
            tokenizer: Gets ``<bot>``, ``<eot>`` and ``<latent>``, in place.
            config: Slots, passes, feedback, delimiters, template and lora; the rest is filled in.

        Returns:
            The student, with its tokenizer.

        Raises:
            ValueError: if the backbone cannot be captured, or has no embedding for a token of a text.
        """
        add_latent_tokens(tokenizer)
        require_rows(backbone, tokenizer, SPECIAL_TOKENS.values())
        if config.lora is not None and config.base is not None:
            config.base_fingerprint = fingerprint(backbone)
        special = {}
        for name, token in SPECIAL_TOKENS.items():
            special[name] = int(tokenizer.convert_tokens_to_ids(token))  # pyright: ignore[reportArgumentType]
        # Ids may have gaps: the largest one counts, not the number of tokens.
        resize_embeddings(backbone, max(tokenizer.get_vocab().values()) + 1, started=special.values())
        config.backbone = backbone.config
        config.tie_word_embeddings = bool(getattr(backbone.config, "tie_word_embeddings", False))
        config.special = special
        if config.lora is not None:
            config.lora = {
                **config.lora,
                "trainable_token_indices": new_rows(backbone, sorted(special.values())),
            }
        model = cls(config, backbone)
        model.tokenizer = tokenizer
        model.start_feedback()
        # Measured now: a backbone that cannot be captured is refused before it is trained.
        model.architecture()
        return model

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any
    ) -> "LatentReasoner":
        """Load a saved student, strictly: a missing, superfluous or misshapen weight is an error.

        Args:
            pretrained_model_name_or_path: A folder, or ``owner/name`` on the hub.
            args, kwargs: As in transformers (``dtype``, ``device_map``, ``attn_implementation``, ``token``).

        Raises:
            ValueError: if the folder holds no latent student, a damaged one, or weights of another backbone,
                or its base has changed.
        """
        folder = checkpoint_folder(pretrained_model_name_or_path, kwargs)
        check_files(folder)
        with diagnose_load_errors(folder, placed=kwargs.get("device_map") is not None):
            saved = read_config(folder)
            config = kwargs.pop("config", None) or saved
            tokenizer = read_tokenizer(folder, config)
            if config.base is not None:
                model = load_adapter(cls, folder, config, tokenizer, kwargs)
            else:
                attention = kwargs.pop("attn_implementation", None) or config._attn_implementation
                config.backbone._attn_implementation = attention  # pyright: ignore
                settings: dict[str, Any] = {
                    "config": config,
                    "output_loading_info": True,
                    # Misshapen weights are listed, so that require_fit can name them.
                    "ignore_mismatched_sizes": True,
                    **SAFE,
                }
                loaded = super().from_pretrained(folder, *args, **{**kwargs, **settings})
                model, info = cast(tuple["LatentReasoner", dict[str, Any]], loaded)
                require_fit(
                    folder,
                    info["missing_keys"],
                    info["unexpected_keys"],
                    (name for name, *_ in info["mismatched_keys"]),
                )
            require_finite(folder, model.state_dict())
            model.tokenizer = tokenizer
        return model

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Save configuration, weights and tokenizer; with LoRA on a named base model only trained weights.

        With ``push_to_hub=True`` the same files, tokenizer included, are then uploaded to ``repo_id``.
        """
        upload = kwargs.pop("push_to_hub", False)
        repository = {name: kwargs.pop(name) for name in UPLOAD_OPTIONS if name in kwargs}
        kwargs["state_dict"] = kwargs.get("state_dict") or self.state_dict()
        if self.config.base is not None:
            kwargs["state_dict"] = trained_state(self, kwargs["state_dict"])
            kwargs["save_original_format"] = False  # keep names: only this class reads the file
        super().save_pretrained(save_directory, *args, **kwargs)
        share(Path(save_directory))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(save_directory)
        if upload:
            self.push_to_hub(repository.pop("repo_id", Path(save_directory).name), **repository)

    @torch.no_grad()
    def start_feedback(self) -> None:
        """Set the standard deviation of the feedback's output to that of the token embeddings."""
        if isinstance(self.feedback, Feedback):
            # A few thousand rows estimate the standard deviation of a large vocabulary well enough.
            some = torch.arange(min(num_rows(self.backbone), 4096), device=self.device)
            self.feedback.start_at(float(self.embed(some[None]).float().std()))

    @property
    def body(self) -> nn.Module:
        """The backbone without its language-model head."""
        return body_of(self.backbone)

    def architecture(self) -> Architecture:
        """Properties of the backbone's attention layers, measured at the first call.

        Raises:
            ValueError: if a captured call differs from what the backbone computes by itself.
        """
        if self._architecture is None:
            self._architecture = examine(self.backbone, self.head)
        return self._architecture

    def geometry(self) -> Geometry:
        """Geometry of the backbone's attention layers, with the current rotation frequencies."""
        return rotation.geometry(self.architecture().layers)

    def embed(self, ids: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """Token embeddings (B, S, D) of ``ids`` (B, S), as the body takes them."""
        return self.backbone.get_input_embeddings()(ids)

    def head(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R C"]:
        """Logits (R, C) of hidden states (R, D), with the backbone's scale and soft-cap where it has them."""
        logits = self.backbone.get_output_embeddings()(rows)  # pyright: ignore[reportOptionalCall]
        return scaled_logits(logits, self.backbone.config.get_text_config())

    @overload
    def forward(self, batch: Batch, mode: Literal["both"] = "both", **options: Any) -> TwoModes: ...
    @overload
    def forward(self, batch: Batch, mode: Literal["cot"]) -> ModelOutput: ...
    def forward(
        self, batch: Batch, mode: Literal["both", "cot"] = "both", **options: Any
    ) -> TwoModes | ModelOutput:
        """Forward pass in teacher and student mode, or in teacher mode alone.

        Args:
            batch: B samples with chains of thought of N tokens.
            mode: ``both``, or ``cot``: teacher mode alone, which reads chains of thought.
            options: ``measure_attention``, ``read_slots`` and so on, as in :func:`two_modes`.

        Returns:
            Per mode: un-rotated KV cache (N tokens or M slots), label rows (R, C), states (B, L, D).
        """
        self.geometry()  # measured before the first pass, outside its graph
        if mode == "cot":
            return teacher_forward(self, batch)
        return two_modes(self, batch, **options)

    def generate(
        self,
        input_ids: Int[Tensor, "B S"],
        attention_mask: Int[Tensor, "B S"] | Bool[Tensor, "B S"] | None = None,
        generation_config: GenerationConfig | None = None,
        **options: Any,
    ) -> Any:
        """Token ids of greedy answers (B, S + A); see :func:`kvdistill.latent.generate.generate`."""
        from kvdistill.latent.generate import generate

        return generate(self, input_ids, attention_mask, generation_config, **options)

    def answer(self, questions: list[str], batch_size: int = 32, max_new_tokens: int = 32) -> list[str]:
        """Answers to questions as text; see :func:`kvdistill.latent.generate.answer`."""
        from kvdistill.latent.generate import answer

        return answer(self, questions, batch_size, max_new_tokens)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: backbone and feedback have initialized their weights already."""


def _new_backbone(config: LatentConfig) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(config.backbone, trust_remote_code=False)


for _auto_class in (AutoModel, AutoModelForCausalLM):
    _auto_class.register(LatentConfig, LatentReasoner, exist_ok=True)
