"""run.py: the lab's tests, a process for each file, JOBS of them side by side (make test-lab): what takes longest begins first.

    python3 test/lab/run.py [--jobs 2] [FILE...]    FILE: test_try, or test_try.py

A file that is not named below runs last; one that takes longest runs as PARTS of its tests, in their order, each with a lab of its own."""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
FIRST = "cheats test_scientists test_tutorial test_try test_cheats test_kill".split()   # cheats.py: compiles what the labs of tests have in the trainer's place
PARTS = {"test_cheats": 3}


def names_of(module):
    """The tests of a file, in the order in which unittest runs them."""
    out, todo = [], [unittest.defaultTestLoader.loadTestsFromName(module)]
    while todo:
        test = todo.pop(0)
        if isinstance(test, unittest.TestSuite):
            todo = list(test) + todo
        else:
            out.append(test.id())
    return out


def units(modules):
    """(name, arguments of python3) of each process."""
    for module in sorted(modules, key=lambda m: (FIRST.index(m) if m in FIRST else len(FIRST), m)):
        n = PARTS.get(module, 1)
        if module == "cheats":
            yield module, ["cheats.py"]
        elif n == 1:
            yield module, ["-m", "unittest", "-v", module]
        else:
            tests = names_of(module)
            for i in range(n):
                yield "%s %d/%d" % (module, i + 1, n), ["-m", "unittest", "-v", *tests[len(tests) * i // n:len(tests) * (i + 1) // n]]


def labs_of_tests():
    """Where labs of tests lie: in memory, if programs may be run there and there is room, as each event is synced to a disk."""
    try:
        memory = os.statvfs("/dev/shm")
        with tempfile.NamedTemporaryFile("w", dir="/dev/shm", prefix="lab-test-", delete=False) as f:
            f.write("#!/bin/sh\n")
        os.chmod(f.name, 0o700)
        try:
            runs = subprocess.run([f.name]).returncode == 0
        finally:
            os.remove(f.name)
        return {"TMPDIR": "/dev/shm"} if runs and memory.f_bavail * memory.f_frsize > 4 << 30 else {}
    except OSError:
        return {}


class Runner:
    def __init__(self, todo, jobs):
        self.todo, self.lock, self.tests, self.failed, self.environment = list(todo), threading.Lock(), 0, [], dict(labs_of_tests(), **os.environ)
        threads = [threading.Thread(target=self.work) for _ in range(jobs)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    def work(self):
        while True:
            with self.lock:
                if not self.todo:
                    return
                name, arguments = self.todo.pop(0)
            began = time.monotonic()
            done = subprocess.run([sys.executable, *arguments], cwd=HERE, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
            with self.lock:
                self.tell(name, done, time.monotonic() - began)

    def tell(self, name, done, seconds):
        ran = re.search(r"^Ran (\d+) test", done.stdout, re.M)
        number = int(ran.group(1)) if ran else 0
        self.tests += number
        print("%-18s %3d tests  %5.1f s" % (name, number, seconds))
        for line in re.findall(r"^.* \.\.\. skipped .*$|^setUpClass .*skipped.*$", done.stdout, re.M):
            print("  " + line)
        if done.returncode or (not number and name != "cheats"):   # a file whose tests are not found has not passed
            self.failed.append(name)
            print(done.stdout)
        sys.stdout.flush()


def main():
    options = argparse.ArgumentParser(description="the lab's tests, side by side")
    options.add_argument("--jobs", type=int, default=os.cpu_count())
    options.add_argument("files", nargs="*")
    o = options.parse_args()
    os.chdir(HERE)
    sys.path.insert(0, HERE)
    modules = [f.replace(".py", "") for f in o.files] or ["cheats"] + [f[:-3] for f in os.listdir(HERE) if f.startswith("test_") and f.endswith(".py")]
    began, runner = time.monotonic(), Runner(units(modules), max(1, o.jobs))
    print("%d tests in %.0f s: %s" % (runner.tests, time.monotonic() - began, "failed: " + ", ".join(runner.failed) if runner.failed else "passed"))
    return 1 if runner.failed else 0


if __name__ == "__main__":
    sys.exit(main())
