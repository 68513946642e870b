// out = in Q, both stored rows of factors, Q float32 [FACTORS, FACTORS]; a block rotates 64 rows, in place too.
// Each row is read and written once; the memory bandwidth limits the kernel, the products take a third of the time.
// Shared (floats): 64 (PADDED + 4) + PADDED * 72: three blocks a multiprocessor at 128 factors.
#include "tiles.cuh"

constexpr int ROWS = 64;
constexpr int COLUMNS = 64;
constexpr int PITCH = PADDED + 4;    // 4 mod 32: factors run along the product
constexpr int Q_PITCH = COLUMNS + 8;  // 8 mod 32: columns run along memory

extern "C" __global__ void __launch_bounds__(128, BLOCKS)
rotate(const stored* in, const float* __restrict__ rotation, stored* out, long long num_rows) {
    float* x = shared_floats();
    float* q = x + ROWS * PITCH;
    const long long first = static_cast<long long>(blockIdx.x) * ROWS;
    const int here = static_cast<int>(min(num_rows - first, static_cast<long long>(ROWS)));
    copy_rows<PITCH>(x, in + first * STORED, [&](int i) { return i; }, here, ROWS);
    const int row_base = (warp_index() >> 1) * 32, column_base = (warp_index() & 1) * 32;
    for (int base = 0; base < STORED; base += COLUMNS) {
        for (int i = threadIdx.x; i < PADDED * COLUMNS; i += blockDim.x) {
            const int k = i / COLUMNS, n = i % COLUMNS;
            q[k * Q_PITCH + n] = k < FACTORS && base + n < FACTORS ? rotation[k * FACTORS + base + n] : 0.f;
        }
        wait_copies<0>();
        __syncthreads();
        float c[2][4][4] = {};
        multiply<2, STORAGE == 16, false>(
            c, PADDED, [&](int m, int k) { return x[(row_base + m) * PITCH + k]; },
            [&](int n, int k) { return q[k * Q_PITCH + column_base + n]; });
        for_each_element<2>(c, [&](int m, int n, float& value) {
            const int row = row_base + m, column = base + column_base + n;
            if (row < here && column < STORED) out[(first + row) * STORED + column] = to_stored(value);
        });
        __syncthreads();
    }
}
