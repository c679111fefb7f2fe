// Attention by cuDNN's graphs: right, deterministic where asked, planned for, and taken where it is faster.
#include "attention_test.h"

#ifdef LLMC_CUDNN
// The GPUs and versions that a test is for: the stand-in is each in turn, a GPU is what it is. sm 0: as it was found.
struct CudnnOn { int sm; size_t version; bool ordered = true; };  // does it have a backward in order?
#ifdef CUDNN_STAND_IN
const std::vector<CudnnOn> CUDNN_ON = {{90, 92500}, {103, 92300}, {100, 92200}, {100, 91600, false}, {0, 0}};
static void become(CudnnOn on) {
    emu::cudnn_sm() = on.sm ? on.sm : 90, emu::cudnn_version() = on.version ? on.version : 91900;
    attention_cudnn::state().sm = on.sm, attention_cudnn::state().plans.clear();
}
#else
const std::vector<CudnnOn> CUDNN_ON = {{0, 0}};
static void become(CudnnOn) {}
#endif

// Asked for by a stream's options, cuDNN's forward and backward are as right as ours and go with ours; where they are deterministic they are bitwise
// identical each time. What the cuDNN that is here does not take (the stand-in takes all) is left out, and said.
TEST(attention_by_cudnn) {
    Random r(12);
    for (AttentionShape shape : std::vector<AttentionShape>{{2, 128, 3, 3, 64}, {1, 256, 2, 2, 128}, {3, 70, 2, 2, 64}, {1, 33, 1, 1, 24}, {2, 1, 2, 2, 64}, {1, 70, 6, 2, 64}, {1, 128, 2, 1, 128}})
    for (int window : shape.T == 70 ? std::vector<int>{0, 1, 33} : shape.HS == 128 ? std::vector<int>{0, 64, 1000} : std::vector<int>{0}) {
        Case c{shape, {}};
        for (int i = 0; window && i < c.B * c.T; i++) c.starts.push_back(std::max(0, i % c.T - window + 1));
        const int B = c.B, T = c.T;
        const Heads heads = c.heads();
        auto qkv = normal_values<bf16>(r, c.tokens() * c.width()), dout = normal_values<bf16>(r, c.tokens() * c.C());
        for (const CudnnOn& on : CUDNN_ON) for (int who = 0; who < (on.sm ? 1 : 4); who++) {  // forward and backward by: cuDNN; cuDNN in any order; cuDNN and ours; ours and cuDNN
            const bool theirs[2] = {who != 3, who != 2};
            bool taken = true;
            if (on.sm && T != 70 && T != 1) continue;  // the engines differ, not the shapes
            become(on);
            for (bool backward : both()) {
                const std::string refused = attention_cudnn::plan_for({B, T, c.NH, c.HS, backward, attention_cudnn::dq_accumulation(who != 1, attention_cudnn::sm(), cudnnGetVersion()), c.NKV, window < T ? window : 0}).builder.refused;
                if (!refused.empty() && on.sm == 0) printf("    left out: T %d, HS %d: %s\n", T, c.HS, refused.c_str());
#ifdef CUDNN_STAND_IN
                EXPECT_EQ(refused.empty(), T > 1 && (!backward || on.ordered));
#endif
                taken &= refused.empty();
            }
            if (!taken) continue;
            Results<bf16> y;
            const auto once = [&] {
                TestStream stream(4096);
                stream.stream.kernels.attention = AttentionBackend::CUDNN, stream.stream.kernels.deterministic = who != 1;
                OnDevice<bf16> x(qkv), dy(dout), out(c.tokens() * c.C()), dx(qkv.size());
                OnDevice<float> lse(c.tokens() * c.NH), scratch(attention_scratch(B, T, heads, stream.stream));
                OnDevice<int> starts(c.starts);
                const Seen seen(window ? starts.data() : nullptr, window);
                const auto by = [&](bool cudnn) { stream.stream.kernels.attention = cudnn ? AttentionBackend::CUDNN : AttentionBackend::OURS; };
                by(theirs[0]), attention_forward(out.data(), lse.data(), x.data(), seen, B, T, heads, stream);
                by(theirs[1]), attention_backward(dx.data(), dy.data(), out.data(), lse.data(), x.data(), seen, scratch.data(), B, T, heads, stream);
                scratch.values();  // looks at the margins
                y = {out.written(), dx.written(), lse.written()};
                return y.all();
            };
            if (who == 0) for_schedules(once); else once();
            expect_right(c, qkv, dout, y, 1, c.NKV < c.NH ? half_ulp<bf16>() : 0);
        }
    }
}

