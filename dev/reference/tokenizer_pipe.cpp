// tokenizer_pipe.cpp: our tokenizer behind a pipe, for check_tokenizer.py.
//   tokenizer_pipe encode TOKENIZER [special]      records on stdin (uint32 bytes, text) -> records (uint32 ids, int32 ...)
//   tokenizer_pipe prompt TOKENIZER                likewise, with what the post-processor puts in front, and special tokens as such
//   tokenizer_pipe chat FOLDER                     likewise, of conversations: [{"role": ..., "content": ...}, ...]
//   tokenizer_pipe train TEXT SIZE PATTERN OUT     learns, and writes tokenizer.json and a tiktoken rank file beside it
//   tokenizer_pipe json TOKENIZER OUT              writes tokenizer.json
//   tokenizer_pipe time TOKENIZER TEXT             seconds that one thread takes
#include <chrono>
#include "../../llmc/data/text.h"
#include "../../llmc/train/chat_format.h"

static double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

static void write_ranks(const Tokenizer& tokenizer, const std::string& path) {
    const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (int id = 0; id < tokenizer.vocab_size(); id++) {
        if (tokenizer.is_special(id)) continue;
        std::string_view bytes = tokenizer.token_bytes(id);
        for (size_t i = 0; i < bytes.size(); i += 3) {
            uint32_t bits = 0;
            for (size_t j = 0; j < 3; j++) bits = bits << 8 | (i + j < bytes.size() ? (unsigned char)bytes[i + j] : 0);
            for (size_t j = 0; j < 4; j++) out += i + j > bytes.size() ? '=' : digits[bits >> (18 - 6 * j) & 63];
        }
        out += " " + std::to_string(id) + "\n";
    }
    write_file_atomically(path, out);
}

// Records of stdin to ids on stdout.
template <class Encode> void each_record(Encode encode) {
    std::string text;
    for (uint32_t n; fread(&n, 4, 1, stdin) == 1;) {
        text.resize(n);
        CHECK(fread(text.data(), 1, n, stdin) == n, "a record is cut short");
        const std::vector<int> ids = encode(text);
        uint32_t count = (uint32_t)ids.size();
        fwrite(&count, 4, 1, stdout), fwrite(ids.data(), 4, count, stdout);
    }
}

int main(int argc, char** argv) {
    CHECK(argc >= 3, "see the head of tokenizer_pipe.cpp");
    std::string mode = argv[1];
    if (mode == "train") {
        SplitPattern pattern = SplitPattern::GPT2;
        for (const NamedPattern& p : SPLIT_PATTERNS) if (p.name == std::string(argv[4])) pattern = p.pattern;
        double start = seconds();
        Tokenizer tokenizer = train_tokenizer({argv[2]}, atoi(argv[3]), pattern);
        printf("%.3f\n", seconds() - start);
        write_file_atomically(std::string(argv[5]) + ".json", tokenizer.to_json());
        write_ranks(tokenizer, std::string(argv[5]) + ".tiktoken");
        return 0;
    }
    const Tokenizer tokenizer = Tokenizer::load(argv[2]);
    if (mode == "chat") {
        std::string from;
        const ChatFormat format = chat_format(chat_template(read_kept_files(argv[2]), from), tokenizer);
        CHECK(format.style, "%s: the template is none of those that are known", argv[2]);
        each_record([&](const std::string& text) {
            std::vector<ChatMessage> messages;
            const Json conversation = json_parse(text, "stdin");
            for (const Json& m : conversation.as_array("stdin")) messages.push_back({m.at("role", "stdin").as_string("stdin"), m.at("content", "stdin").as_string("stdin")});
            return chat_tokens(format, messages, tokenizer, true);
        });
    }
    if (mode == "json") write_file_atomically(argv[3], tokenizer.to_json());
    if (mode == "time") {
        std::string text = read_file(argv[3]);
        std::vector<int> ids;
        double start = seconds();
        tokenizer.encode(text, ids);
        printf("%.4f\n", seconds() - start);
    }
    if (mode == "prompt") each_record([&](const std::string& text) {
        std::vector<int> ids = tokenizer.front();
        tokenizer.encode(text, ids, true);
        return ids;
    });
    if (mode == "encode") each_record([&](const std::string& text) {
        const std::vector<int> ids = tokenizer.encode(text, argc > 3);
        CHECK(argc > 3 || tokenizer.vocabulary().nfc || tokenizer.decode(ids) == text, "decode(encode(x)) is not x");
        return ids;
    });
}
