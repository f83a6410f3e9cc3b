"""Records become tables and verdicts. A verdict is computed from the records, never written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import pandas as pd

from hmoe.base.files import PROJECT, cache_dir, results_dir
from hmoe.config import Config
from hmoe.study.curves import still_falling
from hmoe.study.experiments import METRICS, Experiment, Row
from hmoe.study.metrics import (
    FEW,
    NOTHING,
    UNKNOWN,
    Estimate,
    Splits,
    beyond_chance,
    equivalent,
    estimate,
    holm,
    over_speakers,
    pooled,
    profile,
    pseudo_values,
    replication,
    split_variance,
)
from hmoe.study.protocols import PROTOCOLS
from hmoe.study.store import EMOTION_COLUMNS, KEY, OTHER_EMOTIONS, Store

PAIRED_ON = ["protocol", "seed", "fold"]
FOLDS, SPEAKERS = 5, 4  # that make a whole: of fewer there is no interval
LEVEL = 0.05  # of tests, after Holm's correction
MEASURES = (*METRICS, "uar", *OTHER_EMOTIONS)

# Two laboratories that do the same differ by less than 2.8 standard deviations of one result, in 95 of 100 pairs: the
# reproducibility limit of ISO 5725-6:1994, 4.1.4. One partition and seed of CASIA moves an accuracy by some 0.9 points
# and a class by some 2.1. Fixed before any row was judged by it.
MARGIN, CLASS_MARGIN = 2.5, 6.0  # points


class Word(StrEnum):
    """What the records say to a claim; there is no fifth word."""

    HOLDS = "holds"
    FAILS = "fails"
    CANNOT_TELL = "cannot tell"
    NOT_TESTABLE = "not testable"


MEANING = {
    Word.HOLDS: "what was measured agrees with the claim, and is precise enough to show it",
    Word.FAILS: "what was measured contradicts the claim, by more than chance explains",
    Word.CANNOT_TELL: "what was measured fits both, or is not recorded yet; the smallest detectable effect is given",
    Word.NOT_TESTABLE: "nothing that can be measured here tests it",
}


@dataclass(frozen=True)
class Verdict:
    """A word, or None where there is a comparison and no verdict; and why."""

    word: Word | None
    why: str

    def __str__(self) -> str:
        return f"{self.word or 'no verdict'}: {self.why}"


T = TypeVar("T")


class Lazily(Mapping[str, T], Generic[T]):
    """A mapping whose values are computed when they are first asked for."""

    def __init__(self, names: Iterable[str], compute: Callable[[str], T]) -> None:
        self._names, self._compute, self._known = tuple(names), compute, {}

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._known:
            self._known[name] = self._compute(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class RowReport:
    """A row as we measured it, beside the paper."""

    name: str
    estimates: Mapping[str, Estimate]  # by metric, in percent
    paper: dict[str, float]
    trials: pd.DataFrame  # of whole seeds, where there are any
    against: Estimate = NOTHING  # points of accuracy over the reference row of its experiment
    p_value: float = math.nan  # of that difference, with Holm's correction over the rows of the experiment
    store: Store | None = None  # where the trials are recorded
    config: Config = field(default_factory=Config)
    guessed: bool = False  # its architecture: the paper names it and describes nothing
    group: str = ""  # and `at`: as its row has them
    at: str = ""
    splits: Splits = UNKNOWN
    emotions: tuple[str, ...] = ()
    values: Mapping[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    """By metric: what each utterance adds to it, in percent, (ids x seeds); see `metrics.pseudo_values`."""

    @property
    def accuracy(self) -> Estimate:
        return self.estimates["accuracy"]

    @property
    def whole(self) -> bool:
        """Whether all folds of a seed are recorded, or all speakers."""
        return bool(whole_seeds(self.trials))

    @property
    def seeds(self) -> int:
        return self.trials["seed"].nunique()

    @cached_property
    def seed_means(self) -> pd.DataFrame:
        """(seeds x metrics), each the mean over folds."""
        return self.trials.groupby("seed")[measures(self.trials)].mean()

    def split_variance(self, metric: str = "accuracy") -> float:
        """Of the mean over seeds, in squared points, as partitions and seeds make it."""
        deviation = self.splits.deviation(metric) if self.splits.freedom else math.nan
        return split_variance(self.seed_means[metric].to_numpy(), deviation)

    @property
    def unjudged(self) -> str:
        """Why there is no verdict on this row; "" if there is one."""
        if self.guessed:
            return "the paper names this architecture and does not describe it"
        if self.still_falling:
            return f"its loss was still falling after {self.config.epochs} epochs"
        return ""

    @cached_property
    def still_falling(self) -> bool:
        """Whether training ended too soon, by its curves; without them, whether half of the folds chose an epoch of the
        last tenth."""
        by_curve = still_falling(self.store, self.trials) if self.store else None
        if by_curve is not None:
            return by_curve
        chosen = self.config.selection != "last" and (self.trials["best_epoch"] > 0).all()
        return bool(chosen and self.trials["best_epoch"].median() >= 0.9 * self.config.epochs)

    @property
    def verdict(self) -> str:
        """On the paper's accuracy; "–" where the paper has none."""
        return str(self.judge("accuracy")) if "accuracy" in self.paper else "–"

    def apart(self, metric: str = "accuracy") -> Estimate:
        """Ours less the paper's, with the interval in which the same method stays on another partition and seed."""
        deviation = self.splits.deviation(metric) if self.splits.freedom else math.nan
        return replication(self.estimates[metric].mean, self.seeds, self.paper[metric], deviation, self.splits.freedom)

    @property
    def profile_fits(self) -> float:
        """p value of the paper's class accuracies; NaN where it has none, or too little is known of their scatter."""
        if not set(EMOTION_COLUMNS) <= set(self.paper) or not self.splits.freedom:
            return math.nan
        ours = np.array([self.estimates[name].mean for name in EMOTION_COLUMNS])
        covariance = self.splits.covariance.loc[EMOTION_COLUMNS, EMOTION_COLUMNS].to_numpy()
        printed = np.array([self.paper[name] for name in EMOTION_COLUMNS])
        return profile(ours, printed, self.seeds, covariance, self.splits.freedom)

    def judge(self, metric: str) -> Verdict:
        """The paper's number of a metric: is it what this method gives on this corpus? KeyError if the paper has none.

        It holds ("reproduced") if the difference is shown to be smaller than the margin and, for the accuracy, the
        class accuracies fit as a profile; it fails if either lies outside what another partition and seed explain.
        """
        apart, p = self.apart(metric), self.profile_fits if metric == "accuracy" else math.nan
        if self.unjudged:
            return Verdict(None, self.unjudged)
        if not self.whole:
            said = f"{apart.mean:+.1f} points".replace("-", "−")
            return Verdict(Word.CANNOT_TELL, f"only {_count(len(self.trials), 'fold')} recorded: {said}")
        if not self.splits.freedom:
            return Verdict(Word.CANNOT_TELL, "no row has three seeds to say how far one partition moves a number")
        margin = CLASS_MARGIN if metric.startswith("acc_") else MARGIN
        said, profiled = f"{apart.signed()} points", set(EMOTION_COLUMNS) <= set(self.paper) and metric == "accuracy"
        if p < LEVEL:
            return Verdict(Word.FAILS, f"not reproduced: {said}, and the class accuracies do not fit ({p_value(p)})")
        if equivalent(apart, margin, self.splits.freedom) and not (profiled and math.isnan(p)):
            return Verdict(Word.HOLDS, f"reproduced within {margin:g} points: {said}")
        if not apart.holds(0):
            return Verdict(Word.FAILS, f"not reproduced: {said}")
        return Verdict(Word.CANNOT_TELL, f"compatible: {said}, where {margin:g} would have to be ruled out")

    def above_chance(self) -> tuple[int, int, float]:
        """Utterances recognised (the mean over seeds), utterances tested, and the p value of guessing."""
        hits = self.values["accuracy"].mean(axis=1) / 100
        right, n = round(hits.sum()), len(hits)
        return right, n, beyond_chance(right, n, 1 / max(len(self.emotions), 1))


