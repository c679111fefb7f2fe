// What --plan says of many GPUs, against values derived by hand, limits that any such model must have, and runs that others have published.
#include "../../llmc/model/config_names.h"
#include "../../llmc/model/gpus.h"
#include "../../llmc/train/scaling.h"
#include "../test.h"

namespace {
// 1e12 FLOP/s, 1e9 B/s everywhere: bytes and FLOPs can be read off as nanoseconds and picoseconds.
constexpr Cluster PLAIN{.flops = 1e12, .fp32 = 1e11, .memory = 1e9, .link = 1e9, .net = 1e9, .per_node = 1, .nodes = 1};
Cluster cluster(Cluster c, int per_node, int nodes) { return c.per_node = per_node, c.nodes = nodes, c; }
Cluster h100(int per_node, int nodes) {
    const Gpu& gpu = *find_gpu("H100");
    return {.flops = 1e12 * gpu.bf16, .memory = 1e9 * gpu.memory, .link = 1e9 * gpu.link, .net = 400e9 / 8, .per_node = per_node, .nodes = nodes};
}
bool near(double a, double b, double tolerance = 1e-9) { return std::fabs(a - b) <= tolerance * std::fabs(b); }
#define EXPECT_NEAR(a, b, ...) do { double a_ = (a), b_ = (b); if (!near(a_, b_, ##__VA_ARGS__)) FAIL("%s is %.10g, expected %.10g", #a, a_, b_); } while (0)

const Config SMALL{.max_T = 8, .V = 100, .L = 2, .NH = 2, .C = 16};
Workload work(const Config& c, int B, int T, int accum, int zero) { return {.config = c, .B = B, .T = T, .grad_accum = (double)accum, .zero = zero}; }
const Workload GPT2_124M = work(config_by_name("d12", 50257), 32, 1024, 1, 1), GPT2_1558M = work(config_by_name("d48", 50257), 16, 1024, 1, 1);
// about 8B parameters: 12 * 38 * 4096^2 + ...
const Workload EIGHT_B = work({.V = 50257, .L = 38, .NH = 32, .C = 4096}, 16, 1024, 1, 3);
}  // namespace

// C = 16, FF = 64, QKV = 48: a block's matrices are 16 * 48 + 16 * 16 + 2 * 16 * 64 = 3072, its biases and norms 48 + 64 + 16 + 16 + 4 * 16 = 208.
TEST(scaling_counts_parameters) {
    EXPECT_EQ(block_matrices(SMALL), 3072.0);
    EXPECT_EQ(block_parameters(SMALL), 3280.0);
    EXPECT_EQ(other_parameters(SMALL), 100.0 * 16 + 8 * 16 + 32);
    for (const char* name : {"d12", "d24", "d36", "d48", "gpt3:c4096"}) {  // as the table of tensors counts them
        const Config c = config_by_name(name, 50257);
        EXPECT_EQ(all_parameters(c), (double)ParameterList(c).count());
    }
    for (const char* name : {"smollm2:135m", "qwen3:0.6b", "llama3.2:1b", "llama3.1:8b", "llama:d3", "qwen3:d3c48h6k2s24f40", "modern:d3", "modern:d3-no_bias", "modern:d3-rmsnorm-rope-no_bias-untied"}) {
        const Config c = config_by_name(name, 1000);
        EXPECT_EQ(all_parameters(c), (double)ParameterList(c).count());
    }
}

