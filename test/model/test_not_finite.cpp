// NaN and infinity in losses, gradients, activations, weights and moments: whatever is planted between two passes of a step is noticed in that step, and no
// checkpoint gets it. What is noticed by loss or norm is noticed before the update, which then changes nothing; what AdamW alone reads (moments, masters,
// weights that the batch does not use), AdamW sees, and the run ends with that step.
//
// POINTS=all: every tensor of every kind in four kinds of models, and 40 runs of the program; else each of them now and then, and 2 runs.
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"
#include <functional>
#include <atomic>
#include <thread>
#include "../arena_of.h"
#include "../test.h"

namespace {
// wpe has rows that no batch reads, and wte tokens; three layers: with recomputation the last one is unlike the others
const Config SOME{.max_T = 12, .V = 131, .L = 3, .NH = 2, .C = 48};
constexpr int STEPS = 8;

enum Moment { BEFORE_THE_STEP, IN_THE_FORWARD, AFTER_THE_FORWARD, AFTER_THE_CLASSIFIER, IN_THE_BACKWARD, AFTER_THE_BACKWARD };
// A tensor, and when something is planted in it.
struct Place {
    std::string name;
    Moment when;
    int layer;
    size_t size;
    std::function<void(size_t, float)> write;  // element, value
};

template <class F> struct Planted {
    Model<F> model;
    Options opt;
    std::vector<int> tokens;
    struct State { std::vector<F> params; std::vector<float> master, m, v; History history; bool operator==(const State& o) const {
        const auto same = [](const auto& a, const auto& b) { return a.empty() || !memcmp((const void*)a.data(), (const void*)b.data(), a.size() * sizeof a[0]); };  // fp32 has no masters
        return same(params, o.params) && same(master, o.master) && same(m, o.m) && same(v, o.v);
    } };
    std::vector<State> at;       // before each step of an undisturbed run
    std::vector<StepStats> said;  // of its steps

    explicit Planted(int recompute) : model(SOME, {.B = 2, .T = 8, .recompute = recompute}), tokens(STEPS * 2 * model.N()) {
        model.allocate();
        initialize(model, 0.02, 7);
        for (size_t i = 0; i < tokens.size(); i++) tokens[i] = (int)(i * i * 7 % 100);
        for (int s = 0; s < STEPS; s++) {  // by the trainer's own passes, which those of this test then have to repeat
            at.push_back(state());
            forward_backward(model, batch(s), 0);
            update(model, opt, 1e-3, s);
            said.push_back(*model.host_step_stats);
        }
        at.push_back(state());
    }
    Batch batch(int s) const { return {&tokens[(size_t)s * 2 * model.N()], &tokens[(size_t)(s * 2 + 1) * model.N()], 0}; }
    State state() const {
        const size_t n = model.parameters.elements;
        State now{{model.params, model.params + n}, {}, {model.m, model.m + n}, {model.v, model.v + n}, *model.history};
        if (model.master) now.master.assign(model.master, model.master + n);
        return now;
    }
    void back_to(int s) {
        std::copy(at[(size_t)s].params.begin(), at[(size_t)s].params.end(), model.params);
        if (model.master) std::copy(at[(size_t)s].master.begin(), at[(size_t)s].master.end(), model.master);
        std::copy(at[(size_t)s].m.begin(), at[(size_t)s].m.end(), model.m), std::copy(at[(size_t)s].v.begin(), at[(size_t)s].v.end(), model.v);
        *model.history = at[(size_t)s].history;
        *model.changed = *model.host_changed = UNCHANGED;
    }

    // Step s, with what `plant` does at that moment.
    template <class Plant> void step(int s, Moment when, int layer, const Plant& plant) {
        const Config& c = model.config;
        const Attend how{.B = 2, .T = 8};
        const size_t N = model.N();
        const Block<F>& first = model.tensors();
        const auto now = [&](Moment moment, int l) { if (when == moment && (layer < 0 || layer == l)) plant(); };
        model.use_gradient_buffer(0);
        upload(model, batch(s));
        now(BEFORE_THE_STEP, -1);
        embedding_forward(first.encoded, model.tokens, first.wte, first.wpe, how.B, how.T, c.C, how.pos, model.stream);
        for (int l = 0; l < c.L; l++) forward_layer(model, l, how), now(IN_THE_FORWARD, l);
        const Block<F>& b = model.block(c.L - 1);
        residual_layernorm_forward(b.residual3, b.lnf, b.lnf_mean, b.lnf_rstd, b.residual2, b.branch, b.lnfw, b.lnfb, N, c.C, (float)c.eps, model.stream);
        now(AFTER_THE_FORWARD, -1);
        classify(model, N, 1.0f / (float)N, true, false);
        now(AFTER_THE_CLASSIFIER, -1);
        sum_losses(model.loss_sum, b.losses, N, false, model.stream);
        layernorm_backward(b.dresidual, b.dlnfw, b.dlnfb, b.dlnf, b.residual3, b.lnf_mean, b.lnf_rstd, b.lnfw, N, c.C, {}, model.stream);
        for (int l = c.L - 1; l >= 0; l--) now(IN_THE_BACKWARD, l), backward_block(model, l, false);
        embedding_backward(b.dwte, b.dwpe, b.dresidual, model.tokens, 2, 8, c.C, c.max_T, false, model.stream);
        now(AFTER_THE_BACKWARD, -1);
        *model.own_sums() = *model.loss_sum;
        reduce_gradients(model, WHOLE_MODEL, 0);
        finish_reduction(model);
        update(model, opt, 1e-3, s);
    }

    std::vector<Place> places() {
        std::vector<Place> all;
        const auto add = [&](std::string name, Moment when, int layer, auto* data, size_t size) {
            if (data) all.push_back({std::move(name), when, layer, size, [data](size_t i, float x) { data[i] = std::remove_reference_t<decltype(*data)>(x); }});
        };
        for (const Parameter& p : model.parameters.all) {
            add("weights of " + p.name, BEFORE_THE_STEP, -1, model.params + p.offset, p.size());
            add("masters of " + p.name, BEFORE_THE_STEP, -1, model.master ? model.master + p.offset : nullptr, p.size());
            add("first moments of " + p.name, BEFORE_THE_STEP, -1, model.m + p.offset, p.size());
            add("second moments of " + p.name, BEFORE_THE_STEP, -1, model.v + p.offset, p.size());
            add("gradients of " + p.name, AFTER_THE_BACKWARD, -1, model.gradients(0) + p.offset, p.size());
        }
        const size_t N = model.N(), C = (size_t)SOME.C, FF = (size_t)model.config.FF, QKV = (size_t)model.config.QKV(), NH = (size_t)SOME.NH;
        for (int l = 0; l < SOME.L; l++) {
            const Block<F>& b = model.block(l);
            const std::string of = " of layer " + std::to_string(l);
            add("residual2" + of, IN_THE_FORWARD, l, b.residual2, N * C), add("branch" + of, IN_THE_FORWARD, l, b.branch, N * C);
            add("dresidual" + of, IN_THE_BACKWARD, l, b.dresidual, N * C);
            const auto saved = [&](const char* name, auto* data, size_t size) { add(name + of, AFTER_THE_FORWARD, -1, data, size); };
            saved("ln1", b.ln1, N * C), saved("ln1_mean", b.ln1_mean, N), saved("ln1_rstd", b.ln1_rstd, N), saved("qkv", b.qkv, N * QKV), saved("atty", b.atty, N * C);
            saved("lse", b.lse, N * NH), saved("residual2", b.residual2, N * C), saved("ln2", b.ln2, N * C), saved("ln2_mean", b.ln2_mean, N), saved("ln2_rstd", b.ln2_rstd, N);
            saved("fch", b.fch, N * FF), saved("fch_gelu", b.fch_gelu, N * FF), saved("residual3", b.residual3, N * C);
        }
        const Block<F>& b = model.tensors();
        add("encoded", AFTER_THE_FORWARD, -1, b.encoded, N * C);
        add("lnf", AFTER_THE_FORWARD, -1, b.lnf, N * C), add("lnf_mean", AFTER_THE_FORWARD, -1, b.lnf_mean, N), add("lnf_rstd", AFTER_THE_FORWARD, -1, b.lnf_rstd, N);
        add("losses", AFTER_THE_CLASSIFIER, -1, b.losses, N), add("dlnf", AFTER_THE_CLASSIFIER, -1, b.dlnf, N * C);
        return all;
    }
};
struct Count { int points = 0, before_the_update = 0, by_the_update = 0, unread = 0, refused = 0; };

// What a checkpoint would hold.
template <class F> bool is_tainted(const Model<F>& model) {
    for (const Parameter& p : model.parameters.all)
        for (size_t i = p.offset; i < p.offset + p.size(); i++)
            if (!std::isfinite((float)model.params[i]) || !std::isfinite(model.m[i]) || !std::isfinite(model.v[i]) || (model.master && !std::isfinite(model.master[i]))) return true;
    return false;
}

// `each`: of so many points one is planted.
template <class F> void plant_everywhere(int recompute, int each, Count& count) {
    Planted<F> run(recompute);
    Model<F>& model = run.model;
    run.back_to(3), run.step(3, BEFORE_THE_STEP, -1, [] {});
    EXPECT(run.state() == run.at[4] && model.host_step_stats->loss == run.said[3].loss && model.host_step_stats->norm == run.said[3].norm);  // as the trainer's
    int number = 0;
    for (const Place& place : run.places())
        for (float bad : {NAN, INFINITY}) {
            if (number++ % each) continue;
            const Random4 random = philox(5, RNG_TEST, (uint32_t)recompute, (uint64_t)number);
            const int s = (int)(random.x[0] % STEPS);
            const size_t i = random.x[1] % place.size;
            typename Planted<F>::State before;
            run.back_to(s);
            run.step(s, place.when, place.layer, [&] { place.write(i, bad), before = run.state(); });
            const StepStats& stats = *model.host_step_stats;
            const std::string what = format("step %d, %g in %s[%zu], recompute %d", s, (double)bad, place.name.c_str(), i, recompute);
            count.points++;
            if (stats.skip == NOT_FINITE) {
                count.before_the_update++;
                if (!(run.state() == before)) FAIL("%s: the update was skipped, and yet something was written", what.c_str());
            } else if (stats.not_finite) {
                count.by_the_update++;
                if (place.when != BEFORE_THE_STEP) FAIL("%s: noticed by the update, and not before it", what.c_str());
                if (what_is_not_finite(model).find(" are not finite") == std::string::npos) FAIL("%s: the update saw it, and nothing was found", what.c_str());
                *model.changed = *model.host_changed = UNCHANGED;
            } else {
                count.unread++;
                // what nobody reads any more: LayerNorm's statistics that are computed again, and positions beyond T that the update rounds anew from their masters
                const bool again = recompute >= 2 && place.name.find("ln") == 0 && (place.name.find("_mean of") != place.name.npos || place.name.find("_rstd of") != place.name.npos);
                if (!again && !(model.master && place.name == "weights of wpe.weight")) FAIL("%s: not noticed, and it is read", what.c_str());
                if (!(run.state() == run.at[(size_t)s + 1]) || stats.loss != run.said[(size_t)s].loss || stats.norm != run.said[(size_t)s].norm) FAIL("%s: not noticed", what.c_str());
            }
            if (!is_tainted(model)) continue;
            if (count.refused++ % 20 == 0) EXPECT_DIES("not finite; it is not saved", verify_before_saving(model, s + 1));  // a child each takes time
            else if (what_is_not_finite(model).find(" are not finite") == std::string::npos) FAIL("%s: would be saved", what.c_str());
        }
}
}  // namespace

