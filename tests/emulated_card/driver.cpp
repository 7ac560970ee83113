// libcuda for a machine without a card: the driver's calls that CubeCL makes, on the processor.
//
// Memory is the host's. A kernel is a shared object that compiler.cpp had made; each of its threads is
// a fibre, so that barriers and warps are exact, and blocks are shared out to two threads of the
// processor. Streams do everything at once. A stream that records keeps its calls; a graph runs them.
//
// Refused as a card refuses: more memory than there is, a block of more than 1024 threads, more shared
// memory than was asked for, an allocation or a wait while recording, reads and writes that are not
// aligned (the kernel stops with SIGILL), threads that wait for one another.

#include "card.h"

#include <atomic>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Result {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  NOT_FOUND = 500,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  ILLEGAL_STATE = 401,
};

long setting(const char *name, long otherwise) {
  const char *value = getenv(name);
  return value ? atol(value) : otherwise;
}

// Whether kernels run at all; without, memory and launches can still be counted, and the host is told
// that all results are 0.
bool runs() {
  static const bool answer = setting("CARD_RUNS", 1);
  return answer;
}

// Launches that did nothing. They count for ten microseconds each: who measures a device must find
// that it takes time.
long skipped;

double seconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec * 1e-9 + skipped * 1e-5;
}

FILE *trace() {
  static FILE *file = [] {
    const char *path = getenv("CARD_TRACE");
    FILE *file = path ? fopen(path, "w") : nullptr;
    if (file) setvbuf(file, nullptr, _IOLBF, 1 << 16);
    return file;
  }();
  return file;
}

// ---- fibres

enum State { READY, AT_BLOCK, AT_WARP, DONE };

struct Fibre {
  void *stack;
  CardThread thread;
  State state;
};

// Kernels that are unrolled have large frames.
constexpr size_t STACK = 1 << 20;
constexpr int MOST_THREADS = 1024, WARPS = MOST_THREADS / 32;

// Runs the blocks of a launch, one after another.
struct Worker {
  std::vector<Fibre> fibres;
  char *stacks = nullptr;
  void *scheduler;
  int current;
  int live, at_block, live_of[WARPS], at_warp[WARPS];
  // Two for each warp in turn: nobody is two exchanges ahead of another lane.
  unsigned char exchange[WARPS][2][32][SHARED_BY_A_LANE];
  int turn[MOST_THREADS];
  std::vector<unsigned char> shared;
  const std::function<void()> *kernel;
};

__thread Worker *worker;
std::atomic<bool> has_failed{false};

extern "C" void card_switch(void **from, void *to);
asm(R"(
.globl card_switch
card_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");

void leave() {
  Fibre &fibre = worker->fibres[worker->current];
  card_switch(&fibre.stack, worker->scheduler);
}

// Lets a block or a warp go on if all of its threads that live have come.
void release_block() {
  Worker &w = *worker;
  if (!w.live || w.at_block != w.live) return;
  w.at_block = 0;
  for (Fibre &fibre : w.fibres)
    if (fibre.state == AT_BLOCK) fibre.state = READY;
}

void release_warp(int warp) {
  Worker &w = *worker;
  if (!w.live_of[warp] || w.at_warp[warp] != w.live_of[warp]) return;
  w.at_warp[warp] = 0;
  for (Fibre &fibre : w.fibres)
    if (fibre.state == AT_WARP && fibre.thread.warp == warp) fibre.state = READY;
}

void begin_fibre() {
  (*worker->kernel)();
  Fibre &fibre = worker->fibres[worker->current];
  fibre.state = DONE;
  worker->live--;
  worker->live_of[fibre.thread.warp]--;
  release_block();
  release_warp(fibre.thread.warp);
  leave();
  abort();
}

void make_stacks(Worker &w) {
  if (w.stacks) return;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  w.stacks = (char *)mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE, flags, -1, 0);
  for (int i = 0; i < MOST_THREADS; i++) mprotect(w.stacks + STACK * i, 4096, PROT_NONE);
  // What tells of a fault needs a stack too.
  stack_t of_signals = {malloc(1 << 16), 0, 1 << 16};
  sigaltstack(&of_signals, nullptr);
}

