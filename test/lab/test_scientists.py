"""test_scientists.py: eight scripted scientists do a day's tries without a person: each in its own worktree, by the verbs that a person has, two runs at a
time under leases. What the standup says of it is recounted from the ledger.

The trainer is a stand-in (standin.py); the branches, builds, leases, audits, verdicts and pages are real."""
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree as ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "dev/lab"), HERE]
import home as homes
import ledger
import record
from test_pages import recount

SCIENTISTS, TRIES = 8, 3
SCALE = {"options": "-l 0.001", "B": 2, "T": 8, "steps": 20, "val_every": 2, "val_batches": 8, "device": "gpu"}
SOURCE = "float effect = %gf;\nint broken = %d;\n"


class Day:
    """A small checkout, a lab, an org."""
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="lab-day-")
        self.checkout, self.lab_home, self.use = (os.path.join(self.folder, name) for name in ("checkout", "lab", "use"))
        os.makedirs(self.checkout)
        build = "mkdir -p build && cp '%s' train_gpt2 && cp train_gpt2 build/evaluate && chmod +x train_gpt2 build/evaluate" % os.path.join(HERE, "standin.py")
        self.env = dict(os.environ, HOME=self.folder, LAB_HOME=self.lab_home, LAB_PRIVATE=os.path.join(self.folder, "private"), LAB_BUILD=build, CUDA_VISIBLE_DEVICES="0,1", STANDIN_USE=self.use, PYTHONUNBUFFERED="1",
                        GIT_AUTHOR_NAME="chief", GIT_AUTHOR_EMAIL="c@lab", GIT_COMMITTER_NAME="chief", GIT_COMMITTER_EMAIL="c@lab")
        self.env.pop("LAB_WHO", None)
        self.write(self.checkout, 0.0)
        with open(os.path.join(self.checkout, ".gitignore"), "w") as f:
            f.write("/build/\n/train_gpt2\n")
        self.git(self.checkout, "init", "-q", "-b", "main", ".")
        self.git(self.checkout, "add", "-A")
        self.git(self.checkout, "commit", "-q", "-m", "a trainer")
        self.ok("init")
        self.write_scale()
        self.ok("card", "--scale", "day", "--seeds", "4")
        self.ok("org", "new", "day", "--roles", "chief,scientist*%d" % SCIENTISTS)

    def write_scale(self):
        dice, scale = random.Random(1), dict(SCALE)
        for part, size in (("train", 30000), ("val", 1000), ("holdout", 1000)):
            scale[part] = os.path.join(self.folder, part + "-source.txt")
            with open(scale[part], "w") as f:
                f.write("".join(dice.choice("aaaabcdeeeeefghiiijklmnnoooopqrrssttttuuvwxyz   ") for _ in range(size)))
        homes.write_json(os.path.join(self.lab_home, "scales", "day.json"), scale)

    def write(self, tree, effect, broken=0):
        with open(os.path.join(tree, "train_gpt2.cu"), "w") as f:
            f.write(SOURCE % (effect, broken))

    def git(self, tree, *arguments, **env):
        subprocess.run(["git", "-C", tree, *arguments], check=True, env=dict(self.env, **env), stdout=subprocess.DEVNULL)

    def start(self, *arguments, **env):
        return subprocess.Popen([sys.executable, os.path.join(ROOT, "dev/lab/lab"), *arguments], cwd=self.checkout, env=dict(self.env, **env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, universal_newlines=True)

    def ok(self, *arguments, rc=0, **env):
        process = self.start(*arguments, **env)
        text = process.communicate()[0]
        if process.returncode != rc:
            raise AssertionError("lab %s: exit %d\n%s" % (" ".join(arguments), process.returncode, text))
        return text


def ideas(i):
    """What scientist i tries: (effect, broken). Most ideas do nothing, some a little; one loses, one does not run."""
    return [(0.0003 * i + 0.0001, 0), ((0.0, 1) if i == 3 else (-0.02 if i == 5 else 0.0002 * i - 0.00005, 0)), (0.03 if i in (1, 6) else 0.0004 * i + 0.00002, 0)]


class ScientistsTest(unittest.TestCase):
    def scientist(self, i):
        """A day: seen, commit, try, note, a sentence to the chief; three times. The last try of the eighth is killed, and nobody goes on with it."""
        who, env = "scientist-%d" % i, {"LAB_WHO": "scientist-%d" % i, "GIT_AUTHOR_NAME": "scientist-%d" % i}
        tree = os.path.join(self.day.lab_home, "org/day", who, "tree")
        for k, (effect, broken) in enumerate(ideas(i)):
            words = "wavelength%dx%d" % (i, k)
            self.day.ok("seen", words, rc=1, **env)
            self.day.write(tree, effect, broken)
            self.day.git(tree, "commit", "-q", "-a", "-m", words, **env)
            command = ["try", "day/" + who, "--hypothesis", "%s moves theta by %g" % (words, effect), "--axis", "tokens", "--effect", "0.01", "--scale", "day"]
            if i == SCIENTISTS and k == TRIES - 1:
                return self.kill(self.day.start(*command, **env))
            out = self.day.ok(*command, **env)
            number = re.search(r"^try (\d{4}):", out, re.M).group(1)
            word = re.search(r"^(WIN|LOSS|NULL|UNTUNED|CONFOUNDED)", out, re.M).group(1)
            self.words[(i, k)] = word
            self.day.ok("note", "--try", number, "rules out", words, **env)
            self.day.ok("org", "say", "day", "chief", number, word, **env)
            self.assertIn(words, self.day.ok("seen", words, **env))

    def kill(self, process):
        """When two runs of it have ended."""
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("pair  2"):
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.assertEqual(process.returncode, -signal.SIGKILL, said)

    def guarded(self, i):
        try:
            self.scientist(i)
        except BaseException as why:   # of a thread: for the test to tell
            self.failures.append("scientist-%d: %s" % (i, why))

    def test_a_day(self):
        began, self.words, self.failures, self.day = time.monotonic(), {}, [], Day()
        self.addCleanup(shutil.rmtree, self.day.folder)
        threads = [threading.Thread(target=self.guarded, args=(i,)) for i in range(1, SCIENTISTS + 1)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(self.failures, [])
        home = homes.find(self.day.lab_home)
        entries = ledger.entries(home)

        with self.subTest("the ledger is whole, every try is in it once, by its scientist"):
            self.assertEqual(ledger.check(home), [])
            self.assertFalse([e for e in entries if "ledger:" in e.get("reasons", "")])   # nobody was told otherwise while others wrote
            begun = [e for e in entries if e["kind"] == "try-begins"]
            self.assertEqual([e["try"] for e in begun], ["%04d" % (n + 1) for n in range(SCIENTISTS * TRIES)])
            self.assertTrue(all(e["branch"] == "day/" + e["who"] for e in begun))
        with self.subTest("what does not run is a LOSS, what loses much no WIN, and most of the rest is nothing"):
            self.assertEqual(self.words[(3, 1)], "LOSS")
            self.assertNotEqual(self.words[(5, 1)], "WIN")
            self.assertLess(sum(word == "WIN" for word in self.words.values()), 4)
        with self.subTest("two runs at a time, never two on one device"):
            with open(self.day.use) as f:
                uses = sorted((float(begin), float(end), device) for device, begin, end in map(str.split, f))
            for device in "01":
                mine = [(b, e) for b, e, d in uses if d == device]
                self.assertGreater(len(mine), 20)
                self.assertTrue(all(end <= begin for (_, end), (begin, _) in zip(mine, mine[1:])), "two runs at once on device " + device)
            self.assertTrue(any(b2 < e1 and d1 != d2 for (_, e1, d1), (b2, _, d2) in zip(uses, uses[1:])), "never two at a time")
        with self.subTest("each run that ended has one event, with what it took"):
            files = [record.read(os.path.join(folder, name)) for folder, _, names in os.walk(self.day.lab_home) for name in names if name == "run.json"]
            events = [e for e in entries if e["kind"] == "run"]
            key = lambda arm, seed, seconds: (arm, int(seed), round(float(seconds), 4))
            self.assertEqual(sorted(key(r.arm, r.seed, r.seconds) for r in files), sorted(key(e["arm"], e["seed"], e["seconds"]) for e in events))
        with self.subTest("the standup is what the ledger says"):
            page = self.day.ok("standup", "--hours", "0")
            recount(self, home.ledger, page)
            self.assertIn("1 running\n", page)
            self.assertRegex(page, r"\n\nruns now\n  \d{4} scientist-8, day/scientist-8: .*  \(2 pairs so far\)\n")
            for i in range(1, SCIENTISTS + 1):
                for k in range(TRIES):
                    self.assertIn("wavelength%dx%d moves theta" % (i, k), page)
                    self.assertEqual("rules out wavelength%dx%d\n" % (i, k) in page, (i, k) != (SCIENTISTS, TRIES - 1))
        with self.subTest("the chief has a message a try, nobody else has any; nobody wrote on another's branch"):
            said = self.day.ok("org", "read", "day", LAB_WHO="chief")
            self.assertEqual(said.count("\nTo: chief\n"), SCIENTISTS * TRIES - 1)
            who = self.day.ok("org", "who", "day").splitlines()
            self.assertTrue(all("0 unread" in line and "(of " not in line for line in who), who)
            self.assertTrue(all("3 commits" in line for line in who[1:]), who)
        with self.subTest("the report has every try"):
            start = time.monotonic()
            self.day.ok("report", "-o", os.path.join(self.day.folder, "report.html"))
            seconds = time.monotonic() - start
            with open(os.path.join(self.day.folder, "report.html")) as f:
                text = f.read()
            page = ElementTree.fromstring(text.split("\n", 1)[1].replace(' xmlns="http://www.w3.org/1999/xhtml"', ""))
            self.assertEqual(len(list(page.iter("h3"))), SCIENTISTS * TRIES + 1)   # and the card
            self.assertLess(len(text), 1 << 20)
        if os.environ.get("LAB_TIMES"):
            print("a day: %.1f s, %d runs; page: %d bytes in %.2f s\n%s" % (time.monotonic() - began, sum(e["kind"] == "run" for e in entries), len(text), seconds, self.day.ok("standup", "--hours", "0")))


if __name__ == "__main__":
    unittest.main()
