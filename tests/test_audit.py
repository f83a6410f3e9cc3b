"""The audit passes tables that can be, and marks those that cannot."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmoe.study import audit, metrics
from hmoe.study.experiments import METRICS, TABLE_2

EMOTIONS = ("anger", "sadness", "happiness", "neutral", "fear", "surprise")


def printed(y: np.ndarray, y_hat: np.ndarray) -> pd.DataFrame:
    scores = metrics.scores(y, y_hat, EMOTIONS)
    return pd.DataFrame([{name: round(scores[name], 1) for name in METRICS}], index=["real"])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 0.95), st.floats(0.3, 0.95))
def test_a_table_from_real_predictions_passes(seed: int, one: float, other: float) -> None:
    """Two rows, so that there is a step between them; no check marks any cell."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(6), 200)
    said = (np.where(rng.random(1200) < accuracy, y, rng.integers(0, 6, 1200)) for accuracy in (one, other))
    findings = audit.audit(pd.concat([printed(y, y_hat) for y_hat in said]))
    assert set(findings["check"]) == {
        "granularity", "accuracy = mean of classes", "accuracy = recall",
        "F1 ≤ harmonic mean of precision and recall", "step from the row above",
    }  # fmt: skip
    assert findings["possible"].all(), findings[~findings["possible"]]


@pytest.mark.parametrize(
    ("column", "change", "check"),
    [
        ("acc_fear", 0.2, "granularity"),
        ("accuracy", 1.0, "accuracy = mean of classes"),
        ("recall", 0.4, "accuracy = recall"),
        ("f1", 0.5, "F1 ≤ harmonic mean of precision and recall"),
    ],
)
def test_one_wrong_cell_is_marked(column: str, change: float, check: str) -> None:
    y = np.repeat(np.arange(6), 200)
    y_hat = y.copy()
    y_hat[::7] = (y[::7] + 1) % 6
    table = printed(y, y_hat)
    table.loc["real", column] += change
    findings = audit.audit(table).query("not possible")
    assert check in set(findings["check"])
    assert audit.impossible(table).loc["real", column]


@pytest.mark.parametrize(("f1", "possible"), [(30.0, True), (48.0, True), (48.1, True), (48.2, False)])
def test_f1_lies_anywhere_below_the_harmonic_mean_of_precision_and_recall(f1: float, possible: bool) -> None:
    """The smaller of the two is no bound, and 48.0 has the slack of three rounded numbers."""
    table = pd.DataFrame([{"precision": 60.0, "recall": 40.0, "f1": f1}], index=["a"])
    assert [finding.possible for finding in audit.f1_is_bounded(table)] == [possible]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_f1_averaged_over_classes_and_runs_keeps_below_the_bound(seed: int) -> None:
    """Whatever the confusions: here a few utterances a class, and classes that are told apart unequally well."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(6), 5)
    wrong, known = rng.dirichlet(np.ones(6)), rng.random(6)
    runs = [np.where(rng.random(30) < known[y], y, rng.choice(6, 30, p=wrong)) for _ in "ab"]
    table = pd.concat([pd.DataFrame([metrics.scores(y, y_hat, EMOTIONS)]) for y_hat in runs])
    mean = table.mean().to_frame().T
    assert all(finding.possible for finding in audit.f1_is_bounded(pd.concat([table, mean])))


def test_a_step_that_the_classes_do_not_take_is_marked() -> None:
    table = pd.DataFrame(
        [[80.0] * 6 + [80.0] * 4, [81.0] * 6 + [83.0, 81.0, 81.0, 81.0]], index=["a", "b"], columns=list(METRICS)
    )
    findings = audit.audit(table)
    step = findings[findings["check"] == "step from the row above"]
    assert list(step["possible"]) == [False]


def test_equal_offsets_are_counted() -> None:
    table = pd.DataFrame(
        [[0.0] * 6 + [a, a - 0.2, a + 0.1, a - 0.1] for a in (80.0, 85.0)] + [[0.0] * 6 + [70.0, 71.0, 70.0, 70.5]],
        index=list("abc"), columns=list(METRICS),
    )  # fmt: skip
    assert list(audit.repeated_offsets(table)["shared_by"]) == [2, 2, 1]


def test_prose_against_table() -> None:
    assert audit.difference(2.7, 92.2, 89.5)
    assert not audit.difference(2.8, 92.2, 89.5)


def test_the_papers_own_row_has_cells_that_cannot_be() -> None:
    paper = pd.DataFrame([TABLE_2.row("HMoE-SiMBA").paper], index=["HMoE-SiMBA"])
    assert audit.impossible(paper).loc["HMoE-SiMBA", "acc_anger"]  # 90.4 is no multiple of 0.5
    assert audit.impossible(paper).loc["HMoE-SiMBA", "accuracy"]  # the classes average 91.35


def test_an_average_of_runs_makes_class_accuracies_possible_and_nothing_else() -> None:
    """A fifth of half a percent is a tenth, so every printed class accuracy can be one; sums stay what they are."""
    table = pd.DataFrame([row.paper for row in TABLE_2.rows if len(row.paper) == len(METRICS)], columns=list(METRICS))
    once, five = audit.impossible(table), audit.impossible(table, repeats=5)
    classes = audit.class_columns(table)
    assert once[classes].any(axis=None) and not five[classes].any(axis=None)
    assert once.drop(columns=classes).equals(five.drop(columns=classes)) and five.any(axis=None)
