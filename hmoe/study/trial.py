"""One trial: one row, one seed, one fold. From the corpus table to a record in the store."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator
from torch import nn

from hmoe import peers
from hmoe.base.errors import TrainingError
from hmoe.base.seeds import stable_seed
from hmoe.base.stamp import commit, machine, now
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.bank import Bank
from hmoe.inputs.batches import Inputs
from hmoe.model import count_parameters
from hmoe.peers.unseen.across_speakers import AcrossSpeakers
from hmoe.peers.wide import Wide
from hmoe.readings import READINGS
from hmoe.study import metrics
from hmoe.study.leaking import CLEAN, COPIES, LEAKING, UnrolledInputs, unrolled
from hmoe.study.protocols import Split, validation
from hmoe.study.store import CURVE, KEY, Store
from hmoe.train import Run, fit, one_thread, predict

DISTURBED = "-disturbed"  # a protocol that trains as the one without, and tests under conditions (chapter 18)


@dataclass(frozen=True)
class Trial:
    """What identifies a trial, and all that is needed to run it anywhere."""

    experiment: str
    row: str
    config: Config
    protocol: str
    seed: int
    split: Split
    device: str = "cpu"

    def key(self) -> tuple[str, ...]:
        """In the order of `store.KEY`. The device is no part of it: each kind has a store of its own."""
        config = self.config
        parts = (self.experiment, self.row, config.reading, self.protocol, config.selection, self.seed, self.split.fold)
        return (*map(str, parts), config.key())

    @property
    def features_on(self) -> str | None:
        """As `bank.build` takes it: a GPU computes its own features, a CPU's trials read the reference's."""
        return None if self.device == "cpu" else self.device

    def randomness(self) -> int:
        """The same for every row: rows of a table differ by their configuration, not by their luck."""
        return stable_seed(self.protocol.removesuffix(DISTURBED).removesuffix(CLEAN), self.seed, self.split.fold)


def seen(trial: Trial, corpus: Corpus) -> Corpus:
    """The corpus that the rows of the trial's split count in."""
    return unrolled(corpus) if trial.protocol in LEAKING else corpus


def inputs_of(trial: Trial, corpus: Corpus, bank: Bank) -> Inputs:
    """What the trial's model reads. TrainingError if a leak asks for more copies than are made."""
    if trial.protocol in LEAKING and (not trial.config.augment or trial.config.copies < COPIES):
        remedy = f"--set copies={COPIES}, and augmentations"
        raise TrainingError(f"protocol {trial.protocol!r}", "there are too few copies", remedy)
    speakers = seen(trial, corpus).table["speaker"].to_numpy()
    return (UnrolledInputs if trial.protocol in LEAKING else Inputs).of(bank, trial.config, trial.device, speakers)


def fit_split(
    trial: Trial, corpus: Corpus, bank: Bank, checkpoint: Path | None = None
) -> tuple[nn.Module | BaseEstimator, Run, np.ndarray]:
    """Train the trial's model; returns it, its history and the predicted class of each test utterance."""
    config, split, labels = trial.config, trial.split, seen(trial, corpus).labels
    speakers, inputs = seen(trial, corpus).table["speaker"].to_numpy(), inputs_of(trial, corpus, bank)
    model = peers.build(config, len(corpus.emotions))
    if not isinstance(model, nn.Module):
        if isinstance(model, AcrossSpeakers | Wide):
            copies = range(config.copies + 1 if config.augment else 1)
            X = np.concatenate([vectors(inputs, split.train, copy) for copy in copies])
            rows = np.tile(split.train, len(copies))
            model.fit(X, labels[rows], speakers[rows])
        else:
            model.fit(vectors(inputs, split.train), labels[split.train])
        return model, Run(), classes(model, inputs, split.test)
    rows, held_out = fitted(trial, labels)
    model, run = fit(
        lambda: peers.build(config, len(corpus.emotions)),
        inputs, labels, rows, held_out, config, trial.randomness(), checkpoint,
    )  # fmt: skip
    return model, run, classes(model, inputs, split.test)


