// data.h: token shards -> batches. Rows of T+1 tokens in an order that is computed, not stored: the position in the data
// is one integer, the number of rows that all ranks together have taken.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>
#include "../base/stop.h"
#include "permute.h"
#include "shards.h"

struct DataOptions {
    int B, T;                 // rows a batch of one rank, tokens a row
    int rank = 0, world = 1;
    int step_batches = 1;     // batches of a rank in a step: one behind the other in the global order
    uint64_t seed = 0;
    bool shuffle = false;     // a new permutation of all rows each epoch; otherwise in file order
    uint64_t only_first = 0;  // over and over the first so many rows (-a 1: those of one step); 0: all
    bool bos_align = false;   // a row starts where a document starts (eot stands in front of each document)
    bool once = false;        // all targets and no more: the last row of a shard may be shorter, the rows behind the last one are empty
    bool repeats = true;      // with bos_align: false marks targets that an earlier or later row has too with -1
    int eot = -1;
    int vocab_size = 0;       // a token at or above it ends the run; 0: not checked
};

// What the model sees: targets[b][t] follows inputs[b][t]. A target of -1 is not counted in the loss.
struct Batch {
    const int* inputs;   // (B, T)
    const int* targets;  // (B, T)
    uint64_t position;   // of this rank's first row
};

// Rows lie within a shard and share one token with the next: row i of a shard is tokens [iT, iT + T], and the last
// tokens of a shard that do not fill a row are dropped; with once they are a shorter row.
// With bos_align the first row of a shard starts at its first document. The row after one that starts at s starts at
// the last document start in (s, s + T], so that a document cut by the end of a row is read again from its start; with
// none there (a document longer than a row) it starts at s + T, inside the document. So every target is in some row,
// and what comes twice is the head of a cut document: with repeats = false those targets are -1 in the earlier row,
// and every target counts once.
class RowIndex {
    std::vector<Shard> shards_;
    std::vector<uint64_t> first_;    // first row of each shard, then the number of rows
    std::vector<uint64_t> starts_;   // bos_align: first token of each row
    std::vector<int> counted_;       // bos_align: targets of each row before the next row's start
    uint64_t T_;
    bool once_;

    void add_aligned_rows(const Shard& shard, int eot) {
        ShardReader reader;
        constexpr size_t BLOCK = 1 << 18;
        std::vector<int> block(BLOCK);
        bool started = once_;        // with once the end of a document that the shard begins with is a row too
        uint64_t row = shard.begin, last = shard.begin;  // start of the open row; last document start seen, in it
        auto close_row = [&](uint64_t next) {
            starts_.push_back(row), counted_.push_back((int)(next - row));
            row = next;
        };
        for (uint64_t begin = shard.begin; begin < shard.end; begin += BLOCK) {
            exit_if_stopping("while --bos-align looked for the documents in " + shard.path);
            size_t n = std::min<uint64_t>(BLOCK, shard.end - begin);
            reader.read(shard, begin, n, block.data());
            for (size_t i = 0; i < n; i++) {
                if (block[i] != eot) continue;
                uint64_t at = begin + i;
                if (!started) started = true, row = last = at;
                while (at > row + T_) close_row(last > row ? last : row + T_);
                last = at;
            }
        }
        // the rest of the shard: rows that it still fills; the last one has no successor to repeat its end
        while (started && row + T_ < shard.end) close_row(last > row ? last : row + T_);
        if (once_ && started && row + 1 < shard.end) starts_.push_back(row), counted_.push_back((int)(shard.end - 1 - row));
        else if (starts_.size() > first_.back()) counted_.back() = (int)T_;
    }

  public:
    RowIndex(const Shards& shards, const DataOptions& o) : shards_(shards), T_((uint64_t)o.T), once_(o.once) {
        CHECK(!shards.empty(), "the data: no shards, must be at least one");
        CHECK(!o.bos_align || o.eot >= 0, "--bos-align needs a tokenizer with an end-of-text token");
        uint64_t rows = 0;
        for (const Shard& shard : shards_) {
            first_.push_back(rows);
            if (o.bos_align) add_aligned_rows(shard, o.eot), rows = starts_.size();
            else if (shard.size() > 1) rows += (shard.size() - 1 + (once_ ? T_ - 1 : 0)) / T_;
        }
        first_.push_back(rows);
        if (rows == 0)
            die("%s: %llu tokens%s, one row takes %d: use more data or a smaller --seq", shards[0].path.c_str(),
                (unsigned long long)count_tokens(shards), o.bos_align ? " (from the first document start on)" : "", o.once ? 2 : o.T + 1);
    }
    uint64_t rows() const { return first_.back(); }
    uint64_t tokens(uint64_t batch) const {  // of an epoch: all that there are where each shard holds `batch` tokens and one more, else those of whole rows
        const bool whole = std::all_of(shards_.begin(), shards_.end(), [&](const Shard& shard) { return shard.size() > batch; });
        return whole && starts_.empty() ? count_tokens(shards_) : rows() * T_;
    }

