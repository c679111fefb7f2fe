// page.h: the page of one run, or of several over one another: a file that needs no other, and no network.
#pragma once
#include <ctime>
#include <map>
#include <string>
#include <vector>
#include "chart.h"
#include "metrics.h"
#include "run_charts.h"
#include "style.h"
#include "text.h"

constexpr size_t MOST_SAMPLES = 20, MOST_SAMPLE_BYTES = 8000, MOST_OPTION_BYTES = 1000;  // a page stays below 1.5 MB

namespace page_detail {
inline std::string row(const std::string& head, const std::vector<std::string>& cells) {
    std::string out = "<tr><th>" + html(head) + "</th>";
    for (const std::string& cell : cells) out += "<td>" + html(shortened(cell, MOST_OPTION_BYTES)) + "</td>";
    return out + "</tr>\n";
}
inline std::string tile(const std::string& name, const std::string& value, const std::string& beside = "") {
    return "<div>" + tag("dt", html(name)) + "<dd>" + html(value) + (beside.empty() ? "" : " " + tag("small", html(beside))) + "</dd></div>\n";
}
inline std::string dashes(std::string option) {
    for (char& c : option) if (c == '_') c = '-';
    return "--" + option;
}

// ---- what a run came to --------------------------------------------------------------------------------------------------------

inline double seconds_of(const RunLog& run) {
    double ms = 0;
    for (const Step& s : run.steps) if (s.ms > 0) ms += s.ms;
    return ms / 1000;
}
// Of the last hundred steps: the first ones may be slow.
template <class Field> double recent(const RunLog& run, Field field) {
    std::vector<double> values;
    for (size_t i = run.steps.size() - std::min<size_t>(run.steps.size(), 100); i < run.steps.size(); i++)
        if (const double v = run.steps[i].*field; std::isfinite(v)) values.push_back(v);
    if (values.empty()) return NAN;
    std::nth_element(values.begin(), values.begin() + (long)(values.size() / 2), values.end());
    return values[values.size() / 2];
}
inline std::string step_of(const RunLog& run) {
    const double last = run.last_step(), steps = run.starts.empty() ? NAN : run.starts.back().steps;
    return format("%.0f", last) + (steps > last ? format(" of %.0f", steps) : "");
}
inline std::string state_of(const RunLog& run) {
    const double left = (run.starts.empty() ? NAN : run.starts.back().steps) - run.last_step();
    if (!run.running) return left <= 0 ? "finished" : "not running";
    const double ms = recent(run, &Step::ms);
    return left > 0 && ms > 0 ? "running, " + clock_text(left * ms / 1000) + " left" : "running";
}
inline std::string loss_of(const RunLog& run) {
    return run.validations.empty() ? "" : std::isfinite(run.validations.back().loss) ? format("%.4f nats/token", run.validations.back().loss) : "not finite";
}
inline std::string bits_of(const RunLog& run) {
    return run.validations.empty() || !(run.validations.back().bits_per_byte > 0) ? "" : format("%.3f bits/byte", run.validations.back().bits_per_byte);
}
// Where the last validation is not the lowest.
inline std::string lowest_of(const RunLog& run) {
    const Validation* lowest = nullptr;
    for (const Validation& v : run.validations) if (std::isfinite(v.loss) && (!lowest || v.loss <= lowest->loss)) lowest = &v;
    return !lowest || lowest == &run.validations.back() ? "" : format("lowest %.4f at step %.0f", lowest->loss, lowest->step);
}
inline std::string rate_of(const RunLog& run) {
    const double rate = recent(run, &Step::tokens_per_s);
    return rate > 0 ? human(rate) + " tokens/s" : "";
}
inline std::string share_of(const RunLog& run) {
    const double mfu = recent(run, &Step::mfu);
    return mfu > 0 ? format("%.0f%% of peak", 100 * mfu) : "";
}
inline std::string parameters_of(const RunLog& run) {
    return run.starts.empty() || !(run.starts.back().parameters > 0) ? "" : human(run.starts.back().parameters);
}

inline std::map<std::string, const Evaluation*> last_evaluations(const RunLog& run) {
    std::map<std::string, const Evaluation*> last;
    for (const Evaluation& e : run.evaluations) last[e.name] = &e;
    return last;
}
inline std::string share(double part) { return std::isfinite(part) ? format("%.1f%%", 100 * part) : ""; }

inline std::string tiles(const RunLog& run) {
    std::string out = "<dl class=\"tiles\">\n" + tile("step", step_of(run), state_of(run));
    if (!run.validations.empty()) {
        std::string beside = "nats/token";
        for (const std::string& more : {bits_of(run), lowest_of(run)}) if (!more.empty()) beside += ", " + more;
        out += tile("last validation loss", number_text(run.validations.back().loss), beside);
    }
    if (const double floor = run.floor(), bits = run.validations.empty() ? NAN : run.validations.back().bits_per_byte; floor > 0 && bits > 0)
        out += tile("against the floor", format("%.2fx", bits / floor), format("no model needs fewer than %.3f bits/byte", floor));
    if (!rate_of(run).empty()) out += tile("throughput", rate_of(run), share_of(run));
    if (!run.steps.empty()) out += tile("time in steps", clock_text(seconds_of(run)));
    if (!parameters_of(run).empty()) out += tile("parameters", parameters_of(run));
    return out + "</dl>\n";
}

// ---- tables ---------------------------------------------------------------------------------------------------------------------

inline std::string head_row(const std::vector<RunLog>& runs) {
    std::string out = "<thead><tr><th></th>";
    for (size_t i = 0; i < runs.size(); i++) out += format("<th><i class=\"swatch s%zu\"></i>", i) + html(runs[i].name) + "</th>";
    return out + "</tr></thead>\n";
}

// Several runs: what each came to, and the options in which they differ.
inline std::string comparison(const std::vector<RunLog>& runs) {
    std::string out = "<section><h2>Results, and the options that differ</h2><div class=\"scroll\"><table>" + head_row(runs) + "<tbody>\n";
    const auto add = [&](const char* head, std::string (*text)(const RunLog&)) {
        std::vector<std::string> cells;
        bool any = false;
        for (const RunLog& run : runs) cells.push_back(text(run)), any |= !cells.back().empty();
        if (any) out += row(head, cells);
    };
    add("last validation", loss_of), add("", bits_of), add("", lowest_of), add("step", step_of), add("state", state_of), add("throughput", rate_of), add("", share_of), add("parameters", parameters_of);
    add("time in steps", [](const RunLog& run) { return run.steps.empty() ? "" : clock_text(seconds_of(run)); });
    std::map<std::string, std::vector<std::string>> evaluations;
    for (size_t i = 0; i < runs.size(); i++)
        for (const auto& [name, e] : last_evaluations(runs[i])) {
            evaluations[name].resize(runs.size());
            evaluations[name][i] = std::isfinite(e->bits_per_byte) ? format("%.4f bits/byte", e->bits_per_byte) : share(e->acc_norm) + " acc_norm, chance " + share(e->chance);
        }
    for (const auto& [name, cells] : evaluations) out += row(name, cells);
    std::vector<std::string> names;
    for (const RunLog& run : runs)
        if (!run.starts.empty())
            for (const Option& o : run.starts.back().options) if (std::find(names.begin(), names.end(), o.name) == names.end()) names.push_back(o.name);
    for (const std::string& name : names) {
        std::vector<std::string> cells;
        for (const RunLog& run : runs) cells.push_back(run.starts.empty() ? "" : run.starts.back().option(name));
        const bool differ = std::any_of(cells.begin(), cells.end(), [&](const std::string& c) { return c != cells[0]; });
        if (differ && name != "out") out += row(dashes(name), cells);  // where they lie is their name
    }
    return out + "</tbody></table></div></section>\n";
}

inline std::string options_table(const Start& start, bool given_ones) {
    std::string out = "<div class=\"scroll\"><table><tbody>\n";
    for (const Option& o : start.options) if (o.given == given_ones) out += row(dashes(o.name), {o.value});
    return out + "</tbody></table></div>\n";
}

inline std::string options(const RunLog& run) {
    if (run.starts.empty()) return "";
    const Start& start = run.starts.back();
    std::string out = "<section><h2>Options</h2>\n";
    const size_t given = (size_t)std::count_if(start.options.begin(), start.options.end(), [](const Option& o) { return o.given; });
    if (given) out += options_table(start, true);
    if (start.knows_given) out += format("<details><summary>%zu that were not given</summary>\n", start.options.size() - given);
    out += options_table(start, false);
    if (start.knows_given) out += "</details>\n";
    for (size_t i = 1; i < run.starts.size(); i++) {
        std::string changed;
        for (const Option& o : run.starts[i].options)
            if (const std::string before = run.starts[i - 1].option(o.name); before != o.value && o.name != "resume")
                changed += (changed.empty() ? ": " : "; ") + dashes(o.name) + " " + shortened(before, 100) + " \u2192 " + shortened(o.value, 100);
        out += tag("p class=\"note\"", html(format("Went on after step %.0f", run.starts[i].first_step) + changed));
    }
    return out + "</section>\n";
}

inline std::string evaluations(const RunLog& run) {
    const std::map<std::string, const Evaluation*> last = last_evaluations(run);
    if (last.empty()) return "";
    std::string out = "<section><h2>Evaluations</h2><div class=\"scroll\"><table><thead><tr><th></th><th>step</th><th>questions</th><th>acc</th><th>acc_norm</th>"
                      "<th>chance</th><th>completions</th><th>bits/byte</th></tr></thead><tbody>\n";
    for (const auto& [name, e] : last)
        out += row(name, {format("%.0f", e->step), e->total > 0 ? format("%.0f", e->total) : "", share(e->acc), share(e->acc_norm), share(e->chance),
                          share(e->completions), std::isfinite(e->bits_per_byte) ? format("%.4f", e->bits_per_byte) : ""});
    return out + "</tbody></table></div></section>\n";
}

// ---- samples --------------------------------------------------------------------------------------------------------------------

inline std::string sample(const RunLog& run, const Sample& s, bool named) {
    const std::string prompt = run.starts.empty() ? "" : run.starts.back().option("prompt"), text = shortened(s.text, MOST_SAMPLE_BYTES);
    const bool begins = !prompt.empty() && text.starts_with(prompt);
    return tag("p class=\"step\"", (named ? html(run.name) + ", " : "") + format("step %.0f", s.step)) + "<pre dir=\"auto\">" +
           (begins ? tag("b", html(prompt)) + html(text.substr(prompt.size())) : html(text)) + "</pre>\n";
}

inline std::string samples(const std::vector<RunLog>& runs) {
    std::string out;
    for (const RunLog& run : runs) if (!run.samples.empty()) out += sample(run, run.samples.back(), runs.size() > 1);
    if (out.empty()) return "";
    if (const std::vector<Sample>& all = runs[0].samples; runs.size() == 1 && all.size() > 1) {
        const size_t oldest = all.size() - std::min(all.size(), MOST_SAMPLES);
        out += format("<details><summary>%zu earlier ones%s</summary>\n", all.size() - 1, oldest ? format(", of which the last %zu are here", MOST_SAMPLES - 1).c_str() : "");
        for (size_t i = all.size() - 1; i-- > oldest;) out += sample(runs[0], all[i], false);
        out += "</details>\n";
    }
    return "<section><h2>Samples</h2>\n" + out + "</section>\n";
}

inline std::string about(const std::vector<RunLog>& runs) {
    std::string out;
    if (runs.size() == 1 && !runs[0].starts.empty()) {
        const Start& s = runs[0].starts.back();
        out = s.option("model") + ", " + s.option("precision") + ", " + s.machine + (s.peak > 0 ? ", peak " + human(s.peak) + "FLOP/s" : "") +
              (s.tokens_per_step > 0 ? format(", %.0f tokens a step", s.tokens_per_step) : "") + ", version " + s.version + ". ";
    }
    char now[64];
    const time_t seconds = time(nullptr);
    strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S", localtime(&seconds));
    return out + "Drawn " + now;
}
}  // namespace page_detail

