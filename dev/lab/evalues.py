"""evalues.py: is a mean of paired differences above zero? At every look, and over all tries of a session.

d_1, d_2, ... are differences of pairs (baseline's loss - variant's, same seed), taken for normal with unknown mean and standard deviation. A try is looked at
after 3, 8 and 16 pairs. At each look a one-sided t-test of "the mean is at most m" gives a p-value, and the p-value an e-value: a number that is not
negative and has expectation 1 at most while that is true (Vovk, Wang 2021: e = f(p), f falling, its integral 1: a calibrator).

e-LOND (Xu, Ramdas 2024) calls try t a win if its e-value is at least 1/level, level = alpha gamma_t (wins before + 1): of all wins of a session the expected
false share is then at most alpha, under any dependence between tries, such as that by shared baselines. The levels that try t can meet are thus known
before: a_t, 2 a_t, ..., t a_t, a_t = alpha gamma_t. The calibrator has its steps just there: 1/(j a_t) for p up to j a_t / H_t, H_t = 1 + 1/2 + ... + 1/t.

Looks. The e-value of a try is the average of those at its three looks. Looks that have not come count 0, so what has been seen is a lower bound, and may be
compared with 1/level at each look: stopping early, for whatever reason, only forgoes. No martingale is needed. That of t (right Haar prior of the scale,
Rouder et al. 2009) is one only for stopping rules that do not see the scale of the data (Perez-Ortiz et al. 2024), and has a third of the power: LOG 72.

A confidence interval holds the means that the last look does not reject; those of all looks together miss with probability `level` at most.
The seeds of a try must not be known before its hypothesis is registered: runs are deterministic, so the best of many variants on known seeds is luck that
repeats itself.
"""
import functools
import math
from statistics import NormalDist, fmean as mean

ALPHA = 0.05         # of false wins in a session
LOOKS = (3, 8, 16)   # pairs
EQUAL = 1e-6         # differences that vary by less of their size are equal,
WRITTEN = 1e-7       # or by less than this: losses are written with 8 decimals


# --------------------------------------------------------------------------------------------------------------- Student's t

def incomplete_beta(x, a, b):
    """I_x(a, b) for x up to about 1/2, as a series of positive terms (DLMF 8.17.8): small values keep their digits."""
    if x <= 0:
        return 0.0
    term = total = 1.0
    k = 0
    while term > 1e-17 * total:
        term *= x * (a + b + k) / (a + 1 + k)
        total += term
        k += 1
    return total * math.exp(a * math.log(x) + b * math.log1p(-x) - math.log(a) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))


def tail(t, v):
    """P(T > t) of Student's T with v degrees of freedom: I_x(v/2, 1/2) / 2 at x = v / (v + t^2), for t >= 0."""
    if t < 0:
        return 1 - tail(-t, v)
    if t * t < v:   # I_x(a, b) = 1 - I_{1-x}(b, a)
        return 0.5 - 0.5 * incomplete_beta(t * t / (v + t * t), 0.5, v / 2)
    return 0.5 * incomplete_beta(v / (v + t * t), v / 2, 0.5)


@functools.lru_cache(maxsize=None)   # looks and levels are few
def quantile(p, v):
    """The t that is exceeded with probability p, at most 1/2: by bisection."""
    low, high = 0.0, 1.0
    while tail(high, v) > p:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, v) > p else (low, middle)
    return high


# --------------------------------------------------------------------------------------------------------------- one try

def stdev(d):
    m = mean(d)
    return math.sqrt(math.fsum((x - m) ** 2 for x in d) / (len(d) - 1))


def constant(d):
    """All equal, to rounding: equal arms if they are 0, else the work of an evaluation or a file, never of training. No noise is to be seen, so nothing
    can be compared with it."""
    return max(d) - min(d) <= max(WRITTEN, EQUAL * max(map(abs, d)))


def p_value(d, m=0.0):
    """One-sided t-test of "the mean is at most m". 1 where there is no t: fewer than two differences, or constant ones."""
    if len(d) < 2 or constant(d):
        return 1.0
    return tail((mean(d) - m) * math.sqrt(len(d)) / stdev(d), len(d) - 1)


