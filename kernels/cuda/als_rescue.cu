// Solves the rows that float32 could not (failed[row] != 0) in float64, on the device, so that no epoch waits for the
// host. A row is assembled and factorised in global memory by one block; such rows are few.
//
// failed[row] becomes 0, or stays as it was where the system is not positive definite in float64 either.
// Workspace: FACTORS (FACTORS + 1) doubles a block.
#include "chip.cuh"

struct System {
    double *a, *b;  // the lower triangle, row after row, and the right-hand side
    __device__ double& at(int row, int column) const { return a[row * FACTORS + column]; }
};

__device__ inline void assemble(const System& s, const stored* factors, const int* columns, const float* weights,
                                const float* targets, int count, const float* spectrum, float regularization) {
    for (int i = threadIdx.x; i < FACTORS * FACTORS; i += THREADS) {
        const int row = i / FACTORS, column = i % FACTORS;
        if (column > row) continue;
        double sum = row == column ? static_cast<double>(spectrum[row]) + regularization : 0.0;
        for (int e = 0; e < count; ++e) {
            const stored* y = factors + static_cast<long long>(columns[e]) * STORED;
            sum += static_cast<double>(weights[e]) * from_stored(y[row]) * from_stored(y[column]);
        }
        s.at(row, column) = sum;
    }
    for (int f = threadIdx.x; f < FACTORS; f += THREADS) {
        double sum = 0.0;
        for (int e = 0; e < count; ++e)
            sum += static_cast<double>(targets[e]) * from_stored(factors[static_cast<long long>(columns[e]) * STORED + f]);
        s.b[f] = sum;
    }
    __syncthreads();
}

// Cholesky, column after column. The same result in all threads: whether every pivot is positive.
__device__ inline bool factorise(const System& s) {
    for (int j = 0; j < FACTORS; ++j) {
        const double pivot = s.at(j, j);
        if (!(pivot > 0.0)) return false;
        const double root = sqrt(pivot);
        __syncthreads();
        for (int i = j + threadIdx.x; i < FACTORS; i += THREADS) s.at(i, j) = i == j ? root : s.at(i, j) / root;
        __syncthreads();
        const int left = FACTORS - j - 1;
        for (int i = threadIdx.x; i < left * left; i += THREADS) {
            const int row = j + 1 + i / left, column = j + 1 + i % left;
            if (column <= row) s.at(row, column) -= s.at(row, j) * s.at(column, j);
        }
        __syncthreads();
    }
    return true;
}

__device__ inline void substitute(const System& s) {
    for (int j = 0; j < FACTORS; ++j) {
        if (threadIdx.x == 0) s.b[j] /= s.at(j, j);
        __syncthreads();
        for (int i = j + 1 + threadIdx.x; i < FACTORS; i += THREADS) s.b[i] -= s.at(i, j) * s.b[j];
        __syncthreads();
    }
    for (int j = FACTORS - 1; j >= 0; --j) {
        if (threadIdx.x == 0) s.b[j] /= s.at(j, j);
        __syncthreads();
        for (int i = threadIdx.x; i < j; i += THREADS) s.b[i] -= s.at(j, i) * s.b[j];
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
als_rescue(const stored* __restrict__ factors, const long long* __restrict__ indptr, const int* __restrict__ columns,
           const float* __restrict__ weights, const float* __restrict__ targets, const float* __restrict__ spectrum,
           const float* __restrict__ regularization, stored* __restrict__ out, signed char* failed, int num_rows,
           double* workspace) {
    const System s{workspace + static_cast<long long>(blockIdx.x) * FACTORS * (FACTORS + 1),
                   workspace + static_cast<long long>(blockIdx.x) * FACTORS * (FACTORS + 1) + FACTORS * FACTORS};
    for (long long first = static_cast<long long>(blockIdx.x) * THREADS; first < num_rows;
         first += static_cast<long long>(gridDim.x) * THREADS) {
        const long long own = first + threadIdx.x;
        if (!__syncthreads_or(own < num_rows && failed[own] != 0)) continue;
        for (long long row = first; row < first + THREADS && row < num_rows; ++row) {
            if (failed[row] == 0) continue;
            const long long begin = indptr[row];
            assemble(s, factors, columns + begin, weights + begin, targets + begin,
                     static_cast<int>(indptr[row + 1] - begin), spectrum, regularization[row]);
            const bool positive = factorise(s);
            if (positive) {
                substitute(s);
                for (int f = threadIdx.x; f < STORED; f += THREADS)
                    out[row * STORED + f] = to_stored(f < FACTORS ? static_cast<float>(s.b[f]) : 0.f);
            }
            __syncthreads();  // the mark and the workspace have been read
            if (positive && threadIdx.x == 0) failed[row] = 0;
        }
    }
}
