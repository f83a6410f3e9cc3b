"""What asks a network not to tell speakers apart: the reversed gradient, equal moments, and whom they know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.bank import Bank
from hmoe.model import HMoESiMBA
from hmoe.peers.unseen.invariant import Invariant, Kind, Network, Reverse, coral
from hmoe.study import grid, profiles
from hmoe.study.experiments import SPEAKERS
from hmoe.study.trial import Trial, fit_split

SMALL = {"d_model": 16, "d_state": 4, "d_selected": 8, "heads": 2, "epochs": 2, "batch_size": 8}
CONFIG = Config(reading="prosody", augment=(), **SMALL)


def test_reversal_is_the_identity_with_a_gradient_of_minus_the_strength() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    direction = torch.randn(4, 3)
    y = Reverse.apply(x, 0.7)
    assert torch.equal(y, x)
    (y * direction).sum().backward()
    torch.testing.assert_close(x.grad, -0.7 * direction)


def test_the_adversary_learns_what_the_network_unlearns() -> None:
    """One loss: the adversary's own gradient is not reversed, the network's is, and grows with the strength."""
    x, targets = torch.randn(12, 1, 107), torch.stack([torch.arange(12) % 3, torch.arange(12) % 2], dim=1)
    grads = {}
    for strength in (0.0, 1.0, 2.0):
        torch.manual_seed(0)
        net = Invariant(CONFIG.replace(dropout=0.0), 3, 2, "adversarial", strength).train()
        output = net(x)
        assert output.shape == (12, 3 + 2)
        net.loss(output, targets).backward()
        grads[strength] = net.model.router.mlp[0].weight.grad, net.adversary[0].weight.grad
    ours, adversary = zip(*grads.values(), strict=True)
    assert adversary[0].any() and torch.equal(adversary[0], adversary[2])
    torch.testing.assert_close(ours[2] - ours[0], 2 * (ours[1] - ours[0]), rtol=1e-3, atol=1e-6)
    assert (ours[1] - ours[0]).abs().max() > 1e-6


def test_coral_is_zero_for_equal_moments_and_counts_means_and_covariances() -> None:
    a = torch.randn(50, 4, dtype=torch.float64)
    speakers = torch.arange(2).repeat_interleave(50)
    assert coral(torch.cat([a, a.flip(0)]), speakers) == pytest.approx(0, abs=1e-12)
    assert coral(torch.cat([a, a + 0.5]), speakers) == pytest.approx(0.25)  # the means alone
    around = a - a.mean(0)
    expected = np.mean((3 * np.cov(around.numpy().T)) ** 2)
    assert coral(torch.cat([around, 2 * around]), speakers) == pytest.approx(expected)
    assert coral(a, torch.arange(50)) == 0  # one utterance has no covariance


@pytest.mark.parametrize("kind", ["adversarial", "coral"])
def test_without_strength_it_is_hmoe_simba(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    X, y, speakers = rng.normal(size=(24, 107)), np.arange(24) % 3, np.arange(24) % 2
    p = Network(CONFIG, kind, 0.0).fit(X, y, speakers).predict_proba(X)
    assert p == pytest.approx(Network(CONFIG).fit(X, y, speakers).predict_proba(X), abs=1e-6)
    assert p.sum(axis=1) == pytest.approx(np.ones(24))
    assert type(Network(CONFIG, kind).fit(X, y, speakers).model_.model) is HMoESiMBA


@pytest.mark.parametrize("kind", ["adversarial", "coral"])
def test_with_strength_the_summary_betrays_the_speaker_less(kind: Kind) -> None:
    """Two speakers who stand apart in every dimension: a linear probe finds them in the summary, or finds less."""
    rng = np.random.default_rng(1)
    y, speakers = rng.integers(0, 2, 160), np.arange(160) % 2
    X = rng.normal(size=(160, 107)) + 2 * speakers[:, None]
    X[:, :20] += 3 * y[:, None]
    config = CONFIG.replace(epochs=30, lr=3e-3, batch_size=32, dropout=0.0)

    def apart(strength: float) -> tuple[float, float]:
        net = Network(config, kind, strength).fit(X, y, speakers)
        with torch.no_grad():
            h = net.model_.model.parts(net._inputs(X).clean(np.arange(160))[0])["summary"]
        h = (h - h.mean(0)) / h.std()
        return (h[speakers == 0].mean(0) - h[speakers == 1].mean(0)).norm().item(), net.score(X, y)

    (plain, _), (asked, accuracy) = apart(0.0), apart(1.0)
    assert asked < 0.7 * plain
    assert accuracy > 0.9


@pytest.fixture
def three(tiny_corpus: Corpus) -> Corpus:
    """Three speakers, so that an inner fold has one to leave out."""
    table = tiny_corpus.table.assign(speaker=np.array(["ann", "bob", "cat"])[tiny_corpus.table.index % 3])
    return replace(tiny_corpus, table=table)


def learnt(trial: Trial, corpus: Corpus, bank: Bank) -> dict[str, torch.Tensor]:
    """Every number of the fitted network, and the strength that was chosen for it."""
    model = fit_split(trial, corpus, bank).model
    network = model.fitted_[0].best_estimator_["estimator"]
    return {"strength": torch.tensor(network.strength), **network.model_.state_dict()}


@pytest.mark.parametrize("kind", ["adversarial", "coral"])
def test_nothing_of_the_test_speaker_is_known(three: Corpus, kind: Kind) -> None:
    """Neither its labels nor its sound: change both, and the same strength is chosen, the same weights learnt."""
    row = f"HMoE-SiMBA on both, {kind}"
    trial = grid.trials([SPEAKERS], three, profiles.PROFILES["full"], seeds=[0], rows=[row], **SMALL)[0]
    bank, test = grid.open_bank(three, trial.config, workers=1, progress=False), trial.split.test
    before = learnt(trial, three, bank)
    changed = three.table.copy()
    changed.loc[test, "emotion"] = np.roll(changed.loc[test, "emotion"], 1)
    for name in ("statistics", "prosody"):
        heard = bank._map(bank.path(name, 0)).copy()
        heard[test] = 7.0
        bank._maps[bank.path(name, 0)] = heard
    other = replace(three, table=changed)
    assert (other.labels[test] != three.labels[test]).any()
    after = learnt(trial, other, bank)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
