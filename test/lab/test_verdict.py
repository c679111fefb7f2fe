"""Verdicts of made-up runs whose truth is known: each thing comes out as what it is."""
import json
import random
import unittest

import bank  # noqa: F401, finds dev/lab
from record import LabError, Point, Run
from verdict import Declared, judge

TOKENS = 128   # a step


def curve_of(steps, share, offset, a_token, speed, noise, rng):
    """A run that ends after this share of the baseline's 100 steps: the loss falls with tokens, and an offset and noise of its own are added."""
    points = []
    for i in range(0, 21):
        step = round(steps * share * i / 20)
        tokens = step * TOKENS
        loss = 2 + 4 / (1 + tokens / 800) ** 0.7 - (offset if step else 0) + noise * rng.gauss(0, 1)
        points.append(Point(step, tokens, tokens * a_token, step / speed, loss))
    return points


def runs(arm, n=16, steps=100, share=1.0, offset=0.0, a_token=1e6, speed=100.0, noise=0.002, rng=None, batch=TOKENS):
    rng = rng or random.Random(arm)
    return [Run(arm, seed, tokens_per_step=batch, parameters=1000, peak_mib=4.0,
                curve=curve_of(steps, share, offset, a_token, speed * (1 + 0.002 * rng.gauss(0, 1)), noise, rng)) for seed in range(1, n + 1)]


