"""Runs as files and as curves: interpolated within what ran, never beyond."""
import os
import random
import tempfile
import unittest

import bank  # noqa: F401, finds dev/lab
import record
from curves import AXES, Curve, multiplier
from record import LabError, Point, Run


def run(points, arm="base", seed=1):
    """Of (step, loss): 10 tokens, 30 FLOPs and half a second a step."""
    return Run(arm, seed, curve=[Point(s, 10 * s, 30 * s, 0.5 * s, loss) for s, loss in points])


class Curves(unittest.TestCase):
    def test_exact_on_linear_pieces(self):
        c = Curve(run([(0, 6.0), (10, 4.0), (40, 1.0)]))
        for axis, a_step in zip(AXES, (10, 30, 0.5)):
            for step, loss in ((0, 6), (5, 5), (10, 4), (20, 3), (39, 1.1), (40, 1)):
                self.assertAlmostEqual(c.at(axis, step * a_step), loss, 12)
                if loss < 6:
                    self.assertAlmostEqual(c.cost(axis, loss), step * a_step, 10)
            self.assertEqual(c.end(axis), 40 * a_step)
        self.assertEqual([c.at("tokens", x) for x in (0, 100, 400)], [6, 4, 1])   # the validations themselves, to the bit

    def test_at_and_cost_are_inverse(self):
        rng = random.Random(1)
        for _ in range(100):
            losses = sorted((rng.uniform(1, 6) for _ in range(7)), reverse=True)
            c = Curve(run(list(enumerate(losses))))
            budget = rng.uniform(0.001, 60)
            self.assertAlmostEqual(c.cost("tokens", c.at("tokens", budget)), budget, 8)

    def test_never_extrapolated(self):
        c = Curve(run([(10, 4.0), (40, 1.0)]))
        for budget in (0, 99.999, 400.001, 1e9):
            self.assertIsNone(c.at("tokens", budget))
        for loss in (0.999, -1, 4.0, 5.0):   # not reached; and so early that nobody looked
            self.assertIsNone(c.cost("tokens", loss), loss)

    def test_a_lucky_dip_is_no_arrival(self):
        c = Curve(run([(0, 6.0), (10, 2.0), (20, 4.0), (30, 2.0)]))
        self.assertEqual(c.cost("tokens", 3.0), 250)
        self.assertEqual(c.cost("tokens", 2.0), 300)

    def test_diverged_runs_end_where_they_diverged(self):
        for bad in (None, float("nan"), float("inf")):
            c = Curve(run([(0, 6.0), (10, 4.0), (20, bad), (30, 3.0)]))
            self.assertTrue(c.diverged)
            self.assertEqual((c.loss, c.end("tokens")), (4, 100))
            self.assertIsNone(c.at("tokens", 150))

    def test_out_of_order_is_one_line(self):
        good = run([(0, 6.0), (10, 4.0), (20, 3.0)])
        Curve(good)
        for field in range(4):
            for value in (good.curve[1][field], good.curve[0][field], good.curve[1][field] * 0.5):   # repeated, or before
                bad = run([(0, 6.0), (10, 4.0), (20, 3.0)])
                bad.curve[2] = bad.curve[2]._replace(**{Point._fields[field]: value})
                with self.assertRaises(LabError) as e:
                    Curve(bad)
                self.assertEqual(len(str(e.exception).splitlines()), 1)
                self.assertIn("step", str(e.exception))
        for points in ([], [(0, None)]):
            with self.assertRaisesRegex(LabError, "no validation"):
                Curve(run(points))

    def test_multiplier(self):
        base, quick = Curve(run([(0, 6.0), (40, 2.0)])), Curve(run([(0, 6.0), (20, 2.0), (40, 1.0)]))
        for axis in AXES:
            self.assertAlmostEqual(multiplier(base, quick, axis), 2)
            self.assertAlmostEqual(multiplier(quick, base, axis), 0.5)
            self.assertEqual(multiplier(base, base, axis), 1)
        self.assertIsNone(multiplier(base, Curve(run([(10, 1.5), (40, 1.0)])), "tokens"))   # when it came to 2.0 nobody saw


class Files(unittest.TestCase):
    def test_there_and_back(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "run.json")
            r = run([(0, 6.0), (10, float("nan"))])
            r.hashes, r.options, r.peak_mib = {"data": "ab"}, {"seed": "1"}, float("inf")
            record.write(r, path)
            back = record.read(path)
            self.assertEqual((back.curve[0], back.curve[1].loss, back.peak_mib, back.hashes), (r.curve[0], None, None, r.hashes))
            record.write(back, path)
            self.assertEqual(record.read(path), back)
            self.assertEqual(os.listdir(folder), ["run.json"])

    def test_damage_is_one_line(self):
        good = record.to_json(run([(0, 6.0)]))
        for text in ("", "[]", good[:-20], good.replace('"seed": 1', '"seed": 1.5'), good.replace('"seed": 1', '"seed": true'), good.replace('"arm"', '"arms"'),
                     good.replace('"seed": 1,', ""), good.replace("6.0", '"6.0"'), good.replace("6.0", "6.0, 7"), good.replace("6.0", "NaN"),
                     good.replace('"rc": 0', '"rc": null'), good.replace('"seconds": null', '"seconds": true'), good.replace('"rc": 0', '"rc": 0, "x": "1"')):
            self.assertNotEqual(text, good)
            with self.assertRaises(LabError) as e:
                record.from_json(text)
            self.assertEqual(len(str(e.exception).splitlines()), 1)
        with self.assertRaisesRegex(LabError, "No such file"):
            record.read("/nowhere/run.json")


if __name__ == "__main__":
    unittest.main()
