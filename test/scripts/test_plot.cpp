// ./plot, fed with made-up metrics: what a reader of the page relies on. Places are computed by hand from the frame: 1000 x 1000, counted
// from the top left, 4 % of air above and below.
#include <map>
#include <set>
#include "../../dev/plot/plot.h"
#include "../test.h"

namespace {
const std::string SCRATCH = BUILD "/tmp/plot";
bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
size_t count(const std::string& text, const std::string& part) {
    size_t n = 0;
    for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) n++;
    return n;
}
// What stands between these two, the first time behind `behind`.
std::string between(const std::string& text, const std::string& begin, const std::string& end, const std::string& behind = "") {
    size_t at = text.find(behind);
    at = at == text.npos ? at : text.find(begin, at + behind.size());
    if (at == text.npos) return "(no " + begin + ")";
    at += begin.size();
    return text.substr(at, text.find(end, at) - at);
}

std::string start(const std::string& options, const std::string& rest = "\"first_step\": 0, \"steps\": 4, \"tokens_per_step\": 100") {
    return "{\"run\": {" + options + "}, \"given\": [\"lr\"], \"version\": \"0.1\", \"machine\": \"cpu\", \"peak_flops_per_s\": 1e10, \"parameters\": 5000, " + rest + "}\n";
}
std::string step(int n, const std::string& loss, const std::string& more = "") {
    return format("{\"step\": %d, \"loss\": %s, \"lr\": 0.001, \"grad_norm\": 0.5, \"ms\": 100, \"tokens_per_s\": 1000, \"flops_per_s\": 4e9, \"mfu\": 0.4%s}\n", n, loss.c_str(), more.c_str());
}
std::string val(int n, double loss, const char* more = ", \"val_bits_per_byte\": 1, \"floor_bits_per_byte\": 0.5") {
    return format("{\"step\": %d, \"val_loss\": %g%s}\n", n, loss, more);
}

void prepare() { remove_tree(SCRATCH), make_folders(SCRATCH); }
std::string write_run(const std::string& name, const std::string& metrics) {
    make_folders(SCRATCH + "/" + name);
    write_file_atomically(SCRATCH + "/" + name + "/metrics.jsonl", metrics);
    return SCRATCH + "/" + name;
}
Outcome run_plot(const std::vector<std::string>& arguments) {
    return run_child([&] {
        std::vector<char*> argv = {(char*)"plot"};
        for (const std::string& a : arguments) argv.push_back((char*)a.c_str());
        _exit(plot((int)argv.size(), argv.data()));
    });
}

// "" if it is XML in which each tag is closed by its own, with names of letters and attributes in quotes. HTML's rules are laxer.
std::string xml_error(const std::string& page) {
    std::vector<std::string> open;
    size_t at = page.find("<html");
    while ((at = page.find('<', at)) != page.npos) {
        const size_t begin = at;
        const auto wrong = [&](const char* what) { return std::string(what) + ": " + page.substr(begin, 80); };
        const bool closes = page[++at] == '/';
        at += closes;
        std::string name;
        while (isalnum(page[at])) name += page[at++];
        if (name.empty()) return wrong("< that begins no tag");
        if (closes) {
            if (open.empty() || open.back() != name || page[at] != '>') return wrong("closes another tag");
            open.pop_back();
            continue;
        }
        for (; page[at] == ' ';) {  // name="value"
            size_t equals = page.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", at + 1);
            if (equals == page.npos || page.compare(equals, 2, "=\"")) return wrong("an attribute without a quoted value");
            const size_t quote = page.find('"', equals + 2);
            if (quote == page.npos || page.substr(equals, quote - equals).find('<') != page.npos) return wrong("a value that does not end");
            at = quote + 1;
        }
        if (page[at] == '/' && page[at + 1] == '>') continue;
        if (page[at] != '>') return wrong("a tag that does not end");
        open.push_back(name);
    }
    for (at = 0; (at = page.find('&', at)) != page.npos; at++) {
        bool known = false;
        for (const char* name : {"&amp;", "&lt;", "&gt;", "&quot;"}) known |= page.compare(at, strlen(name), name) == 0;
        if (!known) return "a bare &: " + page.substr(at, 40);
    }
    return open.empty() ? "" : "never closed: " + open.back();
}

