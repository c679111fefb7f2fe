// What --plan says, and that a run then takes so much memory.
#include <limits.h>
#include <cstdlib>
#include "cli_test.h"

namespace {
const std::string SCRATCH = "build/tmp/plan";
}

TEST(plan) {
    Outcome o = run_command(format("%s --plan H100 -e d12 -b 64 -t 1024 -d 524288 -pn 8 -z 1 -x 19560 --precision bf16", TRAINER));
    EXPECT_EQ(o.code, 0);
    EXPECT(has(o.output, "124M parameters") && has(o.output, "8 x H100") && has(o.output, "AdamW moments") && has(o.output, "10.3G tokens"));
    EXPECT_EQ(run_command(format("%s --plan", TRAINER)).code, 0);
    EXPECT(has(run_command(format("%s --plan -e d4c128h8", TRAINER)).output, "4 layers, width 128, 8 heads"));
    EXPECT_EQ(run_command(format("%s --plan -e gpt3:c12288 -b 1", TRAINER)).code, 0);  // far beyond this machine: only planned
    EXPECT(has(run_command(format("%s --plan -e d1 -t 64", TRAINER)).output, "context 64 of the model's 1024,"));
    EXPECT(has(run_command(format("%s --plan -e d1 -t 1024", TRAINER)).output, "context 1024,"));
#ifndef __SANITIZE_ADDRESS__  // under which buffers share nothing
    EXPECT(has(run_command(format("%s --plan -e d1 -t 64", TRAINER)).output, "  saved by sharing "));
#endif
    // 2^39 tokens a step, 1.18e21 in all: 64 bits hold the one, a double the other. 6 (12 * 48 * 1600^2 + 50257 * 1600) + 6 * 48 * 1600 * 1024 =
    // 9.80 GFLOP a token at 32.7 % of 494.7 TFLOP/s, as attention in fp32 takes half of the time: 2.26e9 years
    o = run_command(format("%s --plan H100 -e d48 -b 512 -t 1024 -d 549755813888 -x 2147483647", TRAINER));
    EXPECT(o.code == 0 && has(o.output, "512 x 1024 tokens x 1048576 micro-batches x 1 ranks = 550G tokens") && has(o.output, "2.26G years") && has(o.output, "1.18Z tokens"));
    o = run_command(format("%s --plan H100 -e d1024 -b 1048576 -t 1024 -pn 4096 -x 2147483647", TRAINER));
    EXPECT(o.code == 0 && !has(o.output, "nan") && !has(o.output, "inf") && has(o.output, "60.8G years"));
    EXPECT(has(run_command(format("%s --plan -b auto -e d1 -t 64 -d 256", TRAINER)).output, "--batch auto: 4 sequences, 1 times a step"));
}

