// The safetensors reader believes nothing: every rule of the format has its own refusal. The writer writes what it reads.
#include "../../llmc/io/safetensors.h"
#include "../test.h"

static std::string scratch(const std::string& name) {
    make_folders("build/tmp/safetensors");
    return "build/tmp/safetensors/" + name;
}
static std::string scratch_file(const std::string& name, const std::string& bytes) {
    std::string path = scratch(name);
    FileWriter file(path);
    file.write(bytes.data(), bytes.size());
    file.close();
    return path;
}
static std::string with_length(const std::string& header, const std::string& data) {
    uint64_t n = header.size();
    return std::string((const char*)&n, 8) + header + data;
}

// The same steps as opening a file, on bytes in memory.
static std::string parse_bytes(const std::string& bytes, SafetensorsHeader& header) {
    uint64_t n;
    if (bytes.size() < 8) return "too short";
    memcpy(&n, bytes.data(), 8);
    std::string error = safetensors_detail::check_length(n, bytes.size());
    return error.empty() ? header.parse(std::string_view(bytes).substr(8, n), bytes.size() - 8 - n) : error;
}

TEST(every_dtype_has_its_size) {
    const struct { const char* name; size_t elements, bytes; } rows[] = {
        {"BOOL", 3, 3}, {"U8", 3, 3}, {"I8", 3, 3}, {"U16", 3, 6}, {"I16", 3, 6}, {"F16", 3, 6}, {"BF16", 3, 6}, {"U32", 3, 12},
        {"I32", 3, 12}, {"F32", 3, 12}, {"U64", 3, 24}, {"I64", 3, 24}, {"F64", 3, 24}, {"C64", 3, 24}, {"F8_E5M2", 3, 3},
        {"F8_E4M3", 3, 3}, {"F8_E8M0", 3, 3}, {"F8_E4M3FNUZ", 3, 3}, {"F8_E5M2FNUZ", 3, 3}, {"F6_E2M3", 4, 3}, {"F6_E3M2", 8, 6},
        {"F4", 6, 3}};
    EXPECT_EQ(std::size(rows), std::size(DTYPES));
    for (auto& row : rows) {
        std::string text = format("{\"a\":{\"dtype\":\"%s\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}", row.name, row.elements, row.bytes);
        SafetensorsHeader header;
        EXPECT_STR(header.parse(text, row.bytes), "");
        EXPECT_STR(dtype_name(header.tensors[0].dtype), row.name);
    }
}

