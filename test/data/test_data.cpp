// Token shards, the order of rows, the loader, and text that becomes shards.
#include <map>
#include <set>
#include "../../llmc/data/data.h"
#include "../../llmc/data/text.h"
#include "../test.h"

namespace {
std::string folder() {
    static std::string path = [] {
        std::string p = "build/tmp/data";
        remove_tree(p);
        make_folders(p);
        return p;
    }();
    return path;
}
std::string write_text(const std::string& name, const std::string& text) {
    write_file_atomically(folder() + "/" + name, text);
    return folder() + "/" + name;
}
// A shard made by hand, so that ShardWriter is tested too. version 1: uint16, 7: uint32
std::string write_shard(const std::string& name, const std::vector<int>& tokens, int version = 1) {
    int32_t header[256] = {version == 1 ? 20240520 : 20240801, version, (int32_t)tokens.size()};
    std::string bytes((const char*)header, sizeof header);
    for (int t : tokens) bytes.append((const char*)&t, version == 1 ? 2 : 4);
    return write_text(name, bytes);
}
std::vector<int> read_shard(const std::string& path) {
    Shard shard = open_shard(path);
    std::vector<int> tokens(shard.size());
    ShardReader().read(shard, 0, tokens.size(), tokens.data());
    return tokens;
}
std::vector<int> numbers(int from, int n) {
    std::vector<int> v;
    for (int i = 0; i < n; i++) v.push_back(from + i);
    return v;
}
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
std::vector<int> slots_for(const DataOptions& o, int n) { return std::vector<int>((size_t)n * 2 * (size_t)o.B * (size_t)o.T); }
std::vector<int> firsts(const Shards& shards, const DataOptions& o, int batches, uint64_t from = 0, int nslots = 2) {
    std::vector<int> slots = slots_for(o, nslots);
    DataLoader loader(shards, o, slots.data(), nslots);
    loader.seek(from);
    return load(loader, batches, o).firsts;
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

// ---- shards --------------------------------------------------------------------------------------------------------

TEST(shard_writer_and_reader) {
    for (int vocabulary : {65536, 65537}) {
        std::string path = folder() + "/written.bin";
        std::vector<int> tokens;
        for (int i = 0; i < 700001; i++) tokens.push_back((int)(((int64_t)i * 7919) % vocabulary));
        ShardWriter writer(path, vocabulary);
        writer.add(tokens.data(), 5), writer.add(tokens.data() + 5, 0), writer.add(tokens.data() + 5, tokens.size() - 5);
        writer.finish();
        EXPECT_EQ(open_shard(path).width, vocabulary == 65536 ? 2 : 4);
        EXPECT(read_shard(path) == tokens);
    }
    { ShardWriter unfinished(folder() + "/unfinished.bin", 100); }
    for (const std::string& name : list_folder(folder())) EXPECT(name.find("unfinished") == name.npos);
}

TEST(shard_errors) {
    std::vector<int> tokens = numbers(0, 1000);
    std::string good = write_shard("good.bin", tokens), bytes = read_file(good);
    auto with_header = [&](int at, int32_t value) {
        std::string changed = bytes;
        memcpy(changed.data() + 4 * at, &value, 4);
        return write_text("bad.bin", changed);
    };
    EXPECT_EQ(open_shard(good).size(), (uint64_t)1000);
    EXPECT_DIES("bad.bin: not a token shard: starts with 5", open_shard(with_header(0, 5)));
    EXPECT_DIES("bad.bin: version 2 of token shard 20240520, expected 1", open_shard(with_header(1, 2)));
    EXPECT_DIES("bad.bin: version 1 of token shard 20240801, expected 7", open_shard(with_header(0, 20240801)));
    EXPECT_DIES("bad.bin: header says 1001 tokens, the file holds 1000: truncated?", open_shard(with_header(2, 1001)));
    EXPECT_DIES("bad.bin: header says 999 tokens, the file holds 1000", open_shard(with_header(2, 999)));
    EXPECT_DIES("bad.bin: header says -1 tokens", open_shard(with_header(2, -1)));
    EXPECT_DIES("ends in the middle of a token", open_shard(write_text("bad.bin", bytes + "x")));
    EXPECT_DIES("header alone is 1024", open_shard(write_text("bad.bin", bytes.substr(0, 1000))));
    EXPECT_DIES("not a token shard", open_shard(write_text("bad.bin", "")));
    EXPECT_DIES("a directory", open_shard(folder()));
    EXPECT_DIES("nothing*.bin: no such file", list_files(folder() + "/nothing*.bin"));
    EXPECT_DIES("cannot open", open_shard(folder() + "/absent.bin"));
}

TEST(files_are_listed_by_name) {
    for (const char* name : {"s_10.bin", "s_02.bin", "s_01.bin", "s_[x].bin"}) write_shard(name, numbers(0, 3));
    std::vector<std::string> found = list_files(folder() + "/s_*.bin");
    std::vector<std::string> expected;
    for (const char* name : {"s_01.bin", "s_02.bin", "s_10.bin", "s_[x].bin"}) expected.push_back(folder() + "/" + name);
    EXPECT(found == expected);
    EXPECT(list_files(expected[3]) == std::vector<std::string>{expected[3]});
}

TEST(shard_beyond_2_31_tokens) {
    std::string path = folder() + "/huge.bin";
    uint64_t tokens = ((uint64_t)1 << 32) + 12345;  // an int32 header says 12345
    int32_t header[256] = {20240520, 1, 12345};
    int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0666);
    uint16_t last[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    bool made = fd >= 0 && ftruncate(fd, (off_t)(1024 + 2 * tokens)) == 0 && pwrite(fd, header, sizeof header, 0) == 1024 &&
                pwrite(fd, last, sizeof last, (off_t)(1024 + 2 * (tokens - 8))) == sizeof last;
    if (fd >= 0) close(fd);
    if (!made) {
        unlink(path.c_str());
        SKIP("this file system takes no sparse file of 8.6 GB");
    }
    Shard shard = open_shard(path);
    EXPECT_EQ(shard.size(), tokens);
    DataOptions o{.B = 1, .T = 7, .vocab_size = 9};
    uint64_t rows = (tokens - 1) / 7;
    std::vector<int> slots = slots_for(o, 2);
    DataLoader loader({shard}, o, slots.data(), 2);
    EXPECT_EQ(loader.rows(), rows);
    loader.seek(rows - 1);
    Batch batch = loader.next();
    uint64_t begin = (rows - 1) * 7;
    for (uint64_t t = 0; t < 7; t++)
        EXPECT_EQ(batch.targets[t], begin + 1 + t < tokens - 8 ? 0 : (int)(begin + 1 + t - (tokens - 8)) + 1);
    for (int32_t count : {0, -1, INT32_MAX}) {  // other ways in which a count that does not fit was written
        fd = open(path.c_str(), O_WRONLY);
        bool written = pwrite(fd, &count, 4, 8) == 4;
        close(fd);
        EXPECT(written && open_shard(path).size() == tokens);
    }
    fd = open(path.c_str(), O_WRONLY);
    header[2] = 12346;
    bool written = pwrite(fd, header, sizeof header, 0) == 1024;
    close(fd);
    EXPECT(written);
    EXPECT_DIES("header says 12346 tokens", open_shard(path));
    unlink(path.c_str());
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
    EXPECT_DIES("no data", firsts({}, o, 1));
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

// ---- holding out ---------------------------------------------------------------------------------------------------

TEST(hold_out_a_tenth) {
    constexpr int EOT = 0;
    std::vector<int> tokens;
    for (int d = 0; d < 100; d++) {
        tokens.push_back(EOT);
        tokens.insert(tokens.end(), 36, d + 1);  // 100 documents of 37 tokens
    }
    Shards shards = {open_shard(write_shard("docs.bin", tokens))};
    TrainVal split = hold_out(shards, 9, 1, EOT);
    EXPECT_EQ(count_tokens(split.train), (uint64_t)(90 * 37));
    EXPECT_EQ(count_tokens(split.val), (uint64_t)(10 * 37));
    // without known borders: to the token
    split = hold_out(shards, 9, 1, -1);
    EXPECT_EQ(count_tokens(split.val), (uint64_t)370);
    // a batch needs more than a tenth: 1001 tokens, to the document start before
    split = hold_out(shards, 9, 1001, EOT);
    EXPECT_EQ(count_tokens(split.val), (uint64_t)(28 * 37));
    EXPECT_EQ(split.val[0].begin, split.train[0].end);
    EXPECT_EQ(split.val[0].begin % 37, (uint64_t)0);
    // as much as there is, when a batch is more than everything: one row stays to train on
    split = hold_out(shards, 9, 1 << 20, -1);
    EXPECT_EQ(count_tokens(split.train), (uint64_t)9);
    // one document: cut inside it
    Shards one = {open_shard(write_shard("one.bin", numbers(0, 1000)))};
    EXPECT_EQ(count_tokens(hold_out(one, 9, 1, EOT).val), (uint64_t)100);
    // several shards: the cut falls into the last but one
    Shards three = {open_shard(write_shard("x1.bin", numbers(1, 5000))), open_shard(write_shard("x2.bin", numbers(1, 900))),
                    open_shard(write_shard("x3.bin", numbers(1, 100)))};
    split = hold_out(three, 9, 1, EOT);
    EXPECT(split.train.size() == 2 && split.val.size() == 2);
    EXPECT_EQ(split.train[1].end, (uint64_t)400);
    EXPECT_EQ(split.val[0].begin, (uint64_t)400);
    EXPECT_DIES("one.bin: 1000 tokens, but one row to train on and one to validate on take 1002", hold_out(one, 501, 1, EOT));
    EXPECT_EQ(count_tokens(hold_out(one, 500, 1, EOT).val), (uint64_t)500);
}

// ---- text ----------------------------------------------------------------------------------------------------------

namespace {
const int E = 256;
std::vector<int> tokenised(const std::string& name, const std::string& text, const Tokenizer& tokenizer = Tokenizer::bytes()) {
    return read_shard(tokenize_to_cache(write_text(name, text), tokenizer, folder() + "/cache"));
}
std::vector<int> with_ends(const std::vector<std::string>& documents) {
    std::vector<int> tokens;
    for (const std::string& d : documents) {
        tokens.push_back(E);
        for (char c : d) tokens.push_back((unsigned char)c);
    }
    return tokens;
}
}

TEST(txt_documents) {
    EXPECT(tokenised("t.txt", "Hello") == with_ends({"Hello"}));  // no newline at the end, one document
    EXPECT(tokenised("t.txt", "one\r\n<|endoftext|>two\n") == with_ends({"one\r\n", "two\n"}));
    EXPECT(tokenised("t.txt", "<|endoftext|>one<|endoftext|><|endoftext|>two<|endoftext|>\n") == with_ends({"one", "two"}));
    EXPECT(tokenised("t.txt", "a<|endoftext|") == with_ends({"a<|endoftext|"}));
    EXPECT(tokenised("t.txt", std::string("\0\xff\x80", 3)) == with_ends({std::string("\0\xff\x80", 3)}));
    EXPECT_DIES("t.txt: no text in it", tokenised("t.txt", ""));
    EXPECT_DIES("t.txt: no text in it", tokenised("t.txt", " \n<|endoftext|>\n"));
    for (const std::string& name : list_folder(folder() + "/cache")) EXPECT(name.find(".tmp") == name.npos);
    EXPECT_DIES("absent.txt", tokenize_to_cache(folder() + "/absent.txt", Tokenizer::bytes(), folder() + "/cache"));
}

TEST(txt_longer_than_a_block) {
    // blocks of 1 MB: documents and separators across their borders, a document with no place to cut, and one with many
    std::vector<std::string> documents = {std::string((1 << 20) - 5, 'x'), std::string(3 << 20, 'y'), "short"};
    std::string words;
    while (words.size() < (5 << 20) / 2) words += "word " + std::to_string(words.size()) + " and more  words\n";
    documents.push_back(words);
    std::string text;
    for (const std::string& d : documents) text += (text.empty() ? "" : "<|endoftext|>") + d;
    EXPECT(tokenised("long.txt", text) == with_ends(documents));

    // cutting changes no token
    PieceCounts counts;
    counts.add_text(words.substr(0, 100000), SplitPattern::LLAMA3);
    Tokenizer tokenizer = Tokenizer::train(counts, 400, SplitPattern::LLAMA3);
    std::vector<int> expected = {tokenizer.eot()};
    tokenizer.encode(words, expected);
    EXPECT(tokenised("words.txt", words, tokenizer) == expected);
}

// Every cut that is called safe keeps the tokens, in every pattern and in text of any kind.
TEST(safe_cuts) {
    const char* parts[] = {"word", " ", "  ", "\n", "'", "'s", "'S", "12", "!", "\xe4\xbd\xa0", "\xe3\x80\x82", "\xcc\x81", "A", "aB", "\xc5\xbf", "\xff", "\t", "/", "\xd9\xa1"};
    for (SplitPattern pattern : {SplitPattern::GPT2, SplitPattern::LLAMA3, SplitPattern::CL100K, SplitPattern::O200K}) {
        int cuts = 0;
        for (uint32_t trial = 0; trial < 3000; trial++) {
            std::string text, joined;
            for (uint32_t i = 0; i < 14; i++) text += parts[philox(5, RNG_TEST, trial, i).x[0] % (sizeof parts / sizeof *parts)];
            size_t seen = text.size() * 2 / 3, cut = text_detail::safe_cut(std::string_view(text).substr(0, seen));
            if (!cut) continue;
            cuts++;
            auto pieces = [&](std::string_view s) {
                std::string out;
                std::string_view piece;
                for (Splitter splitter(pattern, s); splitter.next(piece);) out += std::string(piece) + "|";
                return out;
            };
            std::string_view whole = text;
            if (pieces(whole.substr(0, cut)) + pieces(whole.substr(cut)) != pieces(whole)) FAIL("%s cut at %zu", json_quote(text).c_str(), cut);
        }
        EXPECT(cuts > 1500);
    }
    EXPECT_EQ(text_detail::part_length(std::string(text_detail::BLOCK, 'x')), text_detail::BLOCK);
    EXPECT_EQ(text_detail::part_length(std::string(9 << 20, 'x')), text_detail::LONGEST);
    std::string three;  // a character of three bytes is not cut through
    while (three.size() < (5 << 20)) three += "\xe4\xbd\xa0";
    EXPECT(text_detail::part_length(three) % 3 == 0);
}

TEST(compressed_text) {
    std::string text = write_text("z.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n"), name = folder() + "/it's a \"name\" $HOME.jsonl.gz";
    rename_file(text, folder() + "/z2.jsonl");
    FILE* pipe = popen(("gzip -c < " + folder() + "/z2.jsonl > " + folder() + "/z.gz").c_str(), "r");
    if (pclose(pipe)) SKIP("there is no gzip");
    rename_file(folder() + "/z.gz", name);
    EXPECT(read_shard(tokenize_to_cache(name, Tokenizer::bytes(), folder() + "/cache")) == with_ends({"one", "two"}));
    std::string bytes = read_file(name);
    write_text("cut.jsonl.gz", bytes.substr(0, bytes.size() - 9));
    EXPECT_DIES("cut.jsonl.gz: gzip cannot read it", tokenize_to_cache(folder() + "/cut.jsonl.gz", Tokenizer::bytes(), folder() + "/cache"));
    for (const std::string& n : list_folder(folder() + "/cache")) EXPECT(n.find(".tmp") == n.npos);
}

TEST(jsonl_documents) {
    std::string lines = "{\"text\": \"caf\\u00e9 \\ud83d\\ude00\\n\\\"q\\\"\", \"id\": 1}\r\n"
                        "\n"
                        "{\"id\": 2, \"text\": \"\"}\n"
                        "{\"meta\": {\"text\": \"no\"}, \"text\": \"<|endoftext|>\"}";
    EXPECT(tokenised("t.jsonl", lines) == with_ends({"caf\xc3\xa9 \xf0\x9f\x98\x80\n\"q\"", "<|endoftext|>"}));
    EXPECT_DIES("t.jsonl: line 3 column", tokenised("t.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b}\n"));
    EXPECT_DIES("t.jsonl: line 2: expected an object with a \"text\"", tokenised("t.jsonl", "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n"));
    EXPECT_DIES("t.jsonl: line 1: expected an object with a \"text\"", tokenised("t.jsonl", "{\"text\": 5}"));
    EXPECT_DIES("t.jsonl: line 1: expected an object with a \"text\"", tokenised("t.jsonl", "[1]"));
    EXPECT_DIES("t.jsonl: no text in it", tokenised("t.jsonl", "\n"));
}

TEST(cache_is_used_again) {
    std::string path = write_text("c.txt", "some text"), cache = folder() + "/cache2";
    std::string shard = tokenize_to_cache(path, Tokenizer::bytes(), cache);
    write_text("cache2/" + shard.substr(shard.rfind('/') + 1), read_file(shard) + "mark");  // would be lost if written again
    EXPECT_STR(tokenize_to_cache(path, Tokenizer::bytes(), cache), shard);
    EXPECT(read_file(shard).find("mark") != std::string::npos);
    // another text of the same length, another tokenizer, another name
    write_text("c.txt", "same text");
    EXPECT(tokenize_to_cache(path, Tokenizer::bytes(), cache) != shard);
    write_text("c.txt", "some text");
    EXPECT_STR(tokenize_to_cache(path, Tokenizer::bytes(), cache), shard);
    PieceCounts counts;
    counts.add_text("some some some", SplitPattern::GPT2);
    EXPECT(tokenize_to_cache(path, Tokenizer::train(counts, 300, SplitPattern::GPT2), cache) != shard);
    EXPECT(list_folder(cache).size() == 3);
}

TEST(data_from_any_kind_of_file) {
    std::string shard = write_shard("m1.bin", numbers(0, 100)), text = write_text("m2.txt", "text");
    Shards shards = open_data(folder() + "/m?.*", Tokenizer::bytes(), folder() + "/cache");
    EXPECT(shards.size() == 2 && shards[0].size() == 100 && shards[1].size() == 5);
    EXPECT_DIES("text must be named .txt or .jsonl", open_data(write_text("m3.md", "# text"), Tokenizer::bytes(), folder()));
}

// ---- the tokenize command ------------------------------------------------------------------------------------------

namespace {
const std::string TOKENIZE = TOKENIZE_PROGRAM;
bool same_folders(const std::string& a, const std::string& b) {
    if (list_folder(a) != list_folder(b) || list_folder(a).empty()) return false;
    for (const std::string& name : list_folder(a)) if (read_file(a + "/" + name) != read_file(b + "/" + name)) return false;
    return true;
}
std::string replaced_once(std::string text, const std::string& from, const std::string& to) {
    size_t at = text.find(from);
    return at == text.npos ? text : text.replace(at, from.size(), to);
}
}

TEST(tokenize_command) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string dir = folder() + "/set", in = " -i " + folder() + "/one.txt '" + folder() + "/t*o.jsonl'";
    std::string one, two;
    for (int i = 0; i < 300; i++) {
        one += (i ? "<|endoftext|>" : "") + std::string("document ") + std::to_string(i);
        two += "{\"text\": \"line " + std::to_string(i) + "\"}\n";
    }
    write_text("one.txt", one), write_text("two.jsonl", two);
    Outcome made = run_command(TOKENIZE + in + " --val 10% --shard-tokens 1K -o " + dir + " 2>&1");
    EXPECT_EQ(made.code, 0);
    EXPECT(made.output.find("600 documents") != std::string::npos);
    // each document is in one shard, whole; the order within train and within val is that of the files
    std::vector<int> train, val;
    for (const std::string& path : list_files(dir + "/train_*.bin")) {
        std::vector<int> tokens = read_shard(path);
        EXPECT(tokens[0] == E && tokens.size() < 1000 + 20);
        train.insert(train.end(), tokens.begin(), tokens.end());
    }
    val = read_shard(dir + "/val_000000.bin");
    std::vector<std::string> documents;
    for (int i = 0; i < 600; i++) documents.push_back((i < 300 ? "document " : "line ") + std::to_string(i % 300));
    size_t in_train = 0, in_val = 0, at_train = 0, at_val = 0;
    for (const std::string& d : documents) {
        std::vector<int> tokens = with_ends({d});
        auto here = [&](const std::vector<int>& all, size_t at) {  // and then another document, or the end
            return all.size() >= at + tokens.size() && std::equal(tokens.begin(), tokens.end(), all.begin() + (long)at) &&
                   (all.size() == at + tokens.size() || all[at + tokens.size()] == E);
        };
        if (here(train, at_train)) in_train++, at_train += tokens.size();
        else if (here(val, at_val)) in_val++, at_val += tokens.size();
    }
    EXPECT(in_train + in_val == 600 && at_train == train.size() && at_val == val.size());
    EXPECT(in_val > 35 && in_val < 90);  // 60 +- 7.3: more than three standard deviations on both sides

    // the same again, with one thread: the same files
    EXPECT_EQ(run_command(TOKENIZE + in + " --val 10% --shard-tokens 1K --threads 1 -o " + dir + "2 2>&1").code, 0);
    EXPECT(same_folders(dir, dir + "2"));
    EXPECT(run_command(TOKENIZE + in + " --val 10% --shard-tokens 1K -o " + dir).output.find("done already") != std::string::npos);
    EXPECT(run_command(TOKENIZE + " -i " + folder() + "/one.txt -o " + dir).output.find("other options") != std::string::npos);
    EXPECT(run_command(TOKENIZE + " -i " + folder() + "/one.txt -o " + folder()).output.find("a shard of something else") != std::string::npos);
    Shards shards = open_data(dir + "/train_*.bin", Tokenizer::bytes(), dir);
    EXPECT_EQ(count_tokens(shards), train.size());
    EXPECT(Tokenizer::load(dir + "/tokenizer.json").fingerprint() == Tokenizer::bytes().fingerprint());
}

// Killed again and again, and started again each time: the bytes of the undisturbed run. Between two notes of the position
// lies a file here; documents go on from one batch to the next and are spread over train and val.
TEST(tokenize_goes_on_after_a_kill) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string dir = folder() + "/kill", long_one;
    make_folders(dir);
    for (int i = 0; i < 40; i++) {
        std::string text;
        for (int d = 0; d < 50; d++) text += format("document %d of file %d<|endoftext|>", d, i);
        write_text(format("kill/%02d.txt", i), text);
    }
    while (long_one.size() < (20 << 20)) long_one += "one document of several batches " + std::to_string(long_one.size());
    write_text("kill/20.txt", "a first one<|endoftext|>" + long_one + "<|endoftext|>and a last");
    std::string command = TOKENIZE + " -i '" + dir + "/*.txt' --val 50% --shard-tokens 5K --save-every 0 -o " + dir;
    EXPECT_EQ(run_command(command + "/whole").code, 0);
    int killed = 0;
    for (int i = 0; i < 200; i++) {
        Outcome o = run_command(format("timeout -s KILL 0.%02d ", 2 + i % 17) + command + "/parts 2>&1");
        killed += o.code != 0;
        if (o.code == 0) break;
    }
    EXPECT(killed > 0);
    EXPECT(run_command(command + "/parts").code == 0 && same_folders(dir + "/whole", dir + "/parts"));
    // a limit on the size of files stands for a full disk: the error names the file, and the work goes on afterwards
    Outcome full = run_command("ulimit -f 20; " + command + "/full 2>&1");
    EXPECT(full.code == 1 && full.output.find("cannot write") != std::string::npos);
    EXPECT(run_command(command + "/full").code == 0 && same_folders(dir + "/whole", dir + "/full"));
    // the position, damaged by hand
    Outcome o = run_command("timeout -s KILL 0.05 " + command + "/bad 2>&1");
    if (o.code != 0 && !access((dir + "/bad/dataset.part.json").c_str(), F_OK)) {
        write_text("kill/bad/dataset.part.json", "{\"made_from\": ");
        EXPECT(run_command(command + "/bad").output.find("dataset.part.json: line 1") != std::string::npos);
    }
}

TEST(tokenize_mistakes_are_one_line) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string out = folder() + "/mistake";
    write_text("one.txt", "text");
    write_text("bad.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n");
    write_text("bad.jsonl.gz", "certainly not compressed");
    write_text("blank.txt", " \n<|endoftext|>\n");
    write_text("no_eot.json", replaced_once(Tokenizer::bytes().to_json(), "<|endoftext|>", "<|other|>"));
    struct Mistake { const char* options; int code; const char* says; };
    for (Mistake m : {
             Mistake{"", 2, "--input: missing"},
             {"-i", 2, "-i: names of text files must follow"},
             {"-i IN/one.txt", 2, "--out: missing"},
             {"-i IN/one.txt -o OUT --val 2", 2, "--val: '2' given, must be from 0 to below 1"},
             {"-i IN/one.txt -o OUT --val 1%%", 2, "--val: '1%%' given"},
             {"-i IN/one.txt -o OUT --val nan", 2, "--val: 'nan' given"},
             {"-i IN/one.txt -o OUT --shard-tokens 0", 2, "--shard-tokens: '0' given"},
             {"-i IN/one.txt -o OUT --shard-tokens 1.5", 2, "--shard-tokens: '1.5' given"},
             {"-i IN/one.txt -o OUT --shard-tokens 1X", 2, "--shard-tokens: '1X' given"},
             {"-i IN/one.txt -o OUT --what 1", 2, "--what: unknown option"},
             {"-i IN/one.txt -o", 2, "-o: a value must follow"},
             {"--train 256 -i IN/one.txt -o OUT", 2, "--train: '256' given"},
             {"--train 300 -i IN/one.txt -o OUT --pattern gpt5", 2, "--pattern: 'gpt5' given, must be one of gpt2, llama3, cl100k, o200k"},
             {"-i IN/absent*.txt -o OUT", 1, "absent*.txt: no such file"},
             {"-i IN/good.bin -o OUT", 1, "good.bin: must be named .txt"},
             {"-i IN/blank.txt -o OUT", 1, "blank.txt: no text in it"},
             {"-i IN/bad.jsonl -o OUT", 1, "bad.jsonl: line 2: expected an object with a \"text\""},
             {"-i IN/bad.jsonl.gz -o OUT", 1, "bad.jsonl.gz: gzip cannot read it"},
             {"-i IN/one.txt -o OUT --tokenizer IN/absent", 1, "absent"},
             {"-i IN/one.txt -o OUT --tokenizer IN/no_eot.json", 1, "no end-of-text token"},
             {"--train 300 -i IN/bad.jsonl -o OUT", 1, "bad.jsonl: line 2"},
             {"-i IN/one.txt -o IN/one.txt", 1, "one.txt"},
         }) {
        std::string options = m.options;
        for (size_t at; (at = options.find("IN/")) != options.npos;) options.replace(at, 2, folder());
        for (size_t at; (at = options.find("OUT")) != options.npos;) options.replace(at, 3, out);
        Outcome o = run_command(TOKENIZE + " " + options + " 2>&1");
        if (o.code != m.code || o.output.find(m.says) == o.output.npos || o.output.find('\n') != o.output.size() - 1)
            FAIL("%s: exit code %d, said \"%s\", expected %d, one line with \"%s\"", options.c_str(), o.code, o.output.c_str(), m.code, m.says);
        EXPECT(list_folder(out).empty());
    }
    EXPECT(run_command(TOKENIZE + " --help").code == 0);
}

