#!/usr/bin/env python3
"""Does the trainer's evaluation find the numbers of lm-evaluation-harness?

    python3 dev/reference/eval_check.py build/tmp/eval                 on a tiny random model and made questions
    python3 dev/reference/eval_check.py build/tmp/eval --model FOLDER  on a checkpoint; --set FILE: on questions of your own
    python3 dev/reference/eval_check.py build/tmp/eval --harness       and the harness itself, with its own tasks (harness.py)

Every kind of file is made (plain, HellaSwag, MMLU, the older .bin, documents, text, and what dev/data/eval_sets.py makes of
made files of ARC, PIQA and WinoGrande), scored by ./train_gpt2 -x 0 --eval, and
scored here with transformers in fp32 from the harness's definitions: context and continuation encoded together, white space
at the context's end moved to the continuation, sum of log-probabilities, acc the largest, acc_norm the largest over the
choice's characters; documents in rolling windows behind an end of text. Every item of every file must agree: sums within
1e-4 a token, and the same verdicts unless two choices lie closer than that.
"""
import argparse
import array
import json
import math
import os
import random
import re
import shlex
import shutil
import struct
import sys

import torch

import hf_check

A_TOKEN = 1e-4
WORDS = "the cat sat on a mat while two old men talked about boats and [title] rain [step] fell Über naïve 日本 42 isn't".split()


def sentence(rng, low, high):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))


def make_sets(work, encode, rng):
    write = lambda name, rows: open(os.path.join(work, name), "w").write("".join(json.dumps(r, ensure_ascii=rng.random() < 0.5) + "\n" for r in rows))
    rows = []
    for i in range(40):
        choices = [sentence(rng, 1, 6) for _ in range(rng.randint(2, 5))]
        context = [sentence(rng, 1, 20), sentence(rng, 1, 10) + "  ", "", sentence(rng, 80, 140), sentence(rng, 3, 5) + "\n"][i % 5]
        if i % 5 == 1:
            choices[0] = " " + choices[0]
        rows.append({"context": [context + w for w in WORDS[:len(choices)]] if i % 7 == 3 else context, "choices": choices,
                     "answer": rng.randrange(len(choices))})
    write("plain.jsonl", rows)
    write("hellaswag.jsonl", [{"ind": i, "activity_label": sentence(rng, 1, 2), "ctx_a": sentence(rng, 5, 12), "ctx_b": rng.choice(["he Then Sat", "THE cat", "", "4 men"]),
                               "ctx": "unused", "endings": [("[substeps] " if i % 4 == 0 else "") + sentence(rng, 3, 9) for _ in range(4)],
                               "label": str(i % 4) if i % 2 else i % 4} for i in range(30)])
    write("mmlu.jsonl", [{"question": " " + sentence(rng, 5, 9) + "\n", "choices": [sentence(rng, 1, 3) for _ in range(4)], "answer": i % 4,
                          "subject": "abstract_algebra"} for i in range(30)])
    write("documents.jsonl", [{"text": sentence(rng, 1, n)} for n in (1, 30, 200, 400)])
    open(os.path.join(work, "text.txt"), "w").write(open(__file__).read() + "<|endoftext|>" + sentence(rng, 150, 150) + "<|endoftext|>\n")
    stream, count = [], 20
    for i in range(count):
        context, endings = encode(sentence(rng, 3, 20)), [encode(" " + sentence(rng, 1, 6)) for _ in range(4)]
        one = [65535, 0, i, rng.randrange(4), 4, len(context), *context]
        for e in endings:
            one += [len(e), *e]
        one[1] = 2 * len(one)
        stream += one
    with open(os.path.join(work, "old.bin"), "wb") as file:
        file.write(struct.pack("<256i", 20240522, 1, count, *[0] * 253) + array.array("H", stream).tobytes())
    return ["plain.jsonl", "hellaswag.jsonl", "mmlu.jsonl", "documents.jsonl", "text.txt", "old.bin"]


