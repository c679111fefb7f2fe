// Power cuts: what the shipped trainer writes, syncs and renames in whole runs is recorded (disk.h) and replayed into the states in which a disk may be found
// after a cut at any moment. In each of them every checkpoint that was committed (its DONE was written) and not pruned since is whole, none is a mixture of
// two, no folder has a checkpoint's name that is not one, DONE is no lie, the logs are as long as their checkpoint counts on, and the token cache is whole
// or absent. The program's own functions look at all states; the trainer itself goes on from some, to the bits of the undisturbed run.
// And each sync is needed: were it not there, a state would be found that breaks this. Those that are not are listed, with the reason.
//     STATES=100000 RESUMES=2000 build/tests power      so many, by each model half (make test-power); SEED=1: others
#include "disk.h"
#include "runs.h"

namespace {
std::string g_run, g_work;  // where runs are recorded, and where states are looked at
const std::string OUT = "r";

// A checkpoint as it was when it got its name, and the logs up to where it counts on them.
struct Saved { std::map<std::string, std::string> files, logs; };
struct Recorded {
    std::string name;
    Disk began_as;
    std::vector<Operation> operations;
    std::map<int, std::vector<Saved>> saved;   // of each step, as often as it was
    std::vector<std::set<int>> required;       // after so many operations: the checkpoints that must be there
    std::set<int> damaged, went_before;        // by us, before it began; and those that it did not find, for once
    bool goes_on = true;                       // from a state of its, to the bits of the undisturbed run
    std::string cache, cached;                 // the token cache: path and contents
    std::map<std::string, std::set<std::string>> marks;  // GOOD_00000002 and the like: what they ever said
};

int step_of_name(const std::string& name, const char* prefix) {  // "DONE_00000002" -> 2 for "DONE_"; else -1
    return name.starts_with(prefix) && name.size() == strlen(prefix) + 8 ? atoi(name.c_str() + strlen(prefix)) : -1;
}
Saved save_of(const Disk& disk, int folder) {
    Saved saved;
    for (const auto& [name, node] : disk.nodes[(size_t)folder].entries) saved.files[name] = disk.data(node);
    const Json trainer = json_parse(saved.files["trainer.json"], "trainer.json");
    for (const auto& [log, field] : std::map<std::string, const char*>{{"main.log", "main_log"}, {"metrics.jsonl", "metrics"}})
        saved.logs[log] = disk.data(disk.find(OUT + "/" + log)).substr(0, (size_t)trainer.at(field, "trainer.json").as_int("trainer.json", 0));
    return saved;
}

// Goes through the operations once, to know what must be there when.
void find_required(Recorded& r) {
    Disk live = r.began_as;
    std::set<int> required;
    if (const int out = live.find(OUT); out >= 0)
        for (const auto& [name, node] : live.nodes[(size_t)out].entries) {
            if (const int step = step_of_name(name, "step_"); step >= 0 && !r.damaged.count(step)) r.saved[step].push_back(save_of(live, node));
            if (const int step = step_of_name(name, "DONE_"); step >= 0 && !r.damaged.count(step)) required.insert(step);
            if (name.starts_with("GOOD_") || name.starts_with("BAD_")) r.marks[name].insert(live.data(node));
        }
    r.required.push_back(required);
    // one that is passed over does not count on the logs any more: they are cut to where the one before it does
    if (!r.went_before.empty()) for (auto& [step, saves] : r.saved) if (r.went_before.count(step)) saves[0].logs.clear();
    for (const Operation& o : r.operations) {
        live.apply(o);
        const bool in_out = o.is_of_names() && o.folder == live.find(OUT);
        if (in_out && o.what == Operation::RENAME && o.name.ends_with(".new")) r.saved[step_of_name(o.name2, "step_")].push_back(save_of(live, o.node));
        const std::string& named = o.what == Operation::RENAME ? o.name2 : o.name;
        if (in_out && o.what != Operation::REMOVE && !has(named, ".tmp") && (named.starts_with("GOOD_") || named.starts_with("BAD_"))) r.marks[named].insert(live.data(o.node));
        if (const int step = in_out && o.what == Operation::CREATE ? step_of_name(o.name, "DONE_") : -1; step >= 0) required.insert(step);
        if (const int step = in_out && o.what == Operation::RENAME && o.name2.ends_with(".del") ? step_of_name(o.name, "step_") : -1; step >= 0) required.erase(step);
        r.required.push_back(required);
    }
    const int tokens = live.find(OUT + "/tokens");
    for (const auto& [name, node] : live.nodes[(size_t)tokens].entries) if (name.ends_with(".bin")) r.cache = OUT + "/tokens/" + name, r.cached = live.data(node);
}

// What the model has in the end must be what lies there: nothing was written that was not seen.
std::string difference(const Disk& disk, int node, const std::string& path) {
    const Node& n = disk.nodes[(size_t)node];
    if (!n.is_folder) return text_of(path) == disk.data(node) ? "" : path + ": its bytes are not those that were recorded";
    std::vector<std::string> names;
    for (const auto& [name, entry] : n.entries) names.push_back(name);
    if (names != list_folder(path)) return path + ": its names are not those that were recorded";
    for (const auto& [name, entry] : n.entries) if (std::string error = difference(disk, entry, path + "/" + name); !error.empty()) return error;
    return "";
}

// unread: the first file of that name cannot be found, once.
Recorded record(const std::string& name, int ranks, const std::string& options, std::set<int> damaged = {}, std::set<int> went_before = {}, const std::string& unread = "") {
    Recorded r;
    r.name = name, r.damaged = std::move(damaged), r.went_before = std::move(went_before), r.goes_on = r.went_before.empty();
    Recorder recorder(g_run);
    r.began_as = recorder.began_as;
    Tracer tracer(g_run);
    tracer.on_exit = [&](const Call& call, long result) { recorder.record(call, result); };
    bool failed = unread.empty();
    tracer.on_entry = [&](const Call& call, int) {
        if (failed || !call.is(Does::OPENS) || !call.path.ends_with(unread)) return Order{};
        return failed = true, Order{Order::FAIL, ENOENT};
    };
    const Tracer::Ended ended = tracer.run(small_run(g_run, OUT, ranks, options), g_work + "/said");
    if (ended.code) FAIL("%s ended with %d: %s", name.c_str(), ended.code, ended.said.c_str());
    EXPECT_STR(difference(recorder.live, 0, g_run), "");
    r.operations = std::move(recorder.operations);
    for (size_t i = r.began_as.nodes.size(); i < recorder.live.nodes.size(); i++) r.began_as.nodes.push_back({recorder.live.nodes[i].is_folder, {}, nullptr});
    find_required(r);
    return r;
}

// "", or what is wrong with a disk after a cut before the p-th operation.
std::string look_at(const Recorded& r, size_t p, const Disk& disk) {
    const std::string state = g_work + "/state", out = state + "/" + OUT;
    remove_tree(state);
    write_out(disk, 0, state, g_work + "/pool");
    std::set<int> whole;
    for (const Checkpoint& c : list_checkpoints(out)) {
        const std::string error = verify_checkpoint(c.path), name = c.path.substr(out.size() + 1);
        if (!error.empty() && r.damaged.count(c.step)) continue;
        if (!error.empty()) return name + ": " + error;
        whole.insert(c.step);
        Saved here;
        for (const auto& [file, node] : disk.nodes[(size_t)disk.find(OUT + "/" + name)].entries) here.files[file] = disk.data(node);
        const auto is = [&](const Saved& saved) { return saved.files == here.files; };
        const auto found = std::find_if(r.saved.at(c.step).begin(), r.saved.at(c.step).end(), is);
        if (found == r.saved.at(c.step).end()) return name + ": a mixture of two, or with something left out";
        for (const auto& [log, text] : found->logs)
            if (disk.data(disk.find(OUT + "/" + log)).compare(0, text.size(), text) != 0) return log + ": not as " + name + " counts on it";
    }
    for (int step : r.required[p]) if (!whole.count(step)) return format("the checkpoint of step %d is lost", step);
    if (const int folder = disk.find(OUT); folder >= 0)
        for (const auto& [name, node] : disk.nodes[(size_t)folder].entries)
            if (const int step = step_of_name(name, "DONE_"); step >= 0 && !whole.count(step) && !r.damaged.count(step)) return name + " without its checkpoint";
    if (p == r.operations.size() && disk.find(OUT + format("/DONE_%08d", LAST_STEP)) < 0) return "the run has ended, and no DONE says so";
    for (const auto& [name, said] : r.marks) {
        const int node = disk.find(OUT + "/" + name);
        if (node >= 0 ? !said.count(disk.data(node)) : p == r.operations.size() && name.ends_with(format("%08d", LAST_STEP))) return name + " does not say what was written";
    }
    if (const int node = disk.find(r.cache); node >= 0 && disk.data(node) != r.cached) return r.cache + ": a part of the token cache";
    return "";
}

// The trainer itself goes on from there.
std::string go_on_from(const Disk& disk, int ranks) {
    remove_tree(g_work + "/" + OUT);
    if (const int out = disk.find(OUT); out >= 0) write_out(disk, out, g_work + "/" + OUT, "");
    return resume_and_compare(g_work, OUT, g_work + "/alone", ranks);
}

// The bytes and names of a disk, as one number: a state that was looked at is not looked at again.
uint64_t digest(const Disk& disk, int node, uint64_t seed) {
    const Node& n = disk.nodes[(size_t)node];
    if (!n.is_folder) return xxh64(disk.data(node).data(), disk.data(node).size()) + seed;
    for (const auto& [name, entry] : n.entries) seed = digest(disk, entry, xxh64(name.data(), name.size()) + seed * 0x9E3779B97F4A7C15u);
    return seed * 31 + 1;
}

struct Looked { int states = 0, of_journal = 0, again = 0, resumes = 0, wrong = 0; };
void look_at_states(const Recorded& r, bool journal, int states, int resumes, Looked& looked) {
    const auto seed = (uint64_t)how_many("SEED", 0) * 1000;
    PowerCut cut(journal, r.began_as, 15'000 + seed);
    Random random(16'000 + seed + journal);
    const int cuts = (int)r.operations.size() + 1;
    std::set<std::pair<uint64_t, std::set<int>>> seen;
    for (int p = 0; p < cuts; p++) {
        if (p > 0) cut.step(r.operations[(size_t)p - 1]);
        // their shares, without loss by rounding
        const int here = (int)((int64_t)states * (p + 1) / cuts - (int64_t)states * p / cuts), runs = (int)((int64_t)resumes * (p + 1) / cuts - (int64_t)resumes * p / cuts);
        for (int i = 0, left = here, went_on = 0; left > 0 && i < 3 * here; i++) {
            const int n = here >= cut.special_states() ? i : random.between(0, cut.special_states() + here);
            const Disk disk = cut.state(n);
            if (p < cuts - 1 && !seen.insert({digest(disk, 0, 0), r.required[(size_t)p]}).second) { looked.again++; continue; }
            looked.states++, looked.of_journal += journal, left--;
            std::string error = look_at(r, (size_t)p, disk);
            if (error.empty() && went_on++ < runs && r.goes_on) looked.resumes++, error = go_on_from(disk, r.name.starts_with("two") ? 2 : 1);
            if (!error.empty()) looked.wrong++, FAIL("%s, %s, cut before operation %d (%s), state %d: %s", r.name.c_str(), journal ? "ordered journal" : "weakest POSIX", p, p < cuts - 1 ? r.operations[(size_t)p].text.c_str() : "none: it has ended", n, error.c_str());
            if (cut.pending.empty()) break;
        }
        if (p % 64 == 0) remove_tree(g_work + "/pool"), make_folders(g_work + "/pool");
    }
}

// ---- without one of its syncs ------------------------------------------------------------------------------------------

// Names of a kind are one: numbers are #, and so is the fingerprint in a token cache's name.
std::string kind_of(std::string text) {
    for (size_t at = 0; (at = text.find(".bin", at)) != text.npos; at++)
        if (at > 17 && text[at - 17] == '-' && text.find_first_not_of("0123456789abcdef", at - 16) == at) text.replace(at - 16, 16, "0"), at -= 15;
    std::string kind;
    for (char c : text) if (c < '0' || c > '9') kind += c; else if (!kind.ends_with("#")) kind += '#';
    return kind;
}
// What a sync is for: what it makes durable.
std::string purpose(const Operation& sync, const std::vector<const Operation*>& covered) {
    std::set<std::string> kinds;
    for (const Operation* o : covered) kinds.insert(kind_of(o->text));
    std::string text = kind_of(sync.text) + ":";
    for (const std::string& kind : kinds) text += " " + kind + ";";
    return text;
}
// Whether a state is found that breaks what must hold, where the i-th operation, a sync, is not there.
bool is_missed(const Recorded& r, size_t i, std::string& what_for) {
    for (const bool journal : {false, true}) {
        PowerCut cut(journal, r.began_as, 17'000);
        for (size_t p = 0; p <= i; p++) cut.step(r.operations[p], p == i);
        const std::vector<const Operation*> covered = cut.covered_by(r.operations[i]);
        if (!journal) what_for = purpose(r.operations[i], covered);
        const auto is_covered = [&](const Operation* o) { return std::find(covered.begin(), covered.end(), o) != covered.end(); };
        for (size_t p = i + 1; std::any_of(cut.pending.begin(), cut.pending.end(), is_covered); p++) {
            const auto breaks = [&](const Disk& disk) { return !look_at(r, p, disk).empty(); };
            if (journal) for (int n = 0; n < 6; n++) { if (breaks(cut.state(n))) return true; }
            else {
                if (breaks(cut.state_of([&](const Operation& o) { return is_covered(&o) ? PowerCut::NONE : PowerCut::ALL; }))) return true;
                if (breaks(cut.state_of([&](const Operation& o) { return is_covered(&o) ? PowerCut::SOME : PowerCut::ALL; }))) return true;
                if (breaks(cut.state_of([&](const Operation&) { return PowerCut::NONE; }))) return true;
                for (size_t one = 0; one < covered.size() && one < 8; one++)
                    if (breaks(cut.state_of([&](const Operation& o) { return &o == covered[one] ? PowerCut::NONE : PowerCut::ALL; }))) return true;
            }
            if (p == r.operations.size()) break;
            cut.step(r.operations[p]);
        }
    }
    return false;
}
// Syncs that may as well not be there, by what they make durable.
const std::map<std::string, const char*> NOT_NEEDED = {
    {"fsync r: openat r/.lock;", "a lock is of processes that run now"},
    {"fsync r: mkdir r/tokens; openat r/.lock;", "a token cache that is missing is made again"},
    {"fsync r: mkdir r/tokens; unlink r/.ranks;", "the same"},
    {"fsync r/.ranks.tmp-#: write r/.ranks.tmp-#;", "by it ranks that run now find each other's folder"},
    {"fsync r: openat r/.lock; openat r/.ranks.tmp-#; rename r/.ranks.tmp-# -> r/.ranks;", "the same"},
    {"fsync r/.step_#.new/.manifest-#: write r/.step_#.new/.manifest-#;", "rank 0 reads it now, and its lines are in MANIFEST, which is synced"},
    {"fsync r: openat r/main.log; openat r/metrics.jsonl;", "the commit syncs the folder again, before a checkpoint counts on the logs"},
    {"fsync r: rename r/step_# -> r/.step_#.old;", "the rename that follows takes the name which this one leaves: one is not there without the other"},
    {"fsync r: mkdir r/.step_#.new; unlink r/GOOD_#;", "what replaces it is as good: that it is not known yet makes a run go back further"},
    {"fsync r: openat r/DONE_#;", "what says that it is good, or a pruning, comes next and syncs the folder again"},
    {"fsync r: unlink r/DONE_#;", "the save that follows syncs the folder before it counts"},
    {"fsync r/tokens: openat r/tokens/text.txt-#.bin.#-#.tmp; rename r/tokens/text.txt-#.bin.#-#.tmp -> r/tokens/text.txt-#.bin;", "a token cache that is missing is made again"},
    {"fsync r: rename r/.step_#.old -> r/.step_#.del;", "what replaced it is there, so that .old counts no more, half-deleted or not"},
    {"fsync r: rmdir r/.step_#.del;", "it counts no more, and a resume removes what is left of it"},
    {"fsync r: openat r/DONE_#; rmdir r/.step_#.del;", "the pruning that follows here syncs the folder again"},
};

std::vector<Recorded> record_runs() {
    make_folders(g_work + "/pool");
    run_command(small_run(g_work, "alone", 1));
    std::vector<Recorded> runs;
    remove_tree(g_run + "/" + OUT);
    runs.push_back(record("from the start", 1, ""));
    remove_tree(g_run + "/" + OUT);
    runs.push_back(record("two ranks, none pruned", 2, "-nk 0"));
    // a checkpoint that does not verify is passed over, and written again: so one takes another's place
    for (const bool damaged : {true, false}) {
        remove_tree(g_run + "/" + OUT);
        run_command(small_run(g_run, OUT, 1, "-x 4"));
        if (damaged) write_file_atomically(checkpoint_path(g_run + "/" + OUT, 4) + "/config.json", "{}");
        runs.push_back(damaged ? record("resumed before a damaged one", 1, "-y 1", {4}) : record("resumed before one that could not be read", 1, "-y 1", {}, {4}, "step_00000004/MANIFEST"));
    }
    // three times the operations; what goes on has other options
    remove_tree(g_run + "/" + OUT);
    runs.push_back(record("saved at each step, one kept", 1, "-n 1 -nk 1"));
    runs.back().goes_on = false;
    return runs;
}
}  // namespace

TEST(power_cuts) {
    const Scratch run("power"), work("states");
    g_run = run.path, g_work = work.path;
    const std::vector<Recorded> runs = record_runs();
    const int states = how_many("STATES", 800), resumes = how_many("RESUMES", 16);
    Looked looked;
    size_t operations = 0;
    for (const Recorded& r : runs) {
        operations += r.operations.size();
        for (const bool journal : {false, true}) look_at_states(r, journal, states / 2 / (int)runs.size(), resumes / 8, looked);
    }
    printf("    %zu operations of %zu runs, %d different states (%d by an ordered journal; %d were found again), from %d of which the trainer went on: %d of them wrong\n", operations, runs.size(), looked.states, looked.of_journal, looked.again, looked.resumes, looked.wrong);
}

TEST(power_cuts_without_one_sync) {
    if (strcmp(BUILD, "build")) SKIP("it is about syncs, which a sanitizer changes nothing of, and the plain build looks at them");
    const Scratch run("power"), work("states");
    g_run = run.path, g_work = work.path;
    struct Seen { int all = 0, missed = 0; };
    std::map<std::string, Seen> seen;
    int needed = 0, idle = 0;
    // When a copy is written beside training, another sync at times covers what this one is for: what nobody would miss is looked for in other recordings, too.
    for (int recordings = 0, open = 1; open && recordings < 6; recordings++) {
        for (const Recorded& r : record_runs())
            for (size_t i = 0; i < r.operations.size(); i++) {
                if (r.operations[i].what != Operation::SYNC) continue;
                std::string what_for;
                const bool missed = is_missed(r, i, what_for);
                if (what_for.ends_with(":")) idle++;  // nothing had changed since the last one
                else seen[what_for].all++, seen[what_for].missed += missed, needed += missed;
            }
        open = 0;
        for (const auto& [what_for, s] : seen) open += s.missed == 0 && !NOT_NEEDED.count(what_for);
    }
    int all = 0;
    for (const auto& [what_for, s] : seen) {
        all += s.all;
        if (how_many("STATES", 0)) printf("    %3d of %3d missed  %s\n", s.missed, s.all, what_for.c_str());
        if (s.missed == 0 && !NOT_NEEDED.count(what_for)) FAIL("nobody would miss: %s", what_for.c_str());
        if (s.missed > 0 && NOT_NEEDED.count(what_for)) FAIL("%d of %d are missed, which the list calls not needed: %s", s.missed, s.all, what_for.c_str());
    }
    for (const auto& [what_for, why] : NOT_NEEDED) if (!seen.count(what_for)) FAIL("the list of syncs that are not needed has one that there is not: %s", what_for.c_str());
    printf("    %d syncs, and %d that find nothing new: %d are missed where they are not there; the others are of %zu kinds, listed with the reason, or of kinds that others cover at times\n",
           all, idle, needed, NOT_NEEDED.size());
}
