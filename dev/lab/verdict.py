"""verdict.py: what pairs of runs say about a declared effect: a table of three axes, and a word.

The effect is baseline's loss - variant's at equal tokens, equal FLOPs and equal time. On the declared axis both arms were given the same budget, so both learning
rates have come down at its end, and the last losses are compared. A variant that overran the baseline's end is read there; the baseline is never cut. On the
other axes both are read at the largest budget that both reached, in the midst of the dearer one's schedule, where it looks worse than it is. That makes
no false WIN: a baseline is cut there only if it spent more in all, and a WIN's variant has the lower loss at the ends, so it has more for less.
It does make a variant that is a little dearer look a little worse: validate often.

WIN         the declared axis: e-value at the level that e-LOND gives, interval above the bound, mean at least the declared effect; no other axis loses more than declared
LOSS        the declared axis below 0, or another one below -effect; or the variant failed
NULL        less than the declared effect, or the last look came; equal arms
UNTUNED     a WIN against a baseline with fewer tuning trials
CONFOUNDED  something else differed
""         undecided: more pairs

An effect below 0 is a margin of non-inferiority: how much a simplification may lose. "Delete it without regression" is a WIN where the mean is shown to lie above
-margin; whatever is said of 0 here is then said of that. Margins add up: after some such wins a new card says what they cost together.
"""
import json
import math
from dataclasses import asdict, dataclass, field
from statistics import mean, stdev
from typing import List, NamedTuple, Optional

import evalues
from curves import AXES, Curve, multiplier
from record import LabError

OVERRUN = {"tokens": 0.01, "flops": 0.01, "seconds": 0.05}   # shares by which ends on the declared axis may differ: whole steps; a clock's noise
SAME = 0.01                                                  # what a variant may overrun without being cut


class Declared(NamedTuple):
    """What was registered before anything ran."""
    axis: str                       # tokens | flops | seconds
    effect: float                   # nats a token: the least gain that is worth having; below 0: the most that may be lost
    number: int = 1                 # of the try in its session
    wins: int = 0                   # of the session when it began
    looks: tuple = evalues.LOOKS

    @property
    def bound(self):
        """What the mean must be shown to exceed."""
        return min(0.0, self.effect)


class Row(NamedTuple):
    """An axis; None is "?"."""
    axis: str
    effect: Optional[float]
    lo: Optional[float]             # 95 % confidence interval of the last look; of all looks together no more than 5 % miss
    hi: Optional[float]
    sd: Optional[float]             # of the differences
    multiplier: Optional[float]
    spent: Optional[float]          # the variant's budget / the baseline's


@dataclass
class Verdict:
    word: str
    declared: Declared
    pairs: int
    rows: List[Row] = field(default_factory=list)
    evidence: float = 0.0           # e-value so far
    needed: float = math.inf        # for a WIN
    parameters: tuple = (None, None)   # baseline, variant
    memory: tuple = (None, None)       # MiB
    lines: Optional[int] = None        # of code, added
    reasons: List[str] = field(default_factory=list)

    def row(self, axis):
        return next((r for r in self.rows if r.axis == axis), None)

    def to_json(self):
        d = asdict(self)
        d["declared"], d["rows"] = self.declared._asdict(), [r._asdict() for r in self.rows]
        return json.dumps(without_infinities(d), indent=1, sort_keys=True, allow_nan=False) + "\n"

    def to_text(self, confirms=False):
        """confirms: it is the second scale of a WIN."""
        d = self.declared
        out = [f"declared: {'loses less than ' if d.bound else ''}{abs(d.effect):g} nats on {d.axis}; try {d.number} of its session; {self.pairs} pairs"]
        out += [f"{'axis':9}{'effect':>9}  {'95 % interval':^20}{'multiplier':>11}{'spent':>8}"] if self.rows else []
        out += [f"{r.axis:9}{show(r.effect, '+.4f'):>9}  {show(r.lo, '+.4f'):>8} .. {show(r.hi, '+.4f'):>8}{show(r.multiplier, '.3f', 'x'):>11}"
                f"{show(r.spent, '.3f', 'x'):>8}" for r in self.rows]
        out.append(f"parameters {change(self.parameters, '.0f')}; memory {change(self.memory, '.1f')} MiB; lines of code {show(self.lines, '+d')}")
        out.append(f"evidence {self.evidence:.3g} of {self.needed:.3g} that a WIN needs")
        word = self.word or "undecided"
        out.append(word + (" (PROVISIONAL until it holds at a second scale)" if word == "WIN" and not confirms else ""))
        return "\n".join(out + [f"  {r}" for r in self.reasons]) + "\n"


