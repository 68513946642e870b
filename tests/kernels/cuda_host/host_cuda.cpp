// The fiber scheduler behind host_cuda.h. Built once; every kernel library links to it.
#include "host_cuda.h"
#include "races.h"

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

namespace host {
namespace {
constexpr std::size_t STACK_BYTES = 128 * 1024;
enum State { READY, IN_WARP, IN_BLOCK, DONE };
struct Copy { void* destination; const void* source; int bytes; };
struct Fiber {
    Builtins builtins;
    State state = DONE;
    int line = 0, kind = 0;
    unsigned mask = 0;
    bool vote = false;
    void* argument = nullptr;
    std::vector<std::vector<Copy>> copies;  // the last group is not committed yet
    jmp_buf resume;
    bool started = false;
    ucontext_t first;
    char* stack = nullptr;
};
std::vector<Fiber*> fibers;
int threads = 0;
Fiber* self = nullptr;
jmp_buf scheduler;
sigjmp_buf launcher;
char message[512];
void (*kernel_entry)(void**) = nullptr;
void** kernel_arguments = nullptr;
unsigned random_state = 1;

[[noreturn]] void fail(const char* what, int line) {
    const Builtins& at = self->builtins;
    std::snprintf(message, sizeof message, "%s (block %u,%u thread %u, line %d)", what, at.block.x, at.block.y,
                  at.thread.x, line);
    siglongjmp(launcher, 1);
}

void leave() {
    if (_setjmp(self->resume) == 0) _longjmp(scheduler, 1);
}

void fiber_main() {
    for (;;) {
        kernel_entry(kernel_arguments);
        self->state = DONE;
        leave();
    }
}

void enter(Fiber* fiber) {
    self = fiber;
    current = &fiber->builtins;
    if (_setjmp(scheduler) != 0) return;
    if (fiber->started) _longjmp(fiber->resume, 1);
    fiber->started = true;
    getcontext(&fiber->first);
    fiber->first.uc_stack.ss_sp = fiber->stack;
    fiber->first.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber->first, fiber_main, 0);
    setcontext(&fiber->first);
}

unsigned next_random() { return (random_state = random_state * 1664525u + 1013904223u) >> 8; }

// The order in which lanes and warps take their turn: 0 ascending, 1 descending, 2 shuffled.
int place(int index, int count, int order, unsigned shift) {
    if (order == 1) return count - 1 - index;
    // A stride prime to the count visits each once; counts are 1 to 32.
    return order == 2 ? static_cast<int>((index * 37u + shift) % static_cast<unsigned>(count)) : index;
}

void release_block() {
    int line = -1;
    bool any = false;
    for (int i = 0; i < threads; ++i) {
        self = fibers[i];
        if (self->state == IN_WARP) fail("a warp operation that not all lanes of its mask reach", self->line);
        if (self->state == DONE) fail("a barrier that this thread never reaches: it has ended", fibers[0]->line);
        if (line >= 0 && self->line != line) fail("threads wait at different barriers", self->line);
        line = self->line;
        any |= self->vote;
    }
    ++races::barriers;
    for (int i = 0; i < threads; ++i) {
        fibers[i]->vote = any;
        fibers[i]->state = READY;
    }
}

void run_block(int order) {
    const int warps = (threads + 31) / 32;
    for (;;) {
        bool progressed = false;
        const unsigned shift = next_random();
        for (int w = 0; w < warps; ++w) {
            const int base = place(w, warps, order, shift) * 32;
            const int lanes = threads - base < 32 ? threads - base : 32;
            for (bool again = true; again;) {
                again = false;
                for (int l = 0; l < lanes; ++l) {
                    Fiber* fiber = fibers[base + place(l, lanes, order, shift)];
                    if (fiber->state != READY) continue;
                    enter(fiber);
                    again = progressed = true;
                }
            }
        }
        if (progressed) continue;
        bool waiting = false;
        for (int i = 0; i < threads; ++i) waiting |= fibers[i]->state != DONE;
        if (!waiting) return;
        release_block();
    }
}

void on_fault(int, siginfo_t*, void*) { fail("memory access outside its array or shared memory", 0); }

char* guarded_map(std::size_t bytes, std::size_t* mapped) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    *mapped = (bytes + page - 1) / page * page + page;
    char* base = static_cast<char*>(mmap(nullptr, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base == MAP_FAILED) std::abort();
    mprotect(base + *mapped - page, page, PROT_NONE);
    return base + *mapped - page - bytes;
}

void guarded_unmap(char* address, std::size_t bytes, std::size_t mapped) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    munmap(address + bytes + page - mapped, mapped);
}
}  // namespace

Builtins* current = nullptr;
char* shared_memory = nullptr;

void watch(const void* address, std::size_t bytes, bool writes, const void* at) {
    if (current && shared_memory) races::touch(shared_memory, static_cast<int>(current->thread.x), address, bytes, writes, at);
}