def make_published(work, rng):
    """Files as ARC, PIQA and WinoGrande are published, converted; and of each the requests that the harness makes of it."""
    raw, out = os.path.join(work, "raw"), os.path.join(work, "sets")
    os.makedirs(raw)
    write = lambda name, rows: open(os.path.join(raw, name), "w").write("".join(json.dumps(r) + "\n" for r in rows))
    requests = {name: [] for name in ("arc_easy", "arc_challenge", "piqa", "winogrande")}
    for name, file in (("arc_easy", "ARC-Easy-Test.jsonl"), ("arc_challenge", "ARC-Challenge-Test.jsonl")):
        rows = []
        for i in range(12):
            stem, texts, labels, key = sentence(rng, 4, 12), [sentence(rng, 1, 5) for _ in range(3 + i % 3)], "12345" if i % 4 == 0 else "ABCDE", i % 3
            rows.append({"id": str(i), "question": {"stem": stem, "choices": [{"text": t, "label": l} for t, l in zip(texts, labels)]},
                         "answerKey": labels[key]})
            requests[name].append(([(f"Question: {stem}\nAnswer:", " " + t, len(t)) for t in texts], key))
        write(file, rows)
    rows = [{"goal": sentence(rng, 3, 9), "sol1": sentence(rng, 2, 7), "sol2": sentence(rng, 2, 7)} for _ in range(12)]
    write("valid.jsonl", rows)
    open(os.path.join(raw, "valid-labels.lst"), "w").write("".join(f"{i % 2}\n" for i in range(12)))
    requests["piqa"] = [([(f"Question: {r['goal']}\nAnswer:", " " + t, len(t)) for t in (r["sol1"], r["sol2"])], i % 2) for i, r in enumerate(rows)]
    rows = [{"qID": str(i), "sentence": f"{sentence(rng, 2, 5)} _ {sentence(rng, 2, 6)}.", "option1": rng.choice(WORDS), "option2": "Mia",
             "answer": str(1 + i % 2)} for i in range(12)]
    write("dev.jsonl", rows)
    for i, r in enumerate(rows):
        before, after = r["sentence"].split("_")
        requests["winogrande"].append(([(before + r[o], " " + after.strip(), len(after.strip())) for o in ("option1", "option2")], i % 2))
    hf_check.run([sys.executable, os.path.join(hf_check.HERE, "../data/eval_sets.py"), *requests, "--from", raw, "-o", out])
    return {os.path.join(out, name + ".jsonl"): items for name, items in requests.items()}


