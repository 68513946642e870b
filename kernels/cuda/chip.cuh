// The GPU's instructions, each in a function with an emulation for the test harness (SHOPSIGHT_HOST), and the storage
// types. Compiled by NVRTC without system headers, so that no CUDA toolkit is needed.
#pragma once
#ifdef SHOPSIGHT_HOST
#include "host_cuda.h"
#endif

#define ALL_LANES 0xffffffffu
constexpr float CG_TOLERANCE = 1e-14f;  // as kernels/reference/als.py has it
typedef unsigned int u32;
typedef unsigned long long u64;

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x & 31u); }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x >> 5); }
// The same, known to the compiler to be one number in all lanes: without that it synchronises the warp before every
// group of tensor-core products of a loop over it.
__device__ __forceinline__ int uniform_warp_index() { return __shfl_sync(ALL_LANES, warp_index(), 0); }
__device__ __forceinline__ int num_warps() { return static_cast<int>(blockDim.x >> 5); }

// All shared memory is dynamic, which more than 48 KB requires.
__device__ __forceinline__ float* shared_floats() {
#ifdef SHOPSIGHT_HOST
    return reinterpret_cast<float*>(host::shared_memory);
#else
    extern __shared__ float4 shared_block[];
    return reinterpret_cast<float*>(shared_block);
#endif
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int bits = 16; bits > 0; bits >>= 1) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, bits));
    return x;
}
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int bits = 16; bits > 0; bits >>= 1) x += __shfl_xor_sync(ALL_LANES, x, bits);
    return x;
}

// ---- asynchronous copies: 16 bytes from global to shared memory without passing through registers
__device__ __forceinline__ void copy_async_16(float* shared, const void* global) {
#ifdef SHOPSIGHT_HOST
    host::copy_later(shared, global, 16);
#else
    const u32 address = static_cast<u32>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
#endif
}
__device__ __forceinline__ void commit_copies() {
#ifdef SHOPSIGHT_HOST
    host::commit_copies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int GROUPS_LEFT> __device__ __forceinline__ void wait_copies() {
#ifdef SHOPSIGHT_HOST
    host::wait_copies(GROUPS_LEFT);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS_LEFT) : "memory");
#endif
}

