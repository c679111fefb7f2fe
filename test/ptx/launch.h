// launch.h: a launch of a kernel by its PTX: parameters as the host lays them out, and shared memory.
#pragma once
#include "decode.h"

namespace ptx {
// Without a function after a mistake. Of the memory that it asks for, the second half says what has been written of the first.
inline emu::Code prepare(std::shared_ptr<const Kernel> kernel, const std::vector<emu::Argument>& arguments, size_t threads, size_t dynamic_shared) {
    const Function& f = kernel->text;
    const auto wrong = [&](const std::string& what) { return emu::fault(f.name + ": " + what), emu::Code{}; };
    if (threads > f.max_threads) return wrong(std::to_string(threads) + " threads a block, and .maxntid is " + std::to_string(f.max_threads));
    if (arguments.size() != f.params.size()) return wrong(std::to_string(arguments.size()) + " arguments, and the PTX has " + std::to_string(f.params.size()));
    auto launch = std::make_shared<Launch>();
    launch->kernel = kernel.get(), launch->shared_bytes = kernel->static_bytes + dynamic_shared;
    for (size_t p = 0; p < arguments.size(); p++) {
        const Variable& param = f.params[p];
        if (arguments[p].bytes != param.bytes)
            return wrong("argument " + std::to_string(p) + " has " + std::to_string(arguments[p].bytes) + " bytes, and the PTX's " + std::to_string(param.bytes));
        launch->params.resize((launch->params.size() + param.alignment - 1) / param.alignment * param.alignment);
        launch->params.insert(launch->params.end(), (const char*)arguments[p].value, (const char*)arguments[p].value + param.bytes);
    }
    return {[kernel, launch] { run_thread(*launch); }, 2 * launch->shared_bytes};
}
}  // namespace ptx
