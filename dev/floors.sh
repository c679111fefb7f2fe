#!/bin/sh
# floors.sh: who may include whom. Each floor of the house stands on those below it and knows nothing of those above.
set -eu
cd "$(dirname "$0")/.."
failed=0
# check FILES FORBIDDEN WHY: no include line of FILES may match FORBIDDEN
check() {
    for file in $1; do
        [ -e "$file" ] || continue
        if grep -nE "^ *# *include +$2" "$file" | sed "s|^|$file:|" | grep .; then echo "    $3"; failed=1; fi
    done
}
layers='(adamw|attention|classifier|embedding|gelu|global_norm|layernorm|matmul)\.(h|cuh)"'
hosts=$(ls llmc/*.h | grep -v llmc/backend.h)
check "$hosts" '"(cpu|cuda|\.\.)/' 'llmc/ is the host side: it includes std, POSIX and its own files'
check "$hosts" '<(cuda|cublas|cudnn|nccl|immintrin)' 'llmc/ has no CUDA or CPU-specific type in it'
check "$(ls llmc/cpu/*.h)" "\"(.*/)?$layers" 'a layer never includes another layer'
check "$(ls llmc/cpu/*.h)" '"\.\./(cuda|\.\.|backend|model_files|generate|run)' 'llmc/cpu includes llmc and nothing above it'
check "$(ls llmc/cuda/* | grep -v backend.cuh)" "\"(.*/)?$layers" 'a layer never includes another layer'
check "$(ls llmc/cuda/*)" '"\.\./(cpu|\.\.)' 'llmc/cuda knows neither llmc/cpu nor what is above'
check "train_gpt2.cu $(ls llmc/*.h llmc/cpu/*.h dev/*/*.cpp dev/*/*.h 2>/dev/null)" '"(.*/)?test/' 'nothing includes test/'
for file in train_gpt2.cu $(ls llmc/*.h llmc/cpu/*.h llmc/cuda/*); do  # a directive inside a function is indented or follows an open brace
    if grep -nE '^ +# *(if|ifdef|ifndef)' "$file" | sed "s|^|$file:|" | grep .; then echo '    no #ifdef in a function body'; failed=1; fi
done
# CUDA 12.4 cannot tell the type of {X{1}, {2}}: "cannot deduce type of range in range-based for"
if grep -nE 'for \(.*[^:]: *\{ *[A-Za-z_:]+(<[^>]*>)?\{' $(ls llmc/*.h llmc/cuda/* test/cuda/* test/*.h dev/bench/layers.cpp dev/bench/*.h) train_gpt2.cu; then
    echo '    nvcc 12.4 wants a name before the list of a range-for: std::vector<X>{{1}, {2}}'; failed=1
fi
if grep -lE '\basm\b *(volatile)? *\(' llmc/cuda/* | grep -v ptx.cuh; then echo '    asm stands in ptx.cuh alone'; failed=1; fi
[ $failed = 0 ] && echo 'floors: every include is allowed'
exit $failed
