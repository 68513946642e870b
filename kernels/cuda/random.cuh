// Counter-based random numbers: the same (seed, draw) gives the same numbers on every machine and in any order.
#pragma once
#include "chip.cuh"

// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
__device__ inline uint4 philox(u64 seed, u64 draw) {
    uint4 c = {static_cast<u32>(draw), static_cast<u32>(draw >> 32), 0u, 0u};
    u32 key0 = static_cast<u32>(seed), key1 = static_cast<u32>(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u32 high0 = __umulhi(0xd2511f53u, c.x), low0 = 0xd2511f53u * c.x;
        const u32 high1 = __umulhi(0xcd9e8d57u, c.z), low1 = 0xcd9e8d57u * c.z;
        c = {high1 ^ c.y ^ key0, low1, high0 ^ c.w ^ key1, low0};
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
    return c;
}

// Stochastic rounding to the storage type, so that steps smaller than half a unit count on average.
#if STORAGE == 16
__device__ __forceinline__ float round_randomly(float x, u32 random) {
    return __uint_as_float((__float_as_uint(x) + (random & DROPPED)) & ~DROPPED);
}
#endif
