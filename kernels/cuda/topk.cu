// Scores, filter and top-k in one pass over the items: the score matrix is never written.
//
// A block holds USERS users in shared memory and reads its share of the items, 64 at a time; a warp scores 32 users x
// 32 items on tensor cores. Each user has a sorted list of the best k so far. A score is examined only if it reaches
// the last one of the list, which soon is rare, and only then is the filter read: the usual tile costs its products,
// one comparison per score and two barriers. Lists hold (score, item) as one integer that orders by score and then by
// lower item, so that the answer does not depend on timing. `floor` shares the best k-th key of any block with the
// blocks of other items.
// Factors of 16 bits stay as they are stored, and their products are exact in float32. Shared (bytes): USERS + 64 rows
// of PITCH floats + USERS * (8 k + 16); three blocks a multiprocessor at 128 factors and k = 10 in float32. The scores
// of a tile that must be examined overwrite its items.
#include "tiles.cuh"

constexpr int ITEMS = 64;
constexpr int PITCH = PADDED * STORAGE / 32 + 4;  // floats; 4 mod 32, or mod 16: no bank conflict along the product
constexpr int SCORE_PITCH = ITEMS + 1;
constexpr int ITEM_FLOATS = ITEMS * PITCH > USERS * SCORE_PITCH ? ITEMS * PITCH : USERS * SCORE_PITCH;
constexpr u64 EMPTY = 0;

