// sass.h: a kernel's machine code (SASS, as `nvdisasm -c` prints it) as a control-flow graph: whether it waits before it touches global
// memory, and its loops.
#pragma once
#include <cxxabi.h>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <istream>
#include <map>
#include <string>
#include <string_view>
#include <vector>
#include "../llmc/base/check.h"

namespace sass {
struct Instruction {
    std::string text, op;     // op: LDG of @P1 LDG.E.64 R10, desc[UR8][R10.64]
    bool predicated = false;  // @P1: not every thread executes it
    std::vector<int> next{};  // what may be executed after it
};
struct Kernel {
    std::string name;
    std::vector<Instruction> code{};
};
using Set = std::vector<bool>;  // of instructions
using Labels = std::map<std::string, int, std::less<>>;

// attention_detail::attention_dq_kernel<bf16, 64> of its mangled name.
inline std::string demangled(const std::string& symbol) {
    int status = 0;
    char* text = symbol.starts_with("_Z") ? abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status) : nullptr;  // b alone would be bool
    std::string name = text ? text : symbol;
    free(text);
    if (name.starts_with("void ")) name.erase(0, 5);
    return name.substr(0, name.find('('));
}

// ---- reading ----------------------------------------------------------------------------------------------------------------

inline bool in(std::string_view op, std::initializer_list<std::string_view> ops) { return std::find(ops.begin(), ops.end(), op) != ops.end(); }
inline std::string_view word_at(std::string_view text, std::string_view more) {
    size_t n = 0;
    while (n < text.size() && (isalnum((unsigned char)text[n]) || more.find(text[n]) != more.npos)) n++;
    return text.substr(0, n);
}

// One instruction without the comment that is its address: @!P0 BRA P1, `(.L_x_7) ;
inline Instruction read_instruction(std::string text) {
    text.erase(0, text.find_first_not_of(' '));
    text.erase(text.find_last_not_of(" ;") + 1);
    const bool predicated = text.starts_with('@');
    const size_t op = predicated ? text.find_first_not_of(' ', std::min(text.find(' '), text.size())) : 0;
    return {text, std::string(word_at(std::string_view(text).substr(std::min(op, text.size())), "")), predicated};
}

// Where each may go on. A branch names labels, an indirect one in a comment that lists them all. A BSYNC takes threads to the place behind it, a
// function that is called comes back behind its call.
inline void link(Kernel& kernel, const Labels& labels) {
    for (int at = 0; at < (int)kernel.code.size(); at++) {
        Instruction& i = kernel.code[at];
        const bool branch = in(i.op, {"BRA", "BRX", "BRXU", "JMP", "JMX", "JMXU"}), visit = in(i.op, {"CALL", "WARPSYNC"}), end = in(i.op, {"EXIT", "RET"});
        std::string_view rest = i.text;
        while ((branch || visit) && !rest.empty()) {
            const std::string_view word = word_at(rest, "_.$");
            if (const auto label = labels.find(word); label != labels.end()) i.next.push_back(label->second);
            rest.remove_prefix(std::max<size_t>(word.size(), 1));
        }
        CHECK(!i.next.empty() || !(branch || i.op == "CALL"), "sass: %s: where does it go? %s", kernel.name.c_str(), i.text.c_str());
        const bool conditional = i.predicated || (i.op == "BRA" && i.text.find(',') != std::string::npos);  // BRA.DIV UR8, `(.L_x_7)
        if ((conditional || !(branch || end)) && at + 1 < (int)kernel.code.size()) i.next.push_back(at + 1);
    }
}

inline std::vector<Kernel> read(std::istream& text) {
    std::vector<Kernel> kernels;
    Labels labels;
    const auto finish = [&] { if (!kernels.empty()) link(kernels.back(), labels); };
    for (std::string line; getline(text, line);) {
        const size_t blank = line.find_first_not_of(" \t"), section = line.find(".section\t.text.");
        if (section != line.npos) {
            finish(), labels.clear();
            const size_t begin = section + strlen(".section\t.text.");
            kernels.push_back({demangled(line.substr(begin, line.find(',', begin) - begin))});
        } else if (kernels.empty() || blank == line.npos) {
            continue;
        } else if (blank == 0 && line.ends_with(':')) {
            labels[line.substr(0, line.size() - 1)] = (int)kernels.back().code.size();
        } else if (line.compare(blank, 2, "/*") == 0) {
            kernels.back().code.push_back(read_instruction(line.substr(line.find("*/") + 2)));
        }
    }
    finish();
    return kernels;
}

