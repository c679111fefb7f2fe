// safetensors.h: the file of named tensors that the field uses. A reader that checks every rule of the format before it
// believes a number, and a writer that streams.
//
//     8 bytes: N, little-endian | N bytes of JSON, may end in spaces | the data
//     {"__metadata__": {"key": "value"}, "h.0.ln_1.weight": {"dtype": "F32", "shape": [768], "data_offsets": [0, 3072]}, ...}
//
// Offsets count from the start of the data; together the tensors cover it exactly once.
#pragma once
#include <array>
#include "../base/bf16.h"
#include "files.h"
#include "json.h"

enum class Dtype : uint8_t {
    BOOL, U8, I8, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64, C64,
    F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ, F6_E2M3, F6_E3M2, F4
};
struct DtypeRow { const char* name; unsigned bits; };
constexpr DtypeRow DTYPES[] = {  // in the order of the enum
    {"BOOL", 8}, {"U8", 8}, {"I8", 8}, {"U16", 16}, {"I16", 16}, {"F16", 16}, {"BF16", 16}, {"U32", 32}, {"I32", 32},
    {"F32", 32}, {"U64", 64}, {"I64", 64}, {"F64", 64}, {"C64", 64}, {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
static_assert(sizeof DTYPES / sizeof *DTYPES == (size_t)Dtype::F4 + 1);
inline const char* dtype_name(Dtype d) { return DTYPES[(size_t)d].name; }
inline size_t dtype_bits(Dtype d) { return DTYPES[(size_t)d].bits; }

struct TensorInfo {
    std::string name;
    Dtype dtype = Dtype::F32;
    std::vector<size_t> shape;
    size_t begin = 0, end = 0;  // bytes, from the start of the data
    size_t count() const { size_t n = 1; for (size_t d : shape) n *= d; return n; }  // elements; cannot overflow: see parse
    std::string shape_text() const {  // "[768,3]"
        std::string text = "[";
        for (size_t d : shape) text += format("%s%zu", text.size() > 1 ? "," : "", d);
        return text + ']';
    }
};
using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;  // what __metadata__ says, in its order

namespace safetensors_detail {
constexpr uint64_t MAX_HEADER = 100'000'000;  // the format's own limit, so that a header cannot fill the memory

// Is it worth reading `length` bytes of header from a file of this size?
inline std::string check_length(uint64_t length, uint64_t file_bytes) {
    unsigned long long n = length, limit = MAX_HEADER, rest = file_bytes - 8;
    if (n > limit) return format("the header claims %llu bytes, the format allows %llu: not a safetensors file?", n, limit);
    if (n > rest) return format("the header claims %llu bytes, the file holds %llu after the first 8: truncated?", n, rest);
    if (n < 2) return format("the header claims %llu bytes, the shortest one, {}, has 2", n);
    return "";
}

// bits = product of the shape * bits of an element; false if it does not fit.
inline bool tensor_bits(const TensorInfo& t, size_t& bits) {
    bits = dtype_bits(t.dtype);
    size_t elements = 1;  // checked by itself: a zero later in the shape must not hide an overflow
    for (size_t d : t.shape)
        if (__builtin_mul_overflow(elements, d, &elements)) return false;
    return !__builtin_mul_overflow(bits, elements, &bits);
}

// One member of the header. Returns "" or what is wrong with it.
inline std::string parse_tensor(const Json& json, TensorInfo& t) {
    auto wrong = [](const char* what, const Json& found, const char* expected) {
        return format("%s %s, expected %s", what, found.shown().c_str(), expected);
    };
    t.name = json.key;
    if (json.type != Json::OBJECT) return wrong("is", json, "{\"dtype\", \"shape\", \"data_offsets\"}");
    const Json *dtype = json.find("dtype"), *shape = json.find("shape"), *offsets = json.find("data_offsets");
    if (!dtype || !shape || !offsets) return format("%s is missing", !dtype ? "dtype" : !shape ? "shape" : "data_offsets");
    for (const Json& field : json.items)
        if (&field != dtype && &field != shape && &field != offsets)
            return format("unknown field %s", json_shown(field.key).c_str());

    size_t d = 0, bits = 0;
    if (dtype->type != Json::STRING) return wrong("dtype is", *dtype, "a string");
    while (d < std::size(DTYPES) && dtype->text != DTYPES[d].name) d++;
    if (d == std::size(DTYPES)) return wrong("dtype is", *dtype, "one of the format's, such as F32 or BF16");
    t.dtype = (Dtype)d;

    if (shape->type != Json::ARRAY) return wrong("shape is", *shape, "an array");
    t.shape.reserve(shape->items.size());
    for (const Json& size : shape->items)
        if (!size.as_size(t.shape.emplace_back())) return wrong("shape holds", size, "a whole number");

    if (offsets->type != Json::ARRAY) return wrong("data_offsets is", *offsets, "an array");
    if (offsets->items.size() != 2) return format("data_offsets holds %zu numbers, expected 2", offsets->items.size());
    for (int i : {0, 1})
        if (!offsets->items[(size_t)i].as_size(i == 0 ? t.begin : t.end))
            return wrong("data_offsets holds", offsets->items[(size_t)i], "a whole number");
    if (t.begin > t.end) return format("data_offsets [%zu, %zu] end before they begin", t.begin, t.end);

    std::string shown = t.shape_text().substr(0, 200) + " of " + DTYPES[d].name;
    if (!tensor_bits(t, bits)) return format("shape %s overflows 64 bits", shown.c_str());
    if (bits % 8 != 0) return format("shape %s ends inside a byte", shown.c_str());
    if (bits / 8 == t.end - t.begin) return "";
    return format("shape %s takes %zu bytes, data_offsets [%zu, %zu] hold %zu", shown.c_str(), bits / 8, t.begin, t.end,
                  t.end - t.begin);
}
}  // namespace safetensors_detail

// The header as a value. `tensors` are in the order of their data.
struct SafetensorsHeader {
    std::vector<TensorInfo> tensors;
    SafetensorsMetadata metadata;

    const TensorInfo* find(std::string_view name) const {  // null: there is none
        const auto at = std::lower_bound(by_name.begin(), by_name.end(), name, [&](uint32_t i, std::string_view x) { return tensors[i].name < x; });
        return at != by_name.end() && tensors[*at].name == name ? &tensors[*at] : nullptr;
    }

    // Returns "" if every rule holds for this header and that much data, otherwise the first one that does not.
    std::string parse(std::string_view text, size_t data_bytes) {
        tensors.clear(), metadata.clear(), by_name.clear();
        if (text.empty() || text[0] != '{')
            return format("the header begins with %s, expected {", json_shown(text.substr(0, 1)).c_str());
        Json json;
        std::string error = json_try_parse(json, text);
        if (!error.empty()) return "header: " + error;
        for (const Json& item : json.items) {
            if (item.key != "__metadata__") {
                TensorInfo& t = tensors.emplace_back();
                error = safetensors_detail::parse_tensor(item, t);
                if (error.empty() && t.end > data_bytes)
                    error = format("data_offsets end at %zu, the file holds %zu bytes of data: truncated?", t.end, data_bytes);
                if (!error.empty()) return format("%s: %s", json_shown(item.key).c_str(), error.c_str());
                continue;
            }
            if (item.type != Json::OBJECT) return format("__metadata__ is %s, expected an object", item.shown().c_str());
            for (const Json& m : item.items) {
                if (m.type != Json::STRING)
                    return format("__metadata__: %s is %s, expected a string", json_shown(m.key).c_str(), m.shown().c_str());
                metadata.emplace_back(m.key, m.text);
            }
        }
        return sort_and_cover(data_bytes);
    }

private:
    std::vector<uint32_t> by_name;  // of `tensors`

    // Together they cover the data exactly once: no hole (hidden bytes), no overlap, nothing after the last.
    std::string sort_and_cover(size_t data_bytes) {
        std::vector<std::array<size_t, 3>> order;  // begin, end (an empty tensor comes before the one that begins there), index
        for (const TensorInfo& t : tensors) order.push_back({t.begin, t.end, order.size()});
        std::sort(order.begin(), order.end());
        size_t covered = 0;
        std::vector<TensorInfo> sorted;
        sorted.reserve(tensors.size());
        for (auto [begin, end, index] : order) {
            if (begin > covered)
                return format("%s: begins at %zu, but the data before it ends at %zu: a hole", json_shown(tensors[index].name).c_str(), begin, covered);
            if (begin < covered)
                return format("%s: begins at %zu, inside %s, which ends at %zu: an overlap", json_shown(tensors[index].name).c_str(), begin,
                              json_shown(sorted.back().name).c_str(), covered);
            covered = end;
            sorted.push_back(std::move(tensors[index]));
        }
        tensors = std::move(sorted);
        for (size_t i = 0; i < tensors.size(); i++) by_name.push_back((uint32_t)i);
        std::sort(by_name.begin(), by_name.end(), [&](uint32_t a, uint32_t b) { return tensors[a].name < tensors[b].name; });
        if (covered == data_bytes) return "";
        return format("%zu bytes follow the last tensor, which ends at %zu", data_bytes - covered, covered);
    }
};

// Half precision to float, exact: denormals through the unit in the last place of 0.5, which is theirs.
inline float f16_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff, magnitude;
    if (exponent == 0) magnitude = std::bit_cast<uint32_t>(std::bit_cast<float>(0x3f000000 | fraction) - 0.5f);
    else if (exponent == 31) magnitude = 0x7f800000 | fraction << 13;
    else magnitude = (exponent + 112) << 23 | fraction << 13;
    return std::bit_cast<float>(sign | magnitude);
}

// An open file. Reads go to the caller's memory by pread: nothing is mapped, and threads may share it.
class SafetensorsFile {
    std::string path_;
    int fd = -1;
    size_t data_begin = 0;
    SafetensorsHeader header;

    std::string read_at(void* dst, size_t offset, size_t bytes) const {  // "" or the error
        for (char* p = (char*)dst; bytes > 0;) {
            ssize_t n = pread(fd, p, std::min(bytes, (size_t)1 << 30), (off_t)offset);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return strerror(errno);
            if (n == 0) return format("ends at byte %zu, %zu bytes early: was it cut while in use?", offset, bytes);
            p += n, offset += (size_t)n, bytes -= (size_t)n;
        }
        return "";
    }
    std::string try_open() {
        std::string error;
        fd = open_regular(path_, error);
        if (fd < 0) return error;
        struct stat s;
        if (fstat(fd, &s) != 0) return strerror(errno);
        if (!S_ISREG(s.st_mode)) return "not a file";
        if (s.st_size < 8) return format("holds %lld bytes, the first 8 should say how long the header is", (long long)s.st_size);
        uint64_t length;
        error = read_at(&length, 0, 8);
        if (error.empty()) error = safetensors_detail::check_length(length, (uint64_t)s.st_size);
        if (!error.empty()) return error;
        std::string text(length, '\0');
        error = read_at(text.data(), 8, length);
        if (!error.empty()) return error;
        data_begin = 8 + length;
        return header.parse(text, (size_t)s.st_size - data_begin);
    }

public:
    explicit SafetensorsFile(const std::string& path) : path_(path) {
        std::string error = try_open();
        CHECK(error.empty(), "%s: %s", path.c_str(), error.c_str());
    }
    SafetensorsFile(SafetensorsFile&& o) noexcept
        : path_(std::move(o.path_)), fd(std::exchange(o.fd, -1)), data_begin(o.data_begin), header(std::move(o.header)) {}
    ~SafetensorsFile() { if (fd >= 0) ::close(fd); }

    const std::string& path() const { return path_; }
    const std::vector<TensorInfo>& tensors() const { return header.tensors; }
    const SafetensorsMetadata& metadata() const { return header.metadata; }
    const TensorInfo* find(std::string_view name) const { return header.find(name); }

    // dst = bytes [byte_offset, byte_offset + bytes) of the tensor
    void read(const TensorInfo& t, void* dst, size_t byte_offset, size_t bytes) const {
        size_t size = t.end - t.begin;
        CHECK(byte_offset <= size && bytes <= size - byte_offset, "%s: %s: asked for bytes [%zu, %zu + %zu) of %zu",
              path_.c_str(), json_shown(t.name).c_str(), byte_offset, byte_offset, bytes, size);
        std::string error = read_at(dst, data_begin + t.begin + byte_offset, bytes);
        CHECK(error.empty(), "%s: %s: %s", path_.c_str(), json_shown(t.name).c_str(), error.c_str());
    }

    // dst = elements [first, first + count), whatever float type they are stored in
    void read_as_float(const TensorInfo& t, float* dst, size_t first, size_t count) const {
        size_t width = dtype_bits(t.dtype) / 8;
        CHECK(first <= t.count() && count <= t.count() - first, "%s: %s: asked for elements [%zu, %zu + %zu) of %zu",
              path_.c_str(), json_shown(t.name).c_str(), first, first, count, t.count());
        if (t.dtype == Dtype::F32) return read(t, dst, first * 4, count * 4);
        bool known = t.dtype == Dtype::F16 || t.dtype == Dtype::BF16 || t.dtype == Dtype::F64;
        CHECK(known, "%s: %s is %s, expected F32, BF16, F16 or F64", path_.c_str(), json_shown(t.name).c_str(),
              dtype_name(t.dtype));
        std::vector<char> block(std::min(count * width, (size_t)1 << 18));  // 256 KB: converted while it is in the cache
        for (size_t done = 0; done < count;) {
            size_t n = std::min(count - done, block.size() / width);
            read(t, block.data(), (first + done) * width, n * width);
            for (size_t i = 0; i < n; i++, done++) {
                uint16_t half;
                double wide;
                if (t.dtype == Dtype::F64) memcpy(&wide, &block[i * 8], 8), dst[done] = (float)wide;
                else memcpy(&half, &block[i * 2], 2),
                     dst[done] = t.dtype == Dtype::F16 ? f16_to_float(half) : (float)bf16::from_bits(half);
            }
        }
    }
};

// ---- writing -------------------------------------------------------------------------------------------------------

struct TensorSpec { std::string name; Dtype dtype; std::vector<size_t> shape; };

// The header is written at once from the list, then the data in the list's order, in pieces of any size.
class SafetensorsWriter {
    std::string path;
    FileWriter file;
    uint64_t promised = 0;  // the length of the whole file

public:
    // `metadata`: the field's readers want {{"format", "pt"}}.   `scrap`: see FileWriter.
    SafetensorsWriter(const std::string& path_, const std::vector<TensorSpec>& specs, const SafetensorsMetadata& metadata = {},
                      const std::string& scrap = "") : path(path_), file(path_, scrap) {
        std::string text;
        for (auto& [key, value] : metadata) text += (text.empty() ? "" : ",") + json_quote(key) + ":" + json_quote(value);
        if (!metadata.empty()) text = "\"__metadata__\":{" + text + "}";
        size_t offset = 0;
        for (const TensorSpec& spec : specs) {
            TensorInfo t{spec.name, spec.dtype, spec.shape, 0, 0};
            size_t bits = 0, width = std::max<size_t>(dtype_bits(t.dtype) / 8, 1);
            bool fits = safetensors_detail::tensor_bits(t, bits);
            CHECK(fits, "%s: %s: shape %s overflows", path.c_str(), t.name.c_str(), t.shape_text().c_str());
            // Readers view the file's memory as the type: they need it on a multiple of its size.
            CHECK(offset % width == 0, "%s: %s: %s at byte %zu: wide types must come first", path.c_str(), t.name.c_str(),
                  dtype_name(t.dtype), offset);
            text += (text.empty() ? "" : ",") + json_quote(t.name);
            text += format(":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", dtype_name(t.dtype),
                           t.shape_text().c_str(), offset, offset + bits / 8);
            offset += bits / 8;
        }
        text = "{" + text + "}";
        text.append((8 - text.size() % 8) % 8, ' ');  // the data begins on a multiple of 8
        SafetensorsHeader check;  // what the reader would refuse (a name twice, half a byte) is never written
        std::string error = check.parse(text, offset);
        CHECK(error.empty(), "%s: %s", path.c_str(), error.c_str());
        uint64_t length = text.size();
        file.write(&length, 8);
        file.write(text.data(), text.size());
        promised = 8 + length + offset;
    }

    void write(const void* data, size_t bytes) { file.write(data, bytes); }

    FileSum close() {
        CHECK(file.bytes() == promised, "%s: %llu bytes written, its header promises %llu", path.c_str(),
              (unsigned long long)file.bytes(), (unsigned long long)promised);
        return file.close();
    }
};

// ---- a model in one file or in shards ------------------------------------------------------------------------------

// `path` is a .safetensors file, or a folder with model.safetensors, or one with model.safetensors.index.json:
// {"metadata": {...}, "weight_map": {"h.0.ln_1.weight": "model-00001-of-00002.safetensors", ...}}
class SafetensorsModel {
    std::vector<SafetensorsFile> files_;

    void open_shards(const std::string& folder, const std::string& index) {
        Json json = json_parse(read_file(index), index);
        const Json& map = json.at("weight_map", index);
        std::vector<std::string> names;
        std::vector<std::pair<std::string_view, std::string_view>> entries;  // a tensor and its file
        for (const Json& entry : map.as_object(index)) {
            names.push_back(entry.as_string(index)), entries.push_back({entry.key, entry.text});
            CHECK(is_plain_name(names.back()), "%s: %s is in %s, which is not a plain file name", index.c_str(),
                  json_shown(entry.key).c_str(), json_shown(names.back()).c_str());
        }
        CHECK(!names.empty(), "%s: \"weight_map\" names no file", index.c_str());
        std::sort(names.begin(), names.end());
        names.erase(std::unique(names.begin(), names.end()), names.end());
        std::sort(entries.begin(), entries.end());
        for (const std::string& name : names) {
            files_.emplace_back(folder + "/" + name);
            for (const TensorInfo& t : files_.back().tensors())
                CHECK(std::binary_search(entries.begin(), entries.end(), std::pair<std::string_view, std::string_view>(t.name, name)),
                      "%s: %s is in %s, but not by the index", index.c_str(), json_shown(t.name).c_str(), name.c_str());
        }
        for (const Json& entry : map.items) {
            const size_t file = (size_t)(std::lower_bound(names.begin(), names.end(), entry.text.view()) - names.begin());
            CHECK(files_[file].find(entry.key), "%s: %s should be in %s, but is not", index.c_str(), json_shown(entry.key).c_str(), entry.text.c_str());
        }
    }

public:
    explicit SafetensorsModel(const std::string& path) {
        struct stat s;
        CHECK(stat(path.c_str(), &s) == 0, "%s", errno_text(path).c_str());
        std::string one = path + "/model.safetensors", index = one + ".index.json";
        if (!S_ISDIR(s.st_mode)) files_.emplace_back(path);
        else if (access(one.c_str(), F_OK) == 0) files_.emplace_back(one);
        else if (access(index.c_str(), F_OK) == 0) open_shards(path, index);
        else die("%s: holds neither model.safetensors nor model.safetensors.index.json", path.c_str());
    }

    const std::vector<SafetensorsFile>& files() const { return files_; }
    struct TensorLocation { const SafetensorsFile* file = nullptr; const TensorInfo* tensor = nullptr; };
    TensorLocation find(std::string_view name) const {  // both null if there is none
        for (const SafetensorsFile& file : files_)
            if (const TensorInfo* tensor = file.find(name)) return {&file, tensor};
        return {};
    }
};
