// Exact ALS for a row with fewer interactions than factors: a system of the row's own size (Woodbury).
//
// In the eigenbasis of the Gramian, D = w0 Lambda + lambda_u is diagonal, so with Y the row's gathered factors,
// w their weights, t their targets, h = sqrt(w), and t0 the targets of the entries of weight 0:
//     M = I + diag(h) Y D^-1 Y' diag(h),  z = h * M^-1 (t / h - h * Y D^-1 Y' t0),  x = D^-1 Y' (t0 + z)
// One block per row; CAPACITY is the largest row of its bin. Memory: each factor row is read once, into shared
// memory. Shared (floats): CAPACITY * (PADDED + 4) + tiles of CAPACITY + 3 CAPACITY + 2 PADDED.
#include "cholesky.cuh"

constexpr int PITCH = PADDED + 4;  // 4 mod 32: no bank conflict where factors run along a product
constexpr int SIDE = CAPACITY / 16;

// u = D^-1 Y' c: one thread per factor, neighbours in neighbouring banks.
__device__ void combine_rows(float* u, const float* y, const float* c, const float* inverse_d) {
    for (int f = threadIdx.x; f < PADDED; f += blockDim.x) {
        float sum = 0.f;
        for (int e = 0; e < CAPACITY; ++e) sum += c[e] * y[e * PITCH + f];
        u[f] = sum * inverse_d[f];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
als_dual(const stored* __restrict__ factors, const long long* __restrict__ indptr, const int* __restrict__ columns,
         const float* __restrict__ weights, const float* __restrict__ targets, const int* __restrict__ rows,
         const float* __restrict__ spectrum, const float* __restrict__ regularization, stored* __restrict__ out,
         signed char* __restrict__ failed) {
    float* y = shared_floats();
    float* tiles = y + CAPACITY * PITCH;
    float* root = tiles + num_lower_tiles(SIDE) * TILE;
    float* target = root + CAPACITY;
    float* rhs = target + CAPACITY;
    float* inverse_d = rhs + CAPACITY;
    float* u = inverse_d + PADDED;

    const int row = rows[blockIdx.x];
    const long long begin = indptr[row];
    const int count = static_cast<int>(indptr[row + 1] - begin);
    gather_rows<PITCH>(y, factors, columns + begin, count, CAPACITY);
    for (int e = threadIdx.x; e < CAPACITY; e += blockDim.x) {
        const float h = e < count ? sqrtf(weights[begin + e]) : 0.f, t = e < count ? targets[begin + e] : 0.f;
        root[e] = h;
        target[e] = h > 0.f ? 0.f : t;  // t0
        rhs[e] = h > 0.f ? t / h : 0.f;
    }
    for (int f = threadIdx.x; f < PADDED; f += blockDim.x)
        inverse_d[f] = f < FACTORS ? 1.f / (spectrum[f] + regularization[row]) : 0.f;
    wait_copies<0>();
    __syncthreads();

    combine_rows(u, y, target, inverse_d);
    for (int index = warp_index(); index < num_lower_tiles(SIDE); index += num_warps()) {
        const TileIndex at = lower_tile(index);
        const float *a = y + at.i * 16 * PITCH, *b = y + at.j * 16 * PITCH;
        float c[1][2][4] = {};
        multiply<1, false, STORAGE == 16>(
            c, PADDED, [&](int m, int k) { return a[m * PITCH + k] * inverse_d[k]; },
            [&](int n, int k) { return b[n * PITCH + k]; });
        float* to = tiles + index * TILE;
        for_each_element<1>(c, [&](int m, int n, float& x) {
            const int i = at.i * 16 + m, j = at.j * 16 + n;
            to[in_tile(m, n)] = (i == j ? 1.f : 0.f) + root[i] * x * root[j];
        });
    }
    __syncthreads();
    for (int e = threadIdx.x; e < CAPACITY; e += blockDim.x) {  // rhs -= h * Y u
        float sum = 0.f;
        for (int f = 0; f < PADDED; f += 4) {
            const float4 p = *reinterpret_cast<const float4*>(y + e * PITCH + f);
            const float4 q = *reinterpret_cast<const float4*>(u + f);
            sum += p.x * q.x + p.y * q.y + p.z * q.z + p.w * q.w;
        }
        rhs[e] -= root[e] * sum;
    }
    if (!solve_in_place<SIDE>(tiles, rhs) && threadIdx.x == 0) failed[row] = 1;
    for (int e = threadIdx.x; e < CAPACITY; e += blockDim.x) rhs[e] = target[e] + root[e] * rhs[e];
    __syncthreads();
    combine_rows(u, y, rhs, inverse_d);  // each thread then stores the factors that it formed
    for (int f = threadIdx.x; f < STORED; f += blockDim.x)
        out[static_cast<long long>(row) * STORED + f] = to_stored(u[f]);
}
