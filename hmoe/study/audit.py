"""The paper's tables against arithmetic. Each check states what it assumes; a failed one is a cell that cannot be.

A table is a `DataFrame` of printed percentages: rows by model, columns by our metric names (`experiments.METRICS`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

DECIMALS = 1  # as printed
HALF = 0.5 * 10**-DECIMALS  # the most by which a printed number may differ from the true one
OVERALL = ["precision", "recall", "f1"]


@dataclass(frozen=True)
class Finding:
    """One cell, one check. `expected` says what could have stood there."""

    check: str
    row: str
    column: str
    printed: float
    expected: str
    possible: bool


def class_columns(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column.startswith("acc_")]


def granularity(table: pd.DataFrame, n_class: int = 200, repeats: int = 1) -> Iterator[Finding]:
    """The GRIM test: a class accuracy is k / (n_class * repeats).

    Assumes that every utterance is tested once per repeat, pooled or averaged over equal folds: then 200
    utterances a class make every class accuracy a multiple of 0.5 %.
    """
    trials = n_class * repeats
    for row, values in table[class_columns(table)].iterrows():
        for column, printed in values.items():
            k = np.arange(np.floor((printed - 2) * trials / 100), np.ceil((printed + 2) * trials / 100) + 1)
            reachable = 100 * k / trials
            below, above = reachable[reachable <= printed + HALF].max(), reachable[reachable >= printed - HALF].min()
            possible = bool(np.any(np.abs(reachable - printed) <= HALF + 1e-9))
            yield Finding("granularity", row, column, printed, f"{below:.2f} or {above:.2f}", possible)


def accuracy_is_mean_of_classes(table: pd.DataFrame) -> Iterator[Finding]:
    """Accuracy = mean of the class accuracies. Assumes a balanced corpus (200 of each emotion). Slack: rounding."""
    for row, values in table.iterrows():
        mean = values[class_columns(table)].mean()
        possible = abs(values["accuracy"] - mean) <= 2 * HALF + 1e-9
        yield Finding("accuracy = mean of classes", row, "accuracy", values["accuracy"], f"{mean:.2f}", possible)


def accuracy_is_recall(table: pd.DataFrame) -> Iterator[Finding]:
    """Accuracy = macro recall, for the same reason: recall of a class is its class accuracy."""
    for row, values in table.iterrows():
        possible = abs(values["accuracy"] - values["recall"]) <= 2 * HALF + 1e-9
        yield Finding("accuracy = recall", row, "recall", values["recall"], f"{values['accuracy']:.1f}", possible)


def f1_is_bounded(table: pd.DataFrame) -> Iterator[Finding]:
    """F1 is at most the harmonic mean of precision and recall. Slack: rounding.

    Assumes that all three are averaged alike, over classes, folds or runs, or not at all: the harmonic mean H is
    concave, so a mean of H(precision, recall) is at most H of their means (Jensen). There is no lower bound as general:
    where half of the classes have high precision and low recall and half the opposite, F1 lies below both means.
    """
    for row, values in table.iterrows():
        most, granted = (harmonic_mean(*(values[["precision", "recall"]] + slack)) for slack in (0.0, HALF))
        possible = values["f1"] - HALF <= granted + 1e-9
        expected = f"at most {most:.2f}"
        yield Finding("F1 ≤ harmonic mean of precision and recall", row, "f1", values["f1"], expected, possible)


def harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def offsets_agree(table: pd.DataFrame) -> Iterator[Finding]:
    """From one row to the next, accuracy must move by the mean movement of the classes (balanced corpus)."""
    classes = class_columns(table)
    for (_, a), (row, b) in itertools.pairwise(table.iterrows()):
        moved = (b[classes] - a[classes]).mean()
        printed = b["accuracy"] - a["accuracy"]
        possible = abs(printed - moved) <= 4 * HALF + 1e-9
        yield Finding("step from the row above", row, "accuracy", round(printed, 1), f"{moved:+.2f}", possible)


def repeated_offsets(table: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall and F1 minus accuracy, and how many rows share the same triple. (rows) x (3 + 1).

    Nothing forbids one coincidence; independent classifiers have no reason to share all three differences.
    """
    offsets = table[OVERALL].sub(table["accuracy"], axis=0).round(DECIMALS)
    triples = offsets.apply(tuple, axis=1)
    return offsets.assign(shared_by=triples.map(triples.value_counts()))


def difference(claimed: float, a: float, b: float) -> bool:
    """Does prose ("drops by 2.7") agree with the table (92.2 and 89.5), given rounding?"""
    return abs(abs(a - b) - claimed) <= 1e-9 + 10**-DECIMALS / 2


CHECKS = (granularity, accuracy_is_mean_of_classes, accuracy_is_recall, f1_is_bounded, offsets_agree)


def audit(table: pd.DataFrame, repeats: int = 1) -> pd.DataFrame:
    """All checks on all rows, if each number is the average of so many runs: one line a finding."""
    findings = [*granularity(table, repeats=repeats), *(each for check in CHECKS[1:] for each in check(table))]
    return pd.DataFrame(map(asdict, findings))


def impossible(table: pd.DataFrame, repeats: int = 1) -> pd.DataFrame:
    """Booleans in the shape of `table`: the cells that some check rules out."""
    marks = pd.DataFrame(False, index=table.index, columns=table.columns)
    findings = audit(table, repeats)
    for finding in findings[~findings["possible"]].itertuples():
        marks.loc[finding.row, finding.column] = True
    return marks
