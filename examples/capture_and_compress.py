"""Shorten the cache of a causal language model with R-KV, and let the model continue from it.

python examples/capture_and_compress.py Qwen/Qwen2.5-0.5B-Instruct "Ann has 3 apples, buys 4, and now has"
"""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kvdistill import RKV, kv_from_cache, kv_to_cache

name, text = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(name).eval()
tokenizer = AutoTokenizer.from_pretrained(name)
ids = tokenizer(text, return_tensors="pt")["input_ids"]
read, last = ids[:, :-1], ids[:, -1:]
position = torch.tensor([[read.shape[1]]])

with torch.no_grad():
    cache = model(read).past_key_values
    kv = kv_from_cache(cache, model, last_ids=read[:, -4:])  # importance: what the last four tokens attend to
    kv = RKV().compress(kv, slots=read.shape[1] // 2)
    short = kv_to_cache(kv, model)
    for slots in (short, cache):
        count = slots.get_seq_length()
        logits = model(last, past_key_values=slots, position_ids=position).logits[0, -1]
        print(f"{count} slots, next token: {tokenizer.decode(logits.argmax())!r}")
