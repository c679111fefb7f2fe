"""test_report.py: the report is one page that needs nothing but itself and shows what ran, no more. Its charts are read back into numbers by their own axes."""
import os
import random
import re
import unittest
import xml.etree.ElementTree as ElementTree

from test_pages import EVIL, Lab

import home as homes  # noqa: E402: test_pages has set the path
import ledger
import pages
import record
import report
import svg
from curves import Curve


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
            self.event("scale", **{"try": number}, word=EVIL, second=EVIL, by=EVIL)
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

    def test_pairs_of_a_look_are_the_first_that_were_planned(self):
        """Not those of the least seeds, nor base.10 before base.2; what ran behind the last look waits for the next."""
        self.try_of(seeds=())
        for i, seed in zip((1, 2, 3, 10), (70, 60, 50, 1)):
            for arm, loss in (("base", 1.5), ("variant", 1.0 if i < 10 else 9.0)):
                folder = os.path.join(self.home.tries, "0001-no-bias", "%s.%d" % (arm, i))
                os.makedirs(folder)
                record.write(record.Run(arm=arm, seed=seed, curve=self.curve(loss)), os.path.join(folder, "run.json"))
        arms = report.runs_of(self.home, "0001")
        self.assertEqual([run.seed for run in arms["variant"]], [70, 60, 50, 1])
        self.assertEqual(report.difference_series(arms, "tokens").name, "mean of 3 pairs")
        self.assertGreater(report.difference_series(arms, "tokens").points[-1][1], 0.4)

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
