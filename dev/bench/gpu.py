#!/usr/bin/env python3
"""Ours and PyTorch's GPT-2 on the GPU at hand, turn by turn, then our kernels one by one. `make bench-gpu` starts it.

    dev/bench/gpu.py                          d12 d24 d36 d48, at least 5 windows of 20 s each, every mode of torch.compile
    dev/bench/gpu.py --short                  d12 d24, 2 windows of 8 s, torch.compile's default mode
    dev/bench/gpu.py --models d12 --windows 3

Both train in bf16 on the same random tokens, T=1024, 524288 tokens a step, at the largest batch that both fit. A window is a run
of its own: warm-up steps, then steps for that long; runs take turns, A B A B, and the ratio is the median of the pairs'. nvidia-smi is
read twice a second and nothing is set. Each model's row is written as soon as it is measured. Without PyTorch ours is measured
alone. DRY=1 goes the same way with the emulated trainer, PyTorch on the CPU and tiny sizes, and writes into build/.
"""
import argparse
import array
import datetime
import importlib.util
import json
import os
import queue
import random
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
DRY = os.environ.get("DRY", "0") not in ("", "0")
WORK = "build/bench_gpu"
TRAINER = "build/emu-plain/train_gpt2cu" if DRY else "./train_gpt2cu"
LAYERS = "build/gpu/bench_layers"
TORCH_SPEED = "dev/reference/torch_speed.py"
DATA = f"{WORK}/random." + ("txt" if DRY else "bin")


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
    results = Results(args.out or f"{'build' if DRY else 'dev/bench'}/results/{slug(name)}.json",
                      {"machine": name, "date": datetime.date.today().isoformat(), **({"dry": True} if DRY else {}), **versions(), "torch_version": torch})
    print(f"{name}, {results.common['driver']}, PyTorch {torch}; into {results.path}\n")
    rows = []
    for model in args.models.split(","):
        rows.append(compare(args, model, watch, torch))
        results.add(rows[-1])
        print_table(rows)
    for row in kernels(args, rows):
        results.add(row)
    watch.stop()
    for row in rows:
        t = row.get("torch", {})
        text = row.get("error") or f"{row['tokens_per_s']:.0f} tokens/s"
        text += f", {row['ratio']:.3f} of PyTorch's rate" if "ratio" in row else f", PyTorch: {t['error']}" if "error" in t else ""
        text += f", {row['memory_ratio']:.2f} of its memory {row['memory']}" if row.get("memory_ratio") else ""
        print(f"{row['model']}: {text}")
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
    args.models = args.models or ("d1c64h1" if DRY else "d12,d24" if args.short else "d12,d24,d36,d48")
    args.windows = args.windows or (2 if args.short or DRY else 5)
    args.window = args.window or (1 if DRY else 8 if args.short else 20)
    args.modes = args.modes or ("0" if DRY else "default" if args.short else "default,max-autotune-no-cudagraphs,max-autotune")
    args.batch = args.batch or (2 if DRY else 0)
    args.device = "cpu" if DRY else "cuda"
    return args


# ---------------------------------------------------------------------------------------------------------- the machine

def smi(fields):
    """nvidia-smi's answer about the GPU that CUDA will take, as text; empty strings without one."""
    try:
        out = subprocess.run(smi_command(fields), capture_output=True, text=True, timeout=30).stdout.splitlines()
        return [x.strip() for x in out[0].split(",")]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return [""] * len(fields.split(","))


def smi_command(fields):
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    return ["nvidia-smi", "-i", device, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]


def gpu_name():
    if DRY:
        return "emulated GPU"
    name = smi("name")[0]
    if not name or "No devices" in name:
        sys.exit("bench-gpu: nvidia-smi names no GPU here; DRY=1 make bench-gpu tries the script without one")
    return name