def measures(trials: pd.DataFrame) -> list[str]:
    """What is estimated of trials: beyond CASIA's emotions those that their corpus has."""
    return [name for name in MEASURES if name in trials]


def whole_seeds(trials: pd.DataFrame) -> list[str]:
    """The seeds of which every fold is recorded; where speakers are held out, a fold of every speaker."""
    if not len(trials):
        return []
    protocol = trials["protocol"].iloc[0]
    of = speaker_of(trials) if of_unseen(trials) else trials["fold"]
    least = 1 if protocol == "inner" else SPEAKERS if of_unseen(trials) else FOLDS
    count = of.groupby(trials["seed"]).nunique()
    return list(count.index[count >= least])


def of_unseen(trials: pd.DataFrame) -> bool:
    return PROTOCOLS[trials["protocol"].iloc[0]].unit == "speaker"


def speaker_of(trials: pd.DataFrame) -> pd.Series:
    """The speaker that a fold of unseen speakers tests: the fold's name, or what comes before its number."""
    both = "sentence" in PROTOCOLS[trials["protocol"].iloc[0]].disjoint
    return trials["fold"].str.rpartition("-")[0] if both else trials["fold"]


def rows(store: Store, experiment: Experiment, config: Callable[[Row], Config] = Row.config) -> list[RowReport]:
    """Every recorded row of an experiment, in the paper's order; rows without a record are left out.

    `config` says which configuration of a row is wanted (a profile's `config`, for trials of that profile); records of
    others, tried out with `--set`, are not the row's. A row is a configuration under a protocol: trials of it that
    another experiment recorded are its trials too, so that no quantity has two numbers.
    """
    everything, known, ids = _recorded(store), splits(store), cache(_ids(store))
    found: dict[str, RowReport] = {}
    configs = _configs(experiment, everything, config)
    for row in experiment.rows:
        wanted = {"protocol": row.protocol, "config": configs[row.name].key()}
        trials = everything[(everything[list(wanted)] == list(wanted.values())).all(axis=1)]
        own = (trials["experiment"] == experiment.name) & (trials["row"] == row.name)
        if not own.any():
            continue
        others = trials[~own] if not PROTOCOLS[row.protocol].conditions else []  # there a row is a condition too
        trials = pd.concat([trials[own], others]) if len(others) else trials[own]
        found[row.name] = _row(row, trials, configs[row.name], store, known, ids)
    if experiment.reference in found:  # rows of another protocol have no fold in common with it, whatever is recorded
        reference, protocol = found[experiment.reference], experiment.row(experiment.reference).protocol
        tested = [n for n in found if n != experiment.reference and experiment.row(n).protocol == protocol]
        against = {name: worth(found[name], reference) for name in tested}
        p_values = dict(zip(tested, holm(np.array([against[name].p_value for name in tested])), strict=True))
        for name in tested:
            found[name] = replace(found[name], against=against[name], p_value=float(p_values[name]))
    return list(found.values())


