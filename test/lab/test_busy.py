"""A machine that is really busy: loops that load a core while the baseline runs and rest while the variant does, on a try of nothing at all that is to save time.

What is certain on a machine that is busy anyhow: with as many loops beside it again and again the baseline gets less of its core than the variant, whatever else runs. That the
variant would win by it, is not: it is 20 steps of other weights."""
import os
import signal
import subprocess
import sys
import time
import unittest

from bench import Bench

import record  # noqa: E402: bench has set the path

LOOPS = 8   # on one core: the baseline has a ninth of it, the variant all; beside 4 others a thirteenth and a fifth


@unittest.skipUnless(hasattr(os, "sched_setaffinity") and os.path.exists("/proc/self/schedstat"), "who waits for a core is not known here")
class BusyTest(unittest.TestCase):
    def loops(self, core):
        """Busy loops of our own on that core, stopped; each is ended by its number."""
        out = [subprocess.Popen(["sh", "-c", "while :; do :; done"], preexec_fn=lambda: os.sched_setaffinity(0, {core})) for _ in range(LOOPS)]
        for loop in out:
            self.addCleanup(lambda loop=loop: (loop.kill(), loop.wait()))
            loop.send_signal(signal.SIGSTOP)
        return out

    def test_a_baseline_beside_busy_loops(self):
        bench = Bench(steady=False)
        self.addCleanup(bench.remove)
        bench.ok("card", "--scale", "mini", "--seeds", "3")
        core = sorted(os.sched_getaffinity(0))[-1]
        bench.cheat("other-stream", more="STREAM=1")
        loops = self.loops(core)
        command = bench.command("try", "other-stream", "--hypothesis", "nothing, but faster", "--axis", "time", "--effect", "0.01", "--scale", "mini")
        child = subprocess.Popen(command, cwd=bench.checkout, env=bench.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        folder, beside = os.path.join(bench.root, "tries", "0001-other-stream"), None
        while child.poll() is None:
            names = os.listdir(folder) if os.path.isdir(folder) else []
            running = [n for n in names if not os.path.exists(os.path.join(folder, n, "run.json")) and os.path.exists(os.path.join(folder, n, "run.log"))]
            load = any("base" in n for n in running)
            if load != beside:
                for loop in loops:
                    loop.send_signal(signal.SIGCONT if load else signal.SIGSTOP)
                beside = load
            time.sleep(0.001)
        said = child.communicate()[0]
        self.assertEqual(child.returncode, 0, said)
        verdict = bench.verdict()
        self.assertEqual(verdict["word"], "CONFOUNDED", said)
        self.assertIn("busy", [reason.split(":")[0] for reason in verdict["reasons"]], said)


if __name__ == "__main__":
    unittest.main()
