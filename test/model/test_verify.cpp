// Bits that change in memory between two updates, and gradients that do not repeat, are found and named.
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"
#include <atomic>
#include <thread>
#include "../arena_of.h"
#include "../test.h"

namespace {
const Config TINY{.max_T = 16, .V = 131, .L = 2, .NH = 2, .C = 48};

template <class F> struct Verified {
    Model<F> model;
    explicit Verified(int zero = 0, int world = 1, Update optimizer = ADAMW) : model(TINY, {.B = 2, .T = 8, .rank = world - 1, .world = world, .zero = zero, .leaves = world, .optimizer = optimizer}) {
        model.comm.rank = world - 1, model.comm.world = world;
        model.allocate();
        initialize(model, 0.02, 7);
        for (float* p : {model.m, model.v, model.gradients(0)}) for (size_t i = 0; i < 1000; i++) p[i] = (float)i;
    }
    // What is said after the word at `word` had one bit changed, between keep and verify.
    template <class X> std::string after_flip(X* word, int bit) {
        keep_sums_of_state(model);
        flip(word, bit);
        *model.changed = UNCHANGED;
        verify_state(model);
        flip(word, bit);
        *model.host_changed = *model.changed;
        return what_changed(model);
    }
    template <class X> static void flip(X* word, int bit) { ((unsigned char*)word)[bit / 8] ^= (unsigned char)(1 << bit % 8); }
};
}  // namespace

// Each bit of a weight, and a bit at either end of each tensor, of each kind of state.
template <class F> static void check_flips(Update optimizer = ADAMW) {
    Verified<F> run(0, 1, optimizer);
    Model<F>& model = run.model;
    keep_sums_of_state(model);
    verify_state(model);
    EXPECT(*model.changed == UNCHANGED && what_changed(model).empty());
    for (int bit = 0; bit < (int)sizeof(F) * 8; bit++) EXPECT(run.after_flip(model.params + 5, bit).find("the weights are not what the last update wrote") != std::string::npos);
    for (const Parameter& p : model.parameters.all)
        for (size_t i : {(size_t)0, p.size() - 1}) {
            const std::string name = p.name + ", elements ", where = format("%zu to ", i / CHUNK * CHUNK);
            const auto expect = [&](const std::string& said, const char* what) {
                if (said.rfind(name + where, 0) != 0 || said.find(what) == std::string::npos) FAIL("%s[%zu]: said \"%s\", expected \"%s%s... %s\"", p.name.c_str(), i, said.c_str(), name.c_str(), where.c_str(), what);
            };
            expect(run.after_flip(model.params + p.offset + i, 3), ": the weights");
            const bool muon = optimizer == MUON && p.update == MUON;
            expect(run.after_flip(model.m + p.offset + i, 31), muon ? ": Muon's momentum" : ": AdamW's first moments");
            model.for_each_owned(p.offset + i, 1, [&](size_t, size_t, size_t at) {
                EXPECT(!muon);
                expect(run.after_flip(model.v + at, 0), ": AdamW's second moments");
            }, true);
            if (model.master) expect(run.after_flip(model.master + p.offset + i, 17), ": the master weights");
        }
}
TEST(verify_finds_each_flip_in_weights_and_moments) { check_flips<float>(), check_flips<bf16>(), check_flips<bf16>(MUON); }

// What a rank holds alone is looked at by that rank: the last one's last element, in every stage.
TEST(verify_looks_at_what_a_rank_holds) {
    for (int zero = 1; zero <= 3; zero++) {
        Verified<bf16> run(zero, 3);
        Model<bf16>& model = run.model;
        const Owned& last = model.owned.back();
        const size_t at = last.at + last.range.size() - 1;
        size_t end = 0;  // of the tensors before the padding
        for (const Parameter& p : model.parameters.all) end = std::max(end, p.offset + p.size());
        const size_t element = std::min(last.range.end, end) - 1, inside = at - (last.range.end - 1 - element);
        const std::string tensor = std::find_if(model.parameters.all.rbegin(), model.parameters.all.rend(), [&](const Parameter& p) { return p.offset <= element; })->name;
        EXPECT(run.after_flip(model.m + inside, 1).rfind(tensor, 0) == 0);
        EXPECT(run.after_flip(model.master + inside, 1).rfind(tensor, 0) == 0);
        EXPECT(run.after_flip(zero < 3 ? model.params + element : model.param_shard + inside, 1).rfind(tensor, 0) == 0);
    }
}

// Two words that change places, and an error that a plain sum would not show.
TEST(verify_is_no_plain_sum) {
    Verified<float> run;
    Model<float>& model = run.model;
    keep_sums_of_state(model);
    std::swap(model.m[3], model.m[4]);
    verify_state(model);
    EXPECT(*model.changed != UNCHANGED);
}

