"""The selective scan on the CPU: numba kernels that never hold (B, L, D, N) and need no compiler to install.

How it works, for a reader who has not met S6. Every (utterance b, channel d, state n) is a recurrence of its own,

    h_t = exp(delta_t A) h_{t-1} + (delta_t u_t) B_t        y_t = sum over n of C_t h_t

where `A` depends on (d, n), `delta` and `u` on (b, d, t), `B` and `C` on (b, n, t). Time is sequential, all else is
free, so the question is only what lies innermost. Here it is a block of `LANES` channels: they share the scalars
B_t and C_t, and a CPU computes several channels with one instruction. The loops are, from outside to inside,

    utterance - block of channels - state n - step t - channel in the block

and all that the three inner loops touch, one small record for each step, stays in the cache. The sum over n is a sum
over passes, so the states themselves are never kept. The backward pass runs the recurrence again, keeps one h and one
exp(delta A) for each step in the records, and walks back over them:

    g_t = C_t dy_t + exp(delta_{t+1} A) g_{t+1}         the gradient of h_t
    dC_t = sum over d of dy_t h_t                       dB_t = sum over d of g_t delta_t u_t
    w_t = g_t exp(delta_t A) h_{t-1}                    the gradient of delta_t A
    dA = sum over b, t of w_t delta_t                   ddelta_t = sum over n of w_t A + g_t B_t u_t

Threads share out utterances (and, where those are few, groups of channels) in a way that depends on shapes alone, and
each sum is taken in a fixed order: any number of threads gives the same bits.

Why numba: a C++ extension would need a compiler on the reader's machine. `hmoe bench scan` measures this file beside a
C loop built by gcc (`results/bench/scan.csv`). LLVM vectorises an inner loop only if it can prove that its arrays do
not overlap, which is why a record is one flat stretch with fixed offsets.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload
from torch import Tensor

LANES = 32  # channels in a block: 4 AVX2 registers; 16 and 64 measured no better
LOG2E, LN2 = math.log2(math.e), math.log(2)

# Sums may be reordered so that they vectorise. Never "nnan" or "ninf": not-a-number must come through.
FASTMATH = {"contract", "reassoc", "arcp", "nsz", "afn"}

# 2^f for |f| <= 1/2, relative error 1e-7: the polynomial through the Chebyshev nodes, highest power first.
_nodes = np.polynomial.Chebyshev.interpolate(np.exp2, 5, domain=[-0.5, 0.5])
P0, P1, P2, P3, P4, P5 = (np.float32(c) for c in _nodes.convert(kind=np.polynomial.Polynomial).coef)
# Adding 1.5 * 2^23 to a float32 leaves the nearest integer in its lowest bits.
ROUND, LOWEST, HIGHEST = np.float32(1.5 * 2**23), np.float32(-127), np.float32(128)


@intrinsic
def _power_of_two(typingctx, rounded):
    """2^k as float32, its exponent bits put together from the k that adding `ROUND` left in the lowest bits."""

    def generate(context, builder, signature, args):
        i32 = ir.IntType(32)
        biased = builder.add(builder.bitcast(args[0], i32), ir.Constant(i32, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(i32, 23)), ir.FloatType())

    return types.float32(types.float32), generate


def exp2(x: float) -> float:
    """2^x; in float32 without a branch or a call, so that LLVM computes 8 or 16 at once."""
    return 2.0**x


# "contract" alone: under "reassoc" (x + ROUND) - ROUND would be x.
@overload(exp2, jit_options={"fastmath": {"contract"}})
def _exp2(x):
    if x != types.float32:
        return lambda x: math.exp(x * LN2)

    def polynomial(x):
        x = LOWEST if x < LOWEST else x  # comparisons that are false for not-a-number, which thus stays
        x = HIGHEST if x > HIGHEST else x
        rounded = x + ROUND
        f = x - (rounded - ROUND)
        return (((((P5 * f + P4) * f + P3) * f + P2) * f + P1) * f + P0) * _power_of_two(rounded)

    return polynomial


# Offsets into the record of a step: LANES numbers each.
STEP, INPUT, Y = 0, LANES, 2 * LANES  # delta, delta u, y
FORWARD = 3 * LANES


def _forward(u, delta, A, B, C, y, last, groups, first, end):
    """Items `first` to `end`: item i is group i % groups of the channels of utterance i // groups. `A` is (N, D)."""
    L, (N, D) = u.shape[2], A.shape
    zero = u.dtype.type(0)
    record = np.empty(L * FORWARD, u.dtype)
    a, h = np.zeros(LANES, u.dtype), np.zeros(LANES, u.dtype)
    blocks = (D + LANES - 1) // LANES
    for item in range(first, end):
        b, group = item // groups, item % groups
        for block in range(blocks * group // groups, blocks * (group + 1) // groups):
            d = block * LANES
            lanes = min(LANES, D - d)
            record[:] = zero
            for j in range(lanes):
                for t in range(L):
                    record[t * FORWARD + STEP + j] = delta[b, d + j, t]
                    record[t * FORWARD + INPUT + j] = delta[b, d + j, t] * u[b, d + j, t]
            for n in range(N):
                h[:] = zero
                for j in range(lanes):
                    a[j] = A[n, d + j]
                for t in range(L):
                    r = record[t * FORWARD : (t + 1) * FORWARD]
                    b_t, c_t = B[b, n, t], C[b, n, t]
                    for j in range(LANES):
                        h_t = exp2(r[STEP + j] * a[j]) * h[j] + r[INPUT + j] * b_t
                        h[j] = h_t
                        r[Y + j] += h_t * c_t
                for j in range(lanes):
                    last[b, d + j, n] = h[j]
            for j in range(lanes):
                for t in range(L):
                    y[b, d + j, t] = record[t * FORWARD + Y + j]


# As above; then dy, the sums over n that make du and ddelta, and two that change their meaning on the way back:
# DECAY is exp(delta A), then the gradient it hands to the step before; STATE is h, then the sum that makes dA.
DY, SUM_B, SUM_A, DECAY, STATE = (k * LANES for k in range(2, 7))
BACKWARD = 7 * LANES


def _backward(dy, dlast, u, delta, A, B, C, du, ddelta, dA, dB, dC, groups, first, end):
    """As `_forward`. Record 0 is the state before the first step, 1 to L the steps, L + 1 what comes from behind."""
    L, (N, D) = u.shape[2], A.shape
    zero, ln2 = u.dtype.type(0), u.dtype.type(LN2)
    record = np.empty((L + 2) * BACKWARD, u.dtype)
    a = np.zeros(LANES, u.dtype)
    blocks = (D + LANES - 1) // LANES
    for item in range(first, end):
        b, group = item // groups, item % groups
        for block in range(blocks * group // groups, blocks * (group + 1) // groups):
            d = block * LANES
            lanes = min(LANES, D - d)
            record[:] = zero
            for j in range(lanes):
                for t in range(L):
                    r = record[(t + 1) * BACKWARD : (t + 2) * BACKWARD]
                    r[STEP + j] = delta[b, d + j, t]
                    r[INPUT + j] = delta[b, d + j, t] * u[b, d + j, t]
                    r[DY + j] = dy[b, d + j, t]
            for n in range(N):
                behind = record[(L + 1) * BACKWARD :]
                for j in range(lanes):
                    a[j] = A[n, d + j]
                    behind[DECAY + j] = dlast[b, d + j, n]
                    behind[STATE + j] = zero
                for t in range(L):
                    r = record[t * BACKWARD : (t + 2) * BACKWARD]  # the step before, this step
                    b_t = B[b, n, t]
                    for j in range(LANES):
                        decay = exp2(r[BACKWARD + STEP + j] * a[j])
                        r[BACKWARD + DECAY + j] = decay
                        r[BACKWARD + STATE + j] = decay * r[STATE + j] + r[BACKWARD + INPUT + j] * b_t
                for t in range(L - 1, -1, -1):
                    r = record[t * BACKWARD : (t + 3) * BACKWARD]  # the step before, this step, the step after
                    b_t, c_t = B[b, n, t], C[b, n, t]
                    db, dc = zero, zero
                    for j in range(LANES):
                        g = r[2 * BACKWARD + DECAY + j] + r[BACKWARD + DY + j] * c_t
                        dc += r[BACKWARD + DY + j] * r[BACKWARD + STATE + j]
                        db += g * r[BACKWARD + INPUT + j]
                        r[BACKWARD + SUM_B + j] += g * b_t
                        g *= r[BACKWARD + DECAY + j]
                        r[BACKWARD + DECAY + j] = g
                        w = g * r[STATE + j]
                        r[BACKWARD + SUM_A + j] += w * a[j]
                        r[BACKWARD + STATE + j] = r[2 * BACKWARD + STATE + j] + w * r[BACKWARD + STEP + j]
                    dB[group, b, n, t] += db
                    dC[group, b, n, t] += dc
                for j in range(lanes):
                    dA[b, n, d + j] = record[BACKWARD + STATE + j]
            for j in range(lanes):
                for t in range(L):
                    r = record[(t + 1) * BACKWARD : (t + 2) * BACKWARD]
                    du[b, d + j, t] = r[SUM_B + j] * r[STEP + j]
                    ddelta[b, d + j, t] = r[SUM_B + j] * u[b, d + j, t] + r[SUM_A + j] * ln2


@functools.cache
def _compiled(kernel: Callable, arrays: tuple[str, ...], dtype: torch.dtype) -> Callable:
    """`kernel` for one float type and any strides, so that there is one variant of it to compile and to cache."""
    number = {torch.float32: types.float32, torch.float64: types.float64}[dtype]
    signature = types.void(*(types.Array(number, int(rank), "A") for rank in arrays), *[types.int64] * 3)
    options = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
    try:
        return njit([signature], cache=True, **options)(kernel)
    except RuntimeError:  # no folder that numba may write to: compile in each process anew
        return njit([signature], **options)(kernel)


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """The threads of this process; `process` is in the key since a forked worker inherits the pool, not its threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="hmoe-scan")


def _run(kernel: Callable, tensors: list[Tensor], groups: int) -> None:
    """Share the items of `kernel` among as many threads as PyTorch would use; it computes without the GIL."""
    items = tensors[0].shape[0] * groups
    arrays = [tensor.detach().numpy() for tensor in tensors]
    run = _compiled(kernel, tuple(str(array.ndim) for array in arrays), tensors[0].dtype)
    threads = min(torch.get_num_threads(), items)
    if threads == 1:
        return run(*arrays, groups, 0, items)
    parts = min(4 * threads, items)  # more than threads, so that a thread that is held up leaves work to the others
    edges = [items * part // parts for part in range(parts + 1)]
    list(_pool(os.getpid(), threads).map(lambda i: run(*arrays, groups, edges[i], edges[i + 1]), range(parts)))


def _groups(B: int, D: int) -> int:
    """Into how many groups to deal the channels of an utterance: 8 items or more, if there are so many blocks."""
    return min(math.ceil(8 / B), math.ceil(D / LANES))


def kept_shape(u: torch.Size, A: torch.Size) -> tuple[int, ...]:
    """Of what `forward` keeps for `backward`: nothing, since recomputing costs less than the memory."""
    return (0,)


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`y` (B, D, L), the last state (B, D, N), and nothing kept for the backward pass. All of one float type."""
    y, last = u.new_empty(u.shape), u.new_empty(u.shape[0], *A.shape)
    _run(_forward, [u, delta, (A * LOG2E).T, B, C, y, last], _groups(*u.shape[:2]))
    return y, last, u.new_empty(kept_shape(u.shape, A.shape))


def backward(
    dy: Tensor, dlast: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `u`, `delta`, `A`, `B`, `C`."""
    groups = _groups(*u.shape[:2])
    du, ddelta = u.new_empty(u.shape), u.new_empty(u.shape)
    dA = u.new_empty(u.shape[0], *A.T.shape)
    dB, dC = (u.new_zeros(groups, *tensor.shape) for tensor in (B, C))
    _run(_backward, [dy, dlast, u, delta, (A * LOG2E).T, B, C, du, ddelta, dA, dB, dC], groups)
    return du, ddelta, dA.sum(dim=0).T.contiguous(), dB.sum(dim=0), dC.sum(dim=0)
