"""confounds.py: what differs between two arms beside the idea. Each finding is "name: what", and a verdict with one is CONFOUNDED.

Options come from the header that a run writes, so that a script in the trainer's place must lie there too; steps, rates and seeds from what it
logged; losses, causality, sums, FLOPs and parameters from the lab's own audit of its checkpoint. A program that lies consistently in all
of it would have to train the better model to do so."""
import hashlib
import json
import math
import os
import statistics

import home as homes
import ledger
import trees

# options whose difference is no idea, by the name of what they confound; those of an optimizer are an idea that the baseline must have been tuned for
OPTIONS = {"data": "train_data text_special skip_bad bos_align doc_mask overfit", "evaluation": "val_data val_every val_batches eval hellaswag", "tokenizer": "tokenizer",
           "batch": "batch seq total_batch", "budget": "minutes replay resume patience on_spike", "machine": "threads ranks gpus nproc deterministic tf32 attention"}
CONFOUNDING = {option: name for name, options in OPTIONS.items() for option in options.split()}
HYPERPARAMETERS = "lr warmup final_lr_frac schedule weight_decay grad_clip beta1 beta2 eps init_std".split()
# files that the comparison itself rests on
FILES = [("evaluation", ("llmc/train/validate.h", "llmc/train/log.h", "llmc/train/eval", "dev/lab/", "dev/reference/", "test/lab/")), ("data", ("llmc/data/", "llmc/train/run_data.h", "dev/data/")),
         ("tokenizer", ("llmc/tokenizer/", "llmc/train/tokenizer_choice.h")), ("FLOPs", ("llmc/model/flops.h",))]
SAID = {"fp32": 1e-4, "bf16": 2e-3}   # by which a printed loss may differ from the lab's: other products' order
CANARY = 0.2                          # nats, and 4 standard errors; letters that no text has differ by their initial weights alone
SLOW = 0.15                           # share by which a baseline may be slower than its card, or 3 deviations of the card; and by which it may have had less of a core than the variant


def of_files(home, base, commit):
    found = []
    for path in trees.files_changed(home, base, commit):
        found += ["%s: the branch changes %s" % (name, path) for name, beginnings in FILES if path.startswith(beginnings)]
    return found


def of_options(base, variant):
    found = []
    for option, name in CONFOUNDING.items():
        there, here = base.options.get(option), variant.options.get(option)
        if there != here:
            found.append("%s: %s %s, the baseline's %s" % (name, option, shown(here), shown(there)))
    return found


def shown(value):
    return "nothing" if value in (None, "") else os.path.basename(value) or value


def rate(options, step, steps):
    """The learning rate that the trainer's documented schedules give a step, from 0 on."""
    lr, warmup, last = float(options["lr"]), float(options["warmup"]), float(options["final_lr_frac"])
    if step < warmup:
        return lr * (step + 1) / warmup
    done = min((step - warmup) / (steps - warmup), 1) if steps > warmup else 0
    part = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done}.get(options["schedule"], 1.0)
    start = max((1 - float(options.get("cooldown", 0.2))) * steps, warmup)
    if options["schedule"] in ("wsd", "trapezoidal") and step > start:
        fallen = (step - start) / (steps - start)
        part = 1 - (math.sqrt(fallen) if options["schedule"] == "wsd" else fallen)
    return lr * (last + part * (1 - last))


def of_run(run, evidence, seed):
    """What one run shows by itself."""
    found, name = [], "%s, seed %d" % (run.arm, seed)
    if run.rc:
        return []  # that it failed is a result, and says it all
    if run.options.get("seed") != str(seed):
        found.append("seed: %s: it ran with %s" % (name, shown(run.options.get("seed"))))
    if run.steps != evidence["planned_steps"]:
        found.append("budget: %s: %s steps, %d were planned" % (name, run.steps, evidence["planned_steps"]))
    for step, said in enumerate(evidence["rates"]):
        try:
            expected = rate(run.options, step, evidence["planned_steps"])
        except (KeyError, ValueError, TypeError):
            expected = math.nan  # options that are none
        if said is None or not abs(said - expected) <= 1e-5 * abs(expected) + 1e-12:
            found.append("learning rate: %s: %s at step %d, its options make it %.4g" % (name, said, step + 1, expected))
            break
    flops, said = run.flops_per_token, evidence["said_flops_per_token"]
    if flops and said and abs(said / flops - 1) > 0.01:
        found.append("FLOPs: %s: said %.4g a token, its weights make it %.4g" % (name, said, flops))
    if run.parameters and evidence["said_parameters"] != run.parameters:
        found.append("parameters: %s: said %s, its checkpoint has %d" % (name, evidence["said_parameters"], run.parameters))
    if evidence["vocabulary"] and evidence["first_val_loss"] is not None and evidence["first_val_loss"] < math.log(evidence["vocabulary"]) - 0.2:
        found.append("start: %s: its loss before the first step is %.4f, that of knowing nothing is %.4f" % (name, evidence["first_val_loss"], math.log(evidence["vocabulary"])))
    return found + of_audit(run, evidence, name)


