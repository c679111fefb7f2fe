// documents.h: a text file -> its documents, in pieces, in bounded memory. In a .txt the literal <|endoftext|> stands between them; a .jsonl is handed out by lines.
// What is evidently no text is an error: compressed files, UTF-16, bytes that are 0, encodings other than UTF-8.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include "../base/child.h"
#include "../io/files.h"
#include "../tokenizer/unicode.h"

namespace text_detail {
constexpr std::string_view SEPARATOR = "<|endoftext|>";
constexpr size_t BLOCK = 1 << 18;          // bytes; a longer document is cut into pieces about as long
constexpr size_t LONGEST = 1 << 18;        // bytes without a place to cut: cut anyway, so that memory has a bound
constexpr size_t LONGEST_LINE = 64 << 20;  // bytes of a .jsonl line
constexpr size_t BATCH = 8 << 20;          // bytes: work for all cores, little memory; less while less than 16 batches have been read
constexpr size_t LEAST_BATCH = 1 << 20;

inline bool ends_with(std::string_view s, std::string_view end) {
    return s.size() >= end.size() && s.substr(s.size() - end.size()) == end;
}
inline bool is_jsonl(const std::string& path) { return ends_with(path, ".jsonl") || ends_with(path, ".jsonl.gz"); }
inline bool is_blank(std::string_view s) { return s.find_first_not_of(" \t\r\n\v\f") == s.npos; }
inline size_t start_of_character(std::string_view s, size_t at) {
    size_t i = at;
    while (i > 0 && at - i < 3 && (s[i] & 0xC0) == 0x80) i--;
    return i;
}

// The last place where a text can be cut so that both parts have the tokens of the whole: behind a letter or a number and
// in front of white space or a symbol. No split pattern has a piece that goes on there, except with an apostrophe, and none
// looks back; nor does NFC join what is on both sides. Where there is white space in the last 64 KB, in front of it: a symbol may belong to
// the name of a special token, as in <|im_start|>. The last 3 bytes may be half a character. 0: nowhere.
inline size_t safe_cut(std::string_view s) {
    constexpr unsigned WORD = 1 << U_UPPER | 1 << U_LOWER | 1 << U_LETTER | 1 << U_NUMBER;
    const unsigned char *begin = (const unsigned char*)s.data(), *end = begin + s.size();
    const uint8_t* classes = unicode_classes();
    const size_t last = s.size() < 4 ? 0 : s.size() - 4;
    for (unsigned in_front_of : {1u << U_SPACE, 1u << U_OTHER}) {
        const size_t first = in_front_of == 1u << U_SPACE && last > 1 << 16 ? last - (1 << 16) : 0;
        for (size_t i = last; i > first; i--) {
            if (memchr("'_|-/>])}", s[i], 9) || (s[i] & 0xC0) == 0x80 || !(in_front_of >> classes[decode_utf8(begin + i, end).code] & 1)) continue;
            size_t before = start_of_character(s, i - 1);
            Character c = decode_utf8(begin + before, begin + i);
            if (before + c.bytes == i && WORD >> classes[c.code] & 1) return i;
        }
    }
    return 0;
}
// How much of a document to take at once.
inline size_t part_length(std::string_view s) {
    for (size_t n = BLOCK; n < s.size(); n *= 2) {
        if (size_t cut = safe_cut(s.substr(0, n))) return cut;
        if (n >= LONGEST) return start_of_character(s, n);
    }
    return s.size();
}

// Of a file's first bytes: an error if most of those above 127 are not UTF-8, as in Latin-1, GBK or UTF-16 without a mark. A few are let be: pages of the web have them.
inline std::string other_encoding(std::string_view bytes) {
    const unsigned char *begin = (const unsigned char*)bytes.data(), *end = begin + bytes.size(), *first = nullptr;
    size_t high = 0, wrong = 0;
    for (const unsigned char* p = begin; p < end;) {
        const Character c = decode_utf8(p, end);
        if (c.code == INVALID && c.bytes == 1 && end - p >= 4) first = first ? first : p, wrong++;  // the last may only be cut
        high += *p < 0x80 ? 0 : c.bytes;
        p += c.bytes;
    }
    if (wrong < 4 || 2 * wrong <= high) return "";
    return format("byte %zu is 0x%02X, which is not UTF-8, as %zu of the first %zu bytes above 127 are not: another encoding? Must be UTF-8: iconv -f LATIN1 -t UTF-8, or what it is, converts it",
                  (size_t)(first - begin), *first, wrong, high);
}

// Reads a file in blocks and hands out pieces of documents. What ends with .gz is read through the program gzip, which
// shares our file offset: it says how far it has come.
class DocumentReader {
    int fd_;
    FILE* file_ = nullptr;
    PipedProgram gzip_;
    bool compressed_, lines_;
    std::string buffer_, error_;
    uint64_t total_ = 0;  // bytes read, after decompression

