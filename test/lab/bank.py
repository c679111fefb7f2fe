"""bank.py: real curves of arms that differ by nothing that matters, trained once and drawn from by the tests of verdicts.

    python3 test/lab/bank.py [GROUP...] > FILE    trains the groups anew (make train_gpt2 build/stories): 1,072 runs, some minutes
    load()                                        what is in bank.txt: {group: {arm: {seed: Run}}}

Each group is a way of being null, with its own size of differences between runs of equal seeds (sd in nats, at the end):
    seeds     one arm; pairs are made of runs of two seeds: other weights, other order of data (0.064)
    rounding  bf16: stochastic rounding, and sums in another order by --classifier-rows or --leaves (0.00014)
    chaos     a learning rate so high that the last bit of a sum decides: --classifier-rows (0.007)
    digits    fp32, --classifier-rows: the last digits that are written
A line of bank.txt: group, arm, seed, seconds in all, losses of the validations.
"""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "dev", "lab"))
from record import Point, Run  # noqa: E402

STEPS, EVERY, TOKENS = 100, 20, 256                 # steps, validations, tokens a step
PARAMETERS, FLOPS = 53760, 129216                   # of d1c32h2 with bytes; a token's, as the trainer counts them
OPTIONS = (f"-i train.txt -j val.txt --tokenizer bytes -e d1c32h2 --init-std 0.18 -b 4 -t 32 -d {TOKENS} -x {STEPS} -u 10 -q 0 -k linear "
           f"-v {EVERY} -m 0 -s 0 -n 0 --threads 1 -l 1e-2").split()
BF16, HOT, ROWS, LEAVES = "--precision bf16", "-l 5e-2", "--classifier-rows 32", "--leaves 2"
GROUPS = {"seeds": (range(1, 301), {"one": ""}),
          "rounding": (range(1001, 1151), {"one": BF16, "rows": f"{BF16} {ROWS}", "leaves": f"{BF16} {LEAVES}"}),
          "chaos": (range(2001, 2151), {"one": HOT, "rows": f"{HOT} {ROWS}"}),
          "digits": (range(3001, 3012), {"one": "", "rows": ROWS})}


def train(options, seed, folder):
    """One run: its seconds of training, and the losses of its validations."""
    command = [os.path.join(TOP, "train_gpt2")] + OPTIONS + options.split() + ["--seed", str(seed), "-o", "out"]
    subprocess.run(["rm", "-rf", "out"], cwd=folder, check=True)
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(folder, "out", "metrics.jsonl")) as f:
        lines = [json.loads(line) for line in f]
    step = next(x for x in lines if x.get("step") == STEPS and "flops_per_s" in x)
    found = lines[0]["run"]["steps"], lines[0]["parameters"], lines[0]["tokens_per_step"], round(step["flops_per_s"] / step["tokens_per_s"] / 100)
    assert found == (str(STEPS), PARAMETERS, TOKENS, round(FLOPS / 100)), found
    return sum(x.get("ms", 0) for x in lines) / 1000, [x["val_loss"] for x in lines if "val_loss" in x]


def texts(folder):
    os.makedirs(folder, exist_ok=True)
    for name, size, seed in (("train.txt", "300k", 1), ("val.txt", "8k", 2)):
        stories = [os.path.join(TOP, "build", "stories"), "--bytes", size, "--seed", str(seed), "-o", name]
        subprocess.run(stories, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def make(groups):
    folder = os.path.join(TOP, "build", "lab_bank")
    texts(folder)
    for group in groups:
        seeds, arms = GROUPS[group]
        for seed in seeds:
            for arm, options in arms.items():
                seconds, losses = train(options, seed, folder)
                print(group, arm, seed, f"{seconds:.4f}", *(f"{x:.8f}" for x in losses), flush=True)


def run_of(arm, seed, seconds, losses):
    """The Run with these losses; its time is spread evenly over its steps."""
    curve = [Point(step, step * TOKENS, step * TOKENS * FLOPS, seconds * step / STEPS, loss) for step, loss in zip(range(0, STEPS + 1, EVERY), losses)]
    return Run(arm, seed, seconds=seconds, parameters=PARAMETERS, flops_per_token=FLOPS, tokens_per_step=TOKENS, steps=STEPS, curve=curve)


def load(path=os.path.join(HERE, "bank.txt")):
    bank = {}
    with open(path) as f:
        for line in f:
            group, arm, seed, *numbers = line.split()
            seconds, *losses = map(float, numbers)
            bank.setdefault(group, {}).setdefault(arm, {})[int(seed)] = run_of(arm, int(seed), seconds, losses)
    return bank


if __name__ == "__main__":
    make(sys.argv[1:] or GROUPS)
