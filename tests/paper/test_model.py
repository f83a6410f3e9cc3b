"""The model is the paper's equations, removes what an ablation says, and never sees padding."""

from __future__ import annotations

import itertools
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hmoe.base.errors import ConfigError
from hmoe.config import Config
from hmoe.experts import EXPERTS, Expert
from hmoe.masking import frame_mask, masked_mean
from hmoe.model import HMoESiMBA, Standardise, count_parameters
from hmoe.router import Router
from hmoe.simba import ChannelSelection, EinFFT, contiguous, own_dft, transform

SMALL = {
    "d_model": 16, "heads": 2, "einfft_blocks": 4, "d_state": 8, "d_selected": 12, "router_width": 8, "dropout": 0.3,
}  # fmt: skip
READINGS = ("pooled", "frames", "modalities", "features", "statistics")


def built(**changes: object) -> HMoESiMBA:
    torch.manual_seed(0)
    return HMoESiMBA(Config(**{**SMALL, **changes}), 6).eval()


def example(reading: str, B: int = 4, T: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    D = 5 * 260 if reading == "statistics" else 260
    return torch.randn(B, T if reading == "frames" else 1, D, generator=generator)


@pytest.mark.parametrize("reading", READINGS)
def test_every_reading_runs_and_every_part_has_the_papers_shape(reading: str) -> None:
    x = example(reading)
    parts = built(reading=reading)(x), built(reading=reading).parts(x)
    T = {"frames": 9, "modalities": 3, "features": 260}.get(reading, 1)
    shapes = {name: tuple(tensor.shape) for name, tensor in parts[1].items()}
    assert shapes == {
        "F_in": (4, x.shape[2]),
        "H": (4, 3, T, 16),
        "g": (4, 3),
        "H_HMoE": (4, T, 16),
        "H_SiMBA": (4, T, 12),
        "summary": (4, 12),
        "logits": (4, 6),
    }
    torch.testing.assert_close(parts[0], parts[1]["logits"])


def test_the_router_is_a_softmax_over_an_mlp_of_two_hidden_layers_or_one() -> None:
    pooled = torch.randn(5, 20)
    for layers in (1, 2):
        router = Router(20, 3, Config(**SMALL, router_hidden_layers=layers))
        assert [m.out_features for m in router.mlp if isinstance(m, torch.nn.Linear)] == [8] * layers + [3]
        g = router(pooled)
        torch.testing.assert_close(g.sum(dim=1), torch.ones(5))
        assert (g > 0).all()
        assert g.std(dim=0).min() > 0  # it depends on the input


def test_without_router_each_expert_has_the_same_weight_and_no_parameter_is_left() -> None:
    router = Router(20, 3, Config(**SMALL, router="uniform"))
    assert count_parameters(router) == 0
    torch.testing.assert_close(router(torch.randn(5, 20)), torch.full((5, 3), 1 / 3))


def test_an_expert_that_nobody_defined_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        built(experts=("cnn", "gru"))
    assert "experts" in error.value.where and "gru" in error.value.what
    assert all(name in error.value.remedy for name in EXPERTS)


def test_a_second_expert_of_a_known_name_is_refused_and_a_cell_may_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPERTS, "own", EXPERTS["lstm"])
    monkeypatch.delitem(EXPERTS, "own")

    def cell() -> type[Expert]:
        class Own(Expert, name="own", d_state_share=1.0): ...

        return Own

    first, again = cell(), cell()
    assert EXPERTS["own"] is again is not first
    for name in ("own", "cnn"):
        before = EXPERTS[name]
        with pytest.raises(ConfigError) as error:
            type("Other", (Expert,), {}, name=name, d_state_share=1.0)
        assert name in error.value.where and before.__qualname__ in error.value.what
        assert EXPERTS[name] is before


def test_equation_5_is_the_weighted_sum_of_the_experts() -> None:
    model = built(reading="frames")
    parts = model.parts(example("frames"))
    by_hand = sum(parts["g"][:, k, None, None] * parts["H"][:, k] for k in range(3))
    torch.testing.assert_close(parts["H_HMoE"], by_hand)