// Draws them, and checks what holds for every page. Returns it.
std::string page_of(const std::vector<std::string>& folders, Outcome* outcome = nullptr) {
    std::vector<std::string> arguments = folders;
    arguments.push_back("-o"), arguments.push_back(SCRATCH + "/page.html");
    Outcome o = run_plot(arguments);
    if (o.code) FAIL("exit code %d: %s", o.code, o.output.c_str());
    EXPECT(o.output.starts_with(SCRATCH + "/page.html\n"));
    if (outcome) *outcome = o;
    const std::string page = o.code ? "" : read_file(SCRATCH + "/page.html");
    if (const std::string error = xml_error(page); !error.empty()) FAIL("%s", error.c_str());
    EXPECT(!has(page, "http") && !has(page, "nan") && !has(page, "inf,") && !has(page, ">-0<"));
    EXPECT_EQ(count(page, "<script"), 1u);
    return page;
}
// The drawing of a figure with linear or logarithmic steps.
std::string drawing(const std::string& page, const std::string& title, const std::string& scale) {
    return between(between(page, "<h2>" + title + "</h2>", "</figure>"), "<svg class=\"" + scale + "\"", "<line class=\"cursor\"");
}
}  // namespace

TEST(plot_ticks_are_round_numbers) {
    const auto texts = [](const std::vector<Tick>& ticks) { std::string all; for (const Tick& t : ticks) all += t.text + " "; return all; };
    EXPECT_STR(texts(linear_ticks({0, 1000}, 10, true)), "0 100 200 300 400 500 600 700 800 900 1K ");
    EXPECT_STR(texts(linear_ticks({0, 12000}, 6, true)), "0 2K 4K 6K 8K 10K 12K ");
    EXPECT_STR(texts(linear_ticks({0, 2.6e6}, 6, true)), "0 500K 1M 1.5M 2M 2.5M ");
    EXPECT_STR(texts(linear_ticks({2.9, 4.1}, 6, false)), "3.0 3.2 3.4 3.6 3.8 4.0 ");
    EXPECT_STR(texts(linear_ticks({0, 6e-4}, 6, false)), "0 0.0001 0.0002 0.0003 0.0004 0.0005 0.0006 ");
    EXPECT_STR(texts(linear_ticks({0, 2}, 10, true)), "0 1 2 ");
    EXPECT_STR(texts(log_ticks({0, 1000, LOG_STEP}, 0.09)), "0 1 10 20 50 100 200 500 1K ");
    EXPECT_STR(texts(log_ticks({0.3, 40, LOG}, 0.1)), "0.5 1 2 5 10 20 ");
    EXPECT_STR(texts(log_ticks({1000, 3000, LOG_STEP}, 0.09)), "1K 2K ");
}

