// The JSON reader is strict: everything RFC 8259 allows is read, everything else is refused with its own message.
#include <ctime>
#include "../../llmc/io/files.h"
#include "../../llmc/io/json.h"
#include "../test.h"

static std::string shared_data(const std::string& name) {
    const char* folder = getenv("LLMC_TEST_DATA");
    return std::string(folder ? folder : "../shared/data") + "/" + name;
}
static std::string error_of(std::string_view text) {
    Json json;
    return json_try_parse(json, text);
}

TEST(values) {
    Json j = json_parse(" { \"a\" : [ 1 , -2.5e3 , true , false , null , \"x\" , { } , [ ] ] , \"b\":{\"c\":\"d\"} }\r\n\t", "t");
    EXPECT(j.type == Json::OBJECT && j.items.size() == 2);
    const JsonItems& a = j.at("a", "t").as_array("t");
    EXPECT_EQ(a.size(), (size_t)8);
    EXPECT_EQ(a[0].as_int("t"), (int64_t)1);
    EXPECT_EQ(a[1].as_double("t"), -2500.0);
    EXPECT(a[2].as_bool("t") && !a[3].as_bool("t") && a[4].type == Json::NUL);
    EXPECT_STR(a[5].as_string("t"), "x");
    EXPECT(a[6].type == Json::OBJECT && a[6].items.empty() && a[7].type == Json::ARRAY && a[7].items.empty());
    EXPECT_STR(j.at("b", "t").at("c", "t").as_string("t"), "d");
    EXPECT(j.find("c") == nullptr && a[0].find("c") == nullptr && j.find("b") == &j.items[1]);
    EXPECT_STR(json_dump(j), "{\"a\":[1,-2.5e3,true,false,null,\"x\",{},[]],\"b\":{\"c\":\"d\"}}");
    EXPECT_STR(json_dump(json_parse("[1,{\"a\":[],\"b\":2}]", "t"), 2), "[\n  1,\n  {\n    \"a\": [],\n    \"b\": 2\n  }\n]");
    for (const char* scalar : {"0", "-0", "\"\"", "true", "null", "1e5", "-0.5E-3", "1E+2"}) EXPECT_STR(error_of(scalar), "");
}

TEST(numbers_round_trip) {
    // Whole numbers: every bit of 64, also beyond 2^53 where a double would lose some.
    for (int64_t x : {(int64_t)0, (int64_t)-1, ((int64_t)1 << 53) + 1, INT64_MAX, INT64_MIN})
        EXPECT_EQ(json_parse(json_dump(Json(x)), "t").as_int("t"), x);
    size_t big = 0;
    EXPECT(json_parse(json_dump(Json(SIZE_MAX)), "t").as_size(big) && big == SIZE_MAX);
    EXPECT(!Json(-1).as_size(big) && !Json(1.0).as_size(big) && !json_parse("1e3", "t").as_size(big));
    EXPECT(!json_parse("18446744073709551616", "t").as_size(big) && !Json("7").as_size(big));
    // Fractions: the shortest text that reads back as the same bits.
    for (double x : {0.1, 1e-5, 1.0, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3.0, 123456789012345680.0}) {
        Json back = json_parse(json_dump(Json(x)), "t");
        EXPECT(back.as_double("t") == x && std::signbit(back.as_double("t")) == std::signbit(x));
    }
    EXPECT_STR(json_number(0.1), "0.1");
    EXPECT_STR(json_number(0.1f), "0.1");
    EXPECT_STR(json_number(1e-5), "1e-05");
    EXPECT_STR(json_number(3.0), "3.0");
    EXPECT_STR(json_dump(Json::array().push(NAN).push(INFINITY).push(-INFINITY)), "[null,null,null]");
    uint64_t random = 1;
    for (int i = 0; i < 2000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        double x = std::bit_cast<double>(random);
        float f = std::bit_cast<float>((uint32_t)(random >> 32));
        if (std::isfinite(x)) EXPECT_EQ(json_parse(json_number(x), "t").as_double("t"), x);
        if (std::isfinite(f)) EXPECT_EQ((float)json_parse(json_number(f), "t").as_double("t"), f);
    }
}