    // Looks at bytes that were just read, of which `start` says whether they are the file's first. Returns the error, or "".
    std::string check_is_text(std::string_view bytes, bool start) const {
        if (start) {
            constexpr struct { std::string_view magic; const char *program, *remedy; } COMPRESSED[] = {
                {"\x1F\x8B", "gzip", "its name must end with .gz"}, {"\x28\xB5\x2F\xFD", "zstd", "zstd -d unpacks it"}, {"\xFD" "7zXZ", "xz", "xz -d unpacks it"}, {"BZh", "bzip2", "bzip2 -d unpacks it"}};
            for (const auto& c : COMPRESSED)
                if (bytes.starts_with(c.magic) && (c.magic != "BZh" || (bytes.size() > 9 && bytes.substr(4, 3) == "1AY"))) return format("is compressed by %s: %s", c.program, c.remedy);
            constexpr struct { std::string_view mark; const char* name; } WIDE[] = {  // that of UTF-16 begins one of UTF-32
                {{"\xFF\xFE\0\0", 4}, "UTF-32"}, {{"\0\0\xFE\xFF", 4}, "UTF-32"}, {"\xFF\xFE", "UTF-16"}, {"\xFE\xFF", "UTF-16"}};
            for (const auto& w : WIDE)
                if (bytes.starts_with(w.mark)) return format("begins with the byte order mark of %s, must be UTF-8: iconv -f %s -t UTF-8 converts it", w.name, w.name);
            size_t zeros[2] = {}, looked = std::min<size_t>(bytes.size(), 4096);
            for (size_t i = 0; i < looked; i++) zeros[i % 2] += bytes[i] == 0;
            // Latin letters in UTF-16 have a 0 in every second byte, always the same of the two
            if (looked > 1 && std::max(zeros[0], zeros[1]) * 4 >= looked && std::min(zeros[0], zeros[1]) * 8 <= std::max(zeros[0], zeros[1]))
                return format("every second byte is 0: UTF-16? Must be UTF-8: iconv -f UTF-16%s -t UTF-8 converts it", zeros[0] > zeros[1] ? "BE" : "LE");
            if (std::string error = lines_ ? "" : other_encoding(bytes.substr(0, 1 << 16)); !error.empty()) return error;
        }
        const void* zero = lines_ ? nullptr : memchr(bytes.data(), 0, bytes.size());  // in a .jsonl it is an error of its line
        return !zero ? "" : format("byte %llu is 0: not a text file", (unsigned long long)(total_ + (uint64_t)((const char*)zero - bytes.data())));
    }

    bool read_more(size_t bytes) {
        if (!error_.empty()) return false;  // it could not be opened
        size_t before = buffer_.size();
        buffer_.resize(before + bytes);
        size_t n = fread(buffer_.data() + before, 1, bytes, file_);
        while (n < bytes && ferror(file_) && errno == EINTR) clearerr(file_), n += fread(buffer_.data() + before + n, 1, bytes - n, file_);
        if (ferror(file_)) error_ = format("cannot read: %s", strerror(errno));
        buffer_.resize(before + n);
        if (n == 0 && compressed_ && !gzip_.finish() && error_.empty()) error_ = "gzip cannot read it: damaged or cut short?";
        if (error_.empty()) error_ = check_is_text(std::string_view(buffer_).substr(before), total_ == 0);
        if (total_ == 0 && buffer_.starts_with("\xEF\xBB\xBF")) buffer_.erase(0, 3);  // UTF-8's mark is no text
        total_ += n;
        return n > 0 && error_.empty();
    }

