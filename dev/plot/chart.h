// chart.h: one chart as SVG. The drawing is a square of 1000 x 1000 that is stretched to the size it has in the page, and lines keep
// their width; text is placed by percentages and keeps its size, so that a chart can be read on a telephone too, without a script.
#pragma once
#include <string>
#include <vector>
#include "columns.h"
#include "text.h"

struct Series {
    int color, dots_color;    // of the palette in style.h
    std::string name;         // of the run; empty if there is one
    std::vector<Point> line;  // a value a step, drawn smoothed, its range behind it
    std::vector<Point> dots;  // few values, drawn as they are
    std::vector<double> marks;  // steps that are marked at the bottom
};
struct Level { double y; std::string text; };  // a horizontal line

struct Chart {
    std::string title, unit;
    std::vector<Series> series = {};
    std::vector<Level> levels = {};
    std::string line_name = {}, dots_name = {}, mark_name = {};
    std::string right_unit = {};   // of a second axis, whose values are those of the first times right_factor
    double right_factor = NAN;
    double tokens_per_step = NAN;  // known: tokens along the top
    bool from_zero = false, by_decades = false, range = true, smooth = true;
    std::string note = {};
};

namespace chart_detail {
// Coordinates have a tenth: 1000 of them are at most 1200 pixels.
inline std::string coordinate(double part) { return format("%.4g", std::round(std::clamp(part, -1.0, 2.0) * 10000) / 10); }
inline std::string percent(double part) { return format("%.4g%%", std::round(part * 10000) / 100); }
inline double down(const Axis& y, double v) { return 1 - y.part(v); }  // SVG counts from the top

inline std::string draw_grid(const Chart& chart, const Axis& x, const Axis& y) {
    std::string svg;
    const auto line = [&](double x1, double x2, double y1, double y2) {
        svg += "<line class=\"grid\" x1=\"" + percent(x1) + "\" x2=\"" + percent(x2) + "\" y1=\"" + percent(y1) + "\" y2=\"" + percent(y2) + "\"/>";
    };
    const auto label = [&](double px, double py, const char* place, const std::string& text) {
        svg += "<text x=\"" + percent(px) + "\" y=\"" + percent(py) + "\" " + place + ">" + text + "</text>";
    };
    for (const Tick& t : ticks_of_values(y)) {
        line(0, 1, down(y, t.value), down(y, t.value));
        label(0, down(y, t.value), "dx=\"-8\" dy=\"4\" class=\"end\"", t.text);
    }
    for (const Tick& t : ticks_of_steps(x)) {
        line(x.part(t.value), x.part(t.value), 0, 1);
        label(x.part(t.value), 1, t.major ? "dy=\"18\" class=\"mid\"" : "dy=\"18\" class=\"mid minor\"", t.text);
    }
    if (std::isfinite(chart.right_factor))
        for (const Tick& t : ticks_of_values({y.low * chart.right_factor, y.high * chart.right_factor, y.scale}))
            label(1, down(y, t.value / chart.right_factor), "dx=\"8\" dy=\"4\"", t.text);
    if (std::isfinite(chart.tokens_per_step)) {
        // round numbers of tokens, wherever they fall between the steps
        const Axis tokens{x.low * chart.tokens_per_step, x.high * chart.tokens_per_step, LINEAR};
        const std::vector<Tick> ticks = x.scale == LINEAR ? linear_ticks(tokens, 8, true) : log_ticks({std::max(tokens.low, chart.tokens_per_step), tokens.high, LOG}, 0.08);
        for (const Tick& t : ticks) label(x.part(t.value / chart.tokens_per_step), 0, t.major ? "dy=\"-8\" class=\"mid\"" : "dy=\"-8\" class=\"mid minor\"", t.text);
    }
    label(1, 1, "dy=\"36\" class=\"end unit\"", x.scale == LINEAR ? "step" : "step, logarithmic");
    return svg;
}

inline std::string draw_line(const Chart& chart, const Series& s, const std::vector<Column>& columns, const Axis& x, const Axis& y) {
    std::string there, back, line, steps, values;
    for (size_t i = 0; i < columns.size(); i++) {
        const Column &c = columns[i], &b = columns[columns.size() - 1 - i];
        const std::string px = coordinate(x.part(c.x));
        there += px + "," + coordinate(down(y, c.high)) + " ";
        back += coordinate(x.part(b.x)) + "," + coordinate(down(y, b.low)) + " ";
        const double value = chart.smooth ? c.smooth : c.n ? c.mean : NAN;
        if (!std::isfinite(value)) continue;
        const char* blank = line.empty() ? "" : " ";
        line += blank + px + "," + coordinate(down(y, value));
        steps += blank + format("%.0f", c.x), values += blank + number_text(value);
    }
    if (line.empty()) return "";
    there += back, there.pop_back();
    const std::string color = format("s%d", s.color);
    std::string svg;
    if (chart.range) svg += "<polygon class=\"range " + color + "\" points=\"" + there + "\"/>";
    if (line.find(' ') == line.npos) line += " " + line;  // a dot
    return svg + "<polyline class=\"line " + color + "\" points=\"" + line + "\" data-name=\"" + html(s.name) + "\" data-s=\"" + steps + "\" data-v=\"" + values + "\"/>";
}

// A dot is a line of no length with round ends, which stays round when the drawing is stretched. `count`: at most so many, so that they can
// be told apart; of those in the same place the last.
inline std::string draw_dots(const Chart& chart, const Series& s, const Axis& x, const Axis& y, int count) {
    std::string svg;
    std::vector<const Point*> last((size_t)count + 1);
    for (const Point& p : s.dots) if (x.shows(p.x) && y.shows(p.y)) last[(size_t)(x.part(p.x) * count)] = &p;
    const bool many = last.size() - (size_t)std::count(last.begin(), last.end(), nullptr) > 60;
    for (const Point* p : last) {
        if (!p) continue;
        std::string text = (s.name.empty() ? "" : s.name + ", ") + chart.dots_name + format(" at step %.0f: ", p->x) + number_text(p->y) + " " + chart.unit;
        if (std::isfinite(chart.right_factor)) text += ", " + number_text(p->y * chart.right_factor) + " " + chart.right_unit;
        svg += format("<path class=\"dot%s s%d\" d=\"M", many ? " small" : "", s.dots_color) + coordinate(x.part(p->x)) + " " + coordinate(down(y, p->y)) + "h0\">" + tag("title", html(text)) + "</path>";
    }
    return svg;
}

inline std::string draw_marks(const Series& s, const Axis& x, int count) {
    std::string d;
    std::vector<bool> seen((size_t)count + 1);
    for (double step : s.marks) {
        if (!x.shows(step) || seen[(size_t)(x.part(step) * count)]) continue;
        seen[(size_t)(x.part(step) * count)] = true;
        d += "M" + coordinate(x.part(step)) + " 1000v-60";
    }
    return d.empty() ? "" : format("<path class=\"mark s%d\" d=\"", s.color) + d + "\"/>";
}
}  // namespace chart_detail

