// dev/sass.h, fed with machine code as nvcc 13.0 made it for sm_90 and nvdisasm printed it, shortened where nothing is decided.
#include <sstream>
#include "../../dev/sass.h"
#include "../test.h"

namespace {
// A section of code by nvdisasm: labels, and instructions with their addresses.
std::string section(const std::string& name, const std::vector<std::string>& lines) {
    std::string text = "//--------------------- .text." + name + " ---\n\t.section\t.text." + name + ",\"ax\",@progbits\n\t.align\t128\n        .global         " + name + "\n" + name + ":\n.text." + name + ":\n";
    int address = 0;
    for (const std::string& line : lines) {
        if (line.ends_with(':')) { text += line + "\n"; continue; }
        char at[32];
        snprintf(at, sizeof at, "        /*%04x*/ ", address), address += 16;
        text += at + std::string(line[0] == '@' ? 14 : 18, ' ') + line + " ;\n";
    }
    return text + "\n";
}
const std::vector<std::string> PADDING = {".L_x_118:", "BRA `(.L_x_118)", "NOP"};
sass::Kernel kernel(std::vector<std::string> lines) {
    lines.insert(lines.end(), PADDING.begin(), PADDING.end());
    std::istringstream text("\t.target\tsm_90\n\n" + section("_ZN6detail1kI4bf16Li64EEEvPT_", lines));
    const std::vector<sass::Kernel> kernels = sass::read(text);
    EXPECT_EQ(kernels.size(), (size_t)1);
    return kernels.empty() ? sass::Kernel{} : kernels[0];
}
// The access that comes too early, or "".
std::string early(const std::vector<std::string>& lines) {
    const sass::Kernel k = kernel(lines);
    const sass::Instruction* access = sass::access_before_wait(k);
    return access ? access->text : "";
}
// depth:instructions/HMMA/LDSM of each
std::string text_of(const std::vector<sass::Loop>& loops) {
    std::string text;
    for (const sass::Loop& l : loops)
        for (const std::string& part : {std::string(text.empty() ? "" : " "), std::to_string(l.depth), ":" + std::to_string(l.instructions), "/" + std::to_string(l.hmma), "/" + std::to_string(l.ldsm)}) text += part;
    return text;
}
}  // namespace

TEST(code_is_read) {
    std::istringstream text("\t.target\tsm_90\n" + section("_ZN6detail1kI4bf16Li64EEEvPT_", {"LDC R1, c[0x0][0x28]", "@!P0 EXIT", ".L_x_3:", "STG.E.64 desc[UR4][R2.64+0x10], R10", "EXIT"}) +
                            section("plain", {"EXIT"}) + "\t.type\t\t.nv.reservedSmem.offset0,@object\n");
    const std::vector<sass::Kernel> kernels = sass::read(text);
    EXPECT_EQ(kernels.size(), (size_t)2);
    if (kernels.size() != 2) return;
    EXPECT_STR(kernels[0].name, "detail::k<bf16, 64>");
    EXPECT_STR(kernels[1].name, "plain");
    EXPECT_EQ(kernels[0].code.size(), (size_t)4);
    EXPECT_EQ(kernels[1].code.size(), (size_t)1);
    const sass::Instruction &exit = kernels[0].code[1], &store = kernels[0].code[2];
    EXPECT(exit.op == "EXIT" && exit.predicated && exit.next == std::vector<int>{2});
    EXPECT(store.op == "STG" && !store.predicated && store.next == std::vector<int>{3});
    EXPECT_STR(store.text, "STG.E.64 desc[UR4][R2.64+0x10], R10");
    EXPECT(kernels[0].code[3].next.empty());
}

