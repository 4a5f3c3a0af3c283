"""The table of short flags: every promised name once, and no two flags that set the same value."""

from kvdistill.config.flag_table import FLAGS

PROMISED = """
--model_name --teacher_name
--dataset_name --dataset_config --dataset_split --train_file --streaming --subset_size --num_workers
--output_dir --epochs --batch_size --gradient_accumulation_steps --lr --max_length
--target_len --num_iterations --kv_method --kv_loss --kv_weight --codi_weight --shuffle_kv
--save_steps --logging_steps --trust_remote_code --torch_dtype --fp16 --bf16
--gradient_checkpointing --device_map --lora_r --seed --resume
--student_model --teacher_models --teacher_weights --layer_mapping_strategy
--rope_scaling_method --rope_scaling_factor --kv_loss_type --lambda_k --lambda_v --beta_cos
--gamma_kl --delta_ce
--fusion_method --fixed_weights --router_type --entropy_reg_strength --entropy_target --competence
--max_samples --num_train_epochs --per_device_train_batch_size --learning_rate --warmup_steps --kv_compression
"""


def test_every_flag_that_was_promised_is_there_once() -> None:
    names = [name for flag in FLAGS for name in (flag.name, *flag.aliases)]
    assert {word.removeprefix("--") for word in PROMISED.split()} <= set(names)
    assert len(names) == len(set(names))


def test_flags_of_one_option_set_different_values() -> None:
    settings = [(flag.option, flag.switch, flag.several) for flag in FLAGS]
    assert len(settings) == len(set(settings))
    assert {flag.switch for flag in FLAGS if flag.option == "training.precision"} == {"fp16", "bf16"}