// `columns`: of the picture; fewer make a smaller page. Returns the SVG, and says in `cut` what it could not show.
inline std::string draw_chart(const Chart& chart, const Axis& x, int columns, const char* css_class, std::string& cut) {
    using namespace chart_detail;
    std::vector<double> values;
    for (const Series& s : chart.series) {
        for (const Column& c : columns_of(s.line, x, columns)) values.push_back(c.low), values.push_back(c.high);
        for (const Point& p : s.dots) values.push_back(p.y);
    }
    Axis y = axis_of(values, chart.by_decades ? LOG : LINEAR);
    for (const Level& l : chart.levels) y.low = std::fmin(y.low, l.y), y.high = std::fmax(y.high, l.y);
    if (chart.from_zero) y.low = 0;
    const double air = 0.04 * (y.high - y.low);
    if (y.scale == LOG) y.low /= 1.1, y.high *= 1.1;
    else y.high += air, y.low -= chart.from_zero ? 0 : air;

    std::string lines, dots, marks, levels;
    size_t outside = 0;
    Point farthest{0, NAN};
    for (const Series& s : chart.series) {
        lines += draw_line(chart, s, columns_of(s.line, x, columns, y), x, y);
        dots += draw_dots(chart, s, x, y, columns / 4);
        marks += draw_marks(s, x, columns);
        for (const auto* points : {&s.line, &s.dots})
            for (const Point& p : *points)
                if (x.shows(p.x) && std::isfinite(p.y) && !y.shows(p.y))
                    if (outside++ == 0 || std::fabs(p.y - y.high) > std::fabs(farthest.y - y.high)) farthest = p;
    }
    if (outside) cut = format("%zu value%s outside the frame and %s in no mean, the farthest %.4g at step %.0f.", outside, outside == 1 ? " lies" : "s lie",
                              outside == 1 ? "is" : "are", farthest.y, farthest.x);
    for (const Level& l : chart.levels) {
        levels += "<line class=\"level\" x1=\"0\" x2=\"100%\" y1=\"" + percent(down(y, l.y)) + "\" y2=\"" + percent(down(y, l.y)) + "\"/>";
        levels += "<text class=\"level\" x=\"0\" dx=\"6\" y=\"" + percent(down(y, l.y)) + "\" dy=\"-5\">" + html(l.text) + "</text>";
    }
    const std::string stretched = " viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" width=\"100%\" height=\"100%\"";
    return format("<svg class=\"%s\" width=\"100%%\" height=\"100%%\" role=\"img\" aria-label=\"", css_class) + html(chart.title) + "\">" + draw_grid(chart, x, y) +
           "<svg" + stretched + ">" + lines + marks + "</svg>" + levels + "<svg class=\"dots\"" + stretched + ">" + dots + "</svg>" +
           "<line class=\"cursor\" y1=\"0\" y2=\"100%\"/></svg>";
}

