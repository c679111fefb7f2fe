// A checkpoint is whole or it is not there: whatever is damaged is named, whenever the process dies the last good one stays.
#include "../../llmc/io/checkpoint_writer.h"
#include "../../llmc/io/state_pieces.h"
#include "../test.h"
#include <atomic>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <thread>
#ifdef __linux__
#include <sys/ptrace.h>
#endif

static std::string fresh(const std::string& name) {
    std::string path = "build/tmp/checkpoint/" + name;
    remove_tree(path), make_folders(path);
    return path;
}
static void put_file(const std::string& path, const std::string& text) {
    FileWriter file(path);
    file.write(text.data(), text.size()), file.close();
}
static std::string names(const std::string& folder) {
    std::string all;
    for (const std::string& name : list_folder(folder)) all += name + " ";
    return all;
}
// A small checkpoint whose every file depends on `seed`.
static void save(const std::string& out, int step, int seed = 0, size_t n = 37) {
    CheckpointWriter writer(out, step);
    std::vector<float> x(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)(seed + step) + (float)i / 64;
    writer.add_text("config.json", "{\"seed\": " + std::to_string(seed) + "}\n");
    writer.add_tensors("model.safetensors", {{"wte", Dtype::F32, {n}}}, {{"format", "pt"}}, [&](TensorSink& file) { file.write(x.data(), n * 4); });
    writer.commit();
}
static int seed_of(const std::string& path) {
    std::string config = path + "/config.json";
    return (int)json_parse(read_file(config), config).at("seed", config).as_int(config);
}
static Checkpoint newest(const std::string& out, std::string* log = nullptr) {
    return find_newest_checkpoint(out, [&](const std::string& line) { if (log) *log += line + "\n"; });
}

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
    EXPECT_DIES("/big/x: Not a directory", make_folders(dir + "/big/x"));
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

TEST(writer_refuses) {
    std::string out = fresh("refuses");
    EXPECT_DIES("cannot add a file named \"../x\"", CheckpointWriter w(out, 1); w.add_text("../x", ""));
    EXPECT_DIES("cannot add a file named \"MANIFEST\"", CheckpointWriter w(out, 1); w.add_text("MANIFEST", ""));
    EXPECT_DIES("cannot add a file named \"a\"", CheckpointWriter w(out, 1); w.add_text("a", ""); w.add_text("a", ""));
    CheckpointWriter here(out, 1);
    EXPECT_DIES("in use by process ", CheckpointWriter elsewhere(out, 2));
    put_file(out + "/file", "");
    EXPECT_DIES("/file: File exists", CheckpointWriter w(out + "/file", 1));
    EXPECT(list_checkpoints(out).empty());
}

// Each DONE has its checkpoint.
static void expect_done_is_true(const std::string& out) {
    const std::vector<Checkpoint> list = list_checkpoints(out);
    for (const std::string& name : list_folder(out))
        if (name.starts_with("DONE_")) EXPECT(std::any_of(list.begin(), list.end(), [&](const Checkpoint& c) { return done_path(out, c.step) == out + "/" + name; }));
}

// ---- death at any time ---------------------------------------------------------------------------------------------

TEST(full_disk) {
    std::string out = fresh("full");
    save(out, 1, 1);
    size_t limit = 0, failed = 0;
    for (;; limit = limit * 5 / 4 + 1) {  // a file may be `limit` bytes long; then as if the disk were full
        Outcome o = run_child([&] {
            signal(SIGXFSZ, SIG_IGN);
            rlimit r{limit, limit};
            setrlimit(RLIMIT_FSIZE, &r);
            save(out, 2, 2, 10007);
        });
        if (o.code == 0) break;
        failed++;
        EXPECT_EQ(o.code, 1);
        EXPECT(o.output.find(out + "/.step_00000002.new/") != std::string::npos && o.output.find(": File too large\n") == o.output.size() - 17);
        EXPECT_STR(names(out), "DONE_00000001 step_00000001 ");  // what was half-written is gone, and its space is free
        EXPECT_EQ(seed_of(newest(out).path), 1);
        if (limit > 1000000 || g_failures) return FAIL("never succeeded");
    }
    EXPECT(failed > 20 && limit > 40000);
    EXPECT_EQ(seed_of(newest(out).path), 2);
}

