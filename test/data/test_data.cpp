// The order of rows, the loader, mixtures, and rows that start with documents.
#include <map>
#include <set>
#include "data_test.h"

namespace { const std::string SCRATCH = "build/tmp/data_data"; }

namespace {
// Two shards whose tokens are 0 1 2 ... and 30000 30001 ...: a row is known by its first token
Shards two_shards(int T) {
    Shards shards = {open_shard(write_shard("a.bin", numbers(0, 11 * T + 1))),              // 11 rows to the last token
                     open_shard(write_shard("b.bin", numbers(30000, 6 * T + T / 2), 7))};   // 6 rows and a half
    return shards;
}
struct Loaded { std::vector<int> firsts; std::vector<uint64_t> positions; };
Loaded load(DataLoader& loader, int batches, const DataOptions& o) {
    Loaded out;
    for (int i = 0; i < batches; i++) {
        Batch batch = loader.next();
        out.positions.push_back(batch.position);
        for (int b = 0; b < o.B; b++) {
            const int *inputs = batch.inputs + b * o.T, *targets = batch.targets + b * o.T;
            out.firsts.push_back(inputs[0]);
            for (int t = 0; t < o.T; t++) {
                EXPECT_EQ(inputs[t], inputs[0] + t);
                EXPECT_EQ(targets[t], inputs[0] + t + 1);
            }
        }
    }
    return out;
}
std::vector<int> firsts(const Shards& shards, const DataOptions& o, int batches, uint64_t from = 0, int nslots = 2) {
    std::vector<int> slots = slots_for(o, nslots);
    DataLoader loader(shards, o, slots.data(), nslots);
    loader.seek(from);
    return load(loader, batches, o).firsts;
}
}

// A scan of billions of tokens, before a run has anything to save.
TEST(the_scan_for_documents_can_be_stopped) {
    const std::string path = write_shard("stopped.bin", {E, 1, 2, 3, E, 4, 5});
    for (int align : {0, 1}) {
        Outcome o = run_child([&] {
            g_stop_signal = SIGTERM;
            DataOptions options{.B = 1, .T = 2, .bos_align = align != 0, .eot = E};
            std::vector<int> slots = slots_for(options, 2);
            DataLoader({open_shard(path)}, options, slots.data(), 2);
        });
        EXPECT_EQ(o.code, align ? 128 + SIGTERM : 0);
        EXPECT(!align || o.output.find("interrupted while --bos-align looked for the documents in " + path) != o.output.npos);
    }
}

TEST(permutation_is_a_bijection) {
    for (uint64_t n = 1; n <= 200; n++) {
        std::vector<bool> seen(n);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t j = permute(i, n, 42, 3);
            EXPECT(j < n && !seen[j]);
            if (j < n) seen[j] = true;
        }
    }
    for (uint64_t n : {(uint64_t)99991, (uint64_t)65536, (uint64_t)65537}) {
        std::vector<bool> seen(n);
        for (uint64_t i = 0; i < n; i++) seen[permute(i, n, 7, 0)] = true;
        EXPECT(std::find(seen.begin(), seen.end(), false) == seen.end());
    }
    // too large to visit: different indices stay different and inside
    for (uint64_t n : {((uint64_t)1 << 40) + 17, ((uint64_t)1 << 62) + 1}) {
        std::set<uint64_t> seen;
        for (uint64_t i = 0; i < 1000; i++) seen.insert(permute(n - 1 - i * i * i, n, 1, 2));
        EXPECT_EQ(seen.size(), (size_t)1000);
        EXPECT(*seen.rbegin() < n);
    }
}

TEST(permutation_differs_by_epoch_and_seed_and_is_even) {
    int same_epoch = 0, same_seed = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        same_epoch += permute(i, 1000, 1, 0) == permute(i, 1000, 1, 1);
        same_seed += permute(i, 1000, 1, 0) == permute(i, 1000, 2, 0);
    }
    // two random permutations agree in 1 place on average (Poisson): more than 8 has probability 1e-6
    EXPECT(same_epoch <= 8 && same_seed <= 8);
    // all 6 orders of 3 rows and all 24 of 4 come equally often: chi-square with 5 and 23 degrees of freedom exceeds 30
    // and 65 with probability about 1e-5; seeds are fixed, so this fails always or never
    for (uint64_t n : {3, 4}) {
        std::map<std::vector<uint64_t>, int> orders;
        int trials = 12000;
        for (int seed = 0; seed < trials; seed++) {
            std::vector<uint64_t> order;
            for (uint64_t i = 0; i < n; i++) order.push_back(permute(i, n, (uint64_t)seed, 0));
            orders[order]++;
        }
        size_t all = n == 3 ? 6 : 24;
        double expected = trials / (double)all, chi = 0;
        for (auto& [order, count] : orders) chi += (count - expected) * (count - expected) / expected;
        EXPECT_EQ(orders.size(), all);
        EXPECT(chi < (n == 3 ? 30 : 65));
    }
}

