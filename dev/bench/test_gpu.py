#!/usr/bin/env python3
"""What gpu.py does with what no GPU is here to do: batches that do not fit, attention that does not compile, odd logs. Run by DRY=1 make bench-gpu."""
import json
import sqlite3
import tempfile
import types
import unittest
from unittest import mock

import gpu
import host
import kernels
import runs

ARGS = types.SimpleNamespace(tokens=1 << 19, seq=1024, batch=0, windows=3, window=20, modes="default,max-autotune", short=False, limit=60, device="cuda")
QUIET = types.SimpleNamespace(memory=lambda begin, end: None, clocks=lambda begin, end: None)   # a Watch that sees nothing


class Machine:
    """80 GiB. Ours takes 2 + B / 2 GiB; PyTorch 8 + B in mode default and 12 + 2 B in the other, which is faster; cudnn never compiles."""
    def __init__(self, broken=("cudnn",), loss=10.9, faster=1.5):
        self.broken, self.loss, self.faster, self.calls = broken, loss, faster, []

    def common(self, batch, gib, rate):
        return {"batch": batch, "tokens_per_s": rate, "ms": 1e3 * (1 << 19) / rate, "losses": [11.0] * 9 + [10.9] * 20, "steps": 29, "clocks": None,
                "parameters": 124e6, "driver_gib": gib + 0.5, "first_step_begin_s": 1, "first_step_end_s": 2}

    def ours(self, args, watch, model, batch, steps, **_):
        self.calls.append(("ours", batch))
        gib = 2 + batch / 2
        return {"batch": batch, "error": "out of memory: the plan takes much"} if gib > 80 else {
            **self.common(batch, gib, 1e6 + batch), "planned_gib": gib, "peak_flops_per_s": 1e15, "flops_per_token": 1e9, "peak_from": "by its data sheet",
            "attention": "", "shapes_measured": 30, "measuring_s": 2.5}

    def torch(self, args, watch, model, variant, seconds):
        self.calls.append(tuple(variant.values()))
        batch, slow = variant["batch"], variant["compile"] in ("default", "0")
        gib = 8 + batch if slow else 12 + 2 * batch
        if variant["sdpa"] in self.broken and variant["compile"] != "0":
            return {**variant, "error": "Unsupported: forced attention"}
        if gib > 80:
            return {**variant, "error": "out of memory: CUDA out of memory"}
        r = {**variant, **self.common(batch, gib, 8e5 * (1 if slow else self.faster) + batch), "allocated_gib": gib, "reserved_gib": gib}
        return {**r, "losses": [11.0] * 5 + [self.loss] * 30}

    def row(self, **changed):
        plan = {"lines": [(0, "--batch auto: 128 sequences, 4 times a step; 66.0 of 80.0 GiB")], "code": 0, "last": ""}
        args = types.SimpleNamespace(**{**vars(ARGS), **changed})
        with mock.patch.multiple(gpu, run_ours=self.ours, run_torch=self.torch, run=lambda *_: plan, pick_sdpa=lambda *_: ("cudnn", {}), say=lambda _: None):
            return gpu.compare(args, "d12", QUIET, "2.9")


class Comparison(unittest.TestCase):
    def test_best_against_best(self):
        m = Machine()
        row = m.row()
        self.assertEqual((row["batch"], row["torch"]["batch"], row["torch"]["compile"], row["torch"]["sdpa"]), (128, 32, "max-autotune", "flash"))
        self.assertAlmostEqual(row["ratio"], (1e6 + 128) / (1.2e6 + 32))
        tried = [(v["compile"], v["sdpa"], v["batch"], "error" in v) for v in row["torch"]["variants"]]
        self.assertEqual(tried, [("default", "cudnn", 128, True), ("default", "flash", 128, True), ("default", "flash", 64, False),
                                 ("max-autotune", "cudnn", 64, True), ("max-autotune", "flash", 64, True), ("max-autotune", "flash", 32, False),
                                 ("max-autotune", "flash", 16, False)])
        # A B B A A B, then ours at the batch of PyTorch's
        turns = ["ours" if c[0] == "ours" else "torch" for c in m.calls[2 + len(tried):][:6]]
        self.assertEqual(turns, ["ours", "torch", "torch", "ours", "ours", "torch"])
        self.assertIn(("ours", 32), m.calls)
        self.assertEqual(row["torch"]["bf16_weights"]["compile"], "max-autotune-no-cudagraphs")

    def test_memory_is_the_worse_at_one_batch(self):
        m = Machine(faster=0.9).row()["memory"]   # the default mode is the faster: 64 fits it
        self.assertEqual((m["batch"], m["asked_gib"], m["torch_asked_gib"]), (64, 34, 72))
        self.assertAlmostEqual(m["driver_ratio"], 34.5 / 72.5)
        self.assertAlmostEqual(m["asked_ratio"], 34 / 72)
        self.assertEqual(m["ratio"], max(m["driver_ratio"], m["asked_ratio"]))

    def test_eager_comes_last(self):
        m = Machine(broken=("cudnn", "flash", "default"))
        row = m.row()
        self.assertEqual([c[:2] for c in m.calls if c[0] != "ours"][:7], [(mode, a) for mode in ("default", "max-autotune") for a in ("cudnn", "flash", "default")]
                         + [("0", "default")])
        self.assertEqual((row["torch"]["compile"], row["torch"]["batch"]), ("0", 64))

    def test_other_work_fails(self):
        self.assertNotIn("error", Machine().row())
        self.assertIn("not the same work: after 10 steps", Machine(loss=10.5).row()["error"])
        self.assertIn("not the same work", Machine(loss=float("nan")).row()["error"])
        self.assertEqual(gpu.losses_differ([{"losses": [11.0, 10.9]}], [{"losses": [11.0, 10.9, 3.0]}]), None)   # as many steps
        self.assertIn("not finite", gpu.losses_differ([{"losses": [11.0, None]}], [{"losses": [11.0]}]))

    def test_tables_of_a_failed_model(self):
        with mock.patch.object(gpu, "say"), mock.patch("builtins.print") as out:
            gpu.print_tables([{"model": "d48", "batch": 1, "error": "ours: no"}, Machine().row(short=True), {**Machine(loss=3).row(), "model": "d24"}])
        text = "\n".join(str(c.args[0]) for c in out.call_args_list if c.args)
        for part in ("d48: ours: no", "d24: not the same work", "30 in 2.5 s"):
            self.assertIn(part, text)


