// run_charts.h: which charts runs have, and in which units.
#pragma once
#include <set>
#include <string>
#include <vector>
#include "chart.h"
#include "metrics.h"

inline Axis axis_of_steps(const std::vector<RunLog>& runs) {
    double low = INFINITY, high = -INFINITY;
    const auto add = [&](double step) { low = std::fmin(low, step), high = std::fmax(high, step); };
    for (const RunLog& run : runs) {
        for (const Step& s : run.steps) add(s.step);
        for (const Validation& v : run.validations) add(v.step);
        for (const Evaluation& e : run.evaluations) add(e.step);
    }
    if (!(low <= high)) return {0, 1, LINEAR};
    if (low == high) low = std::fmax(0, low - 1), high += 1;
    return {low, high, LINEAR};
}

inline std::vector<Point> points_of(const RunLog& run, double Step::* field, double factor = 1) {
    std::vector<Point> points;
    for (const Step& s : run.steps) points.push_back({s.step, s.*field * factor});
    return points;
}

// Whether the page begins with logarithmic steps.
inline bool logarithmic_helps(const std::vector<RunLog>& runs) {
    return std::any_of(runs.begin(), runs.end(), [](const RunLog& run) { return falls_early(points_of(run, &Step::loss)); });
}

namespace run_charts_detail {
// What all runs agree on, to a hundredth; else NaN.
template <class Value> double common(const std::vector<RunLog>& runs, Value value) {
    const double first = value(runs[0]);
    for (const RunLog& run : runs) if (!(std::fabs(value(run) - first) <= 0.01 * first)) return NAN;
    return first;
}
inline Series series_of(const std::vector<RunLog>& runs, size_t i) {
    const int color = (int)i;
    return {color, runs.size() == 1 ? 1 : color, runs.size() == 1 ? "" : runs[i].name, {}, {}, {}};
}
template <class Want> std::vector<double> steps_where(const RunLog& run, Want want) {
    std::vector<double> steps;
    for (const Step& s : run.steps) if (want(s)) steps.push_back(s.step);
    return steps;
}

// One line for all runs whose values are the same but for rounding.
inline void add_level(Chart& chart, double y, const std::string& text) {
    const auto same = [&](const Level& l) { return std::fabs(l.y - y) <= 0.01 * std::fabs(y); };
    if (std::none_of(chart.levels.begin(), chart.levels.end(), same)) chart.levels.push_back({y, text});
}

// One field of the steps.
inline Chart chart_of(const std::vector<RunLog>& runs, const char* title, const char* unit, double Step::* field) {
    Chart chart{.title = title, .unit = unit};
    for (size_t i = 0; i < runs.size(); i++) {
        chart.series.push_back(series_of(runs, i));
        chart.series.back().line = points_of(runs[i], field);
    }
    chart.range = runs.size() <= 2;  // of more the ranges hide each other
    return chart;
}
inline bool has_values(const Chart& chart) {
    for (const Series& s : chart.series) {
        if (!s.dots.empty()) return true;
        for (const Point& p : s.line) if (std::isfinite(p.y)) return true;
    }
    return false;
}
}  // namespace run_charts_detail

