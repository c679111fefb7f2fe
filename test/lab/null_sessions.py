"""null_sessions.py: sessions of tries of which none changes anything, drawn from the bank of real curves: how often does one WIN?

    python3 test/lab/null_sessions.py [--sessions 1000] [--tries 20] [--seed 1]    (make lab-null)
    python3 test/lab/null_sessions.py --trained 20 --tries 4                       the same of runs that are trained now, of seeds that the bank has not

Half of the sessions are of the group `seeds` and share the 16 runs of a baseline over all tries; in the others, of `rounding` and `chaos`, each try draws 16
seeds, and which arm is the baseline is drawn, too, so that the mean difference is exactly 0. Counted by two rules: by evidence alone (the e-value reaches
1/level at any look, whatever the effect and the other axes), the harder test, and by judge() as it is used, with a declared effect of 0.003 nats. Then
planted effects: a constant taken from the variant's losses.
"""
import argparse
import dataclasses
import math
import os
import random
import sys
from statistics import fmean as mean

import bank as curves
import evalues
from evalues import LOOKS
from verdict import Declared, judge

PAIRS = LOOKS[-1]
EFFECT = 0.003


def at_most(k, n, error=0.05):
    """Clopper-Pearson: the share that is not exceeded, but for this error, where k of n were seen."""
    if k == n:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)]
    low, high = k / n, 1.0
    for _ in range(60):
        p = (low + high) / 2
        seen = sum(math.exp(c + i * math.log(p) + (n - i) * math.log1p(-p)) for i, c in enumerate(logs)) if p else 1.0
        low, high = (p, high) if seen > error else (low, p)
    return high


def relabelled(run, arm, seed, better=0.0):
    """The run as that arm's of this seed; `better` is taken from its losses, but not from the one before training. Each step takes a millisecond: the bank was
    trained beside other work, and an axis that is lost by noise would hide false WINs of the others."""
    return dataclasses.replace(run, arm=arm, seed=seed, curve=[p._replace(loss=p.loss - better * (p.step > 0), seconds=p.step / 1000) for p in run.curve])


class Session:
    """Draws tries: lists of 16 baseline and 16 variant runs."""

    def __init__(self, group, arms, rng):
        self.group, self.arms, self.rng = group, arms, rng
        if group == "seeds":
            runs = rng.sample(sorted(arms["one"].items()), len(arms["one"]))
            self.base = [relabelled(r, "base", i) for i, (_, r) in enumerate(runs[:PAIRS])]
            self.others = [r for _, r in runs[PAIRS:]]

    def pairs(self, better=0.0):
        rng = self.rng
        if self.group == "seeds":
            return self.base, [relabelled(r, "variant", i, better) for i, r in enumerate(rng.sample(self.others, PAIRS))]
        base, variant = rng.sample(sorted(self.arms), 2)
        seeds = rng.sample(sorted(self.arms[base]), PAIRS)
        return ([relabelled(self.arms[base][s], "base", s) for s in seeds],
                [relabelled(self.arms[variant][s], "variant", s, better) for s in seeds])


class Trained(Session):
    """Of the group `seeds`, with every run trained for this session."""

    def __init__(self, first_seed):
        self.group, self.seed, self.folder = "seeds", first_seed, os.path.join(curves.TOP, "build", "lab_trained")
        curves.texts(self.folder)
        self.base = [self.run("base", i) for i in range(PAIRS)]

    def run(self, arm, i):
        self.seed += 1
        return relabelled(curves.run_of(arm, i, *curves.train("", self.seed - 1, self.folder)), arm, i)

    def pairs(self, better=0.0):
        return self.base, [self.run("variant", i) for i in range(PAIRS)]


def differences(base, variant):
    return [b.curve[-1].loss - v.curve[-1].loss for b, v in zip(base, variant)]


def null_session(session, tries):
    """What happened in it: by evidence alone, by judge(), how many intervals missed 0 at a look or at one before it, how many did as printed in the verdict,
    and in how many the intersection of all looks would have had the mean outside."""
    out = {"evidence": 0, "wins": 0, "words": {}, "missed": [0] * len(LOOKS), "printed": 0, "outside": 0, "pairs": 0}
    for number in range(1, tries + 1):
        base, variant = session.pairs()
        d = differences(base, variant)
        out["evidence"] += evalues.e_value(d, number) >= 1 / evalues.level(number, out["evidence"])
        bounds = [evalues.interval(d[:n]) for n in LOOKS]
        missed = [any(not lo < 0 < hi for lo, hi in bounds[:k + 1]) for k in range(len(LOOKS))]
        out["missed"] = [a + b for a, b in zip(out["missed"], missed)]
        out["outside"] += not max(lo for lo, _ in bounds) <= mean(d) <= min(hi for _, hi in bounds)
        declared = Declared("tokens", EFFECT, number, out["wins"])
        for n in LOOKS:
            v = judge(base[:n], variant[:n], declared)
            if v.word:
                break
        row = v.row("tokens")
        out["printed"] += not row.lo < 0 < row.hi
        assert row.lo <= row.effect <= row.hi, row
        out["words"][v.word] = out["words"].get(v.word, 0) + 1
        out["wins"] += v.word == "WIN"
        out["pairs"] += v.pairs
    return out


