"""Training: the same bits twice and after any cut, the paper's schedule, an honest choice of the epoch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hmoe.base.errors import TrainingError
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs import bank
from hmoe.inputs.bank import Bank
from hmoe.inputs.batches import Inputs
from hmoe.mamba import decayed
from hmoe.model import HMoESiMBA
from hmoe.study import grid, profiles
from hmoe.study.experiments import Experiment, Row
from hmoe.study.store import Store
from hmoe.study.trial import Trial, fit_split, inputs_of, run_trials
from hmoe.train import Run, batches, fit, load_checkpoint, one_thread, predict, save_checkpoint

C = 3


@dataclass(frozen=True)
class Noise:
    """Inputs without a corpus: what `fit` asks of `Inputs`, of random vectors with the label in their mean."""

    x: Tensor
    device: str = "cpu"

    @classmethod
    def of(cls, labels: np.ndarray) -> Noise:
        rng = np.random.default_rng(0)
        x = rng.normal(0, 1, (len(labels), 3, 1, 260))  # three copies: the clean one and two more
        x[..., :C] += 2 * np.eye(C)[labels][:, None, None]
        return cls(torch.tensor(x, dtype=torch.float32))

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, None]:
        return self.x[rows, copies], None

    def clean(self, rows: np.ndarray) -> tuple[Tensor, None]:
        return self.batch(rows, np.zeros(len(rows), int))

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        return np.ones(len(rows), int)

    def moments(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        return self.x[rows, 0, 0].mean(0), self.x[rows, 0, 0].std(0)


LABELS = np.arange(36) % C
TRAIN, HELD_OUT = np.arange(24), np.arange(24, 36)


def config(**changes: object) -> Config:
    return Config(**{**tiny.SMALL, "epochs": 25, **changes})


def trained(config: Config, seed: int = 0, held_out: np.ndarray | None = HELD_OUT, checkpoint: Path | None = None):
    return fit(lambda: HMoESiMBA(config, C), Noise.of(LABELS), LABELS, TRAIN, held_out, config, seed, checkpoint)


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_the_same_training_gives_the_same_bits_whatever_was_drawn_before() -> None:
    first, first_run = trained(config(epochs=3))
    torch.rand(7)
    np.random.default_rng().random()
    second, second_run = trained(config(epochs=3))
    assert bits(first) == bits(second)
    assert first_run.history == second_run.history
    assert bits(trained(config(epochs=3), seed=1)[0]) != bits(first)


@pytest.mark.parametrize("held_out", [HELD_OUT, None])
def test_a_run_cut_off_gives_the_bits_of_an_uncut_one(tmp_path: Path, held_out: np.ndarray | None) -> None:
    whole, whole_run = trained(config(), held_out=held_out)
    checkpoint = tmp_path / "run.tmp"

    class Cut(Exception):
        pass

    class CutOff(Noise):
        seen = 0

        def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, None]:
            CutOff.seen += 1
            if CutOff.seen == 3 * 17:  # three batches an epoch (and as many to look at): in the middle, after epoch 10
                raise Cut
            return super().batch(rows, copies)

    cut = CutOff(Noise.of(LABELS).x)
    with pytest.raises(Cut):
        fit(lambda: HMoESiMBA(config(), C), cut, LABELS, TRAIN, held_out, config(), 0, checkpoint)
    assert checkpoint.exists()
    resumed, run = trained(config(), held_out=held_out, checkpoint=checkpoint)
    assert bits(resumed) == bits(whole)
    assert run.history == whole_run.history
    assert (run.best_epoch, run.best) == (whole_run.best_epoch, whole_run.best)
    assert checkpoint.exists()  # until the model is saved


KILLED = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    sys.path[:0] = sys.argv[1].split(os.pathsep)
    import torch
    from test_train import config, trained
    torch.set_num_threads(1)
    print("ready", flush=True)
    trained(config(epochs=31), checkpoint=Path(sys.argv[2]))
    """
)


