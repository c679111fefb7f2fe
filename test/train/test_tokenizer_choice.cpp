// Which tokenizer a run has, and that a wrong one ends it: the program itself, on small text.
#include "../../llmc/data/text.h"
#include "../test.h"

namespace {
const std::string SCRATCH = "build/tmp/choice";
std::string at(const std::string& name) { return SCRATCH + "/" + name; }
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
Outcome trainer(const std::string& options) { return run_command(format("%s --threads 1 -v 0 -n 0 %s", TRAINER, options.c_str())); }
void refused(const std::string& options, const std::string& says) {
    Outcome o = trainer(options);
    if (o.code != 2 || !has(o.output, says) || o.output.find('\n') != o.output.size() - 1)
        FAIL("%s: exit code %d, said \"%s\", expected 2 and one line with \"%s\"", options.c_str(), o.code, o.output.c_str(), says.c_str());
}
void taken(const std::string& options, const std::string& says) {
    Outcome o = trainer(options);
    if (o.code || !has(o.output, says)) FAIL("%s: exit code %d, said \"%s\", expected \"%s\"", options.c_str(), o.code, o.output.c_str(), says.c_str());
}

// text.txt; one.json and two.json, of equal size; shards of each, of bytes, and some that say nothing; models: a folder and a .bin of
// one.json, each also without tokenizer beside it.
void prepare() {
    static bool done = false;
    if (done) return;
    done = true;
    remove_tree(SCRATCH), make_folders(SCRATCH);
    std::string text, other;
    for (int i = 0; i < 900; i++) text += format("Anna sees %d red balls.\n", i), other += format("zwei blaue Kugeln %d hat Ben!\n", i);
    write_file_atomically(at("text.txt"), text), write_file_atomically(at("other.txt"), other);
    write_file_atomically(at("one.json"), train_tokenizer({at("text.txt")}, 300).to_json());
    write_file_atomically(at("two.json"), train_tokenizer({at("other.txt")}, 300).to_json());
    for (const char* name : {"one", "two", "bytes", "none"}) {
        const bool none = !strcmp(name, "none"), bytes = !strcmp(name, "bytes");
        Tokenizer t = bytes ? Tokenizer::bytes() : Tokenizer::load(at(none ? "one.json" : std::string(name) + ".json"));
        const std::string shard = tokenize_to_cache(at("text.txt"), t, at(name));
        rename_file(shard, at(name) + "/train.bin");
        if (!none) write_file_atomically(at(name) + "/tokenizer.json", t.to_json());
    }
    make_folders(at("bin")), make_folders(at("bare"));
    Outcome o = run_command(format("%s --threads 1 -i %s -e d1c32h2 -b 2 -t 32 -x 1 -n 1 -v 0 -s 0 --tokenizer %s -o %s --export-bin %s", TRAINER, at("text.txt").c_str(), at("one.json").c_str(),
                                   at("run").c_str(), at("bin/m.bin").c_str()));
    if (o.code) FAIL("%s", o.output.c_str());
    run_command(format("cp %s %s; cp -r %s %s; rm %s/tokenizer* %s/MANIFEST; cp %s %s", at("bin/m.bin").c_str(), at("bare/m.bin").c_str(), at("run/step_00000001").c_str(), at("nt").c_str(), at("nt").c_str(),
                       at("nt").c_str(), at("one.json").c_str(), at("bin/tokenizer.json").c_str()));
}
const std::string SMALL = " -b 2 -t 32 -x 2 -s 0 -o " + SCRATCH + "/o ";
std::string in(const std::string& name) { return " -i " + at(name); }
std::string model(const std::string& name) { return " -e " + at(name); }
}  // namespace