// Of many GPUs: what scaling.h says is tested in test_scaling.cpp; here that options reach it, and that nothing else is said of a machine without one.
TEST(plan_of_many_gpus) {
    const auto plan = [](const std::string& rest) {
        Outcome o = run_command(format("%s --plan %s -e d12 -b 4 -t 1024 --precision bf16 -x 1000", TRAINER, rest.c_str()));
        EXPECT_EQ(o.code, 0);
        return o.output;
    };
    const auto line = [](const std::string& output, const std::string& begin) {
        const size_t at = output.find("\n" + begin);
        return at == output.npos ? "" : output.substr(at + 1, output.find('\n', at + 1) - at - 1);
    };
    const std::string all = plan("--gpu H100 --nodes 128 --gpus-per-node 8 --net 400 -z 1");
    EXPECT_STR(line(all, "cluster"), "cluster  128 x 8 H100, 450 GB/s each way in a node and 400 Gb/s of network for each, ZeRO stage 1");
    for (const char* part : {"1024 x H100", "x 1024 ranks = 4.19M tokens", "\nkernels  by roofline", "\nstep     ms: compute ", " exposed ", "\nscaling  limit: network; ",
                             "\ntime     by these, not measured: ", " MFU ", "; 1000 steps: ", "4.19G tokens, $", " at 3.5 a GPU hour\n"})
        if (!has(all, part)) FAIL("'%s' is not in: %s", part, all.c_str());
    // every way to name the same
    EXPECT_STR(plan("H100 -pn 1024 -z 1"), all);
    EXPECT_STR(plan("H100 --gpu H100 --nodes 128 -pn 1024 -pg 8 -z 1"), all);
    EXPECT_STR(plan("H100 -pn 1024 -z 1 --init tcp --server host --secret-file absent"), all);  // what is on those machines is not asked for here
    // ranks of one node that is not full; nodes of one GPU
    EXPECT(has(plan("H100 -pn 4"), "cluster  1 x 4 H100,") && has(plan("H100 -pn 4 -pg 1"), "cluster  4 x 1 H100,") && has(plan("H100"), "cluster  1 x 1 H100,"));
    // memory of stage 1, GiB: 124.4M parameters in bf16, gradients in fp32, 12 bytes over 1024 ranks: 0.23 + 0.46 + 0.00
    EXPECT(has(all, "\n         1*   0.23 +   0.46 +   0.00 + ") && has(all, "\n         0:   0.23 +   0.46 +   1.39 + "));
    // 100 Gb/s are slower, and money is what is asked for
    const auto seconds = [&](const std::string& output) { return atof(line(output, "time").c_str() + strlen("time     by these, not measured: ")); };
    EXPECT(seconds(plan("--gpu H100 --nodes 128 --net 100 -z 1")) > 1.5 * seconds(all));
    // dollars by hand from the printed step: 1000 steps of 1024 GPUs; the step has four digits, the money is a whole number
    const std::string time = line(all, "time");
    const double dollars = seconds(all) * 1000 * 1024 / 3600 * 3.5;
    EXPECT(std::fabs(atof(time.c_str() + time.find('$') + 1) - dollars) <= 1 + 5e-4 * dollars);
    const std::string free = line(plan("--gpu H100 --nodes 128 -z 1 --gpu-price 0"), "time");
    EXPECT(free.ends_with(", $0 at 0 a GPU hour"));
    // a machine that is not in the table
    const std::string here = plan("");
    EXPECT(has(here, "time     at half the peak: ") && !has(here, "cluster") && !has(here, "$"));
}

