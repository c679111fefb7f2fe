#!/usr/bin/env python3
"""tinyshakespeare: 1.1 MB of plays, the last tenth held out. A first thing to train on: a minute on a laptop.

    dev/data/tinyshakespeare.py [--tokenizer bytes]
"""
import os
from fetch import *

SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
a = arguments(__doc__, "tinyshakespeare")
path = get(a, "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt", "tinyshakespeare.txt", SHA256)
text = open(path, encoding="utf-8", newline="").read()
cut = text.rindex("\n\n", 0, len(text) * 9 // 10) + 2  # between two speeches
for name, part in (("train", text[:cut]), ("val", text[cut:])):
    with open(f"{a.out}/{name}.txt", "w", encoding="utf-8", newline="") as f: f.write(part)
    tokenize(a, [f"{a.out}/{name}.txt"], f"{a.out}/{name}")
next_step(f"{a.out}/train/train_*.bin", f"{a.out}/val/train_*.bin", f"{a.out}/train/tokenizer.json", "-e d6")