TEST(strings) {
    EXPECT_STR(json_parse(R"("\"\\\/\b\f\n\r\t")", "t").text, "\"\\/\b\f\n\r\t");
    EXPECT_STR(json_parse(R"("\u0041\u00e9\u20AC\uD83D\uDE00")", "t").text, "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    EXPECT(json_parse("\"a\\u0000b\"", "t").text == std::string("a\0b", 3));
    // The first and last character of each UTF-8 length, the ends of the surrogate gap, DEL.
    for (const char* edge : {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
                             "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
        EXPECT_STR(json_parse("\"" + std::string(edge) + "\"", "t").text, edge);
        EXPECT_STR(json_parse(json_quote(edge), "t").text, edge);
    }
    std::string every;
    for (int c = 0; c < 128; c++) every += (char)c;
    EXPECT_STR(json_parse(json_quote(every), "t").text, every);
    EXPECT(json_quote(every).find('\n') == std::string::npos);
    EXPECT_STR(json_quote("a\xFFz\xE2\x82"), "\"a\\ufffdz\\ufffd\\ufffd\"");  // always valid JSON, whatever the bytes
    EXPECT(json_shown(std::string(1 << 20, 'x')).size() < 100);
}

TEST(malformed) {
    std::string deep129 = std::string(129, '[') + std::string(129, ']'), deep128 = std::string(128, '[') + std::string(128, ']');
    EXPECT_STR(error_of(deep128), "");
    EXPECT_STR(error_of(std::string(99, '[') + "{\"a\":1}" + std::string(99, ']')), "");
    const struct { std::string text, error; } cases[] = {
        {"", "line 1 column 1: expected a value, found the end of the text"},
        {" \n ", "line 2 column 2: expected a value, found the end of the text"},
        {"\xEF\xBB\xBF{}", "line 1 column 1: the text begins with a byte order mark"},
        {"{} x", "line 1 column 4: expected the end of the text, found \"x\""},
        {"{}\n{}", "line 2 column 1: expected the end of the text, found \"{\""},
        {std::string("{}\0", 3), "line 1 column 3: expected the end of the text, found \"\\u0000\""},
        {"nul", "line 1 column 1: expected a value, found \"n\""},
        {"True", "line 1 column 1: expected a value, found \"T\""},
        {"\xFF", "line 1 column 1: expected a value, found the byte 0xff"},
        {"[1,]", "line 1 column 4: expected a value, found \"]\""},
        {"[,1]", "line 1 column 2: expected a value, found \",\""},
        {"[1 2]", "line 1 column 4: expected , or ] in an array, found \"2\""},
        {"[1", "line 1 column 3: expected , or ] in an array, found the end of the text"},
        {"[", "line 1 column 2: expected a value, found the end of the text"},
        {"]", "line 1 column 1: expected a value, found \"]\""},
        {"{", "line 1 column 2: expected a name in \"\", found the end of the text"},
        {"{a:1}", "line 1 column 2: expected a name in \"\", found \"a\""},
        {"{'a':1}", "line 1 column 2: expected a name in \"\", found \"'\""},
        {"{\"a\":1,}", "line 1 column 8: expected a name in \"\", found \"}\""},
        {"{\"a\" 1}", "line 1 column 6: expected : after a name, found \"1\""},
        {"{\"a\":}", "line 1 column 6: expected a value, found \"}\""},
        {"{\"a\":1 \"b\":2}", "line 1 column 8: expected , or } in an object, found \"\\\"\""},
        {"{\"a\":1,\"b\":2,\"a\":3}", "line 1 column 1: this object has \"a\" twice, on lines 1 and 1"},
        {"[\n {\"a\":1,\n\"\\u0061\":2}]", "line 2 column 2: this object has \"a\" twice, on lines 2 and 3"},
        {"/*c*/1", "line 1 column 1: expected a value, found \"/\""},
        {"NaN", "line 1 column 1: JSON has no NaN and no Infinity"},
        {"[Infinity]", "line 1 column 2: JSON has no NaN and no Infinity"},
        {"[-Infinity]", "line 1 column 2: JSON has no NaN and no Infinity"},
        {"01", "line 1 column 1: a number cannot begin with 0"},
        {"-00", "line 1 column 2: a number cannot begin with 0"},
        {"-", "line 1 column 2: expected a digit, found the end of the text"},
        {"+1", "line 1 column 1: expected a value, found \"+\""},
        {".5", "line 1 column 1: expected a value, found \".\""},
        {"1.", "line 1 column 3: expected a digit after the point, found the end of the text"},
        {"1.e5", "line 1 column 3: expected a digit after the point, found \"e\""},
        {"1e", "line 1 column 3: expected a digit in the exponent, found the end of the text"},
        {"1e+x", "line 1 column 4: expected a digit in the exponent, found \"x\""},
        {"0x10", "line 1 column 2: expected the end of the text, found \"x\""},
        {"\"abc", "line 1 column 1: this string never ends"},
        {"\"abc\\\"", "line 1 column 1: this string never ends"},
        {"\"a\nb\"", "line 1 column 3: a control character in a string: \"\\n\""},
        {"\"\x01\"", "line 1 column 2: a control character in a string: \"\\u0001\""},
        {"\"\\x\"", "line 1 column 2: unknown escape: \\ before \"x\""},
        {"\"\\", "line 1 column 2: unknown escape: \\ before the end of the text"},
        {"\"\\u12g4\"", "line 1 column 6: expected four hexadecimal digits after \\u, found \"g\""},
        {"\"\\u12", "line 1 column 6: expected four hexadecimal digits after \\u, found the end of the text"},
        {"\"\\ud800\"", "line 1 column 2: the first half of a surrogate pair without the second"},
        {"\"\\ud800\\u0041\"", "line 1 column 2: the first half of a surrogate pair without the second"},
        {"\"\\udc00\"", "line 1 column 2: the second half of a surrogate pair without the first"},
        {"\"\x80\"", "line 1 column 2: invalid UTF-8: the byte 0x80"},                      // a continuation alone
        {"\"\xC3\xA9\xC0\x80\"", "line 1 column 3: invalid UTF-8: the byte 0xc0"},          // overlong; columns are characters
        {"\"\xE0\x9F\xBF\"", "line 1 column 2: invalid UTF-8: the byte 0xe0"},              // overlong
        {"\"\xED\xA0\x80\"", "line 1 column 2: invalid UTF-8: the byte 0xed"},              // a surrogate
        {"\"\xF0\x8F\xBF\xBF\"", "line 1 column 2: invalid UTF-8: the byte 0xf0"},          // overlong
        {"\"\xF4\x90\x80\x80\"", "line 1 column 2: invalid UTF-8: the byte 0xf4"},          // beyond U+10FFFF
        {"\"\xF5\x80\x80\x80\"", "line 1 column 2: invalid UTF-8: the byte 0xf5"},
        {"\"\xE2\x82\"", "line 1 column 2: invalid UTF-8: the byte 0xe2"},                  // cut by the quote
        {"\"\xE2\x82", "line 1 column 2: invalid UTF-8: the byte 0xe2"},                    // cut by the end
        {"{\"\xFF\":1}", "line 1 column 3: invalid UTF-8: the byte 0xff"},
        {deep129, "line 1 column 129: more than 128 arrays and objects inside each other"},
        {std::string(100000, '['), "line 1 column 129: more than 128 arrays and objects inside each other"},
    };
    for (const auto& [text, error] : cases) EXPECT_STR(error_of(text), error);
    EXPECT_DIES("cfg.json: line 2 column 1: expected the end", json_parse("{}\n{}", "cfg.json"));
    EXPECT_DIES("x.jsonl: line 18 column 2: expected a value", json_parse("[", "x.jsonl", 18));
}