// Llama of C = 48, 6 heads of 8 and 2 of keys and values, FF = 40: a block's matrices are 48 (48 + 2 * 16) + 48 * 48 + 3 * 48 * 40 = 11904. N = 16, s = 2.
TEST(scaling_of_grouped_queries_and_gated_mlps) {
    const Workload w = work(config_by_name("llama:d2c48h6k2f40", 100), 2, 8, 1, 0), qwen = work(config_by_name("qwen3:d2c48h6k2f40", 100), 2, 8, 1, 0);
    const Kernels f = block_forward(w, PLAIN), b = block_backward(w, PLAIN);
    EXPECT_EQ(block_matrices(w.config), 11904.0);
    EXPECT_NEAR(f.products, 2 * 16 * 11904 / 0.8e12 + 2e-9 * (16 * (48 + 80 + 48 + 48 + 48 + 80 + 40 + 48) + 11904));
    EXPECT_NEAR(f.attention, 2.0 * 16 * 48 * 8 / (0.21 * 1e12));
    EXPECT_NEAR(f.gelu, 3 * 2 * 16 * 40 / 0.8e9);           // gate and value read, their product written
    EXPECT_NEAR(b.gelu, 5 * 2 * 16 * 40 / 0.8e9);
    EXPECT_NEAR(f.embedding, 2 * 2 * 16 * 64 / 0.8e9);      // queries and keys read and written
    EXPECT_NEAR(block_forward(qwen, PLAIN).embedding, 2 * 2 * 16 * 80 / 0.8e9);  // values too
    EXPECT_NEAR(block_backward(qwen, PLAIN).embedding, 2 * 2 * 2 * 16 * 80 / 0.8e9);  // and once more before attention's backward
    EXPECT_NEAR(f.gaps, 9e-6);
    Workload r = w;
    r.recompute = 3; EXPECT_NEAR(block_backward(r, PLAIN).sum(), b.sum() + f.sum());
    r.recompute = 1; EXPECT_NEAR(block_backward(r, PLAIN).gelu, f.gelu + b.gelu);
}

// N = 2 * 8 = 16 tokens, s = 2. Forward: 2 * 16 * 3072 = 98304 FLOP at 0.8e12 are 122880 ps; 2 B (16 * 256 + 3072) = 14336 B at 1e9 14336 ns.
TEST(scaling_kernels_by_hand) {
    const Workload w = work(SMALL, 2, 8, 1, 0);
    const Kernels f = block_forward(w, PLAIN), b = block_backward(w, PLAIN), e = classify_and_embed(w, PLAIN);
    EXPECT_NEAR(f.products, 122.880e-9 + 14336e-9);
    EXPECT_NEAR(f.attention, 2.0 * 16 * 16 * 8 / (0.21 * 1e12));            // 2 N NH HS T
    EXPECT_NEAR(f.layernorm, 2 * 4 * 2 * 16 * 16 / 0.8e9);
    EXPECT_NEAR(f.gelu, 2 * 2 * 16 * 64 / 0.8e9);
    EXPECT_NEAR(f.gaps, 7e-6);
    // backward: twice the FLOPs; 2 B (2 * 16 * 256 + 3072) + 4 B * 3072; attention twice the forward
    EXPECT_NEAR(b.products, 245.760e-9 + (2 * (8192 + 3072) + 4 * 3072) * 1e-9);
    EXPECT_NEAR(b.attention, 2 * f.attention);
    EXPECT_EQ(b.gelu, 0.0);
    EXPECT_NEAR(b.layernorm, f.layernorm);
    // head 1600: 6 * 16 * 1600 FLOP; 3 * 2 * 16 * 100 B of logits, (4 + 8) * 1600 of the head and its gradient
    EXPECT_NEAR(e.products, 6 * 16 * 1600 / 0.8e12 + (9600 + 19200) * 1e-9);
    EXPECT_NEAR(e.classifier, 2 * 2 * 16 * 100 / 0.8e9);
    // accumulating, dw is read too
    EXPECT_NEAR(block_backward(work(SMALL, 2, 8, 2, 0), PLAIN).products - b.products, 4 * 3072e-9, 1e-6);
    // recomputation: GELU; GELU and LayerNorm without its sums; all of the forward
    Workload r = w;
    r.recompute = 1; EXPECT_NEAR(block_backward(r, PLAIN).gelu, f.gelu);
    r.recompute = 2; EXPECT_NEAR(block_backward(r, PLAIN).layernorm, 1.5 * f.layernorm);
    r.recompute = 3; EXPECT_NEAR(block_backward(r, PLAIN).sum(), b.sum() + f.sum());
    // fp32: 4 bytes move for 2, but for what is fp32 already
    Workload fp32 = w;
    fp32.size = 4, fp32.master = false;
    EXPECT_NEAR(block_forward(fp32, PLAIN).layernorm, 2 * f.layernorm);
    // our attention: in bf16 by tensor cores, 0.114 of their peak; in fp32 0.24 of the other one
    Workload ours = w;
    ours.cudnn = fp32.cudnn = false;
    EXPECT_NEAR(block_backward(ours, PLAIN).attention * (0.114 * 1e12), b.attention * (0.21 * 1e12));
    EXPECT_NEAR(block_backward(fp32, PLAIN).attention * (0.24 * 1e11), b.attention * (0.21 * 1e12));
    // AdamW: bf16 with masters 34 B a parameter, fp32 32
    const double P = all_parameters(SMALL);
    EXPECT_NEAR(update_seconds(w, PLAIN), 34 * P / 0.8e9);
    EXPECT_NEAR(update_seconds(fp32, PLAIN), 32 * P / 0.8e9);
    EXPECT_NEAR(update_seconds(w, cluster(PLAIN, 4, 1)), 34 * P / 0.8e9);   // stage 0: each rank all of it
    EXPECT_NEAR(update_seconds(work(SMALL, 2, 8, 1, 1), cluster(PLAIN, 4, 2)), 34 * P / 8 / 0.8e9);
}

