// shards.h: token files. 256 int32 of header (magic, version, number of tokens), then the tokens: uint16 (magic 20240520,
// version 1) or uint32 (magic 20240801, version 7). In those of the cache, header[3] is 1 and header[4 .. 5] the XXH64 of the tokens. Shards are read with pread, not mapped: pages of a mapped file would
// count as this process's memory, and a file cut short while it is read would be a signal instead of a message.
#pragma once
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>
#include "../base/check.h"
#include "../base/xxh64.h"
#include "../io/files.h"

#ifdef GLOB_BRACE
constexpr int GLOB_FLAGS = GLOB_NOSORT | GLOB_BRACE;  // {txt,jsonl}, where the C library knows it
#else
constexpr int GLOB_FLAGS = GLOB_NOSORT;
#endif

constexpr size_t SHARD_HEADER = 256 * sizeof(int32_t);

// A range of the tokens of one file; usually all of them.
struct Shard {
    std::string path;
    int width;            // bytes a token: 2 or 4
    uint64_t begin, end;  // tokens
    uint64_t checksum = 0;  // of all tokens of the file, if its header has it
    uint64_t size() const { return end - begin; }
};
using Shards = std::vector<Shard>;

inline uint64_t count_tokens(const Shards& shards) {
    uint64_t total = 0;
    for (const Shard& shard : shards) total += shard.size();
    return total;
}

// Training data from several places; weights are relative to each other.
struct Source { std::string name; Shards shards; double weight = 1; };
using Mixture = std::vector<Source>;

inline uint64_t count_tokens(const Mixture& sources) {
    uint64_t total = 0;
    for (const Source& source : sources) total += count_tokens(source.shards);
    return total;
}

namespace shards_detail {
struct Format { int32_t magic, version; int width; };
constexpr Format FORMATS[] = {{20240520, 1, 2}, {20240801, 7, 4}};

inline void read_fully(int fd, const std::string& path, uint64_t offset, size_t bytes, void* out) {
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, (char*)out + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) die("%s: cannot read at byte %llu: %s", path.c_str(), (unsigned long long)(offset + done), strerror(errno));
        if (n == 0) die("%s: ends at byte %llu: cut short while in use?", path.c_str(), (unsigned long long)(offset + done));
        done += (size_t)n;
    }
}

inline int open_file(const std::string& path) {
    std::string error;
    int fd = open_regular(path, error);
    if (fd < 0) die("%s: cannot open: %s", path.c_str(), error.c_str());
    return fd;
}
}

// Checks everything that can be checked without reading the tokens: magic, version, number of tokens against file size.
inline Shard open_shard(const std::string& path) {
    using namespace shards_detail;
    int fd = open_file(path);
    struct stat info;
    if (fstat(fd, &info)) die("%s: %s", path.c_str(), strerror(errno));
    if (S_ISDIR(info.st_mode)) die("%s: is a folder, must be a file; what is in it by a pattern, as '%s/*.txt' or '%s/train_*.bin'", path.c_str(), path.c_str(), path.c_str());
    uint64_t bytes = (uint64_t)info.st_size;
    int32_t header[6] = {};
    read_fully(fd, path, 0, std::min<uint64_t>(bytes, sizeof header), header);
    close(fd);

    const Format* format = nullptr;
    for (const Format& f : FORMATS) if (header[0] == f.magic) format = &f;
    if (!format) die("%s: not a token shard: starts with %d, expected 20240520 or 20240801 (text must be named .txt or .jsonl)",
                     path.c_str(), header[0]);
    if (header[1] != format->version) die("%s: version %d of token shard %d, expected %d", path.c_str(), header[1], header[0], format->version);
    if (bytes < SHARD_HEADER) die("%s: %llu bytes, a token shard's header alone is %zu: truncated?", path.c_str(), (unsigned long long)bytes, SHARD_HEADER);
    uint64_t payload = bytes - SHARD_HEADER, tokens = payload / (uint64_t)format->width;
    // The header's int32 cannot say more than 2^31 - 1: from there on it wrapped around or was clamped, and the size counts.
    bool beyond = tokens > INT32_MAX && (header[2] == (int32_t)(uint32_t)tokens || header[2] <= 0 || header[2] == INT32_MAX);
    if (!beyond && (int64_t)header[2] != (int64_t)tokens)
        die("%s: header says %d tokens, the file holds %llu: %s", path.c_str(), header[2], (unsigned long long)tokens,
            (int64_t)tokens < header[2] ? "truncated? fetch or make it again" : "the header is wrong or the file was appended to");
    if (payload % (uint64_t)format->width) die("%s: ends in the middle of a token: truncated? fetch or make it again", path.c_str());
    return {path, format->width, 0, tokens, header[3] == 1 ? (uint64_t)(uint32_t)header[4] | (uint64_t)(uint32_t)header[5] << 32 : 0};
}

