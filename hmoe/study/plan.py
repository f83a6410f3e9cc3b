"""What a run is going to do, before it does it: who is tested, what is recorded already, how long the rest may take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from joblib import cpu_count
from torch import Tensor

from hmoe import augment, peers
from hmoe.base.files import PROJECT
from hmoe.base.stamp import machine
from hmoe.config import Augmenting, Config
from hmoe.corpora import Corpus
from hmoe.inputs import bank as banks
from hmoe.parrot import cached
from hmoe.readings import READINGS
from hmoe.study import grid
from hmoe.study.classifiers import fit_estimator
from hmoe.study.protocols import PROTOCOLS
from hmoe.study.store import Store
from hmoe.study.trial import Trial
from hmoe.train import one_thread, train_epoch

SPEAKERS = 3  # of a probe
FEW, MANY = 32, 256  # utterances of a probe: of an epoch of a network, of the whole fit of another classifier
FEATURES_PROBED = 3


@dataclass(frozen=True)
class Plan:
    """`folds` says by protocol how many of all are run; `trainings` are those that are missing, shared ones once."""

    utterances: int
    whole: int  # utterances of the corpus, of which a profile may have left some out
    folds: dict[str, tuple[int, int]]
    trials: int
    recorded: int
    trainings: int
    copies: int  # of the features of the corpus, clean ones included, that are to be computed
    seconds: float  # of the clock, for all that is missing but embeddings
    how: str  # what the estimate is made from
    workers: int

    def __str__(self) -> str:
        folds = ", ".join(
            f"{name} {some} of {_unit(name, every)}" if some < every else f"{name} all {_unit(name, every)}"
            for name, (some, every) in self.folds.items()
        )
        parts = [
            f"{self.utterances} of {self.whole} utterances",
            f"folds: {folds}",
            f"{self.trials} trials, {self.recorded} of them recorded",
        ]
        if self.trainings:
            left = f"{self.trainings} training{'s' * (self.trainings != 1)} to run"
            if self.copies:
                left += f", features of {self.copies} cop{'ies' if self.copies != 1 else 'y'} to compute"
            left += f": about {spoken(self.seconds)} in {self.workers} process{'es' * (self.workers != 1)} ({self.how})"
            parts.append(left)
        else:
            parts.append("nothing to run")
        return "; ".join(parts)


def _unit(protocol: str, n: int) -> str:
    kind = "speaker" if protocol == "speaker" else "fold"
    return f"{n} {kind}{'s' * (n != 1)}"


def spoken(seconds: float) -> str:
    """ "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def plan(wanted: list[Trial], corpus: Corpus, whole: int, store: Store, workers: int | None = None) -> Plan:
    """Of trials on a corpus, of whose `whole` utterances a profile may have left some out. Nothing is written."""
    missing, adopted = grid.outstanding(wanted, store)
    groups = grid.trainings(missing)
    processes = min(workers or cpu_count(), max(1, len(groups)))
    spent, sources = 0.0, set()
    timed = _recorded(store)
    for group in groups:
        seconds, source = _training(group[0], corpus, timed)
        spent, sources = spent + seconds, sources | {source}
    copies, hearing = _features(missing, corpus)
    return Plan(
        len(corpus), whole, _folds(wanted, corpus), len(wanted), len(wanted) - len(missing), len(groups), copies,
        (spent + hearing) / processes, " and ".join(sorted(sources)), processes,
    )  # fmt: skip


def _folds(wanted: Iterable[Trial], corpus: Corpus) -> dict[str, tuple[int, int]]:
    chosen: dict[str, set[str]] = defaultdict(set)
    for trial in wanted:
        chosen[trial.protocol].add(trial.split.fold)
    return {name: (len(folds), len(PROTOCOLS[name].splits(corpus, 0))) for name, folds in chosen.items()}


def _recorded(store: Store) -> pd.DataFrame:
    """Of every record that can be found: configuration, utterances trained on, seconds, machine."""
    folders = {store.folder, *(path for path in (PROJECT / "results").glob("*") if path.is_dir())}
    tables = [
        pd.read_csv(path, usecols=["config", "n_train", "seconds", "machine", "device"], keep_default_na=False)
        for folder in folders
        for path in folder.glob("*.csv")
        if "n_train" in path.open(encoding="utf-8").readline()
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["config", "machine", "device"])


def _training(trial: Trial, corpus: Corpus, timed: pd.DataFrame) -> tuple[float, str]:
    """Seconds of one process, and from what: records of the configuration, of this machine rather than of others; else
    a probe."""
    config, n = trial.config, len(trial.split.train)
    network = is_network(config)
    power = 1.0 if network else 2.0  # how time grows with utterances
    same = timed[(timed["config"] == config.key()) & (timed["device"] == trial.device)]
    if len(here := same[same["machine"] == machine(trial.device)]):
        same = here
    if len(same):
        return float((same["seconds"] * (n / same["n_train"].astype(float)) ** power).median()), "from records"
    return _probed(config, trial.device, n, corpus, network), "from a probe"


