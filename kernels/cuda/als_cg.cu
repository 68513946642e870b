// ALS by a few conjugate-gradient steps; a row's factors are gathered once and kept in shared memory for every step.
//
// In the eigenbasis the product with the Gramian is a scaling, and the preconditioner (the diagonal of a row's system)
// contains it exactly. Each element is read from shared memory once per step: a warp takes an interaction, and its
// lanes hold the factors lane, lane + 32, ... of every vector in registers, so that y.p and the sum of (w y.p) y need
// one read. One block per row; CAPACITY is the length of the longest row of its bin.
// Shared (floats): CAPACITY * PADDED + 2 CAPACITY + warps * PADDED.
#include "chip.cuh"

constexpr int OWN = PADDED / 32;  // factors of each lane

struct Row {
    const float *y, *weight, *target;
    float* sums;
    int count;
};

// Sums x over the warps; every warp gets the total.
__device__ void add_warps(const Row& row, float (&x)[OWN]) {
    if (num_warps() == 1) return;
#pragma unroll
    for (int i = 0; i < OWN; ++i) row.sums[warp_index() * PADDED + i * 32 + lane_index()] = x[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        x[i] = 0.f;
        for (int w = 0; w < num_warps(); ++w) x[i] += row.sums[w * PADDED + i * 32 + lane_index()];
    }
    __syncthreads();
}

// r = Y' (t - W Y x) and the diagonal of Y' W Y.
__device__ void start(const Row& row, const float (&x)[OWN], float (&r)[OWN], float (&diagonal)[OWN]) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) r[i] = diagonal[i] = 0.f;
    for (int e = warp_index(); e < row.count; e += num_warps()) {
        float y[OWN], partial = 0.f;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            y[i] = row.y[e * PADDED + i * 32 + lane_index()];
            partial += y[i] * x[i];
        }
        const float w = row.weight[e], scale = row.target[e] - w * warp_sum(partial);
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            r[i] += scale * y[i];
            diagonal[i] += w * y[i] * y[i];
        }
    }
    add_warps(row, r);
    add_warps(row, diagonal);
}

// to = Y' W Y p
__device__ void multiply(const Row& row, const float (&p)[OWN], float (&to)[OWN]) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) to[i] = 0.f;
    for (int e = warp_index(); e < row.count; e += num_warps()) {
        float y[OWN], partial = 0.f;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            y[i] = row.y[e * PADDED + i * 32 + lane_index()];
            partial += y[i] * p[i];
        }
        const float scale = row.weight[e] * warp_sum(partial);
#pragma unroll
        for (int i = 0; i < OWN; ++i) to[i] += scale * y[i];
    }
    add_warps(row, to);
}

__device__ float dot(const float (&a)[OWN], const float (&b)[OWN]) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < OWN; ++i) sum += a[i] * b[i];
    return warp_sum(sum);
}

__device__ float largest(const float (&a)[OWN]) {
    float most = 0.f;
#pragma unroll
    for (int i = 0; i < OWN; ++i) most = fmaxf(most, fabsf(a[i]));
    return warp_max(most);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
als_cg(const stored* __restrict__ factors, const long long* __restrict__ indptr, const int* __restrict__ columns,
       const float* __restrict__ weights, const float* __restrict__ targets, const int* __restrict__ rows,
       const float* __restrict__ spectrum, const float* __restrict__ regularization, stored* __restrict__ out,
       signed char* __restrict__ failed, int steps) {
    float* y = shared_floats();
    float* weight = y + CAPACITY * PADDED;
    float* target = weight + CAPACITY;
    const int row = rows[blockIdx.x];
    const long long begin = indptr[row];
    const int count = static_cast<int>(indptr[row + 1] - begin);
    gather_rows<PADDED>(y, factors, columns + begin, count, count);
    for (int e = threadIdx.x; e < count; e += blockDim.x) {
        weight[e] = weights[begin + e];
        target[e] = targets[begin + e];
    }
    stored* to = out + static_cast<long long>(row) * STORED;
    float x[OWN], d[OWN], jacobi[OWN], r[OWN], p[OWN], product[OWN];
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int f = i * 32 + lane_index();
        x[i] = f < STORED ? from_stored(to[f]) : 0.f;
        d[i] = f < FACTORS ? spectrum[f] + regularization[row] : 1.f;
    }
    wait_copies<0>();
    __syncthreads();

    const Row gathered{y, weight, target, target + CAPACITY, count};
    start(gathered, x, r, jacobi);
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        r[i] -= d[i] * x[i];
        jacobi[i] += d[i];
        jacobi[i] = jacobi[i] > 0.f ? 1.f / jacobi[i] : 1.f;
    }
    // Divided by the largest residual, no square overflows or underflows, at any scale of the targets.
    const float unit = largest(r);
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        r[i] = unit > 0.f ? r[i] / unit : r[i];
        p[i] = jacobi[i] * r[i];
    }
    float slope = dot(r, p);
    const float least = CG_TOLERANCE * slope;
    for (int step = 0; step < steps && slope > least; ++step) {
        multiply(gathered, p, product);
#pragma unroll
        for (int i = 0; i < OWN; ++i) product[i] += d[i] * p[i];
        const float curvature = dot(p, product);
        if (!(curvature > 0.f)) {
            if (threadIdx.x == 0) failed[row] = 1;
            break;
        }
        const float alpha = slope / curvature;
        float scaled[OWN];
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            x[i] += unit * alpha * p[i];
            r[i] -= alpha * product[i];
            scaled[i] = jacobi[i] * r[i];
        }
        const float before = slope;
        slope = dot(r, scaled);
#pragma unroll
        for (int i = 0; i < OWN; ++i) p[i] = scaled[i] + slope / before * p[i];
    }
    if (warp_index() == 0)
#pragma unroll
        for (int i = 0; i < OWN; ++i)
            if (i * 32 + lane_index() < STORED) to[i * 32 + lane_index()] = to_stored(x[i]);
}
