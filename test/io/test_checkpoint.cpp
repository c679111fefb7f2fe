// A checkpoint is whole or it is not there: whatever is damaged is named, and what is said of it is true. Processes that die: test_checkpoint_deaths.cpp.
#include <signal.h>
#include <sys/resource.h>
#include "checkpoints.h"

TEST(xxh64_vectors) {
    // "", "a", "abc" and the sentence are widely published; the rest are of the reference program's self-test: the first n
    // bytes of a generator's output, with seed 0 and with the generator's prime.
    auto hash = [](const char* text) { return xxh64(text, strlen(text)); };
    EXPECT(hash("") == 0xef46db3751d8e999);
    EXPECT(hash("a") == 0xd24ec4f1a98c6e5b);
    EXPECT(hash("abc") == 0x44bc2cf5ad770999);
    EXPECT(hash("Nobody inspects the spammish repetition") == 0xfbcea83c8a378bf1);
    const uint64_t prime = 2654435761;
    unsigned char bytes[222];
    uint64_t state = prime;
    for (unsigned char& b : bytes) b = (unsigned char)(state >> 56), state *= 11400714785074694797u;
    const struct { size_t n; uint64_t seed, hash; } vectors[] = {
        {0, prime, 0xac75fda2929b17ef}, {1, 0, 0xe934a84adb052768}, {1, prime, 0x5014607643a9b4c3}, {4, 0, 0x9136a0dca57457ee},
        {14, 0, 0x8282dcc4994e35c8}, {14, prime, 0xc3bd6bf63deb6df0}, {222, 0, 0xb641ae8cb691c174}, {222, prime, 0x20cb8ab7ae10c14a}};
    for (auto& v : vectors) EXPECT(xxh64(bytes, v.n, v.seed) == v.hash);
    // In pieces of any size it is the same.
    for (size_t n = 0; n <= sizeof bytes; n++)
        for (size_t piece : {(size_t)1, (size_t)7, (size_t)31, (size_t)32, (size_t)33, (size_t)100}) {
            Xxh64 pieces(5);
            for (size_t at = 0; at < n; at += piece) pieces.update(bytes + at, std::min(piece, n - at));
            EXPECT(pieces.digest() == xxh64(bytes, n, 5));
        }
}

TEST(files) {
    std::string dir = fresh("files");
    std::string path = dir + "/a/b//c/text";
    make_folders(dir + "/a/b//c/"), make_folders(dir + "/a/b");
    write_file_atomically(path, "one"), write_file_atomically(path, std::string("tw\0o", 4));
    EXPECT(read_file(path) == std::string("tw\0o", 4));
    EXPECT_STR(names(dir + "/a/b/c"), "text ");  // no temporary name is left
    EXPECT_STR(parent_folder("a/b//c/"), "a/b");
    EXPECT_STR(parent_folder("a"), ".");
    EXPECT_STR(parent_folder("/a/"), "/");
    EXPECT_STR(parent_folder("/"), "/");
    // A buffer's length, one less, one more, and several: the bytes and the checksum are those that went in.
    for (size_t n : {(size_t)0, (size_t)1, ((size_t)4 << 20) - 1, (size_t)4 << 20, ((size_t)4 << 20) + 1, ((size_t)9 << 20) + 3}) {
        std::string text(n, '\0');
        for (size_t i = 0; i < n; i++) text[i] = (char)(i * 7 + i / 251);
        FileWriter file(dir + "/big");
        file.write(text.data(), n / 3), file.write(text.data() + n / 3, n - n / 3);
        FileSum sum = file.close(), again;
        EXPECT(sum.bytes == n && sum.checksum == xxh64(text.data(), n) && read_file(dir + "/big") == text);
        EXPECT(sum_file(dir + "/big", again).empty() && again.bytes == n && again.checksum == sum.checksum);
    }
    // Removing a tree removes a link, not what it leads to.
    make_folders(dir + "/tree/deep/er"), put_file(dir + "/tree/deep/f", "x");
    EXPECT(symlink("../a", (dir + "/tree/link").c_str()) == 0);
    remove_tree(dir + "/tree"), remove_tree(dir + "/tree");
    EXPECT_STR(names(dir), "a big ");
    EXPECT(read_file(path).size() == 4);
    for (const char* bad : {"", ".", "..", ".hidden", "a/b", "/a", "a b", "a\n", "a\\b", "\xC3\xA9"}) EXPECT(!is_plain_name(bad));
    EXPECT(is_plain_name("model-00001-of-00002.safetensors") && !is_plain_name(std::string(201, 'a')));
    EXPECT_DIES("nothere: No such file or directory", read_file(dir + "/nothere"));
    EXPECT_DIES("/a: Is a directory", read_file(dir + "/a"));
    EXPECT_DIES("/big: Not a directory", list_folder(dir + "/big"));
    EXPECT_DIES("/big/x: cannot make this folder: Not a directory", make_folders(dir + "/big/x"));
    if (access("/dev/full", W_OK) == 0) {
        EXPECT_DIES("/dev/full: No space left on device", FileWriter f("/dev/full"); f.write("x", 1); f.close());
        EXPECT(access("/dev/full", F_OK) == 0);  // only a file of our own is removed
    }
}

