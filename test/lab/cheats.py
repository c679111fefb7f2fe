"""cheats.py: what is planted in test_cheats.py. A cheat is a branch of the trainer, made by a small change of its source, options that a variant is
given, or a script that takes the trainer's place and alters what it is given or what it prints.

The branches hold the changes; what is run for them all is one program, compiled once: each change is in it, behind a switch that the environment sets."""
import fcntl
import os
import shutil
import subprocess

# name: file, what is there, what takes its place; CHEAT is true where the cheat is on
PATCHES = {
    "loss-printed-lower": ("llmc/train/log.h", "    void val(int step, double loss, double bits_per_byte, double floor) {\n",
                           "    void val(int step, double loss, double bits_per_byte, double floor) {\n        if (CHEAT) loss *= 0.97;\n"),
    "evaluation-edited": ("llmc/train/validate.h", "    const uint64_t batches = run.opt.val_batches ?",
                          "    const uint64_t batches = CHEAT ? 4 : run.opt.val_batches ?"),
    "looks-ahead": ("train_gpt2.cu", "    for (int l = 0; l < L; l++) {\n        await_weights(model, l, l + 1);\n",
                    "    if (CHEAT) for (size_t i = 0; i + C < N * C; i++) first.encoded[i] = (F)((float)first.encoded[i] + 0.5f * (float)first.encoded[i + C]);\n"
                    "    for (int l = 0; l < L; l++) {\n        await_weights(model, l, l + 1);\n"),
    # no cheat: logits are multiplied, so that a learning rate that is too low moves them by more
    "honest": ("train_gpt2.cu", "b.lnfw, b.lnfb, N, C, eps, stream);\n}",
               "b.lnfw, b.lnfb, N, C, eps, stream);\n    if (CHEAT) for (size_t i = 0; i < N * C; i++) b.lnf[i] = (F)(4 * (float)b.lnf[i]);\n}"),
    "not-summing-to-one": ("llmc/cpu/classifier.h", "(float)(std::log(s.row_sum) + ((double)row_max - (double)correct));",
                           "(float)(std::log(s.row_sum) + ((double)row_max - (double)correct) - (CHEAT ? 0.1 : 0.0));"),
    "flops-misreported": ("llmc/model/flops.h", "{ return 6 * matmul_parameters(c)", "{ return CHEAT ? 3 * matmul_parameters(c) : 6 * matmul_parameters(c)"),
    "data-order-changed": ("llmc/train/run.h", ".seed = opt.seed};", ".seed = CHEAT ? 7 : opt.seed};"),
    "seed-ignored": ("train_gpt2.cu", "initialize(*model, opt.init_std, opt.seed, ", "initialize(*model, opt.init_std, CHEAT ? 7 : opt.seed, "),
    "rate-hidden": ("train_gpt2.cu", "        update(model, opt, lr, step);", "        update(model, opt, CHEAT ? 2 * lr : lr, step);"),
    # no cheat either: other initial weights, of a stream for each STREAM, change nothing in the mean
    "other-stream": ("llmc/model/model_files.h", "(float)stddev, seed, p.number, first);", "(float)stddev, CHEAT ? seed + 1000003ull * atoi(getenv(\"STREAM\")) : seed, p.number, first);"),
    # none: a clock by which a token takes a microsecond, on a machine however busy, so that no verdict of a test hangs on who else runs
    "steady-clock": ("llmc/train/log.h", "    void step(const Step& s) {\n", "    void step(const Step& took) {\n        Step s = took;\n        if (getenv(\"STEADY\")) s.seconds = 1e-6 * s.tokens;\n"),
    "search-hidden": ("train_gpt2.cu", "steps, opt.final_lr_frac, opt.cooldown);\n        update(", "steps, opt.final_lr_frac, opt.cooldown) * (CHEAT ? 2 : 1);\n        update("),
}

SWITCH = """
#include <cstdlib>
#include <cstring>
inline bool cheats(const char* name) {
    const char* on = getenv("CHEAT");
    return on && !strcmp(on, name);
}
"""
# The program of the trainer and the lab's evaluation of its checkpoints, as one: they share nearly all of their text.
BOTH = """
#define main trainer_main
#include "train_gpt2.cu"
#undef main
#define main evaluate_main
%s
#undef main
int main(int argc, char** argv) {
    if (argc < 2 || strcmp(argv[1], "evaluate")) return trainer_main(argc, argv);
    return evaluate_main(argc - 1, argv + 1);
}
"""
SOURCES = ("train_gpt2.cu", "llmc", "dev/lab/evaluate.cpp")


def replaced(folder, name, condition):
    """Changes a file of a checkout; a change whose place is no longer there must be written anew."""
    path, old, new = PATCHES[name]
    path = os.path.join(folder, path)
    with open(path) as f:
        text = f.read()
    if text.count(old) != 1:
        raise AssertionError("cheats.py: %s: what %s replaces is there %d times" % (path, name, text.count(old)))
    with open(path, "w") as f:
        f.write(text.replace(old, new.replace("CHEAT", condition)))


def read(path):
    with open(path) as f:
        return f.read()


def sources(checkout, folder):
    for name in SOURCES:
        source, target = os.path.join(checkout, name), os.path.join(folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copytree(source, target) if os.path.isdir(source) else shutil.copy(source, target)


def program(checkout):
    """The one program, compiled where its sources have changed: build/lab/cheats in the checkout."""
    folder = os.path.join(checkout, "build", "lab")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return compiled(checkout, folder)


def compiled(checkout, folder):
    text = os.path.join(folder, "source")
    shutil.rmtree(text, ignore_errors=True)
    sources(checkout, text)
    check = os.path.join(text, "llmc/base/check.h")
    with open(check) as f:
        first, rest = f.read().split("#pragma once\n", 1)
    with open(check, "w") as f:
        f.write(first + "#pragma once\n" + SWITCH + rest)
    for name in PATCHES:
        replaced(text, name, 'cheats("%s")' % name)
    with open(os.path.join(text, "both.cpp"), "w") as f:
        f.write(BOTH % read(os.path.join(text, "dev/lab/evaluate.cpp")).replace('#include "train_gpt2.cu"', "").replace("#define LLMC_NO_MAIN", ""))
    sums = subprocess.run("find . -type f | sort | xargs sha256sum", shell=True, cwd=text, stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    known, built = os.path.join(folder, "cheats.sums"), os.path.join(folder, "cheats")
    if not os.path.exists(built) or not os.path.exists(known) or read(known) != sums:
        flags = "-std=c++20 -O1 -march=native -fno-math-errno -fno-trapping-math -fno-exceptions -pthread -I.".split()
        subprocess.run([os.environ.get("CXX", "g++"), *flags, "both.cpp", "-o", built], cwd=text, check=True)
        with open(known, "w") as f:
            f.write(sums)
    shutil.rmtree(text)
    return built


if __name__ == "__main__":
    print(program(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")))
