#!/bin/sh
# coverage.sh: lines of parsers and I/O that the tests in FOLDER ran, by gcov: a line counts once, whichever test ran it. Of each file at least LEAST per cent: coverage.sh FOLDER LEAST FILE...
set -eu
folder=$1 least=$2; shift 2
find "$folder" -name '*.gcda' | while read -r data; do gcov -t -r "$data" 2>/dev/null; done | awk -v files="$*" -v least="$least" '
BEGIN { n = split(files, names, " "); for (i = 1; i <= n; i++) wanted[names[i]] = 1 }
{
    split($0, part, ":")
    count = part[1]; line = part[2]; gsub(/[ \t]/, "", count); gsub(/[ \t]/, "", line)
    if (line == "0" && part[3] == "Source") {
        file = part[4]
        while (sub(/[^\/]+\/\.\.\//, "", file)) {}
        next
    }
    if (!(file in wanted) || count == "-" || line !~ /^[0-9]+$/) next
    key = file ":" line
    if (!(key in ran)) { ran[key] = 0; lines[file]++ }
    if (count !~ /^[#=]/ && !ran[key]) { ran[key] = 1; covered[file]++ }
}
END {
    for (i = 1; i <= n; i++) {
        file = names[i]
        printf "%-36s %5d of %5d lines  %5.1f %%\n", file, covered[file], lines[file], lines[file] ? 100 * covered[file] / lines[file] : 0
        all += lines[file]; hit += covered[file]
        if (100 * covered[file] < least * lines[file]) too_few = too_few " " file
    }
    printf "%-36s %5d of %5d lines  %5.1f %%\n", "all", hit, all, all ? 100 * hit / all : 0
    for (key in ran) if (!ran[key]) print key > "build/coverage/not_run.txt"
    if (too_few) printf "coverage: less than %d %% of%s\n", least, too_few
    exit !all || too_few != ""
}'
