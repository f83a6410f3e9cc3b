"""The rows of Table 2: structure and counts as published, losses as printed, padding never seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from hmoe.config import Config
from hmoe.masking import frame_mask
from hmoe.model import count_parameters
from hmoe.peers import MODELS, build
from hmoe.peers.cnn_bigru import focal_loss
from hmoe.peers.controls import EinFFTAlone, MambaAlone
from hmoe.peers.cpac import CAPSULE, CPAC, margin_loss, route, squash
from hmoe.peers.dcnn_lstm import differences
from hmoe.peers.network import FrameNorm, halved, reverse
from hmoe.peers.tim_net import TIMNet
from hmoe.peers.tlfmrf import FuzzyForests, TwoLayerForests, confused_pairs, fuzzy_c_means, memberships
from hmoe.simba import SiMBA
from hmoe.study.experiments import BASELINES, CONTROLS_FRAMES, PARROT, SPEAKERS, TABLE_2, TAKES

C = 6
CONFIGS = {
    row.name: row.config() for row in (*TABLE_2.rows, *CONTROLS_FRAMES.rows) if row.config().model != "hmoe-simba"
}
NETWORKS = [name for name, config in CONFIGS.items() if isinstance(build(config, C), torch.nn.Module)]
LENGTHS = torch.tensor([9, 40, 1, 26])


def batch(config: Config, lengths: Tensor = LENGTHS, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random frames, zeros behind them; one frame an utterance unless the row reads frames."""
    T = int(lengths.max()) if config.reading == "frames" else 1
    x = torch.randn(len(lengths), T, sum(config.dims.values()), generator=torch.Generator().manual_seed(seed))
    lengths = lengths.clamp(max=T)
    return x * frame_mask(lengths, T)[..., None], lengths


def vectors(n: int, D: int = 260, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Six classes apart in their first columns; the others are noise of very different scale, as features are."""
    rng, scales = np.random.default_rng(seed), 10.0 ** np.random.default_rng(0).uniform(-2, 2, D - C)
    y = np.arange(n) % C
    X = rng.standard_normal((n, D))
    X[:, :C] += 3 * np.eye(C)[y]
    X[:, C:] *= scales
    return X.astype(np.float32), y


@pytest.mark.parametrize("name", ["svm", "lr", "rf", "svm-tuned", "lr-tuned"])
def test_estimator_is_a_function_of_its_training_rows(name: str) -> None:
    (X, y), (unseen, _) = vectors(90, 30), vectors(60, 30, seed=1)
    first, second = (build(Config(model=name), C).fit(X, y).predict(unseen) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_scaling_and_tuning_pay_where_scales_differ() -> None:
    """Q13: what the paper's numbers hinge on."""
    (X, y), (unseen, truth) = vectors(180, 30), vectors(180, 30, seed=1)
    plain, tuned = (build(Config(model=name), C).fit(X, y).score(unseen, truth) for name in ("svm", "svm-tuned"))
    assert tuned > plain + 0.1


@pytest.mark.parametrize("name", ["svm-tuned", "lr-tuned", "rf-tuned"])
def test_tuning_scales_within_its_inner_folds(name: str) -> None:
    search = build(Config(model=name), C)
    assert [type(step) for step in search.estimator.named_steps.values()][0] is StandardScaler
    assert search.cv.random_state == 0


def test_forests_draw_the_same_trees_each_time() -> None:
    assert build(Config(model="rf"), C).random_state == 0
    assert build(Config(model="rf-tuned"), C).estimator.named_steps["estimator"].random_state == 0


# --- networks ---------------------------------------------------------------------------------------------------------


def test_every_model_stands_in_a_table() -> None:
    rows = (*TABLE_2.rows, *CONTROLS_FRAMES.rows, *BASELINES.rows, *SPEAKERS.rows, *PARROT.rows, *TAKES.rows)
    assert {row.config().model for row in rows} == set(MODELS)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_and_neighbours_are_never_seen(name: str) -> None:
    torch.manual_seed(0)
    model = build(CONFIGS[name], C)
    x, lengths = batch(CONFIGS[name])
    model.train()
    model(x, lengths)  # moves the running statistics off their start
    model.eval()
    with torch.no_grad():
        together = model(F.pad(x, (0, 0, 0, 5), value=7.0), lengths)
        alone = torch.cat([model(x[i : i + 1, : lengths[i]], None) for i in range(len(x))])
    assert together.shape == (len(x), C)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_teaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    config = CONFIGS[name].replace(reading="frames")  # Q1: what runs along time learns nothing from a single step
    model = build(config, C)
    x, lengths = batch(config, torch.tensor([60, 90, 33, 71, 64, 80]))
    criterion = getattr(model, "loss", F.cross_entropy)
    criterion(model(x, lengths), torch.arange(C)).backward()
    for key, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), key
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= config.lr * parameter.grad
    assert torch.isfinite(criterion(model(x, lengths), torch.arange(C)))


