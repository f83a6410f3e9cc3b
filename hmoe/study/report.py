"""Records become tables and verdicts. A verdict is computed from the records, never written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hmoe.base.files import cache_dir
from hmoe.config import Config
from hmoe.study.experiments import METRICS, Experiment, Row
from hmoe.study.leaking import CLEAN, COPIES
from hmoe.study.metrics import Estimate, difference, holm, interval, mcnemar, paired_test
from hmoe.study.store import KEY, Store

PAIRED_ON = ["protocol", "seed", "fold"]
LEAST = 5  # trials: a whole 5-fold; from fewer, an interval is so wide that it holds anything
LEVEL = 0.05  # of the tests, after Holm's correction

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"  # of a number
SUPPORTED, PARTLY, NOISE, NOT_SUPPORTED = (
    "supported",
    "partly supported",
    "within noise",
    "not supported",
)  # of an order
FEW, UNDECIDED, UNMEASURED = "too few trials", "undecided", "not measured here yet"
WIDE = 5.0  # points to either side: an interval that reaches further would hold rows that the paper tells apart


@dataclass(frozen=True)
class Verdict:
    """What the records say to a claim, in a word, and why."""

    word: str
    why: str

    def __str__(self) -> str:
        return f"{self.word}: {self.why}"


@dataclass(frozen=True)
class RowReport:
    """A row as we measured it, beside the paper."""

    name: str
    estimates: dict[str, Estimate]  # by metric, in percent
    paper: dict[str, float]
    trials: pd.DataFrame
    p_value: float = math.nan  # corrected resampled t-test against the reference row, Holm-corrected
    mcnemar: float = math.nan  # on the predictions, seed by seed; Holm-corrected
    store: Store | None = None  # where the trials are recorded

    @property
    def accuracy(self) -> Estimate:
        return self.estimates["accuracy"]

    @property
    def least(self) -> int:
        """How many make a whole: the folds, or the speakers of CASIA."""
        return whole(self.trials)

    @property
    def verdict(self) -> str:
        """The paper's accuracy against our interval."""
        return str(self.judge("accuracy")) if "accuracy" in self.paper else "no number in the paper"

    def judge(self, metric: str) -> Verdict:
        """The paper's number of a metric against our interval. KeyError where the paper has none."""
        claimed, ours = self.paper[metric], self.estimates[metric]
        if ours.n < self.least:
            count = "one trial" if ours.n == 1 else f"{ours.n} trials"
            return Verdict(FEW, f"{count}; the paper is {claimed - ours.mean:+.1f} points from the mean")
        reach = (ours.high - ours.low) / 2
        if ours.holds(claimed) and reach > WIDE:
            return Verdict(UNDECIDED, f"the paper's number is inside our interval, {reach:.1f} points to either side")
        if ours.holds(claimed):
            return Verdict(REPRODUCED, "the paper's number is inside our interval")
        side = "above" if claimed > ours.mean else "below"
        return Verdict(NOT_REPRODUCED, f"the paper is {abs(claimed - ours.mean):.1f} points {side} our mean")


def rows(store: Store, experiment: Experiment, config: Callable[[Row], Config] = Row.config) -> list[RowReport]:
    """Every recorded row of an experiment, in the paper's order; rows without a record are left out.

    `config` says which configuration of a row is wanted (a profile's `config`, for trials of that profile); records of
    others, tried out with `--set`, are not the row's.
    """
    records, predictions = store.read(experiment.name), store.predictions(experiment.name)
    found = {}
    for row in experiment.rows:
        wanted = {"row": row.name, "protocol": row.protocol, "config": config(row).key()}
        trials = records[(records[list(wanted)] == list(wanted.values())).all(axis=1)]
        if len(trials):
            drawn, share = draws(trials)
            estimates = {metric: _possible(interval(drawn[metric].to_numpy(), share)) for metric in (*METRICS, "uar")}
            found[row.name] = RowReport(row.name, estimates, row.paper, trials, store=store)
    tested = [row.name for row in experiment.rows if row.name in found and row.name != experiment.reference]
    if experiment.reference in found:  # rows of another protocol have no fold in common with it, whatever is recorded
        reference, protocol = found[experiment.reference].trials, experiment.row(experiment.reference).protocol
        tested = [name for name in tested if experiment.row(name).protocol == protocol]
        p_values = holm(np.array([_t_test(found[name].trials, reference) for name in tested]))
        mcnemars = holm(np.array([_mcnemar(predictions, found[name].trials, reference) for name in tested]))
        for name, p_value, p_mcnemar in zip(tested, p_values, mcnemars, strict=True):
            found[name] = RowReport(**{**vars(found[name]), "p_value": p_value, "mcnemar": p_mcnemar})
    return list(found.values())


