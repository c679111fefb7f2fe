// schedule.h: the learning rate of a step.
#pragma once
#include <cmath>
#include <string>
#include "../model/tensors.h"
#include "options.h"

// Rises linearly over `warmup` steps, then falls from lr to final_frac * lr at the last step:
// cosine, linear, constant; or warm-up, stable, and over the last part `cooldown` a decay: wsd by 1 - sqrt (Hägele et al. 2024), trapezoidal linearly
// (Zhai et al. 2022).
// By the clock `steps` is an estimate, INFINITY before there is one.
inline double learning_rate(const std::string& schedule, double lr, int step, double warmup, double steps, double final_frac, double cooldown) {
    if (step < warmup) return lr * (step + 1) / warmup;
    double done = steps > warmup ? (step - warmup) / (steps - warmup) : 0;
    done = std::fmin(done, 1);
    double part = 1;  // of the way from the final rate to the peak
    if (schedule == "cosine") part = 0.5 * (1 + std::cos(3.14159265358979323846 * done));
    if (schedule == "linear") part = 1 - done;
    if (has_cooldown(schedule)) {
        const double start = std::fmax((1 - cooldown) * steps, warmup), fallen = step > start ? (step - start) / (steps - start) : 0;
        part = 1 - (schedule == "wsd" ? std::sqrt(fallen) : fallen);
    }
    return lr * (final_frac + part * (1 - final_frac));
}

// The rate of a group of tensors while that of --lr is lr: each follows the one schedule to a peak of its own, where Muon is the optimizer.
inline double group_lr(const Options& opt, Update group, double lr) {
    const double peaks[] = {0, opt.embed_lr, opt.head_lr, opt.muon_lr}, peak = peaks[group];
    return opt.optimizer == "muon" && peak > 0 ? lr * (peak / opt.lr) : lr;
}

// Of a weight decay, while --lr's rate is lr.
inline double scheduled_decay(const Options& opt, double decay, double lr) { return opt.decay_schedule == "lr" ? decay * (lr / opt.lr) : decay; }

// Muon's momentum in a step, from 0 on. 0.85: as modded-nanogpt begins.
inline double muon_momentum(const Options& opt, int step) {
    const double end = opt.muon_momentum, begin = std::fmin(0.85, end);
    return step < opt.muon_momentum_warmup ? begin + (end - begin) * step / opt.muon_momentum_warmup : end;
}