  public:
    explicit DocumentReader(const std::string& path) : compressed_(ends_with(path, ".gz")), lines_(is_jsonl(path)) {
        fd_ = open_regular(path, error_);
        char magic[2] = {};
        if (fd_ < 0) error_ = "cannot open: " + error_;
        else if (compressed_ && pread(fd_, magic, 2, 0) == 2 && memcmp(magic, "\x1F\x8B", 2)) error_ = "is not compressed by gzip, though its name ends with .gz";
        else if (compressed_) error_ = gzip_.start({"gzip", "-dc"}, fd_);
        else file_ = fdopen(fd_, "rb");
        if (compressed_) file_ = gzip_.out;
        if (!file_ && error_.empty()) error_ = format("cannot open: %s", strerror(errno));
    }
    DocumentReader(const DocumentReader&) = delete;
    DocumentReader& operator=(const DocumentReader&) = delete;
    ~DocumentReader() {
        if (file_ && !compressed_) fclose(file_);
        else if (fd_ >= 0) close(fd_);
    }
    const std::string& error() const { return error_; }  // "" or what is wrong; nothing is handed out behind it
    uint64_t offset() const { return (uint64_t)std::max<off_t>(lseek(fd_, 0, SEEK_CUR), 0); }

    void documents(const std::function<void(std::string_view, bool)>& piece) {
        bool at_start = true, more = true;
        size_t begin = 0, searched = 0, wanted = BLOCK;  // begin: of the document's rest in the buffer
        while (more) {
            buffer_.erase(0, begin), searched -= begin, begin = 0;
            more = read_more(wanted);
            if (!error_.empty()) return;
            auto hand_out = [&](size_t end) {
                std::string_view text(buffer_.data() + begin, end - begin);
                if (!text.empty() && !(at_start && is_blank(text))) piece(text, at_start), at_start = false;
            };
            for (size_t at; (at = buffer_.find(SEPARATOR, searched)) != buffer_.npos;) {
                hand_out(at);
                begin = searched = at + SEPARATOR.size(), at_start = true;
            }
            if (!more) { hand_out(buffer_.size()); break; }
            // a separator may lie across the end of the block
            searched = std::max(begin, buffer_.size() - std::min(buffer_.size(), SEPARATOR.size() - 1));
            std::string_view rest = std::string_view(buffer_).substr(begin);
            size_t cut = safe_cut(rest);
            if (!cut && rest.size() > LONGEST) cut = start_of_character(rest, rest.size() - SEPARATOR.size());
            if (cut) hand_out(begin + cut), begin += cut;
            searched = std::max(searched, begin);
            wanted = std::max(BLOCK, buffer_.size() - begin);  // nowhere to cut: double, so that the work stays linear
        }
    }

    void lines(const std::function<void(std::string_view)>& line) {
        size_t begin = 0, searched = 0, wanted = BLOCK;
        bool skipping = false;  // the rest of a line that is too long
        for (bool more = true; more;) {
            buffer_.erase(0, begin), searched -= begin, begin = 0;
            more = read_more(wanted);
            if (!error_.empty()) return;
            for (size_t at; (at = buffer_.find('\n', searched)) != buffer_.npos;) {
                if (!skipping) line(std::string_view(buffer_).substr(begin, at - begin));
                begin = searched = at + 1, skipping = false;
            }
            if (!more && begin < buffer_.size() && !skipping) line(std::string_view(buffer_).substr(begin));
            searched = buffer_.size();
            if (buffer_.size() - begin > LONGEST_LINE) {
                if (!skipping) line(std::string_view(buffer_).substr(begin, LONGEST_LINE + 1));
                begin = searched, skipping = true;
            }
            wanted = std::clamp(buffer_.size() - begin, BLOCK, BATCH);
        }
    }
};
}
