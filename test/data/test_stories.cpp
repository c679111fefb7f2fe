// test_stories.cpp: the floor of the stories is true only if a text can be told in exactly one way, with the probability
// that was accounted for. So stories are read back here from their text alone, and everything that the grammar allows is
// tried at every choice. The rest checks that they are worth reading: answers that are right, words, forms, manners.
#include <algorithm>
#include <map>
#include <set>
#define main stories_main  // its options are tested here too
#include "../../dev/data/stories.cpp"
#undef main
#include "../../llmc/io/json.h"
#include "../test.h"

using stories::Dice;
using stories::Teller;

static const stories::Grammar& grammar() { static const stories::Grammar g(stories::GRAMMAR); return g; }

static double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// ---------------------------------------------------------------- reading back

// The choices of one step of the teller: those of a given path are taken; if there is one more, it is left open.
struct Reader {
    std::string text;
    bool prefix = false;                 // the text is the beginning of a story
    std::vector<int> path{}, options{};  // options: the alternatives of the open choice that have a chance
    enum { GOES_ON, DIFFERS, OPEN, READ } state = GOES_ON;
    size_t made = 0;
    double bits = 0;                     // -log2 of the probability of the choices made

    int choose(const int* weight, int n, int total) {
        if (made < path.size()) {
            int i = path[made++];
            bits -= std::log2((weight ? weight[i] : 1) / (double)total);
            return i;
        }
        if (state == GOES_ON) {
            state = OPEN, options.clear();
            for (int i = 0; i < n; i++) if (!weight || weight[i] > 0) options.push_back(i);
        }
        return 0;
    }
    void told(const char* told, int length) {
        if (state != GOES_ON) return;
        size_t told_bytes = (size_t)length;
        if (memcmp(told, text.data(), std::min(told_bytes, text.size())) || (!prefix && told_bytes > text.size())) state = DIFFERS;
        else if (prefix && told_bytes >= text.size()) state = READ;
    }
};

struct Readings { int count = 0; double bits = 0; };  // how many ways to tell it, and the bits of the last one found

// Tells on in every way that agrees with the text. `path`: choices to be made within the next step.
static void follow(Teller<Reader> teller, Reader& reader, std::vector<int> path, double bits, Readings& found) {
    for (;; path.clear()) {
        Teller before = teller;
        reader.path = path, reader.state = Reader::GOES_ON, reader.made = 0, reader.bits = 0;
        bool more = teller.step();
        if (reader.state == Reader::OPEN) {
            path.push_back(0);
            for (int option : std::vector<int>(reader.options)) path.back() = option, follow(before, reader, path, bits, found);
            return;
        }
        bits += reader.bits;
        bool all = !reader.prefix && !more && teller.length == (int)reader.text.size();
        if (reader.state == Reader::READ || (all && reader.state == Reader::GOES_ON)) found.count++, found.bits = bits;
        if (reader.state != Reader::GOES_ON || !more) return;
    }
}

static Readings read_back(const std::string& text, bool prefix = false, const stories::Grammar& g = grammar()) {
    Readings found;
    Reader reader{.text = text, .prefix = prefix};
    Teller teller(g, reader);
    teller.begin();
    follow(teller, reader, {}, 0, found);
    return found;
}

TEST(each_text_can_be_told_in_exactly_one_way) {
    Dice dice{.seed = 7};
    Teller teller(grammar(), dice);
    int stories = 0;
    double deadline = now() + 5;  // on a slow machine, or under a sanitizer, fewer stories
    for (; stories < 2000 && (stories < 60 || now() < deadline); stories++, dice.next_story()) {
        double before = dice.bits();
        teller.tell();
        std::string text(teller.text, (size_t)teller.length);
        Readings r = read_back(text);
        if (r.count != 1) FAIL("%d ways to tell: %s", r.count, text.c_str());
        // sums of under 2000 * 300 bits, so each of some 300 roundings is below 2^20 * 2^-53, and so is their difference
        double bits = dice.bits() - before;
        if (std::fabs(bits - r.bits) > 1e-7) FAIL("%.9f bits written, %.9f read: %s", bits, r.bits, text.c_str());
    }
    printf("  %d stories read back\n", stories);
    EXPECT_EQ(read_back("Once upon a time Tom went home.").count, 0);
}

