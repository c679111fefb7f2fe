#!/usr/bin/env python3
"""hf_check.py for Llama 3, Qwen3 and SmolLM2: folders in the forms of these families, made here with random weights, there and back.

    python3 dev/reference/hf_families.py build/tmp/families --text FILE [--ours ./train_gpt2] [--only llama3]

Each folder has the tokenizer.json, the template and the other files of its family, and keys in config.json that nobody knows. Checked: the
logits are those of transformers; saved again, every tensor has the same bytes, config.json the same keys and values, the other files the same
bytes, and transformers finds the same logits; 100 tokens, greedily, are those of transformers, before and after; training goes on from it, in
fp32 and bf16, and what is saved then has the logits that transformers finds for it.
"""
import argparse, copy, json, os, shlex, shutil, sys
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config
import hf_check
from check_families import FORMS, TEMPLATES, make
from families import older_form

SCALED = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
PLAIN = dict(rope_type="default", rope_theta=100000.0)
SIZES = {  # T of 256 is beyond the 64 positions of the scaling; heads of the three sizes, groups of 3, 2, 6 and 1
    "llama3": dict(config=LlamaConfig, hidden_size=72, num_attention_heads=9, num_key_value_heads=3, head_dim=8, intermediate_size=104, rope=SCALED, tied=False),
    "llama3-tied": dict(config=LlamaConfig, hidden_size=48, num_attention_heads=2, num_key_value_heads=1, head_dim=128, intermediate_size=80, rope={**SCALED, "factor": 32.0}, tied=True),
    "qwen3": dict(config=Qwen3Config, hidden_size=40, num_attention_heads=6, num_key_value_heads=1, head_dim=24, intermediate_size=72, rope={**PLAIN, "rope_theta": 1e6}, tied=True),
    "qwen3-untied": dict(config=Qwen3Config, hidden_size=64, num_attention_heads=2, num_key_value_heads=2, head_dim=128, intermediate_size=96, rope={**PLAIN, "rope_theta": 1e6}, tied=False),
    "smollm2": dict(config=LlamaConfig, hidden_size=72, num_attention_heads=9, num_key_value_heads=3, head_dim=8, intermediate_size=96, rope=PLAIN, tied=True),
}
FORMS_OF_FOLDERS = ("fp32", "older", "bf16", "fp16", "shards", "head")
KEPT = ("generation_config.json", "special_tokens_map.json", "tokenizer_config.json", "chat_template.jinja")
OURS = {"torch_dtype", "dtype", "transformers_version"}  # of config.json: these may change


def make_model(name, folder, text):
    """One file, fp32, config.json as transformers 5 writes it, and the families' other files."""
    size, form = SIZES[name], FORMS[name.split("-")[0]]
    tokenizer = make(name.split("-")[0], folder, text)
    torch.manual_seed(sum(map(ord, name)))
    ids = {"bos_token_id": tokenizer.token_to_id(form["special"][0]), "eos_token_id": [tokenizer.token_to_id(x) for x in form["special"][1:3]]}
    model = AutoModelForCausalLM.from_config(size["config"](
        vocab_size=tokenizer.get_vocab_size() + 5, num_hidden_layers=2, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=size["tied"], rope_parameters=size["rope"],
        **ids, **{k: v for k, v in size.items() if k not in ("config", "rope", "tied")}))
    with torch.no_grad():
        for w in model.parameters(): w.add_((0.2 if w.dim() == 1 else 1.5 * w.shape[1] ** -0.5) * torch.randn_like(w))
    model.save_pretrained(folder)
    write = lambda file, content: open(f"{folder}/{file}", "w").write(content)
    config = json.load(open(folder + "/config.json"))
    write("config.json", json.dumps({**config, "unknown_key": {"a": [1, 2.50, None], "b": "\u00e9"}}, indent=1))
    write("generation_config.json", json.dumps({**ids, "do_sample": True, "temperature": 0.6}, indent=4))
    write("special_tokens_map.json", json.dumps({"eos_token": {"content": form["special"][1], "lstrip": False}}))
    write("tokenizer_config.json", json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": form["special"][1], "model_max_length": 131072, "clean_up_tokenization_spaces": False}, indent=3))
    write("chat_template.jinja", TEMPLATES["llama3" if name.startswith("llama3") else "chatml"])


def in_form(form, one, folder):
    """The model in `one` as another program could have saved it."""
    shutil.copytree(one, folder)
    config = json.load(open(folder + "/config.json"))
    if form == "older": config = older_form(config)
    if form in ("bf16", "fp16", "shards"):
        dtype = torch.float16 if form == "fp16" else torch.bfloat16
        os.remove(folder + "/model.safetensors")
        AutoModelForCausalLM.from_pretrained(one, dtype=dtype).save_pretrained(folder, max_shard_size="60KB" if form == "shards" else "5GB")
        config["dtype"] = str(dtype).split(".")[1]
        for file in KEPT: shutil.copy(f"{one}/{file}", folder)
    if form == "head":
        tensors = load_file(one + "/model.safetensors")
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, folder + "/model.safetensors", metadata={"format": "pt"})
    json.dump(config, open(folder + "/config.json", "w"), indent=1)


