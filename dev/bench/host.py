"""Does the GPU wait for the host where a step is smallest: 124M, B=4, T=64, one micro-batch?

The host launches a step and then waits for the statistics of the one before, so it is a step ahead for as long as it launches a step in
less time than the GPU works on one. What it takes at most shows in a model of width 64: the same calls of the host and the same
kernels in the graph, with next to no work in them. Where nsys is installed the gaps themselves are read from its trace as well: a
micro-step is one graph, copies and AdamW are launches of their own, and what lies between these is the GPU without work.
"""
import os
import shutil
import sqlite3

from runs import WORK, run_ours, say
from watch import DRY

BATCH, SEQ = 4, 64
MODEL, SAME_CALLS = ("d1c64h1", "d1c16h1") if DRY else ("d12", "d12c64h1")
WARM_UP, STEPS = (2, 6) if DRY else (20, 120)
NSYS = ["nsys", "profile", "-t", "cuda", "-s", "none", "--cpuctxsw=none", "--cuda-graph-trace=graph", "--export=sqlite", "-f", "true", "-o", f"{WORK}/host"]


def host(args, watch):
    """One row, or none."""
    def small(model, under=()):
        return run_ours(args, watch, model, BATCH, STEPS, seq=SEQ, tokens=BATCH * SEQ, skip=WARM_UP, under=under)
    row = {"check": "host", "model": MODEL, "same_calls": SAME_CALLS, "batch": BATCH, "seq": SEQ}
    real, calls = small(MODEL), small(SAME_CALLS)
    for r in (real, calls):
        if "error" in r:
            say(f"the host at B={BATCH}, T={SEQ}: {r['error']}")
            return [{**row, "error": r["error"]}]
    row |= {"ms": real["ms"], "host_ms_at_most": calls["ms"], "idle": None, "why_no_idle": "no nsys here"}
    if shutil.which("nsys"):
        profiled = small(MODEL, NSYS)
        row["idle"], row["why_no_idle"] = idle_share(f"{WORK}/host.sqlite") if "error" not in profiled else (None, profiled["error"])
    verdict = "the GPU does not wait for it" if row["host_ms_at_most"] < 0.9 * row["ms"] else "that leaves open whether the GPU waits for it"
    say(f"the host at B={BATCH}, T={SEQ}: a step of {MODEL} takes {row['ms']:.3f} ms, one of {SAME_CALLS}, with the same calls of the host, "
        f"{row['host_ms_at_most']:.3f}: the host needs no more than that; {verdict}; in nsys's trace the GPU is without work "
        + (f"for {row['idle']:.2%} of the time\n" if row["idle"] is not None else f"for an unknown time: {row['why_no_idle']}\n"))
    return [row]


def idle_share(path):
    """Of the time between the first and the last graph after the warm-up, the part in which nothing ran on the GPU; and why it is not known."""
    if not os.path.exists(path):
        return None, "nsys wrote no trace"
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    tables = {name for name, in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    def spans(kind):
        table = f"CUPTI_ACTIVITY_KIND_{kind}"
        return sorted(db.execute(f'SELECT start, "end" FROM {table} WHERE "end" > start')) if table in tables else []
    graphs = spans("GRAPH_TRACE")[WARM_UP:]
    if len(graphs) < 2:
        return None, "nsys traced no graphs"
    begin, end = graphs[0][0], graphs[-1][0]
    idle, seen = 0, begin   # seen: until then it is known what ran
    for first, last in sorted(graphs + spans("KERNEL") + spans("MEMCPY") + spans("MEMSET")):
        if last > begin and first < end:
            idle += max(0, first - seen)
            seen = max(seen, last)
    return idle / (end - begin), ""