@pytest.mark.parametrize("name", ["LSTM", "LSTM (frames)", "Transformer", "Transformer (frames)"])
def test_generic_models_are_of_the_size_of_ours(name: str) -> None:
    config = CONFIGS[name]
    ours, theirs = (count_parameters(build(config.replace(model=model), C)) for model in ("hmoe-simba", config.model))
    assert abs(theirs / ours - 1) < 1 / 3


@pytest.mark.parametrize("name", ["MLP instead of SiMBA", "BiLSTM instead of SiMBA", "MLP"])
def test_controls_are_of_the_size_of_what_they_stand_for(name: str) -> None:
    config = CONFIGS[name]
    ours, theirs = build(config.replace(model="hmoe-simba"), C), build(config, C)
    part = count_parameters(ours if name == "MLP" else SiMBA(config))
    assert abs(count_parameters(theirs) - count_parameters(ours)) < part / 50


def test_the_halves_of_simba_have_its_parameters_and_one_selection_more() -> None:
    config = CONFIGS["MLP instead of SiMBA"]
    halves = sum(count_parameters(half(config)) for half in (EinFFTAlone, MambaAlone))
    assert halves == count_parameters(SiMBA(config)) + config.d_model * config.d_selected


def test_random_routing_draws_weights_in_training_and_averages_in_the_test() -> None:
    torch.manual_seed(0)
    config = CONFIGS["random routing"]
    model, (x, lengths) = build(config, C), batch(config)
    many = torch.ones(2000, dtype=torch.int64)  # utterances of one frame
    g = model.parts(*batch(config, many))["g"]
    torch.testing.assert_close(g.sum(1), torch.ones(len(g)))
    assert g.std(0).min() > 0.2  # of weights uniform on the simplex: 0.236
    torch.testing.assert_close(g.mean(0), torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    torch.testing.assert_close(model.eval().parts(x, lengths)["g"], torch.full((4, 3), 1 / 3))


def test_batch_norm_counts_real_frames_only() -> None:
    x, lengths = batch(Config(reading="frames"))
    mask = frame_mask(lengths, x.shape[1])
    y = FrameNorm(x.shape[2])(x.masked_fill(~mask[..., None], 1e3), mask)
    torch.testing.assert_close(y[mask].mean(0), torch.zeros(260), atol=1e-5, rtol=0)
    torch.testing.assert_close(y[mask].std(0, correction=0), torch.ones(260), atol=1e-4, rtol=0)
    assert not y[~mask].any()


def test_batch_norm_of_full_utterances_is_that_of_padded_ones() -> None:
    """The short way for batches without padding gives what the long way gives, statistics included."""
    x = 3 + 2 * torch.randn(4, 9, 5)
    mask = torch.ones(4, 9, dtype=torch.bool)
    short, long = FrameNorm(5), FrameNorm(5)
    full = short(x, mask)
    padded = long(F.pad(x, (0, 0, 0, 2), value=50.0), F.pad(mask, (0, 2)))
    torch.testing.assert_close(full, padded[:, :9])
    torch.testing.assert_close(short.running_mean, long.running_mean)
    torch.testing.assert_close(short.running_var, long.running_var)


@pytest.mark.parametrize("name", ["CPAC", "TIM-Net"])
def test_what_was_written_in_keras_starts_where_keras_starts(name: str) -> None:
    """Biases of zero, weights uniform within sqrt(6 / (fan_in + fan_out))."""
    torch.manual_seed(0)
    layers = [layer for layer in build(CONFIGS[name], C).modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    assert len(layers) > 3
    for layer in layers:
        d_out, d_in, *kernel = layer.weight.shape
        bound = math.sqrt(6 / ((d_in + d_out) * math.prod(kernel)))
        assert not layer.bias.any()
        assert 0.9 * bound < layer.weight.abs().max() <= bound


def test_tim_net_weighs_its_levels_as_keras_starts_them() -> None:
    weights = build(CONFIGS["TIM-Net"], C).level_weights
    assert weights.abs().max() <= 0.05 and weights.std() > 0.01


def test_reverse_turns_the_real_frames_alone() -> None:
    x = torch.arange(1.0, 11).view(2, 5, 1)
    turned = reverse(x, torch.tensor([3, 5]))
    assert turned.flatten().tolist() == [3, 2, 1, 4, 5, 10, 9, 8, 7, 6]


# --- CPAC -------------------------------------------------------------------------------------------------------------


def test_cpac_has_the_published_count() -> None:
    """321,799 counts what Keras counts: a running mean and variance of each channel of three convolutions too."""
    assert count_parameters(build(CONFIGS["CPAC"], C)) + 3 * 2 * 64 == 321_799


def test_cpac_normalises_as_a_batch_norm_that_never_learnt_its_statistics() -> None:
    """What is left in training of Keras's layer, called with `training=False`: its scale and shift."""
    torch.manual_seed(0)
    ours = build(CONFIGS["CPAC"], C).convolutions[0].train()
    nn.init.normal_(ours.scale), nn.init.normal_(ours.shift)
    plain, norm = nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64, eps=1e-3).eval()
    plain.load_state_dict({name: getattr(ours, name) for name in ("weight", "bias")})
    norm.load_state_dict({"weight": ours.scale, "bias": ours.shift}, strict=False)
    image = 5 + 3 * torch.randn(4, 1, 20, 12)
    torch.testing.assert_close(ours(image), norm(plain(image)), atol=1e-4, rtol=1e-4)


def test_cpac_sees_102_capsules_of_64_whatever_the_length() -> None:
    model, shapes = build(CONFIGS["CPAC"], C), []
    model.primary.register_forward_hook(lambda module, args, output: shapes.append(tuple(output.shape[1:])))
    for T in (20, 172, 300):
        model(torch.randn(2, T, sum(CONFIGS["CPAC"].dims.values())))
    assert shapes == [(384, 17, 1)] * 3
    assert 102 * CAPSULE == 384 * 17


def test_cpac_cuts_at_172_frames() -> None:
    model = build(CONFIGS["CPAC"], C).eval()
    x = torch.randn(1, 200, sum(CONFIGS["CPAC"].dims.values()))
    torch.testing.assert_close(model(x), model(x[:, :172]))


def test_squash_keeps_the_direction_and_bounds_the_norm() -> None:
    capsules = torch.randn(50, 64) * torch.logspace(-2, 2, 50)[:, None]
    norm, squashed = capsules.norm(dim=-1), squash(capsules)
    torch.testing.assert_close(squashed.norm(dim=-1), norm**2 / (1 + norm**2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(F.cosine_similarity(squashed, capsules), torch.ones(50))
    assert torch.isfinite(squash(torch.zeros(1, 64))).all()


def test_routing_goes_where_votes_agree() -> None:
    agreed, opposed = torch.ones(4, 64), torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None] * torch.ones(4, 64)
    first, second = route(torch.stack([agreed, opposed], dim=1)[None])[0].norm(dim=-1)
    assert first > 0.99 and second < 0.01


def test_routing_forgets_the_round_before() -> None:
    """Their code replaces the agreement, and measures it with capsules of norm 1: twice the votes, twice the logits."""
    votes = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    agreement = torch.zeros(2, 5, 3)
    for _ in range(2):
        capsules = (agreement.softmax(-1)[..., None] * votes).sum(1)
        agreement = (votes * (capsules / capsules.norm(dim=-1, keepdim=True))[:, None]).sum(-1)
    torch.testing.assert_close(route(votes), squash((agreement.softmax(-1)[..., None] * votes).sum(1)))


def test_margin_loss_by_hand() -> None:
    probabilities, one_hot = torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([[1.0, 0.0, 0.0]])
    assert margin_loss(probabilities, one_hot).item() == pytest.approx(0.3**2 + 0.5 * 0.2**2)
    wanted = torch.tensor([[0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]])  # its labels are smoothed
    squared = (wanted - probabilities).square().mean()
    loss = CPAC.loss(probabilities.log(), torch.tensor([0]))
    torch.testing.assert_close(loss, margin_loss(probabilities, wanted) + 0.392 * squared)


# --- TIM-Net ----------------------------------------------------------------------------------------------------------


def test_tim_net_is_what_its_article_says() -> None:
    """Per direction a 1x1 convolution and 8 blocks of two convolutions (k = 2) and their norms; 8 weights; dense."""
    block = 2 * (2 * 39 * 39 + 39 + 2 * 39)
    model = build(CONFIGS["TIM-Net"], C)
    assert count_parameters(model) == 2 * (39 * 39 + 39 + 8 * block) + 8 + 39 * 6 + 6 == 104_456
    assert [block.convolutions[1].dilation for block in model.blocks[0]] == [1, 2, 4, 8, 16, 32, 64, 128]


def test_tim_net_directions_mirror_each_other() -> None:
    """With the two directions' weights exchanged, a reversed utterance means what it meant."""
    torch.manual_seed(0)
    config = CONFIGS["TIM-Net"]
    model, mirrored = TIMNet(config, C).eval(), TIMNet(config, C).eval()
    mirrored.load_state_dict(model.state_dict())
    mirrored.project, mirrored.blocks = mirrored.project[::-1], mirrored.blocks[::-1]
    x, lengths = batch(config)
    torch.testing.assert_close(mirrored(reverse(x, lengths), lengths), model(x, lengths), atol=1e-5, rtol=0)
    assert (model(reverse(x, lengths), lengths) - model(x, lengths)).abs().max() > 1e-4


def test_tim_net_blocks_are_causal() -> None:
    block = build(CONFIGS["TIM-Net"], C).blocks[0][2].eval()
    x, mask = torch.randn(1, 30, 39), torch.ones(1, 30, dtype=torch.bool)
    changed = x.clone()
    changed[:, 20] += 1
    moved = (block(x, mask) - block(changed, mask)).abs().amax(-1)[0] > 1e-7
    assert moved.nonzero().flatten().tolist() == [20, 24, 28]  # two convolutions, dilation 4


# --- CNN+Bi-GRU, DCNN+LSTM --------------------------------------------------------------------------------------------


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(9)]])
    expected = (0.5**2 * math.log(2) + 0.1**2 * -math.log(0.9)) / 2
    assert focal_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)