void run_block(Worker &w, Dim block, Dim grid, Dim size, size_t shared,
               const std::function<void()> &kernel) {
  // A barrier that is missing shows where threads run in the other order.
  static const bool reversed = setting("CARD_REVERSED", 0);
  const int count = size.x * size.y * size.z;
  make_stacks(w);
  worker = &w;
  w.kernel = &kernel;
  w.live = count;
  w.at_block = 0;
  memset(w.live_of, 0, sizeof w.live_of);
  memset(w.at_warp, 0, sizeof w.at_warp);
  memset(w.turn, 0, sizeof w.turn);
  // Not zero: whoever reads what nobody wrote gets NaN.
  w.shared.assign(shared + 1024, 0xff);
  card_shared_memory = (unsigned char *)(((uintptr_t)w.shared.data() + 1023) & ~1023ull);
  w.fibres.resize(count);
  for (int i = 0; i < count; i++) {
    const Dim thread = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    void **stack = (void **)(w.stacks + STACK * (i + 1));
    *--stack = nullptr;
    *--stack = (void *)begin_fibre;
    stack -= 6;
    memset(stack, 0, 6 * sizeof *stack);
    w.fibres[i] = {stack, {thread, block, size, grid, i, i / 32, i % 32}, READY};
    w.live_of[i / 32]++;
  }
  while (w.live) {
    bool moved = false;
    for (int j = 0; j < count; j++) {
      const int i = reversed ? count - 1 - j : j;
      if (w.fibres[i].state != READY) continue;
      moved = true;
      w.current = i;
      card_thread = &w.fibres[i].thread;
      card_switch(&w.scheduler, w.fibres[i].stack);
    }
    if (!moved) {
      card_fault("its threads wait for one another");
      return;
    }
  }
}

// ---- launches

struct Kernel {
  std::string name;
  void (*call)(void **);
  const int *sizes; // of the arguments
  int count;
  unsigned shared_limit = 48 << 10;
};

struct Device {
  size_t used = 0, peak = 0;
};

std::mutex mutex;
std::map<uint64_t, size_t> allocations;
Device device;
long launches, graph_launches, copies;
double kernel_seconds;
const char *running = "nothing";

size_t capacity() { return (size_t)setting("CARD_MEMORY_MIB", 24564) << 20; }

struct Summary {
  ~Summary() {
    if (!getenv("CARD_SUMMARY")) return;
    fprintf(stderr,
            "emulated card: %ld launches, %ld graph launches, %ld copies, peak %zu MiB, "
            "%.1f s in kernels\n",
            launches, graph_launches, copies, device.peak >> 20, kernel_seconds);
  }
} summary;

void tell_of_fault(int, siginfo_t *info, void *) {
  char line[512];
  const int length =
      snprintf(line, sizeof line, "emulated card: fault at %p in %s\n", info->si_addr, running);
  (void)!write(2, line, length);
  _exit(139);
}

void watch_for_faults() {
  static const bool once = [] {
    struct sigaction action = {};
    action.sa_sigaction = tell_of_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int signal : {SIGSEGV, SIGILL, SIGBUS}) sigaction(signal, &action, nullptr);
    return true;
  }();
  (void)once;
}

int run(const Kernel &kernel, Dim grid, Dim size, unsigned shared, void **arguments) {
  if (has_failed) return LAUNCH_FAILED;
  watch_for_faults();
  running = kernel.name.c_str();
  const double start = seconds();
  const size_t blocks = (size_t)grid.x * grid.y * grid.z;
  std::atomic<size_t> next{0};
  const std::function<void()> body = [&] { kernel.call(arguments); };
  auto work = [&](Worker &w) {
    for (size_t i; !has_failed && (i = next++) < blocks;) {
      const Dim block = {(uint32_t)(i % grid.x), (uint32_t)(i / grid.x % grid.y),
                         (uint32_t)(i / grid.x / grid.y)};
      run_block(w, block, grid, size, shared, body);
    }
  };
  static Worker workers[2];
  if (blocks == 1) {
    work(workers[0]);
  } else {
    std::thread other(work, std::ref(workers[1]));
    work(workers[0]);
    other.join();
  }
  const double taken = seconds() - start;
  kernel_seconds += taken;
  if (trace())
    fprintf(trace(), "%s %u,%u,%u %u,%u,%u %u %.1f us\n", kernel.name.c_str(), grid.x, grid.y,
            grid.z, size.x, size.y, size.z, shared, taken * 1e6);
  return has_failed ? LAUNCH_FAILED : SUCCESS;
}

struct Node {
  int type;
  std::function<int()> call;
};
enum NodeType { NODE_KERNEL = 0, NODE_COPY = 1, NODE_ALLOCATE = 10 };

struct Graph {
  std::vector<Node> nodes;
};

struct Stream {
  Graph *recording = nullptr;
};

Stream default_stream;
std::atomic<int> recordings{0};