def draws(trials: pd.DataFrame, suffix: str = "") -> tuple[pd.DataFrame, float]:
    """What an interval counts, and its n_test / n_train: the trials, but where a speaker is held out, the mean of each
    speaker's. Five folds of sentences, or three seeds, of one speaker are one voice heard again."""
    share = share_tested(trials, suffix)
    if not _of_strangers(trials):
        return trials, share
    both = trials["protocol"].iloc[0].startswith("speaker-")
    speaker = trials["fold"].str.rpartition("-")[0] if both else trials["fold"]
    measured = [name for name in trials.columns if name.startswith((*METRICS, "uar"))]
    # A fold of both tests a fifth of what its speaker says, and trains on four fifths of what the others say.
    return trials.groupby(speaker)[measured].mean(), share * (4 if both else 1)


def whole(trials: pd.DataFrame) -> int:
    """How many of `draws` make a whole: five folds, or the four speakers of CASIA."""
    return 4 if _of_strangers(trials) else LEAST


def _of_strangers(trials: pd.DataFrame) -> bool:
    return trials["protocol"].iloc[0].startswith("speaker")


def share_tested(trials: pd.DataFrame, suffix: str = "") -> float:
    """n_test / n_train, for the correction of intervals; of unrolled copies as if all of them were scored. Where copies
    leak, folds share test utterances too, so their interval is too narrow."""
    clean_alone = COPIES + 1 if trials["protocol"].iloc[0].endswith(CLEAN) else 1
    return clean_alone * float((trials[f"n_test{suffix}"] / trials[f"n_train{suffix}"]).mean())


def _possible(estimate: Estimate) -> Estimate:
    """A percentage lies between 0 and 100; a t interval does not know."""
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 100.0)) if estimate.n > 1 else estimate


def _paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    return a.merge(b, on=PAIRED_ON, suffixes=("_a", "_b"))


def _t_test(trials: pd.DataFrame, reference: pd.DataFrame) -> float:
    both = _paired(trials, reference)
    if len(both) == 0:
        return math.nan
    both, share = draws(both, "_a")
    a, b = both["accuracy_a"].to_numpy(), both["accuracy_b"].to_numpy()
    return paired_test(a, b, share) if len(both) > 1 else math.nan


def _mcnemar(predictions: pd.DataFrame, trials: pd.DataFrame, reference: pd.DataFrame) -> float:
    """McNemar's test needs independent utterances, so it is made for each seed, which tests each utterance once.

    Twice the median of dependent p values is one again (Rüger 1978), so seeds cost power rather than validity.
    """
    right = {}
    for side, chosen in (("a", trials), ("b", reference)):
        keys = chosen[["row", "config", *PAIRED_ON]]
        right[side] = predictions.merge(keys, on=["row", "config", *PAIRED_ON])
    both = _paired(right["a"], right["b"])
    p_values = []
    for _, one_seed in both.groupby("seed"):
        a, b = ("".join(one_seed[f"predicted_{side}"]) for side in "ab")
        truth = "".join(one_seed["actual_a"])
        hits = [np.array([said == true for said, true in zip(text, truth, strict=True)]) for text in (a, b)]
        p_values.append(mcnemar(*hits))
    if len(p_values) < 2:
        return p_values[0] if p_values else math.nan
    return min(1.0, 2 * float(np.median(p_values)))


