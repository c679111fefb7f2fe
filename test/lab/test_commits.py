"""The lab's own commits while others write in its folder: texts of an org that are edited, and a git command that holds the index."""
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from bench import LAB, git

import home as homes  # noqa: E402: bench has set the path
import ledger

# An editor that never rests: texts that grow and shrink, come and go, whole folders too, as editors and agents leave them. It ends when its standard input does.
EDITOR = """
import os, random, select, shutil, sys
folder, chance = sys.argv[1], random.Random(int(sys.argv[2]))
while not select.select([sys.stdin], [], [], 0)[0]:
    name = os.path.join(folder, "text%d-%s.md" % (chance.randrange(4), sys.argv[2]))
    kind = chance.randrange(4)
    if kind == 0 and os.path.exists(name): os.remove(name)
    elif kind == 1:
        with open(name, "w") as f:
            for i in range(20): f.write("x" * chance.randrange(20000)); f.flush(); f.truncate()
    elif kind == 2:
        sub = os.path.join(folder, "sub" + sys.argv[2]); os.makedirs(sub, exist_ok=True); open(os.path.join(sub, "a.md"), "w").write("a"); shutil.rmtree(sub)
    else:
        open(name + ".new", "w").write("y" * chance.randrange(100000)); os.rename(name + ".new", name)
"""


class CommitsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lab-commits-")
        self.addCleanup(shutil.rmtree, self.folder)
        os.mkdir(self.folder + "/checkout")
        self.home = homes.init(self.folder + "/lab", self.folder + "/checkout", self.folder + "/private")
        self.texts = os.path.join(self.home.root, "org", "small")
        os.makedirs(self.texts)

    def kept(self):
        return git(self.home.root, "ls-tree", "-r", "--name-only", "HEAD").split()

    def test_texts_are_edited_while_tries_commit(self):
        editors = [subprocess.Popen([sys.executable, "-c", EDITOR, self.texts, str(i)], stdin=subprocess.PIPE) for i in range(2)]
        try:
            for i in range(40):
                homes.write_json(os.path.join(self.home.tries, "%04d-x" % i, "plan.json"), {"try": i})
                ledger.append(self.home, "note", text="event %d" % i)
                self.home.commit("try %d" % i)   # a LabError would end the try
                self.assertIn("tries/%04d-x/plan.json" % i, self.kept())
                self.assertIn("event %d" % i, git(self.home.root, "show", "HEAD:ledger.logfmt").splitlines()[-1])
        finally:
            for editor in editors:
                editor.stdin.close()
                editor.wait()
        self.assertEqual([editor.returncode for editor in editors], [0, 0])
        self.home.commit("afterwards")
        self.assertEqual(sorted(f for f in self.kept() if f.startswith("org/")), sorted(os.path.relpath(os.path.join(path, name), self.home.root) for path, _, names in os.walk(self.texts) for name in names))
        self.assertEqual(git(self.home.root, "status", "--porcelain"), "")

    def test_another_git_command_holds_the_index(self):
        lock = os.path.join(self.home.root, ".git", "index.lock")
        open(lock, "w").close()
        code = "import os, sys, time; time.sleep(0.7); os.remove(sys.argv[1])"
        other = subprocess.Popen([sys.executable, "-c", code, lock])
        self.home.commit("waits")
        self.assertEqual(other.wait(), 0)
        self.assertEqual(git(self.home.root, "log", "-1", "--format=%s"), "waits")

    def test_an_index_that_nobody_gives_back_is_one_line(self):
        open(os.path.join(self.home.root, ".git", "index.lock"), "w").close()
        began = time.monotonic()
        with self.assertRaisesRegex(homes.LabError, "index.lock"):
            self.home.commit("never", patience=0.5)
        self.assertLess(time.monotonic() - began, 30)

    def test_a_persons_git_settings_do_not_end_it(self):
        """Signed commits, hooks: of people, not of this repository."""
        hook = os.path.join(self.home.root, ".git", "hooks", "pre-commit")
        os.makedirs(os.path.dirname(hook), exist_ok=True)
        with open(hook, "w") as f:
            f.write("#!/bin/sh\nexit 1\n")
        os.chmod(hook, 0o755)
        git(self.home.root, "config", "commit.gpgsign", "true")
        git(self.home.root, "config", "user.signingkey", "nobody")
        self.home.commit("unsigned")
        self.assertEqual(git(self.home.root, "log", "-1", "--format=%s"), "unsigned")


if __name__ == "__main__":
    unittest.main()
