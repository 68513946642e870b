// Eigenvectors of a symmetric matrix of up to 256 rows by cyclic Jacobi (Golub and Van Loan, Matrix Computations,
// 8.5), in one block and without waiting for the host, as a library's solver would.
//
// A sweep visits every pair of rows once, in rounds of disjoint pairs: in round r, row r meets the last one and row
// r + k meets r - k. `jacobi` rotates the matrix, whose lower triangle is in shared memory, and records every
// rotation; `jacobi_vectors` then applies the rotations to the rows of a matrix in float64, so that the vectors stay
// orthogonal. The factors stay in their last eigenbasis between epochs, so that few sweeps are needed.
// Shared (floats): ORDER (ORDER + 1) / 2 + ORDER. Limited by two barriers per round with 8 to 10 shared accesses
// between them; about 0.6 us per round at 128 factors.
#include "chip.cuh"

constexpr int ORDER = (FACTORS + 3) / 4 * 4;
constexpr int PAIRS = ORDER / 2;  // even, which `unit` needs
constexpr int ROUNDS = ORDER - 1;
constexpr int MAX_SWEEPS = 16;
constexpr int OWN = (PAIRS + 31) / 32;  // pairs of a lane

struct Pair { int p, q; };
__device__ __forceinline__ Pair pair_of(int round, int k) {
    if (k == 0) return {round, ORDER - 1};
    const int p = round + k, q = round - k;
    return {p >= ROUNDS ? p - ROUNDS : p, q < 0 ? q + ROUNDS : q};
}
__device__ __forceinline__ float& at(float* a, int i, int j) {
    const int high = max(i, j), low = min(i, j);
    return a[high * (high + 1) / 2 + low];
}

// The rotation (cos, sin) that makes a(p,q) zero; {1, 0} if it is zero up to rounding. Sets `again` if not converged.
__device__ __forceinline__ float2 rotation(float app, float aqq, float apq, float tolerance, float least, bool* again) {
    const float size = sqrtf(fabsf(app * aqq)), off = fabsf(apq);
    if (!(off > tolerance * size && off > least)) return {1.f, 0.f};
    const float tau = (aqq - app) / (2.f * apq);
    const float t = (tau < 0.f ? -1.f : 1.f) / (fabsf(tau) + sqrtf(1.f + tau * tau));
    *again = *again || off * fabsf(t) * 16.f > tolerance * size;
    const float c = 1.f / sqrtf(1.f + t * t);
    return {c, t * c};
}

// matrix float64 [FACTORS, FACTORS]; rotations [MAX_SWEEPS, ROUNDS, PAIRS] of (cos, sin).
extern "C" __global__ void __launch_bounds__(1024)
jacobi(const double* __restrict__ matrix, float tolerance, float2* __restrict__ rotations, int* __restrict__ num_sweeps) {
    float* a = shared_floats();
    float2* turns = reinterpret_cast<float2*>(a + ORDER * (ORDER + 1) / 2);
    for (int i = threadIdx.x; i < ORDER * ORDER; i += blockDim.x) {
        const int row = i / ORDER, column = i % ORDER;
        if (column <= row) at(a, row, column) = row < FACTORS ? static_cast<float>(matrix[row * FACTORS + column]) : 0.f;
    }
    __syncthreads();
    float least = 0.f;
    for (int i = 0; i < ORDER; ++i) least = fmaxf(least, at(a, i, i));
    least *= 9e-13f;
    __syncthreads();
    int sweep = 0;
    for (bool again = true; again && sweep < MAX_SWEEPS; ++sweep) {
        again = false;
        for (int round = 0; round < ROUNDS; ++round) {
            for (int k = threadIdx.x; k < PAIRS; k += blockDim.x) {
                const Pair x = pair_of(round, k);
                turns[k] = rotation(at(a, x.p, x.p), at(a, x.q, x.q), at(a, x.p, x.q), tolerance, least, &again);
                rotations[(sweep * ROUNDS + round) * PAIRS + k] = turns[k];
            }
            __syncthreads();
            for (int unit = threadIdx.x; unit < PAIRS / 2 * (PAIRS + 1); unit += blockDim.x) {
                // rows i and PAIRS - 1 - i of the triangle of pairs of pairs, side by side
                const int fold = unit / (PAIRS + 1), along = unit % (PAIRS + 1);
                const int i = along <= fold ? fold : PAIRS - 1 - fold, j = along <= fold ? along : along - fold - 1;
                const Pair x = pair_of(round, i), y = pair_of(round, j);
                const float2 u = turns[i], v = turns[j];
                float &pp = at(a, x.p, y.p), &pq = at(a, x.p, y.q), &qp = at(a, x.q, y.p), &qq = at(a, x.q, y.q);
                const float a0 = pp, a1 = pq, a2 = qp, a3 = qq;
                const float b0 = u.x * a0 - u.y * a2, b1 = u.x * a1 - u.y * a3;
                const float b2 = u.y * a0 + u.x * a2, b3 = u.y * a1 + u.x * a3;
                pp = v.x * b0 - v.y * b1;
                qq = v.y * b2 + v.x * b3;
                if (i != j) {
                    pq = v.y * b0 + v.x * b1;
                    qp = v.x * b2 - v.y * b3;
                } else if (u.y != 0.f) {
                    pq = 0.f;  // and so qp, which is the same element
                }
            }
            __syncthreads();
        }
        again = __syncthreads_or(again);
    }
    if (threadIdx.x == 0) *num_sweeps = sweep;
}

// vectors float64 [FACTORS, FACTORS] <- vectors times the rotations; a warp a row.
extern "C" __global__ void __launch_bounds__(32)
jacobi_vectors(const float2* __restrict__ rotations, const int* __restrict__ num_sweeps, double* __restrict__ vectors) {
    double* v = reinterpret_cast<double*>(shared_floats());
    double* row = vectors + static_cast<long long>(blockIdx.x) * FACTORS;
    for (int f = lane_index(); f < ORDER; f += 32) v[f] = f < FACTORS ? row[f] : 0.0;
    __syncwarp();
    const int rounds = *num_sweeps * ROUNDS;
    float2 next[OWN] = {};
    auto fetch = [&](int index) {  // a round ahead
#pragma unroll
        for (int i = 0; i < OWN; ++i)
            if (index < rounds && lane_index() + 32 * i < PAIRS)
                next[i] = rotations[static_cast<long long>(index) * PAIRS + lane_index() + 32 * i];
    };
    fetch(0);
    for (int index = 0, round = 0; index < rounds; ++index, round = round + 1 < ROUNDS ? round + 1 : 0) {
        float2 turn[OWN];
#pragma unroll
        for (int i = 0; i < OWN; ++i) turn[i] = next[i];
        fetch(index + 1);
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            const int k = lane_index() + 32 * i;
            if (k >= PAIRS) continue;
            const double c = turn[i].x, s = turn[i].y, scale = 1.5 - 0.5 * (c * c + s * s);  // to length 1 in float64
            const Pair x = pair_of(round, k);
            const double p = v[x.p], q = v[x.q];
            v[x.p] = scale * (c * p - s * q);
            v[x.q] = scale * (s * p + c * q);
        }
        __syncwarp();
    }
    for (int f = lane_index(); f < FACTORS; f += 32) row[f] = v[f];
}