class Words(unittest.TestCase):
    def verdict(self, variant, axis="tokens", effect=0.003, base=None, n=16, **more):
        base = base or runs("base")
        return judge(base[:n], variant[:n], Declared(axis, effect), **more)

    def test_win(self):
        v = self.verdict(runs("variant", offset=0.01), lines=12)
        self.assertEqual(v.word, "WIN", v.to_text())
        row = v.row("tokens")
        self.assertTrue(0.003 < row.lo < 0.01 < row.hi < 0.017, row)
        self.assertTrue(all(r.multiplier > 1.005 and abs(r.spent - 1) < 0.005 for r in v.rows))
        self.assertIn("WIN (PROVISIONAL", v.to_text())
        self.assertIn("lines of code +12", v.to_text())

    def test_loss(self):
        for axis in ("tokens", "flops", "seconds"):
            v = self.verdict(runs("variant", offset=-0.01), axis)
            self.assertEqual(v.word, "LOSS")
            self.assertLess(v.row(axis).hi, 0)
            self.assertEqual(v.evidence, 0)

    def test_null(self):
        self.assertEqual(self.verdict(runs("variant"), effect=0.01, n=8).word, "NULL")   # shown to be less
        v = self.verdict(runs("variant", noise=0.02))
        self.assertEqual(v.word, "NULL")
        self.assertIn("not shown to be above 0 with 16 pairs", v.reasons[0])
        v = self.verdict(runs("variant", offset=0.006), effect=0.008)                   # above 0, but not worth it
        self.assertEqual(v.word, "NULL")

    def test_a_simplification_may_lose_its_margin_and_no_more(self):
        """Below 0 an effect is a margin of non-inferiority."""
        v = self.verdict(runs("variant"), effect=-0.01)            # nothing is lost, and 3 pairs show that it is less than the margin
        self.assertEqual(v.word, "WIN", v.to_text())
        self.assertIn("declared: loses less than 0.01 nats", v.to_text())
        self.assertEqual(self.verdict(runs("variant"), effect=0.01).word, "NULL")
        self.assertEqual(self.verdict(runs("variant", offset=-0.004), effect=-0.01).word, "WIN")    # it loses, less than the margin
        self.assertEqual(self.verdict(runs("variant", offset=-0.008), effect=-0.003).word, "LOSS")  # more
        v = self.verdict(runs("variant", offset=-0.02), effect=-0.01)
        self.assertEqual((v.word, v.reasons), ("LOSS", ["tokens: shown to lose more than the declared 0.01"]))
        v = self.verdict(runs("variant", noise=0.05), effect=-0.01)                                 # too much noise to show it
        self.assertEqual((v.word, v.pairs), ("NULL", 16))
        self.assertIn("not shown to be above -0.01", v.reasons[-1])
        self.assertEqual(self.verdict(runs("base"), effect=-0.01, base=runs("base")).word, "NULL")  # it changes nothing at all
        # another axis may lose no more than the margin either
        dear = runs("variant", a_token=1.5e6)
        self.assertEqual(self.verdict(dear, effect=-0.01).word, "LOSS")
        self.assertEqual(self.verdict(runs("variant"), effect=-0.01, confounds=["batch: halved"]).word, "CONFOUNDED")
        self.assertEqual(self.verdict(runs("variant"), effect=-0.01, untuned="fewer trials").word, "UNTUNED")

    def test_undecided_until_the_last_look(self):
        variant = runs("variant", noise=0.02)
        self.assertEqual([self.verdict(variant, n=n).word for n in (0, 2, 3, 8, 15, 16)], ["", "", "", "", "", "NULL"])
        self.assertEqual([self.verdict(variant, n=n).pairs for n in (0, 2, 3, 8, 15, 16)], [0, 0, 3, 8, 8, 16])
        self.assertEqual(self.verdict(variant, n=15).rows, self.verdict(variant, n=8).rows)

    def test_above_zero_is_not_the_declared_effect(self):
        variant = runs("variant", offset=0.010, noise=0.004)
        self.assertEqual(self.verdict(variant, effect=0.003).word, "WIN")
        v = self.verdict(variant, effect=0.0115, base=runs("base", noise=0.004))
        self.assertGreaterEqual(v.evidence, v.needed)
        self.assertEqual(v.word, "NULL")

    def test_evidence_that_a_later_look_takes_back(self):
        """Three pairs show a gain above 0, but not the declared one; with five more the mean is large enough, and so uncertain that its interval holds 0."""
        base = [Run("base", i, tokens_per_step=TOKENS, curve=[Point(0, 0, 0, 0, 6), Point(100, 12800, 12800, 1, 3)]) for i in range(16)]
        better = [0.0090, 0.0091, 0.0089] + [0.3, -0.2, 0.25, -0.15, 0.1] + [0.02 * (-1) ** i + 0.02 for i in range(8)]
        variant = [Run("variant", i, tokens_per_step=TOKENS, curve=[Point(0, 0, 0, 0, 6), Point(100, 12800, 12800, 1, 3 - x)]) for i, x in enumerate(better)]
        v = self.verdict(variant, effect=0.01, base=base, n=8)
        row = v.row("tokens")
        self.assertTrue(v.evidence >= v.needed and row.effect >= 0.01 and row.lo < 0 < row.hi, v.to_text())
        self.assertEqual(v.word, "")
        v = self.verdict(variant, effect=0.01, base=base)
        self.assertEqual((v.word, v.reasons), ("NULL", ["tokens: above 0 by an earlier look, not by the last"]))

    def test_bitwise_equal_arms_are_null(self):
        base = runs("base")
        for axis in ("tokens", "flops", "seconds"):
            v = self.verdict([Run("variant", r.seed, tokens_per_step=TOKENS, curve=r.curve) for r in base], axis, base=base, n=3)
            self.assertEqual((v.word, v.evidence), ("NULL", 0))
            self.assertIn("equal to all digits", v.reasons[0])
            self.assertEqual([(r["lo"], r["hi"]) for r in json.loads(v.to_json())["rows"]], [(None, None)] * 3)   # -inf and inf: JSON has none

    def test_a_constant_difference_is_no_training(self):
        base = runs("base")
        better = [Run("variant", r.seed, tokens_per_step=TOKENS, curve=[p._replace(loss=p.loss - 0.1) for p in r.curve]) for r in base]
        v = self.verdict(better, base=base, n=3)
        self.assertEqual(v.word, "CONFOUNDED")
        self.assertTrue(v.reasons[0].startswith("constant: every difference is +0.1"), v.reasons)

    def test_untuned_is_said_of_wins_alone(self):
        why = "untuned: 1 trial for the baseline, 20 for the variant"
        v = self.verdict(runs("variant", offset=0.01), untuned=why)
        self.assertEqual((v.word, v.reasons), ("UNTUNED", [why]))
        self.assertEqual(self.verdict(runs("variant", offset=-0.01), untuned=why).word, "LOSS")

    def test_confounded_whatever_the_numbers_say(self):
        for offset in (0.01, 0, -0.01):
            v = self.verdict(runs("variant", offset=offset), confounds=["data: other shards"])
            self.assertEqual((v.word, v.reasons), ("CONFOUNDED", ["data: other shards"]))
        self.assertEqual(self.verdict([], base=runs("base", n=1), n=0, confounds=["data: other shards"]).word, "CONFOUNDED")

    def test_failed_runs_are_not_left_out(self):
        for n in (1, 16):
            variant = runs("variant", offset=0.01)
            variant[0].rc = -9
            self.assertEqual(self.verdict(variant, n=n).word, "LOSS")
            variant[0].rc = 0
            variant[0].curve[7] = variant[0].curve[7]._replace(loss=None)
            v = self.verdict(variant, n=n)
            self.assertEqual((v.word, v.reasons), ("LOSS", ["diverged: variant, seed 1: a loss that is not finite"]))
        base = runs("base")
        base[2].rc = 1
        self.assertEqual(self.verdict(runs("variant", offset=0.01), base=base).word, "CONFOUNDED")

    def test_the_level_is_that_of_the_session(self):
        variant, base = runs("variant", offset=0.002, noise=0.002), runs("base")
        of = lambda number, wins: judge(base, variant, Declared("tokens", 1e-4, number, wins))
        self.assertEqual(of(1, 0).word, "WIN")
        self.assertGreater(of(400, 0).needed, of(1, 0).needed * 1000)
        self.assertNotEqual(of(400, 0).word, "WIN")
        self.assertAlmostEqual(of(4, 3).needed, of(4, 0).needed / 4)
        self.assertEqual(judge(base, runs("variant", offset=0.01), Declared("tokens", 1e-4, 40, 0)).word, "WIN")

    def test_unpaired_runs_would_not_do(self):
        """Seeds that differ much, arms that differ little: only the differences of pairs show it; and the order of runs is not what pairs them."""
        rng, base, variant = random.Random(3), [], []
        for b, v in zip(runs("base", noise=0), runs("variant", noise=0.001, offset=0.005)):
            luck = rng.gauss(0, 0.3)
            for r, arm in ((b, base), (v, variant)):
                arm.append(Run(r.arm, r.seed, tokens_per_step=TOKENS, curve=[p._replace(loss=p.loss + luck) for p in r.curve]))
        self.assertEqual(self.verdict(variant, base=base).word, "WIN")
        rng.shuffle(variant)
        self.assertEqual(self.verdict(variant, base=base).word, "WIN")

    def test_mistakes_are_one_line(self):
        base, variant = runs("base"), runs("variant")
        ok = Declared("tokens", 0.003)
        for b, v, declared, words in ((base, variant[:15], ok, "seed 16 has no partner"), (base[:3], variant[1:4], ok, "seed 1 has no partner"),
                                      (base + base[:1], variant, ok, "a seed twice"), (base, variant, Declared("time", 0.003), "axis time"),
                                      (base, variant, Declared("tokens", 0.0), "effect 0.0"), (base, variant, Declared("tokens", float("nan")), "effect nan"),
                                      (base, variant, Declared("tokens", 0.1, 1, 1), "try 1 with 1 wins"),
                                      (base, variant, Declared("tokens", 0.1, looks=(8, 3)), "looks")):
            with self.assertRaisesRegex(LabError, words) as e:
                judge(b, v, declared)
            self.assertEqual(len(str(e.exception).splitlines()), 1)


