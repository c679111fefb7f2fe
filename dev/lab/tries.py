"""tries.py: `lab try`: a hypothesis, committed; then pairs of runs until the verdict.

    lab/tries/0003-BRANCH/plan.json       what was declared: in the ledger and in the lab's repository before anything runs
                          base.1/run.json variant.1/run.json ...   one folder a run, with evidence.json of the audit and run.log
                          verdict.json verdict.txt

The runs of a pair have one seed, fresh ones for each try, drawn when both arms are built: a build that could read them could look for what is lucky on them. the arms take turns, as a machine's speed drifts: base, variant, variant, base. A
try that was killed goes on by the same command, or by --resume: runs that ended stay, one that did not is made anew, which the ledger says."""
import fcntl
import hashlib
import json
import math
import os
import re

import card as cards
import confounds
import curves
import evalues
import home as homes
import ledger
import pages
import record
import runs
import scales
import trees
import tune
import verdict
from home import LabError

REFUSED = 2   # the trainer's exit code where its command line is wrong: nothing was written (EXIT_USAGE of llmc/base/check.h)
AXES = {"tokens": "tokens", "flops": "flops", "time": "seconds"}


def folder_of(home, plan):
    return os.path.join(home.tries, "%s-%s" % (plan["try"], re.sub(r"[^A-Za-z0-9.]+", "-", plan["branch"])[:40]))


def find(home, number):
    """The plan of a try, by its number."""
    try:
        wanted = "%04d-" % int(number)
    except ValueError:
        raise LabError("try: '%s' given, must be a number" % number)
    for name in os.listdir(home.tries) if os.path.isdir(home.tries) else []:
        if name.startswith(wanted):
            return homes.read_json(os.path.join(home.tries, name, "plan.json"))
    raise LabError("try: %s given, there is none of that number" % number)


def begin(home, branch, hypothesis, axis, effect, name, options=(), base=None, confirms=None, say=print, label=None):
    """A plan, written into the ledger and committed. Nothing of it has run."""
    if not hypothesis.strip():
        raise LabError("--hypothesis: empty, must say what is expected and why")
    if not (effect and math.isfinite(effect)):
        raise LabError("--effect: %g given, must be nats: above 0 the least gain that is worth having, below 0 the most that may be lost" % effect)
    scale = scales.Scale(name, home)
    base_branch = trees.base_branch(home, base)
    base_commit, commit = trees.commit_of(home, base_branch), trees.commit_of(home, branch)
    for each in (base_commit, commit):
        trees.check(home, each, scale.program)
    card = cards.read(home, scale, base_commit)
    if not card:
        raise LabError("no card of scale %s for %s at %s, with these options and data, on this machine: lab card --scale %s%s makes one"
                       % (name, base_branch, base_commit[:12], name, " --base " + base if base else ""))
    if not card["bit_equal"]:
        raise LabError("the card of scale %s says that this machine is unfit: two runs of one seed differed" % name)
    idea = hashlib.sha256(json.dumps([trees.idea_of(home, base_commit, commit), list(options)]).encode()).hexdigest()
    with homes.locked(os.path.join(home.root, ".try.lock")):
        earlier = [int(f.split("-")[0]) for f in os.listdir(home.tries) if f[:4].isdigit()] if os.path.isdir(home.tries) else []
        begun = len(ledger.entries(home, "try-begins"))
        number = max(earlier + [begun]) + 1
        plan = {"try": "%04d" % number, "branch": label or branch, "commit": commit, "base": base_branch, "base_commit": base_commit, "hypothesis": hypothesis, "axis": AXES[axis], "effect": effect,
                "scale": name, "options": list(options), "number": begun + 1, "wins": wins(home), "idea": idea,
                "hashes": scale.settings()["hashes"], "card": cards.key_of(scale, base_commit), "who": homes.who(), "confirms": confirms}
        register(home, plan)
    say("try %s: %s" % (plan["try"], hypothesis))
    say(need(plan, card))
    return plan


