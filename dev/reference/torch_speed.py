#!/usr/bin/env python3
"""How fast PyTorch trains GPT-2, Llama, Qwen3 or a modern model on this machine, and how this trainer compares.

    python3 dev/reference/torch_speed.py --model d12 --batch 4 --seq 64 --precision fp32
    python3 dev/reference/torch_speed.py --model d12 --batch 4 --seq 64 --precision fp32 \\
        --vs "./train_gpt2 -i data.bin -e d12 -b 4 -t 64 -d 256 --precision fp32"

    python3 dev/reference/torch_speed.py --device cuda --precision bf16 --tf32 1 --batch 32 --seq 1024 --accum 16 \\
        --compile default,max-autotune-no-cudagraphs,max-autotune --sdpa auto

PyTorch gets what a good user gives it: scaled_dot_product_attention, fused AdamW, a padded vocabulary, torch.compile,
one thread a core, and on CUDA bf16 autocast over fp32 weights, the fastest attention that it has for these sizes (--sdpa auto
measures them in a process of their own), batches copied from pinned memory while it computes. In bf16 on a CPU both ways are
tried, autocast over fp32 weights and bf16 weights with fp32 masters. Every combination of --compile and --bf16 runs in a
process of its own and the fastest counts; one that fails or does not fit in memory is said and left out.
--vs runs the fastest one and the given command in turn, A B A B, and reports the median of the pairs' ratios.
The last line of output is one JSON object.
"""
import time
T0 = time.time()   # before torch is imported: "first step" counts the import too

import argparse
import itertools
import json
import os
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

SKIP = 3   # so many first steps are left out of every figure: compilation, page faults, caches


def main():
    args = options()
    if args.child == "sdpa":
        return print(json.dumps(fastest_sdpa(args)), flush=True)
    if args.child:
        return print(json.dumps(measure_or_say_why(args)), flush=True)
    if args.sdpa == "auto":
        args.sdpa = pick_sdpa(args)
    variants = [{"compile": c, "bf16": b} for c, b in itertools.product(
        args.compile.split(","), args.bf16.split(",") if args.precision == "bf16" else ["-"])]
    runs = [torch_run(args, v) for v in variants]
    if not any("tokens_per_s" in r for r in runs):
        sys.exit("no variant ran: " + "; ".join(r["error"] for r in runs))
    best = max((r for r in runs if "tokens_per_s" in r), key=lambda r: r["tokens_per_s"])
    out = {"best": best, "torch": runs}
    if args.vs:
        out["vs"] = versus(args, {k: best[k] for k in ("compile", "bf16")})
    print(json.dumps(out))


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="d12", help="dN, gpt2:dN, modern:dN, d4c128h4 or a name of DESCENDANTS, as the trainer names them")
    p.add_argument("--vocab", type=int, default=50304, help="50257 padded; set it where the trainer has another tokenizer")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--seq", type=int, default=64)
    p.add_argument("--accum", type=int, default=1, help="micro-batches a step: their gradients are summed")
    p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--tf32", type=int, choices=[0, 1], default=0, help="TF32 matrix multiplication on CUDA in fp32")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--compile", default="0,default", help="of 0, default, reduce-overhead, max-autotune-no-cudagraphs, max-autotune; comma separated")
    p.add_argument("--sdpa", choices=["default", "auto", "flash", "cudnn", "efficient", "math"], default="default",
                   help="which attention on CUDA; auto: the fastest, default: PyTorch chooses")
    p.add_argument("--bf16", default=None, help="of autocast, weights; comma separated (default: both on a CPU)")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--seconds", "--window", type=float, default=15, help="time to measure each variant for, at least --min-steps")
    p.add_argument("--min-steps", type=int, default=10)
    p.add_argument("--skip", type=int, default=SKIP, help="steps to warm up with")
    p.add_argument("--steps", type=int, default=0, help="measure this many steps instead")
    p.add_argument("--vs", metavar="COMMAND", help="this trainer's command; -o is set here, and -x: as many steps as PyTorch's window had")
    p.add_argument("--rounds", type=int, default=5, help="pairs of runs with --vs")
    p.add_argument("--child", choices=["measure", "sdpa"], help=argparse.SUPPRESS)
    p.add_argument("--began", type=float, default=T0, help=argparse.SUPPRESS)   # when the process was started
    args = p.parse_args()
    args.bf16 = args.bf16 or ("autocast,weights" if args.device == "cpu" else "autocast")
    return args


