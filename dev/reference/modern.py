#!/usr/bin/env python3
"""The modern recipe in PyTorch, every ingredient a switch: what gpt2.py is to GPT-2. screen.py asks what each is worth.

    python3 dev/reference/modern.py --check          against gpt2.py, a model in plain loops, central differences, what a window and RoPE promise

With all of ARCHITECTURE off the model is GPT-2 (matrices are (out, in) here); with all of it on it is near modded-nanogpt's and nanochat's.
"""
import argparse
import math
import zlib

import numpy as np
import torch
import torch.nn.functional as F

import gpt2
import muon

ARCHITECTURE = {
    "rmsnorm": "RMSNorm without weights; off: LayerNorm with weights",
    "embed_norm": "a norm of the token's vector",
    "rope": "rotary positions; off: learned ones",
    "qk_norm": "RMSNorm without weights of each query and key",
    "relu2": "ReLU squared; off: GELU",
    "no_bias": "no biases",
    "untied": "a head of its own",
    "zero_init": "what adds to the residual stream, and an untied head, begin at 0",
    "softcap": "logits 15 z / sqrt(z^2 + 225)",
    "scalars": "each layer's input is a x + b x0, x0 what the first layer was given",
    "value_embeds": "on every other layer, the last one among them, values + a vector of the token",
    "windows": "attention to the last W tokens but on each fourth layer and the last one",
}
OPTIMIZER = {
    "muon": "Muon for the matrices of blocks; off: AdamW",
    "normuon": "Muon's rows at one scale",
    "cautious": "Muon's weight decay where the update makes a weight smaller",
    "cooldown": "constant, then linear to 0 over the last 0.7 of the steps, weight decay following it; off: warm-up, then linear to 0",
}
ALL = frozenset(ARCHITECTURE) | frozenset(OPTIMIZER)
LATER = {  # not among "all", so that this stays what LOG 80 ran: ways to see the token before without a layer
    "smear": "x_t += lambda sigmoid(w . the first 12 of x_t) x_{t-1}, of the tokens' vectors; lambda and w begin at 0 (modded-nanogpt, nanochat)",
    "token_shift": "x_t += s x_{t-1}, of the tokens' vectors; s a vector that begins at 0",
    "key_shift": "the slower half of RoPE's pairs of a key is that of the token before",
}


# ---------------------------------------------------------------------------------------------------- the model

def has_value_embeds(c, l):
    return "value_embeds" in c["on"] and (c["L"] - 1 - l) % 2 == 0


def window(c, l, T):
    """How many tokens a token of layer l attends to, itself among them: short, short, short, long."""
    return min(c["W"], T) if "windows" in c["on"] and l % 4 != 3 and l != c["L"] - 1 else T


def shapes(c):
    """name -> shape. Matrices are (out, in)."""
    C, V, on, out = c["C"], c["V"], c["on"], {"wte": (c["V"], c["C"])}

    def linear(name, rows, cols):
        out[name + ".weight"] = (rows, cols)
        if "no_bias" not in on:
            out[name + ".bias"] = (rows,)

    def norm(name):
        if "rmsnorm" not in on:
            out[name + ".weight"] = (C,)
            if "no_bias" not in on:
                out[name + ".bias"] = (C,)

    if "rope" not in on:
        out["wpe"] = (c["max_T"], C)
    if "embed_norm" in on:
        norm("ln_0")
    if "scalars" in on:
        out["resid_scalars"] = out["x0_scalars"] = (c["L"],)
    if "smear" in on:
        out["smear_lambda"], out["smear_gate"] = (1,), (min(12, C),)
    if "token_shift" in on:
        out["token_shift"] = (C,)
    for l in range(c["L"]):
        norm(f"h.{l}.ln_1")
        linear(f"h.{l}.qkv", 3 * C, C)
        if has_value_embeds(c, l):
            out[f"h.{l}.value_embeds"] = (V, C)
        linear(f"h.{l}.attproj", C, C)
        norm(f"h.{l}.ln_2")
        linear(f"h.{l}.fc", 4 * C, C)
        linear(f"h.{l}.fcproj", C, 4 * C)
    norm("ln_f")
    if "untied" in on:
        out["head"] = (V, C)
    return out