// Gradients that differ the second time by one bit; and the same ones.
TEST(verify_compares_gradients) {
    Verified<float> run;
    Model<float>& model = run.model;
    verify_gradients(model, [] {});
    EXPECT(*model.changed == UNCHANGED);
    const Parameter& p = model.parameters.all[3];
    verify_gradients(model, [&] { run.flip(model.gradients(0) + p.offset + 9, 0); });
    *model.host_changed = *model.changed;
    EXPECT(what_changed(model).rfind(p.name + ", elements 0 to ", 0) == 0 && what_changed(model).find("computed twice") != std::string::npos);
}

// The update itself keeps sums behind step 100 and compares before the next one; then it looks no more before step 200.
TEST(verify_in_updates) {
    for (int at : {98, 99, 100}) {  // steps from 0: behind which the bit changes
        Verified<float> run;
        Model<float>& model = run.model;
        const Parameter& p = model.parameters.all[2];
        Options opt;
        for (int step = 97; step < 103; step++) {
            update(model, opt, 1e-3, step);
            if (step == at) run.flip(model.v + p.offset + 11, 2);
        }
        EXPECT((*model.host_changed != UNCHANGED) == (at == 99));
        if (at == 99) EXPECT(what_changed(model).rfind(p.name + ", elements 0 to ", 0) == 0);
    }
}

// Bits of the shipped program's weights, gradients and moments change while it trains: it ends, and says so.
TEST(verify_steps_ends_a_run_on_bad_memory) {
    if (strcmp(BUILD, "build")) SKIP("the largest mapping is the sanitizer's, not the arena");
    const std::string scratch = "build/tmp/verify-bad", text = scratch + ".txt", process = scratch + ".pid";
    run_command("rm -rf " + scratch + " " + process + "; yes 'some text, and more of it' | head -c 50000 > " + text);
    std::atomic<bool> ended{false};
    std::string why;  // nothing could be changed
    std::thread changes([&] {
        while (!ended && run_command("grep -q trl: " + scratch + "/main.log").code) usleep(10'000);
        const ArenaOf arena(std::to_string(atoi(run_command("cat " + process).output.c_str())));
        if (!arena.is_open() || arena.bytes() < 10 << 20) why = "the memory of another process cannot be written here";
        for (uint64_t turn = 0; !ended && why.empty(); turn++) {
            const size_t at = turn * 7919 * 4 % (arena.bytes() / 2);  // parameters, gradients and moments come first
            unsigned char byte = 0;
            if (!arena.read(at, byte)) break;
            byte ^= 1;  // the last bit of a fraction: only a comparison of bits can see it
            if (!arena.write(at, byte)) break;
        }
        if (!why.empty()) run_command("kill $(cat " + process + ")");
    });
    const Outcome o = run_command("echo $$ > " + process + "; exec " + TRAINER + " -i " + text + " -e d4c128h4 --tokenizer bytes -b 4 -t 32 -x 100000 -v 0 -s 0 -n 0 --verify-steps 1 --threads 1 -o " + scratch);
    ended = true;
    changes.join();
    if (!why.empty()) SKIP("%s", why.c_str());
    const bool said = o.output.find("computed twice, the gradient has other bits") != std::string::npos || o.output.find("are not what the last update wrote") != std::string::npos;
    if (o.code != 1 || !said) FAIL("ended with %d and said \"%s\"", o.code, o.output.substr(o.output.size() > 600 ? o.output.size() - 600 : 0).c_str());
}

// A run that computes every step twice has the bits of one that does not, and so has one that passes the step at which memory is looked at.
TEST(verify_steps_changes_no_bits) {
    const auto run = [](const char* options) {
        const std::string out = std::string("build/tmp/verify");
        run_command("rm -rf " + out);
        Outcome o = run_command(std::string(TRAINER) + " -i build/tmp/verify.txt -e d1c32h2 --tokenizer bytes -b 2 -t 16 -d 64 -x 103 -v 0 -s 0 -n 0 --threads 1 -o " + out + " " + options);
        EXPECT_EQ(o.code, 0);
        return run_command("cat " + out + "/main.log").output;
    };
    std::string text;
    for (int i = 0; i < 400; i++) text += format("line %d of some text\n", i * i);
    FILE* f = fopen("build/tmp/verify.txt", "w");
    fwrite(text.data(), 1, text.size(), f), fclose(f);
    const std::string once = run("");
    EXPECT_EQ(run_command(std::string(TRAINER) + " -i build/tmp/verify.txt --tokenizer bytes --verify-steps 5 --deterministic 0 2>&1 | grep -c '^error: --verify-steps: 5 given'").code, 0);
    EXPECT(once.size() > 1000 && once == run("--verify-steps 1") && once == run("--verify-steps 50"));
}