class AsWhatTheyAre(unittest.TestCase):
    """What is bought with tokens, FLOPs or time is named in the table, and no WIN."""

    def test_a_wider_model(self):   # better a token, 1.5 times the FLOPs, 1.4 times the time
        for axis in ("tokens", "flops", "seconds"):
            share = {"tokens": 1, "flops": 1 / 1.5, "seconds": 1 / 1.4}[axis]
            v = judge(runs("base"), runs("variant", share=share, offset=0.03, a_token=1.5e6, speed=100 / 1.4), Declared(axis, 0.003))
            self.assertEqual(v.word, "LOSS", v.to_text())
            self.assertGreater(v.row("tokens").lo, 0)
            self.assertGreater(v.row("tokens").multiplier, 1)
            self.assertLess(v.row("flops").hi, -0.003)
            self.assertLess(v.row("flops").multiplier, 1)
            self.assertAlmostEqual(v.row("flops").spent / v.row("tokens").spent, 1.5, 3)
        v = judge(runs("base"), runs("variant", offset=0.03, a_token=1.5e6, speed=100 / 1.4), Declared("tokens", 0.003))
        self.assertTrue(any(r.startswith("flops: ") for r in v.reasons) and any(r.startswith("seconds: ") for r in v.reasons), v.reasons)

    def test_a_longer_run(self):
        for axis in ("tokens", "flops", "seconds"):
            v = judge(runs("base"), runs("variant", share=1.3), Declared(axis, 0.003))
            self.assertEqual(v.word, "CONFOUNDED")
            self.assertRegex(v.reasons[0], f"^budget: {axis} 1\\.(29|30).* times the baseline's")
            self.assertAlmostEqual(v.row("tokens").spent, 1.3, 9)
            self.assertLess(abs(v.row("tokens").effect), 0.005)   # read at the baseline's end: nothing is won by going on

    def test_a_little_longer_is_cut_too(self):   # within what a clock may differ by, but not what the loss is read at
        v = judge(runs("base"), runs("variant", share=1.04), Declared("seconds", 0.003))
        self.assertNotEqual(v.word, "WIN", v.to_text())
        self.assertLess(v.row("seconds").effect, 0.002)

    def test_a_baseline_that_ran_a_little_longer_is_not_cut(self):   # between validations the line lies above the curve: it would look worse
        base = runs("base", share=1.03, noise=0)
        v = judge(base, runs("variant", noise=0.0001), Declared("seconds", 0.003))
        self.assertAlmostEqual(v.row("seconds").effect, base[0].curve[-1].loss - runs("variant", noise=0)[0].curve[-1].loss, 3)

    def test_a_run_that_was_stopped_early(self):
        for base, variant in ((0.9, 1), (1, 0.9)):
            v = judge(runs("base", share=base), runs("variant", share=variant), Declared("tokens", 0.003))
            self.assertEqual(v.word, "CONFOUNDED")

    def test_a_halved_batch_under_a_time_budget(self):   # half the tokens a step, nearly as many tokens in all, and better for it at equal time
        base, variant = runs("base"), runs("variant", share=0.95, offset=0.05, speed=95, batch=TOKENS // 2)
        v = judge(base, variant, Declared("seconds", 0.003))
        self.assertEqual((v.word, v.reasons), ("CONFOUNDED", ["batch: tokens a step 128 -> 64"]))
        self.assertGreater(v.row("seconds").lo, 0)
        self.assertAlmostEqual(v.row("tokens").spent, 0.95, 2)
        self.assertEqual(judge(base, variant, Declared("seconds", 0.003), confounds=["batch: 4 -> 2"]).reasons, ["batch: 4 -> 2"])   # said once

    def test_a_quicker_program(self):   # the same losses a token in 0.8 of the time
        v = judge(runs("base"), runs("variant", share=1.25, speed=125), Declared("seconds", 0.003))
        self.assertEqual(v.word, "WIN", v.to_text())
        self.assertGreater(v.row("seconds").multiplier, 1.1)
        self.assertLess(abs(v.row("tokens").effect), 0.003)

    def test_cheaper_and_better_loses_nowhere(self):   # it ends where the baseline has not yet come down: no false LOSS
        v = judge(runs("base"), runs("variant", offset=0.02, a_token=0.8e6, speed=120), Declared("tokens", 0.003))
        self.assertEqual(v.word, "WIN", v.to_text())


class Text(unittest.TestCase):
    def test_json_and_text_say_the_same(self):
        v = judge(runs("base"), runs("variant", offset=0.01), Declared("flops", 0.003, 2, 1), lines=-30)
        d = json.loads(v.to_json())
        self.assertEqual((d["word"], d["declared"]["axis"], d["pairs"], d["lines"], d["parameters"]), ("WIN", "flops", 16, -30, [1000, 1000]))
        for r in d["rows"]:
            self.assertIn(f"{r['effect']:+.4f}", v.to_text())
            self.assertIn(f"{r['multiplier']:.3f}x", v.to_text())
        self.assertIn("lines of code -30", v.to_text())

    def test_unknown_is_a_question_mark(self):
        v = judge([], [], Declared("tokens", 0.003))
        self.assertEqual((v.word, v.pairs), ("", 0))
        self.assertIn("memory ? -> ? MiB", v.to_text())
        base = runs("base", n=3)
        late = [Run("variant", r.seed, curve=[p._replace(flops=p.flops + 1e12) for p in r.curve]) for r in base]
        for r in late + base:
            r.tokens_per_step = None
        v = judge(base, late, Declared("tokens", 0.003))   # FLOPs that do not overlap
        self.assertIsNone(v.row("flops").effect)
        self.assertRegex(v.to_text(), r"flops +\? +\? \.\. +\?")
        better = runs("variant", offset=0.01)
        for r in better:
            r.curve = [p._replace(flops=p.flops + 1e12) for p in r.curve]
        v = judge(runs("base"), better, Declared("tokens", 0.003))
        self.assertEqual((v.word, v.reasons[0]), ("NULL", "flops: ?"))   # whoever does not show that nothing else is lost has not won
        json.loads(v.to_json())


if __name__ == "__main__":
    unittest.main()
