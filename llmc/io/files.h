// files.h: files that are whole or absent. Reading, buffered writing with a checksum, and folders.
#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include "../base/check.h"
#include "../base/xxh64.h"

// Checksums, safetensors and token shards are little-endian, and are read without swapping.
static_assert(std::endian::native == std::endian::little, "the file formats are read as they lie on disk");

struct FileSum { uint64_t bytes = 0, checksum = 0; };

// ---- reading -------------------------------------------------------------------------------------------------------

constexpr size_t FILE_BLOCK = 1 << 20;  // 1 MB: large enough that a system call costs nothing, and still in the L2 cache

// A signal that comes during a call is no error of it: the call is made again. But for close, which has closed the file then.
template <class Call> inline auto uninterrupted(Call call) {
    for (;;) if (auto result = call(); result != -1 || errno != EINTR) return result;
}
inline int open_file(const std::string& path, int flags) { return uninterrupted([&] { return open(path.c_str(), flags | O_CLOEXEC, 0666); }); }
inline bool sync_file(int fd) { return uninterrupted([&] { return fsync(fd); }) == 0; }
inline bool close_file(int fd) { return close(fd) == 0 || errno == EINTR; }

inline std::string errno_text(const std::string& path) { return format("%s: %s", path.c_str(), strerror(errno)); }

// An error that says nothing of the file: of the disk, or of what this process may do or has left. Of a file that is missing, or is none, it does.
inline bool is_of_the_machine(int error) { return error && error != ENOENT && error != ENOTDIR && error != EISDIR && error != ELOOP && error != ENXIO; }

// What is no regular file.
inline const char* kind_of(const struct stat& s) { return S_ISDIR(s.st_mode) ? "folder" : S_ISFIFO(s.st_mode) ? "pipe" : S_ISSOCK(s.st_mode) ? "socket" : "device"; }

// What `git clone` leaves in place of a large file where git-lfs is not installed: three lines of text.
inline bool is_lfs_pointer(int fd, const struct stat& s) {
    constexpr std::string_view FIRST = "version https://git-lfs.github.com/spec/";
    char begin[FIRST.size()];
    return s.st_size < 1024 && pread(fd, begin, sizeof begin, 0) == (ssize_t)sizeof begin && std::string_view(begin, sizeof begin) == FIRST;  // 1024: as git-lfs takes them
}

// A descriptor, or -1 and the error. Only regular files: a pipe would be waited for, and most files here are read twice.
inline int open_regular(const std::string& path, std::string& error) {
    int fd = open_file(path, O_RDONLY | O_NONBLOCK);  // nonblocking: a pipe without a writer opens too
    struct stat s;
    const bool nobody_answers = fd < 0 && errno == ENXIO && stat(path.c_str(), &s) == 0;  // a socket, or a terminal that is not there
    if (!nobody_answers && (fd < 0 || fstat(fd, &s) != 0)) error = strerror(errno);
    else if (S_ISREG(s.st_mode) && is_lfs_pointer(fd, s)) error = "is a pointer of Git LFS and not the file, which `git lfs pull` fetches", errno = 0;
    else if (S_ISREG(s.st_mode) || S_ISDIR(s.st_mode)) return fd;  // of a directory reading says what is wrong
    else error = format("is a %s, must be a file", kind_of(s)), errno = 0;
    const int why = errno;  // 0: nothing is wrong with the machine
    if (fd >= 0) close(fd);
    errno = why;
    return -1;
}

// Calls use(bytes, count) on block after block of the file. Returns the error, or ""; if asked, whether it is of the machine.
inline std::string for_each_block(const std::string& path, const std::function<void(const char*, size_t)>& use, bool* of_the_machine = nullptr) {
    std::string error;
    errno = 0;
    int fd = open_regular(path, error);
    if (of_the_machine) *of_the_machine = fd < 0 && is_of_the_machine(errno);
    if (fd < 0) return path + ": " + error;
    const std::unique_ptr<char[]> block(new char[FILE_BLOCK]);  // not zeroed: a small file touches one page of it
    for (;;) {
        ssize_t n = read(fd, block.get(), FILE_BLOCK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && of_the_machine) *of_the_machine = is_of_the_machine(errno);
        if (n < 0) error = errno_text(path);
        if (n <= 0) break;
        use(block.get(), (size_t)n);
    }
    close(fd);
    return error;
}