def test_given_routing_takes_the_routers_place() -> None:
    model, x = built(reading="frames"), example("frames")
    only_cnn = torch.zeros(4, 3)
    only_cnn[:, model.config.experts.index("cnn")] = 1
    parts = model.parts(x, routing=only_cnn)
    torch.testing.assert_close(parts["H_HMoE"], model.experts["cnn"](model.standardise(x)))


def test_a_single_expert_has_all_the_weight() -> None:
    parts = built(experts=("lstm",)).parts(example("pooled"))
    assert (parts["g"] == 1).all()
    torch.testing.assert_close(parts["H_HMoE"], parts["H"][:, 0])


def test_experts_stand_in_the_order_in_which_they_are_named() -> None:
    model = built(experts=("transformer", "lstm"))
    assert list(model.experts) == ["transformer", "lstm"]
    parts = model.parts(example("pooled"))
    x = model.standardise(example("pooled"))
    torch.testing.assert_close(parts["H"][:, 1], model.experts["lstm"](x))


def names(**changes: object) -> set[str]:
    return {name for name, _ in built(**changes).named_parameters()}


@pytest.mark.parametrize(
    ("changes", "removed"),
    [
        ({"simba": False}, "simba."),
        ({"router": "uniform"}, "router."),
        ({"experts": ("lstm", "transformer")}, "experts.cnn."),
        ({"experts": ("cnn", "transformer")}, "experts.lstm."),
        ({"experts": ("lstm", "cnn")}, "experts.transformer."),
    ],
)
def test_an_ablation_removes_exactly_the_parameters_that_it_names(changes: dict, removed: str) -> None:
    full = names()
    assert names(**changes) == {name for name in full if not name.startswith(removed)}
    assert any(name.startswith(removed) for name in full)


def test_plain_experts_have_no_mamba() -> None:
    assert names() - names(expert_mamba=False) == {
        name for name in names() if name.startswith("experts.") and ".mamba." in name
    }


def test_experts_differ_in_their_state_sizes_and_scale_with_d_state() -> None:
    for d_state in (8, 16):
        experts = built(d_state=d_state).experts
        sizes = {name: expert.mamba.mamba.d_state for name, expert in experts.items()}
        assert sizes == {"lstm": d_state, "cnn": d_state // 4, "transformer": d_state // 2}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    ("removed", "begin", "end"), [("mfcc", 0, 120), ("mel", 120, 248), ("chroma", 248, 260)], ids=lambda v: str(v)
)
def test_a_removed_modality_is_read_by_nobody(reading: str, removed: str, begin: int, end: int) -> None:
    kept = tuple(name for name in ("mfcc", "mel", "chroma") if name != removed)
    model, x = built(reading=reading, modalities=kept), example(reading)
    x.requires_grad_()
    used = torch.autograd.grad(model(x).square().sum(), x)[0].abs().sum(dim=(0, 1)).reshape(-1, 260).sum(0) > 0
    expected = torch.ones(260, dtype=bool)
    expected[begin:end] = False
    assert (used == expected).all()
    assert model.router.mlp[0].in_features == (260 - (end - begin)) * (5 if reading == "statistics" else 1)