TEST(round_trip) {
    std::string path = scratch("round.safetensors");
    std::vector<float> a(3 * 5), back(a.size());
    for (size_t i = 0; i < a.size(); i++) a[i] = (float)i / 7;
    uint16_t b[7] = {1, 2, 3, 4, 5, 6, 7};
    uint8_t c[3] = {9, 8, 7};
    std::vector<TensorSpec> specs = {{"z", Dtype::F32, {3, 5}}, {"scalar", Dtype::F32, {}}, {"empty", Dtype::I64, {4, 0, 2}},
                                     {"a \"quoted\" \xC3\xA9", Dtype::BF16, {7}}, {"bytes", Dtype::U8, {3}}};
    SafetensorsWriter writer(path, specs, {{"format", "pt"}, {"a", "\"\n"}});
    writer.write(a.data(), 7);  // pieces of any size
    writer.write((char*)a.data() + 7, a.size() * 4 - 7);
    writer.write(&a[14], 4), writer.write(b, sizeof b), writer.write(c, 3);
    FileSum sum = writer.close();

    std::string bytes = read_file(path);
    EXPECT_EQ(sum.bytes, (uint64_t)bytes.size());
    EXPECT_EQ(sum.checksum, xxh64(bytes.data(), bytes.size()));
    uint64_t n;
    memcpy(&n, bytes.data(), 8);
    EXPECT_EQ(n % 8, (uint64_t)0);

    SafetensorsFile file(path);
    EXPECT_EQ(file.tensors().size(), specs.size());
    for (size_t i = 0; i < specs.size(); i++) {
        EXPECT_STR(file.tensors()[i].name, specs[i].name);  // the given order
        EXPECT(file.tensors()[i].shape == specs[i].shape && file.tensors()[i].dtype == specs[i].dtype);
    }
    EXPECT(file.metadata() == (SafetensorsMetadata{{"format", "pt"}, {"a", "\"\n"}}));
    EXPECT(file.find("Z") == nullptr && file.find("empty")->count() == 0 && file.find("scalar")->count() == 1);
    const TensorInfo& z = *file.find("z");
    file.read(z, back.data(), 0, 60);
    EXPECT(memcmp(back.data(), a.data(), 60) == 0);
    float two[2];
    file.read_as_float(z, two, 13, 2);
    EXPECT(two[0] == a[13] && two[1] == a[14]);
    uint8_t last;
    file.read(*file.find("bytes"), &last, 2, 1);
    EXPECT_EQ((int)last, 7);
    EXPECT_DIES("round.safetensors: \"z\": asked for bytes [60, 60 + 1) of 60", char x; file.read(z, &x, 60, 1));
    EXPECT_DIES("round.safetensors: \"z\": asked for bytes [8, 8 + 184467", file.read(z, two, 8, SIZE_MAX - 4));
    EXPECT_DIES("round.safetensors: \"z\": asked for elements [14, 14 + 2) of 15", file.read_as_float(z, two, 14, 2));
    EXPECT_DIES("round.safetensors: \"bytes\" is U8, expected F32, BF16, F16 or F64", file.read_as_float(*file.find("bytes"), two, 0, 1));
    EXPECT_DIES("round.safetensors: \"bytes\": ends at byte", truncate(path.c_str(), (off_t)bytes.size() - 1);
                file.read(*file.find("bytes"), &last, 2, 1));
}

TEST(no_tensors_at_all) {
    std::string path = scratch("none.safetensors");
    EXPECT_EQ(SafetensorsWriter(path, {}).close().bytes, (uint64_t)16);
    EXPECT(SafetensorsFile(path).tensors().empty());
}

TEST(half_precision_is_exact) {
    // All 65536 halves against the definition, in double: (-1)^s * 2^(e - 25) * (1024 + f), and 2^-24 * f for e = 0.
    for (uint32_t h = 0; h < 65536; h++) {
        uint32_t e = h >> 10 & 31, f = h & 1023;
        double want = e == 0 ? std::ldexp(f, -24) : std::ldexp(1024 + f, (int)e - 25);
        if (h & 0x8000) want = -want;
        float got = f16_to_float((uint16_t)h);
        if (e == 31 && f > 0) EXPECT(std::isnan(got));
        else if (e == 31) EXPECT(std::isinf(got) && std::signbit(got) == (h >> 15));
        else EXPECT(got == (float)want && std::signbit(got) == (h >> 15));
    }
}

TEST(floats_of_every_width) {
    // 100,003 elements: several blocks of the conversion and an odd rest. Every value is exact in all four types.
    size_t n = 100003, odd = 33333;
    std::vector<float> want(n), got(n);
    std::vector<uint16_t> half(n), brain(n);
    std::vector<double> wide(n);
    for (size_t i = 0; i < n; i++) {
        brain[i] = (uint16_t)(0x3c00 + i % 1024);  // exponents near 1
        want[i] = bf16::from_bits(brain[i]);
        wide[i] = want[i];
        int e;
        double m = std::frexp(want[i], &e);  // want = m * 2^e, m in [0.5, 1): half = exponent e + 14, fraction (2m - 1) * 1024
        half[i] = (uint16_t)((e + 14) << 10 | (int)((2 * m - 1) * 1024));
        if (e + 14 < 1) half[i] = (uint16_t)std::ldexp(want[i], 24), want[i] = f16_to_float(half[i]), wide[i] = want[i], brain[i] = bf16(want[i]).bits;
    }
    std::string path = scratch("widths.safetensors");
    SafetensorsWriter writer(path, {{"F64", Dtype::F64, {n}}, {"F32", Dtype::F32, {n}}, {"F16", Dtype::F16, {n}}, {"BF16", Dtype::BF16, {n}}});
    writer.write(wide.data(), n * 8), writer.write(want.data(), n * 4), writer.write(half.data(), n * 2), writer.write(brain.data(), n * 2);
    writer.close();
    SafetensorsFile file(path);
    for (const TensorInfo& t : file.tensors()) {
        std::fill(got.begin(), got.end(), -1.0f);
        file.read_as_float(t, got.data(), 0, odd);
        file.read_as_float(t, got.data() + odd, odd, n - odd);
        EXPECT(got == want);
    }
}

