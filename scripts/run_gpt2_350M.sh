#!/usr/bin/env bash
# run_gpt2_350M.sh: GPT-2 350M on 31B tokens of FineWeb, one machine with 8 H100. By PLAN=H100, not measured:
#     60000 steps: 5:14:14, 71.5EFLOP, 31.5G tokens, $147 at 3.5 a GPU hour
# The environment may set BIN, DATA, OUT, RANKS and more: lib.sh.
set -u
DATA=${DATA:-dev/data/fineweb}
OUT=${OUT:-log_gpt2_350M}
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
need_data 'fineweb_train_*.bin' 'dev/data/fineweb.py --size 100B --tokenized'
train 60000 -e d24 --precision bf16 -i "$DATA/fineweb_train_*.bin" -j "$DATA/fineweb_val_*.bin" \
    -b 64 -t 1024 -d 524288 -z 1 \
    -l 0.0003 -u 700 -k cosine -q 0.0 -c 0.1 \
    -v 250 -h "$hellaswag" -s 100000 -g 144 -n 2000 -nk 5 -nm 20000