TEST(plot_points_lie_where_they_should) {
    prepare();
    // losses 5 4 3 2 at steps 1 to 4, validation 5 at step 0 and 1 at step 4, two nats a bit, the floor 0.25 bits: 0.5 nats. The frame: 0.5 to 5
    // and 4 % of 4.5.
    const std::string folder = write_run("a", start("\"lr\": \"0.001\"") + val(0, 5, ", \"val_bits_per_byte\": 2.5, \"floor_bits_per_byte\": 0.25") + step(1, "5") + step(2, "4") +
                                         step(3, "3") + step(4, "2") + val(4, 1, ", \"val_bits_per_byte\": 0.5, \"floor_bits_per_byte\": 0.25"));
    const std::string page = page_of({folder}), linear = drawing(page, "Loss", "linear"), logarithmic = drawing(page, "Loss", "logarithmic");
    // from the top: (5.18 - loss) / 4.86
    EXPECT_STR(between(linear, "<polyline class=\"line s0\" points=\"", "\""), "250,37 500,242.8 750,448.6 1000,654.3");
    EXPECT_STR(between(linear, "data-s=\"", "\" data-v"), "1 2 3 4");
    EXPECT_STR(between(linear, "data-v=\"", "\""), "5 4 3 2");
    // log(1 + step) / log(5)
    EXPECT_STR(between(logarithmic, "<polyline class=\"line s0\" points=\"", "\""), "430.7,37 682.6,242.8 861.4,448.6 1000,654.3");
    EXPECT_STR(between(linear, "<path class=\"dot s1\" d=\"", "</path>"), "M0 37h0\"><title>validation at step 0: 5 nats/token, 2.5 bits/byte</title>");
    EXPECT(has(linear, "d=\"M1000 860.1h0\"><title>validation at step 4: 1 nats/token, 0.5 bits/byte</title>"));
    EXPECT(has(linear, "<line class=\"level\" x1=\"0\" x2=\"100%\" y1=\"96.3%\" y2=\"96.3%\"/>") && has(linear, ">floor 0.500 nats/token = 0.250 bits/byte</text>"));
    // labels beside the same places: loss 5 and 2.5 bits/byte at 3.7 %, step 2 and 200 tokens in the middle
    EXPECT(has(linear, "<text x=\"0%\" y=\"3.7%\" dx=\"-8\" dy=\"4\" class=\"end\">5</text>") && has(linear, "<text x=\"100%\" y=\"3.7%\" dx=\"8\" dy=\"4\">2.5</text>"));
    EXPECT(has(linear, "<text x=\"50%\" y=\"100%\" dy=\"18\" class=\"mid\">2</text>") && has(linear, "<text x=\"50%\" y=\"0%\" dy=\"-8\" class=\"mid\">200</text>"));
    // always 1000 tokens/s: from zero to a tenth more, and 4 % of air above: (1144 - 1000) / 1144
    const std::string rate = drawing(page, "Throughput", "linear");
    EXPECT_STR(between(rate, "points=\"", "\"", "polyline"), "250,125.9 500,125.9 750,125.9 1000,125.9");
}

TEST(plot_a_mean_and_a_range_of_many_steps) {
    // 10 steps a column, 1 and 3 in turn, but one of 1e30
    std::vector<Point> points;
    for (int i = 0; i < 8000; i++) points.push_back({(double)i, i == 4000 ? 1e30 : i % 2 ? 1.0 : 3.0});
    const Axis x{0, 7999};
    std::vector<double> values;
    for (const Column& c : columns_of(points, x, 800)) values.push_back(c.low), values.push_back(c.high);
    const Axis y = axis_of(values, LINEAR);
    EXPECT(y.low == 1 && y.high == 3);
    const std::vector<Column> columns = columns_of(points, x, 800, y);
    EXPECT_EQ(columns.size(), 800u);
    for (const Column& c : columns) EXPECT(c.low == 1 && std::fabs(c.smooth - 2) < 0.02 && (c.x > 3999 - 10 && c.x < 4000 + 10 ? c.high == 1e30 || c.high == 3 : c.high == 3));
    EXPECT(std::any_of(columns.begin(), columns.end(), [](const Column& c) { return c.high == 1e30; }));

    // an ordinary curve is shown whole; logarithmic steps help it, and do not help a straight one
    std::vector<Point> fall, straight;
    for (int i = 1; i <= 2000; i++) fall.push_back({(double)i, 3 + 8 / std::sqrt((double)i)}), straight.push_back({(double)i, 10 - i / 500.0});
    values.clear();
    for (const Column& c : columns_of(fall, {1, 2000, LOG_STEP}, 800)) values.push_back(c.low), values.push_back(c.high);
    EXPECT_EQ(axis_of(values, LINEAR).high, 11.0);
    EXPECT(falls_early(fall) && !falls_early(straight));
}

