#!/usr/bin/env bash
# gpu_check.sh: does the CUDA trainer do on this GPU what it does in the emulator, and how fast? From the smallest thing to the largest, so
# that the first failure names its cause. JOBS=4 files of tests run at a time. Needs make, a C++ compiler, nvcc and cuBLAS, and for the comparison PyTorch; downloads
# nothing, changes no setting of the card and leaves ~/.cache/llmc alone. `make bench-gpu` measures longer and more.
#     scripts/gpu_check.sh --first        the first five minutes on an unknown GPU
#     scripts/gpu_check.sh                these and the rest: about half an hour on a data-centre GPU
#     scripts/gpu_check.sh [--first] PART the steps whose names have PART in them; each takes less than ten minutes there
# A line for each test, kind of product and plan of attention, PASS, FAIL or SKIP, with what cuBLASLt and cuDNN wrote into their error logs;
# no failure hides the next. Ends, and ends when interrupted, with a table, and an exit code that says whether all passed. Everything
# is kept in build/gpu_check, measurements also in dev/bench/results/GPU-check.json; OUT=FOLDER: a copy of both. NVCC, CUDA_INCLUDE
# and CUDA_LIB tell where a toolkit lies that is not in its usual place. BUILT=1: nothing is built here; a copy of a tree in which `make gpu-programs` was
# called, say with ARCH=90 MPI=0 NATIVE=-march=x86-64-v3, and LD_LIBRARY_PATH for the libraries. DRY=1 goes through the same steps with the emulated build
# and tiny sizes: a test of this script on a machine without a GPU.
# shellcheck disable=SC2317,SC2086,SC2089,SC2090  # functions are called by name; no path here has a blank; the quotes are JSON's
set -uo pipefail
cd "$(dirname "$0")/.." || exit
FIRST=0
[[ ${1:-} == --first ]] && { FIRST=1; shift; }
ONLY=${1:-} DRY=${DRY:-0} BUILT=${BUILT:-0} WORK=build/gpu_check OUT=${OUT:-}
[[ $ONLY ]] || rm -rf $WORK
mkdir -p $WORK/logs $WORK/data
names=() verdicts=() notes=() child=0 running='' began=0

# step NAME SECONDS FUNCTION: runs it under a limit of time, shows its last lines if it fails, and goes on.
# A function returns 0, or 77 for "cannot be done here"; the last line that it prints goes into the table; what it shows is seen at once.
step() {
    local name=$1 limit=$2 function=$3 rc verdict
    [[ $name == *$ONLY* ]] || return 0
    printf '== %s\n' "$name"
    rm -f $WORK/$name.* $WORK/logs/$name.*
    export NAME=$name
    libraries $name
    running=$name began=$SECONDS
    timeout -k 10 "$limit" bash -c "set -uo pipefail; trap 'kill \$(jobs -p); exit 143' TERM; $function" 3>&1 > $WORK/$name.log 2>&1 &
    child=$!
    wait $child
    rc=$?
    case $rc in
        0) verdict=PASS ;;
        77) verdict=SKIP ;;
        124 | 137) verdict=FAIL; echo "ran past $limit s" >> $WORK/$name.log ;;
        *) verdict=FAIL ;;
    esac
    [[ $verdict == FAIL ]] && tail -n 25 $WORK/$name.log
    words $name
    ended $verdict "$(tail -n 1 $WORK/$name.log | cut -c1-110)"
}
ended() {
    names+=("$running") verdicts+=("$1")
    notes+=("$(printf '%4d s  %s' $((SECONDS - began)) "$2")")
    running=''
    keep > /dev/null
}

