// CUDA C++ as CubeCL 0.11 writes it, for g++: one thread of a kernel, what it shares with others, and
// the instructions that are written as assembly.
#pragma once

#include <algorithm>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <type_traits>
#include <utility>

#include "card.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define threadIdx (card_thread->thread)
#define blockIdx (card_thread->block)
#define blockDim (card_thread->block_size)
#define gridDim (card_thread->grid_size)
#define warpSize 32
#define FN static inline

// ---- barriers and bits

FN void __syncthreads() { card_sync_block(); }
FN void __syncwarp(unsigned = ~0u) { card_sync_warp(); }
FN void __threadfence() {}
FN unsigned __activemask() { return card_live_lanes(); }
FN int __clz(int v) { return v ? __builtin_clz(v) : 32; }
FN int __clzll(long long v) { return v ? __builtin_clzll(v) : 64; }
FN int __popc(unsigned v) { return __builtin_popcount(v); }
FN int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
FN int __ffs(int v) { return __builtin_ffs(v); }
FN int __ffsll(long long v) { return __builtin_ffsll(v); }
FN unsigned __brev(unsigned v) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; i++) reversed |= (v >> i & 1) << (31 - i);
  return reversed;
}
FN unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
FN int __mulhi(int a, int b) { return (long long)a * b >> 32; }
FN unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned __int128)a * b >> 64;
}
FN uint32_t __cvta_generic_to_shared(const void *p) {
  return (uint32_t)((const unsigned char *)p - card_shared_memory);
}
FN float __uint_as_float(unsigned v) {
  float f;
  return memcpy(&f, &v, 4), f;
}
FN unsigned __float_as_uint(float f) {
  unsigned v;
  return memcpy(&v, &f, 4), v;
}

// ---- numbers of 16 bits