def of_audit(run, evidence, name):
    if "val_loss" not in evidence:
        return ["evaluation: %s: no checkpoint that the lab could evaluate%s" % (name, ": " + evidence["unaudited"] if evidence.get("unaudited") else "")]
    found, last = [], run.curve[-1].loss if run.curve else None
    if last is not None and abs(last - evidence["val_loss"]) > SAID[run.options.get("precision", "fp32")]:
        found.append("evaluation: %s: it said %.5f, the lab finds %.5f in its checkpoint" % (name, last, evidence["val_loss"]))
    if evidence["leaks"]:
        found.append("causality: %s: %d losses depend on later tokens or on other rows" % (name, evidence["leaks"]))
    if evidence["worst_sum"] is not None and not abs(evidence["worst_sum"] - 1) < 1e-3:
        found.append("probabilities: %s: they sum to %.4f, not to 1" % (name, evidence["worst_sum"]))
    return found


def of_pair(base, variant):
    """What two runs of one seed show beside each other."""
    (b, be), (v, ve) = base, variant
    if b.rc or v.rc:
        return []
    found = of_options(b, v)
    if be["shape"] != ve["shape"]:  # what else a model is made of may be the idea; parameters and FLOPs stand in the table
        found.append("size: model %s has depth and width %s, the baseline's %s has %s" % (shown(v.options.get("model")), ve["shape"], shown(b.options.get("model")), be["shape"]))
    if b.hashes.get("tokenizer") != v.hashes.get("tokenizer") and v.hashes.get("tokenizer"):
        found.append("tokenizer: that of the variant's checkpoint is another")
    if be["first_val_loss"] == ve["first_val_loss"] and be["train_losses"][:1] != ve["train_losses"][:1] and b.options.get("precision") == v.options.get("precision"):
        found.append("data: seed %d: equal weights before the first step, but it saw other tokens" % b.seed)
    return found


def position_decay(options, rate_):
    """What weight decay takes of a position in a step of --lr's rate; positions are of the embeddings' group."""
    peak, embed, decay = float(options["lr"]), float(options.get("embed_lr") or 0), float(options["weight_decay"])
    own = rate_ * embed / peak if options.get("optimizer") == "muon" and embed > 0 else rate_
    return own * decay * (rate_ / peak if options.get("decay_schedule") == "lr" else 1)


def of_updates(base, variant):
    """The rates that updates really had, by what weight decay did to positions that nothing else moves: w becomes w (1 - rate decay) in each step. Only
    where both began with the same weights."""
    (b, be), (v, ve) = base, variant
    if b.rc or v.rc or not be.get("unused") or not ve.get("unused") or be["first_val_loss"] != ve["first_val_loss"] or None in be["rates"] + ve["rates"]:
        return []
    decays = [math.fsum(math.log1p(-position_decay(run.options, rate_)) for rate_ in evidence["rates"]) for run, evidence in (base, variant)]
    really = math.log(ve["unused"] / be["unused"]) + decays[0]
    if not all(decays) or abs(really - decays[1]) < 0.02 * abs(decays[0]) + 1e-6:
        return []
    return ["learning rate: seed %d: weight decay moved unused positions by %.2f times what the rates that were said make of them" % (v.seed, really / decays[1])]


def of_arm(runs):
    """What runs of different seeds show: they must differ."""
    for i, (a, ae) in enumerate(runs):
        for b, be in runs[:i]:
            blind = ae["vocabulary"] and ae["first_val_loss"] is not None and abs(ae["first_val_loss"] - math.log(ae["vocabulary"])) < 1e-5  # a head that begins at 0 sees no weights
            if ae["first_val_loss"] is not None and ae["first_val_loss"] == be["first_val_loss"] and (not blind or ae["train_losses"] == be["train_losses"]):
                return ["seed: %s: seeds %d and %d begin with the same weights: the seed is ignored" % (a.arm, b.seed, a.seed)]
    return []


