"""audit.py: what the lab itself finds out about a checkpoint. The variant's own evaluation is not believed: build/evaluate gives the losses of rows
and targets that the lab chooses, and the lab draws its conclusions.

    val_loss       of the tokens that the run validated on: what it printed must be this
    holdout_loss   of tokens that no run has seen: trained on, the validation text would be better than these
    *_batches      of these, batch by batch: by how much another text of this size would differ
    leaks          positions whose loss changes by a bit when later tokens, or other rows, change: none of a causal model
    worst_sum      sum over the vocabulary of exp(-loss): 1 of probabilities
    unused         norm of the positions that no row reaches: weight decay alone moves them, by the rates that the updates really had
    letters        losses of the letters behind the validated part, the canary, and of others that no text has"""
import array
import hashlib
import json
import math
import os
import random
import struct
import subprocess

import home as homes
import scales
from home import LabError

HERE = os.path.dirname(os.path.abspath(__file__))
MOST_ROWS = 2048     # of the vocabulary: for larger ones the sum is formed at the first SHORT places alone, as what it costs is quadratic in the vocabulary
SHORT, ROWS = 2, 64  # (64, 2) tokens a batch: their logits are 128 x 50304 x 4 B = 26 MB
CHANGED_BATCHES = 4  # in which something that must not matter is changed


def look(home, scale, tree, folder, seed, evaluates_holdout=True):
    """All of the above, by one process."""
    B, T, m = scale.B, scale.T, scale.val_batches
    settings = scale.settings()
    val = text_batches(scales.read_tokens(scale.val, m * B * T + 1), B, T)
    holdout = text_batches(scales.read_tokens(scale.holdout, m * B * T + 1), B, T) if evaluates_holdout else []
    chance = random.Random(seed)
    changed, kept = zip(*(change(val[0], B, T, chance, val[-1]) for _ in range(CHANGED_BATCHES)))
    vocabulary = vocabulary_of(folder)
    sums = sum_batches(val[0], B, T, vocabulary) if vocabulary <= MOST_ROWS else []
    letters = [(val[1 % m][0], repeated(settings[name], B * T)) for name in ("canary", "control") if len(settings["canary"]) == len(settings["control"]) == scales.CANARY]
    losses = ask(home, scale, tree, folder, [*val, *holdout, *changed, *sums, *letters])
    take = iter(losses)
    val_losses = [next(take) for _ in val]
    holdout_losses = [next(take) for _ in holdout]
    found = {"val_loss": mean(val_losses), "holdout_loss": mean(holdout_losses) if holdout else None}
    found["val_batches"], found["holdout_batches"] = [mean([batch]) for batch in val_losses], [mean([batch]) for batch in holdout_losses]
    found["leaks"] = sum(1 for places in kept for now in [next(take)] for at in places if now[at] != val_losses[0][at])
    if vocabulary <= MOST_ROWS:
        found["worst_sum"] = worst_sum([next(take) for _ in sums], B, T, vocabulary)
    else:
        found["worst_sum"] = worst_sum(ask(home, scale, tree, folder, sum_batches(val[0], ROWS, SHORT, vocabulary), ROWS, SHORT), ROWS, SHORT, vocabulary)
    found["unused"] = norm_of_unused_positions(folder, T)
    found["letters"] = [of_letters(next(take)), of_letters(next(take))] if letters else None
    return found


def hash_of_evaluation():
    """Of the texts that evaluate."""
    return hashlib.sha256("".join(homes.sha256(os.path.join(HERE, name)) for name in ("evaluate.cpp", "audit.py")).encode()).hexdigest()


def ask(home, scale, tree, folder, batches, B=None, T=None):
    """Losses, an array a batch; of batches of another shape than the scale's, if it is given."""
    B, T = B or scale.B, T or scale.T
    data = array.array("i")
    for inputs, targets in batches:
        data.extend(array.array("i", inputs))
        data.extend(array.array("i", targets))
    command = [os.path.join(tree, "build", "evaluate"), folder, scale.precision(), str(B), str(T)]
    done = subprocess.run(command, input=data.tobytes(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=homes.environment(), preexec_fn=home.drop)
    losses, N = array.array("f"), B * T
    losses.frombytes(done.stdout[:len(done.stdout) // 4 * 4])
    if done.returncode or len(losses) != N * len(batches):
        raise LabError("%s: the lab's evaluation failed: %s" % (folder, (done.stderr.decode(errors="replace").strip().splitlines() or ["exit %d" % done.returncode])[-1]))
    return [losses[i * N:(i + 1) * N] for i in range(len(batches))]


def text_batches(tokens, B, T):
    """Rows of T that share a token with the next one, B a batch: as the trainer validates."""
    N = B * T
    return [(tokens[at:at + N], tokens[at + 1:at + N + 1]) for at in range(0, len(tokens) - N, N)]


def change(batch, B, T, chance, other):
    """The batch with other tokens behind a place in each row, in some rows from the first on; and the places whose losses must stay."""
    inputs, targets, kept = list(batch[0]), list(batch[1]), []
    for b in range(B):
        last = chance.randrange(-1, T - 1) if b else chance.randrange(0, T - 1)
        for t in range(T):
            at = b * T + t
            if t <= last:
                kept.append(at)
            else:
                inputs[at], targets[at] = other[0][chance.randrange(B * T)], other[1][chance.randrange(B * T)]
    return (inputs, targets), kept


def sum_batches(batch, B, T, vocabulary):
    """The first row again and again, with each token of the vocabulary as the target of all its places."""
    row, rows = list(batch[0][:T]), (vocabulary + B - 1) // B * B
    return [(row * B, [min(v + b, vocabulary - 1) for b in range(B) for _ in range(T)]) for v in range(0, rows, B)]


def worst_sum(losses, B, T, vocabulary):
    sums = [math.fsum(math.exp(-losses[v // B][v % B * T + t]) for v in range(vocabulary)) for t in range(T)]
    return max(sums, key=lambda s: abs(s - 1) if s == s else math.inf)


def safetensors_header(path):
    """({name: {dtype, shape, data_offsets}}, where the data begin)."""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        if size > os.path.getsize(path) - 8:
            raise ValueError("%s: no safetensors: a header of %d bytes" % (path, size))
        return json.loads(f.read(size)), 8 + size


def norm_of_unused_positions(folder, T):
    """None where positions are not learned, all are used, or weights are not fp32."""
    path = os.path.join(folder, "model.safetensors")
    tensors, data = safetensors_header(path)
    found = [t for name, t in tensors.items() if name.endswith("wpe.weight")]
    if not found or found[0]["dtype"] != "F32" or found[0]["shape"][0] <= T:
        return None
    rows, width = found[0]["shape"]
    with open(path, "rb") as f:
        f.seek(data + found[0]["data_offsets"][0] + 4 * T * width)
        weights = array.array("f", f.read(4 * (rows - T) * width))
    return math.sqrt(math.fsum(w * w for w in weights))


def of_letters(losses):
    return [mean([losses[i::scales.CANARY]]) for i in range(scales.CANARY)]


def repeated(ids, n):
    return [ids[i % len(ids)] for i in range(n)]


def vocabulary_of(folder):
    return homes.read_json(os.path.join(folder, "config.json"))["vocab_size"]


def mean(arrays):
    n = sum(map(len, arrays))
    return math.fsum(x for a in arrays for x in a) / n
