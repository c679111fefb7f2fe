#!/usr/bin/env bash
# run_modern_124M.sh: a modern model of GPT-2 124M's depth and width (162M with its own head) on 1.7B tokens of FineWeb, for which GPT-2's recipe takes 10B: the
# steps and tokens with which modded-nanogpt's optimizer track reaches a validation loss of 3.28 by Muon (result 36); whether this does has not been seen.
# One machine with 8 H100, then one H100. By PLAN=H100 and PLAN_GPUS=1, not measured:
#     3250 steps: 7:27, 1.36EFLOP, 1.70G tokens, $3 at 3.5 a GPU hour
#     3250 steps: 59:05, 1.36EFLOP, 1.70G tokens, $3 at 3.5 a GPU hour
# The environment may set BIN, DATA, OUT, RANKS and more: lib.sh.
set -u
DATA=${DATA:-dev/data/fineweb}
OUT=${OUT:-log_modern_124M}
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
need_data 'fineweb_train_*.bin' 'dev/data/fineweb.py --size 10B --tokenized'
train 3250 -e modern:d12 --precision bf16 -i "$DATA/fineweb_train_*.bin" -j "$DATA/fineweb_val_*.bin" \
    -b 64 -t 1024 -d 524288 -z 1 \
    --recipe modern \
    -v 125 -h "$hellaswag" -s 20000 -g 144 -n 1000
