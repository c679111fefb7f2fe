"""e-values, bounds and levels: known values, expectations by simulation, and what the theorems say. Tolerances of simulations are 4 standard errors:
each such line fails by chance once in 16,000 other seeds, never with these."""
import math
import random
import unittest
from statistics import fmean as mean

import bank  # noqa: F401, finds dev/lab
from evalues import LOOKS, calibrated, e_value, harmonic, interval, level, needed_p, p_value, power, quantile, seeds_needed, stdev, tail


def normal(rng, n, effect=0.0):
    return [rng.gauss(effect, 1) for _ in range(n)]


def within(test, values, expected):
    error = 4 * stdev(values) / math.sqrt(len(values))
    test.assertLess(abs(mean(values) - expected), error, f"mean {mean(values)} of {len(values)}, expected {expected}, 4 standard errors {error}")


class StudentsT(unittest.TestCase):
    def test_tail_beside_numerical_integration(self):
        for v in (1, 2, 3, 7, 15, 50):
            for t in (0, 0.1, 1, math.sqrt(v), 3, 10, 100):
                # t = tan(u) sqrt(v): the density becomes cos(u)^(v-1) / B(v/2, 1/2), on a finite range; Simpson's rule, error below 1e-12 of the first value
                a, steps = math.atan(t / math.sqrt(v)), 4000
                h = (math.pi / 2 - a) / steps
                f = [math.cos(a + i * h) ** (v - 1) for i in range(steps + 1)]
                integral = h / 3 * (f[0] + f[-1] + 4 * sum(f[1:-1:2]) + 2 * sum(f[2:-1:2]))
                expected = integral * math.exp(math.lgamma((v + 1) / 2) - math.lgamma(v / 2) - math.lgamma(0.5))
                self.assertLess(abs(tail(t, v) / expected - 1), 1e-9, (t, v))

    def test_closed_forms(self):
        for t in (-3, -1, -0.1, 0, 0.1, 1, 5, 1e3, 1e6):
            self.assertLess(abs(tail(t, 1) - (0.5 - math.atan(t) / math.pi)), 1e-14)
            exact = 1 / (2 + t * t + t * math.sqrt(2 + t * t)) if t > 0 else 0.5 - t / (2 * math.sqrt(2 + t * t))
            self.assertLess(abs(tail(t, 2) / exact - 1), 1e-12)

    def test_quantiles(self):
        for p, v, t in ((0.025, 15, 2.13144955), (0.05, 2, 2.91998558), (0.005, 7, 3.49948330), (0.5, 3, 0)):   # from printed tables
            self.assertAlmostEqual(quantile(p, v), t, 7)
        for p in (0.3, 1e-3, 1e-9):
            self.assertAlmostEqual(tail(quantile(p, 7), 7) / p, 1, 9)

    def test_by_hand(self):   # mean 2, sd 1, t = 2 sqrt(3), v = 2: p = 1/2 - t / (2 sqrt(2 + t^2))
        self.assertAlmostEqual(p_value([1, 2, 3]), 0.5 - math.sqrt(12) / (2 * math.sqrt(14)), 12)
        self.assertAlmostEqual(p_value([-1, -2, -3]), 0.5 + math.sqrt(12) / (2 * math.sqrt(14)), 12)
        self.assertAlmostEqual(p_value([1, 2, 3], 2), 0.5, 12)


