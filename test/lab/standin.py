#!/usr/bin/env -S python3 -S
"""standin.py: a trainer that takes a twentieth of a second, for tests of what is around it. Its model has one weight, theta: p(token) is proportional to its
count in the training text to the power of theta, plus 1. Training moves theta up; by how much in all says a line of train_gpt2.cu, beside which it lies:

    float effect = 0.02f;   // nats by which a variant is better, about
    int broken = 1;         // ends with exit code 1 after some steps

It writes what the trainer writes, and is its own evaluation: as build/evaluate it gives the losses of rows and targets on its standard input. What
it measures is true of it: probabilities sum to 1, no token sees a later one."""
import array
import json
import math
import os
import random
import re
import struct
import sys
import time

LETTERS = 128   # ASCII; a character is a token
SHARE = 0.45    # theta of a baseline at its end


def counts_of(tokens):
    counts = [0] * LETTERS
    for t in tokens:
        counts[t] += 1
    return counts


def log_probabilities(counts, theta):
    weights = [(c + 1.0) ** theta for c in counts]
    total = math.log(sum(weights))
    return [theta * math.log(c + 1.0) - total for c in counts]


def read_shard(path, count=None):
    with open(path, "rb") as f:
        f.seek(1024)
        tokens = array.array("H")
        tokens.frombytes(f.read(-1 if count is None else 2 * count))
    return tokens


def write_shard(path, tokens):
    header = array.array("i", [20240520, 1, len(tokens)] + [0] * 253)
    with open(path, "wb") as f:
        f.write(header.tobytes() + array.array("H", tokens).tobytes())


def text_to_tokens(path):
    with open(path, "rb") as f:
        return [c for c in f.read() if c < LETTERS]


def save(folder, tokenizer, theta, counts):
    os.makedirs(folder)
    tensors = {"transformer.wte.weight": [LETTERS, 1], "transformer.theta": [1]}
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 4 * (shape[0] if name.endswith("wte.weight") else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + array.array("f", counts).tobytes() + struct.pack("<f", theta))
    for name, value in (("tokenizer.json", tokenizer), ("config.json", {"model_type": "gpt2", "vocab_size": LETTERS, "n_layer": 1, "n_head": 1, "n_embd": 1, "n_ctx": 1024})):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f, sort_keys=True)


def load(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        data = f.read()
    values = array.array("f")
    values.frombytes(data[8 + struct.unpack("<Q", data[:8])[0]:])
    return values[:-1], values[-1]


def evaluate(folder, B, T):
    """Inputs do not matter to this model; its targets do."""
    counts, theta = load(folder)
    loss = [-x for x in log_probabilities(counts, theta)]
    tokens = array.array("i")
    tokens.frombytes(sys.stdin.buffer.read())
    N, out = B * T, array.array("f")
    for at in range(N, len(tokens), 2 * N):
        out.extend([loss[t] for t in tokens[at:at + N]])
    sys.stdout.buffer.write(out.tobytes())


def own_lines(program):
    """What the sources say of this variant."""
    with open(os.path.join(os.path.dirname(os.path.abspath(program)), "train_gpt2.cu")) as f:
        text = f.read()
    found = {name: re.search(r"\b%s = (-?[0-9.]+)" % name, text) for name in ("effect", "broken")}
    return {name: float(m.group(1).rstrip(".")) if m else 0.0 for name, m in found.items()}


def train(program, arguments):
    options = dict(zip(arguments[::2], arguments[1::2]))
    steps, every, seed, out = int(options["-x"]), int(options["-v"]), int(options.get("--seed", 42)), options["-o"]
    tokens_per_step = int(options["-b"]) * int(options["-t"])
    os.makedirs(out)
    lines, began = own_lines(program), time.monotonic()
    if options["-i"].endswith(".txt"):
        os.makedirs(os.path.join(out, "tokens"))
        paths = {name: os.path.join(out, "tokens", os.path.basename(options[name]) + "-0.bin") for name in ("-i", "-j")}
        for name in paths:
            write_shard(paths[name], text_to_tokens(options[name]))
        tokenizer = {"model": {"vocab": {chr(i): i for i in range(LETTERS)}}}
    else:
        paths = options
        with open(options["--tokenizer"]) as f:
            tokenizer = json.load(f)
    counts = counts_of(read_shard(paths["-i"], 20000))
    val = read_shard(paths["-j"], int(options["-m"]) * tokens_per_step + 1)[1:]
    val_counts = counts_of(val)
    # a seed's luck is in part that of the data's order, which pairs share, and in part each arm's own
    luck = 0.02 * random.Random("%d" % seed).gauss(0, 1) + 0.01 * random.Random("%d %g" % (seed, lines["effect"])).gauss(0, 1)
    slope = (loss_of(val_counts, counts, SHARE - 0.01) - loss_of(val_counts, counts, SHARE + 0.01)) / 0.02   # nats by which a unit of theta is better, at the end
    begin = 1e-3 * random.Random("begin %d" % seed).gauss(0, 1)
    end = SHARE + (lines["effect"] + 0.2 * luck) / slope
    flops = 6 * LETTERS + 6 * int(options["-t"])   # a token, as the lab counts them
    with open(os.path.join(out, "metrics.jsonl"), "w") as f:
        write = lambda event: f.write(json.dumps(event) + "\n")
        write({"run": {"train_data": options["-i"], "val_data": options["-j"], "tokenizer": options.get("--tokenizer", ""), "batch": options["-b"], "seq": options["-t"], "steps": str(steps), "lr": "0.001", "warmup": "0",
                       "final_lr_frac": "0", "schedule": "linear", "precision": "fp32", "seed": str(seed), "out": out, "val_every": str(every), "val_batches": options["-m"]}, "given": ["steps"], "chosen": [], "version": "0", "parameters": LETTERS + 1, "tokens_per_step": tokens_per_step,
               "steps": steps, "first_step": 0})
        for step in range(steps + 1):
            theta = begin + (end - begin) * (1 - math.exp(-4.0 * step / steps)) / (1 - math.exp(-4.0))
            theta = struct.unpack("<f", struct.pack("<f", theta))[0]   # as it is saved
            if step % every == 0 or step == steps:
                write({"step": step, "val_loss": round(loss_of(val_counts, counts, theta), 7), "val_bits_per_byte": None})
            if lines["broken"] and step == steps // 2:
                f.flush()
                print("broken: as its sources say")
                os._exit(1)
            if step < steps:
                write({"step": step + 1, "loss": 5.0, "lr": 0.001 * (1 - step / steps), "grad_norm": 1.0, "ms": 1.0, "tokens_per_s": tokens_per_step * 1000.0, "flops_per_s": tokens_per_step * 1000.0 * flops})
    save(os.path.join(out, "step_%08d" % steps), tokenizer, theta, counts)
    write_use(began)


def loss_of(val_counts, counts, theta):
    logs = log_probabilities(counts, theta)
    return -sum(n * p for n, p in zip(val_counts, logs)) / sum(val_counts)


def write_use(began):
    """When which device was used, where a test asks for it."""
    path = os.environ.get("STANDIN_USE")
    if path:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(handle, ("%s %.6f %.6f\n" % (os.environ.get("CUDA_VISIBLE_DEVICES", "cpu"), began, time.monotonic())).encode())


if __name__ == "__main__":
    if os.path.basename(sys.argv[0]) == "evaluate":
        evaluate(sys.argv[1], int(sys.argv[3]), int(sys.argv[4]))
    else:
        train(sys.argv[0], sys.argv[1:])