# The libraries write their errors where NAME's words are looked for; %i is the process
libraries() {
    export CUBLASLT_LOG_LEVEL=1 CUBLASLT_LOG_FILE=$PWD/$WORK/logs/$1.%i.cublaslt CUDNN_LOGLEVEL_DBG=1 CUDNN_LOGDEST_DBG=$PWD/$WORK/logs/$1.%i.cudnn
}
# What the libraries said while NAME ran, each sentence once
words() {
    find $WORK/logs -name "$1.*" -empty -delete
    cat $WORK/logs/$1.*.{cublaslt,cudnn} 2> /dev/null | sed -E 's/^(\[[^]]*\]){3}/cuBLASLt: /; s/^[Ee]!/cuDNN:/; /^$|cuDNN: (Time:|Process=)/d' |
        awk '!seen[$0]++ && ++n <= 8 { print "      " $0 }'
}
# at once, so that lines of several tests do not mix
show() { local text; text=$(cat) && printf '%s\n' "$text" && printf '%s\n' "$text" >&3; }

# one NAME COMMAND...: a line, and of a failure its last words and the libraries'. In a process of its own: a CUDA error stays until its
# process ends, and a crash ends one.
one() {
    local name=$1 begin=$SECONDS verdict why='' rc
    shift
    libraries $name
    timeout -k 10 ${LIMIT:-300} "$@" > $WORK/logs/$name.log 2>&1 &
    wait $!  # in the background, so that a signal meanwhile is taken at once and handed on
    rc=$?
    case $rc in
        0) verdict=PASS ;;
        77) verdict=SKIP why=$(tail -n 2 $WORK/logs/$name.log | head -n 1) ;;
        124 | 137) verdict=${LATE:-FAIL} why="ran past ${LIMIT:-300} s" ;;
        *) verdict=FAIL why="exit code $rc$( ((rc > 128)) && echo ", $(kill -l $((rc - 128)))")" ;;
    esac
    {
        printf '%s  %-52s %4d s  %s\n' $verdict $name $((SECONDS - begin)) "$why"
        [[ $verdict == FAIL ]] && tail -n 12 $WORK/logs/$name.log | sed 's/^/      /'
        words $name
    } | show
    [[ $verdict != FAIL ]]
}
# each_test PATTERN [-v]: the tests whose names match, or do not; JOBS files of them at a time, as the tests of one file share a folder
each_test() {
    local all file tests
    all=$($TESTS --list | grep -E ${2:-} "$1") || { echo "$TESTS has no test of $1: scripts/gpu_check.sh build"; return 1; }
    : > $WORK/$NAME.failed
    for file in $(cut -d . -f 1 <<< "$all" | uniq); do
        while (($(jobs -pr | wc -l) >= JOBS)); do wait -n; done
        mapfile -t tests < <(grep "^$file\." <<< "$all")
        in_turn "${tests[@]}" &
    done
    wait
    echo "$(wc -w <<< "$all") tests, $(wc -l < $WORK/$NAME.failed) failed"
    [[ ! -s $WORK/$NAME.failed ]]
}
in_turn() {
    trap 'kill $(jobs -p); exit 143' TERM
    for test in "$@"; do one $test $TESTS --only $test || echo $test >> $WORK/$NAME.failed; done
}
# A program that prints its own lines
program() {
    [[ -x $1 ]] || { echo "$1 is not there: see build.log"; return 77; }
    "$@" 2>&1 | while IFS= read -r line; do
        printf '%s\n' "$line"
        [[ $line =~ ^\ *(PASS|FAIL|SKIP|ok|FAILED|skipped) ]] && printf '%s\n' "$line" >&3
    done
    return ${PIPESTATUS[0]}
}

query() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits 2> /dev/null | head -n 1; }
if ((DRY)); then
    GPU_NAME="emulated GPU" DRIVER=none CLOCKS='' POWER=''
    TRAINER=build/emu-plain/train_gpt2cu TESTS=build/emu-plain/tests PRODUCTS=build/emu-plain/products PLANS=build/emu-plain/plans
else
    command -v nvidia-smi > /dev/null || { echo "gpu_check: no nvidia-smi: no NVIDIA driver here; DRY=1 tries the script without one"; exit 1; }
    [[ $(nvidia-smi -L 2>&1) == GPU* ]] || { echo "gpu_check: nvidia-smi names no GPU: $(nvidia-smi -L 2>&1)"; exit 1; }
    GPU_NAME=$(query name) DRIVER=$(query driver_version) CLOCKS=$(query clocks.max.sm) POWER=$(query power.limit)
    TRAINER=./train_gpt2cu TESTS=build/gpu/tests PRODUCTS=build/gpu/products PLANS=build/cudnn/plans
