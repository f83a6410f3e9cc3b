"""Steps that a GPU is given as a whole, and what they need: batches made on the device, and no waiting for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from networks import NETWORKS
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hmoe import peers
from hmoe.base import recorded
from hmoe.base.errors import TrainingError
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs import bank
from hmoe.inputs.bank import Bank
from hmoe.inputs.batches import Held, Inputs
from hmoe.peers.controls import BiLSTM
from hmoe.peers.network import FrameNorm
from hmoe.study import grid
from hmoe.study.leaking import UnrolledInputs
from hmoe.study.store import Store
from hmoe.train import fit, train_epoch

FRAMES = Config(**{**tiny.SMALL, "reading": "frames", "frame_stride": 4, "dropout": 0.3, "lr_decay_every": 1})


@pytest.fixture(scope="module")
def tiny_bank(tiny_corpus: Corpus) -> Bank:
    return bank.build(tiny_corpus, FRAMES, frames=True, workers=1, progress=False)


@pytest.mark.parametrize("kind", [Inputs, UnrolledInputs])
@pytest.mark.parametrize(("reading", "by_speaker"), [("frames", False), ("frames", True), ("statistics", True)])
def test_what_is_held_gives_the_bits_of_the_bank(
    tiny_corpus: Corpus, tiny_bank: Bank, kind: type[Inputs], reading: str, by_speaker: bool
) -> None:
    config = FRAMES.replace(reading=reading, by_speaker=by_speaker)
    read = kind.of(tiny_bank, config, "cpu", tiny_corpus.table["speaker"].to_numpy())
    rows, copies = np.array([0, 17, 4, 29]), np.array([0, 2, 1, 2])
    for one, other in zip(read.batch(rows, copies), read.hold().batch(rows, copies), strict=True):
        assert (one is other is None) or torch.equal(one, other)


def trained(inputs: Inputs, labels: np.ndarray, config: Config, graphs: bool) -> tuple[dict[str, Tensor], list]:
    rows = np.arange(0, 30, 2)
    model, run = fit(lambda: peers.build(config, 3), inputs, labels, rows, None, config, 0, graphs=graphs)
    return model.state_dict(), run.history


@pytest.mark.parametrize("reading", ["frames", "pooled"])
def test_recorded_training_is_the_same_on_a_cpu(tiny_corpus: Corpus, tiny_bank: Bank, reading: str) -> None:
    config = FRAMES.replace(reading=reading, epochs=4)
    inputs = Inputs.of(tiny_bank, config)
    plain, losses = trained(inputs, tiny_corpus.labels, config, graphs=False)
    ours, ours_losses = trained(inputs.hold(), tiny_corpus.labels, config, graphs=True)
    assert losses == ours_losses
    assert all(torch.equal(plain[name], ours[name]) for name in plain)


class Traced:
    """As a CUDA graph: the operations that the work did, done again on the tensors that they found; no Python."""

    def __init__(self) -> None:
        self.replayed = 0

    def first(self, work: recorded.Work) -> Tensor:
        return work()

    def record(self, work: recorded.Work) -> tuple[Callable[[], None], Tensor]:
        graphs, kept, result = [], [], torch.zeros(())

        def noted() -> Tensor:
            kept.append(work())
            return kept[-1]

        def replay() -> None:
            if graphs:
                self.replayed += 1
                with torch.no_grad():
                    result.copy_(graphs[0]())
            else:  # tracing does the work too
                graphs.append(make_fx(noted)())
                result.copy_(kept[0])

        return replay, result


def test_a_step_without_its_python_trains_the_same(
    tiny_corpus: Corpus, tiny_bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing that changes from step to step is left to Python; a learning rate is, but on CUDA."""
    config = FRAMES.replace(epochs=4, lr_decay=1.0, augment=(), batch_size=15)  # one shape
    inputs = Inputs.of(tiny_bank, config)
    recorder = Traced()
    monkeypatch.setattr(recorded, "Calls", lambda: recorder)
    with torch.backends.mkldnn.flags(enabled=False):  # whose LSTM cannot be traced
        plain, losses = trained(inputs, tiny_corpus.labels, config, graphs=False)
        ours, ours_losses = trained(inputs.hold(), tiny_corpus.labels, config, graphs=True)
    assert recorder.replayed == 2
    assert [one["loss"] for one in ours_losses] == pytest.approx([one["loss"] for one in losses], rel=1e-5)
    for name in plain:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_recorded_is_one_line(tiny_corpus: Corpus, tiny_bank: Bank) -> None:
    class Refused(recorded.Calls):
        def record(self, work: recorded.Work) -> tuple[Callable[[], None], Tensor]:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    once = recorded.Recorded("cpu")
    once.recorder = Refused()
    assert once(lambda x, n: x * n, torch.ones(2), 3).tolist() == [3, 3]
    with pytest.raises(TrainingError, match="capturing\\).*--graphs"):
        once(lambda x, n: x * n, torch.ones(2), 3)


