// Replaces the row of each user who has several runs by the mean of where these end (descent.cuh). A group of lanes a
// user. Memory: the parts once, a row out.
#include "descent.cuh"

extern "C" __global__ void __launch_bounds__(256)
merge_runs(stored* user_factors, float* user_bias, const float* __restrict__ parts, const float* __restrict__ part_bias,
           const int* __restrict__ users, const int* __restrict__ first_part, int num_users, u64 seed) {
    const int index = group_index();
    if (index >= num_users) return;
    const int first = first_part[index], last = first_part[index + 1];
    const float share = 1.f / static_cast<float>(last - first);
    Vector mean = {};
    float bias = 0.f;
    for (int part = first; part < last; ++part) {
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            const int quad = lane_in_group() + i * LANES;
            if (quad >= QUADS) continue;
            const float4 x = *reinterpret_cast<const float4*>(parts + static_cast<long long>(part) * STORED + quad * 4);
            mean.v[i].x += share * x.x, mean.v[i].y += share * x.y;
            mean.v[i].z += share * x.z, mean.v[i].w += share * x.w;
        }
        if (user_bias) bias += share * part_bias[part];
    }
    store_vector(user_factors, users[index], mean, philox(seed, static_cast<u64>(index)).x);
    if (user_bias && lane_in_group() == 0) user_bias[users[index]] = bias;
}
