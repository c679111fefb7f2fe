"""test_pages.py: the standup leaves nothing out and counts nothing twice, `seen` finds what was tried, and the report is one page that shows what ran, no more."""
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
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "dev/lab"))
import home as homes
import ledger
import pages
import record
import report
import svg
from curves import Curve

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
        self.assertIn("second scale, small: WIN, try 0002", page)
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


def data_of(figure):
    """A chart back into numbers, by what its own axes say: {class: [(x, y)]} of its polylines."""
    places = {"x": [], "y": []}
    for text in figure.iter("text"):
        value = re.fullmatch(r"(-?[\d.]+)([KMGTPE]?)", text.text or "")
        if value:
            v = float(value.group(1)) * 1000.0 ** " KMGTPE".index(value.group(2) or " ")
            places["x" if text.get("class") == "mid" else "y"].append((float(text.get("x" if text.get("class") == "mid" else "y")), v))
    def value_at(axis, place):
        (p0, v0), (p1, v1) = places[axis][0], places[axis][-1]
        return v0 + (v1 - v0) * (place - p0) / (p1 - p0)
    return [(line.get("class"), [(value_at("x", float(x)), value_at("y", float(y) + 4)) for x, y in (point.split(",") for point in line.get("points").split())]) for line in figure.iter("polyline")]