def of_configuration(store: Store, config: Config) -> list[RowReport]:
    """What is recorded of a configuration, whichever experiments recorded it: for each protocol that a user may ask
    for a row of its name."""
    everything, known, ids = _recorded(store), splits(store), cache(_ids(store))
    trials = everything[everything["config"] == config.key()]
    return [
        _row(Row(name), some, config, store, known, ids)
        for name, some in trials.groupby("protocol")
        if not PROTOCOLS[name].private
    ]


def _row(
    row: Row, trials: pd.DataFrame, config: Config, store: Store, known: Splits, ids: Callable[..., list[str]]
) -> RowReport:
    trials = trials.drop_duplicates(PAIRED_ON)
    if seeds := whole_seeds(trials):
        trials = trials[trials["seed"].isin(seeds)]
    emotions, values = _values(store, trials, ids)
    bare = RowReport(
        row.name, {}, row.paper, trials, store=store, config=config, guessed=row.guessed, splits=known,
        emotions=emotions, values=values, group=row.group, at=row.at,
    )  # fmt: skip
    return replace(bare, estimates=Lazily(measures(trials), partial(_estimate, bare)))


def _configs(
    experiment: Experiment, everything: pd.DataFrame, config: Callable[[Row], Config] = Row.config
) -> dict[str, Config]:
    """The configuration of each row; the earlier one of all rows while some are recorded under that rule alone."""
    now = {row.name: config(row) for row in experiment.rows}
    if not experiment.earlier or any(now[row.name] != row.config() for row in experiment.rows):
        return now
    earlier = {row.name: row.config(**experiment.earlier.get(row.name, {})) for row in experiment.rows}
    own = everything[everything["experiment"] == experiment.name]
    recorded = set(zip(own["row"], own["config"], strict=True))
    anew, before = ([(name, each.key()) in recorded for name, each in rule.items()] for rule in (now, earlier))
    return earlier if any(before) and not all(anew) else now


