#!/usr/bin/env python3
"""GPT-2 in PyTorch, in the words of the paper: the twin that the trainer is tested against.

    python3 dev/reference/gpt2.py --golden test/golden   write the golden files (keys: dev/reference/README.md)
    python3 dev/reference/gpt2.py --check                this twin against transformers.GPT2LMHeadModel, in float64
    python3 dev/reference/gpt2.py --errors               how far an fp32 run and a bf16 run are from the float64 one

The model is a function of a dictionary of parameters with Hugging Face's GPT-2 names and layouts, so that the same
lines run in float64, in fp32 and with every stored value rounded to bf16.
"""
import argparse
import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

# Odd shapes on purpose: T below n_positions and equal to it; heads of 16, 4 and 19; one head and many; a prime width; a
# batch of one. Model a has the usual eps, which is too small to be seen; b and c have one that is as large as a gradient,
# so that a misplaced eps shows. Steps above and below the clipping norm both occur.
HYPER = dict(lr=3e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, grad_clip=1.0, steps=10, accum=2)
CONFIGS = {
    "a": dict(n_layer=2, n_embd=48, n_head=3, vocab_size=131, n_positions=32, B=3, T=24, **HYPER),
    "b": dict(n_layer=1, n_embd=20, n_head=5, vocab_size=67, n_positions=9, B=1, T=7, **{**HYPER, "eps": 1e-3}),
    "c": dict(n_layer=3, n_embd=19, n_head=1, vocab_size=83, n_positions=37, B=2, T=37, **{**HYPER, "eps": 1e-3}),
}


# ---------------------------------------------------------------------------------------------------- the model

def shapes(c):
    """name -> shape, in the order of the checkpoint. Matrices are (in, out), as Hugging Face keeps them for GPT-2."""
    C, out = c["n_embd"], {}
    out["wte.weight"] = (c["vocab_size"], C)
    out["wpe.weight"] = (c["n_positions"], C)
    for l in range(c["n_layer"]):
        for name, shape in {"ln_1": (C,), "attn.c_attn": (C, 3 * C), "attn.c_proj": (C, C),
                            "ln_2": (C,), "mlp.c_fc": (C, 4 * C), "mlp.c_proj": (4 * C, C)}.items():
            out[f"h.{l}.{name}.weight"] = shape
            out[f"h.{l}.{name}.bias"] = shape[-1:]
    out["ln_f.weight"] = out["ln_f.bias"] = (C,)
    return out


