// partition.h: ZeRO's partition (Rajbhandari et al. 2020, section 5): which rank adds up which gradients and, from stage 1 on, holds the optimizer
// state of those elements and updates them.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>
#include "../layers/adamw.h"
#include "../layers/gradients.h"
#include "tensors.h"

constexpr int WHOLE_MODEL = -1;  // of no layer

struct Range { size_t begin, end; size_t size() const { return end - begin; } };  // of the flat parameters

// What is exchanged at a time: a layer, or a tensor of the whole model or a part of it. Each rank has one piece of each bucket, so that all of them
// send and receive as much at any time.
struct Bucket { size_t begin, end; int layer = WHOLE_MODEL; };  // in chunks

// What a rank has of a bucket: the elements that it adds up, and where they are among all that it has, in elements and in chunks.
struct OwnPiece { Bucket bucket, chunks; Range range; size_t at, chunks_at; };

// What a rank holds of the optimizer's state: elements `range` of the parameters, from `at` on in its own buffers, from `v_at` on in that of second moments,
// which Muon's have none of. Where Muon is the optimizer all of them are of one group.
struct Owned {
    Range range;
    size_t at, v_at = 0;
    Update group = ADAMW;
    size_t second_moments() const { return group == MUON ? 0 : range.size(); }
};

// How a bucket is cut into pieces.
struct Cut {
    bool equally = false;  // to the element, but for less than 64 a rank, which the last one has too: as libraries add; else at the end of a chunk
    int per_node = 0;      // ranks of each node, whose pieces are such that they exchange among themselves first: pieces.h; 0: all are of one
};

class Partition {
    struct Tensor { size_t begin, end, first_chunk, chunks; bool whole; int layer; Update group; };
    std::vector<Tensor> tensors;  // in the order of memory; those that are cut equally in parts
    size_t elements;
    Update optimizer;
    Cut cut;

    const Tensor& tensor_of(size_t chunk) const {
        return *(std::upper_bound(tensors.begin(), tensors.end(), chunk, [](size_t c, const Tensor& t) { return c < t.first_chunk; }) - 1);
    }
    // The chunk that begins at this element.
    size_t chunk_at(size_t element) const {
        if (element == elements) return chunks;
        const Tensor& t = tensors[tensor_at(element)];
        return t.first_chunk + (element - t.begin) / CHUNK;
    }
    size_t tensor_at(size_t element) const {
        return (size_t)(std::upper_bound(tensors.begin(), tensors.end(), element, [](size_t e, const Tensor& other) { return e < other.begin; }) - tensors.begin()) - 1;
    }
    // The chunk that begins piece `place` of a bucket; the end of the bucket where place = world.
    size_t bound(const Bucket& bucket, int place) const {
        if (cut.equally && place < world) return chunk_at(range_of(bucket).begin + (size_t)place * equal_share(range_of(bucket)));
        const size_t c = bucket.begin + (bucket.end - bucket.begin) * (size_t)place / (size_t)world;
        if (c == bucket.begin || c == bucket.end) return c;
        const Tensor& t = tensor_of(c);
        if (!t.whole || c == t.first_chunk) return c;
        const size_t after = t.first_chunk + t.chunks;
        return std::clamp(c - t.first_chunk < after - c ? t.first_chunk : after, bucket.begin, bucket.end);
    }
    // Whole matrices are too few for many ranks to have one of each layer: who has none of this one has one of the next.
    int turned(const Bucket& bucket, int local) const { return optimizer == MUON && bucket.layer > 0 ? (local + bucket.layer) % per_node : local; }
    // Cut where the group changes, if Muon is the optimizer, and second moments placed.
    std::vector<Owned> by_group(const std::vector<Owned>& list) const {
        std::vector<Owned> parts;
        size_t v_at = 0;
        for (const Owned& o : list) {
            const size_t before = parts.size();
            if (optimizer != MUON) parts.push_back(o);
            else for (size_t i = tensor_at(o.range.begin); i < tensors.size() && tensors[i].begin < o.range.end; i++) {
                const Tensor& t = tensors[i];
                const Range range{std::max(t.begin, o.range.begin), std::min(t.end, o.range.end)};
                if (parts.size() > before && parts.back().group == t.group) parts.back().range.end = range.end;
                else parts.push_back({range, o.at + (range.begin - o.range.begin), 0, t.group});
            }
            for (size_t i = before; i < parts.size(); i++) parts[i].v_at = v_at, v_at += parts[i].second_moments();
        }
        return parts;
    }
    // Chunks end where pieces do.
    void cut_equally() {
        std::vector<Range> ranges;
        std::vector<size_t> cuts;
        for (const Bucket& b : buckets) {
            ranges.push_back(range_of(b));
            for (size_t r = 0; r < (size_t)world; r++) cuts.push_back(ranges.back().begin + r * equal_share(ranges.back()));
        }
        std::vector<Tensor> parts;
        size_t next = 0, first_chunk = 0;
        for (const Tensor& t : tensors)
            for (size_t at = t.begin, end; at < t.end; at = end) {
                while (next < cuts.size() && cuts[next] <= at) next++;
                end = next < cuts.size() ? std::min(cuts[next], t.end) : t.end;
                const size_t n = (end - at + CHUNK - 1) / CHUNK;
                parts.push_back({at, end, first_chunk, n, false, t.layer, t.group});
                first_chunk += n;
            }
        tensors = std::move(parts), chunks = first_chunk;
        for (size_t i = 0; i < buckets.size(); i++) buckets[i].begin = chunk_at(ranges[i].begin), buckets[i].end = chunk_at(ranges[i].end);
    }

public:
    int world, per_node, nodes;
    size_t chunks = 0;            // of all gradients
    std::vector<Bucket> buckets;  // in the order of memory

