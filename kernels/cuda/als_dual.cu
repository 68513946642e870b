// Exact ALS for a row with fewer interactions than factors: a system of the row's own size (Woodbury).
//
// In the eigenbasis of the Gramian, D = w0 Lambda + lambda_u is diagonal. With w the weights and t the targets of the
// row's entries, Y their gathered factors, h = sqrt(w) (1 where w is 0) and A = diag(h) Y D^-1/2:
//     M = I + A A' (the entries of weight 0 masked),  z = M^-1 (t / h - A A' t0),  x = D^-1/2 A' (z + t0)
// where t0 are the targets of the entries of weight 0 and t / h those of the others. One block per row; CAPACITY is
// the length of the longest row of its bin. Memory: each row of factors is read once into shared memory, where A
// replaces it as pairs of halves (half_pairs.cuh) scaled by a power of two. Nothing else is read.
// Shared (floats): CAPACITY (PADDED + 4), then the larger of the tiles of CAPACITY and 2 SLICES PADDED, then
// 4 CAPACITY + PADDED + 2 warps.
#include "cholesky.cuh"
#include "half_pairs.cuh"

constexpr int PITCH = PADDED + 4;  // 4 mod 32: no bank conflict where factors run along a product
constexpr int GROUPS = PADDED / 8;
constexpr int VECTORS = PADDED / 4;  // 16-byte loads of a row
constexpr int SLICES = THREADS > VECTORS ? THREADS / VECTORS : 1;
constexpr int TILE_FLOATS = num_lower_tiles(CAPACITY / 16) * TILE;
constexpr int PARTS = 2 * SLICES * PADDED;

struct Row {
    float *a, *tiles, *scale, *mask, *unweighted, *rhs, *root, *maxima;
    int count;
    __device__ Row() {
        a = shared_floats();
        tiles = a + CAPACITY * PITCH;
        scale = tiles + (TILE_FLOATS > PARTS ? TILE_FLOATS : PARTS);
        mask = scale + CAPACITY;
        unweighted = mask + CAPACITY;
        rhs = unweighted + CAPACITY;
        root = rhs + CAPACITY;
        maxima = root + PADDED;
    }
};