TEST(accessors_name_the_place) {
    std::string text = "{\"n_layer\": \"12\",\n \"n_head\": 1.5, \"eps\": 1e999, \"neg\": -1,\n\n \"big\": 9223372036854775808, \"list\": [7]}";
    Json j = json_parse(text, "c.json");
    EXPECT_DIES("c.json: line 1: \"n_layer\" is \"12\", expected an integer", j.at("n_layer", "c.json").as_int("c.json"));
    EXPECT_DIES("c.json: line 2: \"n_head\" is 1.5, expected an integer", j.at("n_head", "c.json").as_int("c.json"));
    EXPECT_DIES("c.json: line 2: \"eps\" is 1e999, expected a number", j.at("eps", "c.json").as_double("c.json"));
    EXPECT_DIES("c.json: line 2: \"neg\" is -1, expected from 0 to 10", j.at("neg", "c.json").as_int("c.json", 0, 10));
    EXPECT_DIES("c.json: line 4: \"big\" is 9223372036854775808, expected an integer", j.at("big", "c.json").as_int("c.json"));
    EXPECT_DIES("c.json: line 1: \"vocab_size\" is missing", j.at("vocab_size", "c.json"));
    EXPECT_DIES("c.json: line 4: the value is 7, expected a string", j.at("list", "c.json").items[0].as_string("c.json"));
    EXPECT_DIES("c.json: line 4: \"list\" is an array, expected an object", j.at("list", "c.json").at("x", "c.json"));
    EXPECT_DIES("c.json: line 1: \"n_layer\" is \"12\", expected true or false", j.at("n_layer", "c.json").as_bool("c.json"));
    EXPECT_DIES("c.json: line 1: \"n_layer\" is \"12\", expected an array", j.at("n_layer", "c.json").as_array("c.json"));
    EXPECT_DIES("nothere.json: No such file or directory", read_file("nothere.json"));
}