def register(home, plan):
    """Into its file, the ledger and a commit; what of it a kill prevented is done later, as long as nothing has run."""
    folder, axis = folder_of(home, plan), {v: k for k, v in AXES.items()}[plan["axis"]]
    homes.write_json(os.path.join(folder, "plan.json"), plan)
    if not any(e["try"] == plan["try"] for e in ledger.entries(home, "try-begins")):
        ledger.append(home, "try-begins", **{"try": plan["try"]}, branch=plan["branch"], commit=plan["commit"][:12], base=plan["base_commit"][:12], scale=plan["scale"], axis=axis, effect=plan["effect"],
                      options=" ".join(plan["options"]) or None, confirms=plan["confirms"], hypothesis=plan["hypothesis"], plan=confounds.fingerprint(plan))
    home.commit("try %s: %s" % (plan["try"], plan["hypothesis"]))


def wins(home):
    return sum(1 for e in ledger.entries(home, "verdict") if e.get("word") == "WIN")


def need(plan, card):
    """The seeds that the declared effect needs, before anything runs."""
    sd = 2 ** 0.5 * (card["curve"][-1]["sd"] or 0)
    seeds = evalues.seeds_needed(abs(plan["effect"]), sd, evalues.needed_p(plan["number"], plan["wins"])) if sd > 0 else evalues.LOOKS[0]
    most = evalues.LOOKS[-1]
    return ("needs %s pairs of runs to see %g nats with 80 %% probability, as differences of two seeds have an sd of about %.4f (card: %.4f); looks after %s%s"
            % (seeds or "more than 1000", abs(plan["effect"]), sd, card["curve"][-1]["sd"] or 0, ", ".join(map(str, evalues.LOOKS)),
               "" if seeds and seeds <= most else ": more than this try has: pairing may help, or a larger scale, or a larger effect"))


def unfinished(home, branch, hypothesis, axis, effect, name, options):
    """The plan of the same command that did not come to its verdict."""
    for f in sorted(os.listdir(home.tries) if os.path.isdir(home.tries) else [], reverse=True):
        plan = homes.read_json(os.path.join(home.tries, f, "plan.json"))
        same = plan and (plan["branch"], plan["hypothesis"], plan["axis"], plan["effect"], plan["scale"], plan["options"], plan["who"]) == (
            branch, hypothesis, AXES[axis], effect, name, list(options), homes.who())
        if same and not os.path.exists(os.path.join(home.tries, f, "verdict.json")):
            return plan
    return None


def say_lost(home, plan, say):
    """What a kill took: runs that had begun and did not end."""
    folder = folder_of(home, plan)
    for name in sorted(os.listdir(folder)):
        if os.path.isdir(os.path.join(folder, name)) and not os.path.exists(os.path.join(folder, name, "run.json")):
            say("lost: %s had begun and did not end; it runs anew" % name)
            ledger.append(home, "lost", **{"try": plan["try"]}, what="run %s had begun and did not end; it runs anew" % name)


