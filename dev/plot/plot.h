// plot.h: the command: folders in, a page and a curve in the terminal out.
#pragma once
#include <sys/stat.h>
#include <unistd.h>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>
#include "../../llmc/base/nearest.h"
#include "../../llmc/io/files.h"
#include "../../llmc/io/run_lock.h"
#include "../../llmc/train/log.h"
#include "metrics.h"
#include "page.h"
#include "run_charts.h"
#include "terminal.h"

struct PlotOptions {
    std::vector<std::string> folders;
    std::string page;     // where it is written
    bool follow = false;  // until the runs have ended
};

inline const char* const PLOT_USAGE =
    "usage: ./plot OUT [OUT2 ...] [-o PAGE.html] [--follow]\n\n"
    "Draws the runs in these folders over one another: a page with loss, learning rate, norm, throughput, samples and\n"
    "options, and the loss in the terminal.\n\n"
    "  -o PAGE.html   where the page is written; without it OUT/plot.html, of several runs plot.html\n"
    "  --follow       writes the page again and again until the runs have ended; a browser that shows it reloads it\n";

namespace plot_detail {
inline bool is_folder(const std::string& path) {
    struct stat s;
    return stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}

inline PlotOptions parse(int argc, char** argv) {
    PlotOptions opt;
    for (int i = 1; i < argc; i++) {
        const std::string arg = argv[i];
        if (arg == "--help" || arg == "-h") { printf("%s", PLOT_USAGE); exit(0); }
        if (arg == "-o") {
            if (++i == argc) die_with(EXIT_USAGE, "-o: a file name must follow, PAGE.html");
            opt.page = argv[i];
        } else if (arg == "--follow") opt.follow = true;
        else if (arg.size() > 1 && arg[0] == '-') {
            const std::string near = nearest(arg, {"--follow", "--help"});
            die_with(EXIT_USAGE, "%s: unknown option; %sthere are -o PAGE.html and --follow", arg.c_str(), near.empty() ? "" : ("is it " + near + "? ").c_str());
        } else opt.folders.push_back(arg.size() > 1 && arg.ends_with('/') ? arg.substr(0, arg.size() - 1) : arg);
    }
    if (opt.folders.empty()) die_with(EXIT_USAGE, "plot needs the folder of a run: ./plot out");
    if (opt.folders.size() > COLORS) die_with(EXIT_USAGE, "%zu runs given, must be at most %d: there are no more colours that can be told apart", opt.folders.size(), COLORS);
    for (size_t i = 0; i < opt.folders.size(); i++) {
        const std::string& folder = opt.folders[i];
        if (std::find(opt.folders.begin(), opt.folders.begin() + (long)i, folder) != opt.folders.begin() + (long)i) die_with(EXIT_USAGE, "%s: given twice", folder.c_str());
        if (access(folder.c_str(), F_OK)) die_with(EXIT_USAGE, "%s: no such folder; give the one that a run writes to (--out, else out, out2, ...)", folder.c_str());
        if (!is_folder(folder)) die_with(EXIT_USAGE, "%s: is a file, must be the folder of a run: %s", folder.c_str(), parent_folder(folder).c_str());
        if (const std::string log = folder + "/metrics.jsonl"; access(log.c_str(), F_OK) && errno != ENOENT) die_with(EXIT_USAGE, "%s", errno_text(log).c_str());
        if (access((folder + "/metrics.jsonl").c_str(), F_OK)) die_with(EXIT_USAGE, "%s: no metrics.jsonl in it; give the folder that a run writes to", folder.c_str());
    }
    if (opt.page.empty()) opt.page = opt.folders.size() == 1 ? opt.folders[0] + "/plot.html" : "plot.html";
    if (is_folder(opt.page)) die_with(EXIT_USAGE, "-o: %s is a folder, must be a file: %s/plot.html", opt.page.c_str(), opt.page.c_str());
    if (access(parent_folder(opt.page).c_str(), W_OK | X_OK))
        die_with(EXIT_USAGE, "%s; -o PAGE.html says where to write the page", errno_text(parent_folder(opt.page)).c_str());
    return opt;
}

// The last parts of their paths, or the whole paths where two have the same.
inline void name_runs(std::vector<RunLog>& runs) {
    const auto last = [](const std::string& path) {
        const auto name = std::filesystem::path(path).filename();
        if (name != "." && name != "..") return name.string();
        std::error_code error;  // a folder that has gone since is called what it was given as
        const auto whole = std::filesystem::canonical(path, error);
        return (error ? name : whole.filename()).string();
    };
    for (RunLog& run : runs) {
        const auto same = [&](const RunLog& other) { return last(other.folder) == last(run.folder); };
        run.name = std::count_if(runs.begin(), runs.end(), same) > 1 ? run.folder : last(run.folder);
    }
}

inline std::vector<RunLog> read_runs(const PlotOptions& opt) {
    std::vector<RunLog> runs;
    for (const std::string& folder : opt.folders) {
        const bool running = RunLock::is_in_use(folder);  // first: what it writes before it ends is read then
        runs.push_back(read_metrics(folder));
        runs.back().running = running;
    }
    name_runs(runs);
    return runs;
}

// How close the run came to the floor, and its answers.
inline std::string end_of(const RunLog& run) {
    std::string end;
    if (!run.validations.empty()) {
        const Validation& v = run.validations.back();
        if (v.bits_per_byte > 0 && v.floor > 0)
            end = format("%.3f bits a byte; no model can need fewer than %.3f: %.2fx of perfect", v.bits_per_byte, v.floor, v.bits_per_byte / v.floor);
        else end = format("validation loss %.4f", v.loss) + (v.bits_per_byte > 0 ? format(", %.3f bits a byte", v.bits_per_byte) : "") + format(" after step %.0f", v.step);
    } else if (!run.steps.empty()) end = format("training loss %.4f after step %.0f", run.steps.back().loss, run.steps.back().step);
    else end = "nothing has been logged yet";
    for (size_t i = run.evaluations.size(); i-- > 0;)
        if (const Evaluation& e = run.evaluations[i]; e.total > 0) {
            end += format("; %s: %.0f questions: ", e.name.c_str(), e.total) + eval_scores(e.acc, e.acc_norm, e.chance, e.completions);
            break;
        }
    return end;
}
}  // namespace plot_detail