def _ordered(means: pd.Series) -> dict[str, float]:
    """By speaker, in the order of their names whatever the case: so they are numbered on pages."""
    return means.sort_index(key=lambda names: names.astype(str).str.casefold()).to_dict()


def _estimate(row: RowReport, metric: str) -> Estimate:
    """Mean over trials, with the interval over utterances and partitions; of unseen speakers each speaker's mean."""
    n = len(row.trials)
    if of_unseen(row.trials):
        return over_speakers(_ordered(row.trials.groupby(speaker_of(row.trials))[metric].mean()), n).within(0.0, 100.0)
    mean = float(row.trials[metric].mean())
    values = row.values[metric] if row.whole else pd.DataFrame()
    if values.empty:
        return Estimate(mean, math.nan, math.nan, n)
    about = estimate(values.mean(axis=1).to_numpy(), row.split_variance(metric), n)
    return _around(mean, about).within(0.0, 100.0)


def _around(mean: float, about: Estimate) -> Estimate:
    """The paper averages over folds; where folds are unequal that is not the mean of utterances, but as uncertain."""
    moved = mean - about.mean
    return replace(about, mean=mean, low=about.low + moved, high=about.high + moved)


def _files(store: Store) -> tuple[tuple[str, int], ...]:
    return tuple((path.stem, path.stat().st_mtime_ns) for path in sorted(store.folder.glob("*.csv")))


def _recorded(store: Store) -> pd.DataFrame:
    """All trials of a store, whichever experiment recorded them."""
    return _read(store.root, store.corpus, _files(store))[0]


def splits(store: Store) -> Splits:
    """How far a partition and a seed move a number: from all rows of the store with three stratified 5-folds."""
    return _read(store.root, store.corpus, _files(store))[1]


@lru_cache(maxsize=8)
def _read(root: Path, folder: str, files: tuple[tuple[str, int], ...]) -> tuple[pd.DataFrame, Splits]:
    store, means = Store(folder, root), []  # of a GPU's trials the folder says so
    tables = [table for name, _ in files if len(table := store.read(name))]
    trials = pd.concat(tables, ignore_index=True) if tables else store.read("")
    names = measures(trials)
    for _, some in trials[trials["protocol"] == "stratified-5"].groupby("config"):
        once = some.drop_duplicates(["seed", "fold"])
        means.append(once[once["seed"].isin(whole_seeds(once))].groupby("seed")[names].mean())
    return trials, pooled(means, names)


def _ids(store: Store) -> Callable[[str, str, str], list[str]]:
    kept = store.utterances()
    utterances = set(kept.index)

    def ids(protocol: str, seed: str, fold: str) -> list[str]:
        """The utterances that the letters of a prediction, or of a copy, stand for; [] where the store does not say."""
        dealt = protocol if f"{protocol}.{seed}" in kept.columns else PROTOCOLS[protocol].training
        names = store.tested(dealt, seed, fold) if f"{dealt}.{seed}" in kept.columns else []
        # An id may have a "~" of its own: only what is no utterance is a copy of one.
        return [name if name in utterances else name.rpartition("~")[0] for name in names]

    return ids


