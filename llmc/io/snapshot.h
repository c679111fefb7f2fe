// snapshot.h: the tensors of a checkpoint's files, copied to memory that was planned for them, so that a thread can write them while training goes on.
// Without that memory each piece is written when it comes. The bytes of the files are the same.
#pragma once
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>
#include "../base/check.h"
#include "safetensors.h"

struct SnapshotMemory { char* at = nullptr; size_t bytes = 0; };

// Of a tensor: bytes as the file has them; or rows x cols elements as memory has them, where the file has (cols, rows).
struct TensorPiece {
    const char* at;
    size_t bytes, rows = 0, cols = 0;
    void (*write_transposed)(SafetensorsWriter&, const TensorPiece&) = nullptr;  // of its type; null: bytes
};

namespace snapshot_detail {
template <class X> void write_transposed(SafetensorsWriter& file, const TensorPiece& piece) {
    const size_t rows = piece.rows, cols = piece.cols;
    const X* from = (const X*)piece.at;
    std::vector<X> block;
    for (size_t col = 0, n; col < cols; col += n) {  // file rows are memory's columns: 1 MB of them at a time
        n = std::min(cols - col, std::max<size_t>((1 << 18) / rows, 1));
        block.resize(n * rows);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < n; c++) block[c * rows + r] = from[r * cols + col + c];
        file.write(block.data(), block.size() * sizeof(X));
    }
}
inline void write_piece(SafetensorsWriter& file, const TensorPiece& piece) {
    if (piece.write_transposed) piece.write_transposed(file, piece);
    else file.write(piece.at, piece.bytes);
}
}  // namespace snapshot_detail

// A file that is copied and not yet written: of text, or of tensors.
struct CopiedFile {
    std::string name, text;
    std::vector<TensorSpec> specs;
    SafetensorsMetadata metadata;
    std::vector<TensorPiece> pieces;
};

class Snapshot {
    SnapshotMemory memory;
    size_t used = 0;

public:
    std::vector<CopiedFile> files;

    explicit Snapshot(SnapshotMemory m) : memory(m) {}
    bool copies() const { return memory.at != nullptr; }
    bool is_full() const { return used == memory.bytes; }
    char* next() const { return memory.at + used; }
    void take(size_t bytes) {
        CHECK(bytes <= memory.bytes - used, "%s: no room for %zu more bytes of a checkpoint: %zu were planned", files.back().name.c_str(), bytes, memory.bytes);
        used += bytes;
    }
};

// Where the pieces of one file's tensors go, in its order.
class TensorSink {
    SafetensorsWriter* file = nullptr;
    Snapshot* snapshot = nullptr;  // of which it is the last file

public:
    explicit TensorSink(SafetensorsWriter& f) : file(&f) {}
    explicit TensorSink(Snapshot& s) : snapshot(&s) {}

    // Where the next piece may be put before it is written, so that it is copied once: `staging`, or its place in the copy.
    template <class X> X* place(X* staging) const { return file ? staging : (X*)snapshot->next(); }
    void write(const TensorPiece& piece) {
        if (file) return snapshot_detail::write_piece(*file, piece);
        TensorPiece copy = piece;
        copy.at = snapshot->next();
        snapshot->take(piece.bytes);
        if (piece.at != copy.at) memcpy((char*)copy.at, piece.at, piece.bytes);
        snapshot->files.back().pieces.push_back(copy);
    }
    void write(const void* data, size_t bytes) { write(TensorPiece{(const char*)data, bytes}); }
    template <class X> void write_transposed(const X* data, size_t rows, size_t cols) {
        write(TensorPiece{(const char*)data, rows * cols * sizeof(X), rows, cols, snapshot_detail::write_transposed<X>});
    }
};