TEST(tokenizer_beside_the_model) {
    prepare();
    const std::string none = "no tokenizer beside the model: --tokenizer must name one";
    refused(model("bare/m.bin") + in("text.txt") + SMALL, "bare/m.bin: " + none);
    refused(model("nt") + in("text.txt") + SMALL, "nt: " + none);
    refused(model("nt") + in("none/train.bin") + " -j " + at("text.txt") + SMALL, "nt: " + none);
    refused(model("bare/m.bin") + " -x 0 --prompt Once", none);
    refused(model("bare/m.bin") + " -x 0 --prompt ''", none);
    taken(model("bin/m.bin") + in("text.txt") + SMALL, "bin/tokenizer.json, beside the model: 300 tokens");
    taken(model("run/step_00000001") + in("text.txt") + SMALL, "step_00000001/tokenizer.json, beside the model: 300 tokens");
    // token ids alone need none; nor does a model that is only written again
    taken(model("bare/m.bin") + in("none/train.bin") + SMALL, "tokenizer none: token ids, vocabulary of the model");
    EXPECT_EQ(trainer(model("bare/m.bin") + " -x 0 --export-bin " + at("again.bin")).code, 0);
    // beside a .bin anything may lie: what cannot be its tokenizer is not taken for it
    write_file_atomically(at("bare/tokenizer.json"), Tokenizer::bytes().to_json());
    refused(model("bare/m.bin") + in("text.txt") + SMALL, none);
    unlink(at("bare/tokenizer.json").c_str());
}

TEST(tokenizer_of_the_option) {
    prepare();
    for (const char* m : {"run/step_00000001", "bin/m.bin"}) {
        refused(model(m) + in("text.txt") + " --tokenizer " + at("two.json") + SMALL, "two.json, named by --tokenizer, is not the tokenizer");  // of equal size
        refused(model(m) + in("text.txt") + " --tokenizer bytes" + SMALL, "257 tokens, there 300");
        refused(model(m) + in("text.txt") + " --tokenizer bpe:300" + SMALL, "'bpe:300' given, but there is");
        taken(model(m) + in("text.txt") + " --tokenizer " + at("one.json") + SMALL, "one.json, named by --tokenizer: 300 tokens");
    }
    taken(model("bare/m.bin") + in("text.txt") + " --tokenizer " + at("one.json") + SMALL, "one.json, named by --tokenizer: 300 tokens");
    refused(model("bare/m.bin") + in("text.txt") + " --tokenizer bytes" + SMALL, "bytes has 257 tokens, but " + at("bare/m.bin") + " has a vocabulary of 300");
    refused(model("bare/m.bin") + in("text.txt") + " --tokenizer bpe:300" + SMALL, "was trained with another");
    // the same merges in another order are another tokenizer
    Vocabulary v = Tokenizer::load(at("one.json")).vocabulary();
    std::swap(v.merges[20], v.merges[21]);
    write_file_atomically(at("swapped.json"), vocabulary_to_json(v));
    refused(model("run/step_00000001") + in("text.txt") + " --tokenizer " + at("swapped.json") + SMALL, "merge 20 is");
}

TEST(tokenizer_beside_the_shards) {
    prepare();
    const std::string fresh = " -e d1c32h2";
    taken(fresh + in("one/train.bin") + " -j " + at("text.txt") + SMALL, "vocabulary 300");
    taken(fresh + in("one/train.bin") + SMALL, "one/tokenizer.json, beside the token shards: 300 tokens");
    taken(fresh + in("none/train.bin") + SMALL, "tokenizer none: token ids, vocabulary by the format of the shards");
    refused(fresh + in("none/train.bin") + " -j " + at("text.txt") + SMALL, "none/train.bin: no tokenizer beside the token shards: --tokenizer must name one");
    refused(fresh + " -i " + at("text.txt") + ":0.5," + at("none/train.bin") + ":0.5" + SMALL, "no tokenizer beside the token shards");
    refused(fresh + in("none/train.bin") + " --prompt a -x 1 -o " + at("o"), "no tokenizer beside the token shards");
    refused(fresh + in("one/train.bin") + " -j " + at("two/train.bin") + SMALL, "two/tokenizer.json, beside the token shards, is not the tokenizer " + at("one/tokenizer.json"));
    refused(fresh + " -i " + at("one/train.bin") + ":0.5," + at("two/train.bin") + ":0.5" + SMALL, "two/tokenizer.json");
    refused(fresh + in("one/train.bin") + " --tokenizer " + at("two.json") + SMALL, "two.json, named by --tokenizer, is not");
    refused(model("run/step_00000001") + in("bytes/train.bin") + SMALL, "bytes/tokenizer.json, beside the token shards, is not the tokenizer " + at("run/step_00000001/tokenizer.json") + ", beside the model: 257 tokens, there 300");
    refused(model("run/step_00000001") + in("two/train.bin") + SMALL, "token ");
    refused(model("bare/m.bin") + in("bytes/train.bin") + SMALL, "has 257 tokens, but " + at("bare/m.bin") + " has a vocabulary of 300");
    taken(model("bare/m.bin") + in("one/train.bin") + " -j " + at("text.txt") + SMALL, "one/tokenizer.json, beside the token shards: 300 tokens");
    taken(model("run/step_00000001") + in("one/train.bin") + SMALL, "beside the model: 300 tokens");
}

