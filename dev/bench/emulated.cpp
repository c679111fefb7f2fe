// emulated.cpp: what can be measured of the GPU's step without a GPU: whole steps of the trainer in the emulator, every access to
// device memory counted. For each layer and kernel the bytes that it moves beside the layer's minimum traffic (minimum_traffic.h),
// launches, calls and waits of the host; registers and spills as nvcc says them, main loops as the machine code has them (dev/sass.h).
//     build/emu-watch/bench_emulated RESULTS.jsonl KERNELS        KERNELS: what dev/nvcc_check.sh printed
#include <map>
#include <set>
#include <cuda_on_cpu.h>
#include "../../llmc/data/shards.h"
#include "minimum_traffic.h"
#include "results.h"

// ---- who is at work: a call of a layer in train_gpt2.cu says so before it happens, and when it is over -----------------------
// What stands in no such call, because minimum_traffic.h has no formula for it, is listed as "not counted".

struct Call { const char* layer; double minimum; };
static const Call NOT_COUNTED{"not counted", 0};
static void begin_call(const char* layer, double minimum);
static void end_call() { emu::label() = &NOT_COUNTED; }
#define COUNTED(layer, ...) (begin_call(#layer, minimum_traffic::layer(__VA_ARGS__)), layer(__VA_ARGS__), end_call())
#define copy_to_device(...) COUNTED(copy_to_device, __VA_ARGS__)
#define copy_to_host(...) COUNTED(copy_to_host, __VA_ARGS__)
#define embedding_forward(...) COUNTED(embedding_forward, __VA_ARGS__)
#define embedding_backward(...) COUNTED(embedding_backward, __VA_ARGS__)
#define layernorm_forward(...) COUNTED(layernorm_forward, __VA_ARGS__)
#define residual_layernorm_forward(...) COUNTED(residual_layernorm_forward, __VA_ARGS__)
#define layernorm_backward(...) COUNTED(layernorm_backward, __VA_ARGS__)
#define matmul_forward(...) COUNTED(matmul_forward, __VA_ARGS__)
#define matmul_backward_input(...) COUNTED(matmul_backward_input, __VA_ARGS__)
#define matmul_backward_weight(...) COUNTED(matmul_backward_weight, __VA_ARGS__)
#define attention_forward(...) COUNTED(attention_forward, __VA_ARGS__)
#define attention_backward(...) COUNTED(attention_backward, __VA_ARGS__)
#define rope_forward(...) COUNTED(rope_forward, __VA_ARGS__)
#define rope_backward(...) COUNTED(rope_backward, __VA_ARGS__)
#define swiglu_forward(...) COUNTED(swiglu_forward, __VA_ARGS__)
#define swiglu_backward(...) COUNTED(swiglu_backward, __VA_ARGS__)
#define relu2_forward(...) COUNTED(relu2_forward, __VA_ARGS__)
#define relu2_backward(...) COUNTED(relu2_backward, __VA_ARGS__)
#define fused_classifier(...) COUNTED(fused_classifier, __VA_ARGS__)
#define sum_losses(...) COUNTED(sum_losses, __VA_ARGS__)
#define sum_gradients(...) COUNTED(sum_gradients, __VA_ARGS__)
#define add_gradients(...) COUNTED(add_gradients, __VA_ARGS__)
#define guard_step(...) COUNTED(guard_step, __VA_ARGS__)
#define adamw_update(...) COUNTED(adamw_update, __VA_ARGS__)
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"

// ---- what happened ------------------------------------------------------------------------------------------------------

struct Moved {  // by so many launches, or calls
    int times = 0;
    double read = 0, written = 0, touched = 0;
    void add(const emu::Traffic& t) { read += (double)t.read, written += (double)t.written, touched += (double)(t.distinct_read + t.distinct_written); }
    bool operator==(const Moved&) const = default;
};
struct Layer {
    std::string name;
    Moved all{};
    double minimum = 0;
    std::map<std::string, Moved> kernels{};
    bool operator==(const Layer&) const = default;
};
enum Part { OPENS, ADDS, UPDATES };  // a step's first micro-step, those that accumulate, the update
struct CountedStep {
    std::vector<Layer> layers[3];
    std::map<std::string, int> calls[3];  // of the host
    int launches(Part part) const {
        int n = 0;
        for (const Layer& l : layers[part]) for (auto& [name, k] : l.kernels) n += name.starts_with("cuda") ? 0 : k.times;  // copies are none
        return n;
    }
};
// Where in the run the host is, or the device: a micro-step begins with the copies of its batch, an update with the norm.
struct RunPosition {
    int step = 0;
    Part part = UPDATES;
    std::string before;
    void meet(const std::string& what) {
        if (what == "copy_to_device" && before != what) step += part == UPDATES, part = part == UPDATES ? OPENS : ADDS;
        if (what == "sum_gradients") part = UPDATES;
        before = what;
    }
};
static std::map<int, CountedStep> g_steps;
static RunPosition g_host, g_device;
static int g_waits;              // of the host, since the first graph was launched
static bool g_training;

