// metrics.h: what a run's metrics.jsonl says (doc/formats.md), also while the run writes it.
#pragma once
#include <climits>
#include <cmath>
#include <string>
#include <vector>
#include "../../llmc/base/check.h"
#include "../../llmc/io/files.h"
#include "../../llmc/io/json.h"

struct Step { double step, loss, lr, norm, ms, tokens_per_s, mfu; bool skipped; };  // NaN: null, or not there
struct Validation { double step, loss, bits_per_byte, floor; };
struct Evaluation {
    double step;
    std::string name;
    double right, total, chance, acc, acc_norm, completions;  // of questions
    double bits_per_byte;                                     // of documents
};
struct Sample { double step; std::string text; };
struct Option { std::string name, value; bool given; };
struct Start {  // the line with which a run begins or goes on
    std::vector<Option> options;
    bool knows_given;
    std::string version, machine;
    double peak, parameters, first_step, steps, tokens_per_step;  // steps: NaN where nothing ends it at a known one

    std::string option(const std::string& name) const {
        for (const Option& o : options) if (o.name == name) return o.value;
        return "";
    }
};

struct RunLog {
    std::string folder, name;  // name: for titles and legends
    std::vector<Start> starts;
    std::vector<Step> steps;
    std::vector<Validation> validations;
    std::vector<Evaluation> evaluations;
    std::vector<Sample> samples;
    size_t damaged = 0;        // lines that are no JSON
    std::string first_damage;
    bool running = false;

    bool empty() const { return steps.empty() && validations.empty() && evaluations.empty() && samples.empty(); }
    double last_step() const {
        double last = 0;
        for (const Step& s : steps) last = std::fmax(last, s.step);
        for (const Validation& v : validations) last = std::fmax(last, v.step);
        return last;
    }
    // Bits per byte are nats per token times this, which depends on the tokenizer and the text alone. NaN: not known.
    double bits_per_nat() const {
        for (const Validation& v : validations) if (v.bits_per_byte > 0 && v.loss > 0) return v.bits_per_byte / v.loss;
        return NAN;
    }
    double floor() const {  // bits per byte
        for (const Validation& v : validations) if (v.floor > 0) return v.floor;
        return NAN;
    }
    std::string damage() const {
        return damaged ? format("%zu line%s of metrics.jsonl cannot be read and %s left out: ", damaged, damaged == 1 ? "" : "s", damaged == 1 ? "is" : "are") + first_damage : "";
    }
    double tokens_per_step() const { return starts.empty() ? NAN : starts.back().tokens_per_step; }
};

namespace metrics_detail {
inline double number(const Json& json, const char* name) {
    const Json* value = json.find(name);
    const double x = value && value->type == Json::NUMBER ? strtod(value->text.c_str(), nullptr) : NAN;
    return std::fabs(x) < 1e40 ? x : NAN;  // no float is larger, and sums of what is drawn do not overflow
}
inline std::string text(const Json& json, const char* name) {
    const Json* value = json.find(name);
    return value && value->type == Json::STRING ? std::string(value->text) : "";
}
template <class T> void forget(std::vector<T>& all, double from) {
    std::erase_if(all, [&](const T& x) { return x.step >= from; });
}

inline void add_start(RunLog& run, const Json& json, const Json& options) {
    Start s{{}, false, text(json, "version"), text(json, "machine"), number(json, "peak_flops_per_s"), number(json, "parameters"),
            number(json, "first_step"), number(json, "steps"), number(json, "tokens_per_step")};
    if (!(s.steps > 0 && s.steps < INT_MAX)) s.steps = NAN;
    const Json *given = json.find("given"), *chosen = json.find("chosen");
    s.knows_given = given && given->type == Json::ARRAY;
    for (const Json& o : options.items) {
        bool named = false;
        for (const Json* list : {given, chosen})
            if (s.knows_given && list && list->type == Json::ARRAY) for (const Json& g : list->items) named |= g.type == Json::STRING && g.text == o.key;
        s.options.push_back({o.key, o.type == Json::STRING ? o.text : json_dump(o), named});
    }
    // what is trained again replaces what was; the trainer has cut its log already, but a copy of it may not be cut
    if (!run.starts.empty() && s.option("steps") != "0" && s.first_step >= 0) {
        forget(run.steps, s.first_step + 1);
        forget(run.validations, s.first_step), forget(run.evaluations, s.first_step), forget(run.samples, s.first_step);
    }
    run.starts.push_back(std::move(s));
}

inline void add(RunLog& run, const Json& json) {
    if (const Json* options = json.find("run"); options && options->type == Json::OBJECT) return add_start(run, json, *options);
    const double step = number(json, "step");
    if (!(step >= 0)) return;  // a kind of line that this program does not know
    const auto x = [&](const char* name) { return number(json, name); };
    if (json.find("loss")) run.steps.push_back({step, x("loss"), x("lr"), x("grad_norm"), x("ms"), x("tokens_per_s"), x("mfu"), json.find("skipped") != nullptr});
    if (json.find("val_loss")) run.validations.push_back({step, x("val_loss"), x("val_bits_per_byte"), x("floor_bits_per_byte")});
    if (json.find("eval")) run.evaluations.push_back({step, text(json, "eval"), x("right"), x("total"), x("chance"), x("acc"), x("acc_norm"), x("completions"), x("bits_per_byte")});
    if (json.find("sample")) run.samples.push_back({step, text(json, "sample")});
}
}  // namespace metrics_detail

// Reads FOLDER/metrics.jsonl, a line at a time: a million steps are 160 MB. The last line may be half written. A line before it that is
// no JSON, as a crash of the machine leaves, is left out and counted.
inline RunLog read_metrics(const std::string& folder) {
    RunLog run;
    run.folder = folder;
    const std::string path = folder + "/metrics.jsonl";
    std::string rest;
    int line = 0;
    Json json;
    const auto parse = [&](std::string_view text, bool complete) {
        line++;
        if (text.empty()) return;
        const std::string error = json_try_parse(json, text, line);
        if (error.empty()) return metrics_detail::add(run, json);
        if (complete && run.damaged++ == 0) run.first_damage = error;
    };
    const std::string error = for_each_block(path, [&](const char* p, size_t n) {
        rest.append(p, n);
        size_t at = 0;
        for (size_t end; (end = rest.find('\n', at)) != rest.npos; at = end + 1) parse(std::string_view(rest).substr(at, end - at), true);
        rest.erase(0, at);
    });
    if (!error.empty()) die_with(EXIT_USAGE, "%s", error.c_str());
    parse(rest, false);
    return run;
}
