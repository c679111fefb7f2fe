"""Planted cheats: each is named in its verdict, and none is a WIN. A change that helps without cheating is one, so that the rest says something."""
import json
import os
import subprocess
import unittest

from bench import Bench, CHECKOUT


class CheatsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bench = Bench()
        cls.addClassCleanup(cls.bench.remove)
        cls.bench.ok("card", "--scale", "mini", "--seeds", "3")
        cls.data = os.path.join(cls.bench.root, "data", "mini")

    def named(self, name, verdict):
        names = [reason.split(":")[0] for reason in verdict["reasons"]]
        self.assertNotEqual(verdict["word"], "WIN")
        self.assertIn(name, names, verdict["reasons"])
        return " ".join(verdict["reasons"])

    def restore(self, path, data):
        with open(path, "wb") as f:
            f.write(data)

    def with_options(self, name, options, **more):
        return self.named(name, self.bench.try_("main", "--with", options, **more))

    def patch(self, name, cheat):
        return self.named(name, self.bench.try_(self.bench.cheat(cheat)))

    def script(self, name, branch, text):
        return self.named(name, self.bench.try_(self.bench.script(branch, text)))

    def test_0_no_cheat_wins(self):
        verdict = self.bench.try_(self.bench.cheat("honest"))
        self.assertEqual(verdict["reasons"], [])
        self.assertEqual(verdict["word"], "WIN")

    def test_a_wider_model(self):
        self.assertIn("d1c64h2", self.with_options("size", "-e d1c64h2"))

    def test_a_deeper_model(self):
        self.with_options("size", "-e d2c32h2")

    def test_more_steps(self):
        self.assertIn("60 steps, 40 were planned", self.with_options("budget", "-x 60"))

    def test_half_the_batch_under_a_budget_of_time(self):
        self.with_options("batch", "-b 2", axis="time")

    def test_a_seed_picked(self):
        self.assertIn("it ran with 7", self.with_options("seed", "--seed 7"))

    def test_a_seed_ignored(self):
        self.patch("seed", "seed-ignored")

    def test_the_best_of_several(self):
        self.assertIn(self.bench.try_("main", "--with", "-c 0.2", hypothesis="first time")["word"], ("NULL", "LOSS"))  # and not CONFOUNDED by what decay does
        self.assertIn("best of several", self.named("tried before", self.bench.try_("main", "--with", "-c 0.2", hypothesis="second time")))
        self.bench.branch("again", {"train_gpt2.cu": lambda text: text.replace("// A step", "// A  step, by another name")})
        self.named("tried before", self.bench.try_("again", "--with", "-c 0.2", hypothesis="under another name"))

    def test_evaluated_on_training_data(self):
        said = 'sed -i \'1s/"val_data":"[^"]*"/"val_data":"%s"/\' "$out/metrics.jsonl"' % os.path.join(self.data, "val.bin").replace("/", "\\/")
        self.script("evaluation", "on-training-data", '"$real" "$@" -j "%s" && %s\n' % (os.path.join(self.data, "train.bin"), said))

    def test_validation_leaked_into_training(self):
        said = 'sed -i \'1s/"train_data":"[^"]*"/"train_data":"%s"/\' "$out/metrics.jsonl"' % os.path.join(self.data, "train.bin").replace("/", "\\/")
        mixture = "%s:0.5,%s:0.5" % (os.path.join(self.data, "train.bin"), os.path.join(self.data, "val.bin"))
        self.script("leak", "leaked", '"$real" "$@" -i "%s" && %s\n' % (mixture, said))

    def test_another_tokenizer(self):
        text = os.path.join(self.bench.folder, "text.txt")
        subprocess.run([os.path.join(CHECKOUT, "build", "stories"), "--bytes", "50k", "-o", text], check=True, stdout=subprocess.DEVNULL)
        self.with_options("tokenizer", "-i %s -j %s --tokenizer bpe:300" % (text, text))

    def test_evaluation_code_edited(self):
        self.assertIn("changes llmc/train/validate.h", self.patch("evaluation", "evaluation-edited"))

    def test_a_checkpoint_swapped(self):
        longer = '"$real" "$@" -x 80 -n 80 -o "$out.longer" > /dev/null && rm -r "$out/step_00000040" && mv "$out.longer/step_00000080" "$out/step_00000040" && rm -r "$out.longer"'
        self.assertIn("the lab finds", self.script("evaluation", "swapped", '"$real" "$@" && %s\n' % longer))

    def test_a_checkpoint_that_is_none(self):
        self.assertIn("could evaluate: ", self.script("evaluation", "no-weights", '"$real" "$@" && echo nothing > "$out/step_00000040/model.safetensors"\n'))

    def test_the_ledger_edited(self):
        self.edit_ledger("seed=3 ", "seed=4 ")
        self.addCleanup(self.edit_ledger, "seed=4 ", "seed=3 ")
        self.named("ledger", self.bench.try_("main", hypothesis="a past that was better"))

    def edit_ledger(self, old, new):
        path = os.path.join(self.bench.root, "ledger.logfmt")
        with open(path) as f:
            text = f.read()
        self.assertIn(old, text)
        with open(path, "w") as f:
            f.write(text.replace(old, new, 1))

    def test_a_slower_baseline(self):
        folder = os.path.join(self.bench.root, "cards")
        path = os.path.join(folder, next(f for f in os.listdir(folder) if f.startswith("mini-")))
        with open(path, "rb") as f:
            text = f.read()
        self.addCleanup(self.restore, path, text)
        card = json.loads(text)
        card["tokens_per_s"] = {"mean": 20 * card["tokens_per_s"]["mean"], "sd": 1.0}  # of a machine on which nothing else ran
        with open(path, "w") as f:
            json.dump(card, f)
        verdict = self.bench.try_("main", axis="time", hypothesis="faster than a slow baseline")
        self.named("busy", verdict)
        self.named("card", verdict)  # this test changed it

    def test_a_tree_of_another(self):
        path = os.path.join(self.bench.home().trees, self.base_commit()[:12], "train_gpt2.cu")
        with open(path, "rb") as f:
            text = f.read()
        self.addCleanup(self.restore, path, text)
        self.restore(path, text + b"// worse\n")
        self.assertIn("train_gpt2.cu of lab/trees", self.named("tree", self.bench.try_("main", hypothesis="better than what was made worse")))

    def test_a_baseline_of_another_program(self):
        home = self.bench.home()
        tree = os.path.join(home.trees, os.path.basename(self.base_commit())[:12], "train_gpt2")
        with open(tree) as f:
            text = f.read()
        self.addCleanup(self.restore, tree, text.encode())
        with open(tree, "w") as f:
            f.write(text.replace("exec", "sleep 0.05; exec"))
        self.named("program", self.bench.try_("main", hypothesis="the baseline sleeps"))

    def base_commit(self):
        import trees
        return trees.commit_of(self.bench.home(), "main")

    def test_an_early_stop_at_a_lucky_point(self):
        self.with_options("budget", "--patience 1")
        self.assertIn("30 steps, 40 were planned", self.script("budget", "stops-early", '"$real" "$@" -x 30\n'))

    def test_1_an_untuned_baseline(self):
        verdict = self.bench.try_("main", "--with", "-l 6e-3", hypothesis="a better learning rate is an idea")
        self.assertEqual(verdict["word"], "UNTUNED", verdict["reasons"])
        self.assertIn("0 trials of the baseline, 1 of the variant", " ".join(verdict["reasons"]))

    def test_a_search_hidden_in_the_variant(self):
        self.patch("learning rate", "search-hidden")

    def test_a_rate_said_rightly_and_used_wrongly(self):
        self.assertIn("2.00 times", self.patch("learning rate", "rate-hidden"))

    def test_a_loss_printed_lower(self):
        self.assertIn("the lab finds", self.patch("evaluation", "loss-printed-lower"))

    def test_attention_that_looks_ahead(self):
        self.patch("causality", "looks-ahead")

    def test_probabilities_that_do_not_sum_to_one(self):
        self.assertIn("1.10", self.patch("probabilities", "not-summing-to-one"))

    def test_flops_misreported(self):
        self.assertIn("its weights make it", self.patch("FLOPs", "flops-misreported"))

    def test_the_order_of_the_data_changed(self):
        self.assertIn("saw other tokens", self.patch("data", "data-order-changed"))

    def test_another_text(self):
        self.with_options("data", "-i %s" % os.path.join(self.data, "val.bin"))

    def test_weights_that_were_trained_before(self):
        text = 'set -- $(echo "$@" | sed "s/--init-std [0-9.]*//")\ncache="$0.warm"\n[ -d "$cache" ] || "$real" "$@" -o "$cache" > /dev/null\n"$real" "$@" -e "$cache/step_00000040"\n'
        self.assertIn("knowing nothing", self.script("start", "trained-before", text))

    def test_a_program_that_only_says_so(self):
        """No training at all, and texts where numbers belong: a verdict, not a traceback."""
        header = '{"run": {"seed": "x"}, "parameters": "many", "tokens_per_step": "128"}'
        events = '{"step": 0, "val_loss": "low"}\n{"step": "one", "loss": 1}\n[1]\nnonsense\n{"step": 40, "val_loss": 0.001}'
        self.script("evaluation", "says-so", "mkdir -p \"$out\" && printf '%%s\\n' '%s' '%s' > \"$out/metrics.jsonl\"\n" % (header, events.replace("\n", "' '")))

    def test_data_changed_on_disk(self):
        path = os.path.join(self.data, "val.bin")
        with open(path, "rb") as f:
            data = f.read()
        self.addCleanup(self.restore, path, data)
        with open(path, "wb") as f:
            f.write(data[:5000] + bytes(len(data) - 5000))
        self.named("data", self.bench.try_("main", hypothesis="an easier text"))


if __name__ == "__main__":
    unittest.main()
