#!/usr/bin/env python3
"""The tokenizers and chats of Llama 3, Qwen2.5, Qwen3 and SmolLM2 against `tokenizers` and transformers.

    python3 dev/reference/check_families.py --text FILE [--strings 20000] [--templates DIR]

No network: the tokenizer.json of each form is made here, with a small vocabulary that `tokenizers` learns from FILE. Compared are the ids
of random strings, with special and added tokens in them and with what the post-processor adds, as read and as we write it again; and of
random conversations, with the ids of apply_chat_template. Two short templates are made here; DIR may hold published ones: llama3*.jinja,
qwen2.5*.jinja, qwen3*.jinja, smollm2*.jinja. Ends with the number of differences.
"""
import argparse, glob, json, os, random, subprocess, sys, tempfile, unicodedata
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from check_tokenizer import HERE, LLAMA3, LONG, QWEN2, combining_strings, compare, newer_characters, ours, random_string

FORMS = {
    "llama3": dict(regex=LLAMA3, special=["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], added=[]),
    "qwen2.5": dict(regex=QWEN2, special=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|fim_prefix|>"], added=["<tool_call>", "</tool_call>"]),
    "qwen3": dict(regex=QWEN2, special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], added=["<tool_call>", "</tool_call>", "<tool_response>", "<think>", "</think>"]),
    "smollm2": dict(regex=None, special=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<jupyter_text>"], added=[]),
}
TEMPLATES = {
    "llama3": "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "chatml": "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}{% for m in messages %}"
              "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
}


def make(name, folder, text):
    """A folder with the tokenizer.json that models of this form have."""
    form = FORMS[name]
    os.makedirs(folder)
    t = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    if name.startswith("qwen"): t.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=form["regex"] is None)
    first = pre_tokenizers.Split(Regex(form["regex"]), "isolated") if form["regex"] else pre_tokenizers.Digits(individual_digits=True)
    t.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([text[i:i + 20000] for i in range(0, len(text), 20000)], trainers.BpeTrainer(
        vocab_size=3000, min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, special_tokens=form["special"] if name == "smollm2" else []))
    if name != "smollm2": t.add_special_tokens([AddedToken(x, normalized=False) for x in form["special"]])
    t.add_tokens([AddedToken(x, normalized=False) for x in form["added"]])
    post = processors.ByteLevel(trim_offsets=name == "llama3")
    if name == "llama3":
        bos = form["special"][0]
        post = processors.Sequence([post, processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, t.token_to_id(bos))])])
    t.post_processor = post
    t.save(folder + "/tokenizer.json")
    return t


def with_tokens(r, form):
    """A random string with special and added tokens, whole and in parts, put in."""
    parts = [random_string(r) for _ in range(r.randrange(1, 4))]
    for _ in range(r.randrange(3)):
        token = r.choice(form["special"] + form["added"])
        parts.insert(r.randrange(len(parts) + 1), token if r.random() < .8 else token[:r.randrange(1, len(token))])
    return "".join(parts)


def conversation(r, form):
    """Turns in order, the last a user's; an answer may hold thoughts."""
    messages = []
    for i in range(2 * r.randrange(3) + 1):
        text = r.choice(("", "", " ", "\n", "\n\n")) + random_string(r) + r.choice(("", "", " ", "\n"))
        if i % 2 and r.random() < .5: text = r.choice(("<think>\n" + random_string(r) + "\n</think>\n\n", "<think>\n\n</think>\n\n", "<think>\n")) + text
        messages.append({"role": "assistant" if i % 2 else "user", "content": text})
    return messages


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--strings", type=int, default=20000)
    parser.add_argument("--templates")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    r, work, differ = random.Random(a.seed), tempfile.mkdtemp(), 0
    pipe, text, newer = work + "/tokenizer_pipe", open(a.text).read(), newer_characters()
    subprocess.run(["c++", "-std=c++20", "-O2", "-march=native", "-pthread", os.path.join(HERE, "tokenizer_pipe.cpp"), "-o", pipe], check=True)
    for name, form in FORMS.items():
        folder = f"{work}/{name}"
        theirs = make(name, folder, text)
        texts = [""] + [with_tokens(r, form) for _ in range(a.strings)] + combining_strings(a.strings // 4) + [x[:20000] for x in LONG]
        texts += [unicodedata.normalize("NFD", x) for x in texts[:a.strings // 4]]
        texts = [x for x in texts if not newer & set(x)]
        want = [e.ids for e in theirs.encode_batch(texts)]  # special tokens are added, and found in the text
        subprocess.run([pipe, "json", folder, folder + "/again.json"], check=True)
        for kind, file in (("as read", folder), ("written and read", folder + "/again.json")): differ += compare(f"{name}, {kind}", texts, want, ours(pipe, file, texts, mode="prompt"))
        again = Tokenizer.from_file(folder + "/again.json")  # and as `tokenizers` reads what we write
        differ += compare(f"{name}, written, read by tokenizers", texts, want, [e.ids for e in again.encode_batch(texts)])
        # chats
        bos = "<|begin_of_text|>" if name == "llama3" else None
        fast = PreTrainedTokenizerFast(tokenizer_file=folder + "/tokenizer.json", bos_token=bos, eos_token=form["special"][-1], clean_up_tokenization_spaces=False)
        templates = {"made here": TEMPLATES["llama3" if name == "llama3" else "chatml"]}
        for path in sorted(glob.glob(f"{a.templates}/{name}*.jinja")) if a.templates else []: templates[os.path.basename(path)] = open(path).read()
        talks = [c for c in (conversation(r, form) for _ in range(a.strings // 10)) if not any(newer & set(m["content"]) for m in c)]
        for which, template in templates.items():
            for place in ("chat_template.jinja", "tokenizer_config.json"):
                for file in ("chat_template.jinja", "tokenizer_config.json"):
                    if os.path.exists(f"{folder}/{file}"): os.remove(f"{folder}/{file}")
                with open(f"{folder}/{place}", "w") as f: f.write(template if "jinja" in place else json.dumps({"chat_template": template}))
                want = [list(fast.apply_chat_template(c, chat_template=template, add_generation_prompt=True, return_dict=False)) for c in talks]
                shown = [json.dumps(c) for c in talks]
                differ += compare(f"{name}, chats, {which} in {place}", shown, want, ours(pipe, folder, shown, mode="chat"))
    print(f"{differ} differences")
    sys.exit(differ > 0)


if __name__ == "__main__": main()