def clean(text):
    return re.sub("\\[.*?\\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def requests_of(path):
    """Of each item: ([(context, continuation, length)], answer), or a document's text, or tokens of both for a .bin."""
    if path.endswith(".bin"):
        data = open(path, "rb").read()
        (count,), s, at = struct.unpack_from("<i", data, 8), array.array("H", data[1024:]), 0
        for _ in range(count):
            answer, choices, n = s[at + 3], s[at + 4], s[at + 5]
            context, at, out = list(s[at + 6:at + 6 + n]), at + 6 + n, []
            for _ in range(choices):
                out.append((context, list(s[at + 1:at + 1 + s[at]]), s[at]))
                at += 1 + s[at]
            yield out, answer
        return
    if not path.endswith(".jsonl"):
        yield from (d for d in open(path).read().split("<|endoftext|>") if d.strip())
        return
    for row in map(json.loads, open(path)):
        if "text" in row:
            yield row["text"]
        elif "context" in row:
            contexts = row["context"] if isinstance(row["context"], list) else [row["context"]] * len(row["choices"])
            answer = row["choices"].index(row["answer"]) if isinstance(row["answer"], str) else row["answer"]
            space = lambda c, x: " " if c and not c[-1].isspace() and not x[0].isspace() else ""
            yield [(c, space(c, x) + x, len(x)) for c, x in zip(contexts, row["choices"])], answer
        elif "endings" in row:
            query = clean(row["activity_label"] + ": " + row["ctx_a"] + " " + row["ctx_b"].capitalize())
            endings = [clean(e) for e in row["endings"]]
            yield [(query, " " + e, len(e)) for e in endings], int(row["label"])
        else:
            letters = "ABCD"[:len(row["choices"])]
            query = f"The following are multiple choice questions (with answers) about {row['subject'].replace('_', ' ')}.\n\n"
            query += row["question"].strip() + "".join(f"\n{x}. {c}" for x, c in zip(letters, row["choices"])) + "\nAnswer:"
            yield [(query, " " + x, 1) for x in letters], row["answer"]


@torch.no_grad()
def log_likelihood(model, context, continuation, T):
    ids = (context + continuation)[-(T + 1):]
    p = model(torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)
    n = len(continuation)
    return p[-n:].gather(1, torch.tensor(ids[-n:])[:, None]).sum().item()


def pair(encode, context, continuation, end):
    if not isinstance(context, str):
        return context, continuation
    blank = len(context) - len(context.rstrip())
    if blank:
        context, continuation = context[:-blank], context[-blank:] + continuation
    if not context:
        return [end], encode(continuation)
    before = encode(context)
    return before, encode(context + continuation)[len(before):]


def rolling(model, ids, end, T):
    ids, total, done = [end] + ids, 0.0, 0
    while done < len(ids) - 1:
        stop = min(done + T, len(ids) - 1)
        total += log_likelihood(model, ids[max(stop - T, 0):done + 1], ids[done + 1:stop + 1], T)
        done = stop
    return total


def check(path, items, lines, model, encode, end, T):
    worst, right, bits, size = 0.0, [0, 0], 0.0, 0
    if len(items) != len(lines):
        sys.exit(f"{path}: {len(items)} items here, {len(lines)} there")
    for item, ours in zip(items, lines):
        if isinstance(item, str):
            ids = encode(item)
            theirs, tokens = [rolling(model, ids, end, T)], [len(ids)]
            mine = [ours["loglikelihood"]]
            bits, size = bits - theirs[0] / math.log(2), size + len(item.encode())
            if ours["bytes"] != len(item.encode()):
                sys.exit(f"{path}: {ours}: {len(item.encode())} bytes here")
        else:
            requests, answer = item
            pairs = [pair(encode, c, x, end) for c, x, _ in requests]
            theirs, tokens, mine = [log_likelihood(model, c, x, T) for c, x in pairs], [len(x) for _, x in pairs], ours["loglikelihoods"]
            for k, (name, values) in enumerate((("acc", theirs), ("acc_norm", [s / n for s, (_, _, n) in zip(theirs, requests)]))):
                best = max(range(len(values)), key=lambda i: values[i])
                first, second = sorted(values)[-1:-3:-1]
                right[k] += best == answer
                if ours[name] != int(best == answer) and first - second > A_TOKEN * max(tokens):
                    sys.exit(f"{path}: {ours}: {name} is {int(best == answer)} here, {values}")
            if ours["answer"] != answer:
                sys.exit(f"{path}: {ours}: the answer here is {answer}")
        if len(theirs) != len(mine):
            sys.exit(f"{path}: {ours}: {len(theirs)} choices here")
        for a, b, n in zip(theirs, mine, tokens):
            worst = max(worst, abs(a - b) / n)
            if not abs(a - b) <= A_TOKEN * n:
                sys.exit(f"{path}: {ours}: {a} here, over {n} tokens")
    found = f"{bits / size:.4f} bits/byte" if size else f"acc {right[0] / len(items):.3f}, acc_norm {right[1] / len(items):.3f}"
    print(f"{path}: {len(items)} items agree, {found}; largest difference {worst:.1e} a token")


def check_harness(work, model, tokenizer, T):
    """Ours against what lm_eval itself says, item by item."""
    import harness
    version, found, plain = harness.evaluate(work, model, tokenizer, T)
    ours_of = lambda name: [json.loads(line) for line in open(os.path.join(work, "out", f"eval_{name}.jsonl"))]
    all_plain = [json.loads(line) for line in open(os.path.join(work, "plain.jsonl"))]
    for name, items in found.items():
        lines, worst = ours_of(name), 0.0
        if name == "plain":
            lines = [line for line, row in zip(lines, all_plain) if row in plain]
        if len(lines) != len(items):
            sys.exit(f"{name}: {len(lines)} items here, lm_eval has {len(items)}")
        for ours, theirs in zip(lines, items):
            mine, other = ([x["loglikelihood"]] if "loglikelihood" in x else x["loglikelihoods"] for x in (ours, theirs))
            if len(mine) != len(other) or any(ours[k] != theirs[k] for k in ("acc", "acc_norm") if k in theirs):
                sys.exit(f"{name}: {ours}, but lm_eval {version} says {theirs}")
            worst = max(worst, *(abs(a - b) / max(1, abs(b)) for a, b in zip(mine, other)))
        if not worst <= 1e-5:
            sys.exit(f"{name}: log-likelihoods differ from lm_eval's by {worst:.1e} of them")
        print(f"{name}: {len(items)} items as lm_eval {version} scores them; largest difference {worst:.1e} of a log-likelihood")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("work", help="a folder to work in; it is emptied")
    p.add_argument("--model", help="a checkpoint folder; without it a random model is made")
    p.add_argument("--set", action="append", default=[], metavar="FILE", help="a file of your own, instead of made ones")
    p.add_argument("--harness", action="store_true", help="lm_eval itself too, on the made questions")
    p.add_argument("--ours", default="./train_gpt2")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    os.makedirs(args.work)
    folder = args.model or os.path.join(args.work, "model")
    if not args.model:
        hf_check.make(argparse.Namespace(make=folder, seed=args.seed, dtype="float32"))
    model, tokenizer = hf_check.load(folder, torch.float32)
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    T, end = min(model.config.max_position_embeddings, 8192), tokenizer.get_vocab()["<|endoftext|>"]
    rng = random.Random(args.seed)
    paths = args.set or [os.path.join(args.work, f) for f in make_sets(args.work, encode, rng)]
    sets = {path: list(requests_of(path)) for path in paths} | ({} if args.set else make_published(args.work, rng))
    name = lambda path: os.path.basename(path).split(".")[0]
    command = shlex.split(args.ours) + ["-e", folder, "-x", "0", "-n", "0", "-b", "2", "-o", os.path.join(args.work, "out"),
                                        "--eval", ",".join(f"{name(f)}={f}" for f in sets)]
    print(hf_check.run(command, text=True).split("memory of the host")[-1].split("\n", 1)[1])
    for path, items in sets.items():
        lines = [json.loads(line) for line in open(os.path.join(args.work, "out", f"eval_{name(path)}.jsonl"))]
        check(path, items, lines, model, encode, end, T)
    if args.harness and not args.set:
        check_harness(args.work, model, tokenizer, T)
    print("eval: all right")
