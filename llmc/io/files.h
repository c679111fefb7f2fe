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
#include <cstdint>
#include <cstring>
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

inline std::string errno_text(const std::string& path) { return format("%s: %s", path.c_str(), strerror(errno)); }

// A descriptor, or -1 and the error. Only regular files: a pipe would be waited for, and most files here are read twice.
inline int open_regular(const std::string& path, std::string& error) {
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // nonblocking: a pipe without a writer opens too
    struct stat s;
    if (fd < 0 || fstat(fd, &s) != 0) error = strerror(errno);
    else if (S_ISREG(s.st_mode) || S_ISDIR(s.st_mode)) return fd;  // of a directory reading says what is wrong
    else error = format("is a %s, must be a file", S_ISFIFO(s.st_mode) ? "pipe" : S_ISSOCK(s.st_mode) ? "socket" : "device");
    if (fd >= 0) close(fd);
    return -1;
}

// Calls use(bytes, count) on block after block of the file. Returns the error, or "".
inline std::string for_each_block(const std::string& path, const std::function<void(const char*, size_t)>& use) {
    std::string error;
    int fd = open_regular(path, error);
    if (fd < 0) return path + ": " + error;
    std::vector<char> block(FILE_BLOCK);
    for (;;) {
        ssize_t n = read(fd, block.data(), block.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) error = errno_text(path);
        if (n <= 0) break;
        use(block.data(), (size_t)n);
    }
    close(fd);
    return error;
}

inline std::string try_read_file(const std::string& path, std::string& text) {
    text.clear();
    return for_each_block(path, [&](const char* p, size_t n) { text.append(p, n); });
}
inline std::string read_file(const std::string& path) {
    std::string text, error = try_read_file(path, text);
    CHECK(error.empty(), "%s", error.c_str());
    return text;
}

inline std::string sum_file(const std::string& path, FileSum& sum) {
    Xxh64 hash;
    sum = {};
    std::string error = for_each_block(path, [&](const char* p, size_t n) { hash.update(p, n), sum.bytes += n; });
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

// The names in a folder, sorted; none if there is no such folder.
inline std::vector<std::string> list_folder(const std::string& path) {
    std::vector<std::string> names;
    DIR* folder = opendir(path.c_str());
    CHECK(folder || errno == ENOENT, "%s", errno_text(path).c_str());
    if (!folder) return names;
    while (dirent* entry = readdir(folder))
        if (std::string_view name = entry->d_name; name != "." && name != "..") names.emplace_back(name);
    closedir(folder);
    std::sort(names.begin(), names.end());
    return names;
}

// Names live in their folder, not in their file: only this makes a creation, a rename or a removal survive a power loss.
inline void fsync_dir(const std::string& path) {
    int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0, "%s", errno_text(path).c_str());
    // Some network file systems cannot sync a folder, and say EINVAL: they are as safe as they can be.
    CHECK(fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP, "%s", errno_text(path).c_str());
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
    if (errno == EEXIST && stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode)) return;
    CHECK(errno == ENOENT && parent_folder(path) != path, "%s", errno_text(path).c_str());
    make_folders(parent_folder(path));
    CHECK(mkdir(path.c_str(), 0777) == 0 || errno == EEXIST, "%s", errno_text(path).c_str());
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
inline void remove_tree(const std::string& path) {
    std::string error = try_remove_tree(path);
    CHECK(error.empty(), "%s", error.c_str());
}

inline void rename_file(const std::string& from, const std::string& to) {
    CHECK(rename(from.c_str(), to.c_str()) == 0, "%s -> %s", from.c_str(), errno_text(to).c_str());
}

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
        fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
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
        if (fsync(fd) != 0 && errno != EINVAL) fail();  // EINVAL: a pipe or a device has nothing to sync
        if (::close(std::exchange(fd, -1)) != 0) fail();
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
    if (!given.empty()) make_folders(parent);
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

// A reader sees the old file or the new one, never a part, whenever the power goes: the new bytes reach the disk before the
// rename gives them the name, and the folder is synced last, so that the rename itself stays.
inline void write_file_atomically(const std::string& path, std::string_view text) {
    std::string temporary = path + format(".tmp-%d", (int)getpid());
    FileWriter file(temporary);
    file.write(text.data(), text.size());
    file.close();
    rename_file(temporary, path);
    fsync_dir(parent_folder(path));
}
