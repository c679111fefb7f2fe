#!/usr/bin/env python3
"""Muon in PyTorch: momentum whose matrices are orthogonalised (Jordan et al. 2024), by the Polar Express (Amsel et al. 2025, arXiv 2505.16932).

    python3 dev/reference/muon.py --check            the coefficients against the minimax problem that they solve; singular values; U V^T
    python3 dev/reference/muon.py --golden test/golden   ten steps from the models of gpt2_c and llama_b: muon_gpt2_c, muon_llama_b.safetensors

update() is what the trainer does to one matrix. The class Muon is a torch.optim.Optimizer of it, to be used beside AdamW: for matrices of blocks alone,
as torch.nn.Linear has them, (out, in). A matrix that is several linear layers of one input (q, k, v) gets .parts = [rows of each].
"""
import argparse
import json
import math
import os

import torch

# Five iterations x -> a x + b x^3 + c x^5 on singular values, each the best answer to what the one before leaves of [1e-3, 1]: coefficients() derives
# them. The safety factor 1.02 is in two places, as in the paper's algorithm 1 (which has 1.01 in both): in the norm that the matrix is divided by,
# and in the coefficients of all iterations but the last, a / 1.02, b / 1.02^3, c / 1.02^5, where rounding may have made a singular value larger than the
# interval that an iteration is for.
SAFETY, CUSHION, SMALLEST, EPS = 1.02, 0.02, 1e-3, 1e-6
POLAR_EXPRESS = [(8.156554524902461, -22.48329292557795, 15.878769915207462),
                 (4.042929935166739, -2.808917465908714, 0.5000178451051316),
                 (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
                 (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
                 (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)]


def orthogonalize(U, products=torch.bfloat16):
    """U V^T of U's singular value decomposition, nearly: matrices (..., rows, cols), products of this type, the norm in U's own."""
    tall = U.size(-2) > U.size(-1)
    X = U.mT if tall else U
    X = (X / (SAFETY * X.norm(dim=(-2, -1), keepdim=True) + EPS)).to(products)
    for a, b, c in POLAR_EXPRESS:
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return (X.mT if tall else X).to(U.dtype)


def update(W, G, M, *, lr, mu=0.95, weight_decay=0.0, parts=None, cautious=False, row_scale=None, beta2=0.95, products=torch.bfloat16):
    """W and M in place. W, G, M: (rows, cols). parts: rows of each matrix that is orthogonalised for itself, if W is several. cautious: weights decay only
    where the update makes them smaller. row_scale: NorMuon's mean square of each row (rows, 1), in place, or None."""
    M.lerp_(G, 1 - mu)
    U = torch.lerp(G, M, mu)
    for w, u, v in zip(*[(x.split(parts) if parts else [x]) if x is not None else [None] * len(parts or [0]) for x in (W, U, row_scale)]):
        X = orthogonalize(u, products)
        if v is not None:  # NorMuon (Li et al. 2025, arXiv 2510.05491): neurons move equally far; the whole as far as without it
            v.lerp_(X.square().mean(-1, keepdim=True), 1 - beta2)
            scaled = X * v.clamp_min(1e-10).rsqrt()
            X = scaled * (X.norm() / scaled.norm().clamp_min(1e-10))
        decay = weight_decay * (X * w >= 0) if cautious else weight_decay
        w.sub_(lr * (max(1, w.size(0) / w.size(1)) ** 0.5 * X + decay * w))


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, mu=0.95, weight_decay=0.0, cautious=False, row_scale=False, beta2=0.95, products=torch.bfloat16):
        super().__init__(params, dict(lr=lr, mu=mu, weight_decay=weight_decay, cautious=cautious, row_scale=row_scale, beta2=beta2, products=products))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            hyper = {key: group[key] for key in ("lr", "mu", "weight_decay", "cautious", "beta2", "products")}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                    if group["row_scale"]:
                        state["row_scale"] = torch.zeros_like(p[:, :1])
                update(p, p.grad, state["momentum_buffer"], parts=getattr(p, "parts", None), row_scale=state.get("row_scale"), **hyper)


# ---------------------------------------------------------------------------------------------------- the coefficients

def minimax_quintic(l, u):
    """a x + b x^3 + c x^5 that is nearest to 1 on [l, u], by Remez's algorithm: the error alternates at l, two extrema, and u."""
    q, r, last = (3 * l + u) / 4, (l + 3 * u) / 4, math.inf
    while True:
        x = torch.tensor([l, q, r, u], dtype=torch.float64)
        a, b, c, error = torch.linalg.solve(torch.stack([x, x**3, x**5, torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)], 1), torch.ones(4, dtype=torch.float64)).tolist()
        if abs(error - last) < 1e-15:
            return a, b, c
        last, root = error, math.sqrt(9 * b * b - 20 * a * c)
        q, r = math.sqrt((-3 * b - root) / (10 * c)), math.sqrt((-3 * b + root) / (10 * c))


def coefficients(iterations, safety, cushion, l=SMALLEST):
    """The paper's section 4: each iteration is the minimax polynomial of the interval that the one before leaves, but for singular values below `cushion`
    of the largest, which would make it too steep for bf16, and is then centred on 1."""
    u, out = 1.0, []
    for i in range(iterations):
        a, b, c = minimax_quintic(max(l, cushion * u), u)
        p = lambda x: a * x + b * x**3 + c * x**5
        s = 2 / (p(l) + p(u)) if l < cushion * u else 1.0
        f = safety if i < iterations - 1 else 1.0
        a, b, c = a * s / f, b * s / f**3, c * s / f**5
        out.append((a, b, c))
        l = p(l)
        u = 2 - l
    return out


