// axis.h: from values to places on an axis, and the round numbers that are written along it.
#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>
#include "../../llmc/base/check.h"

// LOG_STEP: log(1 + step), since validations begin at step 0; beyond step 10 it looks like log(step).
enum Scale { LINEAR, LOG, LOG_STEP };

struct Axis {
    double low = 0, high = 1;
    Scale scale = LINEAR;

    double warp(double v) const { return scale == LOG ? std::log(v) : scale == LOG_STEP ? std::log1p(v) : v; }
    // 0 at low, 1 at high
    double part(double v) const {
        const double a = warp(low), b = warp(high);
        return b > a ? (warp(v) - a) / (b - a) : 0.5;
    }
    bool shows(double v) const { return v >= low && v <= high; }  // false for NaN
};

struct Tick { double value; std::string text; bool major; };  // major: also where there is little room

// 1500 -> "1.5K". `unit`: the distance of neighbours, which says how many digits are needed.
inline std::string tick_text(double v, double unit) {
    const char* suffix = "";
    for (const char* s : {"K", "M", "G", "T", "P"}) if (std::fabs(v) >= 1000 * (1 - 1e-9)) v /= 1000, unit /= 1000, suffix = s;
    if (v != 0 && (std::fabs(v) >= 1000 || (unit < 1e-4))) return format("%.3g%s", v, suffix);
    int digits = 0;
    for (double u = unit; digits < 6 && std::fabs(u - std::round(u)) > 1e-6 * u; u *= 10) digits++;
    if (*suffix || v == 0) while (digits > 0 && std::fabs(v * std::pow(10, digits - 1) - std::round(v * std::pow(10, digits - 1))) < 1e-6) digits--;
    return format("%.*f%s", digits, v, suffix);
}

// The smallest of 1, 2 and 5 times a power of ten that is not below x.
inline double round_up(double x) {
    const double power = std::pow(10, std::floor(std::log10(x)));
    for (double m : {1.0, 2.0, 5.0}) if (x <= m * power * (1 + 1e-9)) return m * power;
    return 10 * power;
}

// At most about `most` of them. whole: nothing lies between two steps.
inline std::vector<Tick> linear_ticks(const Axis& axis, int most, bool whole) {
    double unit = round_up((axis.high - axis.low) / most);
    if (whole) unit = std::max(unit, 1.0);
    std::vector<Tick> ticks;
    const double first = std::ceil(axis.low / unit - 1e-6) + 0.0 /* no -0 */, last = std::floor(axis.high / unit + 1e-6);
    for (double i = first; i <= last; i++) ticks.push_back({i * unit, tick_text(i * unit, unit), std::fmod(i, 2) == 0});
    return ticks;
}

// Powers of ten, and 2 and 5 times them where there is room: `apart` is the least distance, as a part of the axis.
inline std::vector<Tick> log_ticks(const Axis& axis, double apart) {
    std::vector<Tick> all;
    if (axis.scale == LOG_STEP && axis.low <= 0) all.push_back({0, "0", true});
    const int first = (int)std::floor(std::log10(std::max(axis.low, axis.scale == LOG_STEP ? 1.0 : 1e-12)));
    for (int k = first; std::pow(10, k) <= axis.high; k++)
        for (double m : {1.0, 2.0, 5.0})
            if (const double v = m * std::pow(10, k); axis.shows(v)) all.push_back({v, tick_text(v, m * std::pow(10, k)), m == 1});
    std::vector<Tick> ticks;
    for (bool major : {true, false})  // powers of ten have the first choice
        for (const Tick& t : all) {
            if (t.major != major) continue;
            const bool room = std::all_of(ticks.begin(), ticks.end(), [&](const Tick& o) { return std::fabs(axis.part(o.value) - axis.part(t.value)) >= apart; });
            if (room) ticks.push_back(t);
        }
    std::sort(ticks.begin(), ticks.end(), [](const Tick& a, const Tick& b) { return a.value < b.value; });
    if (ticks.size() <= 4) for (Tick& t : ticks) t.major = true;
    return ticks;
}

inline std::vector<Tick> ticks_of_steps(const Axis& axis) { return axis.scale == LINEAR ? linear_ticks(axis, 10, true) : log_ticks(axis, 0.045); }
inline std::vector<Tick> ticks_of_values(const Axis& axis) { return axis.scale == LINEAR ? linear_ticks(axis, 6, false) : log_ticks(axis, 0.1); }

// An axis that shows these values, but for a few that lie so far from the rest that it would be flat: a loss of 1e30 after a spike.
inline Axis axis_of(std::vector<double> values, Scale scale) {
    if (scale == LOG) for (double& v : values) v = std::log(v);
    std::erase_if(values, [](double v) { return !std::isfinite(v); });
    if (values.empty()) return {scale == LOG ? 0.1 : 0.0, 1, scale};
    std::sort(values.begin(), values.end());
    const auto quantile = [&](double q) { return values[(size_t)(q * (double)(values.size() - 1) + 0.5)]; };
    const double q10 = quantile(0.1), q90 = quantile(0.9), median = quantile(0.5);
    // 8 times the middle four fifths: an ordinary curve, which falls steeply at first, is shown whole
    const double reach = 8 * std::fmax(q90 - q10, 0.02 * std::fabs(median));
    double low = *std::lower_bound(values.begin(), values.end(), q10 - reach);
    double high = *std::prev(std::upper_bound(values.begin(), values.end(), q90 + reach));
    if (high - low <= 1e-9 * std::fabs(high)) {  // one value: around it
        const double around = high == 0 ? 1 : 0.1 * std::fabs(high);
        low -= around, high += around;
    }
    return {scale == LOG ? std::exp(low) : low, scale == LOG ? std::exp(high) : high, scale};
}