def test_a_run_killed_again_and_again_ends_with_the_bits_of_one_never_killed(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.tmp"
    for grown in (1, 2):
        command = [sys.executable, "-c", KILLED, os.pathsep.join(sys.path), str(checkpoint)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            seen, before = 0, checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            while seen < grown and process.poll() is None:  # until it has kept its state once, then twice
                now = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
                seen, before = seen + (now != before), now
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        assert checkpoint.exists()
    resumed, run = trained(config(epochs=31), checkpoint=checkpoint)
    unharmed, whole = trained(config(epochs=31))
    assert bits(resumed) == bits(unharmed)
    assert run.history == whole.history


def test_a_loss_that_is_not_finite_stops_at_once_and_says_where() -> None:
    inputs = Noise.of(LABELS)
    inputs.x[5] = torch.nan
    with pytest.raises(TrainingError, match=r"epoch 1: the loss is nan; lower lr \(now 0.003\)"):
        fit(lambda: HMoESiMBA(config(), C), inputs, LABELS, TRAIN, None, config(standardise=False), 0)


class Greedy(HMoESiMBA):
    """Asks for more memory than the device has, as torch would say it."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nOf the allocated memory ...")


def test_memory_that_runs_out_is_one_line_with_what_to_do() -> None:
    with pytest.raises(TrainingError, match="epoch 1: .*--workers.*batch_size"):
        fit(lambda: Greedy(config(), C), Noise.of(LABELS), LABELS, TRAIN, None, config(), 0)


def stored(tmp_path: Path, config: Config) -> Path:
    model = HMoESiMBA(config, C)
    path = tmp_path / "run.tmp"
    save_checkpoint(path, model, torch.optim.AdamW(decayed(model, 0)), Run(epoch=1))
    return path


@pytest.mark.parametrize("damage", ["another model", "truncated", "not safetensors", "empty"])
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    path = stored(tmp_path, config(d_model=32) if damage == "another model" else config())
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "not safetensors":
        path.write_text("hello " * 100)
    elif damage == "empty":
        path.write_bytes(b"")
    model = HMoESiMBA(config(), C)
    with pytest.raises(TrainingError, match="not a checkpoint of this model.*delete it to start again") as caught:
        load_checkpoint(path, model, torch.optim.AdamW(decayed(model, 0)))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_checkpoint_holds_everything(tmp_path: Path) -> None:
    model = HMoESiMBA(config(), C)
    optimizer = torch.optim.AdamW(decayed(model, 1e-5))
    model(torch.randn(4, 1, 260)).sum().backward()
    optimizer.step()
    run = Run(7, 3, (0.5, -1.25), [{"epoch": 1, "loss": 0.1}], {"a": torch.arange(3.0)})
    save_checkpoint(tmp_path / "c.tmp", model, optimizer, run)
    other = HMoESiMBA(config(), C)
    other_optimizer = torch.optim.AdamW(decayed(other, 1e-5))
    back = load_checkpoint(tmp_path / "c.tmp", other, other_optimizer)
    assert (back.epoch, back.best_epoch, back.best, back.history) == (7, 3, (0.5, -1.25), run.history)
    assert torch.equal(back.weights["a"], torch.arange(3.0))
    assert bits(other) == bits(model)
    states = optimizer.state_dict()["state"], other_optimizer.state_dict()["state"]
    assert states[0].keys() == states[1].keys()
    for index, moments in states[0].items():
        assert all(torch.equal(moments[name], states[1][index][name]) for name in moments)


class Watched(nn.Module):
    """A weight with a constant gradient of 1: under Adam it moves by the learning rate each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.weight.expand(len(x), C)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits[:, 0].mean()


def test_the_learning_rate_falls_by_a_tenth_every_ten_epochs() -> None:
    for epochs, travelled in ((10, 10.0), (20, 19.0), (25, 19 + 5 * 0.81)):
        plain = config(epochs=epochs, lr=1e-4, batch_size=24, weight_decay=0, standardise=False, optimizer="adam")
        model, _ = fit(Watched, Noise.of(LABELS), LABELS, TRAIN, None, plain, 0)
        assert model.weight.item() == pytest.approx(-1e-4 * travelled, rel=1e-4)


def test_of_equally_good_epochs_the_first_is_kept() -> None:
    plain = config(epochs=4, standardise=False)
    model, run = fit(Watched, Noise.of(LABELS), LABELS, TRAIN, HELD_OUT, plain, 0)
    assert len({record["held_out_loss"] for record in run.history}) == 1  # its logits are always equal
    assert run.best_epoch == 1
    assert model.weight.item() == pytest.approx(-3 * plain.lr, rel=1e-3)  # three batches


class Drawn(Noise):
    """Remembers what was asked for."""

    asked: list[tuple[int, int]]

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, None]:
        self.asked.extend(zip(rows.tolist(), copies.tolist(), strict=True))
        assert len(rows) <= 8
        return super().batch(rows, copies)


@pytest.mark.parametrize("augment", [(), ("noise",)])
def test_an_epoch_takes_each_training_utterance_once_as_one_of_its_copies(augment: tuple[str, ...]) -> None:
    inputs = Drawn(Noise.of(LABELS).x)
    object.__setattr__(inputs, "asked", [])
    fit(Watched, inputs, LABELS, TRAIN, None, config(epochs=20, augment=augment, standardise=False), 0)
    epochs = [inputs.asked[i : i + 24] for i in range(0, len(inputs.asked), 24)]
    assert len(epochs) == 20
    assert all(sorted(row for row, _ in epoch) == list(TRAIN) for epoch in epochs)
    assert len({tuple(row for row, _ in epoch) for epoch in epochs}) == 20  # shuffled anew
    copies = {copy for _, copy in inputs.asked}
    assert copies == ({1, 2} if augment else {0})  # never the clean one, where there are others


def test_it_learns_a_tiny_set_by_heart() -> None:
    model, run = trained(config(epochs=60, dropout=0.0, augment=()), held_out=None)
    assert run.history[-1]["loss"] < 0.05 < run.history[0]["loss"]
    logits = predict(model, Noise.of(LABELS), TRAIN, batch_size=7)
    assert (logits.argmax(1).numpy() == LABELS[TRAIN]).all()
    assert run.best_epoch == 60


def test_the_kept_epoch_is_the_first_best_on_the_held_out_rows_by_accuracy_then_loss() -> None:
    model, run = trained(config())
    ranks = [(record["held_out_accuracy"], -record["held_out_loss"]) for record in run.history]
    assert run.best_epoch == ranks.index(max(ranks)) + 1
    logits = predict(model, Noise.of(LABELS), HELD_OUT)
    assert (logits.argmax(1).numpy() == LABELS[HELD_OUT]).mean() == pytest.approx(run.best[0])
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(LABELS[HELD_OUT])).item()
    assert loss == pytest.approx(-run.best[1], rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=200), st.integers(1, 40), st.integers(0, 99))
