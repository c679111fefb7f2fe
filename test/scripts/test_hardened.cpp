// The programs that `make` builds are hardened: their ELF headers say so. Read without readelf, which a machine with a compiler need not have.
#include <elf.h>
#include <features.h>
#include <string.h>
#include <sys/stat.h>
#include <string>
#include <vector>
#include "../../llmc/base/text_format.h"
#include "../../llmc/io/files.h"
#include "../test.h"

namespace {
template <class X> std::vector<X> table(const std::string& file, uint64_t at, uint64_t count) {
    if (at > file.size() || count > (file.size() - at) / sizeof(X)) return {};
    std::vector<X> rows(count);
    if (count) memcpy((void*)rows.data(), &file[at], count * sizeof(X));
    return rows;
}

// What a 64-bit ELF program lacks, one word each; "no ELF" if it is none.
std::string lacks(const std::string& path) {
    const std::string file = read_file(path);
    const std::vector<Elf64_Ehdr> headers = table<Elf64_Ehdr>(file, 0, 1);
    if (headers.empty() || memcmp(headers[0].e_ident, ELFMAG, SELFMAG) || headers[0].e_ident[EI_CLASS] != ELFCLASS64) return "no ELF";
    bool relro = false, now = false, stack = false, writable_code = false;
    for (const Elf64_Phdr& segment : table<Elf64_Phdr>(file, headers[0].e_phoff, headers[0].e_phnum)) {
        relro |= segment.p_type == PT_GNU_RELRO;
        stack |= segment.p_type == PT_GNU_STACK && !(segment.p_flags & PF_X);
        writable_code |= segment.p_type == PT_LOAD && segment.p_flags & PF_X && segment.p_flags & PF_W;
        if (segment.p_type != PT_DYNAMIC) continue;
        for (const Elf64_Dyn& d : table<Elf64_Dyn>(file, segment.p_offset, segment.p_filesz / sizeof(Elf64_Dyn)))
            now |= d.d_tag == DT_BIND_NOW || (d.d_tag == DT_FLAGS && d.d_un.d_val & DF_BIND_NOW) || (d.d_tag == DT_FLAGS_1 && d.d_un.d_val & DF_1_NOW);
    }
    // the functions of libc that checked code calls; a name ends with a zero, and begins behind one
    bool protector = false, fortified = false;
    for (size_t at = 0; (at = file.find("_chk", at)) != file.npos; at++) {
        const size_t begin = file.rfind('\0', at) + 1;
        const std::string name = file.substr(begin, strnlen(&file[begin], 100));
        protector |= name == "__stack_chk_fail";
        fortified |= name.starts_with("__") && name.ends_with("_chk");
    }
    std::string all;
    for (const auto& [is_there, what] : {std::pair(headers[0].e_type == ET_DYN, "PIE"), {relro, "RELRO"}, {now, "BIND_NOW"}, {stack && !writable_code, "NX"},
                                         {protector, "protector"}, {fortified, "fortify"}})
        if (!is_there) all += (all.empty() ? "" : " ") + std::string(what);
    return all;
}

// The flags that the Makefile found this compiler to take.
std::string makefile_flags(const std::string& compiler) { return run_command("env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -nB V=1 NATIVE= LTO= MPI=0 NVCC= CXX=" + compiler + " tokenize").output; }
}  // namespace

// The reader of headers knows programs that lack one thing each.
TEST(hardened_programs_are_told_from_others) {
    make_folders(BUILD "/tmp");
    const std::string source = BUILD "/tmp/hardened.cpp", program = BUILD "/tmp/hardened";
    write_file_atomically(source, "#include <stdio.h>\n#include <string.h>\nint main(int n, char** texts) { char text[50]; strcpy(text, texts[n - 1]); return puts(text) < 0; }\n");
    const std::string all = "-O2 -fPIE -pie -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -Wl,-z,relro,-z,now,-z,noexecstack ";
    const auto lacking = [&](const std::string& flags) {
        const Outcome o = run_command(COMPILER " " + all + flags + " " + source + " -o " + program);
        return o.code ? "not built: " + o.output : lacks(program);
    };
    if (const std::string said = lacking(""); !said.empty()) SKIP("%s does not build a small program hardened: %.200s", COMPILER, said.c_str());
    EXPECT_STR(lacking("-fno-pie -no-pie"), "PIE");
    EXPECT_STR(lacking("-Wl,-z,norelro"), "RELRO");
    EXPECT_STR(lacking("-Wl,-z,lazy"), "BIND_NOW");
    EXPECT_STR(lacking("-Wl,-z,execstack"), "NX");
    EXPECT_STR(lacking("-fno-stack-protector"), "protector");
    EXPECT_STR(lacking("-U_FORTIFY_SOURCE"), "fortify");
    EXPECT_STR(lacks(source), "no ELF");
}

TEST(programs_are_hardened) {
    if (strcmp(BUILD, "build")) SKIP("the sanitizers' programs are not");
    const std::string flags = makefile_flags(COMPILER);
    for (const char* flag : {"-fPIE -pie", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=", "-z,relro,-z,now", "-z,noexecstack"})
        if (flags.find(flag) == flags.npos) {
#if defined(__GLIBC__) && __GNUC__ >= 12 && !defined(__clang__)
            FAIL("%s takes %s, and the Makefile does not pass it on", COMPILER, flag);
#endif
            SKIP("%s does not take %s", COMPILER, flag);
        }
    for (const char* program : {TRAINER, TOKENIZE_PROGRAM}) {
        const std::string lacking = lacks(program);
        if (lacking == "no ELF") SKIP("%s is no 64-bit ELF file", program);
        if (!lacking.empty()) FAIL("%s lacks: %s", program, lacking.c_str());
    }
}

// A compiler that does not take some of the flags gets the others.
TEST(hardening_is_what_a_compiler_takes) {
    make_folders(BUILD "/tmp");
    const std::string picky = BUILD "/tmp/picky";
    write_file_atomically(picky, "#!/bin/sh\ncase \"$*\" in *stack-protector*|*noexecstack*) exit 1 ;; esac\nexec " COMPILER " \"$@\"\n");
    chmod(picky.c_str(), 0755);
    const std::string flags = makefile_flags("$PWD/" + picky);
    const auto has = [&](const char* part) { return flags.find(part) != flags.npos; };
    EXPECT(has("-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2") && has("-fPIE -pie") && has("-z,relro,-z,now"));
    EXPECT(!has("stack-protector") && !has("noexecstack"));
}
