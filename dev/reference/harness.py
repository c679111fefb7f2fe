"""What lm-evaluation-harness itself finds, by its own tasks, on local files: for eval_check.py --harness. Needs lm_eval; no network.

Each task is the harness's own file (tasks/hellaswag/hellaswag.yaml, ...) with the data set replaced by rows of a local jsonl in the
shape in which the hub has them; the plain set and documents are tasks of three lines.
"""
import glob
import json
import os

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
import datasets
import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
OWN = {"plain": "output_type: multiple_choice\ndoc_to_text: '{{context}}'\ndoc_to_choice: '{{choices}}'\ndoc_to_target: '{{answer}}'\n"
                "metric_list:\n  - metric: acc\n  - metric: acc_norm\n",
       "documents": "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\nmetric_list:\n  - metric: bits_per_byte\n"}
THEIRS = {"hellaswag": "hellaswag/hellaswag.yaml", "mmlu": "mmlu/default/mmlu_abstract_algebra.yaml", "arc_easy": "arc/arc_easy.yaml",
          "arc_challenge": "arc/arc_challenge.yaml", "piqa": "piqa/piqa.yaml", "winogrande": "winogrande/default.yaml"}


def rows_of_hub(work):
    """The made files as the hub has them. ARC, PIQA and WinoGrande are published in other shapes."""
    read = lambda path: [json.loads(line) for line in open(os.path.join(work, path))]
    arc = lambda path: [{"id": r["id"], "question": r["question"]["stem"], "answerKey": r["answerKey"],
                         "choices": {k: [c[k] for c in r["question"]["choices"]] for k in ("text", "label")}} for r in read(path)]
    labels = [int(x) for x in open(os.path.join(work, "raw/valid-labels.lst"))]
    # the harness always puts a space between; of our plain questions those in which we do
    plain = [r for r in read("plain.jsonl") if isinstance(r["context"], str) and r["context"].strip() and r["context"] == r["context"].rstrip()
             and not any(c[0].isspace() for c in r["choices"])]
    hellaswag = [r | {"label": str(r["label"])} for r in read("hellaswag.jsonl")]
    return {"plain": plain, "hellaswag": hellaswag, "mmlu": read("mmlu.jsonl"), "documents": read("documents.jsonl"),
            "arc_easy": arc("raw/ARC-Easy-Test.jsonl"), "arc_challenge": arc("raw/ARC-Challenge-Test.jsonl"),
            "piqa": [r | {"label": x} for r, x in zip(read("raw/valid.jsonl"), labels)], "winogrande": read("raw/dev.jsonl")}


def evaluate(work, model, tokenizer, T):
    """{set: [{loglikelihoods, acc, acc_norm}] or [{loglikelihood}]}, and the plain rows, which are a part of the set's."""
    folder = os.path.join(work, "harness")
    os.makedirs(folder)
    datasets.config.HF_DATASETS_CACHE = os.path.join(folder, "cache")
    rows = rows_of_hub(work)
    for name, items in rows.items():
        path = os.path.abspath(os.path.join(folder, name + ".jsonl"))
        open(path, "w").write("".join(json.dumps(r) + "\n" for r in items))
        text = OWN.get(name) or f"include: {os.path.join(TASKS, THEIRS[name])}\n"
        splits = "".join(f"{split}: null\n" for split in ("training_split", "validation_split", "fewshot_split", "dataset_name"))
        open(os.path.join(folder, name + ".yaml"), "w").write(
            text + f"task: local_{name}\ntag: null\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {path}\n{splits}test_split: test\n")
    tokenizer.bos_token = tokenizer.eos_token = "<|endoftext|>"
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, max_length=T, device="cpu", add_bos_token=False)
    found = lm_eval.simple_evaluate(lm, tasks=["local_" + name for name in rows], num_fewshot=0, bootstrap_iters=0, log_samples=True,
                                    task_manager=TaskManager(include_path=folder, include_defaults=False))
    out = {}
    for name in rows:
        out[name] = []
        for sample in sorted(found["samples"]["local_" + name], key=lambda s: s["doc_id"]):
            if name == "documents":
                out[name].append({"loglikelihood": sample["filtered_resps"][0]})
            else:
                out[name].append({"loglikelihoods": [r[0] for r in sample["filtered_resps"]]} | {k: int(sample[k]) for k in ("acc", "acc_norm") if k in sample})
    return lm_eval.__version__, out, rows["plain"]
