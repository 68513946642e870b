// Solves a symmetric positive definite system in shared memory, the whole block working on one matrix.
//
// Blocked by tiles of 16: the diagonal tile is factored and inverted inside one warp by shuffles (latency, not
// arithmetic, and the reason why several blocks should share a multiprocessor); with the inverse at hand the
// panel and the trailing update are tensor-core products, and both substitutions are products too.
#pragma once
#include "tiles.cuh"

// Replaces the lower triangle L of a tile's Cholesky factor by inverse(L). One warp; lane = row, then column.
__device__ inline bool invert_diagonal_tile(float* tile) {
    const int row = lane_index() & 15;
    float a[16], z[16];
#pragma unroll
    for (int c = 0; c < 16; ++c) a[c] = tile[in_tile(row, c)];
    bool positive = true;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
        const float pivot = __shfl_sync(ALL_LANES, a[j], j);
        positive = positive && pivot > 0.f;
        float inverse = rsqrtf(pivot);
        inverse = inverse * (1.5f - 0.5f * pivot * inverse * inverse);  // the instruction alone is 2^-22
        a[j] = row == j ? inverse : a[j] * inverse;  // the diagonal keeps 1 / L(j,j)
#pragma unroll
        for (int c = j + 1; c < 16; ++c) a[c] -= a[j] * __shfl_sync(ALL_LANES, a[j], c);
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        float sum = i == row ? 1.f : 0.f;
#pragma unroll
        for (int m = 0; m < i; ++m) sum -= __shfl_sync(ALL_LANES, a[m], i) * z[m];
        z[i] = sum * __shfl_sync(ALL_LANES, a[i], i);
    }
    __syncwarp();
    if (lane_index() < 16)
#pragma unroll
        for (int i = 0; i < 16; ++i) tile[in_tile(i, row)] = z[i];
    __syncwarp();
    return positive;
}

// rhs(16) <- T rhs or T' rhs for one tile, by one warp.
template <bool TRANSPOSED> __device__ inline void apply_tile(float* tile, float* rhs) {
    const int n = lane_index() & 15;
    float sum = 0.f;
#pragma unroll
    for (int k = 0; k < 16; ++k) sum += (TRANSPOSED ? tile[in_tile(k, n)] : tile[in_tile(n, k)]) * rhs[k];
    __syncwarp();
    if (lane_index() < 16) rhs[n] = sum;
    __syncwarp();
}

// rhs <- inverse(matrix) rhs for SIDE x SIDE tiles; the matrix is overwritten. Starts and ends with the block in
// step. False in every thread of the first warp if the matrix was not positive definite.
template <int SIDE> __device__ bool solve_in_place(float* tiles, float* rhs) {
    bool positive = true;
    __syncthreads();
#pragma unroll 1  // unrolled, the addresses of all steps would be kept in registers
    for (int j = 0; j < SIDE; ++j) {
        float* diagonal = tile_at(tiles, j, j);
        if (warp_index() == 0) {
            positive = invert_diagonal_tile(diagonal) && positive;
            apply_tile<false>(diagonal, rhs + j * 16);
        }
        __syncthreads();
        for (int i = j + 1 + warp_index(); i < SIDE; i += num_warps()) {
            float c[1][2][4] = {};
            float* panel = tile_at(tiles, i, j);
            multiply<1, false, false>(
                c, 16, [&](int m, int k) { return panel[in_tile(m, k)]; },
                [&](int n, int k) { return diagonal[in_tile(n, k)]; });
            __syncwarp();
            for_each_element<1>(c, [&](int m, int n, float& x) { panel[in_tile(m, n)] = x; });
        }
        __syncthreads();
        const int left = SIDE - 1 - j;
        for (int pair = warp_index(); pair < num_lower_tiles(left); pair += num_warps()) {
            const TileIndex at = lower_tile(pair);
            const float *a = tile_at(tiles, j + 1 + at.i, j), *b = tile_at(tiles, j + 1 + at.j, j);
            float* to = tile_at(tiles, j + 1 + at.i, j + 1 + at.j);
            float c[1][2][4];
            for_each_element<1>(c, [&](int m, int n, float& x) { x = to[in_tile(m, n)]; });
            multiply<1, false, false>(
                c, 16, [&](int m, int k) { return -a[in_tile(m, k)]; }, [&](int n, int k) { return b[in_tile(n, k)]; });
            for_each_element<1>(c, [&](int m, int n, float& x) { to[in_tile(m, n)] = x; });
        }
        for (int m = (j + 1) * 16 + threadIdx.x; m < SIDE * 16; m += blockDim.x) {
            const float* panel = tile_at(tiles, m >> 4, j);
            float sum = 0.f;
#pragma unroll
            for (int k = 0; k < 16; ++k) sum += panel[in_tile(m & 15, k)] * rhs[j * 16 + k];
            rhs[m] -= sum;
        }
        __syncthreads();
    }
#pragma unroll 1
    for (int j = SIDE - 1; j >= 0; --j) {
        if (warp_index() == 0) apply_tile<true>(tile_at(tiles, j, j), rhs + j * 16);
        __syncthreads();
        for (int n = threadIdx.x; n < j * 16; n += blockDim.x) {
            const float* panel = tile_at(tiles, j, n >> 4);
            float sum = 0.f;
#pragma unroll
            for (int k = 0; k < 16; ++k) sum += panel[in_tile(k, n & 15)] * rhs[j * 16 + k];
            rhs[n] -= sum;
        }
        __syncthreads();
    }
    return positive;
}