def test_batches_hold_everyone_once_in_nearly_equal_sizes(lengths: list[int], batch_size: int, seed: int) -> None:
    dealt = batches(np.array(lengths), batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(dealt)) == list(range(len(lengths)))
    sizes = [len(batch) for batch in dealt]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_batches_of_like_length_have_less_padding_and_change_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(0).integers(50, 250, 640)
    dealt = [batches(lengths, 32, np.random.default_rng(seed)) for seed in (0, 1)]
    padding = sum((lengths[batch].max() - lengths[batch]).sum() for batch in dealt[0])
    at_random = sum((part.max() - part).sum() for part in np.split(lengths, 20))
    assert padding < 0.3 * at_random
    assert [batch.tolist() for batch in dealt[0]] != [batch.tolist() for batch in dealt[1]]


@pytest.fixture(scope="module")
def tiny_bank(tiny_corpus: Corpus) -> Bank:
    return bank.build(tiny_corpus, Config(**tiny.SMALL), frames=True, workers=1, progress=False)


def trial(corpus: Corpus, **changes: object) -> Trial:
    experiment = Experiment("e", "", (Row("r", {**tiny.SMALL, **changes}),))
    return grid.trials([experiment], corpus, profiles.PROFILES["full"], seeds=[0])[0]


def test_a_trial_gives_the_same_bits_twice_and_counts_what_it_tested(tiny_corpus: Corpus, tiny_bank: Bank) -> None:
    one = trial(tiny_corpus, selection="nested")
    (first,), (again,) = (run_trials([one], tiny_corpus, tiny_bank) for _ in range(2))
    timeless = [{k: v for k, v in o.columns.items() if k not in ("seconds", "date")} for o in (first, again)]
    assert repr(timeless[0]) == repr(timeless[1])
    assert first.said == again.said
    assert (first.columns["n_train"], first.columns["n_test"]) == (18, 6)  # of 24, a quarter chooses the epoch
    right = sum(a == b for a, b in zip(first.said["predicted"], first.said["actual"], strict=True))
    assert first.columns["accuracy"] == pytest.approx(100 * right / 6, abs=1e-4)
    assert [len(numbers.split()) for numbers in first.curve.values()] == [3, 3, 3]  # epochs
    assert first.columns["features"] == tiny_bank.digest(one.config)
    assert first.said["letters"] == "a=anger b=sadness c=neutral"


