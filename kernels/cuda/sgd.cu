// Matrix factorisation of explicit ratings by SGD: one pass over the runs. The prediction is
// mean + user bias + item bias + x.y; the loss is its squared error with L2 regularization of biases and factors.
// Memory, with b bytes a factor: 2 f b + 20 bytes per interaction (the item's row and bias in and out, its index and
// rating), and the user's row once per run. No shared memory; registers limit the groups that hide the latency.
#include "descent.cuh"

extern "C" __global__ void __launch_bounds__(256)
sgd_pass(stored* user_factors, stored* item_factors, float* user_bias, float* item_bias,
         const int* __restrict__ run_user, const long long* __restrict__ run_begin, const int* __restrict__ run_count,
         const int* __restrict__ run_part, float* __restrict__ parts, float* __restrict__ part_bias,
         const int* __restrict__ items, const float* __restrict__ ratings, int num_runs, u32 stride, u32 offset,
         float mean, float rate, float regularization, float bias_rate, float bias_regularization, u64 seed,
         float* __restrict__ squared_error) {
    const bool active = group_index() < num_runs;
    const int run = active ? run_index({num_runs, stride, offset}) : 0;
    const int user = run_user[run], count = active ? run_count[run] : 0;
    const long long begin = run_begin[run];
    Vector x = load_vector(user_factors, user);
    float own_bias = user_bias[user], total = 0.f;
    u32 random = static_cast<u32>(seed) ^ static_cast<u32>(begin) * 0x85ebca6bu;
    const int steps = longest(count);
    for (int step = 0; step < steps; ++step) {
        const bool mine = step < count;
        const int item = items[begin + (mine ? step : 0)];
        const Vector y = load_vector(item_factors, item);
        const float other_bias = load_fresh(item_bias + item);
        const float score = group_dot(x, y);
        if (!mine) continue;
        const float error = ratings[begin + step] - (mean + own_bias + other_bias + score);
        random = random * 1664525u + 1013904223u;
        store_vector(item_factors, item, blend(1.f - rate * regularization, y, rate * error, x), random);
        x = blend(1.f - rate * regularization, x, rate * error, y);
        if (lane_in_group() == 0)
            item_bias[item] = other_bias + bias_rate * (error - bias_regularization * other_bias);
        own_bias += bias_rate * (error - bias_regularization * own_bias);
        total += error * error;
    }
    if (!active) return;
    const int part = run_part[run];
    if (part >= 0) store_part(parts, part, x);
    else store_vector(user_factors, user, x, random * 1664525u + 1013904223u);
    if (lane_in_group() == 0) {
        if (part >= 0) part_bias[part] = own_bias;
        else user_bias[user] = own_bias;
        squared_error[run] = total;
    }
}
