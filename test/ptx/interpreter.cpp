// interpreter.cpp: the library that the emulator loads (EMU_CODE): kernels of the PTX files in EMU_PTX, separated by colons, in the place of the C++
// compiler's.
#include <cstdio>
#include <fstream>
#include <sstream>
#include "launch.h"

namespace ptx {
namespace {
std::vector<Module>& modules() { static std::vector<Module> m; return m; }

std::shared_ptr<const Kernel> kernel_of(const std::string& name) {
    static std::map<std::string, std::shared_ptr<const Kernel>> known;
    auto [at, fresh] = known.try_emplace(name);
    for (const Module& m : modules())
        if (auto entry = m.entries.find(name); !at->second && entry != m.entries.end()) at->second = decode(entry->second, m);
    return at->second;
}
emu::Code find(const char* name, const std::vector<emu::Argument>& arguments, size_t threads, size_t dynamic_shared) {
    std::shared_ptr<const Kernel> kernel = name ? kernel_of(name) : nullptr;
    if (kernel) return prepare(kernel, arguments, threads, dynamic_shared);
    emu::fault(std::string(name ? name : "a kernel whose name the linker does not know") + " is not an entry of EMU_PTX's files");
    return {};
}

[[gnu::constructor]] void load() {
    for (const std::string& path : split(getenv("EMU_PTX") ? getenv("EMU_PTX") : "", ":")) {
        std::ifstream file(path);
        std::stringstream text;
        text << file.rdbuf();
        if (!file) refuse(0, "cannot read " + path);
        modules().push_back(parse(text.str()));
        emu::code_version() = modules().back().target;
    }
    emu::find_code = find;
}
}  // namespace
}  // namespace ptx
