"""ledger.py: what happened, one line an event, failures too; only ever added to.

    n=12 t=2026-11-27T08:00:00Z kind=try-begins who=ada try=0003 branch=no-bias hypothesis="biases do nothing" hash=<64 hex digits>

logfmt: key=value, quoted where a value has other than letters, digits and -+._:/@%. hash = sha256(hash of the line before,
newline, this line without its hash), so that a line that is changed, moved or taken out breaks the chain behind it. The
head, the last hash, stands in each verdict, in the lab's commits and in the private folder: a chain that was computed
anew from a changed past does not contain them.

Kinds: card, trial (a run that tuned), try-begins, run, look, verdict, holdout-look, ablation, scale, note, lost."""
import datetime
import hashlib
import os
import re

import home as homes

KEY, PLAIN = re.compile(r"[a-z][a-z0-9_]*\Z"), re.compile(r"[A-Za-z0-9\-+._:/@%,*]+\Z")
FIELD = re.compile(r'([a-z][a-z0-9_]*)=(?:"((?:[^"\\]|\\.)*)"|([^ "]*))(?: |\Z)')
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
KINDS = "card trial try-begins run look verdict holdout-look ablation scale note lost".split()


def quoted(value):
    text = "%.9g" % value if isinstance(value, float) else str(value)
    if PLAIN.match(text):
        return text
    return '"' + "".join(ESCAPES.get(c, c if c.isprintable() else "\\x%02x" % ord(c) if ord(c) < 256 else "?") for c in text) + '"'


def unquoted(text):
    return re.sub(r"\\(x[0-9a-f]{2}|.)", lambda m: chr(int(m.group(1)[1:], 16)) if len(m.group(1)) == 3 else {"n": "\n", "r": "\r", "t": "\t"}.get(m.group(1), m.group(1)), text)


def line_of(fields):
    return " ".join("%s=%s" % (key, quoted(value)) for key, value in fields.items())


def parse(line):
    """The fields of a line in their order, all as text; None where it is no logfmt."""
    fields, at = {}, 0
    while at < len(line):
        m = FIELD.match(line, at)
        if not m:
            return None
        fields[m.group(1)] = unquoted(m.group(2)) if m.group(2) is not None else m.group(3)
        at = m.end()
    return fields


def chained(previous, line):
    return hashlib.sha256((previous + "\n" + line).encode()).hexdigest()


def raw_lines(home):
    """Whole lines, and what a kill left of a last one."""
    try:
        with open(home.ledger, encoding="utf-8", errors="replace", newline="\n") as f:
            text = f.read()
    except FileNotFoundError:
        return [], ""
    lines = text.split("\n")
    return lines[:-1], lines[-1]


def entries(home, kind=None):
    """Events in their order as dictionaries of text; of one kind, if it is given."""
    parsed = [parse(line) for line in raw_lines(home)[0]]
    return [fields for fields in parsed if fields and (kind is None or fields.get("kind") == kind)]


def head(home):
    """The hash of the last line; of no line, 64 zeros."""
    lines = raw_lines(home)[0]
    return (parse(lines[-1]) or {}).get("hash", "?") if lines else "0" * 64


def write_event(home, lines, kind, fields):
    """Adds one line behind `lines`, of which it becomes the last, then its hash to the heads."""
    previous = (parse(lines[-1]) or {}).get("hash", "?") if lines else "0" * 64
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {"n": len(lines) + 1, "t": now, "kind": kind, "who": homes.who()}
    event.update((key, value) for key, value in fields.items() if value is not None)
    line = line_of(event)
    lines.append(line + " hash=" + chained(previous, line))
    for path, text in ((home.ledger, lines[-1] + "\n"), (home.heads, "%d %s\n" % (len(lines), lines[-1][-64:]))):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, text.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    return parse(lines[-1])


def append(home, kind, **fields):
    """Adds an event; returns it as entries() would. What a kill left of a line is taken out, and said in an event of its own."""
    if kind not in KINDS:
        raise ValueError("no kind of event: %r" % kind)
    for key in fields:
        if not KEY.match(key) or key in ("n", "t", "kind", "hash"):
            raise ValueError("no key of a field: %r" % key)
    with homes.locked(os.path.join(home.root, ".ledger.lock")):
        lines, torn = raw_lines(home)
        if torn:
            with open(home.ledger, "rb+") as f:
                f.truncate(os.path.getsize(home.ledger) - len(torn.encode()) if "\ufffd" not in torn else f.read().rfind(b"\n") + 1)
            write_event(home, lines, "lost", {"what": "a line of the ledger that a kill cut short", "rest": torn})
        return write_event(home, lines, kind, fields)


def check(home):
    """What is wrong with the ledger, a sentence each; nothing, if it is as it was written."""
    with homes.locked(os.path.join(home.root, ".ledger.lock")):  # an event that is written meanwhile may be in the heads and not yet in the lines that were read
        (lines, torn), heads = raw_lines(home), list(witnesses(home))
    wrong, previous, hashes = [], "0" * 64, []
    for n, line in enumerate(lines, 1):
        fields, at = parse(line), line.rfind(" hash=")
        if not fields or at < 0 or fields.get("n") != str(n):
            wrong.append("line %d of the ledger is not the event %d" % (n, n))
        elif fields["hash"] != chained(previous, line[:at]):
            wrong.append("line %d of the ledger was changed, or one before it taken out: its hash is another" % n)
        previous = (fields or {}).get("hash", "?")
        hashes.append(previous)
    for n, seen, where in heads:
        if n > len(hashes) or hashes[n - 1] != seen:
            wrong.append("event %d of the ledger is not the one that %s names" % (n, where))
            break
    if torn:
        wrong.append("the last line of the ledger was cut short, as by a kill; the next event will say so")
    return wrong


def witnesses(home):
    """(n, hash, where) of heads that were written down elsewhere."""
    try:
        with open(home.heads) as f:
            for line in f:
                if line.endswith("\n"):
                    yield int(line.split()[0]), line.split()[1], "the private folder"
    except FileNotFoundError:
        pass
    for name in sorted(os.listdir(home.tries)) if os.path.isdir(home.tries) else []:
        verdict = homes.read_json(os.path.join(home.tries, name, "verdict.json")) or {}
        if "head" in verdict:
            yield int(verdict["head_n"]), verdict["head"], "the verdict of try " + name
