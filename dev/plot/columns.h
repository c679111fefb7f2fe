// columns.h: a curve of any number of steps, as the columns of a picture: what lies in each, and a smoothed line.
#pragma once
#include <cmath>
#include <vector>
#include "axis.h"

struct Point { double x, y; };

// The points of one column of the picture, which is at least a pixel wide. n of them are in the means.
struct Column { double x = 0, mean = 0, low = INFINITY, high = -INFINITY, smooth = NAN; size_t n = 0; };

// Cuts the axis into `count` columns; those without points are left out, points that are not finite too. What the picture does not
// show, since it lies outside `frame`, is in no mean: one loss of 1e30 would be all of it.
inline std::vector<Column> columns_of(const std::vector<Point>& points, const Axis& axis, int count, const Axis& frame = {-INFINITY, INFINITY}) {
    std::vector<Column> all((size_t)count);
    for (const Point& p : points) {
        const double part = axis.part(p.x);
        if (!(part >= 0 && part <= 1) || !std::isfinite(p.y)) continue;
        Column& c = all[std::min((size_t)(part * count), (size_t)count - 1)];
        c.low = std::fmin(c.low, p.y), c.high = std::fmax(c.high, p.y);
        if (!frame.shows(p.y)) { if (!c.n) c.x = p.x; continue; }
        c.n++;
        c.x += (p.x - c.x) / (double)c.n, c.mean += (p.y - c.mean) / (double)c.n;
    }
    // the mean of all points within 2 % of the axis on either side, which count less the farther away they are: on an axis of
    // logarithmic steps that is a tenth of a decade, so the steep beginning is not smeared
    const int reach = std::max(1, count / 50);
    std::vector<Column> kept;
    for (int i = 0; i < count; i++) {
        Column c = all[(size_t)i];
        if (c.low > c.high) continue;
        double sum = 0, weights = 0;
        for (int j = std::max(0, i - reach + 1); j < std::min(count, i + reach); j++) {
            const double w = (double)all[(size_t)j].n * (reach - std::abs(i - j));
            if (w > 0) sum += w * all[(size_t)j].mean, weights += w;
        }
        c.smooth = sum / weights;  // NaN where all lie outside
        kept.push_back(c);
    }
    return kept;
}

// Whether logarithmic steps help: half of the fall lies in the first tenth of the steps.
inline bool falls_early(const std::vector<Point>& points) {
    if (points.size() < 30) return false;
    const Axis axis{points.front().x, points.back().x, LINEAR};
    const std::vector<Column> c = columns_of(points, axis, 300);
    if (c.size() < 20) return false;
    const double at_first = c.front().mean, at_last = c.back().smooth, at_tenth = c[c.size() / 10].smooth;
    return at_first > at_last && at_first - at_tenth > 0.5 * (at_first - at_last);
}
