"""ablate.py: `lab ablate BRANCH`: leave-one-out of everything that a branch keeps: each commit between the baseline and BRANCH is one idea.

Each is taken out by itself (git revert) and what is left runs at equal seeds with the whole. The table says what each brings, with its confidence
interval, and how many lines of code would go with it. A barnacle is one whose interval does not lie above 0: it costs lines and is not shown to do
anything. A commit that others rest on cannot be taken out by itself, which the table says too."""
import os
import statistics

import card as cards
import evalues
import home as homes
import ledger
import runs
import scales
import trees
from home import LabError, git

SEED = 700  # 701, 702, ...: of no try, card or trial


def kept(home, base, branch):
    """Commits from the oldest on: (hash, first line)."""
    lines = git(home.checkout, "log", "--reverse", "--no-merges", "--format=%H %s", "%s..%s" % (base, branch)).splitlines()
    if not lines:
        raise LabError("%s: no commits beyond %s: nothing is kept there" % (branch, base[:12]))
    return [tuple(line.split(" ", 1)) for line in lines]


def without(home, branch, commit):
    """The branch without a commit, as a commit of its own; None where others rest on it."""
    place = os.path.join(home.trees, "revert-" + commit[:12])
    git(home.checkout, "worktree", "prune")
    git(home.checkout, "worktree", "add", "--detach", "--force", place, branch)
    try:
        git(place, "-c", "user.name=lab", "-c", "user.email=lab@localhost", "-c", "commit.gpgsign=false", "revert", "--no-edit", commit)
        left = git(place, "rev-parse", "HEAD")
        git(home.checkout, "update-ref", "refs/lab/without-" + commit[:12], left)  # so that git keeps it
        return left
    except LabError:
        return None
    finally:
        git(home.checkout, "worktree", "remove", "--force", place)


def losses(home, scale, name, commit, seeds, say):
    tree, out = trees.build(home, commit, scale.program, say), []
    for i in range(1, seeds + 1):
        folder = os.path.join(home.data, "ablate-%s-%s.%d" % (scale.name, commit[:12], i))
        run, _ = runs.make(home, scale, tree, folder, "ablate", SEED + i, commit, context="ablate " + name, evaluates_holdout=False, say=say)
        out.append(run.curve[-1].loss if run.rc == 0 and run.curve else None)
    return out


def table(home, branch, name, seeds=3, base=None, say=print):
    if seeds not in evalues.LOOKS:
        raise LabError("--seeds: %d given, must be one of %s, the looks" % (seeds, ", ".join(map(str, evalues.LOOKS))))
    base_commit, whole = trees.commit_of(home, trees.base_branch(home, base)), trees.commit_of(home, branch)
    ideas = kept(home, base_commit, whole)
    scale = scales.prepare(home, name, trees.build(home, base_commit, scales.Scale(name, home).program, say))
    if not cards.read(home, scale, base_commit):
        raise LabError("no card of scale %s: lab card --scale %s makes one" % (name, name))
    with_all, rows = losses(home, scale, "nothing", whole, seeds, say), []
    for commit, title in ideas:
        left, row = without(home, whole, commit), {"commit": commit, "title": title, "effect": None, "lo": None, "hi": None, "lines": trees.lines_added(home, commit + "^", commit)}
        if left is None:
            row["word"] = "others rest on it"
        else:
            d = [a - b for a, b in zip(losses(home, scale, title, left, seeds, say), with_all) if None not in (a, b)]
            if len(d) < seeds:
                row["word"] = "needed: without it runs fail"
            elif max(map(abs, d)) == 0:
                row.update(effect=0.0, lo=0.0, hi=0.0, word="barnacle")
            else:
                row["effect"], (row["lo"], row["hi"]) = statistics.mean(d), evalues.interval(d)
                row["word"] = "barnacle" if not row["lo"] > 0 else "kept"
        rows.append(row)
        ledger.append(home, "ablation", branch=branch, commit=commit[:12], scale=name, seeds=seeds, title=title, effect=row["effect"], lo=row["lo"], hi=row["hi"], lines=row["lines"], word=row["word"])
    home.commit("ablate: %s at %s" % (branch, name))
    say(text(branch, name, seeds, rows))
    return rows


def text(branch, name, seeds, rows):
    number = lambda x: "?" if x is None else "%+.4f" % x
    out = ["%s at scale %s, each left out by itself, %d seeds: what it brings, 95 %% interval, lines of code that would go" % (branch, name, seeds)]
    for r in sorted(rows, key=lambda r: r["effect"] if r["effect"] is not None else 9):
        out.append("  %8s  %8s .. %8s  %+5d  %-10s %s" % (number(r["effect"]), number(r["lo"]), number(r["hi"]), -r["lines"], r["word"], r["title"]))
    barnacles = [r for r in rows if r["word"] == "barnacle"]
    out.append("barnacles: %s" % ("; ".join("%s (%d lines)" % (r["title"], r["lines"]) for r in barnacles) or "none"))
    return "\n".join(out)
