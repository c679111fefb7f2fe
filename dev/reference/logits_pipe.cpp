// logits_pipe.cpp: our model behind a pipe, for hf_check.py.
//   logits_pipe FOLDER fp32|bf16      int32 tokens on stdin, at most the context -> float32 logits (tokens, vocabulary)
#define LLMC_NO_MAIN
#include "../../train_gpt2.cu"

template <class F> void write_logits(const std::string& folder, const std::vector<int>& tokens) {
    const Config config = config_from_json(folder + "/config.json");
    const int T = (int)tokens.size(), C = config.C, Vp = config.Vp();
    CHECK(T > 0 && T <= config.max_T, "%d tokens, must be from 1 to the context, %d", T, config.max_T);
    for (int token : tokens) CHECK(token >= 0 && token < config.V, "token %d, the vocabulary has %d", token, config.V);
    Model<F> model(config, {.B = 1, .T = T, .train = false});
    model.allocate();
    load_folder(model, folder);
    copy_to_device(model.tokens, tokens.data(), tokens.size() * sizeof(int), model.stream);
    forward(model);
    for (int t = 0; t < T; t++) {
        const Block<F>& b = model.tensors();
        matmul_forward(b.logits, b.lnf + (size_t)t * C, b.head(), (const F*)nullptr, 1, C, Vp, {}, model.stream);
        std::vector<float> row(b.logits, b.logits + config.V);
        if (const float cap = (float)config.arch.softcap; cap > 0) for (float& z : row) z = softcap(z, cap);
        fwrite(row.data(), sizeof(float), row.size(), stdout);
    }
}

int main(int argc, char** argv) {
    if (argc != 3) die_with(EXIT_USAGE, "usage: logits_pipe FOLDER fp32|bf16");
    std::vector<int> tokens;
    for (int token; fread(&token, sizeof token, 1, stdin) == 1;) tokens.push_back(token);
    if (std::string(argv[2]) == "bf16") write_logits<bf16>(argv[1], tokens);
    else write_logits<float>(argv[1], tokens);
}
