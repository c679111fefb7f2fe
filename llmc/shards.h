// shards.h: token files. 256 int32 of header (magic, version, number of tokens), then the tokens: uint16 (magic 20240520,
// version 1) or uint32 (magic 20240801, version 7). Shards are read with pread, not mapped: pages of a mapped file would
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
#include <vector>
#include "check.h"

constexpr size_t SHARD_HEADER = 256 * sizeof(int32_t);

// A range of the tokens of one file; usually all of them.
struct Shard {
    std::string path;
    int width;            // bytes a token: 2 or 4
    uint64_t begin, end;  // tokens
    uint64_t size() const { return end - begin; }
};
using Shards = std::vector<Shard>;

inline uint64_t count_tokens(const Shards& shards) {
    uint64_t total = 0;
    for (const Shard& shard : shards) total += shard.size();
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
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) die("%s: cannot open: %s", path.c_str(), strerror(errno));
    return fd;
}
}

// Checks everything that can be checked without reading the tokens: magic, version, number of tokens against file size.
inline Shard open_shard(const std::string& path) {
    using namespace shards_detail;
    int fd = open_file(path);
    struct stat info;
    if (fstat(fd, &info)) die("%s: %s", path.c_str(), strerror(errno));
    if (S_ISDIR(info.st_mode)) die("%s: a directory, expected a token shard", path.c_str());
    uint64_t bytes = (uint64_t)info.st_size;
    int32_t header[3] = {};
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
    return {path, format->width, 0, tokens};
}

// Files that match a pattern, sorted by name as bytes; a name without wildcards is itself.
inline std::vector<std::string> list_files(const std::string& pattern) {
    struct stat info;
    if (stat(pattern.c_str(), &info) == 0) return {pattern};  // a name may hold [ and *
    glob_t found = {};
    int error = glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
    if (error && error != GLOB_NOMATCH) die("%s: cannot list: %s", pattern.c_str(), strerror(errno));
    std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    globfree(&found);
    if (paths.empty()) die("%s: no such file", pattern.c_str());
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
        if (width == 4) { memcpy(out, bytes_.data(), n * 4); return; }
        for (size_t i = 0; i < n; i++) {
            uint16_t token;
            memcpy(&token, bytes_.data() + 2 * i, 2);
            out[i] = token;
        }
    }
};

// Writes a shard under a temporary name that becomes `path` in finish(), so that a shard is whole or absent.
class ShardWriter {
    std::string path_, temporary_;
    int fd_, width_;
    uint64_t count_ = 0;
    std::vector<char> buffer_;

    void write_at(const void* data, size_t bytes, off_t offset) {
        for (size_t done = 0; done < bytes;) {
            ssize_t n = pwrite(fd_, (const char*)data + done, bytes - done, offset + (off_t)done);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) fail(format("%s: cannot write: %s", path_.c_str(), strerror(errno)));
            done += (size_t)n;
        }
    }
    void flush() {
        write_at(buffer_.data(), buffer_.size(), (off_t)(SHARD_HEADER + count_ * (uint64_t)width_ - buffer_.size()));
        buffer_.clear();
    }

  public:
    ShardWriter(const std::string& path, int vocab_size)
        : path_(path), temporary_(path + format(".%d.tmp", (int)getpid())), width_(vocab_size <= 65536 ? 2 : 4) {
        fd_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd_ < 0) die("%s: cannot write: %s", temporary_.c_str(), strerror(errno));
    }
    ShardWriter(const ShardWriter&) = delete;
    ShardWriter& operator=(const ShardWriter&) = delete;
    ~ShardWriter() { if (fd_ >= 0) close(fd_), unlink(temporary_.c_str()); }

    // Ends the process, and nothing half-written is left behind.
    [[noreturn]] void fail(const std::string& why) {
        unlink(temporary_.c_str());
        die("%s", why.c_str());
    }
    uint64_t count() const { return count_; }

    void add(const int* tokens, size_t n) {
        for (size_t i = 0; i < n; i++) {
            uint32_t token = (uint32_t)tokens[i];
            const char* bytes = (const char*)&token;  // little-endian: the low half comes first
            buffer_.insert(buffer_.end(), bytes, bytes + width_);
            count_++;
            if (buffer_.size() >= (1 << 20)) flush();
        }
    }
    void finish() {
        flush();
        const auto& f = shards_detail::FORMATS[width_ == 2 ? 0 : 1];
        int32_t header[256] = {f.magic, f.version, (int32_t)(uint32_t)count_};
        write_at(header, sizeof header, 0);
        if (fsync(fd_) || close(fd_)) fail(format("%s: cannot write: %s", path_.c_str(), strerror(errno)));
        fd_ = -1;
        if (rename(temporary_.c_str(), path_.c_str())) fail(format("%s: cannot rename: %s", path_.c_str(), strerror(errno)));
    }
};

// Keeps the last tenth of the tokens for validation, at least `least` tokens of it (a batch) where that leaves `row`
// (T + 1) tokens to train on; both parts are ranges of the same files. The cut goes to the last document start (token
// eot; -1: unknown) before it, or to the next one after it, unless that is far away.
struct TrainVal { Shards train, val; };
inline TrainVal hold_out(const Shards& all, uint64_t row, uint64_t least, int eot) {
    uint64_t total = count_tokens(all);
    if (total < 2 * row)
        die("%s: %llu tokens, but one row to train on and one to validate on take %llu: use more text or a smaller --seq",
            all.empty() ? "no data" : all[0].path.c_str(), (unsigned long long)total, (unsigned long long)(2 * row));
    uint64_t held = std::clamp(std::max(total / 10, least), row, total - row), cut = total - held;

    size_t s = 0;  // the shard in which the cut lies, and from here on `cut` is a token of its file
    while (cut >= all[s].size()) cut -= all[s++].size();
    cut += all[s].begin;
    const Shard& shard = all[s];
    uint64_t before = total - held - (cut - shard.begin);  // tokens in the shards before
    auto left_to_train = [&](uint64_t at) { return before + (at - shard.begin); };

    ShardReader reader;
    constexpr size_t BLOCK = 1 << 16;
    std::vector<int> block(BLOCK);
    uint64_t border = UINT64_MAX;
    if (eot >= 0) {
        // backward while less than twice as much is held out, then forward while at least one batch is
        uint64_t low = cut - std::min(cut - shard.begin, held);
        for (uint64_t end = cut + 1; border == UINT64_MAX && end > low;) {
            uint64_t begin = end - std::min<uint64_t>(BLOCK, end - low);
            reader.read(shard, begin, end - begin, block.data());
            for (uint64_t i = end; border == UINT64_MAX && i-- > begin;)
                if (block[i - begin] == eot && left_to_train(i) >= row) border = i;
            end = begin;
        }
        for (uint64_t begin = cut; border == UINT64_MAX && begin < shard.end; begin += BLOCK) {
            size_t n = std::min<uint64_t>(BLOCK, shard.end - begin);
            reader.read(shard, begin, n, block.data());
            for (size_t i = 0; border == UINT64_MAX && i < n; i++)
                if (block[i] == eot && total - left_to_train(begin + i) >= std::max(row, least)) border = begin + i;
        }
    }
    if (border != UINT64_MAX) cut = border;

    TrainVal split;
    split.train.assign(all.begin(), all.begin() + (long)s);
    split.val.assign(all.begin() + (long)s, all.end());
    if (cut > shard.begin) split.train.push_back(shard), split.train.back().end = cut;
    split.val[0].begin = cut;
    return split;
}
