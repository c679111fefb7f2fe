"""lab try, whole: what is written before anything runs, pairs, looks, the verdict's files; a second scale; leave-one-out; bad input."""
import json
import os
import subprocess
import unittest

from bench import Bench, git

import confounds  # noqa: E402: bench has set the path
import ledger
import record


class TryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bench = Bench()
        cls.addClassCleanup(cls.bench.remove)
        cls.card = cls.bench.ok("card", "--scale", "mini", "--seeds", "3")
        cls.bench.cheat("honest")

    def plan(self, verdict):
        tries = os.path.join(self.bench.root, "tries")
        folder = os.path.join(tries, next(f for f in os.listdir(tries) if f.startswith(verdict["try"])))
        with open(os.path.join(folder, "plan.json")) as f:
            return folder, json.load(f)

    def test_0_the_card(self):
        self.assertIn("bit-equal", self.card)
        event = ledger.entries(self.bench.home(), "card")[0]
        self.assertEqual((event["scale"], event["bit_equal"], event["seeds"]), ("mini", "yes", "3"))

    def test_1_a_win_and_a_second_scale(self):
        """A change that helps wins; it is PROVISIONAL until it holds at a second scale."""
        bench, home = self.bench, self.bench.home()
        text = bench.ok("try", "honest", "--hypothesis", "each token sees half of the last one", "--axis", "tokens", "--effect", "0.01", "--scale", "mini")
        verdict = bench.verdict()
        self.assertEqual(verdict["word"], "WIN", verdict["reasons"])
        self.assertIn("PROVISIONAL", text)
        self.assertLess(text.index("needs"), text.index("pair  1"))
        self.assertLess(text.index("needs"), text.index("builds"))
        self.assertIn(verdict["head"], text)
        self.assertEqual(ledger.entries(home)[verdict["head_n"] - 1]["hash"], verdict["head"])
        folder, plan = self.plan(verdict)
        self.assertEqual(verdict["lines"], 2)
        self.assertEqual((verdict["declared"]["number"], verdict["declared"]["wins"]), (1, 0))
        # committed before anything ran: in the commit of the plan there is no run
        commit = git(bench.root, "log", "--format=%H", "--grep=try %s: each token" % verdict["try"]).split()[-1]
        there = git(bench.root, "ls-tree", "-r", "--name-only", commit, "tries").split()
        self.assertEqual(there, [os.path.relpath(os.path.join(folder, "plan.json"), bench.root)])
        kinds = [e["kind"] for e in ledger.entries(home) if e.get("try") == verdict["try"]]
        self.assertEqual(kinds[0], "try-begins")
        self.assertEqual(kinds.count("run"), 2 * verdict["pairs"] + 1)   # the variant's first one again, as it is a WIN
        self.assertIn("the variant's first run has the same bits", text)
        registered = json.loads(git(bench.root, "show", "%s:%s" % (git(bench.root, "log", "--format=%H", "--grep=try %s: each token" % verdict["try"]).split()[-1], os.path.relpath(os.path.join(folder, "plan.json"), bench.root))))
        self.assertNotIn("seeds", registered)   # no build can look for what is lucky on them
        self.assertEqual(plan["seeds"][:2], [home.seed(int(verdict["try"]), i) for i in (1, 2)])
        self.assertLess(kinds.index("holdout-look"), kinds.index("look"))
        # pairs: the arms of one have one seed, and these are of no other try
        for i in range(1, verdict["pairs"] + 1):
            arms = [record.read(os.path.join(folder, "%s.%d" % (arm, i), "run.json")) for arm in ("base", "variant")]
            self.assertEqual([run.options["seed"] for run in arms], [str(plan["seeds"][i - 1])] * 2)
            self.assertEqual([run.hashes["data"] for run in arms], [arms[0].hashes["data"]] * 2)
            for run in arms:
                self.assertAlmostEqual(run.checked_val_loss, run.curve[-1].loss, delta=1e-4)
                self.assertIsNotNone(run.holdout_loss)
                self.assertNotEqual(run.holdout_loss, run.checked_val_loss)
                self.assertEqual(run.parameters, 53760)
                self.assertEqual(run.curve[-1].flops, run.flops_per_token * 40 * 128)
        # no path of the private folder is handed to a run
        for dirpath, _, files in os.walk(folder):
            for name in files:
                with open(os.path.join(dirpath, name), errors="replace") as f:
                    self.assertNotIn(home.private, f.read(), name)
        self.second_scale(verdict)

    def second_scale(self, verdict):
        home = self.bench.home()
        with open(os.path.join(self.bench.root, "scales", "mini.json")) as f:
            row = json.load(f)
        with open(os.path.join(self.bench.root, "scales", "midi.json"), "w") as f:
            json.dump(dict(row, options=row["options"].replace("d1c32h2", "d2c32h2")), f)
        self.assertIn("no card", self.bench.lab("scale", verdict["try"], "--scale", "midi")[1])
        self.bench.ok("card", "--scale", "midi", "--seeds", "2")
        text = self.bench.ok("scale", verdict["try"], "--scale", "midi")
        event = ledger.entries(home, "scale")[0]
        second = self.bench.verdict()
        self.assertEqual((second["confirms"], second["scale"], event["holds"]), (verdict["try"], "midi", "yes" if second["word"] == "WIN" else "no"))
        self.assertIn("WIN at mini and at midi" if event["holds"] == "yes" else "PROVISIONAL", text)
        self.assertNotIn("PROVISIONAL until", text)  # it is the second scale
        self.assertEqual(self.bench.lab("scale", verdict["try"], "--scale", "mini")[0], 2)

    def test_2_nothing_is_null_and_is_not_confounded(self):
        """The same commit: equal to the bit, so every check of what differs must be silent."""
        verdict = self.bench.try_("main", hypothesis="nothing")
        self.assertEqual(verdict["word"], "NULL")
        begun = len(ledger.entries(self.bench.home(), "try-begins"))
        wins = [e["word"] for e in ledger.entries(self.bench.home(), "verdict")].count("WIN")
        self.assertEqual((verdict["declared"]["number"], verdict["declared"]["wins"]), (begun, wins))
        self.assertEqual(self.bench.try_("main", hypothesis="nothing, again")["declared"]["number"], begun + 1)
        self.assertEqual([r["effect"] for r in verdict["rows"] if r["axis"] != "seconds"], [0, 0])

    def test_3_equal_flops(self):
        """A model of one layer costs fewer FLOPs than one of two: it gets more steps, and both end at the same budget."""
        with open(os.path.join(self.bench.root, "scales", "mini.json")) as f:
            row = json.load(f)
        with open(os.path.join(self.bench.root, "scales", "deep.json"), "w") as f:
            json.dump(dict(row, options=row["options"].replace("d1c32h2", "d2c32h2")), f)
        self.bench.ok("card", "--scale", "deep", "--seeds", "2")
        verdict = self.bench.try_("main", "--with", "-e d1c32h2", axis="flops", scale="deep", hypothesis="one layer is enough")
        flops = next(r for r in verdict["rows"] if r["axis"] == "flops")
        self.assertAlmostEqual(flops["spent"], 1, delta=0.01)
        self.assertIn("size", [r.split(":")[0] for r in verdict["reasons"]])
        self.assertNotIn("budget", [r.split(":")[0] for r in verdict["reasons"]])

    def test_4_a_variant_that_fails(self):
        verdict = self.bench.try_(self.bench.script("fails", 'mkdir "$out"; exit 2\n'), hypothesis="fails")
        self.assertEqual((verdict["word"], verdict["pairs"]), ("LOSS", 0))   # exit code 2, but it had begun to write
        self.assertIn("failed", " ".join(verdict["reasons"]))

    def test_4_a_variant_that_does_not_start(self):
        """What the trainer refuses, in its own words; no verdict, whether it is asked once or again, and whatever the axis."""
        home = self.bench.home()
        for axis in ("tokens", "tokens", "time"):
            status, text = self.bench.lab("try", "main", "--with", "--no-such-option 1", "--hypothesis", "refused", "--axis", axis, "--effect", "0.01", "--scale", "mini")
            begun = ledger.entries(home, "try-begins")[-1]["try"]
            self.assertEqual((status, text.splitlines()[-1]), (2, "lab: try %s: the variant does not start: error: --no-such-option: unknown option; --help lists them" % begun), text)
            self.assertFalse([e for e in ledger.entries(home, "verdict") if e["try"] == begun])
        # one that starts once and then refuses a seed has failed
        verdict = self.bench.try_(self.bench.script("picky", 'case "$out" in */variant.1/*) exec "$real" "$@"; esac; exit 2\n'), hypothesis="it chooses its seeds")
        self.assertEqual((verdict["word"], verdict["reasons"][-1].split(":")[0]), ("LOSS", "failed"), verdict["reasons"])

    def test_4_a_run_is_told_nothing_of_the_lab(self):
        """Neither by its arguments nor by its environment does a program learn where the hold-out is."""
        verdict = self.bench.try_(self.bench.script("curious", 'env; echo "$@"; exit 3\n'), hypothesis="it asks")
        folder, _ = self.plan(verdict)
        with open(os.path.join(folder, "variant.1", "run.log")) as f:
            text = f.read()
        self.assertIn("--seed", text)
        self.assertNotIn("LAB_", text)
        self.assertNotIn(self.bench.home().private, text)

    def test_5_a_changed_plan_is_seen(self):
        _, plan = self.plan(self.bench.try_("main", "--with", "-c 0.3", hypothesis="a plan"))
        self.assertEqual(confounds.of_history(self.bench.home(), plan)[0], [])
        self.assertIn("plan", confounds.of_history(self.bench.home(), dict(plan, effect=0.5))[0][0])

    def test_6_leave_one_out(self):
        """Two kept commits: one that helps, one that does nothing."""
        bench = self.bench
        git(bench.checkout, "checkout", "-q", "-b", "kept", "honest")
        path = os.path.join(bench.checkout, "llmc", "model", "flops.h")
        with open(path, "a") as f:
            f.write("// nothing\ninline int nothing() { return 0; }\n")
        git(bench.checkout, "commit", "-q", "-a", "-m", "a function that nobody calls")
        git(bench.checkout, "checkout", "-q", "main")
        text = bench.ok("ablate", "kept", "--scale", "mini")
        events = ledger.entries(bench.home(), "ablation")
        self.assertEqual([(e["title"], e["word"], e["lines"]) for e in events], [("a change", "kept", "2"), ("a function that nobody calls", "barnacle", "2")], text)
        self.assertIn("barnacles: a function that nobody calls (2 lines)", text)
        self.assertGreater(float(events[0]["effect"]), 0.01)
        self.assertEqual(float(events[1]["effect"]), 0)

    def test_7_tuning_is_counted_and_kept(self):
        bench = self.bench
        bench.ok("tune", "--scale", "mini", "--option", "l", "--values", "1e-3,8e-3", "--seeds", "1")
        self.assertEqual([(e["arm"], e["value"]) for e in ledger.entries(bench.home(), "trial")], [("base", "1e-3"), ("base", "8e-3")])
        self.assertIn("no card", bench.lab("try", "main", "--hypothesis", "x", "--axis", "tokens", "--effect", "0.01", "--scale", "mini")[1])
        with open(os.path.join(bench.root, "cards", "tuned-mini.json")) as f:
            self.assertEqual(json.load(f)["options"], ["-l", "8e-3"])

    def test_9_an_unfit_machine(self):
        """One seed twice gives other bits: the card is refused, and so is every try with it."""
        bench = self.bench
        bench.script("wobbly", '"$real" "$@" --seed $(od -An -N2 -tu2 /dev/urandom | tr -d " ")\n')
        status, text = bench.lab("card", "--scale", "mini", "--seeds", "2", "--base", "wobbly")
        self.assertEqual((status, "unfit" in text), (2, True), text)
        status, text = bench.lab("try", "main", "--hypothesis", "x", "--axis", "tokens", "--effect", "0.01", "--scale", "mini", "--base", "wobbly")
        self.assertEqual((status, "unfit" in text), (2, True), text)

    def test_8_bad_input_is_one_line(self):
        good = ["try", "main", "--hypothesis", "x", "--axis", "tokens", "--effect", "0.01", "--scale", "mini"]
        cases = [[], ["nonsense"], ["try"], ["try", "nosuchbranch"] + good[2:], good[:5] + ["parameters"] + good[6:], good[:7] + ["0"] + good[8:], good[:7] + ["nan"] + good[8:], good[:9] + ["nosuch"],
                 good[:3] + [" "] + good[4:], ["try", "--resume", "99"], ["try", "--resume", "x"], ["scale", "99"], ["card", "--seeds", "1"], ["card", "--base", "nosuchbranch"], ["ablate", "main"],
                 ["tune", "--option", "l", "--values", "1,", "--scale", "mini"]]
        before = len(ledger.entries(self.bench.home()))
        for case in cases:
            status, text = self.bench.lab(*case)
            self.assertEqual((status, text.count("\n")), (2, 1), (case, text))
            self.assertTrue(text.startswith("lab: "), text)
        self.assertEqual(len(ledger.entries(self.bench.home())), before)
        self.assertEqual(self.bench.lab(*good, LAB_HOME="/nonexistent")[0], 2)


if __name__ == "__main__":
    unittest.main()
