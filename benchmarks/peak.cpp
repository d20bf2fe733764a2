// As many fused multiply-adds as the core can start: the machine's peak. See peak.py.
#if defined(__AVX512F__)
#define BYTES 64
#define REGISTERS 24
#elif defined(__AVX2__)
#define BYTES 32
#define REGISTERS 12
#elif defined(__aarch64__)
#define BYTES 16
#define REGISTERS 24
#else
#define BYTES 16
#define REGISTERS 12
#endif

typedef float Vector __attribute__((vector_size(BYTES)));

// Floating-point operations of one round of the loop.
extern "C" long operations() { return 2L * REGISTERS * (BYTES / sizeof(float)); }

// Independent sums, so that none waits for another one's latency. The result is returned lest it be optimised away.
extern "C" float run(long rounds, float factor, float term) {
  Vector sums[REGISTERS], factors = Vector{} + factor, terms = Vector{} + term;
#pragma GCC unroll 32
  for (int i = 0; i < REGISTERS; i++) sums[i] = Vector{} + float(i);
  for (long round = 0; round < rounds; round++) {
#pragma GCC unroll 32
    for (int i = 0; i < REGISTERS; i++) sums[i] = sums[i] * factors + terms;
  }
  Vector sum = sums[0];
#pragma GCC unroll 32
  for (int i = 1; i < REGISTERS; i++) sum += sums[i];
  return sum[0];
}