class Waits(TorchDispatchMode):
    """Counts where a step would wait for a GPU: a value asked for, a shape that depends on values, a copy to it."""

    asked = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "equal", "item")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        leaves = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
        name = function._schema.name.removeprefix("aten::")
        on_card = [leaf for leaf in leaves if leaf.is_meta]
        if name in self.asked and on_card:
            self.found[name] += 1
            if name == "_local_scalar_dense":
                return 1.0
        if name in ("index", "index_put", "index_put_") and any(leaf.dtype == torch.bool for leaf in leaves[1:]):
            self.found["index by a mask"] += 1
        result = function(*arguments, **options)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if name in ("_to_copy", "copy_") and {leaf.is_meta for leaf in (*leaves, *made)} == {True, False}:
            self.found["copy"] += 1
        return result


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"hmoe-simba, features"}))  # 260 tokens take long here
def test_a_step_does_not_wait(tiny_corpus: Corpus, name: str) -> None:
    """An epoch of three batches: their indices are copied once, the mean loss is asked for once; else nothing."""
    config = NETWORKS[name].replace(copies=1, augment=(), d_state=4, frame_stride=4, batch_size=5)
    read = Inputs.of(grid.open_bank(tiny_corpus, config, workers=1, progress=False), config).hold()
    held = Held(*(each.to("meta") for each in (read.held.tokens, read.held.first, read.held.lengths)))
    model = peers.build(config, 3).to("meta")
    targets = torch.from_numpy(tiny_corpus.labels).to("meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    with Waits() as waits:
        train_epoch(model, optimizer, replace(read, device="meta", held=held), targets, np.arange(15), config, 0, 0)
    assert waits.found == {"copy": 2, "_local_scalar_dense": 1}


def test_norms_of_real_frames_are_the_same_in_place() -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(3, 7, 2, 4), torch.arange(7) < torch.tensor([7, 3, 5])[:, None]
    picked, in_place = FrameNorm(4), FrameNorm(4)
    for training in (True, True, False):
        one = picked.train(training)(x * mask[..., None, None], mask)
        other = in_place.train(training).in_place(x * mask[..., None, None], mask)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    for name, value in picked.state_dict().items():
        torch.testing.assert_close(value, in_place.state_dict()[name])


def test_both_directions_are_the_same_without_packing() -> None:
    torch.manual_seed(0)
    model, hidden, lengths = BiLSTM(FRAMES, 6), torch.randn(3, 7, FRAMES.d_model), torch.tensor([7, 3, 5])
    selected, plain = model.select(hidden), model(hidden, lengths)
    torch.testing.assert_close(plain, selected + model.down(model.in_place(model.norm(hidden), lengths)))


def test_a_grid_with_graphs_gives_the_records_of_one_without(tiny_corpus: Corpus, tmp_path: Path) -> None:
    wanted = tiny.wanted(tiny_corpus)[:1]
    for folder, graphs in (("without", False), ("with", True)):
        trials = [replace(trial, graphs=graphs) for trial in wanted]
        assert [trial.key() for trial in trials] == [trial.key() for trial in wanted]
        grid.run(trials, tiny_corpus, Store("tiny", tmp_path / folder), workers=1, progress=False)
    one, other = (tiny.records(tmp_path / folder) for folder in ("without", "with"))
    assert one and tiny.same(one, other)
