// The interpreter by small PTX texts, whose results the manual says; and what it must refuse.
#include "../emu/emu_test.h"
#include "../../llmc/io/files.h"
#include "../emu/ptx_on_cpu.h"
#include "launch.h"

namespace {
constexpr const char* BEGIN = R"(
.version 8.4
.target sm_80
.address_size 64
.shared .align 16 .b8 fixed[512];
.extern .shared .align 128 .b8 dynamic[];
.visible .entry kernel(
    .param .u64 kernel_param_0,
    .param .align 4 .b8 kernel_param_1[12],
    .param .u64 kernel_param_2
)
.maxntid 64, 1, 1
{
    .local .align 16 .b8 depot[32];
    .local .align 4 .b8 other[8];
    .reg .b64 %rd<9>;  // all the others as well: the interpreter takes them as they come
    ld.param.u64 %rd1, [kernel_param_0];
    cvta.to.global.u64 %rd1, %rd1;
    mov.u32 %tid, %tid.x;
    mul.wide.u32 %rd2, %tid, 8;
    add.s64 %out, %rd1, %rd2;
)";
struct Point { float x; int y; unsigned char z; };

// `body` leaves its result in %x; that of each thread.
std::vector<uint64_t> run_ptx(const std::string& body, unsigned threads = 32, bool early = false) {
    const std::string store = body.find("%x") == std::string::npos ? "" : "st.global.u64 [%out], %x;\n";
    const ptx::Module module = ptx::parse(BEGIN + body + "\n" + store + "ret;\n}\n");
    Buffer<uint64_t> out(std::vector<uint64_t>(threads, 7));
    const Point point{1.5f, -3, 200};
    const uint64_t last = 99;
    emu::Code code = ptx::prepare(ptx::decode(module.entries.at("kernel"), module), {{&out.p, sizeof out.p}, {&point, sizeof point}, {&last, sizeof last}}, threads, 1024);
    if (code.thread) emu::device_thread().run([&] { emu::run_grid("kernel", 1, threads, code.shared_bytes, early, 80, code.thread); });
    return out.values();
}
void expect_value(const std::string& body, uint64_t expected) {
    const uint64_t x = run_ptx(body)[0];
    if (x != expected) FAIL("%s: %llx, expected %llx", body.c_str(), (unsigned long long)x, (unsigned long long)expected);
}
uint64_t bits(float x) { return std::bit_cast<uint32_t>(x); }
uint64_t bits(double x) { return std::bit_cast<uint64_t>(x); }
}  // namespace

