"""A printed table of results against arithmetic: which of its numbers can the experiment, as described, give?

No audio, no training. Each check names what it assumes. A failed check is a cell that cannot be *if* the assumptions
hold, so what it shows is that they cannot all hold, and never which of them is wrong.

A table is a `DataFrame` in percent: rows by model, columns by our metric names (`accuracy`, `recall`, `precision`,
`f1`, `uar`; `acc_<class>`, and where a paper has them `precision_<class>`, `f1_<class>`). A cell may be empty (NaN).
`printed_table.read` makes one of a CSV file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

OVERALL = ["precision", "recall", "f1"]
EPSILON = 1e-9  # percent: what binary fractions add to a decimal
MOST_RUNS = 20  # of which a number is tried as the average
UNSTRATIFIED = 3.29  # standard deviations: what folds drawn at random exceed once in a thousand tables


@dataclass(frozen=True)
class Design:
    """What a table is assumed to report. `per_class` are the test items of each class, over all folds of one run;
    empty: unknown. `decimals` are those of a percentage, for all rows or by row."""

    per_class: Mapping[str, int] = field(default_factory=dict)
    folds: int = 1  # 1: a single test set
    runs: int = 1  # each number is the average of so many
    decimals: int | Mapping[str, int] = 1
    average: Literal["macro", "weighted", "binary"] = "macro"  # of precision, recall and F1; binary: of the first class
    truncated: bool = False  # digits may have been cut off instead of rounded

    def ends(self, value: float, row: str) -> tuple[float, float]:
        """The lowest and the highest number that is printed as `value`."""
        unit = 10.0 ** -(self.decimals if isinstance(self.decimals, int) else self.decimals[row])
        return value - unit / 2 - EPSILON, value + unit * (1 if self.truncated else 0.5) + EPSILON

    def counts(self, classes: pd.Series) -> list[int]:
        """The items of the classes whose accuracies these are; 0 where unknown."""
        return [self.per_class.get(column.removeprefix("acc_"), 0) for column in classes.index]

    @property
    def items(self) -> int:
        return sum(self.per_class.values())

    @property
    def balanced(self) -> bool:
        return len(set(self.per_class.values())) == 1


CASIA = Design(dict.fromkeys(("anger", "sadness", "happiness", "neutral", "fear", "surprise"), 200), folds=5)
"""What the paper says of its Table 2: 5 folds over 200 utterances of each emotion, once, printed to a tenth."""


@dataclass(frozen=True)
class Finding:
    """One cell, one check. `expected` says what could have stood there.

    What else could explain a cell that cannot be: `runs` is the smallest number of runs of which it can be the average
    (0: of none), `folds` says that folds drawn without regard to class could be it, `cut` that digits were cut off.
    """

    check: str
    row: str
    column: str
    printed: float
    expected: str
    possible: bool
    runs: int = 0
    folds: bool = False
    cut: bool = False


Check = Callable[[pd.DataFrame, Design], Iterator[Finding]]


def check(name: str, assumes: str) -> Callable[[Check], Check]:
    """Marks a function as a check, with its name and its assumptions in words."""

    def mark(function: Check) -> Check:
        function.name, function.assumes = name, assumes  # type: ignore[attr-defined]
        return function

    return mark


@check("granularity", "every item is tested once in each run; numbers are pooled, or averaged over folds of equal size")
def granularity(table: pd.DataFrame, design: Design) -> Iterator[Finding]:
    """The GRIM test (Brown and Heathers 2017): an accuracy is k / n. On 200 items it is a multiple of 0.5 %."""
    cut_off = replace(design, truncated=True)
    known = {f"acc_{name}": n for name, n in design.per_class.items()} | {"accuracy": design.items}
    if design.average == "weighted":
        known["recall"] = design.items  # which is the accuracy
    for column in table.columns.intersection([name for name, n in known.items() if n]):
        n, step = known[column], 100 / (known[column] * design.runs)
        for row, printed in table[column].dropna().items():
            ends = design.ends(printed, row)
            possible = _reachable(n, *ends, design.folds, design.runs)
            more = (runs for runs in range(design.runs + 1, MOST_RUNS + 1) if _reachable(n, *ends, design.folds, runs))
            expected = f"{step * math.floor(printed / step):.2f} or {step * math.ceil(printed / step):.2f}"
            cut = not possible and _reachable(n, *cut_off.ends(printed, row), design.folds, design.runs)
            runs = 0 if possible else next(more, 0)
            yield Finding("granularity", row, column, printed, expected, possible, runs, cut=cut)


def _reachable(n: int, low: float, high: float, folds: int, runs: int) -> bool:
    """Can a share of `n` items, in percent, lie between the ends? Pooled, or averaged over folds as equal as can be."""
    total = n * runs
    if math.ceil(low * total / 100) <= math.floor(high * total / 100):
        return True
    small, larger = divmod(n, folds)
    if not larger:
        return False  # folds of one size: the average is the pooled number
    if not small:
        return True  # some fold has no item at all, and nobody knows what was done about it
    a = np.arange(small * (folds - larger) * runs + 1) / small  # recognised in the smaller folds, each by its size
    least, most = ((end * folds * runs / 100 - a) * (small + 1) for end in (low, high))
    fits = np.maximum(np.ceil(least), 0) <= np.minimum(np.floor(most), (small + 1) * larger * runs)
    return bool(fits.any())


@check("accuracy = mean of classes", "the classes have the items given, and each fold has them in the same proportions")
def accuracy_is_mean_of_classes(table: pd.DataFrame, design: Design) -> Iterator[Finding]:
    """Accuracy is the mean of the class accuracies, each weighted by its items: all alike where classes are balanced.

    Where the items of the classes are not known, it lies between the lowest and the highest class accuracy.
    """
    for row, classes, values in _whole_rows(table):
        counts, ends = design.counts(classes), _ends(classes, design)
        if all(counts):
            low, high = np.average(_exact(ends, counts, design), axis=0, weights=counts)
            expected = f"{np.average(classes, weights=counts):.2f}"
        else:
            low, high = ends[:, 0].min(), ends[:, 1].max()
            expected = f"{classes.min():g} to {classes.max():g}"
        for column in ["accuracy"] + ["recall"] * (design.average == "weighted"):
            if column in values:
                gap = _gap((low, high), design.ends(values[column], row))
                folds = 0 < gap <= _unstratified(classes, design)
                yield Finding("accuracy = mean of classes", row, column, values[column], expected, gap <= 0, 0, folds)


@check("macro recall = mean of classes", "both are pooled, or both are averaged over the same folds")
def recall_is_mean_of_classes(table: pd.DataFrame, design: Design) -> Iterator[Finding]:
    """Macro recall, also called unweighted average recall or balanced accuracy, is the mean of the class accuracies,
    whatever the sizes of the classes: the recall of a class is its accuracy."""
    for row, classes, values in _whole_rows(table):
        ends, expected = _ends(classes, design).mean(axis=0), f"{classes.mean():.2f}"
        for column in ["uar"] + ["recall"] * (design.average == "macro"):
            if column in values:
                gap = _gap(ends, design.ends(values[column], row))
                folds = 0 < gap <= _unstratified(classes, design)
                yield Finding(
                    "macro recall = mean of classes", row, column, values[column], expected, gap <= 0, 0, folds
                )


@check("recall = accuracy", "all classes have equally many items (macro), or each counts by its items (weighted)")
def accuracy_is_recall(table: pd.DataFrame, design: Design) -> Iterator[Finding]:
    """On a balanced test set macro recall is the accuracy; on any test set weighted recall is."""
    if not {"accuracy", "recall"} <= set(table.columns):
        return
    if design.average == "binary" or (design.average == "macro" and not design.balanced):
        return
    for row, values in table.dropna(subset=["accuracy", "recall"]).iterrows():
        gap = _gap(*(design.ends(values[column], row) for column in ("accuracy", "recall")))
        folds = 0 < gap <= _unstratified(values[class_columns(table)].dropna(), design)
        yield Finding(
            "recall = accuracy", row, "recall", values["recall"], f"{values['accuracy']:g}", gap <= 0, 0, folds
        )


@check("F1 ≤ harmonic mean of precision and recall", "all three are averaged alike: over classes, folds, runs")
def f1_is_bounded(table: pd.DataFrame, design: Design) -> Iterator[Finding]:
    """F1 is at most the harmonic mean of precision and recall.

    The harmonic mean is concave, so a mean of harmonic means is at most that of the means (Jensen's inequality). There
    is no lower bound as general: where half of the classes have high precision and low recall and half the opposite,
    macro F1 lies below both. For one class in one test it is no bound but the definition, and F1 is equal to it.
    """
    triples = {"f1": ("precision", "recall")}
    for one in (column.removeprefix("acc_") for column in class_columns(table)):
        triples[f"f1_{one}"] = f"precision_{one}", f"acc_{one}"
    for f1, both in triples.items():
        if not {f1, *both} <= set(table.columns):
            continue
        exact = (f1 != "f1" or design.average == "binary") and design.folds == design.runs == 1
        for row, values in table.dropna(subset=[f1, *both]).iterrows():
            ends = [design.ends(values[column], row) for column in both]
            low, high = (harmonic_mean(*side) for side in zip(*ends, strict=True))
            least, most = design.ends(values[f1], row)
            possible = bool(least <= high and (not exact or most >= low))
            expected = "at most " * (not exact) + f"{harmonic_mean(*values[list(both)]):.2f}"
            yield Finding("F1 ≤ harmonic mean of precision and recall", row, f1, values[f1], expected, possible)


CHECKS = (granularity, accuracy_is_mean_of_classes, recall_is_mean_of_classes, accuracy_is_recall, f1_is_bounded)


def class_columns(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column.startswith("acc_")]


def harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a > 0 and b > 0 else 0.0


def _whole_rows(table: pd.DataFrame) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """Of each row that has all class accuracies: its name, these, and whatever else it has."""
    columns = class_columns(table)
    for row, values in table.dropna(subset=columns).iterrows():
        if columns:
            yield row, values[columns], values.dropna()


def _ends(classes: pd.Series, design: Design) -> np.ndarray:
    """(C, 2) the lowest and the highest number that each class accuracy may stand for."""
    return np.array([design.ends(printed, classes.name) for printed in classes])


def _gap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """How far two intervals lie apart; not positive where they meet."""
    return float(max(one[0] - other[1], other[0] - one[1]))


def _exact(ends: np.ndarray, counts: list[int], design: Design) -> np.ndarray:
    """`ends`, each drawn in to the numbers k / n between them, if there are such: of one run in folds of one size."""
    if design.runs > 1 or any(n % design.folds for n in counts):
        return ends
    n = np.array(counts)
    low, high = 100 * np.ceil(ends[:, 0] * n / 100) / n, 100 * np.floor(ends[:, 1] * n / 100) / n
    drawn = np.stack([low - EPSILON, high + EPSILON], axis=1)
    return np.where((low <= high + EPSILON)[:, None], drawn, ends)


def _unstratified(classes: pd.Series, design: Design) -> float:
    """Points by which folds that are drawn without regard to class may move the mean of the class accuracies.

    A class accuracy averaged over folds then differs from the pooled one, by a deviation of sqrt(p (1 - p) / n) times
    the coefficient of variation of the class's items in a fold (hypergeometric).
    """
    counts = design.counts(classes)
    if design.folds == 1 or not counts or not all(counts):
        return 0.0
    n, p = np.array(counts), classes.to_numpy(float) / 100
    varied = (design.folds - 1) / n * (1 - n / n.sum())
    deviations = np.sqrt(p * (1 - p) / n * varied) * n / n.sum()
    return float(100 * UNSTRATIFIED * np.sqrt((deviations**2).sum()))


def audit(table: pd.DataFrame, design: Design = CASIA) -> pd.DataFrame:
    """All checks that the columns of a table allow, on all rows: one line a finding."""
    findings = [asdict(finding) for check in CHECKS for finding in check(table, design)]
    return pd.DataFrame(findings, columns=list(Finding.__dataclass_fields__))


def impossible(table: pd.DataFrame, design: Design = CASIA) -> pd.DataFrame:
    """Booleans in the shape of `table`: the cells that some check rules out."""
    return marks(table, audit(table, design))


def marks(table: pd.DataFrame, findings: pd.DataFrame) -> pd.DataFrame:
    result = pd.DataFrame(False, index=table.index, columns=table.columns)
    for finding in findings[~findings["possible"].astype(bool)].itertuples():
        result.loc[finding.row, finding.column] = True
    return result


def by_check(findings: pd.DataFrame) -> pd.DataFrame:
    """A line a check: how many cells it could look at, how many cannot be, what else could explain those."""
    lines = []
    for one in CHECKS:
        own = findings[findings["check"] == one.name]
        bad = own[~own["possible"].astype(bool)]
        lines.append(
            {
                "check": one.name,
                "cells": len(own),
                "impossible": len(bad),
                "averages of runs could explain": int((bad["runs"] > 0).sum()),
                "unstratified folds could explain": int(bad["folds"].sum()),
                "digits cut off could explain": int(bad["cut"].sum()),
                "assumes": one.assumes,
            }
        )
    return pd.DataFrame(lines).set_index("check")


def summary(table: pd.DataFrame, findings: pd.DataFrame) -> dict[str, Any]:
    """The counts of a table: `cells` that some check could look at, those that are `impossible`, `rows` concerned."""
    marked = marks(table, findings)
    seen = findings[["row", "column"]].drop_duplicates()
    bad = findings[~findings["possible"].astype(bool)]
    explained = bad.assign(may=(bad["runs"] > 0) | bad["folds"] | bad["cut"]).groupby(["row", "column"])["may"].all()
    return {
        "cells": int(table.notna().to_numpy().sum()),
        "checked": len(seen),
        "impossible": int(marked.to_numpy().sum()),
        "rows": int(marked.any(axis=1).sum()),
        "unexplained": int((~explained).sum()),
    }


def repeated_offsets(table: pd.DataFrame, decimals: int = 1) -> pd.DataFrame:
    """Precision, recall and F1 minus accuracy, and how many rows share the same triple. (rows) x (3 + 1).

    Nothing forbids one coincidence; independent classifiers have no reason to share all three differences.
    """
    offsets = table[OVERALL].sub(table["accuracy"], axis=0).round(decimals)
    triples = offsets.apply(tuple, axis=1)
    return offsets.assign(shared_by=triples.map(triples.value_counts()))


def difference(claimed: float, a: float, b: float, decimals: int = 1) -> bool:
    """Does prose ("drops by 2.7") agree with the table (92.2 and 89.5), given rounding?"""
    return abs(abs(a - b) - claimed) <= EPSILON + 10**-decimals / 2
