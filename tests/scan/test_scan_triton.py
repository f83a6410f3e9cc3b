"""The Triton kernels: on a GPU if there is one, else by Triton's interpreter (`conftest.py` decides)."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_scan import NAMES, SOFT, arguments, assert_as_reference, everything, transposed

from hmoe.scan import selective_scan
from hmoe.scan import triton as scan_triton

DEVICE = "cpu" if scan_triton.interpreted() else "cuda"


def on_device(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, torch.Tensor]:
    made = arguments(*shape, dtype=dtype, seed=seed)
    return {name: tensor.detach().to(DEVICE).requires_grad_() for name, tensor in made.items()}


# One of each; last blocks of channels (of 8, for 16 states) and last chunks that are not full; 512 states, and more.
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 1, 1, 5), (1, 5, 7, 1), (2, 3, 1, 4), (2, 19, 11, 16), (1, 2, 5, 512), (1, 1, 2, 600)]
)
def test_triton_equals_the_reference(shape: tuple[int, int, int, int]) -> None:
    assert_as_reference(on_device(*shape), "triton")


def test_triton_keeps_a_state_to_the_bit_and_lets_it_decay_as_slowly_as_it_should() -> None:
    made = {name: on_device(1, 2, 400, 3)[name].detach() for name in ["u", "delta", "A", "B", "C"]}
    made["delta"][...] = torch.eye(1, 400, device=DEVICE)[0]  # 1, then 0
    kept = made["u"][:, :, :1] * made["B"].mT[:, :1]
    assert torch.equal(selective_scan(**made, return_last_state=True, implementation="triton")[1], kept)
    made["delta"][...], made["A"] = 0.7, -1e-4 * made["A"].abs()
    exact = selective_scan(**{name: made[name].double().cpu() for name in made}, implementation="reference")
    errors = [selective_scan(**made, implementation=name).cpu() - exact for name in ("triton", "reference")]
    assert errors[0].norm() <= 0.5 * errors[1].norm()


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 2), st.integers(1, 20), st.integers(1, 9), st.integers(1, 70), st.integers(0, 2**31), st.booleans()
)
def test_triton_equals_the_reference_at_random_shapes(B: int, D: int, L: int, N: int, seed: int, strided: bool) -> None:
    made = on_device(B, D, L, N, seed=seed)
    if strided:
        made = {name: transposed(tensor) if tensor.ndim > 1 else tensor for name, tensor in made.items()}
        assert not made["A"].is_contiguous() or 1 in made["A"].shape
    assert_as_reference(made, "triton")


@pytest.mark.parametrize("absent", [(), ("D",), ("z",), ("delta_bias",), ("D", "z", "delta_bias")], ids=str)
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_every_combination_of_options_is_that_of_the_reference(absent: tuple, softplus: bool, last: bool) -> None:
    made = {name: tensor.detach() for name, tensor in on_device(2, 3, 6, 4).items() if name not in absent}
    made |= {name: made[name].abs() for name in ("delta", "delta_bias") if name in made}  # steps must be positive
    made = {name: tensor.requires_grad_() for name, tensor in made.items()}
    results = []
    for implementation in ("triton", "reference"):
        out = selective_scan(**made, delta_softplus=softplus, return_last_state=last, implementation=implementation)
        assert isinstance(out, tuple) == last
        outs = out if last else (out,)
        results.append([*outs, *torch.autograd.grad(sum(x.square().sum() for x in outs), list(made.values()))])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
def test_not_a_number_comes_through_where_it_does_in_the_reference(name: str) -> None:
    made = on_device(2, 40, 6, 3)
    with torch.no_grad():
        made[name].view(-1)[0] = float("nan")
    found, wanted = (everything(made, implementation=one) for one in ("triton", "reference"))
    assert wanted[0].isnan().any() and not wanted[0].isnan().all()
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a.isnan(), b.isnan())


def test_two_runs_give_the_same_bits() -> None:
    made = on_device(2, 19, 5, 16)  # several blocks of channels, the last not full
    for a, b in zip(*(everything(made, implementation="triton") for _ in range(2)), strict=True):
        assert torch.equal(a, b)


def test_no_kernel_adds_atomically() -> None:
    """What order atomic additions take is up to the GPU, so that the interpreter cannot show a difference."""
    for kernel in (scan_triton.forward_kernel, scan_triton.backward_kernel):
        assert "atomic" not in inspect.getsource(kernel.fn)


def test_gradients_equal_finite_differences() -> None:
    made = tuple(on_device(1, 2, 5, 2, dtype=torch.float64).values())
    options = {**SOFT, "implementation": "triton"}
    assert torch.autograd.gradcheck(lambda *tensors: selective_scan(*tensors, **options), made, fast_mode=True)


def test_half_precision_keeps_its_state_in_float32() -> None:
    half = {name: tensor.detach().bfloat16().requires_grad_() for name, tensor in on_device(1, 2, 6, 4).items()}
    found, wanted = (everything(half, implementation=one) for one in ("triton", "reference"))
    assert (found[0].dtype, found[1].dtype) == (torch.bfloat16, torch.float32)
    assert {gradient.dtype for gradient in found[2:]} == {torch.bfloat16}
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-5)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=2**-7, atol=1e-2)


COMPILE = """
from hmoe.bench import gpu

made = gpu.kernels([1, 16, 512])
print(made["spilled"].sum(), (made["exponentials"] > 0).all(), made["programs"].min() >= 8, len(made))
"""
REFUSED = """
import torch
from hmoe.base.errors import ConfigError
from hmoe.scan import selective_scan
u, A, B = torch.ones(1, 2, 3), -torch.ones(2, 4), torch.ones(1, 4, 3)
try:
    selective_scan(u, u, A, B, B, implementation="triton")
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (COMPILE, "0 True True 6\n"),
        (REFUSED, "implementation: 'triton' for tensors on cpu; set TRITON_INTERPRET=1 to try it\n"),
    ],
    ids=["compiled for sm_90, without a GPU and without a spill", "refused on the CPU"],
)
def test_without_the_interpreter_the_kernels_are(code: str, said: str) -> None:
    plain = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True)
    assert done.stdout == said, done.stderr