TEST(integers) {
    struct { const char* body; uint64_t expected; } cases[] = {
        {"add.s32 %x, 2147483647, 1;", 0xffffffff80000000},  // wraps
        {"sub.u32 %x, 1, 2;", 0xffffffff}, {"sub.s64 %x, 1, 2;", ~0ull}, {"mul.lo.s32 %x, -3, 5;", (uint64_t)-15},
        {"mul.lo.u16 %x, 300, 300;", 90000 % 65536},
        {"mul.wide.s32 %x, -3, 1073741824;", (uint64_t)(-3ll << 30)}, {"mul.wide.u32 %x, -1, -1;", 0xfffffffe00000001},
        {"mul.wide.u16 %x, 65535, 65535;", 0xfffe0001},
        {"mad.wide.s32 %x, -2, 3, 1;", (uint64_t)-5}, {"mad.lo.s32 %x, 4, -5, 7;", (uint64_t)-13},
        {"mul.hi.u32 %x, -1, -1;", 0xfffffffe}, {"mul.hi.u64 %x, -1, -1;", ~0ull - 1}, {"mul.hi.s32 %x, -1, 5;", ~0ull},
        {"div.s32 %x, -7, 2;", (uint64_t)-3}, {"rem.s32 %x, -7, 2;", ~0ull}, {"div.u32 %x, -7, 2;", 0x7ffffffc}, {"div.u64 %x, 100, 7;", 14},
        {"rem.u64 %x, 100, 7;", 2},
        {"min.s32 %x, -1, 1;", ~0ull}, {"min.u32 %x, -1, 1;", 1}, {"max.s32 %x, -1, 1;", 1}, {"neg.s32 %x, 5;", (uint64_t)-5}, {"abs.s32 %x, -5;", 5},
        // more than the width: nothing is left, but for the sign
        {"shl.b32 %x, 1, 31;", 0x80000000}, {"shl.b32 %x, 1, 32;", 0}, {"shl.b32 %x, 1, 33;", 0}, {"shr.u32 %x, -1, 32;", 0},
        {"shr.s32 %x, -8, 1;", (uint64_t)-4},
        {"shr.s32 %x, -8, 40;", ~0ull}, {"shl.b64 %x, 1, 63;", 1ull << 63}, {"shl.b64 %x, 1, 64;", 0}, {"shr.u64 %x, -1, 60;", 15},
        {"shr.s64 %x, -1, 99;", ~0ull},
        {"shr.u16 %x, 65535, 4;", 0xfff}, {"shr.u16 %x, 65535, 16;", 0},
        {"and.b32 %x, 12, 10;", 8}, {"or.b32 %x, 12, 10;", 14}, {"xor.b64 %x, 12, 10;", 6}, {"not.b32 %x, 0;", 0xffffffff}, {"not.b64 %x, 0;", ~0ull},
        {"and.b16 %x, -1, 255;", 255},
        {"popc.b32 %x, 255;", 8}, {"clz.b32 %x, 1;", 31}, {"clz.b32 %x, 0;", 32},
        {"bfi.b32 %x, 5, -1, 4, 3;", 0xffffffdf}, {"bfi.b32 %x, 255, 0, 28, 8;", 0xf0000000}, {"bfi.b32 %x, 255, 9, 32, 8;", 9},
        {"bfi.b32 %x, 5, 9, 0, 0;", 9},
        {"prmt.b32 %x, 0x33221100, 0x77665544, 0x7531;", 0x77553311}, {"prmt.b32 %x, 0x00008011, 0, 0x0090;", 0x1111ff11},
    };
    for (auto& c : cases) expect_value(c.body, c.expected);
}

TEST(choices) {
    const std::string nan = "0f7FC00000";
    struct { std::string comparison; bool expected; } cases[] = {
        {"lt.s32 %p, -1, 1", true}, {"lt.u32 %p, -1, 1", false}, {"ge.u64 %p, 5, 5", true}, {"gt.s64 %p, -1, 0", false}, {"eq.s16 %p, -1, 65535", true},
        {"ne.b32 %p, 1, 2", true},
        {"lt.f32 %p, " + nan + ", 0f00000000", false}, {"ltu.f32 %p, " + nan + ", 0f00000000", true}, {"ne.f32 %p, " + nan + ", " + nan, false},
        {"neu.f32 %p, " + nan + ", " + nan, true},
        {"leu.f32 %p, 0f3F800000, 0f00000000", false}, {"gtu.f64 %p, 0d7FF8000000000000, 0d0000000000000000", true},
        {"geu.f64 %p, 0dBFF0000000000000, 0d0000000000000000", false},
        {"equ.f32 %p, 0f00000000, 0f80000000", true}, {"nan.f32 %p, " + nan + ", 0f00000000", true}, {"num.f32 %p, " + nan + ", 0f00000000", false},
    };
    for (auto& c : cases) {
        expect_value("setp." + c.comparison + "; selp.b32 %x, 1, 0, %p;", c.expected);
        expect_value("setp." + c.comparison + "; mov.u64 %x, 3; @%p mov.u64 %x, 4;", c.expected ? 4 : 3);
        expect_value("setp." + c.comparison + "; mov.u64 %x, 3; @!%p mov.u64 %x, 4;", c.expected ? 3 : 4);
        expect_value("setp." + c.comparison + "; not.pred %q, %p; and.pred %q, %q, %p; mov.pred %q, %q; selp.b64 %x, 1, 0, %q;", 0);
        expect_value("setp." + c.comparison + "; mov.u64 %x, 1; @%p bra $over; mov.u64 %x, 0; $over: add.u64 %x, %x, 1;", c.expected ? 2 : 1);
    }
    // a loop, and a scope of inline assembly
    expect_value("mov.u64 %x, 0; mov.u32 %i, 10; $again: { .reg .b32 %temp; mov.u32 %temp, %i; cvt.u64.u32 %wide, %temp; } add.u64 %x, %x, %wide; "
        "add.s32 %i, %i, -1;"
                 "setp.gt.s32 %p, %i, 0; @%p bra $again;", 55);
    expect_value("mov.b32 %x, {%a, %b};", 0xffffffff);  // nobody has written %a
    expect_value("mov.b32 {%a, %b}, 0x12345678; mov.b32 %x, {%b, %a};", 0x56781234);
    expect_value("mov.b64 {%a, %b}, 0x123456789abcdef0; cvt.u64.u32 %x, %b;", 0x12345678);
}

