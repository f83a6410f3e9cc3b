"""A row whose loss still falls is told from one that is trained out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_store import CONFIG, SAID, record

from hmoe.study.curves import last_tenth, still_falling
from hmoe.study.store import Store

EPOCHS = np.arange(100)


def written(losses: np.ndarray) -> dict[str, str]:
    return {"loss": " ".join(f"{loss:.4g}" for loss in losses)}


@pytest.mark.parametrize(
    ("loss", "falls"),
    [
        (0.1 + 1.7 * np.exp(-EPOCHS / 15), False),
        (1.8 - 0.015 * EPOCHS, True),
        (np.full(100, 1.8), False),
        (np.array([1.8]), False),
    ],
)
def test_a_loss_that_still_falls_is_told_from_a_flat_one(tmp_path: Path, loss: np.ndarray, falls: bool) -> None:
    store = Store("c", tmp_path)
    for fold in range(3):
        noise = np.random.default_rng(fold).normal(0, 0.01, len(loss))
        store.append(record(fold, selection="last"), SAID, CONFIG, written(loss + noise * (loss[0] > loss[-1])))
    assert still_falling(store, store.read("table")) is falls
    assert (last_tenth(loss) > 0.02) is falls


def test_where_an_epoch_was_chosen_it_may_not_be_one_of_the_last(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    for fold, best in enumerate((95, 99, 40)):
        store.append(record(fold, best_epoch=best), SAID, CONFIG, written(np.exp(-EPOCHS / 15)))
    trials = store.read("table")
    assert still_falling(store, trials) is True
    assert still_falling(store, trials[trials["best_epoch"] < 99]) is False


def test_without_a_curve_nothing_is_said(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    store.append(record(0), SAID, CONFIG)
    assert still_falling(store, store.read("table")) is None
