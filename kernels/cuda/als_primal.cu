// ALS for a row with at least as many interactions as factors: A = D + Y' W Y on tensor cores, then a solve.
//
// Everything is in the eigenbasis of the Gramian, where D = w0 Lambda + lambda_u is diagonal: no dense Gramian
// is read per row. A warp holds TILES_PER_WARP tiles of 32x32 of A's lower triangle as accumulators; chunks of 32
// gathered rows, scaled by sqrt(|w|), pass through two shared buffers as pairs of halves. The thread that requests
// eight factors of a row also splits them and adds their part of Y' t, in float32; one barrier per chunk. Long rows
// are cut into segments whose partial matrices are summed in a fixed order, so that the result does not depend on
// timing. Shared (floats): the larger of two chunks (2 * 32 * (PADDED + 4)) and the tiles (36 KB at 128, 136 KB at
// 256), which use the same memory in turn, + 32 + 2 warps (rounded up to 4) + 5 PADDED.
#include "cholesky.cuh"
#include "half_pairs.cuh"

constexpr int CHUNK = 32;
constexpr int PITCH = PADDED + 4;
constexpr int GROUPS = PADDED / 8;
constexpr int SIDE = PADDED / 16;
constexpr int USED = (FACTORS + 15) / 16;  // tiles that are not all padding
constexpr int WIDE_TILES = num_lower_tiles(PADDED / 32);
constexpr int TILES_PER_WARP = (WIDE_TILES * 32 + THREADS - 1) / THREADS;
constexpr int NUM_WARPS = THREADS / 32;
constexpr int TILE_FLOATS = num_lower_tiles(SIDE) * TILE;
constexpr int STRIDE = THREADS / GROUPS;  // entries that the threads read at once, eight factors each
constexpr int PASSES = (CHUNK + STRIDE - 1) / STRIDE;
constexpr int PARTIAL = TILE_FLOATS + PADDED;  // the result of a segment: its tiles and its right-hand side

struct Shared {
    float *tiles, *chunks, *most, *rhs, *x, *direction, *product, *scaled;
    unsigned short* signs;  // of the weights of two chunks, as the sign bit of a half
    __device__ Shared() {
        tiles = chunks = shared_floats();
        float* rest = tiles + (TILE_FLOATS > 2 * CHUNK * PITCH ? TILE_FLOATS : 2 * CHUNK * PITCH);
        signs = reinterpret_cast<unsigned short*>(rest);
        most = rest + CHUNK;
        rhs = most + (2 * (THREADS / 32) + 3) / 4 * 4;
        x = rhs + PADDED;
        direction = x + PADDED;
        product = direction + PADDED;
        scaled = product + PADDED;
    }
};

struct Entries {
    const stored* factors;
    const int* columns;
    const float *weights, *targets;
    int count, weighted;  // entries of weight 0 come last
};

// Returns the scale of the halves, a power of two, the same in all threads.
__device__ __forceinline__ float measure(const Shared& s, const Entries& row, const float* span) {
    float heaviest = 0.f, widest = 0.f;
    for (int e = threadIdx.x; e < row.weighted; e += THREADS) heaviest = fmaxf(heaviest, fabsf(row.weights[e]));
    for (int f = threadIdx.x; f < FACTORS; f += THREADS) widest = fmaxf(widest, span[f]);
    heaviest = warp_max(heaviest);
    widest = warp_max(widest);
    if (lane_index() == 0) {
        s.most[2 * warp_index()] = heaviest;
        s.most[2 * warp_index() + 1] = widest;
    }
    __syncthreads();
    for (int w = 0; w < num_warps(); ++w) {
        heaviest = fmaxf(heaviest, s.most[2 * w]);
        widest = fmaxf(widest, s.most[2 * w + 1]);
    }
    return scale_to_range(sqrtf(heaviest) * sqrtf(widest));
}

