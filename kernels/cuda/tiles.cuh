// Products of small matrices on tensor cores at nearly float32 accuracy, and the layout of a symmetric matrix.
//
// Each float is split into two tf32 values, x = high + low (22 bits together); three of the four products are
// summed in float32. The dropped one is below 2^-20 of the result; a single tf32 product would err by 2^-10,
// too much for a normal matrix. A 16-bit stored factor is one tf32 exactly and needs no low half (A_IS_TF32, B_IS_TF32).
// The high part is truncated, not rounded, because the tensor core truncates its operands.
#pragma once
#include "chip.cuh"

struct Split { u32 high, low; };
__device__ __forceinline__ Split split(float x) {
    const u32 high = __float_as_uint(x) & ~0x1fffu;
    return {high, (__float_as_uint(x - __uint_as_float(high)) + 0x1000u) & ~0x1fffu};  // NaN stays in high
}

// C (SIDE*16 square, one warp, accumulator fragments) += A B' over `depth` columns (a multiple of 8).
// load_a(m, k) and load_b(n, k) read single elements: a lane needs rows g and columns t, t + 4 of each 8.
// The pitch of what they read decides the bank conflicts: 4 mod 32 where k is contiguous, 8 mod 32 where m is.
template <int SIDE, bool A_IS_TF32, bool B_IS_TF32, class LoadA, class LoadB>
__device__ __forceinline__ void multiply(float (&c)[SIDE][2 * SIDE][4], int depth, LoadA load_a, LoadB load_b) {
    const int g = lane_index() >> 2, t = lane_index() & 3;
#pragma unroll 2
    for (int k = 0; k < depth; k += 8) {
        u32 b_high[2 * SIDE][2], b_low[2 * SIDE][2];
#pragma unroll
        for (int n = 0; n < 2 * SIDE; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const Split x = split(load_b(n * 8 + g, k + t + 4 * i));
                b_high[n][i] = x.high;
                b_low[n][i] = x.low;
            }
#pragma unroll
        for (int m = 0; m < SIDE; ++m) {
            u32 a_high[4], a_low[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const Split x = split(load_a(m * 16 + g + 8 * (i & 1), k + t + 4 * (i >> 1)));
                a_high[i] = x.high;
                a_low[i] = x.low;
            }
            // product after product, so that neighbouring instructions do not wait for each other's sums
#pragma unroll
            for (int n = 0; n < 2 * SIDE; ++n)
                if constexpr (!B_IS_TF32) mma_tf32(c[m][n], a_high, b_low[n]);
#pragma unroll
            for (int n = 0; n < 2 * SIDE; ++n)
                if constexpr (!A_IS_TF32) mma_tf32(c[m][n], a_low, b_high[n]);
#pragma unroll
            for (int n = 0; n < 2 * SIDE; ++n) mma_tf32(c[m][n], a_high, b_high[n]);
        }
    }
}

// Visits each element of a warp's product: visit(m, n, value&).
template <int SIDE, class Visit>
__device__ __forceinline__ void for_each_element(float (&c)[SIDE][2 * SIDE][4], Visit visit) {
    const int g = lane_index() >> 2, t = lane_index() & 3;
#pragma unroll
    for (int m = 0; m < SIDE; ++m)
#pragma unroll
        for (int n = 0; n < 2 * SIDE; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) visit(m * 16 + g + 8 * (i >> 1), n * 8 + 2 * t + (i & 1), c[m][n][i]);
}

// A symmetric matrix is kept as the 16x16 tiles on and below its diagonal. Inside a tile the groups of four
// columns are exchanged by row, so that the eight rows a warp reads at once lie in different banks.
constexpr int TILE = 256;
__device__ constexpr int num_lower_tiles(int side) { return side * (side + 1) / 2; }
__device__ __forceinline__ int in_tile(int row, int column) {
    return row * 16 + (((column >> 2) ^ (row >> 1 & 3)) << 2) + (column & 3);
}
__device__ __forceinline__ float* tile_at(float* tiles, int i, int j) { return tiles + (i * (i + 1) / 2 + j) * TILE; }
__device__ __forceinline__ float& element_at(float* tiles, int row, int column) {
    return tile_at(tiles, row >> 4, column >> 4)[in_tile(row & 15, column & 15)];
}
struct TileIndex { int i, j; };
__device__ __forceinline__ TileIndex lower_tile(int index) {
    int i = 0;
    while ((i + 1) * (i + 2) / 2 <= index) ++i;
    return {i, index - i * (i + 1) / 2};
}
