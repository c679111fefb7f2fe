"""whole_sessions.py: null sessions through `lab try` itself: builds, seeds of the lab's secret, leases, audits, confounds, ledger, verdicts; beside the same kind of
session drawn from the bank (null_sessions.py), which has judge() alone.

    python3 test/lab/whole_sessions.py [--sessions 20] [--tries 4] [--seed 1]    (make lab-whole)

A session is a lab of its own, with a card. Its tries change nothing in the mean: initial weights of another stream, a branch each; or, in bf16, or at a learning rate
at which the last bit decides, sums in another order. A false WIN is counted by the verdict, and by evidence alone, whatever the other axes say."""
import argparse
import sys

import bank as curves
from bench import MINI, Bench
from null_sessions import EFFECT, at_most, drawn, nulls

ROWS = (32, 16, 48, 24, 8, 40, 64, 96)   # --classifier-rows: another order of sums each, of 128 rows
BANK = dict(options="-e d1c32h2 --init-std 0.18 -l 1e-2 -u 10 -q 0 -k linear --threads 1", B=4, T=32, steps=100, val_every=20, val_batches=32, text="300k")
KINDS = {"seeds": BANK, "rounding": dict(BANK, options=BANK["options"] + " --precision bf16"), "chaos": dict(BANK, options=BANK["options"].replace("1e-2", "5e-2")), "honest": MINI}


def session(kind, tries, secret, steady=False):
    """The verdicts of its tries, as their files have them."""
    bench = Bench(secret, steady)
    try:
        bench.scale("null", KINDS[kind])
        bench.ok("card", "--scale", "null", "--seeds", "2")
        return [one(bench, kind, i) for i in range(tries)]
    finally:
        bench.remove()


def one(bench, kind, i):
    words = dict(hypothesis="nothing, number %d" % i, effect=str(EFFECT), scale="null")
    if kind == "seeds":
        return bench.try_(bench.cheat("other-stream", "stream-%d" % (i + 1), "STREAM=%d" % (i + 1)), **words)
    if kind == "honest":   # no null: what the counts are for
        return bench.try_(bench.cheat("honest"), **words)
    return bench.try_("main", "--with", "--classifier-rows %d" % ROWS[i], **words)


def count(verdicts):
    """What happened in a session."""
    rows = [next((r for r in v["rows"] if r["axis"] == "tokens"), {}) for v in verdicts]
    bounds = [(r.get("lo"), r.get("hi")) for r in rows]
    return {"wins": sum(v["word"] == "WIN" for v in verdicts), "evidence": sum(v["evidence"] >= v["needed"] for v in verdicts), "missed": sum(None not in b and not b[0] < 0 < b[1] for b in bounds),
            "words": [v["word"] for v in verdicts], "pairs": sum(v["pairs"] for v in verdicts), "reasons": [r for v in verdicts if v["word"] == "CONFOUNDED" for r in v["reasons"]],
            "sd": [r.get("sd") for r in rows]}


def main():
    options = argparse.ArgumentParser(description="null sessions through lab try")
    for name, default in (("sessions", 20), ("tries", 4), ("seed", 1)):
        options.add_argument(f"--{name}", type=int, default=default)
    o = options.parse_args()
    if not 0 < o.tries <= len(ROWS):
        options.error(f"--tries: {o.tries} given, must be from 1 to {len(ROWS)}")
    total = {"wins": 0, "evidence": 0, "missed": 0, "pairs": 0, "words": {}}
    for i in range(o.sessions):
        kind = ("seeds", "rounding", "seeds", "chaos")[i % 4]
        found = count(session(kind, o.tries, f"whole {o.seed}.{i}"))
        print(f"session {i + 1:2}, {kind}: {' '.join(found['words'])}; {found['pairs']} pairs; sd {' '.join('%.2g' % x if x is not None else '?' for x in found['sd'])}", flush=True)
        for reason in found["reasons"]:
            print("  " + reason, flush=True)
        for key in ("wins", "evidence"):
            total[key] += found[key] > 0
        for key in ("missed", "pairs"):
            total[key] += found[key]
        for word in found["words"]:
            total["words"][word] = total["words"].get(word, 0) + 1
    print(f"{o.sessions} null sessions of {o.tries} tries through lab try: {total['wins']} with a WIN, {total['evidence']} with an e-value for one, at most {100 * at_most(total['wins'], o.sessions):.1f} and "
          f"{100 * at_most(total['evidence'], o.sessions):.1f} % (95 %); {total['missed']} of {o.sessions * o.tries} intervals miss 0, as printed; {total['pairs']} pairs; "
          + ", ".join(f"{k} {w}" for w, k in sorted(total["words"].items())))
    t = nulls(drawn(curves.load(), 500, o.seed), o.tries)
    print(f"of the bank, {t['sessions']} of {o.tries}: {t['wins']} with a WIN, {t['evidence']} with an e-value for one; {t['printed']} of {t['tries']} intervals miss 0, as printed; "
          + ", ".join(f"{k} {w}" for w, k in sorted(t["words"].items())) + f"; pairs a try {t['pairs'] / t['tries']:.1f}")
    return 1 if total["wins"] > 3 else 0   # of 20 sessions, where 2 in 100 are expected: probability 0.001


if __name__ == "__main__":
    sys.exit(main())
