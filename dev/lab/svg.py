"""svg.py: charts as SVG text for report.py: curves with bands, and intervals in rows. No script, no library, nothing fetched.

All texts come through esc(): names of branches and hypotheses are what somebody typed, and end up in a page that somebody opens."""
import html
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 250, 58, 14, 12, 44   # of a chart, and the room for what stands around it


def esc(text):
    """For text and attributes. Characters that XML does not have, controls above all, become U+FFFD."""
    allowed = lambda c: c in "\t\n" or " " <= c < "\x7f" or "\xa0" <= c < "\ud800" or "\ue000" <= c < "\ufffe" or c >= "\U00010000"
    return html.escape("".join(c if allowed(c) else "\ufffd" for c in str(text)), quote=True)


def human(v, digits=3):
    """1234567 -> 1.23M"""
    for size, suffix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(v) >= size * 0.9995:
            return "%.*g%s" % (digits, v / size, suffix)
    return "%.*g" % (digits, v)


def ticks(low, high, most):
    """Multiples of 1, 2 or 5 times a power of ten between low and high, at most about `most`, each with its text."""
    if not high > low:
        return [(low, "%.4g" % low)]
    power = 10 ** math.floor(math.log10((high - low) / most))
    unit = next(m * power for m in (1, 2, 5, 10) if (high - low) / (m * power) <= most)
    digits = max(0, -math.floor(math.log10(unit) + 1e-9))
    values = [i * unit for i in range(math.ceil(low / unit - 1e-9), math.floor(high / unit + 1e-9) + 1)]
    largest = max(abs(low), abs(high))
    enough = max(3, math.floor(math.log10(largest or 1)) - math.floor(math.log10(unit) + 1e-9) + 1)   # digits that tell neighbours apart
    return [(v, human(v, enough) if largest >= 1000 or largest < 1e-3 else "%.*f" % (digits, v + 0.0)) for v in values]


