// mutant.cpp: find the mutant: a kernel of the product with one mistake, of those that the tests are tested with (test/mutants/list.txt), and what a user sees of it.
//     build/learn/mutant SEED             shows one        make mutant SEED=3
//     build/learn/mutant SEED LINE        an answer        make mutant SEED=3 LINE=12; LINE=0: the solution
//     build/learn/mutant --check          whether every row of mutants.txt has its mutant, and every question its answer
#include <cstdio>
#include <string>
#include <vector>
#include "../../llmc/base/rng.h"
#include "../../llmc/io/files.h"

namespace {
using Lines = std::vector<std::string>;
struct Question { std::string file, symptom, why, from, to; };
struct Shown { std::string name; Lines lines; int answer; std::string right; };  // answer: the line, from 1 on; where a whole line is missing, the one that stands in its place now

Lines split(const std::string& text, const std::string& by) {
    Lines parts;
    for (size_t at = 0, end; at < text.size(); at = end + by.size()) end = std::min(text.find(by, at), text.size()), parts.push_back(text.substr(at, end - at));
    return parts;
}
std::string trimmed(const std::string& s) {
    const size_t begin = s.find_first_not_of(' '), end = s.find_last_not_of(' ');
    return begin == std::string::npos ? "" : s.substr(begin, end - begin + 1);
}

std::vector<Question> questions() {
    std::vector<Question> all;
    const Lines mutants = split(read_file("test/mutants/list.txt"), "\n");
    for (const std::string& row : split(read_file("dev/learn/mutants.txt"), "\n")) {
        if (row.empty() || row[0] == '#') continue;
        const Lines fields = split(row, " | ");
        CHECK(fields.size() == 4, "dev/learn/mutants.txt: must be file | part of original | symptom | why: %s", row.c_str());
        const size_t before = all.size();
        for (const std::string& m : mutants) {
            const Lines f = split(m, " | ");
            if (f.size() == 4 && f[0] == fields[0] && f[2].find(fields[1]) != std::string::npos && all.size() == before)
                all.push_back({f[0], fields[2], fields[3], trimmed(f[2]), trimmed(f[3]) == "nothing" ? "" : trimmed(f[3])});
        }
        CHECK(all.size() > before, "dev/learn/mutants.txt: no mutant of %s has '%s'", fields[0].c_str(), fields[1].c_str());
    }
    return all;
}

// The function that the mistake is in: from the line that begins it, in the first column, to the brace in the first column that ends it.
Shown show(const Question& q) {
    const Lines lines = split(read_file(q.file), "\n");
    size_t at = 0;
    while (at < lines.size() && lines[at].find(q.from) == std::string::npos) at++;
    CHECK(at < lines.size(), "%s has no line with '%s'", q.file.c_str(), q.from.c_str());
    size_t begin = at, end = at;
    while (begin > 0 && !(lines[begin].find("__device__") < 40 || lines[begin].starts_with("__global__"))) begin--;
    if (begin > 0 && lines[begin - 1].starts_with("template")) begin--;
    while (end + 1 < lines.size() && lines[end] != "}") end++;
    Shown s{"", {}, 0, trimmed(lines[at])};
    for (size_t i = begin; i <= end; i++) {
        std::string line = lines[i];
        if (i == at) {
            line.replace(line.find(q.from), q.from.size(), q.to), s.answer = (int)s.lines.size() + 1;
            line = line.substr(0, line.find("  //"));  // its comment would tell
        }
        if (i != at || !trimmed(line).empty()) s.lines.push_back(line);
    }
    return s;
}

// What stands in other files, for who has not read them. Only names that occur are printed.
const std::vector<std::pair<std::string, std::string>> NAMES = {
    {"pdl_wait", "pdl_wait() waits for the kernel before this one"}, {"Pack<F>", "Pack<F> is 16 bytes, SIZE numbers of type F (float or bf16)"}, {"load_floats", "load_floats(x, p) fills float x[] from p on, store_floats(p, x) stores it, rounded to F"},
    {"load_pack", "load_pack(p), store_pack(p, x) move a whole Pack"}, {"load_weights", "load_weights(w, weight, c) is load_floats, or 1 where weight is null"}, {"from_float", "from_float<F>(x) rounds to F, to_float(x) is back"},
    {"dynamic_shared", "dynamic_shared() is the block's shared memory"}, {"warp_sum", "warp_sum(x), warp_max(x): over the warp, every lane gets it"}, {"block_sums(sums)", "block_sums(x) adds each x[i] over the block, every thread gets it"},
    {"COLUMNS", "COLUMNS is 8, ROWS 2"}, {"RMS", "RMS: for RMSNorm, else LayerNorm"}, {"cap", "cap bounds logits; read cap.value(z) as z, cap.slope(z) as 1"}, {"ex2_approx", "ex2_approx(x * LOG2E) is exp(x)"}, {"pad(", "pad(x, column, V, y) sets those of x[] to y that are in columns from V on"},
    {"compiler_barrier", "compiler_barrier() is for registers alone"}, {"__fdividef", "__fdividef(x, y) is x / y"}, {"Vp", "a row has V logits and padding up to Vp"},
};
std::string names_of(const Shown& s) {
    std::string text, names;
    for (const std::string& line : s.lines) text += line + "\n";
    for (const auto& [name, meaning] : NAMES) if (text.find(name) != std::string::npos) names += (names.empty() ? "" : "; ") + meaning;
    return names;
}
std::string chapter_of(const std::string& file) {
    const bool softmax = file.find("classifier") != std::string::npos, gelu = file.find("gelu") != std::string::npos;
    return std::string("doc/learn/") + (softmax ? "softmax" : gelu ? "gelu" : "layernorm") + ".md";
}

int check(const std::vector<Question>& all) {
    for (const Question& q : all) {
        const Shown s = show(q);
        CHECK(s.answer > 1 && s.answer <= (int)s.lines.size() && s.lines.size() >= 6 && s.lines.size() <= 90, "%s: '%s': %zu lines, the answer is %d: it does not stand in a function", q.file.c_str(), q.from.c_str(), s.lines.size(), s.answer);
    }
    printf("%zu questions\n", all.size());
    return 0;
}
}  // namespace

