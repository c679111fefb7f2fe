"""tune.py: `lab tune`: trials of options, counted, so that no variant is compared with a baseline that had fewer.

Trials of the baseline that were better become the scale's options for all (lab/cards/tuned-SCALE.json), and want a new card. A variant whose
options of the optimizer differ from the baseline's counts as one trial more."""
import itertools
import os
import statistics

import confounds
import home as homes
import ledger
import runs
import scales
import trees
from home import LabError

SHORT = "i j e a r w b t d x l u q k c sl sg v m s g n nk nm z f ge".split()
SEED = 500  # 501, 502, ...: of no try and no card


def sweep(home, name, option, values, branch=None, seeds=2, base=None, say=print):
    """Runs an option's values; of the baseline, or of a branch. Returns the best value."""
    scale = scales.Scale(name, home)
    if not all(values):
        raise LabError("--values: an empty one given, must be as 1e-3,2e-3")
    if not option.startswith("-"):
        option = ("-" if option in SHORT else "--") + option
    base_commit = trees.commit_of(home, trees.base_branch(home, base))
    commit = trees.commit_of(home, branch) if branch else base_commit
    scale = scales.prepare(home, name, trees.build(home, base_commit, scale.program, say))
    tree, number, losses = trees.build(home, commit, scale.program, say), len(ledger.entries(home, "trial")), {}
    for value in values:
        made = []
        for i in range(1, seeds + 1):
            folder = os.path.join(home.data, "trial-%d" % number, "%s.%d" % (value, i))
            run, _ = runs.make(home, scale, tree, folder, "trial", SEED + i, commit, extra=[option, value], context="trial %s %s" % (option, value), evaluates_holdout=False, say=say, audits=False)
            made.append(run.curve[-1].loss if run.rc == 0 and run.curve else None)
        losses[value] = None if None in made else statistics.mean(made)
        ledger.append(home, "trial", scale=name, arm=branch or "base", commit=commit[:12], option=option, value=value, val_loss=losses[value], seeds=seeds)
        say("%s %-10s %s" % (option, value, "failed" if losses[value] is None else "%.5f" % losses[value]))
    good = {value: loss for value, loss in losses.items() if loss is not None}
    if not good:
        raise LabError("no value of %s could be run: lab/data/trial-%d" % (option, number))
    best = min(good, key=good.get)
    if not branch:
        tuned = homes.read_json(os.path.join(home.cards, "tuned-%s.json" % name)) or {"options": []}
        kept = [pair for pair in zip(tuned["options"][::2], tuned["options"][1::2]) if pair[0] != option]
        homes.write_json(os.path.join(home.cards, "tuned-%s.json" % name), {"options": list(itertools.chain(*kept, (option, best)))})
        say("%s %s from now on, for all of scale %s: lab card --scale %s is due" % (option, best, name, name))
    home.commit("tune: %s %s of %s" % (option, best, branch or "the baseline"))
    return best


def untuned(home, plan, pair):
    """Why the baseline is untuned beside the variant, or "": it had fewer trials."""
    (base, _), (variant, _) = pair
    trials = [e for e in ledger.entries(home, "trial") if e["scale"] == plan["scale"]]
    of_base = sum(1 for e in trials if e["arm"] == "base")
    of_variant = sum(1 for e in trials if e["arm"] == plan["branch"])
    own = confounds.hyperparameters(base, variant)
    for number in range(1, int(plan["try"]) + 1):  # tries of other options are trials too
        earlier = plan if number == int(plan["try"]) else plan_of(home, number)
        if own and earlier and earlier["scale"] == plan["scale"] and earlier["commit"] == plan["commit"] and earlier["options"] and not earlier.get("confirms"):
            of_variant += 1
    if of_variant <= of_base:
        return ""
    return "untuned: %d trials of the baseline, %d of the variant%s: lab tune --scale %s gives the baseline as many" % (of_base, of_variant, " (%s)" % "; ".join(own) if own else "", plan["scale"])


def plan_of(home, number):
    for name in os.listdir(home.tries):
        if name.startswith("%04d-" % number):
            return homes.read_json(os.path.join(home.tries, name, "plan.json"))
    return None
