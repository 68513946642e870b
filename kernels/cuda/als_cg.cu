// ALS by a few conjugate-gradient steps, a row's factors gathered once and kept in shared memory for every pass.
//
// In the eigenbasis of the Gramian its product is a scaling, and an element is read from shared memory once per
// pass: a warp takes an interaction, its lanes hold factors lane, lane + 32, ... of every vector in registers, so
// both y.p and the sum of (w y.p) y come from one read. One block per row; CAPACITY is the largest row of its bin.
// Shared (floats): CAPACITY * PADDED + 2 CAPACITY + warps * PADDED. Plain CG is invariant under the rotation, so
// the iterates are those of the original basis.
#include "chip.cuh"

constexpr int OWN = PADDED / 32;  // factors of each lane

struct Row {
    const float *y, *weight, *target;
    float* sums;
    int count;
};

// to = sum over interactions of (shift_e - w_e y_e.p) y_e, where shift is the target or nothing.
template <bool WITH_TARGET> __device__ void pass(const Row& row, const float (&p)[OWN], float (&to)[OWN]) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) to[i] = 0.f;
    for (int e = warp_index(); e < row.count; e += num_warps()) {
        float y[OWN], partial = 0.f;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            y[i] = row.y[e * PADDED + i * 32 + lane_index()];
            partial += y[i] * p[i];
        }
        const float scale = (WITH_TARGET ? row.target[e] : 0.f) - row.weight[e] * warp_sum(partial);
#pragma unroll
        for (int i = 0; i < OWN; ++i) to[i] += scale * y[i];
    }
    if (num_warps() == 1) return;
#pragma unroll
    for (int i = 0; i < OWN; ++i) row.sums[warp_index() * PADDED + i * 32 + lane_index()] = to[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        to[i] = 0.f;
        for (int w = 0; w < num_warps(); ++w) to[i] += row.sums[w * PADDED + i * 32 + lane_index()];
    }
    __syncthreads();
}

__device__ float dot(const float (&a)[OWN], const float (&b)[OWN]) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < OWN; ++i) sum += a[i] * b[i];
    return warp_sum(sum);
}

extern "C" __global__ void __launch_bounds__(THREADS)
als_cg(const stored* __restrict__ factors, const long long* __restrict__ indptr, const int* __restrict__ columns,
       const float* __restrict__ weights, const float* __restrict__ targets, const int* __restrict__ rows,
       const float* __restrict__ spectrum, const float* __restrict__ regularization, stored* __restrict__ out,
       int steps) {
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
    float x[OWN], d[OWN], r[OWN], p[OWN], product[OWN];
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int f = i * 32 + lane_index();
        x[i] = f < STORED ? from_stored(to[f]) : 0.f;
        d[i] = f < FACTORS ? spectrum[f] + regularization[row] : 1.f;
    }
    wait_copies<0>();
    __syncthreads();

    const Row gathered{y, weight, target, target + CAPACITY, count};
    pass<true>(gathered, x, r);
#pragma unroll
    for (int i = 0; i < OWN; ++i) p[i] = r[i] = r[i] - d[i] * x[i];
    float squared = dot(r, r);
    for (int step = 0; step < steps && squared > 1e-20f; ++step) {
        pass<false>(gathered, p, product);  // minus the interactions' part of A p
#pragma unroll
        for (int i = 0; i < OWN; ++i) product[i] = d[i] * p[i] - product[i];
        const float alpha = squared / dot(p, product);
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            x[i] += alpha * p[i];
            r[i] -= alpha * product[i];
        }
        const float next = dot(r, r), beta = next / squared;
#pragma unroll
        for (int i = 0; i < OWN; ++i) p[i] = r[i] + beta * p[i];
        squared = next;
    }
    if (warp_index() == 0)
#pragma unroll
        for (int i = 0; i < OWN; ++i)
            if (i * 32 + lane_index() < STORED) to[i * 32 + lane_index()] = to_stored(x[i]);
}