def test_the_last_epoch_shares_the_training_of_the_one_that_the_test_fold_selects(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    config = {**tiny.SMALL, "epochs": 7}
    names = ("last", "test", "nested")
    rows = tuple(Row(name, {**config, "selection": name}) for name in names)
    wanted = grid.trials([Experiment("e", "", rows)], tiny_corpus, profiles.PROFILES["full"], [0], folds=["0", "1"])
    together, apart = (Store("tiny", tmp_path / name) for name in ("together", "apart"))
    assert grid.run(wanted, tiny_corpus, together, workers=1, progress=False) == 4  # one for two, and nested: two folds
    for trial in wanted:
        grid.run([trial], tiny_corpus, apart, workers=1, progress=False)
    for read in (lambda store: store.read("e"), lambda store: store.predictions("e")):
        one, other = (
            read(store).drop(columns=["seconds", "date"], errors="ignore").sort_values(["row", "fold"])
            for store in (together, apart)
        )
        assert one.to_csv(index=False) == other.to_csv(index=False)
    epochs = together.read("e").set_index(["row", "fold"])["best_epoch"]
    assert (epochs["last"] == 7).all() and (epochs["test"] < 7).any()  # or this test could not fail


def test_a_model_of_vectors_refuses_frames_rather_than_read_the_first_and_stops_no_other(
    tiny_corpus: Corpus, tmp_path: Path
) -> None:
    rows = (Row("svm", {"model": "svm", "reading": "frames", "augment": ()}), Row("full", tiny.SMALL))
    wanted = grid.trials([Experiment("e", "", rows)], tiny_corpus, profiles.PROFILES["full"], [0], folds=["0"])
    store = Store("tiny", tmp_path)
    with pytest.raises(TrainingError, match="row 'svm'.*'frames'"):
        grid.run(wanted, tiny_corpus, store, workers=1, progress=False)
    assert set(store.read("e")["row"]) == {"full"}


def test_smoothing_that_would_have_no_effect_is_refused(tiny_corpus: Corpus, tiny_bank: Bank) -> None:
    one = trial(tiny_corpus, model="cnn-bigru", label_smoothing=0.1)
    with pytest.raises(TrainingError, match="label_smoothing: 'cnn-bigru' has a loss of its own"):
        fit_split(one, tiny_corpus, tiny_bank)


class Poisoned(Bank):
    """A bank that will not give the rows in `forbidden`, though features are the same."""

    forbidden: frozenset[int] = frozenset()

    def statistics(self, index: np.ndarray, copy: np.ndarray | None = None) -> np.ndarray:
        assert not self.forbidden & set(np.asarray(index).tolist())
        return super().statistics(index, copy)


@pytest.mark.parametrize(("selection", "peeks"), [("nested", False), ("last", False), ("test", True)])
def test_only_the_optimistic_arm_sees_test_rows_before_it_is_done(
    tiny_corpus: Corpus, tiny_bank: Bank, selection: str, peeks: bool
) -> None:
    one = trial(tiny_corpus, selection=selection)
    guarded = Poisoned(**{field.name: getattr(tiny_bank, field.name) for field in fields(tiny_bank)})
    guarded.forbidden = frozenset(one.split.test.tolist())
    if peeks:
        with pytest.raises(AssertionError):
            fit_split(one, tiny_corpus, guarded)
        return
    classifier = fit_split(one, tiny_corpus, guarded)
    with pytest.raises(AssertionError):  # the guard is awake: rows that are tested are those that it keeps
        classifier.predict(inputs_of(one, tiny_corpus, guarded), one.split.test)


def test_nested_selection_trains_on_fewer_rows_than_the_last_epoch_does(tiny_corpus: Corpus, tiny_bank: Bank) -> None:
    nested = fit_split(trial(tiny_corpus, selection="nested"), tiny_corpus, tiny_bank).run
    last = fit_split(trial(tiny_corpus, selection="last"), tiny_corpus, tiny_bank).run
    assert "held_out_accuracy" in nested.history[0]
    assert "held_out_accuracy" not in last.history[0]
    assert last.best_epoch == 3


@pytest.mark.parametrize("reading", ["frames", "statistics", "modalities"])
def test_moments_are_those_of_the_training_rows_clean_frames(
    tiny_corpus: Corpus, tiny_bank: Bank, reading: str
) -> None:
    rows = np.array([0, 3, 11])
    inputs = Inputs.of(tiny_bank, config(reading=reading))
    zeros = np.zeros(3, int)
    seen = {
        "frames": lambda: np.concatenate(tiny_bank.frames(rows, zeros)),
        "statistics": lambda: tiny_bank.statistics(rows),
        "modalities": lambda: tiny_bank.pooled(rows, zeros),
    }[reading]()
    mean, deviation = inputs.moments(rows)
    np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(deviation, seen.std(0), rtol=1e-3, atol=1e-3)


def test_a_batch_of_frames_is_padded_behind(tiny_bank: Bank) -> None:
    x, lengths = Inputs.of(tiny_bank, config(reading="frames")).clean(np.array([0, 4]))
    assert lengths.tolist() == [1 + 4800 // 160, 1 + int(16000 * 0.38) // 160]
    assert x.shape == (2, lengths.max(), 260)
    assert torch.count_nonzero(x[0, lengths[0] :]) == 0


def test_threads_are_given_back() -> None:
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