// What a plan sets apart holds what any GPU takes that the plan may be for, and without the matrix it is less.
TEST(cudnn_memory) {
    using namespace attention_graph;
    const std::vector<Problem> problems = {{8, 1024, 12, 64}, {1, 33, 2, 256}, {2, 100, 3, 64}, {1, 128, 1, 8}, {.B = 1, .T = 33, .NH = 6, .HS = 128, .NKV = 2}};
    for (Problem p : problems) for (size_t version : {91600, 91900, 92500}) {
        const size_t any = backward_bytes(p, true, 0, version), atomic = backward_bytes(p, false, 0, version);
        p.backward = true;
        for (int sm : {80, 90, 100, 103, 120}) for (bool deterministic : {false, true}) {
            p.dq = dq_accumulation(deterministic, sm, version);
            const size_t bytes = backward_bytes(p, deterministic, sm, version);
            EXPECT_EQ(bytes, delta_bytes(p) + dq_accum_bytes(p) + attention_graph::workspace_bytes(p));
            EXPECT(bytes <= (deterministic ? any : atomic));
            if (p.T == 1024 && (p.dq == SEMAPHORE || p.dq == SM100)) EXPECT(bytes < any / 5);
        }
    }
    StreamOptions here, anywhere;
    anywhere.any_gpu = true;
    for (const Heads& heads : std::vector<Heads>{{2, 2, 256}, {6, 2, 64}}) {
        EXPECT(attention_scratch(1, 33, heads, here) <= attention_scratch(1, 33, heads, anywhere));
        EXPECT_EQ(attention_scratch(1, 33, heads, anywhere) * sizeof(float), backward_bytes(attention_cudnn::problem_of(1, 33, heads), true, 0, cudnnGetVersion()));
    }
}

// A choice is a line, of which no other is one: heads of keys are in it where they are fewer.
TEST(choices_of_attention_are_lines) {
    using namespace attention_cudnn;
    const auto line = [](const Heads& heads, int window = 0) { return print_choice(problem_of(2, 128, heads, window), {true, 1, 2}); };
    EXPECT_STR(line({4, 4, 64}), "2 128 4 64 0 1 1 1.0000 2.0000");
    EXPECT_STR(line({4, 2, 64}), "2 128 4 64 0 1 1 1.0000 2.0000 2");
    EXPECT_STR(line({4, 2, 64}, 40), "2 128 4 64 0 1 1 1.0000 2.0000 2 w40");
    for (const Heads& heads : std::vector<Heads>{{4, 4, 64}, {4, 2, 64}})
        for (int window : {0, 40}) {
            Problem p;
            Choice c;
            EXPECT(parse_choice(line(heads, window), p, c) && p == problem_of(2, 128, heads, window) && c.cudnn && c.ours_ms == 1 && c.cudnn_ms == 2);
            for (const char* behind : {" 4", " 8", " x", " 1 1", " ", " w0", " w-1", " w"}) EXPECT(!parse_choice(line(heads, window) + behind, p, c));
        }
}

