// decode.h: from statements to instructions: what a name means, and a register for each operand.
#pragma once
#include "arithmetic.h"
#include "memory.h"
#include "warp.h"

namespace ptx {
inline bool define_all() {
    define_integers(), define_floats(), define_choices(), define_conversions(), define_addresses(), define_atomics(), define_async_copies(), define_warp();
    const Execute nothing = [](Lane&, const Instruction&) {}, branch = [](Lane& lane, const Instruction& i) { lane.next = i.offset; };
    table()["bra"] = table()["bra.uni"] = branch;
    table()["ret"] = table()["exit"] = end;
    table()["trap"] = [](Lane&, const Instruction& i) { fault(i, "is reached"); };
    table()["griddepcontrol.wait"] = [](Lane&, const Instruction&) { emu::machine().thread->waited = true; };
    for (const char* name : {"griddepcontrol.launch_dependents", "membar.gl", "membar.cta", "membar.sys", "fence.acq_rel.gpu", "fence.sc.gpu"})
        table()[name] = nothing;
    return true;
}

class Decoder {
public:
    Decoder(Kernel& kernel, const Module& module) : k_(kernel), f_(kernel.text) {
        static const bool defined = define_all();
        (void)defined;
        lay_out(f_.params, 0, k_.param_bytes);
        lay_out(module.shared, SHARED_BASE, k_.static_bytes), lay_out(f_.shared, SHARED_BASE, k_.static_bytes);
        lay_out_dynamic(module.shared);
        for (const Variable& v : f_.local) lay_out({v}, 0, k_.local_bytes), locals_[v.name] = true;
        k_.registers.push_back(0), nothing_ = 0;
        for (const Statement& s : f_.code) k_.code.push_back(instruction(s));
        Statement& last = f_.code.emplace_back();  // whoever falls off the end
        last.name = "ret";
        k_.code.push_back({});
        k_.code.back().execute = end;
        for (size_t i = 0; i < k_.code.size(); i++) k_.code[i].text = &f_.code[i];
    }

private:
    // One variable behind the other, each at a multiple of its alignment.
    void lay_out(const std::vector<Variable>& variables, uint64_t base, size_t& bytes) {
        for (const Variable& v : variables) {
            if (v.bytes == 0) continue;
            bytes = (bytes + v.alignment - 1) / v.alignment * v.alignment;
            symbols_[v.name] = base + bytes, bytes += v.bytes;
        }
    }
    // Behind the static ones there is the dynamic one, by whatever name.
    void lay_out_dynamic(const std::vector<Variable>& variables) {
        for (const Variable& v : variables) {
            if (v.bytes) continue;
            k_.static_bytes = (k_.static_bytes + v.alignment - 1) / v.alignment * v.alignment;
            symbols_[v.name] = SHARED_BASE + k_.static_bytes;
        }
    }

    [[noreturn]] void unknown(const std::string& what) const { refuse(line_, what + " is not known"); }

    uint16_t new_register(uint64_t value) {
        if (k_.registers.size() >= ALWAYS) refuse(line_, "more than 65534 registers");
        k_.registers.push_back(value);
        return (uint16_t)(k_.registers.size() - 1);
    }
    // The register of a word: %r1, 17, 0f3F800000, %tid.x, the name of a variable, or that and a number.
    uint16_t operand(const std::string& word) {
        if (word == "_") return nothing_;
        auto [at, fresh] = names_.try_emplace(word, 0);
        if (fresh) at->second = word[0] == '%' ? new_register(~0ull) : new_register(value_of(word));
        if (!fresh) return at->second;
        if (auto special = specials().find(word); special != specials().end()) k_.specials.push_back({at->second, special->second});
        if (locals_.count(word.substr(0, word.find('+')))) k_.locals.push_back({at->second, k_.registers[at->second]});
        return at->second;
    }
    uint64_t value_of(const std::string& word) const {
        if (word[0] == '0' && word.size() > 1 && strchr("fFdD", word[1])) return strtoull(word.c_str() + 2, nullptr, 16);
        if (isdigit((unsigned char)word[0])) return strtoull(word.c_str(), nullptr, 0);
        if (word[0] == '-') return 0 - strtoull(word.c_str() + 1, nullptr, 0);
        if (word == "WARP_SZ") return 32;
        const size_t plus = word.find('+');
        auto symbol = symbols_.find(word.substr(0, plus));
        if (symbol == symbols_.end()) unknown(word);
        return symbol->second + (plus == std::string::npos ? 0 : strtoull(word.c_str() + plus + 1, nullptr, 0));
    }
    static const std::map<std::string, uint64_t (*)()>& specials() {
        static const std::map<std::string, uint64_t (*)()> all = {
#define AXIS(name, variable, axis) {name "." #axis, [] { return (uint64_t)variable.axis; }}
#define INDEX(name, variable) AXIS(name, variable, x), AXIS(name, variable, y), AXIS(name, variable, z)
            INDEX("%tid", threadIdx), INDEX("%ctaid", blockIdx), INDEX("%ntid", blockDim), INDEX("%nctaid", gridDim),
#undef INDEX
#undef AXIS
            {"%laneid", [] { return (uint64_t)emu::machine().thread->linear % 32; }}};
        return all;
    }

