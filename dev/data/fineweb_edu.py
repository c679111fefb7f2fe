#!/usr/bin/env python3
"""FineWeb-Edu: the samples of 10 and of 100 billion tokens of the web text that a classifier called educational.

    dev/data/fineweb_edu.py --size 10B [--files 1]                  from the text, with any tokenizer
    dev/data/fineweb_edu.py --size 100B --tokenized [--files 100]   shards for GPT-2's tokenizer, 100M tokens each
"""
from fetch import from_parquet

SHARDS = ("karpathy/fineweb-edu-100B-gpt2-token-shards", "edu_fineweb_{}_{:06d}.bin")
from_parquet(__doc__, "fineweb_edu", "HuggingFaceFW/fineweb-edu", {"10B": "sample/10BT", "100B": "sample/100BT"},
             {"10B": (*SHARDS, 99), "100B": (*SHARDS, 1001)})
