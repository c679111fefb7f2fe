"""pages.py: what the ledger says, for people: `lab ledger`, `lab seen WORDS`, `lab standup`.

Every figure is counted from the ledger anew, and nothing is left out: a try that failed, was lost or never ended has its line, since a record
of wins alone says nothing. What somebody typed is printed without its control characters: it may not move the cursor of a terminal."""
import datetime
import math
import re
import sys

import evalues
import home as homes
import ledger

WORDS = ["WIN", "NULL", "LOSS", "UNTUNED", "CONFOUNDED"]


class Try:
    """What the ledger says of one try."""
    def __init__(self, number):
        self.number, self.begins, self.runs, self.looks, self.verdict, self.scales, self.notes, self.lost = number, {}, [], [], None, [], [], []
        self.level = 0.0   # that e-LOND gives it: of its number, and of the wins when it began

    branch = property(lambda self: self.begins.get("branch", "?"))
    who = property(lambda self: self.begins.get("who", "?"))
    hypothesis = property(lambda self: self.begins.get("hypothesis", ""))
    axis = property(lambda self: {"time": "seconds"}.get(self.begins.get("axis", "?"), self.begins.get("axis", "?")))

    @property
    def word(self):
        """As its verdict says; without one it is running, or was interrupted."""
        return self.verdict.get("word", "?") if self.verdict else "running"

    @property
    def provisional(self):
        """A WIN that no second scale has confirmed, and that is not itself that of a second scale."""
        return self.word == "WIN" and "confirms" not in self.begins and not any(e.get("word") == "WIN" for e in self.scales)

    @property
    def pairs(self):
        """Seeds of which both arms ended."""
        ended = [{e.get("seed") for e in self.runs if e.get("arm") == arm and e.get("rc") == "0"} for arm in ("base", "variant")]
        return len(ended[0] & ended[1])

    def texts(self):
        return [self.branch, self.hypothesis, self.word] + [e.get("text", "") for e in self.notes] + [(self.verdict or {}).get("reasons", "")]


def tries_of(entries):
    """Tries in the order in which they began."""
    tries, begun, wins = {}, 0, 0
    for e in entries:
        if "try" not in e:
            continue
        t = tries.setdefault(e["try"], Try(e["try"]))
        kind = e.get("kind")
        if kind == "try-begins":
            begun += 1
            t.begins, t.level = e, evalues.level(begun, wins)
        elif kind == "verdict":
            t.verdict, wins = e, wins + (e.get("word") == "WIN")
        elif kind in ("run", "look", "scale", "note", "lost"):
            {"run": t.runs, "look": t.looks, "scale": t.scales, "note": t.notes, "lost": t.lost}[kind].append(e)
    return [t for t in tries.values() if t.begins]


def number(e, key, default=None):
    """A field as a number; default, if it has none."""
    try:
        v = float(e.get(key, ""))
        return v if math.isfinite(v) else default
    except ValueError:
        return default


def plain(text, most=400):
    """On one line, without control characters, not endless."""
    text = "".join(c if c.isprintable() else " " for c in str(text))
    return text if len(text) <= most else text[:most - 3] + "..."


def cost(entries):
    """(seconds of devices, runs, runs that failed): each run of a trainer has one event, whatever it was for, so none is left out or counted twice."""
    runs = [e for e in entries if e.get("kind") == "run"]
    return sum(number(e, "seconds", 0) for e in runs), len(runs), sum(e.get("rc", "0") != "0" for e in runs)


def duration(seconds):
    return "%.0f s" % seconds if seconds < 100 else "%.0f min" % (seconds / 60) if seconds < 6000 else "%.1f h" % (seconds / 3600)


def chance_wins(tries):
    """Wins that chance alone would have given by now, at most: a try without any effect becomes one with at most the probability of its level."""
    return evalues.chance_wins([t.level for t in tries])


def effect_text(e):
    """+0.0123 [+0.0040, +0.0206]"""
    effect, low, high = (number(e, key) for key in ("effect", "lo", "hi"))
    if effect is None:
        return "?"
    return "%+.4f" % effect + (" [%s, %s]" % tuple("?" if v is None else "%+.4f" % v for v in (low, high)))


# ---- lab standup --------------------------------------------------------------------------------------------------------------------

