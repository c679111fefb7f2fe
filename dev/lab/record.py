"""record.py: one run of a trainer as data, and the file it is kept in (run.json).

Whoever starts a run writes one Run; curves, verdicts and pages read nothing else of it. A field that is not known is None, never 0. The curve is
what the run's own validations said, one Point each, in the order they were made; tokens, flops and seconds are those spent on training up to
there, so a validation's own time is in none of them.
"""
import dataclasses
import json
import math
import os
from typing import Dict, List, NamedTuple, Optional


class LabError(Exception):
    """What a user is told in one line: the command prints `lab: ...` and exits with 2."""


class Point(NamedTuple):
    """A validation."""
    step: int
    tokens: float
    flops: float
    seconds: float
    loss: Optional[float]   # None: it was not finite


@dataclasses.dataclass
class Run:
    arm: str                                  # base | variant, or a name that a test gives
    seed: int                                 # runs of one seed are a pair: the same data order and, where they exist in both, initial weights
    commit: str = ""                          # of the tree that was built
    command: str = ""                         # as it would be typed
    options: Dict = dataclasses.field(default_factory=dict)   # the "run" object of metrics.jsonl: all options, defaults too
    rc: int = 0                               # of the process; negative: the signal that ended it
    seconds: Optional[float] = None           # from start to end, by the tool's clock
    peak_mib: Optional[float] = None          # resident memory at its highest
    parameters: Optional[int] = None          # counted from the shapes in model.safetensors
    flops_per_token: Optional[float] = None   # forward and backward, counted from those shapes
    tokens_per_step: Optional[int] = None
    steps: Optional[int] = None               # that were trained
    curve: List[Point] = dataclasses.field(default_factory=list)
    lrs_sha: str = ""                         # SHA-256 of the learning rates of all steps
    holdout_loss: Optional[float] = None      # by the tool's own evaluation
    checked_val_loss: Optional[float] = None  # of the last validation, by the tool's own evaluation
    hashes: Dict[str, str] = dataclasses.field(default_factory=dict)   # SHA-256 of data, tokenizer, evaluation, program
    others_cpu: Optional[float] = None        # share of the machine that others used meanwhile, 0 to 1


NUMBERS = {"seconds", "peak_mib", "flops_per_token", "holdout_loss", "checked_val_loss", "others_cpu"}
WHOLE = {"seed", "rc", "parameters", "tokens_per_step", "steps"}
OPTIONAL = (NUMBERS | WHOLE) - {"seed", "rc"}


def to_json(run):
    """The text of run.json. A loss that is not finite is null there, as JSON has no NaN."""
    d = dataclasses.asdict(run)
    d["curve"] = [[p.step, p.tokens, p.flops, p.seconds, p.loss if finite(p.loss) else None] for p in map(Point._make, run.curve)]
    for name in NUMBERS:
        d[name] = d[name] if finite(d[name]) else None
    return json.dumps(d, indent=1, sort_keys=True, allow_nan=False) + "\n"


def from_json(text, name="run.json"):
    """The Run that a text holds; a LabError that names the field if it is none."""
    try:
        d = json.loads(text)
    except ValueError as e:
        raise LabError(f"{name}: no JSON: {e}")
    if not isinstance(d, dict):
        raise LabError(f"{name}: an object is expected")
    known = {f.name: f for f in dataclasses.fields(Run)}
    for key in d:
        if key not in known:
            raise LabError(f"{name}: {key!r} is no field of a run")
    for key in ("arm", "seed"):
        if key not in d:
            raise LabError(f"{name}: {key} is missing")
    for key, value in d.items():
        if not fits(key, value):
            raise LabError(f"{name}: {key}: {json.dumps(value)[:60]} is not what belongs there")
    d["curve"] = [Point._make(p) for p in d.get("curve", [])]
    return Run(**d)


def fits(key, value):
    """Is it of the type that the field has?"""
    if value is None:
        return key in OPTIONAL
    if key in NUMBERS:
        return finite(value)
    if key in WHOLE:
        return isinstance(value, int) and not isinstance(value, bool)
    if key == "curve":
        return isinstance(value, list) and all(isinstance(p, list) and len(p) == 5 and all(map(finite, p[:4])) and (p[4] is None or finite(p[4]))
                                               for p in value)
    return isinstance(value, dict if key in ("options", "hashes") else str)


def finite(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)


def write(run, path):
    """Whole or not at all: a temporary name, sync, rename, sync of the folder."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w") as f:
        f.write(to_json(run))
        f.flush()
        os.fsync(f.fileno())
    os.rename(temporary, path)
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def read(path):
    try:
        with open(path) as f:
            return from_json(f.read(), path)
    except OSError as e:
        raise LabError(f"{path}: {e.strerror}")