@cache
def is_network(config: Config) -> bool:
    """Whether a configuration is trained in epochs."""
    return config.model in peers.NETWORKS


_probes: dict[tuple[str, str, bool], float] = {}


def _probed(config: Config, device: str, n: int, corpus: Corpus, network: bool) -> float:
    """Seconds of a training on `n` utterances, from an epoch of `FEW` made-up ones as long as the corpus's."""
    key = config.key(), device, network
    if key not in _probes:
        C = len(corpus.emotions)
        made_up = MadeUp(config, corpus, device)
        labels = np.arange(FEW) % C
        with one_thread():
            if network:
                model = peers.build(config, C).to(device)
                optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
                targets = torch.from_numpy(labels).to(device)
                spend = lambda epoch: train_epoch(  # noqa: E731
                    model, optimizer, made_up, targets, np.arange(FEW), config.replace(augment=()), 0, epoch
                )
                spend(0)  # compiles, loads and maps what there is
                _probes[key] = _clock(lambda: spend(1)) / FEW * config.epochs
            else:
                model = peers.build(config, C)
                many = np.resize(np.arange(FEW), MANY)
                X = made_up.batch(many, np.zeros(MANY, int))[0][:, 0].cpu().numpy() + labels[many][:, None]
                speakers = np.arange(MANY) // C % SPEAKERS  # each has all classes
                fit_estimator(model, X[:FEW], labels, speakers[:FEW])
                _probes[key] = _clock(lambda: fit_estimator(model, X, labels[many], speakers)) / MANY**2
    return _probes[key] * (n if network else n**2)


def _clock(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class MadeUp:
    """Batches of noise, of the shape that a configuration reads of a corpus: what `train.fit` asks of `Inputs`."""

    def __init__(self, config: Config, corpus: Corpus, device: str) -> None:
        reading = READINGS[config.reading]
        self.reading, self.device, self.sequence = config.reading, device, reading.sequence
        ours = tuple(block for block in reading.blocks if block != "embeddings")
        self.width = replace(reading, blocks=ours).width(sum(config.dims.values())) + sum(cached.widths(config))
        samples = corpus.table["seconds"].to_numpy()[:: max(1, len(corpus) // FEW)][:FEW] * config.sample_rate
        samples = np.resize(samples if config.pad_to is None else config.pad_to, FEW)
        self.T = np.maximum(1, samples // (config.hop * config.frame_stride)).astype(int)

    def lengths(self, rows: np.ndarray, copies: np.ndarray) -> np.ndarray:
        return self.T[rows] if self.sequence else np.ones(len(rows), int)

    def batch(self, rows: np.ndarray, copies: np.ndarray) -> tuple[Tensor, Tensor | None]:
        lengths = self.lengths(rows, copies)
        x = torch.randn(len(rows), int(lengths.max()), self.width, device=self.device)
        return x, torch.from_numpy(lengths).to(self.device) if self.sequence else None


def _features(missing: Iterable[Trial], corpus: Corpus) -> tuple[int, float]:
    """Copies of the corpus that are not in the cache, and seconds of one process for them, from a probe of a few."""
    needed = {grid.bank_key(trial): trial for trial in missing if _reads_ours(trial.config)}
    absent: set[tuple[str, int]] = set()
    slowest = next(iter(needed.values()), None)
    for trial in needed.values():
        config = trial.config
        reading = READINGS[config.reading]
        copies = config.copies if config.augment and not config.encoders else 0
        bank = banks.locate(corpus, config, copies, trial.features_on)
        kinds = ["statistics"] + [f"frames-{config.frame_stride}"] * reading.sequence + ["prosody"] * reading.prosody
        for copy in range(bank.copies + 1):
            if not all(banks.intact(bank.path(kind, copy)) for kind in kinds):
                absent.add((str(bank.path("statistics", copy).parent), copy))
                slowest = trial
    if not absent or slowest is None:
        return 0, 0.0
    config = slowest.config
    few = range(0, len(corpus), max(1, len(corpus) // FEATURES_PROBED))
    augmenting = config.only(Augmenting).replace(**_augmenting(config))  # by itself: beside an encoder it may not be

    def hear() -> None:
        for i in few:
            drawn = augment.draw(corpus.table["id"].iloc[i], 1, augmenting)
            banks.heard(augment.apply(corpus.waveform(i), drawn, banks.CORPUS_RATE), config)

    hear()
    return len(absent), _clock(hear) / len(few) * len(corpus) * len(absent)


def _reads_ours(config: Config) -> bool:
    """Whether features of ours are read; not where those of encoders alone are."""
    blocks = READINGS[config.reading].blocks
    if not config.encoders:
        return True
    return bool(config.modalities) if "frames" in blocks else "statistics" in blocks or cached.HMOE in config.encoders


def _augmenting(config: Config) -> dict[str, object]:
    return {} if config.augment else {"augment": Augmenting().augment}