def test_convolutions_of_cnn_bigru_are_separable() -> None:
    for block in build(CONFIGS["CNN+Bi-GRU"], C).convolutions:
        assert block.over_time.groups == block.over_time.in_channels == block.over_channels.in_features


def test_halved_is_the_length_after_pooling() -> None:
    for T in range(1, 9):
        assert F.max_pool1d(torch.zeros(1, 1, T), 2, ceil_mode=True).shape[2] == halved(torch.tensor(T))


def test_dcnn_lstm_has_four_blocks_before_256_units() -> None:
    model = build(CONFIGS["DCNN+LSTM"], C)
    assert len(model.blocks) == 4 and model.blocks[0].convolution.in_channels == 3
    assert (model.d_in, model.lstm.input_size, model.lstm.hidden_size) == (128, 64, 256)


def test_differences_of_a_line_are_its_slope() -> None:
    x = (3.0 * torch.arange(10.0))[None, :, None].repeat(2, 1, 1)
    x[1, 7:] = 1e3  # padding
    slopes = differences(x, torch.tensor([10, 7]))[..., 0]
    assert slopes[0, 2:8].tolist() == pytest.approx([3.0] * 6)
    assert slopes[1, 2:5].tolist() == pytest.approx([3.0] * 3)
    assert slopes[1, 6].item() == pytest.approx(3 * (1 * 1 + 2 * 2) / 10)  # the last frame holds on


