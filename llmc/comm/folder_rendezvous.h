// folder_rendezvous.h: ranks find each other by files in a folder that all of them can read and write, where no port is open between machines.
//
//     call       rank 0: its nonce
//     rank.R     rank R: its own nonce, and that of the call it answers
//     answer     rank 0, once every rank has answered its call: the nonces of all, and the blob or an error
//
// Files of earlier runs are no trap: an answer to another call is not counted, and an answer without a rank's own nonce is not taken. A rank that
// has the answer removes its file; rank 0, when all have, removes the rest. Files are written to a temporary name, synced and renamed, so none
// is seen in part. Who may write to the folder may join: its permissions are what protects the run.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include "../base/sha256.h"
#include "../io/files.h"
#include "../io/run_lock.h"
#include "launcher.h"
#include "rendezvous.h"

struct FolderOptions {
    std::string folder = {};
    std::string run_id = {};  // empty: run_id_of(place)
    double timeout_s = 300;   // batch systems start the ranks of a large run minutes apart
    double grace_s = 5;       // that a rank waits on, once rank 0 is there: it is about to say who is missing
};

namespace folder_rendezvous_detail {
using namespace rendezvous_detail;

// What one file says. Its last line is a checksum: of a file system that shows a part all the same, the part is not taken.
struct Note {
    int rank = 0, world = 0;
    std::string nonce, answers;   // 32 hexadecimal digits; nonce of the call that is answered
    std::string from;             // host and process
    std::vector<std::string> to;  // nonces of the ranks from 1 on, of an answer
    int code = 0;                 // of an answer: 0, or what to exit with for the reason in `body`
    std::string body;             // the blob
};
inline std::string text_of(const Note& n) {
    std::string text = format("llmc rendezvous 1\nrank %d of %d\nnonce %s\nanswers %s\nfrom %s\ncode %d\nto %zu\n", n.rank, n.world, n.nonce.c_str(),
                              n.answers.empty() ? "-" : n.answers.c_str(), n.from.c_str(), n.code, n.to.size());
    for (const std::string& nonce : n.to) text += nonce + "\n";
    text += format("bytes %zu\n", n.body.size()) + n.body;
    return text + hex_of(sha256(text));
}
inline bool parse_note(std::string text, Note& n) {
    if (text.size() < 64 || hex_of(sha256(std::string_view(text).substr(0, text.size() - 64))) != text.substr(text.size() - 64)) return false;
    text.resize(text.size() - 64);
    char nonce[33] = "", answers[33] = "", from[300] = "";
    size_t to = 0, bytes = 0;
    int head = 0, tail = 0;
    if (sscanf(text.c_str(), "llmc rendezvous 1\nrank %d of %d\nnonce %32s\nanswers %32s\nfrom %299[^\n]\ncode %d\nto %zu%n", &n.rank, &n.world, nonce, answers, from, &n.code, &to, &head) != 7) return false;
    n.nonce = nonce, n.answers = strcmp(answers, "-") ? answers : "", n.from = from, n.to.clear();
    size_t at = (size_t)head + 1;
    if (to > (size_t)MAX_WORLD || text.size() < at + to * 33) return false;
    for (; n.to.size() < to; at += 33) n.to.push_back(text.substr(at, 32));
    if (sscanf(text.c_str() + at, "bytes %zu%n", &bytes, &tail) != 1 || text.size() != at + (size_t)tail + 1 + bytes) return false;
    n.body = text.substr(text.size() - bytes);
    return true;
}

class Folder {
    const std::string path;

  public:
    // Each run has its own inside of the folder, where its launcher gave it an id.
    Folder(const std::string& folder, const std::string& run_id) : path(folder + "/llmc-rendezvous" + (run_id.empty() ? "" : "-" + hex_of(sha256(run_id)).substr(0, 16))) {}
    std::string name() const { return path; }