TEST(rows_in_file_order) {
    DataOptions o{.B = 3, .T = 7};
    std::vector<int> got = firsts(two_shards(7), o, 6);  // 17 rows: 6 batches of 3 begin the second epoch
    std::vector<int> expected;
    for (int i = 0; i < 11; i++) expected.push_back(7 * i);
    for (int i = 0; i < 6; i++) expected.push_back(30000 + 7 * i);
    expected.push_back(0);
    EXPECT(got == expected);
    Shards full = {open_shard(write_shard("full.bin", numbers(0, 14)))};  // the second row lacks its last target
    EXPECT_EQ(RowIndex(full, o).rows(), (uint64_t)1);
}

TEST(every_row_once_an_epoch) {
    DataOptions o{.B = 1, .T = 7, .seed = 5, .shuffle = true};
    std::vector<int> got = firsts(two_shards(7), o, 34);
    std::vector<int> first(got.begin(), got.begin() + 17), second(got.begin() + 17, got.end());
    EXPECT(first != second);
    EXPECT(std::set<int>(first.begin(), first.end()).size() == 17);
    EXPECT(std::set<int>(second.begin(), second.end()).size() == 17);
    o.seed = 6;
    EXPECT(firsts(two_shards(7), o, 17) != first);
}

// llm.c divides all tokens of all shards by those of a step, and refuses shards of fewer than a batch of all ranks and one more. Any number of ranks counts as many.
TEST(tokens_of_an_epoch_are_counted_as_llm_c_does) {
    const auto tokens = [](const Shards& shards, DataOptions o) {
        std::vector<int> slots = slots_for(o, 2);
        return DataLoader(shards, o, slots.data(), 2).tokens();
    };
    const int T = 8;
    const Shards shards = two_shards(T);
    EXPECT_EQ(tokens(shards, {.B = 1, .T = T}), 17 * T + T / 2 + 1u);
    for (int world : {1, 2, 8}) EXPECT_EQ(tokens(shards, {.B = 6, .T = T, .world = world}), 17 * T + T / 2 + 1u);  // 48 tokens in the smaller one of 52
    EXPECT_EQ(tokens(shards, {.B = 7, .T = T}), 17u * T);                                         // 56: whole rows
    EXPECT_EQ(tokens({open_shard(write_shard("batch.bin", numbers(0, 4 * T)))}, {.B = 4, .T = T}), 3u * T);  // not one more
    const Shards aligned = {open_shard(write_shard("aligned.bin", {E, 1, 2, 3, E, 4, 5, 6, 7}))};
    EXPECT_EQ(tokens(aligned, {.B = 1, .T = 2, .bos_align = true, .eot = E}), 2 * (uint64_t)4);
}

TEST(world_size_does_not_change_the_stream) {
    Shards shards = two_shards(5);
    DataOptions o{.B = 6, .T = 5, .seed = 9, .shuffle = true};
    std::vector<int> alone = firsts(shards, o, 8);  // 48 rows, nearly three epochs
    for (int world : {2, 3}) {
        std::vector<int> together(48);
        for (int rank = 0; rank < world; rank++) {
            DataOptions r{.B = 6 / world, .T = 5, .rank = rank, .world = world, .seed = 9, .shuffle = true};
            std::vector<int> got = firsts(shards, r, 8);
            for (int i = 0; i < 8; i++)
                for (int b = 0; b < r.B; b++) together[(size_t)(i * 6 + rank * r.B + b)] = got[(size_t)(i * r.B + b)];
        }
        EXPECT(together == alone);
    }
}