def drawn(bank, sessions, seed):
    for i in range(sessions):
        group = ("seeds", "rounding", "seeds", "chaos")[i % 4]
        yield Session(group, bank[group], random.Random(f"{seed}.{i}"))


def nulls(sessions, tries):
    """The sums over all sessions."""
    total = {"sessions": 0, "tries": 0, "evidence": 0, "wins": 0, "words": {}, "missed": [0] * len(LOOKS), "printed": 0, "outside": 0, "pairs": 0, "of_group": {}}
    for session in sessions:
        s, group = null_session(session, tries), session.group
        total["sessions"] += 1
        total["tries"] += tries
        for key in ("evidence", "wins"):
            total[key] += s[key] > 0
        of = total["of_group"].setdefault(group, [0, 0, 0, 0])
        total["of_group"][group] = [a + b for a, b in zip(of, (1, s["evidence"] > 0, s["wins"] > 0, s["missed"][-1]))]
        for word, k in s["words"].items():
            total["words"][word] = total["words"].get(word, 0) + k
        total["missed"] = [a + b for a, b in zip(total["missed"], s["missed"])]
        for key in ("pairs", "printed", "outside"):
            total[key] += s[key]
    return total


def planted(bank, group, effect, number, times, seed):
    """Of tries with an effect of so many sd of the group's differences: the share with enough evidence by each look alone, by any, and of WINs."""
    rng = random.Random(f"{seed}.{group}.{effect}.{number}")
    sd = evalues.stdev([x for _ in range(50) for x in differences(*Session(group, bank[group], rng).pairs())])
    p, alone, together, wins = evalues.needed_p(number, 0), [0] * len(LOOKS), 0, 0
    for _ in range(times):
        base, variant = Session(group, bank[group], rng).pairs(effect * sd)
        d = differences(base, variant)
        alone = [k + (evalues.p_value(d[:n]) <= p) for k, n in zip(alone, LOOKS)]
        together += evalues.e_value(d, number) >= 1 / evalues.level(number, 0)
        words = (judge(base[:n], variant[:n], Declared("tokens", abs(effect) * sd / 2, number)).word for n in LOOKS)
        wins += next((w for w in words if w), "") == "WIN"
    theory = [evalues.power(effect, 1, p, n) for n in LOOKS]
    return sd, [k / times for k in alone], theory, together / times, wins / times


def report(t):
    n = t["sessions"]
    print(f"{n} null sessions of {t['tries'] // n} tries")
    for key, name in (("evidence", "an e-value for a false WIN"), ("wins", "a WIN of judge()")):
        print(f"with {name}: {t[key]}, {100 * t[key] / n:.1f} %, at most {100 * at_most(t[key], n):.1f} % (95 %)")
    print("by group: " + "; ".join(f"{g}: {s} sessions, {e} by e-value, {w} by judge(), {m} intervals missed" for g, (s, e, w, m) in t["of_group"].items()))
    print("95 % intervals that miss 0: " + ", ".join(f"{100 * k / t['tries']:.2f} % by {n} pairs" for k, n in zip(t["missed"], LOOKS))
          + f", each look's and all before it, {100 * t['printed'] / t['tries']:.2f} % as printed, of {t['tries']}; the intersection of the three has the mean outside in {100 * t['outside'] / t['tries']:.2f} %")
    print("words: " + ", ".join(f"{k} {w}" for w, k in sorted(t["words"].items())) + f"; pairs a try {t['pairs'] / t['tries']:.1f}", flush=True)


def main():
    options = argparse.ArgumentParser(description="null sessions and planted effects, drawn from the bank")
    for name, default in (("sessions", 1000), ("tries", 20), ("seed", 1), ("planted", 1000), ("trained", 0)):
        options.add_argument(f"--{name}", type=int, default=default)
    o = options.parse_args()
    bank = curves.load()
    if o.trained:
        report(nulls((Trained(100000 * (o.seed + i)) for i in range(o.trained)), o.tries))
        return 0
    t = nulls(drawn(bank, o.sessions, o.seed), o.tries)
    print(f"seed {o.seed}, {sum(len(r) for g in bank.values() for r in g.values())} runs to draw from")
    report(t)
    for group in ("seeds", "rounding", "chaos") if o.planted else ():
        for number in (1, 20):
            for effect in (1, 2, 4):
                sd, alone, theory, together, wins = planted(bank, group, effect, number, o.planted, o.seed)
                beside = ", ".join(f"{n} pairs {a:.3f} (theory {b:.3f})" for n, a, b in zip(LOOKS, alone, theory))
                print(f"planted {effect} sd of {sd:.2g}, {group}, try {number}: {beside}, any look {together:.3f}, WIN {wins:.3f}", flush=True)
    return 0 if at_most(t["evidence"], t["sessions"]) < 0.07 and at_most(t["wins"], t["sessions"]) < 0.07 else 1


if __name__ == "__main__":
    sys.exit(main())