class Parsers(unittest.TestCase):
    def test_ours(self):
        lines = ["machine  NVIDIA H100 80GB HBM3, cuBLASLt 12.8, 41 shapes measured in 3.7 s, peak 989TFLOP/s by its data sheet", "attention forward by cuDNN",
                 "memory of the device", "  parameters   250.0 MiB  params", "  total    20480.0 MiB", "memory of the host", "  total    8.0 MiB",
                 "step 1/4  loss 11.0", "step 2/4  loss 10.9", "step 3/4  loss 10.9", "step 4/4  loss 10.8"]
        r = {"began": 100.0, "ended": 120.0, "lines": [(100.0 + i, line) for i, line in enumerate(lines)]}
        steps = [{"tokens_per_s": 1e6, "ms": 524.288, "flops_per_s": 8e14, "loss": 11 - i / 10} for i in range(4)]
        out = runs.read_ours(r, {"peak_flops_per_s": 989e12, "parameters": 124e6}, *steps, watch=QUIET, skip=2)
        self.assertEqual((out["planned_gib"], out["shapes_measured"], out["measuring_s"], out["attention"]), (20.0, 41, 3.7, "forward by cuDNN"))
        self.assertEqual((out["first_step_end_s"], round(out["first_step_begin_s"], 3)), (7.0, 6.476))
        self.assertEqual((out["peak_from"], round(out["tokens_per_s"]), out["losses"][0]), ("by its data sheet", 1000000, 11.0))

    def test_torch(self):
        seen = {}
        said = {"window_tokens_per_s": 5e5, "peak_mb": 20480, "reserved_mb": 30720, "window": [10, 30], "ms": 1000, "steps": 20, "parameters": 124e6,
                "first_step_begin_s": 6, "first_step_end_s": 60, "losses": [11.0]}

        def run(command, limit, env):
            seen.update(env, command=command)
            return {"code": 0, "last": "a warning", "lines": [(0, "W0101 a warning"), (1, json.dumps(said)), (2, "a warning")]}
        watch = types.SimpleNamespace(memory=lambda *window: 1024 * window[1], clocks=lambda *window: None)
        with mock.patch.multiple(runs, run=run, DRY=False):
            out = runs.run_torch(ARGS, watch, "d12", {"compile": "default", "sdpa": "flash", "batch": 32}, 20)
        self.assertEqual((out["allocated_gib"], out["reserved_gib"], out["driver_gib"], out["first_step_end_s"]), (20, 30, 30, 60))
        self.assertEqual(seen["command"][seen["command"].index("--accum") + 1], "16")
        self.assertTrue(seen["TRITON_CACHE_DIR"].endswith("triton-d12-default-flash-32-autocast"))

    def test_gaps_between_graphs(self):
        with tempfile.TemporaryDirectory() as folder:
            db = sqlite3.connect(f"{folder}/a.sqlite")
            for table in ("GRAPH_TRACE", "MEMCPY", "KERNEL"):
                db.execute(f'CREATE TABLE CUPTI_ACTIVITY_KIND_{table} (start INT, "end" INT)')
            for i in range(40):   # a graph of 80 with a copy beside it, AdamW behind it for 15, 2 without work, a copy until the next graph has begun
                t = 100 * i
                for table, first, last in (("GRAPH_TRACE", t, t + 80), ("MEMCPY", t + 10, t + 12), ("KERNEL", t + 80, t + 95), ("MEMCPY", t + 97, t + 101)):
                    db.execute(f"INSERT INTO CUPTI_ACTIVITY_KIND_{table} VALUES (?, ?)", (first, last))
            db.commit()
            db.close()
            self.assertAlmostEqual(host.idle_share(f"{folder}/a.sqlite")[0], 0.02)
            self.assertEqual(host.idle_share(f"{folder}/b.sqlite"), (None, "nsys wrote no trace"))

    def test_share_of_kernels(self):
        calls = {layer: kernels.calls_a_step(layer, 12, 16, 256, 124e6) for layer in (
            "gelu backward", "fcproj backward input", "fcproj + gelu backward input", "fc forward", "fc + gelu forward", "head backward input", "embedding forward")}
        self.assertEqual(list(calls.values()), [0, 0, 192, 0, 192, 256, 16])


if __name__ == "__main__":
    unittest.main()