class ReportTest(Lab):
    def page(self):
        """The page as a tree; that it is one is a test by itself."""
        self.text = report.draw(self.home, ledger.entries(self.home)).replace(' xmlns="http://www.w3.org/1999/xhtml"', "")
        return ElementTree.fromstring(self.text.split("\n", 1)[1])

    def try_of(self, number="0001", branch="no-bias", seeds=(1, 2, 3), base=1.25, variant=1.24, word="NULL", **curves):
        self.begin(number, branch, "without biases")
        for seed in seeds:
            self.run_file(number, branch, "base", seed, self.curve(base + 0.01 * seed))
            self.run_file(number, branch, "variant", seed, self.curve(variant + 0.01 * seed, **curves))
        if word:
            self.verdict(number, word)

    def figures(self, page, title):
        return [f for f in page.iter("figure") if f.find("figcaption/b").text == title]

    def test_the_page_needs_nothing_but_itself(self):
        self.try_of()
        page = self.page()
        for element in page.iter():
            self.assertNotIn(element.tag, ("script", "img", "iframe", "object", "embed", "form"))
            for name, value in element.attrib.items():
                self.assertTrue(not name.startswith("on") and name != "src" and (name != "href" or value == "data:,"), (element.tag, name, value))
        self.assertNotIn("url(", self.text)
        self.assertNotIn("@import", self.text)

    def test_what_was_typed_is_text(self):
        for number, branch in (("0001", "x<script>alert(1)</script>"), ("0002", 'a"onload="x')):
            self.begin(number, branch, EVIL)
            self.verdict(number, EVIL, reasons=EVIL)
            self.event("note", **{"try": number}, text=EVIL)
            self.event("lost", **{"try": number}, what=EVIL)
            self.event("scale", **{"try": number}, word=EVIL)
            homes.write_json(os.path.join(self.home.tries, number + "-x", "verdict.json"), {"reasons": [EVIL], "lines": EVIL, "rows": [{"axis": "tokens", "effect": 0.1, "lo": None, "hi": None}]})
        page = self.page()
        self.assertEqual([e.tag for e in page.iter() if e.tag == "script"], [])
        self.assertNotIn("<script", self.text)
        self.assertNotIn("\x1b", self.text)
        self.assertIn("alert", "".join(page.itertext()))
        self.assertFalse([e for e in page.iter() if any(name.startswith("on") for name in e.attrib)])

    def test_every_try_is_in_the_table(self):
        for i in range(30):
            self.begin("%04d" % (i + 1), "b%d" % i, "h%d" % i)
            if i % 3:
                self.verdict("%04d" % (i + 1), pages.WORDS[i % 5])
        page = self.page()
        rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")][1:]
        self.assertEqual([row[0] for row in rows], ["%04d" % (i + 1) for i in range(30)])
        self.assertEqual([row[1].split()[0] for row in rows], [pages.WORDS[i % 5] if i % 3 else "running" for i in range(30)])
        self.assertEqual(len(list(page.iter("h3"))), 30)

    def test_the_table_says_what_the_verdict_does(self):
        self.try_of()
        homes.write_json(os.path.join(self.home.tries, "0001-no-bias", "verdict.json"), {"parameters": [1000, 990], "memory": [20.04, 20.04], "lines": -3, "reasons": [], "rows": [
            {"axis": "tokens", "effect": 0.0123, "lo": 0.004, "hi": 0.0206, "multiplier": 1.071}, {"axis": "flops", "effect": -0.001, "lo": None, "hi": None, "multiplier": None}, {"axis": "seconds", "effect": None}]})
        row = ["".join(cell.itertext()) for cell in list(self.page().iter("tr"))[1]]
        self.assertEqual(row[8:14], ["+0.0123 [+0.0040, +0.0206] 1.071x", "-0.0010 [?, ?] ?", "? [?, ?] ?", "1000 \u2192 990", "20.0", "-3"])

    def test_a_curve_ends_where_the_shortest_of_its_runs_ended(self):
        self.try_of(seeds=(1, 2), word=None)
        self.run_file("0001", "no-bias", "variant", 3, self.curve(1.2)[:7])    # it stopped after 600 of 1000 steps
        self.run_file("0001", "no-bias", "variant", 4, self.curve(1.2, step=300))   # and one that went on for longer, a pair of none
        self.run_file("0001", "no-bias", "variant", 5, self.curve(0.1), rc=1)   # this one failed
        figure, = self.figures(self.page(), "at equal tokens")
        self.assertIn("variant, 4 seeds", "".join(figure.itertext()))
        lines = dict((css, points) for css, points in data_of(figure))
        self.assertAlmostEqual(lines["curve base"][-1][0], 64000, delta=400)
        self.assertAlmostEqual(lines["curve variant"][-1][0], 38400, delta=400)
        self.assertAlmostEqual(lines["curve variant"][0][0], 0, delta=400)

    def test_a_curve_is_the_mean_of_its_seeds(self):
        self.try_of()
        page = self.page()
        for title in ("at equal tokens", "at equal flops", "at equal seconds"):
            figure, = self.figures(page, title)
            lines = dict(data_of(figure))
            self.assertAlmostEqual(lines["curve base"][-1][1], 1.27, delta=0.002)
            self.assertAlmostEqual(lines["curve variant"][-1][1], 1.26, delta=0.002)
            texts = [t.text for t in figure.iter("text")]
            self.assertIn("validation loss, nats/token", texts)
            self.assertTrue({"tokens of training", "FLOPs of training", "seconds of training"} & set(texts))
        self.assertEqual("".join(figure.find("figcaption").itertext()).count("3 seeds"), 2)

    def test_differences_are_of_pairs_of_one_seed(self):
        self.try_of(seeds=(1, 2, 3))
        self.run_file("0001", "no-bias", "base", 9, self.curve(5.0))   # alone
        figure, = self.figures(self.page(), "differences of pairs")
        lines = data_of(figure)
        self.assertEqual([css for css, _ in lines], ["thin variant"] * 3 + ["curve variant"])
        for _, points in lines:
            self.assertAlmostEqual(points[-1][1], 0.01, delta=1e-3)   # up: the variant is better
        self.assertIn("mean of 3 pairs", "".join(figure.itertext()))

    def test_an_interval_needs_a_look(self):
        self.assertEqual(report.interval([0.1, 0.2]), ())
        low, high = report.interval([0.010, 0.011, 0.012])
        self.assertTrue(low < 0.010 and high > 0.012)
        eight = report.interval([0.010, 0.011, 0.012] + [0.011, 0.010, 0.012, 0.011, 0.011])
        self.assertTrue(low < eight[0] < 0.011 < eight[1] < high)
        # what lies behind the last look is not in it
        self.assertEqual(report.interval([0.010, 0.011, 0.012, 9.0]), (low, high))

    def test_what_all_reached(self):
        line = lambda *points: Curve(record.Run(arm="base", seed=1, curve=[record.Point(x, x, x, x, y) for x, y in points]))
        first = line((0, 4.0), (10, 2.0), (20, 1.5))
        self.assertEqual(report.common([first, line((15, 1.0), (16, 1.0), (30, 1.0))], "tokens"), [15, 20])
        self.assertEqual(report.common([first, line((25, 1.0))], "tokens"), [])
        self.assertEqual(report.common([], "tokens"), [])

    def test_a_curve_ends_where_it_diverged(self):
        self.try_of(seeds=(1, 2), word=None)
        curve = self.curve(1.2)
        curve[8] = curve[8]._replace(loss=None)
        self.run_file("0001", "no-bias", "variant", 3, curve)
        self.run_file("0001", "no-bias", "variant", 4, [curve[8]])   # at once: it has no curve
        figure, = self.figures(self.page(), "at equal tokens")
        self.assertAlmostEqual(dict(data_of(figure))["curve variant"][-1][0], 44800, delta=400)   # 700 steps of 64
        self.assertIn("variant, 3 seeds", "".join(figure.itertext()))

    def test_damage_is_on_it(self):
        self.assertIn("line 7 &lt;b&gt; was changed", report.draw(self.home, [], ["line 7 <b> was changed"]))

    def test_the_card_is_on_it(self):
        homes.write_json(os.path.join(self.home.cards, "tiny-abc.json"), {
            "scale": "tiny" + EVIL, "options": ["-e", "d1c32h2"], "seeds": 8, "bit_equal": False, "commit": "0123456789" * 4, "parameters": 12345, "tokens_per_s": {"mean": 1000.0, "sd": 10.0},
            "curve": [{"step": i, "tokens": 64.0 * i, "mean": 3.0 - i / 100, "sd": None if i == 0 else 0.02} for i in range(0, 101, 10)]})
        homes.write_json(os.path.join(self.home.cards, "tuned-tiny.json"), {"options": ["-l", "1e-3"]})
        page = self.page()
        figure, = self.figures(page, "the baseline")
        (css, points), = data_of(figure)
        self.assertAlmostEqual(points[-1][0], 6400, delta=40)
        self.assertAlmostEqual(points[-1][1], 2.0, delta=0.01)
        cells = {row[0].text: "".join(row[1].itertext()) for row in page.iter("tr") if len(row) == 2}
        self.assertEqual((cells["tokens/s"], cells["parameters"], cells["one seed twice"][:3]), ("1000 \xb1 10", "12345", "NOT"))

    def test_the_verb_writes_the_page(self):
        self.try_of()
        rc, out = self.say(report.write)
        self.assertEqual(rc, 0)
        path = os.path.join(self.home.root, "report.html")
        self.assertTrue(out.startswith(path))
        with open(path) as f:
            self.assertTrue(f.read().startswith("<!DOCTYPE html>\n<html"))


