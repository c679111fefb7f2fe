#!/usr/bin/env python3
"""Llama and Qwen3 in PyTorch, in the words of the papers: what gpt2.py is to GPT-2.

    python3 dev/reference/families.py --golden test/golden   write the golden files (keys: dev/reference/README.md)
    python3 dev/reference/families.py --check                this twin against transformers, in float64 and in fp32
    python3 dev/reference/families.py --errors               how far an fp32 run and a bf16 run are from the float64 one

The seven differences from gpt2.py's forward, in the order of the lines: no position embedding; RMSNorm; queries, keys and
values from three matrices without biases, with fewer heads of keys and values; Qwen3's norm of every query and key; rotary
positions; SwiGLU; a head that may be a matrix of its own.
"""
import argparse
import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

import gpt2
from gpt2 import gradients, relative, train

# Odd shapes on purpose, as in gpt2.py: groups of 1, 2, 3 and 6 query heads; heads wider and narrower than the stream has room for;
# an odd width of the MLP; a norm's eps that is too small to be seen, and one that shows where it is misplaced.
# form: of config.json; the older one has rope_theta and rope_scaling, that of transformers 5 has rope_parameters.
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
RUN, EPS = gpt2.HYPER, {**gpt2.HYPER, "eps": 1e-3}  # AdamW's eps
CONFIGS = {
    "llama_a": dict(family="llama", form=4, L=2, C=36, NH=6, NKV=3, HS=8, FF=40, V=83, tied=True, theta=10000.0, norm_eps=1e-5, max_T=32,
                    scaling=None, B=3, T=24, **RUN),
    "llama_b": dict(family="llama", form=4, L=2, C=48, NH=2, NKV=1, HS=24, FF=17, V=43, tied=False, theta=10000.0, norm_eps=1e-2, max_T=256,
                    scaling=LLAMA3, B=1, T=49, **EPS),            # T beyond the 32 positions that the scaling begins from
    "llama_c": dict(family="llama", form=5, L=1, C=16, NH=4, NKV=2, HS=128, FF=24, V=61, tied=True, theta=500000.0, norm_eps=1e-5, max_T=4096,
                    scaling=dict(LLAMA3, factor=32.0, low_freq_factor=0.5, high_freq_factor=2.0), B=1, T=40, **EPS),
    "qwen3_a": dict(family="qwen3", form=4, L=2, C=20, NH=3, NKV=3, HS=24, FF=28, V=131, tied=True, theta=1000000.0, norm_eps=1e-6, max_T=33,
                    scaling=None, B=2, T=33, **RUN),
    "qwen3_b": dict(family="qwen3", form=5, L=1, C=12, NH=2, NKV=1, HS=128, FF=20, V=67, tied=False, theta=1000000.0, norm_eps=1e-6, max_T=64,
                    scaling=None, B=2, T=9, **EPS),
    "qwen3_c": dict(family="qwen3", form=5, L=3, C=24, NH=12, NKV=2, HS=8, FF=30, V=59, tied=False, theta=1000000.0, norm_eps=1e-2, max_T=256,
                    scaling=LLAMA3, B=1, T=37, **EPS),
}


# ---------------------------------------------------------------------------------------------------- the model

def shapes(c):
    """name -> shape, with Hugging Face's names. Matrices are (out, in)."""
    C, HS, out = c["C"], c["HS"], {}
    out["model.embed_tokens.weight"] = (c["V"], C)
    for l in range(c["L"]):
        for name, shape in {"input_layernorm": (C,), "self_attn.q_proj": (c["NH"] * HS, C), "self_attn.k_proj": (c["NKV"] * HS, C),
                            "self_attn.v_proj": (c["NKV"] * HS, C), "self_attn.q_norm": (HS,), "self_attn.k_norm": (HS,),
                            "self_attn.o_proj": (C, c["NH"] * HS), "post_attention_layernorm": (C,), "mlp.gate_proj": (c["FF"], C),
                            "mlp.up_proj": (c["FF"], C), "mlp.down_proj": (C, c["FF"])}.items():
            if c["family"] == "qwen3" or name not in ("self_attn.q_norm", "self_attn.k_norm"):
                out[f"model.layers.{l}.{name}.weight"] = shape
    out["model.norm.weight"] = (C,)
    if not c["tied"]:
        out["lm_head.weight"] = (c["V"], C)
    return out