inline std::string try_read_file(const std::string& path, std::string& text, bool* of_the_machine = nullptr) {
    text.clear();
    return for_each_block(path, [&](const char* p, size_t n) { text.append(p, n); }, of_the_machine);
}
inline std::string read_file(const std::string& path) {
    std::string text, error = try_read_file(path, text);
    CHECK(error.empty(), "%s", error.c_str());
    return text;
}

inline std::string sum_file(const std::string& path, FileSum& sum, bool* of_the_machine = nullptr) {
    Xxh64 hash;
    sum = {};
    std::string error = for_each_block(path, [&](const char* p, size_t n) { hash.update(p, n), sum.bytes += n; }, of_the_machine);
    sum.checksum = hash.digest();
    return error;
}

// ---- folders -------------------------------------------------------------------------------------------------------

// A name that cannot lead out of its folder, nor break a line of a manifest.
inline bool is_plain_name(std::string_view name) {
    if (name.empty() || name.size() > 200 || name[0] == '.') return false;
    return std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-';
    });
}

// Each of these as try_...: returns the error, or "", for who can do without; else the process ends with it.
inline void or_die(const std::string& error) { CHECK(error.empty(), "%s", error.c_str()); }

// Whether something has that name. A disk that does not answer has not said no.
inline std::string try_is_there(const std::string& path, bool& there) {
    struct stat s;
    there = lstat(path.c_str(), &s) == 0;
    return there || errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG ? "" : errno_text(path);
}
inline bool is_there(const std::string& path) {
    bool there;
    return or_die(try_is_there(path, there)), there;
}

// Whether a file of that name was there; it is not any more.
inline std::string try_remove_file(const std::string& path, bool& was_there) {
    was_there = unlink(path.c_str()) == 0;
    return was_there || errno == ENOENT ? "" : path + ": cannot remove: " + strerror(errno);
}
inline bool remove_file(const std::string& path) {
    bool was_there;
    return or_die(try_remove_file(path, was_there)), was_there;
}

// The names in a folder, sorted; none if there is no such folder. All of them: what is not listed would be taken for missing.
inline std::string try_list_folder(const std::string& path, std::vector<std::string>& names) {
    names.clear();
    DIR* folder = opendir(path.c_str());
    while (!folder && errno == EINTR) folder = opendir(path.c_str());
    if (!folder) return errno == ENOENT ? "" : errno_text(path);
    for (errno = 0; dirent* entry = readdir(folder); errno = 0)  // each time: memory for a name may set it, and be there
        if (std::string_view name = entry->d_name; name != "." && name != "..") names.emplace_back(name);
    const std::string error = errno ? errno_text(path) : "";
    closedir(folder);
    std::sort(names.begin(), names.end());
    return error;
}
inline std::vector<std::string> list_folder(const std::string& path) {
    std::vector<std::string> names;
    return or_die(try_list_folder(path, names)), names;
}

// Names live in their folder, not in their file: only this makes a creation, a rename or a removal survive a power loss.
inline void fsync_dir(const std::string& path) {
    int fd = open_file(path, O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0, "%s", errno_text(path).c_str());
    // Some network file systems cannot sync a folder, and say EINVAL: they are as safe as they can be.
    CHECK(sync_file(fd) || errno == EINVAL || errno == ENOTSUP, "%s", errno_text(path).c_str());
    close(fd);
}

inline std::string parent_folder(const std::string& path) {
    size_t end = path.find_last_not_of('/');
    size_t slash = end == path.npos ? end : path.rfind('/', end);
    if (slash == path.npos) return path[0] == '/' ? "/" : ".";
    size_t last = path.find_last_not_of('/', slash);
    return last == path.npos ? "/" : path.substr(0, last + 1);
}

// mkdir -p
inline void make_folders(const std::string& path) {
    if (mkdir(path.c_str(), 0777) == 0) return fsync_dir(parent_folder(path));
    struct stat s;
    const auto cannot = [&] { return format("%s: cannot make this folder: %s", path.c_str(), strerror(errno)); };
    if (errno == EEXIST && lstat(path.c_str(), &s) == 0) {
        const bool leads_nowhere = stat(path.c_str(), &s) != 0;
        if (!leads_nowhere && S_ISDIR(s.st_mode)) return;
        die("%s: is a %s, must be a folder", path.c_str(), leads_nowhere ? "link to what is not there" : S_ISREG(s.st_mode) ? "file" : kind_of(s));
    }
    CHECK(errno == ENOENT && parent_folder(path) != path, "%s", cannot().c_str());
    make_folders(parent_folder(path));
    CHECK(mkdir(path.c_str(), 0777) == 0 || errno == EEXIST, "%s", cannot().c_str());
    fsync_dir(parent_folder(path));
}