// The reader must be able to find that there are two ways.
TEST(a_grammar_with_two_ways_is_found_out) {
    static const stories::Grammar two("story = [red|blue] <hat> | red hat | green [hat|hat]\nhat = hat\nshade = red\nplace = <room>\nroom = in x\n");
    EXPECT_EQ(read_back("Red hat", false, two).count, 2);
    EXPECT_EQ(read_back("Green hat", false, two).count, 2);
    EXPECT_EQ(read_back("Blue hat", false, two).count, 1);
    EXPECT_EQ(read_back("Blue ", true, two).count, 1);
    EXPECT_EQ(read_back("Blue hats", false, two).count, 0);
    EXPECT(std::fabs(read_back("Blue hat", false, two).bits - std::log2(6.0)) < 1e-12);
}

// ---------------------------------------------------------------- chances

TEST(philox_is_philox) {  // the known answers published with the generator
    stories::Philox zero = stories::philox({{0, 0, 0, 0}}, 0, 0), ones = stories::philox({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u);
    const uint32_t expected_zero[] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    const uint32_t expected_ones[] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    for (int i = 0; i < 4; i++) EXPECT(zero.word[i] == expected_zero[i] && ones.word[i] == expected_ones[i]);
}

TEST(the_chances_of_each_choice_are_what_they_should_be) {
    for (const stories::Choice& c : grammar().choices) {
        int sum = 0;
        for (int w : c.weight) sum += w;
        EXPECT(*std::min_element(c.weight.begin(), c.weight.end()) > 0);
        EXPECT_EQ(sum, c.total);
        EXPECT_EQ(c.weight.size(), c.steps.size());
        EXPECT_EQ(c.uniform, (size_t)sum == c.weight.size());
        std::set<std::string> alike;  // two alternatives that are the same text would be two ways to tell one story
        for (const auto& steps : c.steps)
            if (steps.size() == 1 && steps[0].what == stories::Do::TEXT)
                if (const std::string& body = grammar().texts[(size_t)steps[0].arg].body; !alike.insert(body).second) FAIL("%s twice", body.c_str());
    }
    // Drawn often, each value comes as often as its weight says: chi-square with n - 1 degrees of freedom has mean n - 1
    // and variance 2 (n - 1), 6 sigma is allowed.
    Dice dice{.seed = 11};
    for (std::vector<int> weight : {std::vector<int>(2, 1), std::vector<int>(7, 1), std::vector<int>(40, 1), {3, 1}, {4, 2, 3, 2}, {0, 2, 0, 5}}) {
        int n = (int)weight.size(), total = 0, possible = 0, draws = 200000;
        for (int w : weight) total += w, possible += w > 0;
        std::vector<int> seen((size_t)n);
        for (int i = 0; i < draws; i++) seen[(size_t)dice.choose(total == n ? nullptr : weight.data(), n, total)]++;
        double chi = 0;
        for (int i = 0; i < n; i++) {
            double expected = (double)draws * weight[(size_t)i] / total, d = seen[(size_t)i] - expected;
            if (expected > 0) chi += d * d / expected; else EXPECT_EQ(seen[(size_t)i], 0);
        }
        double mean = possible - 1;
        if (chi > mean + 6 * std::sqrt(2 * mean)) FAIL("%d values: chi-square %.1f, expected about %.0f", n, chi, mean);
    }
}

// Beside the bits of what was chosen, the entropy of what could have been: their means must agree.
struct Accountant {
    Dice dice;
    double bits = 0, entropy = 0;
    int choose(const int* weight, int n, int total) {
        for (int i = 0; i < n; i++) {
            double p = (weight ? weight[i] : 1) / (double)total;
            if (p > 0) entropy -= p * std::log2(p);
        }
        int i = dice.choose(weight, n, total);
        bits -= std::log2((weight ? weight[i] : 1) / (double)total);
        return i;
    }
    void told(const char*, int) {}
};
TEST(mean_information_is_the_entropy_of_the_choices) {
    Accountant a{.dice = {.seed = 5}};
    Teller teller(grammar(), a);
    const int N = 10000;
    double sum = 0, squares = 0, all = 0;
    for (int i = 0; i < N; i++, a.dice.next_story()) {
        a.bits = a.entropy = 0;
        teller.tell();
        double d = a.bits - a.entropy;  // a martingale difference: mean 0
        sum += d, squares += d * d, all += a.bits;
    }
    double sigma = std::sqrt(squares / N / N);
    if (std::fabs(sum / N) > 5 * sigma) FAIL("off by %.4f bits a story, sigma %.4f", sum / N, sigma);
    EXPECT(sigma > 0);
    // the integer account of Dice gives the same sum; 10000 * 100 roundings of sums below 2^21.3 bits: 1e6 * 2^-32
    EXPECT(std::fabs(all - a.dice.bits()) < 1e6 * std::ldexp(1, -32));
}

// ---------------------------------------------------------------- the world

static const char* const WORDS = R"(
shade = old
boy = Tom
girl = Ann
child = <boy> | <girl>
elder = <man>
man = Grandpa
animal = the dog
toy = ball | kite
room = in the hall | in the attic
place = <room>
)";
// What a little story tells; `take` says what to choose where there is a choice, the first where it does not say.
struct Script {
    std::vector<int> take;
    size_t at = 0;
    int choose(const int*, int n, int) { int i = n > 1 && at < take.size() ? take[at++] : 0; EXPECT(i < n); return i; }
    void told(const char*, int) {}
};
static std::string tell(const std::string& story, std::vector<int> take = {}) {
    stories::Grammar g(("story = " + story + WORDS).c_str());
    Script script{take};
    Teller teller(g, script);
    teller.tell();
    return {teller.text, (size_t)teller.length};
}

