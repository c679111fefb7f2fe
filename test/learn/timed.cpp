// timed.cpp: what dev/learn/timing.h says of an exercise's parts, on the emulator, by a clock that is made up: no GPU is needed, and none is measured. `make check-learn`
#include "../test.h"
#include "../../dev/learn/timing.h"

constexpr const char* FILE_OF_PARTS = "build/learn/timed.txt";
__global__ void twice_kernel(float* out, const float* inp, int n, int except) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && i != except) out[i] = 2 * inp[i];
}
__global__ void added_kernel(float* sums, const float* inp, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sums[i] += inp[i];
}
__global__ void endless_kernel(float* out) { while (*(volatile float*)out != 1) {} }
__global__ void spoiling_kernel(float* inp) { inp[0] = 7; }

using namespace learn;
namespace {
constexpr Size SMALL = {3, 7}, LARGE = {16, 256};
constexpr double BYTES = 2 * 4.0 * 16 * 256;  // of what `right` reads and writes at the large size
Doubles doubled(Doubles x) { for (double& e : x) e *= 2; return x; }

template <class Body> void twice(Trial& t, Size s, Body body) {
    const Doubles x = t.normal((size_t)s.N * (size_t)s.C);
    float* out = t.result("out", x.size(), s.C);
    const float* inp = t.given("inp", x, s.C);
    t.run([&] { body(out, inp, (int)x.size()); });
    t.expect("out", doubled(x), 1e-30);
}
void right(Trial& t, Size s) { twice(t, s, [&](float* out, const float* inp, int n) { launch(twice_kernel, over((size_t)n, 64), t.stream, out, inp, n, -1); }); }
void unwritten(Trial& t, Size s) { twice(t, s, [&](float* out, const float* inp, int n) { launch(twice_kernel, over((size_t)n, 64), t.stream, out, inp, n, t.is_large() ? 1030 : -1); }); }
void endless(Trial& t, Size s) { twice(t, s, [&](float* out, const float*, int) { launch(endless_kernel, {1, 1}, t.stream, out); }); }
void many_threads(Trial& t, Size s) { twice(t, s, [&](float* out, const float* inp, int n) { launch(twice_kernel, {1, 2048}, t.stream, out, inp, n, -1); }); }
// As a GPU's memory answers; the emulator has a handler of its own.
void on_the_host(Trial& t, Size s) { twice(t, s, [&](float*, const float*, int) { signal(SIGSEGV, SIG_DFL), raise(SIGSEGV); }); }
void spoiled(Trial& t, Size s) { twice(t, s, [&](float*, const float* inp, int) { launch(spoiling_kernel, {1, 1}, t.stream, (float*)inp); }); }
// sums +=: of all its runs the first one counts.
void added(Trial& t, Size s) {
    const Doubles x = t.normal((size_t)s.N * (size_t)s.C), before(x.size(), 1);
    float* sums = t.changed("sums", before);
    const float* inp = t.given("inp", x);
    t.run([&] { launch(added_kernel, over(x.size(), 64), t.stream, sums, inp, (int)x.size()); });
    Doubles after = x;
    for (double& e : after) e = (float)(e + 1);
    t.expect("sums", after, 1e-30);
}
// Longer than a run on the GPU may take, but on the host.
void slow_table(Trial& t, Size s) { right(t, s), usleep(2'500'000); }

// 21 times 2 us or so, then of the copy 21 times 1.5 us: the median is neither the mean nor the least. And what the host has asked for in each.
std::vector<std::string> g_calls, g_wrong_calls;
int g_turns = 0;
size_t g_filled = 0;  // bytes of the cache, by the last run
float clock_of_the_test(cudaEvent_t, cudaEvent_t) {
    const bool copy = g_turns++ >= REPEATS;
    const int i = g_turns % 3;
    std::vector<std::string> expected = {"cudaMemsetAsync", "cudaEventRecord", copy ? "cudaMemcpyAsync" : "cudaLaunchKernelEx", "cudaEventRecord", "cudaDeviceSynchronize"};
    while (g_calls.size() > expected.size()) g_calls.erase(g_calls.begin());
    if (g_filled < (g_other_bytes ? g_other_bytes : 100u << 20)) die("the cache has %zu other bytes", g_filled);  // the emulator's L2 holds 50 MB
    if (g_calls != expected) {
        std::string text;
        for (auto& c : g_calls) text += " " + c;
        die("calls:%s", text.c_str());
    }
    return (copy ? 1.5e-3f : 2e-3f) * (i == 0 ? 1 : i == 1 ? 9 : 0.5f);
}

struct Said { int code; std::vector<std::string> lines; };
Said said_of(const std::vector<Part>& parts, const std::vector<int>& numbers, const char* gpu = "NVIDIA H100 80GB HBM3", unsigned seconds = 1000, size_t other_bytes = 4096) {
    std::string file;
    for (size_t i = 0; i < parts.size(); i++) file += format("// ---- %zu. a part\n", i + 1);
    write_file_atomically(FILE_OF_PARTS, file);
    const Outcome o = run_child([&] {
        setenv("EMU_GPU_NAME", gpu, 1), setenv("EMU_PROTECT", "1", 1);
        g_milliseconds = clock_of_the_test, g_seconds = seconds, g_other_bytes = other_bytes;
        emu::listener() = [](const emu::Event& e) {
            if (e.kind == emu::Event::CALL && e.name != "cudaGetLastError") g_calls.push_back(e.name);
            if (e.kind == emu::Event::WORK && e.name == "cudaMemsetAsync") g_filled = e.moved.written;
        };
        _exit(Timing(FILE_OF_PARTS).time(parts, numbers));
    });
    Said said{o.code, lines_of(o.output)};
    return said;
}
std::string line_of(const Part& part, const char* gpu = "NVIDIA H100 80GB HBM3", unsigned seconds = 1000) {
    const Said s = said_of({part}, {1}, gpu, seconds);
    return s.lines.size() == 2 && s.lines[1].starts_with("1. a part ") ? s.lines[1].substr(10) : "not one line";
}
}  // namespace

