// What a step asks of the host and launches on the device, as the trainer's own run is traced: nothing waits, allocates or clears
// that need not, and no kernel is launched that the model's depth does not account for.
#include <algorithm>
#include "../trainer_runs.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/steps";
constexpr int L = 2, STEPS = 3, GRAD_ACCUM = 2;

// The lines of a run of a few steps, from the first graph that is launched on.
const std::vector<std::string>& traced() {
    static std::vector<std::string> lines;
    if (!lines.empty()) return lines;
    remove_tree(SCRATCH);
    make_folders(SCRATCH);
    write_file_atomically(SCRATCH + "/text.txt", std::string(400, 'a') + std::string(400, 'b'));
    const std::string run = format("EMU_TRACE=%s/trace %s -i %s/text.txt -o %s/out -e d%dc16h2 -b 1 -t 33 -d %d -x %d -v 0 -s 0 -n 0 --precision bf16 "
                                   "--attention ours --cache %s/cache", SCRATCH.c_str(), CUDA_TRAINER, SCRATCH.c_str(), SCRATCH.c_str(), L, 33 * GRAD_ACCUM, STEPS, SCRATCH.c_str());
    Outcome outcome = run_command(run);
    if (outcome.code) FAIL("%s: exit code %d: %s", run.c_str(), outcome.code, outcome.output.c_str());
    const std::string text = read_file(SCRATCH + "/trace");
    const size_t first = text.find("call cudaGraphLaunch");
    if (first != text.npos) lines = lines_of(text.substr(first));
    return lines;
}
template <class Lines> int count(const Lines& lines, const char* part) {
    return (int)std::count_if(lines.begin(), lines.end(), [&](const std::string& line) { return line.find(part) != line.npos; });
}
}  // namespace

TEST(a_step_waits_once) {
    const std::vector<std::string>& lines = traced();
    EXPECT_EQ(count(lines, "wait "), STEPS);  // for its statistics
    EXPECT_EQ(count(lines, "wait event"), STEPS);
    for (const char* call : {"alloc", "Alloc", "Free", "Memset", "work cudaMemset"}) if (int n = count(lines, call)) FAIL("%s: %d calls", call, n);
    // from a step's first graph to its second, which is recorded by then: the copies of a batch, and the graph
    std::vector<std::string> calls;
    int graphs = 0;
    for (const std::string& line : lines) {
        if (graphs == GRAD_ACCUM + 1 && line.starts_with("call ")) calls.push_back(line);
        graphs += line == "call cudaGraphLaunch";
    }
    EXPECT(calls == std::vector<std::string>({"call cudaMemcpyAsync", "call cudaMemcpyAsync", "call cudaGraphLaunch"}));
}

TEST(a_step_launches_what_its_depth_needs) {
    std::vector<std::string> step;  // the work of the second step
    int updates = 0;
    for (const std::string& line : traced()) {
        if (updates == 1 && line.starts_with("work ")) step.push_back(line);
        updates += line.starts_with("work adamw");
    }
    const int norms = 2 * L + 1;  // LayerNorms
    struct { const char* name; int micro_step, accumulating, update; } expected[] = {
        {"cublasLtMatmul ", 3 * (4 * L + 1), 0, 0},      // forward, for the input and for the weight, of a block's four and the head
        {"matmul_detail::add_kernel", 0, 4 * L, 0},      // a bias's gradient
        {"gelu_detail::forward", 0, 0, 0},               // in the epilogue of its product
        {"attention_detail::attention_", 4 * L, 0, 0},   // one forward, three backward
        {"layernorm_detail::forward", norms, 0, 0},
        {"layernorm_detail::backward", norms, 0, 0},
        {"column_sums_detail::reduce_partials", norms, 0, 0},
        {"embedding_detail::forward", 1, 0, 0},
        {"embedding_detail::", 1 + 3 * 3 + 3, 0, 0},     // three passes of the radix sort, and three sums: 33 tokens are two slices
        {"classifier_detail::", 1, 0, 0},
        {"step_guard_detail::sum", 1, 0, 0},
        {"cudaMemcpy", 2, 0, 2},                         // inputs, targets; a leaf's losses, the statistics
        {"gradients_detail::", 0, 0, 1}, {"step_guard_detail::guard_step", 0, 0, 1}, {"adamw_detail::", 0, 0, 1},
    };
    int all = -GRAD_ACCUM;  // the embedding's forward stands in two rows
    for (auto& e : expected) {
        const int n = GRAD_ACCUM * e.micro_step + (GRAD_ACCUM - 1) * e.accumulating + e.update, found = count(step, e.name);
        if (found != n) FAIL("%s: %d of them in a step, expected %d", e.name, found, n);
        all += n;
    }
    EXPECT_EQ((int)step.size(), all);
}
