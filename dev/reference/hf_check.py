#!/usr/bin/env python3
"""Does transformers read what this trainer writes, and the other way round?

    python3 dev/reference/hf_check.py out/step_00000100 --tokens 100   load the folder with transformers, continue a prompt
                                                                      greedily, and ask ./train_gpt2 for the same
    python3 dev/reference/hf_check.py out/step_00000100 --dtype bfloat16 --ours "./train_gpt2 --precision bf16"
    python3 dev/reference/hf_check.py --make build/tmp/hf              write a tiny random model as transformers would
    python3 dev/reference/hf_check.py --formats build/tmp/formats      folders in every form that transformers writes (one file,
                                                                      shards, fp32, bf16, fp16, with and without head, masks)

The two continuations must be the same tokens. Where they part, the two best logits there tell whether it was a tie that
rounding decides (accepted below --tie) or a mistake. A folder's fp32 logits must agree within 1e-4. --formats: each folder
has the logits that transformers finds for it, saved again it has the same bytes (one file of our type), and training goes
on from it; what is saved then has the logits that transformers finds for it.
"""
import argparse
import array
import json
import os
import re
import shutil
import shlex
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()
HERE = os.path.dirname(os.path.abspath(__file__))
LOGITS = 1e-4  # absolute, fp32 on both sides


def run(command, **options):
    child = subprocess.run(command, capture_output=True, **options)
    if child.returncode:
        out = child.stdout + child.stderr
        sys.exit(f"{shlex.join(command)}\nended with {child.returncode}:\n{out if isinstance(out, str) else out.decode(errors='replace')}")
    return child.stdout


def as_printed(text):
    """Control characters as the trainer prints them."""
    return re.sub("[\0-\x08\x0b-\x1f\x7f-\x9f]", lambda c: "".join(f"\\x{b:02x}" for b in c.group().encode()), text)


def build_pipe():
    pipe = "build/logits_pipe"
    os.makedirs("build", exist_ok=True)
    source = os.path.join(HERE, "logits_pipe.cpp")
    if not os.path.exists(pipe) or os.path.getmtime(pipe) < max(os.path.getmtime(f) for f in (source, "train_gpt2.cu", "llmc/model/model_files.h")):
        run(["c++", "-std=c++20", "-O2", "-march=native", "-fno-exceptions", "-pthread", source, "-o", pipe])
    return pipe


def how_to_load(folder):
    """A folder that brings its own model is loaded by it."""
    own = "auto_map" in json.load(open(os.path.join(folder, "config.json")))
    return dict(trust_remote_code=True) if own else dict(attn_implementation="eager")


@torch.no_grad()
def compare_logits(pipe, folder):
    """Both sides in fp32, whatever the folder's type, on as many random tokens as the context holds (1024 at most)."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **how_to_load(folder)).eval()
    n = min(model.config.max_position_embeddings, 1024)
    tokens = torch.randint(model.config.vocab_size, (n,), generator=torch.Generator().manual_seed(3))
    out = run([pipe, folder, "fp32"], input=array.array("i", tokens.tolist()).tobytes())
    ours = torch.frombuffer(bytearray(out), dtype=torch.float32).view(n, -1)
    theirs = model(tokens[None]).logits[0]
    worst = (ours - theirs).abs().max().item()
    print(f"logits  {folder}: {n} tokens, largest {theirs.abs().max():.1f}, largest difference {worst:.1e}")
    if not worst <= LOGITS:
        sys.exit(f"{folder}: logits differ by {worst:.1e}, allowed are {LOGITS:.0e}")


def load(folder, dtype):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not os.path.exists(os.path.join(folder, name)):
            sys.exit(f"{folder}: no {name} in it")
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **how_to_load(folder), use_safetensors=True, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info.get("mismatched_keys"):
        sys.exit(f"{folder}: tensors missing {info['missing_keys']}, unexpected {info['unexpected_keys']}")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"),
                                        clean_up_tokenization_spaces=False)
    return model.eval(), tokenizer


@torch.no_grad()
def continue_greedily(model, ids, count, end):
    """ids with up to count new ones, and for each of these how much better it was than the second best."""
    margins = []
    while len(margins) < count and len(ids) < model.config.max_position_embeddings:
        best = model(torch.tensor([ids])).logits[0, -1].double().topk(2)
        if best.indices[0].item() in end:
            break
        margins.append((best.values[0] - best.values[1]).item())
        ids = ids + [best.indices[0].item()]
    return ids, margins


def compare_tokenizers(folder, tokenizer):
    """AutoTokenizer, which goes by the model's name unless tokenizer_config.json says better, splits as tokenizer.json does."""
    auto = AutoTokenizer.from_pretrained(folder, trust_remote_code=how_to_load(folder).get("trust_remote_code"))
    text = "It's DON'T we'LL 1234567 x=42;\n\n\n  // naïve 日本語٣٤٥\t end " + open(os.path.abspath(__file__)).read()
    if auto(text)["input_ids"] != tokenizer(text)["input_ids"] or str(auto.backend_tokenizer.pre_tokenizer) != str(tokenizer.backend_tokenizer.pre_tokenizer):
        sys.exit(f"{folder}: AutoTokenizer is a {type(auto).__name__} that does not split as tokenizer.json does")
    print(f"tokens  {folder}: AutoTokenizer has the {len(auto(text)['input_ids'])} of tokenizer.json")


