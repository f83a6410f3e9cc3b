"""The selective scan on CUDA: our own Triton kernels, forward and backward, any number of states, float32 states.

A program owns an utterance and a few channels with all their states, and walks through time with the states in
registers. The forward pass keeps the states before every chunk of steps. The backward pass takes the chunks from the
last to the first, a launch for each: it recomputes the states of the chunk, walks back over them, and leaves the
states and their gradients (the equations are in `hmoe.scan.cpu`) in two series of the chunk's length. The sums over
channels that make dC and dB are then two batched matrix products.

So every sum has a fixed order, without atomic additions, and a tile that depends on N alone: the same card gives the
same bits each time. Memory beyond inputs and outputs: the kept states and the two series, some 3 sqrt(L) times
(B, D, N) floats; where (B, D, N) is small, chunks are longer, and a series is up to `SERIES` floats.

Tested through Triton's interpreter and compiled for sm_90; its speed on a GPU is not measured yet.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from hmoe.base.errors import ConfigError

LOG2E = tl.constexpr(math.log2(math.e))
SERIES = 2**26  # floats in a series (256 MB) that a chunk may fill so that there are few launches


@triton.jit
def forward_kernel(u, delta, A, B, C, y, last, kept, D, N, L, size, LANES: tl.constexpr, STATES: tl.constexpr):
    """`u`, `delta`, `y` (L, B, D); `A` (D, N); `B`, `C` (L, B, N); `last` (B, D, N); `kept` (chunks, B, D, N)."""
    b, batch = tl.program_id(0).to(tl.int64), tl.num_programs(0).to(tl.int64)
    d, n = tl.program_id(1) * LANES + tl.arange(0, LANES), tl.arange(0, STATES)
    in_d, in_n = d < D, n < N
    own, in_own = d[:, None] * N + n[None, :], in_d[:, None] & in_n[None, :]
    a = tl.load(A + own, in_own, 0.0) * LOG2E
    h = a * 0
    for chunk in range(tl.cdiv(L, size)):
        tl.store(kept + (chunk * batch + b) * D * N + own, h, in_own)
        for t in range(chunk * size, tl.minimum(L, (chunk + 1) * size)):
            row = t * batch + b
            step = tl.load(delta + row * D + d, in_d, 0.0)
            x = step * tl.load(u + row * D + d, in_d, 0.0)
            b_t = tl.load(B + row * N + n, in_n, 0.0)
            c_t = tl.load(C + row * N + n, in_n, 0.0)
            h = tl.exp2(step[:, None] * a) * h + x[:, None] * b_t[None, :]
            tl.store(y + row * D + d, tl.sum(h * c_t[None, :], axis=1), in_d)
    tl.store(last + b * D * N + own, h, in_own)


@triton.jit
def backward_kernel(
    dy, g_last, u, delta, A, B, C, kept, states, gradients, du, ddelta, dA, D, N, start, steps,
    LANES: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """As above, for the `steps` steps of one chunk, whose first is `start`; `kept` (B, D, N) is the state before it.

    `g_last` (B, D, N) is what comes from behind, replaced by what goes to the chunk before; `dA` (B, D, N) is added to.
    Fills `states` (1 + steps, B, D, N), the first of which is `kept`, and `gradients` (steps, B, D, N).
    """
    b, batch = tl.program_id(0).to(tl.int64), tl.num_programs(0).to(tl.int64)
    d, n = tl.program_id(1) * LANES + tl.arange(0, LANES), tl.arange(0, STATES)
    in_d, in_n = d < D, n < N
    own, in_own = b * D * N + d[:, None] * N + n[None, :], in_d[:, None] & in_n[None, :]
    one = batch * D * N  # floats of a step in a series
    a_true = tl.load(A + d[:, None] * N + n[None, :], in_own, 0.0)
    a = a_true * LOG2E
    h = tl.load(kept + own, in_own, 0.0)
    tl.store(states + own, h, in_own)
    for i in range(steps):
        row = (start + i) * batch + b
        step = tl.load(delta + row * D + d, in_d, 0.0)
        x = step * tl.load(u + row * D + d, in_d, 0.0)
        b_t = tl.load(B + row * N + n, in_n, 0.0)
        h = tl.exp2(step[:, None] * a) * h + x[:, None] * b_t[None, :]
        tl.store(states + (i + 1) * one + own, h, in_own)
    tl.debug_barrier()  # a thread may read what another has written
    g, da = tl.load(g_last + own, in_own, 0.0), tl.load(dA + own, in_own, 0.0)
    for j in range(steps):
        i = steps - 1 - j
        row = (start + i) * batch + b
        before = tl.load(states + i * one + own, in_own, 0.0)
        step = tl.load(delta + row * D + d, in_d, 0.0)
        u_t = tl.load(u + row * D + d, in_d, 0.0)
        dy_t = tl.load(dy + row * D + d, in_d, 0.0)
        b_t = tl.load(B + row * N + n, in_n, 0.0)
        c_t = tl.load(C + row * N + n, in_n, 0.0)
        g += dy_t[:, None] * c_t[None, :]
        tl.store(gradients + i * one + own, g, in_own)
        gb = tl.sum(g * b_t[None, :], axis=1)
        g *= tl.exp2(step[:, None] * a)
        w = g * before
        da += w * step[:, None]
        tl.store(du + row * D + d, gb * step, in_d)
        tl.store(ddelta + row * D + d, gb * u_t + tl.sum(w * a_true, axis=1), in_d)
    tl.store(g_last + own, g, in_own)
    tl.store(dA + own, da, in_own)


INTERPRETED = isinstance(forward_kernel, InterpretedFunction)


def tile(N: int) -> dict[str, int]:
    """How many channels a program owns, and its warps: one up to 512 states, with 4 to 16 states in a thread."""
    states = triton.next_power_of_2(N)
    return {"LANES": max(1, 128 // states), "STATES": states, "num_warps": max(1, states // 512)}


def _chunk(u: torch.Size, A: torch.Size) -> int:
    """Steps in a chunk: sqrt(L), which makes what is kept and a series equally large, or what `SERIES` has room for."""
    return min(u[2], max(math.isqrt(u[2]), SERIES // (u[0] * A[0] * A[1])))


def kept_shape(u: torch.Size, A: torch.Size) -> tuple[int, ...]:
    """Of what `forward` keeps for `backward`: the states before every chunk."""
    return (math.ceil(u[2] / _chunk(u, A)), u[0], *A)


def _steps_first(*tensors: Tensor) -> list[Tensor]:
    """(B, D, L) -> (L, B, D): what a program reads at one step lies side by side."""
    return [tensor.permute(2, 0, 1).contiguous() for tensor in tensors]


def _steps_last(tensor: Tensor) -> Tensor:
    return tensor.permute(1, 2, 0).contiguous()


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`y` (B, D, L), the last state (B, D, N), and the states before every chunk. All of one float type."""
    if not u.is_cuda and not INTERPRETED:
        raise ConfigError("implementation", f"'triton' for tensors on {u.device}", "set TRITON_INTERPRET=1 to try it")
    (batch, D, L), N, own = u.shape, A.shape[1], tile(A.shape[1])
    y, last = u.new_empty(L, batch, D), u.new_empty(batch, D, N)
    kept = u.new_empty(kept_shape(u.shape, A.shape))
    us, deltas, Bs, Cs = _steps_first(u, delta, B, C)
    size = _chunk(u.shape, A.shape)
    programs = (batch, triton.cdiv(D, own["LANES"]))
    forward_kernel[programs](us, deltas, A.contiguous(), Bs, Cs, y, last, kept, D, N, L, size, **own)
    return _steps_last(y), last, kept


