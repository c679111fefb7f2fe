// run.h: from the options to a run: tokenizer, data, sizes, folder. Everything a user can get wrong is found here, before
// memory is taken.
#pragma once
#include <unistd.h>
#include <string>
#include <vector>
#include "../model/bin_model.h"
#include "../io/checkpoint.h"
#include "../base/child.h"
#include "../base/limits.h"
#include "../comm/open.h"
#include "../comm/visible_gpus.h"
#include "../model/config.h"
#include "../model/sampler.h"
#include "../data/data.h"
#include "../io/json.h"
#include "../io/state_pieces.h"
#include "../layers/kernel_options.h"
#include "../layers/step_stats.h"
#include "agree.h"
#include "best.h"
#include "log.h"
#include "options.h"
#include "replay.h"
#include "resume.h"
#include "run_folder.h"
#include "schedule.h"
#include "../data/text.h"
#include "../tokenizer/tokenizer.h"
#include "text_defaults.h"
#include "tokenizer_choice.h"

struct Run {
    Options opt;
    Comm comm;
    std::string out;           // folder for logs and checkpoints; empty: nothing is written
    std::shared_ptr<RunLock> lock;  // of that folder, to the end of the run
    std::string weights;       // folder or .bin file to load weights from; empty: initialise
    std::string prefix;        // of the names of the tensors in files: as it was in `weights`
    bool resumed = false;      // weights is a checkpoint of this run: its optimizer state and position are loaded too
    Tokenizer tokenizer = Tokenizer::bytes();
    bool has_tokenizer = true; // false: token ids without a tokenizer
    int to_learn = 0;          // --plan, which learns none: the size of the tokenizer that the run would learn
    std::string assumed;       // --plan: lines of what it cannot know
    std::string tokenizer_is;  // for the banner: which one, and why
    Mixture train;
    Shards val;
    double floor = NAN;        // bits per byte that no model can beat on the validation data, where it is known
    Config config;
    int B = 0, T = 0, grad_accum = 1, leaves = 0;
    int per_node = 0;          // ranks of each of several nodes, if they add gradients among themselves first; else 0
    int eval_T = 0, complete_T = 0;  // the longest row that evaluations score, and complete
    int first_step = 0, steps = 0;
    Record record;             // of the run that is replayed
    // what a checkpoint carries besides tensors
    uint64_t position = 0;     // rows of the training data that all ranks have taken
    History history{};
    Best best;                 // with --patience
    Log::Position log_position;
    double seconds = 0;        // of training so far
    int rollbacks = 0;         // so far: --on-spike
    std::vector<std::string> autotuned;  // choices of algorithms, as other ones round differently
    int64_t train_tokens = -1, val_tokens = -1;  // of the data that the resumed run had; -1: not known
    std::string data_checksum;                   // likewise, of all its data: of texts of all tokens, of shards of samples
};

inline std::string options_json(const Options& opt) {
    Json json = Json::object();
    for (auto& [name, value] : describe(opt)) json.add(name, value);
    return json_dump(json);
}