// Seeded damage to a valid text: what still parses prints and parses again to the same print; nothing crashes.
TEST(mutations) {
    std::string valid = "{\"a\": [1, -2.5e-3, true, false, null], \"b\\u00e9\\ud83d\\ude00\": {\"c\": \"d\\n\xE2\x82\xAC\"}, \"e\": [[], {}]}";
    EXPECT_STR(error_of(valid), "");
    const std::string pool = "{}[]\",:\\u0019eE+-.tfn \n\x80\xC3\xE2\xF0\xFF";
    uint64_t random = 7;
    auto below = [&](size_t n) { random = random * 6364136223846793005u + 1442695040888963407u; return (size_t)(random >> 33) % n; };
    int good = 0, bad = 0;
    for (int i = 0; i < 20000; i++) {
        std::string text = valid;
        for (size_t k = 1 + below(3); k > 0 && !text.empty(); k--) {
            size_t at = below(text.size()), what = below(4);
            if (what == 0) text[at] = pool[below(pool.size())];
            if (what == 1) text.erase(at, 1 + below(4));
            if (what == 2) text.insert(at, 1, pool[below(pool.size())]);
            if (what == 3) text.insert(at, text.substr(below(text.size()), 1 + below(12)));
        }
        Json json, again;
        std::string error = json_try_parse(json, text);
        if (!error.empty()) { bad++; EXPECT(error.find('\n') == error.npos && error.compare(0, 5, "line ") == 0); continue; }
        good++;
        std::string print = json_dump(json, (int)below(3));
        EXPECT_STR(json_try_parse(again, print), "");
        EXPECT_STR(json_dump(again), json_dump(json));
    }
    EXPECT(good > 500 && bad > 5000);  // both ways were tried
}

// More than there can be, with what main does then and without.
TEST(one_line_where_there_is_no_room) {
    if (SANITIZED) SKIP("the sanitizer ends a process that asks for so much");
    const size_t bytes = SIZE_MAX / 4;
    EXPECT_DIES(format("out of memory: %zu bytes for JSON", bytes).c_str(), json_detail::resize_block(nullptr, bytes));
    EXPECT_DIES("out of memory", die_when_memory_ends(); json_detail::resize_block(nullptr, bytes));
}

TEST(large_object_is_fast) {
    std::string text = "{";
    for (int i = 0; i < 50000; i++) text += (i ? ", \"" : "\"") + format("\\u0120word%d", i * 7919 % 50000) + "\": " + std::to_string(i);
    const clock_t start = clock();  // of the processor, however busy the machine is
    Json j = json_parse(text + "}", "t");
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    EXPECT_EQ(j.items.size(), (size_t)50000);
    EXPECT(seconds < 2);  // takes 0.02 s; a quadratic search for duplicates takes 10
    EXPECT_STR(error_of(text + ", \"\\u0120word77\": 1}"), "line 1 column 1: this object has \"\xC4\xA0word77\" twice, on lines 1 and 1");
}

TEST(gpt2_vocabulary) {
    std::string path = shared_data("gpt2/encoder.json");
    if (access(path.c_str(), R_OK) != 0) SKIP("no %s", path.c_str());
    std::string text = read_file(path);
    const clock_t start = clock();  // of the processor, however busy the machine is
    Json vocabulary = json_parse(text, path);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    EXPECT_EQ(vocabulary.items.size(), (size_t)50257);
    std::vector<bool> seen(50257);
    for (const Json& word : vocabulary.items) seen[(size_t)word.as_int(path, 0, 50256)] = true;
    EXPECT(std::find(seen.begin(), seen.end(), false) == seen.end());
    EXPECT_EQ(vocabulary.at("<|endoftext|>", path).as_int(path), (int64_t)50256);
    EXPECT_EQ(vocabulary.at("\xC4\xA0the", path).as_int(path), (int64_t)262);  // " the"
    EXPECT(seconds < 2);  // takes 0.02 s; the bound is for a sanitizer
    printf("  parsed %.1f MB in %.3f s\n", (double)text.size() / 1e6, seconds);
}

TEST(json_when_memory_ends) {
#ifdef __SANITIZE_ADDRESS__
    SKIP("a request for more than there is ends a sanitized program before realloc returns");
#endif
    volatile size_t more_than_there_is = SIZE_MAX / 4;
    EXPECT_DIES("out of memory: 4611686018427387903 bytes for JSON", json_detail::resize_block(nullptr, more_than_there_is));
    EXPECT_DIES("error: out of memory\n", die_when_memory_ends(), json_detail::resize_block(nullptr, more_than_there_is));
}