def compare(args):
    model, tokenizer = load(args.folder, getattr(torch, args.dtype))
    if os.path.exists(os.path.join(args.folder, "trainer.json")):  # written by the trainer
        compare_tokenizers(args.folder, tokenizer)
    # a sample of GPT-2, or without a post-processor, begins as a document does, after an end of text; one of the others with what the post-processor puts there
    end = tokenizer.get_vocab().get("<|endoftext|>")
    start = [end] if end is not None else []
    if model.config.model_type != "gpt2" and json.load(open(os.path.join(args.folder, "tokenizer.json"))).get("post_processor"):
        start = tokenizer("")["input_ids"]
    prompt = start + tokenizer(args.prompt, add_special_tokens=False)["input_ids"]
    if not prompt:
        sys.exit("the prompt has no token in it")
    ends = model.generation_config.eos_token_id
    ids, margins = continue_greedily(model, prompt, args.tokens, {end, *(ends if isinstance(ends, list) else [ends])})
    if not margins:
        sys.exit("the likeliest token after the prompt is the end of the text: choose another prompt")
    written = lambda n: as_printed(tokenizer.decode(ids[len(start):n]))
    print(f"transformers: {sum(w.numel() for w in model.parameters())} parameters in {args.dtype}, "
          f"prompt {prompt}, {len(margins)} new tokens, smallest margin {min(margins):.2e}\n{written(len(ids))}")
    if args.no_ours:
        return
    if args.dtype == "float32":
        compare_logits(build_pipe(), args.folder)

    command = shlex.split(args.ours) + ["-e", args.folder, "--prompt", args.prompt, "--steps", "0", "--temperature", "0",
                                        "-t", str(model.config.max_position_embeddings), "-g", str(len(margins))]
    child = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if child.returncode:
        sys.exit(f"{shlex.join(command)}\nended with {child.returncode}:\n{child.stdout}{child.stderr}")
    if written(len(ids)) in child.stdout:
        return print(f"same: the trainer writes the same {len(margins)} tokens")
    # Where do they part? After the longest beginning of that text that the trainer printed.
    agreed = max(n for n in range(len(ids)) if written(n) in child.stdout)
    print(f"the trainer printed:\n{child.stdout}")
    if agreed < len(prompt):
        sys.exit("different: the prompt itself is not in what the trainer printed")
    margin = margins[agreed - len(prompt)]
    print(f"different from new token {agreed - len(prompt)} on; its margin over the second best was {margin:.2e}")
    sys.exit(0 if margin < args.tie else 1)


def make(args):
    """Vocabulary 320: the 256 bytes, <|endoftext|> and merges learnt from this file. Everything random, so that it shows."""
    from tokenizers import ByteLevelBPETokenizer
    torch.manual_seed(args.seed)
    bpe = ByteLevelBPETokenizer()
    bpe.train([os.path.abspath(__file__)], vocab_size=320, special_tokens=["<|endoftext|>"], show_progress=False)
    end = bpe.token_to_id("<|endoftext|>")
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=48, n_head=3, n_positions=128, vocab_size=bpe.get_vocab_size(),
                                       bos_token_id=end, eos_token_id=end))
    with torch.no_grad():
        for name, w in model.named_parameters():
            w.add_(0.2 * torch.randn_like(w))
    model.to(getattr(torch, args.dtype)).save_pretrained(args.make)
    bpe.save(os.path.join(args.make, "tokenizer.json"))
    for name in sorted(os.listdir(args.make)):
        print(f"{args.make}/{name}: {os.path.getsize(os.path.join(args.make, name))} bytes")