// ---- tensor cores: C (16x8, float32) += A (16x8, tf32) B (8x8, tf32), fragments as PTX lays them out:
// lane = 4 g + t holds A(g,t) A(g+8,t) A(g,t+4) A(g+8,t+4), B(t,g) B(t+4,g), C(g,2t) C(g,2t+1) C(g+8,2t) C(g+8,2t+1)
#ifdef SHOPSIGHT_HOST
struct HostMma { float* c; const u32 *a, *b; };
inline void host_mma(void* lanes[32], unsigned) {
    auto lane = [&](int g, int t) { return static_cast<HostMma*>(lanes[4 * g + t]); };
    float a[16][8], b[8][8];
    for (int g = 0; g < 8; ++g)
        for (int t = 0; t < 4; ++t) {
            for (int i = 0; i < 4; ++i) a[g + 8 * (i & 1)][t + 4 * (i >> 1)] = __uint_as_float(lane(g, t)->a[i]);
            for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = __uint_as_float(lane(g, t)->b[i]);
        }
    for (int g = 0; g < 8; ++g)
        for (int t = 0; t < 4; ++t)
            for (int i = 0; i < 4; ++i) {
                float sum = lane(g, t)->c[i];
                for (int k = 0; k < 8; ++k) sum += a[g + 8 * (i >> 1)][k] * b[k][2 * t + (i & 1)];
                lane(g, t)->c[i] = sum;
            }
}
#endif
__device__ __forceinline__ void mma_tf32(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#ifdef SHOPSIGHT_HOST
    HostMma mine{c, a, b};
    host::warp_collective(ALL_LANES, 4, &mine, host_mma);
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ---- the same in float16: C (16x8, float32) += A (16x16, float16) B (16x8, float16), two to a register:
// lane = 4 g + t holds A(g,2t) A(g+8,2t) A(g,2t+8) A(g+8,2t+8), B(2t,g) B(2t+8,g), each with its right (A) or lower (B)
// neighbour in the upper half; C as above
#ifdef SHOPSIGHT_HOST
inline float half_value(u32 pair, int upper) {
    const unsigned short bits = static_cast<unsigned short>(upper ? pair >> 16 : pair);
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return static_cast<float>(half);
}
inline u32 half_bits(float x) {
    const _Float16 half = static_cast<_Float16>(x);
    unsigned short bits;
    std::memcpy(&bits, &half, 2);
    return bits;
}
inline float bfloat16_value(u32 pair, int upper) { return __uint_as_float(upper ? pair & 0xffff0000u : pair << 16); }
template <float (*VALUE)(u32, int)> void host_mma_16(void* lanes[32], unsigned) {
    auto lane = [&](int g, int t) { return static_cast<HostMma*>(lanes[4 * g + t]); };
    float a[16][16], b[16][8];
    for (int g = 0; g < 8; ++g)
        for (int t = 0; t < 4; ++t)
            for (int upper = 0; upper < 2; ++upper) {
                for (int i = 0; i < 4; ++i)
                    a[g + 8 * (i & 1)][2 * t + upper + 8 * (i >> 1)] = VALUE(lane(g, t)->a[i], upper);
                for (int i = 0; i < 2; ++i) b[2 * t + upper + 8 * i][g] = VALUE(lane(g, t)->b[i], upper);
            }
    for (int g = 0; g < 8; ++g)
        for (int t = 0; t < 4; ++t)
            for (int i = 0; i < 4; ++i) {
                float sum = lane(g, t)->c[i];
                for (int k = 0; k < 16; ++k) sum += a[g + 8 * (i >> 1)][k] * b[k][2 * t + (i & 1)];
                lane(g, t)->c[i] = sum;
            }
}
struct HostFragment { u32* to; const float* row; };
template <bool TRANSPOSED> void host_load_fragment(void* lanes[32], unsigned) {
    auto element = [&](int i, int row, int column) {
        unsigned short bits;
        std::memcpy(&bits, reinterpret_cast<const char*>(static_cast<HostFragment*>(lanes[8 * i + row])->row) + 2 * column, 2);
        return static_cast<u32>(bits);
    };
    for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) {
            const int g = lane / 4, k = lane % 4 * 2;
            static_cast<HostFragment*>(lanes[lane])->to[i] =
                TRANSPOSED ? element(i, k, g) | element(i, k + 1, g) << 16 : element(i, g, k) | element(i, g, k + 1) << 16;
        }
}
#endif
__device__ __forceinline__ void mma_float16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef SHOPSIGHT_HOST
    const u32 b[2] = {b0, b1};
    HostMma mine{c, a, b};
    host::warp_collective(ALL_LANES, 5, &mine, host_mma_16<half_value>);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
__device__ __forceinline__ void mma_bfloat16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef SHOPSIGHT_HOST
    const u32 b[2] = {b0, b1};
    HostMma mine{c, a, b};
    host::warp_collective(ALL_LANES, 7, &mine, host_mma_16<bfloat16_value>);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
// Four 8x8 matrices of halves: lane 8 i + r names where row r of matrix i lies (16 bytes); lane 4 g + t gets
// elements (g,2t) and (g,2t+1) of each, or (2t,g) and (2t+1,g) of a TRANSPOSED one.
template <bool TRANSPOSED> __device__ __forceinline__ void load_matrices(u32 (&to)[4], const float* row) {
#ifdef SHOPSIGHT_HOST
    HostFragment mine{to, row};
    host::warp_collective(ALL_LANES, 6, &mine, host_load_fragment<TRANSPOSED>);
#else
    const u32 address = static_cast<u32>(__cvta_generic_to_shared(row));
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
#endif
}
__device__ __forceinline__ u32 pack_halves(float lower, float upper) {
#ifdef SHOPSIGHT_HOST
    return half_bits(lower) | half_bits(upper) << 16;
#else
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(upper), "f"(lower));
    return pair;
#endif
}
__device__ __forceinline__ float2 unpack_halves(u32 pair) {
#ifdef SHOPSIGHT_HOST
    return {half_value(pair, 0), half_value(pair, 1)};
#else
    float2 x;
    asm("{ .reg .b16 lower, upper; mov.b32 {lower, upper}, %2; cvt.f32.f16 %0, lower; cvt.f32.f16 %1, upper; }"
        : "=f"(x.x), "=f"(x.y)
        : "r"(pair));
    return x;
#endif
}

// ---- loads of data that other blocks write concurrently: from the level-2 cache, not from the level-1 cache
#ifdef SHOPSIGHT_HOST
template <class T> T load_fresh(const T* p) { return *p; }
#else
template <class T> __device__ __forceinline__ T load_fresh(const T* p) { return __ldcg(p); }
#endif

