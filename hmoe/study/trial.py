"""One trial: one row, one seed, one fold. From the corpus table to a record in the store."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hmoe import peers
from hmoe.base.errors import TrainingError
from hmoe.base.seeds import stable_seed
from hmoe.base.stamp import commit, machine, now
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.bank import Bank
from hmoe.inputs.batches import Inputs
from hmoe.study import metrics
from hmoe.study.classifiers import Classifier, trained
from hmoe.study.leaking import UnrolledInputs
from hmoe.study.protocols import PROTOCOLS, Protocol, Split, validation
from hmoe.study.store import CURVE, KEY, Store
from hmoe.train import Run, one_thread


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
    condition: str = ""
    weights: str = ""
    graphs: bool = False

    @property
    def dealt_by(self) -> Protocol:
        return PROTOCOLS[self.protocol]

    def key(self) -> tuple[str, ...]:
        """In the order of `store.KEY`. Neither the device is part of it, as each kind has a store, nor `graphs`."""
        config = self.config
        parts = (self.experiment, self.row, config.reading, self.protocol, config.selection, self.seed, self.split.fold)
        return (*map(str, parts), config.key())

    @property
    def features_on(self) -> str | None:
        """As `bank.build` takes it: a GPU computes its own features, a CPU's trials read the reference's."""
        return None if self.device == "cpu" else self.device

    def randomness(self) -> int:
        """The same for every row: rows of a table differ by their configuration, not by chance."""
        return stable_seed(self.dealt_by.training, self.seed, self.split.fold)


def inputs_of(trial: Trial, corpus: Corpus, bank: Bank) -> Inputs:
    """What the trial's model reads. TrainingError if a leak asks for more copies than are made."""
    needed = trial.dealt_by.copies
    if needed and (not trial.config.augment or trial.config.copies < needed):
        remedy = f"--set copies={needed}, and augmentations"
        raise TrainingError(f"protocol {trial.protocol!r}", "there are too few copies", remedy)
    speakers = trial.dealt_by.seen(corpus).table["speaker"].to_numpy()
    return (UnrolledInputs if needed else Inputs).of(bank, trial.config, trial.device, speakers)


def fit_split(trial: Trial, corpus: Corpus, bank: Bank, checkpoint: Path | None = None) -> Classifier:
    """Train the trial's model on its split."""
    seen = trial.dealt_by.seen(corpus)
    rows, held_out = fitted(trial, seen.labels)
    inputs = inputs_of(trial, corpus, bank)
    if trial.config.model in peers.NETWORKS and (trial.graphs or trial.device != "cpu"):
        inputs = inputs.hold()
    return trained(
        trial.config, len(corpus.emotions), inputs, seen.labels, seen.table["speaker"].to_numpy(), rows, held_out,
        trial.randomness(), checkpoint, trial.graphs,
    )  # fmt: skip


def fitted(trial: Trial, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Q7: the rows that weights are fitted to; those that choose the epoch, if any do. Estimators have no epochs."""
    config, split = trial.config, trial.split
    if config.model not in peers.NETWORKS:
        return split.train, None
    if config.selection == "nested":
        return validation(split.train, labels, config.validation_fraction, trial.randomness() % 2**32)
    return split.train, split.test if config.selection == "test" else None


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
        classifier = fit_split(trials[0], corpus, bank, checkpoint)
        for way in sorted(ways, key=lambda way: way[1] == "last"):
            trial = ways[way]
            if trial.config.selection == "last":
                classifier = classifier.last()
            y_hat = classifier.predict(inputs_of(trial, corpus, bank), trial.split.test)
            found[way] = outcome(trial, corpus, bank, classifier, y_hat, start, code)
    return [found[trial.protocol, trial.config.selection] for trial in trials]


def outcome(
    trial: Trial, corpus: Corpus, bank: Bank, classifier: Classifier, y_hat: np.ndarray, start: float, code: str
) -> Outcome:  # fmt: skip
    """What there is to record of predictions `y_hat`, made by the commit `code` since `start` of the clock."""
    split, labels = trial.split, trial.dealt_by.seen(corpus).labels
    rows, y = fitted(trial, labels)[0], labels[split.test]
    scores = metrics.scores(y, y_hat, corpus.emotions)
    columns = {
        "n_train": len(rows),
        "n_test": len(split.test),
        **{name: round(value, 4) for name, value in scores.items()},
        "best_epoch": classifier.run.best_epoch,
        "parameters": classifier.parameters,
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
    return Outcome(columns, said, curve(classifier.run))


def curve(run: Run) -> dict[str, str]:
    """The history of a training, a number for each epoch; nothing where there were no epochs."""
    columns = {name: [epoch[name] for epoch in run.history if name in epoch] for name in CURVE}
    return {name: " ".join(f"{value:.4g}" for value in values) for name, values in columns.items() if values}


def record(trial: Trial, outcome: Outcome, store: Store) -> None:
    """Write an outcome under a trial's key."""
    key = dict(zip(KEY, trial.key(), strict=True))
    store.append(outcome.columns | key, outcome.said, trial.config, outcome.curve)
