// json_parts.h: what a Json value is made of, small, so that a parsed file takes no more than 32 times its bytes: an element of [1,1,1] is two
// bytes there, and 96 of strings and vectors.
#pragma once
#include <bit>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include "../base/check.h"

static_assert(std::endian::native == std::endian::little, "the first byte of a JsonText is the lowest of the pointer");

namespace json_detail {
// Like operator new: never null. For realloc, by which a large block grows without being copied.
inline void* resize_block(void* block, size_t bytes) {
    for (;;) {
        if (void* resized = realloc(block, bytes)) return resized;
        std::new_handler handler = std::get_new_handler();
        if (!handler) die("out of memory: %zu bytes for JSON", bytes);
        handler();
    }
}
}  // namespace json_detail

// A string in 8 bytes: up to 6 characters in place, or a pointer to its length and its characters. Ends with a 0 like any other.
class JsonText {
    static constexpr size_t IN_PLACE = 6;
    union { char bytes[8]; char* block; };  // bytes[0]: 1 + 2 * length; of a pointer it is even

    bool in_place() const { return bytes[0] & 1; }
    void set(std::string_view s) {
        if (s.size() <= IN_PLACE) {
            memset(bytes, 0, sizeof bytes);
            bytes[0] = (char)(1 + 2 * s.size());
            if (!s.empty()) memcpy(bytes + 1, s.data(), s.size());
            return;
        }
        const size_t n = s.size();
        block = (char*)json_detail::resize_block(nullptr, sizeof n + n + 1);
        memcpy(block, &n, sizeof n), memcpy(block + sizeof n, s.data(), n), block[sizeof n + n] = 0;
    }

public:
    JsonText() { set({}); }
    JsonText(std::string_view s) { set(s); }
    JsonText(const JsonText& o) { set(o.view()); }
    JsonText(JsonText&& o) noexcept { memcpy(bytes, o.bytes, sizeof bytes), o.set({}); }
    JsonText& operator=(JsonText o) noexcept { std::swap(bytes, o.bytes); return *this; }
    ~JsonText() { if (!in_place()) free(block); }

    size_t size() const {
        if (in_place()) return (unsigned char)bytes[0] / 2;
        size_t n;
        memcpy(&n, block, sizeof n);
        return n;
    }
    const char* c_str() const { return in_place() ? bytes + 1 : block + sizeof(size_t); }
    std::string_view view() const { return {c_str(), size()}; }
    operator std::string_view() const { return view(); }
    operator std::string() const { return std::string(view()); }
    bool empty() const { return size() == 0; }
    char operator[](size_t i) const { return c_str()[i]; }
    friend bool operator==(const JsonText& a, const JsonText& b) { return a.view() == b.view(); }
    friend bool operator==(const JsonText& a, std::string_view b) { return a.view() == b; }
    friend bool operator==(const JsonText& a, const char* b) { return a.view() == b; }
    friend bool operator==(const JsonText& a, const std::string& b) { return a.view() == b; }
};

struct Json;

// A vector of values in 8 bytes: a pointer to count, capacity and the values. Values may be moved by memcpy, so that realloc grows it.
class JsonItems {
    struct Block { uint32_t count, capacity; };
    Block* block = nullptr;
    Json* first() const { return (Json*)(block + 1); }

public:
    JsonItems() = default;
    JsonItems(const JsonItems& o);
    JsonItems(JsonItems&& o) noexcept : block(std::exchange(o.block, nullptr)) {}
    JsonItems& operator=(JsonItems o) noexcept { std::swap(block, o.block); return *this; }
    ~JsonItems();

    size_t size() const { return block ? block->count : 0; }
    bool empty() const { return size() == 0; }
    Json* begin() { return block ? first() : nullptr; }
    const Json* begin() const { return block ? first() : nullptr; }
    Json* end();
    const Json* end() const;
    Json& operator[](size_t i);
    const Json& operator[](size_t i) const;
    Json& back();
    Json& emplace_back();
    void push_back(Json value);
};