namespace shards_detail {
// What the header of a shard of the cache says of tokens and header: `hash` has taken the tokens.
inline uint64_t cache_checksum(Xxh64 hash, const int32_t* header) {
    hash.update(header, 4 * sizeof(int32_t)), hash.update(header + 6, SHARD_HEADER - 6 * sizeof(int32_t));
    return hash.digest();
}
}

// Does the file hold what was written to the cache? A link does not, nor what cannot be read: it is made again.
inline bool is_sound_shard(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    int32_t header[256];
    struct stat info;
    bool sound = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && pread(fd, header, sizeof header, 0) == (ssize_t)sizeof header && header[3] == 1;
    Xxh64 hash;
    std::vector<char> block(FILE_BLOCK);
    for (off_t at = (off_t)SHARD_HEADER; sound && at < info.st_size;) {
        const ssize_t n = pread(fd, block.data(), block.size(), at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) sound = false;
        else hash.update(block.data(), (size_t)n), at += n;
    }
    close(fd);
    const uint64_t checksum = sound ? shards_detail::cache_checksum(hash, header) : 0;
    return sound && header[4] == (int32_t)(uint32_t)checksum && header[5] == (int32_t)(uint32_t)(checksum >> 32);
}

// Of the tokens at four places in each shard, or of all where its header says so: data with as many tokens and another checksum are other data.
inline uint64_t sample_checksum(const Shards& shards) {
    using namespace shards_detail;
    Xxh64 hash;
    for (const Shard& shard : shards) {
        if (shard.checksum) {
            const uint64_t part[3] = {shard.checksum, shard.begin, shard.end};
            hash.update(part, sizeof part);
            continue;
        }
        const int fd = open_file(shard.path);
        const uint64_t n = std::min<uint64_t>(shard.size(), 16384);
        std::vector<char> tokens(n * (uint64_t)shard.width);
        for (uint64_t place = 0; place < 4; place++) {
            read_fully(fd, shard.path, SHARD_HEADER + (shard.begin + (shard.size() - n) / 3 * place) * (uint64_t)shard.width, tokens.size(), tokens.data());
            hash.update(tokens.data(), tokens.size());
        }
        close(fd);
    }
    return hash.digest();
}

// Files that match a pattern, sorted by name as bytes; a name without wildcards is itself.
inline std::vector<std::string> list_files(const std::string& pattern) {
    struct stat info;
    if (stat(pattern.c_str(), &info) == 0) return {pattern};  // a name may hold [ and *
    const int why = errno;
    const bool dangles = why == ENOENT && lstat(pattern.c_str(), &info) == 0;
    glob_t found = {};
    int error = glob(pattern.c_str(), GLOB_FLAGS, nullptr, &found);
    if (error && error != GLOB_NOMATCH) die("%s: cannot list: %s", pattern.c_str(), strerror(errno));
    std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    globfree(&found);
    paths.erase(std::remove_if(paths.begin(), paths.end(), [&](const std::string& p) { return stat(p.c_str(), &info) != 0; }), paths.end());
    if (paths.empty()) die("%s: %s", pattern.c_str(), dangles ? "is a link to a file that is not there" : why != ENOENT && why != ENOTDIR ? strerror(why) : "no such file");
    std::sort(paths.begin(), paths.end());
    return paths;
}

// Reads tokens as int from any of many shards, with at most 64 files open.
class ShardReader {
    struct Open { std::string path; int fd; };
    std::vector<Open> open_;
    size_t oldest_ = 0;
    std::vector<char> bytes_;

