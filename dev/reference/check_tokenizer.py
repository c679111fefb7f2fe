"""Compares our tokenizer's ids with tiktoken's and Hugging Face tokenizers' on text that tries to tell them apart.

    python dev/reference/check_tokenizer.py --gpt2 DIR [--text FILE] [--strings 1000000] [--mixed-mb 100]
    python dev/reference/check_tokenizer.py --gpt2 DIR --golden test/golden/tokenizer.txt

needs numpy, regex, tiktoken and tokenizers, and a C++ compiler; DIR holds vocab.bpe and encoder.json. No network. The patterns of
cl100k, o200k and Llama 3 are tried with vocabularies learnt here from FILE, whose merges are then given to both libraries.
Ends with the number of differences; each is shown.
"""
import argparse, base64, json, os, random, subprocess, sys, tempfile, time, unicodedata
import numpy as np
import regex
import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext import openai_public
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# cl100k and o200k by the patterns that the installed tiktoken has, so that a change there shows
source = open(openai_public.__file__).read()
CL100K = source.split('"name": "cl100k_base"')[1].split('r"""')[1].split('"""')[0]
O200K = "|".join(x.split('"""')[0] for x in source.split("def o200k_base")[1].split("def ")[0].split('r"""')[1:])
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
NANOCHAT = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
REGEX = {"gpt2": openai_public.r50k_pat_str, "cl100k": CL100K, "llama3": LLAMA3, "o200k": O200K, "qwen2": QWEN2, "nanochat": NANOCHAT}


def ours(pipe, tokenizer, texts, *flags, mode="encode"):
    records = b"".join(len(t).to_bytes(4, "little") + t for t in (x if isinstance(x, bytes) else x.encode() for x in texts))
    out = subprocess.run([pipe, mode, tokenizer, *flags], input=records, stdout=subprocess.PIPE, check=True).stdout
    words, at, result = np.frombuffer(out, np.int32), 0, []
    for _ in texts:
        result.append(words[at + 1:at + 1 + words[at]].tolist())
        at += 1 + words[at]
    return result


# ---- texts that try to tell tokenizers apart
WORDS = "the and I'm don't we'll You've THEY'RE o'clock 'tis X'S it'ſ he'D Hello WORLD camelCase HTTPServer snake_case e\u0301 \u0130stanbul".split()
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u2003", "\u3000", "\u0085", "\x0b", "\x1c", "\u200b"]
MARKS = list("!?.,;:-_/\\'\"()[]{}<>|@#$%^&*+=~`") + ["...", "//", "/\n", "!\n\n", "'", "''", "->", "\u2019s", "\u2014"]
OTHERS = ["你好世界", "日本語テキスト", "한국어", "مرحبا بالعالم", "שלום", "Привет Мир", "ΑΒΓδε", "नमस्ते", "ไทย", "😀", "👩‍👩‍👧‍👦", "🇩🇪", "e\u0301\u0327",
          "ǅ", "ʰ", "ª", "Ⅷ", "½", "²", "١٢٣٤", "１２３４５", "𝟘𝟙𝟚𝟛", "\u0300", "\u20e3", "\x00", "\x1f\x7f", "\ufeff", "\ufffd", "\U00010ffff"[:1], "\U000e0001"]
BLOCKS = [(0x20, 0x7f), (0, 0x20), (0x80, 0x250), (0x250, 0x1000), (0x1000, 0x3000), (0x3000, 0xd800), (0xe000, 0x10000), (0x10000, 0x20000),
          (0x1d400, 0x1d800), (0x1f300, 0x1fb00), (0x20000, 0x33000), (0xe0000, 0x110000)]


def random_string(r):
    parts = []
    for _ in range(r.randrange(1, 12)):
        kind = r.random()
        if kind < .3: parts.append(r.choice(WORDS))
        elif kind < .55: parts.append(r.choice(SPACES) * r.choice((1, 1, 1, 2, 3)))
        elif kind < .68: parts.append(r.choice(MARKS) * r.choice((1, 1, 2)))
        elif kind < .76: parts.append(str(r.randrange(10 ** r.randrange(1, 12))))
        elif kind < .86: parts.append(r.choice(OTHERS))
        else:
            low, high = r.choice(BLOCKS)
            parts.append("".join(chr(r.randrange(low, high)) for _ in range(r.randrange(1, 5))))
    return "".join(parts)


