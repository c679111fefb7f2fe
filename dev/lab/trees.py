"""trees.py: a tree of sources and a build for each commit that runs: lab/trees/COMMIT. Not git's worktree: its hooks, filters and attributes are the checkout's, and may
change what is written; a tree is the bytes that the commit's hashes say, and knows of no repository.

Built once: the trainer as the branch's own Makefile says, and build/evaluate, the lab's evaluation, from the base's text and the
branch's sources. $LAB_BUILD is a command that builds both in another way (tests)."""
import hashlib
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


def entries_of(home, commit):
    """(mode, hash, path) of all that a commit holds."""
    for entry in git(home.checkout, "ls-tree", "-r", "-z", commit).split("\0"):
        if entry:
            words, path = entry.split("\t", 1)
            yield words.split()[0], words.split()[2], path


def check(home, commit, program="train_gpt2"):
    """A commit must be all that is built: no links to what lies elsewhere and may change, no submodules, nothing in the place of what `make` makes."""
    for mode, _, path in entries_of(home, commit):
        if {"", ".", ".."} & set(path.split("/")):
            raise LabError("%s: %s is no path of a file" % (commit[:12], path))
        what = "a symbolic link" if mode == "120000" else "a submodule" if mode == "160000" else "in the place of what is built" if path in (program, "build") or path.startswith("build/") else ""
        if what:
            raise LabError("%s: %s is %s: must be source in the commit itself" % (commit[:12], path, what))


def hash_of(blob, data):
    """As git names a file's contents, by the algorithm of this name."""
    return (hashlib.sha1 if len(blob) == 40 else hashlib.sha256)(b"blob %d\0" % len(data) + data).hexdigest()


def write_tree(home, commit, tree):
    """The files of a commit, whole or not there."""
    entries, new = list(entries_of(home, commit)), tree + ".new"
    shutil.rmtree(new, ignore_errors=True)
    os.makedirs(new)
    asked = "".join(blob + "\n" for _, blob, _ in entries).encode()
    out = subprocess.run(["git", "-C", home.checkout, *homes.QUIET, "cat-file", "--batch"], input=asked, stdout=subprocess.PIPE, env=dict(os.environ, GIT_NO_REPLACE_OBJECTS="1"), check=True).stdout
    at = 0
    for mode, blob, path in entries:
        head, at = out[at:out.index(b"\n", at)].split(), out.index(b"\n", at) + 1
        data = out[at:at + int(head[2])] if len(head) == 3 else None
        if data is None or hash_of(blob, data) != blob:
            raise LabError("%s: %s: git has not the file of that hash" % (commit[:12], path))
        at += len(data) + 1
        place = os.path.join(new, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as f:
            f.write(data)
        os.chmod(place, 0o755 if mode == "100755" else 0o644)
    shutil.rmtree(tree, ignore_errors=True)
    os.rename(new, tree)


def changed(home, commit):
    """Files of its tree that are not what the commit says, by their own hashes: git believes its index, filters and attributes."""
    tree, found = os.path.join(home.trees, commit[:12]), []
    for _, blob, path in entries_of(home, commit):
        try:
            with open(os.path.join(tree, path), "rb") as f:
                data = f.read()
        except OSError:
            data = None
        if data is None or hash_of(blob, data) != blob:
            found.append(path)
    return found


def built_by(home, commit, program):
    """The command that built a tree, if it was not the lab's own."""
    with open(os.path.join(home.trees, commit[:12], "build", "lab-built-" + program)) as f:
        return f.read().strip()


def build(home, commit, program="train_gpt2", say=lambda text: None):
    """The tree of a commit, with its programs; from now on, if it was built before."""
    check(home, commit, program)
    tree = os.path.join(home.trees, commit[:12])
    marker = os.path.join(tree, "build", "lab-built-" + program)
    with homes.locked(os.path.join(home.leases, "build-" + commit[:12])):
        if os.path.exists(marker):
            return tree
        if not os.path.exists(os.path.join(tree, "train_gpt2.cu")):
            write_tree(home, commit, tree)
        os.makedirs(os.path.join(tree, "build"), exist_ok=True)
        say("builds %s" % commit[:12])
        for command in commands(program):
            with home.lent(tree):
                done = subprocess.run(command, cwd=tree, shell=True, env=homes.environment(), preexec_fn=home.drop, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
            if done.returncode:
                errors = [line for line in done.stdout.splitlines() if "error" in line] or done.stdout.strip().splitlines() or ["exit %d" % done.returncode]
                raise LabError("%s does not build: %s" % (commit[:12], errors[0]))
        homes.write_file(marker, os.environ.get("LAB_BUILD", "") + "\n")
    return tree


def commands(program):
    if os.environ.get("LAB_BUILD"):
        return [os.environ["LAB_BUILD"]]
    return ["make -f Makefile " + program, "%s %s -x c++ %s -o build/evaluate" % (os.environ.get("CXX", "g++"), FLAGS, shlex.quote(EVALUATE))]


def lines_added(home, base, commit):
    """Lines of code that a commit has more than its base, without tests and notes; fewer are negative."""
    total = 0
    for line in git(home.checkout, "diff", "--no-ext-diff", "--no-textconv", "--numstat", base, commit, "--", ".", ":!test", ":!dev", ":!doc", ":!*.md").splitlines():
        added, removed = line.split("\t")[:2]
        total += int(added) - int(removed) if added != "-" else 0
    return total


def files_changed(home, base, commit):
    return git(home.checkout, "diff", "--no-ext-diff", "--no-textconv", "--name-only", base, commit).splitlines()


def idea_of(home, base, commit):
    """The change itself, without comments, blanks and places: what is equal in two commits that try the same again."""
    lines = git(home.checkout, "diff", "--no-ext-diff", "--no-textconv", "-U0", base, commit, "--", ".", ":!test", ":!doc", ":!*.md").splitlines()
    kept = [re.sub(r"\s+", "", re.sub(r"//.*", "", line)) for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return "\n".join(line for line in kept if len(line) > 1)