def fitted(trial: Trial, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Q7: the rows that weights are fitted to; those that choose the epoch, if any do."""
    config, split = trial.config, trial.split
    if config.selection == "nested":
        return validation(split.train, labels, config.validation_fraction, trial.randomness() % 2**32)
    return split.train, split.test if config.selection == "test" else None


def vectors(inputs: Inputs, rows: np.ndarray, copy: int = 0) -> np.ndarray:
    """(len(rows), D), as scikit-learn reads them. TrainingError for frames: it would read the first one alone."""
    if READINGS[inputs.reading].sequence:
        raise TrainingError(
            f"reading {inputs.reading!r}", "the model reads one vector an utterance", "--set reading=statistics"
        )
    return inputs.batch(rows, np.full(len(rows), copy))[0][:, 0].cpu().numpy()


def classes(model: nn.Module | BaseEstimator, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
    """The predicted class of each row."""
    if isinstance(model, nn.Module):
        return predict(model, inputs, rows).argmax(1).cpu().numpy()
    return model.predict(vectors(inputs, rows))


@dataclass(frozen=True)
class Outcome:
    """What running a trial gave: columns of its record; its predictions and its curve as `Store.append` takes them."""

    columns: dict[str, object]
    said: dict[str, str]
    curve: dict[str, str] = field(default_factory=dict)


def run_trials(trials: list[Trial], corpus: Corpus, bank: Bank, checkpoint: Path | None = None) -> list[Outcome]:
    """Run trials that train the same: one training, on one thread, and an outcome for each way to score it.

    The first trial is trained; of its model the others test another fold, or, if it keeps the best epoch, the last one.
    The same trial gives the same bits on the same CPU, whoever shares its training.
    """
    start, code = time.perf_counter(), commit()  # what runs, whatever is committed while it does
    ways = {(trial.protocol, trial.config.selection): trial for trial in trials}
    found: dict[tuple[str, str], Outcome] = {}
    with one_thread():
        model, run, _ = fit_split(trials[0], corpus, bank, checkpoint)
        for way in sorted(ways, key=lambda way: way[1] == "last"):
            trial = ways[way]
            if trial.config.selection == "last" and run.last:
                model.load_state_dict(run.last)
                run = replace(run, best_epoch=run.epoch, last={})
            y_hat = classes(model, inputs_of(trial, corpus, bank), trial.split.test)
            found[way] = outcome(trial, corpus, bank, model, run, y_hat, start, code)
    return [found[trial.protocol, trial.config.selection] for trial in trials]


def outcome(
    trial: Trial, corpus: Corpus, bank: Bank, model: nn.Module | BaseEstimator, run: Run, y_hat: np.ndarray,
    start: float, code: str,
) -> Outcome:  # fmt: skip
    """What there is to record of predictions `y_hat`, made by the commit `code` since `start` of the clock."""
    split, labels = trial.split, seen(trial, corpus).labels
    rows, y = fitted(trial, labels)[0] if isinstance(model, nn.Module) else split.train, labels[split.test]
    scores = metrics.scores(y, y_hat, corpus.emotions)
    columns = {
        "n_train": len(rows),
        "n_test": len(split.test),
        **{name: round(value, 4) for name, value in scores.items()},
        "best_epoch": run.best_epoch,
        "parameters": count_parameters(model) if isinstance(model, nn.Module) else 0,
        "seconds": round(time.perf_counter() - start, 2),
        "device": trial.device,
        "commit": code,
        "features": bank.digest(trial.config),
        "machine": machine(trial.device),
        "date": now(),
    }
    letters = np.array([chr(ord("a") + c) for c in range(len(corpus.emotions))])
    said = {
        "letters": " ".join(f"{letter}={emotion}" for letter, emotion in zip(letters, corpus.emotions, strict=True)),
        "predicted": "".join(letters[y_hat]),
        "actual": "".join(letters[y]),
    }
    return Outcome(columns, said, curve(run))


def curve(run: Run) -> dict[str, str]:
    """The history of a training, a number for each epoch; nothing where there were no epochs."""
    columns = {name: [epoch[name] for epoch in run.history if name in epoch] for name in CURVE}
    return {name: " ".join(f"{value:.4g}" for value in values) for name, values in columns.items() if values}


def record(trial: Trial, outcome: Outcome, store: Store) -> None:
    """Write an outcome under a trial's key."""
    key = dict(zip(KEY, trial.key(), strict=True))
    store.append(outcome.columns | key, outcome.said, trial.config, outcome.curve)