    // The optimizer decides where a piece may end: AdamW's after any chunk; Muon orthogonalises whole matrices, so that a piece which would end
    // within one of its matrices ends at the nearer end of that matrix.
    Partition(const ParameterList& list, int ranks, Update by, Cut how = {}) : elements(list.elements), optimizer(by), cut(how), world(ranks), per_node(how.per_node ? how.per_node : ranks), nodes(ranks / per_node) {
        CHECK(world % per_node == 0 && (nodes == 1 || !cut.equally), "%d ranks, %d of a node", world, per_node);
        for (size_t i = 0; i < list.all.size(); i++) {
            const Parameter& p = list.all[i];
            const size_t end = i + 1 < list.all.size() ? list.all[i + 1].offset : elements, n = (end - p.offset + CHUNK - 1) / CHUNK;
            tensors.push_back({p.offset, end, chunks, n, optimizer == MUON && p.update == MUON, p.layer, p.update});
            chunks += n;
        }
        if (world == 1) {  // nothing is exchanged
            buckets.push_back({0, chunks});
            return;
        }
        size_t largest_layer = 1;
        std::vector<Bucket> whole;  // layers and tensors of the whole model
        for (size_t i = 0, end; i < tensors.size(); i = end) {
            for (end = i + 1; end < tensors.size() && tensors[i].layer >= 0 && tensors[end].layer == tensors[i].layer;) end++;
            whole.push_back({tensors[i].first_chunk, tensors[end - 1].first_chunk + tensors[end - 1].chunks, tensors[i].layer});
            if (tensors[i].layer >= 0) largest_layer = std::max(largest_layer, whole.back().end - whole.back().begin);
        }
        for (const Bucket& w : whole)  // none is larger than a layer, and so is the memory for what is received
            for (size_t at = w.begin; at < w.end; at += largest_layer) buckets.push_back({at, std::min(w.end, at + largest_layer), w.layer});
        CHECK(!cut.equally || optimizer == ADAMW, "whole matrices are no equal pieces");
        if (cut.equally) cut_equally();
    }

    // Where a chunk begins, in elements.
    size_t begin_of(size_t chunk) const {
        if (chunk == chunks) return elements;
        const Tensor& t = tensor_of(chunk);
        return t.begin + (chunk - t.first_chunk) * CHUNK;
    }
    std::vector<Chunk> chunk_list() const {
        std::vector<Chunk> list;
        for (const Tensor& t : tensors)
            for (size_t at = t.begin; at < t.end; at += CHUNK) list.push_back({at, std::min(CHUNK, t.end - at)});
        return list;
    }

    // A rank's piece of a bucket, in chunks and in elements. Those of equal local number lie together.
    Bucket chunks_of(const Bucket& bucket, int rank) const {
        const int place = turned(bucket, rank % per_node) * nodes + rank / per_node;
        return {bound(bucket, place), bound(bucket, place + 1), bucket.layer};
    }
    Bucket part_of_local(const Bucket& bucket, int local) const {
        const int l = turned(bucket, local);
        return {bound(bucket, l * nodes), bound(bucket, (l + 1) * nodes), bucket.layer};
    }
    // Elements of each rank's piece of a bucket, but for the last one's, if it is cut equally.
    size_t equal_share(const Range& bucket) const { return bucket.size() / (size_t)world / 64 * 64; }
    Range range_of(const Bucket& bucket) const { return {begin_of(bucket.begin), begin_of(bucket.end)}; }
    Range piece(const Bucket& bucket, int rank) const { return range_of(chunks_of(bucket, rank)); }
    std::vector<OwnPiece> own_pieces(int rank) const {
        std::vector<OwnPiece> list;
        size_t at = 0, chunks_at = 0;
        for (const Bucket& b : buckets) {
            const OwnPiece own{b, chunks_of(b, rank), piece(b, rank), at, chunks_at};
            list.push_back(own);
            at += own.range.size(), chunks_at += own.chunks.end - own.chunks.begin;
        }
        return list;
    }
    size_t largest_bucket() const {
        size_t most = 0;
        for (const Bucket& b : buckets) most = std::max(most, range_of(b).size());
        return most;
    }
    size_t largest_piece() const {
        size_t most = 0;
        for (const Bucket& b : buckets) for (int r = 0; r < world; r++) most = std::max(most, piece(b, r).size());
        return most;
    }