    int fd_of(const Shard& shard) {
        for (const Open& o : open_) if (o.path == shard.path) return o.fd;
        Open opened = {shard.path, shards_detail::open_file(shard.path)};
        if (open_.size() < 64) return open_.push_back(opened), opened.fd;
        Open& slot = open_[oldest_++ % 64];
        close(slot.fd);
        slot = opened;
        return slot.fd;
    }

  public:
    ShardReader() = default;
    ShardReader(const ShardReader&) = delete;
    ShardReader& operator=(const ShardReader&) = delete;
    ~ShardReader() { for (const Open& o : open_) close(o.fd); }

    // out[i] = token (at + i) of the file; at counts from the start of the file, not of the range
    void read(const Shard& shard, uint64_t at, size_t n, int* out) {
        size_t width = (size_t)shard.width;
        bytes_.resize(n * width);
        shards_detail::read_fully(fd_of(shard), shard.path, SHARD_HEADER + at * width, n * width, bytes_.data());
        if (width == 4) {
            if (n) memcpy(out, bytes_.data(), n * 4);  // of none, both may be null
            return;
        }
        for (size_t i = 0; i < n; i++) {
            uint16_t token;
            memcpy(&token, bytes_.data() + 2 * i, 2);
            out[i] = token;
        }
    }
};

// Writes a shard under a temporary name that becomes `path` in finish(), so that a shard is whole or absent. With a name
// `part` of the caller's for the time between, work goes on with the first `keep` tokens that an earlier run synced there. Without one the name is new
// and no link, and the header says the checksum: for the cache.
class ShardWriter {
    std::string path_, temporary_;
    bool resumable_;
    int fd_, width_;
    uint64_t count_;
    std::vector<char> buffer_;
    Xxh64 hash_;

    void write_at(const void* data, size_t bytes, off_t offset) {
        for (size_t done = 0; done < bytes;) {
            ssize_t n = pwrite(fd_, (const char*)data + done, bytes - done, offset + (off_t)done);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail_to("write");
            done += (size_t)n;
        }
    }
    void flush() {
        write_at(buffer_.data(), buffer_.size(), (off_t)(SHARD_HEADER + count_ * (uint64_t)width_ - buffer_.size()));
        if (!resumable_) hash_.update(buffer_.data(), buffer_.size());
        buffer_.clear();
    }
    [[noreturn]] void fail_to(const char* what) { fail(format("%s: cannot %s: %s", path_.c_str(), what, strerror(errno))); }

