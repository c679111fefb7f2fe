"""test_pages.py: the standup leaves nothing out and counts nothing twice, and `seen` finds what was tried."""
import collections
import contextlib
import io
import os
import random
import re
import shutil
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "dev/lab"))
import home as homes
import ledger
import pages
import record

EVIL = '<script>alert("1")</script>&amp;\'\x1b[2J\x07'


class Lab(unittest.TestCase):
    """A lab of which only the ledger is there."""
    def setUp(self):
        root = tempfile.mkdtemp(prefix="lab-pages-")
        self.addCleanup(shutil.rmtree, root)
        os.makedirs(os.path.join(root, "private"))
        self.home = homes.Home(os.path.join(root, "lab"), ROOT, os.path.join(root, "private"))
        for folder in (self.home.root, self.home.tries, self.home.cards):
            os.makedirs(folder)
        homes.write_json(os.path.join(self.home.root, "settings.json"), {"checkout": ROOT, "private": self.home.private})
        for name, value in (("LAB_HOME", self.home.root), ("LAB_WHO", "ada")):
            before = os.environ.get(name)
            os.environ[name] = value
            self.addCleanup(lambda n=name, b=before: os.environ.pop(n) if b is None else os.environ.__setitem__(n, b))

    def event(self, kind, **fields):
        return ledger.append(self.home, kind, **fields)

    def begin(self, number, branch="b", hypothesis="h", **fields):
        self.event("try-begins", **{"try": number}, branch=branch, hypothesis=hypothesis, axis="tokens", effect=0.01, **fields)

    def run_of(self, number, arm, seed, rc=0, seconds=2.0):
        self.event("run", **{"try": number}, arm=arm, seed=seed, rc=rc, seconds=seconds)

    def verdict(self, number, word, effect=0.02, lo=0.01, hi=0.03, **fields):
        self.event("verdict", **{"try": number}, word=word, effect=effect, lo=lo, hi=hi, **fields)

    def curve(self, loss, points=10, step=100, fall=2.0):
        """Validations of a run that ends with this loss, after points * step steps of 64 tokens."""
        return [record.Point(i * step, i * step * 64.0, i * step * 64e4, i * step * 0.01, loss + fall * (1 - i / points) ** 4) for i in range(points + 1)]

    def run_file(self, number, branch, arm, seed, curve, rc=0):
        folder = os.path.join(self.home.tries, "%s-%s" % (number, branch), "%s.%d" % (arm, seed))
        os.makedirs(folder, exist_ok=True)
        record.write(record.Run(arm=arm, seed=seed, rc=rc, curve=curve), os.path.join(folder, "run.json"))

    def standup(self, since="", until="9"):
        return "\n".join(pages.standup(ledger.entries(self.home), since, until, ledger.check(self.home)))

    def say(self, verb, *arguments, **options):
        """(exit code, what a verb prints)"""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            rc = verb(self.home, *arguments, **options) or 0
        return rc, out.getvalue()


def recount(test, path, page):
    """Is every figure of a standup of all hours what the lines of the ledger say, counted by other means?"""
    with open(path) as f:
        lines = f.read().splitlines()
    of = lambda line, key: re.search(r" %s=(\S+)" % key, line).group(1).strip('"')
    runs = [line for line in lines if " kind=run " in line]
    begun = {of(line, "try"): line for line in lines if " kind=try-begins " in line}
    words = {of(line, "try"): of(line, "word") for line in lines if " kind=verdict " in line}
    lost = {of(line, "try") for line in lines if " kind=lost " in line}
    told = {of(line, "try") for line in lines if " kind=scale " in line}
    confirmed = {of(line, "try") for line in lines if " kind=scale " in line and " word=WIN " in line}
    counts = collections.Counter(words.values())

    seconds, failed = sum(float(of(line, "seconds")) for line in runs), sum(of(line, "rc") != "0" for line in runs)
    spent = "%.0f s" % seconds if seconds < 100 else "%.0f min" % (seconds / 60)
    test.assertIn("cost     %s of devices, %d runs (%d to tune, %d failed)\n" % (spent, len(runs), sum(" arm=trial " in line for line in runs), failed), page)
    test.assertIn("wins     %d of %d tries so far, %d of them PROVISIONAL" % (counts["WIN"], len(begun), sum(w == "WIN" and n not in confirmed for n, w in words.items())), page)
    levels = 0.0   # e-LOND's formula again: alpha gamma_t (wins so far + 1)
    for i, line in enumerate(begun.values(), 1):
        before = sum(" kind=verdict " in other and " word=WIN " in other for other in lines[:lines.index(line)])
        levels += 0.05 * (i ** -0.5 - (i + 1) ** -0.5) * (before + 1)
    test.assertIn("at most %.3f" % levels, page)
    expected = ["%d %s" % (counts[w], w) for w in pages.WORDS if counts[w] or w == "WIN"] + ["%d running\n" % (len(begun) - len(words))]
    test.assertIn("tries    %d: " % len(begun) + ", ".join(expected), page)
    parts = dict(part.split("\n", 1) for part in page.split("\n\n")[1:])
    for number, line in begun.items():
        section = "learnt" if number in words else "runs now"
        test.assertEqual(len(re.findall("^  %s " % number, parts[section], re.M)), 1, number)
        if number in words:
            test.assertIn("  %s %s" % (number, words[number]), parts["learnt"])
            test.assertEqual("\n  %s holds at one scale" % number in "\n" + parts.get("next", ""), words[number] == "WIN" and number not in told)
        test.assertEqual("  %s was interrupted" % number in parts.get("next", ""), number in lost and number not in words)


