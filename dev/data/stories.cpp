// stories.cpp: sample data with a known answer.      c++ -std=c++20 -O2 dev/data/stories.cpp -o build/stories
//
// Writes short stories from a probabilistic grammar, so that the best loss that any model can reach on them is known.
//   The grammar (stories_grammar.h) is production rules with weights: to tell a story is to make some seventy choices: which
//   plot, who, what, where, in which words. The probability of a story is the product of those of the choices.
//   The world (stories_teller.h) is who is where and who has what. It makes the stories hang together, and the answers to
//   their questions certain: a model has to follow the story, as nothing else tells it where the red ball is by now.
//   The floor is the sum of -log2 P over the stories of a file. A text can be told in one way only (test_stories.cpp proves
//   it by reading stories back), so P is the probability of the text itself, and no model can do better on average.
//
// The text file: stories, each one line, between them a line `<|endoftext|>`:
//     Last Monday ... went home gladly.\n<|endoftext|>\nOne sunny day ... like a shy king.\n
// so a document is a story and its newlines (the first has no newline in front). The trainer reads `<|endoftext|>` as one
// special token of no bytes and everything else as it is, newlines included; these are certain, they add bytes but no bits.
// Beside FILE stands FILE.floor, one line: {"bits": of all stories, "bytes": of the file less the separators, "documents":
// how many stories, "bits_per_byte": the floor}. Bits are all that is to be predicted, also where a story ends.
//
// Same seed, same file, on every machine: all chances are ratios of small integers, drawn by Philox at (seed, story).
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include "stories_teller.h"

