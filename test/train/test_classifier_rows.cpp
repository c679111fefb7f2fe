// How many rows of logits are in memory at a time: chosen by sizes and the card, and by nothing that may leave the bits as they are; kept by checkpoints
// and records.
#include "../../llmc/model/classifier_rows.h"
#include "../../llmc/model/config.h"
#include "../../llmc/model/gpus.h"
#include "../trainer_runs.h"

namespace {
const std::string SCRATCH = "build/tmp/classifier_rows";

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
std::string must(const std::string& command) {
    const Outcome o = run_command(command);
    if (o.code) FAIL("%s: exit code %d: %s", command.c_str(), o.code, o.output.c_str());
    return o.output;
}
std::string plan(const std::string& options) { return must(format("%s --plan -t 1024 %s", TRAINER, options.c_str())); }
// What a plan says of the rows; "" where all of them are there.
std::string rows_of(const std::string& said) {
    const size_t at = said.find("\nclassifier ");
    return at == said.npos ? "" : said.substr(at + 12, said.find_first_of(":\n", at + 1) - at - 12);
}
// 192 rows a micro-batch, of which all would be there at a time, two of them a step
std::string train(const std::string& out, const std::string& rest) {
    return must(format("timeout -s KILL 100 %s -i %s/text.txt -o %s/%s -e d1c32h2 -t 24 -d 384 --leaves 2 --tokenizer bytes -v 0 -s 0 -l 1e-2 -k constant --precision bf16 %s", TRAINER, SCRATCH.c_str(),
                       SCRATCH.c_str(), out.c_str(), rest.c_str()));
}
std::string weights(const std::string& out, int step) {
    const std::string folder = SCRATCH + "/" + out + format("/step_%08d/", step);
    return file_contents(folder + "model.safetensors") + file_contents(folder + "state-00000.safetensors");
}
std::string kept(const std::string& out, int step) {
    const std::string path = SCRATCH + "/" + out + format("/step_%08d/trainer.json", step);
    return json_parse(file_contents(path), path).at("options", path).at("classifier_rows", path).as_string(path);
}
}  // namespace

TEST(classifier_rows_by_hand) {
    // N FF / Vp = 2001 rows, 17 chunks, of 1928 and in multiples of 128
    EXPECT_EQ(least_classifier_rows(32768, 50304, 3072), (size_t)2048);
    EXPECT_EQ(least_classifier_rows(192, 320, 128), (size_t)192);              // fewer than 26 M logits
    EXPECT_EQ(least_classifier_rows(1000, 50304, 128), (size_t)512);           // 2 chunks of 500
    const double GIB = 1 << 30;
    const auto rows = [&](size_t N, double gib) { return choose_classifier_rows(N, 50304, 3072, 2, gib * GIB); };
    EXPECT_EQ(rows(32768, 80), (size_t)8192);
    EXPECT_EQ(rows(32768, 800), (size_t)8192);
    EXPECT_EQ(rows(8192, 80), (size_t)8192);                                   // all
    EXPECT_EQ(rows(10240, 80), (size_t)5120);                                  // two chunks alike
    EXPECT_EQ(rows(32768, 24), (size_t)4096);                                  // of 8192 824 MB, a thirty-second of 24 GiB are 805
    EXPECT_EQ(rows(32768, 12.2), (size_t)2048);                                // of 4096 412 MB, 409
    EXPECT_EQ(rows(32768, 12.4), (size_t)4096);
    EXPECT_EQ(rows(32768, 1), (size_t)2048);                                   // as few as on any
    EXPECT_EQ(rows(32768, 0), (size_t)2048);
    EXPECT_EQ(rows(163840, 80), least_classifier_rows(163840, 50304, 3072));   // more than 8192 already
    EXPECT_EQ(choose_classifier_rows(32768, 50304, 3072, 4, 40 * GIB), (size_t)4096);  // fp32
    // what grew is no more than a thirty-second of the card, and divides no worse than by 8192
    for (const Gpu& gpu : GPUS)
        for (size_t N = 1024; N < 300000; N = N * 5 / 4 + 3)
            for (size_t V : {320, 50304, 128256}) {
                const size_t least = least_classifier_rows(N, V, 3072), n = choose_classifier_rows(N, V, 3072, 2, gpu.gib * GIB);
                if (n < least || n > N || (n > least && ((double)(n * V * 2) > gpu.gib * GIB / 32 || n > 8192))) FAIL("%s, %zu rows, vocabulary %zu: %zu, least %zu", gpu.name, N, V, n, least);
            }
}