def cos_sin(c, T):
    """(T, HS/2) each: of the angle t w_i. Frequency, angle, cos and sin in fp32 whatever the model's type, as transformers has them."""
    w = 1.0 / (c["theta"] ** (torch.arange(0, c["HS"], 2).float() / c["HS"]))
    if s := c["scaling"]:
        wavelength = 2 * math.pi / w
        smooth = (s["original_max_position_embeddings"] / wavelength - s["low_freq_factor"]) / (s["high_freq_factor"] - s["low_freq_factor"])
        smooth = smooth.clamp(0, 1)
        w = (1 - smooth) * w / s["factor"] + smooth * w
    angle = torch.arange(T).float()[:, None] * w
    return angle.cos(), angle.sin()


def forward(p, c, tokens, store=lambda x: x):
    """Logits (B, T, V). `store` wraps every activation that the trainer keeps in memory: see gpt2.py."""
    B, T = tokens.shape
    NH, NKV, HS = c["NH"], c["NKV"], c["HS"]
    heads = lambda x: x.view(B, T, -1, HS).transpose(1, 2)                       # (B, heads, T, HS)
    norm = lambda x, name: x * (x.square().mean(-1, keepdim=True) + c["norm_eps"]).rsqrt() * p[name + ".weight"]
    linear = lambda x, name: x @ p[name + ".weight"].T
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    cos, sin = (x.to(p["model.norm.weight"].dtype) for x in cos_sin(c, T))

    def rope(x):                                                                 # pairs (i, i + HS/2) turn by the angle t w_i
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    x = store(p["model.embed_tokens.weight"][tokens.long()])                     # encoded
    for h in (f"model.layers.{l}." for l in range(c["L"])):
        ln1 = store(norm(x, h + "input_layernorm"))
        q, k, v = (heads(store(linear(ln1, f"{h}self_attn.{name}_proj"))) for name in "qkv")
        if c["family"] == "qwen3":                                               # over a head, before the positions
            q, k = norm(q, h + "self_attn.q_norm"), norm(k, h + "self_attn.k_norm")
        q, k = store(rope(q)), store(rope(k))
        k, v = (x.repeat_interleave(NH // NKV, 1) for x in (k, v))               # query head h reads key and value head h / (NH / NKV)
        att = (q @ k.transpose(2, 3) / math.sqrt(HS)).masked_fill(future, -math.inf).softmax(-1)
        atty = store((att @ v).transpose(1, 2).reshape(B, T, NH * HS))
        x = store(x + store(linear(atty, h + "self_attn.o_proj")))               # residual2
        ln2 = store(norm(x, h + "post_attention_layernorm"))
        gate, up = (store(linear(ln2, f"{h}mlp.{name}_proj")) for name in ("gate", "up"))
        x = store(x + store(linear(store(F.silu(gate) * up), h + "mlp.down_proj")))  # residual3
    head = p["model.embed_tokens.weight" if c["tied"] else "lm_head.weight"]
    return store(store(norm(x, "model.norm")) @ head.T)


# -------------------------------------------------------------------------------------------------- transformers

def transformers_config(c):
    from transformers import LlamaConfig, Qwen3Config
    return (LlamaConfig if c["family"] == "llama" else Qwen3Config)(
        vocab_size=c["V"], hidden_size=c["C"], intermediate_size=c["FF"], num_hidden_layers=c["L"], num_attention_heads=c["NH"],
        num_key_value_heads=c["NKV"], head_dim=c["HS"], hidden_act="silu", max_position_embeddings=c["max_T"], rms_norm_eps=c["norm_eps"],
        tie_word_embeddings=c["tied"], rope_parameters={"rope_theta": c["theta"], **(c["scaling"] or {"rope_type": "default"})},
        bos_token_id=None, eos_token_id=None, pad_token_id=None, attn_implementation="sdpa")


def older_form(config):
    """config.json's content as transformers before 5 wrote it, and as Llama and Qwen3 were published."""
    config = dict(config)
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    return config


def config_json(c, model):
    """As save_pretrained writes it. A head size that is C / NH is left out in the older form, as in the first Llamas' files."""
    model.config.architectures = [type(model).__name__]
    config = json.loads(model.config.to_json_string(use_diff=True))
    config["dtype"] = "bfloat16"
    if c["form"] == 4:
        config = older_form(config)
        if c["C"] == c["NH"] * c["HS"]:
            config.pop("head_dim", None)
    return json.dumps(config, indent=2) + "\n"


def transformers_model(c, p, dtype):
    """A model of transformers with these parameters, fp32 at least. Its RMSNorm computes in fp32 even in a float64 model: not here."""
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_config(transformers_config(c))
    missing, unexpected = model.load_state_dict({name: w.float() for name, w in p.items()}, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    assert c["tied"] or not missing
    if dtype == torch.float64:
        model = model.double()
        for module in model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = (lambda m: lambda x: m.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon))(module)
    return model


def check():
    for name in CONFIGS:
        c, p, tokens = case(name)
        _, grad, logits = gradients(p, c, tokens[0], forward=forward)
        for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
            hf = transformers_model(c, p, dtype)
            theirs = hf(tokens[0, :, :-1].long()).logits
            F.cross_entropy(theirs.flatten(0, 1), tokens[0, :, 1:].flatten().long()).backward()
            worst = max(relative(w.grad, grad[n]) for n, w in hf.named_parameters())
            largest = (theirs.double() - logits).abs().max().item()
            assert len(list(hf.named_parameters())) == len(p)
            print(f"{name}: against transformers in {dtype}: logits {relative(theirs, logits):.1e} (largest {largest:.1e}), worst gradient {worst:.1e}")
            assert relative(theirs, logits) < bound and largest < bound and worst < bound


# ------------------------------------------------------------------------------------------------- golden files

def case(name):
    """Parameters (float64, every value representable in bf16) and tokens of a configuration."""
    c = CONFIGS[name]
    random = np.random.Generator(np.random.PCG64(1000 + list(CONFIGS).index(name)))
    p = {}
    for w, shape in shapes(c).items():
        x = random.standard_normal(shape)
        if len(shape) == 1:
            x = 1 + 0.2 * x
        else:
            x *= 0.3 if "embed" in w else 1 / math.sqrt(shape[1])  # far from the usual 0.02, so that attention and softmax are not flat
        p[w] = torch.from_numpy(x).bfloat16().double()
    # frequent and rare tokens, so that there is something to learn
    u = random.random((c["steps"] * c["accum"], c["B"], c["T"] + 1))
    return c, p, torch.from_numpy((c["V"] * u * u).astype(np.int32))


def bf16_gradient(c, p, tokens):
    """The worst tensor's gradient where every stored value is rounded to bf16 and sums are fp32: what rounding alone does."""
    _, grad, _ = gradients(p, c, tokens[0], forward=forward)
    _, rounded, _ = gradients({w: x.float() for w, x in p.items()}, c, tokens[0], gpt2.Round.apply, forward)
    return round(float(max(relative(rounded[w], grad[w]) for w in p)), 5)


def write_goldens(folder):
    total = 0
    for name in CONFIGS:
        c, p, tokens = case(name)
        metadata = {"config": json.dumps({k: c[k] for k in ("B", "T", *gpt2.HYPER)} | {"bf16_gradient": bf16_gradient(c, p, tokens)}),
                    "config.json": config_json(c, transformers_model(c, p, torch.float32))}
        total += gpt2.write_golden(os.path.join(folder, name + ".safetensors"), c, p, tokens, metadata, forward)
    print(f"{total} bytes in all")


def errors():
    """As gpt2.py's, the worst tensor of each: how far fp32, and bf16 with every stored value rounded, are from float64."""
    print(f"{'':10}{'':6}{'grad':>10}{'step':>10}{'logits':>10}{'loss':>10}{'step_loss':>11}{'step_norm':>11}")
    for name in CONFIGS:
        c, p, tokens = case(name)
        loss, grad, logits = gradients(p, c, tokens[0], forward=forward)
        step_loss, step_norm, final = train(p, c, tokens, forward=forward)
        single = {w: x.float() for w, x in p.items()}
        for kind, store, weight in (("fp32", lambda x: x, lambda w: w), ("bf16", gpt2.Round.apply, gpt2.round_stochastic)):
            loss_, grad_, logits_ = gradients(single, c, tokens[0], store, forward)
            step_loss_, step_norm_, final_ = train(single, c, tokens, store, weight, forward)
            row = (max(relative(grad_[w], grad[w]) for w in p), max(relative(final_[w] - p[w], final[w] - p[w]) for w in p),
                   relative(logits_, logits), abs(loss_ / loss - 1).item(), (step_loss_ / step_loss - 1).abs().max().item(),
                   (step_norm_ / step_norm - 1).abs().max().item())
            print(f"{name:10}{kind:6}" + "".join(f"{x:{w}.1e}" for x, w in zip(row, (10, 10, 10, 10, 11, 11))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", metavar="FOLDER")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--errors", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)                 # bitwise identical on every machine with the same PyTorch, and these are tiny
    if args.golden:
        write_goldens(args.golden)
    if args.check:
        check()
    if args.errors:
        errors()
    if not (args.golden or args.check or args.errors):
        parser.print_help()
