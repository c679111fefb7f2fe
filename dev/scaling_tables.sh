#!/usr/bin/env bash
# scaling_tables.sh: the tables of doc/scaling.md, as --plan computes them, and of doc/step_time.md, by the functions that it calls:
# dev/scaling_tables.sh [./train_gpt2] prints them; with --write they replace those in the pages, between their lines <!-- tables --> and
# <!-- end of tables -->.
set -eu
cd "$(dirname "$0")/.."
write=0
if [ "${1:-}" = --write ]; then write=1; shift; fi
trainer=${1:-./train_gpt2}

# A row: what --plan says of its options.
row() {
    "$trainer" --plan --gpu H100 -t 1024 --precision bf16 "$@" | awk '
    /^step +[0-9]+ x/ { for (i = 2; i <= NF; i++) { if ($i == "ranks") gpus = $(i - 1); if ($i == "micro-batches") micro = $(i - 1) } }
    /^ +[0-3]\*/ { gib = $NF }
    /^step +ms:/ { for (i = 1; i <= NF; i++) if ($i == "exposed") exposed = $(i + 1) }
    /^scaling/ { limit = $3; sub(/;/, "", limit) }
    /^time/ { for (i = 1; i <= NF; i++) { if ($i == "s" && $(i + 1) == "a") ms = 1000 * $(i - 1); if ($i == "MFU") mfu = $(i + 1); if ($i ~ /^tokens\/s/) rate = $(i - 1) } }
    /does not fit/ { gib = gib ", does not fit" }
    END { printf "| %d | %d | %.4g | %.3g | %s | %s %% | %s | %s |\n", gpus, micro, ms, exposed, rate, mfu, gib, limit }'
}
machines() { if [ "$1" -lt 8 ]; then echo "-pn $1"; else echo "--nodes $(($1 / 8)) --gpus-per-node 8"; fi; }
# table TITLE STAGES OPTION...: each GPU the same micro-batch.
head='| GPUs | micro-batches | ms a step | exposed ms | tokens/s | MFU | GiB a GPU | limit |
|---|---|---|---|---|---|---|---|'
table() {
    local title=$1 zeros=$2
    shift 2
    for zero in $zeros; do
        printf '\n**%s, ZeRO-%s**\n\n%s\n' "$title" "$zero" "$head"
        for gpus in 1 8 64 128 512 1024; do
            # shellcheck disable=SC2046  # two options or four
            row $(machines $gpus) -z "$zero" "$@"
        done
    done
}
# shared TITLE STAGE SEQUENCES MOST OPTION...: all GPUs together so many sequences a step, each in the largest micro-batches of at most MOST.
shared() {
    local title=$1 zero=$2 sequences=$3 most=$4 gpus each batch
    shift 4
    printf '\n**%s, ZeRO-%s, %s tokens a step shared by all**\n\n%s\n' "$title" "$zero" $((sequences * 1024)) "$head"
    for gpus in 1 8 64 128 512 1024; do
        each=$((sequences / gpus))
        if [ $((each * gpus)) != "$sequences" ]; then printf '| %d | less than one sequence each | | | | | | batch |\n' $gpus; continue; fi
        batch=$most
        while [ $((each % batch)) != 0 ]; do batch=$((batch - 1)); done
        # shellcheck disable=SC2046
        row $(machines $gpus) -z "$zero" -b "$batch" -d $((sequences * 1024)) "$@"
    done
}
tables() {
    echo; echo '### Each GPU one micro-batch'
    table '124M (d12), B = 32' '0 1 2 3' -e d12 -b 32
    table '1558M (d48), B = 16' '0 1 2 3' -e d48 -b 16
    table '8B (llama3.1:8b), B = 4, recomputing blocks' '0 1 2 3' -e llama3.1:8b -b 4 -r 3
    echo; echo '### One step shared by all'
    shared '124M (d12)' 1 512 64 -e d12
    shared '1558M (d48)' 1 1024 16 -e d48
    shared '8B (llama3.1:8b), recomputing blocks' 3 4096 4 -e llama3.1:8b -r 3
}

# Each kernel of a step on one GPU.
step_tables() {
    make --no-print-directory build/bench_step_time >&2
    build/bench_step_time
}
# put PAGE FUNCTION
put() {
    { sed '/^<!-- tables -->$/q' "$1"; "$2"; echo; sed -n '/^<!-- end of tables -->$/,$p' "$1"; } > "$1.new"
    mv "$1.new" "$1"
}
if [ $write = 0 ]; then tables; exit; fi
put doc/step_time.md step_tables
put doc/scaling.md tables
