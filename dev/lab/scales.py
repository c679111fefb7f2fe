"""scales.py: the sizes at which experiments are made: text, the trainer's options, steps, validations.

A scale is a row here, or a file lab/scales/NAME.json with the same keys. Its data are prepared once, by the baseline's program:

    lab/data/NAME/train.bin  val.bin  tokenizer.json    what every run is given
    the private folder       NAME.holdout.bin           what no run is given: as much text again, of a seed that nobody knows

Behind the part of val.bin that is validated there is a canary (Carlini et al. 2019): letters that no other text has. A model that finds
them likelier than other letters that no text has, was trained on the validation file."""
import array
import json
import os
import random
import shutil
import string
import subprocess
import sys

import home as homes
from home import LabError

# model, batch and rates: the trainer's own options. B and T again as numbers, as the lab's own evaluation uses rows of that shape
SCALES = {
    "tiny": dict(options="-e d1c32h2 -l 6e-3 -u 5 --init-std 0.1 --threads 1", B=4, T=32, steps=60, val_every=10, val_batches=32, text="300k"),
    "small": dict(options="-e d2c64h2 -l 4e-3 -u 20 --init-std 0.1 --threads 1", B=8, T=64, steps=400, val_every=40, val_batches=32, text="2M"),
    "quickstart": dict(options="-e d2c192h6 -l 3e-3 -u 100 -k linear -q 0 --init-std 0.07 --tokenizer bpe:2048", B=4, T=256, steps=1500, val_every=150, val_batches=40, text="20M"),
}
# The device that a scale's runs hold; program: what `make` builds for it.
DEFAULTS = dict(device="cpu", program="train_gpt2", train=None, val=None, holdout=None)
SYMBOLS = "#$%&*+/<=>@[]^_{|}~`"   # of a canary and its control, as far as the text has none of them
CANARY = 8                          # letters of each


class Scale:
    def __init__(self, name, home):
        own = homes.read_json(os.path.join(home.root, "scales", name + ".json"))
        if own is None and name not in SCALES:
            known = sorted(SCALES) + sorted(f[:-5] for f in os.listdir(os.path.join(home.root, "scales"))) if os.path.isdir(os.path.join(home.root, "scales")) else sorted(SCALES)
            raise LabError("--scale: '%s' given, must be one of %s, or a file lab/scales/%s.json" % (name, ", ".join(known), name))
        row = dict(DEFAULTS, **(own or SCALES[name]))
        for key in ("options", "B", "T", "steps", "val_every", "val_batches"):
            if key not in row:
                raise LabError("lab/scales/%s.json: %s is missing" % (name, key))
        if row["val_batches"] < 2:  # confounds.variance_of_gain
            raise LabError("lab/scales/%s.json: val_batches is %s, must be at least 2: by how much texts differ is told from batches" % (name, row["val_batches"]))
        self.name, self.row = name, row
        self.B, self.T, self.steps, self.val_every, self.val_batches = (row[k] for k in ("B", "T", "steps", "val_every", "val_batches"))
        self.device, self.program = row["device"], row["program"]
        tuned = homes.read_json(os.path.join(home.cards, "tuned-%s.json" % name)) or {}
        self.options = row["options"].split() + tuned.get("options", [])
        self.folder = os.path.join(home.data, name)
        self.train, self.val, self.tokenizer = (os.path.join(self.folder, f) for f in ("train.bin", "val.bin", "tokenizer.json"))
        self.holdout = os.path.join(home.private, name + ".holdout.bin")

    def precision(self):
        return self.options[self.options.index("--precision") + 1] if "--precision" in self.options else "fp32"

    def tokens(self):
        return self.B * self.T

    def without_tokenizer(self):
        """The options, but for how the tokenizer is learned: runs get the one that was."""
        if "--tokenizer" not in self.options:
            return list(self.options)
        at = self.options.index("--tokenizer")
        return self.options[:at] + self.options[at + 2:]

    def command(self, program, out, seed, steps=None, extra=(), val_every=None):
        """What starts a run. A later option takes the place of an earlier one."""
        steps = steps or self.steps
        return [program, "-i", self.train, "-j", self.val, "--tokenizer", self.tokenizer, *self.without_tokenizer(), "-b", str(self.B), "-t", str(self.T), "-x", str(steps),
                "-v", str(val_every or self.val_every), "-m", str(self.val_batches), "-s", "0", "-n", str(steps), "--seed", str(seed), *extra, "-o", out]

    def describe(self):
        """What the key of a card is made of."""
        return dict(self.row, options=self.options)

    def settings(self):
        return homes.read_json(os.path.join(self.folder, "data.json"))


def read_tokens(path, count=None, first=0):
    """Tokens of a shard: a header of 256 int32, then uint16 or, by its magic number, uint32."""
    with open(path, "rb") as f:
        header = array.array("i", f.read(1024))
        if len(header) < 256 or header[0] not in (20240520, 20240801):
            raise LabError("%s: no token shard" % path)
        tokens = array.array("H" if header[0] == 20240520 else "I")
        f.seek(1024 + first * tokens.itemsize)
        data = f.read(-1 if count is None else count * tokens.itemsize)
    tokens.frombytes(data)
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens


