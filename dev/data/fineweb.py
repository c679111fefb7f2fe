#!/usr/bin/env python3
"""FineWeb: the samples of 10 and of 100 billion tokens of English web text. Text and shards of the small one take 80 GB of disk;
--tokenized fetches 20 GB of shards instead.

    dev/data/fineweb.py --size 10B [--files 1]         from the text, with any tokenizer
    dev/data/fineweb.py --size 10B --tokenized         shards for GPT-2's tokenizer
"""
from fetch import from_parquet

from_parquet(__doc__, "fineweb", "HuggingFaceFW/fineweb", {"10B": "sample/10BT", "100B": "sample/100BT"},
             {"10B": ("kjj0/fineweb10B-gpt2", "fineweb_{}_{:06d}.bin", 103), "100B": ("kjj0/fineweb100B-gpt2", "fineweb_{}_{:06d}.bin", 1030)})
