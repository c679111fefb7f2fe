// best.h: the validation whose loss was the lowest, and when to give up waiting for a lower one (early stopping; Prechelt 1998, "Early Stopping - But
// When?", the criterion UP: so many validations in a row that were no better).
#pragma once
#include <cmath>
#include <string>
#include "../io/json.h"

struct Best {
    int step = -1;      // -1: none yet
    double loss = INFINITY;
    int since = 0;      // validations since that were no better

    bool improves(double l) const { return l < loss; }  // never with NaN
    void look(int s, double l) {
        if (improves(l)) *this = {s, l, 0};
        else since++;
    }
    bool gives_up(int patience) const { return patience > 0 && since >= patience; }
};

inline Json best_to_json(const Best& best) {
    Json json = Json::object();
    if (best.step >= 0) json.add("step", best.step).add("val_loss", best.loss).add("since", best.since);
    return json;
}
inline Best best_from_json(const Json& json, const std::string& path) {
    if (!json.find("step")) return {};
    return {(int)json.at("step", path).as_int(path, 0), json.at("val_loss", path).as_double(path), (int)json.at("since", path).as_int(path, 0)};
}