// Which versions are asked at all: 9.10.0 and 9.10.1 not, and on sm_100 an older one not for a backward in order.
TEST(cudnn_by_version) {
#ifdef CUDNN_STAND_IN
    const auto expect = [](const char* refusal, CudnnOn on, bool backward, int T, int HS, bool deterministic = true) {
        become(on);
        const std::string said = attention_cudnn::plan_for({1, T, 1, HS, backward, attention_cudnn::dq_accumulation(deterministic, on.sm, on.version)}).builder.refused;
        if (*refusal ? said.find(refusal) == std::string::npos : !said.empty()) FAIL("sm_%d, %zu: '%s', expected '%s'", on.sm, on.version, said.c_str(), refusal);
    };
    for (bool backward : both()) {
        for (size_t version : {91000, 91001}) expect("9.10.0 and 9.10.1", {90, version}, backward, 128, 64);
        for (size_t version : {90800, 90900, 91002, 92800}) expect("", {90, version}, backward, 128, 64);
        expect("too old", {90, 90700}, backward, 128, 64), expect(backward ? "too old" : "", {90, 91500}, backward, 100, 64), expect("", {90, 91600}, backward, 100, 64);
    }
    for (size_t version : {91600, 91800}) for (int sm : {100, 103}) {
        expect("no backward", {sm, version}, true, 128, 64), expect("", {sm, version}, false, 128, 64);
        expect("", {sm, version}, true, 128, 64, false);
    }
    expect("", {100, 91801}, true, 128, 128), expect("no backward", {100, 91801}, true, 128, 136), expect("no backward", {110, 92800}, true, 128, 64);
    become({0, 0});
#else
    SKIP("the stand-in alone is of any version");
#endif
}

