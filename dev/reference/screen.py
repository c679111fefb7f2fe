#!/usr/bin/env python3
"""Screens the modern recipe's ingredients with modern.py before one of them gets a kernel.

    python3 dev/reference/screen.py --train train.bin --val val.bin gpt2 all all-each    a line a run, then the table
    python3 dev/reference/screen.py ... gpt2,lr=6e-3,warmup=30 all,-rope,muon_lr=0.01    other rates; one ingredient off, too

gpt2: no ingredient; all: each of them; adamw: all but Muon, NorMuon and cautious decay; all-each, adamw-each: all (adamw) but one, for each; +smear: what is
not in all (modern.LATER). The shards
are what the trainer makes of the quickstart's text, in its folder tokens/. Arms of one seed see the same rows in the same order, and a tensor that
exists in both begins with the same values. Runs that --out holds are not made again, so that what was ended goes on where it was.
"""
import argparse
import json
import os
import time

import numpy as np
import torch

import modern

# The lab's scales (dev/lab/scales.py), both on the quickstart's tokens; W: a quarter of T, nanochat's proportion; std: --init-std
SIZES = {"quickstart": dict(B=4, std=0.07, model=dict(L=2, C=192, NH=6, V=2048, max_T=256, W=64)),
         "small": dict(B=8, std=0.1, model=dict(L=2, C=64, NH=2, V=2048, max_T=64, W=16))}
VALIDATED = 10240  # tokens


def rows(path, T):
    """(rows, T+1): a row starts where a document does, --bos-align's rule: the next one at the last document start within T tokens."""
    with open(path, "rb") as f:
        magic = np.frombuffer(f.read(1024), np.int32)[0]
        tokens = np.frombuffer(f.read(), np.uint16 if magic == 20240520 else np.uint32)
    documents, starts = np.flatnonzero(tokens == tokens[0]), [0]
    while starts[-1] + T < len(tokens):
        last = documents[np.searchsorted(documents, starts[-1] + T, "right") - 1]
        starts.append(last if last > starts[-1] else starts[-1] + T)
    return np.stack([tokens[s:s + T + 1] for s in starts[:-1]]).astype(np.int64)


def parse(arm):
    """'all,-rope,muon_lr=0.01' -> ingredients, hyper-parameters. GPT-2 has one rate for all."""
    base, *changes = arm.split(",")
    on, h = set({"gpt2": (), "all": modern.ALL, "adamw": modern.ALL - {"muon", "normuon", "cautious"}}[base]), dict(modern.HYPER)
    for change in changes:
        if change[0] in "+-":
            known = modern.ALL | set(modern.LATER)
            assert change[1:] in known, f"{arm}: no ingredient {change[1:]}; there are {', '.join(sorted(known))}"
            (on.add if change[0] == "+" else on.remove)(change[1:])
        else:
            name, value = change.split("=")
            assert name in h, f"{arm}: no {name}; there are {', '.join(h)}"
            h[name] = float(value)
    if base == "gpt2":
        h.update(embed_lr=h["lr"], head_lr=h["lr"], scalar_lr=h["lr"])
    return frozenset(on), h


def expand(arm):
    """'all-each,lr=0.01' -> all but one ingredient, for each that it has."""
    base, *changes = arm.split(",")
    if not base.endswith("-each"):
        return [arm]
    base = base.removesuffix("-each")
    return [",".join([base, "-" + i, *changes]) for i in (*modern.ARCHITECTURE, *modern.OPTIMIZER) if i in parse(base)[0]]


