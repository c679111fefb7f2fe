#!/usr/bin/env python3
"""Does llama.cpp's converter take the folders that this trainer writes, and does llama.cpp then compute the same?

    python3 dev/reference/gguf_check.py out/step_00000100 --converter LLAMA_CPP/convert_hf_to_gguf.py
    python3 dev/reference/gguf_check.py --make build/tmp/gguf --tokenizer DIR --text FILE --converter ...   nine folders, written here

The converter runs as it is, in fp32. Of the GGUF it writes each tensor is the folder's, under llama.cpp's name, in its order of rows and with
the same values; the frequencies' factors and each number that the model is computed with are the folder's too. With the package llama_cpp
(llama-cpp-python), llama.cpp itself loads the file: its logits are ours on random tokens as far as fp32 goes, it writes the 60 tokens that
./train_gpt2 writes, greedily, and its tokenizer has the ids of `tokenizers`. Without it, that part says that it was left out.

The converter knows tokenizers by a hash of how they encode a text: GPT-2's own it knows (DIR: its vocab.bpe and encoder.json), one that was
learnt here it does not, and says so. Then it runs again, told the name of the pattern that tokenizer.json has.
"""
import argparse, array, json, os, re, shlex, shutil, subprocess, sys
import numpy as np
import torch
from gguf import GGUFReader
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
import hf_check
from hf_families import SIZES, make_model, tensors_of