def _values(
    store: Store, trials: pd.DataFrame, ids: Callable[[str, str, str], list[str]]
) -> tuple[tuple[str, ...], Mapping[str, pd.DataFrame]]:
    """The emotions that a row tells apart, and by metric what each utterance adds, (ids x seeds)."""
    tables = [store.predictions(name) for name in trials["experiment"].unique()]
    said = pd.concat(tables).merge(trials[KEY], on=KEY)
    letters = dict(pair.split("=") for pair in said["letters"].iloc[0].split()) if len(said) else {}
    tested = {}
    for seed, folds in said.groupby("seed"):
        names: list[str] = []
        for one in folds.itertuples():
            known = ids(one.protocol, one.seed, one.fold)
            if len(known) != len(one.actual):  # of other utterances than the store knows of: paired by their places
                known = [f"{one.fold}/{k}" for k in range(len(one.actual))]
            names += known
        y, y_hat = (np.array(list("".join(folds[side]))) for side in ("actual", "predicted"))
        tested[seed] = pd.Index(names, name="id"), y, y_hat

    def together(of_seed: dict[str, np.ndarray]) -> pd.DataFrame:
        columns = {seed: pd.Series(each, tested[seed][0]) for seed, each in of_seed.items()}
        # Copies of an utterance are not independent of each other: together they are one.
        return pd.DataFrame(
            {seed: one.groupby(level=0).mean() if one.index.has_duplicates else one for seed, one in columns.items()}
        )

    @cache
    def others() -> dict[str, dict[str, np.ndarray]]:
        known, found = sorted(letters), {}
        for seed, (_, y, y_hat) in tested.items():
            values = pseudo_values(np.searchsorted(known, y), np.searchsorted(known, y_hat), len(known))
            by_class = values.pop("classes")
            values |= {f"acc_{letters[letter]}": by_class[:, c] for c, letter in enumerate(known)}
            for metric, each in values.items():
                found.setdefault(metric, {})[seed] = each
        return found

    def values(metric: str) -> pd.DataFrame:
        if metric == "accuracy":  # the jackknife of a mean is the mean's own terms
            return together({seed: 100.0 * (y == y_hat) for seed, (_, y, y_hat) in tested.items()})
        return together(others().get(metric, {}))

    return tuple(letters.values()), Lazily(MEASURES, values)


def answers(row: RowReport, seed: str) -> pd.Series:
    """The emotion that a row said of each utterance of one seed, by id; of rows without copies."""
    ids, found = cache(_ids(row.store)), {}
    tables = [row.store.predictions(name) for name in row.trials["experiment"].unique()]
    for one in pd.concat(tables).merge(row.trials.loc[row.trials["seed"] == seed, KEY], on=KEY).itertuples():
        letters = dict(pair.split("=") for pair in one.letters.split())
        found |= dict(zip(ids(one.protocol, one.seed, one.fold), map(letters.get, one.predicted), strict=True))
    return pd.Series(found, dtype=object)


def worth(higher: RowReport, lower: RowReport, metric: str = "accuracy") -> Estimate:
    """How many points more `higher` has, utterance by utterance: on the same partitions, or, of two protocols, on all
    utterances that both test. By speaker where one of them holds speakers out; the error is then of these speakers."""
    same = higher.trials["protocol"].iloc[0] == lower.trials["protocol"].iloc[0]
    a, b = (row.values.get(metric, pd.DataFrame()) for row in (higher, lower))
    n = min(len(higher.trials), len(lower.trials))
    if same:
        both = higher.trials.merge(lower.trials, on=PAIRED_ON, suffixes=("_a", "_b"))
        if not len(both):
            return NOTHING
        n, mean = len(both), float((both[f"{metric}_a"] - both[f"{metric}_b"]).mean())
        common = [seed for seed in a.columns if seed in b.columns]
        if not (higher.whole and lower.whole) or not common:
            return Estimate(mean, math.nan, math.nan, n)
        both = both[both["seed"].isin(common)]
        n, mean = len(both), float((both[f"{metric}_a"] - both[f"{metric}_b"]).mean())
        between = a[common] - b[common]
        seeds = between.mean().to_numpy()
        scale = higher.splits.deviation(metric) / higher.splits.deviation() if higher.splits.freedom else math.nan
        variance = split_variance(seeds, higher.splits.paired * scale)
    else:
        between, variance = (
            a.mean(axis=1) - b.mean(axis=1),
            higher.split_variance(metric) + lower.split_variance(metric),
        )
        mean = float(higher.trials[metric].mean() - lower.trials[metric].mean())
        between = between.to_frame()
    units = between.mean(axis=1).dropna()
    if not len(units) or not (higher.whole and lower.whole):
        return Estimate(mean, math.nan, math.nan, n)
    about = _around(mean, estimate(units.to_numpy(), variance, n))
    parts = {}
    if of_unseen(higher.trials) or of_unseen(lower.trials):
        people = higher.store.utterances()["speaker"] if higher.store else pd.Series(dtype=str)
        parts = _ordered(units.groupby(people).mean()) if len(people) else {}
    return over_speakers(parts, n) if len(parts) > FEW else replace(about, parts=parts)