TEST(floats) {
    const float tiny = 0x1p-140f;
    char text[128];
    const auto two = [&](const char* name, float a, float b) {
        snprintf(text, sizeof text, "%s %%x, 0f%08X, 0f%08X;", name, (unsigned)bits(a), (unsigned)bits(b));
        return text;
    };
    expect_value(two("add.f32", 1, 0x1p-24f), bits(1.0f));                // ties to even
    expect_value(two("add.f32", 1 + 0x1p-23f, 0x1p-24f), bits(1 + 0x1p-22f));
    expect_value(two("mul.f32", tiny, 0.5f), bits(tiny / 2));             // subnormals are numbers
    expect_value(two("sub.f32", INFINITY, INFINITY), 0x7fffffff);         // the NaN of floats
    expect_value(two("max.f32", NAN, 1), bits(1.0f)), expect_value(two("min.f32", NAN, NAN), 0x7fffffff);
    expect_value(two("max.f32", -0.0f, 0.0f), bits(0.0f)), expect_value(two("min.f32", 0.0f, -0.0f), bits(-0.0f));
    expect_value(two("div.rn.f32", 1, 3), bits(1.0f / 3)), expect_value(two("div.approx.f32", 1, 0x1p127f), bits(0.0f));
    // once rounded: 1 + 2^-12 squared is 1 + 2^-11 + 2^-24, of which a float holds all but the last
    expect_value("fma.rn.f32 %x, 0f3F800800, 0f3F800800, 0fBF801000;", bits(0x1p-24f));
    expect_value("mul.f32 %y, 0f3F800800, 0f3F800800; add.f32 %x, %y, 0fBF801000;", bits(0.0f));
    expect_value("fma.rn.f64 %x, 0d3FF0000000000000, 0d4000000000000000, 0d4008000000000000;", bits(5.0));
    expect_value("ex2.approx.ftz.f32 %x, 0f40400000;", bits(8.0f)), expect_value("ex2.approx.ftz.f32 %x, 0fC3000000;", 0);   // 2^-128 is 0
    expect_value("neg.f32 %x, 0f3F800000;", bits(-1.0f)), expect_value("abs.f64 %x, 0dBFF0000000000000;", bits(1.0));
    expect_value("sqrt.rn.f32 %x, 0f40000000;", bits(std::sqrt(2.0f))), expect_value("rcp.rn.f32 %x, 0f40400000;", bits(1.0f / 3));
    expect_value("rcp.approx.ftz.f64 %x, 0d4008000000000000;", 0x3fd5555500000000);
}