namespace run_detail {
inline bool is_folder(const std::string& path) {
    struct stat info;
    return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}
inline bool is_file(const std::string& path) {
    if (access(path.c_str(), R_OK) == 0) return true;
    CHECK(errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == EACCES || errno == ELOOP, "%s", errno_text(path).c_str());
    return false;
}
// What is there, or would be, instead of a file; empty: nothing is, or a file. A link counts as what it leads to.
inline std::string kind_of_no_file(const std::string& path) {
    struct stat s;
    if (path.ends_with("/")) return "folder";
    if (stat(path.c_str(), &s) != 0 || S_ISREG(s.st_mode)) return "";
    return S_ISDIR(s.st_mode) ? "folder" : S_ISFIFO(s.st_mode) ? "pipe" : S_ISSOCK(s.st_mode) ? "socket" : "device";
}

// An existing folder is locked before it is looked at, but for --plan, which writes nothing; a new one is made by make_out, when all that can be
// wrong has been found. Rank 0 holds the lock for all.
inline void choose_out(Run& run) {
    const Options& opt = run.opt;
    run.out = opt.out.empty() && opt.resume ? "out" : opt.out;
    struct stat out, replayed;
    if (run.comm.rank == 0 && !opt.replay.empty() && !stat(run.out.c_str(), &out) && !stat(opt.replay.c_str(), &replayed) && out.st_dev == replayed.st_dev && out.st_ino == replayed.st_ino)
        die_with(EXIT_USAGE, "--out: %s is the run that --replay repeats, must be another folder", run.out.c_str());
    if (run.comm.rank == 0 && !run.out.empty() && is_folder(run.out) && opt.plan.empty()) run.lock = lock_folder(run.out, opt.resume);
    if (run.comm.broadcast(run.lock != nullptr)) check_shared_out(run.comm, run.out);  // before anything is looked for in it
}
inline void make_out(Run& run) {
    const Options& opt = run.opt;
    if (run.comm.rank == 0) {
        if (run.out.empty() && opt.steps != 0) run.out = take_free_folder(run.lock);
        if (!run.out.empty() && !run.lock) run.lock = lock_folder(run.out, opt.resume);
        if (!run.out.empty() && !opt.resume) repair_done(run.out, -1);
    }
    run.out = run.comm.broadcast(run.out);  // empty: nothing is trained, and nothing written
    check_shared_out(run.comm, run.out);
}

// The newest checkpoint that verifies, if there is one; it says what it does. Rank 0 looks, for all.
inline void find_checkpoint(Run& run) {
    Checkpoint newest;
    if (run.lock && is_folder(run.out)) clean_up_checkpoints(run.out);
    if (run.comm.rank == 0) newest = find_newest_checkpoint(run.out);
    newest.step = run.comm.broadcast(newest.step), newest.path = run.comm.broadcast(newest.path);
    if (newest.step < 0 && !list_checkpoints(run.out).empty())
        die("%s: none of its checkpoints can be resumed, which is said of each above; one that is whole, but not good, is resumed when its BAD_ file is removed; to start afresh move them away, or give another --out", run.out.c_str());
    if (newest.step < 0 && run.opt.steps == 0) die_with(EXIT_USAGE, "%s: no checkpoint to resume, and --steps 0 trains none", run.out.c_str());
    if (newest.step < 0) {
        if (run.lock) repair_done(run.out, -1);
        return (void)printf("%s: no checkpoint: starts afresh\n", on_one_line(run.out).c_str());
    }
    if (run.opt.steps != 0 && !is_file(newest.path + "/" + state_file(0)))
        die_with(EXIT_USAGE, "%s: has no optimizer state, as --steps 0 writes none: -e %s with another --out trains it", newest.path.c_str(), newest.path.c_str());
    if (run.lock) repair_done(run.out, newest.step);
    run.weights = newest.path, run.resumed = true;
}

inline void read_window(Window& window, const Json& json, const char* name, const std::string& path) {
    for (const Json& x : json.at(name, path).as_array(path)) {
        CHECK(window.count < Window::SIZE, "%s: %s has more than %d numbers", path.c_str(), name, Window::SIZE);
        window.values[window.count++] = x.as_double(path);
    }
}

inline Config config_of_files(const std::string& model) { return is_bin_model(model) ? BinModel(model).config : config_from_json(model + "/config.json"); }

// A run that goes on has its checkpoint's model. What the run began with may be gone by now, or be another; anything else that is named must at
// least have the checkpoint's sizes.
inline void check_named_model(const Run& run, const Json& trainer, const std::string& path) {
    const Json *saved = trainer.find("options"), *began_with = saved ? saved->find("model") : nullptr;
    const std::string& named = run.opt.model;
    if (!was_given(run.opt, "model") || (began_with && is_same_name(named, began_with->as_string(path)))) return;
    const Config is = config_of_files(run.weights);
    const std::string difference = config_difference(is_folder(named) || is_bin_model(named) ? config_of_files(named) : config_by_name(named, is.V), is);
    if (!difference.empty()) die_with(EXIT_USAGE, "--model: '%s' given, is not the model of %s: %s", named.c_str(), run.weights.c_str(), difference.c_str());
}

}  // namespace run_detail