// rm -rf: never follows a link; what is gone already is fine. Returns the error, or "".
inline std::string try_remove_tree(const std::string& path) {
    auto remove_one = [](const char* p, const struct stat*, int, struct FTW*) {
        return remove(p) == 0 || errno == ENOENT ? 0 : -1;
    };
    bool gone = nftw(path.c_str(), remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT;
    return gone ? "" : errno_text(path);
}
inline void remove_tree(const std::string& path) { or_die(try_remove_tree(path)); }

inline std::string try_rename_file(const std::string& from, const std::string& to) { return rename(from.c_str(), to.c_str()) == 0 ? "" : from + " -> " + errno_text(to); }
inline void rename_file(const std::string& from, const std::string& to) { or_die(try_rename_file(from, to)); }

// ---- writing -------------------------------------------------------------------------------------------------------

// Writes one file from start to end through a 4 MB buffer and knows its length and checksum when it is done. A write that
// fails (a full disk) removes the file, and the folder `scrap` if one is named, and dies: nothing half-written stays.
class FileWriter {
    static constexpr size_t BUFFER = 4 << 20;  // large enough for every disk, small enough to be forgotten in a plan
    std::string path, scrap;
    int fd = -1;
    std::unique_ptr<char[]> buffer{new char[BUFFER]};  // not zeroed: a small file touches one page of it
    size_t filled = 0;
    FileSum sum;
    Xxh64 hash;

    [[noreturn]] void fail() {
        std::string error = errno_text(path);
        struct stat s;
        if (fd >= 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode)) unlink(path.c_str());  // not a device, nor a pipe
        if (!scrap.empty()) try_remove_tree(scrap);
        die("%s", error.c_str());
    }
    void put(const char* p, size_t n) {
        hash.update(p, n), sum.bytes += n;
        while (n > 0) {
            ssize_t done = ::write(fd, p, n);
            if (done < 0 && errno != EINTR) fail();
            if (done > 0) p += done, n -= (size_t)done;
        }
    }

public:
    explicit FileWriter(const std::string& path_, const std::string& scrap_ = "") : path(path_), scrap(scrap_) {
        fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
        if (fd < 0) fail();
    }
    FileWriter(FileWriter&& o) noexcept
        : path(std::move(o.path)), scrap(std::move(o.scrap)), fd(std::exchange(o.fd, -1)), buffer(std::move(o.buffer)),
          filled(o.filled), sum(o.sum), hash(o.hash) {}
    ~FileWriter() { if (fd >= 0) ::close(fd); }

    uint64_t bytes() const { return sum.bytes + filled; }

    void write(const void* data, size_t n) {
        const char* p = (const char*)data;
        while (n > 0) {
            if (filled == 0 && n >= BUFFER) {  // large arrays go from their place to the disk, without a copy
                put(p, BUFFER), p += BUFFER, n -= BUFFER;
                continue;
            }
            size_t take = std::min(n, BUFFER - filled);
            memcpy(&buffer[filled], p, take);
            p += take, n -= take, filled += take;
            if (filled == BUFFER) put(buffer.get(), BUFFER), filled = 0;
        }
    }

    // The bytes are on the disk when this returns; the name is not, until its folder is synced.
    FileSum close() {
        put(buffer.get(), filled), filled = 0;
        sum.checksum = hash.digest();
        if (!sync_file(fd) && errno != EINVAL) fail();  // EINVAL: a pipe or a device has nothing to sync
        if (!close_file(std::exchange(fd, -1))) fail();
        return sum;
    }
};

// A folder for what a run believes when it finds it there, made for this user alone if it is missing. Returns why it cannot be believed, or "": who may
// write to it decides what the next run reads, and where a link in it leads.
inline std::string private_folder(const std::string& path) {
    if (mkdir(path.c_str(), 0700) == 0) return fsync_dir(parent_folder(path)), "";
    struct stat s;
    if (lstat(path.c_str(), &s) != 0) return errno_text(path);
    if (!S_ISDIR(s.st_mode)) return path + ": is no folder, must be one, and no link";
    if (s.st_uid != geteuid()) return format("%s: belongs to user %d, must be this user's, %d", path.c_str(), (int)s.st_uid, (int)geteuid());
    if (s.st_mode & 022) return format("%s: others may write to it (mode %04o): chmod go-w lets only this user", path.c_str(), (unsigned)s.st_mode & 07777);
    return access(path.c_str(), W_OK | X_OK) == 0 ? "" : errno_text(path);
}

