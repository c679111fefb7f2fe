#!/usr/bin/env python3
"""Does transformers read what this trainer writes, and the other way round?

    python3 dev/reference/hf_check.py out/step_00000100 --tokens 100   load the folder with transformers, continue a prompt
                                                                      greedily, and ask ./train_gpt2 for the same
    python3 dev/reference/hf_check.py out/step_00000100 --dtype bfloat16 --ours "./train_gpt2 --precision bf16"
    python3 dev/reference/hf_check.py --make build/tmp/hf              write a tiny random model as transformers would

The two continuations must be the same tokens. Where they part, the two best logits there tell whether it was a tie that
rounding decides (accepted below --tie) or a mistake.
"""
import argparse
import os
import shlex
import subprocess
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast


def load(folder, dtype):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not os.path.exists(os.path.join(folder, name)):
            sys.exit(f"{folder}: no {name} in it")
    model, info = GPT2LMHeadModel.from_pretrained(folder, dtype=dtype, attn_implementation="eager",
                                                  use_safetensors=True, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info.get("mismatched_keys"):
        sys.exit(f"{folder}: tensors missing {info['missing_keys']}, unexpected {info['unexpected_keys']}")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(folder, "tokenizer.json"),
                                        clean_up_tokenization_spaces=False)
    return model.eval(), tokenizer


@torch.no_grad()
def continue_greedily(model, ids, count, end):
    """ids with up to count new ones, and for each of these how much better it was than the second best."""
    margins = []
    while len(margins) < count and len(ids) < model.config.n_positions:
        best = model(torch.tensor([ids])).logits[0, -1].double().topk(2)
        if best.indices[0] == end:
            break
        margins.append((best.values[0] - best.values[1]).item())
        ids = ids + [best.indices[0].item()]
    return ids, margins


def compare(args):
    model, tokenizer = load(args.folder, getattr(torch, args.dtype))
    # a sample begins as a document does, after an end of text
    end = tokenizer.get_vocab().get("<|endoftext|>")
    start = [end] if end is not None else []
    prompt = start + tokenizer(args.prompt, add_special_tokens=False)["input_ids"]
    if not prompt:
        sys.exit("the prompt has no token in it")
    ids, margins = continue_greedily(model, prompt, args.tokens, end)
    if not margins:
        sys.exit("the likeliest token after the prompt is the end of the text: choose another prompt")
    written = lambda n: tokenizer.decode(ids[len(start):n])
    print(f"transformers: {sum(w.numel() for w in model.parameters())} parameters in {args.dtype}, "
          f"prompt {prompt}, {len(margins)} new tokens, smallest margin {min(margins):.2e}\n{written(len(ids))}")
    if args.no_ours:
        return

    command = shlex.split(args.ours) + ["-e", args.folder, "--prompt", args.prompt, "--steps", "0", "--temperature", "0",
                                        "-t", str(model.config.n_positions), "-g", str(len(margins))]
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
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=48, n_head=3, n_positions=64, vocab_size=bpe.get_vocab_size(),
                                       bos_token_id=end, eos_token_id=end))
    with torch.no_grad():
        for name, w in model.named_parameters():
            w.add_(0.2 * torch.randn_like(w))
    model.to(getattr(torch, args.dtype)).save_pretrained(args.make)
    bpe.save(os.path.join(args.make, "tokenizer.json"))
    for name in sorted(os.listdir(args.make)):
        print(f"{args.make}/{name}: {os.path.getsize(os.path.join(args.make, name))} bytes")


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
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    args.tie = args.tie or (0.05 if args.dtype == "bfloat16" else 1e-4)   # one step of bf16 at logits of 4 to 8 is 0.03
    if args.make:
        make(args)
    if args.folder:
        compare(args)
    if not args.make and not args.folder:
        p.print_help()
