"""The selective scan: every implementation is the recurrence that the Mamba paper writes, and so are its gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers.models.mamba.modeling_mamba import mamba_selective_scan

from hmoe.base.errors import ConfigError
from hmoe.scan import (
    _mamba_ssm_kernel,
    scan_implementation,
    selective_scan,
    selective_scan_reference,
    selective_scan_step,
)

NAMES = ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"]
SOFT = {"delta_softplus": True, "return_last_state": True}


def arguments(B: int, D: int, L: int, N: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    made = [normal(B, D, L), normal(B, D, L), -normal(D, N).exp(), normal(B, N, L), normal(B, N, L)]
    made += [normal(D), normal(B, D, L), normal(D)]
    return {name: tensor.requires_grad_() for name, tensor in zip(NAMES, made, strict=True)}


def transposed(tensor: Tensor) -> Tensor:
    """The same values, not contiguous: as a slice of a tensor whose last two dimensions are exchanged."""
    *outer, rows, columns = tensor.shape
    wide = tensor.new_zeros(*outer, columns, rows + 3)
    wide[..., 1:-2] = tensor.detach().mT
    return wide[..., 1:-2].mT.requires_grad_()


def everything(made: dict[str, Tensor], **options: object) -> list[Tensor]:
    """y, the last state, and the gradient of every argument, for one loss that weighs each output differently."""
    y, last = selective_scan(**made, **SOFT, **options)
    loss = sum((out * torch.linspace(-1, 2, out.numel()).to(out).reshape(out.shape)).sum() for out in (y, last))
    return [y, last, *torch.autograd.grad(loss, list(made.values()))]


def assert_equal(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    """Relative to the largest value of each tensor: sums of both signs leave no meaning in a small difference."""
    for name, one, other in zip(["y", "last", *NAMES], found, wanted, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= tolerance * other.abs().max().clamp(min=1e-3), name


def assert_as_reference(made: dict[str, Tensor], implementation: str, tolerance: float = 1e-4) -> None:
    wanted = everything(made, implementation="reference")
    assert_equal(everything(made, implementation=implementation), wanted, tolerance)


def test_the_reference_is_the_recurrence_of_the_paper() -> None:
    made = arguments(2, 3, 5, 4, torch.float64)
    u, delta, A, B, C = (made[name].detach() for name in ["u", "delta", "A", "B", "C"])
    y, last = selective_scan_reference(u, delta, A, B, C)
    for b in range(2):
        for d in range(3):
            h = torch.zeros(4, dtype=torch.float64)
            for t in range(5):
                h = torch.diag(torch.exp(delta[b, d, t] * A[d])) @ h + delta[b, d, t] * B[b, :, t] * u[b, d, t]
                torch.testing.assert_close(y[b, d, t], C[b, :, t] @ h)
            torch.testing.assert_close(last[b, d], h)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4), st.integers(1, 70), st.integers(1, 12), st.integers(1, 20), st.integers(0, 2**31), st.booleans()
)
def test_cpu_equals_the_reference(B: int, D: int, L: int, N: int, seed: int, strided: bool) -> None:
    made = arguments(B, D, L, N, seed=seed)
    if strided:
        made = {name: transposed(tensor) if tensor.ndim > 1 else tensor for name, tensor in made.items()}
    assert_as_reference(made, "cpu")


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 1, 1, 5), (1, 5, 7, 1), (2, 33, 40, 64), (1, 64, 190, 16)])
def test_cpu_at_the_edges_of_its_blocks(shape: tuple[int, int, int, int]) -> None:
    assert_as_reference(arguments(*shape), "cpu")


@pytest.mark.parametrize("implementation", ["cpu", "single-step"])
def test_gradients_equal_finite_differences(implementation: str) -> None:
    made = arguments(2, 3, 1 if implementation == "single-step" else 5, 2, torch.float64)

    def scan(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return selective_scan(*tensors, **SOFT, implementation=implementation)

    assert torch.autograd.gradcheck(scan, tuple(made.values()))


def test_half_precision_keeps_its_state_in_float32() -> None:
    made = arguments(2, 3, 6, 4)
    half = {name: made[name].detach().bfloat16() for name in NAMES}
    y, last = selective_scan(**half, **SOFT)
    exact, exact_last = selective_scan(
        **{name: half[name].float() for name in NAMES}, **SOFT, implementation="reference"
    )
    assert y.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    torch.testing.assert_close(last, exact_last, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, exact.bfloat16(), rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("implementation", ["cpu", "reference"])
def test_a_step_of_zero_keeps_the_state_to_the_bit(implementation: str) -> None:
    made = {name: arguments(1, 3, 2000, 20)[name].detach() for name in ["u", "delta", "A", "B", "C"]}
    made["delta"][...] = 0
    made["delta"][..., 0] = 1
    kept = made["u"][:, :, :1] * made["B"].mT[:, :1]  # exp(delta A) of the first step has nothing to act on
    last = selective_scan(**made, return_last_state=True, implementation=implementation)[1]
    assert torch.equal(last, kept)


@pytest.mark.parametrize(("constant", "share"), [(True, 0.5), (False, 1.2)])
@pytest.mark.parametrize("rate", [1e-4, 1e-2])
def test_a_slow_decay_is_as_slow_as_it_should_be(rate: float, constant: bool, share: float) -> None:
    """exp(delta A), rounded near 1, is wrong by the same amount at each step of a constant size: that adds up."""
    made = {name: arguments(1, 4, 6000, 3)[name].detach() for name in ["u", "delta", "A", "B", "C"]}
    made["A"] = -rate * torch.linspace(0.5, 1.5, 12).reshape(4, 3)
    made["delta"] = torch.full((1, 4, 6000), 0.7) if constant else made["delta"].abs()
    exact = selective_scan(**{name: made[name].double() for name in made}, implementation="reference")

    def error(y: Tensor) -> float:
        return ((y - exact).norm() / exact.norm()).item()

    assert error(selective_scan(**made)) <= share * error(mamba_selective_scan(*made.values()))


def test_optional_arguments_are_what_their_absence_means() -> None:
    made = {name: tensor.detach() for name, tensor in arguments(2, 3, 4, 5).items()}
    step = torch.nn.functional.softplus(made["delta"] + made["delta_bias"][:, None])
    plain = selective_scan(made["u"], step, made["A"], made["B"], made["C"])
    full = selective_scan(**made, delta_softplus=True)
    gate = torch.nn.functional.silu(made["z"])
    torch.testing.assert_close(full, (plain + made["D"][:, None] * made["u"]) * gate)


def test_one_step_needs_no_state_and_gives_A_no_gradient() -> None:
    made = arguments(3, 5, 1, 4)
    found = everything(made)
    assert_equal(found, everything(made, implementation="reference"), 1e-6)
    assert_equal(found, everything(made, implementation="cpu"), 1e-6)
    assert (found[2 + NAMES.index("A")] == 0).all()
    assert scan_implementation("cpu", steps=1) == "single-step"


@pytest.mark.parametrize("options", [{"delta_softplus": True}, {}], ids=["soft-plus", "as given"])
def test_steps_one_by_one_are_the_scan(options: dict) -> None:
    made = {name: tensor.detach() for name, tensor in arguments(2, 3, 7, 4).items()}
    made |= {name: made[name].abs() for name in ("delta", "delta_bias")}  # a step goes forward
    y, last = selective_scan(**made, **options, return_last_state=True)
    state = torch.zeros(2, 3, 4)
    for t in range(7):
        now = {name: made[name][:, :, t] for name in ["u", "delta", "B", "C", "z"]}
        out, state = selective_scan_step(state, **{**made, **now}, **options)
        torch.testing.assert_close(out, y[:, :, t], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-4, atol=1e-5)


def test_what_comes_later_never_reaches_what_was() -> None:
    made = {name: tensor.detach() for name, tensor in arguments(2, 40, 9, 4).items()}
    before = selective_scan(**made, delta_softplus=True)
    made["u"][:, :, 6:] += 100
    assert torch.equal(selective_scan(**made, delta_softplus=True)[:, :, :6], before[:, :, :6])


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("shape", [(1, 300, 6, 5), (5, 40, 9, 3)])
def test_any_number_of_threads_gives_the_same_bits(shape: tuple[int, int, int, int], threads: int) -> None:
    made, usual = arguments(*shape), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = everything(made, implementation="cpu")
        torch.set_num_threads(threads)
        many = everything(made, implementation="cpu")
    finally:
        torch.set_num_threads(usual)
    for a, b in zip(
        one[2:7], many[2:7], strict=True
    ):  # the scan's own; PyTorch adds up the gradients of D and the bias
        assert torch.equal(a, b)
    assert torch.equal(one[0], many[0])


@pytest.mark.parametrize("L", [1, 6])
@pytest.mark.parametrize("name", NAMES)
def test_not_a_number_comes_through_where_it_does_in_the_reference(name: str, L: int) -> None:
    made = arguments(2, 40, L, 3)
    with torch.no_grad():
        made[name].view(-1)[0] = float("nan")
    y = selective_scan(**made, delta_softplus=True)
    assert y.isnan().any()
    assert not y.isnan().all()
    assert torch.equal(y.isnan(), selective_scan(**made, delta_softplus=True, implementation="reference").isnan())
    gradients = torch.autograd.grad(y.sum(), list(made.values()))
    if L > 1 and name != "D":  # a single step leaves A nothing to act on, and nothing that D does depends on delta
        assert gradients[1].isnan().any()


def test_growth_without_bound_is_infinite_as_in_the_reference() -> None:
    made = {name: arguments(1, 2, 5, 3)[name].detach() for name in ["u", "delta", "A", "B", "C"]}
    made |= {
        "delta": torch.full((1, 2, 5), 50.0),
        "A": torch.ones(2, 3),
        "B": torch.ones(1, 3, 5),
        "C": torch.ones(1, 3, 5),
    }
    made["u"] = made["u"].abs()
    assert selective_scan(**made)[..., -1].isinf().all()
    assert torch.equal(selective_scan(**made).isinf(), selective_scan(**made, implementation="reference").isinf())


BAD: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "empty batch": (lambda g: {"u": g["u"][:0]}, r"u is \(0, 3, 5\); give \(B, D, L\)"),
    "no steps": (lambda g: {"u": g["u"][..., :0]}, r"u is \(2, 3, 0\)"),
    "delta": (lambda g: {"delta": g["delta"][:1]}, r"delta is \(1, 3, 5\); it must be \(2, 3, 5\)"),
    "no states": (lambda g: {"A": g["A"][:, :0]}, r"A is \(3, 0\)"),
    "complex A": (lambda g: {"A": g["A"].cfloat()}, "complex"),
    "constant B": (lambda g: {"B": g["A"], "C": g["A"]}, r"\(D, N\)"),
    "B and C exchanged in shape": (lambda g: {"B": g["B"].mT}, r"B is \(2, 5, 4\); it must be \(2, 4, 5\)"),
    "D": (lambda g: {"D": g["D"][:2]}, r"D is \(2,\)"),
    "device": (lambda g: {"z": g["z"].to("meta")}, "z is on meta"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_in_one_line(case: str) -> None:
    change, message = BAD[case]
    made = arguments(2, 3, 5, 4)
    with pytest.raises(ConfigError, match=message) as caught:
        selective_scan(**{**made, **change(made)})
    assert "\n" not in str(caught.value)


def test_an_unknown_implementation_is_refused() -> None:
    made = arguments(2, 3, 5, 4)
    for name in ["fastest", "single-step"]:
        with pytest.raises(ConfigError, match=f"got '{name}' for 5 steps"):
            selective_scan(**made, implementation=name)
    with pytest.raises(ConfigError, match="u is"):
        selective_scan_step(torch.zeros(2, 3, 4), *list(made.values())[:5])


def refusal(made: dict[str, Tensor], implementation: str) -> str:
    with pytest.raises(ConfigError) as caught:
        selective_scan(**made, implementation=implementation)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mamba_ssm_is_refused_in_one_line_where_it_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'mamba-ssm' for N = 257; N <= 256" in refusal(arguments(1, 2, 3, 257), "mamba-ssm")
    if find_spec("mamba_ssm") is None:
        assert "mamba-ssm is not installed; build it" in refusal(arguments(1, 2, 3, 256), "mamba-ssm")
        broken = tmp_path / "mamba_ssm"  # as its package is without CUDA: it is there, and its import fails
        broken.mkdir()
        (broken / "__init__.py").write_text("raise ImportError('libcudart.so:\\nno such file')")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ConfigError, match="does not import: libcudart.so: no such file; build it"):
            _mamba_ssm_kernel()
    assert "'mamba-ssm' for tensors on cpu" in refusal(arguments(1, 2, 3, 4), "mamba-ssm")


def test_the_cpu_kernel_is_refused_off_the_cpu() -> None:
    elsewhere = {name: tensor.detach().to("meta") for name, tensor in arguments(2, 3, 5, 4).items()}
    assert "'cpu' for tensors on meta" in refusal(elsewhere, "cpu")


def test_each_device_has_its_implementation() -> None:
    assert scan_implementation("cpu") == "cpu"
    assert scan_implementation(torch.device("cuda", 0)) == "triton"
    assert scan_implementation("mps") == "reference"


def test_torch_compile_sees_one_operation() -> None:
    made = arguments(2, 3, 5, 4)

    def loss(*tensors: Tensor) -> Tensor:
        return selective_scan(*tensors, delta_softplus=True).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    values = list(made.values())
    torch.testing.assert_close(compiled(*values), loss(*values))
    for a, b in zip(
        torch.autograd.grad(compiled(*values), values), torch.autograd.grad(loss(*values), values), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_the_operation_describes_itself_truly() -> None:
    u, delta, A, B, C = list(arguments(2, 3, 5, 4).values())[:5]
    torch.library.opcheck(torch.ops.hmoe.selective_scan.default, (u, delta, A, B.mT.contiguous().mT, C, "cpu"))


class Scans(Dataset):
    """Each item is a scan by two threads, so that a worker process has to compute one."""

    inputs = [tensor.detach() for tensor in arguments(3, 70, 6, 4).values()][:5]

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        torch.set_num_threads(2)
        return selective_scan(*self.inputs) + index


def test_forked_workers_compute_the_same() -> None:
    usual = torch.get_num_threads()
    try:
        here = [Scans()[index] for index in range(4)]  # so that the pool of threads exists before the fork
        loader = DataLoader(Scans(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
        for a, b in zip(loader, here, strict=True):
            assert torch.equal(a, b)
    finally:
        torch.set_num_threads(usual)


def test_a_folder_that_cannot_be_written_costs_the_cache_only() -> None:
    """numba refuses to cache where it may write neither beside the source nor in the home folder."""
    code = (
        "import torch\n"
        "from hmoe.scan import selective_scan\n"
        "u = torch.ones(1, 2, 3)\n"
        "print(selective_scan(u, u, -torch.ones(2, 4), torch.ones(1, 4, 3), torch.ones(1, 4, 3))[0, 0, 0].item())"
    )
    nowhere = {**os.environ, "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}  # and no folder provided
    done = subprocess.run([sys.executable, "-c", code], env=nowhere, capture_output=True, text=True)
    assert done.stdout.strip() == "4.0", done.stderr
