"""The selective scan S6 (Gu and Dao 2023), the recurrence inside every Mamba block, by device.

Signature, shapes and meaning are those of mamba-ssm's `selective_scan_fn`. Tensor letters here are Mamba's own:
`B` utterances, `D` channels, `N` states of a channel (D_state), `L` steps.

`scan_implementation` says which implementation is taken: numba kernels on the CPU (`hmoe.scan.cpu`), a Triton kernel on
CUDA (`hmoe.scan.triton`), a closed form where there is one step only, the reference anywhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hmoe.base.errors import ConfigError

IMPLEMENTATIONS = ("reference", "single-step", "cpu", "triton", "mamba-ssm")
HAS_TRITON = importlib.util.find_spec("triton") is not None
NO_TRITON = ("Triton is not installed", "pip install 'hmoe[cuda]', or ask for 'reference'")
MOST_STATES = 256  # that mamba-ssm's kernel takes


def _step(h: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """h = exp(delta A) h + delta B u (zero-order hold for A, Euler for B); y = C h. `u` (B, D), `B` (B, N)."""
    h = torch.exp(delta[:, :, None] * A) * h + delta[:, :, None] * B[:, None, :] * u[:, :, None]
    return (h * C[:, None, :]).sum(dim=-1), h


def selective_scan_reference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """The Mamba paper's recurrence, one step after the other: the yardstick of every other implementation.

    `u`, `delta` (B, D, L); `A` (D, N); `B`, `C` (B, N, L). Returns `y` (B, D, L) and the last state (B, D, N).
    """
    h = u.new_zeros(u.shape[0], *A.shape)
    ys = []
    for t in range(u.shape[2]):
        y, h = _step(h, u[:, :, t], delta[:, :, t], A, B[:, :, t], C[:, :, t])
        ys.append(y)
    return torch.stack(ys, dim=-1), h


def _single_step(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """L = 1: from a zero state, y = (C . B) delta u, without any of the N states. `A` has nothing to act on (Q1)."""
    # A zero for each channel, so that A's gradient is zero, not missing, and its not-a-number comes through.
    x = delta * u + (0 * A.sum(dim=1))[:, None]
    return (B * C).sum(dim=1, keepdim=True) * x, x * B.transpose(1, 2)


def _kernel(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, implementation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`y`, the last state, and what the implementation keeps for its backward pass."""
    return importlib.import_module(f"hmoe.scan.{implementation}").forward(u, delta, A, B, C)


_scan = torch.library.custom_op("hmoe::selective_scan", _kernel, mutates_args=())
"""`_kernel` as one operation, with a gradient; opaque to `torch.compile`."""


@torch.library.custom_op("hmoe::selective_scan_backward", mutates_args=())
def _scan_backward(
    dy: Tensor,
    dlast: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    kept: Tensor,
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return importlib.import_module(f"hmoe.scan.{implementation}").backward(dy, dlast, u, delta, A, B, C, kept)


@_scan.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, implementation: str) -> tuple[Tensor, Tensor, Tensor]:
    kept = importlib.import_module(f"hmoe.scan.{implementation}").kept_shape(u.shape, A.shape)
    return u.new_empty(u.shape), u.new_empty(u.shape[0], *A.shape), u.new_empty(kept)


@_scan_backward.register_fake
def _(dy, dlast, u, delta, A, B, C, kept, implementation):
    return tuple(x.new_empty(x.shape) for x in (u, delta, A, B, C))


def _remember(ctx, inputs, output) -> None:
    *tensors, ctx.implementation = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _pass_back(ctx, dy: Tensor | None, dlast: Tensor | None, _: Tensor | None) -> tuple:
    u, delta, A, B, C, kept = ctx.saved_tensors
    dy = torch.zeros_like(u) if dy is None else dy
    dlast = u.new_zeros(()).expand(u.shape[0], *A.shape) if dlast is None else dlast
    return *_scan_backward(dy, dlast, u, delta, A, B, C, kept, ctx.implementation), None


_scan.register_autograd(_pass_back, setup_context=_remember)


def scan_implementation(device: torch.device | str, steps: int | None = None) -> str:
    """Which implementation `selective_scan` takes for tensors on `device` with so many steps, if it is not told."""
    if steps == 1:
        return "single-step"
    kind = torch.device(device).type
    if kind == "cuda" and not HAS_TRITON:
        raise ConfigError("implementation", *NO_TRITON)
    return {"cpu": "cpu", "cuda": "triton"}.get(kind, "reference")