// Where a run was, by trainer.json of its checkpoint.
inline Json read_progress(Run& run, const std::string& checkpoint) {
    using namespace run_detail;
    const std::string path = checkpoint + "/trainer.json";
    Json json = json_parse(read_file(path), path);
    run.history = {}, run.best = {};
    run.first_step = (int)json.at("step", path).as_int(path, 0, INT_MAX);
    run.position = (uint64_t)json.at("position", path).as_int(path, 0);
    read_window(run.history.losses, json, "losses", path);
    read_window(run.history.norms, json, "norms", path);
    run.log_position.main_log = json.at("main_log", path).as_int(path, 0);
    run.log_position.metrics = json.at("metrics", path).as_int(path, 0);
    if (const Json* best = json.find("best")) run.best = best_from_json(*best, path);
    if (const Json* rollbacks = json.find("rollbacks")) run.rollbacks = (int)rollbacks->as_int(path, 0, INT_MAX);
    return json;
}

namespace run_detail {
// trainer.json of the checkpoint that is resumed.
inline void read_trainer_state(Run& run) {
    if (!run.resumed) return;
    const std::string path = run.weights + "/trainer.json";
    const Json json = read_progress(run, run.weights);
    if (const Json* choices = json.find("autotuned"))
        for (const Json& line : choices->as_array(path)) run.autotuned.push_back(line.as_string(path));
    if (const Json* seconds = json.find("seconds")) run.seconds = seconds->as_double(path);
    if (const Json* n = json.find("train_tokens")) run.train_tokens = n->as_int(path, 0);
    if (const Json* n = json.find("val_tokens")) run.val_tokens = n->as_int(path, 0);
    if (const Json* sum = json.find("data_checksum")) run.data_checksum = sum->as_string(path);
    check_named_model(run, json, path);
    printf("resume   %s: goes on after step %d\n", on_one_line(run.weights).c_str(), run.first_step);
    const Json *saved = json.find("options"), *ranks = saved ? saved->find("nproc") : nullptr, *tokens = json.find("tokens_per_step");
    const Json* leaves = saved ? saved->find("leaves") : nullptr;
    const bool of_ranks = leaves && leaves->as_string(path) != "1";  // now or before: the tokens of a step are not a matter of how many there are
    if (ranks && tokens && run.opt.total_batch == 0 && (of_ranks || run.opt.nproc > 1)) {
        run.opt.total_batch = tokens->as_int(path, 1);
        if (ranks->as_string(path) != std::to_string(run.opt.nproc))
            printf("resume   --total-batch %lld, as it was on %s rank%s\n", (long long)run.opt.total_batch, ranks->as_string(path).c_str(), ranks->as_string(path) == "1" ? "" : "s");
    }
    for (const std::string& line : compare_options(run.opt, json, is_file(run.weights + "/tokenizer.json"), path)) {
        printf("resume   %s\n", on_one_line(line).c_str());
        if (line.starts_with("--val-data ") || line.starts_with("--val-batches ")) run.best = {};  // its loss was another's
        if (line.starts_with("--train-data ") || line.starts_with("--val-data ")) run.train_tokens = run.val_tokens = -1, run.data_checksum.clear();  // other data, which is said
    }
}

// The tokenizer, and where it is from: tokenizer_choice.h. Rank 0 chooses, and learns it if it is to be learned, for all.
inline void open_tokenizer(Run& run, bool evaluates_text) {
    const Options& opt = run.opt;
    if (run.comm.rank != 0) {
        run.has_tokenizer = run.comm.broadcast(false);
        if (run.has_tokenizer) run.tokenizer = Tokenizer::from_json(run.comm.broadcast(std::string()), "rank 0's tokenizer");
        return;
    }
    TokenizerChoice choice = choose_tokenizer(opt, run.weights, run.weights.empty() ? 0 : run.config.V, run.resumed, evaluates_text, text_options(opt));
    run.has_tokenizer = choice.tokenizer.has_value();
    if (choice.tokenizer) run.tokenizer = std::move(*choice.tokenizer);
    run.tokenizer_is = choice.from, run.to_learn = choice.to_learn;
    if (run.comm.world == 1) return;
    run.comm.broadcast(run.has_tokenizer);
    if (run.has_tokenizer) run.comm.broadcast(run.tokenizer.to_json());
}

// Dies if one cannot be read, before anything is written.
inline void find_files(const Options& opt) {
    if (opt.train_data.empty() && opt.steps != 0)
        die_with(EXIT_USAGE, "--train-data: missing; give a text file (-i my.txt) or token shards (-i 'data/*_train_*.bin')");
    std::vector<std::string> patterns;
    if (!opt.train_data.empty()) for (const SourceName& source : parse_sources(opt.train_data)) patterns.push_back(source.pattern);
    if (!opt.val_data.empty()) patterns.push_back(opt.val_data);
    bool text = false;
    for (const std::string& pattern : patterns) {
        text |= names_text(pattern);
        for (const std::string& path : list_files(pattern)) close(shards_detail::open_file(path));
    }
    if (!text && opt.skip_bad) die_with(EXIT_USAGE, "--skip-bad: %d given, but the data hold no text", opt.skip_bad);
    if (!text && opt.text_special) die_with(EXIT_USAGE, "--text-special: 1 given, but the data hold no text");
}

inline void open_files(Run& run) {
    const Options& opt = run.opt;
    if (opt.train_data.empty() && opt.val_data.empty()) return;
    const std::vector<std::string> files = tokenizer_choice_detail::data_files(opt);
    const bool text = std::any_of(files.begin(), files.end(), is_text_file);
    const std::string folder = !run.out.empty() ? run.out : text ? cache_folder("") : "", cache = folder.empty() ? "" : folder + "/tokens";
    if (!opt.val_data.empty()) {
        run.val = open_data(opt.val_data, run.tokenizer, cache, text_options(opt));
        if (const std::string side = opt.val_data + ".floor"; is_file(side)) {
            const std::string error = error_of([&] { json_parse(read_file(side), side).at("bits_per_byte", side).as_double(side); });
            if (error.empty()) run.floor = json_parse(read_file(side), side).at("bits_per_byte", side).as_double(side);
            else printf("%s: not used\n", on_one_line(error).c_str());
        }
    }
    if (opt.train_data.empty()) return;
    for (const SourceName& source : parse_sources(opt.train_data))
        run.train.push_back({source.pattern, open_data(source.pattern, run.tokenizer, cache, text_options(opt)), source.weight});
}

// --plan: data that are not there are planned without.
inline void find_planned_data(Run& run) {
    Options& opt = run.opt;
    if (opt.train_data.empty() && opt.val_data.empty()) return;
    if (const std::string error = error_of([&] { find_files(opt); }); !error.empty()) {
        run.assumed += format("plan     %s: planned without data\n", error.c_str());
        opt.train_data = opt.val_data = "";
    }
}
// --plan reads what is there, learns and tokenizes nothing, and does without data that are not on this machine.
inline void plan_files(Run& run, bool evaluates_text) {
    const Options& opt = run.opt;
    const std::vector<std::string> files = tokenizer_choice_detail::data_files(opt);
    run.has_tokenizer = false;
    if (!files.empty() || !opt.tokenizer.empty() || !run.weights.empty()) open_tokenizer(run, evaluates_text);
    if (std::none_of(files.begin(), files.end(), is_text_file)) open_files(run);
    run.out.clear();
}

// The model's sizes but for the vocabulary, and T: what can be wrong here is found before anything is written.
inline void choose_sizes(Run& run) {
    const Options& opt = run.opt;
    if (run.weights.empty()) run.config = config_by_name(opt.model, 1);
    else run.config = config_of_files(run.weights);
    run.T = opt.seq ? opt.seq : opt.chat.empty() ? std::min(run.config.max_T, 256) : run.config.max_T;
    if (run.T > run.config.max_T) die_with(EXIT_USAGE, "--seq: %d given, the model's context is %d", run.T, run.config.max_T);
}

// The vocabulary is the tokenizer's; without one the shard's format says it: GPT-2's in 16 bits, Llama 3's in 32.
inline void choose_vocabulary(Run& run) {
    if (!run.weights.empty()) return;
    const Shards& shards = run.train.empty() ? run.val : run.train[0].shards;
    run.config.V = run.has_tokenizer ? run.tokenizer.vocab_size() : run.to_learn ? run.to_learn : !shards.empty() && shards[0].width == 4 ? 128256 : 50257;
    if (run.has_tokenizer || !shards.empty()) return;
    run.assumed += format("plan     vocabulary %d assumed: %s\n", run.config.V, run.to_learn ? "the run learns a tokenizer of at most so many tokens" : "GPT-2's, as there are no data and no --tokenizer");
}

// By default as many as ranks; where no rank keeps whole gradients each micro-batch is one.
inline int leaves_of_step(const Options& opt, int grad_accum) {
    return opt.leaves ? opt.leaves : opt.zero < 2 || opt.nproc == 1 ? opt.nproc : std::min(grad_accum, INT_MAX / opt.nproc) * opt.nproc;
}

// From ZeRO stage 2 on ranks take turns at the micro-batches; what they make at a time is a node of the tree if they are a power of two.
inline bool ranks_can_take_turns(const Options& opt, int64_t grad_accum) { return opt.zero < 2 || grad_accum == 1 || (opt.nproc & (opt.nproc - 1)) == 0; }

// --batch, --total-batch, --leaves and --steps, once the batch is known.
inline void count_steps(Run& run) {
    const Options& opt = run.opt;
    constexpr int64_t MOST_TOKENS = 1 << 30, MOST_MICRO_BATCHES = 1 << 20;  // tokens are counted in 32 bits; a plan of more makes no sense
    if (const int64_t tokens = (int64_t)run.B * run.T; tokens > MOST_TOKENS)
        die_with(EXIT_USAGE, "--batch: %d sequences of %d tokens are %lld tokens, must be at most %lld", run.B, run.T, (long long)tokens, (long long)MOST_TOKENS);
    const int64_t micro = (int64_t)run.B * run.T * opt.nproc, total = opt.total_batch ? opt.total_batch : micro;
    const char* from = was_given(opt, "total_batch") || !run.resumed ? "given" : "of the checkpoint";
    if (total % micro)
        die_with(EXIT_USAGE, "--total-batch: %lld %s, must be a multiple of batch x seq x ranks = %d x %d x %d = %lld",
                 (long long)total, from, run.B, run.T, opt.nproc, (long long)micro);
    if (total / micro > MOST_MICRO_BATCHES)
        die_with(EXIT_USAGE, "--total-batch: %lld given, which is %lld micro-batches of %lld tokens, must be at most %lld of them", (long long)total,
                 (long long)(total / micro), (long long)micro, (long long)MOST_MICRO_BATCHES);
    run.grad_accum = (int)(total / micro);
    const int64_t micro_batches = (int64_t)run.grad_accum * opt.nproc;
    run.leaves = leaves_of_step(opt, run.grad_accum);
    if (opt.zero >= 2 && opt.nproc > 1 && run.leaves != micro_batches)
        die_with(EXIT_USAGE, "--leaves: %d %s, must be the %lld micro-batches of a step with --zero %d: where no rank keeps whole gradients, each micro-batch is a leaf", run.leaves,
                 was_given(opt, "leaves") ? "given" : "of the checkpoint", (long long)micro_batches, opt.zero);
    if (!ranks_can_take_turns(opt, run.grad_accum))
        die_with(EXIT_USAGE, "--zero: %d given, but of %d ranks, no power of two, which take turns at %d micro-batches each, the sums are no part of the tree that one rank makes: 1 is allowed", opt.zero,
                 opt.nproc, run.grad_accum);
    if (run.leaves % opt.nproc || micro_batches % run.leaves)
        die_with(EXIT_USAGE, "--leaves: %d %s, must be a multiple of the %d ranks that divides the %lld micro-batches of a step", run.leaves,
                 was_given(opt, "leaves") ? "given" : "of the checkpoint", opt.nproc, (long long)micro_batches);
    if (const int of_rank = run.leaves / opt.nproc; opt.nproc > 1 && opt.zero < 2 && (of_rank & (of_rank - 1)))
        die_with(EXIT_USAGE, "--leaves: %d %s, which are %d of each of %d ranks, must be 1, 2, 4, 8, ... of each: else the sums are no part of the tree that one rank makes%s", run.leaves,
                 was_given(opt, "leaves") ? "given" : "of the checkpoint", of_rank, opt.nproc, run.leaves == micro_batches && !(opt.nproc & (opt.nproc - 1)) ? "; --zero 2 takes them" : "");
    run.opt.leaves = run.leaves;  // for the checkpoint
    run.steps = opt.steps;
}
}  // namespace run_detail