    // {%r1, %r2} are two, %r1|%p2 too, [%rd1+16] is one and an offset.
    void add_operand(Instruction& i, std::string word) {
        const auto add = [&](const std::string& w) {
            if (n_ == sizeof i.r / sizeof *i.r) unknown("an instruction with so many operands, " + i.text->name + ",");
            i.r[n_++] = operand(w);
        };
        if (word[0] == '{') {
            for (const std::string& w : split_operands(word.substr(1, word.size() - 2))) add(w);
        } else if (word[0] == '[') {
            word = trimmed(word.substr(1, word.size() - 2));
            const size_t plus = word.find('+');
            if (plus != std::string::npos) i.offset = atoi(word.c_str() + plus + 1);  // it may be +-4
            add(word.substr(0, plus));
        } else if (const size_t bar = word.find('|'); bar != std::string::npos) add(word.substr(0, bar)), add(word.substr(bar + 1));
        else add(word);
    }

    // mov of two or four registers into one or from one.
    static void pack(Lane& lane, const Instruction& i) {
        uint64_t x = 0;
        for (unsigned k = 0; k < i.count; k++) x |= (lane.r[i.r[k + 1]] & ((1ull << 8 * i.bytes) - 1)) << 8 * i.bytes * k;
        lane.r[i.r[0]] = x;
    }
    static void unpack(Lane& lane, const Instruction& i) {
        const uint64_t x = lane.r[i.r[i.count]];
        for (unsigned k = 0; k < i.count; k++) lane.r[i.r[k]] = x >> 8 * i.bytes * k & ((1ull << 8 * i.bytes) - 1);
    }

    // ld.global.cs.v4.u32: what a load, store or atomic operation says of itself; the rest of its name.
    std::string memory_form(Instruction& i, const std::vector<std::string>& words) const {
        std::string rest;
        for (const std::string& w : words) {
            if (w == "global") i.space = GLOBAL;
            else if (w == "shared") i.space = SHARED;
            else if (w == "local") i.space = LOCAL;
            else if (w == "param") i.space = PARAM;
            else if (w == "v2" || w == "v4") i.count = (uint8_t)(w[1] - '0');
            else if (w == "nc") i.read_only = true;
            else if (const size_t bytes = type_bytes(w)) i.bytes = (uint8_t)bytes, i.is_signed = w[0] == 's';
            else if (w != "cs" && w != "ca" && w != "cg" && w != "wb" && w != "wt" && w != "volatile" && w != "ld" && w != "st") rest += w;
        }
        return rest;
    }

    Instruction instruction(const Statement& s) {
        Instruction i;
        i.text = &s, line_ = s.line, n_ = 0;
        if (!s.guard.empty()) i.guard = operand(s.guard), i.negated = s.negated;
        const std::vector<std::string> words = split(s.name, ".");
        if (words[0] == "bra") {
            auto label = f_.labels.find(s.operands.at(0));
            if (label == f_.labels.end()) unknown(s.operands[0]);
            i.offset = label->second, i.execute = table().at(s.name);
            return i;
        }
        for (size_t o = 0; o < s.operands.size(); o++) {
            add_operand(i, s.operands[o]);
            if (o == 0 && words[0] == "shfl" && n_ == 1) i.r[n_++] = nothing_;  // its predicate is left out
        }
        if (words[0] == "cp" && s.operands.size() == 3) i.r[3] = i.r[2];        // reads as many bytes as it writes
        if (words[0] == "mov" && n_ > 2) {
            const bool to_many = s.operands[0][0] == '{';
            i.count = (uint8_t)(n_ - 1), i.bytes = (uint8_t)(type_bytes(words[1]) / i.count), i.execute = to_many ? unpack : pack;
        } else if (words[0] == "ld" || words[0] == "st") {
            if (!memory_form(i, words).empty() || i.bytes == 0) unknown(s.name);
            i.execute = words[0] == "ld" ? load : store;
        } else if (auto met = meetings().find(s.name); met != meetings().end()) {
            if (words[0] == "ldmatrix") i.count = (uint8_t)(n_ - 1);
            i.execute = met->second.first, i.meet = met->second.second;
        } else if (auto known = table().find(s.name); known != table().end()) {
            if (words[0] == "atom") memory_form(i, words);
            i.execute = known->second;
        } else unknown(s.name);
        return i;
    }

    Kernel& k_;
    Function& f_;
    std::map<std::string, uint64_t> symbols_;
    std::map<std::string, bool> locals_;
    std::unordered_map<std::string, uint16_t> names_;
    uint16_t nothing_;       // the register of _
    int line_ = 0;
    unsigned n_ = 0;         // operands so far
};

inline std::shared_ptr<const Kernel> decode(const Function& text, const Module& module) {
    auto kernel = std::make_shared<Kernel>();
    kernel->text = text;
    kernel->text.code.reserve(text.code.size() + 1);  // instructions point to statements
    Decoder(*kernel, module);
    for (const Instruction& i : kernel->code) kernel->has_read_only |= i.read_only;
    return kernel;
}

// A thread of a launch, from its first instruction to its last.
inline void run_thread(Launch& launch) {
    const Kernel& k = *launch.kernel;
    std::vector<uint64_t> registers = k.registers, local(k.local_bytes / 8 + 2, ~0ull);  // 16-byte aligned, as malloc's
    for (auto [at, value] : k.specials) registers[at] = value();
    for (auto [at, offset] : k.locals) registers[at] = (uint64_t)local.data() + offset;
    Lane lane{&launch, registers.data()};
    execute(lane);
}
}  // namespace ptx
