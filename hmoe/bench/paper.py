"""What the whole paper costs: every row of its tables and figures, 5 folds, on one machine.

By default a few utterances of each row are trained on and the rest is extrapolated, on a CPU from the seconds of one
processor, which a busy machine changes little. `full` runs it all, features included, and reads the clock.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from hmoe import peers
from hmoe.base import stamp
from hmoe.base.files import atomic_write, results_dir
from hmoe.corpora import Corpus
from hmoe.study import grid, profiles, store
from hmoe.study.experiments import EXPERIMENTS, TABLE_2
from hmoe.study.trial import Trial, fit_split, inputs_of
from hmoe.train import one_thread

FEW = 128  # training utterances of a timed epoch
EPOCHS = (1, 4)  # of two timed trainings, whose difference is free of what happens once
HEARD = 24  # utterances whose features are timed


def computations(corpus: Corpus, device: str) -> dict[str, list[Trial]]:
    """The trials of one seed by row, each computation once: where the same one stands in several tables, the first."""
    first: dict[tuple[str, str, str], Trial] = {}
    for trial in grid.trials(EXPERIMENTS.values(), corpus, profiles.PROFILES["full"], [0], device=device):
        first.setdefault((trial.config.key(), trial.protocol, trial.split.fold), trial)
    rows: dict[str, list[Trial]] = {}
    for trial in first.values():
        rows.setdefault(f"{trial.experiment}: {trial.row}", []).append(trial)
    return rows


def extrapolated(trial: Trial, corpus: Corpus) -> dict[str, float]:
    """Epochs, seconds of one, and of a trial. An estimator has no epochs, and is fitted once, to all it trains on."""
    config = trial.config.replace(copies=1)  # how long training takes does not depend on which copy is heard
    bank = grid.open_bank(corpus, config, progress=False, device=trial.features_on)

    def spent(**changes: object) -> float:
        started = _now(trial)
        one = replace(trial, **changes)  # predictions end when the GPU has ended
        fit_split(one, corpus, bank).predict(inputs_of(one, corpus, bank), one.split.test)
        return _now(trial) - started

    if config.model in peers.ESTIMATORS:
        return {"epochs": 0, "epoch_s": 0.0, "trial_s": spent(config=config)}
    few = np.sort(np.random.default_rng(0).permutation(trial.split.train)[:FEW])
    split = replace(trial.split, train=few, test=trial.split.test[:1])
    # The first of three compiles, loads and maps what there is.
    _, less, more = (spent(config=config.replace(epochs=epochs), split=split) for epochs in (1, *EPOCHS))
    epoch = (more - less) / (EPOCHS[1] - EPOCHS[0]) / len(few) * len(trial.split.train)
    return {"epochs": config.epochs, "epoch_s": epoch, "trial_s": less + epoch * config.epochs}


def hearing(corpus: Corpus, trial: Trial) -> float:
    """Seconds of one process for the frames of every utterance and of all its copies, extrapolated."""
    few = corpus.subset(np.arange(len(corpus)) % max(1, len(corpus) // HEARD) == 0)
    config = TABLE_2.row("HMoE-SiMBA (frames)").config()
    with _empty_cache():
        started = _now(trial)
        grid.open_bank(few, config.replace(copies=2), 1, False, trial.features_on)
        spent = _now(trial) - started
    return spent / (3 * len(few)) * len(corpus) * (1 + config.copies)


def _now(trial: Trial) -> float:
    return time.process_time() if trial.device == "cpu" else time.perf_counter()


@contextmanager
def _empty_cache() -> Iterator[None]:
    before = os.environ.get("HMOE_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HMOE_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["HMOE_CACHE"]
            if before is not None:
                os.environ["HMOE_CACHE"] = before


def measured(rows: dict[str, list[Trial]], corpus: Corpus, workers: int) -> tuple[list[dict], float]:
    """What each row took when all are run from nothing, and seconds of the clock for all."""
    trials = [trial for some in rows.values() for trial in some]
    with _empty_cache(), tempfile.TemporaryDirectory() as folder:
        records, started = store.Store(corpus.name, Path(folder), trials[0].device), time.perf_counter()
        grid.run(trials, corpus, records, workers)
        clock, lines = time.perf_counter() - started, []
        for row, (first, *others) in rows.items():
            own = records.read(first.experiment).query("row == @first.row")
            trained = first.config.epochs if own["parameters"].any() else 0
            lines.append({"row": row, "trials": 1 + len(others), "epochs": trained, "trial_s": own["seconds"].mean()})
    return lines, clock


def bench_paper(
    corpus: Corpus, device: str = "cpu", workers: int | None = None, full: bool = False, target: Path | None = None
) -> pd.DataFrame:
    """A line for each row, with the seconds of its trials one after the other, and for the whole; kept in `target`.

    `target` is `results/bench/paper.csv` by default. `total_s` of the whole is the clock's if `full`; else it is the
    sum, shared out evenly to `workers`.
    """
    rows, workers = computations(corpus, device), workers or os.cpu_count() or 1
    if full:
        lines, clock = measured(rows, corpus, workers)
    else:
        with one_thread():
            once = hearing(corpus, next(iter(rows.values()))[0])
            lines = [{"row": "features of all copies", "trials": 1, "epochs": 0, "epoch_s": 0.0, "trial_s": once}]
            for row, trials in tqdm(rows.items(), desc="rows", unit="row", disable=None):
                lines.append({"row": row, "trials": len(trials), **extrapolated(trials[0], corpus)})
        clock = sum(line["trials"] * line["trial_s"] for line in lines) / workers
    table = pd.DataFrame(lines).assign(total_s=lambda table: table["trials"] * table["trial_s"])
    table.loc[len(table)] = {"row": "the whole paper", "trials": table["trials"].sum(), "total_s": clock}
    about = {"how": "measured" if full else "extrapolated", "corpus": corpus.name, "utterances": len(corpus)}
    about |= {"workers": workers, "device": device, "commit": stamp.commit(), "date": stamp.now()}
    table = table.assign(**about, machine=stamp.machine(device))
    atomic_write(target or results_dir() / "bench" / "paper.csv", table.to_csv(index=False, float_format="%.4g"))
    return table