TEST(conversions) {
    struct { const char* body; uint64_t expected; } cases[] = {
        {"cvt.s64.s32 %x, -1;", ~0ull}, {"cvt.u64.u32 %x, -1;", 0xffffffff}, {"cvt.u32.u64 %x, -1;", 0xffffffff}, {"cvt.u32.u16 %x, -1;", 0xffff},
        {"cvt.u16.u32 %x, 0x12345;", 0x2345},
        {"cvt.s32.s8 %x, 255;", ~0ull}, {"cvt.u32.u8 %x, -1;", 255},
        {"cvt.rn.f32.s32 %x, -3;", bits(-3.0f)}, {"cvt.rn.f32.u32 %x, -1;", bits(0x1p32f)}, {"cvt.rn.f32.s32 %x, 16777217;", bits(16777216.0f)},
        {"cvt.rzi.s32.f32 %x, 0fBFC00000;", ~0ull}, {"cvt.rmi.s32.f32 %x, 0fBFC00000;", (uint64_t)-2}, {"cvt.rni.s32.f32 %x, 0f40200000;", 2},
        {"cvt.rpi.s32.f32 %x, 0f3F8CCCCD;", 2},
        {"cvt.rzi.s32.f32 %x, 0f7F800000;", 0x7fffffff}, {"cvt.rzi.u32.f32 %x, 0fBF800000;", 0},
        {"cvt.rzi.s32.f32 %x, 0f7FC00000;", 0},  // too large, too small, NaN
        {"cvt.f64.f32 %x, 0f3FC00000;", bits(1.5)}, {"cvt.rn.f32.f64 %x, 0d3FF0000010000000;", bits(1.0f)},
        {"cvt.rn.f32.f64 %x, 0d3FF0000030000000;", bits(1 + 0x1p-22f)},
        // bf16 keeps 8 bits: ties to even, up and down; too large is infinite; 0x7fff is the NaN
        {"cvt.rn.bf16.f32 %x, 0f3F808000;", 0x3f80}, {"cvt.rn.bf16.f32 %x, 0f3F818000;", 0x3f82}, {"cvt.rn.bf16.f32 %x, 0f3F808001;", 0x3f81},
        {"cvt.rz.bf16.f32 %x, 0f3F80FFFF;", 0x3f80},
        {"cvt.rn.bf16.f32 %x, 0f7F7FFFFF;", 0x7f80}, {"cvt.rn.bf16.f32 %x, 0fFFC00000;", 0x7fff},
        {"cvt.rn.bf16x2.f32 %x, 0f3F800000, 0f40000000;", 0x3f804000},  // the first becomes the upper half
        {"cvt.rn.f16.f32 %x, 0f3F801000;", 0x3c00}, {"cvt.rn.f16.f32 %x, 0f3F803000;", 0x3c02}, {"cvt.rn.f16.f32 %x, 0f477FF000;", 0x7c00},
        {"cvt.rn.f16.f32 %x, 0f33800000;", 1},
        {"cvt.f32.f16 %x, 0x3c01;", bits(1 + 0x1p-10f)}, {"cvt.f32.bf16 %x, 0x3f81;", bits(1 + 0x1p-7f)},
    };
    for (auto& c : cases) expect_value(c.body, c.expected);
}

