#!/usr/bin/env python3
"""Ours and PyTorch's GPT-2, and a modern model, on the GPU at hand, alternating, then our kernels one by one. `make bench-gpu` starts it.

    dev/bench/gpu.py                          d12 d24 d36 d48 modern:d12, at least 5 windows of 20 s each, every mode of torch.compile
    dev/bench/gpu.py --short                  d12 d24, 2 windows of 8 s, torch.compile's default mode
    dev/bench/gpu.py --models d12 --windows 3

Both train in bf16 on random tokens, T=1024, 524288 tokens a step. The ratio of the rates is best against best: ours at the faster of
two batches, PyTorch's in its fastest mode of torch.compile, each mode at the largest batch that fits it, the fastest also at half of
that. A window is a run of its own: warm-up steps, then steps for that long; runs take turns, A B B A, and the ratio is the median
of the pairs'. Memory is compared at one batch, with the leanest mode, by the driver and by what was asked for, and the worse
counts. nvidia-smi is read twice a second and nothing is set. Each model's row is written as soon as it is measured. Without PyTorch
ours is measured alone. DRY=1 goes the same way with the emulated trainer, PyTorch on the CPU and tiny sizes, and writes into build/.
"""
import argparse
import array
import datetime
import importlib.util
import json
import math
import os
import random
import re
import shutil
import statistics
import subprocess
import sys

from host import host
from kernels import kernels
from runs import DATA, WORK, ours_command, pick_sdpa, plans_folder, run, run_ours, run_torch, say, warm_up
from watch import DRY, Watch, gpu_name, versions

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def main():
    args = options()
    name = gpu_name()
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    write_data()
    watch = Watch()
    torch = torch_version() if not args.no_torch else None
    if not torch:
        print("PyTorch is not " + ("asked for" if args.no_torch else f"installed for {sys.executable}") + ": ours is measured alone")
    path = args.out or f"{'build' if DRY else 'dev/bench'}/results/{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    results = Results(path, {"machine": name, "date": datetime.date.today().isoformat(), **({"dry": True} if DRY else {}), **versions(), "torch_version": torch})
    print(f"{name}, {results.common['driver']}, PyTorch {torch}; into {results.path}\n")
    rows = []
    for model in args.models.split(","):
        rows.append(compare(args, model, watch, torch))
        results.add(rows[-1])
        print_tables(rows)
    for row in host(args, watch) + kernels(args, rows):
        results.add(row)
    watch.stop()
    for row in rows:
        print_summary(row)
    return 1 if any("error" in row for row in rows) else 0


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--short", action="store_true")
    p.add_argument("--models", help="comma separated")
    p.add_argument("--seq", type=int, default=64 if DRY else 1024)
    p.add_argument("--tokens", type=int, default=256 if DRY else 1 << 19, help="a step")
    p.add_argument("--batch", type=int, default=0, help="where the search for a batch begins; 0: at what -b auto takes")
    p.add_argument("--windows", type=int)
    p.add_argument("--window", type=float, help="seconds")
    p.add_argument("--modes", help="of torch.compile, comma separated")
    p.add_argument("--limit", type=float, default=1800, help="seconds that one run may take")
    p.add_argument("--no-torch", action="store_true")
    p.add_argument("--no-kernels", action="store_true")
    p.add_argument("--out", help="instead of dev/bench/results/GPU.json")
    args = p.parse_args()
    args.models = args.models or ("d1c64h1" if DRY else "d12,d24" if args.short else "d12,d24,d36,d48,modern:d12")
    args.windows = args.windows or (2 if args.short or DRY else 5)
    args.window = args.window or (1 if DRY else 8 if args.short else 20)
    args.modes = args.modes or ("0" if DRY else "default" if args.short else "default,max-autotune-no-cudagraphs,max-autotune")
    args.batch = args.batch or (2 if DRY else 0)
    args.device = "cpu" if DRY else "cuda"
    return args


