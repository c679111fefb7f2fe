"""A user apart, lab init --runs-as: what comes from a branch, and a scientist at a shell, can read neither hold-out nor secret, and write neither card nor ledger nor programs; the tool can.
It takes a user of no name and no files: no account is made. Only root can do so."""
import os
import shutil
import subprocess
import unittest

from bench import CHECKOUT, MINI, Bench

import cheats  # noqa: E402: bench has set the path
import confounds
import home as homes
import ledger
import record

NOBODY = 54321

# What a branch's build and its run try; each line that succeeds is a hole.
ATTEMPTS = """
for f in "$P/mini.holdout.bin" "$P/secret" "$P/heads"; do cat "$f" > /dev/null 2>&1 && echo "HOLE: reads $f"; done
ls "$P" > /dev/null 2>&1 && echo "HOLE: lists the private folder"
for f in "$L/ledger.logfmt" "$L/settings.json" "$L"/cards/*.json "$L"/tries/*/plan.json "$L"/data/mini/train.bin "$L"/trees/BASE/train_gpt2 "$L"/trees/BASE/build/evaluate; do
    (echo x >> "$f") 2> /dev/null && echo "HOLE: writes $f"
done
for d in "$L" "$L/cards" "$L/tries" "$L/data" "$L/data/mini" "$L/leases" "$L/scales"; do (echo x > "$d/planted") 2> /dev/null && echo "HOLE: makes a file in $d"; done
mv "$L/cards" "$L/cards.old" 2> /dev/null && echo "HOLE: moves the cards"
echo "tried as $(id -u) of $(id -G)"
"""


@unittest.skipUnless(hasattr(os, "geteuid") and os.geteuid() == 0, "only root can run something as another user")
class UserTest(unittest.TestCase):
    def setUp(self):
        self.bench = bench = Bench()
        self.addCleanup(bench.remove)
        os.chmod(bench.folder, 0o755)
        program = os.path.join(bench.folder, "program")   # where others may read it, wherever this checkout lies
        shutil.copy(cheats.program(CHECKOUT), program)
        for folder in (bench.root, bench.environment["LAB_PRIVATE"]):
            shutil.rmtree(folder)
        build = bench.environment["LAB_BUILD"]
        with open(build) as f:
            text = f.read().replace(cheats.program(CHECKOUT), program)
        with open(build, "w") as f:
            f.write(text + "[ ! -f .hostile ] || sh .hostile > build/said 2>&1\n")
        os.chmod(build, 0o755)
        bench.ok("init", "--runs-as", str(NOBODY))
        os.mkdir(os.path.join(bench.root, "scales"))
        bench.scale("mini", MINI)
        bench.ok("card", "--scale", "mini", "--seeds", "2")
        bench.home().seed(1, 1)   # that makes the secret
        self.base = os.path.basename(next(p for p, _, names in os.walk(bench.root + "/trees") if "train_gpt2.cu" in names))
        self.attempts = ATTEMPTS.replace("$P", bench.environment["LAB_PRIVATE"]).replace("$L", bench.root).replace("BASE", self.base)

    def holes(self, text):
        self.assertIn("tried as %d of %d\n" % (NOBODY, NOBODY), text)
        self.assertEqual([line for line in text.splitlines() if "HOLE" in line], [])

    def test_what_comes_from_a_branch_is_another_user(self):
        bench, home = self.bench, self.bench.home()
        script = '%s\n"$real" "$@"\n' % self.attempts
        said = os.path.join(bench.folder, "open")
        os.mkdir(said)
        os.chmod(said, 0o777)
        evaluates = "sed -i '2i sh %s/look > %s/evaluated 2>\\&1' build/evaluate\n" % (said, said)   # the lab's evaluation, as the build leaves it
        with open(said + "/look", "w") as f:
            f.write(self.attempts)
        bench.branch("hostile", {".script": '#!/bin/sh\nreal=$(dirname "$0")/real\n' + script, ".hostile": self.attempts + evaluates})
        verdict = bench.try_("hostile", hypothesis="it looks around")
        # what ran is what it is: equal to the baseline, and looked at on the hold-out by the tool
        self.assertEqual((verdict["word"], verdict["reasons"]), ("NULL", ["the last losses are equal to all digits written: the change changes nothing"]))
        folder = os.path.join(bench.root, "tries", "0001-hostile")
        with open(folder + "/variant.1/run.log") as f:
            self.holes(f.read())
        with open(os.path.join(home.trees, verdict["commit"][:12], "build", "said")) as f:
            self.holes(f.read())
        with open(said + "/evaluated") as f:
            self.holes(f.read())
        self.assertIsNotNone(record.read(folder + "/variant.1/run.json").holdout_loss)
        self.assertEqual(ledger.check(home), [])
        for path in (folder + "/variant.1", os.path.join(home.trees, self.base), os.path.join(home.trees, verdict["commit"][:12], "train_gpt2")):
            self.assertEqual(os.stat(path).st_uid, 0, path)   # taken back after it ran

    def test_a_scientist_at_a_shell(self):
        done = subprocess.run(["sh", "-c", self.attempts], preexec_fn=lambda: (os.setgroups([]), os.setgid(NOBODY), os.setuid(NOBODY)), cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        self.holes(done.stdout)
        with open(self.bench.environment["LAB_PRIVATE"] + "/secret") as f:   # the tool's user can
            self.assertTrue(f.read())
        self.assertEqual(confounds.of_card(self.bench.home(), {"scale": "mini", "card": ledger.entries(self.bench.home(), "card")[0]["key"]}), [])

    def test_the_attempts_would_succeed_without_it(self):
        """As the lab's own user each finds its hole, so that none passes because it tries nothing."""
        self.bench.try_("main", hypothesis="nothing")
        out = subprocess.run(["sh", "-c", self.attempts], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True).stdout
        self.assertEqual(out.count("HOLE"), 3 + 1 + 7 + 7 + 1, out)   # reads, lists, writes, makes, moves

    def test_a_mistake_is_one_line(self):
        for user in ("0", "root", "no-such-user"):
            status, text = self.bench.lab("init", "--runs-as", user, LAB_HOME=self.bench.folder + "/other", LAB_PRIVATE=self.bench.folder + "/other-private")
            self.assertEqual((status, text.count("\n")), (2, 1), text)
            self.assertIn("--runs-as", text)
        child = os.fork()
        if not child:   # the tool without its user: it says so, and no more
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                ledger.append(self.bench.home(), "note", text="mine")
                os._exit(0)
            except (OSError, homes.LabError):
                os._exit(7)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if hasattr(os, "waitstatus_to_exitcode") else 7, 7)


if __name__ == "__main__":
    unittest.main()
