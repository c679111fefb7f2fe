#!/bin/sh
# run.sh: every parser under libFuzzer, one a core at a time, SECONDS in all for one core, from the seeds in the tree and what earlier runs found:
# test/fuzz/run.sh SECONDS [PARSER...]
set -u
cd "$(dirname "$0")/../.."
fuzz=build/fuzz/fuzz
if [ "$1" = --one ]; then
    each=$2 parser=$3
    corpus=build/fuzz/corpus/$parser log=build/fuzz/$parser.log
    mkdir -p "$corpus"
    FUZZ=$parser $fuzz -max_total_time=$each -max_len=8192 -rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=10 -detect_leaks=0 -close_fd_mask=3 -print_final_stats=1 \
        -dict=test/fuzz/words.dict -artifact_prefix=build/fuzz/$parser- "$corpus" "test/fuzz/seeds/$parser" > "$log" 2>&1 &
    trap 'kill $!' TERM INT HUP
    wait $!
    code=$?
    rm -rf "/dev/shm/llmc-fuzz-$!" "/tmp/llmc-fuzz-$!"  # left by one that crashed
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    echo "fuzz: $parser: ${runs:-0} inputs, ${covered:-0} edges covered"
    [ $code -ne 0 ] || exit 0
    grep -aE 'fuzz: does not hold|ERROR|SUMMARY|runtime error|written to' "$log" | head -5
    echo "fuzz: $parser: FAILED: $log; again: FUZZ=$parser $fuzz FILE"
    exit 1
fi
seconds=$1; shift
[ $# -gt 0 ] || set -- $($fuzz)
each=$((seconds / $#)); [ "$each" -gt 0 ] || each=1
printf '%s\n' "$@" | xargs -n 1 -P "$(nproc 2>/dev/null || echo 1)" test/fuzz/run.sh --one "$each"
failed=$?
for parser in "$@"; do sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$parser.log"; done | awk -v n=$# '{ all += $1 } END { printf "fuzz: %d inputs in %d parsers\n", all, n }'
exit $failed