// The token in front of each document; without a tokenizer that of the shards' format, as for the vocabulary.
inline int end_of_text(const Run& run) {
    if (run.has_tokenizer) return run.tokenizer.eot();
    const Shards& shards = run.train.empty() ? run.val : run.train[0].shards;
    return !shards.empty() && shards[0].width == 4 ? 128000 : 50256;
}

inline int parse_batch(const Options& opt) {  // 0: auto
    if (opt.batch == "auto") return 0;
    constexpr int MOST = 1 << 20;
    const int B = config_detail::whole_number(opt.batch);
    if (B < 1 || B > MOST) die_with(EXIT_USAGE, "--batch: '%s' given, must be a whole number in 1..%d, or auto", opt.batch.c_str(), MOST);
    return B;
}

// Which of the run's processes this one is; --plan is of many and alone.
inline Place place_of(const Options& opt) {
    if (!opt.plan.empty()) return {};
    const Place place = find_place(was_given(opt, "rank") ? opt.rank : -1, opt.nproc, was_given(opt, "gpus_per_node") ? opt.gpus_per_node : 0);
    if (place.world == 1 || place.by == "spawned") return place;
    if (const int n = std::max(opt.ranks, opt.gpus); n > 1)
        die_with(EXIT_USAGE, "%s: %d given, but this is one of %d processes (%s) already", opt.ranks > 1 ? "--ranks" : "--gpus", n, place.world, place.by.c_str());
    return place;
}
// How many ranks this process starts, and does nothing else; 1: none, it is the run. A chat is one process, and so is what a launcher has started.
inline int ranks_to_start(const Options& opt, const Place& place) {
    const bool given = was_given(opt, RANKS_ARE_GPUS ? "ranks" : "gpus");
    if (given && opt.plan.empty()) die_with(EXIT_USAGE, RANKS_ARE_GPUS ? "--ranks: given, but ranks are GPUs here: --gpus" : "--gpus: given, but this program trains on a CPU: --ranks");
    if (!opt.plan.empty() || !opt.chat.empty() || !place.by.empty() || was_given(opt, "nproc")) return 1;
    return !RANKS_ARE_GPUS ? opt.ranks : opt.gpus ? opt.gpus : std::max(visible_gpus(), 1);
}