inline int plot(int argc, char** argv) {
    using namespace plot_detail;
    const PlotOptions opt = parse(argc, argv);
    std::vector<RunLog> runs;
    for (bool first = true;; first = false) {
        const auto start = std::chrono::steady_clock::now();
        runs = read_runs(opt);
        const bool again = opt.follow && std::any_of(runs.begin(), runs.end(), [](const RunLog& run) { return run.running; });
        // of a long run reading takes seconds: a twentieth of a core is enough for it
        const auto pause = [&] { return std::clamp(20 * std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 2.0, 600.0); };
        write_file_atomically(opt.page, draw_page(runs, again ? (int)pause() : 0));
        if (first) printf("%s\n", opt.page.c_str()), fflush(stdout);
        if (!again) break;
        usleep((useconds_t)(1e6 * pause()));
    }
    const Axis x = axis_of_steps(runs);
    const Chart loss = loss_chart(runs);
    if (run_charts_detail::has_values(loss))
        printf("%s", draw_in_terminal(loss, {x.low, x.high, logarithmic_helps(runs) ? LOG_STEP : LINEAR}, isatty(STDOUT_FILENO)).c_str());
    for (const RunLog& run : runs) {
        if (run.damaged) fprintf(stderr, "%s: %s\n", run.folder.c_str(), run.damage().c_str());
        printf("%s%s\n", runs.size() > 1 ? (run.name + ": ").c_str() : "", end_of(run).c_str());
    }
    return 0;
}
