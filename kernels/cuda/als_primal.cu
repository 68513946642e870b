// ALS for a row with at least as many interactions as factors: A = D + Y' W Y on tensor cores, then a solve.
//
// Everything is in the eigenbasis of the Gramian, where D = w0 Lambda + lambda_u is diagonal: no dense Gramian
// is read per row. A warp holds TILES_PER_WARP tiles of 32x32 of A's lower half as accumulators; chunks of 32
// gathered rows stream through two shared buffers. Long rows are cut into segments whose partial matrices are
// summed in a fixed order, so that the result does not depend on timing.
// Shared (floats): the larger of two chunks (2 * 32 * (PADDED + 8)) and the tiles (36 KB at 128, 136 KB at 256),
// which take the chunks' place, + 4 * 32 + 5 PADDED.
#include "cholesky.cuh"

constexpr int CHUNK = 32;
constexpr int PITCH = PADDED + 8;  // 8 mod 32: no bank conflict where interactions run along a product
constexpr int SIDE = PADDED / 16;
constexpr int USED = (FACTORS + 15) / 16;  // tiles that are not all padding
constexpr int WIDE_TILES = num_lower_tiles(PADDED / 32);
constexpr int TILES_PER_WARP = (WIDE_TILES * 32 + THREADS - 1) / THREADS;
constexpr int TILE_FLOATS = num_lower_tiles(SIDE) * TILE;
constexpr int CHUNK_FLOATS = 2 * CHUNK * PITCH;
constexpr int PARTIAL = TILE_FLOATS + PADDED;  // what a segment leaves: its tiles and its right-hand side

struct Shared {
    float *tiles, *chunks, *weight, *target, *rhs, *x, *direction, *product, *scaled;
    __device__ Shared() {
        tiles = chunks = shared_floats();
        weight = tiles + (TILE_FLOATS > CHUNK_FLOATS ? TILE_FLOATS : CHUNK_FLOATS);
        target = weight + 2 * CHUNK;
        rhs = target + 2 * CHUNK;
        x = rhs + PADDED;
        direction = x + PADDED;
        product = direction + PADDED;
        scaled = product + PADDED;
    }
};

// tiles = Y' W Y and rhs = Y' t over the interactions [begin, end). Of a GRAMIAN every row is an interaction of weight 1.
template <bool GRAMIAN>
__device__ __forceinline__ void assemble(const Shared& s, const stored* factors, const int* columns, const float* weights,
                         const float* targets, long long begin, long long end) {
    float c[TILES_PER_WARP][2][4][4] = {};
    float sum = 0.f;
    const int chunks = static_cast<int>((end - begin + CHUNK - 1) / CHUNK);
    auto stage = [&](int chunk) {
        const long long first = begin + static_cast<long long>(chunk) * CHUNK;
        const int count = static_cast<int>(min(end - first, static_cast<long long>(CHUNK))), buffer = chunk & 1;
        copy_rows<PITCH>(s.chunks + buffer * CHUNK * PITCH, factors,
                         [&](int i) { return GRAMIAN ? static_cast<int>(first) + i : columns[first + i]; }, count, CHUNK);
        for (int e = threadIdx.x; e < CHUNK; e += blockDim.x) {
            s.weight[buffer * CHUNK + e] = e >= count ? 0.f : GRAMIAN ? 1.f : weights[first + e];
            s.target[buffer * CHUNK + e] = e >= count || GRAMIAN ? 0.f : targets[first + e];
        }
    };
    stage(0);
    for (int chunk = 0; chunk < chunks; ++chunk) {
        if (chunk + 1 < chunks) stage(chunk + 1);
        else commit_copies();  // an empty group, so that one stays in flight in the last round too
        wait_copies<1>();
        __syncthreads();
        const float* y = s.chunks + (chunk & 1) * CHUNK * PITCH;
        const float *w = s.weight + (chunk & 1) * CHUNK, *t = s.target + (chunk & 1) * CHUNK;
#pragma unroll
        for (int i = 0; i < TILES_PER_WARP; ++i) {
            const int index = i * num_warps() + warp_index();
            if (index >= WIDE_TILES) continue;
            const TileIndex at = lower_tile(index);
            multiply<2, false, STORAGE == 16>(
                c[i], CHUNK, [&](int m, int k) { return y[k * PITCH + at.i * 32 + m] * w[k]; },
                [&](int n, int k) { return y[k * PITCH + at.j * 32 + n]; });
        }
        if (!GRAMIAN && threadIdx.x < PADDED)
            for (int e = 0; e < CHUNK; ++e) sum += t[e] * y[e * PITCH + threadIdx.x];
        __syncthreads();
    }
    if (threadIdx.x < PADDED) s.rhs[threadIdx.x] = sum;
#pragma unroll
    for (int i = 0; i < TILES_PER_WARP; ++i) {
        const int index = i * num_warps() + warp_index();
        if (index >= WIDE_TILES) continue;
        const TileIndex at = lower_tile(index);
        for_each_element<2>(c[i], [&](int m, int n, float& x) {
            if ((at.i * 32 + m) >> 4 >= (at.j * 32 + n) >> 4) element_at(s.tiles, at.i * 32 + m, at.j * 32 + n) = x;
        });
    }
    __syncthreads();
}

// Every warp forms the same sum for itself: no barrier.
__device__ float dot(const float* a, const float* b) {
    float sum = 0.f;
    for (int f = lane_index(); f < PADDED; f += 32) sum += a[f] * b[f];
    return warp_sum(sum);
}