// What merely lies there and cannot be read ends no run that needs no tokenizer; --tokenizer names one that counts instead.
TEST(a_tokenizer_that_cannot_be_read) {
    prepare();
    const std::string one = " --tokenizer " + at("one.json");
    struct Bad { const char *name, *text, *why; };
    for (Bad bad : {Bad{"tokenizer.json", "{\"model\":", "tokenizer.json: line 1 column 10: expected a value"}, {"tokenizer.json", "{\"model\": {\"type\": \"WordPiece\"}}", "tokenizer.json: the model is \"WordPiece\", only BPE is supported"},
                    {"tokenizer.json", "", "tokenizer.json: line 1 column 1"}, {"merges.txt", "a b\n", "vocab.json: No such file"}, {"gpt2_tokenizer.bin", "x", "gpt2_tokenizer.bin: 1 bytes, the header alone is 1024"}}) {
        for (const char* place : {"none", "bare", "nt"}) write_file_atomically(at(place) + "/" + bad.name, bad.text);
        const std::string not_used = std::string(bad.why);
        const std::string fresh = " -e d1c32h2" + in("none/train.bin"), loaded = model("bare/m.bin") + in("one/train.bin"), folder = model("nt") + in("one/train.bin");
        for (const std::string& run : {fresh, loaded, folder}) {
            Outcome o = trainer(run + SMALL);
            const size_t said = o.output.find(not_used);
            if (o.code || said == o.output.npos || !has(o.output.substr(said, o.output.find('\n', said) - said), ": not used")) FAIL("%s: %d: %s", run.c_str(), o.code, o.output.c_str());
        }
        taken(fresh + SMALL, "tokenizer none: token ids, vocabulary by the format of the shards");
        taken(loaded + SMALL, "one/tokenizer.json, beside the token shards: 300 tokens");
        // named, it is another thing
        for (const std::string& run : {fresh, loaded, folder, model("nt") + in("text.txt"), model("bare/m.bin") + in("text.txt"), fresh + " -j " + at("text.txt")})
            taken(run + one + SMALL, "one.json, named by --tokenizer: 300 tokens");
        // and where one is needed the error says what is wrong with it
        write_file_atomically(at("q.txt"), "Anna sees");
        for (const std::string& run : {model("nt") + in("text.txt"), model("bare/m.bin") + in("text.txt"), fresh + " -j " + at("text.txt"), model("nt") + in("none/train.bin") + " --eval q=" + at("q.txt")})
            refused(run + SMALL, std::string(bad.why).substr(0, 12));
        refused(model("nt") + " -x 0 --prompt Once", "; --tokenizer must name one");
        Outcome o = run_command(format("%s --chat %s", TRAINER, at("nt").c_str()));
        if (o.code != 2 || !has(o.output, "; --tokenizer must name one")) FAIL("%d: %s", o.code, o.output.c_str());
        for (const char* place : {"none", "bare", "nt"}) unlink((at(place) + "/" + bad.name).c_str());
    }
    // of two the one that can be read; one that is not the model's, in its own folder
    write_file_atomically(at("none/tokenizer.json"), "{"), write_file_atomically(at("none/gpt2_tokenizer.bin"), "x");
    Outcome named = trainer(" -e d1c32h2" + in("none/train.bin") + " --tokenizer " + at("none/tokenizer.json") + SMALL);
    EXPECT(named.code == 1 && has(named.output, "none/tokenizer.json: line 1") && named.output.find('\n') == named.output.size() - 1);
    unlink(at("none/tokenizer.json").c_str()), unlink(at("none/gpt2_tokenizer.bin").c_str());
    Vocabulary v = Tokenizer::load(at("one.json")).vocabulary();
    v.added.push_back({"<|more|>", (int)v.tokens.size(), true}), v.tokens.push_back("");
    write_file_atomically(at("nt/tokenizer.json"), vocabulary_to_json(v));
    taken(model("nt") + in("one/train.bin") + SMALL, "nt/tokenizer.json: 301 tokens, but the model beside it has a vocabulary of 300: not used");
    taken(model("nt") + in("text.txt") + one + SMALL, "one.json, named by --tokenizer: 300 tokens");
    refused(model("nt") + in("text.txt") + SMALL, "nt/tokenizer.json: 301 tokens, but the model beside it has a vocabulary of 300; --tokenizer must name one");
    unlink(at("nt/tokenizer.json").c_str());
    // likewise what says how low the loss can get
    run_command("cp " + at("one/train.bin") + " " + at("one/val.bin"));
    write_file_atomically(at("one/val.bin.floor"), "nonsense");
    taken(" -e d1c32h2" + in("one/train.bin") + " -j " + at("one/val.bin") + SMALL, "one/val.bin.floor: line 1 column 1: expected a value, found \"n\": not used");
}