class OneTry(unittest.TestCase):
    def test_a_calibrator_integrates_to_one(self):
        for number in (1, 2, 5, 20):
            for looks in (LOOKS, (4,), (2, 4, 6, 8, 10)):
                step = level(number, 0) / harmonic(number) / len(looks)   # its steps are of this width
                values = [calibrated((j + 0.5) * step, number, looks) for j in range(number + 3)]
                self.assertAlmostEqual(sum(values) * step, 1 / len(looks), 12)
                self.assertEqual(values, sorted(values, reverse=True))
                self.assertEqual(values[number:], [0, 0, 0])

    def test_expectation_is_one_at_the_null_and_less_below(self):
        rng = random.Random(1)
        for number in (1, 3):   # alpha 0.5: values that are seen often enough to be averaged
            samples = [normal(rng, 16) for _ in range(6000)]
            at = [[e_value(d[:n], number, alpha=0.5) for d in samples] for n in LOOKS]
            for k, values in enumerate(at):
                within(self, values, (k + 1) / 3)
            below = [e_value([x - 0.1 for x in d], number, alpha=0.5) for d in samples]
            self.assertLess(mean(below) + 4 * stdev(below) / math.sqrt(len(below)), 1)

    def test_no_stopping_rule_makes_it_more(self):
        rng, stops = random.Random(2), {"high": [], "quiet": [], "mean": [], "greedy": []}
        for _ in range(6000):
            d = normal(rng, 16)
            first, second, last = (e_value(d[:n], alpha=0.5) for n in LOOKS)
            stops["high"].append(first if first > 0 else second if second > 0 else last)
            stops["quiet"].append(first if stdev(d[:3]) < 0.3 else last)
            stops["mean"].append(first if mean(d[:3]) > 0.5 else second if mean(d[:8]) > 0.3 else last)
            stops["greedy"].append(max(first, second, last))
            self.assertEqual([first, second, last], sorted([first, second, last]))   # what was seen stays
        for rule, values in stops.items():
            self.assertLess(mean(values), 1 + 4 * stdev(values) / math.sqrt(len(values)), rule)

    def test_looks_together_are_wrong_less_often_than_the_level(self):
        rng, n = random.Random(3), 6000
        for number in (1, 4):
            size = level(number, 0, 1.0)
            wrong = sum(any(e_value(d[:k], number, alpha=1.0) >= 1 / size for k in LOOKS) for d in (normal(rng, 16) for _ in range(n))) / n
            self.assertLess(wrong, size + 4 * math.sqrt(size * (1 - size) / n))
            self.assertGreater(wrong, size / harmonic(number) / 2)   # and not for nothing

    def test_an_interval_holds_what_its_look_does_not_reject(self):
        rng, share = random.Random(4), 0.025 / len(LOOKS)
        for _ in range(200):
            d = normal(rng, rng.choice(LOOKS), 0.5)
            lo, hi = interval(d)
            eps = 1e-6 * stdev(d)
            for bound, sign in ((lo, 1), (-hi, -1)):
                self.assertLess(p_value([sign * x for x in d], bound - eps), share)
                self.assertGreater(p_value([sign * x for x in d], bound + eps), share)

    def test_the_estimate_lies_in_its_interval(self):
        """That of the intersection of all looks does not always, and there may be nothing in it: a look that was sure, and a later one that says otherwise."""
        sure = [0.0100, 0.0101, 0.0099]
        d = sure + [0.05 + 0.001 * i for i in range(5)]
        (lo, hi), first = interval(d), interval(sure)
        self.assertTrue(lo < mean(d) < hi)
        self.assertLess(first[1], mean(d))
        rng, outside = random.Random(10), 0
        for _ in range(2000):
            d = normal(rng, 16)
            looks = [interval(d[:n]) for n in LOOKS]
            outside += not max(lo for lo, _ in looks) < mean(d) < min(hi for _, hi in looks)
            self.assertTrue(looks[-1][0] < mean(d) < looks[-1][1])
        self.assertGreater(outside, 0)

    def test_coverage_at_all_looks_together(self):
        rng, n, effect = random.Random(5), 4000, 0.7
        missed = lambda d: any(not lo < effect < hi for lo, hi in (interval(d[:k]) for k in LOOKS))
        share = sum(missed(normal(rng, 16, effect)) for _ in range(n)) / n
        self.assertLess(share, 0.05 + 4 * math.sqrt(0.05 * 0.95 / n))
        self.assertGreater(share, 0.02)   # three looks of 0.0167 each, which overlap

    def test_no_noise_is_no_evidence(self):
        for d in ([], [0.1], [0.0] * 16, [0.1] * 16, [0.1 + 1e-9 * i for i in range(16)], [1e-8, 3e-8, -2e-8] * 3):
            self.assertEqual((p_value(d), e_value(d)), (1, 0), d)
            self.assertEqual(interval(d), (-math.inf, math.inf))
        self.assertGreater(e_value([0.1, 0.101, 0.102]), 60)
        self.assertLess(e_value([-0.1, -0.101, -0.102]), 1e-9)

    def test_pairs_between_looks_are_not_looked_at(self):
        d = normal(random.Random(6), 16, 2)
        for n, before in ((2, 0), (7, 3), (15, 8), (16, 16)):
            self.assertEqual(e_value(d[:n]), e_value(d[:before]))
            self.assertEqual(interval(d[:n]), interval(d[:before]))

    def test_units_do_not_matter(self):
        d = normal(random.Random(7), 16, 1)
        self.assertEqual(e_value(d), e_value([1024 * x for x in d]))
        self.assertAlmostEqual(interval([x + 5 for x in d])[0], interval(d)[0] + 5, 9)


