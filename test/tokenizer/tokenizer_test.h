// tokenizer_test.h: texts and tokenizers for the tests of tokenizers. Who includes it has a SCRATCH of its own, as files of tests run at the same time.
#pragma once
#include <string>
#include <vector>
#include "../../llmc/base/rng.h"
#include "../../llmc/tokenizer/tokenizer.h"
#include "../test.h"

namespace {
extern const std::string SCRATCH;

const SplitPattern PATTERNS[] = {SplitPattern::GPT2, SplitPattern::LLAMA3, SplitPattern::CL100K, SplitPattern::O200K, SplitPattern::QWEN2, SplitPattern::NANOCHAT};

std::string scratch(const std::string& name, const std::string& text) {
    make_folders(SCRATCH);
    write_file_atomically(SCRATCH + "/" + name, text);
    return SCRATCH + "/" + name;
}
[[maybe_unused]] std::string gpt2_folder() {
    const char* set = getenv("LLMC_TEST_DATA");
    return (set ? std::string(set) : "../shared/data") + "/gpt2";
}
[[maybe_unused]] bool exists(const std::string& path) { return access(path.c_str(), R_OK) == 0; }
[[maybe_unused]] std::vector<std::string> pieces(SplitPattern pattern, std::string_view text) {
    std::vector<std::string> out;
    std::string_view piece;
    for (Splitter splitter(pattern, text); splitter.next(piece);) out.emplace_back(piece);
    return out;
}
uint32_t random_word(uint32_t step, uint64_t i) { return philox(11, RNG_TEST, step, i).x[0]; }
// Text of few different words, so that there is something to learn, with white space, digits, other scripts and bytes that
// are no UTF-8
[[maybe_unused]] std::string random_text(uint32_t seed, size_t words) {
    const char* parts[] = {"the", " the", " there", " hat", " that", "'s", "THE", " 1234567", "\n\n", "  ", "\t", "!?", " caf\xc3\xa9", "\xe4\xbd\xa0\xe5\xa5\xbd",
                           "\xff\xfe", "\xc3", "aaaa", "aaaaa", " \xf0\x9f\x98\x80", "\xcc\x81", "banana", " bandana", "/", "\r\n", "\xf0\x9f\x98"};
    std::string text;
    for (size_t i = 0; i < words; i++) text += parts[random_word(seed, i) % (sizeof parts / sizeof *parts)];
    return text;
}
[[maybe_unused]] Tokenizer trained(SplitPattern pattern, int size, const std::string& text) {
    PieceCounts counts;
    counts.add_text(text, pattern);
    return Tokenizer::train(counts, size, pattern);
}
}  // namespace
