"""leases.py: who may use a device now, by flock on a file each in lab/leases.

"cpu" is the whole machine, since time is an axis: one run at a time. A GPU is one lease: gpu0, gpu1, ... as many as there are. The lock's
file is inherited by the run, so that it holds the device for as long as it lives, whatever happens to the tool."""
import contextlib
import fcntl
import os
import subprocess
import time

import home as homes
from home import LabError

POLL = 0.05  # seconds between looks at devices that are taken


def gpus():
    """Numbers of the GPUs: of CUDA_VISIBLE_DEVICES, else all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [v.strip() for v in visible.split(",") if v.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True)
        return listed.stdout.split() if listed.returncode == 0 else []
    except OSError:
        return []


def names(device):
    """Leases of which one serves for a device."""
    if device == "cpu":
        return ["cpu"]
    found = ["gpu" + g for g in gpus()]
    if not found:
        raise LabError("device gpu: this machine has none (nvidia-smi lists none)")
    return found


@contextlib.contextmanager
def hold(home, device, what, say=lambda text: None):
    """One lease: (name, file descriptor to be inherited by what runs, its environment). Waits until one is free."""
    os.makedirs(home.leases, exist_ok=True)
    files, waited = {name: open(os.path.join(home.leases, name), "a+") for name in names(device)}, False
    try:
        while True:
            for name, f in files.items():
                if not try_lock(f):
                    continue
                write_holder(f, what)
                try:
                    environment = homes.environment()
                    if name != "cpu":
                        environment["CUDA_VISIBLE_DEVICES"] = name[3:]
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