def judge(base_runs, variant_runs, declared, confounds=(), untuned="", lines=None):
    """The verdict after the last look that has come. confounds: "name: what differs" of each; untuned: why the baseline is, or ""."""
    check(declared)
    base, variant = paired(base_runs, variant_runs)
    failed = [x for r in base + variant for x in failure(r)]
    n = evalues.seen(base, declared.looks)
    base, variant = base[:n], variant[:n]
    v = Verdict("", declared, n, needed=1 / evalues.level(declared.number, declared.wins), lines=lines, reasons=list(confounds))
    v.parameters = average(base, "parameters"), average(variant, "parameters")
    v.memory = average(base, "peak_mib"), average(variant, "peak_mib")
    if failed:
        v.reasons += failed
        v.word = "LOSS" if not confounds and not any(map(failure, base_runs)) else "CONFOUNDED"
        return v
    if n:
        pairs = [(Curve(b), Curve(w)) for b, w in zip(base, variant)]
        differences = {axis: effects(pairs, axis, axis == declared.axis) for axis in AXES}
        v.rows = [row(axis, pairs, d, declared.looks) for axis, d in differences.items()]
        v.evidence = evalues.e_value(differences[declared.axis], declared.number, declared.bound, declared.looks)
        v.reasons += [c for c in own_confounds(pairs, base, variant, declared, differences) if c.split(":")[0] not in [x.split(":")[0] for x in confounds]]
    if v.reasons:
        v.word = "CONFOUNDED"
    elif n:
        v.word, v.reasons = decide(v, differences[declared.axis], untuned)
    return v


def decide(v, d, untuned):
    """The word and why, of runs that nothing confounds."""
    declared, row, others = v.declared, v.row(v.declared.axis), [r for r in v.rows if r.axis != v.declared.axis]
    if not changed(d):
        return "NULL", ["the last losses are equal to all digits written: the change changes nothing"]
    unknown = [f"{r.axis}: ?" for r in others if r.effect is None]
    known = [r for r in others if r.effect is not None]
    size, bound = abs(declared.effect), f"{declared.bound:g}"
    worse = [f"{r.axis}: loses {-r.effect:.4f}, more than the declared {size:g}" for r in known if r.effect < -size]
    surely = [f"{r.axis}: shown to lose more than the declared {size:g}" for r in known if r.hi < -size]
    above = v.evidence >= v.needed
    won = above and row.effect >= declared.effect and row.lo > declared.bound   # evidence of an earlier look may be taken back by a later one
    last = v.pairs == declared.looks[-1]
    if won and not worse and not unknown:
        return ("UNTUNED", [untuned]) if untuned else ("WIN", [])
    if row.hi < declared.bound:
        return "LOSS", [f"{row.axis}: shown to lose" + (f" more than the declared {size:g}" if declared.bound else "")]
    if surely:
        return "LOSS", surely
    if row.hi < declared.effect:
        return "NULL", [f"{row.axis}: shown to be less than the declared {declared.effect:g}"]
    if last and won and worse:
        return "LOSS", worse
    if last:
        why = (f"not shown to be above {bound} with {v.pairs} pairs" if not above else "wins, by itself" if won else
               f"above {bound} by an earlier look, not by the last" if not row.lo > declared.bound else f"above {bound}, but not by the declared {declared.effect:g}")
        return "NULL", unknown + worse + [f"{row.axis}: {why}"]
    return "", unknown + worse


# --------------------------------------------------------------------------------------------------------------- pairs