TEST(words_are_put_in_order) {
    EXPECT_STR(tell("{an} [apple|pear] , {an} [fine|] <hat> [|!] . So <hat> {an} owl\nhat =  hat  | cap"), "An apple, a fine hat. So hat an owl");
    EXPECT_STR(tell("{a} has {an x:toy}. {a} likes {x}.", {0, 0, 0}), "Tom has an old ball. He likes the old ball.");
    EXPECT_STR(tell("{a} has {an x:toy}. {a} likes {x}.", {1, 0, 1}), "Ann has an old ball. Ann likes the old ball.");
    EXPECT_STR(tell("{a} met {B}. {a} thanked {him b}; \"{b} knows,\" said {A}. {d} ran to {p:room}.", {0, 0, 0}), "Tom met Ann. He thanked her; \"Ann knows,\" said Tom. The dog ran to the hall.");
    EXPECT_STR(tell("{a} met {G}. {a} thanked {him g}. {a} ran.", {0, 0, 0}), "Tom met Grandpa. Tom thanked Grandpa. Tom ran.");
    EXPECT_STR(tell("\"Go!\" said {A}. \"{an x:toy}?\" {a} laughed. {x} fell.", {0, 1}), "\"Go!\" said Tom. \"An old kite?\" Tom laughed. The old kite fell.");
}

TEST(answers_follow_from_the_world) {
    const std::string have = "{a} has {an x:toy}. {a has x}", ask = " {pick t any} Where is {t}? {answer t}";
    EXPECT_STR(tell(have + ask), "Tom has an old ball. Where is the old ball? Tom has the old ball.");
    EXPECT_STR(tell(have + " {b} is here. {a gives x b}" + ask), "Tom has an old ball. Ann is here. Where is the old ball? Ann has the old ball.");
    EXPECT_STR(tell(have + " {a} runs {in p:room}. {a goes p} {a puts x}" + ask, {0, 0, 0, 1}), "Tom has an old ball. He runs in the attic. Where is the old ball? The old ball is in the attic.");
    EXPECT_STR(tell(have + " {b} ran. {pick t any} {pick s without t} {pick o} \"Where is {t}?\" asked {S}. {reply t o}"), "Tom has an old ball. Ann ran. \"Where is the old ball?\" asked Ann. \"I have it,\" said Tom.");
    EXPECT_STR(tell("{an x:toy} lies {in p:room}. {x is p} {pick t free} {a} takes it to {new n} {n}. {a moves t n}" + ask), "An old ball lies in the hall. Tom takes it to the attic. Where is the old ball? The old ball is in the attic.");
    EXPECT_STR(tell("{an x:toy} lies {in p:room}. {x is p} {pick t free} {a} gets it. {a fetches t}" + ask), "An old ball lies in the hall. Tom gets it. Where is the old ball? Tom has the old ball.");
}

