// Token shards: written, read, refused, listed, cut in two.
#include "data_test.h"

namespace { const std::string SCRATCH = "build/tmp/data_shards"; }

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
    EXPECT_DIES("is a folder, must be a file", open_shard(folder()));
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

// The cut depends on the tokens alone: there is no batch and no sequence to depend on.
TEST(hold_out_a_tenth) {
    constexpr int EOT = 0;
    std::vector<int> tokens;
    for (int d = 0; d < 100; d++) {
        tokens.push_back(EOT);
        tokens.insert(tokens.end(), 36, d + 1);  // 100 documents of 37 tokens
    }
    Shards shards = {open_shard(write_shard("docs.bin", tokens))};
    TrainVal split = hold_out(shards, EOT);
    EXPECT_EQ(count_tokens(split.train), (uint64_t)(90 * 37));
    EXPECT_EQ(count_tokens(split.val), (uint64_t)(10 * 37));
    EXPECT(split.val[0].begin == split.train[0].end && split.val[0].begin % 37 == 0);
    // without known document starts: to the token
    split = hold_out(shards, -1);
    EXPECT_EQ(count_tokens(split.val), (uint64_t)370);
    // from 5 to 15 % whatever the documents are: a document start that is further away is not used
    for (int length : {7, 64, 111, 149, 151, 333, 600, 999, 2000}) {
        std::vector<int> uneven = numbers(1, 3000);
        for (int i = 0; i < 3000; i += length) uneven[(size_t)i] = EOT;
        Shards one = {open_shard(write_shard("uneven.bin", uneven))};
        split = hold_out(one, EOT);
        uint64_t held = count_tokens(split.val);
        EXPECT(held >= 150 && held <= 450 && held + count_tokens(split.train) == 3000);
        EXPECT(split.val[0].begin % (uint64_t)length == 0 || held == 300);
    }
    // one document: cut inside it
    Shards one = {open_shard(write_shard("one.bin", numbers(0, 1000)))};
    EXPECT_EQ(count_tokens(hold_out(one, EOT).val), (uint64_t)100);
    // several shards: the cut falls into the last but one
    Shards three = {open_shard(write_shard("x1.bin", numbers(1, 5000))), open_shard(write_shard("x2.bin", numbers(1, 900))),
                    open_shard(write_shard("x3.bin", numbers(1, 100)))};
    split = hold_out(three, EOT);
    EXPECT(split.train.size() == 2 && split.val.size() == 2);
    EXPECT_EQ(split.train[1].end, (uint64_t)400);
    EXPECT_EQ(split.val[0].begin, (uint64_t)400);
    // the smallest text there can be: a target to train on and one to validate on
    for (int n = 4; n < 50; n++) {
        Shards few = {open_shard(write_shard("few.bin", std::vector<int>((size_t)n, EOT)))};
        split = hold_out(few, EOT);
        EXPECT(count_tokens(split.train) >= 2 && count_tokens(split.val) >= 2 && count_tokens(split.train) + count_tokens(split.val) == (uint64_t)n);
    }
    EXPECT_DIES("few.bin: 3 tokens, too few to train on and to hold out a tenth of", hold_out({open_shard(write_shard("few.bin", numbers(0, 3)))}, EOT));
}