TEST(tokenize_learns) {
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string text;
    for (int i = 0; i < 3000; i++) text += format("the number %d isn't the number %d\n", i * i, i);
    write_text("learn.txt", text);
    for (const char* pattern : {"gpt2", "llama3", "cl100k"}) {
        std::string out = folder() + "/learnt.json";
        Outcome o = run_command(TOKENIZE + " --train 400 -i " + folder() + "/learn.txt -o " + out + " --pattern " + pattern);
        EXPECT_EQ(o.code, 0);
        Tokenizer t = Tokenizer::load(out);
        EXPECT_EQ(t.vocab_size(), 400);
        EXPECT_STR(split_regex(t.pattern()), split_regex(strcmp(pattern, "gpt2") ? strcmp(pattern, "llama3") ? SplitPattern::CL100K : SplitPattern::LLAMA3 : SplitPattern::GPT2));
    }
    Outcome few = run_command(TOKENIZE + " --train 300 -i " + folder() + "/t.txt -o " + folder() + "/few.json");
    EXPECT(few.code == 0 && few.output.find("fewer than 300") != few.output.npos);
}

// A text of one character, or of anything, takes memory that does not grow with it: 40 MB are five times what is in flight.
TEST(tokenize_memory_has_a_bound) {
#ifdef __SANITIZE_ADDRESS__
    SKIP("AddressSanitizer's own memory comes on top");
#endif
    if (access(TOKENIZE.c_str(), X_OK)) SKIP("%s is not built", TOKENIZE.c_str());
    std::string json = folder() + "/bound.json";
    PieceCounts counts;
    counts.add_text(std::string(100, 'a') + " " + std::string(100, 'a'), SplitPattern::GPT2);
    write_file_atomically(json, Tokenizer::train(counts, 262, SplitPattern::GPT2).to_json());
    write_text("bound.txt", std::string(40 << 20, 'a'));
    Outcome o = run_command(TOKENIZE + " -i " + folder() + "/bound.txt -o " + folder() + "/bound --tokenizer " + json + " 2>&1");
    EXPECT_EQ(o.code, 0);
    if (o.peak_mib > 600) FAIL("the peak was %.0f MiB", o.peak_mib);
    remove_tree(folder() + "/bound"), unlink((folder() + "/bound.txt").c_str());
}
