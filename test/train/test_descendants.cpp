// test_descendants.cpp: Llama, Qwen3 and modern models as a user runs them: from a name, over ranks and stages, with recomputation, resumed, from a folder and back.
#include "../../llmc/io/json.h"
#include "../../llmc/io/safetensors.h"
#include "life_test.h"

namespace {
const std::string SCRATCH = "build/tmp/descendants";

std::string family_run(const std::string& out, const std::string& model, const std::string& rest) {
    return format("%s -i %s/text.txt -o %s/%s -e %s --tokenizer bytes -t 16 -d 64 -v 0 -s 0 --leaves 2 %s", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), out.c_str(), model.c_str(), rest.c_str());
}
std::string weights_of(const std::string& out, int step) { return contents(out + format("/step_%08d/model.safetensors", step)); }
}  // namespace

// The bits do not depend on the ranks, on what they divide, on what is recomputed, or on an interruption.
TEST(descendants_have_the_same_bits_everywhere) {
    for (const char* model : {"llama:d3c48h6k2f40", "qwen3:d3c48h6k2s24f40", "modern:d3c48h6", "modern:d3c48h4-rope-rmsnorm-untied", "modern:d3c48h6w5"})
        for (const char* precision : {"fp32", "bf16"}) {
            prepare();
            const std::string all = format("-x 6 -n 3 --doc-mask 1 --precision %s ", precision);
            must(family_run("a", model, all + "-b 2 --threads 1"));
            const std::string expected = weights_of("a", 6);
            for (const char* how : {"-b 2 --threads 2", "-b 2 --ranks 2", "-b 2 --ranks 2 -z 1", "-b 2 --ranks 2 -z 2", "-b 2 --ranks 2 -z 3 --recompute 3", "-b 2 --recompute 1", "-b 2 --recompute 2", "-b 2 --recompute 3"}) {
                remove_tree(SCRATCH + "/b");
                must(family_run("b", model, all + how));
                if (weights_of("b", 6) != expected) FAIL("%s, %s, %s: other bits", model, precision, how);
            }
            remove_tree(SCRATCH + "/a/step_00000006"), unlink((SCRATCH + "/a/DONE_00000006").c_str());
            must(family_run("a", model, all + "-b 2 -y 1"));
            EXPECT(weights_of("a", 6) == expected);
        }
}

// What somebody else's folder holds besides what is trained stays as it was.
TEST(descendants_go_from_folder_to_folder) {
    for (const std::string model : {"llama:d2c48h6k2f40", "qwen3:d2c48h6k2s24f40", "modern:d2c48h6w5-no_bias"}) {
        prepare();
        must(family_run("a", model, "-b 2 -x 2 -n 2"));
        const std::string folder = SCRATCH + "/theirs";
        make_folders(folder);
        for (const char* name : {"model.safetensors", "tokenizer.json"}) write_file_atomically(folder + "/" + name, contents(std::string("a/step_00000002/") + name));
        std::string config = contents("a/step_00000002/config.json");
        config.insert(config.find('{') + 1, "\"of_their_own\": {\"a\": [1.50, null]}, \"pretraining_tp\": 1,");
        write_file_atomically(folder + "/config.json", config);
        must(format("%s -e %s -x 0 -n 1 -s 0 -v 0 -o %s/b -t 16", TRAINER, folder.c_str(), SCRATCH.c_str()));
        EXPECT(weights_of("b", 0) == contents("theirs/model.safetensors"));
        const Json json = json_parse(contents("b/step_00000000/config.json"), "config.json");
        EXPECT(json.find("of_their_own") && json_dump(*json.find("of_their_own")) == "{\"a\":[1.50,null]}" && json.find("pretraining_tp"));
        // and trained further
        must(format("%s -i %s/text.txt -e %s -x 2 -n 2 -s 0 -v 0 -o %s/c -b 2 -t 16", TRAINER, SCRATCH.c_str(), folder.c_str(), SCRATCH.c_str()));
        EXPECT(has(contents("c/step_00000002/config.json"), "of_their_own"));
        EXPECT(SafetensorsFile(SCRATCH + "/c/step_00000002/model.safetensors").find(model.starts_with("modern") ? "transformer.h.1.attn.c_attn.bias" : "model.layers.1.self_attn.k_proj.weight"));
        EXPECT_EQ(!access((SCRATCH + "/c/step_00000002/modeling_modern.py").c_str(), F_OK), model.starts_with("modern"));
    }
}

// --embed-std scales what tokens begin with, and nothing else.
TEST(descendants_begin_with_tokens_of_their_own) {
    prepare();
    must(family_run("a", "llama:d1c64h2", "-b 2 -x 0 -n 1 --init-std 0.05"));
    must(family_run("b", "llama:d1c64h2", "-b 2 -x 0 -n 1 --init-std 0.05 --embed-std 0.4"));
    const SafetensorsFile small(SCRATCH + "/a/step_00000000/model.safetensors"), large(SCRATCH + "/b/step_00000000/model.safetensors");
    for (const TensorInfo& t : small.tensors()) {
        const TensorInfo* other = large.find(t.name);
        if (!other) { FAIL("%s is missing", t.name.c_str()); continue; }
        std::vector<float> a(t.count()), b(other->count());
        small.read_as_float(t, a.data(), 0, a.size()), large.read_as_float(*other, b.data(), 0, b.size());
        const float times = t.name == "model.embed_tokens.weight" ? 8 : 1;
        for (size_t i = 0; i < a.size(); i++)  // a factor of 8 moves no rounding
            if (b[i] != times * a[i]) { FAIL("%s: %g for %g", t.name.c_str(), b[i], a[i]); break; }
    }
}

TEST(descendants_are_planned) {
    const std::string plan = must(std::string(TRAINER) + " --plan H100 -e qwen3:0.6b -b 8 -t 4096 --precision bf16").output;
    EXPECT(has(plan, "model    Qwen3, 28 layers, width 1024, 16 heads of 128 and 8 of keys and values, MLP 3072, context 4096 of the model's 40960, vocabulary 151936: 596M parameters, bf16\n"));
    EXPECT(has(plan, "plan     vocabulary 151936 assumed: the published one"));
    EXPECT(has(plan, "classifier 8192 rows of logits at a time, of 32768: 2.3 GiB for 9.3\n"));
    EXPECT(has(must(std::string(TRAINER) + " --plan H100 -e modern:d12w512 -b 8 -t 2048 --precision bf16").output, "model    modern, windows of 512 (short, short, short, long), 12 layers"));
    one_line(std::string(TRAINER) + " --plan H100 -e modern:d12w512 -b 8 --precision bf16", 2, "--model: 'modern:d12w512' given: a sliding window of 512, which must be shorter than the 256 tokens of a sequence (--seq)");
    EXPECT(has(plan, "RMSNorm") && has(plan, "SwiGLU") && has(plan, "rotary positions"));
    one_line(std::string(TRAINER) + " -e llama:d2 -x 0 -s 0 -v 0 --export-bin " + SCRATCH + "/x.bin", 2, "a .bin file cannot hold this model: it is no GPT-2");
}
