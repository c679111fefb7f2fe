// runs.h: the small run that is killed, starved and cut off from power, and what must be left of it in the end: the bits of the undisturbed run.
#pragma once
#include <stdlib.h>
#include <sys/prctl.h>
#include <string>
#include <vector>
#include "../../llmc/io/checkpoint.h"
#include "../../llmc/io/json.h"
#include "../trainer_runs.h"

constexpr int LAST_STEP = 6;  // it saves at steps 2, 4 and 6, keeps two, and validates: all that a run writes, in 50 ms

inline std::string absolute_path(const std::string& path) {
    char here[4096];
    return path[0] == '/' ? path : std::string(getcwd(here, sizeof here) ? here : ".") + "/" + path;
}
// Where runs write: memory where there is some, as they sync a hundred times a second; else the disk. Removed in the end.
struct Scratch {
    const std::string path;
    explicit Scratch(const std::string& name) : path(access("/dev/shm", W_OK | X_OK) ? absolute_path(BUILD) + "/tmp/faults-" + name : format("/dev/shm/faults-%s-%d", name.c_str(), (int)getpid())) { prepare_text(path, 300); }
    Scratch(const Scratch&) = delete;
    std::string said() const { return path + ".said"; }  // by a run that is traced: beside the folder, as what it says is no file that counts
    ~Scratch() { remove_tree(path), remove_tree(said()); }
};
// Processes whose parent dies become children of this one, and are buried by a test that waits for them; of other tests in this process they are not.
struct Subreaper {
    Subreaper() { prctl(PR_SET_CHILD_SUBREAPER, 1); }
    ~Subreaper() { prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

// FOLDER/text.txt is trained on, in FOLDER/OUT. Bits do not depend on the ranks: --leaves 2.
inline std::string small_run(const std::string& folder, const std::string& out, int ranks, const std::string& rest = "") {
    return format("%s -i %s/text.txt -o %s/%s -e d1c8h1 -b 1 -t 16 -d 32 --leaves 2 --tokenizer bytes -s 0 -v 2 -m 1 -n 2 -nk 2 --confirm 1 -x %d --schedule constant -l 1e-2 --threads 1 --ranks %d %s",
                  absolute_path(TRAINER).c_str(), folder.c_str(), folder.c_str(), out.c_str(), LAST_STEP, ranks, rest.c_str());
}

inline std::string text_of(const std::string& path) {
    std::string text;
    (void)try_read_file(path, text);
    return text;
}
inline bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

// Metrics without what is measured by the clock, and without the line that each start adds.
inline std::string without_times(const std::string& metrics) {
    std::string kept;
    for (const std::string& line : lines_of(metrics)) {
        if (line.starts_with("{\"run\"")) continue;
        kept += line.substr(0, line.find(", \"ms\": ")) + "\n";
    }
    return kept;
}
// trainer.json without the time so far, where the logs are in bytes (times have more or fewer digits), and the options that may differ.
inline std::string without_place(const std::string& trainer) {
    std::string kept;
    bool options = false;
    for (const std::string& line : lines_of(trainer)) {
        const auto is = [&](const char* name) { return has(line, std::string("\"") + name + "\": "); };
        if (is("options")) options = true;
        if (line.starts_with("  }")) options = false;
        if (!options && !is("seconds") && !is("metrics") && !is("main_log")) kept += line + "\n";
    }
    return kept;
}

// "", or what in the folder of a run that has ended is not as the undisturbed run left it.
inline std::string compare_with_undisturbed(const std::string& out, const std::string& undisturbed, int last_step = LAST_STEP) {
    const auto names_of = [&](const std::string& folder) {
        std::string text;
        for (const std::string& name : list_folder(folder)) text += name + " ";
        return text;
    };
    for (const std::string& folder : {std::string(""), std::string("/tokens"), checkpoint_path("", last_step)})
        if (const std::string a = names_of(out + folder), b = names_of(undisturbed + folder); a != b) return format("%s%s holds %s, expected %s", out.c_str(), folder.c_str(), a.c_str(), b.c_str());
    for (const Checkpoint& c : list_checkpoints(out)) {
        if (const std::string error = verify_checkpoint(c.path); !error.empty()) return c.path + ": " + error;
        // a resume cuts the logs there, and mends what is no end of a line, so that their bytes do not show it
        const Json trainer = json_parse(text_of(c.path + "/trainer.json"), "trainer.json");
        for (const auto& [log, field] : {std::pair{"/main.log", "main_log"}, std::pair{"/metrics.jsonl", "metrics"}}) {
            const std::string text = text_of(out + log);
            const auto n = (size_t)trainer.at(field, "trainer.json").as_int("trainer.json", 0);
            if (n > text.size() || (n > 0 && text[n - 1] != '\n')) return format("%s counts on %zu bytes of %s: of %zu, and no line ends there", c.path.c_str(), n, log, text.size());
        }
    }
    std::vector<std::string> files = {"/main.log"};
    for (const std::string& folder : {std::string("/tokens"), checkpoint_path("", last_step)})
        for (const std::string& name : list_folder(undisturbed + folder)) if (name != "trainer.json" && name != "MANIFEST") files.push_back(folder + "/" + name);
    for (const std::string& file : files)
        if (text_of(out + file) != text_of(undisturbed + file)) return out + file + " differs from the undisturbed run's";
    if (without_times(text_of(out + "/metrics.jsonl")) != without_times(text_of(undisturbed + "/metrics.jsonl"))) return out + "/metrics.jsonl differs from the undisturbed run's";
    const std::string trainer = checkpoint_path("", last_step) + "/trainer.json";
    if (without_place(text_of(out + trainer)) != without_place(text_of(undisturbed + trainer))) return out + trainer + " differs from the undisturbed run's";
    return "";
}

// Goes on without faults, to the end. "", or what is wrong then.
inline std::string resume_and_compare(const std::string& folder, const std::string& out, const std::string& undisturbed, int ranks) {
    const Outcome again = run_command(small_run(folder, out, ranks, "-y 1"));
    if (again.code) return format("the resumed run ended with %d: %s", again.code, again.output.c_str());
    std::string error = compare_with_undisturbed(folder + "/" + out, undisturbed);
    return error.empty() ? "" : error + "; the resumed run said\n" + again.output;
}

// As many as the environment says, else `usual`.
inline int how_many(const char* name, int usual) {
    const char* text = getenv(name);
    CHECK(!text || (*text && std::string(text).find_first_not_of("0123456789") == std::string::npos), "%s=%s: must be a number", name, text);
    return text ? atoi(text) : usual;
}
