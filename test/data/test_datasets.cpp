// The scripts that make data sets, on small files of the same schema: with --from nothing is fetched.
#include "../../llmc/data/text.h"
#include "../test.h"

namespace {
const std::string SETS = "build/tmp/datasets";
void prepare() {
    remove_tree(SETS);
    make_folders(SETS + "/from");
}
void write(const std::string& name, const std::string& text) { write_file_atomically(SETS + "/from/" + name, text); }
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
Outcome python(const std::string& code) {
    write_file_atomically(SETS + "/make.py", code);
    return run_command("cd " + SETS + "/from && python3 ../make.py 2>&1");
}
// Why the scripts cannot run here, or "".
std::string missing(bool parquet) {
    if (run_command("python3 -c 1").code) return "there is no python3";
    if (access(TOKENIZE_PROGRAM, X_OK)) return std::string(TOKENIZE_PROGRAM) + " is not built";
    if (parquet && run_command("python3 -c 'import pyarrow.parquet'").code) return "python3 has no pyarrow: the scripts were not tried on parquet files";
    return "";
}
Outcome run(const std::string& script, const std::string& rest) {
    return run_command(format("dev/data/%s --from %s/from --out %s/out %s 2>&1", script.c_str(), SETS.c_str(), SETS.c_str(), rest.c_str()));
}
std::string text_of(const std::string& pattern) {
    std::string text;
    for (const std::string& path : list_files(SETS + "/out/" + pattern)) {
        Shard shard = open_shard(path);
        std::vector<int> tokens(shard.size());
        ShardReader().read(shard, 0, tokens.size(), tokens.data());
        text += Tokenizer::bytes().decode(tokens.data(), tokens.size());
    }
    return text;
}
// The last line must be a command, and it must start: the trainer finds the data it names.
void expect_next(const Outcome& o) {
    size_t at = o.output.rfind("next: ./train_gpt2 ");
    if (o.code || at == o.output.npos) return FAIL("exit code %d, said \"%s\", expected a next step", o.code, o.output.c_str());
    std::string command = o.output.substr(at + strlen("next: ./train_gpt2 "));
    while (!command.empty() && command.back() == '\n') command.pop_back();
    Outcome trained = run_command(TRAINER + (" " + command) + " -e d1 -t 16 -b 1 -x 1 -n 0 -v 1 -m 1 -s 0 -o " + SETS + "/trained 2>&1");
    if (trained.code) FAIL("%s: %s", command.c_str(), trained.output.c_str());
}
const char* PARQUET = "import pyarrow as pa, pyarrow.parquet as pq\n"
                      "def table(name, **columns): pq.write_table(pa.table(columns), name)\n";
}

TEST(tinystories_script) {
    if (std::string why = missing(false); !why.empty()) SKIP("%s", why.c_str());
    prepare();
    write("TinyStoriesV2-GPT4-train.txt", "Once.\n<|endoftext|>\nTwice upon a time there was a cat.\n<|endoftext|>\n");
    write("TinyStoriesV2-GPT4-valid.txt", "A dog sat there and waited.\n<|endoftext|>\n");
    Outcome o = run("tinystories.py", "--tokenizer bytes");
    expect_next(o);
    EXPECT_STR(text_of("train/train_*.bin"), "<|endoftext|>Once.\n<|endoftext|>\nTwice upon a time there was a cat.\n");
    EXPECT_STR(text_of("val/train_*.bin"), "<|endoftext|>A dog sat there and waited.\n");
    write("TinyStoriesV2-GPT4-train.txt", "no separators");
    EXPECT(has(run("tinystories.py", "--tokenizer bytes").output, "not the file it should be"));
    unlink((SETS + "/from/TinyStoriesV2-GPT4-train.txt").c_str());
    o = run("tinystories.py", "--tokenizer bytes");
    EXPECT(o.code == 1 && has(o.output, "TinyStoriesV2-GPT4-train.txt: no such file") && o.output.find('\n') == o.output.size() - 1);
}

TEST(tinyshakespeare_script) {
    if (std::string why = missing(false); !why.empty()) SKIP("%s", why.c_str());
    prepare();
    write("tinyshakespeare.txt", "not by Shakespeare");
    Outcome o = run("tinyshakespeare.py", "--tokenizer bytes");
    EXPECT(o.code == 1 && has(o.output, "SHA-256 is") && has(o.output, "expected 86c4e6aa"));
    std::string real = getenv("LLMC_TEST_DATA") ? getenv("LLMC_TEST_DATA") : "../shared/data";
    if (access((real + "/tinyshakespeare.txt").c_str(), R_OK)) SKIP("%s/tinyshakespeare.txt is absent", real.c_str());
    o = run_command("dev/data/tinyshakespeare.py --from " + real + " --out " + SETS + "/out --tokenizer bytes 2>&1");
    expect_next(o);
    std::string both = text_of("train/train_*.bin") + text_of("val/train_*.bin").substr(strlen("<|endoftext|>"));
    EXPECT(both == "<|endoftext|>" + read_file(real + "/tinyshakespeare.txt"));
}

