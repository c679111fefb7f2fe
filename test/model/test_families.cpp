// test_families.cpp: the families' rows in the table of tensors: what exists, how large it is, what files call it, how ranks divide it.
#include "../../llmc/backend.h"
#include "../../llmc/model/config_names.h"
#include "../../llmc/model/flops.h"
#include "../../llmc/model/model.h"
#include "../../llmc/model/model_files.h"
#include "../test.h"

namespace {
const Config LLAMA_TINY{.arch = FAMILIES[LLAMA], .max_T = 16, .V = 67, .L = 2, .NH = 4, .C = 24, .NKV = 2, .HS = 8, .FF = 40};
std::string fresh(const std::string& name) {
    std::string path = "build/tmp/families_test/" + name;
    remove_tree(path), make_folders(path);
    return path;
}
Config with_own_head(Config c) { c.arch.tied = false; return c; }

std::vector<std::string> file_names(const Config& c) {
    std::vector<std::string> names;
    for (const Parameter& p : ParameterList(c).all)
        for (const FileTensor& t : p.files) names.push_back(t.name);
    return names;
}
}  // namespace

// The numbers of parameters that the models' published files hold.
TEST(families_parameter_counts) {
    const Config smollm2{.arch = FAMILIES[LLAMA], .max_T = 8192, .V = 49152, .L = 30, .NH = 9, .C = 576, .NKV = 3, .HS = 64, .FF = 1536};
    const Config llama1b{.arch = FAMILIES[LLAMA], .max_T = 131072, .V = 128256, .L = 16, .NH = 32, .C = 2048, .NKV = 8, .HS = 64, .FF = 8192};
    const Config llama8b{.arch = FAMILIES[LLAMA], .max_T = 131072, .V = 128256, .L = 32, .NH = 32, .C = 4096, .NKV = 8, .HS = 128, .FF = 14336};
    const Config qwen3{.arch = FAMILIES[QWEN3], .max_T = 40960, .V = 151936, .L = 28, .NH = 16, .C = 1024, .NKV = 8, .HS = 128, .FF = 3072};
    EXPECT_EQ(ParameterList(Config()).count(), (size_t)124439808);
    // every named GPT: its heads make up its width, and each count is the formula's, 12 L C^2 + 13 L C + (V + T + 2) C; 355M to 1558M as published
    for (const char* name : {"d1", "d12", "d24", "d36", "d48", "d60", "d72", "d84", "gpt2:d48", "d4c128h4", "gpt3:c384", "gpt3:c768", "gpt3:c1024", "gpt3:c1536",
                             "gpt3:c2048", "gpt3:c2560", "gpt3:c4096", "gpt3:c5120", "gpt3:c12288"}) {
        const Config c = config_by_name(name, 50257);
        check_config(c, name);
        if (c.NKV != c.NH || c.NH * c.HS != c.C || c.QKV() != 3 * c.C || c.FF != 4 * c.C) FAIL("%s: heads %d %d of %d, FF %d, width %d", name, c.NH, c.NKV, c.HS, c.FF, c.C);
        const size_t L = (size_t)c.L, C = (size_t)c.C;
        EXPECT_EQ(ParameterList(c).count(), 12 * L * C * C + 13 * L * C + (size_t)(c.V + c.max_T + 2) * C);
    }
    EXPECT_EQ(ParameterList(config_by_name("d24", 50257)).count(), (size_t)354823168);
    EXPECT_EQ(ParameterList(config_by_name("d36", 50257)).count(), (size_t)774030080);
    EXPECT_EQ(ParameterList(config_by_name("d48", 50257)).count(), (size_t)1557611200);
    EXPECT_EQ(ParameterList(smollm2).count(), (size_t)134515008);
    EXPECT_EQ(ParameterList(llama1b).count(), (size_t)1235814400);
    EXPECT_EQ(ParameterList(with_own_head(llama8b)).count(), (size_t)8030261248);
    EXPECT_EQ(ParameterList(qwen3).count(), (size_t)596049920);
    // what multiplies each token: all of them but the norms' weights: 2 a layer and the last, of C; for Qwen3 2 a layer of HS
    EXPECT_EQ(matmul_parameters(smollm2), 134515008.0 - 61 * 576);
    EXPECT_EQ(matmul_parameters(qwen3), 596049920.0 - 57 * 1024 - 56 * 128);
}

