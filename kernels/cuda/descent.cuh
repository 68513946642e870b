// Stochastic gradient descent over runs: a run is up to 512 consecutive interactions of one user, processed in
// order by a group of lanes that keeps the user's factors in registers. A user is read and written once per run. A user
// of more interactions has several runs, which all begin at the user's row; `merge_runs` replaces it by the mean of
// where they end (Zinkevich et al. 2010), so that no run is lost. Only items are shared between groups: written without
// atomics (Hogwild, Recht et al. 2011), so on a GPU the result depends on timing where two groups meet on one item.
//
// A group has as many lanes as a row has 16-byte loads, at most a warp: small rows share a warp. Runs are taken
// in a new order every epoch: index * stride + offset, modulo their number, with a stride coprime to it.
#pragma once
#include "random.cuh"

constexpr int QUADS = STORED / 4;
constexpr int LANES = QUADS >= 32 ? 32 : QUADS > 16 ? 32 : QUADS > 8 ? 16 : QUADS > 4 ? 8 : QUADS > 2 ? 4 : 2;
constexpr int OWN = (QUADS + LANES - 1) / LANES;  // loads of each lane

struct Vector { float4 v[OWN]; };
struct Run { int user, count; long long begin; };

__device__ __forceinline__ int lane_in_group() { return static_cast<int>(threadIdx.x) & (LANES - 1); }

__device__ __forceinline__ Vector load_vector(const stored* factors, int row) {
    Vector x;
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int quad = lane_in_group() + i * LANES;
        x.v[i] = quad < QUADS ? load4_fresh(factors + static_cast<long long>(row) * STORED + quad * 4)
                              : make_float4(0.f, 0.f, 0.f, 0.f);
    }
    return x;
}

__device__ __forceinline__ void store_vector(stored* factors, int row, Vector x, u32 random) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int quad = lane_in_group() + i * LANES;
        if (quad >= QUADS) continue;
#if STORAGE == 16
        const u32 bits = (random ^ static_cast<u32>(quad)) * 0x9e3779b1u;  // the high bits of a product mix best
        x.v[i] = make_float4(round_randomly(x.v[i].x, bits >> 16), round_randomly(x.v[i].y, bits >> 11),
                             round_randomly(x.v[i].z, bits >> 6), round_randomly(x.v[i].w, bits >> 1));
#endif
        store4(factors + static_cast<long long>(row) * STORED + quad * 4, x.v[i]);
    }
}

// A row of float32, of a run that is merged with others.
__device__ __forceinline__ void store_part(float* parts, int part, const Vector& x) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int quad = lane_in_group() + i * LANES;
        if (quad < QUADS) *reinterpret_cast<float4*>(parts + static_cast<long long>(part) * STORED + quad * 4) = x.v[i];
    }
}

// The dot product over a group; every lane of the warp must call it.
__device__ __forceinline__ float group_dot(const Vector& a, const Vector& b) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < OWN; ++i)
        sum += a.v[i].x * b.v[i].x + a.v[i].y * b.v[i].y + a.v[i].z * b.v[i].z + a.v[i].w * b.v[i].w;
#pragma unroll
    for (int bits = LANES / 2; bits > 0; bits >>= 1) sum += __shfl_xor_sync(ALL_LANES, sum, bits);
    return sum;
}

// a * x + b * y
__device__ __forceinline__ Vector blend(float a, const Vector& x, float b, const Vector& y) {
    Vector out;
#pragma unroll
    for (int i = 0; i < OWN; ++i)
        out.v[i] = make_float4(a * x.v[i].x + b * y.v[i].x, a * x.v[i].y + b * y.v[i].y,
                               a * x.v[i].z + b * y.v[i].z, a * x.v[i].w + b * y.v[i].w);
    return out;
}

struct Order { int num_runs; u32 stride, offset; };
__device__ __forceinline__ int group_index() {
    return static_cast<int>(blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES);
}
__device__ __forceinline__ int run_index(const Order& order) {
    const u64 n = static_cast<u64>(order.num_runs);
    return static_cast<int>((static_cast<u64>(group_index()) * order.stride + order.offset) % n);
}
// The length of the longest run of the warp, so that its groups take equally many steps.
__device__ __forceinline__ int longest(int count) {
#pragma unroll
    for (int bits = 16; bits > 0; bits >>= 1) count = max(count, __shfl_xor_sync(ALL_LANES, count, bits));
    return count;
}