def of_leaks(pairs, effect):
    """Was the validation text trained on? By its canary, and by a gain that is not there on the hold-out."""
    found, both = [], [(be, ve) for (_, be), (_, ve) in pairs]
    canaries = [canary(be["letters"], ve["letters"]) for be, ve in both if be.get("letters") and ve.get("letters")]
    if canaries:
        likelier, error = statistics.mean(d for d, _ in canaries), (statistics.mean(v for _, v in canaries) / len(canaries)) ** 0.5
        if likelier > max(CANARY, 4 * error):
            found.append("leak: letters that only the validation file has are %.1f nats likelier than others: it was trained on" % likelier)
    asked = [(be, ve) for be, ve in both if be.get("holdout_batches") and ve.get("holdout_batches")]
    if len(asked) > 2:
        gaps = [(be["val_loss"] - ve["val_loss"]) - (be["holdout_loss"] - ve["holdout_loss"]) for be, ve in asked]
        texts = [variance_of_gain([be[text] for be, _ in asked], [ve[text] for _, ve in asked]) for text in ("val_batches", "holdout_batches")]
        gap, error = statistics.mean(gaps), (statistics.variance(gaps) / len(gaps) + sum(texts)) ** 0.5
        if gap > max(abs(effect), 4 * error):
            found.append("hold-out: %.4f of the gain is not there on text that no run has seen" % gap)
    return found


def variance_of_gain(base, variant):
    """Of a text's mean gain, by how much its batches differ: all seeds are asked the same text, so what another text would have given is not in the spread over seeds."""
    gains = [statistics.mean(b) - statistics.mean(v) for b, v in zip(zip(*base), zip(*variant))]
    return statistics.variance(gains) / len(gains) if len(gains) > 1 else math.inf


def canary(base, variant):
    """By how much more than in the baseline the canary's letters are likelier than others, and the variance of that: letter by letter, as those
    of one seed begin with the same weights."""
    kinds = [[b - v for b, v in zip(base[kind], variant[kind])] for kind in (0, 1)]
    return statistics.mean(kinds[0]) - statistics.mean(kinds[1]), sum(statistics.variance(kind) / len(kind) for kind in kinds)


def of_machine(pairs, card, axis):
    """Was the baseline slowed? (findings, remarks)"""
    found, remarks = [], []
    pairs = [pair for pair in pairs if not any(run.rc for run, _ in pair)]
    if not pairs:
        return found, remarks
    speeds = [be["tokens_per_s"] for (_, be), _ in pairs if be["tokens_per_s"]]
    others = [(b.others_cpu, v.others_cpu) for (b, _), (v, _) in pairs if b.others_cpu is not None and v.others_cpu is not None]
    least = card["tokens_per_s"]["mean"] - max(SLOW * card["tokens_per_s"]["mean"], 3 * (card["tokens_per_s"]["sd"] or 0))
    if speeds and statistics.mean(speeds) < least:
        sentence = "busy: the baseline made %.0f tokens/s, its card says %.0f (sd %.0f)" % (statistics.mean(speeds), card["tokens_per_s"]["mean"], card["tokens_per_s"]["sd"] or 0)
        (found if axis == "seconds" else remarks).append(sentence)
    if others:
        more = [b - v for b, v in others]
        if len(more) > 2 and statistics.mean(more) > max(0.25, 4 * statistics.stdev(more) / len(more) ** 0.5):
            found.append("busy: others used %.0f %% more of the machine beside the baseline than beside the variant" % (100 * statistics.mean(more)))
    cores = [[e["core"] for _, e in arm if e.get("core") is not None] for arm in zip(*pairs)]
    if axis == "seconds" and all(cores) and statistics.mean(cores[0]) < (1 - SLOW) * statistics.mean(cores[1]):
        found.append("busy: others left the baseline %.0f %% of its core, the variant %.0f %%" % tuple(100 * statistics.mean(shares) for shares in cores))
    outside = [(e["cpu_seconds"] - e["step_seconds"], e["step_seconds"]) for _, (_, e) in pairs], [(e["cpu_seconds"] - e["step_seconds"], e["step_seconds"]) for (_, e), _ in pairs]
    v, b = (statistics.median(o for o, _ in arm) for arm in outside)
    if v - b > 0.5 + statistics.median(s for _, s in outside[1]):
        found.append("time: %.1f CPU seconds of the variant lie outside of its steps, %.1f of the baseline" % (v, b))
    return found, remarks


def of_files_on_disk(scale, hashes):
    """The data must be those that were prepared."""
    return ["data: %s is another than the one that was prepared" % os.path.basename(path) for part, path in
            (("train", scale.train), ("val", scale.val), ("tokenizer", scale.tokenizer), ("holdout", scale.holdout)) if not os.path.exists(path) or homes.sha256(path) != hashes[part]]


