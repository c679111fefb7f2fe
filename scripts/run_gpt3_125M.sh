#!/usr/bin/env bash
# run_gpt3_125M.sh: GPT-3 125M (context 2048) on 300B tokens of FineWeb, 100B three times, one machine with 8 H100. By PLAN=H100, not measured:
#     572204 steps: 22:08:02, 256EFLOP, 300G tokens, $620 at 3.5 a GPU hour
# The environment may set BIN, DATA, OUT, RANKS and more: lib.sh.
set -u
DATA=${DATA:-dev/data/fineweb}
OUT=${OUT:-log_gpt3_125M}
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
need_data 'fineweb_train_*.bin' 'dev/data/fineweb.py --size 100B --tokenized'
train 572204 -e gpt3:c768 --precision bf16 -i "$DATA/fineweb_train_*.bin" -j "$DATA/fineweb_val_*.bin" \
    -b 32 -t 2048 -d 524288 -z 1 -sl 7.0 -sg 7.0 \
    -l 0.0006 -u 700 -k cosine -q 0.1 -c 0.1 \
    -v 250 -h "$hellaswag" -s 20000 -g 144 -n 10000 -nk 5 -nm 50000