TEST(seek_continues_and_slots_do_not_matter) {
    Shards shards = two_shards(7);
    DataOptions o{.B = 2, .T = 7, .rank = 1, .world = 2, .seed = 3, .shuffle = true};
    std::vector<int> all = firsts(shards, o, 20);
    for (int nslots : {1, 2, 5}) EXPECT(firsts(shards, o, 20, 0, nslots) == all);

    std::vector<int> slots = slots_for(o, 3);
    DataLoader loader(shards, o, slots.data(), 3);
    EXPECT_EQ(loader.rows(), (uint64_t)17);
    Loaded begun = load(loader, 7, o);
    EXPECT_EQ(loader.position(), (uint64_t)28);
    EXPECT(begun.positions == (std::vector<uint64_t>{2, 6, 10, 14, 18, 22, 26}));
    EXPECT(std::equal(begun.firsts.begin(), begun.firsts.end(), all.begin()));
    std::vector<int> rest = firsts(shards, o, 13, loader.position());
    EXPECT(std::equal(rest.begin(), rest.end(), all.begin() + 14));
    loader.seek(0);  // a loader that was read ahead starts anew
    EXPECT(load(loader, 20, o).firsts == all);
    loader.seek(8), loader.seek(4);
    std::vector<int> again = load(loader, 1, o).firsts;
    EXPECT(std::equal(again.begin(), again.end(), all.begin() + 2));
}

// A caller that says so holds several batches: none changes before it has taken as many others.
TEST(held_batches_stay) {
    Shards shards = two_shards(7);
    DataOptions o{.B = 2, .T = 7};
    for (int held : {1, 4, 5}) {
        std::vector<int> slots = slots_for(o, 5);
        DataLoader loader(shards, o, slots.data(), 5, held);
        std::vector<Batch> batches;
        std::vector<int> first;
        for (size_t i = 0; i < 30; i++) {
            batches.push_back(loader.next());
            first.push_back(batches[i].inputs[0]);
            usleep(1000);  // the thread fills all that it may
            for (size_t k = i < (size_t)held ? 0 : i + 1 - (size_t)held; k <= i; k++) EXPECT_EQ(batches[k].inputs[0], first[k]);
        }
    }
}

// Of every 65536 rows each source has its share to the row, in an order without a pattern, and each source's rows come in the
// order, and as often, as they would alone.
TEST(mixtures) {
    Shards a = {open_shard(write_shard("mix_a.bin", numbers(0, 7 * 90 + 1)))}, b = {open_shard(write_shard("mix_b.bin", numbers(10000, 7 * 40 + 1)))},
           c = {open_shard(write_shard("mix_c.bin", numbers(20000, 7 * 11 + 1)))};
    Mixture mixture = {{"a", a, 7}, {"b", b, 2}, {"c", c, 1}};
    SourceOrder order(mixture, 3);
    std::map<size_t, std::set<uint64_t>> seen;
    int switches = 0;
    for (uint64_t p = 0; p < 65536; p++) {
        SourceOrder::SourceRow place = order[p];
        seen[place.source].insert(place.row);
        switches += place.source != order[p + 1].source;
    }
    EXPECT_EQ(seen[0].size(), (size_t)45875);  // 0.7 * 65536 = 45875.2, 0.2 * 65536 = 13107.2
    EXPECT_EQ(seen[1].size(), (size_t)13107);
    EXPECT_EQ(seen[2].size(), (size_t)6554);
    for (auto& [source, rows] : seen) EXPECT(*rows.rbegin() == rows.size() - 1);  // each once
    EXPECT(std::abs(switches - 0.46 * 65536) < 600);  // 1 - 0.49 - 0.04 - 0.01: a change has this chance, 128 is a deviation
    uint64_t far = ((uint64_t)1 << 40) + 5;           // any position, without those before
    EXPECT(order[far].row < (far / 65536 + 1) * 45875);

    DataOptions o{.B = 2, .T = 7, .seed = 4, .shuffle = true};
    auto run = [&](uint64_t from, int batches, const DataOptions& options) {
        std::vector<int> slots = slots_for(options, 2);
        DataLoader loader(mixture, options, slots.data(), 2);
        loader.seek(from);
        EXPECT_EQ(loader.rows(), (uint64_t)141);
        return load(loader, batches, options).firsts;
    };
    std::vector<int> all = run(0, 100, o), rest = run(60, 70, o);
    EXPECT(std::equal(rest.begin(), rest.end(), all.begin() + 60));
    DataOptions half = o;
    half.B = 1, half.world = 2, half.rank = 1;
    std::vector<int> second = run(0, 100, half);
    for (size_t i = 0; i < 100; i++) EXPECT_EQ(second[i], all[2 * i + 1]);
    int in_a = 0;
    for (int first : all) in_a += first < 10000;
    EXPECT(in_a > 110 && in_a < 170);  // 140 +- 6.5
    EXPECT_DIES("tiny: the weight 1e-06 is less than 1/65536", SourceOrder({{"a", a, 1}, {"tiny", b, 1e-6}}, 1));

    std::vector<SourceName> names = parse_sources("x/{a,b}*.bin:0.7,y:1e1");
    EXPECT(names.size() == 2 && names[0].pattern == "x/{a,b}*.bin" && names[0].weight == 0.7 && names[1].weight == 10);
    EXPECT(parse_sources("x,y").size() == 1 && parse_sources("x:y").size() == 1 && parse_sources("a:2")[0].pattern == "a");
    EXPECT_DIES("must have a weight for each", parse_sources("a:1,b"));
    EXPECT_DIES("must be a number above 0", parse_sources("a:1,b:-1"));
}