class StandupTest(Lab):
    def test_an_empty_ledger(self):
        page = self.standup()
        self.assertIn("tries    0: 0 WIN, 0 running", page)
        self.assertIn("at most 0.000", page)
        self.assertIn("0 events, head none", page)

    def test_every_try_has_its_line_and_every_run_its_cost_once(self):
        """A day at random, beside a count of the ledger's lines by other means."""
        dice = random.Random(74)
        for i in range(60):
            number = "%04d" % (i + 1)
            self.begin(number, branch="idea-%d" % i)
            for seed in range(dice.randrange(5)):
                for arm in ("base", "variant"):
                    self.run_of(number, arm, seed, rc=dice.choice([0, 0, 0, 1, -9]), seconds=dice.uniform(0, 9))
            self.event("look", **{"try": number}, pairs=3, seconds=1000)   # not the cost of a run
            end = dice.choice(pages.WORDS + ["lost", "running"])
            if end == "lost":
                self.event("lost", **{"try": number}, what="killed in seed %d" % i)
            elif end != "running":
                self.verdict(number, end, seconds=1000, reasons="reason-%d" % i)
                if end == "WIN" and dice.random() < 0.7:
                    self.event("scale", **{"try": number}, first="tiny", second="small", by="0099", word=dice.choice(["WIN", "PROVISIONAL"]), seconds=1000)
        for i in range(5):
            self.event("run", arm="trial", seed=i, seconds=1.5, rc=0)
        self.event("trial", arm="base", seconds=1000)
        self.event("card", scale="tiny", seconds=1000)

        page = self.standup()
        recount(self, self.home.ledger, page)
        for e in ledger.entries(self.home, "verdict"):
            self.assertIn(e["reasons"], page)

    def test_pairs_are_seeds_of_which_both_ended(self):
        self.begin("0001")
        for arm, seed, rc in (("base", 1, 0), ("base", 2, 0), ("variant", 1, 0), ("variant", 2, 1), ("variant", 3, 0)):
            self.run_of("0001", arm, seed, rc)
        self.assertIn("(1 pairs so far)", self.standup())

    def test_what_lies_outside_of_the_time_is_not_in_its_cost(self):
        entries = [{"n": "1", "t": "2026-11-26T08:00:00Z", "kind": "try-begins", "try": "0001", "who": "ada", "branch": "old"},
                   {"n": "2", "t": "2026-11-26T08:00:00Z", "kind": "run", "try": "0001", "rc": "0", "seconds": "50"},
                   {"n": "3", "t": "2026-11-27T08:00:00Z", "kind": "verdict", "try": "0001", "word": "NULL"},
                   {"n": "4", "t": "2026-11-27T08:00:00Z", "kind": "run", "try": "0002", "rc": "0", "seconds": "7"}]
        page = "\n".join(pages.standup(entries, "2026-11-27T00:00:00Z", "2026-11-28T00:00:00Z"))
        self.assertIn("cost     7 s of devices, 1 runs", page)
        self.assertIn("  0001 NULL", page)   # it ended within
        self.assertIn("at most 0.015", page)   # of all tries so far
        later = "\n".join(pages.standup(entries, "2026-11-29", "2026-11-30"))
        self.assertIn("tries    0: 0 WIN", later)
        self.assertIn("0 of 1 tries so far", later)
        self.assertIn("at most 0.015", later)

    def test_a_second_scale_ends_what_is_provisional(self):
        self.begin("0001")
        self.verdict("0001", "WIN")
        self.assertIn("wins     1 of 1 tries so far, 1 of them PROVISIONAL", self.standup())
        self.begin("0002", confirms="0001")
        self.verdict("0002", "WIN")
        self.event("scale", **{"try": "0001"}, first="tiny", second="small", by="0002", word="WIN")
        page = self.standup()
        self.assertIn("wins     2 of 2 tries so far, 0 of them PROVISIONAL", page)
        self.assertIn("second scale, small: it holds, try 0002", page)
        self.assertNotIn("lab scale", page)

    def test_notes_are_what_was_learnt_or_comes_next(self):
        self.begin("0001")
        self.verdict("0001", "NULL")
        for text in ("rules out biases above 1.2 nats", "Next: the same at 4 layers"):
            self.event("note", **{"try": "0001"}, text=text)
        self.event("note", text="the machine is slow today")
        page = self.standup()
        self.assertIn("\n       rules out biases above 1.2 nats\n", page)
        self.assertIn("\nnext\n  0001 the same at 4 layers", page)
        self.assertIn("\nnoted\n  ada: the machine is slow today\n", page)

    def test_a_damaged_ledger_is_said(self):
        self.begin("0001", hypothesis="as-it-was")
        self.begin("0002")
        with open(self.home.ledger) as f:
            text = f.read()
        with open(self.home.ledger, "w") as f:
            f.write(text.replace("as-it-was", "as-it-is", 1))
        self.assertIn("DAMAGED", self.standup())
        self.assertEqual(self.say(pages.print_ledger, check=True)[0], 1)

    def test_words_cannot_move_the_cursor(self):
        self.begin("0001", branch=EVIL, hypothesis=EVIL + "\nwins     9 of 9 tries")
        self.verdict("0001", "NULL", reasons=EVIL)
        self.event("note", **{"try": "0001"}, text=EVIL)
        for rc, out in (self.say(pages.print_standup, 0), self.say(pages.print_ledger), self.say(pages.print_seen, ["script"])):
            self.assertEqual(rc, 0)
            self.assertFalse([c for c in out if not c.isprintable() and c != "\n"])
            self.assertFalse(re.search("^wins     9", out, re.M))