def random_bytes(r):
    """A string with bytes put in, changed and cut off, or bytes and nothing else."""
    if r.random() < .2: return bytes(r.randrange(256) for _ in range(r.randrange(40)))
    b = bytearray(random_string(r).encode())
    for _ in range(r.randrange(1, 6)):
        at = r.randrange(len(b) + 1)
        kind = r.random()
        if kind < .4: b[at:at] = bytes([r.randrange(0x80, 0x100)])
        elif kind < .7: b[at:at + 1] = bytes([r.randrange(256)])
        elif kind < .8: b[at:at] = r.choice((b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98", b"\xe4\xbd", b"\xff\xfe"))
        else: del b[at:at + 1]
    return bytes(b)


# The stand-ins below, and characters newer than Python's own table: the regex module may know more of them than the two
# libraries, which agree on one version of Unicode. The random strings try these.
KNOWN = regex.compile(r"[\p{L}\p{N}\p{M}]")
def unfit(data):
    return any("\U000f0080" <= c <= "\U000f00ff" or (unicodedata.category(c) == "Cn" and KNOWN.match(c)) for c in data.decode("utf-8", "surrogateescape"))


def byte_pieces(pattern, data):
    """What neither library takes: bytes that are no UTF-8. Each such byte is a character that is no letter, number or space: the
    regex module splits the text with private-use characters in their place, and tiktoken merges the bytes of each piece."""
    text = data.decode("utf-8", "surrogateescape").translate({0xdc00 + b: 0xf0000 + b for b in range(0x80, 0x100)})
    back = {0xf0000 + b: 0xdc00 + b for b in range(0x80, 0x100)}
    return [m.group().translate(back).encode("utf-8", "surrogateescape") for m in pattern.finditer(text)]


def encode_bytes(twin, pattern, data): return [i for p in byte_pieces(pattern, data) for i in twin._encode_single_piece(p)]


def mixed_text(r, text, megabytes):
    """Documents of about 100 KB: real text, code, other scripts, noise."""
    code = open(__file__).read() + open(os.path.join(HERE, "tokenizer_pipe.cpp")).read()
    documents, size = [], 0
    while size < megabytes * 1e6:
        parts, length = [], 0
        while length < 100000:
            kind = r.random()
            if kind < .5: a = r.randrange(len(text)); part = text[a:a + 4000]
            elif kind < .7: a = r.randrange(len(code)); part = code[a:a + 4000]
            elif kind < .85: part = "".join(r.choice(OTHERS) + r.choice(("", " ", "\n")) for _ in range(300))
            else: part = "".join(random_string(r) for _ in range(50))
            parts.append(part)
            length += len(part.encode())
        documents.append("".join(parts))
        size += length
    return documents


LONG = ["a" * 1000000, "A" * 100000, "ab" * 100000, "9" * 100000, "!" * 100000, "你" * 50000, "\n" * 3000, " " * 3000, "\u0301" * 10000, "x " * 100000,
        "aA" * 50000, "'s" * 50000, "😀" * 20000, "/" * 10000, "\r\n" * 1500, " a" * 100000]


def compare(name, texts, want, got):
    wrong = [i for i in range(len(texts)) if want[i] != got[i]]
    print(f"  {name}: {len(texts)} texts, {sum(map(len, got))} ids, {len(wrong)} differ", flush=True)
    for i in wrong[:3]:
        at = next((k for k in range(min(len(want[i]), len(got[i]))) if want[i][k] != got[i][k]), -1)
        print(f"    {texts[i][:200]!a} ...\n      at id {at}: {want[i][max(at - 2, 0):at + 6]} against ours {got[i][max(at - 2, 0):at + 6]}")
    return len(wrong)


def tiktoken_twin(name, ranks): return tiktoken.Encoding(name, pat_str=REGEX[name], mergeable_ranks=ranks, special_tokens={})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpt2", required=True)
    parser.add_argument("--text")
    parser.add_argument("--strings", type=int, default=100000)
    parser.add_argument("--mixed-mb", type=float, default=10)
    parser.add_argument("--speed-mb", type=float, default=10)
    parser.add_argument("--patterns", default=",".join(REGEX), help="some of these")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--golden", help="write the golden file and stop")
    a = parser.parse_args()
    r = random.Random(a.seed)
    work = tempfile.mkdtemp()
    pipe = work + "/tokenizer_pipe"
    subprocess.run(["c++", "-std=c++20", "-O2", "-march=native", "-pthread", os.path.join(HERE, "tokenizer_pipe.cpp"), "-o", pipe], check=True)
    gpt2 = tiktoken_twin("gpt2", data_gym_to_mergeable_bpe_ranks(a.gpt2 + "/vocab.bpe", a.gpt2 + "/encoder.json"))
    if a.golden: return write_golden(a.golden, gpt2, r)

    text = open(a.text or os.path.join(HERE, "../LOG.md"), newline="").read()
    strings = [random_string(r) for _ in range(a.strings)]
    mixed = mixed_text(r, text, a.mixed_mb)
    corpus = work + "/corpus.jsonl"
    documents = mixed[:100] + [text[i:i + 50000] for i in range(0, len(text), 50000)]
    open(corpus, "w").writelines(json.dumps({"text": x}) + "\n" for x in documents)
    differ = 0
    for name in a.patterns.split(","):
        if name == "gpt2":
            path, twin = a.gpt2, gpt2
            subprocess.run([pipe, "json", path, work + "/gpt2.json"], check=True)
        else:
            subprocess.run([pipe, "train", corpus, "3000", name, f"{work}/{name}"], check=True, stdout=subprocess.DEVNULL)
            lines = [line.split() for line in open(f"{work}/{name}.tiktoken")]
            path = f"{work}/{name}.json" if name in ("qwen2", "nanochat") else f"{work}/{name}.tiktoken"  # which rank files of these are not told by
            twin = tiktoken_twin(name, {base64.b64decode(x): int(y) for x, y in lines})
        twins = [("tiktoken", path, lambda t: twin.encode_ordinary_batch(t, num_threads=2))]
        hf = Tokenizer.from_file(f"{work}/{name}.json")
        hf.encode_special_tokens = True  # special tokens in the text are text
        twins.append(("tokenizers", f"{work}/{name}.json", lambda t: [e.ids for e in hf.encode_batch(t)]))
        print(name, "on bytes that are no UTF-8")
        pattern = regex.compile(REGEX[name])
        wild = [x for x in (random_bytes(r) for _ in range(a.strings // 4)) if not unfit(x)] + [b"\xff" * 100000, b"a\x80" * 50000]
        differ += compare("random bytes", wild, [encode_bytes(twin, pattern, x) for x in wild], ours(pipe, path, wild))
        for library, ours_from, encode in twins:
            print(name, "against", library)
            for kind, texts in (("random strings", strings), ("mixed text", mixed), ("long runs", LONG)):
                count = 100 if kind == "mixed text" else 100000  # of 100 KB: what tokenizers keeps of a token is 20 times its text
                for begin in range(0, len(texts), count):
                    part = texts[begin:begin + count]
                    try: want = encode(part)
                    except Exception as e: print(f"  {kind}: {library} gives up: {str(e)[:80]}"); continue
                    differ += compare(kind, part, want, ours(pipe, ours_from, part))
    if {"qwen2", "llama3", "nanochat", "gpt2"} <= set(a.patterns.split(",")): differ += check_options(work, pipe, strings + mixed[:20])
    print("training, GPT-2's pattern")
    twin = Tokenizer(models.BPE())
    twin.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    start = time.time()
    twin.train_from_iterator(documents, trainers.BpeTrainer(vocab_size=7999, min_frequency=2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    theirs = time.time() - start
    seconds = subprocess.run([pipe, "train", corpus, "8000", "gpt2", work + "/trained"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    want, got = (json.loads(x)["model"]["merges"] for x in (twin.to_str(), open(work + "/trained.json").read()))
    wrong = sum(list(x) != list(y) for x, y in zip(want, got)) + abs(len(want) - len(got))
    print(f"  {len(got)} merges, {wrong} differ; {sum(len(x.encode()) for x in documents) / 1e6:.1f} MB in {seconds} s, tokenizers {theirs:.3f} s")
    differ += wrong

    # speed: lines of the text in any order, one word in twelve a new one, so that not every word is known from before
    lines, words, made, size = text.split("\n"), sorted(set(text.split())), [], 0
    new = lambda: "".join(w[i * len(w) // 2:(i + 1) * len(w) // 2] for i, w in enumerate(r.choices(words, k=2)))
    while size < a.speed_mb * 1e6:
        made.append(" ".join(new() if r.random() < 1 / 12 else w for w in r.choice(lines).split(" ")))
        size += len(made[-1]) + 1
    data = "\n".join(made)
    open(work + "/big.txt", "w", newline="").write(data)
    ratios = []
    for _ in range(5):
        start = time.time(); gpt2.encode_ordinary(data); theirs = time.time() - start
        seconds = float(subprocess.run([pipe, "time", a.gpt2, work + "/big.txt"], check=True, stdout=subprocess.PIPE, text=True).stdout)
        ratios.append(theirs / seconds)
        print(f"encode, one thread: {size / seconds / 1e6:.1f} MB/s, tiktoken {size / theirs / 1e6:.1f} MB/s, {ratios[-1]:.2f}x")
    print(f"median of {len(ratios)}: {sorted(ratios)[len(ratios) // 2]:.2f}x")
    for megabytes in (1, 10):
        open(work + "/one.txt", "w").write("a" * megabytes * 1000000)
        seconds = subprocess.run([pipe, "time", a.gpt2, work + "/one.txt"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        print(f"{megabytes} MB of one character: {seconds} s")
    print(f"{differ} differences")
    sys.exit(differ > 0)


def check_options(work, pipe, texts):
    """What a tokenizer.json may say beside the pattern: NFC, Digits, an empty normalizer, dropout 0, as models' files do."""
    differ = 0
    texts = texts + [unicodedata.normalize("NFD", x) for x in texts[:len(texts) // 4]] + combining_strings(len(texts) // 4)
    newer = newer_characters()
    texts = [x for x in texts if not newer & set(x)]
    print(f"options of tokenizer.json; without {len(newer)} characters")
    for name, base, change in (
            ("NFC, Qwen's pattern", "qwen2", {"normalizer": {"type": "NFC"}}),
            ("NFC in a Sequence", "llama3", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}}),
            ("an empty normalizer, dropout 0", "nanochat", {"normalizer": {"type": "Sequence", "normalizers": []}}),
            ("Digits, each", "gpt2", {"digits": True}), ("Digits, runs", "gpt2", {"digits": False}), ("Digits and Split", "llama3", {"digits": True})):
        content = json.load(open(f"{work}/{base}.json"))
        if "digits" in change:
            before = content["pre_tokenizer"]
            parts = before["pretokenizers"] if before["type"] == "Sequence" else [before]
            content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": change["digits"]}] + parts}
        else: content["normalizer"] = change["normalizer"]
        if "dropout" in name: content["model"]["dropout"] = 0.0
        path = f"{work}/option.json"
        json.dump(content, open(path, "w"))
        subprocess.run([pipe, "json", path, f"{work}/again.json"], check=True)  # what we write says the same
        hf = Tokenizer.from_file(path)
        hf.encode_special_tokens = True
        want = [e.ids for e in hf.encode_batch(texts)]
        for kind, file in (("as read", path), ("written and read", f"{work}/again.json")): differ += compare(f"{name}, {kind}", texts, want, ours(pipe, file, texts))
    return differ


def newer_characters():
    """tokenizers' NFC is of an older Unicode: the characters for which it and Python's differ."""
    nfc = normalizers.NFC().normalize_str
    return {c for c in map(chr, list(range(0x80, 0xd800)) + list(range(0xe000, 0x110000))) if unicodedata.combining(c) or unicodedata.decomposition(c)
            if any(nfc(x) != unicodedata.normalize("NFC", x) for x in (c, c + "\u0334", "\u0345" + c))}


def combining_strings(n):
    """Letters, marks in any order, Hangul in parts, characters that NFC replaces."""
    r = random.Random(5)
    marks = [chr(c) for c in range(0x300, 0x3100) if unicodedata.combining(chr(c))]
    odd = [chr(c) for c in list(range(0xc0, 0x3000)) + list(range(0xf900, 0xfb50)) + list(range(0x1d15e, 0x1d1c1)) if unicodedata.decomposition(chr(c))]
    hangul = [chr(c) for a, b in ((0x1100, 0x1113), (0x1161, 0x1176), (0x11a7, 0x11c3)) for c in range(a, b)] + ["\uac00", "\ud55c", "\ud7a3"]
    kinds = [list("aeiouAEIOUcszKq \u0b95\u09c7\u0dd9"), marks, marks, odd, hangul, hangul]
    return ["".join(r.choice(r.choice(kinds)) for _ in range(r.randrange(1, 30))) for _ in range(n)]


def write_golden(path, gpt2, r):
    """One case a line: pattern, text as hexadecimal bytes, ids (gpt2) or lengths of the pieces in bytes."""
    byte_ranks = {bytes([b]): b for b in range(256)}
    cases = [random_string(r) for _ in range(190)] + WORDS + OTHERS + [s + x for s in SPACES for x in ("", "a", "1", "!", " a")]
    with open(path, "w") as f:
        f.write("# written by dev/reference/check_tokenizer.py --golden\n")
        for text in cases:
            f.write(f"gpt2 {text.encode().hex()} {' '.join(map(str, gpt2.encode_ordinary(text)))}\n")
        for name in ("llama3", "cl100k", "o200k", "qwen2", "nanochat"):
            splitter = pre_tokenizers.Split(Regex(REGEX[name].replace("{1,3}+", "{1,3}")), "isolated")  # see split.h
            for text in cases:
                f.write(f"{name} {text.encode().hex()} {' '.join(str(len(p.encode())) for p, _ in splitter.pre_tokenize_str(text))}\n")
        wild = [x for x in (random_bytes(r) for _ in range(60)) if x and not unfit(x)]
        for name in REGEX:
            pattern = regex.compile(REGEX[name])
            for data in wild:
                numbers = encode_bytes(gpt2, pattern, data) if name == "gpt2" else map(len, byte_pieces(pattern, data))
                f.write(f"{name} {data.hex()} {' '.join(map(str, numbers))}\n")
    print(f"{path}: {os.path.getsize(path)} bytes")


if __name__ == "__main__": main()