def forward(p, c, tokens, store=lambda x: x):
    """Logits (B, T, V). `store` wraps every activation that the trainer keeps in memory: see Round below."""
    B, T = tokens.shape
    C, NH = c["n_embd"], c["n_head"]
    heads = lambda x: x.view(B, T, NH, C // NH).transpose(1, 2)                  # (B, NH, T, HS)
    norm = lambda x, name: F.layer_norm(x, (C,), p[name + ".weight"], p[name + ".bias"], 1e-5)
    linear = lambda x, name: x @ p[name + ".weight"] + p[name + ".bias"]
    future = torch.ones(T, T, dtype=torch.bool).triu(1)

    x = store(p["wte.weight"][tokens.long()] + p["wpe.weight"][:T])              # encoded
    for h in (f"h.{l}." for l in range(c["n_layer"])):
        ln1 = store(norm(x, h + "ln_1"))
        q, k, v = map(heads, store(linear(ln1, h + "attn.c_attn")).split(C, -1))
        att = (q @ k.transpose(2, 3) / math.sqrt(C // NH)).masked_fill(future, -math.inf).softmax(-1)
        atty = store((att @ v).transpose(1, 2).reshape(B, T, C))
        x = store(x + store(linear(atty, h + "attn.c_proj")))                    # residual2
        ln2 = store(norm(x, h + "ln_2"))
        fch = store(linear(ln2, h + "mlp.c_fc"))
        gelu = store(F.gelu(fch, approximate="tanh"))
        x = store(x + store(linear(gelu, h + "mlp.c_proj")))                     # residual3
    return store(store(norm(x, "ln_f")) @ p["wte.weight"].T)                     # the head is the embedding


def gradients(p, c, batch, store=lambda x: x, forward=forward):
    """Mean loss over the B*T positions of batch (B, T+1), its gradient for every parameter, and the logits."""
    p = {name: w.detach().requires_grad_() for name, w in p.items()}
    logits = forward(p, c, batch[:, :-1], store)
    loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten().long())
    return loss.detach(), dict(zip(p, torch.autograd.grad(loss, list(p.values())))), logits.detach()


def train(p, c, tokens, store=lambda x: x, weight=lambda w: w, forward=forward):
    """AdamW as the trainer does it; gradients are taken at weight(p). Returns the loss and the norm of every step, and p."""
    p, losses, norms = dict(p), [], []
    m = {name: torch.zeros_like(w) for name, w in p.items()}
    v = {name: torch.zeros_like(w) for name, w in p.items()}
    for t in range(1, c["steps"] + 1):
        # 1. the mean loss and gradient over the micro-batches
        loss, grad = 0.0, {name: torch.zeros_like(w) for name, w in p.items()}
        for batch in tokens[(t - 1) * c["accum"]:t * c["accum"]]:
            micro_loss, micro_grad, _ = gradients({name: weight(w) for name, w in p.items()}, c, batch, store, forward)
            loss += micro_loss.item() / c["accum"]
            for name in grad:
                grad[name] += micro_grad[name] / c["accum"]
        # 2. clip by the norm over all parameters
        norm = math.sqrt(sum(g.double().square().sum().item() for g in grad.values()))
        scale = min(1.0, c["grad_clip"] / norm)
        # 3. update; only matrices and embeddings decay
        for name in p:
            g = grad[name] * scale
            m[name] = c["beta1"] * m[name] + (1 - c["beta1"]) * g
            v[name] = c["beta2"] * v[name] + (1 - c["beta2"]) * g * g
            mhat, vhat = m[name] / (1 - c["beta1"] ** t), v[name] / (1 - c["beta2"] ** t)
            decay = c["weight_decay"] if p[name].dim() == 2 else 0.0
            p[name] = p[name] - c["lr"] * (mhat / (vhat.sqrt() + c["eps"]) + decay * p[name])
        losses.append(loss)
        norms.append(norm)
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64), p


# ------------------------------------------------------------------------------------------------- golden files

def case(name):
    """Parameters (float64, every value representable in bf16) and tokens of a configuration."""
    c = CONFIGS[name]
    random = np.random.Generator(np.random.PCG64(ord(name)))
    p = {}
    for w, shape in shapes(c).items():
        x = random.standard_normal(shape)
        if "wte" in w or "wpe" in w:
            x *= 0.3
        elif len(shape) == 2:
            x *= 1 / math.sqrt(shape[0])     # far from the usual 0.02, so that attention and softmax are not flat
        else:
            x = 0.2 * x + (".ln_" in "." + w and "weight" in w)                  # LayerNorm weights about 1, biases about 0
        p[w] = torch.from_numpy(x).bfloat16().double()
    # frequent and rare tokens, so that there is something to learn
    u = random.random((c["steps"] * c["accum"], c["B"], c["T"] + 1))
    return c, p, torch.from_numpy((c["vocab_size"] * u * u).astype(np.int32))


def write_golden(path, c, p, tokens, metadata, forward=forward):
    """One golden file; its size."""
    from safetensors.torch import save_file
    loss, grad, logits = gradients(p, c, tokens[0], forward=forward)
    step_loss, step_norm, final = train(p, c, tokens, forward=forward)
    out = {"tokens": tokens, "logits": logits.float(), "loss": loss.reshape(1),
           "step_loss": step_loss, "step_norm": step_norm}
    for w in p:
        out["param/" + w] = p[w].bfloat16()
        out["grad/" + w] = grad[w].float()
        out["final/" + w] = final[w].float()
    save_file({key: x.contiguous() for key, x in out.items()}, path, metadata)
    print(f"{path}: {os.path.getsize(path)} bytes, loss {loss:.6f}, "
          f"steps: loss {step_loss[0]:.4f} -> {step_loss[-1]:.4f}, norm {step_norm.min():.3f} .. {step_norm.max():.3f}")
    return os.path.getsize(path)


def write_goldens(folder):
    total = 0
    for name in CONFIGS:
        c, p, tokens = case(name)
        total += write_golden(os.path.join(folder, f"gpt2_{name}.safetensors"), c, p, tokens, {"config": json.dumps(c)})
    print(f"{total} bytes in all")


# -------------------------------------------------------------------------------------------------- self-checks

def relative(x, reference):
    """|x - reference| / |reference| over a whole tensor (2-norms)."""
    return ((x.double() - reference).norm() / reference.norm()).item()


def check():
    from transformers import GPT2Config, GPT2LMHeadModel
    for name in CONFIGS:
        c, p, tokens = case(name)
        config = GPT2Config(**{k: c[k] for k in ("n_layer", "n_embd", "n_head", "vocab_size", "n_positions")},
                            attn_implementation="eager", attn_pdrop=0, embd_pdrop=0, resid_pdrop=0,
                            bos_token_id=None, eos_token_id=None)
        hf = GPT2LMHeadModel(config).double()
        missing, unexpected = hf.transformer.load_state_dict(p, strict=False)
        assert not missing and not unexpected, (missing, unexpected)
        theirs = hf(tokens[0, :, :-1].long()).logits
        F.cross_entropy(theirs.flatten(0, 1), tokens[0, :, 1:].flatten().long()).backward()
        _, grad, logits = gradients(p, c, tokens[0])
        worst = max(relative(w.grad, grad[n]) for n, w in hf.transformer.named_parameters())
        print(f"{name}: against transformers in float64: logits {relative(theirs, logits):.1e}, worst gradient {worst:.1e}")
        assert relative(theirs, logits) < 1e-10 and worst < 1e-10


class Round(torch.autograd.Function):
    """What storing an activation, and later its gradient, in bf16 does to it."""
    @staticmethod
    def forward(_, x):
        return x.bfloat16().to(x.dtype)

    @staticmethod
    def backward(_, dx):
        return dx.bfloat16().to(dx.dtype)


def round_stochastic(w):
    """fp32 master weight -> a bf16 neighbour, up or down so that the mean is right: add noise below the cut, then cut."""
    bits = w.contiguous().view(torch.int32)
    return ((bits + torch.randint_like(bits, 1 << 16)) & -(1 << 16)).view(torch.float32)


def errors():
    # grad: 2-norm of a tensor's error relative to the exact tensor; max: largest error of an element relative to the
    # largest element; step: as grad, for what ten steps added to the parameters. The gradient of the key bias is exactly
    # zero (it adds the same to every score of a row), so what AdamW makes of it is noise: left out of `step`.
    for name in CONFIGS:
        c, p, tokens = case(name)
        C = c["n_embd"]
        moved = lambda f, w: (torch.cat([f[w][:C], f[w][2 * C:]]) - torch.cat([p[w][:C], p[w][2 * C:]])
                              if w.endswith("c_attn.bias") else f[w] - p[w])
        single = {w: x.float() for w, x in p.items()}
        loss, grad, logits = gradients(p, c, tokens[0])
        step_loss, step_norm, final = train(p, c, tokens)
        table = {w: [] for w in [*p, "(worst)", "logits", "loss", "step_loss", "step_norm"]}
        for store, weight in ((lambda x: x, lambda w: w), (Round.apply, round_stochastic)):
            loss_, grad_, logits_ = gradients(single, c, tokens[0], store)
            step_loss_, step_norm_, final_ = train(single, c, tokens, store, weight)
            for w in p:
                table[w] += [relative(grad_[w], grad[w]), ((grad_[w] - grad[w]).abs().max() / grad[w].abs().max()).item(),
                             relative(moved(final_, w), moved(final, w))]
            table["(worst)"] += [max(table[w][i] for w in p) for i in (-3, -2, -1)]
            for row, x in (("logits", relative(logits_, logits)), ("loss", abs(loss_ / loss - 1)),
                           ("step_loss", (step_loss_ / step_loss - 1).abs().max()),
                           ("step_norm", (step_norm_ / step_norm - 1).abs().max())):
                table[row] += [float(x)]
        print(f"\n{name}: relative error against float64\n" + " " * 26 +
              "".join(f"{'':4}{r:4} {k:4}" for r in ("fp32", "bf16") for k in ("grad", " max", "step")))
        for row, xs in table.items():
            print(f"{row:26}" + "".join(f"{x:13.1e}" for x in xs))


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
