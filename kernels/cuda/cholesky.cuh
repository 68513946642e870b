// Solves a symmetric positive definite system in shared memory by Cholesky; the whole block works on one matrix.
//
// Blocked by tiles of 16: one warp factorises and inverts a diagonal tile by shuffles; with the inverse, the panel and
// the trailing update are tensor-core products, and both substitutions are products too. The time goes into the chain
// of pivots (about 65 cycles each), not into arithmetic: so the first warp proceeds to the next diagonal tile while
// the others update the rest, and several blocks should share a multiprocessor.
#pragma once
#include "tiles.cuh"

// Replaces a diagonal tile A = L D L' by T = D^-1/2 L^-1, lower triangular with A^-1 = T' T; of the tile only the
// first `live` rows need work, the rest is the identity. One warp: lane (p, q) of a 4x8 grid holds rows p, p + 4, ...
// and columns q, q + 8 of A, and of the identity that the same row operations turn into L^-1.
__device__ inline bool invert_diagonal_tile(float* tile, int live) {
    const int p = lane_index() >> 3, q = lane_index() & 7;
    float a[4][4], scale[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int row = p + 4 * i;
        a[i][0] = tile[in_tile(row, q)];
        a[i][1] = tile[in_tile(row, q + 8)];
        a[i][2] = row == q ? 1.f : 0.f;
        a[i][3] = row == q + 8 ? 1.f : 0.f;
        scale[i] = 1.f;
    }
    bool positive = true;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
        if (j >= live) break;
        const int own = j / 4, from = (j % 4) * 8, side = j / 8;
        const float pivot = __shfl_sync(ALL_LANES, a[own][side], from + j % 8);
        float across[4], down[4];
#pragma unroll
        for (int m = 0; m < 4; ++m)  // row j: of A right of the pivot, of the other left of it
            if (m == 2 || m == 1 || (m == 0) == (j < 8)) across[m] = __shfl_sync(ALL_LANES, a[own][m], from + q);
#pragma unroll
        for (int i = own; i < 4; ++i) down[i] = __shfl_sync(ALL_LANES, a[i][side], p * 8 + j % 8);
        positive = positive && pivot > 0.f;
        float root = rsqrtf(pivot);
        root = root * (1.5f - 0.5f * pivot * root * root);  // the instruction alone is 2^-22
        const float inverse = root * root;
#pragma unroll
        for (int i = own; i < 4; ++i) {
            const float factor = p + 4 * i > j ? down[i] * inverse : 0.f;
            if (p + 4 * i == j) scale[i] = root;
#pragma unroll
            for (int m = 0; m < 4; ++m)
                if (m == 2 || m == 1 || (m == 0) == (j < 8)) a[i][m] -= factor * across[m];
        }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        tile[in_tile(p + 4 * i, q)] = a[i][2] * scale[i];
        tile[in_tile(p + 4 * i, q + 8)] = a[i][3] * scale[i];
    }
    __syncwarp();
    return positive;
}

__device__ __forceinline__ float dot4(const float4& a, const float4& b) {
    return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}
// Row `row` of a tile times a vector of 16.
__device__ __forceinline__ float row_product(const float* tile, int row, const float* vector) {
    float sum = 0.f;
#pragma unroll
    for (int k = 0; k < 16; k += 4)
        sum += dot4(*reinterpret_cast<const float4*>(tile + in_tile(row, k)), *reinterpret_cast<const float4*>(vector + k));
    return sum;
}
__device__ __forceinline__ float column_product(const float* tile, int column, const float* vector) {
    float even = 0.f, odd = 0.f;
#pragma unroll
    for (int k = 0; k < 16; k += 2) {
        even += tile[in_tile(k, column)] * vector[k];
        odd += tile[in_tile(k + 1, column)] * vector[k + 1];
    }
    return even + odd;
}

// panel <- panel T', one warp.
__device__ __forceinline__ void divide_panel(float* panel, const float* inverse) {
    float c[1][2][4] = {};
    multiply<1, false, false>(
        c, 16, [&](int m, int k) { return panel[in_tile(m, k)]; }, [&](int n, int k) { return inverse[in_tile(n, k)]; });
    __syncwarp();
    for_each_element<1>(c, [&](int m, int n, float& x) { panel[in_tile(m, n)] = x; });
}
// to -= a b', one warp.
__device__ __forceinline__ void update_tile(float* to, const float* a, const float* b) {
    float c[1][2][4];
    for_each_element<1>(c, [&](int m, int n, float& x) { x = to[in_tile(m, n)]; });
    multiply<1, false, false>(
        c, 16, [&](int m, int k) { return -a[in_tile(m, k)]; }, [&](int n, int k) { return b[in_tile(n, k)]; });
    for_each_element<1>(c, [&](int m, int n, float& x) { to[in_tile(m, n)] = x; });
    __syncwarp();
}

// rhs <- inverse(matrix) rhs for `side` x `side` tiles; the matrix is overwritten. In the last tile the rows from
// `live` on are those of the identity. `side` and `live` are the same in all threads. Synchronises the block at the
// start and at the end. Returns false in the first warp if the matrix is not positive definite.
__device__ __forceinline__ bool solve_in_place(float* tiles, float* rhs, int side, int live) {
    const bool first = warp_index() == 0, alone = num_warps() == 1;
    const int helpers = alone ? 1 : num_warps() - 1, helper = alone ? 0 : warp_index() - 1;
    bool positive = true;
    __syncthreads();
#pragma unroll 1  // unrolled, the addresses of all steps would be kept in registers
    for (int j = 0; j < side; ++j) {
        // update the tiles right of panel j - 1, shared among the warps; the first has one and then inverts it
        const int pairs = j == 0 ? 0 : first && !alone ? 1 : num_lower_tiles(side - j);
        for (int pair = first ? 0 : 1 + helper; pair < pairs; pair += helpers) {
            const TileIndex at = lower_tile(pair);
            update_tile(tile_at(tiles, j + at.i, j + at.j), tile_at(tiles, j + at.i, j - 1), tile_at(tiles, j + at.j, j - 1));
        }
        if (j > 0 && (!first || alone))
            for (int m = j * 16 + helper * 32 + lane_index(); m < side * 16; m += helpers * 32)
                rhs[m] -= row_product(tile_at(tiles, m >> 4, j - 1), m & 15, rhs + (j - 1) * 16);
        float* diagonal = tile_at(tiles, j, j);
        if (first) positive = invert_diagonal_tile(diagonal, j + 1 == side ? live : 16) && positive;
        __syncthreads();
        for (int i = side - 1 - warp_index(); i > j; i -= num_warps()) divide_panel(tile_at(tiles, i, j), diagonal);
        if (first) {
            float* part = rhs + j * 16;
            const float x = row_product(diagonal, lane_index() & 15, part);
            __syncwarp();
            if (lane_index() < 16) part[lane_index()] = x;
        }
        __syncthreads();
    }
    if (first)  // back substitution: too little work for more than one warp
#pragma unroll 1
        for (int j = side - 1; j >= 0; --j) {
            float* part = rhs + j * 16;
            const float x = column_product(tile_at(tiles, j, j), lane_index() & 15, part);
            __syncwarp();
            if (lane_index() < 16) part[lane_index()] = x;
            __syncwarp();
            for (int n = lane_index(); n < j * 16; n += 32) rhs[n] -= column_product(tile_at(tiles, j, n >> 4), n & 15, part);
            __syncwarp();
        }
    __syncthreads();
    return positive;
}
