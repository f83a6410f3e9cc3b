// The yardstick of `hmoe bench scan`, never part of the scan: the selective scan as a plain C loop.
// u, delta, y (B,D,L); A (D,N); b, c (B,L,N). Innermost are the states n, over which gcc vectorises expf.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define EACH _Pragma("GCC ivdep") for (int n = 0; n < N; n++)

void forward(int B, int D, int L, int N, const float *u, const float *delta, const float *A, const float *b,
             const float *c, float *y) {
#pragma omp parallel for collapse(2)
  for (int i = 0; i < B; i++)
    for (int d = 0; d < D; d++) {
      float h[N];
      memset(h, 0, sizeof h);
      const float *a = A + (long)d * N;
      for (int t = 0; t < L; t++) {
        long at = ((long)i * D + d) * L + t, row = ((long)i * L + t) * N;
        float s = delta[at], x = s * u[at], sum = 0;
        EACH { h[n] = expf(s * a[n]) * h[n] + x * b[row + n]; sum += h[n] * c[row + n]; }
        y[at] = sum;
      }
    }
}

// dA (B,D,N) is summed over B by the caller. The states of one channel at a time are computed again, and kept.
void backward(int B, int D, int L, int N, const float *u, const float *delta, const float *A, const float *b,
              const float *c, const float *dy, float *du, float *ddelta, float *dA, float *dB, float *dC) {
#pragma omp parallel
  {
    float *h = malloc(sizeof(float) * (L + 1) * N), *g = malloc(sizeof(float) * N);
#pragma omp for
    for (int i = 0; i < B; i++) {
      memset(dB + (long)i * L * N, 0, sizeof(float) * L * N);
      memset(dC + (long)i * L * N, 0, sizeof(float) * L * N);
      for (int d = 0; d < D; d++) {
        const float *a = A + (long)d * N;
        float *restrict da = dA + ((long)i * D + d) * N;
        memset(h, 0, sizeof(float) * N);
        memset(g, 0, sizeof(float) * N);
        memset(da, 0, sizeof(float) * N);
        for (int t = 0; t < L; t++) {
          long at = ((long)i * D + d) * L + t, row = ((long)i * L + t) * N;
          float s = delta[at], x = s * u[at], *before = h + (long)t * N, *now = before + N;
          EACH now[n] = expf(s * a[n]) * before[n] + x * b[row + n];
        }
        for (int t = L - 1; t >= 0; t--) {
          long at = ((long)i * D + d) * L + t, row = ((long)i * L + t) * N;
          const float *restrict bt = b + row, *restrict ct = c + row, *before = h + (long)t * N, *now = before + N;
          float *restrict db = dB + row, *restrict dc = dC + row, *restrict gt = g;
          float s = delta[at], x = s * u[at], gy = dy[at], sum_b = 0, sum_a = 0;
          EACH {
            float k = gt[n] + gy * ct[n];
            dc[n] += gy * now[n];
            db[n] += k * x;
            sum_b += k * bt[n];
            gt[n] = k * expf(s * a[n]);
            float w = gt[n] * before[n];
            sum_a += w * a[n];
            da[n] += w * s;
          }
          du[at] = sum_b * s;
          ddelta[at] = sum_b * u[at] + sum_a;
        }
      }
    }
    free(h);
    free(g);
  }
}