    // NFS remembers for up to a minute that a name does not exist. Listing the folder makes it ask whether that has changed.
    std::vector<std::string> names() const { return list_folder(path); }
    bool read(const std::string& file, Note& note) const {
        std::string text;
        return try_read_file(path + "/" + file, text).empty() && parse_note(text, note);
    }
    // For our eyes alone: the blob lets others join. The folder may go meanwhile, with an earlier run that ends: then once more.
    void write(const std::string& file, const Note& note) const {
        const std::string text = text_of(note), to = path + "/" + file, temporary = path + format("/tmp-%s", hex_of(random_bytes(8)).c_str());
        for (int attempt = 0;; attempt++) {
            make_folders(path);
            const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
            bool written = fd >= 0;
            for (size_t at = 0; written && at < text.size();) {
                const ssize_t n = ::write(fd, text.data() + at, text.size() - at);
                if (n > 0) at += (size_t)n;
                else       written = n < 0 && errno == EINTR;
            }
            written = written && fsync(fd) == 0;
            int error = errno;
            if (fd >= 0 && close(fd) != 0 && written) written = false, error = errno;
            if (written && rename(temporary.c_str(), to.c_str()) == 0) break;
            if (written) error = errno;
            unlink(temporary.c_str());
            if (error != ENOENT || attempt == 100) die("--fs-path: %s: %s", to.c_str(), strerror(error));
        }
        const int folder = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder >= 0) (void)fsync(folder), close(folder);  // gone by now: the next look finds out
    }
    void remove(const std::string& file) const { unlink((path + "/" + file).c_str()); }
    // Whatever earlier runs left too. Of one that begins just now it removes nothing for good: who misses a file of his writes it again.
    void remove_all() const {
        for (const std::string& name : names()) remove(name);
        rmdir(path.c_str());
    }
};

const std::string NOBODY(32, '-');  // stands for the nonce of a rank that did not come
inline std::string file_of(int rank) { return format("rank.%d", rank); }
inline int rank_of(const std::string& file) {  // -1: no rank's
    long rank;
    return file.starts_with("rank.") && launcher_detail::parse_count(file.c_str() + 5, 1, rank) ? (int)rank : -1;
}
inline std::string who() { return format("%s, process %d", run_lock_detail::host_name().c_str(), (int)getpid()); }

// Looks often at first; of a thousand ranks each once a second, which a file server hardly notices.
inline Backoff pauses(const Place& p) { return Backoff(0.001, std::clamp(p.world * 0.001, 0.05, 1.0)); }

class Caller {  // rank 0
    const Place place;
    const FolderOptions options;
    const Folder folder;
    const std::string nonce = hex_of(random_bytes(16)), blob;
    const double deadline;
    std::vector<std::string> nonces;  // of rank r at [r - 1]
    bool called = false;

    std::vector<int> missing() const {
        std::vector<int> ranks;
        for (int r = 1; r < place.world; r++) if (nonces[(size_t)r - 1] == NOBODY) ranks.push_back(r);
        return ranks;
    }
    void answer(int code, const std::string& body) {
        folder.write("answer", {.rank = 0, .world = place.world, .nonce = nonce, .answers = "", .from = who(), .to = nonces, .code = code, .body = body});
    }
    [[noreturn]] void refuse(int code, const std::string& why) {
        answer(code, why);  // stays, for those that look later
        folder.remove("call");
        die_with(code, "--fs-path %s: %s", folder.name().c_str(), why.c_str());
    }
    // The call stands there, unless an earlier run has just cleaned up, or another one calls at the same time.
    void call() {
        Note now;
        const bool stands = folder.read("call", now);
        if (stands && now.nonce == nonce) return;
        if (stands && called) die_with(EXIT_USAGE, "--fs-path %s: two runs at a time: another rank 0 calls there (%s)", folder.name().c_str(), now.from.c_str());
        folder.write("call", {.rank = 0, .world = place.world, .nonce = nonce, .answers = "", .from = who(), .to = {}, .body = ""});
        called = true;
    }
    // Reads what ranks have answered to this call, of those that it does not know or of all; true: something is new.
    bool look(const std::vector<std::string>& names, bool all) {
        bool news = false;
        for (const std::string& name : names) {
            const int r = rank_of(name);
            Note note;
            if (r < 0 || (r < place.world && nonces[(size_t)r - 1] != NOBODY && !all) || !folder.read(name, note) || note.answers != nonce) continue;
            if (note.world != place.world) {
                nonces.resize(std::max(nonces.size(), (size_t)r), NOBODY);
                nonces[(size_t)r - 1] = note.nonce;  // it is told too
                refuse(EXIT_USAGE, format("rank %d (%s) says that there are %d ranks, rank 0 says %d", r, note.from.c_str(), note.world, place.world));
            }
            if (r >= place.world) continue;
            news = news || nonces[(size_t)r - 1] != note.nonce;
            nonces[(size_t)r - 1] = note.nonce;
        }
        return news;
    }

  public:
    Caller(const Place& p, const std::string& blob_, const FolderOptions& o, const std::string& run_id)
        : place(p), options(o), folder(o.folder, run_id), blob(blob_), deadline(seconds() + o.timeout_s), nonces((size_t)p.world - 1, NOBODY) {}

