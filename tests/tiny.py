"""A corpus of 30 short tones and a small model, for tests; as a script, a grid that can be killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from hmoe.corpora import audio
from hmoe.corpora.table import Corpus, Utterance, tabulate
from hmoe.study import grid, profiles
from hmoe.study.experiments import Experiment, Row
from hmoe.study.store import Store

EMOTIONS = {"anger": (220.0, 0.5), "sadness": (140.0, 0.1), "neutral": (170.0, 0.3)}  # Hz, amplitude
SPEAKERS = {"ann": 1.4, "bob": 1.0}
SENTENCES = 5
RATE = 16_000

EPOCHS = int(os.environ.get("TINY_EPOCHS", 3))
FOLDS = os.environ.get("TINY_FOLDS", "01234")
SMALL = {
    "d_model": 16, "heads": 2, "einfft_blocks": 2, "d_state": 4, "d_selected": 8, "router_width": 8, "epochs": EPOCHS,
    "lr": 3e-3, "batch_size": 8, "copies": 2, "validation_fraction": 0.25,
}  # fmt: skip

FIRST = Experiment("first", "A table", (Row("full", SMALL), Row("w/o SiMBA", {**SMALL, "simba": False})), "full")
TWIN = Experiment("twin", "A figure", (Row("the same as full", SMALL),))  # one computation, two records


def tone(emotion: str, speaker: str, sentence: int) -> np.ndarray:
    """A harmonic tone of 0.3 s and a little more."""
    rng = np.random.default_rng([list(EMOTIONS).index(emotion), list(SPEAKERS).index(speaker), sentence])
    pitch, amplitude = EMOTIONS[emotion]
    t = np.arange(int(RATE * (0.3 + 0.02 * sentence))) / RATE
    pitch *= SPEAKERS[speaker] * rng.uniform(0.9, 1.1)
    voice = sum(np.sin(2 * np.pi * k * pitch * t + rng.uniform(0, 6)) / k for k in range(1, 6))
    return amplitude * (0.2 * voice + 0.02 * rng.standard_normal(len(t)))


def make(root: Path) -> Corpus:
    for speaker in SPEAKERS:
        for emotion in EMOTIONS:
            for sentence in range(SENTENCES):
                audio.write(root / speaker / emotion / f"{sentence}.wav", tone(emotion, speaker, sentence), RATE)
    return load(root)


def load(root: Path) -> Corpus:
    found = []
    for path in sorted(root.rglob("*.wav")):
        speaker, emotion, sentence = path.parent.parent.name, path.parent.name, path.stem
        found.append((path, Utterance(f"{speaker}-{emotion}-{sentence}", speaker, emotion, sentence)))
    return tabulate("tiny", root, found)


def wanted(corpus: Corpus, seeds: tuple[int, ...] = (0,)) -> list[grid.Trial]:
    return grid.trials([FIRST, TWIN], corpus, profiles.PROFILES["full"], seeds=seeds, folds=list(FOLDS))


def records(results: Path) -> dict[str, pd.DataFrame]:
    """All that a grid has written, but for what tells when, how long and by which commit; in the order of the keys."""
    tables = {}
    for path in sorted((results / "tiny").rglob("*.csv")):
        table = pd.read_csv(path, dtype=str).drop(columns=["seconds", "date", "commit"], errors="ignore")
        tables[str(path.relative_to(results))] = table.sort_values(list(table.columns)).reset_index(drop=True)
    return tables


def same(a: dict[str, pd.DataFrame], b: dict[str, pd.DataFrame]) -> bool:
    return list(a) == list(b) and all(a[name].equals(b[name]) for name in a)


if __name__ == "__main__":
    root, results, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    scheduler = sys.argv[4] if len(sys.argv) > 4 else None
    corpus = load(root)
    print("ready", flush=True)
    print(grid.run(wanted(corpus), corpus, Store("tiny", results), workers, scheduler, progress=False), "computed")
