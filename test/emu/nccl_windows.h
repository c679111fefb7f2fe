// nccl_windows.h: memory that ranks register together, of the stand-in for NCCL (nccl.h includes it): ncclMemAlloc and ncclCommWindowRegister, with the rules of
// NCCL's user guide ("User Buffer Registration", "Window Registration Flags") and of ncclCommWindowRegister in its sources. Whether a collective's buffers lie at the
// same place of the same window on all ranks is compared with every message (nccl_operations.h).
//     EMU_NCCL_WINDOWS=0              registering is a success and gives no window, as between GPUs that do not reach each other
//     EMU_NCCL_VERSION below 22807    there are none: release notes of 2.28.7
#pragma once

#define NCCL_WIN_DEFAULT 0x00
#define NCCL_WIN_COLL_SYMMETRIC 0x01
#define NCCL_WIN_REQUIRED_ALIGNMENT 4096

namespace emu {
inline std::map<char*, size_t>& nccl_memory() { static std::map<char*, size_t> all; return all; }
inline bool overlaps_window(const NcclWindow& w, const char* p, size_t n) { return p < w.p + w.bytes && w.p < p + n; }
}  // namespace emu

// extern "C", as in the library: its functions are looked up by name.
#define EMU_NCCL_API extern "C" inline __attribute__((used)) ncclResult_t
EMU_NCCL_API ncclMemAlloc(void** memory, size_t bytes) {
    EMU_NCCL_ENTER();
    if (emu::unsafe(__func__) != cudaSuccess) return ncclUnhandledCudaError;
    if (!memory || bytes == 0) return emu::refuse_nccl(ncclUnhandledCudaError, __func__, "nothing is asked for");
    char* p = emu::device_take(emu::pages(bytes), false);
    if (!p) return emu::refuse_nccl(ncclUnhandledCudaError, __func__, "Cuda failure 2 'out of memory'");
    emu::nccl_memory()[p] = emu::pages(bytes);
    *memory = p;
    return ncclSuccess;
}
EMU_NCCL_API ncclMemFree(void* memory) {
    EMU_NCCL_ENTER();
    if (emu::unsafe(__func__) != cudaSuccess) return ncclUnhandledCudaError;
    const auto found = emu::nccl_memory().find((char*)memory);
    if (found == emu::nccl_memory().end()) return emu::refuse_nccl(ncclInvalidArgument, __func__, "nothing of ncclMemAlloc begins there");
    for (const auto& [handle, w] : emu::nccl_windows())
        if (emu::overlaps_window(*w, found->first, found->second)) return emu::refuse_nccl(ncclInvalidUsage, __func__, "a window is still registered there");
    emu::nccl_memory().erase(found);
    return emu::device_give((char*)memory) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}
// Collective. The handle is there when the communicator is no longer in progress, not before.
EMU_NCCL_API ncclCommWindowRegister(ncclComm_t comm, void* memory, size_t bytes, ncclWindow_t* window, int flags) {
    EMU_NCCL_ENTER();
    if (emu::unsafe(__func__) != cudaSuccess) return ncclUnhandledCudaError;
    EMU_NCCL_COMM(comm);
    const auto no = [name = __func__](ncclResult_t result, const std::string& why) { return emu::refuse_nccl(result, name, why); };
    if (!window) return no(ncclInvalidArgument, "win argument is NULL");
    *window = nullptr;
    if (!memory || bytes == 0) return no(ncclInvalidArgument, "invalid pointer or size");
    if (emu::told("EMU_NCCL_VERSION", NCCL_VERSION_CODE) < NCCL_VERSION(2, 28, 7)) return no(ncclInvalidUsage, "a version whose symmetric windows may corrupt data");
    if (ncclResult_t e = emu::check_ready(__func__, *comm_); e != ncclSuccess) return e;
    if (flags != NCCL_WIN_COLL_SYMMETRIC) return no(ncclInvalidUsage, "the emulator knows symmetric windows alone");
    if (emu::group().depth) return no(ncclInvalidUsage, "the emulator registers nothing in a group");
    if (emu::told("EMU_NCCL_WINDOWS", 1) == 0) return ncclSuccess;
    auto at = emu::nccl_memory().upper_bound((char*)memory);
    if (at == emu::nccl_memory().begin() || (char*)memory >= std::prev(at)->first + std::prev(at)->second) return no(ncclUnhandledCudaError, "no memory of ncclMemAlloc: other memory cannot be registered");
    --at;
    if (((char*)memory - at->first) % NCCL_WIN_REQUIRED_ALIGNMENT) return no(ncclInvalidArgument, "Window address must be suitably aligned.");
    if ((char*)memory + bytes > at->first + at->second) return no(ncclInvalidArgument, "beyond its memory");
    for (const auto& [handle, w] : emu::nccl_windows())
        if (w->comm == comm && emu::overlaps_window(*w, (char*)memory, bytes)) return no(ncclInvalidUsage, "registered twice: undefined where it is used");
    if (comm_->registrations == emu::NCCL_WINDOWS) return no(ncclInvalidUsage, "the emulator has 4 windows for a communicator");
    const int number = comm_->registrations++;
    emu::Registration& mine = comm_->area().registrations[number][comm_->rank];
    mine.bytes = bytes, mine.said = true;
    return emu::in_progress(*comm_, [c = comm_.get(), memory, bytes, window, number] {
        emu::Area& a = c->area();
        for (int r = 0; r < c->world; r++) if (!a.registrations[number][r].said) return false;
        for (int r = 0; r < c->world; r++)
            if (a.registrations[number][r].bytes != bytes) {
                const std::string text = "rank " + std::to_string(c->rank) + " registers a window of " + std::to_string(bytes) + " bytes, rank " + std::to_string(r) + " one of " + std::to_string(a.registrations[number][r].bytes);
                fprintf(stderr, "emulator: NCCL: %s\n", text.c_str());
                a.fail(ncclInvalidUsage, text);
                return false;
            }
        const auto made = std::make_shared<emu::NcclWindow>(emu::NcclWindow{c, (char*)memory, bytes, number});
        *window = (ncclWindow_t)made.get();
        emu::nccl_windows()[*window] = made;
        return true;
    });
}
// Of this rank alone; nothing may be under way in it.
EMU_NCCL_API ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window) {
    EMU_NCCL_ENTER();
    if (emu::unsafe(__func__) != cudaSuccess) return ncclUnhandledCudaError;
    EMU_NCCL_COMM(comm);
    if (!window) return ncclSuccess;
    if (ncclResult_t e = emu::check_ready(__func__, *comm_); e != ncclSuccess) return e;
    const auto found = emu::nccl_windows().find(window);
    if (found == emu::nccl_windows().end() || found->second->comm != comm) return emu::refuse_nccl(ncclInvalidArgument, __func__, "no window of this communicator: deregistered before?");
    if (emu::has_work(*comm_)) return emu::refuse_nccl(ncclInvalidUsage, __func__, "operations of the communicator are not done, which may use it");
    emu::nccl_windows().erase(found);
    return ncclSuccess;
}