TEST(of_memory) {
    const Said s = said_of({{right, {SMALL}, true, {}, {LARGE}}}, {1}, "NVIDIA H100 80GB HBM3", 1000, 0);
    EXPECT_EQ(s.code, 0);
    EXPECT_EQ(s.lines.size(), 2u);
    EXPECT_STR(s.lines[0], "on NVIDIA H100 80GB HBM3, median of 21 runs, each with an L2 cache that holds something else; a copy: cudaMemcpy of as many bytes in the same run; the peak: of the data sheet");
    EXPECT_STR(s.lines[1], format("1. a part       2.0 us  %.0f GB/s, 75 %% of a copy's %.0f", BYTES / 2e-6 * 1e-9, BYTES / 1.5e-6 * 1e-9));
}
TEST(of_arithmetic) {  // 1.8e9 operations take 27 us at the peak of 66.9 TFLOP/s
    EXPECT_STR(line_of({right, {SMALL}, true, {}, {LARGE, 1.8e9}}), "      2.0 us  900 TFLOP/s, 1345 % of the peak of 66.9 (fp32)");
    EXPECT_STR(line_of({right, {SMALL}, true, {}, {LARGE, 1.8e9, BF16}}), "      2.0 us  900 TFLOP/s, 91 % of the peak of 989 (bf16)");
}
TEST(of_the_nearer_limit) { EXPECT(line_of({right, {SMALL}, true, {}, {LARGE, 1e6}}).find("75 % of a copy's") != std::string::npos); }
TEST(of_a_gpu_that_is_not_known) { EXPECT(line_of({right, {SMALL}, true, {}, {LARGE, 1.8e9}}, "a GPU").ends_with("; 900 TFLOP/s, of a peak that is not known")); }
TEST(the_first_run_counts) { EXPECT(line_of({added, {SMALL}, true, {}, {LARGE}}).find("% of a copy's") != std::string::npos); }
TEST(a_table_may_take_its_time) { EXPECT_STR(line_of({slow_table, {SMALL, SMALL}, true}, "a GPU", 2), "right; not timed"); }
TEST(what_is_not_timed) { EXPECT_STR(line_of({right, {SMALL}, true}), "right; not timed"); }
TEST(wrong_at_the_large_size_alone) {
    EXPECT(line_of({unwritten, {SMALL}, true, {}, {LARGE}}).starts_with("WRONG on the GPU, right on the emulator: at N=16, C=256: out[4][6] was never written, or comes of what was not; the others of 4096 are right"));
    EXPECT_EQ(said_of({{unwritten, {SMALL}, true, {}, {LARGE}}}, {1}).code, 1);
}
TEST(an_input_that_changes) { EXPECT(line_of({spoiled, {SMALL}, true, {}, {LARGE}}).starts_with("WRONG on the GPU, right on the emulator: at N=3, C=7: inp has changed")); }
TEST(a_kernel_that_does_not_end) { EXPECT(line_of({endless, {SMALL}, true, {}, {LARGE}}, "a GPU", 1).starts_with("FAILED on the GPU: at N=3, C=7: not ended after 1 second")); }
TEST(a_launch_that_fails) { EXPECT(line_of({many_threads, {SMALL}, true, {}, {LARGE}}).starts_with("FAILED on the GPU: at N=3, C=7: cudaErrorInvalid")); }
TEST(memory_of_the_gpu_alone) { EXPECT(line_of({on_the_host, {SMALL}, true, {}, {LARGE}}).starts_with("FAILED on the GPU: at N=3, C=7: the host read or wrote memory")); }
// The emulator's memory begins so anyway; a GPU's holds what was there before.
TEST(what_nobody_has_written) {
    const Outcome o = run_child([] {
        uint32_t* p = nullptr;
        uint32_t bits[3] = {1, 2, 3};
        CUDA_CHECK(cudaMalloc(&p, sizeof bits));
        CUDA_CHECK(cudaMemcpy(p, bits, sizeof bits, cudaMemcpyHostToDevice));
        Device::poison(p, 8);
        Device::read(bits, p, sizeof bits);
        printf("%x %x %x", bits[0], bits[1], bits[2]), fflush(stdout);
        _exit(0);
    });
    EXPECT_STR(o.output, "ffffffff ffffffff 3");
}
// What fails ends its own process alone.
TEST(parts_that_are_asked_for) {
    const std::vector<Part> parts = {{endless, {SMALL}, true}, {many_threads, {SMALL}, true, {}, {LARGE}}, {right, {SMALL}, true}};
    const Said s = said_of(parts, {2, 3});
    EXPECT_EQ(s.code, 1);
    EXPECT_EQ(s.lines.size(), 3u);
    EXPECT_STR(s.lines[2], "3. a part right; not timed");
    const Said all = said_of({{right, {SMALL}, true}, {on_the_host, {SMALL}}, {right, {SMALL}, true}}, {});  // those that run on a GPU
    EXPECT(all.code == 0 && all.lines.size() == 3 && all.lines[2] == "3. a part right; not timed");
}
TEST(no_gpu) {
    const Outcome o = run_child([] { setenv("EMU_GPUS", "0", 1), _exit(Timing(FILE_OF_PARTS).time({}, {})); });
    EXPECT_EQ(o.code, 1);
    EXPECT(o.output.starts_with("time on a GPU: not measured: rank 0 of this machine, but 0 GPUs are visible"));  // the runtime itself says cudaErrorNoDevice
    EXPECT_EQ(lines_of(o.output).size(), 1u);
}
