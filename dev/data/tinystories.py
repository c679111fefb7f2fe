#!/usr/bin/env python3
"""TinyStories (Eldan and Li 2023): 2.2 GB of short stories in the words of a small child, with a part for validation.

    dev/data/tinystories.py [--tokenizer data/gpt2]
"""
from fetch import *

a = arguments(__doc__, "tinystories")
for part, file in (("train", "TinyStoriesV2-GPT4-train.txt"), ("val", "TinyStoriesV2-GPT4-valid.txt")):
    path = get(a, hub("roneneldan/TinyStories", file))
    if not any("<|endoftext|>" in line for line, _ in zip(open(path, encoding="utf-8", errors="replace"), range(10000))):
        die(f"{path}: no <|endoftext|> between stories in its first 10000 lines: not the file it should be")
    tokenize(a, [path], f"{a.out}/{part}")
next_step(f"{a.out}/train/train_*.bin", f"{a.out}/val/train_*.bin", f"{a.out}/train/tokenizer.json", "-e d6 --bos-align 1")