def paired(base_runs, variant_runs):
    """Runs of equal seeds side by side, in the order of the baseline's: pairs are counted in the order in which they were planned."""
    for runs in (base_runs, variant_runs):
        seeds = [r.seed for r in runs]
        if len(set(seeds)) < len(seeds):
            raise LabError(f"{runs[0].arm}: a seed twice: {' '.join(map(str, seeds))}")
    of_seed = {r.seed: r for r in variant_runs}
    alone = {r.seed for r in base_runs} ^ set(of_seed)
    if alone:
        raise LabError(f"seed {min(alone)} has no partner: each run of one arm needs that of the other")
    return list(base_runs), [of_seed[r.seed] for r in base_runs]


def effects(pairs, axis, is_declared):
    """The difference of each pair, or None."""
    d = []
    for base, variant in pairs:
        end = base.end(axis)
        if is_declared:
            d.append((base.loss, variant.loss if variant.end(axis) <= (1 + SAME) * end else variant.at(axis, end)))
        else:
            both = min(end, variant.end(axis))
            d.append((base.at(axis, both), variant.at(axis, both)))
    return [None if b is None or v is None else b - v for b, v in d]


def changed(d):
    return max(map(abs, d)) > evalues.WRITTEN


def row(axis, pairs, d, looks):
    spent = mean(variant.end(axis) for _, variant in pairs) / mean(base.end(axis) for base, _ in pairs)
    m = [multiplier(base, variant, axis) for base, variant in pairs]
    m = None if None in m else math.exp(mean(map(math.log, m)))
    if None in d:
        return Row(axis, None, None, None, None, m, spent)
    lo, hi = evalues.interval(d, looks=looks)
    return Row(axis, mean(d), lo, hi, stdev(d), m, spent)


def own_confounds(pairs, base, variant, declared, differences):
    """What the runs themselves show: another budget or batch, and differences that no training makes."""
    axis, out = declared.axis, []
    b, v = (mean(p[i].end(axis) for p in pairs) for i in (0, 1))
    if abs(v - b) > OVERRUN[axis] * b:
        out.append(f"budget: {axis} {v / b:.3f} times the baseline's, on the declared axis")
    batches = {r.tokens_per_step for r in base}, {r.tokens_per_step for r in variant}
    if batches[0] != batches[1]:
        out.append("batch: tokens a step " + " -> ".join(",".join(map(str, sorted(x, key=str))) for x in batches))
    d = differences[axis]
    if None in d:
        out.append(f"curves: {axis}: the variant's loss at the baseline's end is not known")
    elif evalues.constant(d) and changed(d):
        out.append(f"constant: every difference is {d[0]:+.6g}: the work of an evaluation or a file, not of training")
    return out


def failure(run):
    """Why a run counts as failed: a list of one line, or empty. Failed runs are never left out: they are part of what a change does."""
    name = f"{run.arm}, seed {run.seed}"
    if run.rc:
        return [f"failed: {name}: exit code {run.rc}"]
    if Curve(run).diverged:
        return [f"diverged: {name}: a loss that is not finite"]
    return []


def check(declared):
    if declared.axis not in AXES:
        raise LabError(f"axis {declared.axis}: it is one of {', '.join(AXES)}")
    if not (math.isfinite(declared.effect) and declared.effect):
        raise LabError(f"effect {declared.effect}: nats a token, above 0 to be gained, below 0 to be lost at most")
    if declared.number < 1 or not 0 <= declared.wins < declared.number:
        raise LabError(f"try {declared.number} with {declared.wins} wins before it")
    if list(declared.looks) != sorted(set(declared.looks)) or not declared.looks or declared.looks[0] < 2:
        raise LabError(f"looks {declared.looks}: rising numbers of pairs, 2 or more")


# --------------------------------------------------------------------------------------------------------------- words

def average(runs, name):
    values = [getattr(r, name) for r in runs]
    return mean(values) if values and None not in values else None


def show(x, form, unit=""):
    return "?" if x is None or x in (math.inf, -math.inf) else format(x, form) + unit


def change(pair, form):
    return f"{show(pair[0], form)} -> {show(pair[1], form)}"


def without_infinities(x):
    if isinstance(x, dict):
        return {k: without_infinities(y) for k, y in x.items()}
    if isinstance(x, (list, tuple)):
        return [without_infinities(y) for y in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x