__device__ __forceinline__ u32 ordered(float score) {
    const u32 bits = __float_as_uint(score);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ u64 make_key(float score, int item) {
    return static_cast<u64>(ordered(score)) << 32 | (0xffffffffu - static_cast<u32>(item));
}
__device__ __forceinline__ float key_score(u64 key) {
    if (key == EMPTY) return __uint_as_float(0xff800000u);  // minus infinity
    const u32 bits = static_cast<u32>(key >> 32);
    return __uint_as_float(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}
__device__ __forceinline__ int key_item(u64 key) {
    return key == EMPTY ? -1 : static_cast<int>(0xffffffffu - static_cast<u32>(key));
}

// Inserts `key` (the same in all lanes, above the last) into a descending list of k; one warp.
__device__ inline void insert(u64* list, int k, u64 key) {
    int place = 0;
    for (int base = 0; base < k; base += 32) {
        const int i = base + lane_index();
        place += __popc(__ballot_sync(ALL_LANES, i < k && list[i] > key));
    }
    for (int base = (k - 1) / 32 * 32; base >= 0 && base + 31 >= place; base -= 32) {
        const int i = base + lane_index();
        const bool moves = i > place && i < k;
        const u64 before = moves ? list[i - 1] : EMPTY;
        __syncwarp();
        if (moves) list[i] = before;
        __syncwarp();
    }
    if (lane_index() == 0) list[place] = key;
    __syncwarp();
}

// Requests `count` rows of a matrix from its row `first` on, PITCH floats apart, with zero rows up to `rows`.
__device__ __forceinline__ void request_tile(float* block, const stored* factors, int first, int count, int rows) {
#if STORAGE == 16
    for (int i = threadIdx.x; i < rows * (PADDED / 8); i += blockDim.x) {
        const int row = i / (PADDED / 8), group = i % (PADDED / 8);
        float* to = block + row * PITCH + group * 4;
        if (row < count && group * 8 < STORED)
            copy_async_16(to, factors + static_cast<long long>(first + row) * STORED + group * 8);
        else *reinterpret_cast<float4*>(to) = make_float4(0.f, 0.f, 0.f, 0.f);
    }
    commit_copies();
#else
    copy_rows<PITCH>(block, factors, [&](int i) { return first + i; }, count, rows);
#endif
}

// c += the scores of 32 users from `row` on and of 32 items from `column` on, one warp.
__device__ __forceinline__ void score_tile(float (&c)[2][4][4], const float* users, const float* items, int row, int column) {
#if STORAGE == 16
    const int lane = lane_index();
    const float* user = users + (row + (lane & 15)) * PITCH + (lane >> 4) * 4;
    const float* item = items + (column + (lane & 7) + (lane >> 4) * 8) * PITCH + (lane >> 3 & 1) * 4;
#pragma unroll 2
    for (int k = 0; k < PADDED / 2; k += 8) {  // sixteen factors
        u32 a[2][4], b[2][4];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            load_matrices<false>(a[i], user + i * 16 * PITCH + k);
            load_matrices<false>(b[i], item + i * 16 * PITCH + k);
        }
#pragma unroll
        for (int m = 0; m < 2; ++m)
#pragma unroll
            for (int n = 0; n < 4; ++n) {
#if BFLOAT16
                mma_bfloat16(c[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
#else
                mma_float16(c[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
#endif
            }
    }
#else
    multiply<2, false, false>(
        c, PADDED, [&](int m, int f) { return users[(row + m) * PITCH + f]; },
        [&](int n, int f) { return items[(column + n) * PITCH + f]; });
#endif
}

struct Filter {
    const long long* indptr;  // the items to leave out for each user, ascending; may be null
    const int* items;
    const u32* excluded;  // one bit per item, for all users; may be null
};

// The bits of the items among the 64 from `base` to leave out for a user. `cursor` only moves forward; one warp.
__device__ inline u64 forbidden(const Filter& filter, long long end, long long* cursor, int base, int num_items) {
    u64 bits = 0;
    if (filter.excluded) {
        bits = filter.excluded[base / 32];
        if (base + 32 < num_items) bits |= static_cast<u64>(filter.excluded[base / 32 + 1]) << 32;
    }
    if (!filter.indptr) return bits;
    for (long long at = *cursor; at < end; at += 32) {
        const long long mine = at + lane_index();
        const int item = mine < end ? filter.items[mine] : 0x7fffffff;
        const int last = __shfl_sync(ALL_LANES, item, 31);
        u64 found = item >= base && item < base + ITEMS ? 1ull << (item - base) : 0;
#pragma unroll
        for (int step = 16; step > 0; step >>= 1) found |= __shfl_xor_sync(ALL_LANES, found, step);
        bits |= found;
        if (last < base && lane_index() == 0) *cursor = at + 32;
        if (last >= base + ITEMS) break;
    }
    __syncwarp();
    return bits;
}

extern "C" __global__ void __launch_bounds__(2 * USERS, BLOCKS)
topk_scan(const stored* __restrict__ user_factors, const stored* __restrict__ item_factors, int num_users,
          int num_items, int k, const long long* __restrict__ filter_indptr, const int* __restrict__ filter_items,
          const u32* __restrict__ excluded, u64* __restrict__ floor, u64* __restrict__ candidates) {
    float* users = shared_floats();
    float* items = users + USERS * PITCH;
    float* scores = items;
    u64* lists = reinterpret_cast<u64*>(items + ITEM_FLOATS);
    long long* cursors = reinterpret_cast<long long*>(lists + USERS * k);
    float* threshold = reinterpret_cast<float*>(cursors + USERS);
    u32* touched = reinterpret_cast<u32*>(threshold + USERS);

    const int first_user = blockIdx.x * USERS, users_here = min(USERS, num_users - first_user);
    const int tiles = (num_items + ITEMS - 1) / ITEMS;
    const int begin = static_cast<int>(static_cast<long long>(tiles) * blockIdx.y / gridDim.y);
    const int end = static_cast<int>(static_cast<long long>(tiles) * (blockIdx.y + 1) / gridDim.y);
    const Filter filter{filter_indptr, filter_items, excluded};
    const int column_warp = warp_index() & 1, row_base = (warp_index() >> 1) * 32, column_base = column_warp * 32;

    request_tile(users, user_factors, first_user, users_here, USERS);
    for (int i = threadIdx.x; i < USERS * k; i += blockDim.x) lists[i] = EMPTY;
    for (int i = threadIdx.x; i < USERS; i += blockDim.x) {
        cursors[i] = filter_indptr && i < users_here ? filter_indptr[first_user + i] : 0;
        threshold[i] = i < users_here ? key_score(EMPTY) : __uint_as_float(0x7f800000u);
        touched[i] = 0;
    }
    for (int tile = begin; tile < end; ++tile) {
        const int base = tile * ITEMS, items_here = min(ITEMS, num_items - base);
        request_tile(items, item_factors, base, items_here, ITEMS);
        if (threadIdx.x < users_here)
            threshold[threadIdx.x] = fmaxf(threshold[threadIdx.x], key_score(load_fresh(floor + first_user + threadIdx.x)));
        wait_copies<0>();
        __syncthreads();
        float c[2][4][4] = {};
        score_tile(c, users, items, row_base, column_base);
        bool any = false;
        for_each_element<2>(c, [&](int m, int n, float& x) {
            if (x >= threshold[row_base + m] && column_base + n < items_here) {
                any = true;
                atomicOr(&touched[row_base + m], 1u << column_warp);
            }
        });
        if (!__syncthreads_or(any)) continue;
        for_each_element<2>(
            c, [&](int m, int n, float& x) { scores[(row_base + m) * SCORE_PITCH + column_base + n] = x; });
        __syncthreads();
        for (int user = warp_index(); user < users_here; user += num_warps()) {
            const u32 halves = touched[user];
            if (!halves) continue;
            const long long last = filter_indptr ? filter_indptr[first_user + user + 1] : 0;
            const u64 bits = forbidden(filter, last, cursors + user, base, num_items);
            u64* list = lists + user * k;
            for (int half = 0; half < 2; ++half) {
                const int column = half * 32 + lane_index();
                const bool allowed = (halves >> half & 1u) && column < items_here && !(bits >> column & 1ull);
                const u64 key = allowed ? make_key(scores[user * SCORE_PITCH + column], base + column) : EMPTY;
                u32 waiting = __ballot_sync(ALL_LANES, key > list[k - 1]);
                while (waiting) {
                    const u64 next = __shfl_sync(ALL_LANES, key, __ffs(waiting) - 1);
                    waiting &= waiting - 1;
                    if (next > list[k - 1]) insert(list, k, next);
                }
            }
            if (lane_index() == 0) {
                touched[user] = 0;
                threshold[user] = fmaxf(threshold[user], key_score(list[k - 1]));
                if (list[k - 1] != EMPTY) atomicMax(&floor[first_user + user], list[k - 1]);
            }
        }
        __syncthreads();
    }
    __syncthreads();
    for (int i = threadIdx.x; i < users_here * k; i += blockDim.x)
        candidates[(static_cast<long long>(blockIdx.y) * num_users + first_user) * k + i] = lists[i];
}

// The best k of every user's lists, one from each share of the items; one warp per user. The heads of 32 lists are read
// at once, and a list is read further only if its head is among the best so far.
extern "C" __global__ void __launch_bounds__(32)
topk_merge(const u64* __restrict__ candidates, int num_users, int shares, int k, int* __restrict__ items,
           float* __restrict__ scores) {
    u64* list = reinterpret_cast<u64*>(shared_floats());
    const int user = blockIdx.x, lane = lane_index();
    auto list_of = [&](int share) { return candidates + (static_cast<long long>(share) * num_users + user) * k; };
    for (int i = lane; i < k; i += 32) list[i] = EMPTY;
    __syncwarp();
    for (int base = 0; base < shares; base += 32) {
        const u64 head = base + lane < shares ? *list_of(base + lane) : EMPTY;
        u32 waiting = __ballot_sync(ALL_LANES, head > list[k - 1]);
        for (; waiting; waiting &= waiting - 1) {
            const u64* other = list_of(base + __ffs(waiting) - 1);
            for (int first = 0; first < k; first += 32) {
                const u64 key = first + lane < k ? other[first + lane] : EMPTY;
                u32 above = __ballot_sync(ALL_LANES, key > list[k - 1]);
                const bool all = above == ALL_LANES;
                for (; above; above &= above - 1) {
                    const u64 next = __shfl_sync(ALL_LANES, key, __ffs(above) - 1);
                    if (next > list[k - 1]) insert(list, k, next);
                }
                if (!all) break;  // lists descend
            }
        }
    }
    for (int i = lane; i < k; i += 32) {
        items[static_cast<long long>(user) * k + i] = key_item(list[i]);
        scores[static_cast<long long>(user) * k + i] = key_score(list[i]);
    }
}
