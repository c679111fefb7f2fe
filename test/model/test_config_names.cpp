// The names of models, and what is wrong with those that are none; sizes that make no model; how two models differ.
#include "../../llmc/model/config_json.h"
#include "../../llmc/model/config_names.h"
#include "../test.h"

namespace {
const std::string SCRATCH = "build/tmp/config";
std::string sizes(const std::string& name) {
    const Config c = config_by_name(name, 50257);
    return format("%d x %d, %d heads, context %d", c.L, c.C, c.NH, c.max_T);
}
void make_file(const std::string& path, const std::string& text) {
    make_folders(parent_folder(path));
    write_file_atomically(path, text);
}
}  // namespace

TEST(names_of_models) {
    EXPECT_STR(sizes("d12"), "12 x 768, 12 heads, context 1024");
    EXPECT_STR(sizes("gpt2:d24"), "24 x 1024, 16 heads, context 1024");
    EXPECT_STR(sizes("d48"), "48 x 1600, 25 heads, context 1024");
    EXPECT_STR(sizes("d5"), "5 x 320, 5 heads, context 1024");
    EXPECT_STR(sizes("d4c128h8"), "4 x 128, 8 heads, context 1024");
    EXPECT_STR(sizes("gpt3:c1536"), "24 x 1536, 16 heads, context 2048");
    EXPECT_STR(sizes("gpt3:c12288"), "96 x 12288, 96 heads, context 2048");
}

TEST(names_that_are_no_models) {
    const auto refused = [](const std::string& name, const std::string& says) { EXPECT_DIES(says.c_str(), config_by_name(name, 50257)); };
    refused("d0", "--model: 'd0' given: the depth must be from 1 to 1024");
    refused("gpt2:d1025", "the depth must be from 1 to 1024");
    refused("d99999999999", "the depth must be from 1 to 1024");  // more digits than an int has
    refused("d0c64h1", "the depth must be from 1 to 1024");
    refused("d1c65537h1", "the width must be from 1 to 65536");
    refused("d1c64h0", "the number of heads must be from 1 to 64");
    refused("d1c64h65", "the number of heads must be from 1 to 64");
    refused("d1c64h5", "width 64 is not a multiple of 5 heads");
    refused("d4c256", "the number of heads is missing: d4c256h4 has heads of 64");
    refused("d4c32", "the number of heads is missing: d4c32h1 has heads of 64");
    for (const char* name : {"dx", "d", "gpt3:c769", "gpt3:c", "gpt3:c1234567", "gpt3:cx", "d4cxh4", "d4c128h4c128", "4c128h4d4", "dxc64"}) refused(name, "must be dN (d12), gpt2:dN, llama:dN");
    refused("gpt2-xl", "GPT-2 1558M is d48, which begins untrained");
    refused("openai-community/gpt2-medium", "GPT-2 350M is d24, which begins untrained");

    remove_tree(SCRATCH);
    make_folders(SCRATCH + "/my_model"), make_file(SCRATCH + "/file.txt", "x"), make_file(SCRATCH + "/other.bin", "x");
    refused(SCRATCH + "/file.txt", "that is a file; the model is the folder it lies in, build/tmp/config, or a .bin file");
    refused("Makefile", "that is a file; the model is the folder it lies in, ., or a .bin file");
    refused(SCRATCH + "/my_modle", "no such folder; is it build/tmp/config/my_model?");
    refused(SCRATCH + "/my_modle/", "is it build/tmp/config/my_model?");
    refused(SCRATCH + "/othr.bin", "is it build/tmp/config/other.bin?");
    refused("tets", "no such folder; is it test?");  // beside us
    refused(SCRATCH + "/far_from_all", "far_from_all' given: no such folder");
}

TEST(folders_without_a_model) {
    remove_tree(SCRATCH);
    make_folders(SCRATCH + "/run/step_00000007");
    make_folders(SCRATCH + "/empty");
    EXPECT_DIES("build/tmp/config/run is a run's folder: the newest checkpoint in it is build/tmp/config/run/step_00000007", config_from_json(SCRATCH + "/run/config.json"));
    EXPECT_DIES("build/tmp/config/empty holds no config.json, so it is no checkpoint", config_from_json(SCRATCH + "/empty/config.json"));
    EXPECT_DIES("build/tmp/config/none/config.json: No such file or directory", config_from_json(SCRATCH + "/none/config.json"));
}