TEST(prompts) {
    prepare();
    auto sample = [](const std::string& options) {
        Outcome o = run_command(format("%s --threads 1 -e %s -x 0 -g 3 --temperature 0 %s", TRAINER, at("run/step_00000001").c_str(), options.c_str()));
        size_t begin = o.output.find("---\n");
        return o.code || begin == o.output.npos ? "exit code " + std::to_string(o.code) : o.output.substr(begin);
    };
    EXPECT(sample("--prompt ''").size() > strlen("---\n\n---\n"));   // from the end-of-text token
    EXPECT(sample("--prompt=").size() > strlen("---\n\n---\n"));
    EXPECT_STR(sample(""), "exit code 2");                          // none asked for, nor anything else: that is said
    // a special token is itself, as if it were not written: the end of text is in front of a prompt anyway
    EXPECT_STR(sample("--prompt '<|endoftext|>Anna'").substr(17), sample("--prompt Anna").substr(4));
    EXPECT(has(sample("--prompt \"$(printf 'a\\033[2J')\""), "---\na\\x1b[2J"));
    refused(model("run/step_00000001") + " -x 0 -s 0 --prompt a", "--prompt: given, but --sample-every 0 prints no samples");
}

// 10 % for validation whatever the batch and the sequence, in the first run and in those that go on.
TEST(hold_out_does_not_move) {
    prepare();
    std::string first;
    for (const char* options : {"-b 2 -t 32 -x 1", "-b 900 -t 8 -x 2", "-b 1 -t 500 -x 3"}) {
        Outcome o = run_command(format("%s --threads 1 -i %s -e d1c32h2 -v 1 -m 0 -s 0 -n 1 -y 1 -o %s %s", TRAINER, at("text.txt").c_str(), at("held").c_str(), options));
        size_t from = o.output.find("data "), end = o.output.find('\n', from);
        std::string data = o.code || from == o.output.npos ? o.output : o.output.substr(from, end - from);
        if (first.empty()) first = data;
        EXPECT_STR(data, first);
        EXPECT(has(o.output, "val ") && !has(o.output, "nan"));
    }
    // a batch that is larger than all there is to validate on counts the same targets as small ones
    auto loss = [](const std::string& options) {
        Outcome o = run_command(format("%s --threads 1 -i %s -e d1c32h2 -v 1 -m 0 -s 0 -n 0 -x 0 %s", TRAINER, at("text.txt").c_str(), options.c_str()));
        size_t from = o.output.find("bits/byte, loss ");
        return from == o.output.npos ? 0 : atof(o.output.c_str() + from + strlen("bits/byte, loss "));
    };
    const double small = loss("-b 1 -t 32"), large = loss("-b 300 -t 32"), odd = loss("-b 7 -t 32");
    EXPECT(small > 5 && std::fabs(large - small) < 1e-4 && std::fabs(odd - small) < 1e-4);
    // 3 KB with nothing but defaults; too little for a row is said
    write_file_atomically(at("small.txt"), std::string(3000, 'a'));
    Outcome o = trainer("-i " + at("small.txt") + " -e d1c32h2 -x 1 -s 0 -o " + at("o"));
    EXPECT(o.code == 0 && has(o.output, "2.70K tokens to train on, 300 to validate on"));
    write_file_atomically(at("tiny.txt"), std::string(200, 'a'));
    refused("-i " + at("tiny.txt") + " -e d1c32h2 -x 1 -s 0 -o " + at("o"), "--seq: a row takes 256 + 1 tokens, but " + at("tiny.txt") + " has 181 to train on: use a --seq of at most 180");
}