// As ranks_of_each_node (open.h) would find them.
inline int planned_ranks_of_each_node(const Options& opt) {
    const int G = opt.gpus_per_node;
    return G > 1 && opt.nproc > G && opt.nproc % G == 0 && (G & (G - 1)) == 0 ? G : 0;
}

// As cores_of_rank (open.h) would find them.
inline int planned_cores_of_rank(const Options& opt) { return std::max(usable_cores() / std::min(opt.nproc, opt.gpus_per_node), 1); }

// Everything but memory and the batch (which --batch auto chooses by memory). evaluates_text: what --eval names needs a tokenizer.
inline Run prepare(Options given, const Comm& comm, bool evaluates_text) {
    using namespace run_detail;
    Run run;
    run.opt = std::move(given), run.comm = comm;
    must_agree_on_options(comm, run.opt);
    const Options& opt = run.opt;
    const bool planning = !opt.plan.empty();
    parse_batch(opt);
    if (opt.patience && opt.val_every == 0 && was_given(opt, "patience")) die_with(EXIT_USAGE, "--patience: %d given, but --val-every 0 validates nothing", opt.patience);
    if (opt.minutes > 0 && opt.steps == 0 && opt.chat.empty()) die_with(EXIT_USAGE, "--minutes: %g given, but --steps 0 trains nothing", opt.minutes);
    if (const char* differs = !opt.deterministic ? "--deterministic 0" : opt.reduce == "nccl" ? "--reduce nccl" : nullptr; opt.verify_steps && differs)
        die_with(EXIT_USAGE, "--verify-steps: %d given, which compares bits, but %s lets them differ", opt.verify_steps, differs);
    if (opt.reduce == "nccl" && opt.exchange == "bf16") die_with(EXIT_USAGE, "--exchange: 'bf16' given, must be fp32 with --reduce nccl: the library would add in bf16");
    if (opt.reduce == "nccl" && comm.world > 1 && !comm.transport->adds())
        die_with(EXIT_USAGE, "--reduce: 'nccl' given, must be tree: ranks that share memory (--ranks) only carry bytes; GPUs, and ranks of mpirun, have sums of their own");
    if (!planning && opt.zero > 0 && comm.world == 1) run.opt.zero = 0;  // of one rank there is nothing to divide
    if (opt.reduce == "tree") run.per_node = planning ? planned_ranks_of_each_node(opt) : ranks_of_each_node(comm);
    choose_out(run);
    if (opt.resume && !run.out.empty()) find_checkpoint(run), read_trainer_state(run);
    if (planning) find_planned_data(run);
    if (!run.resumed && comm.rank == 0) choose_for_text(run.opt);
    share_choices(comm, run.opt);
    run.B = parse_batch(opt);
    if (run.weights.empty() && (is_folder(opt.model) || is_bin_model(opt.model))) run.weights = opt.model;
    if (!planning && !run.resumed) in_turn(comm, [&, first = comm.rank == 0] { if (first) verify_model_folder(run.weights); });  // one that is resumed was verified when it was found
    if (was_given(opt, "init_std") && !run.weights.empty() && !run.resumed) die_with(EXIT_USAGE, "--init-std: %g given, but the weights are those of %s", opt.init_std, run.weights.c_str());
    if (!opt.export_bin.empty() && access(parent_folder(opt.export_bin).c_str(), W_OK))
        die_with(EXIT_USAGE, "--export-bin: cannot write %s: %s", opt.export_bin.c_str(), strerror(errno));
    if (const std::string is = kind_of_no_file(opt.export_bin); !is.empty()) die_with(EXIT_USAGE, "--export-bin: %s is a %s, must be a file", opt.export_bin.c_str(), is.c_str());
    if (opt.attention == "cudnn" && (opt.precision != "bf16" || opt.doc_mask))
        die_with(EXIT_USAGE, "--attention: 'cudnn' given, which makes attention in bf16 (--precision bf16) and not within documents (--doc-mask 0)");
    choose_sizes(run);
    if (!opt.export_bin.empty()) check_bin_export(run.config);
    if (run.B) count_steps(run);
    if (planning) plan_files(run, evaluates_text);
    else find_files(opt), open_tokenizer(run, evaluates_text), make_out(run), in_turn(comm, [&] { open_files(run); });
    choose_vocabulary(run);
    if (opt.doc_mask && end_of_text(run) < 0) die_with(EXIT_USAGE, "--doc-mask: 1 given, but the tokenizer has no end-of-text token");
    return run;
}