def above_half(row: RowReport, clean: RowReport) -> Estimate:
    """By how many points a row keeps more than half of the `clean` lead over chance, utterance by utterance; below
    zero, less."""
    chance = 100 / max(len(clean.emotions), 1)
    noisy, before = row.values["accuracy"], clean.values["accuracy"]
    common = [seed for seed in noisy.columns if seed in before.columns]
    if not common or not (row.whole and clean.whole):
        return NOTHING
    left = noisy[common] - (before[common] + chance) / 2
    # A row and half of another: at most the deviation of the row alone.
    variance = split_variance(left.mean().to_numpy(), row.splits.deviation() if row.splits.freedom else math.nan)
    return estimate(left.mean(axis=1).dropna().to_numpy(), variance, len(row.trials))


def chosen_by_others(some: Iterable[RowReport]) -> Estimate:
    """What the best of several rows is worth to an unseen speaker: for each, the row that is best for the others.

    The maximum over rows would be chosen by the speakers that it is then reported for.
    """
    by_row = pd.DataFrame({row.name: row.accuracy.parts for row in some})
    if by_row.empty:
        return NOTHING
    parts = {speaker: float(by_row.loc[speaker, by_row.drop(speaker).mean().idxmax()]) for speaker in by_row.index}
    return Estimate(float(np.mean(list(parts.values()))), math.nan, math.nan, len(parts), parts=parts)


@dataclass(frozen=True)
class Difference:
    """How many points more `higher` has than `lower` on the same utterances; a claim says that it is positive."""

    metric: str
    higher: str
    lower: str
    points: Estimate
    paper: float  # the same difference in the paper; NaN: not printed
    p_value: float  # with Holm's correction over the differences of the claim
    unjudged: str = ""  # why the difference is shown and not counted

    def __str__(self) -> str:
        return f"{self.higher} over {self.lower}" + f" in {self.metric.removeprefix('acc_')}" * (
            self.metric != "accuracy"
        )

    @property
    def recorded(self) -> bool:
        return not math.isnan(self.points.error)

    @property
    def sign(self) -> int:
        """1 if the difference is positive by more than chance explains, -1 if negative, 0 if neither is shown."""
        return int(np.sign(self.points.mean)) if self.recorded and self.p_value < LEVEL else 0

    def bound(self, noun: str = "lead") -> str:
        """What an interval around zero still says: "no loss above 2.2 points (detectable: 3.1)"."""
        if not self.recorded:
            return "not recorded yet" if not self.points.n else f"{_count(self.points.n, 'fold')} in common"
        if not self.points.holds(0):
            return self.points.signed()
        return f"no {noun} above {max(self.points.high, 0):.1f} points (detectable: {self.points.detectable:.1f})"


def differences(
    found: Iterable[RowReport],
    experiment: Experiment,
    above: Mapping[str, Iterable[str]],
    metrics: Iterable[str] = ("accuracy",),
) -> list[Difference]:
    """What a claim says of an order, tested: `above` names for each row the rows that it is said to exceed.

    Holm's correction counts every difference of the claim that is judged, those too whose records are still to come.
    """
    named = {row.name: row for row in found}
    result = []
    for metric in metrics:
        for higher, lower in ((higher, lower) for higher, lowers in above.items() for lower in lowers):
            printed = [experiment.row(name).paper.get(metric, math.nan) for name in (higher, lower)]
            known = [named[name] for name in (higher, lower) if name in named]
            points = worth(*known, metric) if len(known) == 2 else NOTHING
            guessed = [row.group or row.name for row in map(experiment.row, (higher, lower)) if row.guessed]
            falling = [row.name for row in known if row.still_falling]
            why = f"the architecture of {guessed[0]} is guessed" if guessed else ""
            why = why or (f"the loss of {falling[0]} was still falling" if falling else "")
            few = known and 0 < len(known[0].accuracy.parts) <= FEW
            why = why or (f"{len(known[0].accuracy.parts)} speakers are too few for a test" if few else "")
            result.append(
                Difference(metric, higher, lower, points, round(printed[0] - printed[1], 1), points.p_value, why)
            )
    judged = [k for k, each in enumerate(result) if not each.unjudged]
    corrected = dict(zip(judged, holm(np.array([result[k].p_value for k in judged])), strict=True))
    return [replace(each, p_value=float(corrected.get(k, math.nan))) for k, each in enumerate(result)]


