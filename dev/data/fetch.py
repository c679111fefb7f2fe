"""fetch.py: what the scripts that make data sets share: fetch and check files, parquet -> jsonl, tokenise, say what is next.

A script names its files and where they are published; everything else is here. A file is whole or absent: it is fetched under
another name, from where an earlier try stopped, compared with the length and the SHA-256 that its home states, and renamed.
With --from DIR the same files are taken from a folder, and nothing is fetched. The tests run every script that way; the
addresses themselves have not yet been tried, as there was no network: if one is wrong, the error names it. Only the standard library is needed, and
pyarrow for parquet.
"""
import argparse, glob, hashlib, json, os, re, subprocess, sys, urllib.error, urllib.request

HOUSE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BLOCK = 1 << 20


def die(text, code=1):
    print("error: " + text, file=sys.stderr)
    sys.exit(code)


def hub(repo, path, kind="datasets"): return f"https://huggingface.co/{kind}/{repo}/resolve/main/{path}"


class Parser(argparse.ArgumentParser):
    def error(self, message): die(message + "; --help lists the options", 2)


def arguments(doc, name, texts=True, add=lambda parser: None):
    """--from and --out of every script; texts: those of tokenising too; add(parser): a script's own."""
    parser = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", metavar="DIR", help="take the files from this folder instead of the network")
    parser.add_argument("--out", default=f"data/{name}", help="folder to write to (data/%s)" % name)
    if texts:
        parser.add_argument("--tokenizer", default="data/gpt2", help="as ./tokenize takes it (data/gpt2, which gpt2_tokenizer.sh fetches)")
        parser.add_argument("--val", default="1%", help="of the documents held out for validation, where the set has no part for it (1%%)")
        parser.add_argument("--shard-tokens", default="100M", help="tokens a shard (100M)")
    add(parser)
    a = parser.parse_args()
    if a.source and not os.path.isdir(a.source): die(f"--from: {a.source}: no such folder", 2)
    os.makedirs(a.out, exist_ok=True)
    return a


# ---- fetching

class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_): return None


def stated(url):
    """What the file's home says of it: its length and SHA-256, each None where it says nothing. The hub says both in the answer
    that redirects to the store."""
    try: head = urllib.request.build_opener(NoRedirect).open(urllib.request.Request(url, method="HEAD"), timeout=60).headers
    except urllib.error.HTTPError as e:
        if not 300 <= e.code < 400: die(f"{url}: {e.code} {e.reason}")
        head = e.headers
    except OSError as e: die(f"{url}: {e}")
    tag, size = (head.get("X-Linked-Etag") or "").strip('"'), head.get("X-Linked-Size") or head.get("Content-Length")
    return int(size) if size else None, tag if re.fullmatch("[0-9a-f]{64}", tag) else None


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(BLOCK): digest.update(block)
    return digest.hexdigest()


def check(path, size, sha256, where):
    """Dies, and says what is wrong, if the file is not what its home or the script says it is."""
    found = os.path.getsize(path)
    if size is not None and found != size: die(f"{path}: {found} bytes, expected {size} as at {where}")
    if sha256 and (got := sha256_of(path)) != sha256: die(f"{path}: SHA-256 is {got}, expected {sha256} as at {where}")


def get(a, url, name=None, sha256=None):
    """The local path of a file, fetched or found in --from, and checked."""
    name = name or url.rsplit("/", 1)[1]
    if a.source:
        for path in (os.path.join(a.source, name), os.path.join(a.source, os.path.basename(name))):
            if os.path.isfile(path):
                check(path, None, sha256, url)
                return path
        die(f"{os.path.join(a.source, name)}: no such file; --from must hold what {url} is")
    path = os.path.join(a.out, name)
    if os.path.exists(path): return path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    size, tag = stated(url)
    part = path + ".part"
    done = os.path.getsize(part) if os.path.exists(part) else 0
    if size is None or done > size: done = 0
    if done == 0 or done != size:
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                if answer.status != 206: done = 0
                with open(part, "ab" if done else "wb") as f:
                    while block := answer.read(BLOCK):
                        f.write(block)
                        done += len(block)
                        if sys.stderr.isatty(): print(f"\r{name}: {done / 1e6:.0f} MB of {(size or 0) / 1e6:.0f}   ", end="", file=sys.stderr)
        except OSError as e: die(f"{url}: {e}; run the same again: it goes on at byte {done}")
        if sys.stderr.isatty(): print(file=sys.stderr)
    try: check(part, size, sha256 or tag, url)
    except SystemExit:
        if size is None or os.path.getsize(part) >= size: os.unlink(part)  # whole but wrong: going on with it cannot mend it
        raise
    os.rename(part, path)
    return path