TEST(a_kernel_that_waits) {
    EXPECT_STR(early({"S2R R5, SR_TID.X", "ACQBULK", "@P0 EXIT", "LDG.E R0, desc[UR4][R2.64]", "STG.E desc[UR4][R2.64], R5", "EXIT"}), "");
    EXPECT_STR(early({"EXIT"}), "");                                                                        // touches nothing
    EXPECT_STR(early({"LDS R0, [R2]", "LDC R1, c[0x0][0x28]", "LDL R1, [R3]", "LDGDEPBAR", "ATOMS.ADD R0, [R2], R3", "REDUX UR4, R2", "ACQBULK", "LDG.E R0, desc[UR4][R2.64]", "EXIT"}), "");
    // on both branches
    EXPECT_STR(early({"@P0 BRA `(.L_x_1)", "ACQBULK", "BRA `(.L_x_2)", ".L_x_1:", "ACQBULK", ".L_x_2:", "LDG.E R0, desc[UR4][R2.64]", "EXIT"}), "");
    // below code that only runs behind the wait
    EXPECT_STR(early({"BRA `(.L_x_1)", ".L_x_2:", "STG.E desc[UR4][R2.64], R5", "EXIT", ".L_x_1:", "ACQBULK", "BRA `(.L_x_2)"}), "");
    EXPECT_STR(early({"CALL.REL.NOINC `($f)", "ACQBULK", "EXIT", "$f:", "RET.REL.NODEC R2 `(k)", "LDG.E R0, desc[UR4][R2.64]", "EXIT"}), "");  // nothing goes on behind RET
    // in a loop, and for the rest of the block's life
    EXPECT_STR(early({"ACQBULK", ".L_x_1:", "LDG.E R0, desc[UR4][R2.64]", "@P0 BRA `(.L_x_1)", "EXIT"}), "");
}

TEST(a_kernel_that_does_not_wait) {
    const std::string load = "LDG.E R3, desc[UR4][R2.64]", store = "STG.E desc[UR4][R2.64], R7";
    EXPECT_STR(early({load, "ACQBULK", store, "EXIT"}), load);
    EXPECT_STR(early({store, "EXIT"}), store);
    EXPECT_STR(early({"@!P0 BRA `(.L_x_108)", load, ".L_x_108:", "ACQBULK", store, "EXIT"}), load);         // reads before it, on one branch
    EXPECT_STR(early({"@!P0 BRA `(.L_x_106)", "ACQBULK", ".L_x_106:", store, "EXIT"}), store);              // waits on one branch only
    EXPECT_STR(early({"@P0 ACQBULK", store, "EXIT"}), store);
    EXPECT_STR(early({"BRA.DIV UR8, `(.L_x_1)", "ACQBULK", store, "EXIT", ".L_x_1:", load, "EXIT"}), load);  // a divergent warp goes elsewhere
    EXPECT_STR(early({"BRA.DIV UR8, `(.L_x_1)", load, ".L_x_1:", "ACQBULK", "EXIT"}), load);                  // the others go on
    EXPECT_STR(early({"@!P0 BRA P1, `(.L_x_1)", "ACQBULK", store, "EXIT", ".L_x_1:", load, "EXIT"}), load);
    EXPECT_STR(early({"@P0 EXIT", load, "ACQBULK", "EXIT"}), load);
    EXPECT_STR(early({"BRX R2 -0xa0    (*\"BRANCH_TARGETS .L_x_121,.L_x_1\"*)", ".L_x_1:", "ACQBULK", "EXIT", ".L_x_121:", load, "EXIT"}), load);
    EXPECT_STR(early({"CALL.REL.NOINC `($__internal_0_$div)", "ACQBULK", "EXIT", "$__internal_0_$div:", load, "RET.REL.NODEC R2 `(k)"}), load);
    EXPECT_STR(early({"CALL.REL.NOINC `($__internal_0_$div)", load, "ACQBULK", "EXIT", "$__internal_0_$div:", "MUFU.RCP R4, R5", "RET.REL.NODEC R2 `(k)"}), load);
    EXPECT_STR(early({"WARPSYNC.COLLECTIVE R61, `(.L_x_880)", "NOP", "EXIT", ".L_x_880:", load, "ACQBULK", "EXIT"}), load);
    for (const char* access : {"LDGSTS.E [R7], desc[UR4][R2.64]", "@P0 REDG.E.ADD.STRONG.GPU desc[UR4][R2.64], R5", "ATOMG.E.ADD.STRONG.GPU PT, R2, desc[UR4][R2.64], R5", "CCTL.E.PF2 [R2]",
                               "UBLKCP.G.S [UR6], [UR4], UR5", "LD.E R0, desc[UR4][R2.64]", "ST.E desc[UR4][R2.64], R0", "LDG.E.CONSTANT R6, desc[UR4][R10.64]"})
        EXPECT_STR(early({access, "ACQBULK", "EXIT"}), access);
}