// Each kernel by itself: N = 16 tokens, s = 2, C = 16, QKV = 48, FF = 64, T = 8, V = 100; a = 4, and 8 where gradients accumulate.
TEST(scaling_counts_each_kernel) {
    struct Count { const char* name; double flops, bytes; };
    const auto expect = [](const KernelCounts& list, const std::vector<Count>& expected) {
        EXPECT_EQ(list.size(), expected.size());
        for (size_t i = 0; i < list.size() && i < expected.size(); i++)
            if (strcmp(list[i].name, expected[i].name) || list[i].flops != expected[i].flops || list[i].bytes != expected[i].bytes)
                FAIL("%s: %.0f FLOPs, %.0f bytes, expected %s: %.0f and %.0f", list[i].name, list[i].flops, list[i].bytes, expected[i].name, expected[i].flops, expected[i].bytes);
    };
    const Workload w = work(SMALL, 2, 8, 1, 0);
    const std::vector<Count> forward = {{"qkv", 24576, 2 * (16 * 64 + 768)}, {"attproj", 8192, 2 * (16 * 32 + 256)}, {"fc", 32768, 2 * (16 * 80 + 1024)}, {"fcproj", 32768, 2 * (16 * 80 + 1024)},
                                        {"attention", 4096, 2048}, {"ln1", 0, 2048}, {"ln2", 0, 2048}, {"gelu", 0, 4096}};
    expect(forward_kernels(w), forward);
    std::vector<Count> backward = {{"dln1", 24576, 3584}, {"dqkvw", 24576, 2048 + 4 * 768}, {"datty", 8192, 1536}, {"dattprojw", 8192, 1024 + 4 * 256}, {"dln2", 32768, 4608},
                                   {"dfcw", 32768, 2560 + 4 * 1024}, {"dfch", 32768, 4608}, {"dfcprojw", 32768, 2560 + 4 * 1024}, {"attention backward", 8192, 4096}, {"ln1 backward", 0, 2048}, {"ln2 backward", 0, 2048}};
    expect(backward_kernels(w), backward);
    Workload again = w;
    again.recompute = 3;
    std::vector<Count> all = backward;
    all.insert(all.end(), forward.begin(), forward.end());
    expect(backward_kernels(again), all);
    again.recompute = 2, all = backward;
    all.insert(all.end(), {{"gelu, again", 0, 4096}, {"ln1, again", 0, 1024}, {"ln2, again", 0, 1024}});
    expect(backward_kernels(again), all);
    for (size_t i : {1, 3, 5, 7}) backward[i].bytes += 4 * backward[i].flops / 32;  // another 4 B of each of in * out weights
    expect(backward_kernels(work(SMALL, 2, 8, 2, 0)), backward);
    Workload chunks = w;
    chunks.chunks = 3;
    expect(other_kernels(chunks), {{"logits", 51200, 3200 + 3 * 3200}, {"dlnf", 51200, 3200 + 3 * 3200}, {"dwte", 51200, 3200 + 3 * 12800}, {"lnf", 0, 2048}, {"lnf backward", 0, 2048},
                                   {"classifier", 0, 6400}, {"embedding", 0, 1536}, {"embedding backward", 0, 3072}});
    // 2 * 3280 + 1600 + 128 + 32 parameters
    expect(update_kernels(w, PLAIN), {{"norm", 0, 4 * 8320}, {"AdamW", 0, 30 * 8320}});
    expect(update_kernels(work(SMALL, 2, 8, 1, 1), cluster(PLAIN, 4, 1)), {{"norm", 0, 8320}, {"AdamW", 0, 30 * 2080}});
    // Muon of 2 * 3072 of them: four matrices (16, 16), two (16, 64) a layer: 5 (4 r r c + 2 r r r) FLOPs each
    Workload muon = work(SMALL, 2, 8, 1, 1);
    muon.muon = true;
    expect(update_kernels(muon, cluster(PLAIN, 4, 1)), {{"norm", 0, 8320}, {"AdamW", 0, 30 * (2080 - 1536)}, {"Muon", 2 * (4 * 122880 + 2 * 368640) / 4.0, (20 + 8 + 58) * 1536}});
}

