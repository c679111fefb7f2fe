"""Leases: one holder a device, across processes, for as long as what runs lives, and GPUs by their numbers."""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import shutil

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.path.join(HERE, "..", "..", "dev", "lab")
sys.path.insert(0, LAB)
import home as homes  # noqa: E402
import leases  # noqa: E402

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

    def test_no_gpu_is_one_line(self):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.addCleanup(os.environ.pop, "CUDA_VISIBLE_DEVICES")
        with self.assertRaisesRegex(homes.LabError, "has none"):
            with leases.hold(self.home, "gpu", "a"):
                pass


if __name__ == "__main__":
    unittest.main()