def backward(
    dy: Tensor, dlast: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `u`, `delta`, `A`, `B`, `C`."""
    (batch, D, L), N, own, size = u.shape, A.shape[1], tile(A.shape[1]), _chunk(u.shape, A.shape)
    dys, us, deltas, Bs, Cs = _steps_first(dy, u, delta, B, C)
    x, A = us * deltas, A.contiguous()
    g, dA = dlast.clone(memory_format=torch.contiguous_format), u.new_zeros(batch, D, N)
    du, ddelta, dB, dC = (torch.empty_like(made) for made in (us, us, Bs, Bs))
    states, gradients = u.new_empty(size + 1, batch, D, N), u.new_empty(size, batch, D, N)
    programs = (batch, triton.cdiv(D, own["LANES"]))
    for chunk in reversed(range(len(kept))):
        start = chunk * size
        steps = min(size, L - start)
        backward_kernel[programs](
            dys, g, us, deltas, A, Bs, Cs, kept[chunk], states, gradients, du, ddelta, dA, D, N, start, steps, **own
        )
        now = slice(start, start + steps)
        dC[now] = (dys[now, :, None] @ states[1 : steps + 1])[:, :, 0]
        dB[now] = (x[now, :, None] @ gradients[:steps])[:, :, 0]
    return _steps_last(du), _steps_last(ddelta), dA.sum(dim=0), _steps_last(dB), _steps_last(dC)