TEST(only_first_rows_over_and_over) {
    DataOptions o{.B = 2, .T = 7, .only_first = 4};
    EXPECT(firsts(two_shards(7), o, 4) == (std::vector<int>{0, 7, 14, 21, 0, 7, 14, 21}));
    o.only_first = 1000;  // more than there are: all
    EXPECT_EQ(firsts(two_shards(7), o, 9)[17], 0);
}

TEST(stops_while_the_ring_is_full) {
    Shards shards = two_shards(7);
    DataOptions o{.B = 1, .T = 7};
    for (int i = 0; i < 50; i++) {  // destroyed before, during and after the first batches
        std::vector<int> slots = slots_for(o, 2);
        DataLoader loader(shards, o, slots.data(), 2);
        for (int n = 0; n < i % 4; n++) EXPECT_EQ(loader.next().inputs[0], 7 * n);
    }
}

// ---- rows that start with documents --------------------------------------------------------------------------------

TEST(aligned_rows) {
    constexpr int EOT = 0;
    // documents of 4, 3, 12 and 5 tokens with the separator; T = 6, so a row is 7 tokens
    std::vector<int> tokens;
    int next = 1;
    for (int length : {4, 3, 12, 5}) {
        tokens.push_back(EOT);
        for (int i = 1; i < length; i++) tokens.push_back(next++);
    }
    Shards shards = {open_shard(write_shard("docs.bin", tokens))};
    DataOptions o{.B = 1, .T = 6, .bos_align = true, .eot = EOT};
    RowIndex index(shards, o);
    std::vector<uint64_t> starts;
    std::vector<int> counted;
    for (uint64_t r = 0; r < index.rows(); r++) starts.push_back(index[r].begin), counted.push_back(index[r].counted);
    // row 0: 0..6, last start in 1..6 is 4;  4..10: 7;  7..13: none, goes on at 13;  13..19: 19 is out of tokens (24 - 7 = 17)
    EXPECT(starts == (std::vector<uint64_t>{0, 4, 7, 13}));
    EXPECT(counted == (std::vector<int>{4, 3, 6, 6}));

    // a document start on the last place of a row is the next row's start: nothing comes twice
    std::vector<int> threes;
    for (int i = 0; i < 14; i++) threes.push_back(i % 3 ? 1 : EOT);
    RowIndex even({open_shard(write_shard("threes.bin", threes))}, o);
    EXPECT(even.rows() == 2 && even[1].begin == 6 && even[0].counted == 6);

    o.repeats = false;
    std::vector<int> slots = slots_for(o, 2);
    DataLoader loader(shards, o, slots.data(), 2);
    Batch batch = loader.next();
    EXPECT(std::vector<int>(batch.inputs, batch.inputs + 6) == (std::vector<int>{0, 1, 2, 3, 0, 4}));
    EXPECT(std::vector<int>(batch.targets, batch.targets + 6) == (std::vector<int>{1, 2, 3, 0, -1, -1}));
    std::vector<int> lengths(100, 1);
    lengths[0] = 0;
    EXPECT_EQ(count_target_bytes(batch, 6, lengths), (uint64_t)3);  // 1 2 3; the separator is no text
}

