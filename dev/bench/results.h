// results.h: what a benchmark measured, one JSON object a line, each with the machine and the day.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>
#include "../../llmc/io/files.h"
#include "../../llmc/io/json.h"
#include "../../llmc/train/log.h"
#include "../../llmc/base/threads.h"

inline double median(std::vector<double> x) {
    std::nth_element(x.begin(), x.begin() + (long)x.size() / 2, x.end());
    return x[x.size() / 2];
}

// The CPU as /proc/cpuinfo names it.
inline std::string cpu_name() {
    if (FILE* file = fopen("/proc/cpuinfo", "r")) {
        char line[512], name[512] = "";
        while (!*name && fgets(line, sizeof line, file)) sscanf(line, "model name : %511[^\n]", name);
        fclose(file);
        if (*name) return name;
    }
    return "unknown CPU";
}

class Results {
public:
    Results(const char* path, const std::string& machine_name) : file(fopen(path, "a")) {  // appended: one file holds a run of several benchmarks
        CHECK(file, "%s: cannot write: %s", path, strerror(errno));
        char day[16];
        time_t now = time(nullptr);
        strftime(day, sizeof day, "%Y-%m-%d", gmtime(&now));
        machine = format("{\"machine\": %s, \"threads\": %d, \"date\": \"%s\", ", json_dump(Json(machine_name)).c_str(), max_threads(), day);
        if (const char* more = getenv("BENCH_FIELDS")) machine += more;  // driver, libraries, clocks: `"name": "value", `
    }
    ~Results() { fclose(file); }
    Results(const Results&) = delete;
    void add(const std::string& fields) { fprintf(file, "%s%s}\n", machine.c_str(), fields.c_str()), fflush(file); }

private:
    FILE* file;
    std::string machine;
};
