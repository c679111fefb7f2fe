// test_memory.cpp: memory that is damaged between an update and the save behind it, which no later update has seen: it is not saved.
#include <cmath>
#include "../arena_of.h"
#include "runs.h"
#include "tracer.h"

namespace {
// Writes `bad` where the first of `count` ones in a row are: in bf16 the masters of LayerNorm's weights, which no forward
// pass sees and a learning rate of nothing leaves alone. False: there are none.
bool damage(pid_t process, size_t count, float bad) {
    const ArenaOf arena(std::to_string((int)process));
    size_t ones = 0;
    float page[1024];
    for (size_t at = 0;; at += sizeof page) {
        if (!arena.is_open() || !arena.read(at, page)) return false;
        for (size_t i = 0; i < 1024; i++) {
            ones = page[i] == 1 ? ones + 1 : 0;
            if (ones == count) return arena.write(at + i * sizeof(float), bad);
        }
    }
}
}  // namespace

// Step 4 has been written down and will be saved: it is no hundredth step, at which sums of the whole state are compared.
TEST(what_is_not_finite_just_before_a_save_is_not_saved) {
    if (strcmp(BUILD, "build")) SKIP("the largest mapping is the sanitizer's, not the arena");
    const Scratch scratch("memory");
    for (const float bad : {NAN, INFINITY, 1.0f}) {  // the last one changes nothing
        remove_tree(scratch.path + "/a");
        Tracer tracer(scratch.path);
        int came = 0;
        tracer.on_entry = [&](const Call& call, int) {
            if (!call.is(Does::WRITES) || !call.path.ends_with("/main.log")) return Order{};
            if (tracee_bytes(call.process, call.arguments[1], call.bytes).find("s:4 trl:") != std::string::npos) came += damage(call.process, 128, bad);
            return Order{};
        };
        const Tracer::Ended ended = tracer.run(small_run(scratch.path, "a", 1, "--precision bf16 -e d2c128h4 -l 1e-30 -v 0 -n 4 -x 8"), scratch.said());
        EXPECT_EQ(came, 1);
        if (bad == 1) {
            EXPECT(ended.code == 0 && has_checkpoint(scratch.path + "/a", 4));
            continue;
        }
        if (ended.code != 1 || ended.said.find("step 4: h.0.ln_1.weight, ") == std::string::npos || ended.said.find(" are not finite; it is not saved\n") == std::string::npos) FAIL("exit code %d: %s", ended.code, ended.said.c_str());
        EXPECT(list_checkpoints(scratch.path + "/a").empty());
    }
}
