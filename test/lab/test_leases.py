"""Leases: one holder a device, across processes, for as long as what runs lives, and GPUs by their numbers."""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import shutil
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.path.join(HERE, "..", "..", "dev", "lab")
sys.path.insert(0, LAB)
import card  # noqa: E402
import home as homes  # noqa: E402
import leases  # noqa: E402

# what nvidia-smi -L prints: two of a kind, another one, and one that MIG has cut in two
LISTING = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1a-0)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-1b-0)
GPU 2: NVIDIA L4 (UUID: GPU-2c-0)
GPU 3: NVIDIA H100 80GB HBM3 (UUID: GPU-3d-0)
  MIG 1g.10gb     Device  0: (UUID: MIG-aa-1)
  MIG 2g.20gb     Device  1: (UUID: MIG-bb-2)
"""
HOLD = """
import os, subprocess, sys, time
sys.path.insert(0, %r)
import home, leases
h = home.Home(sys.argv[1], sys.argv[1], sys.argv[1])
with leases.hold(h, sys.argv[2], sys.argv[3]) as (name, handle, environment):
    print(name, environment.get("CUDA_VISIBLE_DEVICES", "-"), flush=True)
    exec(sys.argv[4])
""" % LAB


class LeasesTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.home = homes.Home(self.folder, self.folder, self.folder)

    def holder(self, device, what, code, **environment):
        child = subprocess.Popen([sys.executable, "-c", HOLD, self.folder, device, what, code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, universal_newlines=True,
                                 env=dict(os.environ, **environment))
        self.addCleanup(lambda: (child.poll() is None and child.kill(), child.wait(), child.stdout.close(), child.stdin.close()))
        return child

    def test_one_at_a_time(self):
        log = os.path.join(self.folder, "log")
        code = "f = open(%r, 'a')\nfor i in range(5): f.write('%%s\\n' %% sys.argv[3]); f.flush(); time.sleep(0.02)" % log
        children = [self.holder("cpu", name, code) for name in "abc"]
        for child in children:
            self.assertEqual(child.wait(), 0)
        with open(log) as f:
            letters = f.read().split()
        self.assertEqual(len(letters), 15)
        self.assertEqual(sum(a != b for a, b in zip(letters, letters[1:])), 2, letters)

    def test_who_holds_it_is_said(self):
        self.assertEqual(leases.holder(self.home, "cpu"), "")
        child = self.holder("cpu", "try 0007", "sys.stdin.read()", LAB_WHO="ada")
        child.stdout.readline()
        self.assertIn("try 0007, ada, process %d" % child.pid, leases.holder(self.home, "cpu"))
        child.stdin.close()
        child.wait()
        self.assertEqual(leases.holder(self.home, "cpu"), "")
        child.stdin = open(os.devnull)

    def test_a_killed_holder_holds_nothing(self):
        child = self.holder("cpu", "a", "time.sleep(60)")
        child.stdout.readline()
        child.kill()
        child.wait()
        with leases.hold(self.home, "cpu", "b"):
            pass

    def test_what_runs_holds_it_after_the_tool_died(self):
        code = "p = subprocess.Popen(['sleep', '60'], pass_fds=(handle,)); print(p.pid, flush=True); time.sleep(60)"
        child = self.holder("cpu", "a", code)
        child.stdout.readline()
        runs = int(child.stdout.readline())
        child.kill()
        child.wait()
        try:
            self.assertNotEqual(leases.holder(self.home, "cpu"), "")
        finally:
            os.kill(runs, signal.SIGKILL)
        for _ in range(100):
            if not leases.holder(self.home, "cpu"):
                return
            time.sleep(0.02)
        self.fail("nobody lives who could hold it")

    def test_a_run_passes_it_on(self):
        """runs.start: the program that it starts has the lock's file, and dies with the lab."""
        code = "import runs; runs.start(['sh', '-c', 'echo $$ > %s/pid; sleep 60; true'], (name, handle, environment), %r)" % (self.folder, os.path.join(self.folder, "out"))
        child = self.holder("cpu", "a", code)
        child.stdout.readline()
        path = os.path.join(self.folder, "pid")
        for _ in range(200):
            if os.path.exists(path) and os.path.getsize(path):
                break
            time.sleep(0.02)
        with open(path) as f:
            runs = int(f.read())
        held = [os.path.realpath("/proc/%d/fd/%s" % (runs, fd)) for fd in os.listdir("/proc/%d/fd" % runs)]
        self.assertIn(os.path.realpath(os.path.join(self.folder, "leases", "cpu")), held)
        child.kill()
        child.wait()
        for _ in range(200):
            if not os.path.exists("/proc/%d/exe" % runs):  # a zombie has none
                return
            time.sleep(0.02)
        self.fail("it outlived the lab")

    def test_gpus_by_their_numbers(self):
        children = [self.holder("gpu", "a", "sys.stdin.read()", CUDA_VISIBLE_DEVICES="2,5") for _ in range(2)]
        said = sorted(child.stdout.readline().split()[1] for child in children)
        self.assertEqual(said, ["2", "5"])
        third = self.holder("gpu", "c", "pass", CUDA_VISIBLE_DEVICES="2,5")
        time.sleep(0.3)
        self.assertIsNone(third.poll())
        children[0].kill()
        children[0].wait()
        self.assertEqual(third.wait(), 0)

    def plant(self, text, rc=0):
        """An nvidia-smi that says this."""
        os.makedirs(self.folder + "/bin", exist_ok=True)
        with open(self.folder + "/bin/nvidia-smi", "w") as f:
            f.write("#!/bin/sh\n[ \"$*\" = -L ] || exit 2\ncat <<'END'\n%sEND\nexit %d\n" % (text, rc))
        os.chmod(self.folder + "/bin/nvidia-smi", 0o755)
        return self.folder + "/bin:" + os.environ["PATH"]

    def seen(self, visible, text, rc=0):
        change = {"PATH": self.plant(text, rc), **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})}
        with mock.patch.dict(os.environ, change):
            if visible is None:
                os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            return [uuid for uuid, _ in leases.gpus()]

    def test_gpus_that_may_be_used(self):
        one, two, three, cut, small, large = "GPU-1a-0", "GPU-1b-0", "GPU-2c-0", "GPU-3d-0", "MIG-aa-1", "MIG-bb-2"
        cases = [(None, [one, two, three, small, large]), ("1", [two]), ("2,0", [three, one]), (" 1 , 2 ", [two, three]), ("", []), ("-1", []), ("NoDevFiles", []), ("0,-1,1", [one]), ("0,9,1", [one]), ("1,1", [two]),
                 (two, [two]), ("GPU-2", [three]), ("GPU-1", []), ("GPU-", []), ("2,GPU-1a", [three, one]), ("0," + one, [one]), ("3", [small]), (large, [large]), ("%s,%s" % (large, small), [large, small]), ("MIG-", []), (cut, [])]
        for visible, expected in cases:
            with self.subTest(visible):
                self.assertEqual(self.seen(visible, LISTING), expected)
        older = LISTING.replace("MIG-aa-1", "MIG-GPU-3d-0/1/0")
        self.assertEqual(self.seen("MIG-GPU-3d-0/1/0", older), ["MIG-GPU-3d-0/1/0"])
        self.assertEqual(self.seen(None, "No devices were found\n"), [])
        self.assertEqual(self.seen(None, LISTING, rc=9), [])            # no driver: what it says is no list
        self.assertEqual(self.seen("2,GPU-x,-1,3", "", rc=9), ["2", "GPU-x"])   # nobody to ask: as it is given

    def test_numbers_of_two_jobs_are_one_device(self):
        """One job has it as number 1 of a machine, the other by its UUID: they take turns, and both are told the UUID."""
        path = self.plant(LISTING)
        first = self.holder("gpu", "a", "sys.stdin.read()", CUDA_VISIBLE_DEVICES="1", PATH=path)
        self.assertEqual(first.stdout.readline().split(), ["gpu-GPU-1b-0", "GPU-1b-0"])
        second = self.holder("gpu", "b", "pass", CUDA_VISIBLE_DEVICES="GPU-1b", PATH=path)
        time.sleep(0.3)
        self.assertIsNone(second.poll())
        first.kill()
        first.wait()
        self.assertEqual(second.stdout.readline().split(), ["gpu-GPU-1b-0", "GPU-1b-0"])
        self.assertEqual(second.wait(), 0)

    def test_instances_of_one_gpu_are_leased_each(self):
        path = self.plant(LISTING)
        children = [self.holder("gpu", "a", "sys.stdin.read()", CUDA_VISIBLE_DEVICES="MIG-aa-1,MIG-bb-2", PATH=path) for _ in range(2)]
        self.assertEqual(sorted(child.stdout.readline().split()[1] for child in children), ["MIG-aa-1", "MIG-bb-2"])

    def test_a_card_is_of_the_gpus_that_are_there(self):
        with mock.patch.dict(os.environ, {"PATH": self.plant(LISTING), "CUDA_VISIBLE_DEVICES": "0,2,1,3"}):
            self.assertRegex(card.machine(), r" CPUs, 1 GPUs MIG 1g.10gb, 2 GPUs NVIDIA H100 80GB HBM3, 1 GPUs NVIDIA L4$")

    def test_no_gpu_is_one_line(self):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.addCleanup(os.environ.pop, "CUDA_VISIBLE_DEVICES")
        with self.assertRaisesRegex(homes.LabError, "has none"):
            with leases.hold(self.home, "gpu", "a"):
                pass


if __name__ == "__main__":
    unittest.main()