fi
NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
CUDA_VERSION=$("$NVCC" --version 2> /dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
# the toolkit's own, beside nvcc, before any other
beside=$(dirname "$(readlink -f "$NVCC")")
SANITIZER=$(command -v $beside/compute-sanitizer $beside/../compute-sanitizer/compute-sanitizer compute-sanitizer | head -n 1)
BENCH_FIELDS="\"driver\": \"$DRIVER\", \"cuda\": \"$CUDA_VERSION\", \"max_sm_mhz\": \"$CLOCKS\", \"power_limit_w\": \"$POWER\", "
export JOBS=${JOBS:-4} DRY BUILT WORK GPU_NAME DRIVER TRAINER TESTS PRODUCTS PLANS NVCC SANITIZER BENCH_FIELDS EMU_SCHEDULES=2
echo "$GPU_NAME, driver $DRIVER, CUDA $CUDA_VERSION, at most $CLOCKS MHz and $POWER W" | tee $WORK/machine.txt

build() {
    local without=''
    if ((DRY)); then
        make -j2 train_gpt2 emu-build build/stories build/bench_steps || return 1
    else
        make -j"$(nproc)" train_gpt2 train_gpt2cu build/gpu/tests build/gpu/bench_layers build/stories build/bench_steps || return 1
        for p in $PRODUCTS $PLANS; do make $p || without="$without $p"; done
    fi
    echo "built${without:+, without$without}"
}

ptx() { each_test test_ptx; }
matmul() { each_test "$( ((DRY)) && echo 'test_matmul.cuda_(matmul_odd|sum_columns)' || echo test_matmul)"; }
attention() { each_test "$( ((DRY)) && echo 'test_attention.(attention_of_both|starts)' || echo test_attention)"; }
kernels() { if ((DRY)); then each_test test_gelu; else each_test 'test_(ptx|matmul|attention|train|nccl)' -v; fi; }
# Ranks by NCCL: on one GPU a world of one, its window, its deadline and its abort; on several the bits of exchanges, graphs, deaths and hangs. Each test skips what
# needs more GPUs than are here. What NCCL finds wrong it says on stdout. One at a time, as deadlines are asked for.
nccl() { JOBS=1 NCCL_DEBUG=${NCCL_DEBUG:-WARN} each_test "$( ((DRY)) && echo 'test_nccl_transport.(exchange|deadline_alone|death)' || echo test_nccl_transport)"; }
# it starts trainers 42 times, those of the CPU too
train_tests() { LIMIT=500 each_test "$( ((DRY)) && echo test_train.refusals || echo test_train)"; }
products() { program $PRODUCTS; }
plans() { program $PLANS --here; }

text() { [[ -s $WORK/data/text.txt ]] || build/stories --bytes 400k --seed 7 -o $WORK/data/text.txt > /dev/null; }
# What was fastest is measured once, by the first run, and kept here
train() { $TRAINER --cache $WORK/cache -v 0 -s 0 "$@"; }

three_steps() {
    local size=(-e d2c128h2 -b 2 -t 128)
    ((DRY)) && size=(-e d1c64h1 -b 1 -t 32)
    text && rm -rf $WORK/three && train -i $WORK/data/text.txt "${size[@]}" -x 3 -n 0 -o $WORK/three "$@"
}
plain() { three_steps --precision fp32 --pdl 0 --attention ours && three_steps --precision bf16 --pdl 0 --attention ours; }
early_launch() { three_steps --precision fp32 --pdl 1 --attention ours && three_steps --precision bf16 --pdl 1 --attention ours; }
cudnn() {
    three_steps --precision bf16 --pdl 1 --attention cudnn 2>&1 | tee $WORK/cudnn.out
    local rc=${PIPESTATUS[0]}
    grep -q "built without cuDNN" $WORK/cudnn.out && return 77
    return $rc
}

# same_bits RUNS STEPS OPTIONS: of weights, moments and master weights
same_bits() {
    local runs=$1 steps=$2 first='' sum
    shift 2
    for ((i = 1; i <= runs; i++)); do
        rm -rf $WORK/same
        train -x $steps -n $steps -o $WORK/same --precision bf16 "$@" || return 1
        sum=$(cat $WORK/same/step_*/*.safetensors | sha256sum)
        [[ -z $first || $sum == "$first" ]] || { echo "run $i is not bitwise identical"; return 1; }
        first=$sum
    done
    rm -rf $WORK/same
    echo "$runs runs of $steps steps: bitwise identical"
}
# all of GPT-2's vocabulary, as the products of the logits are
twice() {
    build/bench_steps --tokens $WORK/data/tokens.bin || return 1
    if ((DRY)); then same_bits 2 2 -i $WORK/data/tokens.bin -e d1c64h1 -b 1 -t 16; else same_bits 2 5 -i $WORK/data/tokens.bin -e d12 -b 8 -t 1024; fi
}
deterministic() {
    text || return 1
    if ((DRY)); then same_bits 2 1 -i $WORK/data/text.txt -e d4 -b 4 -t 128; else same_bits 10 3 -i $WORK/data/text.txt -e d4 -b 4 -t 128; fi
}

# The files in which the trainer keeps what was fastest, in words
chosen() {
    local files
    files=$(ls $WORK/cache/*.txt 2> /dev/null) || { echo "no run has chosen anything"; return 77; }
    awk '
        BEGIN { split("1:none 4:bias 32:GELU 36:GELU+bias 160:GELU+aux 164:GELU+aux+bias 192:dGELU 208:dGELU+dbias 256:dbias_A 512:dbias_B", list, " ")
                for (i in list) { split(list[i], e, ":"); epilogue[e[1]] = e[2] }
                type[0] = "fp32"; type[14] = "bf16" }
        FILENAME ~ /cublaslt/ && NF == 11 {
            printf "product (%s, %s) x (%s, %s) %s%s %s to %s%s, epilogue %s, alignment %s: %s\n", $1, $3, $3, $2, $4 ? "T" : "N", $5 ? "T" : "N", type[$6], type[$7],
                $9 && $6 == 0 ? " in TF32" : "", $8 in epilogue ? epilogue[$8] : $8, $10, $11 == "none" ? "separate kernels" : "algorithm " substr($11, 1, 16); next }
        FILENAME ~ /attention/ && NF == 9 {
            printf "attention B %s, T %s, %s heads of %s, %s: %s; ours takes %s ms, cuDNN %s\n", $1, $2, $3, $4, $5 ? $6 ? "backward, deterministic" : "backward, atomic dq" : "forward",
                $7 ? "cuDNN" : "ours", $8, $9; next }
        { print FILENAME ": " $0 }' $files | show
    echo "$(cat $files | wc -l) choices"
}

# memcheck sees the edges of every row because each is an allocation of its own. Errors that a call returns are not judged: the trainer asks
# and goes on; nor the libraries' kernels, but by initcheck, which must see what they write: there nothing that calls them runs.
LIBRARIES='cublas|cutlass|nvjet|xmma|gemm|gemv|splitKreduce|cudnn|fmha|sdpa|fprop'
sanitize() {
    [[ $SANITIZER ]] || { echo "no compute-sanitizer here"; return 77; }
    local end=$((SECONDS + 570)) failed=0 count=0 left=''
    local with=(--tool "$TOOL" --error-exitcode 9 --report-api-errors no)
    local tests=(test_gelu test_step_guard test_classifier.cuda_classifier_extremes test_layernorm.cuda_layernorm_backward_in_place test_adamw
        test_gradients.cuda_gradients_are_summed_as_a_tree test_embedding.cuda_embedding_forward test_attention.attention_of_both)
    [[ $TOOL == initcheck ]] || with+=(--kernel-name-exclude "regex=$LIBRARIES") tests+=(test_matmul.cuda_matmul_odd)
    [[ $TOOL == racecheck ]] && with+=(--racecheck-detect-level error)
    for test in "${tests[@]}" $([[ $TOOL == memcheck ]] && echo trainer); do
        LIMIT=$((end - SECONDS)) LATE=SKIP
        ((LIMIT > 5)) || { left="$left $test"; continue; }
        if [[ $test == trainer ]]; then
            text && one $TOOL.trainer $SANITIZER "${with[@]}" $TRAINER --cache $WORK/cache -i $WORK/data/text.txt -e d2c64h1 -b 2 -t 64 -x 2 -v 0 -s 0 -n 0 \
                -o $WORK/memcheck --precision bf16 --separate-buffers 1
        else
            one $TOOL.$test $SANITIZER "${with[@]}" $TESTS $test
        fi || failed=$((failed + 1))
        count=$((count + 1))
    done
    echo "$count looked at, $failed failed${left:+, no time for$left}"
    ((failed == 0))
}

# The same options on the CPU: losses of metrics.jsonl side by side. In fp32 without TF32 the two differ by the order of sums only,
# and training makes more of it with each step: 1e-5 of the loss for the first 10 steps, 1e-2 to the end; bf16 rounds each stored
# number to 2^-9: 2^-8 and 2e-2. Without a warm-up the eighth loss jumps, and makes 5e-5 of 1e-7.
losses() {
    local steps=200 model=d4c128h4 failed=0
    ((DRY)) && steps=5 model=d1c64h1
    text || return 1
    for precision in fp32 bf16; do
        for trainer in ./train_gpt2 $TRAINER; do
            rm -rf "$WORK/losses"
            TRAINER=$trainer train -i $WORK/data/text.txt -e $model -b 8 -t 64 -x $steps -n 0 -o $WORK/losses --precision $precision --tf32 0 -l 1e-3 -u 20 > /dev/null || return 1
            sed -n 's/.*"loss": \([0-9.]*\), "lr".*/\1/p' $WORK/losses/metrics.jsonl > "$WORK/losses.$(basename "$trainer").$precision"
        done
        paste $WORK/losses.train_gpt2.$precision "$WORK/losses.$(basename "$TRAINER").$precision" | awk -v p=$precision -v n=$steps '
            { d = ($1 - $2) / $1; if (d < 0) d = -d; early = p == "fp32" ? 1e-5 : 0.00390625; late = p == "fp32" ? 1e-2 : 2e-2
              if (d > worst) worst = d; if (d > (NR <= 10 ? early : late)) { print "step " NR ": " $1 " on the CPU, " $2 " here"; bad = 1 } }
            END { if (NR != n) { print NR " losses, expected " n; bad = 1 }; printf "%s: %d steps, losses differ by at most %.2g\n", p, NR, worst; exit bad }' || failed=1
    done
    return $failed
}

layers() { if ((DRY)); then echo "not emulated: sizes of 124M"; return 77; else build/gpu/bench_layers $WORK/layers.jsonl 32 1024 0.15; fi; }
# what does not fit the card is left out
steps() { if ((DRY)); then echo "not emulated: sizes of 124M to 1558M"; return 77; else build/bench_steps $WORK/$NAME.jsonl $TRAINER ${NAME#steps-}; fi; }

# The exercises' solutions, as `make learn-NAME` grades an exercise: right on the GPU, too, and their time against the ceiling
graded() { if ((BUILT)); then build/learn/$1-solution-gpu; else NVCC=$NVCC dev/learn/learn.sh $1 dev/learn/$1/solution.cu; fi; }
learn() {
    ((DRY)) && { echo "not emulated: times"; return 77; }
    local name names
    names=$(grep -l __global__ dev/learn/*/solution.cu | xargs -n 1 dirname | xargs -n 1 basename)
    : > $WORK/$NAME.failed
    for name in $names; do
        while (($(jobs -pr | wc -l) >= JOBS)); do wait -n; done
        graded $name > $WORK/logs/learn.$name.log 2>&1 || echo $name >> $WORK/$NAME.failed &
    done
    wait
    for name in $names; do
        if grep -q "^on " $WORK/logs/learn.$name.log; then sed -n '/^on /,$p' $WORK/logs/learn.$name.log; else tail -n 3 $WORK/logs/learn.$name.log; fi | sed "s/^/$name: /" | show
    done
    echo "$(wc -w <<< "$names") exercises, $(wc -l < $WORK/$NAME.failed) failed"
    [[ ! -s $WORK/$NAME.failed ]]
}

# 124M, and a modern model of its size, beside PyTorch, two short windows in turn
beside_pytorch() {
    python3 -c "import torch" 2> /dev/null || { echo "no PyTorch for python3: the step before measures ours alone"; return 77; }
    local options=(--models "d12,modern:d12" --batch 32 --window 5 --limit 120)
    ((DRY)) && options=()
    python3 dev/bench/gpu.py --short --no-kernels "${options[@]}" --out $WORK/beside.json || return 1
    sed -n 's/^\({.*}\),*$/\1/p' $WORK/beside.json > $WORK/beside_pytorch.jsonl
}

# The table and the measurements, as far as they are there, and a copy of all but the runs themselves
keep() {
    local lines out
    if [[ -s $WORK/clocks.csv ]]; then
        awk -F', ' '$2 > m { m = $2; c = $1; t = $3 } END { printf "{\"machine\": \"%s\", \"at_most_power\": {\"w\": %s, \"sm_mhz\": %s, \"celsius\": %s}}\n", name, m, c, t }' \
            name="$GPU_NAME" $WORK/clocks.csv > $WORK/clocks.jsonl
    fi
    lines=$(cat $WORK/{layers,steps-*,beside_pytorch,clocks}.jsonl 2> /dev/null)
    out=$( ((DRY)) && echo $WORK || echo dev/bench/results)/$(printf '%s' "$GPU_NAME" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-')-check.json
    if [[ $lines ]]; then
        mkdir -p "$(dirname "$out")"
        { echo "["; sed '$!s/$/,/' <<< "$lines"; echo "]"; } > "$out"
        echo "written: $out"
    fi
    for i in "${!names[@]}"; do printf '%-30s %-5s %s\n' "${names[$i]}" "${verdicts[$i]}" "${notes[$i]}"; done | tee $WORK/table.txt
    [[ -z $OUT ]] || { mkdir -p "$OUT" && cp -r $WORK/logs $WORK/cache $WORK/*.{log,txt,jsonl} "$out" "$OUT" 2> /dev/null; }
}
finish() {
    trap '' TERM INT
    [[ ${sampler:-} ]] && kill $sampler
    if [[ $running ]]; then
        kill $child
        wait $child
        ended FAIL "interrupted"
    fi 2> /dev/null
    grep -hs "tokens/s\|GB/s\|left out" $WORK/steps-*.log $WORK/layers.log $WORK/beside_pytorch.log
    echo
    keep
    [[ ! " ${verdicts[*]} " == *" FAIL "* ]]
    exit
}
trap finish TERM INT
export LIBRARIES
for f in $(compgen -A function); do export -f "${f?}"; done

((BUILT)) || step build 1500 build  # made in several calls if need be
step ptx 120 ptx
step products 300 products
step matmul 600 matmul
step plans 300 plans
step attention 600 attention
step plain 120 plain
step early-launch 120 early_launch
step cudnn 120 cudnn
step nccl 600 nccl
step 124M-twice 240 twice
if ((!FIRST)); then
    step kernels 600 kernels
    step train-tests 900 train_tests
    step learn 300 learn
    for TOOL in memcheck racecheck synccheck initcheck; do export TOOL; step "compute-sanitizer-$TOOL" 600 sanitize; done
    step determinism 240 deterministic
    step losses 240 losses
    # what the card did meanwhile
    ((DRY)) || { nvidia-smi --query-gpu=clocks.sm,power.draw,temperature.gpu --format=csv,noheader,nounits -l 2 > $WORK/clocks.csv 2> /dev/null & sampler=$!; }
    step layers 180 layers
    for model in d12 d24 d36 d48; do step steps-$model 400 steps; done  # an A100 takes 165 s for d48
    step beside_pytorch 400 beside_pytorch
fi
step chosen 60 chosen
finish