TEST(the_world_allows_no_nonsense) {
    EXPECT_DIES("nobody gives what they do not have", tell("{a} {b} {an x:toy} {b has x} {a gives x b}"));
    EXPECT_DIES("nobody puts what they do not have", tell("{a} {b} {an x:toy} {b has x} {in p:room} {a goes p} {a puts x}"));
    EXPECT_DIES("is not there to be taken", tell("{a} {an x:toy} {in p:room} {x is p} {a takes x}"));
    EXPECT_DIES("is not there to be taken", tell("{a} {b} {an x:toy} {b has x} {a takes x}"));
    EXPECT_DIES("they are not together", tell("{a} {b} {an x:toy} {in p:room} {a has x} {a goes p} {a gives x b}"));
    EXPECT_DIES("is somewhere already", tell("{a} {b} {an x:toy} {a has x} {b has x}"));
    EXPECT_DIES("which place?", tell("{a} {an x:toy} {a has x} {a puts x}"));
    EXPECT_DIES("lies nowhere", tell("{a} {an x:toy} {a fetches x}"));
    EXPECT_DIES("nothing to pick", tell("{a} {pick t free} {t}"));
    EXPECT_DIES("no rule nobody", tell("<nobody>"));
    EXPECT_DIES("what is that?", tell("{a} {a eats x}"));
    EXPECT_DIES("a [ without its ]", tell("[one|two"));
}

// ---------------------------------------------------------------- as a reader sees it

static std::vector<std::string> some_stories(int n, uint64_t seed) {
    Dice dice{.seed = seed};
    Teller teller(grammar(), dice);
    std::vector<std::string> all;
    for (int i = 0; i < n; i++, dice.next_story()) teller.tell(), all.emplace_back(teller.text, (size_t)teller.length);
    return all;
}
static std::vector<std::string> split(const std::string& s, const char* separators) {
    std::vector<std::string> parts;
    for (size_t at = 0; at < s.size();) {
        size_t end = std::min(s.find_first_of(separators, at), s.size());
        if (end > at) parts.push_back(s.substr(at, end - at));
        at = end + 1;
    }
    return parts;
}
static size_t count(const std::string& s, const std::string& what) {
    size_t n = 0;
    for (size_t at = 0; (at = s.find(what, at)) != s.npos; at++) n++;
    return n;
}

TEST(stories_are_well_formed) {
    const std::set<std::string> TAGS = {"asked", "said"};
    size_t shortest = 9999, longest = 0;
    double bytes = 0;
    const int N = 3000;
    for (const std::string& s : some_stories(N, 3)) {
        size_t words = split(s, " ").size(), stops = count(s, ".") + count(s, "?") + count(s, "!");
        bytes += (double)s.size(), shortest = std::min(shortest, words), longest = std::max(longest, words);
        bool ok = words >= 35 && words <= 190 && stops >= 5 && stops <= 18 && isupper(s[s[0] == '"']) && s.back() == '.';
        for (const char* bad : {"  ", " .", " ,", " ?", "..", ",.", "\n", "{", "}", "<", ">", "[", "]", "|", " \" "}) ok &= !count(s, bad);
        ok &= count(s, "\"") % 2 == 0;
        for (char vowel : std::string("aeiou")) ok &= !count(s, std::string(" a ") + vowel) && !count(s, std::string("A ") + vowel);
        for (char c = 'b'; c <= 'z'; c++) if (!strchr("eiou", c)) ok &= !count(s, std::string(" an ") + c) && !count(s, std::string("An ") + c);
        for (size_t i = 0; i + 2 < s.size(); i++) {
            if (s[i] == '.' && s[i + 1] == ' ' && islower(s[i + 2])) ok = false;
            if (strchr("!?", s[i]) && s[i + 1] == '"' && s[i + 2] == ' ' && islower(s[i + 3])) ok &= TAGS.count(split(s.substr(i + 3), " ")[0]) > 0;
        }
        if (!ok) FAIL("%zu words, %zu sentences: %s", words, stops, s.c_str());
    }
    printf("  stories of %zu to %zu words, %.0f bytes on average\n", shortest, longest, bytes / N);
}