class Session(unittest.TestCase):
    def test_levels_sum_to_alpha(self):
        for n in (1, 10, 1000):
            self.assertAlmostEqual(sum(level(t, 0) for t in range(1, n + 1)), 0.05 * (1 - 1 / math.sqrt(n + 1)), 12)
        self.assertAlmostEqual(level(3, 2), 0.05 * (1 / math.sqrt(3) - 0.5) * 3, 15)

    def test_a_win_needs_the_p_value_that_is_said(self):
        for number, wins in ((1, 0), (3, 0), (3, 2), (50, 4)):
            p = needed_p(number, wins)
            self.assertGreaterEqual(calibrated(p * (1 - 1e-9), number), 1 / level(number, wins))
            self.assertLess(calibrated(p * (1 + 1e-9), number), 1 / level(number, wins))

    def test_false_discoveries_with_a_shared_baseline(self):
        rng, shares, found = random.Random(8), [], 0
        for _ in range(500):
            base, wins, false = normal(rng, 16), 0, 0
            for number in range(1, 13):
                real = number % 3 == 0   # 3 sd of the differences
                variant = normal(rng, 16, -3 * math.sqrt(2) if real else 0)
                if e_value([b - v for b, v in zip(base, variant)], number, alpha=0.3) >= 1 / level(number, wins, 0.3):
                    wins, false, found = wins + 1, false + (not real), found + real
            shares.append(false / max(1, wins))
        self.assertLess(mean(shares), 0.3 + 4 * stdev(shares) / math.sqrt(len(shares)))
        self.assertGreater(mean(shares), 0.01)
        self.assertGreater(found, 0.9 * 4 * 500)


class Planning(unittest.TestCase):
    def test_without_an_effect_power_is_the_level(self):
        for p in (0.05, 1e-3, 1e-5):
            for n in (3, 8, 16, 60):
                self.assertAlmostEqual(power(0, 1, p, n) / p, 1, 5)

    def test_power_beside_simulation(self):
        rng, p = random.Random(9), needed_p(1, 0)
        for effect in (1, 2, 4):
            for n in LOOKS:
                within(self, [float(p_value(normal(rng, n, effect)) <= p) for _ in range(2000)] + [0.0, 1.0], power(effect, 1, p, n))

    def test_seeds_needed(self):
        p = needed_p(1, 0)
        self.assertEqual(seeds_needed(2, 1, p), 8)
        self.assertEqual(seeds_needed(0.002, 0.001, p), 8)
        n = seeds_needed(0.5, 1, p)
        self.assertGreaterEqual(power(0.5, 1, p, n), 0.8)
        self.assertLess(power(0.5, 1, p, n - 1), 0.8)
        self.assertIsNone(seeds_needed(0.01, 1, p))


if __name__ == "__main__":
    unittest.main()