// `steps` of conjugate gradients on the assembled matrix from s.x, preconditioned by its diagonal; leaves the
// result in s.rhs. False if it met a direction of negative curvature.
__device__ bool conjugate_gradients(const Shared& s, int steps) {
    float *r = s.rhs, *p = s.direction, *scaled = s.scaled;
    auto apply = [&](const float* vector) {  // product = A vector
        for (int m = threadIdx.x; m < PADDED; m += blockDim.x) {
            float sum = 0.f;
            for (int n = 0; n < PADDED; ++n)
                sum += (n <= m ? element_at(s.tiles, m, n) : element_at(s.tiles, n, m)) * vector[n];
            s.product[m] = sum;
        }
        __syncthreads();
    };
    auto precondition = [&](int f) {
        const float diagonal = element_at(s.tiles, f, f);
        return diagonal > 0.f ? r[f] / diagonal : r[f];
    };
    apply(s.x);
    for (int f = threadIdx.x; f < PADDED; f += blockDim.x) {
        r[f] -= s.product[f];
        p[f] = precondition(f);
    }
    __syncthreads();
    float slope = dot(r, p);
    bool positive = true;
    for (int step = 0; step < steps && slope >= 1e-20f && positive; ++step) {
        apply(p);
        const float curvature = dot(p, s.product);
        positive = curvature > 0.f;
        const float alpha = positive ? slope / curvature : 0.f;
        for (int f = threadIdx.x; f < PADDED; f += blockDim.x) {
            s.x[f] += alpha * p[f];
            r[f] -= alpha * s.product[f];
            scaled[f] = precondition(f);
        }
        __syncthreads();
        const float next = dot(r, scaled);
        for (int f = threadIdx.x; f < PADDED; f += blockDim.x) p[f] = scaled[f] + next / slope * p[f];
        slope = next;
        __syncthreads();
    }
    for (int f = threadIdx.x; f < PADDED; f += blockDim.x) r[f] = s.x[f];
    __syncthreads();
    return positive;
}

// Adds D, solves (exactly when cg_steps is 0) and writes the row.
__device__ void finish_row(const Shared& s, int row, const float* spectrum, float regularization, int cg_steps,
                           stored* out, signed char* failed) {
    stored* to = out + static_cast<long long>(row) * STORED;
    for (int f = threadIdx.x; f < PADDED; f += blockDim.x) {
        element_at(s.tiles, f, f) += f < FACTORS ? spectrum[f] + regularization : 1.f;
        if (cg_steps > 0) s.x[f] = f < STORED ? from_stored(to[f]) : 0.f;
    }
    __syncthreads();
    const bool positive = cg_steps > 0 ? conjugate_gradients(s, cg_steps) : solve_in_place(s.tiles, s.rhs, USED, FACTORS - (USED - 1) * 16);
    if (!positive && threadIdx.x == 0) failed[row] = 1;
    for (int f = threadIdx.x; f < STORED; f += blockDim.x) to[f] = to_stored(s.rhs[f]);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
als_primal(const stored* __restrict__ factors, const long long* __restrict__ indptr, const int* __restrict__ columns,
           const float* __restrict__ weights, const float* __restrict__ targets, const int* __restrict__ rows,
           const float* __restrict__ spectrum, const float* __restrict__ regularization, stored* __restrict__ out,
           signed char* __restrict__ failed, int cg_steps) {
    const Shared s;
    const int row = rows[blockIdx.x];
    assemble<false>(s, factors, columns, weights, targets, indptr[row], indptr[row + 1]);
    finish_row(s, row, spectrum, regularization[row], cg_steps, out, failed);
}

__device__ __forceinline__ void keep_partial(const Shared& s, float* partial) {
    float* to = partial + static_cast<long long>(blockIdx.x) * PARTIAL;
    for (int i = threadIdx.x; i < TILE_FLOATS; i += blockDim.x) to[i] = s.tiles[i];
    for (int i = threadIdx.x; i < PADDED; i += blockDim.x) to[TILE_FLOATS + i] = s.rhs[i];
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
als_partial(const stored* __restrict__ factors, const int* __restrict__ columns, const float* __restrict__ weights,
            const float* __restrict__ targets, const long long* __restrict__ segments, float* __restrict__ partial) {
    const Shared s;
    assemble<false>(s, factors, columns, weights, targets, segments[2 * blockIdx.x], segments[2 * blockIdx.x + 1]);
    keep_partial(s, partial);
}

// Y' Y in as many parts as there are blocks.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
gramian_partial(const stored* __restrict__ factors, long long num_rows, float* __restrict__ partial) {
    const Shared s;
    assemble<true>(s, factors, nullptr, nullptr, nullptr, num_rows * blockIdx.x / gridDim.x,
                   num_rows * (blockIdx.x + 1) / gridDim.x);
    keep_partial(s, partial);
}

// Few rows are long: registers matter more here than how many blocks share a multiprocessor.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
als_finish(const float* __restrict__ partial, const int* __restrict__ rows, const int* __restrict__ first_segment,
           const float* __restrict__ spectrum, const float* __restrict__ regularization, stored* __restrict__ out,
           signed char* __restrict__ failed, int cg_steps) {
    const Shared s;
    const int row = rows[blockIdx.x], first = first_segment[blockIdx.x], last = first_segment[blockIdx.x + 1];
    for (int i = threadIdx.x; i < PARTIAL; i += blockDim.x) {
        float sum = 0.f;
        for (int segment = first; segment < last; ++segment)
            sum += partial[static_cast<long long>(segment) * PARTIAL + i];
        if (i < TILE_FLOATS) s.tiles[i] = sum;
        else s.rhs[i - TILE_FLOATS] = sum;
    }
    __syncthreads();
    finish_row(s, row, spectrum, regularization[row], cg_steps, out, failed);
}
