"""The selective scan on CUDA: our own Triton kernels, forward and backward, any number of states, float32 states.

A program owns an utterance, `LANES` channels and `STATES` of their states, and walks through time with them in
registers. The forward pass keeps the states before every chunk of sqrt(L) steps. The backward pass takes the chunks
from the last to the first: it recomputes the states of a chunk, then walks back over them (the equations are in
`hmoe.scan.cpu`). A sum over states (y, the gradients of u and delta) or over channels (those of B and C) is finished
within a program as far as the tile reaches; what the tiles of one utterance leave is added up at the end.

So every sum has a fixed order, without atomic additions, and a tile that depends on N alone: the same card gives the
same bits each time. A pass is one launch and a sum for each output. Inputs are read through their strides, so none is
copied. Memory beyond inputs and outputs: the kept states and those of a chunk, some 2 sqrt(L) times (B, D, N) floats.

Tested through Triton's interpreter and compiled for sm_90 (`python tools/gpu.py kernels` says what the compiler made
of it); its speed on a GPU is not measured yet.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from hmoe.base.errors import ConfigError
from hmoe.scan.power import COEFFICIENTS

LOG2E = tl.constexpr(math.log2(math.e))
Q0, Q1, Q2, Q3, Q4 = (tl.constexpr(coefficient) for coefficient in COEFFICIENTS)
ROUND = tl.constexpr(1.5 * 2**23)  # adding it to a float32 leaves the nearest whole number in the lowest bits
SIZES = ["D", "N", "L", "size"]
STRIDES = [f"{name}_{axis}" for name in ("dy", "dlast", "u", "delta", "B", "C") for axis in "bcl"]
# One compiled kernel for all sizes; whether channels or states lie side by side is worth a second one.
FORWARD = {"do_not_specialize": SIZES, "do_not_specialize_on_alignment": STRIDES[6:]}
BACKWARD = {"do_not_specialize": SIZES, "do_not_specialize_on_alignment": STRIDES}


@triton.jit
def _place(D, N, LANES: tl.constexpr, STATES: tl.constexpr):
    """Which utterance, channels and states are this program's, and where its tile stands among the kept ones."""
    b, batch = tl.program_id(0).to(tl.int64), tl.num_programs(0).to(tl.int64)
    d, n = tl.program_id(1) * LANES + tl.arange(0, LANES), tl.program_id(2) * STATES + tl.arange(0, STATES)
    own, in_own = d[:, None] * N + n[None, :], (d < D)[:, None] & (n < N)[None, :]
    programs = tl.num_programs(1) * tl.num_programs(2)
    tile = b * programs + tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
    inside = tl.arange(0, LANES)[:, None] * STATES + tl.arange(0, STATES)[None, :]
    one = batch * programs * LANES * STATES  # floats of all tiles at one step
    return b, batch, d, n, d < D, n < N, own, in_own, tile * LANES * STATES, inside, one


@triton.jit
def _decayed(h, x):
    """2^x h as s (h + r h), r exact to its last bits: a GPU's 2^x is wrong by 2e-7, at each step the same."""
    whole = (x + ROUND) - ROUND
    f = x - whole
    return tl.exp2(whole) * (h + f * ((((Q4 * f + Q3) * f + Q2) * f + Q1) * f + Q0) * h)


