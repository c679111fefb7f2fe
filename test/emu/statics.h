// statics.h: static shared memory: the thread-local bytes of this program in the device's thread. Each block has its own of them, put away while another one runs.
#pragma once
#include <link.h>
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

namespace emu {
struct Statics { char* begin = nullptr; size_t size = 0; };
inline Statics find_statics() {
    Statics s;
    dl_iterate_phdr([](dl_phdr_info* info, size_t, void* out) {
        for (int i = 0; i < info->dlpi_phnum; i++)
            if (info->dlpi_phdr[i].p_type == PT_TLS && info->dlpi_tls_data) *(Statics*)out = {(char*)info->dlpi_tls_data, info->dlpi_phdr[i].p_memsz};
        return 1;  // the program itself comes first, and is the only one
    }, &s);
    return s;
}
// Each instantiation of each kernel has its own there, 108 KB in all, of which a block writes little: it keeps the lines that are not as they began.
constexpr size_t LINE = 64;
struct Kept { std::vector<size_t> lines; std::vector<char> bytes; };
// The first line from `at` on that is not 0xff throughout, or the last one if it is shorter than a line.
__attribute__((no_sanitize("address", "thread", "undefined"))) inline size_t next_written(const Statics& s, size_t at) {
    typedef long long Line __attribute__((vector_size(LINE), aligned(1), may_alias));
    for (size_t many = 16; at + LINE <= s.size;) {
        if (at + many * LINE > s.size) many = 1;
        const Line* line = (const Line*)(s.begin + at);
        Line all = line[0];
        for (size_t i = 1; i < many; i++) all &= line[i];
        long long ones = -1;
        for (int i = 0; i < 8; i++) ones &= all[i];
        if (ones == -1) at += many * LINE;
        else if (many == 1) return at;
        else many = 1;
    }
    return at;
}
inline void put_away(const Statics& s, Kept& kept) {  // and leaves 0xff
    for (size_t at = 0; (at = next_written(s, at)) < s.size; at += LINE) {
        const size_t n = std::min(LINE, s.size - at);
        kept.lines.push_back(at), kept.bytes.insert(kept.bytes.end(), s.begin + at, s.begin + at + n);
        memset(s.begin + at, 0xff, n);
    }
}
inline void put_back(const Statics& s, Kept& kept) {
    const char* from = kept.bytes.data();
    for (size_t at : kept.lines) {
        const size_t n = std::min(LINE, s.size - at);
        memcpy(s.begin + at, from, n), from += n;
    }
    kept.lines.clear(), kept.bytes.clear();
}
}  // namespace emu