class SeenTest(Lab):
    def setUp(self):
        super().setUp()
        for number, branch, hypothesis in (("0001", "no-bias", "biases of linear layers do nothing"), ("0002", "rope", "rotary positions copy names"), ("0003", "softcap", "the logit softcap is a barnacle"),
                                           ("0004", "norms", "RMSNorm without its bias")):
            self.begin(number, branch, hypothesis)
        self.verdict("0002", "LOSS")
        self.event("note", **{"try": "0002"}, text="loses where names are long")

    def found(self, *words):
        rc, out = self.say(pages.print_seen, words)
        return rc, re.findall(r"^  (\d{4}) ", out, re.M)

    def test_found_by_branch_hypothesis_and_note(self):
        self.assertEqual(self.found("softcap"), (0, ["0003"]))
        self.assertEqual(self.found("ROTARY"), (0, ["0002"]))
        self.assertEqual(self.found("long"), (0, ["0002"]))

    def test_plurals_and_beginnings(self):
        self.assertEqual(self.found("bias"), (0, ["0004", "0001"]))      # the newest first
        self.assertEqual(self.found("biases"), (0, ["0004", "0001"]))
        self.assertEqual(self.found("soft"), (0, ["0003"]))
        self.assertEqual([pages.stem(w) for w in "biases norms loss losses bias focus passes axis layers muon".split()], "bias norm loss loss bias focus pass axis layer muon".split())

    def test_most_words_first(self):
        self.assertEqual(self.found("biases", "linear"), (0, ["0001", "0004"]))

    def test_a_failure_is_found_with_its_verdict(self):
        self.assertIn("0002 LOSS", self.say(pages.print_seen, ["rope"])[1])

    def test_what_was_not_tried(self):
        self.assertEqual(self.found("muon"), (1, []))
        self.assertEqual(self.found("of-a-kind-that-is-not-there"), (1, []))   # small words are in every sentence
        self.assertEqual(self.found("ban", "log"), (1, []))   # nor are three letters the beginning of all that begins with them
        with self.assertRaises(homes.LabError):
            self.found("...")


class LedgerTest(Lab):
    def test_an_event_a_line(self):
        self.begin("0001")
        self.run_of("0001", "base", 1)
        self.begin("0002", commit="0123456789" * 4)
        out = self.say(pages.print_ledger)[1].splitlines()
        self.assertEqual([line.split()[0] for line in out], ["1", "2", "3"])
        self.assertIn("try=0001 arm=base seed=1 rc=0 seconds=2", out[1])
        self.assertIn("commit=012345678901 ", out[2])
        self.assertIn("commit=" + "0123456789" * 4, self.say(pages.print_ledger, full=True)[1])
        self.assertEqual(len(self.say(pages.print_ledger, number_="0001")[1].splitlines()), 2)
        self.assertEqual(len(self.say(pages.print_ledger, kind="run")[1].splitlines()), 1)
        rc, out = self.say(pages.print_ledger, check=True)
        self.assertEqual((rc, out), (0, "3 events, each as it was written; head %s\n" % ledger.head(self.home)))


if __name__ == "__main__":
    unittest.main()