TEST(plot_what_is_odd_in_a_log) {
    prepare();
    // the last line is being written
    std::string page = page_of({write_run("half", start("") + step(1, "4") + step(2, "3") + "{\"step\": 3, \"lo")});
    EXPECT(has(page, "data-s=\"1 2\"") && !has(page, "cannot be read"));
    // a line of zeros, as a crash of the machine leaves, and half a line with another behind it
    Outcome o;
    page = page_of({write_run("crash", start("") + step(1, "4") + std::string(50, '\0') + "\n{\"step\": 2, \"lo" + step(2, "3") + step(3, "2"))}, &o);
    EXPECT(has(page, "data-s=\"1 3\"") && has(page, "2 lines of metrics.jsonl cannot be read and are left out: line 3 column 1") && has(o.output, SCRATCH + "/crash: 2 lines of metrics.jsonl"));
    // null is not finite: a gap and a mark, no number
    page = page_of({write_run("null", start("") + step(1, "4") + step(2, "null", ", \"skipped\": \"loss or norm is not finite\"") + step(3, "2") + step(4, "1") + step(5, "1"))});
    EXPECT(has(page, "data-s=\"1 3 4 5\"") && has(drawing(page, "Loss", "linear"), "<path class=\"mark s0\" d=\"M250 1000v-60\"/>"));
    EXPECT(has(drawing(page, "Norm of the gradient", "linear"), "<path class=\"mark s0\" d=\"M250 1000v-60\"/>") && has(page, "update skipped</span>"));
    page = page_of({write_run("no validation", start("") + step(1, "4") + val(1, 2, ", \"val_bits_per_byte\": 1") + "{\"step\": 2, \"val_loss\": null, \"val_bits_per_byte\": null}\n")});
    EXPECT(has(page, "<dd>not finite <small>nats/token, lowest 2.0000 at step 1</small></dd>") && has(drawing(page, "Loss", "linear"), "d=\"M1000 1000v-60\"/>"));
    // a spike is said, and does not flatten the rest
    std::string spike = start("");
    for (int i = 1; i <= 100; i++) spike += step(i, i == 60 ? "1e30" : std::to_string(2 + i % 2));
    page = page_of({write_run("spike", spike)});
    EXPECT(has(page, "1 value lies outside the frame and is in no mean, the farthest 1e+30 at step 60.") && has(page, ">2.4</text>"));
    // resumed from step 2 with another rate, in a copy of a log that was not cut
    page = page_of({write_run("resumed", start("\"lr\": \"0.001\"") + step(1, "4") + step(2, "3") + val(2, 3) + step(3, "9") + val(3, 9) +
                                             start("\"lr\": \"0.002\"", "\"first_step\": 2, \"steps\": 4, \"tokens_per_step\": 100") + val(2, 3) + step(3, "2") + step(4, "1"))});
    EXPECT(has(page, "data-s=\"1 2 3 4\"") && has(page, "data-v=\"4 3 2 1\"") && !has(page, "step 3: 9"));
    EXPECT(has(page, "Went on after step 2: --lr 0.001 \u2192 0.002") && count(drawing(page, "Loss", "linear"), "validation at step 2") == 1);
    // only validated afterwards: nothing that was trained is forgotten
    page = page_of({write_run("validated", start("\"steps\": \"4\"") + step(1, "4") + val(1, 4) + start("\"steps\": \"0\"", "\"first_step\": 1, \"steps\": 0") + val(1, 3))});
    EXPECT(has(page, "data-s=\"1\"") && has(page, "step 1: 3") && read_metrics(SCRATCH + "/validated").validations.size() == 2);
}

TEST(plot_little_to_show) {
    prepare();
    Outcome o;
    std::string page = page_of({write_run("empty", "")}, &o);
    EXPECT(has(page, "nothing has been logged yet") && has(o.output, "nothing has been logged yet") && !has(page, "<figure"));
    page = page_of({write_run("begun", start("\"lr\": \"1\""))});
    EXPECT(has(page, "nothing has been logged yet") && has(page, "<th>--lr</th><td>1</td>"));
    page = page_of({write_run("one", start("") + step(1, "4"))});
    EXPECT(has(page, "points=\"500,500 500,500\""));  // a line of no length with round ends
    page = page_of({write_run("validation", start("") + val(0, 4, ""))}, &o);
    EXPECT(has(page, "M0 500h0") && !has(page, "<polyline") && !has(page, "floor") && has(o.output, "validation loss 4.0000 after step 0"));
    page = page_of({write_run("ten", start("") + [] { std::string s; for (int i = 1; i <= 10; i++) s += step(i, "3"); return s; }())});
    EXPECT(has(page, "id=\"x-linear\" checked"));
    // no run line, and lines of a later version
    page = page_of({write_run("bare", "{\"step\": 1, \"loss\": 3}\n{\"clock\": 7}\n[]\n{\"step\": \"x\", \"loss\": 2}\n{\"step\": 2, \"loss\": 2, \"more\": {}}\n")});
    EXPECT(has(page, "data-s=\"1 2\"") && !has(page, "Throughput"));
}