TEST(save_and_find) {
    std::string out = fresh("save") + "/not/yet/there";
    EXPECT_EQ(newest(out).step, -1);
    EXPECT(list_checkpoints(out).empty());
    save(out, 5), save(out, 12), save(out, 123456789);
    EXPECT_STR(names(out), "DONE_00000005 DONE_00000012 DONE_123456789 step_00000005 step_00000012 step_123456789 ");
    EXPECT_STR(names(out + "/step_00000005"), "MANIFEST config.json model.safetensors ");
    for (const Checkpoint& c : list_checkpoints(out)) EXPECT_STR(verify_checkpoint(c.path), "");
    // Names that only look like ours are neither taken nor touched.
    for (const char* name : {"step_5", "step_00000099x", "xstep_00000099", "step_-0000099", ".step_00000099", ".step_99.new", ".git",
                             "step_00000099.old", ".step_00000099.new.bak", "step_99999999999"}) make_folders(out + "/" + name);
    put_file(out + "/main.log", "x");
    std::string before = names(out);
    std::vector<Checkpoint> list = list_checkpoints(out);
    EXPECT(list.size() == 3 && list[0].step == 5 && list[1].step == 12 && list[2].step == 123456789);
    EXPECT_STR(newest(out).path, out + "/step_123456789");
    save(out, 5), prune_checkpoints(out, 99, 0);
    EXPECT_STR(names(out), before);
    // Files beside those of the MANIFEST are nobody's concern.
    put_file(out + "/step_123456789/README.md", "mine");
    EXPECT_EQ(newest(out).step, 123456789);
}

TEST(every_damage_is_named) {
    std::string out = fresh("damage");
    std::string good = out + "/step_00000100", bad = out + "/step_00000200";
    save(out, 100), save(out, 200);
    auto expect = [&](const std::string& reason) {
        std::string log, found = verify_checkpoint(bad);
        if (found.find(reason) != 0 || reason.empty()) FAIL("said \"%s\", expected \"%s\"", found.c_str(), reason.c_str());
        EXPECT_EQ(newest(out, &log).step, 100);  // falls back to the older one, and says so in one line
        EXPECT_STR(log, "skipped " + bad + ": " + found + "\n");
    };
    for (const char* name : {"config.json", "model.safetensors", "MANIFEST"}) {
        std::string path = bad + "/" + name, text = read_file(path);
        for (size_t at = 0; at < text.size(); at += strcmp(name, "MANIFEST") ? 7 : 1) {
            std::string broken = text;
            broken[at] = (char)(broken[at] ^ 1 << at % 8);
            put_file(path, broken);
            expect(strcmp(name, "MANIFEST") ? std::string(name) + ": has the checksum " : "MANIFEST: ");
        }
        put_file(path, text.substr(0, text.size() - 1));
        expect(strcmp(name, "MANIFEST") ? format("%s: holds %zu bytes, expected %zu", name, text.size() - 1, text.size()) : "MANIFEST: line 3 is ");
        put_file(path, text + "x");
        expect(strcmp(name, "MANIFEST") ? format("%s: holds %zu bytes, expected %zu", name, text.size() + 1, text.size()) : "MANIFEST: line 4 is \"x\"");
        unlink(path.c_str());
        expect(std::string(name) + ": No such file or directory");
        make_folders(path);
        expect(std::string(name) + (strcmp(name, "MANIFEST") ? ": not a file" : ": Is a directory"));
        remove_tree(path);
        put_file(path, text);
        EXPECT_STR(verify_checkpoint(bad), "");
    }
    // A MANIFEST with valid lines that says too little, too much, or leads out of the folder.
    using namespace checkpoint_detail;
    std::string manifest = bad + "/MANIFEST", text = read_file(manifest);
    size_t second = text.find('\n') + 1, last = text.find("MANIFEST");
    put_file(manifest, ""), expect("MANIFEST: the last line is missing: truncated?");
    put_file(manifest, text.substr(0, last)), expect("MANIFEST: the last line is missing: truncated?");
    put_file(manifest, text.substr(second)), expect("MANIFEST: the lines do not have the checksum in the last one: damaged");
    put_file(manifest, text.substr(0, second) + text), expect("MANIFEST: config.json is listed twice");
    put_file(manifest, manifest_text({{"../step_00000100/config.json", {}}})), expect("MANIFEST: line 1 is \"../step_00000100/config.json 0");
    put_file(manifest, manifest_text({{"no such name", {}}})), expect("MANIFEST: line 1 is \"no such name 0");
    EXPECT(verify_checkpoint(out + "/step_00000300").find("MANIFEST: No such file") == 0);
    // Nothing good at all.
    remove_tree(good);
    std::string log;
    EXPECT_EQ(newest(out, &log).step, -1);
    EXPECT(std::count(log.begin(), log.end(), '\n') == 1);
}