    struct Row { const Shard* shard; uint64_t begin; int targets, counted; };  // targets: those there are, at most T
    Row operator[](uint64_t row) const {
        size_t s = (size_t)(std::upper_bound(first_.begin(), first_.end(), row) - first_.begin()) - 1;
        uint64_t begin = starts_.empty() ? shards_[s].begin + (row - first_[s]) * T_ : starts_[row];
        int targets = (int)std::min(T_, shards_[s].end - 1 - begin);
        return {&shards_[s], begin, targets, starts_.empty() ? targets : counted_[row]};
    }
};

// Which source a position's row comes from, and which of its rows: computed, not stored. BLOCK rows one after the other hold
// each source's share exactly, in an order that is drawn anew for each block.
class SourceOrder {
    static constexpr uint64_t BLOCK = 1 << 16;  // shares are right to 1.5e-5
    std::vector<uint64_t> first_;               // where each source's share of a block begins, then BLOCK
    uint64_t seed_;

  public:
    SourceOrder(const Mixture& sources, uint64_t seed) : seed_(seed ^ 0x6D69787475726573) {  // other orders than those of rows
        double all = 0, sum = 0;
        for (const Source& source : sources) all += source.weight;
        for (const Source& source : sources) {
            first_.push_back((uint64_t)(sum / all * BLOCK + 0.5));
            sum += source.weight;
        }
        first_.push_back(BLOCK);
        for (size_t s = 0; s < sources.size(); s++)
            CHECK(first_[s] < first_[s + 1], "%s: the weight %g is less than 1/65536 of all weights, %g", sources[s].name.c_str(), sources[s].weight, all);
    }
    struct SourceRow { size_t source; uint64_t row; };
    SourceRow operator[](uint64_t position) const {
        if (first_.size() == 2) return {0, position};
        uint64_t block = position / BLOCK, at = permute(position % BLOCK, BLOCK, seed_, (uint32_t)block);
        size_t s = (size_t)(std::upper_bound(first_.begin(), first_.end(), at) - first_.begin()) - 1;
        return {s, block * (first_[s + 1] - first_[s]) + at - first_[s]};
    }
};

// Fills batches ahead of their use in a thread of its own, into a ring of slots that the caller owns (pinned memory on a
// GPU). In a step that begins at position p, rank r takes step_batches * B rows of the global order from p + r * step_batches * B on, and the position
// moves on by B * world with each batch: which rows a step sees, and which of them make its n-th micro-batch, depends on their number alone.
class DataLoader {
    DataOptions o_;
    std::vector<RowIndex> sources_;
    SourceOrder order_;
    ShardReader reader_;
    std::vector<int> row_;       // the thread's scratch: T+1 tokens
    int* slots_;                 // (nslots, 2, B, T)
    uint64_t nslots_, held_;
    uint64_t position_ = 0;      // of the next batch that next() returns

    std::mutex mutex_;
    std::condition_variable changed_;
    std::thread thread_;
    uint64_t filled_ = 0, taken_ = 0;  // batches since the thread started
    bool stop_ = false;

    size_t slot_ints() const { return 2 * (size_t)o_.B * (size_t)o_.T; }

    void fill_row(uint64_t position, int* inputs, int* targets) {
        size_t T = (size_t)o_.T;
        if (o_.once && position >= rows()) {
            std::fill(inputs, inputs + T, 0), std::fill(targets, targets + T, -1);
            return;
        }
        if (o_.only_first) position %= std::min(o_.only_first, rows());
        SourceOrder::SourceRow place = order_[position];
        const RowIndex& source = sources_[place.source];
        uint64_t n = source.rows(), i = place.row % n;
        if (o_.shuffle) i = permute(i, n, o_.seed, (uint32_t)(place.row / n));
        RowIndex::Row row = source[i];
        size_t n_targets = (size_t)row.targets;
        std::fill(row_.begin(), row_.end(), 0);
        reader_.read(*row.shard, row.begin, n_targets + 1, row_.data());
        if (o_.vocab_size)
            for (size_t t = 0; t <= n_targets; t++)
                if ((unsigned)row_[t] >= (unsigned)o_.vocab_size)
                    die("%s: token %llu is %u, the model's vocabulary has %d: made with another tokenizer?", row.shard->path.c_str(),
                        (unsigned long long)(row.begin + t), (unsigned)row_[t], o_.vocab_size);
        memcpy(inputs, row_.data(), T * sizeof(int));
        memcpy(targets, row_.data() + 1, T * sizeof(int));
        std::fill(targets + (o_.repeats ? row.targets : std::min(row.targets, row.counted)), targets + T, -1);
    }

