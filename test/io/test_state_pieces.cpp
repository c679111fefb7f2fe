// The optimizer's state in pieces: any number of ranks reads what any number wrote.
#include <pthread.h>
#include <thread>
#include "../../llmc/io/state_pieces.h"
#include "checkpoints.h"

// exp_avg of three parameters: value = 1000 * parameter + index. Rank r of `world` holds one cut of them all laid end to end,
// as ZeRO does, so that a cut may cross from one into the next, or be empty.
static const std::vector<std::pair<std::string, size_t>> params = {{"a", 11}, {"b", 1}, {"c.weight", 7}};
template <class Use> void for_each_cut(size_t rank, size_t world, Use use) {
    size_t total = 0, begin = 0;
    for (auto& [name, size] : params) total += size;
    size_t low = total * rank / world, high = total * (rank + 1) / world;
    for (size_t p = 0; p < params.size(); begin += params[p++].second) {
        size_t from = std::max(low, begin), to = std::min(high, begin + params[p].second);
        if (from < to) use(p, from - begin, to - from);
    }
}
static void save_state(const std::string& out, int step, const std::vector<std::vector<float>>& values, size_t world) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, nullptr, (unsigned)world);
    std::vector<std::thread> ranks;
    for (size_t r = 0; r < world; r++)
        ranks.emplace_back([&, r] {
            CheckpointWriter writer(out, step, {(int)r, (int)world, [&] { pthread_barrier_wait(&barrier); }});
            if (r == 0) writer.add_text("trainer.json", "{}");
            std::vector<TensorSpec> specs;
            for_each_cut(r, world, [&](size_t p, size_t offset, size_t count) { specs.push_back(state_spec({"exp_avg", params[p].first, offset, count})); });
            writer.add_tensors(state_file((int)r), specs, {}, [&](TensorSink& file) {
                for_each_cut(r, world, [&](size_t p, size_t offset, size_t count) { file.write(&values[p][offset], count * 4); });
            });
            writer.commit();
            EXPECT(access((out + "/" + checkpoint_detail::step_name(step)).c_str(), F_OK) == 0);  // there on every rank after commit
        });
    for (std::thread& t : ranks) t.join();
    pthread_barrier_destroy(&barrier);
}

TEST(any_number_of_ranks_reads_what_any_number_wrote) {
    std::string out = fresh("ranks");
    std::vector<std::vector<float>> values;
    for (size_t p = 0; p < params.size(); p++)
        for (size_t i = 0; i < params[p].second; i++) (i == 0 ? values.emplace_back() : values.back()).push_back((float)(1000 * p + i));
    int step = 0;
    for (size_t world : {1, 3, 2, 7, 23}) {  // 23 ranks, 19 elements: some hold nothing
        save_state(out, ++step, values, world);
        EXPECT_STR(verify_checkpoint(newest(out).path), "");
        EXPECT_EQ(list_folder(newest(out).path).size(), world + 2);
        StateReader reader(newest(out).path);
        for (size_t readers : {1, 2, 5}) {  // the next run has another number of ranks
            std::vector<std::vector<float>> back;
            for (auto& [name, size] : params) back.emplace_back(size, -1.0f);
            for (size_t r = 0; r < readers; r++)
                for_each_cut(r, readers, [&](size_t p, size_t offset, size_t count) { reader.read("exp_avg", params[p].first, offset, count, &back[p][offset]); });
            EXPECT(back == values);
            values = back;
        }
        EXPECT(reader.has("exp_avg", "a") && !reader.has("exp_avg", "") && !reader.has("exp_avg_sq", "a") && !reader.has("exp_avg", "c"));
    }
}

TEST(a_missing_rank_is_named) {
    std::string out = fresh("missing_rank");
    EXPECT_DIES(".manifest-00001: No such file", CheckpointWriter w(out, 1, {0, 2, [] {}}); w.commit());
    EXPECT(list_checkpoints(out).empty());
    EXPECT_DIES("cannot add a file named \"a\"", CheckpointWriter w(out, 1, {0, 2, [] {}}); w.add_text("a", "");
                CheckpointWriter x(out, 1, {1, 2, [] {}}); x.add_text("a", ""); x.commit(); w.commit());
}

TEST(state_that_does_not_fit) {
    std::string dir = fresh("state");
    float x[64] = {};
    auto put = [&](int rank, const std::vector<TensorSpec>& specs) {
        SafetensorsWriter w(dir + "/" + state_file(rank), specs);
        for (auto& s : specs) w.write(x, 4 * TensorInfo{s.name, s.dtype, s.shape, 0, 0}.count());
        w.close();
    };
    put(0, {state_spec({"m", "w", 0, 10}), state_spec({"m", "w", 20, 10})});
    put(1, {state_spec({"m", "w", 10, 5})});
    float y[64];
    { StateReader r(dir); r.read("m", "w", 3, 12, y), r.read("m", "w", 25, 5, y), r.read("m", "w", 12, 0, y); }
    EXPECT_DIES("state: m/w, elements [0, 30): [15, ...) is in no state-*.safetensors", StateReader r(dir); r.read("m", "w", 0, 30, y));
    EXPECT_DIES("state: m/w, elements [25, 31): [30, ...) is in no", StateReader r(dir); r.read("m", "w", 25, 6, y));
    EXPECT_DIES("state: v/w, elements [0, 1): [0, ...) is in no", StateReader r(dir); r.read("v", "w", 0, 1, y));
    EXPECT_DIES("state: m/, elements [0, 1): [0, ...) is in no", StateReader r(dir); r.read("m", "", 0, 1, y));
    put(1, {state_spec({"m", "w", 9, 5})});
    EXPECT_DIES("state-00001.safetensors: \"m/w@9\" overlaps \"m/w@0\" of build/tmp/checkpoint/state/state-00000", StateReader r(dir));
    put(1, {state_spec({"m", "w", 29, 1})});
    EXPECT_DIES("\"m/w@29\" overlaps \"m/w@20\"", StateReader r(dir));
    for (const char* name : {"m/w", "w@5", "m/@5", "/w@5", "m/w@", "m/w@x", "m/w@-1", "m/w@1.0", "m/w@ 1", "m/w@+1", "m/w@01", "@1", "@/1", "m/w@18446744073709551615", "m/w@99999999999999999999"}) {
        put(1, {{name, Dtype::F32, {1}}});
        EXPECT_DIES("expected kind/parameter@offset, shape [count]", StateReader r(dir));
    }
    put(1, {{"m/w@100", Dtype::F32, {1, 1}}});
    EXPECT_DIES("\"m/w@100\" [1,1]: expected kind/parameter@offset, shape [count]", StateReader r(dir));
    // where a MANIFEST says which files are part of it, others are not looked at
    {
        using namespace checkpoint_detail;
        FileSum sum;
        EXPECT_STR(sum_file(dir + "/" + state_file(0), sum), "");
        put_file(dir + "/MANIFEST", manifest_text({{state_file(0), sum}})), put_file(dir + "/state-junk.safetensors", "junk");
        StateReader r(dir);
        r.read("m", "w", 0, 10, y);
        unlink((dir + "/MANIFEST").c_str()), unlink((dir + "/state-junk.safetensors").c_str());
    }
    put(1, {state_spec({"m", "w", 100, 1}, Dtype::I32)});
    EXPECT_DIES("\"m/w@100\" is I32, expected F32, BF16, F16 or F64", StateReader r(dir); r.read("m", "w", 100, 1, y));
}
