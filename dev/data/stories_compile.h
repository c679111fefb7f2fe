// stories_compile.h: the text of the grammar becomes lists of steps. A rule, and a [choice] within one, is a Choice among
// alternatives; an alternative is a list of Steps: print this, choose there, name the thing x, let Tom take it.
#pragma once
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>
#include "../../llmc/base/check.h"
#include "stories_grammar.h"

namespace stories {

enum class Do : uint8_t {
    TEXT, CHOOSE, ARTICLE,                                  // print a text; a <rule> or a [choice]; {an}
    SUBJECT, NAME, HE, HIM, HIS,                            // {a} {A} {he a} {him a} {his a}
    THE_THING, A_THING, BARE_THING, THE_PLACE, IN_PLACE,    // {x} {an x} {bare x} {p} {in p}
    ANSWER, REPLY,                                          // {answer t} {reply t o}
    GOES, HAS, TAKES, PUTS, GIVES, HANDS, FETCHES, MOVES, IS, FIX,
    PICK_FREE, PICK_HELD, PICK_ANY, PICK_PERSON, PICK_WITHOUT, PICK_PLACE,  // all picks are at the end
};

struct Step {
    Do what;
    char one = 0, two = 0, three = 0;  // the letters, in the order of the braces: {a gives x b}
    int arg = -1;                      // TEXT: which text; CHOOSE: which choice; THING, PLACE: which list; FIX: which word
};

struct Choice {
    std::vector<int> weight;
    std::vector<std::vector<Step>> steps;  // of each alternative
    int total = 0;
    bool uniform = true, guarded = false;  // guarded: an alternative begins with a pick, so it may be impossible
};

struct Text { std::string body; bool space_before, space_after; int stops; };  // stops: how many sentences end in it

enum class Gender : uint8_t { HE, SHE, IT };
struct Word { std::string text, preposition; Gender gender; };  // a name, a shade, a thing or a place

constexpr int MAX_LIST = 64, MAX_GUARDED = 16;

constexpr char HOME = '~';  // the letter of the place in {a goes home}
inline bool is_person(char letter) { return letter && strchr("abcgdso", letter); }
inline bool is_thing(char letter) { return letter && strchr("xyzt", letter); }
inline bool is_place(char letter) { return letter && strchr("pqrnm~", letter); }

struct Grammar {
    std::vector<Text> texts;
    std::vector<Choice> choices;
    std::vector<Word> words;
    std::vector<std::vector<int>> lists;  // of words
    Step story;                           // the step that tells a whole one
    int shade, place;                     // lists that the teller chooses from by itself
    std::map<std::string, int> rules, word_lists, word_ids;

    explicit Grammar(const char* source) {
        split(source);
        story = {Do::CHOOSE, 0, 0, 0, rule("story")}, shade = word_list("shade"), place = word_list("place");
    }

private:
    std::map<std::string, std::string> sources;  // rule -> what stands behind its ` = `

    void split(const char* source) {
        std::string name;
        for (const char *line = source, *end; (end = strchr(line, '\n')); line = end + 1) {
            std::string s(line, end);
            if (s.empty() || s[0] == '#') continue;
            if (s[0] != ' ') {  // a rule begins; the lines that continue it are indented
                size_t equals = s.find(" = ");
                CHECK(equals != s.npos, "grammar: no ` = ` in %s", s.c_str());
                name = s.substr(0, equals), s = s.substr(equals + 3);
                CHECK(!sources.count(name), "grammar: two rules %s", name.c_str());
            }
            sources[name] += s + " ";
        }
    }

    const std::string& source_of(const std::string& name) {
        CHECK(sources.count(name), "grammar: no rule %s", name.c_str());
        return sources[name];
    }

    int rule(const std::string& name) {
        if (rules.count(name)) return rules[name];
        const char* at = source_of(name).c_str();
        int id = choice(at, true);
        CHECK(!*at, "grammar: %s: unexpected %s", name.c_str(), at);
        return rules[name] = id;
    }

    // one | another: up to the ] or the end. In a whole rule the spaces beside the bars mean nothing.
    int choice(const char*& at, bool whole) {
        Choice c;
        do {
            int weight = 1;
            const char* open = at + strspn(at, " ");
            if (open[0] == '(' && open[2] == ')') weight = open[1] - '0', at = open + 3;
            if (whole) at += strspn(at, " ");
            c.steps.push_back(sequence(at));
            if (whole) trim_end(c.steps.back());
            c.weight.push_back(weight), c.total += weight, c.uniform &= weight == 1;
            c.guarded |= !c.steps.back().empty() && c.steps.back()[0].what >= Do::PICK_FREE;
        } while (*at == '|' && at++);
        CHECK(c.total < 256 && (!c.guarded || c.weight.size() <= MAX_GUARDED), "grammar: too many alternatives before %s", at);
        choices.push_back(c);
        return (int)choices.size() - 1;
    }

    std::vector<Step> sequence(const char*& at) {
        std::vector<Step> steps;
        while (*at && *at != '|' && *at != ']') {
            if (*at == '[') {
                int id = choice(++at, false);
                CHECK(*at++ == ']', "grammar: a [ without its ]");
                steps.push_back({Do::CHOOSE, 0, 0, 0, id});
            } else if (*at == '<' || *at == '{') {
                const char* end = at + strcspn(at, ">}");
                CHECK(*end, "grammar: no end of %s", at);
                std::string inside(at + 1, end);
                steps.push_back(*at == '<' ? Step{Do::CHOOSE, 0, 0, 0, rule(inside)} : brace(inside));
                at = end + 1;
            } else {
                size_t length = strcspn(at, "[]|<{");
                add_text(steps, std::string(at, length));
                at += length;
            }
        }
        return steps;
    }

