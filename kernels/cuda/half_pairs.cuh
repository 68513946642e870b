// Floats kept in shared memory as pairs of halves, and their products on tensor cores at nearly float32 accuracy.
//
// x = high + low, two float16 values with 22 bits together. Three of the four products are summed in float32; the
// dropped one is below 2^-22 of the result. Compared with tf32 (tiles.cuh) an instruction does twice the work, an
// operand is split once instead of at every use, and one instruction loads a whole 16x16 operand. The cost is range:
// values are scaled to stay below 2^15, and the smallest step is then 2^-24.
//
// Eight neighbours along a row replace eight floats: 16 bytes of high parts, then 16 bytes of low parts.
// A pitch of 4 mod 32 floats keeps the loads free of bank conflicts.
#pragma once
#include "tiles.cuh"

struct Pairs { u32 high[4], low[4]; };

// Requests eight stored factors into the place of their halves; the same thread splits them later.
__device__ __forceinline__ void request_eight(float* place, const stored* from) {
    copy_async_16(place, from);
    if (STORAGE == 32) copy_async_16(place + 4, from + 4);
}
__device__ __forceinline__ void read_eight(float (&x)[8], const float* place) {
    const stored* raw = reinterpret_cast<const stored*>(place);
    const float4 low = load4(raw), high = load4(raw + 4);
    x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
    x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

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

// The 16x16 operand whose first row begins at `place`, PITCH floats a row. The product runs along rows, or down columns
// if TRANSPOSED. A left and a right operand differ in the order of their four 8x8 matrices: an instruction takes
// neighbouring registers, the left all four and the right two.
template <int PITCH, bool TRANSPOSED, bool RIGHT> __device__ __forceinline__ Pairs load_pairs(const float* place) {
    const int lane = lane_index();
    const float* row = TRANSPOSED != RIGHT ? place + ((lane & 7) + (lane >> 4) * 8) * PITCH + (lane >> 3 & 1) * 8
                                           : place + (lane & 15) * PITCH + (lane >> 4) * 8;
    Pairs x;
    load_matrices<TRANSPOSED>(x.high, row);
    load_matrices<TRANSPOSED>(x.low, row + 4);
    return x;
}

// C (16x16) += one of the three products of A B' over sixteen columns: 0 low high', 1 high low', 2 high high'.
template <int PRODUCT> __device__ __forceinline__ void multiply_pairs(float (&c)[2][4], const Pairs& a, const Pairs& b) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
        mma_float16(c[n], PRODUCT == 0 ? a.low : a.high, PRODUCT == 1 ? b.low[2 * n] : b.high[2 * n],
                   PRODUCT == 1 ? b.low[2 * n + 1] : b.high[2 * n + 1]);
}

// The same product of 2x2 operands, so that eight sums are independent of each other.
template <int PRODUCT>
__device__ __forceinline__ void multiply_square(float (&c)[2][2][2][4], const Pairs (&a)[2], const Pairs (&b)[2]) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int m = 0; m < 2; ++m) multiply_pairs<PRODUCT>(c[m][n], a[m], b[n]);
}

// The power of two that scales `bound` to between 2^14 and 2^15; 1 for zero. Values up to 2^16 times smaller than the
// bound keep their 22 bits.
__device__ __forceinline__ float scale_to_range(float bound) {
    const int exponent = static_cast<int>(__float_as_uint(bound) >> 23 & 0xffu);
    return bound > 0.f ? __uint_as_float(static_cast<u32>(max(1, min(254, 127 + 14 - (exponent - 127)))) << 23) : 1.f;
}