template <class T> using IfNumber = std::enable_if_t<std::is_arithmetic_v<T>>;

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  template <class T, class = IfNumber<T>> __nv_bfloat16(T value) {
    uint32_t u = __float_as_uint((float)value);
    if ((u & 0x7fffffff) > 0x7f800000) {
      bits = 0x7fff;
    } else {
      u += 0x7fff + (u >> 16 & 1); // to the nearest, ties to even
      bits = u >> 16;
    }
  }
  operator float() const { return __uint_as_float((uint32_t)bits << 16); }
};
struct __half {
  _Float16 value;
  __half() = default;
  template <class T, class = IfNumber<T>> __half(T v) : value((_Float16)v) {}
  operator float() const { return (float)value; }
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
struct alignas(4) __half2 {
  __half x, y;
};

#define SIXTEEN_BITS(T)                                                                            \
  FN T operator+(T a, T b) { return T((float)a + (float)b); }                                      \
  FN T operator-(T a, T b) { return T((float)a - (float)b); }                                      \
  FN T operator*(T a, T b) { return T((float)a * (float)b); }                                      \
  FN T operator/(T a, T b) { return T((float)a / (float)b); }                                      \
  FN T operator-(T a) { return T(-(float)a); }                                                     \
  FN T &operator+=(T &a, T b) { return a = a + b; }                                                \
  FN bool operator<(T a, T b) { return (float)a < (float)b; }                                      \
  FN bool operator>(T a, T b) { return (float)a > (float)b; }                                      \
  FN bool operator<=(T a, T b) { return (float)a <= (float)b; }                                    \
  FN bool operator>=(T a, T b) { return (float)a >= (float)b; }                                    \
  FN bool operator==(T a, T b) { return (float)a == (float)b; }                                    \
  FN bool operator!=(T a, T b) { return (float)a != (float)b; }                                    \
  FN T __hfma(T a, T b, T c) { return T((float)((double)(float)a * (float)b + (float)c)); }        \
  FN T __hmax(T a, T b) { return T(fmaxf(a, b)); }                                                 \
  FN T __hmin(T a, T b) { return T(fminf(a, b)); }                                                 \
  FN T __habs(T a) { return T(fabsf(a)); }                                                         \
  FN T hexp(T a) { return T(expf(a)); }                                                            \
  FN T hlog(T a) { return T(logf(a)); }                                                            \
  FN T hsqrt(T a) { return T(sqrtf(a)); }                                                          \
  FN T hrsqrt(T a) { return T(1.0f / sqrtf(a)); }                                                  \
  FN T hrcp(T a) { return T(1.0f / (float)a); }                                                    \
  FN T hsin(T a) { return T(sinf(a)); }                                                            \
  FN T hcos(T a) { return T(cosf(a)); }                                                            \
  FN T hfloor(T a) { return T(floorf(a)); }                                                        \
  FN T hceil(T a) { return T(ceilf(a)); }                                                          \
  FN bool __hisnan(T a) { return isnan((float)a); }                                                \
  FN bool __hisinf(T a) { return isinf((float)a); }
SIXTEEN_BITS(__nv_bfloat16)
SIXTEEN_BITS(__half)
#define OF_PAIR(T2, NAME) FN T2 h2##NAME(T2 a) { return {h##NAME(a.x), h##NAME(a.y)}; }
#define PAIRS(T2)                                                                                  \
  FN T2 __hfma2(T2 a, T2 b, T2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }       \
  OF_PAIR(T2, exp) OF_PAIR(T2, log) OF_PAIR(T2, sqrt) OF_PAIR(T2, rsqrt) OF_PAIR(T2, rcp)          \
  OF_PAIR(T2, sin) OF_PAIR(T2, cos) OF_PAIR(T2, floor) OF_PAIR(T2, ceil)
PAIRS(__nv_bfloat162)
PAIRS(__half2)
FN float __bfloat162float(__nv_bfloat16 a) { return a; }
FN __nv_bfloat16 __float2bfloat16(float a) { return a; }

// ---- functions

// glibc has names like these for itself.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanhf(x) tanhf(x)
#define __powf(x, y) powf(x, y)
FN float __fdividef(float a, float b) { return a / b; }
FN float rsqrtf(float a) { return 1.0f / sqrtf(a); }
FN float rsqrt(float a) { return 1.0f / sqrtf(a); }
FN float __frsqrt_rn(float a) { return 1.0f / sqrtf(a); }
FN float __frcp_rn(float a) { return 1.0f / a; }
FN float __fsqrt_rn(float a) { return sqrtf(a); }
FN float min(float a, float b) { return fminf(a, b); }
FN float max(float a, float b) { return fmaxf(a, b); }
#define ORDER(T)                                                                                   \
  FN T min(T a, T b) { return a < b ? a : b; }                                                     \
  FN T max(T a, T b) { return a > b ? a : b; }
ORDER(short)
ORDER(unsigned short)
ORDER(int)
ORDER(unsigned)
ORDER(long)
ORDER(unsigned long)
ORDER(long long)
ORDER(unsigned long long)
ORDER(double)
using std::abs, std::ceil, std::exp, std::floor, std::fma, std::isinf, std::isnan, std::log, std::pow,
    std::sqrt, std::tanh;

// ---- warps

template <class T> FN T card_lane(T value, int lane) {
  const unsigned char *all = card_share(&value, sizeof value);
  T of_lane;
  return memcpy(&of_lane, all + SHARED_BY_A_LANE * lane, sizeof of_lane), of_lane;
}
template <class T> FN T __shfl_sync(unsigned, T value, int lane, int = 32) {
  return card_lane(value, lane & 31);
}
template <class T> FN T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
  return card_lane(value, (card_thread->lane ^ mask) & 31);
}
template <class T> FN T __shfl_up_sync(unsigned, T value, unsigned by, int = 32) {
  const int lane = card_thread->lane - (int)by;
  return card_lane(value, lane < 0 ? card_thread->lane : lane);
}
template <class T> FN T __shfl_down_sync(unsigned, T value, unsigned by, int = 32) {
  const int lane = card_thread->lane + (int)by;
  return card_lane(value, lane > 31 ? card_thread->lane : lane);
}
FN unsigned __ballot_sync(unsigned, int predicate) {
  const unsigned live = card_live_lanes();
  const int mine = predicate != 0;
  const unsigned char *all = card_share(&mine, sizeof mine);
  unsigned lanes = 0;
  for (int lane = 0; lane < 32; lane++) {
    int its;
    memcpy(&its, all + SHARED_BY_A_LANE * lane, sizeof its);
    if (live >> lane & 1 && its) lanes |= 1u << lane;
  }
  return lanes;
}
FN int __all_sync(unsigned mask, int predicate) {
  const unsigned live = card_live_lanes();
  return __ballot_sync(mask, predicate) == live;
}
FN int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
template <class T, class U> FN T atomicAdd(T *target, U value) {
  T before = *(volatile T *)target, after;
  do after = before + (T)value;
  while (!__atomic_compare_exchange(target, &before, &after, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  return before;
}

// ---- assembly (PTX ISA, "Warp Level Matrix Instructions")

template <class... Out> FN void card_ldmatrix(bool transposed, uint32_t row, Out &...out) {
  uint32_t loaded[sizeof...(out)];
  // Lanes 0 to 7 give the rows of the first matrix, the next 8 those of the second.
  const unsigned char *rows = card_share(&row, sizeof row);
  const int high = card_thread->lane / 4, low = card_thread->lane % 4;
  for (size_t matrix = 0; matrix < sizeof...(out); matrix++) {
    uint16_t pair[2];
    for (int i = 0; i < 2; i++) {
      const int r = transposed ? 2 * low + i : high, c = transposed ? high : 2 * low + i;
      uint32_t at;
      memcpy(&at, rows + SHARED_BY_A_LANE * (8 * matrix + r), sizeof at);
      if (at % 16) card_fault("ldmatrix of an address that is not a multiple of 16");
      memcpy(&pair[i], card_shared_memory + at + 2 * c, 2);
    }
    memcpy(&loaded[matrix], pair, sizeof pair);
  }
  card_sync_warp();
  size_t next = 0;
  ((out = loaded[next++]), ...);
}
#define LDMATRIX(NAME, TRANSPOSED)                                                                 \
  FN void ldmatrix_sync_aligned_m8n8_x1_##NAME(uint32_t &a, uint32_t row) {                        \
    card_ldmatrix(TRANSPOSED, row, a);                                                             \
  }                                                                                                \
  FN void ldmatrix_sync_aligned_m8n8_x2_##NAME(uint32_t &a, uint32_t &b, uint32_t row) {           \
    card_ldmatrix(TRANSPOSED, row, a, b);                                                          \
  }                                                                                                \
  FN void ldmatrix_sync_aligned_m8n8_x4_##NAME(uint32_t &a, uint32_t &b, uint32_t &c, uint32_t &d, \
                                               uint32_t row) {                                     \
    card_ldmatrix(TRANSPOSED, row, a, b, c, d);                                                    \
  }