# --- TLFMRF -----------------------------------------------------------------------------------------------------------


def test_memberships_share_out_one() -> None:
    X = np.random.default_rng(0).standard_normal((40, 3))
    shares = memberships(X, X[:4])
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[:4], np.eye(4), atol=1e-9)
    # Twice the distance, a quarter of the membership (m = 2).
    np.testing.assert_allclose(memberships(np.zeros((1, 1)), np.array([[1.0], [2.0]])), [[0.8, 0.2]])


def test_fuzzy_c_means_finds_the_middles() -> None:
    middles = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    X = np.concatenate([np.random.default_rng(k).normal(middle, 0.5, (50, 2)) for k, middle in enumerate(middles)])
    centres = fuzzy_c_means(X, 3)
    np.testing.assert_allclose(centres[np.lexsort(centres.round().T)], middles[np.lexsort(middles.T)], atol=0.3)


def test_a_forest_gives_no_vote_to_an_emotion_it_never_saw() -> None:
    rng, y = np.random.default_rng(0), np.repeat([0, 1, 2], 30)
    X = rng.normal(size=(90, 4)) + 20 * (y == 2)[:, None]  # 2 is a subclass of its own
    layer = FuzzyForests(n_subclasses=2, n_estimators=10).fit(X, y)
    assert any(len(forest.classes_) < 3 for forest in layer.forests_)
    votes = layer.predict_proba(X)
    np.testing.assert_allclose(votes.sum(axis=1), 1)
    assert (votes[y == 2].argmax(axis=1) == 2).all()


def test_confused_pairs_count_both_directions() -> None:
    confusions = np.array([[9, 1, 4], [2, 9, 0], [1, 0, 9]])
    assert confused_pairs(confusions, 3) == [(0, 2), (0, 1)]


def test_the_second_layer_decides_between_its_pair_alone() -> None:
    (X, y), (unseen, _) = vectors(120, 20), vectors(120, 20, seed=1)
    model = TwoLayerForests(n_pairs=1, n_estimators=10).fit(X, y)
    [(pair, layer)] = model.second_.items()
    candidates = np.sort(np.argsort(model.first_.predict_proba(unseen), axis=1)[:, -2:], axis=1)
    theirs = (candidates == pair).all(axis=1)
    assert 0 < theirs.sum() < len(unseen)
    np.testing.assert_array_equal(model.predict(unseen)[theirs], layer.predict(unseen[theirs]))
    np.testing.assert_array_equal(model.predict(unseen)[~theirs], model.first_.predict(unseen[~theirs]))
    np.testing.assert_array_equal(clone(model).fit(X, y).predict(unseen), model.predict(unseen))