def slug(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def versions():
    driver, clock, memory_clock, power = smi("driver_version,clocks.max.sm,clocks.max.mem,power.limit") if not DRY else ["none", "", "", ""]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {"driver": f"driver {driver}", "max_sm_mhz": clock, "max_memory_mhz": memory_clock, "power_limit_w": power, "commit": commit}


def torch_version():
    if not importlib.util.find_spec("torch"):
        return None
    out = subprocess.run([sys.executable, "-c", "import torch; print(torch.__version__, torch.cuda.is_available())"], capture_output=True, text=True)
    version, cuda = (out.stdout.split() + ["", ""])[:2]
    if not DRY and cuda != "True":
        print(f"PyTorch {version} sees no GPU")
        return None
    return version


class Watch:
    """What the card does, twice a second: clocks, power, temperature, memory."""
    FIELDS = "clocks.sm,power.draw,temperature.gpu,memory.used"

    def __init__(self):
        self.samples, self.process = [], None
        if DRY and not shutil.which("nvidia-smi"):
            print("no nvidia-smi: clocks, power and the driver's view of memory are not recorded")
            return
        self.process = subprocess.Popen(smi_command(self.FIELDS) + ["-lms", "500"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self.read, daemon=True).start()
        time.sleep(2)   # the first samples are those of an idle card
        if self.idle() > 1024:
            print(f"{self.idle() / 1024:.1f} GiB of the GPU's memory are in use: by another program? What follows is not worth much then")

    def read(self):
        for line in self.process.stdout:
            values = [float(x) if re.fullmatch(r"[\d.]+", x.strip()) else None for x in line.split(",")]
            if len(values) == 4:
                self.samples.append((time.time(), *values))

    def between(self, begin, end):
        return [s for s in self.samples if begin <= s[0] <= end]

    def idle(self):
        """What is in use when nothing of ours runs, in MiB: the least that was ever seen."""
        return min((s[4] for s in self.samples if s[4] is not None), default=0)

    def memory(self, begin, end):
        """Largest use in that time, in MiB, without what others use; None if unknown."""
        used = [s[4] for s in self.between(begin, end) if s[4] is not None]
        return max(used) - self.idle() if used else None

    def clocks(self, begin, end):
        """Of a window: the clock's median and least, the mean power, the highest temperature."""
        seen = [s for s in self.between(begin, end) if None not in s[1:4]]
        if not seen:
            return None
        mhz, watts, celsius = ([s[i] for s in seen] for i in (1, 2, 3))
        return {"sm_mhz": statistics.median(mhz), "sm_mhz_least": min(mhz), "w": round(statistics.mean(watts), 1), "celsius": max(celsius)}

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()


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
    """Random tokens, as a shard of 16-bit tokens; for the emulator bytes, whose vocabulary is small."""
    random.seed(1)
    if DRY:
        with open(DATA, "w") as f:
            return f.write("".join(random.choices("abcdefgh \n", k=20000)))
    count = 1 << 23
    header = array.array("i", [20240520, 1, count] + [0] * 253)
    with open(DATA, "wb") as f:
        f.write(header.tobytes())
        for _ in range(count >> 20):
            f.write(array.array("H", random.choices(range(50257), k=1 << 20)).tobytes())


# ------------------------------------------------------------------------------------------------------ one and the other

def run(command, limit, env=None):
    """Runs a command to its end or the limit: its lines with the time each came, its exit code, and what it said last."""
    began = time.time()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
                               env={**os.environ, **(env or {})})
    lines, coming = [], queue.Queue()

    def read():
        for line in process.stdout:
            coming.put((time.time(), line.rstrip("\n")))
        coming.put(None)
    threading.Thread(target=read, daemon=True).start()
    try:
        while (item := coming.get(timeout=max(0.1, began + limit - time.time()))) is not None:
            lines.append(item)
        code = process.wait(timeout=60)
    except (queue.Empty, subprocess.TimeoutExpired):
        code, lines = 124, lines + [(time.time(), f"ran past {limit:.0f} s")]
    finally:   # also when this program is interrupted
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)   # the compiler's workers too
            process.wait()
    with open(f"{WORK}/commands.log", "a") as f:
        f.write(f"$ {shlex.join(command)}\n" + "".join(f"{t - began:8.2f} {line}\n" for t, line in lines) + f"exit code {code}\n\n")
    last = next((line for _, line in reversed(lines) if line.strip()), "it printed nothing")
    return {"began": began, "ended": time.time(), "lines": lines, "code": code, "last": last[:300]}


