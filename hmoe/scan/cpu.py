"""The selective scan on the CPU: numba kernels that never hold (B, L, D, N) and need no compiler to install.

How it works, for a reader who has not met S6. Every (utterance b, channel d, state n) is a recurrence of its own,

    h_t = exp(delta_t A) h_{t-1} + (delta_t u_t) B_t        y_t = sum over n of C_t h_t

where `A` depends on (d, n), `delta` and `u` on (b, d, t), `B` and `C` on (b, n, t). Time is sequential, all else is
free, so the question is only what lies innermost. Here it is the states: A, B_t, C_t and h lie side by side in memory,
and a CPU computes 8 or 16 of them with one instruction. The loops are, from outside to inside,

    utterance - block of at most 256 states - channel - step t - state in the block

and all that the three inner loops touch stays in the cache, so the states themselves are never kept. The backward
pass runs the recurrence again, keeps h and exp(delta A) of one channel for each step, and walks back over them:

    g_t = C_t dy_t + exp(delta_{t+1} A) g_{t+1}         the gradient of h_t
    dC_t = sum over d of dy_t h_t                       dB_t = sum over d of g_t delta_t u_t
    w_t = g_t exp(delta_t A) h_{t-1}                    the gradient of delta_t A
    dA = sum over b, t of w_t delta_t                   ddelta_t = sum over n of w_t A + g_t B_t u_t

Threads share out slots of utterances (and, where those are few, groups of channels) in a way that depends on shapes
alone, and each sum is taken in a fixed order: any number of threads gives the same bits.

Why numba: a C++ extension would need a compiler on the reader's machine. `hmoe bench scan` measures this file beside a
C loop built by gcc (`results/bench/scan.csv`). LLVM vectorises an inner loop only if it can prove that its arrays do
not overlap, which is why a step is a record in one flat stretch with fixed offsets, for a block of fixed width.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor

from hmoe.scan.power import COEFFICIENTS

LOG2E, LN2 = math.log2(math.e), math.log(2)

# Sums may be reordered so that they vectorise. Never "nnan" or "ninf": not-a-number must come through.
FASTMATH = {"contract", "reassoc", "arcp", "nsz", "afn"}

Q0, Q1, Q2, Q3, Q4 = (np.float32(coefficient) for coefficient in COEFFICIENTS)
# Adding 1.5 * 2^23 to a float32 leaves the nearest integer in its lowest bits.
ROUND, LOWEST, HIGHEST = np.float32(1.5 * 2**23), np.float32(-126), np.float32(128)
EXPONENT, UNIT = np.int32(23), np.int32(0x3F800000)  # where the exponent's bits begin; the bits of 1
MODERATE = 126  # |x| below which 2^x needs no care


@njit(fastmath={"contract"})  # alone: under "reassoc" (x + ROUND) - ROUND would be x
def _moderate(x):
    rounded = np.float32(x + ROUND)
    f = x - (rounded - ROUND)
    scale = np.int32((rounded.view(np.int32) << EXPONENT) + UNIT).view(np.float32)
    return scale, f * ((((Q4 * f + Q3) * f + Q2) * f + Q1) * f + Q0)


@njit(fastmath={"contract"})
def _any(x):
    x = LOWEST if x < LOWEST else x  # comparisons that are false for not-a-number, which thus stays
    return _moderate(HIGHEST if x > HIGHEST else x)


@njit
def _double(x):
    return math.exp(x * LN2), x * 0


def power(x: float) -> tuple[float, float]:
    """2^x as (s, r) with 2^x = s (1 + r). In float32 r is exact to its last bits, and 0 at x = 0.

    Then s (h + r h) decays as slowly as it should: 2^x itself would be rounded to a multiple of 6e-8 near 1, the same
    at each step, which a long sequence adds up. No branch, no call: LLVM computes 8 or 16 at once.
    """


def power_moderate(x: float) -> tuple[float, float]:
    """`power` where |x| < `MODERATE`."""


overload(power)(lambda x: (lambda x: _any(x)) if x == types.float32 else (lambda x: _double(x)))
overload(power_moderate)(lambda x: (lambda x: _moderate(x)) if x == types.float32 else (lambda x: _double(x)))


def _forward(S: int) -> Callable:
    """The kernel for blocks of `S` states. Records hold B and C of a step; `own` A and h of a channel."""
    C_T, RECORD = S, 2 * S
    H = S

    def forward(u, delta, A, reach, B, C, y, last, slots, groups, first, end):
        """Items `first` to `end`: item i is slot i // groups of the utterances, group i % groups of the channels."""
        (batch, _, L), (D, N) = u.shape, A.shape
        zero = u.dtype.type(0)
        record, own = np.empty(L * RECORD, u.dtype), np.empty(2 * S, u.dtype)
        for item in range(first, end):
            slot, group = item // groups, item % groups
            for b in range(batch * slot // slots, batch * (slot + 1) // slots):
                for block in range(0, N, S):
                    states = min(S, N - block)
                    record[:] = zero  # beyond the last state A, B and C are zero
                    for t in range(L):
                        for j in range(states):
                            record[t * RECORD + j] = B[b, block + j, t]
                            record[t * RECORD + C_T + j] = C[b, block + j, t]
                    for d in range(D * group // groups, D * (group + 1) // groups):
                        own[:] = zero
                        for j in range(states):
                            own[j] = A[d, block + j]
                        for t in range(L):
                            r = record[t * RECORD : (t + 1) * RECORD]
                            step = delta[b, d, t]
                            x, y_t = step * u[b, d, t], zero
                            if abs(step) * reach[d] < MODERATE:
                                for j in range(S):
                                    scale, rest = power_moderate(step * own[j])
                                    h_t = scale * (own[H + j] + rest * own[H + j]) + x * r[j]
                                    own[H + j] = h_t
                                    y_t += h_t * r[C_T + j]
                            else:
                                for j in range(S):
                                    scale, rest = power(step * own[j])
                                    h_t = scale * (own[H + j] + rest * own[H + j]) + x * r[j]
                                    own[H + j] = h_t
                                    y_t += h_t * r[C_T + j]
                            y[b, d, t] = y_t if block == 0 else y[b, d, t] + y_t
                        for j in range(states):
                            last[b, d, block + j] = own[H + j]

    return forward


def _backward(S: int) -> Callable:
    """As `_forward`. Records hold B, C, their gradients, and exp(delta A) and h of a channel; `own` A, g and dA.

    Record 0 is the state before the first step, 1 to L are the steps.
    """
    C_T, DB, DC, DECAY, H, RECORD = S, 2 * S, 3 * S, 4 * S, 5 * S, 6 * S
    G, DA = S, 2 * S

    def backward(dy, dlast, u, delta, A, reach, B, C, du, ddelta, dA, dB, dC, slots, groups, first, end):
        (batch, _, L), (D, N) = u.shape, A.shape
        zero, ln2 = u.dtype.type(0), u.dtype.type(LN2)
        record, own = np.empty((L + 1) * RECORD, u.dtype), np.empty(3 * S, u.dtype)
        for item in range(first, end):
            slot, group = item // groups, item % groups
            for b in range(batch * slot // slots, batch * (slot + 1) // slots):
                for block in range(0, N, S):
                    states = min(S, N - block)
                    record[:] = zero
                    for t in range(L):
                        for j in range(states):
                            record[(t + 1) * RECORD + j] = B[b, block + j, t]
                            record[(t + 1) * RECORD + C_T + j] = C[b, block + j, t]
                    for d in range(D * group // groups, D * (group + 1) // groups):
                        own[:] = zero
                        for j in range(states):
                            own[j] = A[d, block + j]
                            own[DA + j] = dA[slot, d, block + j]
                            own[G + j] = dlast[b, d, block + j]
                        for t in range(L):
                            r = record[t * RECORD : (t + 2) * RECORD]  # the step before, this step
                            step, dy_t = delta[b, d, t], dy[b, d, t]
                            x = step * u[b, d, t]
                            if abs(step) * reach[d] < MODERATE:
                                for j in range(S):
                                    scale, rest = power_moderate(step * own[j])
                                    h_t = scale * (r[H + j] + rest * r[H + j]) + x * r[RECORD + j]
                                    r[RECORD + DECAY + j] = scale + scale * rest
                                    r[RECORD + H + j] = h_t
                                    r[RECORD + DC + j] += dy_t * h_t
                            else:
                                for j in range(S):
                                    scale, rest = power(step * own[j])
                                    h_t = scale * (r[H + j] + rest * r[H + j]) + x * r[RECORD + j]
                                    r[RECORD + DECAY + j] = scale + scale * rest
                                    r[RECORD + H + j] = h_t
                                    r[RECORD + DC + j] += dy_t * h_t
                        for t in range(L - 1, -1, -1):
                            r = record[t * RECORD : (t + 2) * RECORD]
                            step, dy_t, u_t = delta[b, d, t], dy[b, d, t], u[b, d, t]
                            x, sum_b, sum_a = step * u_t, zero, zero
                            for j in range(S):
                                g = own[G + j] + dy_t * r[RECORD + C_T + j]
                                r[RECORD + DB + j] += g * x
                                sum_b += g * r[RECORD + j]
                                g *= r[RECORD + DECAY + j]
                                own[G + j] = g
                                w = g * r[H + j]
                                sum_a += w * own[j]
                                own[DA + j] += w * step
                            du_t, ddelta_t = sum_b * step, sum_b * u_t + sum_a * ln2
                            du[b, d, t] = du_t if block == 0 else du[b, d, t] + du_t
                            ddelta[b, d, t] = ddelta_t if block == 0 else ddelta[b, d, t] + ddelta_t
                        for j in range(states):
                            dA[slot, d, block + j] = own[DA + j]
                    for t in range(L):
                        for j in range(states):
                            dB[group, b, block + j, t] = record[(t + 1) * RECORD + DB + j]
                            dC[group, b, block + j, t] = record[(t + 1) * RECORD + DC + j]

    return backward


@functools.cache
def _compiled(kernel: Callable, S: int, arrays: tuple[tuple[int, str], ...], dtype: torch.dtype) -> Callable:
    """`kernel` for one width of block, one float type, and the rank and layout of each array."""
    number = {torch.float32: types.float32, torch.float64: types.float64}[dtype]
    signature = types.void(*(types.Array(number, *array) for array in arrays), *[types.int64] * 4)
    options = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
    try:
        return njit([signature], cache=True, **options)(kernel(S))
    except RuntimeError:  # no folder that numba may write to: compile in each process anew
        return njit([signature], **options)(kernel(S))


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads of this process; `process` is in the key since a forked worker inherits the pool, not its threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="hmoe-scan")


def _run(kernel: Callable, layouts: str, tensors: list[Tensor], N: int, slots: int, groups: int) -> None:
    """Share the items of `kernel` among as many threads as PyTorch would use; it computes without the GIL.

    `layouts`: a letter for each tensor, "C" for one that is contiguous, "A" for any strides: few variants to compile.
    """
    items = slots * groups
    arrays = [tensor.detach().numpy() for tensor in tensors]
    kinds = tuple((array.ndim, layout) for array, layout in zip(arrays, layouts, strict=True))
    run = _compiled(kernel, _width(N), kinds, tensors[0].dtype)
    threads = min(torch.get_num_threads(), items)
    if threads == 1:
        return run(*arrays, slots, groups, 0, items)
    # An item at a time, so that a thread that is held up leaves work to the others.
    list(_pool(os.getpid(), threads).map(lambda i: run(*arrays, slots, groups, i, i + 1), range(items)))


def _width(N: int) -> int:
    """States in a block: a power of two from 16, one AVX-512 register, to 256."""
    return min(256, max(16, 1 << (N - 1).bit_length()))


def _shares(B: int, D: int) -> tuple[int, int]:
    """Into how many slots to deal the utterances, and into how many groups the channels, of 32 or more."""
    slots = min(B, 16)
    return slots, min(math.ceil(8 / slots), math.ceil(D / 32))


def kept_shape(u: torch.Size, A: torch.Size) -> tuple[int, ...]:
    """Of what `forward` keeps for `backward`: nothing, since recomputing costs less than the memory."""
    return (0,)


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`y` (B, D, L), the last state (B, D, N), and nothing kept for the backward pass. All of one float type."""
    y, last = torch.empty_like(u), u.new_empty(u.shape[0], *A.shape)  # `y` in memory as `u`, so that no copy is made
    a = (A * LOG2E).contiguous()
    tensors = [u, delta, a, a.abs().amax(dim=1), B, C, y, last]
    _run(_forward, "AACCAAAC", tensors, A.shape[1], *_shares(*u.shape[:2]))
    return y, last, u.new_empty(kept_shape(u.shape, A.shape))


def backward(
    dy: Tensor, dlast: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `u`, `delta`, `A`, `B`, `C`."""
    slots, groups = _shares(*u.shape[:2])
    du, ddelta = torch.empty_like(u), torch.empty_like(delta)
    dA = u.new_zeros(slots, *A.shape)
    dB, dC = (torch.empty_like(tensor.expand(groups, *tensor.shape)) for tensor in (B, C))
    a = (A * LOG2E).contiguous()
    tensors = [dy, dlast, u, delta, a, a.abs().amax(dim=1), B, C, du, ddelta, dA, dB, dC]
    _run(_backward, "AAAACCAAAACAA", tensors, A.shape[1], slots, groups)
    dB, dC = (made[0] if groups == 1 else made.sum(dim=0) for made in (dB, dC))
    return du, ddelta, dA.sum(dim=0), dB, dC
