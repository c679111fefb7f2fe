#!/usr/bin/env bash
# stall.sh [MODEL [ROUNDS]]: how long training waits for a checkpoint, with and without --async-save, in turn: seconds that the trainer says it waited, and what
# the steps while one is written take beside those when none is. The last checkpoint of a run, for which it always waits, does not count.
set -eu
cd "$(dirname "$0")/../.."
model=${1:-d12} rounds=${2:-3} work=build/bench_stall
rm -rf "$work"; mkdir -p "$work"
for i in $(seq 20000); do echo "line $i of a text that is only there to be trained on"; done > "$work/text.txt"
median() { sort -g | awk '{ x[NR] = $1 } END { if (NR) printf "%.3f [%.3f, %.3f], %d", x[int((NR + 1) / 2)], x[1], x[NR], NR; else printf "none" }'; }
for round in $(seq "$rounds"); do
    for async in 0 1; do
        ./train_gpt2 -i "$work/text.txt" -e "$model" --tokenizer bytes -b 1 -t 64 -x 130 -n 40 -v 0 -s 0 -nk 1 --confirm 1 --async-save "$async" -o "$work/out" > "$work/$async.$round.txt"
        rm -rf "$work/out"
    done
done
for async in 0 1; do
    # a step line: "step 7/130  loss ...  123 ms  ..."; one is being written from step 40 N to the line that says it is saved
    awk -v async=$async '
        /^step +[0-9]+\// { for (i = 1; i < NF; i++) if ($(i + 1) == "ms") ms = $i; split($2, at, "/"); if (at[1] > 1) print (writing ? "during" : "between"), ms / 1000; writing = async && (writing || at[1] % 40 == 0) }
        /^saved / { writing = 0; for (i = 1; i < NF; i++) { if ($i == "waited" && $3 != "130:") print "waited", $(i + 1); if ($i == "in" && $3 != "130:") print "written", $(i + 1) } }' "$work/$async".*.txt > "$work/$async.figures"
    echo "--async-save $async, $model, fp32, seconds: median [least, most], how many"
    for what in waited written between during; do printf '  %-9s' $what; awk -v what=$what '$1 == what { print $2 }' "$work/$async.figures" | median; echo; done
done
