"""The table of short flags: every promised name once, and no two flags that set the same value."""

from kvdistill.config.flag_table import FLAGS

PROMISED = """
--model_name --teacher_name
--dataset_name --dataset_config --dataset_split --train_file --streaming --subset_size --num_workers
--output_dir --epochs --batch_size --gradient_accumulation_steps --lr --max_length
--target_len --num_iterations --kv_method --kv_loss --kv_weight --codi_weight --shuffle_kv
--save_steps --logging_steps --trust_remote_code --torch_dtype --fp16 --bf16
--gradient_checkpointing --device_map --lora_r --seed --resume
"""


def test_every_flag_that_was_promised_is_there_once() -> None:
    names = [flag.name for flag in FLAGS]
    assert {word.removeprefix("--") for word in PROMISED.split()} <= set(names)
    assert len(names) == len(set(names))


def test_flags_of_one_option_set_different_values() -> None:
    settings = [(flag.option, flag.switch) for flag in FLAGS]
    assert len(settings) == len(set(settings))
    assert {flag.switch for flag in FLAGS if flag.option == "training.precision"} == {"fp16", "bf16"}