TEST(memory) {
    expect_value("ld.param.u32 %y, [kernel_param_1+4]; cvt.s64.s32 %x, %y;", (uint64_t)-3);
    expect_value("ld.param.s8 %y, [kernel_param_1+8]; cvt.s64.s32 %x, %y;", (uint64_t)-56);
    expect_value("ld.param.f32 %x, [kernel_param_1];", bits(1.5f));
    expect_value("ld.param.u64 %x, [kernel_param_2];", 99);  // at 24: at 20 it would not be aligned
    expect_value("mov.u64 %rd3, depot; mov.u64 %rd4, other; sub.s64 %x, %rd4, %rd3;", 32);
    expect_value("st.shared.v2.u32 [fixed+8], {17, 4}; ld.shared.u64 %x, [fixed+8];", 4ull << 32 | 17);
    expect_value("mov.u32 %s, fixed; st.shared.v4.u16 [%s+24], {1, 2, 3, 4}; ld.shared.u64 %x, [%s+24];", 0x0004000300020001);
    expect_value("st.shared.u64 [fixed], 1; st.shared.u64 [dynamic], 2; st.shared.u64 [dynamic+1016], 3; ld.shared.u64 %y, [fixed]; "
        "ld.shared.u64 %x, [dynamic]; add.s64 %x, %x, %y;", 3);
    expect_value("mov.u64 %rd3, dynamic; cvta.shared.u64 %rd4, %rd3; st.f32 [%rd4+4], 0f3F800000; ld.shared.f32 %x, [dynamic+4];", bits(1.0f));
    expect_value("mov.u64 %SPL, depot; st.local.u32 [%SPL+4], %tid; cvta.local.u64 %SP, %SPL; add.u64 %rd3, %SP, 8; ld.u32 %y, [%rd3+-4]; "
        "cvt.u64.u32 %x, %y;", 0);
    expect_value("ld.global.cs.s16 %x, [%out];", 7);
    std::vector<uint64_t> x = run_ptx("setp.eq.s32 %p, %tid, 0; @%p st.shared.u32 [fixed], 100; bar.sync 0; atom.shared.add.u32 %y, [fixed], 2; "
        "bar.sync 0; ld.shared.u32 %x, [fixed];", 64);
    for (uint64_t v : x) EXPECT_EQ(v, 228u);
    x = run_ptx("@%never bra $over; atom.global.min.u64 %y, [%rd1], 3; atom.global.cas.b64 %y, [%rd1], 3, 9; $over: bar.sync 0; ld.global.u64 %x, [%rd1];");
    // %never is all ones: nobody has written it
    EXPECT_EQ(x[1], 7u);
    // 16 bytes and 8 zeros, 4 bytes; the first group is waited for alone
    x = run_ptx("mul.wide.u32 %rd3, %tid, 16; cvt.u32.u64 %o, %rd3; mov.u32 %s, dynamic; add.s32 %s, %s, %o; "
        "cp.async.cg.shared.global [%s], [%rd1], 16, 8; cp.async.commit_group;"
                "cp.async.ca.shared.global [fixed], [%rd1], 4; cp.async.commit_group; cp.async.wait_group 1; ld.shared.v2.u64 {%a, %b}, [%s]; "
                "add.s64 %x, %a, %b;"
                "cp.async.wait_group 0; ld.shared.u32 %y, [fixed]; cvt.u64.u32 %y, %y; add.s64 %x, %x, %y; bar.sync 0;");
    for (uint64_t v : x) EXPECT_EQ(v, 14u);
}

TEST(lanes_together) {
    const auto each = [](const std::string& body, auto expected) {
        std::vector<uint64_t> x = run_ptx(body);
        for (int l = 0; l < 32; l++)
            if (x[(size_t)l] != (uint64_t)expected(l))
                FAIL("%s: lane %d: %llx, expected %llx", body.c_str(), l, (unsigned long long)x[(size_t)l], (unsigned long long)expected(l));
    };
    each("shfl.sync.bfly.b32 %x, %tid, 4, 31, -1;", [](int l) { return l ^ 4; });
    each("shfl.sync.idx.b32 %x, %tid, 7, 31, -1;", [](int) { return 7; });
    each("shfl.sync.up.b32 %x, %tid, 3, 0, -1;", [](int l) { return l < 3 ? l : l - 3; });
    each("shfl.sync.down.b32 %x, %tid, 3, 31, -1;", [](int l) { return l > 28 ? l : l + 3; });
    each("shfl.sync.idx.b32 %x, %tid, 9, 6175, -1;", [](int l) { return l / 8 * 8 + 1; });              // 0x181f: width 8
    each("shfl.sync.down.b32 %y|%p, %tid, 3, 6175, -1; selp.b64 %x, 1, 0, %p;", [](int l) { return l % 8 < 5; });
    each("setp.lt.s32 %p, %tid, 5; vote.sync.ballot.b32 %x, %p, -1;", [](int) { return 31; });
    each("setp.lt.s32 %p, %tid, 5; vote.sync.any.pred %q, %p, -1; vote.sync.all.pred %p, %p, -1; xor.pred %p, %p, %q; "
        "selp.b64 %x, 1, 0, %p;", [](int) { return 1; });
    each("and.b32 %y, %tid, 1; match.any.sync.b32 %x, %y, -1;", [](int l) { return l % 2 ? 0xaaaaaaaau : 0x55555555u; });
    // half of a warp, by a mask that names it
    each("mov.u64 %x, 99; setp.ge.s32 %p, %tid, 16; @%p bra $over; shfl.sync.bfly.b32 %x, %tid, 1, 31, 65535; bar.warp.sync 65535; $over: mov.u64 %x, %x;",
         [](int l) { return l < 16 ? l ^ 1 : 99; });
}

