// check.cpp: whether the chapters and exercises are what they say. `make check-learn`
//     build/learn/check           pages: code runs and prints what stands below it, code of the product is the product's, numbers are recomputed, links lead somewhere,
//                                 pictures are what their script draws; exercises: solutions pass the grader, and the files with blanks are what is left of them
//     build/learn/check --pages   pages alone, without what the grader counts
//     build/learn/check --write   writes the files with blanks, and the pictures
//     build/learn/check --measured FILE CARD    writes dev/learn/measured.txt of what the solutions took on a GPU: lines of timing.h behind `EXERCISE: `; CARD: "one NVIDIA H200, 2026-11-28, CUDA 13.0"
//
// In a page (doc/learn/*.md, doc/llama3.md):
//     ```cpp                      declarations, compiled as they stand, all of a page in one program; with a kernel among them it is built as exercises are, and dev/learn/count.h is there
//     ```cpp run                  statements, executed in their order; what they print is the next ```text block
//     <!-- run ... -->            statements; each line that they print stands in what follows, up to an empty line
//     ```cpp from FILE            lines of FILE in their order; `...` stands for lines that are left out
//     <!-- graded NAME -->        a table follows, whose row | N | ... | ends with what the grader counts of part N of NAME's solution: | asked | touched | sectors | bytes an access | and what
//                                 that took on a GPU, if dev/learn/measured.txt has it of just this text: | 57.5 us, 62 % |, else | not yet | or | not timed |
//     ```python                   run where python3 has torch, all of a page in one program; what it prints is the next ```text block
//     ```sh or nothing            shown
#include <cstdio>
#include <deque>
#include <map>
#include <string>
#include <vector>
#include "../../llmc/base/limits.h"
#include "../../llmc/io/files.h"
#include "../test.h"

