"""The card: what it is called, and what it does while programs run on it. It is read and never set."""
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time

DRY = os.environ.get("DRY", "0") not in ("", "0")   # no card: the emulator


def smi(fields):
    """nvidia-smi's answer about the GPU that CUDA will take, as text; empty strings without one."""
    try:
        out = subprocess.run(smi_command(fields), capture_output=True, text=True, timeout=30).stdout.splitlines()
        return [x.strip() for x in out[0].split(",")]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return [""] * len(fields.split(","))


def smi_command(fields):
    device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    return ["nvidia-smi", "-i", device, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]


def gpu_name():
    if DRY:
        return "emulated GPU"
    name = smi("name")[0]
    if not name or "No devices" in name:
        sys.exit("bench-gpu: nvidia-smi names no GPU here; DRY=1 make bench-gpu tries the script without one")
    return name


def versions():
    driver, clock, memory_clock, power = smi("driver_version,clocks.max.sm,clocks.max.mem,power.limit") if not DRY else ["none", "", "", ""]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {"driver": f"driver {driver}", "max_sm_mhz": clock, "max_memory_mhz": memory_clock, "power_limit_w": power, "commit": commit}


class Watch:
    """What the card does, twice a second: clocks, power, temperature, memory."""
    FIELDS = "clocks.sm,power.draw,temperature.gpu,memory.used"

    def __init__(self):
        self.samples, self.process = [], None
        if DRY and not shutil.which("nvidia-smi"):
            print("no nvidia-smi: clocks, power and the driver's view of memory are not recorded")
            return
        self.process = subprocess.Popen(smi_command(self.FIELDS) + ["-lms", "500"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self.read, daemon=True).start()
        time.sleep(2)   # the first samples are those of an idle card
        if self.idle() > 1024:
            print(f"{self.idle() / 1024:.1f} GiB of the GPU's memory are in use: by another program? What follows is not worth much then")

    def read(self):
        for line in self.process.stdout:
            values = [float(x) if re.fullmatch(r"[\d.]+", x.strip()) else None for x in line.split(",")]
            if len(values) == 4:
                self.samples.append((time.time(), *values))

    def between(self, begin, end):
        return [s for s in self.samples if begin <= s[0] <= end]

    def idle(self):
        """What is in use when nothing of ours runs, in MiB: the least that was ever seen."""
        return min((s[4] for s in self.samples if s[4] is not None), default=0)

    def memory(self, begin, end):
        """Largest use in that time, in MiB, without what others use; None if unknown."""
        used = [s[4] for s in self.between(begin, end) if s[4] is not None]
        return max(used) - self.idle() if used else None

    def clocks(self, begin, end):
        """Of a window: the clock's median and least, the mean power, the highest temperature."""
        seen = [s for s in self.between(begin, end) if None not in s[1:4]]
        if not seen:
            return None
        mhz, watts, celsius = ([s[i] for s in seen] for i in (1, 2, 3))
        return {"sm_mhz": statistics.median(mhz), "sm_mhz_least": min(mhz), "w": round(statistics.mean(watts), 1), "celsius": max(celsius)}

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