@dataclass(frozen=True)
class Difference:
    """How many points more `higher` has than `lower` on the same folds; a claim says that it is positive."""

    metric: str
    higher: str
    lower: str
    points: Estimate
    paper: float  # the same difference in the paper; NaN: not printed
    p_value: float  # corrected resampled t-test, Holm-corrected over the differences of the claim
    least: int = LEAST  # folds, or speakers, that make a whole

    def __str__(self) -> str:
        return f"{self.higher} over {self.lower}" + f" in {self.metric}" * (self.metric != "accuracy")

    @property
    def verdict(self) -> Verdict:
        """Is there a difference? And if the paper prints it, is its number inside our interval?"""
        ours = self.points
        if ours.n == 0:
            return Verdict(UNMEASURED, "no fold is recorded for both rows")
        if ours.n < self.least:
            return Verdict(FEW, f"{ours.n} folds in common, {ours.mean:+.1f} points")
        noise = self.p_value >= LEVEL
        word = NOISE if noise else SUPPORTED if ours.mean > 0 else NOT_SUPPORTED
        why = f"{ours.mean:+.1f} points, p = {self.p_value:.2g}"
        if not math.isnan(self.paper):
            why += (
                f"; the paper's {self.paper:+.1f} is {'inside' if ours.holds(self.paper) else 'outside'} our interval"
            )
        return Verdict(word, why)


def differences(
    found: Iterable[RowReport],
    experiment: Experiment,
    above: Mapping[str, Iterable[str]],
    metrics: Iterable[str] = ("accuracy",),
) -> list[Difference]:
    """What a claim says of an order, tested: `above` names for each row the rows that it is said to exceed.

    Holm's correction counts every difference of the claim, those too whose records are still to come.
    """
    named = {row.name: row for row in found}
    result = []
    for metric in metrics:
        for higher, lower in ((higher, lower) for higher, lowers in above.items() for lower in lowers):
            printed = [experiment.row(name).paper.get(metric, math.nan) for name in (higher, lower)]
            points, p_value = (
                _points(named[higher], named[lower], metric) if {higher, lower} <= set(named) else _NOTHING
            )
            least = whole(named[higher].trials) if higher in named else LEAST
            result.append(Difference(metric, higher, lower, points, round(printed[0] - printed[1], 1), p_value, least))
    corrected = holm(np.array([each.p_value for each in result]))
    return [replace(each, p_value=float(p)) for each, p in zip(result, corrected, strict=True)]


_NOTHING = Estimate(math.nan, math.nan, math.nan, 0), math.nan


def _points(higher: RowReport, lower: RowReport, metric: str) -> tuple[Estimate, float]:
    """The difference on the folds that both rows have, and its p value."""
    both = _paired(higher.trials, lower.trials)
    if len(both) == 0:
        return _NOTHING
    least, (both, share) = whole(both), draws(both, "_a")
    a, b = both[f"{metric}_a"].to_numpy(), both[f"{metric}_b"].to_numpy()
    return interval(a - b, share), paired_test(a, b, share) if len(both) >= least else math.nan


def worth(higher: RowReport, lower: RowReport) -> Estimate:
    """How many points more `higher` has: fold by fold where both were tested on the same folds; speaker by speaker
    where one of them tests strangers, who are the same people in the other's folds; else mean by mean."""
    if set(higher.trials["protocol"]) == set(lower.trials["protocol"]):
        return _points(higher, lower, "accuracy")[0]
    for row in (higher, lower):
        if _of_strangers(row.trials):
            more = _by_speaker(higher) - _by_speaker(lower)
            return interval(more.to_numpy(), draws(row.trials)[1])
    (a, share_a), (b, share_b) = (draws(row.trials) for row in (higher, lower))
    return difference(a["accuracy"].to_numpy(), share_a, b["accuracy"].to_numpy(), share_b)


def above_half(row: RowReport, clean: RowReport, chance: float = 100 / 6) -> Estimate:
    """By how many points a row keeps more than half of the `clean` lead over chance, fold by fold; below zero, less."""
    both = _paired(row.trials, clean.trials)
    both, share = draws(both.assign(left=both["accuracy_a"] - (both["accuracy_b"] + chance) / 2), "_a")
    return interval(both["left"].to_numpy(), share)


