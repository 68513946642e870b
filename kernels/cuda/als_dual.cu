// Exact ALS for a row with fewer weighted entries than factors: a system of their number (Woodbury).
//
// In the eigenbasis of the Gramian, D = w0 Lambda + lambda_u is diagonal. A row's weighted entries come first. With w
// their weights, t their targets, Y their gathered factors, h = sqrt(w) and A = diag(h) Y D^-1/2:
//     M = I + A A',  z = M^-1 (t / h - A g),  x = D^-1/2 (A' z + g),  g = D^-1/2 Y0' t0
// where Y0 and t0 are the factors and targets of the entries of weight 0, which only pass by. One block per row;
// CAPACITY is the most weighted entries of a row of its bin. Memory: each row of factors is read once; those of
// weighted entries into shared memory, where A replaces them as pairs of halves (half_pairs.cuh) scaled by a power of
// two. Shared (floats): CAPACITY (PADDED + 4), then the larger of the tiles of CAPACITY and 2 SLICES PADDED, then
// 2 CAPACITY + 2 PADDED + 2 warps.
#include "cholesky.cuh"
#include "half_pairs.cuh"

constexpr int PITCH = PADDED + 4;  // 4 mod 32: no bank conflict where factors run along a product
constexpr int GROUPS = PADDED / 8;
constexpr int VECTORS = PADDED / 4;  // 16-byte loads of a row
constexpr int SLICES = THREADS > VECTORS ? THREADS / VECTORS : 1;
constexpr int TILE_FLOATS = num_lower_tiles(CAPACITY / 16) * TILE;
constexpr int PARTS = 2 * SLICES * PADDED;

struct Row {
    float *a, *tiles, *scale, *rhs, *root, *passed, *maxima;
    int count;  // of weighted entries
    __device__ Row() {
        a = shared_floats();
        tiles = a + CAPACITY * PITCH;
        scale = tiles + (TILE_FLOATS > PARTS ? TILE_FLOATS : PARTS);
        rhs = scale + CAPACITY;
        root = rhs + CAPACITY;
        passed = root + PADDED;
        maxima = passed + PADDED;
    }
};

__device__ __forceinline__ void request_rows(const Row& r, const stored* factors, const int* columns) {
    for (int i = threadIdx.x; i < r.count * GROUPS; i += THREADS) {
        const int group = i % GROUPS;
        if (group * 8 >= STORED) continue;
        request_eight(r.a + i / GROUPS * PITCH + group * 8,
                      factors + static_cast<long long>(columns[i / GROUPS]) * STORED + group * 8);
    }
    commit_copies();
}
__device__ __forceinline__ void split_rows(const Row& r, int rows, float size) {
    for (int i = threadIdx.x; i < rows * GROUPS; i += THREADS) {
        const int row = i / GROUPS, group = i % GROUPS;
        float* place = r.a + row * PITCH + group * 8;
        float x[8] = {};
        if (row < r.count && group * 8 < STORED) {
            const float scale = r.scale[row] * size;
            read_eight(x, place);
#pragma unroll
            for (int f = 0; f < 8; ++f) x[f] *= scale * r.root[group * 8 + f];
        }
        store_pairs(place, x);
    }
}

// tiles = I + A A' / size^2; a warp computes 2x2 tiles at a time. A tile that is not wanted is computed and dropped:
// branches around the products cost more than they save.
__device__ __forceinline__ void assemble(const Row& r, int side, float unscale) {
    for (int index = uniform_warp_index(); index < num_lower_tiles((side + 1) / 2); index += num_warps()) {
        const TileIndex at = lower_tile(index);
        float c[2][2][2][4] = {};
        const float *left[2], *right[2];
#pragma unroll
        for (int m = 0; m < 2; ++m) {
            left[m] = r.a + min(2 * at.i + m, side - 1) * 16 * PITCH;
            right[m] = r.a + min(2 * at.j + m, side - 1) * 16 * PITCH;
        }
#pragma unroll 1
        for (int k = 0; k < PADDED; k += 16) {
            const Pairs a[2] = {load_pairs<PITCH, false, false>(left[0] + k), load_pairs<PITCH, false, false>(left[1] + k)};
            const Pairs b[2] = {load_pairs<PITCH, false, true>(right[0] + k), load_pairs<PITCH, false, true>(right[1] + k)};
            // product after product, so that neighbouring instructions do not wait for each other's sums
            multiply_square<0>(c, a, b);
            multiply_square<1>(c, a, b);
            multiply_square<2>(c, a, b);
        }
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int n = 0; n < 2; ++n) {
                const int row = 2 * at.i + m, column = 2 * at.j + n;
                if (row >= side || row < column) continue;
                float* to = tile_at(r.tiles, row, column);
                float (&x)[1][2][4] = reinterpret_cast<float (&)[1][2][4]>(c[m][n]);
                for_each_element<1>(x, [&](int i, int j, float& value) {
                    to[in_tile(i, j)] = (row == column && i == j ? 1.f : 0.f) + unscale * value;
                });
            }
    }
}

// Overwrites the tiles with the parts of A' c, [slice][high or low][f].
__device__ __forceinline__ void combine(const Row& r, const float* c) {
    const int slice = threadIdx.x / VECTORS;
    if (slice < SLICES)
        for (int v = threadIdx.x % VECTORS; v < VECTORS; v += THREADS) {
            float sum[8] = {};
            for (int e = slice; e < r.count; e += SLICES) {
                const uint4 raw = *reinterpret_cast<const uint4*>(r.a + e * PITCH + v * 4);
                const u32* pairs = &raw.x;
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float2 x = unpack_halves(pairs[i]);
                    sum[2 * i] += c[e] * x.x;
                    sum[2 * i + 1] += c[e] * x.y;
                }
            }
            float4* to = reinterpret_cast<float4*>(r.tiles + (2 * slice + (v & 1)) * PADDED + v / 2 * 8);
            to[0] = make_float4(sum[0], sum[1], sum[2], sum[3]);
            to[1] = make_float4(sum[4], sum[5], sum[6], sum[7]);
        }
    __syncthreads();
}
__device__ __forceinline__ float combined(const Row& r, int f) {
    float sum = 0.f;
#pragma unroll
    for (int part = 0; part < 2 * SLICES; ++part) sum += r.tiles[part * PADDED + f];
    return sum;
}