// The count of LOG 23 as issue 16 corrected it, ms: 124M, 32k tokens a micro-batch, one H100. Chunks of the classifier: 16.
TEST(scaling_gives_the_count_of_a_step) {
    Workload w = GPT2_124M;
    w.chunks = 16;
    const Kernels k = micro_batch(w, h100(1, 1));
    EXPECT_NEAR(1e3 * k.products, 42, 0.08);
    EXPECT_NEAR(1e3 * k.attention, 9, 0.03);
    EXPECT_NEAR(1e3 * k.layernorm, 3.8, 0.03);
    EXPECT_NEAR(1e3 * k.gelu, 1.7, 0.07);
    EXPECT_NEAR(1e3 * k.classifier, 2.5, 0.03);
    EXPECT_NEAR(1e3 * update_seconds(w, h100(1, 1)), 1.6, 0.03);
    EXPECT_NEAR(step_time(w, h100(1, 1)).seconds, 62e-3, 0.05);
    w.cudnn = false;
    EXPECT_NEAR(1e3 * micro_batch(w, h100(1, 1)).attention, 16.5, 0.03);
    // 1558M: 54k tokens a second
    EXPECT_NEAR(GPT2_1558M.N() / step_time(GPT2_1558M, h100(1, 1)).seconds, 54e3, 0.05);
}
// What an H200 took (LOG 102; 49): 0.5M tokens a step of 124M, in bf16 with cuDNN's attention and in fp32 with ours and TF32.
TEST(scaling_beside_a_gpu) {
    const Gpu& gpu = *find_gpu("H200");
    struct Case { int B; double flops, size, chunks, took; };
    for (const Case& k : {Case{64, gpu.bf16, 2, 8, 0.879}, Case{32, gpu.bf16, 2, 4, 0.894}, Case{32, gpu.tf32, 4, 4, 3.555}}) {
        Workload w = work(config_by_name("d12", 50257), k.B, 1024, 512 / k.B, 0);
        w.size = k.size, w.chunks = k.chunks, w.master = w.cudnn = k.size == 2;
        const Cluster one{.flops = 1e12 * k.flops, .fp32 = 1e12 * gpu.fp32, .memory = 1e9 * gpu.memory, .link = 1, .net = 1};
        if (const double step = step_time(w, one).seconds; !near(step, k.took, 0.1)) FAIL("B=%d, %g bytes: %.3f s by the model, %.3f on the GPU", k.B, k.size, step, k.took);
    }
}