inline Chart loss_chart(const std::vector<RunLog>& runs) {
    using namespace run_charts_detail;
    Chart chart = chart_of(runs, "Loss", "nats/token", &Step::loss);
    const auto bits_per_nat = [](const RunLog& run) { return run.bits_per_nat(); };
    const double common_bits = common(runs, bits_per_nat);
    // tokens of different tokenizers are not worth the same, bytes are
    const bool in_bits = std::isnan(common_bits) && std::all_of(runs.begin(), runs.end(), [](const RunLog& run) { return run.bits_per_nat() > 0; });
    if (in_bits) chart.unit = "bits/byte", chart.note = "The runs have different tokens, so their losses are compared in bits/byte. ";
    else if (std::isfinite(common_bits)) chart.right_unit = "bits/byte", chart.right_factor = common_bits;
    chart.tokens_per_step = common(runs, [](const RunLog& run) { return run.tokens_per_step(); });
    chart.line_name = "training", chart.dots_name = "validation", chart.mark_name = "not finite";
    if (!runs[0].steps.empty()) chart.note += std::string("Line: mean over 4 % of the axis.") + (chart.range ? " Pale: from the least to the greatest of the steps in a column of the picture." : "");
    for (size_t i = 0; i < runs.size(); i++) {
        const RunLog& run = runs[i];
        const double factor = in_bits ? run.bits_per_nat() : 1, floor = run.floor() / (in_bits ? 1 : run.bits_per_nat());
        Series& s = chart.series[i];
        if (in_bits) s.line = points_of(run, &Step::loss, factor);
        for (const Validation& v : run.validations) if (std::isfinite(v.loss)) s.dots.push_back({v.step, v.loss * factor});
        s.marks = steps_where(run, [](const Step& step) { return !std::isfinite(step.loss); });
        for (const Validation& v : run.validations) if (!std::isfinite(v.loss)) s.marks.push_back(v.step);
        if (floor > 0) add_level(chart, floor, format("floor %.3f %s", floor, chart.unit.c_str()) + (in_bits ? "" : format(" = %.3f bits/byte", run.floor())));
    }
    return chart;
}

inline std::vector<Chart> charts_of(const std::vector<RunLog>& runs) {
    using namespace run_charts_detail;
    std::vector<Chart> charts = {loss_chart(runs)};

    Chart lr = chart_of(runs, "Learning rate", "", &Step::lr);
    lr.from_zero = true, lr.smooth = false;  // it has no noise, and its peak is one step
    charts.push_back(lr);

    Chart norm = chart_of(runs, "Norm of the gradient", "", &Step::norm);
    norm.mark_name = "update skipped";
    double low = INFINITY, high = 0;
    for (size_t i = 0; i < runs.size(); i++) {
        norm.series[i].marks = steps_where(runs[i], [](const Step& s) { return s.skipped; });
        for (const Step& s : runs[i].steps) if (s.norm > 0) low = std::fmin(low, s.norm), high = std::fmax(high, s.norm);
    }
    norm.by_decades = high > 30 * low;  // a linear axis would show the first steps, or a spike, alone
    if (norm.by_decades) norm.unit = "logarithmic";
    charts.push_back(norm);

    Chart rate = chart_of(runs, "Throughput", "tokens/s", &Step::tokens_per_s);
    rate.from_zero = true;
    // the share of the machine's peak is in proportion to it, for the same model on the same machine
    rate.right_factor = 100 * common(runs, [](const RunLog& run) {
        for (const Step& s : run.steps) if (s.mfu > 0.01 && s.tokens_per_s > 0) return s.mfu / s.tokens_per_s;
        return (double)NAN;
    });
    if (std::isfinite(rate.right_factor)) rate.right_unit = "% of peak";
    charts.push_back(rate);

    std::set<std::string> names;
    for (const RunLog& run : runs) for (const Evaluation& e : run.evaluations) names.insert(e.name);
    for (const std::string& name : names) {
        if (charts.size() == 16) break;  // more than anyone compares, and the page stays small; the table has them all
        Chart chart{.title = name, .unit = ""};
        size_t most = 0;
        for (size_t i = 0; i < runs.size(); i++) {
            chart.series.push_back(series_of(runs, i));
            Series& s = chart.series.back();
            for (const Evaluation& e : runs[i].evaluations) {
                if (e.name != name) continue;
                const bool text = std::isfinite(e.bits_per_byte);
                chart.unit = text ? "bits/byte" : "acc_norm, %", chart.dots_name = text ? "bits/byte" : "acc_norm";
                s.dots.push_back({e.step, text ? e.bits_per_byte : 100 * e.acc_norm});
                if (e.chance > 0) add_level(chart, 100 * e.chance, format("chance %.1f %%", 100 * e.chance));
            }
            most = std::max(most, s.dots.size());
        }
        if (most > 1 || runs.size() > 1) charts.push_back(chart);  // one value is in the table
    }
    std::erase_if(charts, [&](const Chart& c) { return !has_values(c); });
    return charts;
}