// Whatever bytes a log has, there is a page, and it is well-formed.
TEST(plot_of_damaged_logs) {
    prepare();
    std::string good = start("\"lr\": \"0.001\", \"prompt\": \"<x>\"");
    for (int i = 1; i <= 6; i++)
        good += step(i, format("%d.5", 9 - i)) + (i % 2 ? val(i, 9.0 - i) : "{\"step\": 4, \"eval\": \"q\", \"total\": 9, \"chance\": 0.2, \"acc\": 0.5, \"acc_norm\": 0.5}\n{\"step\": 4, \"sample\": \"<x> &\"}\n");
    const std::string folder = write_run("a", good);
    const RunLog undamaged = read_metrics(folder);
    uint64_t random = 1;
    const auto below = [&](size_t n) { random = random * 6364136223846793005u + 1442695040888963407u; return (size_t)(random >> 33) % n; };
    for (int round = 0; round < 300; round++) {
        std::string text = good;
        for (size_t i = 0, changes = 1 + below(12); i < changes; i++) {
            static const char bytes[] = "0123456789-+.eE\"{}[],:\n\0 <&n\xff";
            const size_t at = below(text.size());
            if (const size_t how = below(4); how == 0) text.erase(at, 1 + below(30));
            else if (how == 1) text.insert(at, 1 + below(3), bytes[below(sizeof bytes)]);
            else if (how == 2) text.insert(at, text.substr(below(text.size()), below(200)));
            else text[at] = bytes[below(sizeof bytes)];
        }
        FILE* file = fopen((folder + "/metrics.jsonl").c_str(), "w");  // need not survive a power loss, which would take its time
        EXPECT(file && fwrite(text.data(), 1, text.size(), file) == text.size() && !fclose(file));
        std::vector<RunLog> runs = {read_metrics(folder), undamaged};
        runs[0].name = "a", runs[1].name = "b";
        if (round % 2) runs.resize(1);
        const std::string page = draw_page(runs, 0), error = xml_error(page);
        if (!error.empty() || has(page, "nan") || has(page, "inf,")) FAIL("round %d: %s in the page of: %s", round, error.empty() ? "a number that is none" : error.c_str(), text.c_str());
        draw_in_terminal(loss_chart(runs), axis_of_steps(runs), true);
    }
}

TEST(plot_text_is_text) {
    prepare();
    const std::string evil = "</pre><script>alert(1)</script> & \"quoted\" \x1b[31m\x7f";
    std::string metrics = start("\"lr\": \"<b>\", \"prompt\": \"</pre>\", \"<i>\": \"&\"") + step(1, "3") + "{\"step\": 1, \"sample\": " + json_quote(evil + "\xff") + "}\n" +
                          "{\"step\": 1, \"sample\": \"\\u0000\\u0085last\"}\n" + "{\"step\": 1, \"eval\": \"<em>\", \"total\": 4, \"acc_norm\": 0.5}\n{\"step\": 2, \"eval\": \"<em>\", \"total\": 4, \"acc_norm\": 0.5}\n";
    const std::string folder = write_run("a <b> & \"c\"", metrics), page = page_of({folder});
    EXPECT(has(page, "<title>a &lt;b&gt; &amp; &quot;c&quot;</title>"));
    EXPECT(has(page, "<b>&lt;/pre&gt;</b>&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quoted&quot; \u241b[31m\u2421\uFFFD</pre>"));  // the prompt is set apart
    EXPECT(has(page, "\u2400\uFFFDlast") && has(page, "<h2>&lt;em&gt;</h2>") && has(page, "<th>--lr</th><td>&lt;b&gt;</td>") && has(page, "<th>--&lt;i&gt;</th>"));
    EXPECT_STR(html("a\xC3"), "a\uFFFD");
    EXPECT_STR(shortened("ab\u00e9", 3), "ab [... 2 more bytes]");
}