struct Shared { std::atomic<int> committed; };  // what the dying child had already promised
static Shared* shared_memory() {
    static Shared* memory = (Shared*)mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memory->committed = 0;
    return memory;
}

#ifdef __linux__
// Runs body in a child and kills it as it enters its k-th system call. 1: killed, 0: it ended before, -1: no ptrace here.
static int kill_at_call(int k, const std::function<void()>& body) {
    fflush(nullptr);
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
        raise(SIGSTOP);
        body();
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    for (int stop = 0; WIFSTOPPED(status); stop++) {
        if (stop == 2 * k - 1) {  // stops alternate: call 1 entered, left, call 2 entered, ...
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return 1;
        }
        ptrace(PTRACE_SYSCALL, pid, nullptr, nullptr);
        waitpid(pid, &status, 0);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

// Between two system calls the disk does not change, so these are all the states that a killed process can leave.
TEST(killed_at_every_system_call_of_a_replacement) {
    std::string out = fresh("kill_replace");
    Shared* memory = shared_memory();
    save(out, 5, 0);
    int calls = 0;
    for (;;) {
        int killed = kill_at_call(++calls, [&] { save(out, 5, calls); memory->committed = calls; });
        if (killed < 0) SKIP("no ptrace here");
        Checkpoint c = newest(out);  // step 5 is always there, and it is the old one or the new one
        if (c.step != 5) return FAIL("killed at call %d: nothing left in %s", calls, names(out).c_str());
        int seed = seed_of(c.path);
        EXPECT(seed <= calls && seed >= memory->committed);
        if (!killed) break;
    }
    EXPECT(calls > 50);
    save(out, 5, -1);
    EXPECT_STR(names(out), "DONE_00000005 step_00000005 ");
}

TEST(killed_at_every_system_call_of_a_save_and_prune) {
    std::string out = fresh("kill_prune");
    Shared* memory = shared_memory();
    save(out, 1);
    int step = 1, calls = 0;
    for (;;) {
        int killed = kill_at_call(++calls, [&] { save(out, step + 1); memory->committed = step + 1; prune_checkpoints(out, 1, 0); });
        if (killed < 0) SKIP("no ptrace here");
        Checkpoint c = newest(out);
        EXPECT(c.step == step || c.step == step + 1);
        EXPECT(c.step >= memory->committed);
        for (const Checkpoint& any : list_checkpoints(out)) EXPECT_STR(verify_checkpoint(any.path), "");  // no half of one, ever
        expect_done_is_true(out);
        if (g_failures) return;
        step = c.step;
        if (!killed) break;
        prune_checkpoints(out, 1, 0);  // each round begins with one, or the deaths while pruning would pile them up
    }
    EXPECT(calls > 50);
    EXPECT_STR(names(out), format("DONE_%08d step_%08d ", step, step));
}
#endif

TEST(killed_at_random_times) {
    std::string out = fresh("kill_random");
    Shared* memory = shared_memory();
    uint64_t random = 3;
    int kills = 0;
    for (int round = 0; round < 25; round++) {
        int first = newest(out).step + 1;
        fflush(nullptr);
        pid_t pid = fork();
        if (pid == 0) {
            for (int step = first; step < first + 1000; step++) {
                save(out, step, 0, 100003);
                memory->committed = step;
                prune_checkpoints(out, 2, 0);
            }
            _exit(0);
        }
        random = random * 6364136223846793005u + 1442695040888963407u;
        if (round % 5 == 4) for (int i = 0; i < 60000 && memory->committed < std::max(first, 1); i++) usleep(1000);  // on a slow disk the rest may never get to a commit
        usleep((useconds_t)(random >> 33) % 60000);
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        kills += WIFSIGNALED(status);
        EXPECT(newest(out).step >= memory->committed || (memory->committed == 0 && newest(out).step == -1));
        for (const Checkpoint& any : list_checkpoints(out)) EXPECT_STR(verify_checkpoint(any.path), "");
        expect_done_is_true(out);
    }
    EXPECT(kills > 0 && newest(out).step > 0);
    repair_done(out, newest(out).step);  // as a run that goes on does: death may have come before DONE
    save(out, newest(out).step + 1), prune_checkpoints(out, 2, 0);
    EXPECT_EQ(list_folder(out).size(), (size_t)4);  // with their DONE, and nothing of all the deaths is left
}

// ---- many ranks ----------------------------------------------------------------------------------------------------

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
