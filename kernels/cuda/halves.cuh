// Floats kept in shared memory as pairs of halves, and their products on tensor cores at nearly float32 accuracy.
//
// x = high + low, two float16 of 22 bits together; three of the four products are summed in float32, the dropped one
// is below 2^-22 of the result. Beside tf32 (tiles.cuh) an instruction does twice the work, what it reads is split
// once instead of at every use, and one load instruction brings a whole 16x16 operand. The price is range: values
// are scaled to stay below 2^15, and what is 2^-24 then is the smallest step.
//
// Eight neighbours along a row take the place of eight floats: 16 bytes of high parts, then 16 bytes of low parts.
// A pitch of 4 mod 32 floats keeps the loads free of bank conflicts.
#pragma once
#include "tiles.cuh"

struct Pairs { u32 high[4], low[4]; };

// Overwrites eight floats.
__device__ __forceinline__ void store_pairs(float* place, const float (&x)[8]) {
    uint4 high, low;
    u32 *to_high = &high.x, *to_low = &low.x;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        to_high[i] = pack_halves(x[2 * i], x[2 * i + 1]);
        const float2 rounded = unpack_halves(to_high[i]);
        to_low[i] = pack_halves(x[2 * i] - rounded.x, x[2 * i + 1] - rounded.y);
    }
    *reinterpret_cast<uint4*>(place) = high;
    *reinterpret_cast<uint4*>(place + 4) = low;
}

// The 16x16 operand whose first row begins at `place`, PITCH floats a row; the same for either side of a product.
template <int PITCH> __device__ __forceinline__ Pairs load_pairs(const float* place) {
    const int lane = lane_index();
    const float* row = place + (lane & 15) * PITCH + (lane >> 4) * 8;
    Pairs x;
    load_matrices(x.high, row);
    load_matrices(x.low, row + 4);
    return x;
}

// C (16x16) += A B' over sixteen columns.
__device__ __forceinline__ void multiply_pairs(float (&c)[2][4], const Pairs& a, const Pairs& b) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
        mma_halves(c[n], a.low, b.high[n], b.high[n + 2]);
        mma_halves(c[n], a.high, b.low[n], b.low[n + 2]);
        mma_halves(c[n], a.high, b.high[n], b.high[n + 2]);
    }
}

// The power of two that brings `bound` to between 2^14 and 2^15; 1 for zero. Whatever is 2^16 times smaller than the
// bound then still keeps its 22 bits.
__device__ __forceinline__ float scale_to_range(float bound) {
    const int exponent = static_cast<int>(__float_as_uint(bound) >> 23 & 0xffu);
    return bound > 0.f ? __uint_as_float(static_cast<u32>(max(1, min(254, 127 + 14 - (exponent - 127)))) << 23) : 1.f;
}