TEST(aligned_rows_count_each_target_once) {
    constexpr int EOT = 9;
    for (int trial = 0; trial < 60; trial++) {
        int T = 1 + trial % 13;
        std::vector<int> tokens(3, 1);  // a shard may begin inside a document: these are left out
        if (trial % 2) tokens.clear();
        for (uint32_t d = 0; d < 40; d++) {
            tokens.push_back(EOT);
            tokens.insert(tokens.end(), philox((uint64_t)trial, RNG_TEST, 0, d).x[0] % (uint32_t)(3 * T), 1);
        }
        size_t first = trial % 2 ? 0 : 3;
        Shards shards = {open_shard(write_shard("docs.bin", tokens))};
        RowIndex index(shards, {.B = 1, .T = T, .bos_align = true, .eot = EOT});
        std::vector<int> times(tokens.size());
        for (uint64_t r = 0; r < index.rows(); r++) {
            RowIndex::Row row = index[r];
            EXPECT(row.begin + (uint64_t)T < tokens.size());
            bool inside_long = r > 0 && row.begin == index[r - 1].begin + (uint64_t)T;
            EXPECT(tokens[row.begin] == EOT || inside_long);
            for (int t = 1; t <= row.counted; t++) times[row.begin + (uint64_t)t]++;
        }
        size_t end = index[index.rows() - 1].begin + (size_t)T;
        for (size_t i = first + 1; i <= end; i++) EXPECT_EQ(times[i], 1);
        EXPECT(end + (size_t)T >= tokens.size());  // less than a row is dropped at the end
    }
}

// Validation: all targets of all shards, each once, however short the data and however large the batch and the row.
TEST(once_is_every_target_once) {
    constexpr int EOT = 9;
    for (bool aligned : {false, true})
        for (int trial = 0; trial < 200; trial++) {
            auto random = [&](uint32_t i, uint32_t n) { return (int)(philox((uint64_t)trial, RNG_TEST, 1, i).x[0] % n); };
            std::vector<std::vector<int>> files;
            size_t all = 0;
            for (int f = 0; f < 1 + trial % 3; f++) {
                std::vector<int> tokens(2 + (size_t)random((uint32_t)f, 40));
                for (size_t i = 0; i < tokens.size(); i++) tokens[i] = random((uint32_t)(100 * f) + 10 + (uint32_t)i, 6) ? 1000 * f + 100 + (int)i : EOT;
                all += tokens.size() - 1;
                files.push_back(tokens);
            }
            Shards shards;
            for (size_t f = 0; f < files.size(); f++) shards.push_back(open_shard(write_shard(format("once%zu.bin", f), files[f])));
            DataOptions o{.B = 1 + random(1000, 5), .T = 1 + random(1001, 20), .bos_align = aligned, .once = true, .repeats = false, .eot = EOT, .vocab_size = 4000};
            std::vector<int> seen, expected, slots = slots_for(o, 2);
            DataLoader loader(shards, o, slots.data(), 2);
            for (uint64_t batch = 0; batch < loader.batches() + 2; batch++) {  // behind the end there is nothing
                Batch b = loader.next();
                for (int i = 0; i < o.B * o.T; i++) {
                    EXPECT(b.inputs[i] >= 0);
                    if (b.targets[i] < 0) continue;
                    seen.push_back(b.targets[i]);
                    EXPECT(batch < loader.batches());
                    if (b.targets[i] > EOT && b.inputs[i] > EOT) EXPECT_EQ(b.targets[i], b.inputs[i] + 1);
                }
            }
            for (const std::vector<int>& tokens : files) expected.insert(expected.end(), tokens.begin() + 1, tokens.end());
            std::sort(seen.begin(), seen.end()), std::sort(expected.begin(), expected.end());
            if (seen != expected) FAIL("trial %d, aligned %d: %zu targets of %zu", trial, aligned, seen.size(), all);
        }
}

TEST(loader_errors) {
    DataOptions o{.B = 2, .T = 7, .vocab_size = 30005};
    EXPECT_DIES("b.bin: token 5 is 30005, the model's vocabulary has 30005", firsts(two_shards(7), o, 9));
    o.vocab_size = 30000 + 6 * 7 + 1;  // the largest that is read
    EXPECT_EQ(firsts(two_shards(7), o, 9)[16], 30000 + 5 * 7);
    o.vocab_size--;       // and that is a target only
    EXPECT_DIES("b.bin: token 42 is 30042", firsts(two_shards(7), o, 9));
    Shards small = {open_shard(write_shard("small.bin", numbers(0, 7)))};
    EXPECT_DIES("small.bin: 7 tokens, one row takes 8", firsts(small, o, 1));
    EXPECT_DIES("the data: no shards", firsts({}, o, 1));
    DataOptions aligned{.B = 1, .T = 3, .bos_align = true};
    EXPECT_DIES("end-of-text", firsts(small, aligned, 1));
    aligned.eot = 6;
    EXPECT_DIES("one row takes 4", firsts(small, aligned, 1));
    Shards shards = two_shards(7);
    EXPECT_DIES("a.bin: ends at byte 1024: cut short", {
        EXPECT(truncate(shards[0].path.c_str(), 1024) == 0);
        firsts(shards, {.B = 1, .T = 7}, 1);
    });
}
