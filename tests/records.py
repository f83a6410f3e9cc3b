"""Records of trials that nobody ran, with the accuracies that a test wants."""

from __future__ import annotations

from itertools import product

import pandas as pd

from hmoe.study.experiments import experiment
from hmoe.study.store import COLUMNS, EMOTION_COLUMNS, PREDICTION_COLUMNS, Store


def write(store: Store, name: str, row: str, accuracies: list[float], seed: int = 0) -> None:
    """A fold for each accuracy, of five or of four speakers: so many of its first utterances are recognised."""
    chosen = experiment(name).row(row)
    config, records = chosen.config(), []
    n = 125 if chosen.protocol.startswith("speaker") else 100
    for fold, accuracy in enumerate(accuracies):
        right = round(n * accuracy / 100)
        record = dict.fromkeys(COLUMNS, accuracy) | {"n_train": 400, "n_test": n, "best_epoch": 1, "parameters": 1}
        record |= {"experiment": name, "row": row, "reading": config.reading, "protocol": chosen.protocol}
        record |= {"selection": config.selection, "seed": seed, "fold": fold, "config": config.key(), "device": "cpu"}
        record |= {"commit": "0123456789", "machine": "a machine", "date": "2026-01-01T00:00Z"}
        letters = " ".join(f"{letter}={emotion}" for letter, emotion in zip("abcdef", EMOTION_COLUMNS, strict=True))
        said = {"letters": letters, "predicted": "a" * right + "b" * (n - right), "actual": "a" * n}
        records.append(record | said)
    for folder, columns in ((store.folder, COLUMNS), (store.folder / "predictions", PREDICTION_COLUMNS)):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.csv"
        pd.DataFrame(records, columns=columns).to_csv(path, mode="a", header=not path.exists(), index=False)


def of_other_emotions(store: Store, name: str = "table2", row: str = "HMoE-SiMBA", seeds: int = 1) -> None:
    """Five folds of a corpus of anger, disgust and boredom: of 10 utterances each 6, 2 and 4 are recognised."""
    chosen = experiment(name).row(row)
    config, metrics = chosen.config(), {"acc_anger": 60.0, "acc_disgust": 20.0, "acc_boredom": 40.0}
    for seed, fold in product(range(seeds), range(5)):
        record = dict.fromkeys([each for each in COLUMNS if each not in EMOTION_COLUMNS], 40.0) | metrics
        record |= {"n_train": 120, "n_test": 30, "best_epoch": 1, "parameters": 1, "experiment": name, "row": row}
        record |= {"reading": config.reading, "protocol": chosen.protocol, "selection": config.selection}
        record |= {"seed": seed, "fold": fold, "config": config.key(), "device": "cpu", "commit": "0123456789"}
        record |= {"machine": "a machine", "date": "2026-01-01T00:00Z"}
        said = {"letters": "a=anger b=disgust c=boredom", "actual": "a" * 10 + "b" * 10 + "c" * 10}
        predicted = "a" * 6 + "b" * 4 + "b" * 2 + "c" * 8 + "c" * 4 + "a" * 6
        store.append(record, said | {"predicted": predicted}, config)
