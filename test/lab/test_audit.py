"""The lab's own evaluation at GPT-2's vocabulary: all 50,257 probabilities sum to 1, and a classifier whose do not is seen, in bounded memory."""
import array
import json
import math
import os
import random
import resource
import shutil
import struct
import subprocess
import tempfile
import time
import unittest

from bench import CHECKOUT, MINI

import audit  # noqa: E402: bench has set the path
import cheats
import home as homes

V, SMALLER = 50257, 2111   # GPT-2's; and the least prime beyond what is asked at all places of a row


class Scale:
    """What the audit reads of one."""
    B, T, val_batches, precision = MINI["B"], MINI["T"], 2, staticmethod(lambda: "fp32")

    def __init__(self, val):
        self.val = val

    def settings(self):
        return {"canary": [], "control": []}


class AuditTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="lab-audit-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.program = cheats.program(CHECKOUT)
        text = os.path.join(cls.folder, "text.txt")
        with open(text, "w") as f:
            f.write("the quick brown fox jumps over the lazy dog\n" * 200)
        subprocess.run([cls.program, "-i", text, *"-e d1c64h2 -t 32 -b 4 -x 2 -v 0 -s 0 -n 2 --threads 1 -o".split(), cls.folder + "/out"], check=True, stdout=subprocess.DEVNULL)

    def tree(self, cheat=""):
        tree = os.path.join(self.folder, "tree" + cheat)
        os.makedirs(tree + "/build", exist_ok=True)
        with open(tree + "/build/evaluate", "w") as f:
            f.write('#!/bin/sh\nCHEAT=%s exec %s evaluate "$@"\n' % (cheat, self.program))
        os.chmod(tree + "/build/evaluate", 0o755)
        return tree

    def enlarged(self, vocabulary):
        """The checkpoint of a small run, with tokens for a vocabulary of this size."""
        source, target = self.folder + "/out/step_00000002", self.folder + "/vocabulary-%d" % vocabulary
        shutil.copytree(source, target)
        header, data = audit.safetensors_header(source + "/model.safetensors")
        with open(source + "/model.safetensors", "rb") as f:
            f.seek(data)
            body = f.read()
        pieces = {name: body[slice(*t["data_offsets"])] for name, t in header.items() if name != "__metadata__"}
        wte = next(name for name in header if name.endswith("wte.weight"))
        width, chance = header[wte]["shape"][1], random.Random(1)
        few = array.array("f", (chance.gauss(0, 0.5) for _ in range(997 * width)))   # they come again, which a sum does not mind
        pieces[wte] = (few * (vocabulary // 997 + 2))[1:vocabulary * width + 1].tobytes()
        header[wte]["shape"] = [vocabulary, width]
        at = 0
        for name, piece in pieces.items():
            header[name]["data_offsets"] = [at, at + len(piece)]
            at += len(piece)
        text = json.dumps(header).encode()
        with open(target + "/model.safetensors", "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + b"".join(pieces.values()))
        with open(target + "/config.json") as f:
            config = json.load(f)
        with open(target + "/config.json", "w") as f:
            json.dump(dict(config, vocab_size=vocabulary), f)
        return target

    def test_probabilities_of_gpt2s_vocabulary(self):
        """An audit's own batches, at the full size; in bounded memory."""
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        batches = audit.sum_batches(([11, 50000], None), audit.ROWS, audit.SHORT, V)
        losses = audit.ask(homes.Home("", "", ""), Scale(""), self.tree(), self.enlarged(V), batches, audit.ROWS, audit.SHORT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # a loss near 11 has half an ulp of 2^-21, so each probability is right to 5e-7, and the classifier's own sum of 50,257 floats to 1e-5 or so
        self.assertAlmostEqual(audit.worst_sum(losses, audit.ROWS, audit.SHORT, V), 1, delta=1e-4)
        if os.environ.get("LAB_TIMES"):
            print("sum of %d: %.2f s, %.2f s of CPU, peak %d MiB" % (V, time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss >> 10))
        self.assertLess(after.ru_maxrss >> 10, 200)   # weights twice 12 MiB, logits 25

    def test_large_vocabularies_are_looked_at(self):
        folder, val = self.enlarged(SMALLER), os.path.join(self.folder, "val.bin")
        with open(val, "wb") as f:
            f.write(array.array("i", [20240520, 1, 300] + [0] * 253).tobytes() + array.array("H", (random.Random(2).randrange(SMALLER) for _ in range(300))).tobytes())
        self.assertAlmostEqual(audit.look(homes.Home("", "", ""), Scale(val), self.tree(), folder, 1, False)["worst_sum"], 1, delta=1e-4)
        self.assertGreater(abs(audit.look(homes.Home("", "", ""), Scale(val), self.tree("not-summing-to-one"), folder, 1, False)["worst_sum"] - 1), 0.05)

    def test_each_target_is_asked_once(self):
        for vocabulary in (5, 64, 65, 131):
            batches = audit.sum_batches(([3, 4, 9], None), 4, 2, vocabulary)
            self.assertTrue(all(inputs == [3, 4] * 4 for inputs, _ in batches))
            asked = [t for _, targets in batches for t in targets[::2]]
            self.assertEqual(asked[:vocabulary], list(range(vocabulary)))
            self.assertEqual(len(asked), (vocabulary + 3) // 4 * 4)   # the last one again, where rows are left; not counted:
            losses = [[math.log(vocabulary)] * 8 for _ in batches]
            self.assertAlmostEqual(audit.worst_sum(losses, 4, 2, vocabulary), 1, 12)


if __name__ == "__main__":
    unittest.main()