TEST(not_finite_is_noticed_in_its_step) {
    const bool all = getenv("POINTS");
    Count count;
    plant_everywhere<float>(0, all ? 1 : 3, count);
    plant_everywhere<bf16>(0, all ? 1 : 3, count);
    plant_everywhere<float>(3, all ? 1 : 5, count);
    plant_everywhere<bf16>(2, all ? 1 : 5, count);
    printf("  %d points: %d noticed before the update, %d by it, %d that nothing read; %d states with them refused by a save\n", count.points, count.before_the_update, count.by_the_update, count.unread, count.refused);
}

// The trainer, told of an update that saw it, ends before the next one and before any save.
TEST(not_finite_ends_the_run) {
    Planted<bf16> run(0);
    Model<bf16>& model = run.model;
    Log log("", false, {});
    const Record record;
    StepReporter<bf16> reporter(model, log, {}, record, 0);
    const Parameter& p = model.parameters.all[4];
    reporter.launched(3, 1e-3, INFINITY);
    for (const auto& [state, name] : {std::pair(model.master, "the master weights"), {model.m, "AdamW's first moments"}, {model.v, "AdamW's second moments"}}) {
        run.back_to(3), run.step(3, BEFORE_THE_STEP, -1, [&, at = state + p.offset + 5] { *at = INFINITY; });
        EXPECT_DIES(format("step 4: %s, elements 0 to 4095: %s are not finite; nothing of this step is saved", p.name.c_str(), name).c_str(), reporter.report());
    }
    run.back_to(3), run.step(3, BEFORE_THE_STEP, -1, [] {});
    reporter.report();
    EXPECT(reporter.take_verdict().failed.empty());
}

