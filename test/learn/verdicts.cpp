// verdicts.cpp: what the grader says of mistakes in the exercises: mistakes.txt has them and the words. `make check-learn`
//     build/learn/verdicts            all of them are one program, as the headers take most of the compiler's time: each variant of an exercise in a namespace
//     build/learn/verdicts gelu 2     one exercise, one variant, with what is said of it
// Parts without a mistake are not run. Not tried: a GPU, code that does not compile, a loop that does not end, as that takes 20 s.
// By -O0, which takes half the time: who does what on which line is the same, but load_floats() is a call of its own there.
#include <set>
#include <string>
#include <vector>
#include "../../llmc/io/files.h"
#include "../test.h"

namespace {
using Lines = std::vector<std::string>;
Lines lines_of(const std::string& text) {
    Lines lines;
    for (size_t at = 0, end; at < text.size(); at = end + 1) end = std::min(text.find('\n', at), text.size()), lines.push_back(text.substr(at, end - at));
    return lines;
}
struct Mistake { int part; Lines from, to, words; };
struct Variant {
    std::string exercise, number;
    std::vector<Mistake> mistakes;
    std::string name() const { return exercise + "_" + number; }
    std::string file() const { return "build/learn/verdicts_" + name() + ".cu"; }
};

std::vector<Variant> read_mistakes(const std::string& file) {
    std::vector<Variant> variants;
    Mistake* now = nullptr;
    for (const std::string& l : lines_of(read_file(file))) {
        char exercise[32], number[32];
        int part;
        if (l.empty() || l[0] == '#') continue;
        if (l.starts_with("- ")) now->from.push_back(l.substr(2));
        else if (l.starts_with("+ ")) now->to.push_back(l.substr(2));
        else if (l.starts_with("= ")) {
            for (size_t at = 2, end; at < l.size(); at = end + 3) end = std::min(l.find(" | ", at), l.size()), now->words.push_back(l.substr(at, end - at));
        } else {
            if (sscanf(l.c_str(), "%31s %31s %d", exercise, number, &part) != 3) die("%s: must be EXERCISE VARIANT PART: %s", file.c_str(), l.c_str());
            size_t i = 0;
            while (i < variants.size() && (variants[i].exercise != exercise || variants[i].number != number)) i++;
            if (i == variants.size()) variants.push_back({exercise, number, {}});
            for (const Mistake& m : variants[i].mistakes) if (m.part == part) die("%s: %s %s has two mistakes in part %d", file.c_str(), exercise, number, part);
            variants[i].mistakes.push_back({part, {}, {}, {}}), now = &variants[i].mistakes.back();
        }
    }
    for (const Variant& v : variants) for (const Mistake& m : v.mistakes) if (m.words.empty()) die("%s: %s %s %d has no words", file.c_str(), v.exercise.c_str(), v.number.c_str(), m.part);
    for (const std::string& table : lines_of(run_command("ls dev/learn/*/table.h").output)) {
        bool found = false;
        for (const Variant& v : variants) found = found || table == "dev/learn/" + v.exercise + "/table.h";
        if (!found) die("%s: no mistake in the exercise of %s", file.c_str(), table.c_str());
    }
    return variants;
}

// The solution with these mistakes; the marks of its blanks are comments.
std::string with_mistakes(const Variant& v) {
    Lines lines = lines_of(read_file("dev/learn/" + v.exercise + "/solution.cu"));
    for (const Mistake& m : v.mistakes) {
        size_t begin = 0, end;
        while (begin < lines.size() && !lines[begin].starts_with(format("// ---- %d. ", m.part))) begin++;
        for (end = begin + 1; end < lines.size() && !lines[end].starts_with("// ---- ");) end++;
        size_t at = begin;
        auto fits = [&] { for (size_t i = 0; i < m.from.size(); i++) if (at + i >= end || !lines[at + i].starts_with(m.from[i])) return false; return true; };
        while (at < end && !fits()) at++;
        if (m.from.empty() || at == end) die("mistakes.txt: %s, part %d has no such line: %s", v.exercise.c_str(), m.part, m.from.empty() ? "none" : m.from[0].c_str());
        lines.erase(lines.begin() + (long)at, lines.begin() + (long)(at + m.from.size()));
        lines.insert(lines.begin() + (long)at, m.to.begin(), m.to.end());
    }
    std::string text;
    for (const std::string& l : lines) text += l + "\n";
    return text;
}

// A file's text, which may stand in a namespace: what it includes of its own folder comes with it, the rest is included before all.
std::string inlined(const std::string& file, const std::string& folder, std::set<std::string>& includes) {
    std::string text = format("#line 1 \"%s\"\n", file.c_str());
    int number = 0;
    for (const std::string& l : lines_of(read_file(file))) {
        number++;
        if (l.starts_with("#include \"") && l.find("../") == std::string::npos) {
            const std::string own = l.substr(10, l.size() - 11);
            text += inlined(folder + own, folder, includes) + format("#line %d \"%s\"\n", number + 1, file.c_str());
        } else if (l.starts_with("#include ") || l == "#pragma once") {
            const size_t product = l.find("../llmc/");
            if (product != std::string::npos) includes.insert("#include \"../../" + l.substr(product + 3));
            else if (l.find('<') != std::string::npos) includes.insert(l);
            text += "\n";
        } else text += l + "\n";
    }
    return text;
}
// What an exercise calls ::Name is in its namespace now.
std::string in_namespace(const std::string& name, const std::string& text) {
    std::string inside;
    for (size_t i = 0; i < text.size(); i++) {
        const bool global = text.compare(i, 2, "::") == 0 && i > 0 && strchr(" <(&*", text[i - 1]);
        inside += global ? name : "", inside += text[i];
    }
    return inside;
}
std::string program_of(const std::vector<Variant>& variants) {
    std::set<std::string> includes;
    std::string bodies, calls;
    for (const Variant& v : variants) {
        const std::string folder = "dev/learn/" + v.exercise + "/";
        write_file_atomically(v.file(), with_mistakes(v));
        std::string parts;
        for (const Mistake& m : v.mistakes) parts += format("%d, ", m.part);
        bodies += "namespace " + v.name() + " {\nusing namespace ::learn;\n" + in_namespace(v.name(), inlined(v.file(), folder, includes) + inlined(folder + "table.h", folder, includes)) + "}\n";
        calls += format("    only(\"%s\", \"%s\", %s::learn::PARTS, {%s});\n", v.exercise.c_str(), v.file().c_str(), v.name().c_str(), parts.c_str());
    }
    std::string text = "#include \"../../dev/learn/report.h\"\n";
    for (const std::string& i : includes) text += i + "\n";
    return text + bodies + "#line 1 \"main\"\n"
        "static void only(const char* name, const char* file, std::vector<learn::Part> parts, std::vector<size_t> with) {\n"
        "    for (size_t i = 0; i < parts.size(); i++) if (std::find(with.begin(), with.end(), i + 1) == with.end()) parts[i].sizes.clear(), parts[i].cuda = false;\n"  // at no size it is right
        "    learn::Report(name, file).grade(parts, \"build/learn/verdicts.right\");\n"
        "}\n"
        "int main() {\n    setvbuf(stdout, nullptr, _IOLBF, 0);\n" + calls + "}\n";
}
// What was said of a part of a file: its line, and those below it that are indented.
std::string verdict_of(const Lines& said, const std::string& file, int part) {
    std::string text;
    bool here = false, in_part = false;
    for (const std::string& l : said) {
        if (l.find(": build/learn/verdicts_") != std::string::npos) here = l.ends_with(": " + file);
        if (!l.starts_with("    ")) in_part = here && l.starts_with(format("%d. ", part));
        if (in_part) text += l + "\n";
    }
    return text;
}
}  // namespace

