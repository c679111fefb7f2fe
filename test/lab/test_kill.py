"""kill -9 of a try: the same command goes on, or --resume; what was lost is said; the verdict is that of a try that nobody killed. Two tries at once: they take turns."""
import json
import os
import signal
import subprocess
import time
import unittest

from bench import Bench

import ledger  # noqa: E402: bench has set the path


class KillTest(unittest.TestCase):
    def setUp(self):
        self.bench = Bench()
        self.addCleanup(self.bench.remove)
        self.bench.ok("card", "--scale", "mini", "--seeds", "2")
        self.bench.cheat("honest")

    def arguments(self, hypothesis):
        return ["try", "honest", "--hypothesis", hypothesis, "--axis", "tokens", "--effect", "0.01", "--scale", "mini"]

    def begin(self, hypothesis, who="ada"):
        return subprocess.Popen(self.bench.command(*self.arguments(hypothesis)), cwd=self.bench.checkout, env=dict(self.bench.environment, LAB_WHO=who), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def folder(self, number):
        tries = os.path.join(self.bench.root, "tries")
        for name in os.listdir(tries) if os.path.isdir(tries) else []:
            if name.startswith("%04d-" % number):
                return os.path.join(tries, name)
        return ""

    def wait_for(self, path):
        for _ in range(2000):
            if os.path.exists(path):
                return
            time.sleep(0.01)
        self.fail(path)

    def runs(self, number):
        """What each run that ended wrote, times too: one that was made anew has others."""
        out = {}
        for name in sorted(os.listdir(self.folder(number))):
            path = os.path.join(self.folder(number), name, "run.json")
            if os.path.exists(path):
                with open(path) as f:
                    out[name] = json.load(f)
        return out

    def test_killed_at_five_moments(self):
        """One try, killed again and again; one that nobody killed has other seeds, so its verdict's word and the number of runs must agree, and every run is there once."""
        moments = ["plan.json", "base.1/run.log", "variant.1/run.json", "variant.2/run.log", "base.3/out"]
        for moment in moments:
            child = self.begin("it helps")
            self.wait_for(os.path.join(self.folder(1) or os.path.join(self.bench.root, "tries", "0001-honest"), moment))
            child.send_signal(signal.SIGKILL)
            child.wait()
        kept = self.runs(1)
        self.assertIn("variant.1", kept)
        text = self.bench.ok("try", "--resume", "1")
        verdict = self.bench.verdict()
        self.assertEqual((verdict["try"], verdict["word"]), ("0001", "WIN"), text)
        after = self.runs(1)
        self.assertEqual({name: after[name] for name in kept}, kept)
        home = self.bench.home()
        self.assertEqual(ledger.check(home), [])
        lost = ledger.entries(home, "lost")
        self.assertGreaterEqual(len(lost), 2)
        self.assertTrue(any("variant.2" in e["what"] for e in lost) and any("base.3" in e["what"] for e in lost), lost)
        self.assertEqual(len(ledger.entries(home, "try-begins")), 1)
        self.assertEqual(len(ledger.entries(home, "verdict")), 1)
        # again: nothing is left to do, and nothing is counted twice
        self.bench.ok("try", "--resume", "1")
        self.assertEqual(len(ledger.entries(home, "verdict")), 1)
        self.assertEqual(self.bench.verdict()["word"], "WIN")

    def test_two_at_once(self):
        children = [self.begin("it helps, says %s" % who, who) for who in ("ada", "bob")]
        self.assertEqual([child.wait() for child in children], [0, 0])
        home = self.bench.home()
        self.assertEqual(ledger.check(home), [])
        self.assertEqual(sorted((e["try"], e["who"]) for e in ledger.entries(home, "verdict")), sorted((e["try"], e["who"]) for e in ledger.entries(home, "try-begins")))
        self.assertEqual({e["number"] if "number" in e else e["try"] for e in ledger.entries(home, "try-begins")}, {"0001", "0002"})
        # no two runs at a time: the whole machine is one lease
        spans = []
        for number in (1, 2):
            for name in os.listdir(self.folder(number)):
                path = os.path.join(self.folder(number), name, "evidence.json")
                if os.path.exists(path):
                    with open(path) as f:
                        spans.append(json.load(f)["span"])
        spans.sort()
        self.assertGreater(len(spans), 11)
        for (_, end), (begin, _) in zip(spans, spans[1:]):
            self.assertLessEqual(end, begin)

    def test_running_twice_is_refused(self):
        child = self.begin("it helps")
        self.wait_for(os.path.join(self.bench.root, "tries", "0001-honest", "base.1", "run.log"))
        status, text = self.bench.lab("try", "--resume", "1")
        self.assertEqual((status, "is running" in text), (2, True), text)
        self.assertEqual(child.wait(), 0)


if __name__ == "__main__":
    unittest.main()
