"""Table of the short command-line flags, such as ``--lr`` for ``training.lr``.

Both training scripts have all of them.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """A short name for an option of the configuration."""

    name: str
    """The flag without its dashes."""
    option: str
    """Dotted name of the option that it sets."""
    help: str
    switch: str | None = None
    """Value of the option for the bare flag or ``true``; None where a value has to follow."""
    off: str = "false"
    """Value of the option for ``false``."""
    aliases: tuple[str, ...] = ()
    """Further names of the flag, such as those of other training scripts."""
    several: bool = False
    """Whether the flag takes one value or more."""
    each_teacher: bool = False
    """Whether it sets the option, one of the section ``teacher``, for every separate teacher."""


FLAGS = (
    Flag(
        "model_name",
        "model.name",
        "backbone: folder or hub name, or a checkpoint of kvdistill to start from",
        aliases=("student_model",),
    ),
    Flag(
        "teacher_name",
        "teacher.name",
        "a separate frozen teacher; none: the student's own teacher mode",
    ),
    Flag(
        "teacher_models",
        "teacher.name",
        "separate frozen teachers; the last part of a path becomes a teacher's short name",
        several=True,
        each_teacher=True,
    ),
    Flag(
        "teacher_weights",
        "teacher.weight",
        "a weight for each teacher, in the order of the teachers; 0 leaves one out",
        several=True,
        each_teacher=True,
        aliases=("fixed_weights",),
    ),
    Flag("fusion_method", "fusion.kind", "where the weights of the teachers come from"),
    Flag("router_type", "fusion.router.kind", "router, with --fusion_method learnable"),
    Flag("entropy_target", "fusion.entropy", "where a router moves the entropy of each sample's weights"),
    Flag("entropy_reg_strength", "fusion.entropy_strength", "weight of the entropy term"),
    Flag("num_samples", "sampling.num_samples", "chains sampled for each question, in phase 2"),
    Flag("competence", "fusion.competence", "table of the teachers' competence, for routing"),
    Flag(
        "layer_mapping_strategy",
        "teacher.layers.kind",
        "which layers of each teacher a student layer is compared with",
        each_teacher=True,
    ),
    Flag(
        "rope_scaling_method",
        "teacher.rope_scaling.rope_type",
        "rotary scaling of each teacher at load, for texts longer than its window: linear, ntk, dynamic, "
        "yarn, llama3, longrope",
        each_teacher=True,
    ),
    Flag(
        "rope_scaling_factor",
        "teacher.rope_scaling.factor",
        "ratio of the longer window to the trained one",
        each_teacher=True,
    ),
    Flag(
        "calibration_target",
        "bridge.calibration_target",
        "what adapters are fitted to: the student's own cache, or also the answers (task)",
    ),
    Flag("dataset_name", "data.train.name", "data set on the hub"),
    Flag("dataset_config", "data.train.config", "its configuration"),
    Flag("dataset_split", "data.train.split", "its split to train on"),
    Flag(
        "train_file",
        "data.train.path",
        "data file in place of a data set; patterns such as 'data/part-*.jsonl' name several",
    ),
    Flag("validation_file", "data.validation.path", "data file to evaluate on during training"),
    Flag("test_file", "data.test.path", "data file to evaluate on at the end"),
    Flag("streaming", "data.train.streaming", "read while training, for data larger than memory", "true"),
    Flag("subset_size", "data.train.limit", "use only so many examples", aliases=("max_samples",)),
    Flag(
        "prompt_template",
        "data.template.kind",
        "plain, or chat: the question in the user's turn; none: chat where the tokenizer has a template",
    ),
    Flag("output_dir", "training.output_dir", "folder of the run"),
    Flag("epochs", "training.epochs", "passes over the data", aliases=("num_train_epochs",)),
    Flag("max_steps", "training.max_steps", "stop after so many optimiser steps, whatever --epochs is"),
    Flag(
        "batch_size",
        "training.batch_size",
        "examples per device and step",
        aliases=("per_device_train_batch_size",),
    ),
    Flag(
        "gradient_accumulation_steps", "training.gradient_accumulation_steps", "batches to an optimiser step"
    ),
    Flag("lr", "training.lr", "learning rate", aliases=("learning_rate",)),
    Flag(
        "warmup_steps",
        "training.warmup_steps",
        "warmup of the learning rate in steps; below 1 a share of all steps",
    ),
    Flag("max_length", "data.max_length", "longest example in tokens; longer ones are left out and counted"),
    Flag("target_len", "latent.slots", "latent slots, M"),
    Flag("num_iterations", "latent.passes", "passes over the slots, T"),
    Flag(
        "kv_method",
        "target.method.kind",
        "how the teacher's cache is compressed",
        aliases=("kv_compression",),
    ),
    Flag("kv_loss", "loss.kv.distance", "distance of keys and values", aliases=("kv_loss_type",)),
    Flag("lambda_k", "loss.kv.lambda_k", "weight of the keys in the KV loss"),
    Flag("lambda_v", "loss.kv.lambda_v", "weight of the values in the KV loss"),
    Flag("beta_cos", "loss.kv.cosine_weight", "weight of the cosine term in the KV loss"),
    Flag("kv_weight", "loss.kv_weight", "weight of the KV loss: a number, or auto"),
    Flag("codi_weight", "loss.codi_weight", "weight of the hidden-state loss"),
    Flag("gamma_kl", "loss.attention_weight", "weight of the attention loss"),
    Flag("delta_ce", "loss.ce_student_weight", "weight of the student's cross-entropy"),
    Flag(
        "shuffle_kv",
        "target.control.kind",
        "negative control: another sample's cache, its slots in another order",
        "shuffled",
        "none",
    ),
    Flag(
        "save_steps",
        "training.save_steps",
        "also save every so many steps; 0 saves at the end of each epoch only",
    ),
    Flag("eval_steps", "training.eval_steps", "evaluate on the validation data every so many steps"),
    Flag("logging_steps", "training.logging_steps", "steps to a line of the log"),
    Flag("num_workers", "training.num_workers", "processes that prepare batches; at most one reads a stream"),
    Flag("trust_remote_code", "model.trust_remote_code", "run code that comes with a model", "true"),
    Flag("torch_dtype", "model.dtype", "type of the weights"),
    Flag("fp16", "training.precision", "mixed precision in float16 (GPU)", "fp16", "float32"),
    Flag("bf16", "training.precision", "mixed precision in bfloat16", "bf16", "float32"),
    Flag(
        "gradient_checkpointing",
        "training.gradient_checkpointing",
        "compute activations again instead of keeping them",
        "true",
    ),
    Flag("device_map", "model.device_map", "where the backbone is put: cpu, cuda:1, auto"),
    Flag("lora_r", "model.tuning.r", "rank of the adapters; 0 trains every weight"),
    Flag("seed", "training.seed", "seed of data order and weights"),
    Flag(
        "resume",
        "training.resume",
        "go on from the newest checkpoint in --output_dir, or begin where there is none",
        "true",
    ),
)
