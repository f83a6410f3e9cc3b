"""The ladder of protocols: one model under every protocol that a corpus permits, and what each leak is worth.

A protocol says who is tested. The easier it is, the more the training set gives away of the test set: the same
speakers, the same sentences, the best epoch, augmented copies of the test utterances themselves. Here each of these is
measured by itself, on any corpus: the accuracy with it less the accuracy without.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hmoe.base.errors import ProtocolError
from hmoe.base.names import chosen
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.study import report
from hmoe.study.experiments import AUDITS, EXPERIMENTS, Experiment, Row
from hmoe.study.metrics import Estimate
from hmoe.study.plan import is_network
from hmoe.study.protocols import COPIES, LEAKING, PROTOCOLS
from hmoe.study.report import RowReport
from hmoe.study.store import Store
from hmoe.study.trial import Trial

NAME = "ladder"
"""Of its records, `results/<corpus>/ladder.csv`."""

SVM = Row("SVM", {"model": "svm-scaled", "reading": "statistics", "augment": ()})
"""The model of the ladder: standardised statistics over time, RBF kernel. Seconds a fold, no epochs."""


@dataclass(frozen=True)
class Step:
    """A rung: the test in words, its protocol, what it changes in the configuration of a network."""

    title: str
    protocol: str
    copied: bool = False  # trains on augmented copies, as a folder would hold them
    selection: str = "last"  # which epoch of a network is tested


BEFORE = Step("copies dealt before the split", "augment-then-split-5-clean", copied=True)
AFTER = Step("copies dealt after the split", "split-then-augment-5-clean", copied=True)
BEST = Step("best epoch on the test fold", "stratified-5", selection="test")
STRATIFIED = Step("seen speakers and sentences", "stratified-5")
SENTENCES = Step("unseen sentences", "sentence-5")
SPEAKER = Step("unseen speaker", "speaker")
BOTH = Step("unseen speaker and sentences", "speaker-sentence")
STEPS = (BEFORE, AFTER, BEST, STRATIFIED, SENTENCES, SPEAKER, BOTH)

LEAKS = (
    (BEFORE, AFTER, "copies of the test utterances in training"),
    (BEST, STRATIFIED, "the epoch chosen on the test fold"),
    (STRATIFIED, SENTENCES, "the same sentences in training"),
    (STRATIFIED, SPEAKER, "the same speakers in training"),
    (STRATIFIED, BOTH, "the same speakers and sentences in training"),
)
"""The test that gives something away, the one that is like it and does not, and what that is."""


def permitted(corpus: Corpus, seeds: Sequence[int]) -> tuple[list[Step], dict[str, str]]:
    """The steps that a corpus permits with each of the seeds; and of the others, by title, why not."""
    steps, refused = [], {}
    for step in STEPS:
        try:
            for seed in seeds:
                PROTOCOLS[step.protocol].splits(corpus, seed)
            if step in (SENTENCES, BOTH) and corpus.table["sentence"].nunique() == len(corpus):
                raise ProtocolError(step.title, "every recording counts as a sentence of its own", "say what is spoken")
            steps.append(step)
        except ProtocolError as error:
            refused[step.title] = f"{error.what}; {error.remedy}"
    return steps, refused


def row(name: str) -> Row:
    """A row of any experiment by its name, or the SVM. ConfigError for another."""
    rows = {each.name: each for experiment in (AUDITS | EXPERIMENTS).values() for each in experiment.rows}
    rows |= {each.name: each for each in EXPERIMENTS["table2"].rows} | {SVM.name: SVM}
    return rows[chosen(name, rows, "--row", "rows")]


def experiment(row: Row, steps: Iterable[Step], **changes: Any) -> Experiment:
    """The trials of a row on the ladder: one row a step. `changes` go before the row's own.

    A network tests its last epoch, except where a step says otherwise. Where copies stand beside the recordings, it
    trains for fewer epochs, so that it sees as many utterances.
    """
    config = row.config(**changes)
    network = is_network(config)
    rows = []
    for step in steps:
        own = {**row.changes, **changes} | ({"selection": step.selection} if network else {})
        if step.copied:
            own |= {"copies": COPIES, "augment": config.augment or Config().augment}
            own |= {"epochs": max(1, round(config.epochs / (COPIES + 1)))} if network else {}
        if network or step is not BEST:
            rows.append(Row(f"{row.name}: {step.title}", own, protocol=step.protocol, group=row.name, at=step.title))
    return Experiment(
        NAME, f"The ladder of protocols: {row.name}", tuple(rows), protocols=tuple(each.name for each in LEAKING)
    )


def repeated(trial: Trial, seeds: Sequence[int]) -> bool:
    """Whether another seed is the same training: speakers are dealt in one way, and a classifier without epochs has
    nothing else to draw."""
    return trial.protocol == SPEAKER.protocol and trial.seed != seeds[0] and not is_network(trial.config)


@dataclass(frozen=True)
class Leak:
    """What the accuracy of a model loses where a test no longer gives something away, in points."""

    what: str
    generous: str  # title of the step that gives it away
    strict: str  # of the step that does not
    points: Estimate


@dataclass(frozen=True)
class Ladder:
    """A row under each protocol: what is recorded by step, and the worth of each leak."""

    row: str
    found: dict[str, RowReport]
    leaks: tuple[Leak, ...]

    def steps(self) -> pd.DataFrame:
        """A line a step: the test, its protocol, accuracy in percent with the ends of its interval, trials."""
        lines = [
            {
                "model": self.row, "test": title, "protocol": found.trials["protocol"].iloc[0],
                "accuracy": found.accuracy.mean, "low": found.accuracy.low, "high": found.accuracy.high,
                "uar": found.estimates["uar"].mean, "trials": len(found.trials),
            }
            for title, found in self.found.items()
        ]  # fmt: skip
        return pd.DataFrame(lines).round(4)

    def worth(self) -> pd.DataFrame:
        """A line a leak: what the test gives away, the two tests, the points it is worth with their interval."""
        lines = [
            {
                "model": self.row, "leak": leak.what, "with": leak.generous, "without": leak.strict,
                "points": leak.points.mean, "low": leak.points.low, "high": leak.points.high,
            }
            for leak in self.leaks
        ]  # fmt: skip
        return pd.DataFrame(lines).round(4)


def read(store: Store, row: Row, steps: Iterable[Step], **changes: Any) -> Ladder:
    """What is recorded of a row's steps, from the most generous test to the strictest."""
    found = {each.at: each for each in report.rows(store, experiment(row, steps, **changes))}
    leaks = [
        Leak(what, generous.title, strict.title, report.worth(found[generous.title], found[strict.title]))
        for generous, strict, what in LEAKS
        if {generous.title, strict.title} <= set(found)
    ]
    return Ladder(row.name, found, tuple(leaks))


