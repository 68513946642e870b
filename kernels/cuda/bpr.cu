// Bayesian personalised ranking (Rendle et al. 2009): one step per interaction and pass, against an item that the
// user has not seen. Negatives are sampled without rejection: a number r below (items - seen) is drawn, and a binary
// search in the user's ascending row finds the r-th unseen item (row[p] - p of them lie before row[p]). Rows must be
// strictly ascending. A user who has seen every item is skipped.
// Memory, with b bytes a factor: 4 f b + 4 bytes per interaction and the user's row once per run; the search reads
// from caches.
#include "descent.cuh"

__device__ __forceinline__ int unseen_item(const int* row, int count, int r) {
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) >> 1;
        if (row[middle] - middle <= r) low = middle + 1;
        else high = middle;
    }
    return r + low;
}

extern "C" __global__ void __launch_bounds__(256)
bpr_pass(stored* user_factors, stored* item_factors, const long long* __restrict__ indptr,
         const int* __restrict__ run_user, const long long* __restrict__ run_begin, const int* __restrict__ run_count,
         const int* __restrict__ run_part, float* __restrict__ parts, const int* __restrict__ items, int num_items, int num_runs, u32 stride, u32 offset, float rate,
         float regularization, u64 seed, u64 first_draw, int* __restrict__ num_correct) {
    const bool active = group_index() < num_runs;
    const int run = active ? run_index({num_runs, stride, offset}) : 0;
    const int user = run_user[run];
    const long long begin = run_begin[run], row = indptr[user];
    const int seen = static_cast<int>(indptr[user + 1] - row), unseen = num_items - seen;
    const int count = active && unseen > 0 ? run_count[run] : 0;
    Vector x = load_vector(user_factors, user);
    int correct = 0;
    const int steps = longest(count);
    for (int step = 0; step < steps; ++step) {
        const bool mine = step < count;
        const long long at = begin + (mine ? step : 0);
        const uint4 random = philox(seed, first_draw + static_cast<u64>(at));
        const int positive = items[at];
        const int negative = mine ? unseen_item(items + row, seen, static_cast<int>(__umulhi(random.x, static_cast<u32>(unseen)))) : positive;
        const Vector y = load_vector(item_factors, positive), z = load_vector(item_factors, negative);
        const float margin = group_dot(x, blend(1.f, y, -1.f, z));
        if (!mine) continue;
        const float step_size = rate / (1.f + __expf(margin)), keep = 1.f - rate * regularization;
        correct += margin > 0.f;
        store_vector(item_factors, positive, blend(keep, y, step_size, x), random.y);
        store_vector(item_factors, negative, blend(keep, z, -step_size, x), random.z);
        x = blend(keep, x, step_size, blend(1.f, y, -1.f, z));
    }
    if (!active) return;
    const int part = run_part[run];
    if (part >= 0) store_part(parts, part, x);
    else if (count > 0) store_vector(user_factors, user, x, static_cast<u32>(philox(seed ^ 1u, first_draw + static_cast<u64>(begin)).x));
    if (lane_in_group() == 0) num_correct[run] = correct;
}