TEST(there_is_enough_to_say) {
    // A form is a sentence without its names, things, places and words of the larger lists: those are only blanks in it.
    std::map<std::string, std::string> blank;
    for (const stories::Word& w : grammar().words) blank[w.text] = "_";
    for (const stories::Choice& c : grammar().choices) {
        bool words = c.weight.size() >= 4;
        for (const auto& steps : c.steps) words &= steps.size() == 1 && steps[0].what == stories::Do::TEXT;
        if (words) for (const auto& steps : c.steps) blank[grammar().texts[(size_t)steps[0].arg].body] = "_";
    }
    for (const char* pronoun : {"he", "she", "him", "her", "his"}) blank[pronoun] = "_";
    std::set<std::string> words, stories_seen;
    std::map<std::string, int> forms;
    const int N = 4000;
    for (const std::string& s : some_stories(N, 4)) {
        stories_seen.insert(s);
        for (std::string sentence : split(s, ".?!")) {
            std::string form;
            for (std::string& word : split(sentence, " ,\"")) {
                if (isupper(word[0]) && !blank.count(word)) word[0] = (char)tolower(word[0]);
                if (!isdigit(word[0])) words.insert(word);
                form += isdigit(word[0]) || blank.count(word) ? "_ " : word == "an" ? "a " : word + " ";
            }
            while (count(form, "_ _ ")) form.replace(form.find("_ _ "), 4, "_ ");  // some lists hold phrases
            forms[form]++;
        }
    }
    size_t common = 0;
    for (const auto& [form, n] : forms) common += n >= N / 1000;  // in at least one story of a thousand
    printf("  %zu words, %zu forms of sentences, %zu of them common\n", words.size(), forms.size(), common);
    EXPECT(words.size() >= 500);
    EXPECT(common >= 300);
    EXPECT_EQ(stories_seen.size(), (size_t)N);
}

// ---------------------------------------------------------------- questions

static std::string scratch(const std::string& name) {
    EXPECT_EQ(system("mkdir -p build/tmp"), 0);
    return "build/tmp/stories_" + name;
}
static std::string slurp(const std::string& path) {
    std::string s;
    FILE* file = fopen(path.c_str(), "rb");
    if (!file) return "cannot open " + path;
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;) s.append(buffer, n);
    fclose(file);
    return s;
}
static Outcome run_stories(std::vector<std::string> arguments) {
    return run_child([&] {
        std::vector<char*> argv = {(char*)"stories"};
        for (std::string& a : arguments) argv.push_back(a.data());
        int code = stories_main((int)argv.size(), argv.data());
        fflush(nullptr);
        _exit(code);  // not exit: a leak checker would blame this child for what the tests before it have allocated
    });
}

struct Question { std::string context, answer; std::vector<std::string> choices; };
static std::vector<Question> some_questions(int n) {
    std::string path = scratch("questions.jsonl");
    Outcome o = run_stories({"--questions", std::to_string(n), "--seed", "2", "-o", path});
    EXPECT_EQ(o.code, 0);
    std::vector<Question> all;
    for (const std::string& line : split(slurp(path), "\n")) {
        Json j = json_parse(line, path);
        Question q{j.at("context", path).as_string(path), j.at("answer", path).as_string(path), {}};
        for (const Json& c : j.at("choices", path).as_array(path)) q.choices.push_back(c.as_string(path));
        all.push_back(q);
    }
    EXPECT_EQ(all.size(), (size_t)n);
    return all;
}

TEST(questions_have_one_right_answer_among_several) {
    for (const Question& q : some_questions(400)) {
        std::set<std::string> distinct(q.choices.begin(), q.choices.end());
        bool ok = q.choices.size() >= 4 && distinct.size() == q.choices.size() && distinct.count(q.answer) && q.answer[0] == ' ';
        for (const std::string& c : q.choices) ok &= c.find('.') == c.size() - 1;
        if (!ok) FAIL("%s%s", q.context.c_str(), q.answer.c_str());
    }
}

TEST(the_grammar_allows_the_right_answer_only) {
    double deadline = now() + 3;
    size_t asked = 0;
    for (const Question& q : some_questions(60)) {
        if (asked++ >= 5 && now() > deadline) break;
        for (const std::string& c : q.choices) {
            int expected = c == q.answer, ways = read_back(q.context + c, true).count;
            // (a story may go on in several ways after the answer; the reader stops as soon as it is read)
            if (ways != expected) FAIL("%d ways to say %s after: %s", ways, c.c_str(), q.context.c_str());
        }
    }
}

// An oracle that knows nothing of the grammar: where the sentence that last named a thing says where it went, it is there.
TEST(answers_agree_with_the_last_sentence_that_tells) {
    int told = 0, all = 0;
    for (const Question& q : some_questions(2000)) {
        size_t where = q.context.find("Where is the ") + 9, end = q.context.find('?', where);
        std::string thing = q.context.substr(where, end - where), before = q.context.substr(0, where - 9);
        size_t last = before.rfind(thing);
        all++;
        if (last == before.npos) continue;
        std::string rest = before.substr(last + thing.size(), before.find('.', last) - last - thing.size()), place;
        for (const char* way : {" to the ", " in the ", " at the ", " on the ", " by the "})
            if (rest.rfind(way, 0) == 0) place = rest.substr(8, rest.find_first_of(" ,", 8) - 8);
        if (place.empty()) continue;
        told++;
        if (!count(q.answer, " the " + place)) FAIL("%s%s", q.context.c_str(), q.answer.c_str());
    }
    printf("  %d of %d questions checked\n", told, all);
    EXPECT(told > all / 5);
}