bool block_barrier(int line, bool vote) {
    self->line = line;
    self->vote = vote;
    self->state = IN_BLOCK;
    leave();
    return self->vote;
}

void warp_collective(unsigned mask, int kind, void* argument, Action action) {
    const int base = static_cast<int>(current->thread.x) & ~31;
    self->state = IN_WARP;
    self->mask = mask;
    self->kind = kind;
    self->argument = argument;
    void* arguments[32] = {};
    for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1u)) continue;
        if (base + lane >= threads) fail("a warp operation whose mask names lanes that do not exist", kind);
        const Fiber* other = fibers[base + lane];
        if (other->state == DONE) fail("a warp operation whose mask names a lane that has ended", kind);
        if (other->state != IN_WARP) { leave(); return; }
        if (other->mask != mask || other->kind != kind) fail("lanes of one warp meet in different operations", kind);
        arguments[lane] = other->argument;
    }
    action(arguments, mask);
    ++races::warp_turns[base / 32];
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1u) fibers[base + lane]->state = READY;
}

// An asynchronous copy lands only when it is waited for: code that forgets to wait reads NaN.
void copy_later(void* destination, const void* source, int bytes) {
    watch(destination, bytes, true, __builtin_return_address(0));
    self->copies.back().push_back({destination, source, bytes});
}
void commit_copies() { self->copies.emplace_back(); }
void wait_copies(int groups_left) {
    while (static_cast<int>(self->copies.size()) - 1 > groups_left) {
        for (const Copy& copy : self->copies.front()) {
            watch(copy.destination, copy.bytes, true, __builtin_return_address(0));
            std::memcpy(copy.destination, copy.source, copy.bytes);
        }
        self->copies.erase(self->copies.begin());
    }
}
}  // namespace host

using namespace host;

extern "C" const char* host_launch(void (*entry)(void**), const unsigned grid[3], unsigned block, std::size_t shared,
                                   void** arguments, int order) {
    static char fault_stack[64 * 1024];
    stack_t alternate{fault_stack, 0, sizeof fault_stack}, old_stack;
    struct sigaction action {}, old_action;
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    while (fibers.size() < block) {
        fibers.push_back(new Fiber);
        fibers.back()->stack = static_cast<char*>(std::malloc(STACK_BYTES));
    }
    threads = static_cast<int>(block);
    kernel_entry = entry;
    kernel_arguments = arguments;
    random_state = 12345u;
    const std::size_t bytes = (shared + 15) / 16 * 16;
    std::size_t mapped = 0;
    shared_memory = guarded_map(bytes, &mapped);
    sigaltstack(&alternate, &old_stack);
    sigaction(SIGSEGV, &action, &old_action);
    message[0] = 0;
    races::begin_launch(bytes);
    if (sigsetjmp(launcher, 1) == 0) {
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                std::memset(shared_memory, 0xff, bytes);
                ++races::barriers;
                for (unsigned i = 0; i < block; ++i) {
                    Fiber* fiber = fibers[i];
                    fiber->builtins = {{i, 0, 0}, {x, y, 0}, {block, 1, 1}, {grid[0], grid[1], 1}};
                    fiber->state = READY;
                    fiber->copies.assign(1, {});
                }
                run_block(order);
            }
    } else {
        for (Fiber* fiber : fibers) fiber->started = false;
    }
    sigaction(SIGSEGV, &old_action, nullptr);
    sigaltstack(&old_stack, nullptr);
    guarded_unmap(shared_memory, bytes, mapped);
    shared_memory = nullptr;
    current = nullptr;
    return message;
}

extern "C" void* host_alloc(std::size_t bytes, std::size_t* mapped) { return guarded_map((bytes + 15) / 16 * 16, mapped); }
extern "C" void host_free(void* address, std::size_t bytes, std::size_t mapped) {
    guarded_unmap(static_cast<char*>(address), (bytes + 15) / 16 * 16, mapped);
}

extern "C" const char* host_race() { return races::report.c_str(); }

// What code compiled with -fsanitize=thread calls (races.h).
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
void __tsan_read_range(void* a, std::size_t n) { watch(a, n, false, __builtin_return_address(0)); }
void __tsan_write_range(void* a, std::size_t n) { watch(a, n, true, __builtin_return_address(0)); }
#define ACCESS(n) \
    void __tsan_read##n(void* a) { watch(a, n, false, __builtin_return_address(0)); } \
    void __tsan_write##n(void* a) { watch(a, n, true, __builtin_return_address(0)); } \
    void __tsan_unaligned_read##n(void* a) { watch(a, n, false, __builtin_return_address(0)); } \
    void __tsan_unaligned_write##n(void* a) { watch(a, n, true, __builtin_return_address(0)); }
ACCESS(1) ACCESS(2) ACCESS(4) ACCESS(8) ACCESS(16)
}
