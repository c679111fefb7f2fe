#!/bin/sh
# learn.sh NAME [FILE]: grades an exercise: dev/learn/NAME/exercise.cu, or FILE in its place. HINT=2.1 prints the first hint for part 2 instead. `make learn-NAME`
# OPT=-O0: it compiles in half the time, for blanks, which do not run. Where nvcc and a GPU are, the parts that are right run on it, too (timing.h)
# learn.sh --gpu NAME FILE: builds what runs on a GPU, for sm_90, and no more: the host's code by -O0, as nobody runs it
# learn.sh --page FILE.cpp: builds a chapter's own kernels, from FILE.cpp to FILE, so that what they ask of memory is counted (count.h)
set -eu
CXX=$(command -v g++ || echo "${CXX:-c++}")  # g++ where it is: clang splits 16-byte loads, which are counted here
cd "$(dirname "$0")/../.."
gpu_only=
[ "$1" != --gpu ] || { gpu_only=1; shift; }
name=$1 folder=dev/learn/$1 file=${2:-dev/learn/$1/exercise.cu} built=build/learn
[ "$name" = --page ] || [ -f "$folder/table.h" ] || { echo "learn: no exercise is named $name; there are: $(cd dev/learn && ls -d -- */ | tr -d / | tr '\n' ' ')"; exit 2; }
if [ -n "${HINT:-}" ]; then
    awk -v part="${HINT%.*}" -v step="${HINT#*.}" '
        /^## / { here = $2 == part "." }
        here && $1 == step "." { found = 1; sub(/^[0-9]+\. /, ""); print "hint " part "." step ": " $0 }
        END { if (!found) { print "no hint " part "." step ": a part has the hints .1, .2 and .3"; exit 2 } }' "$folder/hints.md"
    exit
fi
mkdir -p $built
# the same file and table, for a GPU: what nvcc says of the file's lines
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
build_for_gpu() {
    printf '#include "../../dev/learn/timing.h"\n#include "../../%s"\n#include "../../%s/table.h"\nint main(int argc, char** argv) { return learn::Timing("%s").time(learn::PARTS, learn::numbers_of(argc, argv)); }\n' "$file" "$folder" "$file" > "$gpu.cu"
    "$nvcc" -std=c++20 "${2:--O3}" --expt-relaxed-constexpr -arch="$1" -w -Xcompiler -pthread "$gpu.cu" -o "$gpu" 2> "$gpu.log" && return
    echo "what g++ compiles of $file, nvcc does not:"
    sed -n "s|^[^ ]*$file(\([0-9]*\)): error: *\(.*\)|    line \1: \2|p" "$gpu.log" | head -n 3
    grep -q "^[^ ]*$file([0-9]*): error" "$gpu.log" || { grep -m 3 'error' "$gpu.log"; echo "    the whole text: $gpu.log"; }
    return 1
}
program=$built/$name-$(basename "$file" .cu) gpu=$built/$name-$(basename "$file" .cu)-gpu
[ -z "$gpu_only" ] || { build_for_gpu sm_90 -O0; exit; }
native=$(echo 'int main(){}' | $CXX -march=native -x c++ - -o /dev/null 2>/dev/null && echo -march=native || true)
common="-std=c++20 -pthread -rdynamic -fno-omit-frame-pointer -Itest/emu $native -Wno-tsan -Wno-unknown-warning-option"
# what meets the accesses, once; of the exercise's own loads and stores none may be merged or split, or made into vectors that it has not
careful=
for flag in -fno-tree-vectorize -fno-tree-slp-vectorize -fno-store-merging -fno-tree-sra; do
    ! echo 'int main(){}' | $CXX $flag -x c++ - -o /dev/null 2>/dev/null || careful="$careful $flag"
done
for source in test/emu/watch.cpp dev/learn/accesses.cpp; do
    object=$built/$(basename $source .cpp).o
    # shellcheck disable=SC2086  # flags
    { [ -f $object ] && [ -z "$(find $source test/emu/*.h dev/learn/accesses.h -newer $object)" ]; } || { $CXX $common -O2 -c $source -o $object.$$ && mv $object.$$ $object; }  # two exercises may be graded at once
done
if [ "$name" = --page ]; then program=${file%.cpp}
else printf '#include "../../dev/learn/report.h"\n#include "../../%s"\n#include "../../%s/table.h"\nint main() { return learn::Report("%s", "%s").grade(learn::PARTS, "%s.right"); }\n' "$file" "$folder" "$name" "$file" "$program" > "$program.cpp"
fi
# shellcheck disable=SC2086
if ! $CXX $common ${OPT:--O2} $careful -g1 -gdwarf-4 -fsanitize=thread -fdiagnostics-color=never -c "$program.cpp" -o "$program.o" 2> "$program.log"; then
    [ "$name" != --page ] || { cat "$program.log"; exit 1; }
    echo "$name: $file does not compile:"
    sed -n "s|^[^ ]*$file:\([0-9]*\):[0-9]*: error: \(.*\)|    line \1: \2|p" "$program.log" | head -n 5
    grep -q "^[^ ]*$file:[0-9]*:[0-9]*: error" "$program.log" || { grep -m 3 'error' "$program.log"; echo "    the whole text: $program.log"; }
    exit 1
fi
wrap=
for size in 1 2 4 8 16; do for kind in read write unaligned_read unaligned_write; do wrap="$wrap,--wrap=__tsan_$kind$size"; done; done
# shellcheck disable=SC2086
$CXX $common "$program.o" $built/accesses.o $built/watch.o -Wl$wrap,--wrap=__tsan_read_range,--wrap=__tsan_write_range -o "$program"
[ "$name" != --page ] || exit 0
code=0
"$program" || code=$?
right=$(cat "$program.right" 2>/dev/null)
[ -n "$right" ] || exit $code
command -v "$nvcc" > /dev/null || { echo "time on a GPU: not measured: no nvcc here"; exit $code; }
nvidia-smi -L > /dev/null 2>&1 || { echo "time on a GPU: not measured: no GPU here"; exit $code; }
build_for_gpu native || exit 1
# shellcheck disable=SC2086  # numbers of parts
"$gpu" $right || code=1
exit $code