  public:
    ShardWriter(const std::string& path, int vocab_size, const std::string& part = "", uint64_t keep = 0)
        : path_(path), temporary_(part), resumable_(!part.empty()), width_(vocab_size <= 65536 ? 2 : 4), count_(keep) {
        for (int number = 0; !resumable_ && number < 100 && (number == 0 || (fd_ < 0 && errno == EEXIST)); number++) {  // of another machine's process, or left by a kill
            temporary_ = path + format(".%d-%d.tmp", (int)getpid(), number);
            fd_ = open_file(temporary_, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
        }
        if (resumable_) fd_ = open_file(temporary_, O_RDWR | O_CREAT | O_NOFOLLOW);
        if (fd_ < 0) die("%s: cannot write: %s", temporary_.c_str(), strerror(errno));
        struct stat info;
        off_t bytes = (off_t)(SHARD_HEADER + keep * (uint64_t)width_);
        if (fstat(fd_, &info)) fail_to("write");
        if (keep && info.st_size < bytes) die("%s: holds less than the %llu tokens it had", part.c_str(), (unsigned long long)keep);
        while (ftruncate(fd_, bytes)) if (errno != EINTR) fail_to("write");
    }
    ShardWriter(const ShardWriter&) = delete;
    ShardWriter& operator=(const ShardWriter&) = delete;
    ~ShardWriter() {
        if (fd_ < 0) return;
        close(fd_);
        if (!resumable_) unlink(temporary_.c_str());
    }

    // Ends the process, and nothing half-written is left behind.
    [[noreturn]] void fail(const std::string& why, int code = EXIT_FAILED) {
        if (!resumable_) unlink(temporary_.c_str());
        die_with(code, "%s", why.c_str());
    }
    uint64_t count() const { return count_; }

    // As little work as can be: while ./tokenize is here, its other threads wait.
    void add(const int* tokens, size_t n) {
        constexpr size_t FULL = 1 << 20;
        for (size_t i = 0, k; i < n; i += k) {
            const size_t begin = buffer_.size();
            k = std::min(n - i, (FULL - begin) / (size_t)width_);
            buffer_.resize(begin + k * (size_t)width_);
            char* out = &buffer_[begin];
            if (width_ == 4) memcpy(out, tokens + i, k * 4);
            else for (size_t j = 0; j < k; j++) {
                uint16_t token = (uint16_t)tokens[i + j];
                memcpy(out + 2 * j, &token, 2);
            }
            count_ += k;
            if (buffer_.size() == FULL) flush();
        }
    }
    void sync() {
        flush();
        if (!sync_file(fd_)) fail_to("write");
        fsync_dir(parent_folder(temporary_));  // dataset.part.json counts on its name too
    }
    void finish() {
        flush();
        const auto& f = shards_detail::FORMATS[width_ == 2 ? 0 : 1];
        int32_t header[256] = {f.magic, f.version, (int32_t)(uint32_t)count_, resumable_ ? 0 : 1};
        const uint64_t checksum = resumable_ ? 0 : shards_detail::cache_checksum(hash_, header);
        header[4] = (int32_t)(uint32_t)checksum, header[5] = (int32_t)(uint32_t)(checksum >> 32);
        write_at(header, sizeof header, 0);
        if (!sync_file(fd_) || !close_file(std::exchange(fd_, -1))) fail_to("write");
        if (rename(temporary_.c_str(), path_.c_str())) fail_to("rename");
        fsync_dir(parent_folder(path_));
    }
};

// The last document start (token eot) in [low, cut], or the first in (cut, high], or cut if there is none.
inline uint64_t document_start_near(const Shard& shard, uint64_t low, uint64_t cut, uint64_t high, int eot) {
    ShardReader reader;
    constexpr uint64_t BLOCK = 1 << 16;
    std::vector<int> block(BLOCK);
    for (uint64_t end = cut + 1; end > low;) {
        uint64_t begin = end - std::min(BLOCK, end - low);
        reader.read(shard, begin, end - begin, block.data());
        for (uint64_t i = end; i-- > begin;) if (block[i - begin] == eot) return i;
        end = begin;
    }
    for (uint64_t begin = cut + 1; begin <= high; begin += BLOCK) {
        size_t n = std::min(BLOCK, high + 1 - begin);
        reader.read(shard, begin, n, block.data());
        for (size_t i = 0; i < n; i++) if (block[i] == eot) return begin + i;
    }
    return cut;
}

// Keeps the last tenth of the tokens for validation; both parts are ranges of the same files. It depends on the tokens alone, so that a
// run that is resumed with another batch or sequence never validates on what it has trained on. The cut moves to a document start near by:
// to the last one before it that makes the held out part no more than half as large again, or to the next one that leaves half of it.
// eot = -1: it does not move.
struct TrainVal { Shards train, val; };
inline TrainVal hold_out(const Shards& all, int eot, const std::string& name = "") {
    const uint64_t total = count_tokens(all), held = std::max<uint64_t>(total / 10, 2);  // 2: one target
    if (total < 2 + held)
        die("%s: %llu tokens, too few to train on and to hold out a tenth of: use more text, or --val-data", !name.empty() ? name.c_str() : all.empty() ? "the data" : all[0].path.c_str(),
            (unsigned long long)total);
    const uint64_t trained = total - held;

    size_t s = 0;  // the shard with the first token that is held out
    uint64_t before = 0;
    while (before + all[s].size() <= trained) before += all[s++].size();
    const Shard& shard = all[s];
    uint64_t cut = shard.begin + (trained - before);
    const uint64_t back = std::min({held / 2, trained - 2, cut - shard.begin});
    const uint64_t on = std::min((held - 1) / 2, shard.end - 1 - cut);  // at least 2 tokens are left
    if (eot >= 0) cut = document_start_near(shard, cut - back, cut, cut + on, eot);

    TrainVal split = {{all.begin(), all.begin() + (long)s}, {all.begin() + (long)s, all.end()}};
    if (cut > shard.begin) split.train.push_back(shard), split.train.back().end = cut;
    split.val[0].begin = cut;
    return split;
}