__device__ __forceinline__ void request_rows(const Row& r, const stored* factors, const int* columns) {
    for (int i = threadIdx.x; i < r.count * GROUPS; i += blockDim.x) {
        const int group = i % GROUPS;
        if (group * 8 >= STORED) continue;
        request_eight(r.a + i / GROUPS * PITCH + group * 8,
                      factors + static_cast<long long>(columns[i / GROUPS]) * STORED + group * 8);
    }
    commit_copies();
}
__device__ __forceinline__ void split_rows(const Row& r, int rows, float size) {
    for (int i = threadIdx.x; i < rows * GROUPS; i += blockDim.x) {
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

// tiles = I + mask A A' mask / size^2; a warp computes 2x2 tiles at a time.
__device__ __forceinline__ void assemble(const Row& r, int side, float unscale) {
    for (int index = warp_index(); index < num_lower_tiles((side + 1) / 2); index += num_warps()) {
        const TileIndex at = lower_tile(index);
        float c[2][2][2][4] = {};
#pragma unroll 1
        for (int k = 0; k < PADDED; k += 16) {
            Pairs a[2];
#pragma unroll
            for (int m = 0; m < 2; ++m)
                if (2 * at.i + m < side) a[m] = load_pairs<PITCH, false>(r.a + (2 * at.i + m) * 16 * PITCH + k);
#pragma unroll
            for (int n = 0; n < 2; ++n) {
                Pairs b = a[n];
                if (at.i != at.j) b = load_pairs<PITCH, false>(r.a + (2 * at.j + n) * 16 * PITCH + k);
                const bool wanted[2] = {2 * at.i >= 2 * at.j + n, 2 * at.i + 1 < side};
                // product after product, so that neighbouring instructions do not wait for each other's sums
#pragma unroll
                for (int m = 0; m < 2; ++m)
                    if (wanted[m]) multiply_pairs<0>(c[m][n], a[m], b);
#pragma unroll
                for (int m = 0; m < 2; ++m)
                    if (wanted[m]) multiply_pairs<1>(c[m][n], a[m], b);
#pragma unroll
                for (int m = 0; m < 2; ++m)
                    if (wanted[m]) multiply_pairs<2>(c[m][n], a[m], b);
            }
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
                    const float masked = r.mask[row * 16 + i] * r.mask[column * 16 + j] * unscale * value;
                    to[in_tile(i, j)] = (row == column && i == j ? 1.f : 0.f) + masked;
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

// rhs -= A A' t0 / size^2, needed only if an entry of weight 0 has a target.
__device__ void subtract_unweighted(const Row& r, float unscale) {
    combine(r, r.unweighted);
    for (int e = threadIdx.x; e < r.count; e += blockDim.x) {
        float sum = 0.f;
        for (int v = 0; v < VECTORS; ++v) {
            const uint4 raw = *reinterpret_cast<const uint4*>(r.a + e * PITCH + v * 4);
            const u32* pairs = &raw.x;
            for (int i = 0; i < 4; ++i) {
                const float2 x = unpack_halves(pairs[i]);
                sum += x.x * combined(r, v / 2 * 8 + 2 * i) + x.y * combined(r, v / 2 * 8 + 2 * i + 1);
            }
        }
        r.rhs[e] -= r.mask[e] * unscale * sum;
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
als_dual(const stored* __restrict__ factors, const long long* __restrict__ indptr, const int* __restrict__ columns,
         const float* __restrict__ weights, const float* __restrict__ targets, const int* __restrict__ rows,
         const float* __restrict__ spectrum, const float* __restrict__ span, const float* __restrict__ regularization,
         stored* __restrict__ out, signed char* __restrict__ failed) {
    Row r;
    const int row = rows[blockIdx.x];
    const long long begin = indptr[row];
    r.count = static_cast<int>(indptr[row + 1] - begin);
    const int side = (r.count + 15) / 16;
    request_rows(r, factors, columns + begin);

    float heaviest = 0.f, widest = 0.f;
    bool any_unweighted = false;
    for (int e = threadIdx.x; e < side * 16; e += blockDim.x) {
        const float w = e < r.count ? weights[begin + e] : 0.f, t = e < r.count ? targets[begin + e] : 0.f;
        const float h = w > 0.f ? sqrtf(w) : 1.f;
        r.scale[e] = h;
        r.mask[e] = w > 0.f ? 1.f : 0.f;
        r.unweighted[e] = w > 0.f ? 0.f : t;
        r.rhs[e] = w > 0.f ? t / h : 0.f;
        any_unweighted |= r.unweighted[e] != 0.f;
        heaviest = fmaxf(heaviest, h);
    }
    for (int f = threadIdx.x; f < PADDED; f += blockDim.x) {
        r.root[f] = f < FACTORS ? 1.f / sqrtf(spectrum[f] + regularization[row]) : 0.f;
        if (f < FACTORS) widest = fmaxf(widest, sqrtf(span[f]) * r.root[f]);
    }
    heaviest = warp_max(heaviest);
    widest = warp_max(widest);
    if (lane_index() == 0) {
        r.maxima[2 * warp_index()] = heaviest;
        r.maxima[2 * warp_index() + 1] = widest;
    }
    any_unweighted = __syncthreads_or(any_unweighted);
    for (int w = 0; w < num_warps(); ++w) {
        heaviest = fmaxf(heaviest, r.maxima[2 * w]);
        widest = fmaxf(widest, r.maxima[2 * w + 1]);
    }
    const float size = scale_to_range(heaviest * widest), unscale = 1.f / size / size;
    wait_copies<0>();
    split_rows(r, side * 16, size);
    __syncthreads();
    if (any_unweighted) subtract_unweighted(r, unscale);
    assemble(r, side, unscale);
    if (!solve_in_place(r.tiles, r.rhs, side, r.count - (side - 1) * 16) && threadIdx.x == 0) failed[row] = 1;
    for (int e = threadIdx.x; e < r.count; e += blockDim.x) r.rhs[e] += r.unweighted[e];
    __syncthreads();
    combine(r, r.rhs);
    for (int f = threadIdx.x; f < STORED; f += blockDim.x)
        out[static_cast<long long>(row) * STORED + f] = to_stored(combined(r, f) * r.root[f] / size);
}
