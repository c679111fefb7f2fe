"""What confounds.py concludes, of numbers made for it; and the learning rates that it expects, beside those of the trainer."""
import os
import shutil
import subprocess
import tempfile
import unittest

from bench import CHECKOUT

import cheats  # noqa: E402
import confounds
import record
import runs


def pair(seed, **more):
    """Two runs as the lab writes them down; keys with base_ or variant_ in front change one."""
    out = []
    for arm in ("base", "variant"):
        evidence = {"val_loss": 3.0 + 0.01 * seed, "holdout_loss": 3.1 + 0.012 * seed, "letters": None, "vocabulary": 257, "train_losses": [4.0, 3.9], "tokens_per_s": 1000.0, "cpu_seconds": 2.0, "step_seconds": 1.0}
        evidence.update(val_batches=[2.9, 3.0, 3.1, 3.0], holdout_batches=[3.0, 3.1, 3.2, 3.1])
        evidence.update({key[len(arm) + 1:]: value for key, value in more.items() if key.startswith(arm + "_")})
        out.append((record.Run(arm=arm, seed=seed, others_cpu=evidence.pop("others", 0.1)), evidence))
    return tuple(out)


CARD = {"tokens_per_s": {"mean": 1000.0, "sd": 20.0}}


class ConfoundsTest(unittest.TestCase):
    def test_a_gain_that_the_hold_out_does_not_have(self):
        pairs = [pair(s, variant_val_loss=2.8 + 0.01 * s + 0.001 * (s % 2)) for s in range(4)]
        self.assertIn("hold-out: 0.19", " ".join(confounds.of_leaks(pairs, 0.01)))

    def test_a_gain_that_it_has(self):
        pairs = [pair(s, variant_val_loss=2.8 + 0.01 * s, variant_holdout_loss=2.9 + 0.012 * s + 0.001 * (s % 2)) for s in range(4)]
        self.assertEqual(confounds.of_leaks(pairs, 0.01), [])

    def test_a_gain_that_texts_have_by_chance(self):
        """Equal in all seeds, as they have the text in common; but batches of each text differ in their gain as much as the texts do."""
        def pairs(val):
            return [pair(s, variant_val_loss=2.8 + 0.01 * s, variant_holdout_loss=3.0 + 0.012 * s, variant_val_batches=val, variant_holdout_batches=[2.8, 3.1, 3.0, 3.1]) for s in range(4)]
        self.assertEqual(confounds.of_leaks(pairs([2.5, 3.0, 2.9, 2.8]), 0.01), [])
        self.assertIn("hold-out: 0.1", " ".join(confounds.of_leaks([pair(s, variant_val_loss=2.8 + 0.01 * s, variant_holdout_loss=3.0 + 0.012 * s,
                                                variant_val_batches=[2.7, 2.8, 2.9, 2.8], variant_holdout_batches=[2.9, 3.0, 3.1, 3.0]) for s in range(4)], 0.01)))
        gone = [pair(s, variant_val_loss=2.8, base_holdout_batches=[], variant_holdout_batches=[]) for s in range(4)]
        self.assertEqual(confounds.of_leaks(gone, 0.01), [])

    def test_seeds(self):
        """A head that begins at 0 gives every token the same probability, whatever the seed: then the first steps tell."""
        def said(first, *losses):
            return confounds.of_arm([pair(s, base_first_val_loss=first, base_train_losses=list(l))[0] for s, l in enumerate(losses)])
        uniform = 5.549076
        self.assertEqual(said(uniform, [uniform, 5.4], [uniform, 5.5]), [])
        self.assertIn("the seed is ignored", " ".join(said(uniform, [uniform, 5.4], [uniform, 5.4])))
        self.assertIn("the seed is ignored", " ".join(said(5.6, [uniform, 5.4], [uniform, 5.5])))

    def test_what_weight_decay_takes_of_positions(self):
        """By hand; the trainer's own are in the tests below."""
        options = {"lr": "0.004", "weight_decay": "0.5", "embed_lr": "0.008", "optimizer": "adamw", "decay_schedule": "constant"}
        self.assertAlmostEqual(confounds.position_decay(options, 0.002), 0.001, places=15)
        options["optimizer"] = "muon"
        self.assertAlmostEqual(confounds.position_decay(options, 0.002), 0.002, places=15)
        options["decay_schedule"] = "lr"
        self.assertAlmostEqual(confounds.position_decay(options, 0.002), 0.001, places=15)
        options["embed_lr"] = "0"
        self.assertAlmostEqual(confounds.position_decay(options, 0.002), 0.0005, places=15)

    def test_letters(self):
        even = [[9.0 + 0.1 * i for i in range(8)], [9.0 + 0.1 * (i * 3 % 8) for i in range(8)]]
        shifted = [[x - 0.5 for x in even[0]], even[1]]
        self.assertIn("leak", " ".join(confounds.of_leaks([pair(s, base_letters=even, variant_letters=shifted) for s in range(3)], 0.01)))
        both = [[x - 0.5 for x in kind] for kind in even]
        other = [[x - 0.5 for x in even[1]], even[0]]
        for letters in (even, both, [even[1], even[0]], [even[0], [x - 0.5 for x in even[1]]]):
            self.assertEqual(confounds.of_leaks([pair(s, base_letters=even, variant_letters=letters) for s in range(3)], 0.01), [], letters)
        self.assertIn("leak", " ".join(confounds.of_leaks([pair(s, base_letters=even, variant_letters=other) for s in range(3)], 0.01)))

    def test_a_machine_that_others_used(self):
        none = [pair(s) for s in range(3)]
        self.assertEqual(confounds.of_machine(none, CARD, "seconds"), ([], []))
        slow = [pair(s, base_tokens_per_s=800.0) for s in range(3)]
        self.assertIn("busy: the baseline made 800", confounds.of_machine(slow, CARD, "seconds")[0][0])
        self.assertEqual(confounds.of_machine(slow, CARD, "tokens")[0], [])
        self.assertEqual(len(confounds.of_machine(slow, CARD, "tokens")[1]), 1)
        beside = [pair(s, base_others=0.7 + 0.02 * s) for s in range(3)]
        self.assertIn("busy: others used 62 % more", confounds.of_machine(beside, CARD, "tokens")[0][0])
        both = [pair(s, base_others=0.7, variant_others=0.6 + 0.1 * s) for s in range(3)]
        self.assertEqual(confounds.of_machine(both, CARD, "tokens")[0], [])

    def test_a_baseline_that_had_less_of_its_core(self):
        """On the axis of time alone, and where it was slowed, not where both were: a fifth of a core beside a third, or a half beside a half."""
        shares = lambda base, variant: [pair(s, base_core=base, variant_core=variant) for s in range(3)]
        self.assertIn("busy: others left the baseline 20 % of its core, the variant 33 %", confounds.of_machine(shares(0.2, 0.333), CARD, "seconds")[0])
        self.assertEqual(confounds.of_machine(shares(0.2, 0.333), CARD, "tokens")[0], [])
        for base, variant in ((0.5, 0.5), (0.9, 1.0), (0.5, 0.55), (0.8, 0.2), (None, 1.0), (0.1, None)):
            self.assertEqual(confounds.of_machine(shares(base, variant), CARD, "seconds")[0], [], (base, variant))

    def test_programs(self):
        def pairs(base, variant):
            out = [pair(s) for s in range(2)]
            for i, ((b, _), (v, _)) in enumerate(out):
                b.hashes["program"], v.hashes["program"] = base[i], variant[i]
            return out
        card = {"program": "a"}
        self.assertEqual(confounds.of_programs(pairs("aa", "bb"), card), [])
        self.assertIn("exchanged", confounds.of_programs(pairs("aa", "bc"), card)[0])
        self.assertIn("its card", confounds.of_programs(pairs("ab", "bb"), card)[0])

    def test_work_outside_of_the_steps(self):
        found = confounds.of_machine([pair(s, variant_cpu_seconds=9.0) for s in range(3)], CARD, "tokens")[0]
        self.assertIn("time: 8.0 CPU seconds of the variant lie outside of its steps, 1.0 of the baseline", found)

    def test_findings_of_a_kind_are_one_line(self):
        found = confounds.shortened(["seed: a", "seed: b", "data: c", "seed: d"])
        self.assertEqual(found, ["seed: a (and 2 more)", "data: c"])

    def test_learning_rates_are_those_of_the_trainer(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        text = os.path.join(folder, "text.txt")
        with open(text, "w") as f:
            f.write("the quick brown fox jumps over the lazy dog\n" * 200)
        for schedule in ("cosine", "linear", "constant", "wsd", "wsd --cooldown 0.5", "trapezoidal --cooldown 0.7"):
            out = os.path.join(folder, schedule.replace(" ", ""))
            subprocess.run([cheats.program(CHECKOUT), "-i", text, "-e", "d1c32h2", "-t", "16", "-b", "2", "-x", "23", "-k", *schedule.split(), "-u", "4", "-q", "0.2", "-l", "3e-3", "-v", "0", "-s", "0", "-n", "0",
                            "--threads", "1", "-o", out], check=True, stdout=subprocess.DEVNULL)
            header, steps, _ = runs.read_metrics(out)
            self.assertEqual(len(steps), 23)
            for i, step in enumerate(steps):
                self.assertAlmostEqual(step["lr"], confounds.rate(header["run"], i, 23), delta=1e-10, msg=(schedule, i))


if __name__ == "__main__":
    unittest.main()