// The figure: title, units, legend, and the drawing twice, with linear and with logarithmic steps, of which the page shows one.
inline std::string draw_figure(const Chart& chart, const Axis& steps, int columns, bool wide) {
    std::string out = wide ? "<figure class=\"wide\">" : "<figure>";
    out += "<figcaption>" + tag("h2", html(chart.title)) + "<p class=\"legend\">";
    bool marked = false, dotted = false, lined = false;
    for (const Series& s : chart.series) {
        marked |= !s.marks.empty(), dotted |= !s.dots.empty(), lined |= !s.line.empty();
        if (wide && chart.series.size() > 1) out += format("<span><i class=\"swatch s%d\"></i>", s.color) + html(s.name) + "</span>";
    }
    const bool one = chart.series.size() == 1;
    const std::string color = one ? format("s%d", chart.series[0].color) : "", dots_color = one ? format("s%d", chart.series[0].dots_color) : "";
    if (lined && !chart.line_name.empty()) out += "<span><i class=\"swatch " + color + "\"></i>" + html(chart.line_name) + "</span>";
    if (dotted) out += "<span><i class=\"swatch round " + dots_color + "\"></i>" + html(chart.dots_name) + "</span>";
    if (marked) out += "<span><i class=\"swatch bar " + color + "\"></i>" + html(chart.mark_name) + "</span>";
    out += "</p></figcaption><p class=\"units\"><span>" + html(chart.unit) + "</span><span>" + (std::isfinite(chart.tokens_per_step) ? "tokens" : "") + "</span><span>" + html(chart.right_unit) + "</span></p>";
    std::string cut;
    out += std::isfinite(chart.tokens_per_step) ? "<div class=\"plot tokens\">" : "<div class=\"plot\">";
    for (Scale scale : {LINEAR, LOG_STEP}) {
        std::string said;
        out += draw_chart(chart, {steps.low, steps.high, scale}, columns, scale == LINEAR ? "linear" : "logarithmic", said);
        if (!said.empty()) cut = "<span class=\"" + std::string(scale == LINEAR ? "linear" : "logarithmic") + "\">" + said + " </span>" + cut;
    }
    out += "<output></output></div>";
    if (!cut.empty() || !chart.note.empty()) out += "<p class=\"note\">" + cut + html(chart.note) + "</p>";
    return out + "</figure>\n";
}
