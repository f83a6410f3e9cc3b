"""A GPU's path as far as a CPU can show it: nothing is made on another device than the inputs'; features by PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from networks import NETWORKS
from torch import Tensor, nn

from hmoe import peers
from hmoe.base.errors import StoreError
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs import bank
from hmoe.inputs.batches import Inputs
from hmoe.study import grid
from hmoe.study.store import Store
from hmoe.train import fit, predict


@dataclass(frozen=True)
class Elsewhere(Inputs):
    """Inputs on a CPU that is not torch's default device."""

    def _read(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor | None]:
        with torch.device("cpu"):
            return super()._read(rows, copies)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_makes_its_tensors_where_its_input_is(tiny_corpus: Corpus, tmp_path: Path, name: str) -> None:
    """As on a GPU, the default device is not the inputs': what is made without saying where cannot be used."""
    config = NETWORKS[name].replace(epochs=1, copies=1, augment=(), d_state=4, frame_stride=4, selection="last")
    inputs = Elsewhere.of(grid.open_bank(tiny_corpus, config, workers=1, progress=False), config)
    rows, labels = np.arange(0, 30, 2), tiny_corpus.labels

    def build() -> nn.Module:
        with torch.device("cpu"):
            return peers.build(config, 3)

    with torch.device("meta"):
        model, run = fit(build, inputs, labels, rows, None, config, 0, tmp_path / "run.safetensors")
        logits = predict(model, inputs, rows)
    assert logits.device.type == "cpu"
    assert np.isfinite(run.history[0]["loss"])


def test_features_by_pytorch_are_those_of_librosa_and_kept_apart(tiny_corpus: Corpus) -> None:
    config = Config(reading="frames", copies=1, frame_stride=2)
    options = {"frames": True, "workers": 1, "progress": False}
    reference = bank.build(tiny_corpus, config, **options)
    ours = bank.build(tiny_corpus, config, device="cpu", **options)
    assert ours.folder != reference.folder
    rows = np.arange(len(tiny_corpus))
    for copy in (0, 1):
        copies = np.full(len(rows), copy)
        for one, other in zip(ours.frames(rows, copies, 2), reference.frames(rows, copies, 2), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=0.1)  # half precision about the mean
        np.testing.assert_allclose(ours.statistics(rows, copies), reference.statistics(rows, copies), rtol=0, atol=0.02)


def test_a_trial_of_a_gpu_and_one_of_a_cpu_never_stand_for_each_other(tiny_corpus: Corpus, tmp_path: Path) -> None:
    wanted = tiny.wanted(tiny_corpus)
    on_gpu = [replace(trial, device="cuda:1") for trial in wanted]
    here, there = Store("tiny", tmp_path), Store("tiny", tmp_path, "cuda:1")
    grid.run(wanted, tiny_corpus, here, workers=1, progress=False)
    assert grid.adopt(wanted, here) == []
    assert len(grid.adopt(on_gpu, there)) == len(wanted)
    assert there.path("first") == tmp_path / "tiny-cuda" / "first.csv"
    for trials, store in ((on_gpu, here), (wanted, there)):
        with pytest.raises(StoreError, match="holds trials of .*, not of"):
            grid.run(trials, tiny_corpus, store, workers=1, progress=False)


def test_trials_of_a_gpu_read_its_own_features(tiny_corpus: Corpus) -> None:
    trial = tiny.wanted(tiny_corpus)[0]
    assert trial.features_on is None
    assert grid.bank_key(trial) != grid.bank_key(replace(trial, device="cuda"))
    assert replace(trial, device="cuda").features_on == "cuda"
