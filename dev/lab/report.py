"""report.py: `lab report`: the whole session as one HTML page, without network, framework or script: every try with its verdict, its curves as far as they
ran and no further, the differences of its pairs with their interval, and the baseline's card.

The page is well-formed XML, which is how its tests read it."""
import glob
import math
import os
import re

import evalues
import home as homes
import ledger
import pages
import record
from curves import Curve
from svg import Series, chart, esc, forest, human

AXES = {"tokens": "tokens of training", "flops": "FLOPs of training", "seconds": "seconds of training"}
CSS = {"WIN": "win", "LOSS": "loss", "NULL": "null"}   # of verdicts; all others are grey
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --pale: #626a73; --grid: #e6e8eb; --box: #f6f7f8; --base: #1f6fb4; --variant: #cf4a1c; --win: #16805d; --loss: #c22f2f; --null: #8a6d00; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e4e7ea; --pale: #98a1ab; --grid: #2a2f34; --box: #1d2125; --base: #62aef0; --variant: #ff8a5c; --win: #4cc79b; --loss: #ff7b72; --null: #dcaa3c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 32px 64px; max-width: 1320px; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 26px; } h2 { margin: 44px 0 10px; font-size: 19px; } h3 { margin: 34px 0 2px; font-size: 16px; overflow-wrap: anywhere; }
p { margin: 4px 0; overflow-wrap: anywhere; } .pale, .note, .legend { color: var(--pale); font-size: 13px; } .bad { color: var(--loss); }
dl { display: flex; flex-wrap: wrap; gap: 10px; margin: 20px 0 0; } dl div { flex: 1 1 150px; padding: 10px 14px; background: var(--box); border-radius: 8px; }
dt { color: var(--pale); font-size: 13px; } dd { margin: 0; font-size: 20px; } dd small { display: block; font-size: 13px; color: var(--pale); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; } th, td { padding: 4px 18px 4px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid); }
th { color: var(--pale); font-weight: 400; font-size: 13px; white-space: nowrap; } td.number { white-space: nowrap; } td.text { min-width: 90px; max-width: 420px; overflow-wrap: anywhere; } td.long { min-width: 220px; }
.word { font-weight: 600; color: var(--pale); } .word.win { color: var(--win); } .word.loss { color: var(--loss); } .word.null { color: var(--null); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 360px), 1fr)); gap: 20px 30px; margin: 12px 0; } figure { margin: 0; min-width: 0; } figure.wide { max-width: 900px; margin-top: 30px; }
.legend span { margin-left: 12px; } .legend i { display: inline-block; width: 18px; height: 3px; margin-right: 5px; vertical-align: middle; background: currentColor; }
svg { display: block; width: 100%; overflow: visible; } svg svg { overflow: hidden; } svg text { fill: var(--pale); font-size: 11.5px; } svg .mid { text-anchor: middle; } svg .end { text-anchor: end; }
.grid { stroke: var(--grid); } .level { stroke: var(--pale); stroke-dasharray: 5 4; } .curve { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; } .thin { fill: none; stroke: currentColor; stroke-width: .8; stroke-opacity: .5; }
.band { fill: currentColor; fill-opacity: .18; } .base { color: var(--base); } .variant { color: var(--variant); } .win { color: var(--win); } .loss { color: var(--loss); } .null { color: var(--null); } .other { color: var(--pale); }
.interval { stroke: currentColor; stroke-width: 2; } circle { fill: currentColor; } .declared { stroke: var(--ink); stroke-width: 2; } svg text.win, svg text.loss, svg text.null { fill: currentColor; }
"""


# ---- what ran -----------------------------------------------------------------------------------------------------------------------

def runs_of(home, number):
    """{arm: runs in the order in which they were planned}, of those that ended well: base.1, base.2, ..., base.10."""
    arms, planned = {}, lambda path: [int(n) for n in re.findall(r"\.(\d+)/run\.json$", path)]
    for path in sorted(glob.glob(os.path.join(glob.escape(home.tries), number + "-*", "*", "run.json")), key=planned):
        run = record.read(path)
        if run.rc == 0:
            arms.setdefault(run.arm, []).append(run)
    return arms


def curve_of(run):
    """Up to where it diverged; None, if it has no validation."""
    try:
        return Curve(run)
    except record.LabError:
        return None


def common(curves, axis):
    """The budgets at which all curves can be read: the validations of the first, and the ends of what all reached. Nothing is extrapolated."""
    if not curves:
        return []
    low, high = max(getattr(c.points[0], axis) for c in curves), min(c.end(axis) for c in curves)
    return sorted({low, high} | {x for x in (getattr(p, axis) for p in curves[0].points) if low <= x <= high}) if low <= high else []


def mean_series(runs, axis, name, css):
    """The mean over seeds as far as all of them ran; behind it from the lowest to the highest seed."""
    curves = [c for c in map(curve_of, runs) if c]
    rows = [(x, [c.at(axis, x) for c in curves]) for x in common(curves, axis)]
    return Series("%s, %d seeds" % (name, len(curves)), css, [(x, sum(ys) / len(ys)) for x, ys in rows], [(x, min(ys), max(ys)) for x, ys in rows])


def difference_series(arms, axis):
    """base - variant of each pair at equal budgets (up: the variant is better), the mean and its interval at each budget."""
    base = {run.seed: curve_of(run) for run in arms.get("base", [])}
    pairs = [(base[run.seed], curve_of(run)) for run in arms.get("variant", []) if base.get(run.seed) and curve_of(run)]
    pairs = pairs[:evalues.seen(pairs)] or pairs   # of the last look, as its interval is
    xs = common([c for pair in pairs for c in pair], axis)
    rows = [(x, [b.at(axis, x) - v.at(axis, x) for b, v in pairs]) for x in xs]
    band = [(x, *interval(ds)) for x, ds in rows if interval(ds)]
    thin = [[(x, ds[i]) for x, ds in rows] for i in range(len(pairs))]
    return Series("mean of %d pairs" % len(pairs), "variant", [(x, sum(ds) / len(ds)) for x, ds in rows], band, thin)


def interval(ds):
    """(low, high) of the mean, valid at all looks together; () before the first."""
    low, high = evalues.interval(ds)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else ()


# ---- a try --------------------------------------------------------------------------------------------------------------------------

def verdict_of(home, number):
    for path in glob.glob(os.path.join(glob.escape(home.tries), number + "-*", "verdict.json")):
        return homes.read_json(path) or {}
    return {}


def row_of(verdict, axis):
    return next((row for row in verdict.get("rows", []) if row.get("axis") == axis), {})


def fixed(v, form="%+.4f"):
    return "?" if v is None else form % v


def effect(row):
    """+0.0123 [+0.0040, +0.0206] 1.07x"""
    return "%s [%s, %s] " % tuple(fixed(row.get(key)) for key in ("effect", "lo", "hi")) + fixed(row.get("multiplier"), "%.3fx") if row else ""


def change(pair, form="%.0f"):
    """1000 -> 990, of baseline and variant."""
    base, variant = pair or (None, None)
    return fixed(base, form) if base == variant else fixed(base, form) + " \u2192 " + fixed(variant, form)


def charts_of(arms, axis):
    both = [(arm, arms[arm]) for arm in ("base", "variant") if arms.get(arm)]
    order = sorted(AXES, key=lambda a: a != axis)   # the declared one first
    out = [chart("at equal " + a, AXES[a], "validation loss, nats/token", [mean_series(runs, a, arm, arm) for arm, runs in both],
                 below="band: from the lowest to the highest seed") for a in order]
    if len(both) == 2 and axis in AXES:
        series = difference_series(arms, axis)
        if series.points:
            out.insert(1, chart("differences of pairs", AXES[axis], "base - variant, nats/token", [series], level=0,
                                below="thin: each seed; band: 95 % interval of the mean, valid at every look; above 0 the variant is better"))
    return '<div class="charts">%s</div>' % "".join(out)


def try_section(home, t):
    verdict, arms = verdict_of(home, t.number), runs_of(home, t.number)
    out = ['<section id="try-%s"><h3>%s <span class="word %s">%s</span> %s</h3>' % (esc(t.number), esc(t.number), CSS.get(t.word, "other"), esc(word_of(t)), esc(t.branch))]
    out.append('<p>%s</p><p class="pale">by %s, begun %s; declared: %s nats at equal %s</p>' % (esc(t.hypothesis), esc(t.who), esc(t.begins.get("t", "?")), esc(t.begins.get("effect", "?")), esc(t.axis)))
    out += ['<p class="%s">%s</p>' % ("bad" if t.word == "CONFOUNDED" else "", esc(reason)) for reason in verdict.get("reasons", [])] + ['<p class="bad">lost: %s</p>' % esc(e.get("what", "?")) for e in t.lost]
    out += ["<p>second scale, %s: %s, try %s</p>" % (esc(e.get("second", "?")), pages.held(e), esc(e.get("by", "?"))) for e in t.scales]
    out += ["<p>%s: %s</p>" % (esc(e.get("who", "?")), esc(e.get("text", ""))) for e in t.notes]
    if arms:
        out.append(charts_of(arms, t.axis))
    return "".join(out) + "</section>\n"


def word_of(t):
    return t.word + (" (PROVISIONAL)" if t.provisional else "")


# ---- the baseline's card ------------------------------------------------------------------------------------------------------------

def cards(home):
    return [homes.read_json(path) or {} for path in sorted(glob.glob(os.path.join(glob.escape(home.cards), "*.json")))]


def spread(column, form):
    """A mean with its deviation."""
    column = column or {}
    return "?" if column.get("mean") is None else (form % column["mean"]) + (" \u00b1 " + form % column["sd"] if column.get("sd") is not None else "")


def card_section(card):
    if "curve" not in card:
        return ""
    points_ = [p for p in card["curve"] if p["mean"] is not None]
    series = Series("mean of %s seeds" % card.get("seeds", "?"), "base", [(p["tokens"], p["mean"]) for p in points_], [(p["tokens"], p["mean"] - (p["sd"] or 0), p["mean"] + (p["sd"] or 0)) for p in points_])
    last = points_[-1] if points_ else {}
    rows = [["validation loss", spread(last, "%.5f") + " nats/token after %s steps" % last.get("step", "?")], ["tokens/s", spread(card.get("tokens_per_s"), "%.0f")], ["FLOPs a token", human(card.get("flops_per_token") or 0, 4)],
            ["parameters", card.get("parameters", "?")], ["memory", spread(card.get("peak_mib"), "%.0f") + " MiB"], ["a run", spread(card.get("seconds"), "%.2f") + " s"],
            ["one seed twice", "equal to the bit" if card.get("bit_equal") else "NOT equal to the bit: this machine is unfit"], ["commit", str(card.get("commit", "?"))[:12]], ["machine", card.get("machine", "?")],
            ["options", ("text", " ".join(map(str, card.get("options", []))))]]
    return "<section><h3>%s</h3>%s%s</section>\n" % (esc(card.get("scale", "?")), '<div class="charts">%s</div>' % chart(
        "the baseline", AXES["tokens"], "validation loss, nats/token", [series], below="band: one standard deviation over seeds on either side"), table(["", "mean \u00b1 sd over seeds"], rows))


# ---- the page -----------------------------------------------------------------------------------------------------------------------

def table(head, rows):
    """Cells that are a pair are (class, text)."""
    cell = lambda c: "<td>%s</td>" % esc(c) if not isinstance(c, tuple) else '<td class="%s">%s</td>' % (c[0], esc(c[1]))
    return '<div class="scroll"><table><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>\n' % (
        "".join("<th>%s</th>" % esc(h) for h in head), "".join("<tr>%s</tr>\n" % "".join(map(cell, row)) for row in rows))


def table_of_tries(home, entries, tries):
    rows = []
    for t in tries:
        verdict = verdict_of(home, t.number)
        seconds = pages.cost([e for e in entries if e.get("try") == t.number])[0]
        rows.append([t.number, ("word " + CSS.get(t.word, "other"), word_of(t)), ("number", t.who[:40]), ("text", t.branch), ("text long", t.hypothesis), t.axis, ("number", t.begins.get("effect", "?")), t.pairs] +
                    [("number", effect(row_of(verdict, a))) for a in AXES] + [("number", text) for text in (change(verdict.get("parameters")), change(verdict.get("memory"), "%.1f"), "" if verdict.get("lines") is None else str(verdict["lines"]), pages.duration(seconds))])
    return table(["try", "verdict", "by", "branch", "hypothesis", "axis", "declared", "pairs", "equal tokens", "equal FLOPs", "equal seconds", "parameters", "memory, MiB", "lines", "cost"], rows)


def tile(name, value, beside=""):
    return "<div><dt>%s</dt><dd>%s<small>%s</small></dd></div>" % (esc(name), esc(value), esc(beside))


def tiles(entries, tries):
    seconds, runs, failed = pages.cost(entries)
    wins = [t for t in tries if t.word == "WIN"]
    return "<dl>%s</dl>\n" % "".join((
        tile("tries", len(tries), ", ".join("%d %s" % (sum(t.word == w for t in tries), w) for w in pages.WORDS + ["running"] if any(t.word == w for t in tries))),
        tile("wins", len(wins), "%d of them PROVISIONAL" % sum(t.provisional for t in wins)),
        tile("wins expected by chance", "%.3f" % pages.chance_wins(tries), "at most, so far, had no try an effect"),
        tile("cost", pages.duration(seconds), "of devices, %d runs, %d of them failed" % (runs, failed)),
        tile("hold-out", sum(e.get("kind") == "holdout-look" for e in entries), "times looked at"),
        tile("ledger", "%d events" % len(entries), "head " + (entries[-1].get("hash", "?")[:16] if entries else "none"))))


def overview(home, tries):
    rows = []
    for t in tries:
        row = row_of(verdict_of(home, t.number), t.axis)
        if row.get("effect") is not None:
            rows.append(("%s %s" % (t.number, t.branch), CSS.get(t.word, "other"), row.get("lo"), row["effect"], row.get("hi"), pages.number(t.begins, "effect")))
    return forest("Every effect on its declared axis", "base - variant, nats/token: on the right the variant is better", rows, "coloured as its verdict; line: interval; black bar: the effect that was declared; arrow: the interval goes on")


def draw(home, entries, wrong=()):
    tries = pages.tries_of(entries)
    out = ['<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/><link rel="icon" href="data:,"/>']
    out.append("<title>lab report</title><style>%s</style></head>\n<body><h1>Lab report</h1>" % STYLE)
    out.append('<p class="pale">%s to %s</p>' % (esc(entries[0].get("t", "?")) if entries else "", esc(entries[-1].get("t", "?")) if entries else ""))
    out += ['<p class="bad">the ledger is damaged: %s</p>' % esc(w) for w in wrong]
    out.append(tiles(entries, tries) + overview(home, tries))
    out.append("<h2>Every try</h2>\n" + table_of_tries(home, entries, tries))
    out.append("<h2>Cards</h2>\n" + "".join(map(card_section, cards(home))))
    out.append("<h2>Curves</h2>\n" + "".join(try_section(home, t) for t in tries))
    return "".join(out) + "</body></html>\n"


def write(home, path=None):
    path = os.path.abspath(path or os.path.join(home.root, "report.html"))
    text = draw(home, ledger.entries(home), ledger.check(home))
    homes.write_file(path, text)
    print("%s: %s bytes, for any browser" % (path, human(len(text.encode()))))