// ---------------------------------------------------------------- the program

TEST(files_are_as_they_say) {
    std::string path = scratch("text.txt");
    Outcome o = run_stories({"--bytes", "200k", "--seed", "9", "--out", path, "--entropy"});
    EXPECT_EQ(o.code, 0);
    std::string text = slurp(path), separator = "\n<|endoftext|>\n", side = path + ".floor";
    EXPECT(text.size() <= 200000 && text.size() > 198000);
    Json floor = json_parse(slurp(side), side);
    size_t documents = count(text, separator) + 1;
    EXPECT_EQ((size_t)floor.at("documents", side).as_int(side), documents);
    EXPECT_EQ((size_t)floor.at("bytes", side).as_int(side), text.size() - 13 * (documents - 1));
    EXPECT(text.back() == '\n' && text.find("<|endoftext|>\n" + separator) == text.npos);
    // the bits of the file are those of its stories, read back from the text: here the first ten, then all by the Dice
    Dice dice{.seed = 9};
    Teller teller(grammar(), dice);
    std::string expected;
    double bits_of_ten = 0, bits_read = 0;
    for (size_t i = 0; i < documents; i++, dice.next_story()) {
        teller.tell();
        std::string one(teller.text, (size_t)teller.length);
        expected += (i ? "<|endoftext|>\n" : "") + one + "\n";
        if (i < 10) bits_read += read_back(one).bits, bits_of_ten = dice.bits();
    }
    EXPECT(text == expected);
    EXPECT(std::fabs(bits_read - bits_of_ten) < 1e-7);
    double bits = floor.at("bits", side).as_double(side), per_byte = floor.at("bits_per_byte", side).as_double(side);
    EXPECT(std::fabs(bits - dice.bits()) < 0.00051);  // three decimals
    EXPECT(std::fabs(per_byte - bits / (double)(text.size() - 13 * (documents - 1))) < 0.0000006);
    EXPECT(per_byte > 0.30 && per_byte < 0.65);
    EXPECT(count(o.output, format("%.6f bits/byte", per_byte)) == 1);
    // without --out the text goes to the terminal, and it is the same
    EXPECT(run_stories({"--bytes", "200000", "--seed", "9"}).output == text);
    EXPECT(run_stories({"--bytes", "200000", "--seed", "10"}).output != text);
}

// The same bytes on every machine and from every compiler: FNV-1a of 1 MB. Changes when the grammar does.
TEST(same_seed_same_bytes) {
    std::string text = run_stories({"--bytes", "1M", "--seed", "1"}).output;
    uint64_t hash = 0xcbf29ce484222325;
    for (char c : text) hash = (hash ^ (uint8_t)c) * 0x100000001b3;
    if (hash != 0xf9b57385538f30e6) FAIL("the hash of %zu bytes is 0x%016llx", text.size(), (unsigned long long)hash);
}

TEST(bad_options_are_one_line) {
    auto refused = [](std::vector<std::string> arguments, const char* says) {
        Outcome o = run_stories(arguments);
        bool ok = o.code == 2 && count(o.output, says) && count(o.output, "\n") == 1;
        if (!ok) FAIL("exit code %d: %s", o.code, o.output.c_str());
    };
    refused({}, "--bytes or --questions");
    refused({"--bites", "3"}, "--bites: unknown option");
    refused({"--bytes"}, "--bytes: a value is missing");
    for (const char* bad : {"", "x", "-1", "1.5M", "10MB", "100", "99999999999999999999", "9999999999999999G"})
        refused({"--bytes", bad}, "expected a whole number of at least 4096");
    refused({"--questions", "0"}, "--questions 0: expected a whole number of at least 1");
    refused({"--questions", "5", "--bytes", "10k"}, "--questions goes with neither");
    Outcome o = run_stories({"--bytes", "10k", "-o", "build/no/such/folder/x"});
    EXPECT(o.code == 1 && count(o.output, "build/no/such/folder/x: cannot be written\n") == 1);
    EXPECT(run_stories({"--help"}).code == 0);
}
