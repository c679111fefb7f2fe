"""runs.py: one run of a trainer: started under a lease, timed by the lab's own clock, audited, written down as run.json.

The trainer ends when the lab does (PR_SET_PDEATHSIG), and holds the lease as long as it lives. A run without run.json did not end:
it is made anew."""
import ctypes
import hashlib
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import time

import audit
import home as homes
import leases
import ledger
import record
from home import LabError

PR_SET_PDEATHSIG = 1
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error)  # what files that a program wrote may lead to


def ends_with_us():
    """In the child, before exec: it gets SIGTERM when the lab dies, by kill -9 too."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # no Linux: it runs on, and the lease with it


def busy_jiffies():
    """Time that all processes of the machine have had, in seconds; None where /proc does not say."""
    try:
        with open("/proc/stat") as f:
            fields = [int(x) for x in f.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def share_of_a_core(pid):
    """Of the time in which a process that has ended, and is not reaped yet, was ready to run, the share in which it did: what others left it of its core. Of several
    threads the first one's. None where /proc does not say."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with open("/proc/%d/schedstat" % pid) as f:
            ran, waited = map(int, f.read().split()[:2])
        return ran / (ran + waited)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def start(command, lease, log, drop=lambda: None):
    """Runs to the end: exit status, seconds by the lab's clock, CPU seconds, peak memory, the share of the machine that others used, and that of a core that it had."""
    name, handle, environment = lease
    before, begin = busy_jiffies(), time.monotonic()
    with open(log, "w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, pass_fds=(handle,), preexec_fn=lambda: (drop(), ends_with_us()))
        core = share_of_a_core(child.pid)
        _, status, usage = os.wait4(child.pid, 0)
    end, after = time.monotonic(), busy_jiffies()
    seconds = end - begin
    child.returncode = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    cpu = usage.ru_utime + usage.ru_stime
    others = None if before is None else min(1.0, max(0.0, (after - before - cpu) / (seconds * os.cpu_count())))
    return {"rc": child.returncode, "seconds": seconds, "cpu": cpu, "peak_mib": usage.ru_maxrss / 1024, "others": others, "core": core, "span": [begin, end]}


def read_metrics(out):
    """The header, the steps and the validations that a run wrote."""
    header, steps, validations = {}, [], []
    try:
        with open(os.path.join(out, "metrics.jsonl")) as f:
            for line in f:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # a line that a kill cut short
                if not isinstance(event, dict):
                    continue
                # what a program writes is believed to be numbers only where it is
                event = {key: value if key in ("run", "given") or record.finite(value) else None for key, value in event.items()}
                if isinstance(event.get("run"), dict):
                    header = event
                elif event.get("step") is not None and "val_loss" in event:
                    validations.append(event)
                elif event.get("step") is not None and "loss" in event:
                    steps.append(event)
    except OSError:
        pass
    return header, steps, validations


def shapes(folder):
    """(config, {name: shape}) of a checkpoint, from its own files."""
    tensors, _ = audit.safetensors_header(os.path.join(folder, "model.safetensors"))
    return homes.read_json(os.path.join(folder, "config.json")), {name: t["shape"] for name, t in tensors.items() if name != "__metadata__"}


def count_flops(config, tensors, T):
    """(parameters, FLOPs a token): 6 a weight of each matrix that multiplies, and 6 L NH HS T of causal attention, forward and backward
    (Kaplan et al. 2020). Embeddings are looked up; one that is the head too multiplies."""
    def size(shape):
        n = 1
        for d in shape:
            n *= d
        return n
    parameters = sum(map(size, tensors.values()))
    looked_up = [name for name in tensors if name.endswith("wpe.weight") or
                 (name.endswith(("wte.weight", "embed_tokens.weight")) and any(other.endswith("lm_head.weight") for other in tensors))]
    products = sum(size(shape) for name, shape in tensors.items() if len(shape) == 2 and name not in looked_up)
    layers, heads = config.get("n_layer") or config.get("num_hidden_layers"), config.get("n_head") or config.get("num_attention_heads")
    head = config.get("head_dim") or (config.get("n_embd") or config.get("hidden_size")) // heads
    return parameters, 6.0 * products + 6.0 * layers * heads * head * T


def depth_and_width(config):
    return [config.get("n_layer") or config.get("num_hidden_layers"), config.get("n_embd") or config.get("hidden_size")]


def checkpoint(out):
    found = sorted(f for f in os.listdir(out) if f.startswith("step_")) if os.path.isdir(out) else []
    return os.path.join(out, found[-1]) if found else None


def make(home, scale, tree, folder, arm, seed, commit, steps=None, extra=(), context="", evaluates_holdout=True, say=lambda text: None, audits=True, number=None):
    """One run, whole: (record.Run, evidence), and its event in the ledger, of try `number`. What ran to its end before is read, not run again."""
    path, evidence_path = os.path.join(folder, "run.json"), os.path.join(folder, "evidence.json")
    if os.path.exists(path):
        return record.read(path), homes.read_json(evidence_path)
    out, steps = os.path.join(folder, "out"), steps or scale.steps
    with leases.hold(home, scale.device, context or arm, say) as lease:
        if os.path.exists(path):  # somebody else made it while we waited
            return record.read(path), homes.read_json(evidence_path)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        command = scale.command(os.path.join(tree, scale.program), out, seed, steps, extra)
        with home.lent(folder):
            done = start(command, lease, os.path.join(folder, "run.log"), home.drop)
        if os.path.islink(out):  # what lies behind a link is not of this run, and is not cleared away below
            os.remove(out)
        run, evidence = describe(scale, out, arm, seed, commit, command, steps, done)
        evidence["lease"] = lease[0]
        if audits and checkpoint(out):
            evidence["evaluate"] = homes.sha256(os.path.join(tree, "build", "evaluate"))
            try:
                evidence.update(audit.look(home, scale, tree, checkpoint(out), seed, evaluates_holdout))
            except (LabError, *UNREADABLE) as why:
                evidence["unaudited"] = str(why)
            run.checked_val_loss, run.holdout_loss = evidence.get("val_loss"), evidence.get("holdout_loss")
        tell_end(folder, done)
        for name in os.listdir(out) if os.path.isdir(out) else []:
            if name != "metrics.jsonl":
                remove(os.path.join(out, name))
        homes.write_json(evidence_path, evidence)
        tell(home, run, **{"try": number}, scale=scale.name, of=context)
        record.write(run, path)
    return run, evidence


def tell_end(folder, done):
    """A run that was interrupted from outside is none; one that failed is a result, and its last words are kept."""
    if done["rc"] in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL):
        raise LabError("%s: the run was ended by signal %d; the same command goes on from here" % (folder, -done["rc"]))