def _check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, **others: Tensor | None) -> None:
    """Refuse shapes that do not fit, naming the argument, what it is and what it would have to be."""
    if u.ndim != 3 or u.numel() == 0:
        raise ConfigError("selective_scan", f"u is {tuple(u.shape)}", "give (B, D, L) with B, D, L of 1 or more")
    if A.ndim != 2 or A.is_complex() or A.shape[1] == 0:
        raise ConfigError("selective_scan", f"A is {tuple(A.shape)}, {A.dtype}", "give real (D, N) with N of 1 or more")
    if B.ndim == 2 or C.ndim == 2:
        raise ConfigError("selective_scan", "B or C is (D, N)", "the scan is selective: give (B, N, L) for each")
    (batch, D, L), N = u.shape, A.shape[1]
    wanted = {"delta": (batch, D, L), "A": (D, N), "B": (batch, N, L), "C": (batch, N, L)}
    wanted |= {"D": (D,), "z": (batch, D, L), "delta_bias": (D,)}
    for name, tensor in {"delta": delta, "A": A, "B": B, "C": C, **others}.items():
        if tensor is not None and tensor.shape != wanted[name]:
            raise ConfigError("selective_scan", f"{name} is {tuple(tensor.shape)}", f"it must be {wanted[name]}")
        if tensor is not None and tensor.device != u.device:
            raise ConfigError("selective_scan", f"{name} is on {tensor.device}", f"move it to {u.device}, where u is")


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    implementation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """y = SSM(A, B, C)(u), with a skip `D` and a gate `z`: (B, D, L) -> (B, D, L) in the type of `u`.

    `u`, `delta`, `z` (B, D, L); `A` (D, N); `B`, `C` (B, N, L); `D`,
    `delta_bias` (D,). With `return_last_state` also the state after the last step, (B, D, N). States are float32
    whatever the inputs, or float64 where `u` is. Causal: a step with `delta` = 0 leaves the state as it is.

    `implementation` is one of `IMPLEMENTATIONS`; by default that of `scan_implementation`. "mamba-ssm" calls that
    package's CUDA kernel (N <= 256), if installed. Raises `ConfigError` for shapes that do not fit, and for an
    implementation that is not installed or does not fit the device.
    """
    _check(u, delta, A, B, C, D=D, z=z, delta_bias=delta_bias)
    chosen = implementation or scan_implementation(u.device, u.shape[2])
    if chosen == "mamba-ssm":
        return _mamba_ssm(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)

    exact = torch.float64 if u.dtype == torch.float64 else torch.float32
    x, step, A, B, C = (tensor.to(exact) for tensor in (u, delta, A, B, C))
    step = _step_size(step, delta_bias, delta_softplus)
    if chosen == "reference":
        y, last = selective_scan_reference(x, step, A, B, C)
    elif chosen == "single-step" and u.shape[2] == 1:
        y, last = _single_step(x, step, A, B, C)
    elif chosen == "cpu" and u.device.type != "cpu":
        raise ConfigError("implementation", f"'cpu' for tensors on {u.device}", "ask for none, or move them to the CPU")
    elif chosen == "triton" and not HAS_TRITON:
        raise ConfigError("implementation", *NO_TRITON)
    elif chosen in ("cpu", "triton"):
        # The first call of an operation imports torch._dynamo, which takes a second and 60 MB: not to predict.
        operation = _scan if torch.is_grad_enabled() or torch.compiler.is_compiling() else _kernel
        y, last, _ = operation(x, step, A, B, C, chosen)
    else:
        raise ConfigError("implementation", f"got {chosen!r} for {u.shape[2]} steps", f"one of {IMPLEMENTATIONS}")
    y = _skip_and_gate(y, x, D, z).to(u.dtype)
    return (y, last) if return_last_state else y


def selective_scan_step(
    state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """One step of `selective_scan`, for speech that arrives frame by frame: returns `y` (B, D) and the new state.

    `state` (B, D, N), zeros before the first step; `u`, `delta`, `z` (B, D); `B`, `C` (B, N); `A`, `D` and
    `delta_bias` as for the scan.
    """
    if state.ndim != 3 or u.shape != state.shape[:2]:
        raise ConfigError(
            "selective_scan_step", f"u is {tuple(u.shape)}, state {tuple(state.shape)}", "(B, D), (B, D, N)"
        )
    gate = None if z is None else z[:, :, None]
    _check(u[:, :, None], delta[:, :, None], A, B[:, :, None], C[:, :, None], D=D, z=gate, delta_bias=delta_bias)
    x, step, A, B, C = (tensor.to(state.dtype) for tensor in (u, delta, A, B, C))
    step = _step_size(step[:, :, None], delta_bias, delta_softplus)[:, :, 0]
    y, state = _step(state, x, step, A, B, C)
    return _skip_and_gate(y[:, :, None], x[:, :, None], D, gate)[:, :, 0].to(u.dtype), state


def _step_size(delta: Tensor, delta_bias: Tensor | None, delta_softplus: bool) -> Tensor:
    """The step size of every channel at every step, positive after the soft-plus."""
    if delta_bias is not None:
        delta = delta + delta_bias.to(delta.dtype)[:, None]
    return F.softplus(delta) if delta_softplus else delta


def _skip_and_gate(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """(y + D u) * silu(z)."""
    if D is not None:
        y = y + D.to(y.dtype)[:, None] * u
    return y if z is None else y * F.silu(z.to(y.dtype))


def _mamba_ssm(u: Tensor, delta: Tensor, A: Tensor, *others: Tensor | bool | None) -> Tensor | tuple[Tensor, Tensor]:
    """The kernel of that package, or why it cannot be had; its own errors are assertions and failed imports."""
    if A.shape[1] > MOST_STATES:
        raise ConfigError("implementation", f"'mamba-ssm' for N = {A.shape[1]}", f"N <= {MOST_STATES}, or 'triton'")
    if importlib.util.find_spec("mamba_ssm") is None:
        raise ConfigError("implementation", "mamba-ssm is not installed", "build it where CUDA is, or ask for 'triton'")
    if not u.is_cuda:
        raise ConfigError(
            "implementation", f"'mamba-ssm' for tensors on {u.device}", "move them to CUDA, or ask for none"
        )
    return _mamba_ssm_kernel()(u, delta, A, *others)


def _mamba_ssm_kernel() -> Callable:
    """Built without CUDA, the package is there and cannot be imported."""
    try:
        return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except ImportError as error:
        why = f"mamba-ssm does not import: {' '.join(str(error).split())}"
        raise ConfigError("implementation", why, "build it where CUDA is, or ask for 'triton'") from None