# ----------------------------------------------------------------------------------------- running one and the other

def spawn(command):
    """Runs a command to its end; returns its standard output and the peak resident memory in MB."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{shlex.join(command)}\nended with {child.returncode}; it printed:\n{text}")
    return text, usage.ru_maxrss / 1024


def child_command(args, what, variant):
    command = [sys.executable, os.path.abspath(__file__), "--child", what]
    for name in ("model", "vocab", "batch", "seq", "accum", "precision", "tf32", "device", "threads", "seconds", "min-steps", "skip", "steps", "sdpa"):
        command += [f"--{name}", str(getattr(args, name.replace("-", "_")))]
    for name, value in variant.items():
        command += [f"--{name}", value]
    return command


def pick_sdpa(args):
    if args.device != "cuda":
        return "default"
    text, _ = spawn(child_command(args, "sdpa", {}))
    result = json.loads(text.splitlines()[-1])
    print(f"attention forward and backward: {', '.join(f'{k} {v:.3f} ms' for k, v in result['ms'].items())}; taken: {result['sdpa']}", flush=True)
    return result["sdpa"]


def torch_run(args, variant):
    text, _ = spawn(child_command(args, "measure", variant))
    result = json.loads(text.splitlines()[-1])
    if "error" in result:
        print(f"torch {args.precision} compile {variant['compile']:>12} bf16 {variant['bf16']:>8}: {result['error']}", flush=True)
        return result
    print(f"torch {args.precision} compile {variant['compile']:>12} bf16 {variant['bf16']:>8}: "
          f"{result['tokens_per_s']:9.1f} tokens/s, {result['ms']:8.1f} ms a step "
          f"(fastest {result['ms_best']:.1f}), {result['peak_mb']:7.0f} MB, "
          f"first step after {result['first_step_end_s']:5.1f} s", flush=True)
    return result


def our_run(args, theirs):
    """Runs the trainer into a folder of its own, reads its metrics, and sees that it did the same work."""
    words, folder = shlex.split(args.vs), tempfile.mkdtemp(prefix="torch_speed_")
    for name in ("-o", "--out", "-x", "--steps"):
        while name in words:
            del words[words.index(name):words.index(name) + 2]
    words += ["-o", folder, "-x", str(max(5, theirs["steps"]) + SKIP)]
    _, peak_mb = spawn(words)
    with open(os.path.join(folder, "metrics.jsonl")) as f:
        header, *rows = map(json.loads, f)
    shutil.rmtree(folder)
    steps = [row for row in rows if "tokens_per_s" in row][SKIP:]
    if len(steps) < 5:
        sys.exit(f"--vs: the trainer logged {len(steps)} steps after the first {SKIP}, at least 5 are needed")
    tokens = statistics.median(row["tokens_per_s"] * row["ms"] / 1e3 for row in steps)
    for what, mine, yours in (("precision", args.precision, header["run"]["precision"]),
                              ("sequence length", args.seq, int(header["run"]["seq"])),
                              ("tokens a step", args.batch * args.seq * args.accum, tokens),
                              ("parameters", theirs["parameters"], header["parameters"])):
        if mine != yours if isinstance(mine, str) else abs(mine - yours) > 0.01 * mine:   # 1 %: PyTorch's padded vocabulary
            sys.exit(f"--vs: not the same work: {what} {mine} here, {yours} in the trainer's run (see --vocab)")
    return {"tokens_per_s": statistics.median(row["tokens_per_s"] for row in steps), "peak_mb": peak_mb}


def versus(args, variant):
    pairs = []
    for _ in range(args.rounds):
        theirs = torch_run(args, variant)
        if "error" in theirs:
            sys.exit(f"--vs: {theirs['error']}")
        ours = our_run(args, theirs)
        pairs.append((theirs["tokens_per_s"], ours["tokens_per_s"], ours["peak_mb"]))
        print(f"ours {args.precision}: {ours['tokens_per_s']:.1f} tokens/s, {ours['peak_mb']:.0f} MB, "
              f"ratio {pairs[-1][1] / pairs[-1][0]:.3f}", flush=True)
    ratio = statistics.median(b / a for a, b, _ in pairs)
    print(f"median of {len(pairs)} pairs: ours / torch = {ratio:.3f}")
    return {"ratio": ratio, "torch_tokens_per_s": [a for a, _, _ in pairs],
            "our_tokens_per_s": [b for _, b, _ in pairs], "our_peak_mb": max(c for _, _, c in pairs)}


# ------------------------------------------------------------------------------------------------- GPT-2 in PyTorch

# layers, width, heads, of keys and values, head size, MLP, theta, eps, norms of heads
DESCENDANTS = {"smollm2:135m": (30, 576, 9, 3, 64, 1536, 1e5, 1e-5, False), "qwen3:0.6b": (28, 1024, 16, 8, 128, 3072, 1e6, 1e-6, True)}


def model_size(name):
    """dN, dNcWhH -> layers, width, heads, by the trainer's table of names."""
    if name in DESCENDANTS:
        return DESCENDANTS[name][:3]
    name = name.split(":")[-1]
    if named := re.fullmatch(r"d(\d+)c(\d+)h(\d+)", name):
        return tuple(map(int, named.groups()))
    depth = int(name.lstrip("d"))
    width, heads = {24: (1024, 16), 36: (1280, 20), 48: (1600, 25), 60: (1920, 30), 72: (2880, 30),
                    84: (3456, 36)}.get(depth, (64 * depth, depth))
    return depth, width, heads