def names(a, repo, folder, files):
    """The parquet files of a folder of a set on the hub, the first `files` of them (0: all), as paths in the set."""
    if a.source:
        found = sorted(glob.glob(os.path.join(glob.escape(a.source), "*.parquet"))) or \
            sorted(glob.glob(os.path.join(glob.escape(a.source), folder, "*.parquet")))
        if not found: die(f"{a.source}: no .parquet files in it, nor in its {folder}")
        listed = [os.path.basename(x) for x in found]
    else:
        url = f"https://huggingface.co/api/datasets/{repo}/tree/main/{folder}"
        listed = []
        while url:
            try: answer = urllib.request.urlopen(url, timeout=60)
            except OSError as e: die(f"{url}: {e}")
            listed += [x["path"].rsplit("/", 1)[1] for x in json.load(answer) if x["path"].endswith(".parquet")]
            more = re.search('<([^>]*)>; rel="next"', answer.headers.get("Link") or "")  # a long folder comes in pages
            url = more and more.group(1)
        if not listed: die(f"huggingface.co/datasets/{repo}/{folder}: no .parquet files there any more")
    return [os.path.join(folder, x) for x in (listed[:files] if files else listed)]


# ---- parquet

def rows(path, columns):
    """Rows of a parquet file, as dicts, after a look whether it has the columns."""
    try: import pyarrow, pyarrow.parquet
    except ImportError: die("parquet files need pyarrow: pip install pyarrow")
    try: file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as e: die(f"{path}: not a parquet file that can be read: {str(e).splitlines()[0]}")
    have = file.schema_arrow.names
    for column in columns:
        if column not in have: die(f"{path}: no column {column}, it has {', '.join(have)}")
    number = 0
    for batch in file.iter_batches(columns=columns):
        for row in batch.to_pylist():
            number += 1
            for column in columns:
                if row[column] is None: die(f"{path}: row {number}: {column} is null")
            yield row


def to_jsonl(a, path, columns=("text",), name=None):
    """A parquet file as a .jsonl of the same columns in OUT/text, whole or absent."""
    out = os.path.join(a.out, "text", name or os.path.basename(path)[:-len(".parquet")] + ".jsonl")
    if os.path.exists(out): return out
    os.makedirs(os.path.dirname(out), exist_ok=True)
    try:
        with open(out + ".part", "w") as f:
            for row in rows(path, list(columns)): f.write(json.dumps(row, ensure_ascii=False) + "\n")
    except SystemExit:
        if os.path.exists(out + ".part"): os.unlink(out + ".part")
        raise
    except (OSError, UnicodeError) as e: die(f"{out}: {e}")
    os.rename(out + ".part", out)
    return out


# ---- what comes out

def tokenize(a, inputs, out, val="0"):
    program = os.path.join(HOUSE, "tokenize")
    if not os.path.exists(program): die(f"{program}: not built; type: make tokenize")
    command = [program, "-i", *inputs, "-o", out, "--tokenizer", a.tokenizer, "--shard-tokens", a.shard_tokens, "--val", val]
    code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode  # what went wrong it says itself
    if code: sys.exit(code)


def check_shard(path):
    """A token shard as published: magic, version, length."""
    with open(path, "rb") as f: header = [int.from_bytes(f.read(4), "little") for _ in range(3)]
    width = {(20240520, 1): 2, (20240801, 7): 4}.get((header[0], header[1]))
    if not width: die(f"{path}: not a token shard: begins with {header[0]}, {header[1]}")
    if os.path.getsize(path) != 1024 + width * header[2]: die(f"{path}: header says {header[2]} tokens, the file has {os.path.getsize(path)} bytes")
    return path


def next_step(train, val, tokenizer, more="-e d12"):
    print(f"next: ./train_gpt2 -i '{train}' -j '{val}' --tokenizer {tokenizer} {more}")


def from_parquet(doc, name, repo, folders, published=None):
    """The whole script of a set of parquet files with a column "text". folders: of each size that can be asked for; published:
    of each size, where tokenised shards of it are: (repository, name of a shard, number of shards)."""
    def add(parser):
        if len(folders) > 1: parser.add_argument("--size", choices=list(folders), default=next(iter(folders)), help=f"of the sample ({next(iter(folders))})")
        parser.add_argument("--files", type=int, default=0, help="take only the first so many files (0: all)")
        if published: parser.add_argument("--tokenized", action="store_true", help="fetch shards that were tokenised by others for GPT-2")
    a = arguments(doc, name, add=add)
    size = getattr(a, "size", next(iter(folders)))
    if a.files < 0: die(f"--files: {a.files} given, must be at least 0", 2)
    if published and a.tokenized:
        shards, shard, count = published[size]
        for kind, numbers in (("val", [0]), ("train", range(1, 1 + (min(a.files, count) if a.files else count)))):
            for i in numbers: check_shard(get(a, hub(shards, shard.format(kind, i))))
        where = a.source or a.out
        return next_step(f"{where}/{shard.format('train', 0).replace('000000', '*')}", f"{where}/{shard.format('val', 0).replace('000000', '*')}", a.tokenizer)
    texts = [to_jsonl(a, get(a, hub(repo, path), path)) for path in names(a, repo, folders[size], a.files)]
    tokenize(a, texts, f"{a.out}/tokens", a.val)
    next_step(f"{a.out}/tokens/train_*.bin", f"{a.out}/tokens/val_*.bin", f"{a.out}/tokens/tokenizer.json")