namespace {
using Lines = std::vector<std::string>;
int g_wrong = 0;
template <class... A> void wrong(const std::string& where, const char* text, A... a) { printf("%s: %s\n", where.c_str(), format(text, a...).c_str()), g_wrong++; }

Lines lines_of(const std::string& text) {
    Lines lines;
    for (size_t at = 0, end; at < text.size(); at = end + 1) end = std::min(text.find('\n', at), text.size()), lines.push_back(text.substr(at, end - at));
    return lines;
}
std::string trimmed(const std::string& s) {
    const size_t begin = s.find_first_not_of(" \t"), end = s.find_last_not_of(" \t");
    return begin == std::string::npos ? "" : s.substr(begin, end - begin + 1);
}
std::string joined(const Lines& lines) {
    std::string text;
    for (const std::string& l : lines) text += l + "\n";
    return text;
}
bool exists(const std::string& path) { return access(path.c_str(), R_OK) == 0; }

// ---- pages -----------------------------------------------------------------------------------------------------------------
struct Block { int line; std::string info; Lines code, below; };  // below: the text block that follows, or the lines up to an empty one

std::vector<Block> blocks_of(const Lines& page) {
    std::vector<Block> blocks;
    for (size_t i = 0; i < page.size(); i++) {
        const bool fence = page[i].starts_with("```"), hidden = page[i] == "<!-- run";
        if (!fence && !hidden) continue;
        Block b{(int)i + 1, fence ? page[i].substr(3) : "hidden", {}, {}};
        for (i++; i < page.size() && page[i] != (fence ? "```" : "-->"); i++) b.code.push_back(page[i]);
        size_t k = i + 1;
        if (hidden) {
            while (k < page.size() && page[k].empty()) k++;
            for (; k < page.size() && !page[k].empty(); k++) b.below.push_back(page[k]);
        } else {
            while (k < page.size() && page[k].empty()) k++;
            if (k < page.size() && page[k] == "```text") for (k++; k < page.size() && page[k] != "```"; k++) b.below.push_back(page[k]);
        }
        blocks.push_back(b);
    }
    return blocks;
}

// Lines of a file of the project, in their order: what stands between is left out only where the page says `...`.
void check_quote(const std::string& page, const Block& b) {
    const std::string file = b.info.substr(strlen("cpp from "));
    if (!exists(file)) return wrong(format("%s:%d", page.c_str(), b.line), "there is no %s", file.c_str());
    const Lines source = lines_of(read_file(file));
    size_t at = 0;
    bool anywhere = true;
    for (size_t i = 0; i < b.code.size(); i++) {
        if (trimmed(b.code[i]) == "...") { anywhere = true; continue; }
        size_t k = at;
        while (anywhere && k < source.size() && source[k] != b.code[i]) k++;
        if (k >= source.size() || source[k] != b.code[i]) return wrong(format("%s:%d", page.c_str(), b.line + 1 + (int)i), "not the text of %s: %s", file.c_str(), b.code[i].c_str());
        at = k + 1, anywhere = false;
    }
}

// What a program printed, cut where it said that a block begins.
std::vector<Lines> outputs_of(const std::string& printed, size_t blocks) {
    std::vector<Lines> outputs(blocks);
    size_t now = 0;
    for (const std::string& l : lines_of(printed)) {
        if (l.starts_with("@@block ")) now = (size_t)atoi(l.c_str() + 8);
        else if (now < blocks) outputs[now].push_back(l);
    }
    return outputs;
}
void check_outputs(const std::string& page, const std::vector<Block>& blocks, const std::string& printed) {
    const std::vector<Lines> outputs = outputs_of(printed, blocks.size());
    for (size_t i = 0; i < blocks.size(); i++) {
        const Block& b = blocks[i];
        const std::string where = format("%s:%d", page.c_str(), b.line);
        if (b.info == "hidden") {
            if (outputs[i].empty()) wrong(where, "it prints nothing");
            for (const std::string& l : outputs[i])
                if (joined(b.below).find(trimmed(l)) == std::string::npos) wrong(where, "computed is '%s', which does not stand below", trimmed(l).c_str());
        } else if (outputs[i] != b.below) wrong(where, "it prints\n%snot\n%s", joined(outputs[i]).c_str(), joined(b.below).c_str());
    }
}

void check_cpp(const std::string& page, const std::string& name, const std::vector<Block>& all) {
    std::vector<Block> runs;
    std::string declarations, calls;
    bool cuda = false;  // kernels: what they ask of memory is counted, and each block is a process, so that one may end by a mistake that is shown
    for (const Block& b : all) for (const std::string& l : b.code) cuda = cuda || (b.info == "cpp" && l.starts_with("__global__"));
    for (const Block& b : all) {
        const bool run = b.info == "cpp run" || b.info == "hidden";
        if (b.info != "cpp" && !run) continue;
        const std::string place = format("#line %d \"%s\"\n", b.line + 1, page.c_str());
        if (!run) { declarations += place + joined(b.code); continue; }
        declarations += format("static void block_%zu() {\n", runs.size()) + place + joined(b.code) + "}\n";
        calls += format(cuda ? "    printf(\"@@block %zu\\n\"), apart(block_%zu);\n" : "    printf(\"@@block %zu\\n\"), block_%zu();\n", runs.size(), runs.size());
        runs.push_back(b);
    }
    if (runs.empty()) return;
    const std::string base = "build/learn/page_" + name;
    write_file_atomically(base + ".cpp", std::string("#include <cmath>\n#include <cstdio>\n#include <functional>\n#include <string>\n#include <vector>\n") +
                          (cuda ? "#include \"../../dev/learn/count.h\"\n" : "") + declarations +
                          "int main() {\n    setvbuf(stdout, nullptr, _IOLBF, 0);\n" + calls + "}\n");
    const Outcome built = cuda ? run_command(format("dev/learn/learn.sh --page %s.cpp", base.c_str())) : run_command(format("${CXX:-g++} -std=c++20 -O0 -ffp-contract=off %s.cpp -o %s", base.c_str(), base.c_str()));
    if (built.code) return wrong(page, "its code does not compile:\n%s", built.output.c_str());
    const Outcome ran = run_command(base);
    if (ran.code) return wrong(page, "its code ends with exit code %d:\n%s", ran.code, ran.output.c_str());
    check_outputs(page, runs, ran.output);
}

bool has_torch() {
    static const bool has = run_command("${PYTHON:-python3} -c 'import torch'").code == 0;
    return has;
}
void check_python(const std::string& page, const std::string& name, const std::vector<Block>& all, int& skipped) {
    std::vector<Block> runs;
    std::string program = "import torch\nimport torch.nn.functional as F\n";
    for (const Block& b : all) if (b.info == "python") program += format("print('@@block %zu', flush=True)\n", runs.size()) + joined(b.code), runs.push_back(b);
    if (runs.empty()) return;
    if (!has_torch()) { skipped += (int)runs.size(); return; }
    write_file_atomically("build/learn/page_" + name + ".py", program);
    const Outcome ran = run_command("${PYTHON:-python3} build/learn/page_" + name + ".py");
    if (ran.code) return wrong(page, "its Python ends with exit code %d:\n%s", ran.code, ran.output.c_str());
    check_outputs(page, runs, ran.output);
}

// [text](target), ![text](target): a file, with the heading behind # if it has one. Addresses of the net are not asked.
void check_links(const std::string& page, const Lines& lines) {
    const std::string folder = page.substr(0, page.rfind('/') + 1);
    bool code = false;
    for (size_t i = 0; i < lines.size(); i++) {
        if (lines[i].starts_with("```") || lines[i] == "<!-- run" || (code && lines[i] == "-->")) code = !code;
        for (size_t at = lines[i].find("]("); !code && at != std::string::npos; at = lines[i].find("](", at + 1)) {
            const std::string target = lines[i].substr(at + 2, lines[i].find(')', at) - at - 2), where = format("%s:%zu", page.c_str(), i + 1);
            if (target.starts_with("http")) continue;
            const size_t hash = target.find('#');
            const std::string file = hash == 0 ? page : folder + target.substr(0, hash);
            if (!exists(file)) { wrong(where, "the link leads nowhere: %s", target.c_str()); continue; }
            if (hash == std::string::npos) continue;
            bool found = false;
            for (const std::string& l : lines_of(read_file(file))) {
                if (l[0] != '#') continue;
                std::string anchor;
                for (char c : trimmed(l.substr(l.find_first_not_of('#')))) if (isalnum((unsigned char)c) || c == '-' || c == '_' || c == ' ') anchor += c == ' ' ? '-' : (char)tolower(c);
                found = found || anchor == target.substr(hash + 1);
            }
            if (!found) wrong(where, "no heading has this name: %s", target.c_str());
        }
    }
}

// At most 15 minutes: 200 words of text a minute, and 40 lines of code.
void check_length(const std::string& page, const Lines& lines) {
    double words = 0, code_lines = 0;
    bool code = false, hidden = false;
    for (const std::string& l : lines) {
        if (l.starts_with("<!--")) hidden = true;
        if (l.starts_with("```")) code = !code;
        else if (code) code_lines++;
        else if (!hidden) for (size_t i = 0; i < l.size(); i++) words += l[i] != ' ' && (i == 0 || l[i - 1] == ' ');
        if (l.ends_with("-->")) hidden = false;
    }
    const double minutes = words / 200 + code_lines / 40;
    printf("%-32s %4.0f words, %3.0f lines of code: %4.1f minutes\n", page.c_str(), words, code_lines, minutes);
    if (minutes > 15) wrong(page, "takes %.1f minutes to read, must be 15", minutes);
}

// Of commands that run side by side, one a core: what takes time here is the compiler.
std::vector<Outcome> outcomes_of(const Lines& commands) {
    std::vector<Outcome> outcomes;
    std::deque<Child> running;
    while (outcomes.size() < commands.size()) {
        const size_t next = outcomes.size() + running.size();
        if (next < commands.size() && (int)running.size() < usable_cores()) running.push_back(start_child([&] { execl("/bin/sh", "sh", "-c", commands[next].c_str(), (char*)nullptr); }));
        else outcomes.push_back(outcome_of(running.front())), running.pop_front();
    }
    return outcomes;
}

// ---- exercises -------------------------------------------------------------------------------------------------------------
// What a reader begins with: of   //{ what   lines   //} replacement   in a solution the replacement, with `what` behind it.
std::string with_blanks(const std::string& file, const std::string& solution) {
    std::string text, what;
    bool inside = false;
    int number = 0;
    for (const std::string& l : lines_of(solution)) {
        number++;
        const std::string t = trimmed(l), indent = l.substr(0, l.size() - std::min(l.size(), l.substr(std::min(l.find_first_not_of(' '), l.size())).size()));
        if (t.starts_with("//{ ")) {
            if (inside) wrong(format("%s:%d", file.c_str(), number), "a blank within a blank");
            inside = true, what = t.substr(4);
        } else if (t.starts_with("//} ")) {
            if (!inside || t.find("BLANK") == std::string::npos) wrong(format("%s:%d", file.c_str(), number), "must be: //} code with BLANK");
            inside = false, text += indent + t.substr(4) + "  // " + what + "\n";
        } else if (!inside) text += l + "\n";
    }
    if (inside) wrong(file, "a blank that does not end");
    return text;
}

// ---- what was measured on a GPU ----------------------------------------------------------------------------------------------
constexpr const char* MEASURED = "dev/learn/measured.txt";
// Of the text of a part of a solution, so that a time is not told of another one: FNV-1a.
unsigned sum_of(const std::string& name, int part) {
    unsigned sum = 2166136261u;
    bool inside = false;
    for (const std::string& l : lines_of(read_file("dev/learn/" + name + "/solution.cu"))) {
        if (l.starts_with("// ---- ")) inside = atoi(l.c_str() + 8) == part;
        if (inside) for (char c : l + "\n") sum = (sum ^ (unsigned char)c) * 16777619u;
    }
    return sum;
}
void write_measured(const std::string& file, const std::string& card) {
    std::string text = "# What the exercises' solutions took on a GPU, and on which: exercise, part, a sum of the part's text, microseconds, percent, of what: a copy of as many bytes or the peak of the arithmetic.\n# build/learn/check --measured\n" + card + "\n";
    for (const std::string& l : lines_of(read_file(file))) {
        const size_t colon = l.find(": "), us = l.rfind(" us  "), percent = l.find(" % of ");
        if (colon == std::string::npos || us == std::string::npos || percent == std::string::npos) continue;  // not timed
        const std::string name = l.substr(0, colon);
        const int part = atoi(l.c_str() + colon + 2);
        text += format("%s %d %08x %s %s %s\n", name.c_str(), part, sum_of(name, part), l.substr(l.rfind(' ', us - 1) + 1, us - l.rfind(' ', us - 1) - 1).c_str(), l.substr(l.rfind(' ', percent - 1) + 1, percent - l.rfind(' ', percent - 1) - 1).c_str(),
                       l.find(" % of the peak") != std::string::npos ? "peak" : "copy");
    }
    write_file_atomically(MEASURED, text);
}
std::string time_of(const std::string& name, int part) {
    bool of_another_text = false;
    for (const std::string& l : lines_of(read_file(MEASURED))) {
        char exercise[32], us[32], percent[32], of[32];
        int number;
        unsigned sum;
        if (sscanf(l.c_str(), "%31s %d %x %31s %31s %31s", exercise, &number, &sum, us, percent, of) != 6 || exercise != name || number != part) continue;
        of_another_text = true;
        if (sum == sum_of(name, part)) return format("%s us, %s %%%s", us, percent, of == std::string("peak") ? " of the peak" : "");
    }
    return of_another_text ? "not yet" : "not timed";
}
void check_measured(const std::string& page, const Lines& lines) {
    for (size_t i = 0; i < lines.size(); i++) {
        if (!lines[i].starts_with("<!-- graded ")) continue;
        const std::string name = lines[i].substr(12, lines[i].find(" -->") - 12);
        for (size_t k = i + 3; k < lines.size() && !lines[k].empty(); k++)
            if (const std::string cell = "| " + time_of(name, atoi(lines[k].c_str() + 2)) + " |"; !lines[k].ends_with(cell)) wrong(format("%s:%zu", page.c_str(), k + 1), "%s has %s", MEASURED, cell.c_str());
    }
    if (page != "doc/learn/README.md") return;
    for (const std::string& l : lines_of(read_file(MEASURED)))
        if (l.find("CUDA") != std::string::npos && joined(lines).find(l) == std::string::npos) wrong(page, "it does not say what times are of: %s", l.c_str());
}

std::map<std::string, std::string> g_graded;  // what the grader said of each exercise's solution
void check_graded(const std::string& page, const Lines& lines) {
    for (size_t i = 0; i < lines.size(); i++) {
        if (!lines[i].starts_with("<!-- graded ")) continue;
        const std::string name = lines[i].substr(12, lines[i].find(" -->") - 12);
        if (!g_graded.count(name)) { wrong(format("%s:%zu", page.c_str(), i + 1), "no exercise is named %s", name.c_str()); continue; }
        for (size_t k = i + 3; k < lines.size() && !lines[k].empty(); k++) {
            const std::string part = format("\n%d. ", atoi(lines[k].c_str() + 2));
            const size_t at = g_graded[name].find(part), found = g_graded[name].find("asked ", at), end = g_graded[name].find(" bytes an access", found);
            if (at == std::string::npos || end == std::string::npos) { wrong(format("%s:%zu", page.c_str(), k + 1), "the grader counts nothing of this part"); continue; }
            const std::string costs = g_graded[name].substr(found, end - found);
            auto number = [&](const char* behind) { return atof(costs.c_str() + costs.rfind(behind) + strlen(behind)); };
            const double asked = number("asked "), touched = number("touched "), sectors = number("sectors "), access = number("; ");
            if (const std::string row = format("| %.2f | %.2f | %.2f | %.1f |", asked, touched, sectors, access); lines[k].find(row) == std::string::npos)
                wrong(format("%s:%zu", page.c_str(), k + 1), "counted is %s", row.c_str());
        }
    }
}

std::string solution_of(const std::string& folder) { return folder + "/solution.cu"; }
std::string exercise_of(const std::string& folder) { return folder + "/exercise.cu"; }
void write_exercise(const std::string& folder) { write_file_atomically(exercise_of(folder), with_blanks(solution_of(folder), read_file(solution_of(folder)))); }

// solved, begun: what the grader said of the solution, and of the blanks.
void check_exercise(const std::string& folder, const Outcome& solved, const Outcome& begun) {
    const std::string name = folder.substr(folder.rfind('/') + 1), solution = solution_of(folder), exercise = exercise_of(folder);
    const std::string blanks = with_blanks(solution, read_file(solution));
    if (!exists(exercise) || read_file(exercise) != blanks) wrong(exercise, "is not %s with its blanks: build/learn/check --write", solution.c_str());
    const int before = g_wrong;
    int parts = 0;
    for (const std::string& l : lines_of(blanks)) if (l.starts_with("// ---- ")) parts++;
    for (int p = 1; p <= parts; p++)
        for (int hint = 1; hint <= 3; hint++)
            if (run_command(format("HINT=%d.%d dev/learn/learn.sh %s", p, hint, name.c_str())).code) wrong(folder + "/hints.md", "part %d has no hint %d", p, hint);
    if (solved.code || solved.output.find(format("%d of %d parts are done", parts, parts)) == std::string::npos) wrong(solution, "does not pass:\n%s", solved.output.c_str());
    g_graded[name] = solved.output;
    // as a reader gets it: a line for each blank and what to do next
    if (begun.code != 1 || begun.output.find("0 of") == std::string::npos || begun.output.find("to fill: line") == std::string::npos || begun.output.find("HINT=1.1") == std::string::npos)
        wrong(exercise, "does not fail with a line that helps:\n%s", begun.output.c_str());
    if (g_wrong == before) printf("%-32s %d parts: the solution passes, the blanks fail with a line each\n", folder.c_str(), parts);
}
// What learn.sh does where nvcc and a GPU are: an nvcc that writes a program that says what it is asked, or does not compile, and a GPU by name.
void write_program(const std::string& path, const std::string& text) { write_file_atomically(path, "#!/bin/sh\n" + text), chmod(path.c_str(), 0755); }
void check_timing(const std::string& said_by_nvcc) {
    const std::string solution = "dev/learn/gelu/solution.cu", with = "PATH=build/learn/fake:$PATH NVCC=build/learn/fake/", grade = " dev/learn/learn.sh gelu " + solution;
    if (said_by_nvcc.find("\ntimed: 3 4 5\n") == std::string::npos) wrong("dev/learn/learn.sh", "right parts are not run on a GPU:\n%s", said_by_nvcc.c_str());
    const Outcome refused = run_command(with + "refuses OPT=-O0" + grade);
    if (refused.code != 1 || refused.output.find("what g++ compiles of dev/learn/gelu/solution.cu, nvcc does not:\n    line 31: calling a __host__ function\n") == std::string::npos) wrong("dev/learn/learn.sh", "an nvcc that does not compile it:\n%s", refused.output.c_str());
}
void check_exercises(const Lines& folders) {
    make_folders("build/learn/fake");
    write_program("build/learn/fake/nvidia-smi", "exit 0\n");
    write_program("build/learn/fake/nvcc", "for last; do :; done\nprintf '#!/bin/sh\\necho timed: $*\\n' > \"$last\" && chmod +x \"$last\"\n");
    write_program("build/learn/fake/refuses", "echo '../../dev/learn/gelu/solution.cu(31): error: calling a __host__ function' >&2\nexit 1\n");
    Lines grading;
    for (const std::string& folder : folders)
        for (const std::string& file : {solution_of(folder), exercise_of(folder)}) grading.push_back(format("PATH=build/learn/fake:$PATH NVCC=build/learn/fake/nvcc %sdev/learn/learn.sh %s %s", file == exercise_of(folder) ? "OPT=-O0 " : "", folder.substr(folder.rfind('/') + 1).c_str(), file.c_str()));
    const std::vector<Outcome> outcomes = outcomes_of(grading);
    for (size_t i = 0; i < folders.size(); i++) {
        check_exercise(folders[i], outcomes[2 * i], outcomes[2 * i + 1]);
        if (folders[i] == "dev/learn/gelu") check_timing(outcomes[2 * i].output);
    }
}

Lines listed(const std::string& pattern) { return lines_of(run_command("ls " + pattern + " 2>/dev/null").output); }
}  // namespace