// Each element of a, b and c in a place of its own, as the manual's figures show them: a row has 16 columns of a, column n of b has 16 rows.
// a[m][k] = 1 in one place and b[k][n] = 1 in another: d is 1 in m, n if their k are one.
TEST(fragments) {
    const std::string mma = "mov.u32 %a0, 0; mov.u32 %a1, 0; mov.u32 %a2, 0; mov.u32 %a3, 0; mov.u32 %b0, 0; mov.u32 %b1, 0; "
        "setp.eq.s32 %p, %tid, LANE_A; @%p mov.u32 %aREG_A, BITS_A;"
        "setp.eq.s32 %q, %tid, LANE_B; @%q mov.u32 %bREG_B, BITS_B; mov.u32 %z, 0; "
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%d0, %d1, %d2, %d3}, {%a0, %a1, %a2, %a3},"
        "{%b0, %b1}, {%z, %z, %z, %z}; cvt.rzi.u32.f32 %e0, %d0; cvt.rzi.u32.f32 %e1, %d1; cvt.rzi.u32.f32 %e2, %d2; cvt.rzi.u32.f32 %e3, %d3;"
        "shl.b32 %e1, %e1, 1; shl.b32 %e2, %e2, 2; shl.b32 %e3, %e3, 3; add.s32 %x, %e0, %e1; add.s32 %x, %x, %e2; add.s32 %x, %x, %e3; cvt.u64.u32 %x, %x;";
    const auto with = [&](int lane_a, int reg_a, bool high_a, int lane_b, int reg_b, bool high_b) {
        std::string s = mma;
        for (auto [from, to] : {std::pair<std::string, std::string>{"LANE_A", std::to_string(lane_a)}, {"REG_A", std::to_string(reg_a)}, {"BITS_A", high_a ? "0x3f800000" : "0x3f80"},
                                {"LANE_B", std::to_string(lane_b)}, {"REG_B", std::to_string(reg_b)}, {"BITS_B", high_b ? "0x3f800000" : "0x3f80"}})
            s.replace(s.find(from), from.size(), to);
        return run_ptx(s);
    };
    // row, column 2t + high + 8 (reg / 2): written here from the figures, not from the functions under test
    for (int reg_a = 0; reg_a < 4; reg_a++)
        for (bool high_a : {false, true}) {
            const int lane_a = 13, m = 3 + reg_a % 2 * 8, k = 2 + high_a + reg_a / 2 * 8;
            for (int reg_b = 0; reg_b < 2; reg_b++)
                for (bool high_b : {false, true}) {
                    const int lane_b = 21, n = 5, k_of_b = 2 + high_b + reg_b * 8;
                    std::vector<uint64_t> x = with(lane_a, reg_a, high_a, lane_b, reg_b, high_b);
                    for (int l = 0; l < 32; l++) {
                        uint64_t expected = 0;  // bit e: c[e]
                        if (k == k_of_b && l == m % 8 * 4 + n / 2) expected = 1u << (m / 8 * 2 + n % 2);
                        if (x[(size_t)l] != expected) FAIL("a%d%d b%d%d: lane %d has %llx", reg_a, high_a, reg_b, high_b, l, (unsigned long long)x[(size_t)l]);
                    }
                }
        }
    // four matrices, element 64 * matrix + 8 * row + column in each place
    const std::string fill = "mov.u32 %s, dynamic; shl.b32 %o, %tid, 4; add.s32 %s, %s, %o; shl.b32 %v, %tid, 3; add.s32 %v1, %v, 1; "
        "add.s32 %v2, %v, 2; add.s32 %v3, %v, 3; add.s32 %v4, %v, 4;"
        "add.s32 %v5, %v, 5; add.s32 %v6, %v, 6; add.s32 %v7, %v, 7; st.shared.v4.u16 [%s], {%v, %v1, %v2, %v3}; "
        "st.shared.v4.u16 [%s+8], {%v4, %v5, %v6, %v7}; bar.warp.sync -1;";
    for (bool transposed : {false, true})
        for (int i = 0; i < 4; i++) {
            const std::string load = std::string("ldmatrix.sync.aligned.m8n8.x4.") + (transposed ? "trans." : "") + "shared.b16 {%r0, %r1, %r2, %r3}, [%s];";
            std::vector<uint64_t> x = run_ptx(fill + load + "cvt.u64.u32 %x, %r" + std::to_string(i) + ";");
            for (int l = 0; l < 32; l++) {
                const int first = transposed ? 8 * (2 * (l % 4)) + l / 4 : 8 * (l / 4) + 2 * (l % 4), second = first + (transposed ? 8 : 1);
                EXPECT_EQ(x[(size_t)l], (uint64_t)(64 * i + first) | (uint64_t)(64 * i + second) << 16);
            }
        }
}