// c += Y' W Y over a chunk, for the 32x32 tile whose left and right factors begin at `left` and `right`. Where weights
// may be negative (SIGNED), the left factors get the sign of their weight.
__device__ __forceinline__ void multiply_chunk(float (&c)[2][2][2][4], const float* left, const float* right,
                                               const unsigned short* signs) {
#pragma unroll(TILES_PER_WARP == 1 && !SIGNED ? 2 : 1)  // as far as registers go
    for (int k = 0; k < CHUNK; k += 16) {
        Pairs a[2];
#pragma unroll
        for (int m = 0; m < 2; ++m) {
            a[m] = load_pairs<PITCH, true, false>(left + k * PITCH + m * 16);
            if (SIGNED)
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const u32 flip = reinterpret_cast<const u32*>(signs + k)[(lane_index() & 3) + i / 2 * 4];
                    a[m].high[i] ^= flip;
                    a[m].low[i] ^= flip;
                }
        }
#pragma unroll
        for (int n = 0; n < 2; ++n) {  // one right operand at a time: there are no more registers
            const Pairs b = load_pairs<PITCH, true, true>(right + k * PITCH + n * 16);
#pragma unroll
            for (int m = 0; m < 2; ++m) multiply_pairs<0>(c[m][n], a[m], b);
#pragma unroll
            for (int m = 0; m < 2; ++m) multiply_pairs<1>(c[m][n], a[m], b);
#pragma unroll
            for (int m = 0; m < 2; ++m) multiply_pairs<2>(c[m][n], a[m], b);
        }
    }
}