def check():
    theirs = [(8.28721201814563, -23.595886519098837, 17.300387312530933), (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
              (3.9486908534822946, -2.908902115962949, 0.5518191394370137), (3.3184196573706015, -2.488488024314874, 0.51004894012372),
              (2.300652019954817, -1.6689039845747493, 0.4188073119525673)]
    worst = lambda a, b: max(abs(x / y - 1) for p, q in zip(a, b) for x, y in zip(p, q))
    print(f"the paper's first five, without a safety factor, cushion 0.024073: {worst(coefficients(5, 1.0, 0.02407327424182761), theirs):.1e}")
    print(f"ours, safety factor 1.02 in all but the last, cushion 0.02: {worst(coefficients(5, SAFETY, CUSHION), POLAR_EXPRESS):.1e}")
    assert worst(coefficients(5, 1.0, 0.02407327424182761), theirs) < 1e-12 and worst(coefficients(5, SAFETY, CUSHION), POLAR_EXPRESS) < 1e-12
    x = torch.logspace(-4, 0, 40001, dtype=torch.float64) / SAFETY
    y = x.clone()
    for a, b, c in POLAR_EXPRESS:
        y = a * y + b * y**3 + c * y**5
    for low in (1e-4, 1e-3, 1e-2):
        part = y[x * SAFETY >= low]
        print(f"singular values {low:g} .. 1 of the norm become {part.min():.4f} .. {part.max():.4f}")
    torch.manual_seed(1)
    for shape in ((64, 64), (48, 192), (192, 48), (1, 40), (31, 7)):
        G = torch.randn(shape, dtype=torch.float64)
        u, s, v = torch.linalg.svd(G, full_matrices=False)
        for products in (torch.float64, torch.float32, torch.bfloat16):
            X = orthogonalize(G, products)
            print(f"{shape}, {products}: singular values {torch.linalg.svdvals(X).min():.4f} .. {torch.linalg.svdvals(X).max():.4f}, "
                  f"|X - U V^T| / |U V^T| = {((X - u @ v).norm() / (u @ v).norm()):.4f}")


# ------------------------------------------------------------------------------------------------- golden files

GOLDEN = dict(lr=3e-3, embed_lr=6e-3, head_lr=1e-3, muon_lr=2e-2, muon_momentum=0.9, muon_weight_decay=0.3)


def train(p, c, tokens, forward):
    """gpt2.py's train(), with blocks' matrices by Muon and a learning rate for each group. Matrices of GPT-2 are (in, out), as Hugging Face keeps them."""
    import gpt2
    is_gpt2 = "wte.weight" in p
    p = {name: w.clone() for name, w in p.items()}
    m, v = ({name: torch.zeros_like(w) for name, w in p.items()} for _ in range(2))
    losses, norms = [], []
    for t in range(1, c["steps"] + 1):
        micro = [gpt2.gradients(p, c, batch, forward=forward) for batch in tokens[(t - 1) * c["accum"]:t * c["accum"]]]
        grad = {name: sum(g[name] for _, g, _ in micro) / c["accum"] for name in p}
        losses.append(sum(loss.item() for loss, _, _ in micro) / c["accum"])
        norms.append(math.sqrt(sum(g.square().sum().item() for g in grad.values())))
        scale = min(1.0, c["grad_clip"] / norms[-1])
        for name, w in p.items():
            g = grad[name] * scale
            if w.dim() == 2 and (name.startswith("h.") or ".layers." in "." + name):
                turned = (lambda x: x.mT) if is_gpt2 else (lambda x: x)
                parts = [w.size(0)] * 3 if "c_attn" in name else None
                update(turned(w), turned(g), turned(m[name]), lr=c["muon_lr"], mu=c["muon_momentum"], weight_decay=c["muon_weight_decay"], parts=parts, products=torch.float64)
                continue
            lr = c["head_lr"] if "lm_head" in name else c["embed_lr"] if w.dim() == 2 else c["lr"]
            m[name].lerp_(g, 1 - c["beta1"])
            v[name].lerp_(g * g, 1 - c["beta2"])
            mhat, vhat = m[name] / (1 - c["beta1"] ** t), v[name] / (1 - c["beta2"] ** t)
            w.sub_(lr * (mhat / (vhat.sqrt() + c["eps"]) + (c["weight_decay"] if w.dim() == 2 else 0.0) * w))
    return losses, norms, p


def write_goldens(folder):
    import families
    import gpt2
    from safetensors.torch import save_file
    for name, case, forward in (("gpt2_c", gpt2.case("c"), gpt2.forward), ("llama_b", families.case("llama_b"), families.forward)):
        c, p, tokens = case
        losses, norms, final = train(p, c | GOLDEN, tokens, forward)
        path = os.path.join(folder, f"muon_{name}.safetensors")
        out = {"final/" + w: x.float().contiguous() for w, x in final.items()} | {"step_loss": torch.tensor(losses, dtype=torch.float64), "step_norm": torch.tensor(norms, dtype=torch.float64)}
        save_file(out, path, {"config": json.dumps(GOLDEN)})
        print(f"{path}: {os.path.getsize(path)} bytes, loss {losses[0]:.4f} -> {losses[-1]:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--golden", metavar="FOLDER")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check:
        check()
    if args.golden:
        write_goldens(args.golden)
