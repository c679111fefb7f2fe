#!/usr/bin/env python3
"""GFLOP/s of PyTorch's matrix multiplication (oneDNN or MKL on a CPU) on the shapes of a training step of GPT-2.

    python3 dev/reference/torch_gemm.py --rows 256 --precision bf16      rows = B*T

Each product as the trainer needs it: out = inp W^T, dinp = dout W, dW = dout^T inp. In bf16 PyTorch's dW is bf16, not fp32.
Fastest of the repetitions; the last line of output is one JSON object.
"""
import argparse
import json
import os
import time

import torch

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--rows", type=int, default=256)
p.add_argument("--width", type=int, default=768)
p.add_argument("--vocab", type=int, default=50304)
p.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
p.add_argument("--device", default="cpu")
p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
p.add_argument("--seconds", type=float, default=1.0, help="for each product")
args = p.parse_args()
torch.set_num_threads(args.threads)
torch.backends.cuda.matmul.allow_tf32 = False
N, C, rates = args.rows, args.width, {}
wait = torch.cuda.synchronize if args.device != "cpu" else lambda: None
matrix = lambda *shape: torch.randn(*shape, device=args.device, dtype=torch.bfloat16 if args.precision == "bf16" else torch.float32)
for name, inner, outer in (("qkv", C, 3 * C), ("attproj", C, C), ("fc", C, 4 * C), ("fcproj", 4 * C, C), ("head", C, args.vocab)):
    inp, weight, dout = matrix(N, inner), matrix(outer, inner), matrix(N, outer)
    outs = matrix(N, outer), matrix(N, inner), matrix(outer, inner)
    for kind, out, a, b in (("out", outs[0], inp, weight.T), ("dinp", outs[1], dout, weight), ("dW", outs[2], dout.T, inp)):
        fastest, end, count = float("inf"), time.time() + args.seconds, 0
        while time.time() < end or count < 3:
            wait()
            t = time.perf_counter()
            torch.mm(a, b, out=out)
            wait()
            fastest, count = min(fastest, time.perf_counter() - t), count + 1
        rates[f"{name} {kind}"] = 2e-9 * N * inner * outer / fastest
        print(f"{name:8} {kind:4} {N:6} x {inner:5} x {outer:5}  {rates[f'{name} {kind}']:9.1f} GFLOP/s", flush=True)
print(json.dumps({"rows": N, "precision": args.precision, "threads": args.threads, "gflops": rates, "torch": torch.__version__}))
