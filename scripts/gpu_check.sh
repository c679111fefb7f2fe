#!/usr/bin/env bash
# gpu_check.sh: does the CUDA trainer do on this GPU what it does in the emulator, and how fast? One command, about 10 minutes
# on a data-centre GPU; needs make, a C++ compiler, nvcc and cuBLAS, and for the comparison PyTorch; downloads nothing and changes no
# setting of the card. `make bench-gpu` measures longer and more.
#     scripts/gpu_check.sh [part of a step's name]
# Prints a table and writes dev/bench/results/GPU-check.json. A step that fails does not hide the next; the exit code says whether all
# passed. NVCC, CUDA_INCLUDE and CUDA_LIB tell where a toolkit lies that is not in its usual place. DRY=1 goes through the same
# steps with the emulated build and tiny sizes: a test of this script on a machine without a GPU.
# shellcheck disable=SC2317,SC2086,SC2089,SC2090  # functions are called by name; no path here has a blank; the quotes are JSON's
set -uo pipefail
cd "$(dirname "$0")/.." || exit
ONLY=${1:-} DRY=${DRY:-0} WORK=build/gpu_check
rm -rf $WORK; mkdir -p $WORK dev/bench/results
names=() verdicts=() notes=()

# step NAME SECONDS FUNCTION: runs it under a limit of time, shows its last lines if it fails, and goes on.
# A function returns 0, or 77 for "cannot be done here"; the last line that it prints goes into the table.
step() {
    local name=$1 limit=$2 function=$3 begin rc verdict
    [[ $name == *$ONLY* ]] || return 0
    begin=$SECONDS
    printf '== %s\n' "$name"
    export -f "${function?}"
    timeout "$limit" bash -c "set -uo pipefail; $function" > "$WORK/$name.log" 2>&1
    rc=$?
    case $rc in
        0) verdict=PASS ;;
        77) verdict=SKIP ;;
        124) verdict=FAIL; echo "ran past $limit s" >> "$WORK/$name.log" ;;
        *) verdict=FAIL ;;
    esac
    [[ $verdict == FAIL ]] && tail -n 25 "$WORK/$name.log"
    names+=("$name") verdicts+=("$verdict")
    notes+=("$(printf '%4d s  %s' $((SECONDS - begin)) "$(tail -n 1 "$WORK/$name.log" | cut -c1-110)")")
}

query() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits 2>/dev/null | head -n 1; }
if ((DRY)); then
    GPU_NAME="emulated GPU" DRIVER=none TRAINER=build/emu-plain/train_gpt2cu TESTS=build/emu-plain/tests
else
    command -v nvidia-smi > /dev/null || { echo "gpu_check: no nvidia-smi: no NVIDIA driver here; DRY=1 tries the script without one"; exit 1; }
    GPU_NAME=$(query name) DRIVER=$(query driver_version) TRAINER=./train_gpt2cu TESTS=build/gpu/tests
    [[ -n $GPU_NAME ]] || { echo "gpu_check: nvidia-smi names no GPU"; exit 1; }
fi
export DRY WORK GPU_NAME DRIVER TRAINER TESTS
NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
CUDA_VERSION=$("$NVCC" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
CLOCKS=$(query clocks.max.sm) POWER=$(query power.limit)
BENCH_FIELDS="\"driver\": \"$DRIVER\", \"cuda\": \"$CUDA_VERSION\", \"max_sm_mhz\": \"$CLOCKS\", \"power_limit_w\": \"$POWER\", "
export NVCC BENCH_FIELDS
echo "$GPU_NAME, driver $DRIVER, CUDA $CUDA_VERSION, at most $CLOCKS MHz and $POWER W"

build() {
    if ((DRY)); then make -j2 train_gpt2 emu-build build/stories build/bench_steps; else make -j8 train_gpt2 train_gpt2cu build/gpu/tests build/gpu/bench_layers build/stories build/bench_steps; fi &&
    echo "built"
}
tests() { EMU_SCHEDULES=2 $TESTS "$( ((DRY)) && echo test_gelu)"; }

# memcheck sees the edges of every row because each is an allocation of its own
sanitize() {
    command -v compute-sanitizer > /dev/null || { echo "no compute-sanitizer here"; return 77; }
    compute-sanitizer --tool "$TOOL" true > /dev/null 2>&1 || true
    local tests=(test_gelu test_verdict test_classifier.cuda_classifier_extremes test_layernorm.cuda_layernorm_backward_in_place test_matmul.cuda_matmul_odd
        test_attention.attention_of_both test_adamw test_global_norm.cuda_global_norm_passes test_embedding.cuda_embedding_forward)
    for test in "${tests[@]}"; do
        timeout 60 compute-sanitizer --tool "$TOOL" --error-exitcode 9 $TESTS "$test" > "$WORK/sanitizer.log" 2>&1
        case $? in
            0) ;;
            124) echo "$test: past 60 s, left out" ;;
            *) tail -n 20 "$WORK/sanitizer.log"; echo "$TOOL: $test"; return 1 ;;
        esac
    done
    [[ $TOOL != memcheck ]] || compute-sanitizer --tool memcheck --error-exitcode 9 $TRAINER -i $WORK/text.txt -e d2c64h1 -b 2 -t 64 -x 2 -v 0 -s 0 -n 0 \
        -o $WORK/memcheck --precision bf16 --separate-rows 1 || return 1
    echo "$TOOL: nothing found"
}