// passed = D^-1/2 Y0' t0 over the entries of weight 0, straight from global memory. Uses the tiles' place.
__device__ __forceinline__ void pass_unweighted(const Row& r, const stored* factors, const int* columns,
                                                const float* targets, int count) {
    const int slice = threadIdx.x / VECTORS;
    if (slice < SLICES)
        for (int v = threadIdx.x % VECTORS; v < VECTORS; v += THREADS) {
            float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
            if (v * 4 < STORED)
#pragma unroll 4
                for (int e = slice; e < count; e += SLICES) {
                    const float t = targets[e];
                    const float4 y = load4(factors + static_cast<long long>(columns[e]) * STORED + v * 4);
                    sum.x += t * y.x, sum.y += t * y.y, sum.z += t * y.z, sum.w += t * y.w;
                }
            *reinterpret_cast<float4*>(r.tiles + slice * PADDED + v * 4) = sum;
        }
    __syncthreads();
    for (int f = threadIdx.x; f < PADDED; f += THREADS) {
        float sum = 0.f;
#pragma unroll
        for (int part = 0; part < SLICES; ++part) sum += r.tiles[part * PADDED + f];
        r.passed[f] = r.root[f] * sum;
    }
    __syncthreads();
}

// rhs -= A passed / size
__device__ __forceinline__ void subtract_passed(const Row& r, float size) {
    for (int e = threadIdx.x; e < r.count; e += THREADS) {
        float sum = 0.f;
        for (int v = 0; v < VECTORS; ++v) {
            const uint4 raw = *reinterpret_cast<const uint4*>(r.a + e * PITCH + v * 4);
            const u32* pairs = &raw.x;
            const float4* from = reinterpret_cast<const float4*>(r.passed + v / 2 * 8);
            const float4 low = from[0], high = from[1];
            const float2 x0 = unpack_halves(pairs[0]), x1 = unpack_halves(pairs[1]);
            const float2 x2 = unpack_halves(pairs[2]), x3 = unpack_halves(pairs[3]);
            sum += x0.x * low.x + x0.y * low.y + x1.x * low.z + x1.y * low.w;
            sum += x2.x * high.x + x2.y * high.y + x3.x * high.z + x3.y * high.w;
        }
        r.rhs[e] -= sum / size;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
als_dual(const stored* __restrict__ factors, const long long* __restrict__ indptr, const int* __restrict__ weighted,
         const int* __restrict__ columns, const float* __restrict__ weights, const float* __restrict__ targets,
         const int* __restrict__ rows, const float* __restrict__ spectrum, const float* __restrict__ span,
         const float* __restrict__ regularization, stored* __restrict__ out, signed char* __restrict__ failed) {
    Row r;
    const int row = rows[blockIdx.x];
    const long long begin = indptr[row];
    r.count = weighted[row];
    const int passing = static_cast<int>(indptr[row + 1] - begin) - r.count;
    const int side = (r.count + 15) / 16;
    request_rows(r, factors, columns + begin);

    float heaviest = 0.f, widest = 0.f;
    for (int e = threadIdx.x; e < side * 16; e += THREADS) {
        const float w = e < r.count ? weights[begin + e] : 1.f, t = e < r.count ? targets[begin + e] : 0.f;
        const float h = sqrtf(w);
        r.scale[e] = h;
        r.rhs[e] = t / h;
        heaviest = fmaxf(heaviest, e < r.count ? h : 0.f);
    }
    for (int f = threadIdx.x; f < PADDED; f += THREADS) {
        r.root[f] = f < FACTORS ? 1.f / sqrtf(spectrum[f] + regularization[row]) : 0.f;
        r.passed[f] = 0.f;
        if (f < FACTORS) widest = fmaxf(widest, sqrtf(span[f]) * r.root[f]);
    }
    heaviest = warp_max(heaviest);
    widest = warp_max(widest);
    if (lane_index() == 0) {
        r.maxima[2 * warp_index()] = heaviest;
        r.maxima[2 * warp_index() + 1] = widest;
    }
    __syncthreads();
    for (int w = 0; w < num_warps(); ++w) {
        heaviest = fmaxf(heaviest, r.maxima[2 * w]);
        widest = fmaxf(widest, r.maxima[2 * w + 1]);
    }
    if (passing > 0) pass_unweighted(r, factors, columns + begin + r.count, targets + begin + r.count, passing);
    const float size = scale_to_range(heaviest * widest), inverse = 1.f / size;
    wait_copies<0>();
    split_rows(r, side * 16, size);
    __syncthreads();
    if (passing > 0) subtract_passed(r, size);
    assemble(r, side, inverse * inverse);
    if (side > 0 && !solve_in_place(r.tiles, r.rhs, side, r.count - (side - 1) * 16) && threadIdx.x == 0) failed[row] = 1;
    __syncthreads();
    combine(r, r.rhs);
    for (int f = threadIdx.x; f < STORED; f += THREADS)
        out[static_cast<long long>(row) * STORED + f] = to_stored(r.root[f] * (combined(r, f) * inverse + r.passed[f]));
}