int main(int argc, char** argv) {
    const bool write = argc > 1 && !strcmp(argv[1], "--write"), pages_alone = argc > 1 && !strcmp(argv[1], "--pages");
    make_folders("build/learn");
    int skipped = 0;
    if (argc == 4 && !strcmp(argv[1], "--measured")) return write_measured(argv[2], argv[3]), 0;
    // pictures
    const Outcome drawn = run_command(format("build/learn/draw %s", write ? "doc/learn" : "build/learn"));
    if (drawn.code) wrong("dev/learn/draw.cpp", "%s", drawn.output.c_str());
    for (const std::string& picture : lines_of(drawn.output))
        if (!exists("doc/learn/" + picture) || read_file("doc/learn/" + picture) != read_file(std::string(write ? "doc" : "build") + "/learn/" + picture)) wrong("doc/learn/" + picture, "is not what dev/learn/draw.cpp draws: build/learn/check --write");
    // the quiz
    if (const Outcome quiz = run_command("build/learn/mutant --check"); quiz.code) wrong("dev/learn/mutants.txt", "%s", quiz.output.c_str());
    // exercises
    Lines folders;
    for (const std::string& table : listed("dev/learn/*/table.h")) folders.push_back(table.substr(0, table.rfind('/')));
    if (write) {
        for (const std::string& folder : folders) write_exercise(folder);
        return g_wrong > 0;
    }
    if (!pages_alone) check_exercises(folders);
    // pages
    for (const std::string& page : listed("doc/learn/*.md doc/llama3.md")) {
        const Lines lines = lines_of(read_file(page));
        const std::vector<Block> blocks = blocks_of(lines);
        const std::string name = page.substr(page.rfind('/') + 1, page.rfind('.') - page.rfind('/') - 1);
        for (const Block& b : blocks) {
            const bool known = b.info.empty() || b.info == "cpp" || b.info == "cpp run" || b.info == "hidden" || b.info == "python" || b.info == "sh" || b.info == "text" || b.info.starts_with("cpp from ");
            if (!known) wrong(format("%s:%d", page.c_str(), b.line), "a kind of block that is not checked: %s", b.info.c_str());
            if (b.info.starts_with("cpp from ")) check_quote(page, b);
        }
        check_length(page, lines);
        check_links(page, lines);
        if (!pages_alone) check_graded(page, lines);
        check_measured(page, lines);
        check_cpp(page, name, blocks);
        check_python(page, name, blocks, skipped);
    }
    if (skipped) printf("skipped: %d blocks of Python, as python3 has no torch\n", skipped);
    printf(g_wrong ? "check-learn: %d mistakes\n" : "check-learn: all is as it says\n", g_wrong);
    return g_wrong > 0;
}