    // Where a text begins or ends with spaces, it asks for one there; the teller merges what is asked for twice.
    void add_text(std::vector<Step>& steps, const std::string& s) {
        Text t{"", s[0] == ' ', s.back() == ' ', 0};
        for (char c : s) {
            if (c == ' ' && (t.body.empty() || t.body.back() == ' ')) continue;
            t.body += c, t.stops += strchr(".!?", c) != nullptr;
        }
        if (!t.body.empty() && t.body.back() == ' ') t.body.pop_back();
        steps.push_back({Do::TEXT, 0, 0, 0, (int)texts.size()});
        texts.push_back(t);
    }

    void trim_end(std::vector<Step>& steps) {
        if (steps.empty() || steps.back().what != Do::TEXT) return;
        texts.back().space_after = false;
        if (texts.back().body.empty()) steps.pop_back();
    }

    Step brace(const std::string& s) {
        static const std::map<std::string, Do> FORMS = {
            {"he", Do::HE}, {"him", Do::HIM}, {"his", Do::HIS}, {"an", Do::A_THING}, {"bare", Do::BARE_THING},
            {"in", Do::IN_PLACE}, {"answer", Do::ANSWER}, {"reply", Do::REPLY}, {"new", Do::PICK_PLACE}};
        static const std::map<std::string, Do> VERBS = {
            {"goes", Do::GOES}, {"has", Do::HAS}, {"takes", Do::TAKES}, {"puts", Do::PUTS}, {"gives", Do::GIVES},
            {"hands", Do::HANDS}, {"fetches", Do::FETCHES}, {"moves", Do::MOVES}, {"is", Do::IS}};
        static const std::map<std::string, Do> PICKS = {
            {"free", Do::PICK_FREE}, {"held", Do::PICK_HELD}, {"any", Do::PICK_ANY}, {"without", Do::PICK_WITHOUT}};
        std::vector<std::string> w;
        for (size_t at = 0, end; at < s.size(); at = end + 1)
            end = std::min(s.find(' ', at), s.size()), w.push_back(s.substr(at, end - at));
        auto letter = [&](size_t i) {
            std::string l = i < w.size() ? w[i].substr(0, w[i].find(':')) : "";
            if (l == "home") return HOME;
            CHECK(l.size() == 1, "grammar: {%s}: who or what?", s.c_str());
            return l[0];
        };
        size_t colon = s.find(':');
        int list = colon == s.npos ? -1 : word_list(s.substr(colon + 1));
        if (s == "an") return {Do::ARTICLE};
        if (w.size() == 1) {
            char c = letter(0);
            if (is_person(c)) return {Do::SUBJECT, c, 0, 0, person_list(c)};
            char low = (char)(c | 32);  // A -> a
            if (is_person(low)) return {Do::NAME, low, 0, 0, person_list(low)};
            CHECK(is_thing(c) || is_place(c), "grammar: {%s}: what is that?", s.c_str());
            return {is_thing(c) ? Do::THE_THING : Do::THE_PLACE, c, 0, 0, list};
        }
        if (w[0] == "pick" && w.size() == 2) return {Do::PICK_PERSON, letter(1)};
        if (w[0] == "pick" && PICKS.count(w[2])) return {PICKS.at(w[2]), letter(1), w.size() > 3 ? letter(3) : '\0'};
        if (FORMS.count(w[0])) {
            Do form = FORMS.at(w[0]);
            if (form <= Do::HIS) list = person_list(letter(1));
            return {form, letter(1), w.size() > 2 ? letter(2) : '\0', 0, list};
        }
        if (w[1] == "=") { word_list("place"); return {Do::FIX, letter(0), 0, 0, word_ids.at("the " + w[2])}; }
        CHECK(VERBS.count(w[1]), "grammar: {%s}: what is that?", s.c_str());
        return {VERBS.at(w[1]), letter(0), letter(2), w.size() > 3 ? letter(3) : '\0'};
    }

    int person_list(char letter) {
        if (strchr("so", letter)) return -1;  // picked among those that are there
        return word_list(letter == 'g' ? "elder" : letter == 'd' ? "animal" : "child");
    }

    // A rule that is a list of words, or of lists of words: <room> | <outside>.
    int word_list(const std::string& name) {
        if (word_lists.count(name)) return word_lists[name];
        std::vector<int> ids;
        std::string s = source_of(name) + "|";
        for (size_t at = 0, bar; (bar = s.find('|', at)) != s.npos; at = bar + 1) {
            size_t first = s.find_first_not_of(' ', at), last = s.find_last_not_of(' ', bar - 1);
            std::string text = s.substr(first, last - first + 1), preposition;  // in the hall: "in" and "the hall"
            if (text[0] == '<') {
                int sub = word_list(text.substr(1, text.size() - 2));
                ids.insert(ids.end(), lists[(size_t)sub].begin(), lists[(size_t)sub].end());
                continue;
            }
            bool he = name == "boy" || name == "man", she = name == "girl" || name == "woman";
            if (name == "room" || name == "outside")
                preposition = text.substr(0, text.find(' ')), text = text.substr(text.find(' ') + 1);
            CHECK(!word_ids.count(text), "grammar: %s is in two lists", text.c_str());
            ids.push_back(word_ids[text] = (int)words.size());
            words.push_back({text, preposition, he ? Gender::HE : she ? Gender::SHE : Gender::IT});
        }
        CHECK(ids.size() <= MAX_LIST, "grammar: %s has over %d words", name.c_str(), MAX_LIST);
        lists.push_back(ids);
        return word_lists[name] = (int)lists.size() - 1;
    }
};

}  // namespace stories
