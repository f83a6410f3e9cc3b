"""The Mamba block is mamba_ssm's by names, shapes and initialisation, and transformers' by what it computes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from hmoe import mamba
from hmoe.mamba import Mamba, MambaBlock, decayed


def made(seed: int = 0, **sizes: int) -> Mamba:
    torch.manual_seed(seed)
    return Mamba(**{"d_model": 24, "d_state": 5, **sizes})


@pytest.mark.parametrize(("d_model", "d_state", "d_conv", "expand"), [(24, 5, 4, 2), (40, 16, 3, 1)])
def test_a_state_dict_has_the_names_and_shapes_of_mamba_ssm(
    d_model: int, d_state: int, d_conv: int, expand: int
) -> None:
    E, R = expand * d_model, math.ceil(d_model / 16)
    mamba = Mamba(d_model, d_state, d_conv, expand)
    assert {name: tuple(tensor.shape) for name, tensor in mamba.state_dict().items()} == {
        "A_log": (E, d_state),
        "D": (E,),
        "in_proj.weight": (2 * E, d_model),
        "conv1d.weight": (E, 1, d_conv),
        "conv1d.bias": (E,),
        "x_proj.weight": (R + 2 * d_state, E),
        "dt_proj.weight": (E, R),
        "dt_proj.bias": (E,),
        "out_proj.weight": (d_model, E),
    }


@pytest.mark.parametrize("T", [1, 2, 17])
def test_it_computes_what_transformers_computes_with_the_same_weights(T: int) -> None:
    mamba = made()
    config = MambaConfig(hidden_size=24, state_size=5, conv_kernel=4, expand=2, time_step_rank=2, use_bias=False)
    theirs = MambaMixer(config, layer_idx=0)
    theirs.load_state_dict(mamba.state_dict())
    hidden = torch.randn(3, T, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(mamba(hidden), theirs(hidden), rtol=0, atol=1e-5)


def test_one_frame_alone_takes_a_shortcut_with_the_scans_result_and_gradients() -> None:
    mamba = made()
    frame = torch.randn(4, 1, 24)
    alone = mamba(frame)
    followed = mamba(torch.cat([frame, torch.randn(4, 6, 24)], dim=1))[:, :1]  # causal, so this is the scan at T = 1
    torch.testing.assert_close(alone, followed, rtol=0, atol=1e-6)
    parameters = dict(mamba.named_parameters())
    short = torch.autograd.grad(alone.square().sum(), parameters.values(), allow_unused=True)
    long = torch.autograd.grad(followed.square().sum(), parameters.values(), allow_unused=True)
    for name, a, b in zip(parameters, short, long, strict=True):
        if name == "A_log":  # Q1: at length 1 the state matrix has no effect
            assert a is None
            assert torch.count_nonzero(b) == 0
        else:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_frame_never_hears_of_later_ones() -> None:
    mamba = made()
    hidden = torch.randn(2, 12, 24, requires_grad=True)
    for t in (0, 5, 11):
        (gradient,) = torch.autograd.grad(mamba(hidden)[:, t].sum(), hidden)
        assert torch.count_nonzero(gradient[:, t + 1 :]) == 0
        assert (gradient[:, : t + 1].abs().sum(dim=(0, 2)) > 0).all()


def test_initialisation_is_the_papers() -> None:
    mamba = made(d_model=256, d_state=7)
    torch.testing.assert_close(mamba.A_log.exp(), torch.arange(1.0, 8).expand(512, 7))
    assert (mamba.D == 1).all()
    bound = 16**-0.5  # dt_rank = 256 / 16
    assert mamba.dt_proj.weight.abs().max() <= bound
    assert mamba.dt_proj.weight.abs().max() > 0.9 * bound
    dt = F.softplus(mamba.dt_proj.bias.detach().double())
    assert dt.min() >= 0.001 * (1 - 1e-4)
    assert dt.max() <= 0.1 * (1 + 1e-4)
    decades = dt.log10()  # log-uniform: each of the two decades has half
    assert 0.4 < (decades < -2).double().mean() < 0.6


def test_steps_start_no_smaller_than_the_floor() -> None:
    torch.manual_seed(0)
    mamba = Mamba(64, dt_min=1e-6, dt_max=1e-3, dt_init_floor=1e-4)
    assert F.softplus(mamba.dt_proj.bias.double()).min() >= 1e-4 * (1 - 1e-3)


def test_the_block_adds_what_the_normalised_input_gives() -> None:
    torch.manual_seed(0)
    block = MambaBlock(24, 5, 4, 2)
    hidden = 10 * torch.randn(2, 6, 24)
    torch.testing.assert_close(block(hidden) - hidden, block.mamba(F.layer_norm(hidden, (24,))), rtol=1e-4, atol=1e-5)


def test_what_mamba_spares_from_weight_decay_and_nothing_else() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(24, 24), MambaBlock(24, 5, 4, 2))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    full, none = decayed(model, 1e-2)
    assert (full["weight_decay"], none["weight_decay"]) == (1e-2, 0.0)
    spared = {names[id(parameter)] for parameter in none["params"]}
    assert spared == {f"1.mamba.{name}" for name in ("A_log", "D", "conv1d.bias", "dt_proj.bias")}
    assert {names[id(parameter)] for parameter in full["params"]} == set(names.values()) - spared


def test_a_model_without_mamba_is_decayed_as_a_whole() -> None:
    assert [len(group["params"]) for group in decayed(torch.nn.Linear(3, 3), 1e-2)] == [2]


def test_half_precision_does_not_reach_the_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded before the exponential, a slow decay would be another: A is single whatever computes the rest."""
    seen, scan = [], mamba.selective_scan

    def watched(u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, *others: object, **how: object) -> torch.Tensor:
        seen.append(A)
        return scan(u, delta, A, *others, **how)

    monkeypatch.setattr(mamba, "selective_scan", watched)
    one, x = made(), torch.randn(1, 3, 24)
    with torch.autocast("cpu", torch.bfloat16):
        one(x)
    single = -torch.exp(one.A_log.detach())
    half = one.bfloat16()
    half(x.bfloat16())
    assert [A.dtype for A in seen] == [torch.float32, torch.float32]
    assert torch.equal(seen[0].detach(), single)
    assert torch.equal(seen[1].detach(), -torch.exp(half.A_log.detach().float()))
