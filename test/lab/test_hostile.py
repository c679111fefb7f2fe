"""A hostile scientist: branches that hold more than sources, settings of git that change what is read, builds that look around, programs that remember, two tries at once. None is a WIN,
and each is named, or does nothing."""
import os
import shutil
import subprocess
import unittest
from unittest import mock

from bench import Bench, git

import confounds  # noqa: E402: bench has set the path
import ledger
import tries
import trees


class HostileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bench = Bench()
        cls.addClassCleanup(cls.bench.remove)
        cls.bench.ok("card", "--scale", "mini", "--seeds", "2")

    def planted(self, name, plant):
        """A branch with what plant(checkout) leaves there."""
        folder = self.bench.checkout
        git(folder, "checkout", "-q", "-b", name, "main")
        plant(folder)
        git(folder, "add", "-A", "-f", "--", ".", ":!real")
        git(folder, "commit", "-q", "-m", "a change")
        git(folder, "checkout", "-q", "-f", "main")
        return name

    def refused(self, name, words):
        before = len(ledger.entries(self.bench.home()))
        status, text = self.bench.lab("try", name, "--hypothesis", "x", "--axis", "tokens", "--effect", "0.01", "--scale", "mini")
        self.assertEqual((status, text.count("\n")), (2, 1), text)
        self.assertIn(words, text)
        self.assertEqual(len(ledger.entries(self.bench.home())), before)

    def named(self, name, verdict):
        self.assertEqual(verdict["word"], "CONFOUNDED", verdict["reasons"])
        self.assertIn(name, [reason.split(":")[0] for reason in verdict["reasons"]])

    def test_links_submodules_and_what_is_built(self):
        """Each could be another thing when the next run starts, or lie in the place of the baseline's programs."""
        self.refused(self.planted("link", lambda f: (shutil.rmtree(f + "/llmc/data"), os.symlink("/tmp", f + "/llmc/data"))), "llmc/data is a symbolic link")
        self.refused(self.planted("build-link", lambda f: os.symlink("../main/build", f + "/build")), "build is a symbolic link")
        self.refused(self.planted("built", lambda f: open(f + "/train_gpt2", "w").close()), "train_gpt2 is in the place of what is built")
        self.refused(self.planted("evaluates", lambda f: (os.makedirs(f + "/build", exist_ok=True), open(f + "/build/evaluate", "w").close())), "build/evaluate is in the place of what is built")

        folder = self.bench.checkout
        git(folder, "checkout", "-q", "-b", "submodule", "main")
        git(folder, "update-index", "--add", "--cacheinfo", "160000,%s,llmc/other" % git(folder, "rev-parse", "main"))
        git(folder, "commit", "-q", "-m", "a submodule")
        git(folder, "checkout", "-q", "-f", "main")
        self.refused("submodule", "llmc/other is a submodule")

    def test_git_is_asked_for_bytes_alone(self):
        """Hooks, filters, attributes and replacements of the checkout, which a scientist may write: the baseline is what its hash says."""
        bench = self.bench
        git_folder = os.path.join(bench.checkout, ".git")
        home, main = bench.home(), git(bench.checkout, "rev-parse", "main")
        worse = git(bench.checkout, "rev-parse", bench.branch("worse", {"train_gpt2.cu": "worse\n"}))
        git(bench.checkout, "replace", main, worse)
        os.makedirs(git_folder + "/hooks", exist_ok=True)
        for hook in ("post-checkout", "reference-transaction", "post-index-change"):
            with open(git_folder + "/hooks/" + hook, "w") as f:
                f.write("#!/bin/sh\ntouch '%s/ran'\n" % bench.folder)
            os.chmod(git_folder + "/hooks/" + hook, 0o755)
        with open(git_folder + "/info/attributes", "w") as f:
            f.write("*.cu filter=worse diff=worse\n")
        with open(git_folder + "/config", "a") as f:
            f.write("[filter \"worse\"]\n\tsmudge = echo worse\n\tclean = cat\n[diff]\n\texternal = /bin/true\n[core]\n\tautocrlf = true\n[diff \"worse\"]\n\ttextconv = echo x\n")
        try:
            tree = os.path.join(home.trees, main[:12])
            shutil.rmtree(tree)
            os.environ["LAB_BUILD"] = bench.environment["LAB_BUILD"]
            self.addCleanup(os.environ.pop, "LAB_BUILD")
            self.assertEqual(trees.build(home, main), tree)
            self.assertEqual(trees.changed(home, main), [])
            with open(tree + "/train_gpt2.cu") as f:
                self.assertGreater(len(f.read()), 10000)
            self.assertIn("worse", trees.idea_of(home, main, worse))
            self.assertLess(trees.lines_added(home, main, worse), -300)
            self.assertFalse(os.path.exists(os.path.join(bench.folder, "ran")))
        finally:
            shutil.rmtree(git_folder + "/hooks")
            git(bench.checkout, "replace", "-d", main)
            os.remove(git_folder + "/info/attributes")
            for section in ("filter.worse", "diff.worse", "diff"):
                git(bench.checkout, "config", "--remove-section", section)
            git(bench.checkout, "config", "--unset", "core.autocrlf")
        with open(tree + "/llmc/model/flops.h", "a") as f:   # behind git's back: there is no index to believe
            f.write("// slower\n")
        self.assertEqual(trees.changed(home, main), ["llmc/model/flops.h"])
        shutil.rmtree(tree)

    def test_a_build_learns_neither_seeds_nor_places(self):
        """It runs after the hypothesis is registered, and may run as long as it likes: on known seeds it could look for what is lucky."""
        bench = self.bench
        build = os.path.join(bench.folder, "curious.sh")
        with open(build, "w") as f:
            f.write("#!/bin/sh\n\"%s\"\n(env; cat ../../tries/*/plan.json) > build/said\n" % bench.environment["LAB_BUILD"])
        os.chmod(build, 0o755)
        name = bench.branch("curious-build", {"llmc/model/flops.h": lambda text: text + "// x\n"})
        verdict = bench.try_(name, hypothesis="what are its seeds?", LAB_BUILD=build)
        with open(os.path.join(bench.home().trees, verdict["commit"][:12], "build", "said")) as f:
            said = f.read()
        last = said[said.rindex("\n{"):]   # its own plan
        self.assertIn("what are its seeds?", last)
        self.assertNotIn('"seeds"', last)
        self.assertNotIn("LAB_", said.split("\n{")[0])
        self.assertIn("was built by " + build, " ".join(verdict["remarks"]))

    def test_a_program_that_does_not_give_its_bits_twice(self):
        """It would win; but its first run, made again, is another: it remembers, or rolls dice."""
        bench, memory = self.bench, os.path.join(self.bench.folder, "memory")
        bench.cheat("honest")
        git(bench.checkout, "checkout", "-q", "honest")
        with open(os.path.join(bench.checkout, ".script"), "w") as f:
            f.write('#!/bin/sh\nreal=$(dirname "$0")/real\nmkdir -p %s\ntouch "%s/$$"\nexec "$real" "$@" --classifier-rows $((16 * $(ls %s | wc -l)))\n' % (memory, memory, memory))
        git(bench.checkout, "checkout", "-q", "-b", "remembers")
        git(bench.checkout, "add", "-A")
        git(bench.checkout, "commit", "-q", "-m", "it remembers")
        git(bench.checkout, "checkout", "-q", "main")
        self.named("repeat", bench.try_("remembers", hypothesis="it remembers"))

    def test_the_same_idea_at_once(self):
        """Two tries of one change side by side, or one that is left when it looks bad and begun anew: the later one is no result."""
        bench, home = self.bench, self.bench.home()
        name = bench.branch("twins", {"train_gpt2.cu": lambda text: text + "inline int twins() { return 1; }\n"})
        first = tries.begin(home, name, "one of two", "tokens", 0.01, "mini", say=lambda text: None)
        verdict = bench.try_(name, hypothesis="the other of two")
        self.named("tried before", verdict)
        self.assertIn("has no verdict", " ".join(verdict["reasons"]))
        bench.ok("try", "--resume", str(int(first["try"])))
        self.assertEqual(bench.verdict(int(first["try"]) - 1)["word"], "NULL", bench.verdict(int(first["try"]) - 1)["reasons"])   # the first one is a result

    def test_seeds_of_ones_own(self):
        """Those of a plan that is changed after the builds."""
        home = self.bench.home()
        plan = tries.begin(home, "main", "with my seeds", "tokens", 0.01, "mini", ["-c", "0.7"], say=lambda text: None)
        plan["seeds"] = list(range(1, 17))
        import home as homes
        homes.write_json(os.path.join(tries.folder_of(home, plan), "plan.json"), plan)
        self.bench.ok("try", "--resume", str(int(plan["try"])))
        verdict = self.bench.verdict(int(plan["try"]) - 1)
        self.named("plan", verdict)
        self.assertIn("its seeds are not those of the lab's secret", " ".join(verdict["reasons"]))

    def test_a_gap_to_the_hold_out_waits_for_more_pairs(self):
        """Three differences are 4 standard errors from 0 in 3 of 100 null tries: no WIN, but no verdict either. What else is found ends the try, and so does a gap at the last look."""
        home, bench = self.bench.home(), self.bench
        bench.try_("main", hypothesis="its tree is there")
        for options, found, words in ((["-c", "0.61"], lambda pairs: ["hold-out: 0.1 of the gain"] if len(pairs) == 3 else [], ["undecided", None]),
                                      (["-c", "0.62"], lambda pairs: ["hold-out: 0.1 of the gain"], ["undecided", "undecided", "CONFOUNDED"]),
                                      (["-c", "0.63"], lambda pairs: ["hold-out: 0.1 of the gain", "seed: another"], ["CONFOUNDED"])):
            plan = tries.begin(home, "main", "a gap", "tokens", 0.01, "mini", options, say=lambda text: None)
            with mock.patch.object(confounds, "find", lambda home, scale, plan, pairs, card: (found(pairs), [])):
                decided = tries.go_on(home, plan, lambda text: None)
            said = [e["word"] for e in ledger.entries(home, "look") if e["try"] == plan["try"]]
            self.assertEqual(said[:len(words)], [word or said[i] for i, word in enumerate(words)])
            self.assertEqual(decided.word == "CONFOUNDED", words[-1] == "CONFOUNDED", said)

    def test_a_run_whose_folder_is_a_link(self):
        """What lies behind is not cleared away after the run."""
        bench = self.bench
        cards = os.path.join(bench.root, "cards")
        before = sorted(os.listdir(cards))
        verdict = bench.try_(bench.script("link-out", '"$real" "$@" && rm -r "$out" && ln -s %s "$out"\n' % cards), hypothesis="whose cards?")
        self.named("evaluation", verdict)
        self.assertEqual(sorted(os.listdir(cards)), before)

    def test_the_baselines_evaluation_exchanged(self):
        bench, home = self.bench, self.bench.home()
        bench.try_("main", hypothesis="nothing at all")   # the tree is there
        path = os.path.join(home.trees, git(bench.checkout, "rev-parse", "main")[:12], "build", "evaluate")
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(text + "# another\n")
        try:
            verdict = bench.try_("main", "--with", "-c 0.9", hypothesis="better beside what is evaluated worse")
        finally:
            with open(path, "w") as f:
                f.write(text)
        self.named("program", verdict)


if __name__ == "__main__":
    unittest.main()