def tensors_of(folder):
    return {k: x for file in sorted(os.listdir(folder)) if file.startswith("model") and file.endswith(".safetensors") for k, x in load_file(f"{folder}/{file}").items()}


def compare_folders(before, after, dtypes_differ, head):
    a, b = tensors_of(before), tensors_of(after)
    if head: a.pop("lm_head.weight")  # the embedding's once more: what is tied is written once
    same = set(a) == set(b) and all((x.float() == b[k].float()).all() if dtypes_differ else x.dtype == b[k].dtype and torch.equal(x, b[k]) for k, x in a.items())
    if not same: sys.exit(f"{after}: tensors are not those of {before}: {sorted(set(a) ^ set(b))} or others in their bytes")
    old, new = (older_form(c) if "rope_parameters" in c else c for c in (json.load(open(f"{f}/config.json")) for f in (before, after)))
    lost = {k: (v, new.get(k, "missing")) for k, v in old.items() if k not in OURS and (k not in new or new[k] != v)}
    if lost: sys.exit(f"{after}/config.json: other than {before}'s: {lost}")
    for file in KEPT:
        if open(f"{before}/{file}", "rb").read() != open(f"{after}/{file}", "rb").read(): sys.exit(f"{after}/{file} is not that of {before}")
    print(f"same    {after}: {len(b)} tensors, {len(new)} keys, {len(KEPT)} files")


def greedy(folder, args):
    for prompt in ("Once", "The KING: 12"):
        options = copy.copy(args)
        options.folder, options.prompt, options.tokens, options.dtype, options.no_ours, options.tie = folder, prompt, 100, "float32", False, 1e-4
        hf_check.compare(options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", help="a folder to work in; it is emptied")
    parser.add_argument("--text", required=True)
    parser.add_argument("--ours", default="./train_gpt2")
    parser.add_argument("--only", help="one of " + ", ".join(SIZES))
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    text, ours, pipe = open(args.text).read()[:300000], shlex.split(args.ours), hf_check.build_pipe()
    part = args.work + "/text.txt"
    for name in [args.only] if args.only else SIZES:
        one = f"{args.work}/{name}"
        make_model(name, one, text)
        open(part, "w").write(text[:100000])
        greedy(one, args)
        for form in FORMS_OF_FOLDERS:
            if form == "head" and not SIZES[name]["tied"]: continue
            folder = f"{one}.{form}"
            in_form(form, one, folder)
            hf_check.compare_logits(pipe, folder)
            precision = "bf16" if form in ("bf16", "shards") else "fp32"
            hf_check.run(ours + ["-e", folder, "-x", "0", "-n", "1", "-o", folder + ".again", "--precision", precision])
            again = folder + ".again/step_00000000"
            compare_folders(folder, again, form == "fp16", form == "head")
            hf_check.compare_logits(pipe, again)
            if form not in ("fp32", "shards"): continue
            for precision in ("fp32", "bf16"):
                out = f"{folder}.on.{precision}"
                said = hf_check.run(ours + ["-e", folder, "-i", part, "-x", "20", "-n", "20", "-l", "1e-3", "-b", "2", "-t", "96", "-v", "0", "-s", "0", "-o", out, "--precision", precision], text=True)
                losses = [float(line.split("loss")[1].split()[0]) for line in said.splitlines() if line.startswith("step ") and "loss" in line]
                print(f"trained {folder} in {precision}: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
                if len(losses) != 20 or not losses[-1] < losses[0]: sys.exit(f"{folder}: the loss did not fall:\n{said}")
                hf_check.compare_logits(pipe, out + "/step_00000020")
            if form == "fp32": greedy(again, args)
    print("families: all right")


if __name__ == "__main__": main()