def written_twice(p, c, bos):
    """Nats a token of up to 60 random tokens, the first time and the second: a model that copies what followed last time needs next to none for the second."""
    n = min(60, (c["max_T"] - 1) // 2)
    once = torch.randint(c["V"] // 4, c["V"], (8, n), generator=torch.Generator().manual_seed(1))
    rows = torch.cat([torch.full((8, 1), bos), once, once], 1)
    with torch.no_grad():
        nats = torch.nn.functional.cross_entropy(modern.forward(p, c, rows[:, :-1]).transpose(1, 2), rows[:, 1:], reduction="none")  # (8, 2n)
    return [nats[:, 5:n].mean().item(), nats[:, n + 5:].mean().item()]


def run(arm, seed, steps, size, train, val):
    """Validation losses at thirds of the steps; CPU seconds of training; written_twice at the end."""
    on, h = parse(arm)
    B, c, h, state, losses, seconds = size["B"], dict(size["model"], on=on), dict(h, steps=steps), {}, {}, 0.0
    p = modern.init(c, seed, size["std"])
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(train))
    for step in range(steps):
        start = time.process_time()
        batch = torch.from_numpy(train[order[(step * B + np.arange(B)) % len(order)]])          # (B, T+1)
        modern.update(p, modern.gradients(p, c, batch), state, c, h, step)
        seconds += time.process_time() - start
        if step + 1 in (steps // 3, 2 * steps // 3, steps):
            losses[step + 1] = np.mean([modern.loss(p, c, torch.from_numpy(val[i:i + 8])).item() for i in range(0, VALIDATED // c["max_T"], 8)])
    return losses, seconds, written_twice(p, c, int(train[0, 0]))


def table(runs):
    """Means over seeds. Without it: what is lost where an ingredient is left out, mean and standard deviation over the seeds that both have."""
    of = {}                                                                      # arm -> seed -> its run
    for r in runs:
        of.setdefault(r["arm"], {})[r["seed"]] = r
    whole = lambda arm: ",".join(x for x in arm.split(",") if x[0] != "-")
    last = lambda r: list(r["losses"].values())[-1]
    print(f"{'arm':36} {'seeds':8} " + " ".join(f"{s:>8}" for s in runs[0]["losses"]) + f"  {'without it':16} {'CPU s':>6}")
    for arm, made in of.items():
        lost = [last(made[s]) - last(of[whole(arm)][s]) for s in made if arm != whole(arm) and s in of.get(whole(arm), {})]
        said = (f"{np.mean(lost):+.4f}" if lost else "") + (f" sd {np.std(lost, ddof=1):.4f}" if len(lost) > 1 else "")
        print(f"{arm:36} {','.join(map(str, made)):8} " + " ".join(f"{x:8.4f}" for x in np.mean([list(r["losses"].values()) for r in made.values()], 0)) +
              f"  {said:16} {np.mean([r['seconds'] for r in made.values()]):6.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", default=["gpt2", "all", "all-each"])
    parser.add_argument("--train", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--size", choices=SIZES, default="quickstart")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1], help="1,2,3")
    parser.add_argument("--out", default="screen.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    arms = [a for arm in args.arms for a in expand(arm)]
    size = SIZES[args.size]
    train, val = (rows(path, size["model"]["max_T"]) for path in (args.train, args.val))
    made = [json.loads(line) for line in open(args.out)] if os.path.exists(args.out) else []
    for seed in args.seeds:
        for arm in arms:
            if any((r["size"], r["arm"], r["seed"], r["steps"]) == (args.size, arm, seed, args.steps) for r in made):
                continue
            losses, seconds, twice = run(arm, seed, args.steps, size, train, val)
            made.append(dict(size=args.size, arm=arm, seed=seed, steps=args.steps, losses=losses, seconds=round(seconds, 2), twice=[round(x, 3) for x in twice]))
            with open(args.out, "a") as f:
                f.write(json.dumps(made[-1]) + "\n")
            print(arm, seed, *(f"{s}: {x:.4f}" for s, x in losses.items()), f"{seconds:.1f} s; random tokens {twice[0]:.2f}, again {twice[1]:.2f}", flush=True)
    table([r for r in made if (r["size"], r["steps"]) == (args.size, args.steps)])


if __name__ == "__main__":
    main()