class Frame:
    """Where a value lies in a chart."""
    def __init__(self, x, y):
        self.x, self.y = x, y   # (low, high)

    def px(self, v):
        return LEFT + (WIDTH - LEFT - RIGHT) * (v - self.x[0]) / ((self.x[1] - self.x[0]) or 1)

    def py(self, v):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (v - self.y[0]) / ((self.y[1] - self.y[0]) or 1)

    def points(self, pairs):
        return " ".join("%.1f,%.1f" % (self.px(x), self.py(y)) for x, y in pairs)

    def axes(self, x_label, y_label):
        out, bottom = [], HEIGHT - BOTTOM
        for v, text in ticks(*self.x, 5):
            out.append('<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="mid" x="%.1f" y="%d">%s</text>' % (self.px(v), self.px(v), TOP, bottom, self.px(v), bottom + 16, text))
        for v, text in ticks(*self.y, 5):
            out.append('<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="end" x="%d" y="%.1f">%s</text>' % (LEFT, WIDTH - RIGHT, self.py(v), self.py(v), LEFT - 6, self.py(v) + 4, text))
        out.append('<text class="mid label" x="%.1f" y="%d">%s</text>' % ((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, esc(x_label)))
        out.append('<text class="mid label" transform="translate(13 %.1f) rotate(-90)">%s</text>' % ((TOP + bottom) / 2, esc(y_label)))
        return "".join(out)


class Series:
    """A curve: points (x, y) in the order of x; a band (x, low, high) behind it, or thin lines of the single pairs."""
    def __init__(self, name, css, points, band=(), thin=()):
        self.name, self.css, self.points, self.band, self.thin = name, css, points, band, thin

    def lines(self):
        yield from self.points
        for line in self.thin:
            yield from line


def chart(title, x_label, y_label, series, level=None, below=""):
    """A figure with its legend. The frame is that of the last six sevenths: a curve's first fall would make the rest of it flat."""
    values = [p for s in series for p in s.lines()]
    if not values:
        return ""
    x_high = max(x for x, _ in values)
    late = [y for x, y in values if x >= x_high / 7] + ([] if level is None else [level])
    low, high = min(late), max(late)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1
    bands = [(x, y) for s in series for x, *ends in s.band for y in ends]
    shown = [max(low - 20 * room, min(high + 20 * room, y)) for x, y in bands if x >= x_high / 7]   # a band of 3 pairs is so wide that no curve would be seen
    frame = Frame((0, x_high), (min([low, *shown]) - room, max([high, *shown]) + room))
    cut = any(y > frame.y[1] or y < frame.y[0] for _, y in values + bands)
    out = ['<figure><figcaption><b>%s</b> <span class="legend">%s</span></figcaption>' % (esc(title), "".join('<span class="%s"><i></i>%s</span>' % (s.css, esc(s.name)) for s in series))]
    out.append('<svg viewBox="0 0 %d %d" role="img"><title>%s</title>' % (WIDTH, HEIGHT, esc("%s: %s against %s" % (title, y_label, x_label))))
    out.append(frame.axes(x_label, y_label))
    out.append('<svg x="%d" y="%d" width="%d" height="%d" viewBox="%d %d %d %d">' % ((LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM) * 2))  # cuts what is outside
    if level is not None:
        out.append('<line class="level" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (LEFT, WIDTH - RIGHT, frame.py(level), frame.py(level)))
    for s in series:
        if s.band:
            there_and_back = [(x, high) for x, _, high in s.band] + [(x, low) for x, low, _ in reversed(s.band)]
            out.append('<polygon class="band %s" points="%s"/>' % (s.css, frame.points(there_and_back)))
        out += ['<polyline class="thin %s" points="%s"/>' % (s.css, frame.points(line)) for line in s.thin]
        if s.points:
            x, y = s.points[-1]
            out.append('<polyline class="curve %s" points="%s"><title>%s</title></polyline>' % (s.css, frame.points(s.points), esc("%s: ends at %s with %.4f" % (s.name, human(x, 4), y))))
    out.append("</svg></svg>")
    below = "; ".join(text for text in (below, "what lies outside of the frame is not drawn" if cut else "") if text)
    return "".join(out) + ('<p class="note">%s</p>' % esc(below) if below else "") + "</figure>"


def forest(title, x_label, rows, below=""):
    """Effects with their intervals, a row each: (name, css, low or None, effect, high or None, declared or None)."""
    if not rows:
        return ""
    ends = sorted(abs(v) for _, _, low, effect, high, declared in rows for v in (low, effect, high, declared) if v is not None)
    widest = 4 * ends[len(ends) // 2] if len(ends) > 8 else ends[-1]     # an interval of 3 pairs is so wide that no other would be seen
    widest = min(ends[-1], max(widest, max(abs(row[3]) for row in rows), 1e-9)) or 1
    left, width, line = 190, 720, 20
    height = 14 + line * len(rows) + 40
    px = lambda v: left + (width - left - 20) * (v + widest) / (2 * widest)
    inside = lambda v: max(-widest, min(widest, v))
    out = ['<figure class="wide"><figcaption><b>%s</b></figcaption><svg viewBox="0 0 %d %d" role="img"><title>%s</title>' % (esc(title), width, height, esc(title))]
    for v, text in ticks(-widest, widest, 6):
        out.append('<line class="grid" x1="%.1f" x2="%.1f" y1="8" y2="%d"/><text class="mid" x="%.1f" y="%d">%s</text>' % (px(v), px(v), height - 40, px(v), height - 24, text))
    out.append('<line class="level" x1="%.1f" x2="%.1f" y1="8" y2="%d"/>' % (px(0), px(0), height - 40))
    for i, (name, css, low, effect, high, declared) in enumerate(rows):
        y = 14 + line * i + line / 2
        out.append('<text class="end" x="%d" y="%.1f">%s</text>' % (left - 10, y + 4, esc(name if len(name) < 28 else name[:26] + "\u2026")))
        if low is not None and high is not None:
            out.append('<line class="interval %s" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>' % (css, px(inside(low)), px(inside(high)), y, y))
            out += ['<text class="%s" x="%.1f" y="%.1f">%s</text>' % (css, px(inside(v)) - 4, y + 4, mark) for v, mark in ((low, "\u2039"), (high, "\u203a")) if abs(v) > widest]
        if declared is not None:
            out.append('<line class="declared" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>' % (px(inside(declared)), px(inside(declared)), y - 6, y + 6))
        out.append('<circle class="%s" cx="%.1f" cy="%.1f" r="4"><title>%s</title></circle>' % (css, px(effect), y, esc("%s: %+.4f" % (name, effect) + (" [%+.4f, %+.4f]" % (low, high) if low is not None and high is not None else ""))))
    out.append('<text class="mid label" x="%.1f" y="%d">%s</text></svg>' % ((left + width - 20) / 2, height - 6, esc(x_label)))
    return "".join(out) + ('<p class="note">%s</p>' % esc(below) if below else "") + "</figure>"
