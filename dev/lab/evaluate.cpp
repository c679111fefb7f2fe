// evaluate.cpp: the lab's own evaluation: the losses of a checkpoint's model, for rows and targets that the lab chooses. It is the base's text, compiled with
// the sources of the variant that is looked at, so that any architecture can be asked.
//   evaluate FOLDER fp32|bf16 B T      batches on stdin, int32: inputs (B, T), then targets (B, T) -> losses on stdout, float32 (B, T)
#define LLMC_NO_MAIN
#include "train_gpt2.cu"

template <class F> void write_losses(const std::string& folder, int B, int T) {
    const Config config = config_from_json(folder + "/config.json");
    CHECK(B > 0 && T > 0 && T <= config.max_T, "%d x %d tokens, rows must be from 1 to the context, %d", B, T, config.max_T);
    Model<F> model(config, {.B = B, .T = T, .train = false});
    model.allocate();
    load_folder(model, folder);
    const size_t N = model.N();
    std::vector<int> batch(2 * N);
    std::vector<float> losses(N);
    while (fread(batch.data(), sizeof(int), batch.size(), stdin) == batch.size()) {
        for (int token : batch) CHECK(token >= 0 && token < config.V, "token %d, the vocabulary has %d", token, config.V);
        upload(model, {batch.data(), batch.data() + N, 0});
        forward(model);
        classify(model, N, 0, false, false);
        copy_to_host(losses.data(), model.tensors().losses, N * sizeof(float), model.stream);
        synchronize(model.stream);
        fwrite(losses.data(), sizeof(float), N, stdout);
    }
}

int main(int argc, char** argv) {
    if (argc != 5) die_with(EXIT_USAGE, "usage: evaluate FOLDER fp32|bf16 B T");
    if (std::string(argv[2]) == "bf16") write_losses<bf16>(argv[1], atoi(argv[3]), atoi(argv[4]));
    else write_losses<float>(argv[1], atoi(argv[3]), atoi(argv[4]));
    return 0;
}
