#!/bin/sh
# quickstart.sh: from nothing to a model that writes, in about two minutes on 2 cores. No download: the data are stories
# from a grammar whose entropy is known, so the last line can say how close to perfect the model came.
set -eu
cd "$(dirname "$0")/.."
dir=build/quickstart
rm -rf "$dir" && mkdir -p "$dir"
build/stories --bytes 20M --seed 1 -o "$dir/train.txt"
build/stories --bytes 200k --seed 2 -o "$dir/val.txt"
build/stories --questions 200 --seed 3 -o "$dir/questions.jsonl"

# bf16 where the CPU multiplies it; elsewhere it would only be rounded
precision=fp32
if grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo 2>/dev/null; then precision=bf16; fi
train() {
    ./train_gpt2 -i "$dir/train.txt" -j "$dir/val.txt" --tokenizer bpe:2048 --bos-align 1 --precision $precision \
        -e d2c192h6 --init-std 0.07 -b 4 -t 256 -l 3e-3 -u 100 -k linear -q 0 "$@"
}
# as many steps as fit in 100 seconds, by the pace of the tenth, but no more than it takes; every fiftieth is shown
ms=$(train -o "$dir/pace" -x 10 -v 0 -s 0 -n 0 | sed -n 's/^step 10\/10 .* \([0-9]*\) ms .*/\1/p')
steps=$((100000 / (ms + 1)))
if [ "$steps" -gt 3000 ]; then steps=3000; fi

train -o "$dir/out" -x "$steps" -v 500 -m 0 -s "$steps" -g 150 -n "$steps" --prompt "One" --temperature 1 \
    --eval questions="$dir/questions.jsonl" | LC_ALL=C grep -a --line-buffered -vE '^step +([0-9]*[1-9]|[0-9]*[1-46-9]0)/'
echo "go on with:  ./train_gpt2 -e $dir/out/$(printf step_%08d "$steps") -x 0 --prompt 'Last Monday'"
./plot "$dir/out"
