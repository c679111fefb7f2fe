// eval.h: the model takes the tests of eval_sets.h.
#pragma once
#include <numeric>
#include <string>
#include <vector>
#include "eval_sets.h"
#include "../base/stop.h"
#include "../comm/comm.h"
#include "../model/generate.h"
#include "log.h"

struct ItemRow { const EvalItem* item; const EvalRow* row; };

// Sum of the log-probabilities of each row's scored tokens. Rows of similar length share a batch as long as the longest of them,
// of as many rows as the model's memory holds; a row's result is bitwise identical in any batch.
template <class F> std::vector<double> score_rows(Model<F>& model, const std::vector<ItemRow>& rows) {
    const size_t N = model.most_tokens();
    auto length = [&](size_t i) { return rows[i].item->size(*rows[i].row) - 1; };
    std::vector<size_t> order(rows.size());
    std::iota(order.begin(), order.end(), (size_t)0);
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return length(a) != length(b) ? length(a) > length(b) : a < b; });
    std::vector<double> sums(rows.size());
    std::vector<int> inputs, targets, tokens;
    std::vector<float> losses;
    for (size_t at = 0, n; at < rows.size() && !asked_to_stop(model); at += n) {
        const size_t T = length(order[at]);
        n = std::min(std::max<size_t>(N / T, 1), rows.size() - at);
        inputs.assign(n * T, 0), targets.assign(n * T, -1), losses.resize(n * T);
        for (size_t r = 0; r < n; r++) {
            const auto& [item, row] = rows[order[at + r]];
            const size_t end = item->size(*row) - 1, begin = end - row->scored;
            tokens.resize(end + 1);
            item->copy_row(*row, tokens.begin());
            std::copy_n(tokens.begin(), end, inputs.begin() + (long)(r * T));
            std::copy(tokens.begin() + (long)begin + 1, tokens.end(), targets.begin() + (long)(r * T + begin));
        }
        copy_to_device(model.tokens, inputs.data(), inputs.size() * sizeof(int), model.stream);
        copy_to_device(model.targets(), targets.data(), targets.size() * sizeof(int), model.stream);
        forward_trunk(model, model.tokens, {.B = (int)n, .T = (int)T, .by_document = false});  // a row is one document
        classify(model, n * T, 0, false, false);
        copy_to_host(losses.data(), model.tensors().losses, losses.size() * sizeof(float), model.stream);
        synchronize(model.stream);
        for (size_t r = 0; r < n; r++)
            for (size_t t = 0; t < T; t++) sums[order[at + r]] -= (double)losses[r * T + t];
    }
    return sums;
}

// Does the greedy completion of the context begin with the answer?
template <class F> bool completes(Model<F>& model, const Tokenizer& tokenizer, const std::string& context, const std::string& answer) {
    std::string said;
    generate(model, eval_detail::prompt_of(tokenizer, context), (int)answer.size(), {.temperature = 0}, 0, 0, [&](int token) {
        if (tokenizer.is_end(token) || asked_to_stop(model)) return false;
        said += tokenizer.token_bytes(token);
        return said.size() < answer.size() && answer.starts_with(said);
    }, std::max(model.options.T, model.options.complete_T));
    return said.starts_with(answer);
}

inline size_t likeliest(const std::vector<double>& x) { return (size_t)(std::max_element(x.begin(), x.end()) - x.begin()); }

// Unless a rank is asked to stop meanwhile, the result goes to the log, and if there is a folder, one line for each item to `items`. The ranks take the
// items in turn; in ZeRO stage 3, where all compute together, each takes all.
template <class F> void evaluate(Model<F>& model, const Tokenizer& tokenizer, const EvalSet& set, const Comm& comm, int step, Log& log, const std::string& items) {
    const int share = model.options.zero < 3 ? comm.world : 1;
    std::vector<ItemRow> mine;
    std::vector<size_t> places;  // of these rows among all
    std::vector<char> right(set.items.size());
    size_t rows = 0;
    for (size_t i = 0; i < set.items.size(); i++) {
        const EvalItem& item = set.items[i];
        const bool is_mine = i % (size_t)share == (size_t)(comm.rank % share);
        for (const EvalRow& row : item.rows) {
            if (is_mine) mine.push_back({&item, &row}), places.push_back(rows);
            rows++;
        }
    }
    const std::vector<double> of_mine = score_rows(model, mine);
    std::vector<double> sums(rows);
    for (size_t i = 0; i < mine.size(); i++) sums[places[i]] = of_mine[i];
    for (size_t i = (size_t)(comm.rank % share); set.greedy && i < set.items.size() && !asked_to_stop(model); i += (size_t)share)
        right[i] = completes(model, tokenizer, set.items[i].contexts[0], set.items[i].choices[(size_t)set.items[i].answer]);
    if (comm.any(stop_requested())) return;  // what was scored before is not all
    if (share > 1) comm.combine(sums), comm.combine(right);
    std::string lines;
    Log::Eval result{.name = set.name, .total = (int)set.items.size(), .cut = set.cut, .context = model.config.longest_row()};
    const double* sum = sums.data();
    for (size_t i = 0; i < set.items.size(); i++) {
        const EvalItem& item = set.items[i];
        std::vector<double> plain(sum, sum + item.rows.size()), normed = plain;
        sum += item.rows.size();
        Json line = Json::object().add("item", item.line), likelihoods = Json::array();
        if (set.documents) {
            double total = std::accumulate(plain.begin(), plain.end(), 0.0);
            result.bits -= total / std::log(2.0), result.bytes += (double)item.text.size();
            line.add("loglikelihood", total).add("bytes", item.text.size());
        } else {
            for (size_t k = 0; k < normed.size(); k++) normed[k] /= item.rows[k].length, likelihoods.push(plain[k]);
            const bool acc = (int)likeliest(plain) == item.answer, acc_norm = (int)likeliest(normed) == item.answer;
            result.acc += acc, result.acc_norm += acc_norm, result.chance += 1 / (double)plain.size();
            line.add("loglikelihoods", likelihoods).add("answer", item.answer).add("acc", (int)acc).add("acc_norm", (int)acc_norm);
            if (set.greedy) {
                result.greedy = std::max(result.greedy, 0) + right[i];
                line.add("greedy", (int)right[i]);
            }
        }
        lines += json_dump(line) + "\n";
    }
    log.eval(step, result);
    if (!items.empty() && comm.rank == 0) write_file_atomically(items, lines);
}