@triton.jit(**FORWARD)
def forward_kernel(
    u, delta, A, B, C, y, last, kept,
    u_b, u_c, u_l, delta_b, delta_c, delta_l, B_b, B_c, B_l, C_b, C_c, C_l,
    D, N, L, size, LANES: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """`u`, `delta` (B, D, L), `B`, `C` (B, N, L), each with its strides; `A` (D, N); `last` (B, D, N).

    `y` (tiles of states, B, D, L), to be added up; `kept` (chunks, B, tiles of states, tiles of channels, tile).
    """
    b, batch, d, n, in_d, in_n, own, in_own, place, inside, one = _place(D, N, LANES, STATES)
    kept += place
    u, delta = u + b * u_b + d * u_c, delta + b * delta_b + d * delta_c
    B, C = B + b * B_b + n * B_c, C + b * C_b + n * C_c
    y += ((tl.program_id(2) * batch + b) * D + d) * L
    a = tl.load(A + own, in_own, 0.0) * LOG2E
    h = a * 0
    for chunk in range(tl.cdiv(L, size)):
        tl.store(kept + chunk * one + inside, h)
        for t in range(chunk * size, tl.minimum(L, (chunk + 1) * size)):
            step = tl.load(delta + t * delta_l, in_d, 0.0)
            x = step * tl.load(u + t * u_l, in_d, 0.0)
            b_t = tl.load(B + t * B_l, in_n, 0.0)
            c_t = tl.load(C + t * C_l, in_n, 0.0)
            h = _decayed(h, step[:, None] * a) + x[:, None] * b_t[None, :]
            tl.store(y + t, tl.sum(h * c_t[None, :], axis=1), in_d)
    tl.store(last + b * D * N + own, h, in_own)


@triton.jit(**BACKWARD)
def backward_kernel(
    dy, dlast, u, delta, A, B, C, kept, states, du, ddelta, dA, dB, dC,
    dy_b, dy_c, dy_l, dlast_b, dlast_c, dlast_l, u_b, u_c, u_l, delta_b, delta_c, delta_l, B_b, B_c, B_l, C_b, C_c, C_l,
    D, N, L, size, LANES: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """As above; `dy` (B, D, L) and `dlast` (B, D, N) with their strides.

    To be added up: `du`, `ddelta` (tiles of states, B, D, L), `dB`, `dC` (tiles of channels, B, N, L), `dA` (B, D, N).
    `states` has room for the states before each step of a chunk, laid out as in `kept`.
    """
    b, batch, d, n, in_d, in_n, own, in_own, place, inside, one = _place(D, N, LANES, STATES)
    kept, states = kept + place, states + place
    u, delta, dy = u + b * u_b + d * u_c, delta + b * delta_b + d * delta_c, dy + b * dy_b + d * dy_c
    B, C = B + b * B_b + n * B_c, C + b * C_b + n * C_c
    channels = ((tl.program_id(2) * batch + b) * D + d) * L
    columns = ((tl.program_id(1) * batch + b) * N + n) * L
    a_true = tl.load(A + own, in_own, 0.0)
    a = a_true * LOG2E
    g, da = tl.load(dlast + b * dlast_b + d[:, None] * dlast_c + n[None, :] * dlast_l, in_own, 0.0), a * 0
    chunks = tl.cdiv(L, size)
    for behind in range(chunks):
        start = (chunks - 1 - behind) * size
        steps = tl.minimum(size, L - start)
        h = tl.load(kept + (chunks - 1 - behind) * one + inside)
        for i in range(steps):
            t = start + i
            tl.store(states + i * one + inside, h)
            step = tl.load(delta + t * delta_l, in_d, 0.0)
            x = step * tl.load(u + t * u_l, in_d, 0.0)
            h = _decayed(h, step[:, None] * a) + x[:, None] * tl.load(B + t * B_l, in_n, 0.0)[None, :]
        tl.debug_barrier()  # a thread may read what another has written
        for back in range(steps):
            i = steps - 1 - back
            t = start + i
            before = tl.load(states + i * one + inside)
            step = tl.load(delta + t * delta_l, in_d, 0.0)
            u_t = tl.load(u + t * u_l, in_d, 0.0)
            dy_t = tl.load(dy + t * dy_l, in_d, 0.0)
            b_t = tl.load(B + t * B_l, in_n, 0.0)
            c_t = tl.load(C + t * C_l, in_n, 0.0)
            x = step * u_t
            decayed = tl.exp2(step[:, None] * a) * before
            g += dy_t[:, None] * c_t[None, :]
            tl.store(dC + columns + t, tl.sum(dy_t[:, None] * (decayed + x[:, None] * b_t[None, :]), axis=0), in_n)
            tl.store(dB + columns + t, tl.sum(x[:, None] * g, axis=0), in_n)
            gb = tl.sum(g * b_t[None, :], axis=1)
            w = g * decayed
            da += w * step[:, None]
            tl.store(du + channels + t, gb * step, in_d)
            tl.store(ddelta + channels + t, gb * u_t + tl.sum(w * a_true, axis=1), in_d)
            g *= tl.exp2(step[:, None] * a)
        tl.debug_barrier()  # before the states of the next chunk take their place
    tl.store(dA + b * D * N + own, da, in_own)


def interpreted() -> bool:
    """Whether the kernels run on a CPU, as TRITON_INTERPRET wanted when Triton was imported."""
    return isinstance(forward_kernel, InterpretedFunction)


def tile(N: int) -> dict[str, int]:
    """Channels and states of a program: 8 by 32, or more channels where there are fewer states; 8 in each thread.

    Of the tiles of one warp tried, the widest of which a multiprocessor holds 16 programs in the backward pass, without
    a spill; a row of 32 states makes the sums cheap (12 shuffles for 8 y).
    """
    states = min(32, triton.next_power_of_2(N))
    return {"LANES": min(32, 256 // states), "STATES": states, "num_warps": 1}


def most_registers(N: int) -> int:
    """Of a thread of the backward pass: the fewest that compile without a spill. Unbounded, Triton 3.6 takes 155."""
    return 128 if tile(N)["STATES"] == 32 else 184


def _size(L: int) -> int:
    """Steps in a chunk, which makes what is kept and the states of a chunk equally large."""
    return math.isqrt(L)


def kept_shape(u: torch.Size, A: torch.Size) -> tuple[int, ...]:
    """Of what `forward` keeps for `backward`: the states before every chunk."""
    own = tile(A[1])
    tiles = (triton.cdiv(A[1], own["STATES"]), triton.cdiv(A[0], own["LANES"]))
    return (math.ceil(u[2] / _size(u[2])), u[0], *tiles, own["LANES"], own["STATES"])


def _added(parts: Tensor) -> Tensor:
    """What the tiles have left, added up; (tiles, ...) -> (...)."""
    return parts[0] if len(parts) == 1 else parts.sum(dim=0)


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`y` (B, D, L), the last state (B, D, N), and the states before every chunk. All of one float type."""
    if not u.is_cuda and not interpreted():
        raise ConfigError("implementation", f"'triton' for tensors on {u.device}", "set TRITON_INTERPRET=1 to try it")
    (batch, D, L), N, own = u.shape, A.shape[1], tile(A.shape[1])
    programs = (batch, triton.cdiv(D, own["LANES"]), triton.cdiv(N, own["STATES"]))
    y, last = u.new_empty(programs[2], batch, D, L), u.new_empty(batch, D, N)
    kept = u.new_empty(kept_shape(u.shape, A.shape))
    strides = [step for tensor in (u, delta, B, C) for step in tensor.stride()]
    forward_kernel[programs](u, delta, A.contiguous(), B, C, y, last, kept, *strides, D, N, L, _size(L), **own)
    return _added(y), last, kept


def backward(
    dy: Tensor, dlast: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `u`, `delta`, `A`, `B`, `C`."""
    (batch, D, L), N, own, size = u.shape, A.shape[1], tile(A.shape[1]), _size(u.shape[2])
    programs = (batch, triton.cdiv(D, own["LANES"]), triton.cdiv(N, own["STATES"]))
    du, ddelta = (u.new_empty(programs[2], batch, D, L) for _ in range(2))
    dB, dC = (u.new_empty(programs[1], batch, N, L) for _ in range(2))
    dA, states = u.new_empty(batch, D, N), u.new_empty(size, *kept.shape[1:])
    strides = [step for tensor in (dy, dlast, u, delta, B, C) for step in tensor.stride()]
    backward_kernel[programs](
        dy, dlast, u, delta, A.contiguous(), B, C, kept, states, du, ddelta, dA, dB, dC,
        *strides, D, N, L, size, **own, maxnreg=most_registers(N),
    )  # fmt: skip
    return _added(du), _added(ddelta), dA.sum(dim=0), _added(dB), _added(dC)