// reload: seconds after which the page shown by a browser reads itself again; 0: never.
inline std::string draw_page(const std::vector<RunLog>& runs, int reload) {
    using namespace page_detail;
    const std::string title = runs.size() == 1 ? runs[0].name : format("%zu runs", runs.size());
    const Axis steps = axis_of_steps(runs);
    const bool logarithmic = logarithmic_helps(runs);
    const int columns = std::max(200, 800 / (int)runs.size());
    std::string out = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>"
                      "<link rel=\"icon\" href=\"data:,\"/><title>" + html(title) + "</title><style>" + STYLE + "</style></head>\n<body>\n";
    for (bool scale : {false, true})
        out += format("<input class=\"axis\" type=\"radio\" name=\"axis\" id=\"x-%s\"%s/>", scale ? "logarithmic" : "linear", scale == logarithmic ? " checked=\"checked\"" : "");
    out += "\n<header>" + tag("h1", html(title)) + tag("p class=\"about\"", html(about(runs)));
    for (const RunLog& run : runs) {
        const std::string name = runs.size() > 1 ? run.name + ": " : "";
        if (run.empty()) out += tag("p class=\"about bad\"", html(name + "nothing has been logged yet"));
        if (run.damaged) out += tag("p class=\"about bad\"", html(name + run.damage()));
    }
    out += "</header>\n";
    if (runs.size() == 1) out += tiles(runs[0]);
    out += "<p class=\"choice\">steps: <label for=\"x-linear\">linear</label> <label for=\"x-logarithmic\">logarithmic</label></p>\n<main>\n<div class=\"charts\">\n";
    const std::vector<Chart> charts = charts_of(runs);
    for (size_t i = 0; i < charts.size(); i++) out += draw_figure(charts[i], steps, columns, i == 0);
    out += "</div>\n";
    if (runs.size() > 1) out += comparison(runs);
    out += samples(runs);
    if (runs.size() == 1) out += evaluations(runs[0]) + options(runs[0]);
    out += "</main>\n<script>" + std::string(SCRIPT) + (reload ? format("setTimeout(() => location.reload(), %d);\n", reload * 1000) : "") + "</script>\n</body></html>\n";
    return out;
}