def prepare(home, name, tree):
    """The data of a scale, made by the baseline's program where they are not there yet."""
    scale = Scale(name, home)
    with homes.locked(os.path.join(home.leases, "data-" + name)):
        if scale.settings() and all(map(os.path.exists, (scale.train, scale.val, scale.tokenizer, scale.holdout))):
            return scale
        shutil.rmtree(scale.folder, ignore_errors=True)
        os.makedirs(scale.folder)
        work = os.path.join(home.private, "making-" + name)  # the hold-out is never outside of it
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work, mode=0o700)
        texts = {part: os.path.join(work, part + ".txt") for part in ("train", "val", "holdout")}
        write_texts(scale, tree, texts)
        canary, control = add_canary(texts)
        # validated or trained on, a text gets its tokens; both at once keep the tokenizer that the first one teaches
        for part in ("val", "holdout"):
            out = os.path.join(work, part)
            command = [os.path.join(tree, scale.program), "-i", texts["train"], "-j", texts[part], *scale.options, "-b", str(scale.B), "-t", str(scale.T),
                       "-x", "1", "-v", "1", "-m", "1", "-s", "0", "-n", "1", "-o", out]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
            if done.returncode:
                raise LabError("scale %s: its data cannot be prepared: %s" % (name, (done.stdout.strip().splitlines() or ["exit %d" % done.returncode])[-1]))
        take(work, "val", "train.txt", scale.train)
        take(work, "val", "val.txt", scale.val)
        take(work, "holdout", "holdout.txt", scale.holdout)
        shutil.copy(os.path.join(work, "val", "step_00000001", "tokenizer.json"), scale.tokenizer)
        shutil.rmtree(work)
        os.chmod(scale.holdout, 0o600)
        ids = token_ids(scale, canary)
        check_lengths(scale, ids)
        homes.write_json(os.path.join(scale.folder, "data.json"), {
            "canary": ids, "control": token_ids(scale, control),
            "hashes": {part: homes.sha256(path) for part, path in (("train", scale.train), ("val", scale.val), ("tokenizer", scale.tokenizer), ("holdout", scale.holdout))}})
        return scale


def write_texts(scale, tree, texts):
    """Stories of known entropy, of three seeds; or copies of the files that lab/scales/NAME.json names."""
    files = {part: scale.row[part] for part in texts}
    if all(files.values()):
        for part, path in texts.items():
            shutil.copy(files[part], path)
        return
    if any(files.values()):
        raise LabError("lab/scales/%s.json: train, val and holdout: all three or none" % scale.name)
    stories = os.environ.get("LAB_STORIES") or os.path.join(tree, "build", "stories")
    if not os.path.exists(stories):
        made = subprocess.run(["make", "build/stories"], cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        if made.returncode:
            raise LabError("make build/stories: %s" % made.stdout.strip().splitlines()[-1])
    # 8 bytes a token at most, twice what is validated
    size = str(16 * scale.val_batches * scale.tokens())
    for part, size, seed in (("train", scale.row["text"], 1), ("val", size, 2), ("holdout", size, random.SystemRandom().randrange(3, 1 << 31))):
        subprocess.run([stories, "--bytes", size, "--seed", str(seed), "-o", texts[part]], check=True, stdout=subprocess.DEVNULL)


def add_canary(texts):
    """Adds lines of letters that no text has to that for validation, a third of it; returns them, and others for comparison."""
    seen = set()
    for path in texts.values():
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                seen.update(line)
    free = [c for c in SYMBOLS + string.digits + string.ascii_uppercase if c not in seen]
    if len(free) < 2 * CANARY:
        return "", ""  # a text that has all of them: no canary
    free = free[:2 * CANARY]
    random.SystemRandom().shuffle(free)
    canary, control = "".join(free[:CANARY]), "".join(free[CANARY:])
    size = os.path.getsize(texts["val"]) // 2
    with open(texts["val"], "a") as f:
        f.write("\n" + "".join(random.SystemRandom().choice(canary) for _ in range(size)) + "\n")
    return canary, control


def token_ids(scale, letters):
    """Ids of letters as tokens of their own, by the vocabulary of the tokenizer's file."""
    with open(scale.tokenizer, encoding="utf-8") as f:
        vocabulary = json.load(f)["model"]["vocab"]
    return [vocabulary[c] for c in letters if c in vocabulary]


def take(work, run, text, path):
    """The tokens of a text that a run was given, from its cache."""
    folder = os.path.join(work, run, "tokens")
    found = [f for f in os.listdir(folder) if f.startswith(text + "-")]
    if len(found) != 1:
        raise LabError("%s: tokens of %s expected, %d files found" % (folder, text, len(found)))
    shutil.copyfile(os.path.join(folder, found[0]), path)


def check_lengths(scale, canary):
    """The canary must lie behind what is validated, and the hold-out must fill as much."""
    need, val, holdout = scale.val_batches * scale.tokens() + 1, read_tokens(scale.val), read_tokens(scale.holdout)
    first = next((i for i, token in enumerate(val) if token in set(canary)), len(val))
    for what, there in (("validation", first), ("the hold-out", len(holdout))):
        if there < need:
            raise LabError("scale %s: %d tokens are validated, the text for %s has %d: must have as many" % (scale.name, need, what, there))