def chance(utterances: pd.DataFrame) -> float:
    """Percent of the utterances of a table that have the most frequent emotion."""
    return 100 * float(utterances["emotion"].value_counts(normalize=True).iloc[0])


def text(ladders: Iterable[Ladder], corpus: Corpus, refused: Mapping[str, str]) -> str:
    """Each model's accuracies, the worth of each leak, and the tests that the corpus does not permit."""
    table = corpus.table
    parts = [
        f"{corpus.name}: {len(corpus)} utterances, {table['speaker'].nunique()} speakers, {len(corpus.emotions)} "
        f"emotions, {table['sentence'].nunique()} sentences; chance {chance(table):.1f} %"
    ]
    for ladder in ladders:
        rows = [(title, str(found.accuracy), len(found.trials)) for title, found in ladder.found.items()]
        shown = pd.DataFrame(rows, columns=[ladder.row, "accuracy, % [95 % interval]", "trials"])
        parts.append(_flush_left(shown))
        worth = [(leak.what, leak.points.signed()) for leak in ladder.leaks]
        shown = pd.DataFrame(worth, columns=["What a test gives away", "worth, points"])
        parts.append(_flush_left(shown))
    parts += ["\n".join(textwrap.fill(f"Not with this corpus: {title} ({why}).", 98) for title, why in refused.items())]
    return "\n\n".join(part for part in parts if part)


def _flush_left(table: pd.DataFrame) -> str:
    """A table as text, its columns flush left."""
    columns = [[name, *table[name].astype(str)] for name in table.columns]
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in columns]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*padded, strict=True))


def figure(ladders: Sequence[Ladder], name: str, guessed: float) -> Any:
    """A panel a model: the accuracy of each test with its interval, and what each leak is worth between two of them.

    `name` is the corpus's, `guessed` the percentage of chance.
    """
    from matplotlib.figure import Figure

    ink, blue, orange = "#1f2328", "#1080b1", "#e17e00"
    heights = [len(ladder.found) + 0.4 for ladder in ladders]
    fig = Figure(figsize=(8, 1.2 + 0.55 * sum(heights)), layout="constrained")
    axes = fig.subplots(len(ladders), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for ax, ladder in zip(axes, ladders, strict=True):
        titles = list(ladder.found)
        for y, found in enumerate(ladder.found.values()):
            ax.hlines(y, found.accuracy.low, found.accuracy.high, color=blue, linewidth=6, alpha=0.4)
            ax.plot(found.accuracy.mean, y, "o", color=blue, markersize=8)
        for leak in ladder.leaks:
            top, bottom = titles.index(leak.generous), titles.index(leak.strict)
            a, b = (ladder.found[title].accuracy.mean for title in (leak.generous, leak.strict))
            ax.annotate("", (b, bottom - 0.13), (a, top + 0.13), arrowprops={"arrowstyle": "->", "color": orange})
            strict = ladder.found[leak.strict].accuracy
            left, right = np.nanmin([b, strict.low]) - 1.5, np.nanmax([b, strict.high]) + 1.5
            said = f"{-leak.points.mean:+.1f} points without\n{textwrap.fill(leak.what, 24)}".replace("-", "−")
            at, side = (right, "left") if right < 65 else (left, "right")  # where there is room for a line
            ax.text(at, bottom, said, color=ink, va="center", ha=side, fontsize=9)
        ax.axvline(guessed, color=ink, linewidth=1, linestyle=":")
        ax.set_yticks(range(len(titles)), titles)
        ax.set(ylim=(len(titles) - 0.6, -0.6), xlim=(0, 100), xticks=range(0, 101, 20), title=ladder.row)
        ax.grid(visible=False, axis="y")
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel(f"accuracy on {name}, percent; dotted: chance")
    return fig


def described(ladders: Iterable[Ladder]) -> str:
    """The figure in words, for those who cannot see it."""
    return " ".join(
        f"{ladder.row}: "
        + "; ".join(f"{title} {found.accuracy} percent" for title, found in ladder.found.items())
        + "."
        for ladder in ladders
    )