LOGITS = 2e-4  # of the largest logit: two fp32 sums in different orders reach 2e-6 in hf_check; llama.cpp's GELU is a table in fp16, u = 2^-11 of a hidden value
NUMBERS = {  # of the GGUF behind the name of the architecture: of GPT-2's config.json, of the others'
    "context_length": ("n_positions", "max_position_embeddings"), "embedding_length": ("n_embd", "hidden_size"), "block_count": ("n_layer", "num_hidden_layers"),
    "feed_forward_length": (None, "intermediate_size"), "attention.head_count": ("n_head", "num_attention_heads"), "attention.head_count_kv": (None, "num_key_value_heads"),
    "attention.key_length": (None, "head_dim"), "attention.value_length": (None, "head_dim"), "attention.layer_norm_epsilon": ("layer_norm_epsilon", None),
    "attention.layer_norm_rms_epsilon": (None, "rms_norm_eps"), "rope.freq_base": (None, "rope_theta"),
}
NAMES = {  # of tensors, behind "transformer." or "model." and "h.N." or "layers.N.": llama.cpp's
    "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def pattern_of(folder):
    """llama.cpp's name of the pattern in tokenizer.json."""
    pre = json.dumps(json.load(open(folder + "/tokenizer.json"))["pre_tokenizer"])
    return "smollm" if '"Digits"' in pre else "llama-bpe" if "{1,3}" in pre else "qwen2" if '"Split"' in pre else "gpt-2"


def convert(folder, out, converter):
    command = [sys.executable, converter, folder, "--outfile", out, "--outtype", "f32"]
    child = subprocess.run(command, capture_output=True, text=True)
    if child.returncode and "not recognized" in child.stderr:
        name = pattern_of(folder)
        print(f"unknown {folder}: its tokenizer is not in the converter's list; once more, told that it splits as {name}")
        told = ("import sys; sys.path.insert(0, sys.argv.pop(1)); name = sys.argv.pop(1); import convert_hf_to_gguf as c; from conversion.base import TextModel; "
                "TextModel.get_vocab_base_pre = lambda *_: name; c.main()")
        child = subprocess.run([sys.executable, "-c", told, os.path.dirname(os.path.abspath(converter)), name] + command[2:], capture_output=True, text=True)
    if child.returncode: sys.exit(f"{shlex.join(command)}\nended with {child.returncode}:\n{child.stderr[-3000:]}")


def factors(config):
    """What each frequency is divided by: the formula of "llama3"."""
    r, HS = config["rope_scaling"], config["head_dim"]
    w = config["rope_theta"] ** (-np.arange(0, HS, 2) / HS)
    s = np.clip((r["original_max_position_embeddings"] * w / (2 * np.pi) - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"]), 0, 1)
    return 1 / ((1 - s) / r["factor"] + s)


def compare_file(folder, file, config):
    reader, gpt2 = GGUFReader(file), config["model_type"] == "gpt2"
    field = lambda key: reader.fields[key].contents() if key in reader.fields else None
    arch = field("general.architecture")
    for key, fields in NUMBERS.items():
        name = fields[0 if gpt2 else 1]
        if name and not np.isclose(field(f"{arch}.{key}"), config[name], rtol=1e-7): sys.exit(f"{file}: {arch}.{key} is {field(f'{arch}.{key}')}, config.json has {config[name]}")
    if len(field("tokenizer.ggml.tokens")) != config["vocab_size"]: sys.exit(f"{file}: {len(field('tokenizer.ggml.tokens'))} tokens, config.json has {config['vocab_size']}")
    want = {}
    for name, x in tensors_of(folder).items():
        x = x.float().numpy()
        if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")): x = x.T
        if arch == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):  # the halves that rotate together become neighbours
            x = x.reshape(-1, 2, config["head_dim"] // 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)
        layer, ours, kind = re.fullmatch(r"(?:transformer\.|model\.)?(?:(?:h|layers)\.(\d+)\.)?(.*)\.(weight|bias)", name).groups()
        want[f"blk.{layer}.{NAMES[ours]}.{kind}" if layer else f"{NAMES[ours]}.{kind}"] = x
    scaled = not gpt2 and (config.get("rope_scaling") or {}).get("rope_type") == "llama3"
    for t in reader.tensors:
        x = np.array(t.data).reshape(tuple(reversed([int(n) for n in t.shape])))
        if t.name == "rope_freqs.weight" and scaled:
            if not np.allclose(x, factors(config), rtol=1e-5): sys.exit(f"{file}: factors of the frequencies {x}, by the formula {factors(config)}")
            scaled = False
        elif t.name == "output.weight" and t.name not in want: np.testing.assert_array_equal(x, want["token_embd.weight"])
        elif t.name not in want or not np.array_equal(x, want.pop(t.name)): sys.exit(f"{file}: {t.name} is not in {folder}, or has other values")
    if want or scaled: sys.exit(f"{file}: {sorted(want) or 'factors of the frequencies'} missing")
    print(f"file    {file}: {len(reader.tensors)} tensors of {arch}, {sum(f[0 if gpt2 else 1] is not None for f in NUMBERS.values())} numbers, {field('tokenizer.ggml.pre')}, "
          f"bos {field('tokenizer.ggml.bos_token_id')}, eos {field('tokenizer.ggml.eos_token_id')}")


def compare_program(folder, file, config, pipe, args):
    try: from llama_cpp import Llama
    except ImportError: return print("program left out: there is no package llama_cpp")
    n = min(config.get("n_positions") or config["max_position_embeddings"], 256)
    llama = Llama(file, n_ctx=n, n_batch=n, n_ubatch=n, logits_all=True, n_threads=1, n_threads_batch=1, type_k=0, type_v=0, verbose=False)
    tokens = torch.randint(config["vocab_size"], (n,), generator=torch.Generator().manual_seed(3)).tolist()
    ours = np.frombuffer(hf_check.run([pipe, folder, "fp32"], input=array.array("i", tokens).tobytes()), np.float32).reshape(n, -1)
    llama.eval(tokens)
    worst, largest = np.abs(llama.scores[:n] - ours).max(), np.abs(ours).max()
    print(f"program {file}: {n} tokens, logits up to {largest:.1f}, largest difference {worst:.1e}")
    if not worst <= LOGITS * largest: sys.exit(f"{file}: logits differ by {worst:.1e}, allowed are {LOGITS * largest:.0e}")
    # its tokenizer
    tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
    text = open(os.path.abspath(__file__)).read() + "It's DON'T we'LL 1234567 x=42;\n\n\n  // na\u00efve \u65e5\u672c\u8a9e \t end "
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if llama.tokenize(text.encode(), add_bos=False, special=True) != ids: sys.exit(f"{file}: the {len(ids)} ids of a text are others than those of tokenizers")
    # its text, greedily: from where ours begins
    start = [tokenizer.token_to_id("<|endoftext|>")] if pattern_of(folder) == "gpt-2" else tokenizer.encode("").ids  # GPT-2's post-processor puts nothing there, our texts begin so
    ends = np.atleast_1d(config["eos_token_id"])
    prompt, margins = start + tokenizer.encode("Once", add_special_tokens=False).ids, []
    written = list(prompt)
    while len(margins) < min(60, n - len(prompt)):
        llama.reset()
        llama.eval(written)
        order = np.argsort(llama.scores[len(written) - 1])
        margins.append(float(llama.scores[len(written) - 1][order[-1]] - llama.scores[len(written) - 1][order[-2]]))
        if order[-1] in ends: break
        written.append(int(order[-1]))
    said = hf_check.run(shlex.split(args.ours) + ["-e", folder, "--prompt", "Once", "--steps", "0", "--temperature", "0", "-t", str(n), "-g", str(len(margins))], text=True, errors="replace")
    if hf_check.as_printed(tokenizer.decode(written[len(start):], skip_special_tokens=False)) not in said: sys.exit(f"{file}: llama.cpp writes\n{tokenizer.decode(written, skip_special_tokens=False)}\nsmallest margin {min(margins):.1e}; the trainer\n{said}")
    print(f"same    {file}: {len(ids)} ids of a text, {len(margins)} tokens greedily, smallest margin {min(margins):.1e}")


def make(args):
    """Folders that the trainer wrote: by name, with GPT-2's tokenizer and with one learnt here; and from folders of hf_families.py, scaled positions among them."""
    shutil.rmtree(args.make, ignore_errors=True)
    os.makedirs(args.make)
    train = lambda name, *more: hf_check.run(shlex.split(args.ours) + ["-i", args.text, "-x", "30", "-n", "30", "-l", "3e-3", "-b", "2", "-t", "64", "-v", "0", "-s", "0", "-o", f"{args.make}/{name}", *more]) and f"{args.make}/{name}/step_00000030"
    for name, model in (("new-gpt2", "d2c48h3"), ("new-llama", "llama:d2c48h6k2"), ("new-qwen3", "qwen3:d2c40h6k3s24")):
        yield train(name, "-e", model, "--tokenizer", args.tokenizer, "--init-std", "0.2")
    yield train("new-learnt", "-e", "llama:d2c48h6", "--tokenizer", "bpe:600", "--precision", "bf16")
    for name, size in SIZES.items():
        begin = f"{args.make}/{name}.begin"
        make_model(name, begin, open(args.text).read())
        yield train(name, "-e", begin)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folders", nargs="*")
    p.add_argument("--converter", required=True, metavar="FILE", help="llama.cpp's convert_hf_to_gguf.py")
    p.add_argument("--make", metavar="FOLDER", help="a folder to work in; it is emptied")
    p.add_argument("--tokenizer", help="a folder with GPT-2's vocab.bpe and encoder.json")
    p.add_argument("--text")
    p.add_argument("--ours", default="./train_gpt2", help="the trainer's command")
    args = p.parse_args()
    pipe = hf_check.build_pipe()
    for folder in list(make(args)) if args.make else args.folders:
        file, config = folder.rstrip("/") + ".gguf", json.load(open(folder + "/config.json"))
        convert(folder, file, args.converter)
        compare_file(folder, file, config)
        compare_program(folder, file, config, pipe, args)
    print("gguf: all right")
