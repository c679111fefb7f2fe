#!/usr/bin/env python3
"""MMLU (Hendrycks et al. 2021): 14042 questions of 57 subjects, four choices each, and a few solved ones of each subject. For
evaluation, not for training.

    dev/data/mmlu.py
"""
import os
from fetch import *

COLUMNS = ("question", "subject", "choices", "answer")
EXPECTED = {"test": 14042, "validation": 1531, "dev": 285}
a = arguments(__doc__, "mmlu", texts=False)
for part, expected in EXPECTED.items():
    name = f"all/{part}-00000-of-00001.parquet"
    path = get(a, hub("cais/mmlu", name), name)
    number = 0
    for number, row in enumerate(rows(path, list(COLUMNS)), 1):
        if len(row["choices"]) != 4 or row["answer"] not in range(4): die(f"{path}: row {number}: expected four choices and an answer from 0 to 3")
    if number == 0 or (not a.source and number != expected): die(f"{path}: {number} questions, expected {expected}: remove it and run the same again")
    out = to_jsonl(a, path, COLUMNS, f"mmlu_{part}.jsonl")
    os.replace(out, f"{a.out}/mmlu_{part}.jsonl")
    print(f"{a.out}/mmlu_{part}.jsonl: {number} questions")
print(f"next: ./train_gpt2 -e CHECKPOINT -x 0 --eval mmlu={a.out}/mmlu_test.jsonl")