def e_value(d, number=1, m=0.0, looks=LOOKS, alpha=ALPHA):
    """Of "the mean is at most m", in try `number` of a session, as far as seen."""
    return sum(calibrated(p_value(d[:n], m), number, looks, alpha) for n in looks if n <= len(d))


def calibrated(p, number, looks=LOOKS, alpha=ALPHA):
    """What a look of this p-value adds to a try's e-value: its integral over p is 1 / looks."""
    a = level(number, 0, alpha)
    j = max(1, math.ceil(p * harmonic(number) * len(looks) / a))
    return 1 / (a * j) if j <= number else 0.0


def interval(d, level=ALPHA, looks=LOOKS):
    """(lo, hi) around the mean of the last look that has come: a repeated confidence interval (Jennison, Turnbull 1989). Each look has its share of `level`, so the
    intervals of all looks together miss with this probability at most, whatever stops a try. Their intersection is narrower and is covered as well, but the mean
    of the last look may lie outside of it, or nothing at all inside. Infinite before the first look, and where no noise is to be seen."""
    n = seen(d, looks)
    if n < 2 or constant(d[:n]):
        return -math.inf, math.inf
    d = d[:n]
    half = quantile(level / 2 / len(looks), n - 1) * stdev(d) / math.sqrt(n)
    return mean(d) - half, mean(d) + half


def seen(d, looks=LOOKS):
    """Pairs of the last look that has come."""
    return max([n for n in looks if n <= len(d)], default=0)


# --------------------------------------------------------------------------------------------------------------- over a session

def level(number, wins, alpha=ALPHA):
    """e-LOND's level of try `number` (1, 2, ...) of a session: alpha gamma_t (wins + 1), with the wins known when it begins and gamma_t = 1/sqrt(t) -
    1/sqrt(t+1). The gammas sum to 1; from the fourth on they are larger than 1/(t (t+1))."""
    return alpha * (number ** -0.5 - (number + 1) ** -0.5) * (wins + 1)


@functools.lru_cache(maxsize=None)
def harmonic(number):
    return sum(1 / j for j in range(1, number + 1))


def chance_wins(levels):
    """False wins to be expected at most, of tries with these levels, if nothing had an effect."""
    return sum(levels)


# --------------------------------------------------------------------------------------------------------------- before anything runs

def needed_p(number, wins, looks=LOOKS, alpha=ALPHA):
    """The p-value that a look needs for a win by itself."""
    return level(number, wins, alpha) / harmonic(number) / len(looks)


def power(effect, sd, p, n):
    """P(n pairs have a p-value of at most p), if their mean is `effect` and their standard deviation sd: a noncentral t. What other looks add is left out."""
    t, v, shift = quantile(p, n - 1), n - 1, effect / sd * math.sqrt(n)
    # P(Z + shift >= t s), integrated over s = stdev(d) / sd, a chi of v degrees of freedom / sqrt(v), by midpoints in u. s = top u^2: steps are short near 0,
    # where a large t matters
    steps, top = 2000, 1 + 12 / math.sqrt(2 * v)
    log_c = math.log(2) + 0.5 * v * math.log(v / 2) - math.lgamma(v / 2)
    phi, total = NormalDist().cdf, 0.0
    for i in range(steps):
        u = (i + 0.5) / steps
        s = top * u * u
        total += phi(shift - t * s) * math.exp(log_c + (v - 1) * math.log(s) - v * s * s / 2) * 2 * top * u
    return min(1.0, total / steps)


def seeds_needed(effect, sd, p, looks=LOOKS, wanted=0.8):
    """The least number of pairs that shows the effect with probability `wanted`: one of the looks, or a number beyond the last; None above 1000.
    Two independent arms have an sd of differences of sqrt(2) times an arm's; pairing may make it smaller."""
    for n in looks:
        if power(effect, sd, p, n) >= wanted:
            return n
    if power(effect, sd, p, 1000) < wanted:
        return None
    low, high = looks[-1], 1000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, sd, p, middle) >= wanted else (middle, high)
    return high