LDMATRIX(shared__cta_b16, false)
LDMATRIX(trans_shared__cta_b16, true)

template <class E>
FN void card_mma_m16n8k16(float *d, const uint32_t *a, const uint32_t *b, const float *c) {
  struct Fragments {
    uint32_t a[4], b[2];
  } mine, all[32];
  memcpy(mine.a, a, sizeof mine.a);
  memcpy(mine.b, b, sizeof mine.b);
  const unsigned char *shared = card_share(&mine, sizeof mine);
  for (int i = 0; i < 32; i++) memcpy(&all[i], shared + SHARED_BY_A_LANE * i, sizeof mine);
  auto element = [](uint32_t pair, int i) {
    E both[2];
    return memcpy(both, &pair, sizeof both), (float)both[i];
  };
  const int group = card_thread->lane / 4, place = card_thread->lane % 4;
  for (int i = 0; i < 4; i++) {
    const int row = group + 8 * (i / 2), column = 2 * place + i % 2;
    float sum = c[i];
    for (int k = 0; k < 16; k++) {
      const Fragments &of_row = all[row % 8 * 4 + k % 8 / 2];
      const Fragments &of_column = all[column * 4 + k % 8 / 2];
      sum += element(of_row.a[row / 8 + 2 * (k / 8)], k % 2) * element(of_column.b[k / 8], k % 2);
    }
    d[i] = sum;
  }
}
FN float card_tf32(float value) {
  // 10 bits of the fraction, to the nearest.
  return __uint_as_float((__float_as_uint(value) + 0x1000) & ~0x1fffu);
}
template <class T> FN uint32_t card_bits(T pair) {
  static_assert(sizeof pair == 4);
  uint32_t bits;
  return memcpy(&bits, &pair, sizeof bits), bits;
}
#define MMA(NAME, E)                                                                               \
  template <class A, class B>                                                                      \
  FN void NAME(float &d0, float &d1, float &d2, float &d3, A a0, A a1, A a2, A a3, B b0, B b1,     \
               float c0, float c1, float c2, float c3) {                                           \
    const uint32_t a[] = {card_bits(a0), card_bits(a1), card_bits(a2), card_bits(a3)};             \
    const uint32_t b[] = {card_bits(b0), card_bits(b1)};                                           \
    const float c[] = {c0, c1, c2, c3};                                                            \
    float d[4];                                                                                    \
    card_mma_m16n8k16<E>(d, a, b, c);                                                              \
    d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];                                                    \
  }