// A tensor of 8000 B at 1e9 B/s, of which 0.82 of a link and 0.85 of a network are reached.
TEST(scaling_exchanges_by_hand) {
    EXPECT_EQ(exchange_seconds(8000, PLAIN), 0.0);
    const double link = 8.4e-6 + 3.4e-6, net = 8.4e-6 + 9.6e-6;
    // 8 ranks of a node: each sends 7/8, 7000 B
    EXPECT_NEAR(exchange_seconds(8000, cluster(PLAIN, 8, 1)), link + 7000e-9 / 0.82);
    // 4 nodes of one: each sends 3/4, to 3 others: 3 us
    EXPECT_NEAR(exchange_seconds(8000, cluster(PLAIN, 1, 4)), net + 3e-6 + 6000e-9 / 0.85);
    // 4 nodes of 8: 7/8 in the node, then 3/4 of an eighth between nodes, 750 B
    EXPECT_NEAR(exchange_seconds(8000, cluster(PLAIN, 8, 4)), link + 7000e-9 / 0.82 + net + 3e-6 + 750e-9 / 0.85);
    // of 2 nodes of 3, no power of two, each rank sends each other a sixth, 2666 B in the node and 4000 to the other, to 3 ranks
    EXPECT_NEAR(exchange_seconds(8000, cluster(PLAIN, 3, 2)), net + 3e-6 + 4000e-9 / 0.85);
    Cluster instant = cluster(PLAIN, 8, 4);
    instant.latency = 0;
    EXPECT_NEAR(exchange_seconds(8000, instant), 7000e-9 / 0.82 + 750e-9 / 0.85);
    // 1000 gradients are 4000 B; added: 1000 read, 125 written; then 125 read and 31.25 written, of 4 B at 0.8e9
    EXPECT_NEAR(reduce_seconds(1000, {}, instant), 3500e-9 / 0.82 + 375e-9 / 0.85 + 4 * (1000 + 125 + 125 + 31.25) / 0.8e9);
    // in bf16 half of it travels; rounded: 1000 and 125, widened: 875 and 93.75, of 6 B each; back to all: 1000 widened, 31.25 rounded
    Workload narrow;
    narrow.exchanged = 2;
    EXPECT_NEAR(reduce_seconds(1000, narrow, instant), 1750e-9 / 0.82 + 187.5e-9 / 0.85 + (4 * (1000 + 125 + 125 + 31.25) + 6 * (1000 + 125 + 875 + 93.75)) / 0.8e9);
    EXPECT_NEAR(gather_sums_seconds(1000, narrow, instant), 1750e-9 / 0.82 + 187.5e-9 / 0.85 + 6 * 1031.25 / 0.8e9);
    EXPECT_EQ(gather_sums_seconds(1000, narrow, PLAIN), 0.0);
    EXPECT_EQ(reduce_seconds(1000, narrow, PLAIN), 0.0);
    Workload library;
    library.library_adds = true;
    EXPECT_NEAR(reduce_seconds(1000, library, instant), 3500e-9 / 0.82 + 375e-9 / 0.85);
    EXPECT_EQ(reduce_seconds(1000, {}, PLAIN), 0.0);
    EXPECT_NEAR(small_reduce_seconds(cluster(PLAIN, 8, 4)), link + net + 3e-6);
}

// What travels: weights in their own type, gradients in fp32; in stage 0 their sums come back in fp32, and no weights.
TEST(scaling_what_travels) {
    const Cluster on = cluster(PLAIN, 8, 4);
    for (const double size : {2.0, 4.0})
        for (int zero = 0; zero <= 3; zero++) {
            Workload w = work(SMALL, 2, 8, 1, zero);
            w.size = size;
            const scaling_detail::Parts p = scaling_detail::parts_of(w, on);
            EXPECT_NEAR(p.gather_block, exchange_seconds(size * 3280, on));
            EXPECT_NEAR(p.gather_rest, exchange_seconds(size * 1760, on));
            EXPECT_NEAR(p.reduce_block, reduce_seconds(3280, w, on) + (zero == 0 ? gather_sums_seconds(3280, w, on) : 0));
            EXPECT_NEAR(p.reduce_rest, reduce_seconds(1760, w, on) + (zero == 0 ? gather_sums_seconds(1760, w, on) : 0));
        }
}

namespace {
// The timeline alone: parts whose times are given.
scaling_detail::Streams timeline(scaling_detail::Parts p, int layers, int accum, int zero) {
    Workload w = work(SMALL, 1, 8, accum, zero);
    w.config.L = layers;
    return scaling_detail::all_micro_batches(p, w, accum);
}
}  // namespace

