"""The Triton kernels: on a GPU if there is one, else by Triton's interpreter (`conftest.py` decides)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from test_scan import SOFT, arguments, assert_as_reference

from hmoe import scan_triton
from hmoe.scan import selective_scan

DEVICE = "cpu" if scan_triton.INTERPRETED else "cuda"


def on_device(*shape: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    made = arguments(*shape, dtype=dtype)
    return {name: tensor.detach().to(DEVICE).requires_grad_() for name, tensor in made.items()}


# One of each; a last block of channels and a last chunk of steps that are not full; 512 states.
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 6, 3), (1, 2, 2, 512)])
def test_triton_equals_the_reference(shape: tuple[int, int, int, int]) -> None:
    assert_as_reference(on_device(*shape), "triton")


def test_gradients_equal_finite_differences() -> None:
    made = tuple(on_device(1, 2, 5, 1, dtype=torch.float64).values())
    options = {**SOFT, "implementation": "triton"}
    assert torch.autograd.gradcheck(lambda *tensors: selective_scan(*tensors, **options), made, fast_mode=True)


def test_half_precision_keeps_its_state_in_float32() -> None:
    half = {name: tensor.detach().bfloat16() for name, tensor in on_device(1, 2, 6, 4).items()}
    y, last = selective_scan(**half, **SOFT, implementation="triton")
    _, exact = selective_scan(**{name: one.float() for name, one in half.items()}, **SOFT, implementation="reference")
    assert (y.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(last, exact, rtol=1e-4, atol=1e-5)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hmoe import scan_triton

for kernel in (scan_triton.forward_kernel, scan_triton.backward_kernel):
    fixed = {"CHUNK": 16, "LANES": 1, "STATES": 512}
    types = {name: "i32" if name in "DNL" else "*fp32" for name in kernel.arg_names} | dict.fromkeys(fixed, "constexpr")
    made = triton.compile(ASTSource(kernel, types, constexprs=fixed), GPUTarget("cuda", 90, 32), {"num_warps": 1})
    ptx = made.asm["ptx"]
    print(".local" not in ptx, "ex2.approx" in ptx, len(made.asm["cubin"]) > 0)
"""
REFUSED = """
import torch
from hmoe.errors import ConfigError
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
        (COMPILE, "True True True\n" * 2),
        (REFUSED, "implementation: 'triton' for tensors on cpu; set TRITON_INTERPRET=1 to try it\n"),
    ],
    ids=["compiled for 512 states on sm_90, without a GPU", "refused on the CPU"],
)
def test_without_the_interpreter_the_kernels_are(code: str, said: str) -> None:
    plain = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True)
    assert done.stdout == said, done.stderr