text() { [[ -s $WORK/text.txt ]] || build/stories --bytes 400k --seed 7 -o $WORK/text.txt > /dev/null; }

deterministic() {
    local repeats=10 steps=3 first=""
    ((DRY)) && repeats=2 steps=1
    for ((i = 0; i < repeats; i++)); do
        rm -rf $WORK/same
        $TRAINER -i $WORK/text.txt -e d4 -b 4 -t 128 -x $steps -v 0 -s 0 -n $steps -o $WORK/same --precision bf16 > /dev/null || return 1
        sum=$(cat $WORK/same/step_*/*.safetensors | sha256sum)
        [[ -z $first || $sum == "$first" ]] || { echo "run $i has other bits"; return 1; }
        first=$sum
    done
    echo "$repeats runs of $steps steps: the same bits"
}

# The same options on the CPU: losses of metrics.jsonl side by side. In fp32 without TF32 the two differ by the order of sums only,
# and training makes more of it with each step: 1e-5 of the loss for the first 10 steps, 1e-2 to the end; bf16 rounds each stored
# number to 2^-9: 2^-8 and 2e-2.
losses() {
    local steps=200 model=d4c128h4
    ((DRY)) && steps=5 model=d1c64h1
    for precision in fp32 bf16; do
        for trainer in ./train_gpt2 $TRAINER; do
            rm -rf "$WORK/losses"
            $trainer -i $WORK/text.txt -e $model -b 8 -t 64 -x $steps -v 0 -s 0 -n 0 -o $WORK/losses --precision $precision --tf32 0 -l 1e-3 > /dev/null || return 1
            sed -n 's/.*"loss": \([0-9.]*\), "lr".*/\1/p' $WORK/losses/metrics.jsonl > "$WORK/$(basename "$trainer").$precision"
        done
        paste $WORK/train_gpt2.$precision "$WORK/$(basename "$TRAINER").$precision" | awk -v p=$precision -v n=$steps '
            { d = ($1 - $2) / $1; if (d < 0) d = -d; early = p == "fp32" ? 1e-5 : 0.00390625; late = p == "fp32" ? 1e-2 : 2e-2
              if (d > worst) worst = d; if (d > (NR <= 10 ? early : late)) { print "step " NR ": " $1 " on the CPU, " $2 " here"; bad = 1 } }
            END { if (NR != n) { print NR " losses, expected " n; bad = 1 }; printf "%s: %d steps, losses differ by at most %.2g\n", p, NR, worst; exit bad }' || return 1
    done
}

layers() { if ((DRY)); then echo "not emulated: sizes of 124M"; return 77; else build/gpu/bench_layers $WORK/lines.jsonl 32 1024 0.15; fi; }
steps() { if ((DRY)); then echo "not emulated: sizes of 124M to 1558M"; return 77; else build/bench_steps $WORK/lines.jsonl $TRAINER; fi; }

# 124M beside PyTorch, two short windows in turn
beside_pytorch() {
    python3 -c "import torch" 2> /dev/null || { echo "no PyTorch for python3: the step before measures ours alone"; return 77; }
    local options=(--models d12 --batch 32 --window 5 --limit 120)
    ((DRY)) && options=()
    python3 dev/bench/gpu.py --short --no-kernels "${options[@]}" --out $WORK/beside.json || return 1
    sed -n 's/^\({.*}\),*$/\1/p' $WORK/beside.json >> $WORK/lines.jsonl
}

step build 240 build
text
step tests 200 tests
for TOOL in memcheck racecheck synccheck initcheck; do export TOOL; step "compute-sanitizer-$TOOL" 120 sanitize; done
step determinism 60 deterministic
step losses 120 losses
# what the card did meanwhile
((DRY)) || { nvidia-smi --query-gpu=clocks.sm,power.draw,temperature.gpu --format=csv,noheader,nounits -l 2 > $WORK/clocks.csv 2>/dev/null & sampler=$!; }
step layers 90 layers
step steps 240 steps
step beside_pytorch 300 beside_pytorch
((DRY)) || kill "$sampler" 2>/dev/null

if [[ -s $WORK/lines.jsonl ]]; then
    out=$( ((DRY)) && echo $WORK || echo dev/bench/results)/$(printf '%s' "$GPU_NAME" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-')-check.json
    [[ -s $WORK/clocks.csv ]] && awk -F', ' '$2 > m { m = $2; c = $1; t = $3 } END { printf "{\"machine\": \"%s\", \"at_most_power\": {\"w\": %s, \"sm_mhz\": %s, \"celsius\": %s}}\n", name, m, c, t }' \
        name="$GPU_NAME" $WORK/clocks.csv >> $WORK/lines.jsonl
    { echo "["; sed '$!s/$/,/' $WORK/lines.jsonl; echo "]"; } > "$out"
    echo "written: $out"
    grep -hs "tokens/s\|GB/s" $WORK/steps.log $WORK/layers.log $WORK/beside_pytorch.log
fi
echo
failed=0
for i in "${!names[@]}"; do
    printf '%-30s %-5s %s\n' "${names[$i]}" "${verdicts[$i]}" "${notes[$i]}"
    [[ ${verdicts[$i]} == FAIL ]] && failed=1
done
exit $failed
