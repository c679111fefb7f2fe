#!/bin/sh
# gpt2_tokenizer.sh: GPT-2's tokenizer as published, checked, into data/gpt2 or the folder named.
#     dev/data/gpt2_tokenizer.sh [--from DIR] [FOLDER]
set -eu
fail() { echo "error: $1" >&2; exit "${2:-1}"; }
from=
if [ "${1:-}" = --from ]; then
    [ $# -ge 2 ] || fail "--from: a folder must follow" 2
    from=$2; shift 2
fi
out=${1:-data/gpt2}
case $out in -*) fail "$out: unknown option, must be --from DIR or a folder" 2;; esac
mkdir -p "$out"
get() {  # NAME SHA256
    [ -e "$out/$1" ] || {
        url=https://openaipublic.blob.core.windows.net/gpt-2/models/124M/$1
        if [ -n "$from" ]; then cp "$from/$1" "$out/$1.part" 2>/dev/null || fail "$from/$1: cannot read"
        elif command -v curl >/dev/null; then curl -fsSL "$url" -o "$out/$1.part" || fail "$url: cannot fetch"
        else wget -qO "$out/$1.part" "$url" || fail "$url: cannot fetch"; fi
        sum=$({ sha256sum "$out/$1.part" 2>/dev/null || shasum -a 256 "$out/$1.part"; } | cut -d' ' -f1)
        if [ "$sum" != "$2" ]; then rm -f "$out/$1.part"; fail "$1: SHA-256 is $sum, expected $2"; fi
        mv "$out/$1.part" "$out/$1"
    }
}
get vocab.bpe 1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5
get encoder.json 196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783
echo "next: ./train_gpt2 -i my.txt --tokenizer $out"