MMA(mma_sync_aligned_m16n8k16_row_col_f32_bf16_bf16_f32, __nv_bfloat16)
MMA(mma_sync_aligned_m16n8k16_row_col_f32_f16_f16_f32, __half)
template <class A, class B>
FN void mma_sync_aligned_m16n8k8_row_col_f32_tf32_tf32_f32(float &d0, float &d1, float &d2, float &d3,
                                                           A a0, A a1, A a2, A a3, B b0, B b1,
                                                           float c0, float c1, float c2, float c3) {
  struct Fragments {
    uint32_t a[4], b[2];
  } all[32];
  const Fragments mine = {{card_bits(a0), card_bits(a1), card_bits(a2), card_bits(a3)},
                          {card_bits(b0), card_bits(b1)}};
  const unsigned char *shared = card_share(&mine, sizeof mine);
  for (int i = 0; i < 32; i++) memcpy(&all[i], shared + SHARED_BY_A_LANE * i, sizeof mine);
  const int group = card_thread->lane / 4, place = card_thread->lane % 4;
  const float c[] = {c0, c1, c2, c3};
  float d[4];
  for (int i = 0; i < 4; i++) {
    const int row = group + 8 * (i / 2), column = 2 * place + i % 2;
    float sum = c[i];
    for (int k = 0; k < 8; k++) {
      const uint32_t left = all[row % 8 * 4 + k % 4].a[row / 8 + 2 * (k / 4)];
      const uint32_t right = all[column * 4 + k % 4].b[k / 4];
      sum += card_tf32(__uint_as_float(left)) * card_tf32(__uint_as_float(right));
    }
    d[i] = sum;
  }
  d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
}
template <class T> FN void atom_relaxed_add_f32(float &before, T *target, float value) {
  before = atomicAdd((float *)target, value);
}
FN void max_NaN_f32(float &r, float a, float b) { r = isnan(a) || isnan(b) ? NAN : fmaxf(a, b); }
FN void min_NaN_f32(float &r, float a, float b) { r = isnan(a) || isnan(b) ? NAN : fminf(a, b); }

// ---- fragments: element i of a lane is element 32·i + lane, row by row

namespace nvcuda::wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

namespace precision {
struct tf32 {};
} // namespace precision
FN float __float_to_tf32(float value) { return card_tf32(value); }
template <class T> struct Storage {
  using Type = T;
};
template <> struct Storage<precision::tf32> {
  using Type = float;
};

