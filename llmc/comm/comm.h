// comm.h: who am I among the ranks of a run, and what they do together. A world of one is a valid communicator: every operation is then the
// identity.
#pragma once
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>
#include "../base/check.h"
#include "../base/xxh64.h"
#include "flight_recorder.h"
#include "transport.h"

struct Comm {
    int rank = 0, world = 1;
    int local_rank = 0, local_world = 1;  // among the ranks of this machine
    std::shared_ptr<Transport> transport; // null: alone

    // parts[r] = what rank r has in parts[rank]; a value that memcpy copies
    template <class X> void all_gather(std::vector<X>& parts) const {
        CHECK((int)parts.size() == world, "all_gather: %zu parts for %d ranks", parts.size(), world);
        if (world == 1) return;
        flight_recorder().begin("all_gather of values", sizeof(X));
        transport->all_gather_host(parts.data(), sizeof(X));
        flight_recorder().end();
    }
    void barrier() const {
        std::vector<char> none((size_t)world);
        all_gather(none);
    }
    // On all ranks the bits that are set on one.
    unsigned char any_bits(unsigned char mine) const {
        std::vector<unsigned char> all((size_t)world);
        all[(size_t)rank] = mine;
        all_gather(all);
        for (unsigned char one : all) mine |= one;
        return mine;
    }
    // true on all ranks if it is true on one
    bool any(bool mine) const { return any_bits(mine) != 0; }
    // Of values that one rank has each, 0 on the others: all, on all.
    template <class X> void combine(std::vector<X>& values) const {
        if (world == 1) return;
        std::vector<X> all((size_t)world * values.size());
        std::copy(values.begin(), values.end(), all.begin() + (long)((size_t)rank * values.size()));
        flight_recorder().begin("combine", values.size() * sizeof(X));
        transport->all_gather_host(all.data(), values.size() * sizeof(X));
        flight_recorder().end();
        for (size_t i = 0; i < values.size(); i++)
            for (size_t r = 0; r < (size_t)world; r++) if (r != (size_t)rank) values[i] = (X)(values[i] + all[r * values.size() + i]);
    }
    // Rank 0's value, on all. A value that memcpy copies.
    template <class X> X broadcast(X value) const {
        struct Part { X value; };  // a vector of bool has no elements in memory
        std::vector<Part> all((size_t)world, Part{value});
        all_gather(all);
        return all[0].value;
    }
    std::string broadcast(std::string text) const {
        constexpr size_t PIECE = 1024;
        struct Piece { char bytes[PIECE]; };
        text.resize(broadcast(text.size()));
        for (size_t at = 0; at < text.size(); at += PIECE) {
            const size_t n = std::min(PIECE, text.size() - at);
            Piece piece{};
            memcpy(piece.bytes, text.data() + at, n);
            piece = broadcast(piece);
            memcpy(text.data() + at, piece.bytes, n);
        }
        return text;
    }

    // Device memory: transport.h
    void exchange(const std::vector<Message>& sends, const std::vector<Message>& receives, stream_t stream) const {
        if (world == 1) return;
        size_t bytes = 0;
        for (const Message& m : sends) bytes += m.bytes;
        flight_recorder().begin("exchange", bytes);
        transport->exchange(sends, receives, stream);
        flight_recorder().end();
    }
    void all_gather(void* all, size_t bytes, stream_t stream) const {
        if (world == 1) return;
        flight_recorder().begin("all_gather", bytes);
        transport->all_gather(all, bytes, stream);
        flight_recorder().end();
    }
    void reduce_scatter(float* all, size_t n, size_t rest, stream_t stream) const {
        if (world == 1) return;
        flight_recorder().begin("reduce_scatter", ((size_t)world * n + rest) * sizeof(float));
        transport->reduce_scatter(all, n, rest, stream);
        flight_recorder().end();
    }
    void all_reduce(float* all, size_t n, stream_t stream) const {
        if (world == 1) return;
        flight_recorder().begin("all_reduce", n * sizeof(float));
        transport->all_reduce(all, n, stream);
        flight_recorder().end();
    }
    // Device memory of what is summed by reduce_scatter and all_reduce and gathered by all_gather: every rank makes this call once, and says where in it what lies.
    void* memory_of_collectives(size_t bytes, const std::string& places) const {
        if (world == 1) return device_alloc(bytes);
        flight_recorder().begin("memory of collectives", bytes);
        void* memory = transport->memory_of_collectives(bytes, xxh64(places.data(), places.size()), local_world == world);
        flight_recorder().end();
        return memory;
    }
    std::string windows() const { return transport ? transport->windows() : ""; }
    void leave() const {
        if (!transport) return;
        transport->leave();
        if (transport->also_ends) transport->also_ends();
    }
};