def init(c, seed, std=0.07):
    """As the trainer's: a tensor's values depend on seed and name, not on which others exist."""
    p = {}
    for name, shape in shapes(c).items():
        random = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(name.encode())]))
        scale = 0.02 if name == "wpe" else std / math.sqrt(2 * c["L"]) if "proj" in name else std
        p[name] = torch.from_numpy(random.standard_normal(shape) * scale).float()
        if len(shape) == 1:
            p[name].fill_(0.1 if name == "x0_scalars" else 1.0 if name == "resid_scalars" or "ln_" in name and "weight" in name else 0.0)
        elif "zero_init" in c["on"] and ("proj" in name or name == "head"):
            p[name].zero_()
    return p


def rms_norm(x):
    return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def rope(x):
    """x (..., T, HS): pairs (i, i + HS/2) turn by the angle t theta^(-2i/HS), theta = 10000."""
    T, HS = x.shape[-2:]
    angle = torch.arange(T, dtype=x.dtype)[:, None] * 10000.0 ** -(torch.arange(0, HS, 2, dtype=x.dtype) / HS)  # (T, HS/2)
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def shifted(k):
    """k (..., T, HS): of each pair (i, i + HS/2) with i >= HS/4 the one of the row before; the first row keeps its own."""
    HS = k.shape[-1]
    before = torch.cat([k[..., :1, :], k[..., :-1, :]], -2)
    return torch.where(torch.arange(HS) % (HS // 2) * 4 >= HS, before, k)


def attended(T, W):
    """(T, T): row t is true at the W tokens t-W+1 .. t."""
    age = torch.arange(T)[:, None] - torch.arange(T)
    return (age >= 0) & (age < W)


def forward(p, c, tokens, store=lambda x: x):
    """Logits (B, T, V). `store` wraps what the trainer keeps in memory of what it has: see gpt2.py."""
    B, T = tokens.shape
    C, NH, on = c["C"], c["NH"], c["on"]
    heads = lambda x: x.view(B, T, NH, C // NH).transpose(1, 2)                  # (B, NH, T, HS)
    linear = lambda x, name: store(F.linear(x, p[name + ".weight"], p.get(name + ".bias")))
    norm = lambda x, name: store(rms_norm(x) if "rmsnorm" in on else F.layer_norm(x, (C,), p[name + ".weight"], p.get(name + ".bias"), 1e-5))

    x = p["wte"][tokens]                                                         # (B, T, C)
    if "rope" not in on:
        x = x + p["wpe"][:T]
    x = store(x)
    if "embed_norm" in on:
        x = norm(x, "ln_0")
    if "smear" in on:
        gate = p["smear_lambda"] * torch.sigmoid(x[:, 1:, :12] @ p["smear_gate"])      # (B, T-1)
        x = store(torch.cat([x[:, :1], x[:, 1:] + gate[..., None] * x[:, :-1]], 1))
    if "token_shift" in on:
        x = store(torch.cat([x[:, :1], x[:, 1:] + p["token_shift"] * x[:, :-1]], 1))
    x0 = x
    for l in range(c["L"]):
        h = f"h.{l}."
        if "scalars" in on:
            x = p["resid_scalars"][l] * x + p["x0_scalars"][l] * x0
        q, k, v = map(heads, linear(norm(x, h + "ln_1"), h + "qkv").split(C, -1))
        if has_value_embeds(c, l):
            v = v + heads(p[h + "value_embeds"][tokens])
        if "key_shift" in on:
            k = shifted(k)
        if "rope" in on:
            q, k = rope(q), rope(k)
        if "qk_norm" in on:                                                      # no weights, so before or after RoPE is the same
            q, k = rms_norm(q), rms_norm(k)
        q, k = (store(q), store(k)) if on & {"rope", "qk_norm"} else (q, k)
        att = F.scaled_dot_product_attention(q, k, v, attn_mask=attended(T, window(c, l, T)))
        x = store(x + linear(store(att.transpose(1, 2).reshape(B, T, C)), h + "attproj"))  # residual2
        fch = linear(norm(x, h + "ln_2"), h + "fc")                              # (B, T, 4C)
        hidden = store(F.relu(fch).square() if "relu2" in on else F.gelu(fch, approximate="tanh"))
        x = store(x + linear(hidden, h + "fcproj"))                              # residual3
    z = store(norm(x, "ln_f") @ p["head" if "untied" in on else "wte"].T)        # (B, T, V)
    return z * (1 + (z / 15).square()).rsqrt() if "softcap" in on else z         # 15 z / sqrt(z^2 + 225)


# ------------------------------------------------------------------------------------------------ the optimizer

# AdamW's rates and all else but Muon's rate: nanochat's proportions, for vectors that begin at 0.07
HYPER = dict(lr=3e-3, muon_lr=0.02, embed_lr=1e-2, head_lr=3e-3, scalar_lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, grad_clip=1.0, warmup=10)


def schedule(c, h, step):
    """The part of the rates that step 0 .. steps - 1 has."""
    fall = 0.7 * h["steps"] if "cooldown" in c["on"] else h["steps"] - h["warmup"]
    return min(1, (step + 1) / h["warmup"], (h["steps"] - step) / fall)


def update(p, grad, state, c, h, step):
    """One step, in place. state: name -> AdamW's m, v, or Muon's M and NorMuon's mean squares of rows."""
    part = schedule(c, h, step)
    decay = h["weight_decay"] * (part if "cooldown" in c["on"] else 1)
    clip = min(1.0, h["grad_clip"] / math.sqrt(sum(g.square().sum().item() for g in grad.values())))
    for name, w in p.items():
        g, matrix = grad[name] * clip, name.startswith("h.") and w.dim() == 2 and "embeds" not in name
        if matrix and "muon" in c["on"]:
            M, v = state.setdefault(name, (torch.zeros_like(w), torch.zeros_like(w[:, :1])))
            muon.update(w, g, M, lr=part * h["muon_lr"], weight_decay=decay, parts=[c["C"]] * 3 if "qkv" in name else None,
                        cautious="cautious" in c["on"], row_scale=v if "normuon" in c["on"] else None, products=w.dtype)
            continue
        group = "embed_lr" if name == "wte" or "embeds" in name else "head_lr" if name == "head" else "scalar_lr" if "scalars" in name else "lr"
        lr = part * h[group]
        m, v = state.setdefault(name, (torch.zeros_like(w), torch.zeros_like(w)))
        m.lerp_(g, 1 - h["beta1"])
        v.lerp_(g.square(), 1 - h["beta2"])
        mhat, vhat = m / (1 - h["beta1"] ** (step + 1)), v / (1 - h["beta2"] ** (step + 1))
        w.sub_(lr * (mhat / (vhat.sqrt() + h["eps"]) + (decay * w if w.dim() == 2 else 0)))


def loss(p, c, batch):
    """Mean over batch (B, T+1)."""
    return F.cross_entropy(forward(p, c, batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


def gradients(p, c, batch):
    leaves = {name: w.clone().requires_grad_() for name, w in p.items()}
    return dict(zip(p, torch.autograd.grad(loss(leaves, c, batch), list(leaves.values()))))


# -------------------------------------------------------------------------------------------------- self-checks

def plain(p, c, row):
    """forward() again for one row of tokens, a token, a head and a score at a time, in numpy: logits (T, V)."""
    on, C, HS, L, T = c["on"], c["C"], c["C"] // c["NH"], c["L"], len(row)
    p = {name: w.numpy() for name, w in p.items()}
    rms = lambda x: x / np.sqrt(np.mean(x * x) + 1e-6)

    def norm(x, name):
        if "rmsnorm" in on:
            return rms(x)
        return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * p[name + ".weight"] + p.get(name + ".bias", 0)

    def turned(x, t):  # a pair is a complex number
        z = (x[:HS // 2] + 1j * x[HS // 2:]) * np.exp(1j * t / 10000 ** (np.arange(HS // 2) / (HS // 2)))
        return np.concatenate([z.real, z.imag])

    linear = lambda x, name: p[name + ".weight"] @ x + p.get(name + ".bias", 0)
    gelu = lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    x = [p["wte"][i] if "rope" in on else p["wte"][i] + p["wpe"][t] for t, i in enumerate(row)]
    if "embed_norm" in on:
        x = [norm(y, "ln_0") for y in x]
    if "smear" in on:
        x = [x[0]] + [x[t] + p["smear_lambda"][0] / (1 + np.exp(-sum(x[t][i] * p["smear_gate"][i] for i in range(12)))) * x[t - 1] for t in range(1, T)]
    if "token_shift" in on:
        x = [x[0]] + [x[t] + p["token_shift"] * x[t - 1] for t in range(1, T)]
    first = list(x)
    valued = {1: [0], 2: [1], 3: [0, 2], 5: [0, 2, 4]}[L] if "value_embeds" in on else []
    short = {1: [], 2: [0], 3: [0, 1], 5: [0, 1, 2]}[L] if "windows" in on else []
    for l in range(L):
        if "scalars" in on:
            x = [p["resid_scalars"][l] * y + p["x0_scalars"][l] * y0 for y, y0 in zip(x, first)]
        qkv = [linear(norm(y, f"h.{l}.ln_1"), f"h.{l}.qkv") for y in x]
        out = np.zeros((T, C))
        for t in range(T):
            for i in range(0, C, HS):                                            # a head begins at i
                scores, values = [], []
                for s in range(max(0, t - c["W"] + 1) if l in short else 0, t + 1):
                    q, k, v = qkv[t][i:i + HS], qkv[s][C + i:C + i + HS], qkv[s][2 * C + i:2 * C + i + HS]
                    if "key_shift" in on and s:
                        k = np.array([qkv[s - (j % (HS // 2) * 4 >= HS)][C + i + j] for j in range(HS)])
                    if "qk_norm" in on:
                        q, k = rms(q), rms(k)
                    if "rope" in on:
                        q, k = turned(q, t), turned(k, s)
                    scores.append(q @ k / math.sqrt(HS))
                    values.append(v + p[f"h.{l}.value_embeds"][row[s]][i:i + HS] if l in valued else v)
                e = np.exp(np.array(scores) - max(scores))
                out[t, i:i + HS] = e @ np.array(values) / e.sum()
        x = [y + linear(o, f"h.{l}.attproj") for y, o in zip(x, out)]
        for t in range(T):
            fch = linear(norm(x[t], f"h.{l}.ln_2"), f"h.{l}.fc")
            x[t] = x[t] + linear(np.maximum(fch, 0) ** 2 if "relu2" in on else gelu(fch), f"h.{l}.fcproj")
    z = np.array([p["head" if "untied" in on else "wte"] @ norm(y, "ln_f") for y in x])
    return 15 * z / np.sqrt(z * z + 225) if "softcap" in on else z


def case(on, L=5, seed=1):
    """Float64 parameters far from their initial values, so that nothing is flat or 0; logits beyond the softcap."""
    c = dict(L=L, C=12, NH=2, V=19, max_T=16, W=4, on=frozenset(on))
    p = init(c, seed)
    random = torch.Generator().manual_seed(seed)
    for name, shape in shapes(c).items():
        noise = torch.randn(shape, generator=random, dtype=torch.float64)
        p[name] = noise * (1.5 if name in ("head", "wte") else 0.5 if "embed" in name or name == "wpe" else 0.5 / math.sqrt(shape[-1])) if len(shape) == 2 else p[name].double() + 0.3 * noise
    return c, p, torch.randint(0, c["V"], (2, 11), generator=random)


def check_gradients(c, p, tokens):
    """The worst tensor: a derivative along a random direction, by central differences and by autograd, relative to |gradient| |direction|."""
    leaves = {name: w.clone().requires_grad_() for name, w in p.items()}
    weights = torch.randn(tokens[:, :-1].shape + (c["V"],), generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def value(p):  # loss, and logits each with a weight of its own
        logits = forward(p, c, tokens[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) + (logits * weights).mean()

    grad = dict(zip(leaves, torch.autograd.grad(value(leaves), list(leaves.values()))))
    worst, eps = 0.0, 1e-6
    for name, w in p.items():
        direction = torch.randn(w.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        slope = (value({**p, name: w + eps * direction}) - value({**p, name: w - eps * direction})) / (2 * eps)
        worst = max(worst, (slope - (grad[name] * direction).sum()).abs().item() / (1e-3 + (grad[name].norm() * direction.norm()).item()))
    return worst


def check_initial_values():
    # shared where a tensor exists in both; what begins at 0; deviations of 720 values and more, 3 % each
    p, q = init(case(ALL)[0], 1), init(case(())[0], 1)
    assert all(torch.equal(p[n], q[n]) for n in p if n in q and "proj" not in n), "initial values"
    assert {n for n in p if not p[n].any()} == {"head"} | {f"h.{l}.{n}.weight" for l in range(5) for n in ("attproj", "fcproj")}, "what begins at 0"
    assert p["x0_scalars"].eq(0.1).all() and p["resid_scalars"].eq(1).all() and q["h.0.ln_1.weight"].eq(1).all() and not q["h.0.ln_1.bias"].any()
    spread = lambda part: torch.cat([w.flatten() for n, w in q.items() if part in n and w.dim() == 2]).std()
    assert abs(spread("qkv") / 0.07 - 1) < 0.1 and abs(spread("proj") / (0.07 / math.sqrt(10)) - 1) < 0.1 and abs(spread("wpe") / 0.02 - 1) < 0.25


def check_gpt2():
    c, p, tokens = case(())
    theirs = {name.replace("fcproj", "mlp.c_proj").replace("fc.", "mlp.c_fc.").replace("attproj", "attn.c_proj").replace("qkv", "attn.c_attn"):
              w.T if name.startswith("h.") and w.dim() == 2 else w for name, w in p.items()}
    theirs["wte.weight"], theirs["wpe.weight"] = theirs.pop("wte"), theirs.pop("wpe")
    error = gpt2.relative(forward(p, c, tokens), gpt2.forward(theirs, dict(n_embd=c["C"], n_head=c["NH"], n_layer=c["L"]), tokens))
    print(f"nothing on, against gpt2.py: {error:.1e}")
    assert error < 1e-12


def check_ingredients():
    """All on, each off alone, each on alone, other depths: plain loops, central differences, causality."""
    cases = [("all", ARCHITECTURE, 5)] + [(f"without {i}", [j for j in ARCHITECTURE if j != i], 5) for i in ARCHITECTURE]
    cases += [(f"all and {i}", [*ARCHITECTURE, i], 5) for i in LATER] + [(f"{i} alone", [i], 2) for i in (*ARCHITECTURE, *LATER)] + [(f"all, {L} layers", ARCHITECTURE, L) for L in (1, 2, 3)]
    for name, on, L in cases:
        c, p, tokens = case(on, L)
        logits = forward(p, c, tokens)
        changed = tokens.clone()
        changed[:, 7:] = (changed[:, 7:] + 1) % c["V"]
        error = max(np.linalg.norm(logits[b].numpy() - y) / np.linalg.norm(y) for b in (0, 1) for y in [plain(p, c, tokens[b].tolist())])
        slopes = check_gradients(c, p, tokens)
        print(f"{name}: against plain loops {error:.1e}, central differences {slopes:.1e}")
        assert error < 1e-12 and slopes < 1e-7, name          # differences: eps^2 = 1e-12 of curvature, 1e-16 / eps = 1e-10 of rounding
        later = forward(p, c, changed)
        assert torch.equal(later[:, :7], logits[:, :7]) and not torch.equal(later[:, 7:], logits[:, 7:]), f"{name}: a changed suffix"


def check_window():
    """A window of 4: layer 0 alone moves position t by the tokens t-3 .. t; what it sees is the same at every place, and not a set."""
    c, p, tokens = case(ARCHITECTURE, 2)
    for name in ("attproj", "fcproj"):
        p[f"h.1.{name}.weight"].zero_()                                          # layer 1, which is long, passes on what it was given
    logits = forward(p, c, tokens)
    seen = [t for t in range(11) if not torch.equal(forward(p, c, torch.where(torch.arange(11) == t, (tokens + 1) % c["V"], tokens))[:, 8], logits[:, 8])]
    shifted = gpt2.relative(forward(p, c, tokens[:, 2:])[:, 3:], logits[:, 5:])
    swapped = gpt2.relative(forward(p, c, tokens[:, [0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10]])[:, 8], logits[:, 8])
    print(f"position 8 sees {seen}; two tokens further on {shifted:.1e}; two tokens exchanged {swapped:.1e}")
    assert seen == [5, 6, 7, 8] and shifted < 1e-12 and swapped > 1e-3


def check_optimizer():
    """Ten steps beside torch.optim.AdamW and muon.Muon, which are told who belongs to which group and, by hand, what the rates are."""
    h = dict(HYPER, steps=10, warmup=2)
    rates = {"cooldown": [0.5] + [1] * 3 + [i / 7 for i in range(6, 0, -1)], "": [0.5, 1, 1] + [i / 8 for i in range(7, 0, -1)]}
    for name, on, rate in (("AdamW", (), rates[""]), ("Muon", ALL, rates["cooldown"]), ("Muon, nothing else", ["muon"], rates[""])):
        c, p, tokens = case(on, 2)
        q, state = {n: w.clone().requires_grad_() for n, w in p.items()}, {}
        groups = {n: "muon" if "muon" in on and n.startswith("h.") and n.endswith(".weight") and "ln_" not in n else
                  "embed_lr" if n in ("wte", "h.1.value_embeds") else "head_lr" if n == "head" else "scalar_lr" if n in ("resid_scalars", "x0_scalars") else "lr" for n in q}
        for n in q:
            if "qkv.weight" in n:
                q[n].parts = [12, 12, 12]
        adam = torch.optim.AdamW([dict(params=[q[n]], group=g, decays=q[n].dim() == 2) for n, g in groups.items() if g != "muon"], betas=(0.9, 0.95), eps=1e-8)
        matrices = [q[n] for n, g in groups.items() if g == "muon"]
        theirs = [adam] + ([muon.Muon(matrices, cautious=on == ALL, row_scale=on == ALL, products=torch.float64)] if matrices else [])
        for step in range(10):
            update(p, gradients(p, c, tokens), state, c, h, step)
            for n, g in gradients({n: w.detach() for n, w in q.items()}, c, tokens).items():
                q[n].grad = g
            torch.nn.utils.clip_grad_norm_(q.values(), 1.0)
            for optimizer in theirs:
                for group in optimizer.param_groups:
                    group["lr"] = rate[step] * h[group.get("group", "muon_lr")]
                    group["weight_decay"] = 0.1 * (rate[step] if on == ALL else 1) * group.get("decays", True)
                optimizer.step()
        error = max(gpt2.relative(p[n], q[n].detach()) for n in p)
        print(f"{name}, ten steps: {error:.1e}")
        assert error < 1e-7, name                             # clip_grad_norm_ adds 1e-6 to the norm, most of which AdamW and Muon divide away


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check:
        check_initial_values()
        check_gpt2()
        check_window()
        check_optimizer()
        check_ingredients()
    else:
        parser.print_help()