class SvgTest(unittest.TestCase):
    def test_ticks_are_round_and_inside(self):
        dice = random.Random(1)
        for _ in range(2000):
            low = dice.choice([0, -1, 1, 3.3]) * 10 ** dice.uniform(-6, 18)
            high = low + 10 ** dice.uniform(-4, 1) * (abs(low) or 1)
            marks = svg.ticks(low, high, 5)
            self.assertTrue(1 <= len(marks) <= 6, (low, high, marks))
            self.assertTrue(all(low - 1e-6 * abs(low) <= v <= high + 1e-6 * abs(high) for v, _ in marks), (low, high, marks))
            self.assertEqual(len({text for _, text in marks}), len(marks), (low, high, marks))

    def test_no_text_is_markup(self):
        self.assertEqual(svg.esc(EVIL), "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;amp;&#x27;\ufffd[2J\ufffd")
        ElementTree.fromstring("<a b='%s'>%s</a>" % ((svg.esc("".join(map(chr, range(0x3000))) + "\ud800\ufffe\uffff\U0001f600"),) * 2))

    def test_numbers_for_people(self):
        self.assertEqual([svg.human(v) for v in (0, 1, 999, 1000, 999999, 1.43e6, 2e12, 0.001234)], ["0", "1", "999", "1K", "1M", "1.43M", "2T", "0.00123"])

    def test_up_is_more_and_right_is_later(self):
        frame = svg.Frame((0, 10), (1, 2))
        self.assertLess(frame.px(0), frame.px(10))
        self.assertGreater(frame.py(1), frame.py(2))   # SVG counts from the top
        tree = ElementTree.fromstring(svg.forest("t", "x", [("a", "win", -1.0, 0.5, 2.0, 0.1), ("b", "null", None, -0.5, None, None)]))
        places = [float(c.get("cx")) for c in tree.iter("circle")]
        self.assertGreater(places[0], places[1])

    def test_a_wide_band_does_not_flatten_the_curves(self):
        s = svg.Series("x", "base", [(0, 3.0), (10, 1.0), (20, 1.1)], [(0, -90.0, 90.0), (20, -90.0, 90.0)])
        tree = ElementTree.fromstring(svg.chart("t", "x", "y", [s]))
        ys = [y for _, y in data_of(tree)[0][1]]
        self.assertAlmostEqual(ys[-1], 1.1, delta=0.01)
        texts = [t.text for t in tree.iter("text")]
        self.assertNotIn("-90", " ".join(t for t in texts if t))
        self.assertIn("not drawn", "".join(tree.itertext()))


if __name__ == "__main__":
    unittest.main()