TEST(parquet_scripts) {
    if (std::string why = missing(true); !why.empty()) SKIP("%s", why.c_str());
    struct Set { const char *script, *folder, *options; };
    for (Set s : {Set{"fineweb.py", "", "--size 10B"}, {"fineweb.py", "sample/100BT/", "--size 100B"}, {"fineweb_edu.py", "", ""}, {"climbmix.py", "", ""}}) {
        prepare();
        make_folders(SETS + "/from/sample/100BT");
        Outcome made = python(PARQUET + format("for i in range(3): table('%s00%%d_00000.parquet' %% i, id=[str(x) for x in range(40)], "
                                               "text=['caf\\u00e9 \\\"%%d\\\" %%d\\n' %% (i, x) for x in range(40)])\n", s.folder));
        if (made.code) return FAIL("%s", made.output.c_str());
        expect_next(run(s.script, s.options + std::string(" --tokenizer bytes --val 20%")));
        std::string text = text_of("tokens/train_*.bin") + text_of("tokens/val_*.bin");
        EXPECT(has(text, "<|endoftext|>caf\xc3\xa9 \"0\" 7\n<|endoftext|>") && has(text, "\"2\" 39\n"));
        EXPECT_EQ(json_parse(read_file(SETS + "/out/tokens/dataset.json"), "dataset.json").at("documents", "").as_int("", 0), 120);
        expect_next(run(s.script, s.options + std::string(" --tokenizer bytes --val 20%")));  // again: all is there
        remove_tree(SETS + "/out");
        EXPECT_EQ(run(s.script, s.options + std::string(" --tokenizer bytes --files 1")).code, 0);
        EXPECT_EQ(json_parse(read_file(SETS + "/out/tokens/dataset.json"), "dataset.json").at("documents", "").as_int("", 0), 40);
    }
    // files that are not what they should be
    prepare();
    auto says = [&](const std::string& make, const char* text) {
        remove_tree(SETS + "/out");
        Outcome made = python(PARQUET + make);
        EXPECT_EQ(made.code, 0);
        Outcome o = run("fineweb.py", "--tokenizer bytes");
        if (o.code != 1 || !has(o.output, text) || o.output.find('\n') != o.output.size() - 1) FAIL("said \"%s\", expected one line with \"%s\"", o.output.c_str(), text);
        EXPECT(list_folder(SETS + "/out/text").empty());
    };
    says("table('a.parquet', txt=['x'])\n", "a.parquet: no column text, it has txt");
    says("table('a.parquet', text=['x', None])\n", "a.parquet: row 2: text is null");
    says("open('a.parquet', 'w').write('no parquet')\n", "a.parquet: not a parquet file");
    says("import os; os.unlink('a.parquet')\n", "no .parquet files in it");
}

TEST(tokenized_shards_script) {
    if (std::string why = missing(false); !why.empty()) SKIP("%s", why.c_str());
    prepare();
    std::vector<int> tokens(40, 7);
    for (const char* name : {"fineweb_val_000000.bin", "fineweb_train_000001.bin"}) {
        ShardWriter writer(SETS + "/from/" + name, 50257);
        writer.add(tokens.data(), tokens.size());
        writer.finish();
    }
    Outcome o = run("fineweb.py", "--tokenized --files 1");
    EXPECT(o.code == 0 && has(o.output, "fineweb_train_*.bin' -j"));
    EXPECT(has(run("fineweb.py", "--tokenized --files 2").output, "fineweb_train_000002.bin: no such file"));
    std::string bytes = read_file(SETS + "/from/fineweb_train_000001.bin");
    write("fineweb_train_000001.bin", bytes.substr(0, bytes.size() - 2));
    o = run("fineweb.py", "--tokenized --files 1");
    EXPECT(o.code == 1 && has(o.output, "header says 40 tokens, the file has 1102 bytes"));
    write("fineweb_train_000001.bin", "something else entirely");
    EXPECT(has(run("fineweb.py", "--tokenized --files 1").output, "not a token shard"));
}