TEST(plot_several_runs) {
    prepare();
    const auto run = [](const char* lr, double loss) { return start(format("\"lr\": \"%s\", \"model\": \"d6\", \"out\": \"%g\"", lr, loss)) + step(1, format("%g", loss)) + val(1, loss) + step(2, format("%g", loss)); };
    const std::string questions = "{\"step\": 2, \"eval\": \"q\", \"total\": 9, \"chance\": 0.25, \"acc\": 0.5, \"acc_norm\": 0.625}\n";
    const std::string a = write_run("a", run("1e-3", 4)), b = write_run("b", run("2e-3", 4.001) + questions), c = write_run("x/a", run("1e-3", 4.002));
    std::string page = page_of({a, b});
    const std::string legend = between(page, "<p class=\"legend\">", "</p>"), linear = drawing(page, "Loss", "linear");
    EXPECT(legend.starts_with("<span><i class=\"swatch s0\"></i>a</span><span><i class=\"swatch s1\"></i>b</span>"));
    EXPECT(has(linear, "<polyline class=\"line s0\"") && has(between(linear, "<polyline class=\"line s0\"", "/>"), "data-name=\"a\" data-s=\"1 2\" data-v=\"4 4\""));
    EXPECT(has(between(linear, "<polyline class=\"line s1\"", "/>"), "data-name=\"b\" data-s=\"1 2\" data-v=\"4.001 4.001\""));
    EXPECT(has(between(linear, "<path class=\"dot s1\"", "</path>"), "<title>b, validation at step 1: 4.001 nats/token"));
    EXPECT(has(page, "<tr><th>--lr</th><td>1e-3</td><td>2e-3</td></tr>") && !has(page, "--model") && !has(page, "--out"));
    EXPECT(has(page, "<tr><th>q</th><td></td><td>62.5% acc_norm, chance 25.0%</td></tr>"));
    EXPECT(has(page, "<th><i class=\"swatch s0\"></i>a</th><th><i class=\"swatch s1\"></i>b</th>") && has(page, "<title>2 runs</title>"));
    EXPECT_EQ(count(linear, "class=\"level\""), 2u);  // one line and its text: the same floor
    EXPECT(has(page_of({c + "/."}), "<title>a</title>"));  // as in it, by ./plot .
    write_run("x", run("1e-3", 4));
    EXPECT(has(page_of({c + "/.."}), "<title>x</title>"));
    // the same last part: whole paths
    EXPECT(has(page_of({a, c}), "<i class=\"swatch s0\"></i>" + a + "</span>"));
    // tokens of another tokenizer, each two times as many bytes: 4 nats/token are 1 bit/byte, and 8 are too
    const std::string other = write_run("other", start("") + step(1, "8") + val(1, 8));
    page = page_of({write_run("bytes", start("") + step(1, "4") + val(1, 4)), other});
    EXPECT(has(page, "compared in bits/byte") && count(drawing(page, "Loss", "linear"), "data-v=\"1\"") == 2 && has(page, "bytes, validation at step 1: 1 bits/byte"));
}

TEST(plot_a_page_is_small) {
    std::vector<RunLog> runs(8);
    for (size_t i = 0; i < runs.size(); i++) {
        runs[i].name = format("run %zu", i);
        for (int s = 1; s <= 100000; s++) {
            const double noise = (s * 7919 % 1000) / 1000.0 + (double)i;
            runs[i].steps.push_back({(double)s, 3 + noise, 1e-3 * noise, noise, 100, 1e5 * noise, 0.3, s % 3 == 0});
            if (s % 10 == 0) runs[i].validations.push_back({(double)s, 3 + noise, NAN, NAN});
            if (s % 1000 == 0) runs[i].samples.push_back({(double)s, std::string(100000, 'x')});
            if (s % 100 == 0) for (const char* name : {"a", "b", "c"}) runs[i].evaluations.push_back({(double)s, name, 1, 2, 0.25, noise, noise, NAN, NAN});
        }
    }
    const std::string eight = draw_page(runs, 0);
    if (eight.size() > 1500000) FAIL("%zu bytes", eight.size());
    runs.resize(1);
    const std::string one = draw_page(runs, 0);
    if (one.size() > 1500000) FAIL("%zu bytes", one.size());
    EXPECT(has(one, "99 earlier ones, of which the last 19 are here") && has(one, "[... 92000 more bytes]"));
    EXPECT_STR(xml_error(one), "");
}