// A GPU whose kernels have been measured (an H200, B=32, T=1024: dev/bench/results/nvidia-h200-check.json), ms: attention 12 (0.1664 + 0.5964) = 9.15; LayerNorm
// 25 (0.054 + 0.0779) = 3.30; GELU what it adds to its products, 12 (0.3423 - 0.2509 + 0.3223 - 0.2357) = 2.14; the classifier 16 x 0.1289 = 2.06; embedding
// 0.0258 + 0.1089 = 0.135; products 12 x 2.2765 + 16 x 0.6252 = 37.3; norm and AdamW of 124.4M for 84.9M parameters 1.465 (0.0789 + 0.7081) = 1.15.
TEST(plan_by_measured_kernels) {
    prepare();
    char here[PATH_MAX] = "";
    EXPECT(realpath(TRAINER, here) != nullptr);
    const std::string trainer = here, file = "dev/bench/results/nvidia-h200-check.json", rows = read_file(file);
    const auto plan = [&](const std::string& rest, const std::string& from = ".") {
        Outcome o = run_command(format("cd %s && %s --plan --gpu H200 -e d12 -b 32 -t 1024 -d 65536 --classifier-rows 2048 %s", from.c_str(), trainer.c_str(), rest.c_str()));
        if (o.code) FAIL("%s: exit code %d: %s", rest.c_str(), o.code, o.output.c_str());
        return o.output;
    };
    const auto expect = [](const std::string& output, const std::string& part) { if (!has(output, part)) FAIL("'%s' is not in: %s", part.c_str(), output.c_str()); };
    const std::string measured = "\nkernels  by those of GPT-2 124M that were measured (NVIDIA H200, 2026-11-26, " + file, bf16 = "--precision bf16";
    expect(plan(bf16), measured + "), ms a micro-batch: products 37.3, attention 9.15, LayerNorm 3.3, GELU 2.14, classifier 2.06, embedding 0.135, ");
    expect(plan(bf16), "norm and AdamW 1.15\n");
    expect(plan(""), measured + "), ms a micro-batch: products 92.4, attention 115, LayerNorm 5.26, ");  // 12 (1.8396 + 7.7393)
    expect(plan(bf16 + " -e llama3.2:1b"), measured + "; RMSNorm, embedding with rotary positions, SwiGLU by roofline), ");
    expect(plan("--tf32 0"), "\nkernels  by roofline, ");  // TF32 was measured
    expect(plan(bf16 + " --gpu H100", "."), "\nkernels  by roofline, ");
    // where nobody has measured; then a file of other layers alone, and a newer one
    expect(plan(bf16, SCRATCH), "\nkernels  by roofline, ");
    const auto put = [&](const char* name, std::string text, const char* what, const char* by) {
        for (size_t at = 0; (at = text.find(what, at)) != text.npos; at += strlen(by)) text.replace(at, strlen(what), by);
        make_folders(SCRATCH + "/dev/bench/results");
        write_file_atomically(SCRATCH + "/dev/bench/results/" + name, text);
    };
    put("a.json", rows, "\"layer\": \"fc forward\"", "\"layer\": \"another\"");
    expect(plan(bf16, SCRATCH), "\nkernels  by roofline, ");
    put("b.json", rows, "2026-11-26", "2026-11-28"), put("c.json", rows, "\"ms\": 0.1664", "\"ms\": 0.2664");
    expect(plan(bf16, SCRATCH), "(NVIDIA H200, 2026-11-28, dev/bench/results/b.json), ms a micro-batch: products 37.3, attention 9.15, ");
    remove_tree(SCRATCH + "/dev/bench/results");
    put("c.json", rows, "\"ms\": 0.1664", "\"ms\": 0.2664");
    put("d.json", rows.substr(0, rows.size() / 2), "2026-11-26", "2026-11-28"), put("e.json", "", "x", "x");  // cut, and empty
    expect(plan(bf16, SCRATCH), "dev/bench/results/c.json), ms a micro-batch: products 37.3, attention 10.4, ");
    // a GELU in an epilogue that takes no time, within the clock's resolution: what its bytes take, not less than nothing
    remove_tree(SCRATCH + "/dev/bench/results");
    put("f.json", rows, "\"ms\": 0.3423", "\"ms\": 0.0500");
    expect(plan(bf16, SCRATCH), "GELU 1.01, classifier 2.06, ");  // 12 x 4 B x 32768 x 3072 / 4.8 TB/s
}