Stream &of(void *stream) { return stream ? *(Stream *)stream : default_stream; }

// Does it now, or when the graph runs.
int enqueue(void *stream, int type, std::function<int()> call) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!of(stream).recording) return call();
  of(stream).recording->nodes.push_back({type, std::move(call)});
  return SUCCESS;
}

int allocate(uint64_t *address, size_t size) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!size) return INVALID_VALUE;
  if (device.used + size > capacity()) return OUT_OF_MEMORY;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) return OUT_OF_MEMORY;
  if (setting("CARD_POISON", 0)) memset(memory, 0xff, size);
  *address = (uint64_t)memory;
  allocations[*address] = size;
  device.used += size;
  device.peak = std::max(device.peak, device.used);
  if (trace()) fprintf(trace(), "allocate %zu, %zu in use\n", size, device.used);
  return SUCCESS;
}

int release(uint64_t address) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = allocations.find(address);
  if (found == allocations.end()) return INVALID_VALUE;
  munmap((void *)address, found->second);
  device.used -= found->second;
  allocations.erase(found);
  return SUCCESS;
}

} // namespace

// ---- what kernels call

__thread CardThread *card_thread;
__thread unsigned char *card_shared_memory;

void card_fault(const char *why) {
  fprintf(stderr, "emulated card: %s: %s\n", running, why);
  has_failed = true;
}

void card_sync_block() {
  worker->fibres[worker->current].state = AT_BLOCK;
  worker->at_block++;
  release_block();
  leave();
}

void card_sync_warp() {
  const int warp = card_thread->warp;
  worker->fibres[worker->current].state = AT_WARP;
  worker->at_warp[warp]++;
  release_warp(warp);
  leave();
}

const unsigned char *card_share(const void *value, int size) {
  const CardThread &thread = *card_thread;
  const int turn = worker->turn[thread.place] ^= 1;
  memcpy(worker->exchange[thread.warp][turn][thread.lane], value, size);
  card_sync_warp();
  return &worker->exchange[thread.warp][turn][0][0];
}

uint32_t card_live_lanes() {
  uint32_t lanes = 0;
  for (const Fibre &fibre : worker->fibres)
    if (fibre.thread.warp == card_thread->warp && fibre.state != DONE)
      lanes |= 1u << fibre.thread.lane;
  return lanes;
}

// ---- the driver: devices

static const long devices = setting("CARD_DEVICES", 1);
static const long architecture = setting("CARD_ARCH", 86);
static __thread void *current_context;

API int cuInit(unsigned) { return SUCCESS; }
API int cuDriverGetVersion(int *version) { return *version = 12090, SUCCESS; }
API int cuDeviceGetCount(int *count) { return *count = devices, SUCCESS; }
API int cuDeviceGet(int *device, int index) {
  *device = index;
  return index < devices ? SUCCESS : INVALID_DEVICE;
}
API int cuDeviceGetName(char *name, int length, int) {
  snprintf(name, length, "Emulated RTX 3090");
  return SUCCESS;
}
API int cuDeviceGetUuid_v2(char *id, int device) { return memset(id, device + 1, 16), SUCCESS; }
API int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = capacity(), SUCCESS; }
API int cuDeviceGetPCIBusId(char *id, int length, int device) {
  snprintf(id, length, "0000:%02x:00.0", device + 1);
  return SUCCESS;
}
API int cuDeviceGetAttribute(int *value, int attribute, int) {
  switch (attribute) {
  case 1:  // threads of a block, and its sizes
  case 2:
  case 3: *value = MOST_THREADS; break;
  case 4: *value = 64; break;
  case 5: *value = 2147483647; break; // blocks of a grid
  case 6:
  case 7: *value = 65535; break;
  case 8: *value = 48 << 10; break; // shared memory of a block, and at most
  case 97: *value = architecture == 90 ? 232448 : architecture == 80 ? 166912 : 101376; break;
  case 10: *value = 32; break; // lanes of a warp
  case 16: *value = 82; break; // multiprocessors
  case 75: *value = architecture / 10; break;
  case 76: *value = architecture % 10; break;
  case 115: *value = 1; break; // memory pools
  default: *value = 0;
  }
  return SUCCESS;
}
API int cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = (void *)(uintptr_t)(device + 1);
  return SUCCESS;
}
API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API int cuCtxSetCurrent(void *context) { return current_context = context, SUCCESS; }
API int cuCtxGetCurrent(void **context) { return *context = current_context, SUCCESS; }
API int cuCtxSynchronize() { return has_failed ? LAUNCH_FAILED : SUCCESS; }
API int cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return SUCCESS;
}
API int cuGetErrorName(int error, const char **name) {
  switch (error) {
  case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
  case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
  case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
  case CAPTURE_UNSUPPORTED: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
  default: *name = "CUDA_ERROR_UNKNOWN";
  }
  return SUCCESS;
}
API int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }

// ---- memory

API int cuMemAlloc_v2(uint64_t *address, size_t size) {
  return recordings ? CAPTURE_UNSUPPORTED : allocate(address, size);
}
API int cuMemFree_v2(uint64_t address) { return release(address); }
API int cuMemAllocAsync(uint64_t *address, size_t size, void *stream) {
  // Taken at once either way; a recording notes it, for it makes a graph that runs only once.
  if (of(stream).recording) enqueue(stream, NODE_ALLOCATE, [] { return SUCCESS; });
  return allocate(address, size);
}
API int cuMemFreeAsync(uint64_t address, void *) { return release(address); }
API int cuMemAllocHost_v2(void **address, size_t size) {
  *address = aligned_alloc(4096, (size + 4095) & ~4095ull);
  return *address ? SUCCESS : OUT_OF_MEMORY;
}
API int cuMemFreeHost(void *address) { return free(address), SUCCESS; }
API int cuMemGetInfo_v2(size_t *free, size_t *total) {
  *total = capacity();
  *free = *total - device.used;
  return SUCCESS;
}
static int copy(void *to, const void *from, size_t size, void *stream) {
  copies++;
  return enqueue(stream, NODE_COPY, [=] { return memmove(to, from, size), SUCCESS; });
}
API int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
  return copy((void *)to, from, size, stream);
}
API int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
  if (!runs()) return memset(to, 0, size), SUCCESS;
  return copy(to, (void *)from, size, stream);
}
API int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
  return copy((void *)to, (void *)from, size, stream);
}
API int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void *stream) {
  return enqueue(stream, 2, [=] { return memset((void *)to, value, size), SUCCESS; });
}

// CUDA_MEMCPY2D; a type of 1 is the host.
struct Copy2D {
  size_t from_x, from_y;
  int from_type;
  const char *from_host;
  uint64_t from_device;
  void *from_array;
  size_t from_pitch, to_x, to_y;
  int to_type;
  char *to_host;
  uint64_t to_device;
  void *to_array;
  size_t to_pitch, width, height;
};
API int cuMemcpy2DAsync_v2(const Copy2D *given, void *stream) {
  copies++;
  const Copy2D c = *given;
  return enqueue(stream, NODE_COPY, [=] {
    const char *from = c.from_type == 1 ? c.from_host : (const char *)c.from_device;
    char *to = c.to_type == 1 ? c.to_host : (char *)c.to_device;
    for (size_t y = 0; y < c.height; y++)
      if (c.to_type == 1 && !runs())
        memset(to + (c.to_y + y) * c.to_pitch + c.to_x, 0, c.width);
      else
        memcpy(to + (c.to_y + y) * c.to_pitch + c.to_x,
               from + (c.from_y + y) * c.from_pitch + c.from_x, c.width);
    return SUCCESS;
  });
}

// ---- streams and events

API int cuStreamCreate(void **stream, unsigned) { return *stream = new Stream, SUCCESS; }
API int cuStreamCreateWithPriority(void **stream, unsigned, int) {
  return *stream = new Stream, SUCCESS;
}
API int cuStreamDestroy_v2(void *) { return SUCCESS; }
API int cuStreamSynchronize(void *stream) {
  if (of(stream).recording) return CAPTURE_UNSUPPORTED;
  return has_failed ? LAUNCH_FAILED : SUCCESS;
}
API int cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
API int cuStreamIsCapturing(void *stream, int *answer) {
  return *answer = of(stream).recording != nullptr, SUCCESS;
}
API int cuEventCreate(void **event, unsigned) { return *event = new double(0), SUCCESS; }
API int cuEventDestroy_v2(void *event) { return delete (double *)event, SUCCESS; }
API int cuEventRecord(void *event, void *) { return *(double *)event = seconds(), SUCCESS; }
API int cuEventSynchronize(void *) { return has_failed ? LAUNCH_FAILED : SUCCESS; }
API int cuEventQuery(void *) { return SUCCESS; }
API int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
  *milliseconds = (*(double *)end - *(double *)start) * 1e3;
  return SUCCESS;
}
API int cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
  return cuEventElapsedTime(milliseconds, start, end);
}