// Three sources: the manual's tables (the interpreter), the layouts that CUTLASS publishes (cute/atom/mma_traits_sm80.hpp: strides of lane % 4,
// lane / 4 and of the bits of the element's number, in a matrix whose columns are contiguous), and the emulator's twin.
TEST(fragments_of_three_sources) {
    for (int l = 0; l < 32; l++)
        for (int e = 0; e < 8; e++) {
            const int bit[] = {e & 1, e >> 1 & 1, e >> 2};
            EXPECT_EQ(ptx::of_a(l, e).row + 16 * ptx::of_a(l, e).column, 32 * (l % 4) + l / 4 + 16 * bit[0] + 8 * bit[1] + 128 * bit[2]);
            if (e >= 4) continue;
            EXPECT_EQ(ptx::of_b(l, e).column + 8 * ptx::of_b(l, e).row, 16 * (l % 4) + l / 4 + 8 * bit[0] + 64 * bit[1]);
            EXPECT_EQ(ptx::of_c(l, e).row + 16 * ptx::of_c(l, e).column, 32 * (l % 4) + l / 4 + 16 * bit[0] + 8 * bit[1]);
        }
    // small integers are exact in any order
    ptx_detail::Fragments twin[32];
    ptx_detail::FourFloats expected[32];
    std::vector<uint64_t> registers(32 * 14);
    ptx::Lane lanes[32];
    ptx::Lane* all[32];
    ptx::Instruction i;
    for (uint16_t r = 0; r < 14; r++) i.r[r] = r;
    const auto number = [] { return (float)(int)emu::random(19) - 9; };
    for (int l = 0; l < 32; l++) {
        ptx_detail::Fragments& f = twin[l];
        for (uint32_t& x : f.a) x = cvt_bf16x2(number(), number());
        for (uint32_t& x : f.b) x = cvt_bf16x2(number(), number());
        for (float& x : f.c) x = number();
        lanes[l] = {nullptr, &registers[(size_t)l * 14]}, all[l] = &lanes[l];
        for (unsigned r = 0; r < 10; r++) ptx::set(lanes[l], 4 + r, r < 4 ? f.a[r] : r < 6 ? f.b[r - 4] : (uint32_t)bits(f.c[r - 6]));
    }
    ptx_detail::multiply(twin, expected), ptx::mma_m16n8k16_bf16(all, ~0u, i);
    for (int l = 0; l < 32; l++)
        for (unsigned r = 0; r < 4; r++) EXPECT_EQ(ptx::get<float>(lanes[l], r), expected[l].x[r]);
}

TEST(what_it_does_not_know) {
    EXPECT_DIES("frobnicate.b32 is not known", run_ptx("frobnicate.b32 %x, 1, 2;"));
    EXPECT_DIES("line 24: ld.global.wonder.u32 is not known", run_ptx("\n\nld.global.wonder.u32 %x, [%out];"));
    EXPECT_DIES("nowhere is not known", run_ptx("bra nowhere;"));
    EXPECT_DIES("elsewhere is not known", run_ptx("ld.shared.u32 %x, [elsewhere];"));
}