// forward 1 and backward 2 a block, 3 for the rest; two blocks: 9 of compute.
TEST(scaling_timeline_by_hand) {
    using scaling_detail::Streams;
    // stage 0 and 1, reduce 2 a block and 5 of the rest. Backward of block 1 ends at 7, of block 0 at 9; reductions end at 9, 11, 16
    Streams s = timeline({.forward = 1, .backward = 2, .rest = 3, .reduce_block = 2, .reduce_rest = 5}, 2, 1, 0);
    EXPECT_EQ(s.compute, 9.0);
    EXPECT_EQ(s.exchange, 16.0);
    EXPECT_EQ(s.communication, 9.0);
    // what is slower than the backward waits in line: 7 + 4, + 4, + 5
    s = timeline({.forward = 1, .backward = 2, .rest = 3, .reduce_block = 4, .reduce_rest = 5}, 2, 1, 0);
    EXPECT_EQ(s.exchange, 20.0);
    // two micro-batches: reduced in the last alone, hidden but for the end, 9 + 16
    s = timeline({.forward = 1, .backward = 2, .rest = 3, .reduce_block = 2, .reduce_rest = 5}, 2, 2, 1);
    EXPECT_EQ(s.compute, 18.0);
    EXPECT_EQ(s.exchange, 25.0);
    EXPECT_EQ(s.communication, 9.0);
    // stage 2: in both
    EXPECT_EQ(timeline({.forward = 1, .backward = 2, .rest = 3, .reduce_block = 2, .reduce_rest = 5}, 2, 2, 2).communication, 18.0);
    // stage 1's weights: the rest and block 0 arrive at 1.5, block 1 at 2, while block 0 is computed from 1.5 to 2.5
    s = timeline({.forward = 1, .backward = 2, .rest = 3, .gather_block = 0.5, .gather_rest = 1}, 2, 1, 1);
    EXPECT_EQ(s.compute, 10.5);
    EXPECT_EQ(s.communication, 2.0);
    // slower than the forward, 4 a block: block 0 at 5, block 1 at 9; it ends at 10, and all at 17
    s = timeline({.forward = 1, .backward = 2, .rest = 3, .gather_block = 4, .gather_rest = 1}, 2, 1, 1);
    EXPECT_EQ(s.compute, 17.0);
    // a second micro-batch has them already
    EXPECT_EQ(timeline({.forward = 1, .backward = 2, .rest = 3, .gather_block = 4, .gather_rest = 1}, 2, 2, 1).compute, 26.0);
    // stage 0 gathers no weights
    EXPECT_EQ(timeline({.forward = 1, .backward = 2, .rest = 3, .gather_block = 4, .gather_rest = 1}, 2, 1, 0).communication, 0.0);
    // stage 3, three blocks: forward gathers the rest, 0, 1, 2, a block ahead, the backward 1 and 0 again: 1 + 5 * 0.5
    s = timeline({.forward = 1, .backward = 2, .rest = 3, .gather_block = 0.5, .gather_rest = 1}, 3, 1, 3);
    EXPECT_EQ(s.communication, 3.5);
    EXPECT_EQ(s.compute, 1.5 + 3 + 3 + 6);
    // a second micro-batch: 1 and 2 forward, 1 and 0 backward, all hidden
    s = timeline({.forward = 1, .backward = 2, .rest = 3, .gather_block = 0.5, .gather_rest = 1}, 3, 2, 3);
    EXPECT_EQ(s.communication, 5.5);
    EXPECT_EQ(s.compute, 1.5 + 2 * 12);
    // slower than the forward: a block ahead, no further. 0 at 5; 0 computes to 6 while 1 arrives at 9; 1 to 10 while 2 arrives at 13; 2 to 14, the
    // rest to 17; 2 back to 19 while 1 arrives at 21; 1 to 23 while 0 arrives at 25; 0 to 27
    EXPECT_EQ(timeline({.forward = 1, .backward = 2, .rest = 3, .gather_block = 4, .gather_rest = 1}, 3, 1, 3).compute, 27.0);
    // stage 3 with reductions on the same stream: block 2 back from 7.5 to 11.5, its reduction to 14.5, then block 0's weights arrive at 15, before
    // block 1 ends at 15.5: nobody waits for a reduction. Reductions end at 18.5, 22.5
    s = timeline({.forward = 1, .backward = 4, .rest = 3, .gather_block = 0.5, .gather_rest = 1, .reduce_block = 3}, 3, 1, 3);
    EXPECT_EQ(s.compute, 19.5);
    EXPECT_EQ(s.exchange, 22.5);
}