namespace run_detail {
// Without --val-data the last tenth of each text is for validation, whatever the batch. Each source must fill a row.
inline void hold_out_validation(Run& run) {
    for (Source& source : run.train) {
        if (run.opt.val_data.empty() && names_text(source.name)) {
            TrainVal split = hold_out(source.shards, end_of_text(run));
            source.shards = split.train;
            run.val.insert(run.val.end(), split.val.begin(), split.val.end());
        }
        uint64_t longest = 0;
        for (const Shard& shard : source.shards) longest = std::max(longest, shard.size());
        if (longest <= (uint64_t)run.T)
            die_with(EXIT_USAGE, "--seq: a row takes %d + 1 tokens, but %s has %llu to train on: use a --seq of at most %llu, or more text", run.T,
                     source.name.c_str(), (unsigned long long)longest, (unsigned long long)(longest ? longest - 1 : 0));
    }
}
// A file may have changed under its name since the run began: then the order of the data is another, and of a text what was trained on may be
// validated on.
inline void compare_data(Run& run) {
    bool said = false;
    const auto compare = [&](const char* option, int64_t was, uint64_t now) {
        if (was >= 0 && (uint64_t)was != now) said = true, printf("resume   %s: the data have changed: %llu tokens, were %lld\n", option, (unsigned long long)now, (long long)was);
    };
    if (!run.train.empty()) compare("--train-data", run.train_tokens, count_tokens(run.train));
    if (!run.val.empty()) compare("--val-data", run.val_tokens, count_tokens(run.val));
    uint64_t sum = sample_checksum(run.val);
    for (const Source& source : run.train) sum = 31 * sum + sample_checksum(source.shards);
    const std::string checksum = format("%016llx", (unsigned long long)sum);
    if (!run.data_checksum.empty() && run.data_checksum != checksum && !said) printf("resume   the data have changed: as many tokens as before, but others\n");
    run.data_checksum = checksum;
}
}  // namespace run_detail

