// draw.cpp: the pictures of the chapters, as SVG: build/learn/draw FOLDER; prints the names of what it wrote. Numbers in them are computed where they are drawn.
#include "adamw/pictures.h"
#include "attention/pictures.h"
#include "block/pictures.h"
#include "embedding/pictures.h"
#include "gelu/pictures.h"
#include "gpu/pictures.h"
#include "layernorm/pictures.h"
#include "llama/pictures.h"
#include "loop/pictures.h"
#include "matmul/pictures.h"
#include "memory/pictures.h"
#include "ranks/pictures.h"
#include "shapes/pictures.h"
#include "softmax/pictures.h"

int main(int argc, char** argv) {
    if (argc != 2) die_with(EXIT_USAGE, "usage: draw FOLDER");
    draw_shapes(argv[1]), draw_coalescing(argv[1]), draw_online(argv[1]), draw_gelu(argv[1]), draw_attention(argv[1]);
    draw_embedding(argv[1]), draw_adamw(argv[1]), draw_block(argv[1]), draw_memory(argv[1]), draw_banks(argv[1]);
    draw_buffers(argv[1]), draw_mma(argv[1]), draw_ring(argv[1]), draw_tree(argv[1]), draw_overlap(argv[1]);
    draw_rope(argv[1]), draw_gqa(argv[1]), draw_loop(argv[1]), draw_matmul(argv[1]);
}
