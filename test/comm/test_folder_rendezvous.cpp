// Ranks that find each other by files: with what earlier runs left there, with mistakes, and with ranks that do not come.
#include "../../llmc/comm/folder_rendezvous.h"
#include "rank_processes.h"

namespace {
using namespace folder_rendezvous_detail;

std::string fresh(const std::string& name) {
    const std::string path = "build/tmp/rendezvous/" + name;
    remove_tree(path);
    return path;
}
FolderOptions in_folder(const std::string& folder, double timeout_s = 10) { return {.folder = folder, .timeout_s = timeout_s, .grace_s = 10}; }
RankProcess rank(int r, int world, const FolderOptions& o, const std::string& blob = BLOB) {
    return RankProcess(r, world, [=] { return rendezvous_folder(place_of(r, world), r ? "" : blob, o); });
}
// Waits until a file is there that means it.
bool appears(const Folder& folder, const std::string& file, const std::function<bool(const Note&)>& is = [](const Note&) { return true; }) {
    for (int i = 0; i < 2000; i++, usleep(5000))
        if (Note note; folder.read(file, note) && is(note)) return true;
    return false;
}
std::string names(const std::string& folder) {
    std::string all;
    for (const std::string& name : list_folder(folder)) all += name + " ";
    return all;
}
}  // namespace

TEST(folder_notes) {
    Note n = {.rank = 3, .world = 8, .nonce = std::string(32, 'a'), .answers = std::string(32, 'b'), .from = "host name, process 7", .to = {std::string(32, 'c'), NOBODY}, .code = 2,
              .body = std::string("\0\n5 bytes 9\n", 12)};
    const std::string text = text_of(n);
    Note back;
    EXPECT(parse_note(text, back) && text_of(back) == text && back.body == n.body && back.to == n.to && back.answers == n.answers);
    for (size_t i = 0; i < text.size(); i++) {
        std::string damaged = text;
        damaged[i] ^= 1;
        EXPECT(!parse_note(damaged, back) && !parse_note(text.substr(0, i), back));
    }
    EXPECT(!parse_note(text + "x", back));
    for (const std::string& forged : {std::string(), std::string("llmc rendezvous 1\nrank 1 of 2\nnonce a\nanswers -\nfrom h\ncode 0\nto 99999999999\nbytes 0\n"),
                                      std::string("llmc rendezvous 1\nrank 1 of 2\nnonce a\nanswers -\nfrom h\ncode 0\nto 0\nbytes 18446744073709551615\n")})
        EXPECT(!parse_note(forged + hex_of(sha256(forged)), back));
}

TEST(folder_ranks_meet) {
    for (int world : {2, 5}) {
        const std::string folder = fresh("meet") + "/made/by/us";
        std::vector<RankProcess> ranks;
        for (int r = world - 1; r >= 0; r--) ranks.push_back(rank(r, world, in_folder(folder)));
        for (RankProcess& p : ranks) expect_got(p);
        EXPECT_STR(names(folder), "");  // nothing is left
    }
    EXPECT_STR(rendezvous_folder({}, "alone", {}), "alone");
    EXPECT_DIES("--fs-path: missing", rendezvous_folder(place_of(0, 2), "", {}));
    std::string large(RENDEZVOUS_BYTES, '\0');
    for (size_t i = 0; i < large.size(); i++) large[i] = (char)(i * 7 + i / 256);
    RankProcess zero = rank(0, 2, in_folder(fresh("large")), large), one = rank(1, 2, in_folder("build/tmp/rendezvous/large"));
    EXPECT_EQ(zero.code(), 0);
    expect_got(one, large);
}

// One run after the other in one folder, each with its own blob, and no pause between.
TEST(folder_runs_in_a_row) {
    const std::string folder = fresh("row");
    for (int run = 0; run < 20; run++) {
        const std::string blob = format("blob %d", run);
        RankProcess one = rank(1, 3, in_folder(folder)), zero = rank(0, 3, in_folder(folder), blob), two = rank(2, 3, in_folder(folder));
        expect_got(one, blob), expect_got(two, blob), expect_got(zero, blob);
    }
    EXPECT_STR(names(folder), "");
}

// What a run leaves that was killed at any time: its call, its ranks' files, its answer.
TEST(folder_stale_files) {
    const std::string path = fresh("stale");
    const Folder folder(path, "");
    const std::string old = std::string(32, '0'), older = std::string(32, '1');
    const auto leave = [&] {
        folder.write("call", {.rank = 0, .world = 3, .nonce = old, .answers = "", .from = "old", .to = {}, .body = ""});
        for (int r = 1; r < 8; r++) folder.write(file_of(r), {.rank = r, .world = 8, .nonce = older, .answers = old, .from = "old", .to = {}, .body = ""});
        folder.write("answer", {.rank = 0, .world = 3, .nonce = old, .answers = "", .from = "old", .to = {older, older}, .body = "stale"});
        write_file_atomically(folder.name() + "/tmp-0123", "half a fi");
        write_file_atomically(folder.name() + "/rank.x", "x");
    };
    leave();
    RankProcess one = rank(1, 3, in_folder(path));
    EXPECT(appears(folder, "rank.1", [&](const Note& n) { return n.nonce != older && n.answers == old; }));  // it answers the stale call
    EXPECT(one.runs());
    RankProcess zero = rank(0, 3, in_folder(path));
    EXPECT(appears(folder, "rank.1", [&](const Note& n) { return n.nonce != older && n.answers != old; }));  // and then the new one
    EXPECT(zero.runs() && one.runs());  // the stale file of rank 2 does not stand for it
    RankProcess two = rank(2, 3, in_folder(path));
    expect_got(zero), expect_got(one), expect_got(two);
    EXPECT_STR(names(path), "");
    // rank 0 first
    leave();
    RankProcess zero2 = rank(0, 2, in_folder(path));
    EXPECT(appears(folder, "call", [&](const Note& n) { return n.nonce != old; }));
    RankProcess one2 = rank(1, 2, in_folder(path));
    expect_got(zero2), expect_got(one2);
    EXPECT_STR(names(path), "");
    // of another run, whose launcher gave it an id
    leave();
    FolderOptions o = in_folder(path);
    o.run_id = "77.0";
    RankProcess zero3 = rank(0, 2, o), one3 = rank(1, 2, o);
    expect_got(zero3), expect_got(one3);
    EXPECT_STR(names(path), "llmc-rendezvous ");
}