TEST(families_names_in_files) {
    Config qwen3 = with_own_head(LLAMA_TINY);
    qwen3.L = 1, qwen3.arch.qk_norm = true;
    const std::vector<std::string> names = {
        "embed_tokens.weight", "layers.0.input_layernorm.weight", "layers.0.self_attn.q_proj.weight",
        "layers.0.self_attn.k_proj.weight", "layers.0.self_attn.v_proj.weight", "layers.0.self_attn.q_norm.weight",
        "layers.0.self_attn.k_norm.weight", "layers.0.self_attn.o_proj.weight", "layers.0.post_attention_layernorm.weight",
        "layers.0.mlp.gate_proj.weight", "layers.0.mlp.up_proj.weight", "layers.0.mlp.down_proj.weight",
        "norm.weight", "lm_head.weight"};
    EXPECT(file_names(qwen3) == names);
    EXPECT_EQ(file_names(LLAMA_TINY).size(), 2 * 9 + 2u);
}

// Llama's files hold q, k, v, gate and up apart, (out, in); memory holds them one behind the other. What is written is read again.
TEST(families_merged_matrices_are_parts_in_files) {
    const Config c = with_own_head(LLAMA_TINY);
    const std::string out = fresh("round_trip");
    Model<float> model(c, {.B = 1, .T = 8, .train = false}), again(c, {.B = 1, .T = 8, .train = false});
    model.allocate(), again.allocate();
    initialize(model, 0.02, 3);
    CheckpointWriter checkpoint(out, 1);
    save_weights(model, checkpoint, "");
    checkpoint.commit();
    const std::string folder = out + "/step_00000001";
    const SafetensorsModel files(folder);
    size_t first = 0;
    const Block<float>& b = model.block(1);
    for (auto [name, rows] : {std::pair{"q", 4 * 8}, {"k", 2 * 8}, {"v", 2 * 8}}) {
        const auto place = files.find(std::string("model.layers.1.self_attn.") + name + "_proj.weight");
        if (!place.tensor) return FAIL("%s_proj is missing", name);
        EXPECT((place.tensor->shape == std::vector<size_t>{(size_t)rows, 24}));
        std::vector<float> values(place.tensor->count());
        place.file->read_as_float(*place.tensor, values.data(), 0, values.size());
        EXPECT(!memcmp(values.data(), b.qkvw + first * 24, values.size() * sizeof(float)));
        first += (size_t)rows;
    }
    EXPECT_STR(load_folder(again, folder), "model.");
    for (const Parameter& p : model.parameters.all)
        if (memcmp(model.params + p.offset, again.params + p.offset, p.size() * sizeof(float))) FAIL("%s is not what was saved", p.name.c_str());
    EXPECT(b.headw && !b.wpe && !b.ln1b && !b.qnormw && !b.fcb && b.fcprojw);  // what a family lacks is null
}