int main(int argc, char** argv) {
    std::vector<Variant> variants;
    for (const Variant& v : read_mistakes("test/learn/mistakes.txt"))
        if (argc < 2 || (v.exercise == argv[1] && (argc < 3 || v.number == argv[2]))) variants.push_back(v);
    make_folders("build/learn");
    write_file_atomically("build/learn/verdicts_all.cpp", program_of(variants));
    const Outcome built = run_command("OPT=${OPT:--O0} dev/learn/learn.sh --page build/learn/verdicts_all.cpp");
    if (built.code) return printf("verdicts: does not compile:\n%s\n", built.output.substr(0, 2000).c_str()), 1;
    const Outcome ran = run_command("build/learn/verdicts_all");
    if (argc > 1) printf("%s", ran.output.c_str());
    const Lines said = lines_of(ran.output);
    int wrong = ran.code != 0, mistakes = 0;
    for (const Variant& v : variants)
        for (const Mistake& m : v.mistakes) {
            const std::string verdict = verdict_of(said, v.file(), m.part);
            mistakes++;
            for (const std::string& word : m.words)
                if (verdict.find(word) == std::string::npos) wrong++, printf("%s %s %d: '%s' is not said, but\n%s", v.exercise.c_str(), v.number.c_str(), m.part, word.c_str(), verdict.c_str());
        }
    if (wrong) return printf("verdicts: of %d mistakes %d words are not said\n", mistakes, wrong), 1;
    return printf("verdicts: %d mistakes are told as they should be\n", mistakes), 0;
}