    // of this rank's batch of that number since the thread started, at a step's beginning, when `position` rows had been taken
    uint64_t first_row(uint64_t position, uint64_t batch) const {
        const uint64_t in_step = batch % (uint64_t)o_.step_batches, before = in_step * (uint64_t)o_.world;
        return position + ((uint64_t)o_.rank * (uint64_t)o_.step_batches + in_step - before) * (uint64_t)o_.B;
    }

    void run(uint64_t position) {
        for (uint64_t batch = 0;; batch++, position += (uint64_t)o_.B * (uint64_t)o_.world) {
            {
                // the slots of the batches that the caller holds, the last held_ of those taken, are not free yet
                std::unique_lock<std::mutex> lock(mutex_);
                changed_.wait(lock, [&] { return stop_ || batch < nslots_ + (taken_ > held_ ? taken_ - held_ : 0); });
                if (stop_) return;
            }
            int* inputs = slots_ + (size_t)(batch % nslots_) * slot_ints();
            int* targets = inputs + slot_ints() / 2;
            uint64_t first = first_row(position, batch);
            for (size_t b = 0; b < (size_t)o_.B; b++)
                fill_row(first + b, inputs + b * (size_t)o_.T, targets + b * (size_t)o_.T);
            std::lock_guard<std::mutex> lock(mutex_);
            filled_ = batch + 1;
            changed_.notify_all();
        }
    }

    void stop() {
        if (!thread_.joinable()) return;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
            changed_.notify_all();
        }
        thread_.join();
        stop_ = false, filled_ = taken_ = 0;
    }

  public:
    // slots: nslots * 2 * B * T ints; 2 slots are enough to read ahead while the caller works on a batch. held: how many of the
    // batches taken last stay as they are
    DataLoader(const Mixture& sources, const DataOptions& options, int* slots, int nslots, int held = 1)
        : o_(options), order_(sources, options.seed), row_((size_t)options.T + 1), slots_(slots), nslots_((uint64_t)nslots), held_((uint64_t)held) {
        for (const Source& source : sources) sources_.emplace_back(source.shards, options);
        const char* name = sources.empty() || sources[0].shards.empty() ? "the data" : sources[0].shards[0].path.c_str();
        CHECK(held >= 1 && nslots >= held, "%s: %d slots for batches, %d of them held: must be at least 1, and no fewer slots", name, nslots, held);
        CHECK(o_.B >= 1 && o_.T >= 1, "%s: batch %d x %d, must be at least 1 x 1", name, o_.B, o_.T);
        CHECK(o_.rank >= 0 && o_.rank < o_.world, "%s: rank %d of %d, must be below it", name, o_.rank, o_.world);
    }
    DataLoader(const Shards& shards, const DataOptions& options, int* slots, int nslots, int held = 1)
        : DataLoader(Mixture{{"", shards}}, options, slots, nslots, held) {}
    ~DataLoader() { stop(); }
    DataLoader(const DataLoader&) = delete;
    DataLoader& operator=(const DataLoader&) = delete;

    uint64_t batches() const {                               // of one rank or another, that hold an epoch: with once, all of it
        uint64_t n = (uint64_t)o_.B;
        return o_.once ? (rows() + n - 1) / n : rows() / n;
    }
    uint64_t rows() const {                                  // an epoch; of a mixture: as many rows as all sources have
        uint64_t n = 0;
        for (const RowIndex& source : sources_) n += source.rows();
        return n;
    }
    // An epoch, for its number of steps: counted as llm.c does, whose scripts wait for the last one by its number. llm.c asks each shard for a batch of all
    // ranks; here one rank's is enough: the number of ranks must not change the number of steps, and with it the schedule.
    uint64_t tokens() const {
        uint64_t n = 0;
        for (const RowIndex& source : sources_) n += source.tokens((uint64_t)o_.B * (uint64_t)o_.T);
        return n;
    }
    uint64_t position() const { return position_; }          // rows taken by all ranks together; to be saved between steps
    void seek(uint64_t position) { stop(), position_ = position; }

    // The next batch; valid until the `held`-th call after. The thread starts at the first call.
    Batch next() {
        if (!thread_.joinable()) thread_ = std::thread([this, from = position_] { run(from); });
        std::unique_lock<std::mutex> lock(mutex_);
        uint64_t batch = taken_++;
        changed_.notify_all();
        changed_.wait(lock, [&] { return filled_ > batch; });
        int* inputs = slots_ + (size_t)(batch % nslots_) * slot_ints();
        Batch result = {inputs, inputs + slot_ints() / 2, first_row(position_, batch)};
        position_ += (uint64_t)o_.B * (uint64_t)o_.world;
        return result;
    }
};

// Bytes of text that the targets stand for, for bits per byte; lengths[id]: bytes of a token, 0 for a special one.
inline uint64_t count_target_bytes(const Batch& batch, size_t n, const std::vector<int>& lengths) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (batch.targets[i] >= 0 && (size_t)batch.targets[i] < lengths.size()) bytes += (uint64_t)lengths[(size_t)batch.targets[i]];
    return bytes;
}
