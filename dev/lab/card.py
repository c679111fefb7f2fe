"""card.py: `lab card`: the baseline of a scale on this machine, before anything is compared with it.

    lab/cards/SCALE-KEY.json    key: of commit, options, data and machine
    curve: mean and sd over the seeds; tokens/s with sd; FLOPs a token from the shapes; parameters; memory; how far arms differ by chance

An A/A run, one seed twice, must be equal to the bit, else the machine is unfit: pairs would differ by more than the idea."""
import hashlib
import json
import os
import platform
import statistics

import home as homes
import ledger
import runs
import scales
import trees
from home import LabError


def machine():
    """The processor, its cores, and the GPUs."""
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), model)
    except OSError:
        pass
    import leases
    kinds = [name for _, name in leases.gpus()]
    return ", ".join([model, "%d CPUs" % os.cpu_count()] + ["%d GPUs %s" % (kinds.count(name), name) for name in sorted(set(kinds))])


def key_of(scale, commit):
    data = scale.settings()["hashes"]
    text = json.dumps([commit, scale.describe(), data, machine()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def path_of(home, scale, commit):
    return os.path.join(home.cards, "%s-%s.json" % (scale.name, key_of(scale, commit)))


def read(home, scale, commit):
    """The card, if there is one: for other data, options, another commit or machine there is none."""
    return homes.read_json(path_of(home, scale, commit)) if scale.settings() else None


def column(values):
    values = [v for v in values if v is not None]
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}


def make(home, name, seeds=8, base=None, say=print):
    if seeds < 2:
        raise LabError("--seeds: %d given, must be at least 2: a deviation needs two" % seeds)
    branch = trees.base_branch(home, base)
    commit = trees.commit_of(home, branch)
    tree = trees.build(home, commit, scales.Scale(name, home).program, say)
    scale = scales.prepare(home, name, tree)
    folder = os.path.join(home.data, "card-%s-%s" % (name, key_of(scale, commit)))
    made = []
    for seed in [1] + list(range(1, seeds + 1)):
        arm = "base" if made else "again"
        run, evidence = runs.make(home, scale, tree, os.path.join(folder, "%s.%d" % (arm, seed)), arm, seed, commit, context="card of " + name, evaluates_holdout=False, say=say)
        if run.rc:
            raise LabError("the baseline of %s failed: exit %d; %s/%s.%d/run.log" % (name, run.rc, folder, arm, seed))
        say("%-5s seed %d  val loss %.5f  %s tokens/s" % (arm, seed, run.curve[-1].loss, "%.0f" % evidence["tokens_per_s"]))
        made.append((run, evidence))
    (again, _), (first, _) = made[0], made[1]
    same = again.hashes["weights"] == first.hashes["weights"] and [p.loss for p in again.curve] == [p.loss for p in first.curve]
    card = summary(home, scale, branch, commit, made[1:], same)
    homes.write_json(path_of(home, scale, commit), card)
    ledger.append(home, "card", scale=name, commit=commit[:12], key=key_of(scale, commit), seeds=seeds, val_loss=card["curve"][-1]["mean"], sd=card["curve"][-1]["sd"],
                  tokens_per_s=card["tokens_per_s"]["mean"], bit_equal="yes" if same else "no", sha=homes.sha256(path_of(home, scale, commit)))
    home.commit("card: %s at %s" % (name, commit[:12]))
    if not same:
        raise LabError("A/A: two runs of seed 1 differ by bits: this machine is unfit, or the trainer is not deterministic; card kept, tries refused")
    return card


def summary(home, scale, branch, commit, made, same):
    runs_, evidence = [run for run, _ in made], [e for _, e in made]
    curve = [dict(step=point.step, tokens=point.tokens, **column([run.curve[i].loss for run in runs_])) for i, point in enumerate(runs_[0].curve)]
    return {"scale": scale.name, "options": scale.options, "branch": branch, "commit": commit, "machine": machine(), "data": scale.settings()["hashes"]["train"], "bit_equal": same,
            "seeds": len(made), "steps": scale.steps, "tokens_per_step": runs_[0].tokens_per_step, "curve": curve, "tokens_per_s": column([e["tokens_per_s"] for e in evidence]),
            "flops_per_token": runs_[0].flops_per_token, "parameters": runs_[0].parameters, "peak_mib": column([run.peak_mib for run in runs_]), "seconds": column([run.seconds for run in runs_]),
            "vocabulary": evidence[0]["vocabulary"], "program": runs_[0].hashes["program"], "evaluate": evidence[0].get("evaluate")}


def text(card):
    last = card["curve"][-1]
    lines = ["scale %(scale)s, %(seeds)d seeds, commit %(commit).12s, %(machine)s" % card,
             "  A/A          two runs of one seed are %s" % ("bit-equal" if card["bit_equal"] else "NOT bit-equal: the machine is unfit"),
             "  val loss     %.5f, sd %.5f over the seeds, after %d steps, %.0f tokens" % (last["mean"], last["sd"], last["step"], last["tokens"]),
             "  tokens/s     %.0f, sd %.0f" % (card["tokens_per_s"]["mean"], card["tokens_per_s"]["sd"]),
             "  FLOPs/token  %.4g    parameters %d    memory %.0f MiB    seconds a run %.2f" % (card["flops_per_token"], card["parameters"], card["peak_mib"]["mean"], card["seconds"]["mean"])]
    return "\n".join(lines + ["  step %6d  %.5f  sd %.5f" % (p["step"], p["mean"], p["sd"]) for p in card["curve"]])
