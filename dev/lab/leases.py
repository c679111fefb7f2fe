"""leases.py: who may use a device now, by flock on a file each in lab/leases.

"cpu" is the whole machine, since time is an axis: one run at a time. A GPU, or an instance of one that MIG has cut, is one lease, by its UUID: two jobs whose numbers for
it differ are kept apart all the same, and CUDA's order of numbers, which is not nvidia-smi's, does not matter to what runs. The lock's file is inherited by the run, so
that it holds the device for as long as it lives, whatever happens to the tool."""
import contextlib
import fcntl
import os
import re
import subprocess
import time

import home as homes
from home import LabError

POLL = 0.05  # seconds between looks at devices that are taken


def listed():
    """[(UUID, name, [(UUID, name) of its MIG instances])] of what nvidia-smi -L lists; in a job of Slurm's that is what its cgroup lets it see."""
    try:
        said = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True)
    except OSError:
        return []
    found = []
    for line in said.stdout.splitlines() if said.returncode == 0 else []:
        m = re.match(r"(GPU \d+: |\s+)(.*?)\s*\(UUID: ([^)\s]+)\)", line)
        if m and m.group(1).startswith("GPU"):
            found.append((m.group(3), m.group(2), []))
        elif m and found:
            found[-1][2].append((m.group(3), re.sub(r"\s+Device\s+\d+:", "", m.group(2))))
    return found


def gpus():
    """[(UUID, name)] of what may be used: all, or those of CUDA_VISIBLE_DEVICES, as a person or Slurm has set it: numbers, UUIDs or beginnings of them; the first that
    names nothing, or the same again, ends the list, as it does CUDA's. Of a GPU that MIG has cut its number is the first instance. Without nvidia-smi: what is given."""
    visible, there = os.environ.get("CUDA_VISIBLE_DEVICES"), listed()
    if visible is None:
        return [device for uuid, name, instances in there for device in instances or [(uuid, name)]]
    found = []
    for word in (w.strip() for w in visible.split(",")):
        if not there:
            device = (word, "") if re.match(r"\d+\Z|GPU-|MIG-", word) else None
        elif word.isdigit():
            uuid, name, instances = there[int(word)] if int(word) < len(there) else (None, None, [])
            device = instances[0] if instances else (uuid, name) if uuid else None
        else:
            every = [device for uuid, name, instances in there for device in instances or [(uuid, name)]]
            named = [device for device in every if device[0] == word] or [device for device in every if word.startswith(("GPU-", "MIG-")) and len(word) > 4 and device[0].startswith(word)]
            device = named[0] if len(named) == 1 else None
        if device is None or device in found:
            break
        found.append(device)
    return found


def names(device):
    """Leases of which one serves for a device: {name: what runs finds in CUDA_VISIBLE_DEVICES}."""
    if device == "cpu":
        return {"cpu": None}
    found = {"gpu-" + uuid.replace("/", "_"): uuid for uuid, _ in gpus()}
    if not found:
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise LabError("device gpu: this machine has none (%s)" % ("nvidia-smi lists none" if given is None else "none that CUDA_VISIBLE_DEVICES=%s names" % given))
    return found


@contextlib.contextmanager
def hold(home, device, what, say=lambda text: None):
    """One lease: (name, file descriptor to be inherited by what runs, its environment). Waits until one is free."""
    os.makedirs(home.leases, exist_ok=True)
    values = names(device)
    files, waited = {name: open(os.path.join(home.leases, name), "a+") for name in values}, False
    try:
        while True:
            for name, f in files.items():
                if not try_lock(f):
                    continue
                write_holder(f, what)
                try:
                    environment = homes.environment()
                    if values[name] is not None:
                        environment["CUDA_VISIBLE_DEVICES"] = values[name]
                    yield name, f.fileno(), environment
                finally:
                    write_holder(f, "")
                return
            if not waited:
                say("waits for %s: %s" % (" or ".join(files), "; ".join(filter(None, (holder(home, name) for name in files)))))
                waited = True
            time.sleep(POLL)
    finally:
        for f in files.values():
            f.close()


def try_lock(f):
    try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def write_holder(f, what):
    f.seek(0)
    f.truncate()
    f.write("%s, %s, process %d\n" % (what, homes.who(), os.getpid()) if what else "")
    f.flush()


def holder(home, name):
    """Who holds a lease, in words; empty if nobody does."""
    path = os.path.join(home.leases, name)
    if not os.path.exists(path):
        return ""
    with open(path) as f:
        try:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return ""
        except BlockingIOError:
            return f.read().strip() or "somebody"