def gpt2(name, vocab, positions):
    import torch
    from torch import nn
    import torch.nn.functional as F
    L, C, NH = model_size(name)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
            self.c_attn, self.c_proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
            self.c_fc, self.mlp_proj = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

        def forward(self, x):
            B, T, _ = x.shape
            q, k, v = (h.view(B, T, NH, C // NH).transpose(1, 2) for h in self.c_attn(self.ln_1(x)).split(C, 2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, C))
            return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))

    class GPT2(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, C), nn.Embedding(positions, C)
            self.blocks, self.ln_f = nn.ModuleList(Block() for _ in range(L)), nn.LayerNorm(C)
            for w in self.parameters():
                if w.dim() == 2:
                    nn.init.normal_(w, std=0.02)

        def forward(self, tokens, targets):
            x = self.wte(tokens) + self.wpe.weight[:tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            logits = F.linear(self.ln_f(x), self.wte.weight)   # the head is the embedding
            return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return GPT2()


def llama(name, vocab, positions):
    """Llama and Qwen3 with a tied head, as a good user writes them: merged products, PyTorch's own RMSNorm and grouped attention."""
    import torch
    from torch import nn
    import torch.nn.functional as F
    L, C, NH, NKV, HS, FF, theta, eps, qk_norm = DESCENDANTS[name]
    angles = torch.outer(torch.arange(positions).float(), 1 / theta ** (torch.arange(0, HS, 2).float() / HS))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(C, eps), nn.RMSNorm(C, eps)
            self.qkv, self.o = nn.Linear(C, (NH + 2 * NKV) * HS, bias=False), nn.Linear(NH * HS, C, bias=False)
            self.gate_up, self.down = nn.Linear(C, 2 * FF, bias=False), nn.Linear(FF, C, bias=False)
            self.q_norm, self.k_norm = (nn.RMSNorm(HS, eps), nn.RMSNorm(HS, eps)) if qk_norm else (nn.Identity(), nn.Identity())

        def forward(self, x, cos, sin):
            B, T, _ = x.shape
            q, k, v = (h.view(B, T, -1, HS).transpose(1, 2) for h in self.qkv(self.norm1(x)).split([NH * HS, NKV * HS, NKV * HS], 2))

            def turn(h):
                a, b = h.chunk(2, -1)
                return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
            q, k = turn(self.q_norm(q)).to(v.dtype), turn(self.k_norm(k)).to(v.dtype)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=NKV != NH)
            x = x + self.o(y.transpose(1, 2).reshape(B, T, NH * HS))
            gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
            return x + self.down(F.silu(gate) * up)

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte = nn.Embedding(vocab, C)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(L)), nn.RMSNorm(C, eps)
            self.register_buffer("cos", angles.cos()), self.register_buffer("sin", angles.sin())
            for w in self.parameters():
                if w.dim() == 2:
                    nn.init.normal_(w, std=0.02)

        def forward(self, tokens, targets):
            x, T = self.wte(tokens), tokens.shape[1]
            for block in self.blocks:
                x = block(x, self.cos[:T], self.sin[:T])
            logits = F.linear(self.norm(x), self.wte.weight)
            return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return Llama()