def remove(path):
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)


def describe(scale, out, arm, seed, commit, command, steps, done):
    """What a run said and what was measured of it: (record.Run, evidence for confounds.py)."""
    header, step_events, validations = read_metrics(out)
    folder = checkpoint(out)
    vocabulary = parameters = flops = shape = None
    sums = {"tokenizer": "", "weights": ""}
    try:
        if folder:
            config, tensors = shapes(folder)
            vocabulary, shape, (parameters, flops) = int(config["vocab_size"]), depth_and_width(config), count_flops(config, tensors, scale.T)
            sums = {"tokenizer": homes.sha256(os.path.join(folder, "tokenizer.json")), "weights": homes.sha256(os.path.join(folder, "model.safetensors"))}
    except UNREADABLE:
        pass  # that the lab could not evaluate it is found by confounds.py
    tokens_per_step = int(header.get("tokens_per_step") or 0) or None
    milliseconds = {0: 0.0}
    for event in step_events:
        milliseconds[event["step"]] = milliseconds.get(event["step"] - 1, 0.0) + (event.get("ms") or 0.0)
    rates = [event.get("lr") for event in step_events]
    curve = [record.Point(v["step"], v["step"] * float(tokens_per_step or 0), v["step"] * float(tokens_per_step or 0) * (flops or 0.0), milliseconds.get(v["step"], 0.0) / 1e3, v["val_loss"])
             for v in validations]
    data = scale.settings()["hashes"]
    hashes = dict(sums, data=data["train"] + data["val"], evaluation=audit.hash_of_evaluation(), program=homes.sha256(command[0]))
    said = [e for e in step_events if e.get("tokens_per_s") and e.get("flops_per_s")]
    evidence = {
        "rates": rates, "planned_steps": steps, "given": header.get("given"), "train_losses": [e.get("loss") for e in step_events[:3]], "first_val_loss": validations[0]["val_loss"] if validations else None,
        "said_flops_per_token": said[-1]["flops_per_s"] / said[-1]["tokens_per_s"] if said else None, "said_parameters": header.get("parameters"),
        "step_seconds": sum(e.get("ms") or 0 for e in step_events) / 1e3, "cpu_seconds": done["cpu"], "core": done["core"], "span": done["span"], "vocabulary": vocabulary, "shape": shape,
        "tokens_per_s": tokens_per_step * len(step_events) / (sum(e.get("ms") or 0 for e in step_events) / 1e3 or 1e9) if tokens_per_step else None}
    run = record.Run(arm=arm, seed=seed, commit=commit, command=" ".join(map(shlex.quote, command)), options=header.get("run") or {}, rc=done["rc"], seconds=done["seconds"],
                     peak_mib=done["peak_mib"], parameters=parameters, flops_per_token=flops, tokens_per_step=tokens_per_step, steps=int(step_events[-1]["step"]) if step_events else None, curve=curve,
                     lrs_sha=hashlib.sha256(repr(rates).encode()).hexdigest(), hashes=hashes, others_cpu=done["others"])
    return run, evidence


def tell(home, run, **fields):
    """The ledger's line of a run: every one has one, so that the sum of their seconds is what was spent."""
    last = run.curve[-1].loss if run.curve else None
    ledger.append(home, "run", arm=run.arm, seed=run.seed, commit=run.commit[:12], rc=run.rc, val_loss=last, steps=run.steps, seconds=run.seconds, parameters=run.parameters, **fields)
