#!/usr/bin/env bash
# bits.sh TRAINER...: the sha256 of what a fixed run of 20 steps leaves, checkpoint and metrics without times, for fp32 and bf16 and each level
# of recomputation. A change that moves code and nothing else leaves every line of it. (make bits)
set -euo pipefail
cd "$(dirname "$0")/.."
work=build/bits
rm -rf $work; mkdir -p $work
build/stories --bytes 60k --seed 7 -o $work/text.txt > /dev/null
for trainer; do
    for precision in fp32 bf16; do
        for recompute in 0 1 2 3; do
            rm -rf $work/run
            "$trainer" -i $work/text.txt -o $work/run -e d2c48h3 -b 2 -t 24 -d 96 -v 10 -m 2 -s 0 -x 20 -n 20 -l 3e-3 -u 2 --cache $work/cache \
                --precision $precision -r $recompute > $work/log.txt 2>&1 || { cat $work/log.txt; exit 1; }
            sed -E 's/, "(ms|tokens_per_s|flops_per_s|mfu)": [^,}]*//g; 1d' $work/run/metrics.jsonl > $work/run/step_00000020/metrics
            printf '%-12s %s -r %d  %s\n' "$(basename "$trainer")" $precision $recompute \
                "$(cd $work/run/step_00000020 && cat config.json metrics model.safetensors state-*.safetensors tokenizer.json ../main.log | sha256sum | cut -c1-32)"
        done
    done
done