// ---- storage of factors: float32, or 16 bits with float32 arithmetic. STORAGE is 32 or 16; with 16, BFLOAT16 selects
// bfloat16 (the upper half of a float32) over float16. DROPPED are the mantissa bits that 16 bits do not hold.
#if STORAGE == 16
typedef unsigned short stored;
#if BFLOAT16
constexpr u32 DROPPED = 0xffffu;
__device__ __forceinline__ float from_stored(stored bits) { return __uint_as_float(static_cast<u32>(bits) << 16); }
__device__ __forceinline__ stored to_stored(float x) {
#ifdef SHOPSIGHT_HOST
    if (x != x) return 0x7fff;
    const u32 bits = __float_as_uint(x);
    return static_cast<stored>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
#else
    stored bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#endif
}
#else
constexpr u32 DROPPED = 0x1fffu;
__device__ __forceinline__ float from_stored(stored bits) {
#ifdef SHOPSIGHT_HOST
    return half_value(bits, 0);
#else
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
#endif
}
__device__ __forceinline__ stored to_stored(float x) {
#ifdef SHOPSIGHT_HOST
    return static_cast<stored>(half_bits(x));
#else
    stored bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
#endif
}
#endif
__device__ __forceinline__ float4 unpack4(uint2 raw) {
    return make_float4(from_stored(static_cast<stored>(raw.x & 0xffffu)), from_stored(static_cast<stored>(raw.x >> 16)),
                       from_stored(static_cast<stored>(raw.y & 0xffffu)), from_stored(static_cast<stored>(raw.y >> 16)));
}
__device__ __forceinline__ float4 load4(const stored* p) { return unpack4(*reinterpret_cast<const uint2*>(p)); }
__device__ __forceinline__ float4 load4_fresh(const stored* p) {
    return unpack4(load_fresh(reinterpret_cast<const uint2*>(p)));
}
__device__ __forceinline__ void store4(stored* p, float4 x) {
    uint2 raw;
    raw.x = to_stored(x.x) | static_cast<u32>(to_stored(x.y)) << 16;
    raw.y = to_stored(x.z) | static_cast<u32>(to_stored(x.w)) << 16;
    *reinterpret_cast<uint2*>(p) = raw;
}
#else
typedef float stored;
__device__ __forceinline__ float from_stored(stored x) { return x; }
__device__ __forceinline__ stored to_stored(float x) { return x; }
__device__ __forceinline__ float4 load4(const stored* p) { return *reinterpret_cast<const float4*>(p); }
__device__ __forceinline__ float4 load4_fresh(const stored* p) {
    return load_fresh(reinterpret_cast<const float4*>(p));
}
__device__ __forceinline__ void store4(stored* p, float4 x) { *reinterpret_cast<float4*>(p) = x; }
#endif

// FACTORS is the number of factors. A stored row is a whole number of 16-byte loads in either type; a row in shared
// memory is a whole number of warps and of tensor-core tiles. Elements beyond FACTORS are zero.
constexpr int STORED = (FACTORS + 7) / 8 * 8;
constexpr int PADDED = (FACTORS + 31) / 32 * 32;

// Copies the `count` rows named by row_of(i) into `block`, PITCH floats apart, with zero rows up to `rows`.
// The caller waits for the copies and then for the block.
template <int PITCH, class RowOf>
__device__ __forceinline__ void copy_rows(float* block, const stored* factors, RowOf row_of, int count, int rows) {
    constexpr int QUADS = PADDED / 4;
    for (int i = threadIdx.x; i < rows * QUADS; i += blockDim.x) {
        const int row = i / QUADS, quad = i % QUADS;
        float* to = block + row * PITCH + quad * 4;
        if (row < count && quad * 4 < STORED) {
            const stored* from = factors + static_cast<long long>(row_of(row)) * STORED + quad * 4;
#if STORAGE == 16
            *reinterpret_cast<float4*>(to) = load4(from);
#else
            copy_async_16(to, from);
#endif
        } else {
            *reinterpret_cast<float4*>(to) = make_float4(0.f, 0.f, 0.f, 0.f);
        }
    }
    commit_copies();
}
template <int PITCH>
__device__ void gather_rows(float* block, const stored* factors, const int* columns, int count, int rows) {
    copy_rows<PITCH>(block, factors, [&](int i) { return columns[i]; }, count, rows);
}
