#!/bin/bash
# full_size.sh TRAINER: the published sizes of other families, with random weights, in the memory that is planned. (make full-size; 24 GB, minutes)
#   SmolLM2 135M   trains in bf16 and resumes, bit for bit
#   Qwen3 0.6B     is written, loaded, evaluated, and trained for three steps
#   Llama 3.2 1B   is written, loaded and evaluated
set -euo pipefail
trainer=$1
dir=build/full_size
rm -rf "$dir" && mkdir -p "$dir"
trap 'rm -rf "$dir"' EXIT

# Shards of 32-bit tokens below the smallest vocabulary of them.
awk 'BEGIN { srand(1); printf "20240801 7 20000"; for (i = 3; i < 256; i++) printf " 0"; for (i = 0; i < 20000; i++) printf " %d", 49000 * rand() ^ 3; print "" }' |
    tr ' ' '\n' | perl -ne 'chomp; print pack("l<", $_)' > "$dir/tokens.bin"

# Runs the trainer; says what it planned and what it took, both in MiB. What it takes beyond the plan is the program.
run() {
    echo "-- $*"
    "$trainer" -s 0 -b 1 -t 128 --precision bf16 "$@" > "$dir/said" 2>&1 &
    local pid=$! peak=0 now
    while now=$(awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status" 2>/dev/null) && [ "$now" ]; do peak=$now; sleep 0.05; done
    wait "$pid" || { tail -3 "$dir/said"; exit 1; }
    local planned
    planned=$(awk '/^  total/ { sum += $2 } END { print int(sum) }' "$dir/said")
    grep -E "^model|^val|^step +[0-9]+/" "$dir/said"
    echo "planned $planned MiB, took $peak MiB"
    [ "$peak" -le $((planned + 64)) ] || { echo "more than the plan"; exit 1; }
}

for model in qwen3:0.6b llama3.2:1b; do
    run -e "$model" -j "$dir/tokens.bin" -m 1 -v 1 -x 0 -n 1 -o "$dir/$model"
    written=$(grep "^val" "$dir/said")
    run -e "$dir/$model/step_00000000" -j "$dir/tokens.bin" -m 1 -v 1 -x 0
    [ "$(grep "^val" "$dir/said")" = "$written" ] || { echo "loaded, it has another loss than $written"; exit 1; }
    if [ "$model" = qwen3:0.6b ]; then run -e "$dir/$model/step_00000000" -i "$dir/tokens.bin" -x 3 -n 0 -v 0; fi
    rm -rf "${dir:?}/$model"
done
smollm2="-e smollm2:135m -i $dir/tokens.bin -v 0 --async-save 0"
run $smollm2 -x 4 -n 2 -o "$dir/smollm2"
sum=$(sha256sum < "$dir/smollm2/step_00000004/model.safetensors")
rm -r "$dir/smollm2/step_00000004" "$dir/smollm2/DONE_00000004"
run $smollm2 -x 4 -n 2 -o "$dir/smollm2" -y 1
[ "$(sha256sum < "$dir/smollm2/step_00000004/model.safetensors")" = "$sum" ] || { echo "resumed, it has other bits"; exit 1; }
echo "full-size: the memory of each is as planned, losses and bits are those of what was saved"