template <class Use, int M, int N, int K, class Element, class Layout = void> struct fragment {
  using T = typename Storage<Element>::Type;
  static constexpr int rows = std::is_same_v<Use, matrix_b> ? K : M;
  static constexpr int columns = std::is_same_v<Use, matrix_a> ? K : N;
  static constexpr int num_elements = rows * columns / 32;
  T x[num_elements];

  static size_t place(int i, bool by_column, unsigned stride) {
    const int element = 32 * i + card_thread->lane, row = element / columns, column = element % columns;
    return by_column ? (size_t)column * stride + row : (size_t)row * stride + column;
  }
  void load(const T *from, bool by_column, unsigned stride) {
    for (int i = 0; i < num_elements; i++) x[i] = from[place(i, by_column, stride)];
    card_sync_warp();
  }
  // The whole matrix, from all lanes.
  void gather(T *whole) const {
    static_assert(sizeof x <= SHARED_BY_A_LANE);
    const unsigned char *all = card_share(x, sizeof x);
    for (int lane = 0; lane < 32; lane++)
      for (int i = 0; i < num_elements; i++)
        memcpy(&whole[32 * i + lane], all + SHARED_BY_A_LANE * lane + sizeof(T) * i, sizeof(T));
  }
};

template <class F, class V> void fill_fragment(F &f, V value) {
  for (auto &element : f.x) element = value;
}
template <class Use, int M, int N, int K, class E, class Layout>
void load_matrix_sync(fragment<Use, M, N, K, E, Layout> &f, const typename Storage<E>::Type *from,
                      unsigned stride) {
  f.load(from, std::is_same_v<Layout, col_major>, stride);
}
template <class Use, int M, int N, int K, class E>
void load_matrix_sync(fragment<Use, M, N, K, E> &f, const typename Storage<E>::Type *from,
                      unsigned stride, layout_t layout) {
  f.load(from, layout == mem_col_major, stride);
}
template <int M, int N, int K, class T>
void store_matrix_sync(T *to, const fragment<accumulator, M, N, K, T> &f, unsigned stride,
                       layout_t layout) {
  for (int i = 0; i < f.num_elements; i++) to[f.place(i, layout == mem_col_major, stride)] = f.x[i];
  card_sync_warp();
}
template <int M, int N, int K, class T, class S, class LayoutA, class LayoutB>
void mma_sync(fragment<accumulator, M, N, K, S> &d, const fragment<matrix_a, M, N, K, T, LayoutA> &a,
              const fragment<matrix_b, M, N, K, T, LayoutB> &b,
              const fragment<accumulator, M, N, K, S> &c) {
  typename Storage<T>::Type left[M * K], right[K * N];
  a.gather(left);
  b.gather(right);
  for (int i = 0; i < d.num_elements; i++) {
    const int element = 32 * i + card_thread->lane, row = element / N, column = element % N;
    float sum = (float)c.x[i];
    for (int k = 0; k < K; k++) sum += (float)left[row * K + k] * (float)right[k * N + column];
    d.x[i] = (S)sum;
  }
}
} // namespace nvcuda::wmma

// ---- the way in

template <class... A, size_t... I>
FN void card_spread(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
  kernel(*(std::remove_reference_t<A> *)arguments[I]...);
}
template <class... A> FN void card_invoke(void (*kernel)(A...), void **arguments) {
  card_spread(kernel, arguments, std::index_sequence_for<A...>{});
}
template <class F> struct CardArguments;
template <class... A> struct CardArguments<void (*)(A...)> {
  static constexpr int sizes[] = {sizeof(A)..., 0};
  static constexpr int count = sizeof...(A);
};
#define CARD_SEEN extern "C" __attribute__((visibility("default")))
#define CARD_KERNEL(NAME)                                                                          \
  CARD_SEEN void card_call(void **arguments) { card_invoke(&NAME, arguments); }                    \
  CARD_SEEN const int *const card_sizes;                                                           \
  CARD_SEEN const int card_count;                                                                  \
  const int *const card_sizes = CardArguments<decltype(&NAME)>::sizes;                             \
  const int card_count = CardArguments<decltype(&NAME)>::count;
