"""trees.py: a worktree and a build for each commit that runs: lab/trees/COMMIT.

Built once: the trainer as the branch's own Makefile says, and build/evaluate, the lab's evaluation, from the base's text and the
branch's sources. $LAB_BUILD is a command that builds both in another way (tests)."""
import os
import re
import shlex
import shutil
import subprocess

import home as homes
from home import LabError, git

EVALUATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "evaluate.cpp")
FLAGS = "-std=c++20 -O2 -march=native -fno-math-errno -fno-trapping-math -fno-exceptions -pthread -I."


def commit_of(home, branch):
    commit = git(home.checkout, "rev-parse", "--verify", "--quiet", branch + "^{commit}", check=False)
    if not commit:
        raise LabError("%s: no such branch or commit in %s" % (branch, home.checkout))
    return commit


def base_branch(home, given=None):
    """What variants are compared with: --base, else the checkout's main or master, else what it has checked out."""
    for name in [given] if given else ["main", "master", "HEAD"]:
        if git(home.checkout, "rev-parse", "--verify", "--quiet", name + "^{commit}", check=False):
            return name
    raise LabError("%s: no such branch or commit in %s" % (given or "main", home.checkout))


def build(home, commit, program="train_gpt2", say=lambda text: None):
    """The tree of a commit, with its programs; from now on, if it was built before."""
    tree = os.path.join(home.trees, commit[:12])
    marker = os.path.join(tree, "build", "lab-built-" + program)
    with homes.locked(os.path.join(home.leases, "build-" + commit[:12])):
        if os.path.exists(marker):
            return tree
        if not os.path.exists(os.path.join(tree, "train_gpt2.cu")):
            shutil.rmtree(tree, ignore_errors=True)
            git(home.checkout, "worktree", "prune")
            git(home.checkout, "worktree", "add", "--detach", "--force", tree, commit)
        os.makedirs(os.path.join(tree, "build"), exist_ok=True)
        say("builds %s" % commit[:12])
        for command in commands(program):
            done = subprocess.run(command, cwd=tree, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
            if done.returncode:
                errors = [line for line in done.stdout.splitlines() if "error" in line] or done.stdout.strip().splitlines() or ["exit %d" % done.returncode]
                raise LabError("%s does not build: %s" % (commit[:12], errors[0]))
        homes.write_file(marker, "")
    return tree


def commands(program):
    if os.environ.get("LAB_BUILD"):
        return [os.environ["LAB_BUILD"]]
    return ["make " + program, "%s %s -x c++ %s -o build/evaluate" % (os.environ.get("CXX", "g++"), FLAGS, shlex.quote(EVALUATE))]


def lines_added(home, base, commit):
    """Lines of code that a commit has more than its base, without tests and notes; fewer are negative."""
    total = 0
    for line in git(home.checkout, "diff", "--numstat", base, commit, "--", ".", ":!test", ":!dev", ":!doc", ":!*.md").splitlines():
        added, removed = line.split("\t")[:2]
        total += int(added) - int(removed) if added != "-" else 0
    return total


def files_changed(home, base, commit):
    return git(home.checkout, "diff", "--name-only", base, commit).splitlines()


def idea_of(home, base, commit):
    """The change itself, without comments, blanks and places: what is equal in two commits that try the same again."""
    lines = git(home.checkout, "diff", "-U0", base, commit, "--", ".", ":!test", ":!doc", ":!*.md").splitlines()
    kept = [re.sub(r"\s+", "", re.sub(r"//.*", "", line)) for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return "\n".join(line for line in kept if len(line) > 1)