def json_of(r):
    """The object that a child of torch_speed.py printed, warnings before and after it or not; else why there is none."""
    objects = [line for _, line in r["lines"] if line.startswith("{") and line.endswith("}")]
    return json.loads(objects[-1]) if r["code"] == 0 and objects else {"error": r["last"]}


def ours_command(args, model, batch, steps):
    return [TRAINER, "-i", DATA, "-e", model, "-b", str(batch), "-t", str(args.seq), "-d", str(args.tokens), "-x", str(steps), "-v", "0", "-s", "0",
            "-n", "0", "--precision", "bf16", "-o", f"{WORK}/out"]


def run_ours(args, watch, model, batch, steps):
    """A run of so many steps: {"error"} or what it measured; the rate is of the steps after the warm-up."""
    shutil.rmtree(f"{WORK}/out", ignore_errors=True)
    r = run(ours_command(args, model, batch, steps), args.limit)
    if r["code"]:
        return {"error": r["last"]}
    with open(f"{WORK}/out/metrics.jsonl") as f:
        header, *rows = map(json.loads, f)
    rows = [row for row in rows if "tokens_per_s" in row]
    text = "\n".join(line for _, line in r["lines"])
    planned = re.search(r"memory of the device\n(?:  .*\n)*?  total +([\d.]+) MiB", text + "\n")
    source = re.search(r"^machine .*FLOP/s (.*)$", text, re.M)
    stamps = [t for t, line in r["lines"] if re.match(r"step +\d+/\d+ ", line)]
    out = {"steps": len(rows), "peak_flops_per_s": header["peak_flops_per_s"], "peak_from": source[1] if source else "", "parameters": header["parameters"],
           "planned_gib": float(planned[1]) / 1024 if planned else None, "driver_gib": gib(watch.memory(r["began"], r["ended"])),
           "first_step_s": stamps[0] - r["began"], "flops_per_token": rows[0]["flops_per_s"] / rows[0]["tokens_per_s"], "loss": rows[-1]["loss"]}
    # a line may come when the next step is all but launched, that of the last does not: it would count a step that took no time
    measured, skip = rows[warm_up(args, batch):-1], warm_up(args, batch)
    if measured:
        seconds = sum(row["ms"] for row in measured) / 1e3
        out |= {"ms": 1e3 * seconds / len(measured), "tokens_per_s": args.tokens * len(measured) / seconds,
                "clocks": watch.clocks(stamps[skip - 1], stamps[-2])}
    return out


def warm_up(args, batch):
    return 2 if args.tokens >= 4 * batch * args.seq else 3