def torch_version():
    if not importlib.util.find_spec("torch"):
        return None
    out = subprocess.run([sys.executable, "-c", "import torch; print(torch.__version__, torch.cuda.is_available())"], capture_output=True, text=True)
    version, cuda = (out.stdout.split() + ["", ""])[:2]
    if not DRY and cuda != "True":
        print(f"PyTorch {version} sees no GPU")
        return None
    return version


class Results:
    """An array of objects, one a measurement, one a line; whole on disk after each."""

    def __init__(self, path, common):
        self.path, self.common, self.rows = path, common, []
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)

    def add(self, row):
        self.rows.append(json.dumps({**self.common, **row}))
        with open(self.path + ".tmp", "w") as f:
            f.write("[\n" + ",\n".join(self.rows) + "\n]\n")
        os.replace(self.path + ".tmp", self.path)


def write_data():
    """Random tokens, as a shard of 16-bit tokens; for the emulator letters, a token each."""
    random.seed(1)
    if DRY:
        with open(DATA, "w") as f:
            return f.write("".join(random.choices([chr(c) for c in range(32, 127)], k=20000)))
    count = 1 << 23
    header = array.array("i", [20240520, 1, count] + [0] * 253)
    with open(DATA, "wb") as f:
        f.write(header.tobytes())
        for _ in range(count >> 20):
            f.write(array.array("H", random.choices(range(50257), k=1 << 20)).tobytes())


# ------------------------------------------------------------------------------------------------------------ the comparison

def divisor_at_most(n, most):
    return max(d for d in range(1, most + 1) if n % d == 0)