// While a stream tunes, the faster of the two is found, and kept; it is measured once. Who makes it is said, and why.
TEST(attention_by_the_faster) {
    const int B = 1, T = 128, NH = 1, C = 64;
    const Heads heads{NH, NH, C};
    OnDevice<bf16> x(std::vector<bf16>((size_t)T * 3 * C, bf16(0.5f))), out((size_t)T * C);
    OnDevice<float> lse(T);
    auto& state = attention_cudnn::state();
    const auto forward = [&](bool autotuning, AttentionBackend by) {
        TestStream stream(4096);
        stream.stream.autotuning = autotuning, stream.stream.kernels.attention = by;
        attention_forward(out.data(), lse.data(), x.data(), nullptr, B, T, heads, stream);
        out.written();
        return attention_path<bf16>(stream.stream);
    };
    state.cache.known.clear(), state.plans.clear(), state.cache.measured = 0, state.said[0] = state.said[1] = state.in_windows[0] = state.in_windows[1] = "";
    // the only choice that there is; with none the test has failed, and goes on
    const auto only_choice = [&] {
        EXPECT_EQ(state.cache.known.size(), (size_t)1);
        return state.cache.known.empty() ? attention_cudnn::Choice{} : state.cache.known.begin()->second.value;
    };
    EXPECT_STR(forward(false, AttentionBackend::FASTEST), "");  // nobody has measured: ours
    EXPECT_EQ(state.plans.size(), (size_t)0);              // nor built a plan for it
    state.cache.known[{B, T, NH, C / NH}] = {{false, 1, 2}};
    EXPECT(forward(true, AttentionBackend::FASTEST).starts_with("forward by ours, 1.000 ms"));
    EXPECT_EQ(state.plans.size(), (size_t)0);  // nor where it is known that ours is faster
    state.cache.known.clear();
    EXPECT(forward(true, AttentionBackend::FASTEST).starts_with("forward by "));
    const attention_cudnn::Choice choice = only_choice();
    EXPECT(choice.ours_ms > 0 && choice.cudnn_ms > 0 && choice.cudnn == (choice.cudnn_ms < choice.ours_ms));
    forward(true, AttentionBackend::FASTEST);
    EXPECT_EQ(state.cache.measured, 1);
    EXPECT(forward(false, AttentionBackend::CUDNN).find("as asked") != std::string::npos);
    EXPECT_STR(forward(false, AttentionBackend::OURS), "by ours");
    {  // with a window it is another problem, whose choice is another; where documents begin is for ours alone
        OnDevice<int> starts(std::vector<int>(T, 0));
        TestStream stream(4096);
        stream.stream.autotuning = true;
        attention_forward(out.data(), lse.data(), x.data(), {starts.data()}, B, T, heads, stream);
        EXPECT_EQ(state.cache.known.size(), (size_t)1);
        attention_forward(out.data(), lse.data(), x.data(), {starts.data(), 40}, B, T, heads, stream);
        EXPECT(state.cache.known.size() == 2 && state.cache.known.contains({B, T, NH, C / NH, false, attention_graph::SEPARATE_GEMM, NH, 40}));
        EXPECT(attention_path<bf16>(stream.stream).find("; in windows forward by ") != std::string::npos && !state.said[0].empty());
        state.in_windows[0] = "";
    }
#ifdef CUDNN_STAND_IN
    for (double ms : {1e-6, 1e6}) {
        state.cache.known.clear(), emu::cudnn_ticks() = ms;
        const std::string said = forward(true, AttentionBackend::FASTEST);
        EXPECT_EQ(only_choice().cudnn, ms < 1);
        EXPECT(said.starts_with(ms < 1 ? "forward by cuDNN" : "forward by ours"));
    }
    emu::cudnn_ticks() = 1000;
    // what the library does not take is made by ours, and the line says why; asked for all the same, it ends the run
    state.plans.clear(), state.cache.known.clear(), emu::cudnn_refuses() = true;
    EXPECT(forward(true, AttentionBackend::FASTEST).find("cuDNN has no engine") != std::string::npos);
    EXPECT_REFUSED("--attention cudnn: B 1, T 128, 1 heads of 64: cuDNN has no engine", forward(false, AttentionBackend::CUDNN));
    // what another run chose goes before what is faster here, and is listed again; where it is not to be had, ours is used, and it is counted
    for (bool cudnn : both()) {
        state.plans.clear(), state.cache.clear(), emu::cudnn_refuses() = false, emu::cudnn_ticks() = cudnn ? 1e6 : 1e-6;
        const std::string line = state.cache.name() + format(" 1 128 1 64 0 1 %d 1.0000 2.0000", cudnn);
        EXPECT(state.cache.give(line));
        EXPECT(forward(true, AttentionBackend::FASTEST).starts_with(cudnn ? "forward by cuDNN" : "forward by ours, 1.000 ms"));
        std::vector<std::string> lines;
        state.cache.list(lines);
        EXPECT(lines.size() == 1 && lines[0] == line && state.cache.refused == 0);
        state.plans.clear(), emu::cudnn_refuses() = true;
        EXPECT(forward(true, AttentionBackend::FASTEST).starts_with("forward by ours"));
        EXPECT_EQ(state.cache.refused, (int)cudnn);
    }
    emu::cudnn_refuses() = false, emu::cudnn_ticks() = 1000;
    state.plans.clear(), state.cache.clear();
#endif
    // the file: what it says is believed, and what cannot be read of it is not there
    const std::string folder = BUILD "/tmp/attention";
    remove_tree(folder), make_folders(folder);
    state.cache.known.clear();
    forward(true, AttentionBackend::FASTEST);
    const attention_cudnn::Choice kept = only_choice();
    state.cache.save(folder);
    state.cache.known.clear();
    state.cache.load(folder);
    EXPECT_EQ(only_choice().cudnn, kept.cudnn);
    const std::string path = state.cache.path(folder), text = access(path.c_str(), R_OK) ? "" : read_file(path);
    EXPECT(text.size() > 9);
    for (std::string broken : {std::string(), text.substr(0, 9), "none\n" + text.substr(0, text.size() - 1) + " 1\n"}) {
        write_file_atomically(path, broken);
        state.cache.known.clear();
        state.cache.load(folder);
        EXPECT(state.cache.known.empty());
    }
    state.cache.known.clear(), state.cache.measured = 0;
}
#endif