def run_torch(args, watch, model, batch, mode, sdpa, vocab, seconds):
    command = [sys.executable, TORCH_SPEED, "--child", "measure", "--model", model, "--vocab", str(vocab), "--batch", str(batch), "--seq", str(args.seq),
               "--accum", str(args.tokens // (batch * args.seq)), "--precision", "bf16", "--bf16", "autocast", "--tf32", "1", "--device", args.device,
               "--compile", mode, "--sdpa", sdpa, "--seconds", str(seconds), "--min-steps", "3",
               "--skip", str(warm_up(args, batch)), "--began", str(time.time())]
    # the compiler's caches begin empty: the first start of a model in a mode is a cold one, the next are warm
    caches = {f"{name}_CACHE_DIR": os.path.abspath(f"{WORK}/{name.lower()}-{model}-{mode}") for name in ("TORCHINDUCTOR", "TRITON")}
    r = run(command, args.limit, caches)
    result = json_of(r)
    if "error" in result:
        return {"error": result["error"]}
    return {"tokens_per_s": result["window_tokens_per_s"], "ms": result["ms"], "steps": result["steps"], "parameters": result["parameters"],
            "first_step_s": result["first_step_s"], "allocated_gib": gib(result["peak_mb"]) if not DRY else None,
            "reserved_gib": gib(result.get("reserved_mb")), "driver_gib": gib(watch.memory(r["began"], r["ended"])), "clocks": watch.clocks(*result["window"]), "loss": result["last_loss"]}


def pick_sdpa(args, model, batch):
    if DRY:
        return "default", {}
    result = json_of(run([sys.executable, TORCH_SPEED, "--child", "sdpa", "--model", model, "--batch", str(batch), "--seq", str(args.seq),
                          "--precision", "bf16", "--device", "cuda"], args.limit))
    return result.get("sdpa", "default"), result.get("ms", result)


def gib(mib):
    return None if mib is None else round(mib / 1024, 3)


def divisor_at_most(n, most):
    return max(d for d in range(1, most + 1) if n % d == 0)


def say(text):
    print(text, flush=True)


def compare(args, model, watch, torch):
    """Everything about one model, as one row of the results."""
    rows_a_step = args.tokens // args.seq
    row = {"model": model, "precision": "bf16", "seq": args.seq, "tokens_a_step": args.tokens, "window_s": args.window}
    plan = run(ours_command(args, model, "auto", 1) + ["--plan", "here"], args.limit)
    auto = next((int(line.split(":")[1]) for _, line in plan["lines"] if line.startswith("--batch auto:")), 0)
    if plan["code"] or not auto:
        return {**row, "error": f"ours: --plan: {plan['last']}"}

    # the largest batch that ours and then PyTorch's fit; a run of ours says how long a step takes, one of PyTorch's compiles
    batch = divisor_at_most(rows_a_step, args.batch or auto)
    ours = run_ours(args, watch, model, batch, warm_up(args, batch) + 2)
    while "error" in ours and batch > 1 and "out of memory" in ours["error"]:
        say(f"{model} B={batch}: ours: {ours['error']}")
        batch = divisor_at_most(rows_a_step, batch // 2)
        ours = run_ours(args, watch, model, batch, warm_up(args, batch) + 2)
    if "error" in ours:
        return {**row, "batch": batch, "error": f"ours: {ours['error']}"}
    vocab = 320 if DRY else 50304
    modes, theirs, variants = args.modes.split(","), None, []
    if torch:
        sdpa, sdpa_ms = pick_sdpa(args, model, batch)
        while True:
            theirs = run_torch(args, watch, model, batch, modes[0], sdpa, vocab, 0)
            if "out of memory" not in theirs.get("error", "") or batch == 1:
                break
            say(f"{model} B={batch}: PyTorch: {theirs['error']}")
            batch = divisor_at_most(rows_a_step, batch // 2)
        variants.append({"compile": modes[0], **theirs})
        for mode in modes[1:]:
            variants.append({"compile": mode, **run_torch(args, watch, model, batch, mode, sdpa, vocab, min(5, args.window))})
        if all("error" in v for v in variants) and "0" not in modes:   # not compiled at all
            variants.append({"compile": "0", **run_torch(args, watch, model, batch, "0", sdpa, vocab, min(5, args.window))})
        for v in variants:
            result = v.get("error") or f"{v['tokens_per_s']:.0f} tokens/s, first step after {v['first_step_s']:.1f} s"
            say(f"{model} B={batch} PyTorch, torch.compile {v['compile']}: {result}")
        ran = [v for v in variants if "error" not in v]
        best = max(ran, key=lambda v: v["tokens_per_s"]) if ran else None
        row["torch"] = {"sdpa": sdpa, "sdpa_ms": sdpa_ms, "variants": variants}
        row["torch"] |= {"compile": best["compile"], "first_step_cold_s": best["first_step_s"]} if best else {"error": variants[-1]["error"]}
    row["batch"], row["grad_accum"] = batch, rows_a_step // batch

    # in turn
    steps = warm_up(args, batch) + 1 + max(3, int(args.window * 1e3 / ours["ms"]) + 1)
    mine, yours = [], []
    for i in range(args.windows):
        mine.append(run_ours(args, watch, model, batch, steps))
        if "error" in mine[-1]:
            return {**row, "error": f"ours: {mine[-1]['error']}"}
        line = f"{model} B={batch} window {i + 1}: ours {mine[-1]['tokens_per_s']:.0f} tokens/s"
        if torch and "error" not in row["torch"]:
            yours.append(run_torch(args, watch, model, batch, row["torch"]["compile"], sdpa, vocab, args.window))
            if "error" in yours[-1]:
                row["torch"]["error"] = yours.pop()["error"]
            else:
                line += f", PyTorch {yours[-1]['tokens_per_s']:.0f}, ratio {mine[-1]['tokens_per_s'] / yours[-1]['tokens_per_s']:.3f}"
        say(line)
    starts = [run_ours(args, watch, model, batch, 1) for _ in range(min(3, args.windows))]
    row |= summary(mine) | {"first_step_s": median_of(starts, "first_step_s"), "windows": len(mine)}
    row["mfu"] = row["tokens_per_s"] * row["flops_per_token"] / row["peak_flops_per_s"]
    if yours:
        row["torch"] |= summary(yours) | {"first_step_s": median_of(yours, "first_step_s"), "windows": len(yours)}
        row["torch"]["mfu"] = row["torch"]["tokens_per_s"] * row["flops_per_token"] / row["peak_flops_per_s"]
        row["ratio"] = statistics.median(a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(mine, yours))
        row["memory"], a, b = "by the driver", row["driver_gib"], row["torch"]["driver_gib"]
        if not a or not b:
            row["memory"], a, b = "planned, and allocated", row["planned_gib"], row["torch"]["allocated_gib"]
        row["memory_ratio"] = a / b if a and b else None
    if auto != batch:
        alone = run_ours(args, watch, model, auto, steps)
        row["auto"] = {"batch": auto, **{k: alone[k] for k in ("error", "tokens_per_s", "planned_gib", "driver_gib") if k in alone}}
    else:
        row["auto"] = {"batch": auto}
    return row


def median_of(runs, key):
    values = [r[key] for r in runs if r.get(key) is not None]
    return statistics.median(values) if values else None


def summary(runs):
    """The medians of the windows, each window's rate, and what the card did in each."""
    out = {key: median_of(runs, key) for key in runs[0] if key not in ("clocks", "peak_from", "steps")}
    out |= {"all_tokens_per_s": [round(r["tokens_per_s"], 1) for r in runs], "steps": [r["steps"] for r in runs], "clocks": [r["clocks"] for r in runs]}
    return out | ({"peak_from": runs[0]["peak_from"]} if "peak_from" in runs[0] else {})


# -------------------------------------------------------------------------------------------------------------- printing

def cell(value, text):
    return "-" if value is None else format(value, text)


def print_table(rows):
    peak = next((r["peak_from"] for r in rows if "peak_from" in r), "")
    def auto(r):
        a = r["auto"]
        return f"B={a['batch']}" + (f" {a['tokens_per_s']:.0f}" if "tokens_per_s" in a else " failed" if "error" in a else "")

    head = ["model", "B", "tokens/s", "MFU", "PyTorch", "MFU", "ratio", "GiB", "PyTorch", "ratio", "first step s", "PyTorch", "cold", "-b auto"]
    table = [head]
    for r in rows:
        t = r.get("torch", {})
        if "error" in r:
            table.append([r["model"], cell(r.get("batch"), "d"), r["error"]])
            continue
        driver = r.get("memory", "by the driver") == "by the driver" and r["driver_gib"]
        table.append([r["model"], str(r["batch"]), cell(r["tokens_per_s"], ".0f"), cell(r["mfu"], ".1%"), cell(t.get("tokens_per_s"), ".0f"),
                      cell(t.get("mfu"), ".1%"), cell(r.get("ratio"), ".3f"), cell(r["driver_gib"] if driver else r["planned_gib"], ".2f"),
                      cell(t.get("driver_gib") if driver else t.get("allocated_gib"), ".2f"), cell(r.get("memory_ratio"), ".2f"),
                      cell(r["first_step_s"], ".2f"), cell(t.get("first_step_s"), ".2f"), cell(t.get("first_step_cold_s"), ".2f"), auto(r)])
    widths = [max(len(r[i]) for r in table if len(r) == len(head)) for i in range(len(head))]
    print()
    for r in table:
        print("  ".join(x.rjust(w) for x, w in zip(r, widths)))
    for r in rows:
        if "error" in r.get("torch", {}):
            print(f"{r['model']}: PyTorch: {r['torch']['error']}")
    memory = next((r["memory"] for r in rows if "memory" in r), "by the driver, or planned")
    say(f"MFU of the peak {peak}; memory {memory}; seconds from the start of the program to the end of its first step, cold: with "
        "nothing in the compiler's cache\n")


# How often a step calls each of the layers that bench_layers measures: per micro-batch, and the head and the classifier per chunk of 2048
# rows, as they are measured there, whatever the trainer's are; in the trainer GELU is always in one call with its product.
def calls_a_step(layer, L, micro, chunks, parameters):
    optimizer = {"global norm, 85M": parameters / 84934656, "AdamW, 85M": parameters / 84934656}
    once = {"embedding forward": 1, "embedding backward": 1, "layernorm forward": 1, "residual + layernorm": 2 * L, "layernorm backward": 2 * L + 1,
            "fc forward": 0}
    if layer in optimizer:
        return optimizer[layer]
    if layer.startswith("head") or layer.startswith("classifier"):
        return chunks
    return micro * once.get(layer, L)


def kernels(args, rows):
    """The layers of 124M in the same run: time, share of the step, rate, part of the ceiling measured beside them."""
    d12 = next((r for r in rows if r["model"] == "d12" and "ms" in r), None)
    if DRY or args.no_kernels or not d12:
        say("kernels: left out: " + ("sizes of 124M are not emulated" if DRY else "not asked for" if args.no_kernels else "d12 was not measured"))
        return []
    batch, lines = min(32, d12["batch"]), f"{WORK}/layers.jsonl"
    r = run([LAYERS, lines, str(batch), str(args.seq), "0.15" if args.short else "0.5"], args.limit)
    if r["code"]:
        say(f"kernels: {LAYERS}: {r['last']}")
        return [{"error": f"bench_layers: {r['last']}"}]
    with open(lines) as f:
        return kernel_rows([x for x in map(json.loads, f) if x["precision"] == "bf16"], d12, args.tokens // (batch * args.seq), args.tokens // 2048)


def kernel_rows(layers, d12, micro, chunks):
    out, total = [], 0
    say(f"kernels of 124M, bf16: product {layers[0]['peak_gflops'] / 1e3:.1f} TFLOP/s, copy {layers[0]['copy_gbs']:.0f} GB/s in this run; "
        f"a step takes {d12['ms']:.1f} ms")
    say(f"{'':24} {'ms a call':>10} {'calls':>7} {'of the step':>11} {'rate':>15} {'of the ceiling':>14}")
    for x in layers:
        calls = calls_a_step(x["layer"], 12, micro, chunks, d12["parameters"])
        of_flops, of_bytes = x["gflops"] / x["peak_gflops"], x["gbs"] / x["copy_gbs"]
        share, by_flops = calls * x["ms"] / d12["ms"], of_flops >= of_bytes
        total += share
        rate = f"{x['gflops'] / 1e3:.1f} TFLOP/s" if by_flops else f"{x['gbs']:.0f} GB/s"
        say(f"{x['layer']:24} {x['ms']:10.4f} {calls:7.0f} {share:11.1%} {rate:>15} {max(of_flops, of_bytes):14.0%}")
        out.append({**{k: x[k] for k in ("layer", "precision", "batch", "seq", "ms", "gflops", "gbs", "peak_gflops", "copy_gbs")},
                    "calls_a_step": round(calls, 2), "share": round(share, 4), "of_ceiling": round(max(of_flops, of_bytes), 4)})
    say(f"{'sum':24} {'':10} {'':7} {total:11.1%}\n")
    return out


if __name__ == "__main__":
    sys.exit(main())