// Many micro-batches are not simulated one by one.
TEST(scaling_of_many_micro_batches) {
    for (int zero = 0; zero <= 3; zero++) {
        Workload w = EIGHT_B;
        w.zero = zero, w.grad_accum = 40;
        const Cluster on = h100(8, 16);
        const scaling_detail::Streams all = scaling_detail::all_micro_batches(scaling_detail::parts_of(w, on), w, 40);
        const Step step = step_time(w, on);
        EXPECT_NEAR(step.seconds, std::max(all.compute, all.exchange) + small_reduce_seconds(on) + step.update);
        EXPECT_NEAR(step.communication, all.communication + small_reduce_seconds(on));
    }
}

TEST(scaling_limits) {
    for (const Workload& model : {GPT2_124M, GPT2_1558M, EIGHT_B})
        for (int zero = 0; zero <= 3; zero++)
            for (int accum : {1, 4}) {
                Workload w = model;
                w.zero = zero, w.grad_accum = accum;
                // one GPU: nothing to exchange
                const Step one = step_time(w, h100(1, 1));
                EXPECT(one.communication == 0 && one.exposed == 0);
                EXPECT_NEAR(one.seconds, one.compute + one.update);
                EXPECT_STR(limit_of(w, h100(1, 1)), "compute");
                // exchanges that take no time: compute alone, but for our kernel that adds, which reads device memory
                Cluster free = h100(8, 16);
                free.link = free.net = 1e300, free.latency = 0;
                const Step hidden = step_time(w, free);
                const double add = reduce_seconds(other_parameters(w.config), w, free) + reduce_seconds(block_parameters(w.config), w, free);
                if (hidden.exposed > add * (1 + 1e-9)) FAIL("stage %d: %g s exposed, %g of adding", zero, hidden.exposed, add);
                EXPECT_NEAR(hidden.seconds, hidden.compute + hidden.exposed + hidden.update);
                // more GPUs with the same batch each never make a step faster, but for the update, which they share
                double before = 0;
                for (int gpus = 1; gpus <= 8192; gpus *= 2) {
                    const Step step = step_time(w, h100(std::min(gpus, 8), std::max(gpus / 8, 1)));
                    if (step.seconds - step.update < before * (1 - 1e-12)) FAIL("stage %d, %d GPUs: %g s, %g with half", zero, gpus, step.seconds - step.update, before);
                    before = step.seconds - step.update;
                    EXPECT(step.exposed <= step.communication * (1 + 1e-9));
                }
                // a faster network never makes it slower, and slower than it is here never faster
                Cluster slow = h100(8, 16), fast = h100(8, 16);
                slow.net /= 4, fast.net *= 4;
                EXPECT(step_time(w, slow).seconds >= step_time(w, h100(8, 16)).seconds && step_time(w, fast).seconds <= step_time(w, h100(8, 16)).seconds);
            }
}

TEST(scaling_names_what_limits) {
    EXPECT_STR(limit_of(GPT2_1558M, h100(8, 1)), "compute");
    Workload w = EIGHT_B;
    Cluster slow = h100(8, 128);
    slow.net = 10e9 / 8;  // 10 Gb/s
    EXPECT_STR(limit_of(w, slow), "network");
    w = work({.V = 512, .L = 12, .NH = 4, .C = 256}, 32, 1024, 1, 3);  // 10M parameters: what they send is less than what each message costs
    EXPECT_STR(limit_of(w, h100(8, 1024)), "latency");
    w = GPT2_124M;
    w.B = 1, w.T = 64;
    EXPECT_STR(limit_of(w, h100(1, 1)), "batch");
}