def steps_of_variant(home, scale, plan, build, say):
    """The variant's steps, so that both arms end at the same budget on the declared axis, from a short run of each."""
    if plan["axis"] == "tokens":
        return scale.steps
    short = max(2, scale.steps // 5)
    made = {arm: runs.make(home, scale, tree, os.path.join(folder_of(home, plan), "probe-" + arm), "probe-" + arm, plan["seeds"][0], commit, short, extra, "try %s, probe" % plan["try"], say=say, audits=False, number=plan["try"])
            for arm, tree, commit, extra in build}
    base, variant = ((run, evidence) for run, evidence in made.values())
    if plan["axis"] == "flops":
        cost = [run.flops_per_token and run.flops_per_token * (run.tokens_per_step or 0) for run, _ in (base, variant)]
    else:
        cost = [evidence["step_seconds"] / run.steps if run.steps else None for run, evidence in (base, variant)]
    return max(1, round(scale.steps * cost[0] / cost[1])) if all(cost) else scale.steps


def must_start(plan, folder, run):
    """A variant that its trainer refuses, as it does options that contradict each other, says nothing of the hypothesis: no verdict. In the first pair alone: one that ran and then refuses a seed has failed."""
    if run.rc != REFUSED or os.path.exists(os.path.join(folder, "out")):
        return
    with open(os.path.join(folder, "run.log"), errors="replace") as f:
        said = [line for line in f.read(100000).splitlines() if line.strip()]
    raise LabError("try %s: the variant does not start: %s" % (plan["try"], pages.plain(said[-1]) if said else "exit code %d without a word" % run.rc))


def go_on(home, plan, say=print):
    """Runs, looks and the verdict of a plan; from where it was, if it was begun before."""
    folder = folder_of(home, plan)
    with open(os.path.join(folder, ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("try %s: it is running" % plan["try"])
        if not any(os.path.isdir(os.path.join(folder, name)) for name in os.listdir(folder)):
            register(home, plan)
        say_lost(home, plan, say)
        scale = scales.Scale(plan["scale"], home)
        base_tree, tree = (trees.build(home, commit, scale.program, say) for commit in (plan["base_commit"], plan["commit"]))
        if not plan.get("seeds"):
            plan["seeds"] = [home.seed(int(plan["try"]), i) for i in range(1, evalues.LOOKS[-1] + 1)]
            homes.write_json(os.path.join(folder, "plan.json"), plan)
        arms = [("base", base_tree, plan["base_commit"], []), ("variant", tree, plan["commit"], plan["options"])]
        steps = {"base": scale.steps, "variant": steps_of_variant(home, scale, plan, arms, say)}
        card = cards.read(home, scale, plan["base_commit"])
        if not card:
            raise LabError("the card of scale %s is gone: lab card --scale %s makes it anew" % (scale.name, scale.name))
        pairs = []
        for i, seed in enumerate(plan["seeds"], 1):
            pair = {}
            for arm, where, commit, extra in arms if i % 2 else reversed(arms):
                run_folder = os.path.join(folder, "%s.%d" % (arm, i))
                pair[arm] = runs.make(home, scale, where, run_folder, arm, seed, commit, steps[arm], extra, "try %s, %s.%d" % (plan["try"], arm, i), say=say, number=plan["try"])
            pairs.append((pair["base"], pair["variant"]))
            say("pair %2d  seed %d  %s" % (i, seed, "  ".join("%s %s" % (arm, "%.5f" % run.curve[-1].loss if run.curve and run.curve[-1].loss is not None else "failed")
                                                              for arm, (run, _) in (("base", pair["base"]), ("variant", pair["variant"])))))
            if i == 1:
                must_start(plan, os.path.join(folder, "variant.%d" % i), pair["variant"][0])
            failed = any(run.rc for run, _ in pairs[-1])
            if i in evalues.LOOKS or failed:
                decided = look(home, scale, plan, pairs, card, say)
                if decided.word == "WIN":
                    repeat(home, scale, plan, decided, pairs[0][1][0], tree, steps["variant"], say)
                if decided.word:
                    return finish(home, plan, decided, say)
        raise LabError("try %s: its last look said nothing" % plan["try"])  # judge() decides at the last look


def repeat(home, scale, plan, decided, first, tree, steps, say):
    """Before a WIN the variant's first run is made again: what keeps something from run to run, or rolls dice of its own, does not give its bits twice."""
    run, _ = runs.make(home, scale, tree, os.path.join(folder_of(home, plan), "again.1"), "again", first.seed, plan["commit"], steps, plan["options"], "try %s, again.1" % plan["try"], say=say, audits=False, number=plan["try"])
    same = run.hashes.get("weights") == first.hashes.get("weights") and [p.loss for p in run.curve] == [p.loss for p in first.curve]
    say("again    seed %d  %s" % (first.seed, "the variant's first run has the same bits" if same else "other bits"))
    if not same:
        decided.word = "CONFOUNDED"
        decided.reasons.append("repeat: the variant's first run, made again, has other bits: it keeps something from run to run, or is not deterministic")


def look(home, scale, plan, pairs, card, say):
    """The verdict so far, of what has run."""
    found, remarks = confounds.find(home, scale, plan, pairs, card)
    declared = verdict.Declared(plan["axis"], plan["effect"], plan["number"], plan["wins"])
    runs_of = [[pair[arm][0] for pair in pairs] for arm in (0, 1)]
    said = [e for e in ledger.entries(home, "look") if e["try"] == plan["try"] and e["pairs"] == str(len(pairs))]
    try:
        decided = verdict.judge(runs_of[0], runs_of[1], declared, found, tune.untuned(home, plan, pairs[0]), trees.lines_added(home, plan["base_commit"], plan["commit"]))
    except LabError as why:
        decided = verdict.Verdict("CONFOUNDED", declared, len(pairs), reasons=found + ["curves: %s" % why])
    decided.remarks = remarks
    if decided.word == "CONFOUNDED" and len(pairs) < evalues.LOOKS[-1] and all(reason.startswith("hold-out:") for reason in decided.reasons):
        decided.word = ""  # three pairs say little of a gap; no WIN, and more pairs tell
    if not said:
        ledger.append(home, "holdout-look", **{"try": plan["try"]}, pairs=len(pairs), evaluations=sum(1 for pair in pairs for _, e in pair if e.get("holdout_loss") is not None))
        ledger.append(home, "look", **{"try": plan["try"]}, pairs=len(pairs), evidence=decided.evidence, needed=decided.needed, word=decided.word or "undecided")
    row = decided.row(plan["axis"])
    say("look after %d pairs: evidence %.3g of %.3g, sd of the differences %s: %s" % (len(pairs), decided.evidence, decided.needed, "%.4f" % row.sd if row and row.sd is not None else "?", decided.word or "goes on"))
    return decided


def finish(home, plan, decided, say):
    """The ledger first, then the verdict's files, which name the ledger's head."""
    said = [e for e in ledger.entries(home, "verdict") if e["try"] == plan["try"]]
    row = decided.row(plan["axis"])
    event = said[0] if said else ledger.append(
        home, "verdict", **{"try": plan["try"]}, word=decided.word, branch=plan["branch"], scale=plan["scale"], axis=plan["axis"], pairs=decided.pairs, effect=row.effect if row else None,
        lo=row.lo if row else None, hi=row.hi if row else None, multiplier=row.multiplier if row else None, reasons="; ".join(decided.reasons) or None, hypothesis=plan["hypothesis"])
    looks = len(ledger.entries(home, "holdout-look"))
    extra = {"try": plan["try"], "branch": plan["branch"], "hypothesis": plan["hypothesis"], "scale": plan["scale"], "who": plan["who"], "commit": plan["commit"], "base_commit": plan["base_commit"],
             "options": plan["options"], "remarks": decided.remarks, "head": event["hash"], "head_n": int(event["n"]), "chance_wins": pages.chance_wins(pages.tries_of(ledger.entries(home))), "holdout_looks": looks,
             "confirms": plan["confirms"]}
    text = "try %s: %s, scale %s, beside %s at %.12s\n  %s\n%s" % (plan["try"], plan["branch"] + (" with " + " ".join(plan["options"]) if plan["options"] else ""), plan["scale"], plan["base"], plan["base_commit"], plan["hypothesis"], decided.to_text(confirms=bool(plan["confirms"])))
    text += "".join("  (%s)\n" % remark for remark in decided.remarks)
    text += "wins expected by chance so far: at most %.3f; looks at the hold-out so far: %d\nledger: event %s, head %s\n" % (extra["chance_wins"], looks, event["n"], event["hash"])
    folder = folder_of(home, plan)
    homes.write_file(os.path.join(folder, "verdict.txt"), text)
    homes.write_json(os.path.join(folder, "verdict.json"), dict(json.loads(decided.to_json()), **extra))
    home.commit("try %s: %s" % (plan["try"], decided.word))
    say(text.rstrip("\n"))
    return decided
