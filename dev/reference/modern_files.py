#!/usr/bin/env python3
"""The trainer's modern models beside modern.py: golden files, and folders that transformers loads with the modeling_modern.py in them.

    python3 dev/reference/modern_files.py --golden test/golden                     write the golden files (keys: dev/reference/README.md)
    python3 dev/reference/modern_files.py --folders build/tmp/modern [--ours ./train_gpt2]
        folders that the trainer writes, of every ingredient and without each, loaded with trust_remote_code: its logits are ours and the twin's; saved by
        transformers and read again by the trainer, they have the same weights and the same logits; 40 tokens are the same greedily, with and without a cache
"""
import argparse
import json
import math
import os
import shlex
import shutil

import numpy as np
import torch

import gpt2
import modern
from gpt2 import relative

HAS = ("rmsnorm", "rope", "qk_norm", "relu2", "no_bias", "untied", "zero_init", "softcap")  # what the trainer has of modern.ARCHITECTURE
RUN, EPS = gpt2.HYPER, {**gpt2.HYPER, "eps": 1e-3}  # AdamW's eps
CONFIGS = {  # everything; learned positions and a tied head; LayerNorm, whose eps is 1e-5 in the twin, without QK-norm; GELU with biases
    "modern_a": dict(on=set(HAS), L=2, C=36, NH=3, V=83, max_T=32, B=3, T=24, **EPS),
    "modern_b": dict(on=set(HAS) - {"rope", "untied", "zero_init"}, L=1, C=48, NH=2, V=43, max_T=33, B=2, T=33, **EPS),
    "modern_c": dict(on=set(HAS) - {"rmsnorm", "qk_norm", "softcap"}, L=2, C=16, NH=2, V=61, max_T=64, B=1, T=40, **EPS),
    "modern_d": dict(on=set(HAS) - {"relu2", "no_bias"}, L=2, C=24, NH=3, V=59, max_T=32, B=2, T=19, **EPS),
}
NAMES = (("fcproj", "mlp.c_proj"), ("fc.", "mlp.c_fc."), ("attproj", "attn.c_proj"), ("qkv", "attn.c_attn"), ("head", "lm_head.weight"), ("wte", "wte.weight"), ("wpe", "wpe.weight"))


def in_file(name):
    """The trainer's name of a tensor of the twin's."""
    for twin, ours in NAMES:
        if twin in name:
            return name.replace(twin, ours)
    return name


def forward(p, c, tokens, store=lambda x: x):
    """The twin, of tensors with the trainer's names."""
    return modern.forward({name: p[in_file(name)] for name in modern.shapes(c)}, c, tokens.long(), store)


def config_json(c):
    on = c["on"]
    return json.dumps({
        "model_type": "modern", "vocab_size": c["V"], "hidden_size": c["C"], "intermediate_size": 4 * c["C"], "num_hidden_layers": c["L"], "num_attention_heads": c["NH"],
        "max_position_embeddings": c["max_T"], "norm_type": "rms_norm" if "rmsnorm" in on else "layer_norm", "norm_eps": 1e-6 if "rmsnorm" in on else 1e-5,
        "use_qk_norm": "qk_norm" in on, "use_bias": "no_bias" not in on, "position_embedding_type": "rope" if "rope" in on else "absolute",
        "hidden_act": "relu2" if "relu2" in on else "gelu_pytorch_tanh", "tie_word_embeddings": "untied" not in on, "zero_init_residual": "zero_init" in on,
        "logit_softcap": 15.0 if "softcap" in on else 0.0, "torch_dtype": "bfloat16"})


def case(name):
    """Parameters (float64, every value representable in bf16) far from their initial values, logits beyond the softcap, and tokens."""
    c = CONFIGS[name]
    random = np.random.Generator(np.random.PCG64(2000 + list(CONFIGS).index(name)))
    p = {}
    for w, shape in modern.shapes(c).items():
        x = random.standard_normal(shape)
        x = 0.2 * x + ("ln_" in w and "weight" in w) if len(shape) == 1 else x * (0.5 if w == "wte" or w == "wpe" else 1.5 if w == "head" else 1 / math.sqrt(shape[1]))
        p[in_file(w)] = torch.from_numpy(x).bfloat16().double()
    u = random.random((c["steps"] * c["accum"], c["B"], c["T"] + 1))             # frequent and rare tokens, so that there is something to learn
    return c, p, torch.from_numpy((c["V"] * u * u).astype(np.int32))


def bf16_gradient(c, p, tokens):
    """As families.py's: the worst tensor's gradient where every stored value is rounded to bf16 and sums are fp32."""
    _, grad, _ = gpt2.gradients(p, c, tokens[0], forward=forward)
    _, rounded, _ = gpt2.gradients({w: x.float() for w, x in p.items()}, c, tokens[0], gpt2.Round.apply, forward)
    return round(float(max(relative(rounded[w], grad[w]) for w in p)), 5)


def write_goldens(folder):
    total = 0
    for name in CONFIGS:
        c, p, tokens = case(name)
        _, _, logits = gpt2.gradients(p, c, tokens[0], forward=forward)
        metadata = {"config": json.dumps({k: c[k] for k in ("B", "T", *gpt2.HYPER)} | {"bf16_gradient": bf16_gradient(c, p, tokens)}), "config.json": config_json(c)}
        total += gpt2.write_golden(os.path.join(folder, name + ".safetensors"), c, p, tokens, metadata, forward)
        print(f"    logits up to {logits.abs().max():.1f}, bf16 gradient {json.loads(metadata['config'])['bf16_gradient']}")
    print(f"{total} bytes in all")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", metavar="FOLDER")
    parser.add_argument("--folders", metavar="FOLDER")
    parser.add_argument("--ours", default="./train_gpt2")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.golden:
        write_goldens(args.golden)
    if args.folders:
        check_folders(args.folders, args.ours)
    if not (args.golden or args.folders):
        parser.print_help()