// After the batch is known: the data is cut in training and validation, steps are counted.
inline void finish_preparing(Run& run) {
    run_detail::count_steps(run);
    run_detail::hold_out_validation(run);
    run_detail::compare_data(run);
    if (run.opt.patience && run.opt.plan.empty() && (run.val.empty() || run.opt.val_every == 0)) {
        if (was_given(run.opt, "patience") && !was_chosen(run.opt, "patience")) die_with(EXIT_USAGE, "--patience: %d given, but there is nothing to validate: it needs --val-data or text", run.opt.patience);
        run.opt.patience = 0;
    }
    if (!run.out.empty() && run.comm.rank == 0) make_folders(run.out);
    if (!run.out.empty()) flight_recorder().path = run.out + format("/flight-%05d.txt", run.comm.rank);
    if (run.comm.world == 1) return;
    must_agree(run.comm, "the data", format("%llu tokens to train on, %llu to validate on, vocabulary %d, checksum of samples %s", (unsigned long long)count_tokens(run.train),
                                            (unsigned long long)count_tokens(run.val), run.config.V, run.data_checksum.c_str()));
}

inline DataOptions data_options(const Run& run, bool training) {
    const Options& opt = run.opt;
    DataOptions data{.B = run.B, .T = run.T, .rank = run.comm.rank, .world = run.comm.world, .seed = opt.seed};
    data.shuffle = training && !opt.overfit;
    data.only_first = training && opt.overfit ? (uint64_t)run.B * run.grad_accum * run.comm.world : 0;
    data.bos_align = opt.bos_align;
    data.repeats = training, data.once = !training;
    if (training && opt.zero < 2) data.step_batches = run.grad_accum;  // from stage 2 on ranks take turns at the micro-batches
    data.eot = end_of_text(run);
    data.vocab_size = run.config.V;
    return data;
}

