#!/usr/bin/env python3
"""ClimbMix: web text in the proportions that a search for the best mixture found, 400 billion tokens, shuffled. A file is
about 90 MB, so say how many.

    dev/data/climbmix.py --files 20
"""
from fetch import from_parquet

from_parquet(__doc__, "climbmix", "karpathy/climbmix-400b-shuffle", {"400B": ""})