    void run() {
        Backoff backoff = pauses(place);
        folder.remove("answer");  // of an earlier run that died
        for (std::vector<int> absent = missing(); !absent.empty(); absent = missing()) {
            call();
            if (look(folder.names(), false)) { backoff.reset(); continue; }
            if (seconds() > deadline)
                refuse(EXIT_FAILED, format("%s of %d did not come %s; is that folder the same one for all machines?", ranks_text(absent).c_str(), place.world, limit_text(options.timeout_s).c_str()));
            backoff.wait(deadline);
        }
        answer(0, blob);
        // each removes its file when it has the answer; one that was started again meanwhile has another nonce, and needs another answer
        for (backoff.reset();; backoff.wait(deadline + options.grace_s)) {
            const std::vector<std::string> names = folder.names();
            if (look(names, true)) answer(0, blob);
            std::vector<int> left;
            for (const std::string& name : names) if (const int r = rank_of(name); r > 0 && r < place.world) left.push_back(r);
            if (left.empty()) break;
            std::sort(left.begin(), left.end());
            if (seconds() > deadline + options.grace_s) die("--fs-path %s: %s of %d did not take the answer of rank 0", folder.name().c_str(), ranks_text(left).c_str(), place.world);
        }
        folder.remove_all();
    }
};

class Answerer {  // the others
    const Place place;
    const FolderOptions options;
    const Folder folder;
    const double deadline;
    Note mine;
    bool written = false;

    // false: rank 0 has not called yet.
    bool answer_call() {
        Note call, there;
        if (!folder.read("call", call)) return false;
        const bool stands = folder.read(file_of(place.rank), there);
        if (written && stands && there.nonce != mine.nonce && there.answers == call.nonce && mine.answers == call.nonce)
            die_with(EXIT_USAGE, "--fs-path %s: rank %d came twice: %s and %s", folder.name().c_str(), place.rank, mine.from.c_str(), there.from.c_str());
        if (stands && there.nonce == mine.nonce && there.answers == call.nonce) return true;
        mine.answers = call.nonce;
        folder.write(file_of(place.rank), mine);
        return written = true;
    }

  public:
    Answerer(const Place& p, const FolderOptions& o, const std::string& run_id) : place(p), options(o), folder(o.folder, run_id), deadline(seconds() + o.timeout_s) {
        mine.rank = p.rank, mine.world = p.world, mine.nonce = hex_of(random_bytes(16)), mine.from = who();
    }
    std::string run() {
        Backoff backoff = pauses(place);
        for (bool called = false;;) {
            (void)folder.names();
            Note answer;
            if (folder.read("answer", answer) && (size_t)place.rank <= answer.to.size() && answer.to[(size_t)place.rank - 1] == mine.nonce) {
                folder.remove(file_of(place.rank));
                if (answer.code) die_with(answer.code, "rank 0 (%s): --fs-path %s: %s", answer.from.c_str(), folder.name().c_str(), answer.body.c_str());
                return answer.body;
            }
            const bool before = std::exchange(called, answer_call());
            if (called && !before) backoff.reset();
            const double end = deadline + (called ? options.grace_s : 0);
            if (seconds() > end) {
                folder.remove(file_of(place.rank));
                const char* why = called ? "rank 0 is there, but did not answer: are other ranks missing?" : "rank 0 did not call there";
                die("--fs-path %s: %s %s; is that folder the same one for all machines?", folder.name().c_str(), why, limit_text(options.timeout_s).c_str());
            }
            backoff.wait(end);
        }
    }
};
}  // namespace folder_rendezvous_detail

// Returns rank 0's blob on every rank, once all have come.
inline std::string rendezvous_folder(const Place& place, const std::string& blob, const FolderOptions& options) {
    using namespace folder_rendezvous_detail;
    CHECK(blob.size() <= RENDEZVOUS_BYTES, "a blob of %zu bytes, must be at most %zu", blob.size(), RENDEZVOUS_BYTES);
    if (place.world == 1) return blob;
    if (options.folder.empty()) die_with(EXIT_USAGE, "--fs-path: missing, must be a folder that all ranks can read and write");
    const std::string run_id = options.run_id.empty() ? run_id_of(place) : options.run_id;
    if (place.rank > 0) return Answerer(place, options, run_id).run();
    Caller(place, blob, options, run_id).run();
    return blob;
}