// tiles = Y' W Y and rhs = Y' t.
__device__ __forceinline__ void assemble(const Shared& s, const Entries& row, const float* span) {
    const float size = measure(s, row, span), inverse = 1.f / size;
    float c[TILES_PER_WARP][2][2][2][4] = {}, sum[8] = {};
    float weight[PASSES], target[PASSES];
    int column[PASSES];  // one chunk ahead, so that a request does not wait for them
    const int group = threadIdx.x % GROUPS;  // the same in every pass and chunk
    auto entry = [&](int pass) { return static_cast<int>(threadIdx.x) / GROUPS + pass * STRIDE; };
    auto mine = [&](int pass) { return threadIdx.x < STRIDE * GROUPS && entry(pass) < CHUNK; };
    const int chunks = (row.count + CHUNK - 1) / CHUNK;
    auto inside = [&](int pass, int chunk) { return mine(pass) && chunk * CHUNK + entry(pass) < row.count; };
    auto read_columns = [&](int chunk) {
#pragma unroll
        for (int p = 0; p < PASSES; ++p)
            if (inside(p, chunk)) column[p] = row.columns[chunk * CHUNK + entry(p)];
    };
    auto request = [&](int chunk) {
#pragma unroll
        for (int p = 0; p < PASSES; ++p) {
            const int e = entry(p);
            const bool is_inside = inside(p, chunk);
            if (is_inside && group * 8 < STORED)
                request_eight(s.chunks + ((chunk & 1) * CHUNK + e) * PITCH + group * 8,
                              row.factors + static_cast<long long>(column[p]) * STORED + group * 8);
            weight[p] = is_inside ? row.weights[chunk * CHUNK + e] : 0.f;
            target[p] = is_inside ? row.targets[chunk * CHUNK + e] : 0.f;
        }
        commit_copies();
        read_columns(chunk + 1);
    };
    const int warp = warp_index();
    u32 place[TILES_PER_WARP];  // of the left factors of a tile, and of the right ones above it: registers are scarce
#pragma unroll
    for (int i = 0; i < TILES_PER_WARP; ++i) {
        const TileIndex at = lower_tile(min(i * NUM_WARPS + warp, WIDE_TILES - 1));
        place[i] = at.i * 32u | at.j * 32u << 16;
    }
    // Adds the part of Y' t of the entries that have arrived, whose factors are passed on to `use`.
    auto read_chunk = [&](int chunk, auto use) {
        wait_copies<0>();
#pragma unroll
        for (int p = 0; p < PASSES; ++p) {
            if (!mine(p)) continue;
            float* from = s.chunks + ((chunk & 1) * CHUNK + entry(p)) * PITCH + group * 8;
            float x[8] = {};
            if (chunk * CHUNK + entry(p) < row.count && group * 8 < STORED) read_eight(x, from);
#pragma unroll
            for (int f = 0; f < 8; ++f) sum[f] += target[p] * x[f];
            use(p, from, x);
        }
    };
    const int products = (row.weighted + CHUNK - 1) / CHUNK;  // later chunks have no weight
    read_columns(0);
    request(0);
    int chunk = 0;
    for (; chunk < products; ++chunk) {
        unsigned short* signs = s.signs + (chunk & 1) * CHUNK;
        read_chunk(chunk, [&](int p, float* place, float (&x)[8]) {
            const float scale = sqrtf(fabsf(weight[p])) * size;
#pragma unroll
            for (int f = 0; f < 8; ++f) x[f] *= scale;
            store_pairs(place, x);
            if (SIGNED && group == 0) signs[entry(p)] = weight[p] < 0.f ? 0x8000 : 0;
        });
        __syncthreads();  // also: every warp has finished with the other buffer
        if (chunk + 1 < chunks) request(chunk + 1);
        const float* y = s.chunks + (chunk & 1) * CHUNK * PITCH;
#pragma unroll
        for (int i = 0; i < TILES_PER_WARP; ++i) {
            // known to the compiler where every warp has a tile
            if ((i + 1) * NUM_WARPS > WIDE_TILES && i * NUM_WARPS + warp >= WIDE_TILES) continue;
            multiply_chunk(c[i], y + (place[i] & 0xffffu), y + (place[i] >> 16), signs);
        }
    }
    __syncthreads();  // the last products are done, and each thread reads back what it requested itself
    for (; chunk < chunks; ++chunk) {
        read_chunk(chunk, [](int, float*, float (&)[8]) {});
        if (chunk + 1 < chunks) request(chunk + 1);
    }
    __syncthreads();
    if (mine(0))
#pragma unroll
        for (int f = 0; f < 8; ++f) s.chunks[entry(0) * PADDED + group * 8 + f] = sum[f];
    __syncthreads();
    for (int f = threadIdx.x; f < PADDED; f += THREADS) {
        float total = 0.f;
        for (int e = 0; e < STRIDE; ++e) total += s.chunks[e * PADDED + f];
        s.rhs[f] = total;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TILES_PER_WARP; ++i) {
        const int index = i * num_warps() + warp_index();
        if (index >= WIDE_TILES) continue;
        const TileIndex at = lower_tile(index);
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int n = 0; n < 2; ++n) {
                if (2 * at.i + m < 2 * at.j + n) continue;
                float* to = tile_at(s.tiles, 2 * at.i + m, 2 * at.j + n);
                float (&x)[1][2][4] = reinterpret_cast<float (&)[1][2][4]>(c[i][m][n]);
                for_each_element<1>(x, [&](int row, int column, float& value) {
                    to[in_tile(row, column)] = value * inverse * inverse;
                });
            }
    }
    __syncthreads();
}

// Every warp computes the same sum, so that no barrier is needed.
__device__ float dot(const float* a, const float* b) {
    float sum = 0.f;
    for (int f = lane_index(); f < PADDED; f += 32) sum += a[f] * b[f];
    return warp_sum(sum);
}

__device__ float largest(const float* a) {
    float most = 0.f;
    for (int f = lane_index(); f < PADDED; f += 32) most = fmaxf(most, fabsf(a[f]));
    return warp_max(most);
}