TEST(sizes_that_make_no_model) {
    const auto refused = [](const Config& c, const std::string& says) { EXPECT_DIES(says.c_str(), check_config(c, "here")); };
    check_config({}, "here");
    check_config({.arch = FAMILIES[LLAMA], .V = 100, .L = 2, .NH = 4, .C = 96, .NKV = 2, .HS = 64, .FF = 160}, "here");
    refused({.max_T = 0}, "here: context is 0, must be at least 1");
    refused({.V = 0}, "here: vocabulary is 0, must be at least 1");
    refused({.L = -1}, "here: layers is -1, must be at least 1");
    refused({.NH = 0}, "here: heads is 0, must be at least 1");
    refused({.C = 0}, "here: width is 0, must be at least 1");
    refused({.NH = 5, .C = 64}, "here: width 64 is not a multiple of 5 heads");
    refused({.NH = 4, .C = 64, .NKV = 2}, "here: 4 heads of 16 and 2 of keys and values, must be 4 heads of 16: width 64");
    refused({.NH = 4, .C = 64, .HS = 32}, "here: 4 heads of 32 and 4 of keys and values, must be 4 heads of 16: width 64");
    refused({.max_T = 1 << 21}, "context 2097152, vocabulary 50257: larger than anything that can be trained");
    refused({.V = (1 << 24) + 1}, "larger than anything that can be trained");
    refused({.L = 1025}, "here: layers 1025");
    refused({.NH = 1024, .C = 65536 + 1024}, "larger than anything that can be trained");
    refused({.FF = 0}, "here: the MLP's width is 0, must be from 1 to 262144");
    refused({.FF = 4 * 65536 + 1}, "the MLP's width is 262145, must be from 1 to 262144");
}

TEST(how_two_models_differ) {
    const Config a{.max_T = 64, .V = 100, .L = 2, .NH = 4, .C = 96};
    const auto differs = [&](auto change) {
        Config b = a;
        change(b);
        return config_difference(a, b);
    };
    EXPECT_STR(differs([](Config&) {}), "");
    EXPECT_STR(differs([](Config& b) { b.L = 3; }), "layers 2, there 3");
    EXPECT_STR(differs([](Config& b) { b.C = 48; }), "width 96, there 48");
    EXPECT_STR(differs([](Config& b) { b.NH = 2; }), "heads 4, there 2");
    EXPECT_STR(differs([](Config& b) { b.max_T = 32; }), "context 64, there 32");
    EXPECT_STR(differs([](Config& b) { b.V = 101; }), "vocabulary 100, there 101");
    EXPECT_STR(differs([](Config& b) { b.FF = 8; }), "width of the MLP 384, there 8");
    EXPECT_STR(differs([](Config& b) { b.NKV = 2; }), "heads of keys and values 4, there 2");
    EXPECT_STR(differs([](Config& b) { b.HS = 32; }), "head size 24, there 32");
    EXPECT_STR(differs([](Config& b) { b.eps = 1e-6; }), "epsilon of the norms 1e-05, there 1e-06");
    EXPECT_STR(differs([](Config& b) { b.arch.tied = false; }), "head tied, there not tied");
    EXPECT_STR(differs([](Config& b) { b.arch = FAMILIES[QWEN3]; }), "family GPT-2, there Qwen3");
}

// What is written is read again, with all that a file may leave out.
TEST(configs_as_files) {
    const std::string path = SCRATCH + "/written/config.json";
    for (const bool tied : {true, false})
        for (const int FF : {384, 200}) {
            Config c{.max_T = 64, .V = 100, .L = 2, .NH = 4, .C = 96, .FF = FF, .eps = 1e-6};
            c.arch.tied = tied;
            make_file(path, config_to_json(c, tied ? 99 : -1, "float32"));
            EXPECT_STR(config_difference(config_from_json(path), c), "");
        }
    make_file(path, "{\"model_type\": \"gpt2\", \"n_positions\": 8, \"vocab_size\": 9, \"n_layer\": 1, \"n_head\": 2, \"n_embd\": 4, \"n_inner\": null, \"activation_function\": \"gelu_fast\"}");
    EXPECT_STR(config_difference(config_from_json(path), {.max_T = 8, .V = 9, .L = 1, .NH = 2, .C = 4}), "");
    make_file(path, "{\"model_type\": \"gpt2\", \"n_positions\": 8, \"vocab_size\": 9, \"n_layer\": 1, \"n_head\": 2, \"n_embd\": 4, \"n_inner\": 12}");
    EXPECT_DIES("config.json: n_inner is 12, must be a multiple of 8", config_from_json(path));
}