def order(claimed: list[Difference], sized: bool = False) -> Verdict:
    """Whether all differences of a claim are there.

    It holds if each is positive by more than chance explains, and fails as soon as one is negative by more; `sized`:
    the claim is of the paper's amount too, and fails where our interval ends below it. Else the records cannot tell.
    """
    judged = [each for each in claimed if not each.unjudged]
    aside = len(claimed) - len(judged)
    there = [each for each in judged if each.sign > 0]
    reverse = [each for each in judged if each.sign < 0]
    pending = [each for each in judged if not each.recorded]
    missed = [each for each in judged if sized and each.recorded and each.points.high < each.paper]
    more = [each for each in there if sized and each.points.low > each.paper]
    if not judged:
        return Verdict(None, "; ".join(dict.fromkeys(each.unjudged for each in claimed)))
    chance = [each for each in judged if each.recorded and each.sign == 0]
    many, parts = _count(len(judged), "difference"), []
    if len(pending) == len(judged):
        parts = [f"none of {many} is recorded yet" if len(judged) > 1 else "not recorded yet"]
    elif len(judged) == 1:
        only = judged[0].points
        said = "as claimed" if there else "the other way round" if reverse else "which chance explains"
        parts = [f"{only.signed()} points, {said}" + f" (detectable: {only.detectable:.1f})" * bool(chance)]
    else:
        parts = [f"{len(there)} of {many} are as claimed"]
        parts += [f"{len(reverse)} the other way round{_listed(reverse)}"] * bool(reverse)
        parts += [f"chance explains {len(chance)}{_bounds(chance)}"] * bool(chance)
        parts += [f"{len(pending)} not recorded yet"] * bool(pending)
    parts += [f"the paper's {each.paper:+.1f} lies above {each.points.signed()}" for each in missed]
    parts += [f"{each.points.signed()} is more than the paper's {each.paper:+.1f}" for each in more]
    reasons = list(dict.fromkeys(each.unjudged for each in claimed if each.unjudged))
    if reasons:
        parts.append(f"{aside} without a verdict ({reasons[0]}{', for instance' * (len(reasons) > 1)})")
    falling = any(each.unjudged and "guessed" not in each.unjudged for each in claimed)
    word = Word.CANNOT_TELL
    if reverse or missed:
        word = Word.FAILS
    elif len(there) == len(judged) and not falling:
        word = Word.HOLDS
    return Verdict(word, "; ".join(parts))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _listed(some: list[Difference], most: int = 4) -> str:
    if not some or len(some) > most:
        return ""
    return f" ({'; '.join(f'{each} {each.points.signed()}' for each in some)})"


def _bounds(some: list[Difference]) -> str:
    """Of one or more differences that are not distinguished from zero."""
    if not some:
        return ""
    low, high = min(each.points.low for each in some), max(each.points.high for each in some)
    seen, several = max(each.points.detectable for each in some), "up to " * (len(some) > 1)
    return f" (between {low:+.1f} and {high:+.1f} points; detectable: {several}{seen:.1f})".replace("-", "−")


def p_value(value: float) -> str:
    return f"p = {value:.2g}" if value >= 0.001 else "p < 0.001"