def modern(name, vocab, positions):
    """modern.py's model with what `modern:dN` has of it, as a good user writes it: PyTorch's own RMSNorm and causal attention."""
    import torch
    from torch import nn
    import torch.nn.functional as F
    L, C, NH = model_size(name)
    HS = C // NH
    angles = torch.outer(torch.arange(positions).float(), 1e4 ** -(torch.arange(0, HS, 2).float() / HS))

    def norm(x):
        return F.rms_norm(x, (x.shape[-1],), eps=1e-6)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.attproj = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
            self.fc, self.fcproj = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)

        def forward(self, x, cos, sin):
            B, T, _ = x.shape
            q, k, v = (h.view(B, T, NH, HS).transpose(1, 2) for h in self.qkv(norm(x)).split(C, 2))

            def turned(h):
                a, b = norm(h).chunk(2, -1)
                return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(v.dtype)
            y = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
            x = x + self.attproj(y.transpose(1, 2).reshape(B, T, C))
            return x + self.fcproj(F.relu(self.fc(norm(x))).square())

    class Modern(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.head = nn.Embedding(vocab, C), nn.Linear(C, vocab, bias=False)
            self.blocks = nn.ModuleList(Block() for _ in range(L))
            self.register_buffer("cos", angles.cos()), self.register_buffer("sin", angles.sin())
            for weight_name, w in self.named_parameters():
                nn.init.zeros_(w) if "proj" in weight_name or "head" in weight_name else nn.init.normal_(w, std=0.02)

        def forward(self, tokens, targets):
            x, T = self.wte(tokens), tokens.shape[1]
            for block in self.blocks:
                x = block(x, self.cos[:T], self.sin[:T])
            z = self.head(norm(x)).flatten(0, 1).float()
            return F.cross_entropy(z * (1 + (z / 15).square()).rsqrt(), targets.flatten())   # softcap

    return Modern()


SDPA = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH"}


def fastest_sdpa(args):
    """Milliseconds of attention, forward and backward, by each kernel that PyTorch has for these sizes; the fastest."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    _, C, NH = model_size(args.model)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    q, k, v = (torch.randn(args.batch, NH, args.seq, C // NH, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
    ms = {}
    for name in ("flash", "cudnn", "efficient"):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        try:
            with sdpa_kernel(getattr(SDPBackend, SDPA[name])):
                for i in range(15):
                    if i == 5:
                        begin.record()
                    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
                    y.backward(q.detach())
                end.record()
            end.synchronize()
            ms[name] = begin.elapsed_time(end) / 10
        except RuntimeError:   # it has no kernel for this precision, head size or GPU
            pass
    return {"sdpa": min(ms, key=ms.get) if ms else "default", "ms": ms}


GRAPHS = ("reduce-overhead", "max-autotune")   # modes of torch.compile that record CUDA graphs


def measure_or_say_why(args):
    if args.compile not in GRAPHS:   # less of the memory that it takes is lost in gaps; graphs' pools do not go with it
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    import torch
    variant = {"compile": args.compile, "bf16": args.bf16, "batch": args.batch}
    try:
        return measure(args)
    except torch.OutOfMemoryError as error:
        return {**variant, "error": "out of memory: " + str(error).split(". ")[0]}
    except Exception as error:   # torch.compile fails in many ways
        reason = [line for line in str(error).splitlines() if line.strip()] or [""]
        memory = "out of memory" in str(error)   # by one of the libraries
        return {**variant, "error": f"{'out of memory: ' if memory else ''}{type(error).__name__}: {reason[0][:200]}"}


def measure(args):
    import torch
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device, cuda = torch.device(args.device), args.device == "cuda"
    if cuda:
        torch.set_float32_matmul_precision("high" if args.tf32 else "highest")   # high: TF32
        free_before, _ = torch.cuda.mem_get_info()
        if args.sdpa in SDPA:   # a switch for the whole process: torch.compile bakes in what it finds
            for name, switch in (("flash", torch.backends.cuda.enable_flash_sdp), ("cudnn", torch.backends.cuda.enable_cudnn_sdp),
                                 ("efficient", torch.backends.cuda.enable_mem_efficient_sdp), ("math", torch.backends.cuda.enable_math_sdp)):
                switch(name == args.sdpa)
    model = (llama if args.model in DESCENDANTS else modern if args.model.startswith("modern:") else gpt2)(args.model, args.vocab, max(1024, args.seq)).to(device)
    count = sum(w.numel() for w in model.parameters())

    # bf16 weights: the optimizer sees fp32 masters, the model gets a rounded copy after each step
    masters = None
    if args.bf16 == "weights":
        masters = [torch.nn.Parameter(w.detach().clone()) for w in model.parameters()]
        model.bfloat16()
    weights = masters or list(model.parameters())
    optimizer = torch.optim.AdamW([{"params": [w for w in weights if w.dim() == 2], "weight_decay": 0.1},
                                   {"params": [w for w in weights if w.dim() != 2], "weight_decay": 0.0}],
                                  lr=3e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
    run = model if args.compile == "0" else torch.compile(model, mode=args.compile)
    # a CUDA graph's outputs live until it runs again: gradients that are summed need memory of their own from the start
    graphs = cuda and args.compile in GRAPHS
    if graphs:
        for w in model.parameters():
            w.grad = torch.zeros_like(w)
    autocast = torch.autocast(args.device, torch.bfloat16, enabled=args.bf16 == "autocast")
    tokens = torch.randint(0, min(args.vocab, 50257), (64, args.batch, args.seq + 1))
    if cuda:
        tokens = tokens.pin_memory()

    # The loss reaches the host behind the step's work and is read, as a log line would, when the next step has been launched: a GPU need
    # not wait for the host to launch it.
    arrived, ready = torch.zeros(2, pin_memory=cuda), [torch.cuda.Event() for _ in range(2)] if cuda else None

    def launch(i):
        total = torch.zeros((), device=device)
        for micro in range(args.accum):
            batch = tokens[(i * args.accum + micro) % len(tokens)].to(device, non_blocking=True)
            if graphs:
                torch.compiler.cudagraph_mark_step_begin()
            with autocast:
                loss = run(batch[:, :-1], batch[:, 1:]) / args.accum
            loss.backward()
            total += loss.detach()
        if masters:
            for w, x in zip(masters, model.parameters()):
                w.grad, x.grad = x.grad.float(), None
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=not graphs)
        if masters:
            with torch.no_grad():
                torch._foreach_copy_(list(model.parameters()), masters)
        arrived[i % 2].copy_(total, non_blocking=True)
        if cuda:
            ready[i % 2].record()

    def loss_of(i):
        if cuda:
            ready[i % 2].synchronize()
        return arrived[i % 2].item()

    first_step_begin_s = time.time() - args.began
    launch(0)
    losses = [loss_of(0)]
    first_step_end_s = time.time() - args.began
    for i in range(1, args.skip):
        if cuda and i == args.skip - 1:
            torch.cuda.empty_cache()     # of what compiling and tuning took, this step takes again what training needs
        launch(i)
        losses.append(loss_of(i))
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    ahead = 1 if cuda else 0   # on a CPU a step is over when it has been launched
    times, in_flight, began, last = [], [], time.time(), time.perf_counter()

    def finish():
        nonlocal last
        losses.append(loss_of(in_flight.pop(0)))
        now = time.perf_counter()
        times.append(now - last)
        last = now

    while len(times) + len(in_flight) < (args.steps or args.min_steps) or (not args.steps and time.time() - began < args.seconds):
        in_flight.append(len(losses) + len(in_flight))
        launch(in_flight[-1])
        if len(in_flight) > ahead:
            finish()
    while in_flight:
        finish()
    ms, ended = 1e3 * statistics.median(times), time.time()
    memory = {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if cuda:   # driver_mb: what the driver has given since the start, to anyone: it does not ask who
        memory = {"peak_mb": torch.cuda.max_memory_allocated() / 2**20, "reserved_mb": torch.cuda.max_memory_reserved() / 2**20,
                  "driver_mb": (free_before - torch.cuda.mem_get_info()[0]) / 2**20, "sdpa": args.sdpa}
    return {"model": args.model, "parameters": count, "batch": args.batch, "seq": args.seq, "accum": args.accum, "precision": args.precision,
            "compile": args.compile, "bf16": args.bf16, "device": args.device, "threads": args.threads,
            "tokens_per_s": args.batch * args.seq * args.accum / ms * 1e3, "ms": ms, "ms_best": 1e3 * min(times), "steps": len(times),
            "window": [began, ended], "window_tokens_per_s": args.batch * args.seq * args.accum * len(times) / sum(times),
            **memory, "first_step_begin_s": first_step_begin_s, "first_step_end_s": first_step_end_s,
            "losses": [round(x, 5) for x in losses], "torch": torch.__version__}


if __name__ == "__main__":
    main()