int main(int argc, char** argv) {
    const std::vector<Question> all = questions();
    if (argc > 1 && std::string(argv[1]) == "--check") return check(all);
    const size_t n = all.size(), seed = argc > 1 ? strtoull(argv[1], nullptr, 10) : 0;
    if (argc > 3 || !seed) die_with(EXIT_USAGE, "usage: mutant SEED [LINE], SEED a number from 1 on");
    // each seed from 1 on another one, until all have been shown
    const size_t turn = (seed - 1) / n;
    std::vector<size_t> order(n);
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = n; i > 1; i--) std::swap(order[i - 1], order[philox(turn, RNG_SHUFFLE, 0, i).x[0] % i]);
    const Question& q = all[order[(seed - 1) % n]];
    const Shown s = show(q);
    if (argc == 2) {
        printf("%s, with one mistake (SEED=%zu):\n\n", q.file.c_str(), seed);
        for (size_t i = 0; i < s.lines.size(); i++) printf("%3zu  %s\n", i + 1, s.lines[i].c_str());
        printf("\nNames: %s. The chapter: %s\n", names_of(s).c_str(), chapter_of(q.file).c_str());
        printf("\nWhat a user sees: %s\n\nWhich line is it, or where is one missing (say the line before it)?    make mutant SEED=%zu LINE=...    to give up: LINE=0\n", q.symptom.c_str(), seed);
        return 0;
    }
    // a line that is missing stood between two: both are right
    const int line = atoi(argv[2]);
    const bool deleted = q.to.empty(), right = deleted ? line >= s.answer - 1 && line <= s.answer : line == s.answer;
    if (right || line == 0) {
        printf("%s:  %s\n%s%s\n%s\n", right ? "Yes. It was" : format("Line %d. It was", s.answer).c_str(), s.right.c_str(), deleted ? "and that is missing." : "and is now:   ", deleted ? "" : trimmed(s.lines[(size_t)s.answer - 1]).c_str(), q.why.c_str());
        printf("The next one: make mutant SEED=%zu\n", seed + 1);
    } else {
        printf("No: line %d is as it was. %s ", line, deleted ? "Something is missing" : "Nothing is missing; a line has changed");
        printf("further %s.    make mutant SEED=%zu shows it again, LINE=0 the solution.\n", line < s.answer ? "down" : "up", seed);
    }
    return right ? 0 : 1;
}
