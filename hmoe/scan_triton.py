"""The selective scan on CUDA: our own Triton kernels, forward and backward, any number of states, float32 states.

A program owns an utterance and a few channels with all their states, and walks through time with the states in
registers. The forward pass keeps the states before every `chunk`-th step; the backward pass takes the chunks from the
last to the first, recomputes what lies between, and walks back over it (the equations are in `hmoe.scan_cpu`). So
neither holds (B, L, D, N): kept states and scratch are both about sqrt(L) times (B, D, N).

The sums over channels that make dB and dC are atomic additions, as in mamba-ssm: their last bits depend on timing.
How many channels a program owns is tuned by Triton on the device itself, once for each (D, N).

Tested through Triton's interpreter and compiled for sm_80 and sm_90; its speed on a GPU is not measured yet.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from hmoe.errors import ConfigError

LOG2E = tl.constexpr(math.log2(math.e))


@triton.jit
def forward_kernel(
    u, delta, A, B, C, y, last, kept, D, N, L, CHUNK: tl.constexpr, LANES: tl.constexpr, STATES: tl.constexpr
):
    """`u`, `delta`, `y` (B, D, L); `A` (D, N); `B`, `C` (B, L, N); `last` (B, D, N); `kept` (B, chunks, D, N)."""
    b = tl.program_id(0).to(tl.int64)
    d, n = tl.program_id(1) * LANES + tl.arange(0, LANES), tl.arange(0, STATES)
    in_d, in_n = d < D, n < N
    own, in_own = d[:, None] * N + n[None, :], in_d[:, None] & in_n[None, :]
    a = tl.load(A + own, in_own, 0.0) * LOG2E
    h = a * 0
    chunks = tl.cdiv(L, CHUNK)
    for chunk in range(chunks):
        tl.store(kept + (b * chunks + chunk) * D * N + own, h, in_own)
        for t in range(chunk * CHUNK, tl.minimum(L, (chunk + 1) * CHUNK)):
            step = tl.load(delta + (b * D + d) * L + t, in_d, 0.0)
            x = step * tl.load(u + (b * D + d) * L + t, in_d, 0.0)
            b_t = tl.load(B + (b * L + t) * N + n, in_n, 0.0)
            c_t = tl.load(C + (b * L + t) * N + n, in_n, 0.0)
            h = tl.exp2(step[:, None] * a) * h + x[:, None] * b_t[None, :]
            tl.store(y + (b * D + d) * L + t, tl.sum(h * c_t[None, :], axis=1), in_d)
    tl.store(last + b * D * N + own, h, in_own)


@triton.jit
def backward_kernel(
    dy, dlast, u, delta, A, B, C, kept, scratch, du, ddelta, dA, dB, dC, D, N, L,
    CHUNK: tl.constexpr, LANES: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """As above; `dA` (B, D, N), and `scratch` (B, CHUNK, D, N) for the states before each step of one chunk."""
    b = tl.program_id(0).to(tl.int64)
    d, n = tl.program_id(1) * LANES + tl.arange(0, LANES), tl.arange(0, STATES)
    in_d, in_n = d < D, n < N
    own, in_own = d[:, None] * N + n[None, :], in_d[:, None] & in_n[None, :]
    a_true = tl.load(A + own, in_own, 0.0)
    a = a_true * LOG2E
    g = tl.load(dlast + b * D * N + own, in_own, 0.0)
    da = a * 0
    chunks = tl.cdiv(L, CHUNK)
    for back in range(chunks):
        chunk = chunks - 1 - back
        start = chunk * CHUNK
        steps = tl.minimum(L - start, CHUNK)
        h = tl.load(kept + (b * chunks + chunk) * D * N + own, in_own, 0.0)
        for i in range(steps):
            tl.store(scratch + (b * CHUNK + i) * D * N + own, h, in_own)
            step = tl.load(delta + (b * D + d) * L + start + i, in_d, 0.0)
            x = step * tl.load(u + (b * D + d) * L + start + i, in_d, 0.0)
            b_t = tl.load(B + (b * L + start + i) * N + n, in_n, 0.0)
            h = tl.exp2(step[:, None] * a) * h + x[:, None] * b_t[None, :]
        tl.debug_barrier()  # a thread may read from scratch what another has written
        for j in range(steps):
            i = steps - 1 - j
            t = start + i
            before = tl.load(scratch + (b * CHUNK + i) * D * N + own, in_own, 0.0)
            step = tl.load(delta + (b * D + d) * L + t, in_d, 0.0)
            u_t = tl.load(u + (b * D + d) * L + t, in_d, 0.0)
            dy_t = tl.load(dy + (b * D + d) * L + t, in_d, 0.0)
            b_t = tl.load(B + (b * L + t) * N + n, in_n, 0.0)
            c_t = tl.load(C + (b * L + t) * N + n, in_n, 0.0)
            decay = tl.exp2(step[:, None] * a)
            g += dy_t[:, None] * c_t[None, :]
            dc = tl.sum(dy_t[:, None] * h, axis=0)
            db = tl.sum((step * u_t)[:, None] * g, axis=0)
            tl.atomic_add(dC + (b * L + t) * N + n, dc, in_n, sem="relaxed")
            tl.atomic_add(dB + (b * L + t) * N + n, db, in_n, sem="relaxed")
            gb = tl.sum(g * b_t[None, :], axis=1)
            g *= decay
            w = g * before
            da += w * step[:, None]
            tl.store(du + (b * D + d) * L + t, gb * step, in_d)
            tl.store(ddelta + (b * D + d) * L + t, gb * u_t + tl.sum(w * a_true, axis=1), in_d)
            h = before
        tl.debug_barrier()  # before the next chunk overwrites scratch
    tl.store(dA + b * D * N + own, da, in_own)


INTERPRETED = isinstance(forward_kernel, InterpretedFunction)


def _fitting(configs: list[triton.Config], arguments: dict, **_: object) -> list[triton.Config]:
    """Between 4 and 16 states a thread, as far as there are such tiles: fewer idle, more spill registers."""
    states = triton.next_power_of_2(arguments["N"])
    per_thread = {config: config.kwargs["LANES"] * states / (32 * config.num_warps) for config in configs}
    return [config for config in configs if 4 <= per_thread[config] <= 16] or configs[:1]


def _tuned(kernel: triton.JITFunction, zeroed: list[str]) -> triton.JITFunction:
    tiles = [(1, 1), (1, 2), (2, 1), (4, 1), (4, 4), (8, 1), (8, 4), (16, 2), (32, 4)]
    configs = [triton.Config({"LANES": lanes}, num_warps=warps) for lanes, warps in tiles]
    # The interpreter has no clock to tune by: two channels, so that tests meet a block that is not full.
    return triton.autotune(
        configs[2:3] if INTERPRETED else configs,
        key=["D", "N"],
        reset_to_zero=zeroed,
        prune_configs_by={"early_config_prune": _fitting},
    )(kernel)


_forward, _backward = _tuned(forward_kernel, []), _tuned(backward_kernel, ["dB", "dC"])


def _chunk(L: int) -> int:
    """About sqrt(L), which makes what is kept and the scratch equally large."""
    return max(4, triton.next_power_of_2(math.isqrt(L)))


def kept_shape(u: torch.Size, A: torch.Size) -> tuple[int, ...]:
    """Of what `forward` keeps for `backward`: the states before every chunk."""
    return (u[0], math.ceil(u[2] / _chunk(u[2])), *A)


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`y` (B, D, L), the last state (B, D, N), and the states before every chunk. All of one float type."""
    if not u.is_cuda and not INTERPRETED:
        raise ConfigError("implementation", f"'triton' for tensors on {u.device}", "set TRITON_INTERPRET=1 to try it")
    (batch, D, L), N, chunk = u.shape, A.shape[1], _chunk(u.shape[2])
    y, last = u.new_empty(u.shape), u.new_empty(batch, D, N)
    kept = u.new_empty(kept_shape(u.shape, A.shape))
    inputs = [u.contiguous(), delta.contiguous(), A.contiguous(), *(x.mT.contiguous() for x in (B, C))]
    _forward[lambda tile: (batch, triton.cdiv(D, tile["LANES"]))](
        *inputs, y, last, kept, D, N, L, CHUNK=chunk, STATES=triton.next_power_of_2(N)
    )
    return y, last, kept


def backward(
    dy: Tensor, dlast: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `u`, `delta`, `A`, `B`, `C`."""
    (batch, D, L), N, chunk = u.shape, A.shape[1], _chunk(u.shape[2])
    inputs = [x.contiguous() for x in (dy, dlast, u, delta, A)] + [x.mT.contiguous() for x in (B, C)]
    du, ddelta, dA = u.new_empty(u.shape), u.new_empty(u.shape), u.new_empty(batch, D, N)
    dB, dC = u.new_zeros(batch, L, N), u.new_zeros(batch, L, N)
    scratch = u.new_empty(batch, chunk, D, N)
    _backward[lambda tile: (batch, triton.cdiv(D, tile["LANES"]))](
        *inputs, kept, scratch, du, ddelta, dA, dB, dC, D, N, L, CHUNK=chunk, STATES=triton.next_power_of_2(N)
    )
    return du, ddelta, dA.sum(dim=0), dB.mT.contiguous(), dC.mT.contiguous()
