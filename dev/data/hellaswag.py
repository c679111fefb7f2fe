#!/usr/bin/env python3
"""HellaSwag (Zellers et al. 2019): 10042 beginnings, four endings each, one of them right. For evaluation, not for training.

    dev/data/hellaswag.py
"""
import json, shutil
from fetch import *

a = arguments(__doc__, "hellaswag", texts=False)
path = get(a, "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl")
number = 0
for number, line in enumerate(open(path, encoding="utf-8"), 1):
    try: row = json.loads(line)
    except ValueError as e: die(f"{path}: line {number}: {e}")
    good = isinstance(row, dict) and isinstance(row.get("ctx"), str) and isinstance(row.get("endings"), list) and len(row["endings"]) == 4
    if not good or row.get("label") not in range(4): die(f"{path}: line {number}: expected ctx, four endings and a label from 0 to 3")
if not a.source and number != 10042: die(f"{path}: {number} questions, expected 10042: remove it and run the same again")
if number == 0: die(f"{path}: no questions in it")
if a.source: shutil.copyfile(path, f"{a.out}/hellaswag_val.jsonl")
print(f"{a.out}/hellaswag_val.jsonl: {number} questions")
print(f"next: ./train_gpt2 -e CHECKPOINT -x 0 --eval hellaswag={a.out}/hellaswag_val.jsonl")