// Those of the trainer and of the tests, also where no test launches one.
TEST(every_kernel_is_known) {
    if (!getenv("EMU_PTX")) SKIP("no files of PTX are named (make test-ptx)");
    for (const std::string& path : ptx::split(getenv("EMU_PTX"), ":")) {
        const ptx::Module module = ptx::parse(read_file(path));
        EXPECT(module.target >= 80 && module.entries.size() > 50);
        for (auto& [name, text] : module.entries) EXPECT(ptx::decode(text, module)->code.size() > 1);
    }
}

TEST(mistakes) {
    const auto finds = [](const char* text, const std::string& body, unsigned threads = 32, bool early = false) {
        expect_found(body.c_str(), text, [=] { run_ptx(body, threads, early); });
    };
    const std::string z = "{%a, %a, %a, %a}", mma = "mov.u32 %a, 0; "
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%d0, %d1, %d2, %d3}, " + z + ", {%a, %a}, " + z + ";";
    const std::string half = "setp.ge.s32 %p, %tid, 16; @%p bra $over;", over = "$over: add.s32 %y, %tid, 1;";
    // lanes that take part without being there
    for (const char* when : {"takes part, and ends", "takes part, and has ended"}) finds(when, half + mma + over);
    finds("takes part, and ", half + "bar.sync 0;" + over);
    finds("takes part, and has ended", mma, 16);
    finds("takes part, and ", half + "shfl.sync.bfly.b32 %y, %tid, 1, 31, -1;" + over);
    finds("is at vote.sync.any.pred", half + "shfl.sync.bfly.b32 %y, %tid, 1, 31, -1;" + over + "vote.sync.any.pred %q, %p, -1;");
    finds("the mask of a warp operation does not name its caller", "shfl.sync.bfly.b32 %y, %tid, 1, 31, 65535;");
    finds("reads lane 16, which the mask does not name", half + "shfl.sync.idx.b32 %y, %tid, 16, 31, 65535;" + over);
    // addresses
    finds("not a multiple of 16", "ld.global.v2.u64 {%y, %z}, [%rd1+8];");
    finds("not a multiple of 4", "ld.shared.u32 %y, [fixed+2];");
    finds("not a multiple of 16", "cp.async.cg.shared.global [dynamic], [%rd1+8], 16;");
    finds("outside of the block's shared memory", "st.shared.u32 [dynamic+1024], 1;");
    finds("outside of the block's shared memory", "mov.u32 %s, 0; st.shared.u32 [%s], 1;");
    finds("not one of global memory", "mov.u64 %rd3, fixed; ld.global.u32 %y, [%rd3];");
    finds("behind the parameters", "ld.param.u32 %y, [kernel_param_2+8];");
    // what is not there yet, or no longer
    finds("shared memory that nobody has written", "st.shared.u32 [fixed], 1; ld.shared.v2.u32 {%y, %z}, [fixed];");
    finds("shared memory that nobody has written", "cp.async.cg.shared.global [dynamic], [%rd1], 16; cp.async.commit_group; cp.async.wait_group 1; "
        "ld.shared.u32 %y, [dynamic];");
    finds("one thread reads by ld.global.nc, another writes", "ld.global.nc.u64 %y, [%rd1]; st.global.u64 [%out], %y;");
    finds("before griddepcontrol.wait", "ld.global.u64 %y, [%rd1]; griddepcontrol.wait;", 32, true);
    EXPECT_EQ(run_ptx("griddepcontrol.wait; ld.global.u64 %x, [%rd1]; griddepcontrol.launch_dependents;", 32, true)[0], 7u);
    EXPECT_EQ(run_ptx("ld.global.nc.u64 %y, [%out];")[0], 7u);
    // launches
    finds("96 threads a block, and .maxntid is 64", "add.s32 %y, %tid, 1;", 96);
    finds("trap (line 22): is reached", "trap;");
}