@pytest.mark.parametrize(
    ("order", "einfft", "experts"),
    [
        *itertools.product(["einfft-mamba", "mamba-einfft"], ["simba", "rfft", "einsum"], [None]),
        *[("einfft-mamba", "simba", (name,)) for name in EXPERTS],
    ],
)
def test_padding_and_neighbours_change_nothing(order: str, einfft: str, experts: tuple[str, ...] | None) -> None:
    more = {"experts": experts} if experts else {}
    model = built(reading="frames", simba_order=order, einfft=einfft, **more)
    for parameter in model.parameters():  # so that whatever leaks weighs something
        parameter.data.mul_(1.5)
    lengths = torch.tensor([9, 4, 1, 7])
    x = 3 * example("frames")
    with torch.no_grad():
        alone = torch.cat([model(x[i : i + 1, :n]) for i, n in enumerate(lengths)])
        beside = model(x, lengths)  # noise stands where the padding is
        behind = model(F.pad(x, (0, 0, 0, 5), value=100.0), lengths)
        other = x.flip(0)[[0, 1, 2, 3]].clone()
        other[2, :1] = x[2, :1]
        neighbours = model(other, torch.tensor([3, 9, 1, 5]))[2]
    assert alone.std() > 1e-3
    torch.testing.assert_close(beside, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(behind, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(neighbours, alone[2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("reading", READINGS)
def test_neighbours_change_nothing_in_any_reading(reading: str) -> None:
    model, x = built(reading=reading), example(reading)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=0, atol=1e-5)


def test_a_mask_is_true_where_frames_are_real_and_a_mean_sees_only_those() -> None:
    mask = frame_mask(torch.tensor([2, 3]), 3)
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    frames = torch.tensor([[[1.0], [3.0], [99.0]], [[1.0], [2.0], [6.0]]])
    assert masked_mean(frames, mask).tolist() == [[2.0], [3.0]]
    assert masked_mean(frames, None).flatten().tolist() == pytest.approx([103 / 3, 3.0])


def direct_dft(x: np.ndarray, sign: int) -> np.ndarray:
    """The orthonormal 2-D DFT over axes (time, block) of (T, blocks, width), as the double sum says."""
    T, blocks, _ = x.shape
    t, n = np.arange(T), np.arange(blocks)
    over_time = np.exp(sign * 2j * np.pi * np.outer(t, t) / T)
    over_blocks = np.exp(sign * 2j * np.pi * np.outer(n, n) / blocks)
    return np.einsum("ut,tnd,vn->uvd", over_time, x, over_blocks) / np.sqrt(T * blocks)


def test_einfft_is_what_its_formula_says_in_double_precision() -> None:
    torch.manual_seed(0)
    layer = EinFFT(8, 2).double()
    for parameter in layer.parameters():
        parameter.data.mul_(20)
    hidden = torch.randn(1, 5, 8, dtype=torch.float64)
    W1, W2, b1, b2 = (
        p.detach().numpy()[0] + 1j * p.detach().numpy()[1]
        for p in (layer.weight_1, layer.weight_2, layer.bias_1, layer.bias_2)
    )
    X = direct_dft(hidden[0].numpy().reshape(5, 2, 4), -1)
    Y = np.einsum("tnd,nde->tne", X, W1) + b1
    Y = np.maximum(Y.real, 0) + 1j * np.maximum(Y.imag, 0)
    Y = np.einsum("tnd,nde->tne", Y, W2) + b2
    Y = sum(u * np.sign(part) * np.maximum(np.abs(part) - 0.01, 0) for part, u in ((Y.real, 1), (Y.imag, 1j)))
    expected = direct_dft(Y, +1).real.reshape(5, 8)
    np.testing.assert_allclose(layer(hidden)[0].detach().numpy(), expected, rtol=0, atol=1e-10)


def test_the_transform_of_a_padded_batch_is_each_utterances_own_and_zero_beyond() -> None:
    x = torch.randn(3, 6, 2, 4, dtype=torch.complex128)
    lengths = torch.tensor([6, 2, 6])
    dft = own_dft(lengths, 6, torch.float64)
    out = transform(x, dft)
    np.testing.assert_allclose(out[1, :2].numpy(), direct_dft(x[1, :2].numpy(), -1), atol=1e-12)
    np.testing.assert_allclose(out[2].numpy(), direct_dft(x[2].numpy(), -1), atol=1e-12)
    assert torch.count_nonzero(out[1, 2:]) == 0
    back = transform(out, dft, inverse=True)
    torch.testing.assert_close(back[1, :2], x[1, :2])
    torch.testing.assert_close(back[[0, 2]], x[[0, 2]])
    assert torch.count_nonzero(back[1, 2:]) == 0


def test_equation_8_as_printed_is_one_linear_layer() -> None:
    torch.manual_seed(0)
    selection = ChannelSelection(Config(**SMALL, einfft="einsum")).double()
    hidden = torch.randn(3, 5, 16, dtype=torch.float64)
    linear = torch.nn.Linear(16, 12, bias=False).double()
    linear.weight.data = selection.weight.data.sum(dim=1).T  # f is summed out
    torch.testing.assert_close(selection(hidden, None), linear(hidden))


def test_the_channel_fft_selects_from_a_modulus() -> None:
    torch.manual_seed(0)
    selection = ChannelSelection(Config(**SMALL, einfft="rfft"))
    hidden = torch.randn(3, 5, 16)
    assert selection.select.in_features == 9
    # A circular shift of the channels moves phases only.
    torch.testing.assert_close(selection(hidden, None), selection(hidden.roll(3, dims=-1), None), rtol=0, atol=1e-5)


def test_the_two_orders_put_mamba_on_either_side_of_the_selection() -> None:
    assert built(simba_order="einfft-mamba").simba.mamba.norm.normalized_shape == (12,)
    assert built(simba_order="mamba-einfft").simba.mamba.norm.normalized_shape == (16,)
    model = built(simba_order="mamba-einfft", reading="frames")
    hidden = torch.randn(2, 5, 16)
    torch.testing.assert_close(model.simba(hidden), model.simba.selection(model.simba.mamba(hidden), None))
    model = built(simba_order="einfft-mamba", reading="frames")
    torch.testing.assert_close(model.simba(hidden), model.simba.mamba(model.simba.selection(hidden, None)))


def test_standardisation_uses_the_statistics_it_was_given_and_spares_constants() -> None:
    layer = Standardise(3, torch.tensor([0, 2]))
    layer.fit(torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 5, 0]))
    assert layer(torch.tensor([[[5.0, 9, 4]]])).tolist() == [[[2.0, 1.0]]]
    assert set(layer.state_dict()) == {"mean", "deviation"}  # they travel with the weights


def test_at_length_one_the_state_matrix_gets_no_gradient_and_all_else_does() -> None:
    for reading in READINGS:
        torch.manual_seed(0)
        model = built(reading=reading, dropout=0.0)
        F.cross_entropy(model(example(reading, B=8)), torch.arange(8) % 6).backward()
        idle = {
            name
            for name, parameter in model.named_parameters()
            if parameter.grad is None or torch.count_nonzero(parameter.grad) == 0
        }
        A = {name for name, _ in model.named_parameters() if name.endswith("A_log")}
        assert len(A) == 4
        # One frame alone: A, the LSTM's recurrence and queries and keys have nothing to act on.
        assert idle >= A if reading in ("pooled", "statistics") else not A & idle
        if reading == "frames":
            assert idle == set()


def test_dropout_acts_in_training_alone() -> None:
    model, x = built(), example("pooled")
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)
    model.train()
    assert not torch.equal(model(x), model(x))


class Spy(torch.autograd.Function):
    """An inverse FFT that notes whether what it and its gradient are given is contiguous."""

    seen: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        Spy.seen.append(x.is_contiguous())
        return torch.fft.ifft2(x, dim=(1, 2), norm="ortho")

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        Spy.seen.append(gradient.is_contiguous())
        return torch.fft.fft2(gradient, dim=(1, 2), norm="ortho")


def test_the_transform_and_its_gradient_are_given_contiguous_memory() -> None:
    """PyTorch 2.13's FFT of a permuted tensor writes beyond its memory; the process is aborted sooner or later."""
    x = torch.randn(4, 6, 8, dtype=torch.complex64).permute(1, 0, 2)[None].requires_grad_()
    assert not x.is_contiguous()  # as a block-diagonal product gives it
    Spy.seen.clear()
    out = contiguous(lambda x, **_: Spy.apply(x), x, (1, 2))
    out.backward(torch.randn(4, 6, 8, dtype=torch.complex64).permute(1, 0, 2)[None])
    assert Spy.seen == [True, True]