static std::string tensor(const std::string& fields) { return "{\"a\":{" + fields + "}}"; }
static std::string row(const char* name, const char* dtype, const char* shape, const char* offsets) {
    return format("\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%s]}", name, dtype, shape, offsets);
}

TEST(malformed_headers) {
    const struct { std::string header; size_t data; std::string error; } cases[] = {
        {" {}", 0, "the header begins with \" \", expected {"},
        {"[]", 0, "the header begins with \"[\", expected {"},
        {"{}}", 0, "header: line 1 column 3: expected the end of the text"},
        {std::string("{}\0", 3), 0, "header: line 1 column 3: expected the end of the text, found \"\\u0000\""},
        {"{\"\xFF\":1}", 0, "header: line 1 column 3: invalid UTF-8: the byte 0xff"},
        {"{" + row("a", "U8", "1", "0,1") + "," + row("a", "U8", "1", "1,2") + "}", 2, "header: line 1 column 1: this object has \"a\" twice"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "header: line 1 column 1: this object has \"__metadata__\" twice"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is an array, expected an object"},
        {"{\"__metadata__\":{\"step\":5}}", 0, "__metadata__: \"step\" is 5, expected a string"},
        {"{\"__metadata__\":{\"x\":{\"y\":\"z\"}}}", 0, "__metadata__: \"x\" is an object, expected a string"},
        {"{\"a\":7}", 0, "\"a\": is 7, expected {\"dtype\", \"shape\", \"data_offsets\"}"},
        {tensor("\"shape\":[1],\"data_offsets\":[0,1]"), 1, "\"a\": dtype is missing"},
        {tensor("\"dtype\":\"U8\",\"data_offsets\":[0,1]"), 1, "\"a\": shape is missing"},
        {tensor("\"dtype\":\"U8\",\"shape\":[1]"), 1, "\"a\": data_offsets is missing"},
        {tensor("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"stride\":[1]"), 1, "\"a\": unknown field \"stride\""},
        {tensor("\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,1]"), 1, "header: line 1 column 6: this object has \"shape\" twice"},
        {tensor("\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]"), 1, "\"a\": dtype is 8, expected a string"},
        {"{" + row("a", "float32", "1", "0,4") + "}", 4, "\"a\": dtype is \"float32\", expected one of the format's"},
        {"{" + row("a", "", "1", "0,4") + "}", 4, "\"a\": dtype is \"\", expected one of the format's"},
        {tensor("\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]"), 1, "\"a\": shape is 1, expected an array"},
        {"{" + row("a", "U8", "-1", "0,1") + "}", 1, "\"a\": shape holds -1, expected a whole number"},
        {"{" + row("a", "U8", "1.0", "0,1") + "}", 1, "\"a\": shape holds 1.0, expected a whole number"},
        {"{" + row("a", "U8", "\"1\"", "0,1") + "}", 1, "\"a\": shape holds \"1\", expected a whole number"},
        {"{" + row("a", "U8", "18446744073709551616", "0,1") + "}", 1, "\"a\": shape holds 18446744073709551616, expected a whole number"},
        {tensor("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":1"), 1, "\"a\": data_offsets is 1, expected an array"},
        {"{" + row("a", "U8", "1", "0") + "}", 1, "\"a\": data_offsets holds 1 numbers, expected 2"},
        {"{" + row("a", "U8", "1", "0,1,2") + "}", 1, "\"a\": data_offsets holds 3 numbers, expected 2"},
        {"{" + row("a", "U8", "1", "-1,0") + "}", 1, "\"a\": data_offsets holds -1, expected a whole number"},
        {"{" + row("a", "U8", "1", "0,1e0") + "}", 1, "\"a\": data_offsets holds 1e0, expected a whole number"},
        {"{" + row("a", "U8", "1", "1,0") + "}", 1, "\"a\": data_offsets [1, 0] end before they begin"},
        {"{" + row("a", "U8", "4294967296,4294967296", "0,1") + "}", 1, "\"a\": shape [4294967296,4294967296] of U8 overflows 64 bits"},
        {"{" + row("a", "U8", "4294967296,4294967296,0", "0,0") + "}", 0, "\"a\": shape [4294967296,4294967296,0] of U8 overflows 64 bits"},
        {"{" + row("a", "F64", "1152921504606846976", "0,0") + "}", 0, "\"a\": shape [1152921504606846976] of F64 overflows 64 bits"},
        {"{" + row("a", "F4", "3", "0,1") + "}", 1, "\"a\": shape [3] of F4 ends inside a byte"},
        {"{" + row("a", "F32", "2,3", "0,20") + "}", 20, "\"a\": shape [2,3] of F32 takes 24 bytes, data_offsets [0, 20] hold 20"},
        {"{" + row("a", "F32", "", "0,0") + "}", 0, "\"a\": shape [] of F32 takes 4 bytes, data_offsets [0, 0] hold 0"},
        {"{" + row("a", "F32", "2,3", "0,24") + "}", 20, "\"a\": data_offsets end at 24, the file holds 20 bytes of data: truncated?"},
        {"{" + row("a", "U8", "0", "9,9") + "}", 0, "\"a\": data_offsets end at 9, the file holds 0 bytes of data: truncated?"},
        {"{" + row("a", "U8", "4", "1,5") + "}", 5, "\"a\": begins at 1, but the data before it ends at 0: a hole"},
        {"{" + row("b", "U8", "4", "5,9") + "," + row("a", "U8", "4", "0,4") + "}", 9, "\"b\": begins at 5, but the data before it ends at 4: a hole"},
        {"{" + row("b", "U8", "4", "3,7") + "," + row("a", "U8", "4", "0,4") + "}", 7, "\"b\": begins at 3, inside \"a\", which ends at 4: an overlap"},
        {"{" + row("a", "U8", "4", "0,4") + "," + row("b", "U8", "4", "0,4") + "}", 4, "\"b\": begins at 0, inside \"a\", which ends at 4: an overlap"},
        {"{" + row("a", "U8", "4", "0,4") + "," + row("b", "U8", "0", "2,2") + "}", 4, "\"b\": begins at 2, inside \"a\", which ends at 4: an overlap"},
        {"{" + row("a", "U8", "4", "0,4") + "}", 5, "1 bytes follow the last tensor, which ends at 4"},
        {"{}", 1, "1 bytes follow the last tensor, which ends at 0"},
    };
    for (const auto& c : cases) {
        SafetensorsHeader header;
        std::string found = header.parse(c.header, c.data);
        if (found.empty() || found.compare(0, c.error.size(), c.error) != 0)
            FAIL("%s: said \"%s\", expected \"%s\"", c.header.c_str(), found.c_str(), c.error.c_str());
    }
    // and the near misses that are valid
    SafetensorsHeader header;
    EXPECT_STR(header.parse("{}      ", 0), "");
    EXPECT_STR(header.parse("{" + row("b", "U8", "4", "4,8") + "," + row("a", "U8", "4", "0,4") + "," + row("e", "U8", "0", "4,4") + "} ", 8), "");
    EXPECT(header.tensors[0].name == "a" && header.tensors[1].name == "e" && header.tensors[2].name == "b");
    EXPECT_STR(header.parse("{" + row("a", "F32", "", "0,4") + "}", 4), "");
    EXPECT_STR(header.parse("{\"__metadata__\":{}}", 0), "");
}

TEST(malformed_files) {
    auto length = [](uint64_t n) { return std::string((const char*)&n, 8); };
    const struct { std::string bytes, error; } cases[] = {
        {"", "bad.safetensors: holds 0 bytes, the first 8 should say how long the header is"},
        {"1234567", "bad.safetensors: holds 7 bytes, the first 8 should say"},
        {length(0) + "{}", "bad.safetensors: the header claims 0 bytes, the shortest one, {}, has 2"},
        {length(1) + "{}", "bad.safetensors: the header claims 1 bytes, the shortest one, {}, has 2"},
        {length(3) + "{}", "bad.safetensors: the header claims 3 bytes, the file holds 2 after the first 8: truncated?"},
        {length(2), "bad.safetensors: the header claims 2 bytes, the file holds 0 after the first 8: truncated?"},
        {length(100'000'001) + "{}", "bad.safetensors: the header claims 100000001 bytes, the format allows 100000000"},
        {length(UINT64_MAX) + "{}", "bad.safetensors: the header claims 18446744073709551615 bytes, the format allows"},
        {with_length("{\"a\":}", ""), "bad.safetensors: header: line 1 column 6: expected a value"},
        {"version https://git-lfs.github.com/spec/v1\n", "bad.safetensors: is a pointer of Git LFS and not the file"},
    };
    for (const auto& c : cases) EXPECT_DIES(c.error.c_str(), SafetensorsFile(scratch_file("bad.safetensors", c.bytes)));
    EXPECT_DIES("nothere.safetensors: No such file", SafetensorsFile(scratch("nothere.safetensors")));
    EXPECT_DIES("build/tmp: not a file", SafetensorsFile("build/tmp"));
    // A claim that the file could hold but that lies is refused with the memory of the file, not of the claim.
    EXPECT_DIES("sparse.safetensors: the header begins with \"\\u0000\"", std::string path = scratch_file("sparse.safetensors", length(1000));
                truncate(path.c_str(), 2000); SafetensorsFile file(path));
}

TEST(writer_refuses) {
    std::string path = scratch("refused.safetensors");
    EXPECT_DIES("refused.safetensors: header: line 1 column 1: this object has \"a\" twice",
                SafetensorsWriter(path, {{"a", Dtype::U8, {1}}, {"a", Dtype::U8, {1}}}));
    EXPECT_DIES("refused.safetensors: b: F32 at byte 2: wide types must come first",
                SafetensorsWriter(path, {{"a", Dtype::BF16, {1}}, {"b", Dtype::F32, {1}}}));
    EXPECT_DIES("refused.safetensors: \"a\": shape [3] of F4 ends inside a byte", SafetensorsWriter(path, {{"a", Dtype::F4, {3}}}));
    EXPECT_DIES("refused.safetensors: a: shape [4294967296,4294967296] overflows",
                SafetensorsWriter(path, {{"a", Dtype::F32, {1ull << 32, 1ull << 32}}}));
    EXPECT_DIES("written, its header promises", SafetensorsWriter w(path, {{"a", Dtype::U8, {4}}}); w.write("abc", 3); w.close());
    EXPECT_DIES("written, its header promises", SafetensorsWriter w(path, {{"a", Dtype::U8, {4}}}); w.write("abcde", 5); w.close());
    EXPECT_DIES("nodir/x.safetensors: No such file", SafetensorsWriter(scratch("nodir/x.safetensors"), {}));
    if (access("/dev/full", W_OK) == 0)
        EXPECT_DIES("/dev/full: No space left on device", SafetensorsWriter("/dev/full", {}).close());
}

TEST(sharded_models) {
    auto shard = [](const std::string& path, const std::string& name, float x) {
        SafetensorsWriter writer(path, {{name, Dtype::F32, {1}}});
        writer.write(&x, 4), writer.close();
    };
    std::string dir = scratch("sharded"), index = dir + "/model.safetensors.index.json";
    remove_tree(dir), make_folders(dir);
    EXPECT_DIES("sharded: holds neither model.safetensors nor", SafetensorsModel model(dir));
    shard(dir + "/model-00001-of-00002.safetensors", "a", 1), shard(dir + "/model-00002-of-00002.safetensors", "b", 2);
    auto say = [&](const std::string& map) { write_file_atomically(index, "{\"metadata\": {\"total_size\": 8}, \"weight_map\": " + map + "}"); };
    say("{\"a\": \"model-00001-of-00002.safetensors\", \"b\": \"model-00002-of-00002.safetensors\"}");
    SafetensorsModel model(dir);
    EXPECT_EQ(model.files().size(), (size_t)2);
    float x = 0;
    auto [file, t] = model.find("b");
    if (file) file->read_as_float(*t, &x, 0, 1);
    EXPECT_EQ(x, 2.0f);
    EXPECT(model.find("c").file == nullptr);
    EXPECT(SafetensorsModel(dir + "/model-00001-of-00002.safetensors").find("a").tensor != nullptr);

    say("{\"a\": \"../model-00001-of-00002.safetensors\"}");
    EXPECT_DIES("\"a\" is in \"../model-00001-of-00002.safetensors\", which is not a plain file name", SafetensorsModel again(dir));
    say("{\"a\": \"model-00001-of-00002.safetensors\", \"b\": \"model-00001-of-00002.safetensors\"}");
    EXPECT_DIES("\"b\" should be in model-00001-of-00002.safetensors, but is not", SafetensorsModel again(dir));
    say("{\"a\": \"model-00001-of-00002.safetensors\", \"c\": \"model-00002-of-00002.safetensors\"}");
    EXPECT_DIES("\"b\" is in model-00002-of-00002.safetensors, but not by the index", SafetensorsModel again(dir));
    say("{\"a\": \"model-00003-of-00002.safetensors\"}");
    EXPECT_DIES("model-00003-of-00002.safetensors: No such file", SafetensorsModel again(dir));
    say("{\"a\": 7}");
    EXPECT_DIES("index.json: line 1: \"a\" is 7, expected a string", SafetensorsModel again(dir));
    shard(dir + "/model.safetensors", "whole", 3);  // one file is preferred
    EXPECT(SafetensorsModel(dir).find("whole").tensor != nullptr);
}

// Seeded damage to a valid file. Whatever is still accepted covers its data exactly; nothing else gets through.
TEST(mutations) {
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}," + row("wte", "F32", "7,3", "0,84") + "," + row("b", "BF16", "5", "84,94") + "," +
                         row("empty", "U8", "0,3", "94,94") + "," + row("i", "I64", "", "94,102") + "}    ";
    std::string valid = with_length(header, std::string(102, 'x'));
    SafetensorsHeader parsed;
    EXPECT_STR(parse_bytes(valid, parsed), "");
    const std::string pool = "0123456789-[]{}\",: eE.F\x01\x80\xFF\\";
    uint64_t random = 11;
    auto below = [&](size_t n) { random = random * 6364136223846793005u + 1442695040888963407u; return (size_t)(random >> 33) % n; };
    int good = 0, bad = 0;
    for (int i = 0; i < 20000; i++) {
        std::string bytes = valid;
        for (size_t k = 1 + below(2); k > 0 && bytes.size() > 8; k--) {
            size_t at = below(3) == 0 ? below(bytes.size()) : std::min(8 + below(header.size()), bytes.size() - 1), what = below(5);
            if (what == 0) bytes[at] = pool[below(pool.size())];
            if (what == 1) bytes[at] = (char)(bytes[at] ^ 1 << below(8));
            if (what == 2) bytes.erase(at, 1 + below(20));
            if (what == 3) bytes.insert(at, bytes.substr(below(bytes.size()), 1 + below(60)));
            if (what == 4) bytes.resize(at);
        }
        uint64_t n = bytes.size() - std::min<size_t>(bytes.size(), 8 + 102);
        if (bytes.size() >= 8 && below(2)) memcpy(bytes.data(), &n, 8);  // often mend the length, to get past it
        std::string error = parse_bytes(bytes, parsed);
        if (!error.empty()) { bad++; EXPECT(error.find('\n') == error.npos && error.size() < 1000); continue; }
        good++;
        memcpy(&n, bytes.data(), 8);
        size_t covered = 0;
        for (const TensorInfo& t : parsed.tensors) {
            EXPECT_EQ(t.begin, covered);
            EXPECT_EQ(t.count() * dtype_bits(t.dtype), (t.end - t.begin) * 8);
            covered = t.end;
        }
        EXPECT_EQ(covered, bytes.size() - 8 - n);
    }
    EXPECT(good > 500 && bad > 5000);
}
