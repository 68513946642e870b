// Runs a CUDA C++ source on the CPU: what the sources use of CUDA's built-ins, written for g++.
//
// One block at a time; each of its threads is a fiber that runs until its next barrier, shuffle, ballot or
// matrix instruction. Shared memory is dynamic only and starts as NaN; it and every array argument end at a
// page that cannot be touched. So the harness covers logic, indexing and numerics, finds a barrier that not
// every thread reaches, a read or write past the end, a read of shared memory that nothing wrote, and, run in
// several thread orders, most missing barriers; with `watch_races` it finds every race in shared memory of the
// order that it ran (races.h). It does not cover memory ordering, bank conflicts, real concurrency between blocks,
// or the rounding inside a tensor core's accumulator.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace host {
struct Dim3 { unsigned x, y, z; };
struct Builtins { Dim3 thread, block, block_dim, grid_dim; };
extern Builtins* current;            // of the running thread
extern char* shared_memory;          // of the running block
using Action = void (*)(void* arguments[32], unsigned mask);  // runs once, in the last lane to arrive

bool block_barrier(int line, bool vote = false);  // whether any thread voted
void warp_collective(unsigned mask, int kind, void* argument, Action action);
void copy_later(void* destination, const void* source, int bytes);
void commit_copies();
void wait_copies(int groups_left);
void watch(const void* address, std::size_t bytes, bool writes, const void* at);  // of shared memory, for races.h

template <class T> struct Exchange { T value, result; int source; };
template <class T> T shuffle(unsigned mask, T value, int source, int kind) {
    Exchange<T> mine{value, value, source};
    warp_collective(mask, kind, &mine, [](void* arguments[32], unsigned) {
        for (int lane = 0; lane < 32; ++lane) {
            auto* self = static_cast<Exchange<T>*>(arguments[lane]);
            if (!self) continue;
            auto* other = static_cast<Exchange<T>*>(arguments[self->source & 31]);
            if (other) self->result = other->value;
        }
    });
    return mine.result;
}
inline int lane() { return static_cast<int>(current->thread.x & 31u); }
inline unsigned ballot(unsigned mask, bool vote) {
    Exchange<unsigned> mine{vote ? 1u : 0u, 0u, 0};
    warp_collective(mask, 3, &mine, [](void* arguments[32], unsigned) {
        unsigned votes = 0;
        for (int lane = 0; lane < 32; ++lane)
            if (arguments[lane] && static_cast<Exchange<unsigned>*>(arguments[lane])->value) votes |= 1u << lane;
        for (int lane = 0; lane < 32; ++lane)
            if (arguments[lane]) static_cast<Exchange<unsigned>*>(arguments[lane])->result = votes;
    });
    return mine.result;
}
inline void warp_barrier(unsigned mask) {
    char nothing = 0;
    warp_collective(mask, 0, &nothing, [](void**, unsigned) {});
}
#define ATOMIC __attribute__((noinline, no_sanitize("thread")))
template <class T> ATOMIC T add(T* address, T value) { T old = *address; *address = old + value; return old; }
template <class T> ATOMIC T raise(T* address, T value) { T old = *address; *address = old > value ? old : value; return old; }
template <class T> ATOMIC T set_bits(T* address, T value) { T old = *address; *address = old | value; return old; }
}  // namespace host

#define threadIdx (host::current->thread)
#define blockIdx (host::current->block)
#define blockDim (host::current->block_dim)
#define gridDim (host::current->grid_dim)
#define __syncthreads() host::block_barrier(__LINE__)
#define __syncthreads_or(vote) host::block_barrier(__LINE__, vote)
#define __syncwarp(...) host::warp_barrier(0xffffffffu)
#define __shfl_sync(mask, value, source) host::shuffle(mask, value, source, 1)
#define __shfl_xor_sync(mask, value, bits) host::shuffle(mask, value, host::lane() ^ (bits), 2)
#define __ballot_sync(mask, vote) host::ballot(mask, vote)
#define atomicAdd(address, value) host::add(address, value)
#define atomicMax(address, value) host::raise(address, value)
#define atomicOr(address, value) host::set_bits(address, value)
#define __expf expf
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline int __ffs(unsigned x) { return __builtin_ffs(static_cast<int>(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline unsigned __float_as_uint(float x) { unsigned u; std::memcpy(&u, &x, 4); return u; }
inline float __uint_as_float(unsigned u) { float x; std::memcpy(&x, &u, 4); return x; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }

// The entry that the loader calls through ctypes: unpacks an array of argument addresses, as cuLaunchKernel does.
#include <utility>
template <class... A, std::size_t... I>
void host_call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}
template <class... A> void host_invoke(void (*kernel)(A...), void** arguments) {
    host_call(kernel, arguments, std::index_sequence_for<A...>{});
}
#define HOST_KERNEL(name) \
    extern "C" void run_##name(void** arguments) { host_invoke(name, arguments); }