TEST(code_that_is_not_understood_ends_it) {
    for (const char* jump : {"BRX R2 -0xa0", "BRA `(.L_x_77)", "CALL.REL.NOINC `(_Z3farv)"}) {
        const Outcome child = run_child([&] { kernel({jump, "EXIT"}); });
        EXPECT_EQ(child.code, 1);
        EXPECT_STR(child.output, "error: sass: detail::k<bf16, 64>: where does it go? " + std::string(jump) + "\n");
    }
    const Outcome child = run_child([&] {  // a label of another kernel is none
        std::istringstream text(section("a", {".L_x_1:", "EXIT"}) + section("b", {"BRA `(.L_x_1)"}));
        sass::read(text);
    });
    EXPECT_STR(child.output, "error: sass: b: where does it go? BRA `(.L_x_1)\n");
}

TEST(loops) {
    EXPECT_STR(text_of(sass::loops_of(kernel({"ACQBULK", "EXIT"}))), "");
    EXPECT_STR(text_of(sass::loops_of(kernel({"ACQBULK", ".L_x_1:", "NOP", "EXIT", "BRA `(.L_x_1)"}))), "");  // a jump that nothing reaches
    // the nest of a product, as nvcc made it: a loop in the loop, a slow path at the end of the code that comes back, and a loop behind it
    const std::vector<std::string> nest = {"ACQBULK", "@!P0 BRA `(.L_x_0)", ".L_x_3:", "LDC R9, c[0x0][0x21c]", "@!P1 BRA `(.L_x_1)", "IMAD.MOV.U32 R2, RZ, RZ, R12", ".L_x_2:", "LDS R8, [R3+UR6]",
        "STS [R3+UR6], R8", "@!P1 BRA `(.L_x_2)", ".L_x_1:", "BRA.DIV UR8, `(.L_x_7)", ".L_x_8:", "LDSM.16.M88.4 R8, [R0+UR6]", "HMMA.16816.F32.BF16 R4, R8, R8, R4",
        "HFMA2.MMA R7, -RZ, RZ, 2, 0", "@!P0 BRA `(.L_x_3)", ".L_x_0:", "LDC R0, c[0x0][0x21c]", ".L_x_5:", "UIADD3 UR4, UR4, 0x1, URZ", "FFMA R4, R5, R4, 3", "FFMA R4, R5, R4, 3", "FFMA R4, R5, R4, 3",
        "@!P0 BRA `(.L_x_5)", "STG.E desc[UR6][R2.64], R5", "EXIT", ".L_x_7:", "SHFL.IDX P1, R61, R62, R60, R63", "BRA `(.L_x_8)"};
    EXPECT_STR(text_of(sass::loops_of(kernel(nest))), "1:10/1/1 2:3/0/0 1:5/0/0");
    EXPECT_STR(text_of(sass::main_loops(kernel(nest))), "1:10/1/1 2:3/0/0");  // of the nest with HMMA; the last loop is in no such nest
    // HMMA in the inner loop alone: the outer one and its other inner loop belong to it
    EXPECT_STR(text_of(sass::main_loops(kernel({"NOP", ".L_x_1:", "LDS R8, [R3]", ".L_x_2:", "LDGSTS.E [R7], desc[UR4][R2.64]", "@P1 BRA `(.L_x_2)", ".L_x_3:", "HMMA.16816.F32.BF16 R4, R8, R8, R4",
                                                "HMMA.16816.F32.BF16 R4, R8, R8, R4", "@P1 BRA `(.L_x_3)", "@P2 BRA `(.L_x_1)", "EXIT"}))), "1:2/0/0 2:2/0/0 2:3/2/0");
    // without HMMA the longest; two ways back to one header are one loop; the first instruction may be a header
    EXPECT_STR(text_of(sass::main_loops(kernel({"NOP", ".L_x_1:", "NOP", "@P1 BRA `(.L_x_1)", ".L_x_2:", "NOP", "NOP", "@P1 BRA `(.L_x_2)", "NOP", "@P2 BRA `(.L_x_2)", "EXIT"}))), "1:5/0/0");
    EXPECT_STR(text_of(sass::main_loops(kernel({".L_x_1:", "NOP", "@P1 BRA `(.L_x_1)", "EXIT"}))), "1:2/0/0");
    // a condition below the body, which is entered in its middle
    EXPECT_STR(text_of(sass::main_loops(kernel({"BRA `(.L_x_2)", ".L_x_1:", "FADD R0, R0, R1", ".L_x_2:", "ISETP.NE.AND P0, PT, R0, RZ, PT", "@P0 BRA `(.L_x_1)", "EXIT"}))), "1:3/0/0");
}