def of_history(home, plan):
    """The same again, against the same baseline, until it wins? A changed plan? (findings, remarks)"""
    found, remarks = [], []
    for name in sorted(os.listdir(home.tries)):
        if name.split("-")[0] >= plan["try"]:
            continue
        earlier, verdict = homes.read_json(os.path.join(home.tries, name, "plan.json")), homes.read_json(os.path.join(home.tries, name, "verdict.json"))
        if not earlier or any(earlier[key] != plan[key] for key in ("idea", "scale", "card")):
            continue
        if not verdict:  # runs of it were seen, and then another one was begun: by somebody else at once, or as it did not look well
            found.append("tried before: try %s of this very change has begun and has no verdict: lab try --resume %d" % (earlier["try"], int(earlier["try"])))
            continue
        sentence = "tried before: try %s was this very change against this baseline, %s" % (earlier["try"], verdict["word"])
        if verdict["word"] in ("WIN", "NULL", "LOSS"):
            found.append(sentence + ": the best of several is no result")
        else:
            remarks.append(sentence + "; the level of this one counts it")
    begun = [e for e in ledger.entries(home, "try-begins") if e["try"] == plan["try"]]
    if not begun or begun[0].get("plan") != fingerprint(plan):
        found.append("plan: it is another than the one that was committed before anything ran")
    if plan["seeds"] != [home.seed(int(plan["try"]), i) for i in range(1, len(plan["seeds"]) + 1)]:
        found.append("plan: its seeds are not those of the lab's secret")
    return found + ["ledger: " + sentence for sentence in ledger.check(home)[:3]], remarks


def fingerprint(plan):
    """Of what is registered; seeds are drawn later."""
    return hashlib.sha256(json.dumps({key: value for key, value in plan.items() if key != "seeds"}, sort_keys=True).encode()).hexdigest()


def of_programs(pairs, card):
    """Was a program exchanged between runs?"""
    found = []
    if any(b.hashes["program"] != card["program"] for (b, _), _ in pairs):
        found.append("program: the baseline's is another than the one that made its card")
    if len({v.hashes["program"] for _, (v, _) in pairs}) > 1:
        found.append("program: the variant's was exchanged between two runs")
    evaluations = [{evidence.get("evaluate") for _, evidence in arm} - {None} for arm in zip(*pairs)]
    if evaluations[0] - {card.get("evaluate")} or len(evaluations[1]) > 1:
        found.append("program: build/evaluate, with which the lab evaluates, was exchanged")
    return found


def of_trees(home, plan, program):
    """Are the sources beside the programs still those of their commits? Were they built by another command than the lab's own? (findings, remarks)"""
    commits = (plan["base_commit"], plan["commit"])
    found = ["tree: %s of lab/trees/%s is not what its commit says" % (path, commit[:12]) for commit in commits for path in trees.changed(home, commit)[:1]]
    return found, ["%s was built by %s" % (commit[:12], command) for commit in dict.fromkeys(commits) for command in [trees.built_by(home, commit, program)] if command]


def of_card(home, plan):
    """Is the card the one that was measured?"""
    name = "%s-%s.json" % (plan["scale"], plan["card"])
    measured = [e for e in ledger.entries(home, "card") if e["key"] == plan["card"] and e["scale"] == plan["scale"]]
    if not measured or measured[-1]["sha"] != homes.sha256(os.path.join(home.cards, name)):
        return ["card: %s is another than the one that was measured" % name]
    return []


def hyperparameters(base, variant):
    return ["%s %s, the baseline's %s" % (name, variant.options.get(name), base.options.get(name)) for name in HYPERPARAMETERS if variant.options.get(name) != base.options.get(name)]


def find(home, scale, plan, pairs, card):
    """(findings, remarks) of all pairs so far; a finding of a kind is named once, with how many more there are."""
    found, remarks = of_machine(pairs, card, plan["axis"])
    found += of_programs(pairs, card) + of_card(home, plan)
    found += of_files(home, plan["base_commit"], plan["commit"]) + of_files_on_disk(scale, plan["hashes"])
    for more in (of_history(home, plan), of_trees(home, plan, scale.program)):
        found, remarks = found + more[0], remarks + more[1]
    for seed, (base, variant) in zip(plan["seeds"], pairs):
        found += of_run(*base, seed) + of_run(*variant, seed) + of_pair(base, variant)
    updates = [sentence for base, variant in pairs for sentence in of_updates(base, variant)]
    optimizer = [path for path in trees.files_changed(home, plan["base_commit"], plan["commit"]) if os.path.basename(path).startswith("adamw")]
    (remarks if optimizer else found).extend(shortened(updates))  # who changes the optimizer in the open, may
    for arm in (0, 1):
        found += of_arm([pair[arm] for pair in pairs])
    return shortened(found + of_leaks(pairs, plan["effect"])), remarks


def shortened(found):
    kinds = {}
    for sentence in found:
        kinds.setdefault(sentence.split(":")[0] + ("" if "branch changes" not in sentence else sentence), []).append(sentence)
    return [group[0] + (" (and %d more)" % (len(group) - 1) if len(group) > 1 else "") for group in kinds.values()]