// ---- what follows from it ---------------------------------------------------------------------------------------------------

// What a path from `from` reaches that does not enter `wall`.
inline Set reached(const Kernel& kernel, int from, const Set& wall) {
    Set seen(kernel.code.size());
    std::vector<int> todo = {from};
    while (!todo.empty()) {
        const int at = todo.back();
        todo.pop_back();
        if (seen[at] || wall[at]) continue;
        seen[at] = true;
        todo.insert(todo.end(), kernel.code[at].next.begin(), kernel.code[at].next.end());
    }
    return seen;
}

// Generic loads and stores count: their address may be global. Local, shared and constant memory belong to the block alone or never change.
inline bool touches_global(const Instruction& i) {
    return in(i.op, {"LD", "ST", "LDG", "STG", "LDGSTS", "ATOM", "ATOMG", "RED", "REDG", "CCTL", "UBLKCP", "UBLKPF", "UBLKRED", "UTMALDG", "UTMAPF", "UTMASTG",
                     "UTMAREDG", "TEX", "TLD", "SULD", "SUST", "SUATOM", "SURED"});
}
// The first access to global memory that some path reaches without griddepcontrol.wait, which is ACQBULK in SASS; null: there is none. A wait that
// not every thread executes is none.
inline const Instruction* access_before_wait(const Kernel& kernel) {
    Set waits;
    for (const Instruction& i : kernel.code) waits.push_back(i.op == "ACQBULK" && !i.predicated);
    if (waits.empty()) return nullptr;
    const Set early = reached(kernel, 0, waits);
    for (size_t at = 0; at < early.size(); at++) if (early[at] && touches_global(kernel.code[at])) return &kernel.code[at];
    return nullptr;
}

struct Loop {
    int header, depth = 1;  // depth 1: in no other loop
    Set body;
    int instructions = 0, hmma = 0, ldsm = 0;  // without those of the loops in it
};
// The natural loops: an edge back to a header that dominates where it comes from, and what reaches that edge without passing the header. In the order of their headers.
inline std::vector<Loop> loops_of(const Kernel& kernel) {
    const int n = (int)kernel.code.size();
    const Set nowhere(n);
    const Set alive = n ? reached(kernel, 0, nowhere) : nowhere;  // the padding behind a kernel's end jumps to itself
    std::vector<std::vector<int>> before(n);
    for (int at = 0; at < n; at++) if (alive[at]) for (int next : kernel.code[at].next) before[next].push_back(at);
    std::vector<Loop> loops;
    for (int header = 0; header < n; header++) {
        if (before[header].size() + (header == 0) < 2) continue;
        Set wall = nowhere;
        wall[header] = true;
        const Set elsewhere = reached(kernel, 0, wall);  // what the header does not dominate
        Set body = wall;
        std::vector<int> todo;
        for (int from : before[header]) if (!elsewhere[from]) todo.push_back(from);
        if (todo.empty()) continue;
        while (!todo.empty()) {
            const int at = todo.back();
            todo.pop_back();
            if (body[at]) continue;
            body[at] = true;
            todo.insert(todo.end(), before[at].begin(), before[at].end());
        }
        loops.push_back({header, 1, body});
    }
    for (Loop& loop : loops)
        for (const Loop& other : loops) loop.depth += &other != &loop && other.body[loop.header];
    for (int at = 0; at < n; at++) {
        Loop* innermost = nullptr;
        for (Loop& loop : loops) if (loop.body[at] && (!innermost || loop.depth > innermost->depth)) innermost = &loop;
        if (innermost) innermost->instructions++, innermost->hmma += kernel.code[at].op == "HMMA", innermost->ldsm += kernel.code[at].op == "LDSM";
    }
    return loops;
}

// All loops of the nests in which there is an HMMA; without one the longest loop.
inline std::vector<Loop> main_loops(const Kernel& kernel) {
    std::vector<Loop> all = loops_of(kernel), main;
    for (const Loop& loop : all) {
        bool chosen = false;
        for (const Loop& nest : all)
            for (const Loop& inner : all) chosen |= inner.hmma > 0 && nest.body[inner.header] && nest.body[loop.header];
        if (chosen) main.push_back(loop);
    }
    const auto longest = std::max_element(all.begin(), all.end(), [](const Loop& a, const Loop& b) { return a.instructions < b.instructions; });
    if (main.empty() && longest != all.end()) main.push_back(*longest);
    return main;
}
}  // namespace sass
