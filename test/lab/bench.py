"""bench.py: a lab for tests, in a folder of its own: a small repository of the trainer's sources with branches, and programs that cost nothing to build."""
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKOUT = os.path.abspath(os.path.join(HERE, "..", ".."))
LAB = os.path.join(CHECKOUT, "dev", "lab")
sys.path[:0] = [LAB, HERE]
import cheats  # noqa: E402

# What `make` is here: the one program of cheats.py, with the switch that the branch asks for; or the script that the branch puts in its place.
BUILD = """#!/bin/sh
mkdir -p build
cheat=$(cat .cheat 2>/dev/null)
printf '#!/bin/sh\\nCHEAT=%s exec PROGRAM evaluate "$@"\\n' "$cheat" > build/evaluate
printf '#!/bin/sh\\nCLOCK CHEAT=%s exec PROGRAM "$@"\\n' "$cheat" > train_gpt2
chmod +x build/evaluate train_gpt2
if [ -f .script ]; then mv train_gpt2 real && cp .script train_gpt2 && chmod +x train_gpt2; fi
"""


def git(folder, *arguments):
    return subprocess.run(["git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True).stdout.strip()


# A run takes 0.1 s. Its learning rate is too low, so that a better one is easily found.
MINI = dict(options="-e d1c32h2 -l 1e-3 -u 5 --init-std 0.1 --threads 1", B=4, T=32, steps=40, val_every=10, val_batches=8, text="100k")


class Bench:
    """checkout, lab folder, private folder; lab(...) runs the command in it. steady: the trainer has the clock of cheats.py, not the machine's."""
    def __init__(self, secret="equal in all runs of the tests", steady=True):
        self.folder = tempfile.mkdtemp(prefix="lab-test-")
        self.checkout, self.root = os.path.join(self.folder, "checkout"), os.path.join(self.folder, "lab")
        program = cheats.program(CHECKOUT)
        stories = os.path.join(CHECKOUT, "build", "stories")
        if not os.path.exists(stories):
            subprocess.run(["make", "build/stories"], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
        cheats.sources(CHECKOUT, self.checkout)
        shutil.copy(os.path.join(CHECKOUT, "Makefile"), self.checkout)
        with open(os.path.join(self.checkout, ".gitignore"), "w") as f:
            f.write("/build/\n/train_gpt2\n/real\n")
        git(self.checkout, "init", "-q", "-b", "main")
        git(self.checkout, "add", "-A")
        git(self.checkout, "commit", "-q", "-m", "the trainer")
        build = os.path.join(self.folder, "build.sh")
        with open(build, "w") as f:
            f.write(BUILD.replace("PROGRAM", program).replace("CLOCK ", "STEADY=1 " if steady else ""))
        os.chmod(build, os.stat(build).st_mode | stat.S_IXUSR)
        self.environment = dict(os.environ, LAB_HOME=self.root, LAB_PRIVATE=os.path.join(self.folder, "private"), LAB_BUILD=build, LAB_STORIES=stories, LAB_WHO="ada")
        self.ok("init")
        with open(os.path.join(self.folder, "private", "secret"), "w") as f:
            f.write(secret)
        os.mkdir(os.path.join(self.root, "scales"))
        self.scale("mini", MINI)

    def remove(self):
        shutil.rmtree(self.folder)

    def command(self, *arguments):
        return [sys.executable, os.path.join(LAB, "lab"), *arguments]

    def lab(self, *arguments, **more):
        """(exit status, what it printed)."""
        done = subprocess.run(self.command(*arguments), cwd=self.checkout, env=dict(self.environment, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        return done.returncode, done.stdout

    def ok(self, *arguments, **more):
        status, text = self.lab(*arguments, **more)
        if status:
            raise AssertionError("lab %s: exit %d\n%s" % (" ".join(arguments), status, text))
        return text

    def scale(self, name, row):
        with open(os.path.join(self.root, "scales", name + ".json"), "w") as f:
            json.dump(row, f)

    def home(self):
        import home as homes
        return homes.find(self.root)

    def branch(self, name, files, message="a change"):
        """A branch off main with other files: {path: text, or function of the old text}."""
        git(self.checkout, "checkout", "-q", "-b", name, "main")
        for path, text in files.items():
            path = os.path.join(self.checkout, path)
            if callable(text):
                with open(path) as f:
                    text = text(f.read())
            with open(path, "w") as f:
                f.write(text)
        git(self.checkout, "add", "-A")
        git(self.checkout, "commit", "-q", "-m", message)
        git(self.checkout, "checkout", "-q", "main")
        return name

    def cheat(self, name, branch=None, more=""):
        """The branch of one of cheats.py's patches. more: what else is in the environment of its program, and so another idea."""
        git(self.checkout, "checkout", "-q", "-b", branch or name, "main")
        cheats.replaced(self.checkout, name, "true")
        if more:
            with open(os.path.join(self.checkout, "train_gpt2.cu"), "a") as f:
                f.write("const char* %s;\n" % more.replace("=", "_"))
        with open(os.path.join(self.checkout, ".cheat"), "w") as f:
            f.write((name + " " + more).strip())
        git(self.checkout, "add", "-A")
        git(self.checkout, "commit", "-q", "-m", "a change")
        git(self.checkout, "checkout", "-q", "main")
        return branch or name

    def try_(self, branch, *more, hypothesis="it helps", axis="tokens", effect="0.01", scale="mini", **environment):
        """The verdict of a try, as read from its file."""
        self.ok("try", branch, "--hypothesis", hypothesis, "--axis", axis, "--effect", effect, "--scale", scale, *more, **environment)
        return self.verdict()

    def verdict(self, number=-1):
        tries = os.path.join(self.root, "tries")
        with open(os.path.join(tries, sorted(os.listdir(tries))[number], "verdict.json")) as f:
            return json.load(f)

    def script(self, name, text):
        """A branch with a script in the trainer's place; it starts the trainer itself as $real. $out is where the run writes."""
        head = '#!/bin/sh\nreal=$(dirname "$0")/real\nfor out; do :; done\n'
        return self.branch(name, {".script": head + text})