// --plan of a run that goes on is the checkpoint's, of data that of their tokenizer; what cannot be known is said, and nothing is written.
TEST(plan_is_of_the_run) {
    prepare();
    run_small("a", "-e d2c32h2 --tokenizer bpe:280 -x 4 -n 4");
    const std::string names = run_command("cd " + SCRATCH + "; find . | sort").output;
    auto plan = [](const std::string& options) {
        Outcome o = run_command(format("%s --plan H100 -t 32 %s", TRAINER, options.c_str()));
        if (o.code) FAIL("%s: exit code %d: %s", options.c_str(), o.code, o.output.c_str());
        return o.output;
    };
    const std::string text = " -i " + SCRATCH + "/text.txt ", a = " -o " + SCRATCH + "/a ";
    std::string said = plan(text + a + "-y 1 -x 10 -e d2c32h2");
    EXPECT(has(said, "goes on after step 4\n") && has(said, "2 layers, width 32, 2 heads, context 32 of the model's 1024, vocabulary 280:") && has(said, "; 6 steps: ") && !has(said, "assumed"));
    EXPECT(has(plan(text + a + "-y 1"), "2 layers, width 32") && has(plan(a + "-y 1"), "vocabulary 280:"));
    EXPECT(has(plan("-e " + SCRATCH + "/a/step_00000004"), "vocabulary 280:"));
    EXPECT(has(plan(text + "-e d1"), "tokenizer bytes, as none is named: 257 tokens\n") && has(plan(text + "-e d1"), "vocabulary 257:"));
    said = plan(text + "-e d1 --tokenizer bpe:5000");
    EXPECT(has(said, "plan     vocabulary 5000 assumed: the run learns a tokenizer of at most so many tokens\n") && has(said, "vocabulary 5000:"));
    EXPECT(has(plan("-e d1 --tokenizer bpe:5000"), "vocabulary 5000:") && has(plan("-e d1 --tokenizer bytes"), "vocabulary 257:"));
    EXPECT(has(plan("-e d12"), "plan     vocabulary 50257 assumed: GPT-2's, as there are no data and no --tokenizer\n"));
    said = plan("-e d12 -i " + SCRATCH + "/absent.bin");
    EXPECT(has(said, "plan     " + SCRATCH + "/absent.bin: no such file: planned without data\n") && has(said, "vocabulary 50257 assumed"));
    // the rows of an evaluation are encoded where there is a tokenizer, else they are as long as they can be
    write_file_atomically(SCRATCH + "/q.txt", std::string(100, 'x'));
    const std::string eval = " --eval q=" + SCRATCH + "/q.txt";
    EXPECT(has(plan(text + "-e d1" + eval), "eval     rows of up to 100 tokens") && has(plan("-e d1" + eval), "eval     rows of up to 1024 tokens"));
    unlink((SCRATCH + "/q.txt").c_str());
    EXPECT(has(plan(text + "-e d1 -y 1 -o " + SCRATCH + "/new"), "new: no checkpoint: starts afresh\n"));
    EXPECT_STR(run_command("cd " + SCRATCH + "; find . | sort").output, names);
    // shards: the tokenizer's beside them, or their format's
    EXPECT_EQ(run_command(format("%s -i %s/text.txt -o %s/shards --tokenizer bytes", TOKENIZE_PROGRAM, SCRATCH.c_str(), SCRATCH.c_str())).code, 0);
    const std::string shards = " -e d1 -i '" + SCRATCH + "/shards/*.bin'";
    EXPECT(has(plan(shards), "beside the token shards: 257 tokens\n") && has(plan(shards), "vocabulary 257:") && has(plan(shards), " tokens to train on, 0 to validate on"));
    const int32_t header[256 + 40] = {20240801, 7, 40};
    write_file_atomically(SCRATCH + "/wide.bin", std::string_view((const char*)header, sizeof header));
    EXPECT(has(plan("-e d1 -i " + SCRATCH + "/wide.bin"), "vocabulary 128256:"));
}

// Half a gigabyte of plan; the program itself, its stacks and the text come on top.
TEST(memory_is_as_planned) {
#ifdef __SANITIZE_ADDRESS__
    SKIP("AddressSanitizer's own memory comes on top");
#endif
    prepare();
    for (const char* rest : {"--precision fp32", "--precision bf16 -r 2"}) {
        Outcome o = run_command(format("%s -i %s/text.txt -e d6 -b 8 -t 512 -x 1 -n 0 -s 0 -v 0 -o %s/memory %s", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), rest));
        EXPECT_EQ(o.code, 0);
        double planned = 0, mib;
        for (size_t at = 0; (at = o.output.find("\n  total ", at)) != o.output.npos; at++)
            if (sscanf(o.output.c_str() + at, " total %lf", &mib) == 1) planned += mib;
        if (!(planned > 250 && o.peak_mib > 0.95 * planned - 64 && o.peak_mib < 1.05 * planned + 64))
            FAIL("%s: planned %.0f MiB, the peak was %.0f MiB", rest, planned, o.peak_mib);
        remove_tree(SCRATCH + "/memory");
    }
}
