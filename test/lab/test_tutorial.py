"""test_tutorial.py: the commands of dev/lab/README.md are run as they stand there, by the real trainer; the scale that they name is a quick one here."""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

from bench import CHECKOUT, LAB, Bench

import cheats  # noqa: E402: bench has set the path

README = os.path.join(CHECKOUT, "dev/lab/README.md")
QUICK = {"options": "-e d1c32h2 -l 6e-3 -u 5 --init-std 0.1 --threads 1", "B": 4, "T": 32, "steps": 30, "val_every": 10, "val_batches": 8, "text": "100k"}
# What `make` is for the branch: its own sources, the trainer and the lab's evaluation compiled as one. The baseline is bench.py's.
BUILD = """#!/bin/sh
set -e
if ! grep -q 'GELU,   false' llmc/model/config.h; then exec BENCH; fi
cp BOTH both.cpp
${CXX:-g++} -std=c++20 -O1 -march=native -fno-math-errno -fno-trapping-math -fno-exceptions -pthread -I. both.cpp -o build/both
printf '#!/bin/sh\\nexec %s evaluate "$@"\\n' "$PWD/build/both" > build/evaluate
printf '#!/bin/sh\\nexec %s "$@"\\n' "$PWD/build/both" > train_gpt2
chmod +x build/evaluate train_gpt2
"""


def commands(heading="## Tutorial"):
    """Lines of a tutorial's code that begin with $."""
    with open(README) as f:
        tutorial = f.read().split(heading, 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"^```\n(.*?)^```", tutorial, re.M | re.S)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@unittest.skipUnless(shutil.which("bash"), "no bash here")
class TutorialTest(unittest.TestCase):
    def test_the_commands_are_what_is_run(self):
        bench = Bench(steady=False)
        self.addCleanup(bench.remove)
        for folder in (bench.root, bench.environment["LAB_PRIVATE"]):   # `lab init` is one of the commands
            shutil.rmtree(folder)
        shutil.copytree(os.path.join(CHECKOUT, "dev/lab"), os.path.join(bench.checkout, "dev/lab"), dirs_exist_ok=True)
        with open(os.path.join(CHECKOUT, "dev/lab/evaluate.cpp")) as f:
            evaluate = f.read().replace('#include "train_gpt2.cu"', "").replace("#define LLMC_NO_MAIN", "")
        both, build = os.path.join(bench.folder, "both.cpp"), os.path.join(bench.folder, "tutorial.sh")
        with open(both, "w") as f:
            f.write(cheats.BOTH % evaluate)
        with open(build, "w") as f:
            f.write(BUILD.replace("BENCH", bench.environment["LAB_BUILD"]).replace("BOTH", both))
        os.chmod(build, 0o755)
        env = dict(bench.environment, LAB_BUILD=build, GIT_AUTHOR_NAME="ada", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="ada", GIT_COMMITTER_EMAIL="a@b")

        said = {}
        script = "set -eu\n"
        lines = commands()
        self.assertGreaterEqual(len(lines), 11)
        for i, line in enumerate(lines):
            script += "echo '=== %d'\n%s\n" % (i, line)
            if line == "$ lab init"[2:]:   # the quick scale in the place of the one that is named
                script += 'mkdir -p "$LAB_HOME/scales" && cat > "$LAB_HOME/scales/small.json" <<< \'%s\'\n' % json.dumps(QUICK)
        done = subprocess.run(["bash", "-c", script], cwd=bench.checkout, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        for part in done.stdout.split("=== ")[1:]:
            number, text = part.split("\n", 1)
            said[lines[int(number)].split(" --")[0]] = text
        self.assertIn("bit-equal", said["lab card"])
        self.assertIn("not tried so far", said["lab seen bias || true"])
        verdict = said["lab try no-bias"]
        self.assertLess(verdict.index("pairs of runs to see 0.05 nats"), verdict.index("pair  1"))
        self.assertIn("declared: loses less than 0.05 nats on tokens", verdict)
        self.assertIn("parameters 53760 -> 53376", verdict)   # 12 C + C of norms a layer and C of the last: 384 biases of C = 32
        self.assertRegex(verdict, r"\n(WIN|NULL|LOSS)")       # and nothing but the biases differs
        self.assertIn("biases may go at this size", said["lab standup"])
        self.assertRegex(said["lab report"], r"report\.html: [0-9.]+K bytes")

    def test_one_batch_is_no_scale(self):
        """Nothing could be said of the gap to the hold-out, and so it would never be seen."""
        bench = Bench()
        self.addCleanup(bench.remove)
        bench.scale("one", dict(QUICK, val_batches=1))
        status, text = bench.lab("card", "--scale", "one")
        self.assertEqual((status, text), (2, "lab: lab/scales/one.json: val_batches is 1, must be at least 2: by how much texts differ is told from batches\n"))

    def test_the_second_ones_commands(self):
        """At a quick size; its baseline's programs, as an option needs no branch."""
        bench = Bench(steady=False)
        self.addCleanup(bench.remove)
        os.rename(bench.root, os.path.join(bench.checkout, "lab"))   # where the command writes the scale
        quick = "set -eu\n" + "\n".join(commands("## A second one"))
        for there, here in (("modern:d2c64h2", "modern:d1c32h2"), ('"steps": 400', '"steps": 30'), ('"val_every": 40', '"val_every": 10'), ('"val_batches": 32', '"val_batches": 8'), ('"2M"', '"100k"'), ("--scale modern\n", "--scale modern --seeds 2\n")):
            self.assertIn(there, quick)
            quick = quick.replace(there, here)
        done = subprocess.run(["bash", "-c", 'lab() { "%s" "%s" "$@"; }\n' % (sys.executable, os.path.join(LAB, "lab")) + quick], cwd=bench.checkout,
                              env=dict(bench.environment, LAB_HOME=os.path.join(bench.checkout, "lab")), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("declared: loses less than 0.02 nats on tokens", done.stdout)
        self.assertRegex(done.stdout, r"\nlook after 3 pairs: ")
        self.assertRegex(done.stdout, r"\n(WIN|NULL|LOSS)")   # an ingredient is no other size, and a head that begins at 0 no seed that is ignored


if __name__ == "__main__":
    unittest.main()