// Every element of every bucket has one rank; shares are equal to a chunk, and where Muon is the optimizer to one matrix, none of which is cut; or equal but
// for less than 64 elements a rank, which the last one has too.
TEST(families_partition) {
    for (const Config& c : {Config(), Config{.V = 131, .L = 3, .NH = 3, .C = 48}, LLAMA_TINY})
        for (int ranks : {1, 2, 3, 8, 64})
            for (int kind : {0, 1, 2, 3, 4}) {  // pieces that end with chunks; with matrices; equal ones; of nodes of two; of nodes with matrices
                const int per_node = kind >= 3 && ranks % 2 == 0 ? 2 : 0, nodes = per_node ? ranks / 2 : 1;
                const ParameterList list(c);
                const Update optimizer = kind == 1 || kind == 4 ? MUON : ADAMW;
                const Partition partition(list, ranks, optimizer, {.equally = kind == 2, .per_node = per_node});
                size_t at = 0, chunk = 0, owned = 0, chunks = 0, largest_matrix = 0, second = 0, most_second = 0;
                for (const Parameter& p : list.all) if (p.update == MUON) largest_matrix = std::max(largest_matrix, p.size() + 63);
                for (const Bucket& b : partition.buckets) {
                    const size_t share = (partition.begin_of(b.end) - partition.begin_of(b.begin)) / (size_t)ranks + 2 * CHUNK;
                    const size_t equal = partition.equal_share(partition.range_of(b));
                    EXPECT_EQ(b.begin, chunk);
                    for (int place = 0; place < ranks; place++) {  // in memory those of equal local number lie together
                        const int locals = per_node ? per_node : ranks, turn = optimizer == MUON && b.layer > 0 ? b.layer % locals : 0;
                        const int r = place % nodes * locals + (place / nodes + locals - turn) % locals;
                        const Range piece = partition.piece(b, r);
                        const Bucket in_chunks = partition.chunks_of(b, r);
                        EXPECT(piece.begin == at && piece.end >= at && in_chunks.begin == chunk && in_chunks.end >= chunk);
                        EXPECT(piece.size() <= share + (optimizer == MUON ? largest_matrix : 0));
                        if (kind == 2 && ranks > 1) EXPECT(r + 1 < ranks ? piece.size() == equal : piece.size() >= equal && piece.size() < equal + 64 * (size_t)ranks);
                        at = piece.end, chunk = in_chunks.end;
                    }
                    EXPECT_EQ(b.end, chunk);
                }
                EXPECT(at == list.elements && chunk == partition.chunks);
                size_t end = 0;
                const std::vector<Chunk> list_of_chunks = partition.chunk_list();
                EXPECT_EQ(list_of_chunks.size(), partition.chunks);
                for (const Chunk& k : list_of_chunks) {
                    EXPECT(k.offset == end && k.count > 0 && k.count <= CHUNK && k.count % 64 == 0);
                    end += k.count;
                }
                EXPECT_EQ(end, list.elements);
                for (const Parameter& p : list.all) EXPECT(std::any_of(list_of_chunks.begin(), list_of_chunks.end(), [&](const Chunk& k) { return k.offset == p.offset; }));
                for (int r = 0; r < ranks; r++) {
                    size_t elements = 0, last = 0;
                    const std::vector<Owned> all_owned = partition.owned(r);
                    size_t own_chunks = 0, v_at = 0;
                    for (const Owned& o : all_owned) {  // of one group, in which every tensor is; Muon's matrices have no second moments, the others' lie close
                        for (const Parameter& p : list.all)
                            if (p.offset < o.range.end && p.offset + p.size() > o.range.begin) EXPECT_EQ((int)o.group, (int)(optimizer == MUON ? p.update : ADAMW));
                        EXPECT(o.second_moments() == (o.group == MUON ? 0 : o.range.size()) && (o.group == MUON || o.v_at == v_at));
                        EXPECT(partition.begin_of(partition.chunks_of(o.range).begin) == o.range.begin && partition.begin_of(partition.chunks_of(o.range).end) == o.range.end);
                        v_at += o.second_moments();
                    }
                    EXPECT_EQ(v_at, Partition::second_moments_of(all_owned));
                    second += v_at, most_second = std::max(most_second, v_at);
                    for (const OwnPiece& own : partition.own_pieces(r)) {  // where it is among what is owned
                        size_t found = 0;
                        for (const Owned& o : all_owned) {
                            const size_t begin = std::max(own.range.begin, o.range.begin), until = std::min(own.range.end, o.range.end);
                            if (begin >= until) continue;
                            EXPECT(own.at + (begin - own.range.begin) == o.at + (begin - o.range.begin));
                            found += until - begin;
                        }
                        EXPECT_EQ(found, own.range.size());
                        EXPECT_EQ(own.chunks_at, own_chunks);
                        own_chunks += own.chunks.end - own.chunks.begin;
                    }
                    for (const Owned& o : partition.owned(r)) {
                        EXPECT(o.at == elements && o.range.begin >= last && o.range.size() > 0);
                        elements += o.range.size(), last = o.range.end;
                    }
                    EXPECT_EQ(elements, partition.owned_elements(r));
                    owned += elements, chunks += partition.owned_chunks(r);
                    EXPECT(elements <= partition.most_owned_elements() && partition.owned_chunks(r) <= partition.most_owned_chunks());
                }
                EXPECT(owned == list.elements && chunks == partition.chunks);
                size_t without_muon = list.elements;
                for (const Parameter& p : list.all) if (optimizer == MUON && p.update == MUON) without_muon -= align_up(p.size());
                EXPECT(second == without_muon && most_second == partition.most_second_moments() && Partition::second_moments_of(partition.all()) == without_muon);
                if (kind == 1 && c.L == 12 && ranks == 8)  // of four matrices a layer four ranks have one: round all layers no rank has more than one above its share
                    EXPECT(partition.most_owned_elements() < list.elements / 8 + largest_matrix);
                if (optimizer == MUON)
                    for (const Parameter& p : list.all)
                        for (const Bucket& b : partition.buckets)
                            for (int r = 0; r < ranks; r++)
                                if (const size_t bound = partition.piece(b, r).end; p.update == MUON && bound > p.offset && bound < p.offset + p.size()) FAIL("%s is cut over %d ranks", p.name.c_str(), ranks);
            }
}