def learnt(t):
    """The lines of a try that ended."""
    word = t.word + (" (PROVISIONAL)" if t.provisional else "")
    out = ["  %s %s  %s, %s: %s" % (t.number, word, plain(t.who, 40), plain(t.branch, 60), plain(t.hypothesis))]
    if t.verdict:
        out.append("       %s nats at equal %s, %d pairs%s" % (effect_text(t.verdict), plain(t.axis, 20), t.pairs, "; " + plain(t.verdict["reasons"]) if t.verdict.get("reasons") else ""))
    out += ["       lost: " + plain(e.get("what", "?")) for e in t.lost]
    out += ["       second scale, %s: %s, try %s" % (plain(e.get("second", "?"), 40), held(e), plain(e.get("by", "?"), 10)) for e in t.scales]
    return out + ["       " + plain(e.get("text", "")) for e in t.notes if not is_next(e)]


def held(scale):
    return "it holds" if scale.get("word") == "WIN" else "not shown to hold"


def is_next(note):
    return note.get("text", "").lower().startswith("next:")


NEXT = {"UNTUNED": "the baseline has fewer trials than the variant: lab tune, then a new try", "CONFOUNDED": "take out what else differs, then a new try"}


def next_steps(tries):
    """What follows from what is known, then what somebody noted as next."""
    out = []
    for t in tries:
        if t.provisional and not t.scales:
            out.append("  %s holds at one scale: lab scale %s" % (t.number, t.number))
        elif t.word == "running" and t.lost:
            out.append("  %s was interrupted: lab try --resume %s, if it does not run" % (t.number, t.number))
        elif t.word in NEXT:
            out.append("  %s %s: %s" % (t.number, t.word, NEXT[t.word]))
        out += ["  %s %s" % (t.number, plain(e["text"][5:].strip())) for e in t.notes if is_next(e)]
    return out


def standup(entries, since, until, wrong=()):
    """The page, as lines. Tries that began, ended or ran within the time are on it; wins expected by chance are of all tries, as is what comes next."""
    inside = [e for e in entries if since <= e.get("t", "") <= until]
    tries = tries_of(entries)
    now = [t for t in tries if any(e.get("try") == t.number for e in inside)]
    running = [t for t in now if t.word == "running"]
    ended = [t for t in now if t.word != "running"]
    seconds, runs, failed = cost(inside)
    trials = sum(e.get("arm") == "trial" for e in inside if e.get("kind") == "run")
    counts = ", ".join("%d %s" % (n, word) for word, n in ((word, sum(t.word == word for t in ended)) for word in WORDS) if n or word == "WIN")
    other = len(ended) - sum(t.word in WORDS for t in ended)
    out = ["standup  %s to %s" % (since.replace("T", " ").rstrip("Z") or "the beginning", until.replace("T", " ").rstrip("Z"))]
    out.append("tries    %d: %s%s, %d running" % (len(now), counts, ", %d other" % other if other else "", len(running)))
    wins = [t for t in tries if t.word == "WIN"]
    out.append("wins     %d of %d tries so far, %d of them PROVISIONAL; expected by chance so far, had no try an effect: at most %.3f" % (len(wins), len(tries), sum(t.provisional for t in wins), chance_wins(tries)))
    out.append("cost     %s of devices, %d runs (%d to tune, %d failed)" % (duration(seconds), runs, trials, failed))
    looks = sum(e.get("kind") == "holdout-look" for e in entries)
    out.append("hold-out looked at %d times so far" % looks)
    out.append("ledger   %d events, head %s%s" % (len(entries), entries[-1].get("hash", "?")[:16] if entries else "none", "; DAMAGED: " + plain(wrong[0]) if wrong else ""))
    sections = [("runs now", ["  %s %s, %s: %s  (%d pairs so far)" % (t.number, plain(t.who, 40), plain(t.branch, 60), plain(t.hypothesis), t.pairs) for t in running]),
                ("learnt", [line for t in ended for line in learnt(t)]),
                ("noted", ["  %s: %s" % (plain(e.get("who", "?"), 40), plain(e.get("text", ""))) for e in inside if e.get("kind") == "note" and "try" not in e]),
                ("lost", ["  " + plain(e.get("what", "?")) for e in inside if e.get("kind") == "lost" and "try" not in e]),
                ("next", next_steps(tries))]
    for name, lines in sections:
        if lines:
            out += ["", name] + lines
    return out