def _by_speaker(row: RowReport) -> pd.Series:
    """Accuracy in percent, indexed by the speaker who was tested."""
    if _of_strangers(row.trials):
        return draws(row.trials)[0]["accuracy"]
    said = row.store.predictions(row.trials["experiment"].iloc[0]).merge(row.trials[KEY], on=KEY)
    right = [
        pd.Series(
            [a == b for a, b in zip(one.predicted, one.actual, strict=True)],
            row.store.tested(one.protocol, one.seed, one.fold),
        )
        for one in said.itertuples()
    ]
    return 100 * pd.concat(right).groupby(row.store.utterances()["speaker"]).mean()


def order(claimed: list[Difference]) -> Verdict:
    """Whether all differences of a claim are there: each positive, and more than noise."""
    by_word: dict[str, list[Difference]] = {}
    for each in claimed:
        by_word.setdefault(each.verdict.word, []).append(each)
    there, noise, reverse = (by_word.get(word, []) for word in (SUPPORTED, NOISE, NOT_SUPPORTED))
    pending = len(claimed) - len(there) - len(noise) - len(reverse)
    if pending == len(claimed):
        word = FEW if FEW in by_word else UNMEASURED
        return Verdict(word, f"{_count(pending)} to test, each needs {LEAST} folds of both rows")
    parts = [f"{len(there)} of {_count(len(claimed))} as claimed and more than noise{_listed(there)}"]
    parts += [f"{len(noise)} within noise"] * bool(noise)
    parts += [f"{len(reverse)} the other way round{_listed(reverse)}"] * bool(reverse)
    parts += [f"{pending} not measured yet"] * bool(pending)
    if reverse:
        word = NOT_SUPPORTED
    elif pending:
        word = UNMEASURED
    else:
        word = SUPPORTED if not noise else PARTLY if there else NOISE
    return Verdict(word, ", ".join(parts))


def _count(n: int) -> str:
    return f"{n} difference{'s' * (n != 1)}"


def _listed(some: list[Difference], most: int = 8) -> str:
    if not some or len(some) > most:
        return ""
    return f" ({'; '.join(f'{each} {each.points.mean:+.1f}, p = {each.p_value:.2g}' for each in some)})"


def table(found: Iterable[RowReport], experiment: Experiment) -> pd.DataFrame:
    """The paper's table in our numbers: a line for each row, recorded or not; beside our accuracy the paper's."""
    named = {row.name: row for row in found}
    lines = []
    for row in experiment.rows:
        line: dict[str, object] = {"row": row.name}
        ours = named.get(row.name)
        line |= {metric: ours.estimates[metric].mean if ours else math.nan for metric in METRICS}
        line |= {
            "accuracy, 95 % interval": str(ours.accuracy) if ours else "–",
            "paper": row.paper.get("accuracy", math.nan),
            "trials": len(ours.trials) if ours else 0,
            "p (t-test)": ours.p_value if ours else math.nan,
            "p (McNemar)": ours.mcnemar if ours else math.nan,
            "verdict": ours.verdict if ours else "not recorded yet",
        }
        lines.append(line)
    return pd.DataFrame(lines)


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


def provenance(store: Store, experiment: Experiment, rows: list[RowReport]) -> str:
    """One line: corpus, protocol, n, seeds, commits, machine, dates."""
    if not rows:
        return f"{experiment.name} on {store.corpus}: nothing recorded yet"
    trials = pd.concat([row.trials for row in rows])
    distinct = {name: ", ".join(sorted(map(str, trials[name].unique()))) for name in
                ("protocol", "selection", "seed", "device", "commit")}  # fmt: skip
    machines = "; ".join(sorted(trials["machine"].unique()))  # each has a comma of its own
    dates = sorted(trials["date"].str[:10].unique())
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    here = store.root.is_relative_to(cache_dir())  # forgotten when the code changes: nothing to lead to
    where = "Computed on this page" if here else f"results/{store.corpus}/{experiment.name}.csv"
    return (
        f"{where}: corpus {store.corpus}, protocol {distinct['protocol']}, "
        f"selection {distinct['selection']}, {len(trials)} trials (seeds {distinct['seed']}), "
        f"corrected 95 % intervals, {trials['n_test'].iloc[0]} test utterances a fold, "
        f"{distinct['device']} ({machines}), commit {distinct['commit']}, {span}"
    )