def formats(args):
    work, ours = args.formats, shlex.split(args.ours)
    shutil.rmtree(work, ignore_errors=True)
    pipe = build_pipe()
    folder = lambda name: os.path.join(work, name)
    args.folder = args.make = one = folder("fp32")
    make(args)
    tokenizer, whole = os.path.join(one, "tokenizer.json"), GPT2LMHeadModel.from_pretrained(one)
    whole.save_pretrained(folder("shards"), max_shard_size="60KB")
    whole.transformer.save_pretrained(folder("no_prefix"))
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        GPT2LMHeadModel.from_pretrained(one, dtype=dtype).save_pretrained(folder(name))
    GPT2LMHeadModel.from_pretrained(one, dtype=torch.bfloat16).save_pretrained(folder("bf16_shards"), max_shard_size="40KB")
    # as GPT-2 was published: no prefix, and the mask of every layer
    shutil.copytree(folder("no_prefix"), folder("published"))
    tensors, T = load_file(folder("no_prefix/model.safetensors")), whole.config.n_positions
    for layer in range(whole.config.n_layer):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(T, T)).view(1, 1, T, T)
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, folder("published/model.safetensors"), metadata={"format": "pt"})
    # and with the head written out
    shutil.copytree(one, folder("head"))
    tensors = load_file(folder("fp32/model.safetensors"))
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    save_file(tensors, folder("head/model.safetensors"), metadata={"format": "pt"})

    text = folder("text.txt")
    with open(text, "w") as file:
        file.write(open(os.path.abspath(__file__)).read() * 4)
    files = lambda f: sorted(n for n in os.listdir(f) if n.endswith(".safetensors"))
    for name in ("fp32", "shards", "no_prefix", "bf16", "fp16", "bf16_shards", "published", "head"):
        f = folder(name)
        if not os.path.exists(os.path.join(f, "tokenizer.json")):
            shutil.copy(tokenizer, f)
        if "shards" in name and len(files(f)) < 2:
            sys.exit(f"{f}: meant to be sharded, holds {files(f)}")
        compare_logits(pipe, f)
        # saved again: the same bytes, if it was one file, of a type that is ours, of weights alone
        precision = "bf16" if name.startswith("bf16") else "fp32"
        run(ours + ["-e", f, "-x", "0", "-n", "1", "-o", folder(name + ".again"), "--precision", precision])
        again = folder(name + ".again/step_00000000")
        if name in ("fp32", "no_prefix", "bf16"):
            same = open(f + "/model.safetensors", "rb").read() == open(again + "/model.safetensors", "rb").read()
            print(f"bytes   {again}/model.safetensors: {'the same' if same else 'DIFFERENT'}")
            if not same:
                sys.exit(f"{again}/model.safetensors differs from {f}/model.safetensors")
        else:
            compare_logits(pipe, again)
        # trained on, in both types
        for precision in ("fp32", "bf16"):
            out = folder(f"{name}.on.{precision}")
            said = run(ours + ["-e", f, "-i", text, "-x", "20", "-n", "20", "-l", "1e-3", "-b", "2", "-t", "32", "-v", "0", "-s", "0",
                               "-o", out, "--precision", precision], text=True)
            losses = [float(line.split("loss")[1].split()[0]) for line in said.splitlines() if line.startswith("step ") and "loss" in line]
            print(f"trained {f} in {precision}: loss {losses[0]:.3f} -> {losses[-1]:.3f}")
            if len(losses) != 20 or not losses[-1] < losses[0]:
                sys.exit(f"{f}: the loss did not fall:\n{said}")
            compare_logits(pipe, out + "/step_00000020")
    print("formats: all right; and 100 tokens of the first, greedily:")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", help="a checkpoint folder")
    p.add_argument("--prompt", default="Once")
    p.add_argument("--tokens", type=int, default=100, help="how many to continue by (stops where the context is full)")
    p.add_argument("--ours", default="./train_gpt2", help="the trainer's command")
    p.add_argument("--no-ours", action="store_true", help="transformers only")
    p.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float64"])
    p.add_argument("--tie", type=float, help="a smaller margin between the two best logits is a tie (1e-4, bfloat16 0.05)")
    p.add_argument("--make", metavar="FOLDER")
    p.add_argument("--formats", metavar="FOLDER", help="a folder to work in; it is emptied")
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    args.tie = args.tie or (0.05 if args.dtype == "bfloat16" else 1e-4)   # one step of bf16 at logits of 4 to 8 is 0.03
    if args.formats:
        formats(args)  # ends with a folder for compare
    elif args.make:
        make(args)
    if args.folder:
        compare(args)
    if not args.make and not args.folder and not args.formats:
        p.print_help()