TEST(evaluation_scripts) {
    if (std::string why = missing(false); !why.empty()) SKIP("%s", why.c_str());
    prepare();
    std::string row = "{\"ind\": 4, \"activity_label\": \"Cutting\", \"ctx_a\": \"A man\", \"ctx_b\": \"he\", \"ctx\": \"A man he\", \"label\": 2, "
                      "\"endings\": [\"a\", \"b\", \"c\", \"d\"]}\n";
    write("hellaswag_val.jsonl", row + row);
    Outcome o = run("hellaswag.py", "");
    EXPECT(o.code == 0 && has(o.output, "2 questions") && read_file(SETS + "/out/hellaswag_val.jsonl") == row + row);
    for (auto [bad, says] : {std::pair{"{\"ctx\": 1}\n", "line 2: expected ctx"}, {"nonsense\n", "line 2: "}, {"[1]\n", "line 2: expected ctx"}}) {
        write("hellaswag_val.jsonl", row + bad);
        o = run("hellaswag.py", "");
        EXPECT(o.code == 1 && has(o.output, says) && o.output.find('\n') == o.output.size() - 1);
    }
    if (std::string why = missing(true); !why.empty()) SKIP("%s; HellaSwag's was tried", why.c_str());
    Outcome made = python(PARQUET + std::string("for part in 'test', 'validation', 'dev': table(part + '-00000-of-00001.parquet', question=['2 + 2?'], "
                                                "subject=['arithmetic'], choices=[['1', '2', '3', '4']], answer=[3])\n"));
    EXPECT_EQ(made.code, 0);
    o = run("mmlu.py", "");
    EXPECT_EQ(o.code, 0);
    Json json = json_parse(read_file(SETS + "/out/mmlu_test.jsonl"), "mmlu");
    EXPECT(json.find("answer")->as_int("", 0) == 3 && json.find("choices")->items.size() == 4 && json.find("question")->text == "2 + 2?");
    python(PARQUET + std::string("table('test-00000-of-00001.parquet', question=['?'], subject=[''], choices=[['1']], answer=[3])\n"));
    EXPECT(has(run("mmlu.py", "").output, "row 1: expected four choices"));
}

TEST(gpt2_tokenizer_script) {
    prepare();
    write("vocab.bpe", "not it");
    Outcome o = run_command("dev/data/gpt2_tokenizer.sh --from " + SETS + "/from " + SETS + "/gpt2 2>&1");
    EXPECT(o.code == 1 && has(o.output, "vocab.bpe: SHA-256 is") && list_folder(SETS + "/gpt2").empty());
    EXPECT_EQ(run_command("dev/data/gpt2_tokenizer.sh --what").code, 2);
    std::string real = std::string(getenv("LLMC_TEST_DATA") ? getenv("LLMC_TEST_DATA") : "../shared/data") + "/gpt2";
    if (access(real.c_str(), R_OK)) SKIP("%s is absent", real.c_str());
    EXPECT_EQ(run_command("dev/data/gpt2_tokenizer.sh --from " + real + " " + SETS + "/gpt2").code, 0);
    EXPECT_EQ(Tokenizer::load(SETS + "/gpt2").vocab_size(), 50257);
}

// What the scripts do with a server, tried on one of this machine: lengths and checksums are compared, an interrupted file goes
// on, and what is wrong does not stay.
TEST(fetching) {
    if (std::string why = missing(false); !why.empty()) SKIP("%s", why.c_str());
    prepare();
    std::string code = R"(
import hashlib, http.server, os, sys, threading, types
sys.path.insert(0, "../../../../dev/data")
import fetch
DATA = bytes(range(256)) * 5000
stated, ranges = {}, []
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_HEAD(self):
        self.send_response(302)
        self.send_header("Location", "/nowhere")
        for k, v in stated.items(): self.send_header(k, v)
        self.end_headers()
    def do_GET(self):
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        ranges.append(begin)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(DATA) - begin))
        self.end_headers()
        self.wfile.write(DATA[begin:])
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d/file.bin" % server.server_port
a = types.SimpleNamespace(source=None, out="fetched")
def attempt(size, digest):
    stated.clear()
    stated.update({"X-Linked-Size": str(size), "X-Linked-Etag": '"%s"' % digest})
    try: return fetch.get(a, url)
    except SystemExit: return None
right = hashlib.sha256(DATA).hexdigest()
assert attempt(len(DATA), "0" * 64) is None and os.listdir("fetched") == []
assert attempt(len(DATA) + 1, right) is None
os.makedirs("fetched", exist_ok=True)
open("fetched/file.bin.part", "wb").write(DATA[:1000])
assert attempt(len(DATA), right) == "fetched/file.bin" and ranges[-1] == 1000
assert open("fetched/file.bin", "rb").read() == DATA and os.listdir("fetched") == ["file.bin"]
ranges.clear()
assert attempt(len(DATA), right) and ranges == []
print("good")
)";
    Outcome o = python(code);
    if (o.code || !has(o.output, "good\n")) FAIL("%s", o.output.c_str());
}
