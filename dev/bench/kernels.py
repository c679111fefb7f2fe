"""Our kernels one by one: the layers of 124M by bench_layers, and what part of the step just measured each of them is."""
import json

from runs import WORK, run, say
from watch import DRY

LAYERS = "build/gpu/bench_layers"


# How often a step calls each of the layers that bench_layers measures: per micro-batch, and the head and the classifier per chunk of 2048
# rows, as they are measured there, whatever the trainer's are; in the trainer GELU, forward and backward, is always in one call with its product.
def calls_a_step(layer, L, micro, chunks, parameters):
    optimizer = {"global norm, 85M": parameters / 84934656, "AdamW, 85M": parameters / 84934656}
    once = {"embedding forward": 1, "embedding backward": 1, "layernorm forward": 1, "residual + layernorm": 2 * L, "layernorm backward": 2 * L + 1,
            "fc forward": 0, "fcproj backward input": 0, "gelu backward": 0}
    if layer in optimizer:
        return optimizer[layer]
    if layer.startswith(("rmsnorm", "residual + rmsnorm", "rope", "swiglu")):
        return 0
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
    say(f"{'':28} {'ms a call':>10} {'calls':>7} {'of the step':>11} {'rate':>15} {'of the ceiling':>14}")
    for x in layers:
        calls = calls_a_step(x["layer"], 12, micro, chunks, d12["parameters"])
        of_flops, of_bytes = x["gflops"] / x["peak_gflops"], x["gbs"] / x["copy_gbs"]
        share, by_flops = calls * x["ms"] / d12["ms"], of_flops >= of_bytes
        total += share
        rate = f"{x['gflops'] / 1e3:.1f} TFLOP/s" if by_flops else f"{x['gbs']:.0f} GB/s"
        say(f"{x['layer']:28} {x['ms']:10.4f} {calls:7.0f} {share:11.1%} {rate:>15} {max(of_flops, of_bytes):14.0%}")
        out.append({**{k: x[k] for k in ("layer", "precision", "batch", "seq", "ms", "gflops", "gbs", "peak_gflops", "copy_gbs")},
                    "calls_a_step": round(calls, 2), "share": round(share, 4), "of_ceiling": round(max(of_flops, of_bytes), 4)})
    say(f"{'sum':28} {'':10} {'':7} {total:11.1%}\n")
    return out