// Whole lines behind the first `from` bytes of a file that have one of two words in them.
inline size_t count_lines(const std::string& path, int64_t from, const char* word, const char* other) {
    std::string text;
    if (!try_read_file(path, text).empty()) return 0;
    size_t count = 0;
    for (size_t at = (size_t)from, end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
        const std::string_view line = std::string_view(text).substr(at, end - at);
        count += line.find(word) != line.npos || line.find(other) != line.npos;
    }
    return count;
}
// The checkpoint is of the last step, or of a later one: true, and said; unless the run was ended before the `due` validations and evaluations that
// follow its last step had their lines in both logs, one of which may have lost them with the power: then they are made.
inline bool is_finished(const Run& run, size_t due) {
    if (!run.resumed || run.opt.steps == 0 || run.first_step < run.steps) return false;
    if (run.first_step == run.steps && (count_lines(run.out + "/metrics.jsonl", run.log_position.metrics, "\"val_loss\": ", "\"eval\": ") < due ||
                                        count_lines(run.out + "/main.log", run.log_position.main_log, " tel:", " eval:") < due)) return false;
    const bool by_clock = run.opt.minutes > 0 && run.opt.steps != run.steps;
    printf("step %d of %d: nothing to do%s; a larger %s goes on, -x 0 validates\n", run.first_step, run.steps,
           run.first_step == run.steps ? ": the run is finished" : "", by_clock ? "--minutes" : "--steps");
    return true;
}

// Rank 0 decides: another one may see an older file.
inline bool nothing_to_do(const Run& run, size_t due) { return run.comm.broadcast(run.comm.rank == 0 && is_finished(run, due)); }

// true once every n steps and at the last; n = 0: never.
inline bool every(int n, int step, bool last) { return n > 0 && (last || step % n == 0); }

inline AttentionBackend attention_backend(const Options& opt) {
    return opt.attention == "ours" ? AttentionBackend::OURS : opt.attention == "cudnn" ? AttentionBackend::CUDNN : AttentionBackend::FASTEST;
}
inline KernelOptions kernel_options(const Options& opt) {
    // levels 1 and 2 recompute GELU from its input as it was rounded, and so without the product of whose epilogue it could be
    const bool recomputes_gelu_alone = opt.recompute == RECOMPUTE_GELU || opt.recompute == RECOMPUTE_LAYERNORM;
    return {.tf32 = opt.tf32 != 0, .gelu_fusion = opt.gelu_fusion > 0 || (opt.gelu_fusion < 0 && opt.steps != 0 && !recomputes_gelu_alone), .deterministic = opt.deterministic != 0, .pdl = opt.pdl != 0, .attention = attention_backend(opt)};
}

// Those that the command line gives, of those that were given or chosen as if.
inline std::vector<std::string> given_options(const Options& opt) {
    std::vector<std::string> names;
    for (auto& [name, value] : describe(opt)) if (was_given(opt, name) && !was_chosen(opt, name)) names.push_back(name);
    return names;
}
inline SamplerOptions sampler_options(const Options& opt) { return {opt.temperature, opt.top_k, opt.top_p}; }
