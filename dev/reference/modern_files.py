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
    "modern_e": dict(on={*HAS, "windows"}, W=5, L=6, C=16, NH=2, V=37, max_T=32, B=2, T=27, **EPS),  # short, short, short, long, short, long
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
        "hidden_act": "relu2" if "relu2" in on else "gelu_pytorch_tanh", **({"sliding_window": c["W"]} if "windows" in on else {}),
        "tie_word_embeddings": "untied" not in on, "zero_init_residual": "zero_init" in on,
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


def twin_of(folder, config):
    """The twin's model of a folder's weights, as (p, c)."""
    from safetensors.torch import load_file
    tensors = {name.removeprefix("transformer."): x.double() for name, x in load_file(folder + "/model.safetensors").items()}
    on = {"rmsnorm": config.norm_type == "rms_norm", "rope": config.position_embedding_type == "rope", "qk_norm": config.use_qk_norm, "relu2": config.hidden_act == "relu2",
          "no_bias": not config.use_bias, "untied": not config.tie_word_embeddings, "softcap": config.logit_softcap > 0}
    on["windows"] = bool(getattr(config, "sliding_window", None))
    c = dict(on={i for i in on if on[i]}, W=on["windows"] and config.sliding_window, L=config.num_hidden_layers, C=config.hidden_size, NH=config.num_attention_heads, V=config.vocab_size, max_T=config.max_position_embeddings)
    assert set(tensors) == {in_file(name) for name in modern.shapes(c)}, "tensors"
    return tensors, c


@torch.no_grad()
def check_folder(folder, ours, pipe):
    """Loads the folder; its logits are the trainer's, and the twin's in float64 but for what fp32 rounds."""
    import hf_check
    from transformers import AutoModelForCausalLM
    hf_check.compare_logits(pipe, folder)
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    tokens = torch.randint(model.config.vocab_size, (2, 50), generator=torch.Generator().manual_seed(4))
    p, c = twin_of(folder, model.config)
    theirs, twin = model(tokens).logits, forward(p, c, tokens)
    print(f"twin    {folder}: largest {twin.abs().max():.1f}, relative difference {relative(theirs, twin):.1e}")
    assert relative(theirs, twin) < (1e-4 if c["on"] & {"rmsnorm"} else 1e-3), "the twin's eps of LayerNorm is 1e-5, these models' 1e-6"
    # with and without a cache; our own generation
    prompt = tokens[:1, :7]
    greedy = [model.generate(prompt, max_new_tokens=40, do_sample=False, use_cache=cached, pad_token_id=0, eos_token_id=None, output_logits=True, return_dict_in_generate=True) for cached in (True, False)]
    assert relative(torch.stack(greedy[0].logits), torch.stack(greedy[1].logits)) < 1e-5 and greedy[0].sequences.equal(greedy[1].sequences), "a cache changes what is generated"
    assert model.eval() and tokens.shape == model(tokens, attention_mask=torch.ones_like(tokens)).logits.shape[:2]
    return model


def check_folders(work, ours):
    import hf_check
    from safetensors.torch import load_file
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    pipe, text = hf_check.build_pipe(), work + "/text.txt"
    source = open(modern.__file__).read()
    open(text, "w").write(source)
    for left_out in ("", "w9", "w20", *HAS, *("-".join(HAS[i:i + 3]) for i in (0, 3, 5))):  # or a window
        name = "modern:d2c48h4" + (left_out if left_out[:1] == "w" else left_out and "-" + left_out)
        out = work + "/" + (left_out or "all")
        for precision in ("fp32", "bf16") if left_out in ("", "w9", "rope") else ("fp32",):
            run = f"{out}.{precision}"
            hf_check.run(shlex.split(ours) + ["-i", text, "--tokenizer", "bytes", "-e", name, "--init-std", "0.3", "-l", "1e-2", "-x", "80", "-n", "80", "-v", "0", "-s", "0", "-b", "4", "-t", "64", "-o", run, "--precision", precision])
            folder = run + "/step_00000080"
            model = check_folder(folder, ours, pipe)
            if precision == "bf16":
                continue
            hf_check.compare(argparse.Namespace(folder=folder, prompt="def ", tokens=40, dtype="float32", no_ours=False, tie=1e-4, ours=ours))
            saved = run + ".saved"                                               # by transformers, and read by the trainer
            model.save_pretrained(saved)
            shutil.copy(folder + "/tokenizer.json", saved)
            hf_check.run(shlex.split(ours) + ["-e", saved, "-x", "0", "-n", "1", "-s", "0", "-v", "0", "-o", run + ".again"])
            again = run + ".again/step_00000000"
            a, b = (load_file(f + "/model.safetensors") for f in (folder, again))
            assert set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a), f"{again}: other weights"
            old, new = (json.load(open(f + "/config.json")) for f in (folder, again))
            lost = {k: (old[k], new.get(k)) for k in old if k not in ("torch_dtype", "dtype") and new.get(k) != old[k]}
            assert not lost, lost
            check_folder(again, ours, pipe)
    print("modern: all right")


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