// A page is rewritten while the run holds its folder, and ends by itself, whether the run ends well or is killed.
TEST(plot_follows_a_run) {
    prepare();
    const std::string folder = write_run("a", start("") + step(1, "4"));
    for (bool killed : {false, true}) {
        fflush(nullptr);
        const pid_t run = fork();
        if (run == 0) {
            RunLock lock;
            EXPECT_STR(lock.take(folder), "");
            usleep(2500000);
            if (killed) kill(getpid(), SIGKILL);
            write_file_atomically(folder + "/metrics.jsonl", start("") + step(1, "4") + step(2, "3"));
            lock.release();
            _exit(0);
        }
        for (int i = 0; i < 100 && !RunLock::is_in_use(folder); i++) usleep(10000);
        fflush(nullptr);
        const pid_t plotter = fork();
        if (plotter == 0) {
            (void)!freopen("/dev/null", "w", stdout);
            char* argv[] = {(char*)"plot", (char*)folder.c_str(), (char*)"--follow"};
            _exit(plot(3, argv));
        }
        std::string during;
        for (int i = 0; i < 200 && !has(during, "reload"); i++) usleep(10000), (void)try_read_file(folder + "/plot.html", during);
        EXPECT(has(during, "setTimeout(() => location.reload(), 2000);") && has(during, ">running"));
        int status = 1;
        waitpid(run, &status, 0);
        EXPECT(killed ? WIFSIGNALED(status) : status == 0);
        pid_t ended = 0;
        for (int i = 0; i < 600 && !ended; i++) usleep(10000), ended = waitpid(plotter, &status, WNOHANG);
        if (!ended) kill(plotter, SIGKILL), waitpid(plotter, &status, 0);
        EXPECT(ended == plotter && status == 0);
        const std::string after = read_file(folder + "/plot.html");
        EXPECT(has(after, "data-s=\"1 2\"") && !has(after, "reload()") && has(after, ">not running"));
    }
    EXPECT(list_folder(folder) == (std::vector<std::string>{".lock", "metrics.jsonl", "plot.html"}));  // no temporary file; the killed one's lock
}

TEST(plot_in_the_terminal) {
    prepare();
    // step 1 is at the top left, step 2 in the middle of the middle row, the floor below all
    const std::string folder = write_run("a", start("") + step(1, "5") + step(2, "3") + step(3, "2") + val(3, 2, ", \"val_bits_per_byte\": 2, \"floor_bits_per_byte\": 1"));
    const Outcome o = run_plot({folder});
    std::vector<std::string> lines;
    for (size_t at = 0, end; at < o.output.size(); at = end + 1) end = o.output.find('\n', at), lines.push_back(o.output.substr(at, end - at));
    if (lines.size() != 20) return FAIL("%zu lines: %s", lines.size(), o.output.c_str());
    EXPECT_STR(lines[0], folder + "/plot.html");
    EXPECT_STR(lines[1], "nats/token   training, o validation, - floor 1.000 nats/token = 1.000 bits/byte");
    EXPECT_STR(lines[2], "   5.000 |\u2801");
    EXPECT(lines[8].find("\u2802") == 10 + 35 || lines[9].find_first_not_of(' ', 10) == 10 + 35 || lines[8].find_first_not_of(' ', 10) == 10 + 35);
    EXPECT_STR(lines[15], "   1.000 |" + std::string(72, '-'));
    EXPECT(lines[12].ends_with("o") || lines[11].ends_with("o"));
    EXPECT_STR(lines[17], "          1" + std::string(34, ' ') + "2" + std::string(35, ' ') + "3");
    EXPECT(lines[18].ends_with(" step"));
    EXPECT_STR(lines[19], "2.000 bits a byte; no model can need fewer than 1.000: 2.00x of perfect");
}