static void begin_call(const char* layer, double minimum) {
    emu::label() = new Call{layer, minimum};  // as long as the graphs that it is in
    g_host.meet(layer);
}

static void count_event(const emu::Event& e) {
    if (e.kind == emu::Event::CALL) {
        if (e.name == "cudaGraphLaunch") g_host.meet(e.name), g_training = true;
        g_steps[g_host.step].calls[g_host.part][e.name]++;
    }
    if (e.kind == emu::Event::WAIT && g_training) g_waits++;
    if (e.kind != emu::Event::WORK || !e.label) return;
    static const Call* before;
    const Call& call = *(const Call*)e.label;
    const bool begins = &call != before;
    before = &call;
    if (begins && &call != &NOT_COUNTED) g_device.meet(call.layer);
    std::vector<Layer>& layers = g_steps[g_device.step].layers[g_device.part];
    auto layer = std::find_if(layers.begin(), layers.end(), [&](const Layer& l) { return l.name == call.layer; });
    if (layer == layers.end()) layer = layers.insert(layer, Layer{call.layer});
    if (begins) layer->minimum += call.minimum, layer->all.times++;
    layer->all.add(e.moved);
    Moved& kernel = layer->kernels[e.name];
    kernel.add(e.moved), kernel.times++;
}

// ---- the run: GPT-2's shapes, small: heads of 64, an MLP of 4 C, a vocabulary that is no multiple of anything ---------------

static const struct { const char* model = "d2c256h4"; int B = 2, T = 128, V = 1021, grad_accum = 2, steps = 3; } SIZE;

static void train_emulated() {
    const std::string folder = "build/bench/emulated";
    remove_tree(folder);
    make_folders(folder);
    // a text of words as rare as in a language, the same T tokens again and again: every batch has as many different ones
    std::vector<int> tokens(100 * SIZE.T);
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = (int)std::pow((double)SIZE.V, uniform(philox(1, RNG_TEST, 0, i % SIZE.T).x[0])) - 1;
    minimum_traffic::g_tokens = (double)std::set<int>(tokens.begin(), tokens.end()).size();
    ShardWriter shard(folder + "/text.bin", 50257);
    shard.add(tokens.data(), tokens.size());
    shard.finish();
    std::vector<std::string> words = {"train_gpt2cu", "-i", folder + "/text.bin", "-o", folder + "/out", "-e", SIZE.model, "-b", std::to_string(SIZE.B), "-t", std::to_string(SIZE.T),
                                      "-d", std::to_string(SIZE.B * SIZE.T * SIZE.grad_accum), "-x", std::to_string(SIZE.steps),
                                      "-v", "0", "-s", "0", "-n", "0", "--precision", "bf16", "--attention", "ours"};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    Run run = prepare(parse_options((int)argv.size(), argv.data()), Comm(), false);
    run.config.V = SIZE.V, run.config.max_T = SIZE.T;  // not those of the file's format
    std::unique_ptr<Model<bf16>> model = plan_model<bf16>(run);
    finish_preparing(run);
    model->allocate();
    initialize(*model, run.opt.init_std, run.opt.seed, run.opt.embed_std);
    emu::listener() = count_event;
    train(run, *model, {1e12, "that nobody has measured"}, {});
    g_training = false;
    synchronize(model->stream);  // for the last update nobody has waited
}

// ---- the table ------------------------------------------------------------------------------------------------------------

struct Compiled { int arch, registers, shared, spilled; std::string loops{}; };  // loops: [depth, instructions, HMMA, LDSM], ...
static std::multimap<std::string, Compiled> read_compiled(const char* path) {
    std::multimap<std::string, Compiled> kernels;
    FILE* file = fopen(path, "r");
    CHECK(file, "%s: cannot read: %s", path, strerror(errno));
    char line[4096];
    for (int at, depth, instructions, hmma, ldsm; fgets(line, sizeof line, file);) {
        Compiled c;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "sm_%d %d registers %d B shared %d B spilled %n", &c.arch, &c.registers, &c.shared, &c.spilled, &at) == 4)
            kernels.insert({line + at, c});
        else if (sscanf(line, "sm_%d loop depth %d %d instructions %d HMMA %d LDSM %n", &c.arch, &depth, &instructions, &hmma, &ldsm, &at) == 5)
            for (auto [kernel, end] = kernels.equal_range(line + at); kernel != end; ++kernel)
                if (std::string& loops = kernel->second.loops; kernel->second.arch == c.arch)
                    loops += format("%s[%d, %d, %d, %d]", loops.empty() ? "" : ", ", depth, instructions, hmma, ldsm);
    }
    fclose(file);
    return kernels;
}

// Columns: bytes of a call or a launch in KB, and their ratios to the minimum.
static void print_row(const std::string& name, const Moved& m, double minimum) {
    const double times = 1e3 * m.times;
    printf("%-44s %5d %9.1f %9.1f %9.1f", name.c_str(), m.times, m.read / times, m.written / times, m.touched / times);
    if (minimum > 0) printf(" %9.1f %7.3f %7.3f\n", minimum / times, (m.read + m.written) / minimum, m.touched / minimum);
}

