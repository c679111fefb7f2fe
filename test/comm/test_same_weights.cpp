// One bit of one weight on one rank: seen, and named.
#include "../../llmc/model/same_weights.h"
#include "ranks_test.h"

namespace {
template <class F> std::vector<Outcome> ranks_with_damage(int world, int damaged, ParameterRow row) {
    return run_ranks(world, 30, [=](const Comm& comm) {
        Config config{.V = 131, .L = 2, .NH = 2, .C = 32};
        Model<F> model(config, {.B = 1, .T = 8, .train = false});
        model.allocate();
        initialize(model, 0.02, 42);
        check_same_weights(model, comm, 1);
        if (comm.rank == damaged) ((unsigned char*)(model.params + model.parameters.first[row]))[5] ^= 4;
        check_same_weights(model, comm, 2);
    });
}
}  // namespace

TEST(same_weights_are_well) {
    for (const Outcome& o : ranks_with_damage<float>(3, -1, P_wte)) if (o.code) FAIL("exit code %d: %s", o.code, o.output.c_str());
}

TEST(same_weights_names_rank_and_tensor) {
    const struct { int world, damaged; ParameterRow row; const char* says; } cases[] = {
        {2, 1, P_wte, "the weights of rank 1 are not those of rank 0: wte.weight has the checksum "}, {3, 2, P_lnfb, "the weights of rank 2 are not those of rank 0: ln_f.bias has"},
        {3, 1, P_fcprojw, "the weights of rank 1 are not those of rank 0: h.0.mlp.c_proj.weight has"}, {3, 0, P_wpe, "the weights of rank 1 are not those of rank 0: wpe.weight has"}};
    for (auto& c : cases)
        for (const auto& outcomes : {ranks_with_damage<float>(c.world, c.damaged, c.row), ranks_with_damage<bf16>(c.world, c.damaged, c.row)}) {
            if (outcomes[0].output.find(c.says) == std::string::npos || outcomes[0].output.find(", after step 2: ") == std::string::npos) FAIL("said \"%s\"", outcomes[0].output.c_str());
            for (size_t r = 0; r < outcomes.size(); r++) EXPECT(outcomes[r].code == EXIT_FAILED && (r == 0 || outcomes[r].output.empty()));
        }
}
