// mutants.cpp: mutation testing: makes mutants of the CUDA sources, each with one mistake, and checks that the tests kill them.
//     build/mutants [part of a mutant's text]        the list is test/mutants/list.txt; make test-mutants
// A mutant that no test kills has survived: either a test is missing, or the mutant is equivalent: it makes no difference (LOG.md says which).
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#include "../../llmc/base/check.h"
#include "../../llmc/io/files.h"
#include "../test.h"

// One line of the list:   file | tests | from | to       `tests`: files of test/cuda, separated by blanks; `from` occurs once.
struct Mutant { int line; std::string file, tests, from, to; };

static std::string trimmed(const std::string& s) {
    size_t begin = s.find_first_not_of(' '), end = s.find_last_not_of(' ');
    return begin == std::string::npos ? "" : s.substr(begin, end - begin + 1);
}

static std::vector<Mutant> read_list(const std::string& path) {
    std::vector<Mutant> mutants;
    const std::string text = read_file(path);
    int number = 0;
    for (size_t at = 0, end; at < text.size(); at = end + 1) {
        end = std::min(text.find('\n', at), text.size());
        const std::string line = text.substr(at, end - at);
        number++;
        if (line.empty() || line[0] == '#') continue;
        std::vector<std::string> fields;
        for (size_t from = 0, bar; from <= line.size(); from = bar + 3) {
            bar = std::min(line.find(" | ", from), line.size());
            fields.push_back(trimmed(line.substr(from, bar - from)));
        }
        CHECK(fields.size() == 4, "%s:%d: %zu fields, must be 4: file | tests | from | to", path.c_str(), number, fields.size());
        mutants.push_back({number, fields[0], fields[1], fields[2], fields[3] == "nothing" ? "" : fields[3]});
        const std::string source = read_file(fields[0]);
        size_t first = source.find(fields[2]);
        CHECK(first != std::string::npos && source.find(fields[2], first + 1) == std::string::npos,
              "%s:%d: '%s' must occur once in %s", path.c_str(), number, fields[2].c_str(), fields[0].c_str());
    }
    return mutants;
}

// Builds and tests a mutant in a copy of the sources. Empty: it survived; else what killed it.
static std::string killed_by(const Mutant& m, const std::string& place) {
    make_folders(place + "/dev");
    run_command("rm -rf " + place + "/llmc " + place + "/test && cp -r llmc test train_gpt2.cu Makefile " + place + " && cp dev/together.sh " + place + "/dev");
    std::string source = read_file(m.file);
    source.replace(source.find(m.from), m.from.size(), m.to);
    write_file_atomically(place + "/" + m.file, source);
    for (const char* build : {"plain", "watch", "asan"})
        for (size_t at = 0, end; at < m.tests.size(); at = end + 1) {
            end = std::min(m.tests.find(' ', at), m.tests.size());
            const std::string test = m.tests.substr(at, end - at), folder = format("build/emu-%s", build);
            const std::string trainers = test.starts_with("test_train") ? format("train_gpt2 %s/train_gpt2cu", folder.c_str()) : "";
            if (!trainers.empty() && strcmp(build, "plain")) continue;  // takes minutes, and is about the order of copies
            auto shell = [&](const std::string& command) { return run_command("cd " + place + " && " + command); };
            shell(format("rm -rf %s/tests %s/cuda", folder.c_str(), folder.c_str()));
            const std::string make = format("make -s LOOK=%s EMU_ONLY=%s %s/tests %s", build, test.c_str(), folder.c_str(), trainers.c_str());
            CHECK(!shell(make + " -n").code, "%s: make does not find all that it needs for %s", place.c_str(), test.c_str());  // else it would seem to be the compiler's
            if (shell(make).code) return "the compiler";
            // few schedules: most mistakes show at once
            if (shell(format("EMU_SCHEDULES=4 timeout 200 %s/tests", folder.c_str())).code) return test + ", " + build;
        }
    return "";
}

int main(int argc, char** argv) {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    std::vector<Mutant> mutants = read_list("test/mutants/list.txt");
    if (argc > 1) std::erase_if(mutants, [&](const Mutant& m) { return (m.file + m.from + m.to).find(argv[1]) == std::string::npos; });
    std::atomic<size_t> next = 0, killed = 0;
    std::mutex printing;
    auto work = [&](int worker) {
        for (size_t i; (i = next++) < mutants.size();) {
            const Mutant& m = mutants[i];
            const std::string by = killed_by(m, format("build/mutants-%d", worker));
            killed += !by.empty();
            std::lock_guard<std::mutex> lock(printing);
            printf("%-9s line %-3d %s: '%s' -> '%s'%s%s\n", by.empty() ? "SURVIVED" : "killed", m.line, m.file.c_str(), m.from.c_str(),
                   m.to.c_str(), by.empty() ? "" : " by ", by.c_str());
        }
    };
    std::vector<std::thread> workers;
    for (int w = 0; w < std::max(1, (int)std::thread::hardware_concurrency()); w++) workers.emplace_back(work, w);
    for (std::thread& w : workers) w.join();
    printf("%zu of %zu mutants were killed\n", killed.load(), mutants.size());
    return killed.load() * 10 < mutants.size() * 9;
}
