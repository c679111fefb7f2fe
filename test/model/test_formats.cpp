// What others write loads here, what is written here is what others would have written, and what is neither is refused.
#include "../../llmc/backend.h"
#include "../../llmc/model/model_files.h"
#include "../test.h"

namespace {
const Config TINY{.max_T = 9, .V = 131, .L = 2, .NH = 3, .C = 12};

std::string fresh(const std::string& name) {
    std::string path = "build/tmp/formats_test/" + name;
    remove_tree(path), make_folders(path);
    return path;
}
void put_file(const std::string& path, const std::string& text) {
    FileWriter file(path);
    file.write(text.data(), text.size()), file.close();
}

// A value for element i, in the order of files, of a tensor: exact in bf16 and in half precision, so that every type of file
// must give the same weights.
float value_of(const std::string& name, size_t i) {
    uint64_t x = xxh64(&i, sizeof i, xxh64(name.data(), name.size()));
    return (float)(int)(x % 255 - 127) / 128;
}
uint16_t to_half(float x) {  // exact for the values above: a sign, 7 bits, exponents from -7 to -1
    int e;
    double m = std::frexp(std::fabs(x), &e);
    return (uint16_t)((std::signbit(x) ? 0x8000 : 0) | (x == 0 ? 0 : (e + 14) << 10 | (int)((2 * m - 1) * 1024)));
}

struct Tensor { std::string name; std::vector<size_t> shape; Dtype dtype = Dtype::F32; };
// The tensors of a GPT-2 as transformers lists them: sorted by name, behind a prefix.
std::vector<Tensor> tensors_of(const Config& c, const std::string& prefix, Dtype dtype) {
    std::vector<Tensor> tensors;
    for (const Parameter& p : ParameterList(c).all) tensors.push_back({prefix + p.name, file_shape(p, p.files[0]), dtype});
    std::sort(tensors.begin(), tensors.end(), [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
    return tensors;
}
std::string plain(const std::string& name) {
    if (name == "lm_head.weight") return "wte.weight";  // tied: the same values
    return name.starts_with("transformer.") ? name.substr(12) : name;
}
void write_tensors(const std::string& path, const std::vector<Tensor>& tensors) {
    std::vector<TensorSpec> specs;
    for (const Tensor& t : tensors) specs.push_back({t.name, t.dtype, t.shape});
    SafetensorsWriter writer(path, specs, {{"format", "pt"}});
    for (const Tensor& t : tensors) {
        size_t n = TensorInfo{t.name, t.dtype, t.shape, 0, 0}.count();
        for (size_t i = 0; i < n; i++) {
            float x = value_of(plain(t.name), i);
            uint16_t half = t.dtype == Dtype::F16 ? to_half(x) : bf16(x).bits;
            if (dtype_bits(t.dtype) == 16) writer.write(&half, 2);
            else writer.write(&x, dtype_bits(t.dtype) / 8);
        }
    }
    writer.close();
}
std::string write_folder(const std::string& name, const std::vector<Tensor>& tensors, const Config& c = TINY) {
    std::string folder = fresh(name);
    put_file(folder + "/config.json", config_to_json(c, -1, "float32"));
    write_tensors(folder + "/model.safetensors", tensors);
    return folder;
}

template <class F> std::unique_ptr<Model<F>> make_model(bool train = false, const Config& c = TINY) {
    auto model = std::make_unique<Model<F>>(c, ModelOptions{.B = 2, .T = c.max_T, .train = train});
    model->allocate();
    return model;
}
// Every weight of the model is the value of its place in the file; padding is not touched.
template <class F> void expect_values(const Model<F>& model) {
    for (const Parameter& p : model.parameters.all)
        for (size_t r = 0; r < p.rows; r++)
            for (size_t c = 0; c < p.cols; c++) {
                size_t in_file = p.transposed ? c * p.rows + r : r * p.cols + c, at = p.offset + r * p.cols + c;
                if ((float)model.params[at] != value_of(p.name, in_file) || (model.master && model.master[at] != value_of(p.name, in_file)))
                    return FAIL("%s[%zu][%zu] is %g, expected %g", p.name.c_str(), r, c, (double)(float)model.params[at], (double)value_of(p.name, in_file));
            }
    const size_t end = model.parameters.first[P_wte] + (size_t)model.config.Vp() * (size_t)model.config.C;
    for (size_t i = (size_t)model.config.V * (size_t)model.config.C; i < end; i++) EXPECT((float)model.params[i] == 0);
}
template <class F> void expect_loads(const std::string& folder, const std::string& prefix) {
    auto model = make_model<F>(true);
    EXPECT_STR(load_folder(*model, folder), prefix);
    expect_values(*model);
    EXPECT(config_from_json(folder + "/config.json") == TINY);
}
}  // namespace

TEST(every_form_of_a_folder_loads) {
    for (Dtype dtype : {Dtype::F32, Dtype::BF16, Dtype::F16})
        for (std::string prefix : {"", "transformer."}) {
            std::vector<Tensor> tensors = tensors_of(TINY, prefix, dtype);
            std::string folder = write_folder("form", tensors);
            expect_loads<float>(folder, prefix), expect_loads<bf16>(folder, prefix);
            // in shards, cut anywhere
            for (size_t cut : {(size_t)1, tensors.size() / 2}) {
                const std::string names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
                unlink((folder + "/model.safetensors").c_str());
                write_tensors(folder + "/" + names[0], {tensors.begin(), tensors.begin() + (long)cut});
                write_tensors(folder + "/" + names[1], {tensors.begin() + (long)cut, tensors.end()});
                Json map = Json::object();
                for (size_t i = 0; i < tensors.size(); i++) map.add(tensors[i].name, names[i >= cut]);
                put_file(folder + "/model.safetensors.index.json", json_dump(Json::object().add("metadata", Json::object()).add("weight_map", map), 2));
                expect_loads<float>(folder, prefix);
            }
            // the masks of old files, and the head written out
            tensors.push_back({"lm_head.weight", {(size_t)TINY.V, (size_t)TINY.C}, dtype});
            for (std::string layer : {"0", "1"}) {
                tensors.push_back({prefix + "h." + layer + ".attn.bias", {1, 1, (size_t)TINY.max_T, (size_t)TINY.max_T}, dtype});
                tensors.push_back({prefix + "h." + layer + ".attn.masked_bias", {}, dtype});
            }
            expect_loads<float>(write_folder("old", tensors), prefix);
        }
}

TEST(saved_again_it_is_the_same_file) {
    for (std::string prefix : {"", "transformer."}) {
        std::string out = fresh("again");
        auto check = [&](auto model, Dtype dtype) {
            std::string folder = write_folder("once", tensors_of(TINY, prefix, dtype));
            std::string found = load_folder(*model, folder);
            CheckpointWriter writer(out, 1);
            save_weights(*model, writer, found);
            writer.commit();
            EXPECT(read_file(folder + "/model.safetensors") == read_file(out + "/step_00000001/model.safetensors"));
        };
        check(make_model<float>(), Dtype::F32), check(make_model<bf16>(), Dtype::BF16);
    }
}

TEST(folders_that_are_not_the_model) {
    auto model = make_model<float>();
    auto changed = [&](const std::function<void(std::vector<Tensor>&)>& change, const std::string& prefix = "transformer.") {
        std::vector<Tensor> tensors = tensors_of(TINY, prefix, Dtype::F32);
        change(tensors);
        return write_folder("wrong", tensors);
    };
    auto named = [](std::vector<Tensor>& tensors, const std::string& name) -> Tensor& {
        for (Tensor& t : tensors) if (t.name == name) return t;
        die("no tensor %s", name.c_str());
    };
    EXPECT_DIES("wrong/model.safetensors: tensor transformer.h.1.ln_2.bias is missing",
                load_folder(*model, changed([](auto& t) { std::erase_if(t, [](const Tensor& x) { return x.name == "transformer.h.1.ln_2.bias"; }); })));
    EXPECT_DIES("wrong/model.safetensors: tensor \"transformer.h.2.ln_1.bias\" does not belong to a GPT-2 of 2 layers",
                load_folder(*model, changed([](auto& t) { t.push_back({"transformer.h.2.ln_1.bias", {12}}); })));
    EXPECT_DIES("tensor \"h.0.ln_1.bias\" does not belong", load_folder(*model, changed([](auto& t) { t.push_back({"h.0.ln_1.bias", {12}}); })));
    EXPECT_DIES("tensor \"score.weight\" does not belong", load_folder(*model, changed([](auto& t) { t.push_back({"score.weight", {2, 12}}); }, "")));
    EXPECT_DIES("wrong/model.safetensors: \"transformer.wpe.weight\" has shape [8,12], the model's is [9,12]",
                load_folder(*model, changed([&](auto& t) { named(t, "transformer.wpe.weight").shape = {8, 12}; })));
    EXPECT_DIES("\"transformer.h.0.attn.c_attn.weight\" has shape [36,12], the model's is [12,36]",  // (out, in) is not how GPT-2's lie
                load_folder(*model, changed([&](auto& t) { named(t, "transformer.h.0.attn.c_attn.weight").shape = {36, 12}; })));
    EXPECT_DIES("\"transformer.ln_f.bias\" has shape [1,12], the model's is [12]",
                load_folder(*model, changed([&](auto& t) { named(t, "transformer.ln_f.bias").shape = {1, 12}; })));
    EXPECT_DIES("\"wte.weight\" is I32, expected F32, BF16, F16 or F64",
                load_folder(*model, changed([&](auto& t) { named(t, "wte.weight").dtype = Dtype::I32; }, "")));
    EXPECT_DIES("lm_head.weight has shape [131,11], transformer.wte.weight has [131,12]",
                load_folder(*model, changed([](auto& t) { t.push_back({"lm_head.weight", {131, 11}}); })));
    std::string folder = changed([](auto& t) { t.push_back({"lm_head.weight", {131, 12}}); });
    std::string bytes = read_file(folder + "/model.safetensors");
    bytes.back() ^= 1;  // the head lies last
    put_file(folder + "/model.safetensors", bytes);
    EXPECT_DIES("lm_head.weight differs from transformer.wte.weight after element 0, must be equal: the head is tied", load_folder(*model, folder));
    put_file(folder + "/model.safetensors", bytes.substr(0, bytes.size() - 1));
    EXPECT_DIES("wrong/model.safetensors: \"lm_head.weight\": data_offsets end at", load_folder(*model, folder));
    unlink((folder + "/model.safetensors").c_str());
    EXPECT_DIES("wrong: holds neither model.safetensors nor model.safetensors.index.json", load_folder(*model, folder));
    put_file(folder + "/model.safetensors.index.json", "{\"weight_map\": {}}");
    EXPECT_DIES("model.safetensors.index.json: \"weight_map\" names no file", load_folder(*model, folder));
    put_file(folder + "/model.safetensors.index.json", "{\"weight_map\": {\"wte.weight\": \"/etc/passwd\"}}");
    EXPECT_DIES("\"wte.weight\" is in \"/etc/passwd\", which is not a plain file name", load_folder(*model, folder));
}

TEST(configs_that_are_not_the_model) {
    std::string path = fresh("config") + "/config.json";
    const std::string good = config_to_json(TINY, 130, "float32");
    put_file(path, good);
    EXPECT(config_from_json(path) == TINY);
    // what transformers adds, and the config that GPT-2 was published with
    put_file(path, "{\"model_type\": \"gpt2\", \"n_ctx\": 9, \"n_positions\": 9, \"vocab_size\": 131, \"n_layer\": 2, \"n_head\": 3, \"n_embd\": 12, "
                   "\"n_inner\": null, \"layer_norm_epsilon\": 1e-05, \"dtype\": \"bfloat16\", \"summary_type\": \"cls_index\", \"use_cache\": true}");
    EXPECT(config_from_json(path) == TINY);
    // what else it may say; n_ctx is the name by which others know the context
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        if (size_t at = text.find(from); at != text.npos) text.replace(at, from.size(), to);
        else FAIL("%s is not in the config", from.c_str());
        put_file(path, text);
        return config_from_json(path);
    };
    EXPECT(good.find("\"n_ctx\": 9,") != good.npos && good.find("n_inner") == good.npos);
    for (const char* tanh_form : {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"}) EXPECT(with("gelu_new", tanh_form) == TINY);
    EXPECT_EQ(with("\"n_layer\": 2", "\"n_layer\": 2, \"n_inner\": 56").FF, 56);
    EXPECT_EQ(with("1e-05", "1e-06").eps, 1e-6);
    EXPECT(!with("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false").arch.tied);
    struct Wrong { const char *from, *to, *says; };
    for (Wrong w : {Wrong{"\"gpt2\"", "\"gpt_neo\"", "model_type is \"gpt_neo\", must be \"gpt2\", \"llama\", \"qwen3\" or \"modern\""},
                    {"\"gelu_new\"", "\"relu\"", "activation_function is \"relu\", must be \"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu_fast\""},
                    {"\"gelu_new\"", "\"gelu\"", "activation_function is \"gelu\", must be \"gelu_new\""},
                    {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", "\"tie_word_embeddings\" is 1, expected true or false"},
                    {"\"tie_word_embeddings\"", "\"scale_attn_by_inverse_layer_idx\"", "scale_attn_by_inverse_layer_idx is true, must be false"},
                    {"\"n_embd\": 12", "\"n_embd\": 13", "width 13 is not a multiple of 3 heads"},
                    {"\"n_embd\": 12", "\"n_embd\": 1200000", "larger than anything"},
                    {"\"n_head\": 3", "\"n_head\": 0", "\"n_head\" is 0, expected from 1 to"},
                    {"\"n_head\": 3", "\"n_heads\": 3", "\"n_head\" is missing"},
                    {"\"n_layer\": 2", "\"n_layer\": \"2\"", "\"n_layer\" is \"2\", expected an integer"},
                    {"1e-05", "0", "layer_norm_epsilon is 0, must be above 0 and below 1"},
                    {"1e-05", "-1e-05", "layer_norm_epsilon is -1e-05, must be above 0"},
                    {"\"n_layer\": 2", "\"n_layer\": 2, \"n_inner\": 47", "n_inner is 47, must be a multiple of 8"},
                    {"\"n_layer\": 2", "\"n_layer\": 2, \"n_layer\": 2", "this object has \"n_layer\" twice"}}) {
        std::string text = good;
        size_t at = text.find(w.from);
        if (at == text.npos) { FAIL("%s is not in the config", w.from); continue; }
        put_file(path, text.replace(at, strlen(w.from), w.to));
        EXPECT_DIES(w.says, config_from_json(path));
    }
}

// ---- .bin files of the older format ----------------------------------------------------------------------------------

namespace {
// Written from the format's description: each tensor of all layers in turn, matrices (out, in), wte with rows of padding.
std::string bin_file(const Config& c, int version, int padded_V) {
    const size_t C = (size_t)c.C;
    const struct { const char* name; size_t rows, cols; bool block, turned; } tensors[] = {
        {"wte.weight", (size_t)c.V, C, false, false}, {"wpe.weight", (size_t)c.max_T, C, false, false},
        {"ln_1.weight", 1, C, true, false}, {"ln_1.bias", 1, C, true, false},
        {"attn.c_attn.weight", 3 * C, C, true, true}, {"attn.c_attn.bias", 1, 3 * C, true, false},
        {"attn.c_proj.weight", C, C, true, true}, {"attn.c_proj.bias", 1, C, true, false},
        {"ln_2.weight", 1, C, true, false}, {"ln_2.bias", 1, C, true, false},
        {"mlp.c_fc.weight", 4 * C, C, true, true}, {"mlp.c_fc.bias", 1, 4 * C, true, false},
        {"mlp.c_proj.weight", C, 4 * C, true, true}, {"mlp.c_proj.bias", 1, C, true, false},
        {"ln_f.weight", 1, C, false, false}, {"ln_f.bias", 1, C, false, false}};
    int32_t header[256] = {20240326, version, c.max_T, c.V, c.L, c.NH, c.C, padded_V};
    std::string bytes((const char*)header, sizeof header);
    auto add = [&](float x) {
        if (version == 3) return (void)bytes.append((const char*)&x, 4);
        uint16_t half = bf16(x).bits;
        bytes.append((const char*)&half, 2);
    };
    for (auto& t : tensors)
        for (int l = 0; l < (t.block ? c.L : 1); l++) {
            std::string name = (t.block ? "h." + std::to_string(l) + "." : "") + t.name;
            for (size_t r = 0; r < t.rows; r++)
                for (size_t k = 0; k < t.cols; k++) add(value_of(name, t.turned ? k * t.rows + r : r * t.cols + k));
            if (name == "wte.weight") for (size_t i = 0; i < ((size_t)padded_V - t.rows) * C; i++) add(0);
        }
    return bytes;
}
}  // namespace

TEST(bin_files_load_and_are_written) {
    std::string dir = fresh("bin");
    for (int version : {3, 5})
        for (int padded_V : {131, 192, 256}) {  // 256 is what is written
            std::string path = dir + "/model.bin", bytes = bin_file(TINY, version, padded_V);
            put_file(path, bytes);
            EXPECT(BinModel(path).config == TINY);
            auto check = [&](auto model, int own) {
                load_bin(*model, BinModel(path));
                expect_values(*model);
                save_bin(*model, dir + "/again.bin");
                EXPECT(read_file(dir + "/again.bin") == bin_file(TINY, own, 256));
            };
            check(make_model<float>(true), 3), check(make_model<bf16>(true), 5);
        }
    EXPECT_EQ(list_folder(dir).size(), 2u);  // nothing temporary is left
}

TEST(bin_files_that_are_not_a_model) {
    std::string dir = fresh("bad_bin"), path = dir + "/model.bin";
    const std::string good = bin_file(TINY, 3, 256);
    struct Wrong { int at, value; const char* says; };
    for (Wrong w : {Wrong{0, 20240520, "model.bin: starts with 20240520, a model file with 20240326"},
                    {1, 1, "model.bin: version 1, must be 3 (fp32) or 5 (bf16)"},
                    {1, 5, "its header promises"},
                    {2, 0, "model.bin: context is 0, must be at least 1"},
                    {3, -5, "model.bin: vocabulary is -5, must be at least 1"},
                    {4, 2000, "larger than anything that can be trained"},
                    {4, 3, "model.bin: holds 28912 bytes, its header promises 36448: truncated?"},
                    {4, 1, "the header is wrong or the file was appended to"},
                    {5, 5, "model.bin: width 12 is not a multiple of 5 heads"},
                    {6, 2147483647, "is not a multiple of 3 heads"},
                    {7, 130, "model.bin: 130 rows of wte, must be from the vocabulary, 131"},
                    {7, -1, "model.bin: -1 rows of wte"}}) {
        std::string bytes = good;
        memcpy(&bytes[(size_t)w.at * 4], &w.value, 4);
        put_file(path, bytes);
        EXPECT_DIES(w.says, BinModel model(path));
    }
    for (size_t n : {(size_t)0, (size_t)3, (size_t)1023}) {
        put_file(path, good.substr(0, n));
        EXPECT_DIES("a model file's header alone is 1024: truncated?", BinModel model(path));
    }
    for (size_t n : {(size_t)1024, good.size() - 1}) {
        put_file(path, good.substr(0, n));
        EXPECT_DIES("its header promises 28912: truncated?", BinModel model(path));
    }
    put_file(path, good + "x");
    EXPECT_DIES("the header is wrong or the file was appended to", BinModel model(path));
    EXPECT_DIES("nothere.bin: cannot open: No such file", BinModel model(dir + "/nothere.bin"));
    EXPECT_DIES("build/tmp: not a file", BinModel model("build/tmp"));
    EXPECT_DIES("nodir/x.bin.tmp-", auto model = make_model<float>(); save_bin(*model, dir + "/nodir/x.bin"));
}