// Each rank looks at what it alone holds, in every stage of ZeRO.
TEST(not_finite_in_what_a_rank_holds) {
    for (int zero = 1; zero <= 3; zero++) {
        Model<bf16> model(SOME, {.B = 2, .T = 8, .rank = 1, .world = 2, .zero = zero, .leaves = 2});
        model.comm.rank = 1, model.comm.world = 2;
        model.allocate();
        for (float* state : {model.master, model.m, model.v})
            for (const Owned& o : model.owned) {
                EXPECT(what_is_not_finite(model) == "AdamW computed a value that is not finite");
                state[o.at] = NAN;
                const Parameter* tensor = &model.parameters.all[0];
                for (const Parameter& p : model.parameters.all) if (p.offset <= o.range.begin) tensor = &p;
                const std::string said = what_is_not_finite(model);
                if (said.rfind(tensor->name, 0) != 0) FAIL("said \"%s\", expected %s", said.c_str(), tensor->name.c_str());
                state[o.at] = 0, *model.changed = *model.host_changed = UNCHANGED;
            }
    }
}

namespace {
// "" or a tensor file of the folder that holds a value which is not finite.
std::string tainted_file(const std::string& folder) {
    for (const std::string& path : list_files(folder + "/*.safetensors")) {
        const std::string text = read_file(path);
        uint64_t header;
        memcpy(&header, text.data(), 8);
        for (size_t at = 8 + header; at + 4 <= text.size(); at += 4) {
            float x;
            memcpy(&x, &text[at], 4);
            if (!std::isfinite(x)) return path;
        }
    }
    return "";
}
}  // namespace