// A rank that is killed before all have come: its file makes rank 0 answer, but only who was started in its place takes an answer, a new one.
TEST(folder_rank_comes_again) {
    const std::string path = fresh("again");
    const Folder folder(path, "");
    RankProcess zero = rank(0, 3, in_folder(path)), dies = rank(1, 3, in_folder(path));
    EXPECT(appears(folder, "rank.1"));
    kill(dies.pid, SIGKILL);
    EXPECT_EQ(dies.code(), 128 + SIGKILL);
    RankProcess stops = rank(2, 3, in_folder(path));
    EXPECT(appears(folder, "answer"));
    RankProcess again = rank(1, 3, in_folder(path));
    expect_got(again), expect_got(stops), expect_got(zero);
    EXPECT_STR(names(path), "");
}

TEST(folder_mistakes) {
    std::string path = fresh("mistakes");
    {
        RankProcess zero = rank(0, 3, in_folder(path)), one = rank(1, 3, in_folder(path));
        EXPECT(appears(Folder(path, ""), "rank.1"));
        RankProcess other = rank(5, 8, in_folder(path));
        for (RankProcess* p : {&zero, &other}) expect_died(*p, 2, format("process %d) says that there are 8 ranks, rank 0 says 3", (int)other.pid));
        kill(one.pid, SIGKILL);
    }
    path = fresh("twice");
    {
        RankProcess zero = rank(0, 3, in_folder(path)), first = rank(1, 3, in_folder(path));
        EXPECT(appears(Folder(path, ""), "rank.1"));
        RankProcess second = rank(1, 3, in_folder(path));
        expect_died(first, 2, "rank 1 came twice: ");
        EXPECT(has(first.said, format("process %d", (int)second.pid)));
    }
    path = fresh("two runs");
    {
        RankProcess first = rank(0, 2, in_folder(path));
        EXPECT(appears(Folder(path, ""), "call", [&](const Note& n) { return has(n.from, std::to_string(first.pid)); }));
        RankProcess second = rank(0, 2, in_folder(path));
        expect_died(first, 2, "two runs at a time: another rank 0 calls there");
        RankProcess one = rank(1, 2, in_folder(path));
        expect_got(second), expect_got(one);
    }
    path = fresh("file");
    make_folders(parent_folder(path));
    write_file_atomically(path, "");
    RankProcess zero = rank(0, 2, in_folder(path));
    expect_died(zero, 1, path);
}

TEST(folder_who_does_not_come) {
    const std::string path = fresh("missing");
    RankProcess three = rank(3, 5, in_folder(path)), zero = rank(0, 5, in_folder(path, 0.8));  // rank 0's time begins with it
    const std::string says = "--fs-path " + path + "/llmc-rendezvous: ranks 1, 2, 4 of 5 did not come within 0.8 s";
    expect_died(zero, 1, "error: rank 0: " + says);
    expect_died(three, 1, "error: rank 3: rank 0 (");
    EXPECT(has(three.said, says));
    RankProcess lonely = rank(1, 2, in_folder(path, 0.3));
    expect_died(lonely, 1, "rank 0 did not call there within 0.3 s; is that folder the same one for all machines?");
    EXPECT(!has(names(path + "/llmc-rendezvous"), "rank.1"));
}

TEST(folder_is_private) {
    const std::string path = fresh("private");
    RankProcess zero = rank(0, 2, in_folder(path));
    EXPECT(appears(Folder(path, ""), "call"));
    struct stat s;
    EXPECT(stat((path + "/llmc-rendezvous/call").c_str(), &s) == 0 && (s.st_mode & 0777) == 0600);
}

TEST(folder_asked_to_stop) {
    const std::string path = fresh("stop");
    for (int r : {0, 1}) {
        RankProcess waits(r, 2, [=] {
            catch_signals();
            printf("ready\n"), fflush(stdout);
            return rendezvous_folder(place_of(r, 2), "", in_folder(path));
        });
        EXPECT(waits.says("ready"));
        kill(waits.pid, SIGTERM);
        if (r == 0) expect_died(waits, EXIT_FAILED, "error: rank 0: interrupted while the ranks were finding each other\n");
        else EXPECT(waits.code() == EXIT_FAILED && !has(waits.said, "error"));  // rank 0 has said it
        remove_tree(path);
    }
}
