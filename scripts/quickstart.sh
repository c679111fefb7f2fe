#!/bin/sh
# quickstart.sh: from nothing to a model that writes, in about two minutes on 2 cores. No download: the data are stories
# from a grammar whose entropy is known, so the last line can say how close to perfect the model came. (make quickstart)
set -eu
cd "$(dirname "$0")/.."
dir=build/quickstart
minutes=1.7   # of training: by the clock, as a busy machine makes a fifth of a quiet one's steps
enough=3000   # steps: more would not come closer

echo "data     $dir: 20 MB of stories to train on, 200 KB to validate on, 200 questions"
rm -rf "$dir" && mkdir -p "$dir"
build/stories --bytes 20M --seed 1 -o "$dir/train.txt"
build/stories --bytes 200k --seed 2 -o "$dir/val.txt"
build/stories --questions 200 --seed 3 -o "$dir/questions.jsonl"

# bf16 where the trainer multiplies it as such, which it says; elsewhere it would only be rounded
precision=fp32
if ./train_gpt2 -i "$dir/val.txt" --tokenizer bytes -e d1c32h2 -b 1 -t 16 --precision bf16 -x 1 -v 0 -s 0 -n 0 -o "$dir/probe" 2> /dev/null | grep '^machine .* bf16, peak' > /dev/null; then precision=bf16; fi
train="./train_gpt2 -i $dir/train.txt -j $dir/val.txt --tokenizer bpe:2048 --bos-align 1 --precision $precision -e d2c192h6 --init-std 0.07 \
-b 4 -t 256 -l 3e-3 -u 100 -k linear -q 0 -o $dir/out -v 1000 -m 0 -s 1000000 -g 150 -n 1000000 --temperature 1 --eval questions=$dir/questions.jsonl"

# What takes long and says nothing: a dot every three seconds, until there is something else to print. It ends with this script: a
# process in the background does not hear Ctrl-C.
dots=
begins() {
    printf '         %s' "$1"
    { while sleep 3 > /dev/null 2>&1 && kill -0 $$ 2> /dev/null; do printf .; done; } &
    dots=$!
}
newline() {
    if [ "$dots" ]; then
        kill "$dots" || true
        wait "$dots" 2> /dev/null || true  # it says "Terminated"
    fi
    if [ "$dots$moving" ]; then echo; fi
    dots='' moving=''
}
# Of the steps a line every three seconds, on a terminal one that moves. A step's own milliseconds tell the time: a process a step, to ask
# for it, would take it from the training.
show() {
    since=3000 moving='' rules=0 totals=0
    begins "learns a tokenizer from the stories"
    while IFS= read -r line; do
        case $line in
        "step "*"  loss "*)
            ms=${line%% ms *} && ms=${ms##* } && ms=${ms%.*}
            since=$((since + ms))
            if [ -t 1 ] && [ "$since" -ge 200 ]; then
                printf '\r%s  %s\033[K' "${line%%  norm *}" "${line##* of peak  }"
                since=0 moving=1
            elif [ "$since" -ge 3000 ]; then
                newline
                printf '%s\n' "$line"
                since=0
            fi
            continue ;;
        esac
        newline
        case $line in
        "exit 0") return ;;
        "exit "*) exit "${line#exit }" ;;
        esac
        printf '%s\n' "$line"
        case $line in
        "  total "*)  # of the device's memory, then of the host's
            totals=$((totals + 1))
            if [ $totals -eq 2 ]; then begins "validates, which is the first of its $minutes minutes"; fi ;;
        ---)  # before its story, then behind it
            rules=$((rules + 1))
            if [ $rules -eq 2 ]; then begins "answers 200 questions"; fi ;;
        esac
    done
}
{ $train --minutes $minutes -x $enough && echo "exit 0" || echo "exit $?"; } | show
./plot "$dir/out"

checkpoint=$(echo "$dir"/out/step_*)
echo "let it write: ./train_gpt2 -e $checkpoint -x 0 --prompt 'Last Monday'"
# the last validation, against the floor; an aim of 1.10x takes this model about 2500 steps (dev/LOG.md, 7)
sed -n 's/.*"val_bits_per_byte": \([0-9.]*\), "floor_bits_per_byte": \([0-9.]*\).*/\1 \2/p' "$dir/out/metrics.jsonl" |
    awk -v steps="${checkpoint##*step_}" -v minutes=$minutes -v train="$train" '
    { times = $1 / $2 }
    END {
        more = 1 + int(minutes * (1 + 2500 / steps))
        if (times > 1.10) printf "%.3fx of perfect: %d steps in %s minutes were not enough for 1.10x; to go on, to %d minutes in all:\n%s -y 1 --minutes %d\n", times, steps, minutes, more, train, more
    }'
