#!/usr/bin/env bash
# run_gpt2_1558M.sh: GPT-2 1558M on 34B tokens of FineWeb-Edu, one machine with 8 H100. By PLAN=H100, not measured:
#     32000 steps: 21:16:58, 329EFLOP, 33.6G tokens, $596 at 3.5 a GPU hour
# The environment may set BIN, DATA, OUT, RANKS and more: lib.sh.
set -u
DATA=${DATA:-dev/data/fineweb_edu}
OUT=${OUT:-log_gpt2_1558M}
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
need_data 'edu_fineweb_train_*.bin' 'dev/data/fineweb_edu.py --size 100B --tokenized'
train 32000 -e d48 --precision bf16 -i "$DATA/edu_fineweb_train_*.bin" -j "$DATA/edu_fineweb_val_*.bin" \
    -b 16 -t 1024 -d 1048576 -z 1 \
    -l 0.0006 -u 700 -k cosine -q 0.1 -c 0.1 \
    -v 250 -h "$hellaswag" -s 300000 -g 384 -n 2000 -nk 5 -nm 8000