// ---- kernels

API int cuModuleLoadData(void **module, const void *image) {
  // What compiler.cpp answers in place of PTX.
  const char *path = strstr((const char *)image, "EMULATED:");
  if (!path) return INVALID_IMAGE;
  path += strlen("EMULATED:");
  if (!runs()) return *module = new int, SUCCESS;
  const std::string file(path, strcspn(path, "\n"));
  *module = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!*module) fprintf(stderr, "emulated card: %s\n", dlerror());
  return *module ? SUCCESS : INVALID_IMAGE;
}
API int cuModuleUnload(void *) { return SUCCESS; }
API int cuModuleGetFunction(void **function, void *module, const char *name) {
  Kernel *kernel = new Kernel{name, nullptr, nullptr, 0};
  *function = kernel;
  if (!runs()) return SUCCESS;
  kernel->call = (void (*)(void **))dlsym(module, "card_call");
  if (!kernel->call) return NOT_FOUND;
  kernel->sizes = *(const int **)dlsym(module, "card_sizes");
  kernel->count = *(const int *)dlsym(module, "card_count");
  return SUCCESS;
}
API int cuFuncSetAttribute(void *function, int attribute, int value) {
  if (attribute != 8) return SUCCESS;
  int most;
  cuDeviceGetAttribute(&most, 97, 0);
  if (value > most) return INVALID_VALUE;
  ((Kernel *)function)->shared_limit = std::max(value, 48 << 10);
  return SUCCESS;
}
API int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned x,
                       unsigned y, unsigned z, unsigned shared, void *stream, void **arguments,
                       void **) {
  const Kernel &kernel = *(Kernel *)function;
  launches++;
  const bool fits = gx && gy && gz && gy <= 65535 && gz <= 65535 && x && y && z && z <= 64 &&
                    x * y * z <= MOST_THREADS && shared <= kernel.shared_limit;
  if (!fits) {
    fprintf(stderr, "emulated card: %s: %u×%u×%u blocks of %u×%u×%u with %u bytes refused\n",
            kernel.name.c_str(), gx, gy, gz, x, y, z, shared);
    return INVALID_VALUE;
  }
  if (!runs()) return enqueue(stream, NODE_KERNEL, [] { return skipped++, SUCCESS; });
  // Arguments are read at the launch, whenever the kernel runs.
  struct alignas(64) Argument {
    unsigned char bytes[4096];
  };
  auto kept = std::make_shared<std::vector<Argument>>(kernel.count);
  for (int i = 0; i < kernel.count; i++)
    memcpy((*kept)[i].bytes, arguments[i], kernel.sizes[i]);
  const Dim grid = {gx, gy, gz}, size = {x, y, z};
  return enqueue(stream, NODE_KERNEL, [=, &kernel] {
    std::vector<void *> pointers;
    for (Argument &argument : *kept) pointers.push_back(argument.bytes);
    return run(kernel, grid, size, shared, pointers.data());
  });
}

// ---- graphs

API int cuStreamBeginCapture_v2(void *stream, int) {
  if (of(stream).recording) return ILLEGAL_STATE;
  of(stream).recording = new Graph;
  recordings++;
  return SUCCESS;
}
API int cuStreamEndCapture(void *stream, void **graph) {
  if (!of(stream).recording) return ILLEGAL_STATE;
  *graph = of(stream).recording;
  of(stream).recording = nullptr;
  recordings--;
  return SUCCESS;
}
API int cuGraphGetNodes(void *graph, void **nodes, size_t *count) {
  auto &all = ((Graph *)graph)->nodes;
  if (!nodes) return *count = all.size(), SUCCESS;
  *count = std::min(*count, all.size());
  for (size_t i = 0; i < *count; i++) nodes[i] = &all[i];
  return SUCCESS;
}
API int cuGraphNodeGetType(void *node, int *type) {
  return *type = ((Node *)node)->type, SUCCESS;
}
API int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
  return *executable = new Graph(*(Graph *)graph), SUCCESS;
}
API int cuGraphDestroy(void *graph) { return delete (Graph *)graph, SUCCESS; }
API int cuGraphExecDestroy(void *graph) { return delete (Graph *)graph, SUCCESS; }
API int cuGraphUpload(void *, void *) { return SUCCESS; }
API int cuGraphLaunch(void *graph, void *) {
  std::lock_guard<std::mutex> lock(mutex);
  graph_launches++;
  for (Node &node : ((Graph *)graph)->nodes)
    if (int result = node.call()) return result;
  return SUCCESS;
}
