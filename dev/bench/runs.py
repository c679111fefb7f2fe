"""A run of our trainer and one of PyTorch's: started, read, and told in the same words.

Both give {"batch", "error"} or, among others:
    tokens_per_s          of the window: the steps after the warm-up
    losses                of every step, from the first
    first_step_begin_s    from the start of the process to the beginning of its first step,
    first_step_end_s      and to its end: with torch.compile the compiler works between the two
    driver_gib            what the driver saw in use: of ours in the whole run, of PyTorch's in the window only
"""
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

from watch import DRY

WORK = "build/bench_gpu"
TRAINER = "build/emu-plain/train_gpt2cu" if DRY else "./train_gpt2cu"
TORCH_SPEED = "dev/reference/torch_speed.py"
DATA = f"{WORK}/random." + ("txt" if DRY else "bin")
VOCABULARY = 257 if DRY else 50304   # PyTorch's: bytes and an end of text, or GPT-2's padded


def say(text):
    print(text, flush=True)


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


def gib(mib):
    return None if mib is None else round(mib / 1024, 3)


def warm_up(tokens, batch, seq):
    """Steps: PyTorch's graphs are recorded in the third micro-batch."""
    return 2 if tokens >= 4 * batch * seq else 3


# --------------------------------------------------------------------------------------------------------------------- ours

def plans_folder(model):
    """What was fastest for the model's shapes, kept from run to run; not the user's own."""
    return f"{WORK}/plans-{model}"


def ours_command(model, batch, seq, tokens, steps):
    return [TRAINER, "-i", DATA, "-e", model, "-b", str(batch), "-t", str(seq), "-d", str(tokens), "-x", str(steps), "-v", "0", "-s", "0", "-n", "0",
            "-l", "3e-4", "-k", "constant", "--precision", "bf16", "--cache", plans_folder(model), "-o", f"{WORK}/out"]   # PyTorch's learning rate


def run_ours(args, watch, model, batch, steps, seq=None, tokens=None, skip=None, under=()):
    """A run of so many steps, by default of the model comparison's sizes; `under`: a profiler's command."""
    seq, tokens = seq or args.seq, tokens or args.tokens
    skip = skip or warm_up(tokens, batch, seq)
    shutil.rmtree(f"{WORK}/out", ignore_errors=True)
    r = run([*under, *ours_command(model, batch, seq, tokens, steps)], args.limit)
    if r["code"]:
        return {"batch": batch, "error": r["last"]}
    with open(f"{WORK}/out/metrics.jsonl") as f:
        return {"batch": batch, **read_ours(r, *map(json.loads, f), watch=watch, skip=skip)}


def read_ours(r, header, *rows, watch, skip):
    rows = [row for row in rows if "tokens_per_s" in row]
    text = "\n".join(line for _, line in r["lines"])
    planned = re.search(r"memory of the device\n(?:  .*\n)*?  total +([\d.]+) MiB", text + "\n")
    source = re.search(r"^machine .*FLOP/s (.*)$", text, re.M)
    attention = re.search(r"^attention (.*)$", text, re.M)
    measuring = re.search(r"^machine .*, (\d+) shapes measured in ([\d.]+) s,", text, re.M)
    stamps = [t for t, line in r["lines"] if re.match(r"step +\d+/\d+ ", line)]
    end = stamps[0] - r["began"]
    tokens = rows[0]["tokens_per_s"] * rows[0]["ms"] / 1e3
    out = {"steps": len(rows), "peak_flops_per_s": header["peak_flops_per_s"], "peak_from": source[1] if source else "",
           "attention": attention[1] if attention else "", "parameters": header["parameters"],
           "planned_gib": gib(float(planned[1])) if planned else None, "driver_gib": gib(watch.memory(r["began"], r["ended"])),
           "first_step_begin_s": end - rows[0]["ms"] / 1e3, "first_step_end_s": end,
           "shapes_measured": int(measuring[1]) if measuring else 0, "measuring_s": float(measuring[2]) if measuring else 0,
           "flops_per_token": rows[0]["flops_per_s"] / rows[0]["tokens_per_s"], "losses": [row["loss"] for row in rows]}
    # a line may come when the next step is all but launched, that of the last does not: it would count a step that took no time
    measured = rows[skip:-1]
    if measured:
        seconds = sum(row["ms"] for row in measured) / 1e3
        out |= {"ms": 1e3 * seconds / len(measured), "tokens_per_s": round(tokens) * len(measured) / seconds,
                "clocks": watch.clocks(stamps[skip - 1], stamps[-2])}
    return out


# ---------------------------------------------------------------------------------------------------------------- PyTorch's

def run_torch(args, watch, model, variant, seconds):
    """variant: {"compile", "sdpa", "batch"} and, if it is not autocast, "bf16"; they are in the result too."""
    batch, bf16 = variant["batch"], variant.get("bf16", "autocast")
    command = [sys.executable, TORCH_SPEED, "--child", "measure", "--model", model, "--vocab", str(VOCABULARY), "--batch", str(batch), "--seq", str(args.seq),
               "--accum", str(args.tokens // (batch * args.seq)), "--precision", "bf16", "--bf16", bf16, "--tf32", "1", "--device", args.device,
               "--compile", variant["compile"], "--sdpa", variant["sdpa"], "--seconds", str(seconds), "--min-steps", "3",
               "--skip", str(warm_up(args.tokens, batch, args.seq)), "--began", str(time.time())]
    # the compiler's caches begin empty: the first start of a variant is a cold one, the next are warm
    own = f"{model}-{variant['compile']}-{variant['sdpa']}-{batch}-{bf16}"
    caches = {f"{name}_CACHE_DIR": os.path.abspath(f"{WORK}/{name.lower()}-{own}") for name in ("TORCHINDUCTOR", "TRITON")}
    result = json_of(run(command, args.limit, caches))
    if "error" in result:
        return {**variant, "error": result["error"]}
    return {**variant, "tokens_per_s": result["window_tokens_per_s"], "allocated_gib": gib(result["peak_mb"]) if not DRY else None,
            "reserved_gib": gib(result.get("reserved_mb")), "driver_gib": gib(watch.memory(*result["window"])), "clocks": watch.clocks(*result["window"]),
            **{key: result[key] for key in ("ms", "steps", "parameters", "first_step_begin_s", "first_step_end_s", "losses")}}


def pick_sdpa(args, model, batch):
    """The fastest attention that PyTorch has for these sizes, and the times of all."""
    if DRY:
        return "default", {}
    result = json_of(run([sys.executable, TORCH_SPEED, "--child", "sdpa", "--model", model, "--batch", str(batch), "--seq", str(args.seq),
                          "--precision", "bf16", "--device", "cuda"], args.limit))
    return result.get("sdpa", "default"), result.get("ms", result)