def table(found: Iterable[RowReport], experiment: Experiment) -> pd.DataFrame:
    """The paper's table in our numbers: a line for each row, recorded or not; beside our accuracy the paper's.

    A column for each emotion of the corpus, first those that the paper has, and for the paper's other metrics.
    """
    named = {row.name: row for row in found}
    metrics = shown(row.trials for row in named.values())
    lines = []
    for row in experiment.rows:
        line: dict[str, object] = {"row": row.name}
        ours = named.get(row.name)
        line |= {metric: ours.estimates[metric].mean if ours else math.nan for metric in metrics}
        line |= {
            "accuracy, 95 % interval": str(ours.accuracy) if ours else "–",
            "paper": row.paper.get("accuracy", math.nan),
            "trials": len(ours.trials) if ours else 0,
        }
        if experiment.reference:
            compared = ours is not None and ours.against.n > 0
            line[f"over {experiment.reference}"] = ours.against.signed() if compared else "–"
            line["detectable"] = ours.against.detectable if compared else math.nan
        lines.append(line | {"verdict": ours.verdict if ours else "not recorded yet"})
    return pd.DataFrame(lines)


def shown(trials: Iterable[pd.DataFrame]) -> list[str]:
    """The metrics of Table 2 for the emotions that any of several tables has; for the paper's where there is none."""
    known = {name for one in trials for name in one.columns[one.notna().any()]}
    emotions = [name for name in (*EMOTION_COLUMNS, *OTHER_EMOTIONS) if name in known] or EMOTION_COLUMNS
    return [*emotions, *(metric for metric in METRICS if metric not in EMOTION_COLUMNS)]


def beside(found: Iterable[RowReport], experiment: Experiment) -> pd.DataFrame:
    """Table 2 as the paper lays it out: each cell our mean, in brackets the paper's number; a dash for neither."""
    named = {row.name: row for row in found}

    def cell(row: Row, metric: str) -> str:
        ours = f"{named[row.name].estimates[metric].mean:.1f}" if row.name in named else "–"
        return ours + (f" ({row.paper[metric]:.1f})" if metric in row.paper else "")

    cells = {metric.removeprefix("acc_"): [cell(row, metric) for row in experiment.rows] for metric in METRICS}
    return pd.DataFrame(cells, index=pd.Index([row.name for row in experiment.rows], name="row"))


def without_paper(experiment: Experiment) -> Experiment:
    """The experiment without the paper's numbers, for another corpus, of which they say nothing."""
    return replace(experiment, rows=tuple(replace(row, paper={}) for row in experiment.rows))


def described(found: Iterable[RowReport], experiment: Experiment) -> str:
    """The accuracies of an experiment as a sentence, for those who cannot see its figure."""
    named = {row.name: row for row in found}
    parts = []
    for row in experiment.rows:
        ours = f"{named[row.name].accuracy} percent" if row.name in named else "not recorded yet"
        parts.append(f"{row.name} {ours}" + (f", paper {row.paper['accuracy']}" if row.paper else ""))
    return "; ".join(parts) + "."


def provenance(store: Store, experiment: Experiment, rows: list[RowReport], on_disk: bool = False) -> str:
    """One line: corpus, protocol, n, seeds, commits, machine, dates. `on_disk`: with the paths of this machine."""
    if not rows:
        return f"{experiment.name} on {store.corpus}: nothing recorded yet"
    trials = pd.concat([row.trials for row in rows])
    distinct = {name: ", ".join(sorted(map(str, trials[name].unique()))) for name in
                ("protocol", "selection", "seed", "device", "commit")}  # fmt: skip
    machines = "; ".join(sorted(trials["machine"].unique()))  # each has a comma of its own
    dates = sorted(trials["date"].str[:10].unique())
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    names = trials["experiment"].unique()
    if on_disk:
        where = ", ".join(str(store.path(name)) for name in names)
    elif store.root.is_relative_to(cache_dir()):  # forgotten when the code changes: nothing to lead to
        where = "Computed on this page"
    elif store.root in (PROJECT / "results", results_dir()):
        where = ", ".join(f"results/{store.corpus}/{name}.csv" for name in names)
    else:
        where = ", ".join(str(store.path(name)) for name in names)
    least, most = trials["n_test"].min(), trials["n_test"].max()
    tested = f"{least} to {most}" if least < most else f"{least}"
    return (
        f"{where}: corpus {store.corpus}, protocol {distinct['protocol']}, "
        f"selection {distinct['selection']}, {len(trials)} trials (seeds {distinct['seed']}), "
        f"95 % intervals over utterances and partitions, {tested} test utterances a fold, "
        f"{distinct['device']} ({machines}), commit {distinct['commit']}, {span}"
    )