# ---- lab seen -----------------------------------------------------------------------------------------------------------------------

SMALL = set("a an and are as at by do does for from if in is it not of on or than that the to was what with without".split())


def stem(word):
    """biases -> bias, norms -> norm: enough to find a plural by its singular."""
    return re.sub(r"(?<=[^e]s)es$|(?<=[^aious])s$", "", word)


def words_of(text):
    return {stem(word) for word in re.findall(r"[^\W_]+", text.lower())} - SMALL


def same(have, wanted):
    """One is the beginning of the other: soft, softcap."""
    short, long = sorted((have, wanted), key=len)
    return short == long or len(short) > 3 and long.startswith(short)


def seen(entries, wanted):
    """(how many of the wanted words, try or note), those with most of them first, then the newest."""
    things = tries_of(entries) + [e for e in entries if e.get("kind") in ("note", "trial", "ablation") and "try" not in e]
    found = []
    for order, thing in enumerate(things):
        words = words_of(" ".join(thing.texts()) if isinstance(thing, Try) else " ".join(v for k, v in thing.items() if k not in ("n", "t", "kind", "hash")))
        n = sum(any(same(have, w) for have in words) for w in wanted)
        if n:
            found.append((n, order, thing))
    return [(n, thing) for n, _, thing in sorted(found, key=lambda f: (-f[0], -f[1]))]


def seen_lines(found, wanted):
    out = []
    for n, thing in found:
        if isinstance(thing, Try):
            out.append("%d of %d words, %s:" % (n, len(wanted), thing.begins.get("t", "?")[:10]))
            out += learnt(thing)
        else:
            out.append("%d of %d words, %s: %s by %s: %s" % (n, len(wanted), thing.get("t", "?")[:10], thing.get("kind"), plain(thing.get("who", "?"), 40), plain(thing.get("text") or thing.get("branch") or "")))
    return out


# ---- lab ledger ---------------------------------------------------------------------------------------------------------------------

def ledger_lines(entries, kind=None, number_=None, full=False):
    """An event a line, its fields quoted as in the file; hashes cut, unless all is wanted."""
    out = []
    for e in entries:
        if (kind and e.get("kind") != kind) or (number_ and e.get("try") != number_):
            continue
        rest = {k: v if full or not re.fullmatch("[0-9a-f]{40,64}", v) else v[:12] for k, v in e.items() if k not in ("n", "t", "kind", "who")}
        out.append("%5s %s %-12s %-12s %s" % (e.get("n", "?"), e.get("t", "?"), e.get("kind", "?"), plain(e.get("who", "?"), 40), ledger.line_of(rest)))
    return out


# ---- the three verbs ----------------------------------------------------------------------------------------------------------------

def print_ledger(home, kind=None, number_=None, full=False, check=False):
    if kind and kind not in ledger.KINDS:
        raise homes.LabError("--kind: %s given, must be one of %s" % (kind, ", ".join(ledger.KINDS)))
    if not check:
        return print_lines(ledger_lines(ledger.entries(home), kind, number_, full))
    wrong = ledger.check(home)
    print_lines([plain(w) for w in wrong] or ["%d events, each as it was written; head %s" % (len(ledger.entries(home)), ledger.head(home))])
    return 1 if wrong else 0


def print_seen(home, words):
    """Exit code 1: nothing of it is in the ledger."""
    wanted = words_of(" ".join(words))
    if not wanted:
        raise homes.LabError("seen: no word to look for")
    found = seen(ledger.entries(home), wanted)
    print_lines(seen_lines(found, wanted) or ["not tried so far: %s" % " ".join(sorted(wanted))])
    return 0 if found else 1


def print_standup(home, hours=24):
    """Of the last hours; 0: of all."""
    if not 0 <= hours < 1e6:
        raise homes.LabError("--hours is %g, must be from 0 to a million" % hours)
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp = lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ")
    since = stamp(now - datetime.timedelta(hours=hours)) if hours else ""
    print_lines(standup(ledger.entries(home), since, stamp(now), ledger.check(home)))


def print_lines(lines):
    sys.stdout.write("".join(line + "\n" for line in lines))