def largest_that_fits(rows_a_step, batch, attempt):
    """What attempt(batch) gives at the first of batch, its half, ... that is not out of memory."""
    while True:
        result = attempt(batch)
        if "out of memory" not in result.get("error", "") or batch == 1:
            return result
        batch = divisor_at_most(rows_a_step, batch // 2)


def fastest(runs):
    return max((r for r in runs if "error" not in r), key=lambda r: r["tokens_per_s"], default=None)


def without_losses(r):
    return {key: value for key, value in r.items() if key != "losses"}


def find_ours(args, model, watch, rows_a_step, batch):
    """A few steps at the largest batch that fits and at its half; the faster, or the error."""
    def attempt(b):
        r = run_ours(args, watch, model, b, warm_up(args.tokens, b, args.seq) + 4)
        say(f"{model} B={b} ours: {r.get('error') or format(r['tokens_per_s'], '.0f') + ' tokens/s'}")
        return r
    runs = [largest_that_fits(rows_a_step, batch, attempt)]
    if "error" not in runs[0] and runs[0]["batch"] > 1 and not args.short:
        runs.append(attempt(divisor_at_most(rows_a_step, runs[0]["batch"] // 2)))
    return fastest(runs) or runs[0]


def find_torch(args, model, watch, rows_a_step, batch, sdpa):
    """Every mode of torch.compile, each at the largest batch that fits, with the given attention if the mode can compile it."""
    variants, modes = [], args.modes.split(",")

    def attempt(mode, attention, b):
        variants.append(run_torch(args, watch, model, {"compile": mode, "sdpa": attention, "batch": b}, min(5, args.window)))
        v = variants[-1]
        result = v.get("error") or f"{v['tokens_per_s']:.0f} tokens/s, first step after {v['first_step_end_s']:.1f} s"
        say(f"{model} B={b} PyTorch, torch.compile {mode}, attention {attention}: {result}")
        return v

    for mode in modes:
        for attention in dict.fromkeys((sdpa, "flash", "default")):   # forcing one may be what a mode cannot compile
            v = largest_that_fits(rows_a_step, batch, lambda b: attempt(mode, attention, b))
            if "error" not in v:
                batch = v["batch"]   # what did not fit here will not fit the next mode, which keeps more
                break
    best = fastest(variants)
    if not best and "0" not in modes:   # not compiled at all
        largest_that_fits(rows_a_step, batch, lambda b: attempt("0", "default", b))
    elif best and best["batch"] > 1 and not args.short:
        attempt(best["compile"], best["sdpa"], divisor_at_most(rows_a_step, best["batch"] // 2))
    return variants


def compare(args, model, watch, torch):
    """Everything about one model, as one row of the results."""
    rows_a_step = args.tokens // args.seq
    row = {"model": model, "precision": "bf16", "seq": args.seq, "tokens_a_step": args.tokens, "window_s": args.window}
    plan = run(ours_command(model, "auto", args.seq, args.tokens, 1) + ["--plan", "here"], args.limit)
    row["auto"] = next((int(m[1]) for _, line in plan["lines"] if (m := re.match(r"--batch auto: (\d+)", line))), 0)
    if plan["code"] or not row["auto"]:
        return {**row, "error": f"ours: --plan: {plan['last']}"}
    batch = divisor_at_most(rows_a_step, args.batch or row["auto"])

    ours = find_ours(args, model, watch, rows_a_step, batch)
    row["batch"] = ours["batch"]
    if "error" in ours:
        return {**row, "error": f"ours: {ours['error']}"}
    best = None
    if torch:
        sdpa, sdpa_ms = pick_sdpa(args, model, batch)
        variants = find_torch(args, model, watch, rows_a_step, batch, sdpa)
        best = fastest(variants)
        row["torch"] = {"sdpa_ms": sdpa_ms, "variants": [without_losses(v) for v in variants]}
        row["torch"] |= {key: best[key] for key in ("compile", "sdpa", "batch")} if best else {"error": variants[-1]["error"]}

    mine, yours, error = take_turns(args, model, watch, ours, best)
    if "ours" in error:
        return {**row, "error": f"ours: {error['ours']}"}
    row |= summary(mine) | starts(args, model, watch, ours["batch"]) | {"windows": len(mine)}
    row["mfu"] = row["tokens_per_s"] * row["flops_per_token"] / row["peak_flops_per_s"]
    if "torch" in error:
        row["torch"]["error"] = error["torch"]
    if not yours:
        return row
    row["torch"] |= summary(yours) | {"first_step_cold_begin_s": best["first_step_begin_s"], "first_step_cold_end_s": best["first_step_end_s"], "windows": len(yours)}
    row["torch"]["mfu"] = row["torch"]["tokens_per_s"] * row["flops_per_token"] / row["peak_flops_per_s"]
    row["ratio"] = statistics.median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(mine, yours))
    row["memory"] = compare_memory(args, model, watch, mine, yours, [v for v in variants if "error" not in v])
    if not args.short:   # for information: bf16 weights and fp32 masters, whose gradients no CUDA graph may own
        mode = {"max-autotune": "max-autotune-no-cudagraphs", "reduce-overhead": "default"}.get(best["compile"], best["compile"])
        variant = {"compile": mode, "sdpa": best["sdpa"], "batch": best["batch"], "bf16": "weights"}
        row["torch"]["bf16_weights"] = without_losses(run_torch(args, watch, model, variant, min(5, args.window)))
    if why := losses_differ(mine, yours):
        row["error"] = why
    return row


def take_turns(args, model, watch, ours, theirs):
    """Windows of one and the other, A B B A: (ours, PyTorch's, {who failed: why}). Where PyTorch runs, pairs stand at the same place."""
    batch = ours["batch"]
    steps = warm_up(args.tokens, batch, args.seq) + 1 + max(3, int(args.window * 1e3 / ours["ms"]) + 1)
    variant = {key: theirs[key] for key in ("compile", "sdpa", "batch")} if theirs else None
    mine, yours, error = [], [], {}
    for i in range(args.windows):
        pair = {}
        for who in ("ours", "torch") if i % 2 == 0 else ("torch", "ours"):
            if who == "ours":
                pair[who] = run_ours(args, watch, model, batch, steps)
            elif variant and "torch" not in error:
                pair[who] = run_torch(args, watch, model, variant, args.window)
        error |= {who: r["error"] for who, r in pair.items() if "error" in r}
        if "ours" in error:
            break
        line = f"{model} window {i + 1}: ours B={batch} {pair['ours']['tokens_per_s']:.0f} tokens/s"
        if "torch" in pair and "error" not in pair["torch"]:
            yours.append(pair["torch"])
            line += f", PyTorch B={variant['batch']} {yours[-1]['tokens_per_s']:.0f}, ratio {pair['ours']['tokens_per_s'] / yours[-1]['tokens_per_s']:.3f}"
        mine.append(pair["ours"])
        say(line)
    return mine, yours, error


def starts(args, model, watch, batch):
    """Seconds to the first step, ours: cold, with nothing known of the shapes, then warm; PyTorch's come from its windows."""
    shutil.rmtree(plans_folder(model), ignore_errors=True)
    cold, *warm = [run_ours(args, watch, model, batch, 1) for _ in range(1 + min(3, args.windows))]
    return {"first_step_cold_begin_s": cold.get("first_step_begin_s"), "first_step_cold_end_s": cold.get("first_step_end_s"),
            "shapes_measured": cold.get("shapes_measured"), "measuring_s": cold.get("measuring_s"),
            "first_step_begin_s": median_of(warm, "first_step_begin_s"), "first_step_end_s": median_of(warm, "first_step_end_s")}


def compare_memory(args, model, watch, mine, yours, variants):
    """At the batch of PyTorch's windows, against the least that any of its runs at that batch took; the ratio is the worse of the two."""
    batch = yours[0]["batch"]
    ours = mine if mine[0]["batch"] == batch else [run_ours(args, watch, model, batch, warm_up(args.tokens, batch, args.seq) + 4)]
    if "error" in ours[0]:
        return {"batch": batch, "error": ours[0]["error"]}
    theirs = [v for v in yours + variants if v["batch"] == batch]
    def least(key):
        return min((v for v in theirs if v[key]), key=lambda v: v[key], default=None)
    out = {"batch": batch, "ratio": None, "tokens_per_s": median_of(ours, "tokens_per_s")}
    for what, a, b in (("driver", "driver_gib", "driver_gib"), ("asked", "planned_gib", "allocated_gib")):
        lean, gib = least(b), median_of(ours, a)
        out |= {f"{what}_gib": gib, f"torch_{what}_gib": lean and lean[b], f"torch_{what}_compile": lean and lean["compile"],
                f"{what}_ratio": gib / lean[b] if gib and lean else None}
    ratios = [r for r in (out["driver_ratio"], out["asked_ratio"]) if r]
    out["ratio"] = max(ratios) if ratios else None
    return out


def losses_differ(mine, yours):
    """Random tokens, of which neither can know more than ln(vocabulary): what differs by more than 2 % early on did not do the same work.
    Later PyTorch may have learnt its fewer batches by heart."""
    for a, b in zip(mine, yours):
        n = min(len(a["losses"]), len(b["losses"]), 10)
        x, y = a["losses"][n - 1], b["losses"][n - 1]
        if not all(loss is not None and math.isfinite(loss) for loss in a["losses"] + b["losses"]):
            return "not the same work: a loss is not finite"
        if abs(x - y) > 0.02 * y:
            return f"not the same work: after {n} steps the loss is {x} here and {y} in PyTorch"
    return None


def median_of(runs, key):
    values = [r[key] for r in runs if r.get(key) is not None]
    return statistics.median(values) if values else None


def summary(runs):
    """The medians of the windows, each window's rate, and what the card did in each."""
    keys = ("tokens_per_s", "ms", "parameters", "first_step_begin_s", "first_step_end_s", "planned_gib", "driver_gib", "allocated_gib", "reserved_gib",
            "peak_flops_per_s", "flops_per_token")
    out = {key: median_of(runs, key) for key in keys if key in runs[0]}
    out |= {"all_tokens_per_s": [round(r["tokens_per_s"], 1) for r in runs], "steps": [r["steps"] for r in runs], "clocks": [r["clocks"] for r in runs],
            "loss": [r["losses"][-1] for r in runs]}
    return out | {key: runs[0][key] for key in ("peak_from", "attention") if key in runs[0]}


# -------------------------------------------------------------------------------------------------------------- printing

def cell(value, text):
    return "-" if value is None else format(value, text)


def print_tables(rows):
    rate = [["model", "B", "tokens/s", "MFU", "PyTorch's B", "mode", "tokens/s", "MFU", "ratio", "bf16 weights"]]
    rest = [["model", "B", "driver GiB", "PyTorch", "ratio", "plan GiB", "allocated", "ratio", "first step s", "cold", "PyTorch", "cold", "shapes"]]
    for r in rows:
        t, m = r.get("torch", {}), r.get("memory", {})
        if "mfu" in r:
            rate.append([r["model"], str(r["batch"]), cell(r["tokens_per_s"], ".0f"), cell(r["mfu"], ".1%"), cell(t.get("batch"), "d"), t.get("compile", "-"),
                         cell(t.get("tokens_per_s"), ".0f"), cell(t.get("mfu"), ".1%"), cell(r.get("ratio"), ".3f"),
                         cell(t.get("bf16_weights", {}).get("tokens_per_s"), ".0f")])
            rest.append([r["model"], str(m.get("batch", r["batch"])), cell(m.get("driver_gib", r["driver_gib"]), ".2f"), cell(m.get("torch_driver_gib"), ".2f"),
                         cell(m.get("driver_ratio"), ".3f"), cell(m.get("asked_gib", r["planned_gib"]), ".2f"), cell(m.get("torch_asked_gib"), ".2f"),
                         cell(m.get("asked_ratio"), ".3f"), cell(r["first_step_end_s"], ".2f"), cell(r["first_step_cold_end_s"], ".2f"),
                         cell(t.get("first_step_end_s"), ".2f"), cell(t.get("first_step_cold_end_s"), ".2f"),
                         f"{cell(r['shapes_measured'], 'd')} in {cell(r['measuring_s'], '.1f')} s"])
    peak = next((r["peak_from"] for r in rows if "peak_from" in r), "")
    for table, about in ((rate, f"MFU of the peak {peak}; each at its best batch, PyTorch in its fastest mode; bf16 weights: PyTorch's with fp32 masters, not compared"),
                         (rest, "memory at one batch against PyTorch's leanest mode; seconds from the start of the program to the end of its first step, cold: "
                                "with nothing in our cache or the compiler's; shapes: what cold measures")):
        if len(table) > 1:
            widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
            print()
            for r in table:
                print("  ".join(x.rjust(w) for x, w in zip(r, widths)))
            print(about)
    for r in rows:
        for error in (r.get("error"), r.get("memory", {}).get("error"), r.get("torch", {}).get("error")):
            if error:
                print(f"{r['model']}: {'' if error == r.get('error') else 'memory: ' if error == r.get('memory', {}).get('error') else 'PyTorch: '}{error}")
    say("")


def print_summary(row):
    t, m = row.get("torch", {}), row.get("memory", {})
    text = row.get("error") or f"{row['tokens_per_s']:.0f} tokens/s"
    text += f", {row['ratio']:.3f} of PyTorch's rate" if "ratio" in row else f", PyTorch: {t['error']}" if "error" in t else ""
    text += f", {m['ratio']:.2f} of its memory at B={m['batch']} (the worse of the driver's and the plan's)" if m.get("ratio") else ""
    print(f"{row['model']}: {text}")


if __name__ == "__main__":
    sys.exit(main())