// Neither ranks, nor a stage, nor recomputation, nor anything else that leaves the bits as they are.
TEST(classifier_rows_follow_from_the_card) {
    const std::string d12 = "--gpu H100 --precision bf16 -e d12 -b 32 ";
    for (const char* rest : {"", "-r 3", "-pn 8", "-pn 8 -z 1", "-pn 16 -z 3", "--separate-buffers 1", "--async-save 0", "-d 524288", "--leaves 16 -d 524288"})
        if (rows_of(plan(d12 + rest)) != "8192 rows of logits at a time, of 32768") FAIL("%s: '%s'", rest, rows_of(plan(d12 + rest)).c_str());
    EXPECT_STR(rows_of(plan(d12 + "--classifier-rows 3000")), "3000 rows of logits at a time, of 32768");
    EXPECT_STR(rows_of(plan(d12 + "--classifier-rows 40000")), "");
    EXPECT_STR(rows_of(plan("--gpu L4 --precision bf16 -e d12 -b 32 -r 3")), "4096 rows of logits at a time, of 32768");
    EXPECT_STR(rows_of(plan("--precision bf16 -e d12 -b 32")), "2048 rows of logits at a time, of 32768");  // here is no card
    // the batch is chosen as if they were few, and they have room beside it
    const std::string chosen = plan("--gpu H100 --precision bf16 -e d12 -b auto");
    EXPECT_STR(rows_of(chosen), "8192 rows of logits at a time, of 131072");
    EXPECT(has(chosen, "--batch auto: 128 sequences"));
    // fewer chunks are less time
    const auto ms = [](const std::string& said) { return atof(said.c_str() + said.find("step     ms: compute ") + 21); };
    EXPECT(ms(plan(d12)) < ms(plan(d12 + "--classifier-rows 2048")) - 1);
}

#ifndef __SANITIZE_ADDRESS__  // under which buffers share nothing, and take more
// On a card that is nearly full there are the fewest, which is said; those that a command asks for are not changed.
TEST(classifier_rows_where_they_do_not_fit) {
    const std::string d48 = "--gpu H100 --precision bf16 -e d48 -t 256 ";
    EXPECT_STR(rows_of(plan(d48 + "-b 83")), "7168 rows of logits at a time, of 21248");
    const std::string full = plan(d48 + "-b 84"), given = plan(d48 + "-b 84 --classifier-rows 7168"), shared = plan(d48 + "-b 84 -pn 8 -z 1");
    EXPECT(has(full, "--classifier-rows 2688: there is no room for the logits of 7168 rows at a time, with which bits are others\n") && !has(full, "does not fit"));
    EXPECT_STR(rows_of(full), "2688 rows of logits at a time, of 21504");
    EXPECT(has(given, "does not fit") && rows_of(given) == "7168 rows of logits at a time, of 21504");
    EXPECT_STR(rows_of(shared), "7168 rows of logits at a time, of 21504");
    const std::string too_much = plan(d48 + "-b 90");
    EXPECT(has(too_much, "does not fit") && !has(too_much, "there is no room"));
}
#endif

TEST(classifier_rows_are_kept) {
    prepare_text(SCRATCH, 400);
    train("a", "-b 8 --classifier-rows 48 -x 4 -n 2");
    train("all", "-b 8 -x 4 -n 4");
    EXPECT(weights("a", 4) != weights("all", 4));  // or the test could not fail
    EXPECT_STR(kept("a", 4), "48");
    EXPECT_STR(kept("all", 4), "192");
    for (const char* name : {"b", "c", "d", "e"}) run_command(format("cp -r %s/a %s/%s && rm -r %s/%s/*00000004", SCRATCH.c_str(), SCRATCH.c_str(), name, SCRATCH.c_str(), name));
    // a resume that says nothing of them, on any number of ranks
    EXPECT(!has(train("b", "-b 8 -x 4 -n 2 -y 1"), "classifier-rows"));
    EXPECT(weights("b", 4) == weights("a", 4));
    train("c", "-b 8 -x 4 -n 2 -y 1 --ranks 2 -z 1");
    EXPECT(weights("c", 4) == weights("a", 4));
    train("ranks", "-b 8 --classifier-rows 48 -x 4 -n 4 --ranks 2");
    EXPECT(weights("ranks", 4) == weights("a", 4));
    // one that says others, and one of another micro-batch
    EXPECT(has(train("d", "-b 8 -x 4 -n 2 -y 1 --classifier-rows 96"), "resume   --classifier-rows 96, was 48\n"));
    EXPECT(weights("d", 4) != weights("a", 4));
    EXPECT_STR(kept("d", 4), "96");
    train("e", "-b 4 -x 4 -n 2 -y 1");
    EXPECT_STR(kept("e", 4), "96");  // all 4 x 24
    // a repetition takes them from the record
    must(format("timeout -s KILL 100 %s --replay %s/a -o %s/again", TRAINER, SCRATCH.c_str(), SCRATCH.c_str()));
    EXPECT(weights("again", 4) == weights("a", 4));
}
