#!/usr/bin/env python3
"""Turns published multiple-choice sets into the lines that --eval reads: {"context", "choices", "answer"}.

    python3 dev/data/eval_sets.py arc_easy arc_challenge piqa winogrande    fetch and convert into dev/data/eval/NAME.jsonl
    python3 dev/data/eval_sets.py piqa --from DIR                           convert the set's own files, which lie in DIR already

The contexts are lm-evaluation-harness's, so that the numbers are too. HellaSwag's and MMLU's lines are read as they are.
"""
import argparse
import io
import json
import os
import sys
import urllib.request
import zipfile


def arc(row):
    question, labels = row["question"], [c["label"] for c in row["question"]["choices"]]
    return {"context": f"Question: {question['stem']}\nAnswer:", "choices": [c["text"] for c in question["choices"]],
            "answer": labels.index(row["answerKey"])}


def piqa(row, label):
    return {"context": f"Question: {row['goal']}\nAnswer:", "choices": [row["sol1"], row["sol2"]], "answer": int(label)}


def winogrande(row):
    # the blank is filled, and what comes after it is scored: the choices are the contexts
    before, after = row["sentence"].split("_", 1)
    return {"context": [before + row["option1"], before + row["option2"]], "choices": [after.strip()] * 2, "answer": int(row["answer"]) - 1}


ARC_ZIP = "https://s3-us-west-2.amazonaws.com/ai2-website/data/ARC-V1-Feb2018.zip"
PIQA = "https://yonatanbisk.com/piqa/data/"
SETS = {  # name: how a row is converted, its files, where they come from, how many rows there must be
    "arc_easy": (arc, ["ARC-Easy-Test.jsonl"], [ARC_ZIP], 2376),
    "arc_challenge": (arc, ["ARC-Challenge-Test.jsonl"], [ARC_ZIP], 1172),
    "piqa": (piqa, ["valid.jsonl", "valid-labels.lst"], [PIQA + "valid.jsonl", PIQA + "valid-labels.lst"], 1838),
    "winogrande": (winogrande, ["dev.jsonl"], ["https://storage.googleapis.com/ai2-mosaic/public/winogrande/winogrande_1.1.zip"], 1267),
}


def fetch(name, files, urls):
    """The set's files as text: each from its own address, or all from one archive."""
    out = []
    for i, file in enumerate(files):
        url = urls[i % len(urls)]
        try:
            data = urllib.request.urlopen(url, timeout=60).read()
        except OSError as error:
            sys.exit(f"{name}: {url}: {error}; fetch it by other means and give its folder with --from")
        if url.endswith(".zip"):
            archive = zipfile.ZipFile(io.BytesIO(data))
            inside = [n for n in archive.namelist() if os.path.basename(n) == file]
            if len(inside) != 1:
                sys.exit(f"{name}: {url}: {len(inside)} files named {file} in it, must be one")
            data = archive.read(inside[0])
        out.append(data.decode())
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="+", choices=list(SETS), metavar="NAME", help=", ".join(SETS))
    p.add_argument("--from", dest="folder", metavar="DIR", help="where the set's own files are")
    p.add_argument("-o", "--out", default="dev/data/eval")
    args = p.parse_args()
    for name in args.names:
        convert, files, urls, count = SETS[name]
        if args.folder:
            missing = [f for f in files if not os.path.exists(os.path.join(args.folder, f))]
            if missing:
                sys.exit(f"{name}: {args.folder} holds no {' and no '.join(missing)}")
            texts = [open(os.path.join(args.folder, f), encoding="utf-8").read() for f in files]
        else:
            texts = fetch(name, files, urls)
        lines = [[line for line in text.split("\n") if line.strip()] for text in texts]
        if any(len(l) != len(lines[0]) for l in lines):
            sys.exit(f"{name}: {' and '.join(f'{f} has {len(l)} lines' for f, l in zip(files, lines))}, must be as many")
        if not args.folder and len(lines[0]) != count:
            sys.exit(f"{name}: {len(lines[0])} questions, must be {count}: was the set changed?")
        os.makedirs(args.out, exist_ok=True)
        path = os.path.join(args.out, name + ".jsonl")
        with open(path + ".tmp", "w", encoding="utf-8") as out:
            for number, (first, *more) in enumerate(zip(*lines), 1):
                try:
                    out.write(json.dumps(convert(json.loads(first), *more), ensure_ascii=False) + "\n")
                except (ValueError, KeyError, TypeError) as error:
                    os.unlink(path + ".tmp")
                    sys.exit(f"{name}: {files[0]}: line {number}: not a question of this set: {error!r}")
        os.rename(path + ".tmp", path)
        print(f"{path}: {len(lines[0])} questions; next: ./train_gpt2 -e CHECKPOINT -x 0 --eval {name}={path}")


if __name__ == "__main__":
    main()