TEST(plot_says_what_is_wrong) {
    prepare();
    const std::string a = write_run("a", start("") + step(1, "4"));
    make_folders(SCRATCH + "/none");
    const auto says = [&](const std::vector<std::string>& arguments, const std::string& text) {
        const Outcome o = run_plot(arguments);
        if (o.code != 2 || !has(o.output, text) || count(o.output, "\n") != 1) FAIL("exit code %d, '%s', expected one line with '%s'", o.code, o.output.c_str(), text.c_str());
    };
    says({}, "plot needs the folder of a run: ./plot out");
    says({SCRATCH + "/missing"}, "/missing: no such folder; give the one that a run writes to");
    says({a + "/metrics.jsonl"}, a + "/metrics.jsonl: is a file, must be the folder of a run: " + a);
    says({SCRATCH + "/none"}, "/none: no metrics.jsonl in it");
    says({a, a + "/"}, a + ": given twice");
    says({a, "--folow"}, "--folow: unknown option; is it --follow? ");
    says({a, "-o"}, "-o: a file name must follow");
    says({a, "-o", SCRATCH}, "-o: " + SCRATCH + " is a folder, must be a file");
    says({a, "-o", SCRATCH + "/no/page.html"}, SCRATCH + "/no: No such file or directory; -o PAGE.html says where");
    says({"1", "2", "3", "4", "5", "6", "7", "8", "9"}, "9 runs given, must be at most 8");
    make_folders(SCRATCH + "/folder/metrics.jsonl");
    says({SCRATCH + "/folder"}, "/folder/metrics.jsonl: Is a directory");
    EXPECT(run_plot({"--help"}).code == 0);
}

// What the trainer writes is what is read here: samples of any bytes, the options that were given, a run line longer than any buffer.
TEST(plot_of_a_real_run) {
    prepare();
    std::string text, prompt;
    for (int i = 0; i < 3000; i++) text += format("Anna has %d red balls.\n", i % 7);
    while (prompt.size() < 6000) prompt += "Anna <b>has</b> \xc3\xa9 ";
    write_file_atomically(SCRATCH + "/text.txt", text);
    const std::string folder = SCRATCH + "/out";
    const Outcome o = run_command(TRAINER " -i " + SCRATCH + "/text.txt -o " + folder + " -e d1c16h2 -b 2 -t 16 -x 6 -v 3 -m 1 -s 3 -g 40 -n 0 --threads 1 --prompt '" + prompt + "'");
    if (o.code) return FAIL("the trainer: %s", o.output.c_str());
    const RunLog run = read_metrics(folder);
    EXPECT(run.starts.size() == 1 && run.steps.size() == 6 && run.validations.size() == 3 && run.samples.size() == 3 && run.damaged == 0);
    if (run.starts.empty() || run.samples.empty()) return;
    const Start& s = run.starts[0];
    EXPECT(s.option("prompt") == prompt && s.steps == 6 && s.tokens_per_step == 32 && s.knows_given);
    std::set<std::string> given;
    for (const Option& option : s.options) if (option.given) given.insert(option.name);
    EXPECT(given.count("lr") == 0 && given.count("seq") == 1 && given.size() == 13);
    for (const Sample& sample : run.samples) EXPECT(sample.text.starts_with(prompt) && sample.text.size() > prompt.size());
    EXPECT(has(page_of({folder}), "<b>" + html(prompt) + "</b>"));
}

// A second opinion on the page: Python's XML parser.
TEST(plot_pages_are_xml_for_others_too) {
    if (run_command("python3 -c 'import xml.dom.minidom'").code) SKIP("no python3");
    prepare();
    std::string metrics = start("\"lr\": \"<b>\"");
    for (int i = 1; i <= 300; i++) metrics += step(i, format("%g", 3 + 5.0 / i)) + (i % 50 ? "" : val(i, 3)) + (i % 100 ? "" : "{\"step\": 1, \"sample\": \"<p>\\u0000\\u001b\"}\n");
    page_of({write_run("a", metrics), write_run("b", metrics)});
    const Outcome o = run_command("python3 -c \"import xml.dom.minidom as x; d = x.parseString(open('" + SCRATCH + "/page.html').read().replace('<!DOCTYPE html>', ''))\n"
                                  "print(len(d.getElementsByTagName('figure')), len(d.getElementsByTagName('polyline')))\"");
    EXPECT_STR(o.output, "4 16\n");
}