namespace stories {

constexpr char SEPARATOR[] = "<|endoftext|>";
constexpr size_t SEPARATOR_BYTES = sizeof SEPARATOR - 1;

// Philox4x32-10 (Salmon et al. 2011): four random words for a counter and a key.
struct Philox { uint32_t word[4]; };
inline Philox philox(Philox counter, uint32_t key0, uint32_t key1) {
    uint32_t* c = counter.word;
    for (int round = 0; round < 10; round++, key0 += 0x9E3779B9, key1 += 0xBB67AE85) {
        uint64_t a = (uint64_t)0xD2511F53 * c[0], b = (uint64_t)0xCD9E8D57 * c[2];
        counter = {{(uint32_t)(b >> 32) ^ c[1] ^ key0, (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ key1, (uint32_t)a}};
    }
    return counter;
}

// Draws the choices of one story after another, and keeps the account of their probability.
struct Dice {
    uint64_t seed, story = 0;
    uint32_t purpose = 0, used = 0;  // purpose: 0 text, 1 questions, so that these are new even under the same seed
    Philox four{};
    // log2 P of all that was told = -sum count[n] log2 n: integers, so the order of summation cannot change the floor.
    int64_t count[256] = {};

    void next_story() { story++, used = 0; }
    uint32_t word() {
        Philox counter{{used / 4, purpose, (uint32_t)story, (uint32_t)(story >> 32)}};
        if (used % 4 == 0) four = philox(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
        return four.word[used++ % 4];
    }
    int below(uint32_t n) {  // exactly uniform: the few words that would favour some values are drawn again
        uint64_t product = (uint64_t)word() * n;
        while ((uint32_t)product < n && (uint32_t)product < (0u - n) % n) product = (uint64_t)word() * n;
        return (int)(product >> 32);
    }
    int choose(const int* weight, int n, int total) {
        CHECK(total > 0 && total < 256, "grammar: a choice of total weight %d", total);
        int r = total > 1 ? below((uint32_t)total) : 0, i = 0;
        count[total]++;
        if (!weight) return r;
        while (i < n - 1 && r >= weight[i]) r -= weight[i++];
        count[weight[i]]--;
        return i;
    }
    void told(const char*, int) {}
    double bits() const {
        double sum = 0;
        for (int n = 2; n < 256; n++) sum += (double)count[n] * std::log2((double)n);
        return sum;
    }
};

struct Options { uint64_t bytes = 0, seed = 1, questions = 0; std::string out; bool entropy = false; };

constexpr const char* HELP = R"(stories: short stories whose entropy is known

  stories --bytes 100M --seed 1 -o train.txt       text, and train.txt.floor beside it; without -o, text to the terminal
  stories --questions 300 --seed 2 -o questions.jsonl   from other stories: {"context", "answer", "choices"} a line
  stories --entropy --bytes 10M --seed 1           only the floor of the text that these options write

  --bytes N      as many whole stories as fit in N bytes; k, M, G stand for 1e3, 1e6, 1e9
  --questions N  how many questions
  --seed N       another seed, other stories (1)
  -o, --out F    where to write
  --entropy      print the floor, in bits per story and per byte; exact for the file, not an estimate
)";

inline uint64_t number(const std::string& option, const std::string& value, uint64_t least) {
    static const char* const UNITS = "kMG";
    const char* text = value.c_str();
    char* end = nullptr;
    unsigned long long n = std::strtoull(text, &end, 10), scale = 1;
    const char* unit = *end ? std::strchr(UNITS, *end) : nullptr;
    if (unit) for (scale = 1000; unit > UNITS; unit--) scale *= 1000;
    bool ok = text[0] >= '0' && text[0] <= '9' && value.size() < 19 && (unit ? !end[1] : !*end) && n <= UINT64_MAX / scale;
    if (!ok || n * scale < least)
        die_with(EXIT_USAGE, "%s %s: expected a whole number of at least %" PRIu64 ", such as 5000 or 100M", option.c_str(), text, least);
    return n * scale;
}

inline Options parse(int argc, char** argv) {
    Options o;
    for (int i = 1; i < argc; i++) {
        std::string name = argv[i];
        if (name == "--help" || name == "-h") { fputs(HELP, stdout), fflush(stdout); _Exit(0); }
        if (name == "--entropy") { o.entropy = true; continue; }
        bool known = name == "--bytes" || name == "--seed" || name == "--questions" || name == "-o" || name == "--out";
        if (!known) die_with(EXIT_USAGE, "%s: unknown option, see --help", name.c_str());
        if (i + 1 == argc) die_with(EXIT_USAGE, "%s: a value is missing", name.c_str());
        std::string value = argv[++i];
        if (name == "--bytes") o.bytes = number(name, value, 4096);
        else if (name == "--questions") o.questions = number(name, value, 1);
        else if (name == "--seed") o.seed = number(name, value, 0);
        else o.out = value;
    }
    if (o.questions && (o.bytes || o.entropy)) die_with(EXIT_USAGE, "--questions goes with neither --bytes nor --entropy");
    if (!o.questions && !o.bytes && !o.entropy) die_with(EXIT_USAGE, "--bytes or --questions must say how much to write, see --help");
    if (!o.bytes) o.bytes = 10000000;  // of --entropy alone
    return o;
}

// A file that is complete or an error; without a name the terminal.
struct Output {
    FILE* file;
    std::string name;
    explicit Output(const std::string& path) : file(path.empty() ? stdout : fopen(path.c_str(), "wb")), name(path) {
        CHECK(file, "%s: cannot be written", name.c_str());
    }
    void write(const std::string& s) { done(fwrite(s.data(), 1, s.size(), file) == s.size()); }
    void close() { done(file == stdout ? !fflush(file) : !fclose(file)); }
    void done(bool ok) { CHECK(ok, "%s: write failed, disk full?", name.empty() ? "standard output" : name.c_str()); }
};

inline void write_text(const Options& o, const Grammar& grammar) {
    Dice dice{.seed = o.seed}, before = dice;
    Teller teller(grammar, dice);
    bool silent = o.entropy && o.out.empty();
    Output out(o.out);
    std::string buffer;
    uint64_t bytes = 0, documents = 0;
    for (;; dice.next_story(), documents++) {
        if (bytes + 2 * sizeof teller.text > o.bytes) before = dice;  // only then may the next story be the one too many
        teller.tell();
        uint64_t more = (uint64_t)teller.length + 1 + (documents ? SEPARATOR_BYTES + 1 : 0);
        if (bytes + more > o.bytes) break;
        bytes += more;
        if (documents) buffer += SEPARATOR, buffer += '\n';
        buffer.append(teller.text, (size_t)teller.length) += '\n';
        if (buffer.size() < 1 << 20) continue;
        if (!silent) out.write(buffer);
        buffer.clear();
    }
    if (!silent) out.write(buffer);
    out.close();
    double bits = before.bits();  // without the story that did not fit
    uint64_t text_bytes = bytes - (documents - 1) * SEPARATOR_BYTES;
    double floor = bits / (double)text_bytes;
    if (!o.out.empty()) {
        Output side(o.out + ".floor");
        side.write(format("{\"bits\": %.3f, \"bytes\": %" PRIu64 ", \"documents\": %" PRIu64 ", \"bits_per_byte\": %.6f}\n",
                          bits, text_bytes, documents, floor));
        side.close();
    }
    if (o.entropy)
        printf("floor: %.2f bits/story, %.6f bits/byte; exact for the %" PRIu64 " stories (%" PRIu64 " bytes without separators) of "
               "--bytes %" PRIu64 " --seed %" PRIu64 "\n", bits / (double)documents, floor, documents, text_bytes, o.bytes, o.seed);
}

inline std::string json_string(const std::string& s) {
    std::string out = "\"";
    for (char c : s) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + "\"";
}

inline void write_questions(const Options& o, const Grammar& grammar) {
    Dice dice{.seed = o.seed, .purpose = 1};
    Teller teller(grammar, dice);
    teller.keep_fitting = true;
    Output out(o.out);
    for (uint64_t written = 0; written < o.questions; dice.next_story()) {
        teller.tell();
        if (!teller.answer_end) continue;
        std::string line = "{\"context\": " + json_string({teller.text, (size_t)teller.question_end});
        line += ", \"answer\": " + json_string({teller.text + teller.question_end, teller.text + teller.answer_end});
        line += ", \"choices\": [";
        for (const std::string& choice : teller.fitting) line += (&choice == &teller.fitting[0] ? "" : ", ") + json_string(choice);
        out.write(line + "]}\n");
        written++;
    }
    out.close();
}

}  // namespace stories

int main(int argc, char** argv) {
    stories::Options options = stories::parse(argc, argv);
    stories::Grammar grammar(stories::GRAMMAR);
    if (options.questions) write_questions(options, grammar);
    else write_text(options, grammar);
    return 0;
}
