// stories_teller.h: keeps the small world of a story, and tells it. Whoever wants a story brings a Chooser that makes each
// choice, and so knows the probability of the story: the product of weight / total over the choices made. The generator's
// Chooser draws at random; the one of the tests is given a text and looks for the choices that tell it.
#pragma once
#include <string_view>
#include "stories_compile.h"

namespace stories {

struct Where { enum Kind : uint8_t { NOWHERE, AT, WITH } kind = NOWHERE; int id = -1; };  // AT the place, WITH the person
struct Person { int word = -1; int place = -1; bool speaks = true; };                     // place -1: at home
struct Thing { int shade = -1, noun = -1; Where where; };

// What a Chooser offers: int choose(const int* weight, int n, int total), weight = nullptr if all are 1, returns 0..n-1;
// and void told(const char* text, int length), which is called whenever the text has grown.
template <class Chooser> class Teller {
public:
    char text[2048];
    int length;
    int question_end, answer_end;        // 0 if the story asks nothing
    std::vector<std::string> fitting;    // answers that would fit that question, the right one first; if keep_fitting
    bool keep_fitting = false;

    Teller(const Grammar& grammar, Chooser& who_chooses) : g(grammar), chooser(who_chooses) {}

    void tell() {
        begin();
        while (step()) {}
    }
    void begin() {
        length = question_end = answer_end = sentence = 0;
        space = article = false;
        focus = -1;
        n_persons = n_things = n_mentioned = 0;
        memset(slot, -1, sizeof slot);
        stack[0] = {&g.story, &g.story + 1}, depth = 1;
    }
    // One step; false after the last. The teller can be copied between steps, and each copy told on in its own way.
    bool step() {
        while (depth > 0 && stack[depth - 1].at == stack[depth - 1].end) depth--;
        if (depth > 0) run(*stack[depth - 1].at++);
        return depth > 0;
    }

private:
    const Grammar& g;
    Chooser& chooser;

    // ------------------------------------------------------------ the world
    Person persons[8];
    Thing things[8];
    int n_persons, n_things;
    int mentioned[16], n_mentioned;  // places
    int slot[128];                   // letter -> person, thing or place (its word); -1: not chosen yet

    Person& person(char c) { return persons[slot_of(c)]; }
    Thing& thing(char c) { return things[slot_of(c)]; }
    int slot_of(char c) const {
        CHECK(slot[(int)c] >= 0, "grammar: %c is not known yet in: %.*s", c, length, text);
        return slot[(int)c];
    }
    void must(bool condition, const Step& s, const char* why) const {
        const char letters[] = {s.one ? s.one : '-', s.two ? s.two : '-', s.three ? s.three : '-', 0};
        if (!condition) die("grammar: step %d of %s: %s, in: %.*s", (int)s.what, letters, why, length, text);
    }

    void go(int who, int place) { persons[who].place = place; }
    void take(int who, int what, const Step& s) {
        must(things[what].where.kind == Where::AT && things[what].where.id == persons[who].place, s, "is not there to be taken");
        things[what].where = {Where::WITH, who};
    }
    void give(int from, int what, int to, const Step& s) {
        must(things[what].where.kind == Where::WITH && things[what].where.id == from, s, "nobody gives what they do not have");
        must(persons[from].place == persons[to].place, s, "they are not together");
        things[what].where.id = to;
    }
    void put(int who, int what, const Step& s) {
        must(things[what].where.kind == Where::WITH && things[what].where.id == who, s, "nobody puts what they do not have");
        must(persons[who].place >= 0, s, "which place?");
        things[what].where = {Where::AT, persons[who].place};
    }
    void fetch(int who, int what, const Step& s) {
        must(things[what].where.kind == Where::AT, s, "lies nowhere");
        go(who, things[what].where.id), take(who, what, s);
    }

    void act(const Step& s) {
        int who = is_person(s.one) ? slot_of(s.one) : -1, what = is_thing(s.two) ? slot_of(s.two) : -1;
        switch (s.what) {
        case Do::GOES: go(who, s.two == HOME ? -1 : slot_of(s.two)); break;
        case Do::TAKES: take(who, what, s); break;
        case Do::PUTS: put(who, what, s); break;
        case Do::GIVES: give(who, what, slot_of(s.three), s); break;
        case Do::HANDS: go(slot_of(s.three), persons[who].place), give(who, what, slot_of(s.three), s); break;
        case Do::FETCHES: fetch(who, what, s); break;
        case Do::MOVES:
            if (things[what].where.kind == Where::AT) fetch(who, what, s);
            go(who, slot_of(s.three)), put(who, what, s);
            break;
        case Do::HAS:
            must(things[what].where.kind == Where::NOWHERE, s, "is somewhere already");
            things[what].where = {Where::WITH, who};
            break;
        case Do::IS:
            must(thing(s.one).where.kind == Where::NOWHERE, s, "is somewhere already");
            thing(s.one).where = {Where::AT, slot_of(s.two)};
            break;
        case Do::FIX: slot[(int)s.one] = s.arg; break;
        default: die("grammar: step %d", (int)s.what);
        }
    }

    // ------------------------------------------------------------ choices
    struct { const Step *at, *end; } stack[32];  // the alternatives that are being told, each within the one before
    int depth;

    void run_choice(int id) {
        const Choice& c = g.choices[(size_t)id];
        int n = (int)c.weight.size(), chosen;
        if (!c.guarded) chosen = chooser.choose(c.uniform ? nullptr : c.weight.data(), n, c.total);
        else {
            int weight[MAX_GUARDED], total = 0;
            for (int i = 0; i < n; i++) total += weight[i] = possible(c.steps[(size_t)i]) ? c.weight[(size_t)i] : 0;
            chosen = chooser.choose(weight, n, total);
        }
        const std::vector<Step>& steps = c.steps[(size_t)chosen];
        must(depth < (int)(sizeof stack / sizeof *stack), {}, "rules within rules within rules");
        stack[depth++] = {steps.data(), steps.data() + steps.size()};
    }
    bool possible(const std::vector<Step>& steps) const {
        int ids[8];
        return steps.empty() || steps[0].what < Do::PICK_FREE || steps[0].what == Do::PICK_PLACE || candidates(steps[0], ids) > 0;
    }

    // Whom or what a pick may pick.
    int candidates(const Step& s, int* ids) const {
        int n = 0;
        if (s.what <= Do::PICK_ANY) {
            for (int i = 0; i < n_things; i++) {
                Where::Kind kind = things[i].where.kind;
                bool free = kind == Where::AT, held = kind == Where::WITH;
                if (s.what == Do::PICK_FREE ? free : s.what == Do::PICK_HELD ? held : free || held) ids[n++] = i;
            }
        } else {
            const Where* where = s.what == Do::PICK_WITHOUT ? &things[slot_of(s.two)].where : nullptr;
            for (int i = 0; i < n_persons; i++) {
                bool has_it = where && where->kind == Where::WITH && where->id == i;
                if (persons[i].speaks && !has_it && (s.one == 's' || i != slot[(int)'s'])) ids[n++] = i;
            }
        }
        return n;
    }
    void pick(const Step& s) {
        if (s.what == Do::PICK_PLACE) { bind_place(s.one, g.place, slot[(int)'m']); return; }
        int ids[8], n = candidates(s, ids);
        must(n > 0, s, "nothing to pick");
        int id = slot[(int)s.one] = ids[chooser.choose(nullptr, n, n)];
        if (!is_thing(s.one)) return;
        Where where = things[id].where;
        slot[(int)'m'] = where.kind == Where::AT ? where.id : -1;
        if (s.what == Do::PICK_HELD) slot[(int)'s'] = where.id;
    }

    // A word of a list that is none of those taken.
    template <class Taken> int choose_word(int list, Taken taken) {
        must(list >= 0, {}, "no list to choose from");
        int left[MAX_LIST], n = 0;
        for (int word : g.lists[(size_t)list]) if (!taken(word)) left[n++] = word;
        return left[chooser.choose(nullptr, n, n)];
    }
    int bound_person(char c, int list) {
        if (slot[(int)c] >= 0) return slot[(int)c];
        int word = choose_word(list, [&](int w) {
            for (int i = 0; i < n_persons; i++) if (persons[i].word == w) return true;
            return false;
        });
        persons[n_persons] = {word, -1, c != 'd'};
        return slot[(int)c] = n_persons++;
    }
    void bind_place(char c, int list, int but) {
        slot[(int)c] = choose_word(list, [&](int w) {
            return w == but || (c != 'n' && (w == slot[(int)'p'] || w == slot[(int)'q'] || w == slot[(int)'r']));
        });
    }

    // ------------------------------------------------------------ words
    int sentence;               // how many have ended
    int focus, focus_sentence;  // whom "he" or "she" at the beginning of a sentence would mean, and since when
    bool space, article;        // asked for, not printed yet

    static bool is_stop(char c) { return c == '.' || c == '!' || c == '?'; }
    // `name`: may begin a sentence after a quotation that ends in ! or ?, where other words go on with the sentence.
    bool sentence_begins(bool name = false) const {
        if (length == 0) return true;
        char last = text[length - 1], before = length > 1 ? text[length - 2] : ' ';
        if (last == '"') return !space || before == '.' || (name && before != ',');
        return space && is_stop(last);
    }
    void say(std::string_view s, bool name = false) {
        bool capital = sentence_begins(name);
        CHECK((size_t)length + s.size() + 4 < sizeof text, "grammar: a story of over %d bytes", length);
        if (space && length > 0 && !is_stop(s[0]) && s[0] != ',') text[length++] = ' ';
        space = false;
        if (article) {
            article = false;
            text[length++] = capital ? 'A' : 'a', capital = false;
            if (strchr("aeiou", s[0])) text[length++] = 'n';
            text[length++] = ' ';
        }
        memcpy(text + length, s.data(), s.size());
        if (capital && s[0] >= 'a' && s[0] <= 'z') text[length] = (char)(s[0] - 32);
        length += (int)s.size();
        chooser.told(text, length);
    }
    void say_word(int word, bool name = false) { say(g.words[(size_t)word].text, name); }

    Gender gender(int who) const { return g.words[(size_t)persons[who].word].gender; }

    // "he" is Tom no longer once another boy has been named.
    void say_name(int who, bool subject) {
        subject |= sentence_begins(true);
        say_word(persons[who].word, true);
        if (subject) focus = who, focus_sentence = sentence;
        else if (focus >= 0 && who != focus && gender(who) == gender(focus)) focus = -1;
    }
    void say_subject(int who) {
        static const int PRONOUN_OR_NAME[] = {3, 1};
        bool pronoun = who == focus && sentence - focus_sentence <= 1 && gender(who) != Gender::IT;
        if (!pronoun || chooser.choose(PRONOUN_OR_NAME, 2, 4) == 1) return say_name(who, true);
        say(gender(who) == Gender::HE ? "he" : "she", true);
        focus_sentence = sentence;
    }
    void say_pronoun(const Step& s, int who) {
        static const char* const PRONOUNS[3][3] = {{"he", "him", "his"}, {"she", "her", "her"}, {"it", "it", "its"}};
        if (s.what == Do::HIM)  // a name where two people of the story are "him"
            for (int i = 0; i < n_persons; i++)
                if (i != who && gender(i) == gender(who)) return say_name(who, false);
        say(PRONOUNS[(int)gender(who)][(int)s.what - (int)Do::HE]);
    }
    void say_thing(const Step& s) {
        bool first = slot[(int)s.one] < 0;
        if (first) slot[(int)s.one] = n_things, things[n_things++] = {};
        Thing& t = thing(s.one);
        if (s.what == Do::A_THING) article = true;
        if (s.what == Do::THE_THING) say("the", true), space = true;
        if (first) t.shade = choose_word(g.shade, [](int) { return false; });
        say_word(t.shade), space = true;
        if (first) t.noun = choose_word(s.arg, [&](int w) {
            for (int i = 0; i < n_things; i++) if (things[i].noun == w) return true;
            return false;
        });
        say_word(t.noun);
    }
    void say_place(const Step& s) {
        if (slot[(int)s.one] < 0) bind_place(s.one, s.arg, -1);
        int place = slot[(int)s.one];
        bool known = false;
        for (int i = 0; i < n_mentioned; i++) known |= mentioned[i] == place;
        if (!known) mentioned[n_mentioned++] = place;
        if (s.what == Do::IN_PLACE) say(g.words[(size_t)place].preposition), space = true;
        say_word(place);
    }

    // ------------------------------------------------------------ questions
    void say_answer(const Step& s, Where where) {
        Step the{Do::THE_THING, s.one};
        bool reply = s.what == Do::REPLY, with = where.kind == Where::WITH;
        space = true;
        if (reply) say("\"");
        if (reply && with && where.id == slot_of(s.two)) say("I have it");
        else if (with) {
            say_word(persons[where.id].word, true), say(" has ");
            if (reply) say("it"); else say_thing(the);
        } else {
            if (reply) say("it"); else say_thing(the);
            say(" is "), say(g.words[(size_t)where.id].preposition), space = true, say_word(where.id);
        }
        if (reply) say(",\" said "), say_word(persons[slot_of(s.two)].word);
        say(".");
    }
    void answer(const Step& s) {
        Where where = thing(s.one).where;
        question_end = length;
        if (keep_fitting) {
            fitting.clear();
            auto fit = [&](Where w) {
                say_answer(s, w);
                std::string one(text + question_end, text + length);
                bool again = false;
                for (const std::string& other : fitting) again |= other == one;
                if (!again) fitting.push_back(one);
                length = question_end;
            };
            fit(where);
            for (int i = 0; i < n_mentioned; i++) fit({Where::AT, mentioned[i]});
            for (int i = 0; i < n_persons; i++)
                if (s.what == Do::ANSWER || i != slot[(int)'s']) fit({Where::WITH, i});
            for (int place : g.lists[(size_t)g.place])  // a short story: other places, for there should be four
                if (fitting.size() < 4) fit({Where::AT, place});
        }
        say_answer(s, where);
        answer_end = length, space = true, sentence += 2;
    }

    // ------------------------------------------------------------ one step
    void run(const Step& s) {
        switch (s.what) {
        case Do::TEXT: {
            const Text& t = g.texts[(size_t)s.arg];
            space |= t.space_before;
            if (!t.body.empty()) say(t.body), space = t.space_after;
            sentence += t.stops;
            break;
        }
        case Do::CHOOSE: run_choice(s.arg); break;
        case Do::ARTICLE: article = true; break;
        case Do::SUBJECT: say_subject(bound_person(s.one, s.arg)); break;
        case Do::NAME: say_name(bound_person(s.one, s.arg), false); break;
        case Do::HE: case Do::HIM: case Do::HIS: say_pronoun(s, bound_person(s.one, s.arg)); break;
        case Do::THE_THING: case Do::A_THING: case Do::BARE_THING: say_thing(s); break;
        case Do::THE_PLACE: case Do::IN_PLACE: say_place(s); break;
        case Do::ANSWER: case Do::REPLY: answer(s); break;
        default: s.what >= Do::PICK_FREE ? pick(s) : act(s);
        }
    }
};

}  // namespace stories