// NaN is written here and there into the memory of the shipped program: it ends, and no good checkpoint holds one.
TEST(not_finite_is_never_in_a_good_checkpoint) {
    if (strcmp(BUILD, "build")) SKIP("the largest mapping is the sanitizer's, not the arena");
    const std::string out = "build/tmp/not-finite", text = out + ".txt", process = out + ".pid";
    int good = 0;
    for (int number = 0; number < (getenv("POINTS") ? 40 : 2); number++) {
        run_command("rm -rf " + out + " " + process + "; yes 'some text, and more of it' | head -c 50000 > " + text);
        std::atomic<bool> ended{false};
        std::string why;
        std::thread plants([&] {
            const auto has_good = [&] { const std::vector<Checkpoint> all = list_checkpoints(out); return std::any_of(all.begin(), all.end(), [&](const Checkpoint& c) { return is_good(out, c.step); }); };
            while (!ended && !has_good()) usleep(5'000);
            const ArenaOf arena(std::to_string(atoi(run_command("cat " + process).output.c_str())));
            if (!arena.is_open() || arena.bytes() < 10 << 20) why = "the memory of another process cannot be written here";
            for (uint64_t turn = 0; !ended && why.empty(); turn++, usleep(20'000)) arena.write(philox(9, RNG_TEST, (uint32_t)number, turn).x[0] % (arena.bytes() / 4) * 4, NAN);
            if (!why.empty()) run_command("kill $(cat " + process + ")");
        });
        const Outcome o = run_command("echo $$ > " + process + "; exec " + TRAINER + " -i " + text + " -e d4c128h4 --tokenizer bytes -b 4 -t 32 -x 2000 -v 0 -s 0 -n 10 --confirm 3 -nk 3 --threads 1 -o " + out);
        ended = true;
        plants.join();
        if (!why.empty()) SKIP("%s", why.c_str());
        if (o.code != 1 || o.output.find("not finite") == std::string::npos) FAIL("ended with %d and said \"%s\"", o.code, o.output.substr(o.output.size() > 600 ? o.output.size() - 600 : 0).c_str());
        for (const Checkpoint& c : list_checkpoints(out)) {
            if (!is_good(out, c.step)) continue;
            good++;
            if (const std::string path = tainted_file(c.path); !path.empty()) FAIL("run %d: %s is good and holds what is not finite", number, path.c_str());
        }
    }
    EXPECT(good > 0);
}
