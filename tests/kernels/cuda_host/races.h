// Finds races in shared memory: two accesses of different threads, at least one a write, with no order between them.
//
// A barrier orders all threads of the block, a warp operation those of its warp; nothing else does. Kernels that are
// compiled with -fsanitize=thread call the __tsan functions below before each access (the runtime of the sanitizer
// is not linked). An asynchronous copy writes when it is issued and again when it is waited for. Not seen: races in
// global memory, and atomics, which are exempt.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <string>
#include <vector>

namespace races {
constexpr long CELL_BYTES = 2;  // the smallest access of a kernel
struct Mark { int thread = -1; uint64_t barrier = 0, warp = 0; const void* at = nullptr; };
// The last write, and the reads since the last barrier: which warps, and the last of them.
struct Cell { Mark write, read; uint32_t warps = 0; bool several = false; };

std::vector<Cell> cells;
uint64_t barriers = 0;             // never set back, so that marks of earlier blocks are of no account
std::vector<uint64_t> warp_turns;  // operations of each warp
std::string report;

std::string place(const void* at) {
    Dl_info info;
    char text[600] = "?";
    if (dladdr(at, &info))
        std::snprintf(text, sizeof text, "%s+0x%lx", info.dli_fname,
                      static_cast<unsigned long>(static_cast<const char*>(at) - static_cast<const char*>(info.dli_fbase) - 1));
    return text;
}

bool unordered(const Mark& earlier, int thread) {
    if (earlier.thread < 0 || earlier.thread == thread || earlier.barrier != barriers) return false;
    return earlier.thread / 32 != thread / 32 || earlier.warp == warp_turns[thread / 32];
}

void found(const char* first, const Mark& earlier, const char* second, int thread, const void* at, long cell) {
    if (!report.empty()) return;
    char text[1600];
    std::snprintf(text, sizeof text, "race at byte %ld of shared memory: %s by thread %d [%s], %s by thread %d [%s]",
                  cell * CELL_BYTES, first, earlier.thread, place(earlier.at).c_str(), second, thread, place(at).c_str());
    report = text;
}

void touch_cell(Cell& cell, long number, int thread, bool writes, const void* at) {
    const Mark now{thread, barriers, warp_turns[thread / 32], at};
    if (unordered(cell.write, thread)) found("written", cell.write, writes ? "written" : "read", thread, at, number);
    const bool read_before = cell.read.barrier == barriers && cell.read.thread >= 0;
    if (writes) {
        const bool elsewhere = read_before && (cell.warps & ~(1u << thread / 32)) != 0;
        const bool beside = cell.several && cell.read.warp == warp_turns[thread / 32] && cell.read.thread / 32 == thread / 32;
        if (elsewhere || (read_before && beside) || unordered(cell.read, thread))
            found(unordered(cell.read, thread) ? "read" : "read by another warp, last", cell.read, "written", thread, at, number);
        cell.write = now;
        return;
    }
    if (!read_before) cell.warps = 0;
    const bool same_turn = read_before && cell.read.thread / 32 == thread / 32 && cell.read.warp == now.warp;
    cell.several = same_turn && (cell.several || cell.read.thread != thread);
    cell.warps |= 1u << thread / 32;
    cell.read = now;
}

void touch(const char* shared, int thread, const void* address, std::size_t bytes, bool writes, const void* at) {
    const long begin = static_cast<const char*>(address) - shared, end = begin + static_cast<long>(bytes);
    if (begin < 0 || begin >= static_cast<long>(cells.size()) * CELL_BYTES) return;
    const long last = std::min((end + CELL_BYTES - 1) / CELL_BYTES, static_cast<long>(cells.size()));
    for (long number = begin / CELL_BYTES; number < last; ++number)
        touch_cell(cells[number], number, thread, writes, at);
}

void begin_launch(std::size_t shared_bytes) {
    cells.assign((shared_bytes + CELL_BYTES - 1) / CELL_BYTES, {});
    warp_turns.assign(32, 0);
    report.clear();
}
}  // namespace races