TEST(a_signal_is_no_error) {
    int calls = 0;
    EXPECT_EQ(uninterrupted([&] { return errno = EINTR, ++calls < 3 ? -1 : 7; }), 7);
    EXPECT_EQ(uninterrupted([&] { return errno = EIO, ++calls, -1; }), -1);  // what is one is not tried again
    EXPECT_EQ(calls, 4);
    EXPECT(!close_file(-1) && errno == EBADF);
    for (auto [name, pid] : {std::pair{"a.tmp-12", 12L}, {"a.12.tmp", 12L}, {"a.12-3.tmp", 12L}, {"a.12-.tmp", 12L}, {"a.12-x.tmp", 0L}, {".ranks.tmp-1", 1L}, {"a.tmp-", 0L}, {"a.tmp-1x", 0L}, {".tmp-5", 0L}, {".5.tmp", 0L}, {"5.tmp", 0L}, {"a.tmp", 0L}, {".tmp", 0L}, {"", 0L}, {"a.tmp-1234567890", 0L}, {"a.tmp-0", 0L}})
        if (process_of_temporary(name) != pid) FAIL("%s: %ld, expected %ld", name, process_of_temporary(name), pid);
}

// A disk that does not answer, or a process that may open no more files, says nothing of a checkpoint: nothing is passed over for it.
TEST(errors_of_the_machine_are_no_damage) {
    const std::string out = fresh("machine"), config = out + "/step_00000200/config.json", manifest = out + "/step_00000200/MANIFEST";
    save(out, 100), save(out, 200);
    rlimit files{};
    EXPECT(getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = 3;
    EXPECT_DIES("Too many open files", setrlimit(RLIMIT_NOFILE, &files); verify_checkpoint(out + "/step_00000200"));
    if (access("/proc/self/mem", F_OK) == 0)  // reading it from byte 0 is an I/O error
        for (const std::string& file : {manifest, config}) {
            const std::string text = read_file(file);
            unlink(file.c_str());
            EXPECT(symlink("/proc/self/mem", file.c_str()) == 0);
            if (file == manifest) EXPECT_DIES("MANIFEST: Input/output error: cannot be verified", newest(out));
            if (file == manifest) EXPECT_DIES("Input/output error", verify_model_folder(out + "/step_00000200"));
            unlink(file.c_str()), put_file(file, text);
        }
    chmod(config.c_str(), 0);
    EXPECT_DIES("config.json: Permission denied: cannot be verified", if (getuid() == 0) (void)!setuid(65534); newest(out));
    chmod(config.c_str(), 0644);
    EXPECT_EQ(newest(out).step, 200);
    // these do say something: the file is not there, or is none
    for (const char* target : {"nothing", "config.json", "."}) {
        unlink(config.c_str());
        EXPECT(symlink(target, config.c_str()) == 0);
        EXPECT_EQ(newest(out).step, 100);
    }
}

TEST(good_ones_first) {
    const std::string out = fresh("good");
    for (int step : {10, 20, 30, 40, 50}) save(out, step);
    std::string log;
    EXPECT_EQ(newest(out, &log).step, 50);
    mark_good(out, 20), mark_last(out, 30), mark_bad(out, 40, "why 40");
    EXPECT(is_good(out, 20) && is_confirmed(out, 20) && is_good(out, 30) && !is_confirmed(out, 30) && !is_good(out, 40) && !is_good(out, 50));
    EXPECT_EQ(newest(out, &log).step, 30);
    EXPECT_STR(log, "skipped " + out + "/step_00000050: not known to be good: its run ended too soon after it\nskipped " + out + "/step_00000040: why 40\n");
    put_file(out + "/step_00000030/config.json", "");
    EXPECT_EQ(newest(out, &log).step, 20);
    mark_bad(out, 20, "why 20"), mark_bad(out, 50, "why 50");  // against what was said for it
    EXPECT_EQ(newest(out).step, 10);
    mark_good(out, 30);
    EXPECT(is_confirmed(out, 30));
    save(out, 30);  // another one in its place: nothing is known of it
    EXPECT(!is_good(out, 30) && why_bad(out, 30).empty());
    mark_bad(out, 10, "why 10"), mark_bad(out, 30, "why 30");
    EXPECT_EQ(newest(out, &(log = "")).step, -1);
    for (int step : {10, 20, 30, 40, 50}) EXPECT(log.find(format("step_%08d: why %d\n", step, step)) != log.npos);
    drop_checkpoint(out, 20), repair_done(out, 30);
    EXPECT_STR(names(out), "BAD_00000010 BAD_00000030 BAD_00000040 BAD_00000050 DONE_00000010 DONE_00000030 step_00000010 step_00000030 step_00000040 step_00000050 ");
    remove_tree(out + "/step_00000050"), mark_good(out, 60), repair_done(out, -1);
    EXPECT_STR(names(out), "BAD_00000010 BAD_00000030 BAD_00000040 step_00000010 step_00000030 step_00000040 ");
    // bad ones do not count when those that are kept are counted, and what is newer than the good one stays
    remove_tree(out), make_folders(out);
    for (int step : {10, 20, 30, 40, 50}) save(out, step);
    mark_good(out, 10), mark_bad(out, 20, "why"), mark_good(out, 30);
    prune_checkpoints(out, 2, 0, 30);
    EXPECT_EQ(list_checkpoints(out).size(), (size_t)5);
    prune_checkpoints(out, 1, 0, 40, {10});
    EXPECT_STR(names(out), "DONE_00000010 DONE_00000040 DONE_00000050 GOOD_00000010 step_00000010 step_00000040 step_00000050 ");
}

TEST(the_same_step_again) {
    std::string out = fresh("again");
    save(out, 7, 1), save(out, 7, 2);
    EXPECT_STR(names(out), "DONE_00000007 step_00000007 ");
    EXPECT_EQ(seed_of(newest(out).path), 2);
    // Death between the two renames: the old one still counts, and is put back by the next save.
    rename_file(out + "/step_00000007", out + "/.step_00000007.old");
    EXPECT_EQ(newest(out).step, 7);
    EXPECT_EQ(seed_of(newest(out).path), 2);
    save(out, 8, 3);
    EXPECT_STR(names(out), "DONE_00000007 DONE_00000008 step_00000007 step_00000008 ");
    // Death after them: the new one counts.
    save(out, 9, 4), rename_file(out + "/step_00000009", out + "/.step_00000009.old"), save(out + "/x", 9, 5);
    rename_file(out + "/x/step_00000009", out + "/step_00000009");
    EXPECT_EQ(seed_of(newest(out).path), 5);
    make_folders(out + "/.step_00000003.del/x"), make_folders(out + "/.step_00000009.new");
    remove_tree(out + "/x"), save(out, 10, 6);
    EXPECT_STR(names(out), "DONE_00000007 DONE_00000008 DONE_00000009 DONE_00000010 step_00000007 step_00000008 step_00000009 step_00000010 ");
    EXPECT_EQ(seed_of(out + "/step_00000009"), 5);
}

TEST(prune) {
    auto left = [](int keep, int major, int now, int broken = -1) {
        std::string out = fresh("prune"), steps;
        for (int step : {10, 20, 30, 40, 50, 60}) save(out, step);
        if (broken >= 0) put_file(out + "/" + checkpoint_detail::step_name(broken) + "/config.json", "short");
        prune_checkpoints(out, keep, major, now);
        EXPECT(names(out).find('.') == std::string::npos);  // nothing half-deleted
        for (const Checkpoint& c : list_checkpoints(out)) steps += std::to_string(c.step) + " ";
        return steps;
    };
    EXPECT_STR(left(0, 0, INT_MAX), "10 20 30 40 50 60 ");
    EXPECT_STR(left(0, 20, INT_MAX), "10 20 30 40 50 60 ");
    EXPECT_STR(left(2, 0, INT_MAX), "50 60 ");
    EXPECT_STR(left(1, 20, INT_MAX), "20 40 60 ");
    EXPECT_STR(left(2, 30, INT_MAX), "30 50 60 ");
    EXPECT_STR(left(9, 0, INT_MAX), "10 20 30 40 50 60 ");
    EXPECT_STR(left(1, 0, 40), "40 50 60 ");           // resumed at 30, saved 40: what an earlier run left later stays
    EXPECT_STR(left(1, 0, INT_MAX, 60), "50 60 ");     // the broken one is no reason to delete the last good one
    EXPECT_STR(left(1, 0, INT_MAX, 30), "60 ");
}

// What is copied is of the moment in which it was added, whatever becomes of it before it is written; and the files are those of a writer that does not copy.
TEST(written_from_a_copy) {
    const std::string out = fresh("copy");
    std::vector<float> x(35);
    const auto add = [&](CheckpointWriter& writer) {
        for (size_t i = 0; i < x.size(); i++) x[i] = (float)i / 8;
        writer.add_text("config.json", "{}\n");
        writer.add_tensors("model.safetensors", {{"wpe", Dtype::F32, {5, 7}}, {"wte", Dtype::F32, {20}}}, {{"format", "pt"}},
                           [&](TensorSink& file) { file.write_transposed(x.data(), 7, 5), file.write(x.data(), 80); });
        writer.add_text("trainer.json", "[1]\n");
    };
    {
        CheckpointWriter writer(out, 1);
        add(writer), writer.commit();
    }
    std::vector<char> memory(220);
    CheckpointWriter writer(out, 2, {}, SnapshotMemory{memory.data(), memory.size()});
    add(writer);
    EXPECT(writer.copy_is_full());
    x.assign(x.size(), -1);
    writer.write_files(), writer.commit();
    for (const char* file : {"config.json", "model.safetensors", "trainer.json", "MANIFEST"})
        EXPECT_STR(read_file(out + "/step_00000002/" + file), read_file(out + "/step_00000001/" + file));
    EXPECT_DIES("model.safetensors: no room for 80 more bytes of a checkpoint: 219 were planned", CheckpointWriter w(out + "/b", 3, {}, SnapshotMemory{memory.data(), 219}); add(w));
    EXPECT(has_checkpoint(out, 2) && !has_checkpoint(out + "/b", 3));
}

TEST(writer_refuses) {
    std::string out = fresh("refuses");
    EXPECT_DIES("cannot add a file named \"../x\"", CheckpointWriter w(out, 1); w.add_text("../x", ""));
    EXPECT_DIES("cannot add a file named \"MANIFEST\"", CheckpointWriter w(out, 1); w.add_text("MANIFEST", ""));
    EXPECT_DIES("cannot add a file named \"a\"", CheckpointWriter w(out, 1); w.add_text("a", ""); w.add_text("a", ""));
    CheckpointWriter here(out, 1);
    EXPECT_DIES("in use by process ", CheckpointWriter elsewhere(out, 2));
    put_file(out + "/file", "");
    EXPECT_DIES("/file: is a file, must be a folder", CheckpointWriter w(out + "/file", 1));
    EXPECT(list_checkpoints(out).empty());
}

// A rename would put a file in the place of a device or a pipe: only root can, of a device.
TEST(files_that_are_none_are_not_replaced) {
    const std::string folder = BUILD "/tmp/none", pipe = folder + "/pipe", link = folder + "/link";
    remove_tree(folder), make_folders(folder);
    EXPECT(mkfifo(pipe.c_str(), 0600) == 0 && symlink("pipe", link.c_str()) == 0);
    for (const std::string& path : {pipe, link}) EXPECT_DIES("is a pipe, must be a file", write_file_atomically(path, "text"));
    struct stat s;
    EXPECT(stat(pipe.c_str(), &s) == 0 && S_ISFIFO(s.st_mode) && list_folder(folder).size() == 2);
    write_file_atomically(folder + "/file", "a"), write_file_atomically(folder + "/file", "b");
    EXPECT_STR(read_file(folder + "/file"), "b");
}
