// The Gramian Y' Y of all stored rows, in one part per block; the caller sums the parts.
//
// A warp holds TILES_PER_WARP tiles of 32x32 of the lower triangle; chunks of 32 rows pass through two shared buffers.
// Each row is read once; the memory bandwidth limits the kernel.
// Shared (floats): the larger of two chunks (2 * 32 * (PADDED + 8)) and the tiles, which use the same memory.
#include "tiles.cuh"

constexpr int CHUNK = 32;
constexpr int PITCH = PADDED + 8;  // 8 mod 32: no bank conflict where rows run along a product
constexpr int WIDE_TILES = num_lower_tiles(PADDED / 32);
constexpr int TILES_PER_WARP = (WIDE_TILES * 32 + THREADS - 1) / THREADS;
constexpr int TILE_FLOATS = num_lower_tiles(PADDED / 16) * TILE;

// partial float32 [gridDim.x, TILE_FLOATS]
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
gramian(const stored* __restrict__ factors, long long num_rows, float* __restrict__ partial) {
    float *chunks = shared_floats(), *tiles = chunks;
    const long long begin = num_rows * blockIdx.x / gridDim.x, end = num_rows * (blockIdx.x + 1) / gridDim.x;
    float c[TILES_PER_WARP][2][4][4] = {};
    const int num_chunks = static_cast<int>((end - begin + CHUNK - 1) / CHUNK);
    auto stage = [&](int chunk) {
        const long long first = begin + static_cast<long long>(chunk) * CHUNK;
        const int count = static_cast<int>(min(end - first, static_cast<long long>(CHUNK)));
        copy_rows<PITCH>(chunks + (chunk & 1) * CHUNK * PITCH, factors + first * STORED, [&](int i) { return i; },
                         max(count, 0), CHUNK);
    };
    stage(0);
    for (int chunk = 0; chunk < num_chunks; ++chunk) {
        stage(chunk + 1);  // nothing but zeros after the last
        wait_copies<1>();
        __syncthreads();
        const float* y = chunks + (chunk & 1) * CHUNK * PITCH;
#pragma unroll
        for (int i = 0; i < TILES_PER_WARP; ++i) {
            const int index = i * num_warps() + warp_index();
            if (index >= WIDE_TILES) continue;
            const TileIndex at = lower_tile(index);
            multiply<2, STORAGE == 16, STORAGE == 16>(
                c[i], CHUNK, [&](int m, int k) { return y[k * PITCH + at.i * 32 + m]; },
                [&](int n, int k) { return y[k * PITCH + at.j * 32 + n]; });
        }
        __syncthreads();
    }
    wait_copies<0>();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TILES_PER_WARP; ++i) {
        const int index = i * num_warps() + warp_index();
        if (index >= WIDE_TILES) continue;
        const TileIndex at = lower_tile(index);
        for_each_element<2>(c[i], [&](int m, int n, float& x) {
            if ((at.i * 32 + m) >> 4 >= (at.j * 32 + n) >> 4) element_at(tiles, at.i * 32 + m, at.j * 32 + n) = x;
        });
    }
    __syncthreads();
    for (int i = threadIdx.x; i < TILE_FLOATS; i += blockDim.x)
        partial[static_cast<long long>(blockIdx.x) * TILE_FLOATS + i] = tiles[i];
}