static void print_part(Results& results, const CountedStep& step, Part part, const char* title, const std::multimap<std::string, Compiled>& compiled) {
    printf("\n%-44s %5s %9s %9s %9s %9s %7s %7s%s\n", title, "times", "KB read", "written", "touched", "minimum", "moved/m", "touch/m",
           compiled.empty() ? "" : "  registers, shared bytes, spilled");
    Moved total{.times = 1};
    double minimum = 0;
    for (const Layer& l : step.layers[part]) {
        print_row(l.name, l.all, l.minimum);
        if (l.minimum == 0) printf("\n");
        if (l.minimum > 0) total.read += l.all.read, total.written += l.all.written, total.touched += l.all.touched, minimum += l.minimum;
        for (auto& [name, k] : l.kernels) {
            const size_t space = name.find("::");
            print_row("    " + (space == name.npos || l.minimum == 0 ? name : name.substr(space + 2)) + (name == "cublasLtMatmul" ? ", the library's" : ""), k, 0);
            std::string fields, columns;
            for (auto [c, end] = compiled.equal_range(name); c != end; ++c) {
                const auto& [arch, registers, shared, spilled, loops] = c->second;
                columns += format("  sm_%d %d, %d, %d", arch, registers, shared, spilled);
                fields += format(", \"sm_%d\": [%d, %d, %d]", arch, registers, shared, spilled);
                if (!loops.empty()) fields += format(", \"sm_%d_loops\": [%s]", arch, loops.c_str());
            }
            printf("%*s%s\n", columns.empty() ? 0 : 26, "", columns.c_str());
            results.add(format("\"part\": \"%s\", \"layer\": \"%s\", \"calls\": %d, \"minimum\": %.0f, \"kernel\": \"%s\", \"launches\": %d, \"read\": %.0f, \"written\": %.0f, "
                               "\"touched\": %.0f%s", title, l.name.c_str(), l.all.times, l.minimum, name.c_str(), k.times, k.read, k.written, k.touched, fields.c_str()));
        }
    }
    print_row("all that is counted", total, minimum);
}

static int count(const std::map<std::string, int>& calls, const char* word) {
    int n = 0;
    for (auto& [name, times] : calls) if (name.find(word) != name.npos) n += times;
    return n;
}

int main(int argc, char** argv) {
    if (argc != 3) die_with(EXIT_USAGE, "usage: bench_emulated RESULTS.jsonl KERNELS");
    if (!emu::watched()) die_with(EXIT_USAGE, "bench_emulated: only the watched build counts bytes");
    train_emulated();
    const CountedStep &step = g_steps[SIZE.steps], &earlier = g_steps[SIZE.steps - 1];
    for (Part part : {OPENS, ADDS, UPDATES}) CHECK(step.layers[part] == earlier.layers[part], "steps %d and %d did not move the same bytes", SIZE.steps - 1, SIZE.steps);
    Results results(argv[1], device_name());
    const auto compiled = read_compiled(argv[2]);
    printf("\n%s, bf16, B=%d T=%d V=%d, %.0f different tokens: bytes a call and a launch, of step %d. moved: read and written, by each lane\n"
           "that asks; touched: each byte once a kernel; minimum: what the layer's formula needs. Of the library's kernels every operand counts once.\n", SIZE.model, SIZE.B, SIZE.T, SIZE.V, minimum_traffic::g_tokens, SIZE.steps);
    print_part(results, step, ADDS, "a micro-step that accumulates", compiled);
    print_part(results, step, UPDATES, "the update", compiled);
    if (compiled.empty()) printf("\nregisters, shared memory, spills: skipped: no nvcc here\n");

    int allocations = 0, memsets = 0;
    for (int s = 2; s <= SIZE.steps; s++)
        for (const auto& part : g_steps[s].calls) {
            for (const char* word : {"Malloc", "HostAlloc", "Free"}) allocations += count(part, word);
            memsets += count(part, "Memset");
        }
    const int first = step.launches(OPENS), later = step.launches(ADDS), update = step.launches(UPDATES), calls = count(step.calls[OPENS], "");
    const double waits = (double)g_waits / SIZE.steps;
    printf("\nkernels       %d in a step's first micro-step, %d in one that accumulates, %d in the update\n", first, later, update);
    printf("host          %d calls a micro-step, %.2g waits a step, %d allocations and %d memsets after the first step\n", calls, waits, allocations, memsets);
    results.add(format("\"model\": \"%s\", \"batch\": %d, \"seq\": %d, \"vocabulary\": %d, \"launches_first\": %d, \"launches_later\": %d, \"launches_update\": %d, "
                       "\"host_calls_a_micro_step\": %d, \"waits_a_step\": %.3g, \"allocations\": %d, \"memsets\": %d", SIZE.model, SIZE.B, SIZE.T, SIZE.V, first, later,
                       update, calls, waits, allocations, memsets));
}