// Takes `steps` conjugate-gradient steps on the assembled matrix from s.x, preconditioned by its diagonal, and writes
// the result to s.rhs. Returns false if it finds a direction of negative curvature.
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
    }
    __syncthreads();
    // Divided by the largest residual, no square overflows or underflows, at any scale of the targets.
    const float unit = largest(r);
    __syncthreads();
    for (int f = threadIdx.x; f < PADDED; f += blockDim.x) {
        r[f] = unit > 0.f ? r[f] / unit : r[f];
        p[f] = precondition(f);
    }
    __syncthreads();
    float slope = dot(r, p);
    __syncthreads();  // a warp that takes no step overwrites r
    const float least = CG_TOLERANCE * slope;
    bool positive = true;
    for (int step = 0; step < steps && slope > least && positive; ++step) {
        apply(p);
        const float curvature = dot(p, s.product);
        positive = curvature > 0.f;
        const float alpha = positive ? slope / curvature : 0.f;
        for (int f = threadIdx.x; f < PADDED; f += blockDim.x) {
            s.x[f] += unit * alpha * p[f];
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
als_primal(const stored* __restrict__ factors, const long long* __restrict__ indptr, const int* __restrict__ weighted,
           const int* __restrict__ columns, const float* __restrict__ weights, const float* __restrict__ targets,
           const int* __restrict__ rows,
           const float* __restrict__ spectrum, const float* __restrict__ span, const float* __restrict__ regularization,
           stored* __restrict__ out, signed char* __restrict__ failed, int cg_steps) {
    const Shared s;
    const int row = rows[blockIdx.x];
    const long long begin = indptr[row];
    assemble(s, {factors, columns + begin, weights + begin, targets + begin, static_cast<int>(indptr[row + 1] - begin), weighted[row]}, span);
    finish_row(s, row, spectrum, regularization[row], cg_steps, out, failed);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
als_partial(const stored* __restrict__ factors, const int* __restrict__ columns, const float* __restrict__ weights,
            const float* __restrict__ targets, const float* __restrict__ span, const long long* __restrict__ segments,
            const int* __restrict__ weighted, float* __restrict__ partial) {
    const Shared s;
    const long long begin = segments[2 * blockIdx.x], end = segments[2 * blockIdx.x + 1];
    assemble(s, {factors, columns + begin, weights + begin, targets + begin, static_cast<int>(end - begin), weighted[blockIdx.x]}, span);
    float* to = partial + static_cast<long long>(blockIdx.x) * PARTIAL;
    for (int i = threadIdx.x; i < TILE_FLOATS; i += blockDim.x) to[i] = s.tiles[i];
    for (int i = threadIdx.x; i < PADDED; i += blockDim.x) to[TILE_FLOATS + i] = s.rhs[i];
}

// Few rows are long, so registers matter more here than the number of blocks per multiprocessor.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
als_finish(const float* __restrict__ partial, const int* __restrict__ rows, const int* __restrict__ first_segment,
           const float* __restrict__ spectrum, const float* __restrict__ regularization, stored* __restrict__ out,
           signed char* __restrict__ failed, int cg_steps) {
    const Shared s;
    const int row = rows[blockIdx.x], first = first_segment[blockIdx.x], last = first_segment[blockIdx.x + 1];
    for (int i = threadIdx.x; i < PARTIAL / 4; i += blockDim.x) {
        const float4* from = reinterpret_cast<const float4*>(partial) + static_cast<long long>(first) * (PARTIAL / 4) + i;
        float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 8  // loads under way at once; the sums keep their order
        for (int segment = first; segment < last; ++segment, from += PARTIAL / 4) {
            const float4 x = *from;
            sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
        }
        float* to = 4 * i < TILE_FLOATS ? s.tiles + 4 * i : s.rhs + (4 * i - TILE_FLOATS);
        *reinterpret_cast<float4*>(to) = sum;
    }
    __syncthreads();
    finish_row(s, row, spectrum, regularization[row], cg_steps, out, failed);
}