// What attention keeps is as wide as its heads: per token qkv and its output in each layer, NKV heads in each cache; C has no part in it.
TEST(families_memory_of_attention) {
    struct Bytes { size_t activations, generation; };
    const auto bytes = [](int NH, int NKV, int HS) {
        Config c = LLAMA_TINY;
        c.NH = NH, c.NKV = NKV, c.HS = HS;
        const Model<float> model(c, {.B = 2, .T = 16});
        return Bytes{model.device.bytes_of("activations"), model.device.bytes_of("generation")};
    };
    const size_t L = 2, N = 2 * 16, T = 16, F = sizeof(float);
    const Bytes few = bytes(4, 2, 8), wide = bytes(4, 2, 24), more = bytes(4, 4, 8);
    EXPECT_EQ(few.generation, 2 * L * T * 2 * 8 * F);
    EXPECT_EQ(wide.generation, 2 * L * T * 2 * 24 * F);
    EXPECT_EQ(more.generation, 2 * L * T * 4 * 8 * F);
    EXPECT_EQ(wide.activations - few.activations, L * N * (8 + 4) * (24 - 8) * F);
    EXPECT_EQ(more.activations - few.activations, L * N * 2 * 2 * 8 * F);
}

// The n-th sum of the run, of leaves and then of chunks, is where its rank puts it.
TEST(families_order_of_sums) {
    const ParameterList list(Config{.V = 131, .L = 3, .NH = 3, .C = 48});
    const Partition partition(list, 3, ADAMW);
    const size_t stride = 2 + partition.most_owned_chunks();
    const std::vector<unsigned> order = partition.order_of_sums(2, stride);
    const std::vector<Chunk> chunks = partition.chunk_list();
    std::vector<int> sums(3 * stride, -1);  // each rank says which sum it is
    for (size_t r = 0; r < 3; r++) {
        sums[r * stride] = (int)(2 * r), sums[r * stride + 1] = (int)(2 * r + 1);
        size_t at = r * stride + 2;
        for (const Owned& o : partition.owned((int)r))
            for (size_t k = 0; k < chunks.size(); k++)
                if (chunks[k].offset >= o.range.begin && chunks[k].offset < o.range.end) sums[at++] = (int)(6 + k);
    }
    EXPECT_EQ(order.size(), 6 + partition.chunks);
    for (size_t i = 0; i < order.size(); i++) EXPECT_EQ(sums[order[i]], (int)i);
    // ranks that take turns at the leaves
    for (size_t r = 0; r < 3; r++) sums[r * stride] = (int)r, sums[r * stride + 1] = (int)(3 + r);
    const std::vector<unsigned> interleaved = partition.order_of_sums(2, stride, true);
    for (size_t i = 0; i < interleaved.size(); i++) EXPECT_EQ(sums[interleaved[i]], (int)i);
}

// Leaves are added as soon as their partner is there, so that few wait.
TEST(families_gradient_buffers) {
    const int expected[] = {1, 2, 2, 3, 3, 3, 3, 4, 4};
    for (int leaves = 1; leaves <= 9; leaves++) EXPECT_EQ(gradient_buffers(leaves), expected[leaves - 1]);
    EXPECT(waiting_subtrees(0) == 0 && waiting_subtrees(1) == 1 && waiting_subtrees(6) == 2 && waiting_subtrees(8) == 1);
}
