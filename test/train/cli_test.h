// cli_test.h: what tests share that start the trainer on a small text. Who includes it has a SCRATCH of its own, as files of tests run at the same time.
#pragma once
#include <string>
#include <vector>
#include "../../llmc/io/json.h"
#include "../trainer_runs.h"

namespace {
extern const std::string SCRATCH;

[[maybe_unused]] void prepare() { prepare_text(SCRATCH, 1500); }
std::string small(const std::string& out, const std::string& rest) {
    return format("%s -i %s/text.txt -o %s/%s -e d1 -b 2 -t 32 -v 4 -m 2 -s 0 --threads 1 %s", TRAINER, SCRATCH.c_str(), SCRATCH.c_str(),
                  out.c_str(), rest.c_str());
}
[[maybe_unused]] Outcome run_small(const std::string& out, const std::string& rest) {
    Outcome outcome = run_command(small(out, rest));
    if (outcome.code) FAIL("%s: exit code %d: %s", rest.c_str(), outcome.code, outcome.output.c_str());
    return outcome;
}
[[maybe_unused]] std::string contents(const std::string& path) { return file_contents(SCRATCH + "/" + path); }
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// metrics.jsonl without what a clock decides and without the lines that say a run began
[[maybe_unused]] std::vector<std::string> metrics(const std::string& out) {
    std::vector<std::string> lines;
    for (const std::string& line : lines_of(contents(out + "/metrics.jsonl"))) {
        json_parse(line, "metrics.jsonl");
        if (!has(line, "\"run\"")) lines.push_back(line.substr(0, line.find(", \"ms\"")));
    }
    return lines;
}
[[maybe_unused]] std::vector<double> series(const std::string& out, const char* field) { return metrics_of(SCRATCH + "/" + out, field); }
}  // namespace