    // Elements that a rank receives at a time, at most: of each other rank of a level its own part.
    size_t most_received() const {
        size_t most = (size_t)((nodes > 1 ? nodes : world) - 1) * largest_piece();
        for (const Bucket& b : buckets) for (int g = 0; g < per_node && nodes > 1; g++) most = std::max(most, (size_t)(per_node - 1) * range_of(part_of_local(b, g)).size());
        return most;
    }

    // A rank's elements, in order; pieces that touch are one.
    std::vector<Owned> owned(int rank) const {
        std::vector<Owned> list;
        size_t at = 0;
        for (const Bucket& b : buckets) {
            const Range range = piece(b, rank);
            if (range.size() == 0) continue;
            if (!list.empty() && list.back().range.end == range.begin) list.back().range.end = range.end;
            else list.push_back({range, at});
            at += range.size();
        }
        return by_group(list);
    }
    // Of a rank that holds all.
    std::vector<Owned> all() const { return by_group({{{0, elements}, 0}}); }
    Bucket chunks_of(const Range& range) const { return {chunk_at(range.begin), chunk_at(range.end)}; }
    size_t owned_elements(int rank) const {
        size_t n = 0;
        for (const Bucket& b : buckets) n += piece(b, rank).size();
        return n;
    }
    size_t most_owned_elements() const {
        size_t most = 0;
        for (int r = 0; r < world; r++) most = std::max(most, owned_elements(r));
        return most;
    }
    size_t most_second_moments() const {
        size_t most = 0;
        for (int r = 0; r < world; r++) most = std::max(most, second_moments_of(owned(r)));
        return most;
    }
    static size_t second_moments_of(const std::vector<Owned>& list) {
        size_t n = 0;
        for (const Owned& o : list) n += o.second_moments();
        return n;
    }
    size_t owned_chunks(int rank) const {
        size_t n = 0;
        for (const Bucket& b : buckets) n += chunks_of(b, rank).end - chunks_of(b, rank).begin;
        return n;
    }
    size_t most_owned_chunks() const {
        size_t most = 0;
        for (int r = 0; r < world; r++) most = std::max(most, owned_chunks(r));
        return most;
    }

    // Of ranks that each give `leaves` sums of losses and then one sum of squares for each of their chunks, `stride` values in all, one rank behind the
    // other: where the sum of each leaf and then of each chunk is. A rank's leaves follow each other; interleaved: each world'th leaf is one of its.
    std::vector<unsigned> order_of_sums(size_t leaves, size_t stride, bool interleaved = false) const {
        std::vector<unsigned> order((size_t)world * leaves + chunks);
        for (size_t r = 0; r < (size_t)world; r++) {
            for (size_t leaf = 0; leaf < leaves; leaf++) order[interleaved ? leaf * (size_t)world + r : r * leaves + leaf] = (unsigned)(r * stride + leaf);
            size_t at = r * stride + leaves;
            for (const Bucket& b : buckets) {
                const Bucket mine = chunks_of(b, (int)r);
                for (size_t c = mine.begin; c < mine.end; c++) order[(size_t)world * leaves + c] = (unsigned)at++;
            }
        }
        return order;
    }
};

// Adding the sums of leaves 0, 1, 2, ... one after the other as a binary tree: before leaf i so many subtrees wait to be added to others.
inline int waiting_subtrees(int leaf) { return __builtin_popcount((unsigned)leaf); }
// Leaves of the largest subtree that begins with leaf `first` and has none from `end` on.
inline int subtree_within(int first, int end) {
    int n = first ? first & -first : 1 << 30;
    while (n > end - first) n /= 2;
    return n;
}
// Gradient buffers that so many rounds need, in each of which `leaves` more are added, in subtrees as large as they can be: one for the subtree, others for
// those that wait.
inline int gradient_buffers(int rounds, int leaves = 1) {
    int most = 0;
    for (int first = 0; first < rounds * leaves; first += subtree_within(first, (first / leaves + 1) * leaves)) most = std::max(most, waiting_subtrees(first));
    return most + 1;
}