// Where what was found out on this machine is kept from run to run: `given`, or $XDG_CACHE_HOME or ~/.cache, and there llmc; made if
// it is missing. Empty, with the reason, if none was given and the usual place cannot be used.
inline std::string cache_folder(const std::string& given, std::string& why) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const std::string parent = !given.empty() ? parent_folder(given) : cache && *cache ? cache : home && *home ? std::string(home) + "/.cache" : "";
    const std::string folder = given.empty() ? parent + "/llmc" : given;
    why = parent.empty() ? "neither XDG_CACHE_HOME nor HOME says where" : "";
    struct stat s;
    if (!given.empty()) { if (stat(parent.c_str(), &s) != 0 && errno == ENOENT) make_folders(parent); }
    else if (!parent.empty()) mkdir(parent.c_str(), 0700);
    if (why.empty()) why = private_folder(folder);
    if (!given.empty()) CHECK(why.empty(), "%s", why.c_str());
    return why.empty() ? folder : "";
}
inline std::string cache_folder(const std::string& given) {
    std::string why, folder = cache_folder(given, why);
    if (!why.empty()) fprintf(stderr, "%s: no cache is used\n", why.c_str());
    return folder;
}

// body(line) for each line of a file, where there is one that can be read.
template <class Body> void for_each_line(const std::string& path, Body body) {
    std::string text;
    if (!try_read_file(path, text).empty()) return;
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find('\n', at), text.size());
        body(text.substr(at, end - at));
    }
}

// "NAME.tmp-PID", as write_file_atomically names a file that it writes, or "NAME.PID-N.tmp", as a shard: of process `pid`, or 0 if it is no such name.
inline long process_of_temporary(const std::string& name) {
    const bool shard = name.ends_with(".tmp");
    const size_t end = shard ? name.size() - 4 : name.size(), begin = shard && end > 0 ? name.rfind('.', end - 1) : name.rfind(".tmp-");
    std::string digits = begin == name.npos || begin == 0 ? "" : name.substr(begin + (shard ? 1 : 5), end - begin - (shard ? 1 : 5));
    if (const size_t number = digits.find('-'); shard && number != digits.npos && digits.find_first_not_of("0123456789", number + 1) == digits.npos) digits.resize(number);
    if (digits.empty() || digits.size() > 9 || digits.find_first_not_of("0123456789") != digits.npos) return 0;
    return atol(digits.c_str());
}
inline std::string temporary_name(const std::string& path) { return path + format(".tmp-%d", (int)getpid()); }

// What a process that was killed while it wrote this file has left. One that lives, or that may live on another machine, still writes: its file changes.
inline void remove_leftovers_of(const std::string& path) {
    constexpr time_t OLD = 60;  // seconds without a change: longer than a write of 4 MB takes on any disk that works
    const std::string folder = parent_folder(path), base = path.substr(path.rfind('/') + 1);
    DIR* entries = opendir(folder.c_str());
    if (!entries) return;  // whoever writes says why
    while (dirent* entry = readdir(entries)) {
        const std::string name = entry->d_name, file = folder + "/" + name;
        const long pid = name.starts_with(base + ".") ? process_of_temporary(name) : 0;
        struct stat s;
        if (pid > 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH && lstat(file.c_str(), &s) == 0 && S_ISREG(s.st_mode) && time(nullptr) - s.st_mtime > OLD) unlink(file.c_str());
    }
    closedir(entries);
}
// In a folder that is locked nobody else writes: what was written under such a name is left over.
inline void remove_leftovers(const std::string& folder) {
    struct stat s;
    for (const std::string& name : list_folder(folder))
        if (const std::string file = folder + "/" + name; process_of_temporary(name) > 0 && lstat(file.c_str(), &s) == 0 && S_ISREG(s.st_mode)) unlink(file.c_str());
}

// A reader sees the old file or the new one, never a part, whenever the power goes: the new bytes reach the disk before the
// rename gives them the name, and the folder is synced last, so that the rename itself stays.
inline void write_file_atomically(const std::string& path, std::string_view text) {
    struct stat s;  // a rename would put a file in the place of a device or a pipe
    CHECK(stat(path.c_str(), &s) != 0 || S_ISREG(s.st_mode) || S_ISDIR(s.st_mode), "%s: is a %s, must be a file", path.c_str(), kind_of(s));
    const std::string temporary = temporary_name(path);
    remove_leftovers_of(path);
    FileWriter file(temporary);
    file.write(text.data(), text.size());
    file.close();
    rename_file(temporary, path);
    fsync_dir(parent_folder(path));
}