// 512 sequences in a step: no more than 512 GPUs have one each.
TEST(scaling_stops) {
    Cluster free = h100(8, 1);
    free.link = free.net = 1e300, free.latency = 0;
    Workload w = work({.V = 512, .L = 38, .NH = 32, .C = 4096}, 16, 1024, 4, 1);  // 8 * 4 * 16 = 512
    const Stop at_most = where_it_stops(w, free);
    EXPECT(at_most.ranks >= 128 && at_most.ranks <= 512);
    EXPECT_STR(at_most.why, "batch");
    // 8 ranks with three sequences each: 24, which 16 ranks do not share
    EXPECT_EQ(where_it_stops(work(SMALL, 3, 8, 1, 1), free).ranks, 8);
    EXPECT_EQ(where_it_stops(work(SMALL, 3, 8, 1, 1), cluster(free, 1, 1)).ranks, 1);
    // 10 Gb/s: not beyond the node
    Cluster slow = h100(8, 1);
    slow.net = 10e9 / 8;
    const Stop network = where_it_stops(w, slow);
    EXPECT_EQ(network.ranks, 8);
    EXPECT_STR(network.why, "network");
    // a better network never stops it sooner
    EXPECT(where_it_stops(GPT2_124M, h100(8, 1)).ranks >= where_it_stops(GPT2_124M, slow).ranks);
    // as the plan of the same step on other GPUs says
    Workload more = w;
    more.grad_accum = 1;
    EXPECT_EQ(where_it_stops(more, h100(8, 4)).ranks, where_it_stops(w, h100(8, 1)).ranks);
}

// Not ours, and of other programs: what they measured, beside what this model says of the same sizes. Sources: doc/scaling.md.
TEST(scaling_beside_published_runs) {
    const auto rate = [](const Workload& w, const Cluster& on) { return w.N() * w.grad_accum / step_time(w, on).seconds; };  // tokens/s of a GPU
    // torchtitan, Llama 3.1 8B, 2 x 8192 tokens a GPU, FSDP: 6667 tokens/s on each of 8 GPUs, 6514 on each of 128: 97.7 %
    Arch llama = FAMILIES[LLAMA];
    llama.tied = false;
    const Workload eight = work({.arch = llama, .max_T = 8192, .V = 128256, .L = 32, .NH = 32, .C = 4096, .NKV = 8, .HS = 128, .FF = 14336}, 2, 8192, 1, 3);
    EXPECT_NEAR(rate(eight, h100(8, 16)) / rate(eight, h100(8, 1)), 0.977, 0.02);
    EXPECT_NEAR(rate(eight, h100(8, 16)) / rate(eight, h100(8, 1)), 0.994, 0.001);  // as doc/scaling.md has it; and so below
    EXPECT_NEAR(rate(eight, h100(8, 1)), 9970, 0.001);
    // llmq, Qwen2.5 1.5B in bf16, 524288 tokens a step in micro-batches of 32 x 1024: 58.9k tokens/s on one H100, 457k on eight: 97.1 %
    Workload qwen = work({.arch = llama, .max_T = 1024, .V = 151936, .L = 28, .NH = 12, .C = 1536, .NKV = 2, .HS = 128, .FF = 8960}, 32, 1024, 16, 1);
    qwen.config.arch.tied = true;
    Workload qwen8 = qwen;
    qwen8.grad_accum = 2;
    EXPECT_NEAR(rate(qwen8, h100(8, 1)) / rate(qwen, h100(1, 1)), 0.971, 0.03);
    EXPECT_NEAR(rate(qwen, h100(1, 1)), 58.9e3, 0.2);
    EXPECT_NEAR(rate(qwen, h100(1, 1)), 56.5e3, 0.001);
    EXPECT_NEAR(rate(qwen8, h100(8, 1)) * 8, 450e3, 0.001);
    // llm.c, GPT-2 1558M, 32000 steps of 2^20 tokens on 8 H100 in 24 hours
    Workload c = GPT2_1558M;
    c.grad_accum = 8, c.chunks = 2;
    EXPECT_NEAR(32000 * step_time(c, h100(8, 1)).seconds / 3600, 24, 0.15);
    EXPECT_NEAR(step_time(c, h100(8, 1)).seconds, 2.394, 0.001);
}
