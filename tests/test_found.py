"""The front page says what the records say, and nothing of what is not recorded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hmoe import found
from hmoe.experiments import experiment
from hmoe.store import COLUMNS, Store


def write(store: Store, name: str, row: str, accuracies: list[float]) -> None:
    chosen = experiment(name).row(row)
    config = chosen.config()
    for fold, accuracy in enumerate(accuracies):
        record = dict.fromkeys(COLUMNS, accuracy) | {"n_train": 400, "n_test": 100, "best_epoch": 1, "parameters": 1}
        record |= {"experiment": name, "row": row, "reading": config.reading, "protocol": chosen.protocol}
        record |= {"selection": config.selection, "seed": 0, "fold": fold, "config": config.key(), "device": "cpu"}
        record |= {"commit": "0123456789", "machine": "a machine", "date": "2026-01-01T00:00Z"}
        store.append(record, {"letters": "a=x", "predicted": "a", "actual": "a"}, config)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store("casia", tmp_path)
    write(store, "table2", "HMoE-SiMBA", [70, 72, 74, 76, 78])
    write(store, "protocols", "HMoE-SiMBA, nested selection", [70, 72, 74, 76, 78])
    write(store, "protocols", "HMoE-SiMBA, new speaker", [20, 30, 40, 50])
    return store


def test_every_number_is_that_of_the_records(store: Store) -> None:
    said = found.sentences(found.Recorded(store))
    assert any("**74.0 [" in each and "(5 trials)" in each for each in said)
    assert any("+39.0 [" in each and "**35.0 [" in each for each in said)


def test_what_is_not_recorded_is_not_mentioned(store: Store) -> None:
    said = " ".join(found.sentences(found.Recorded(store)))
    assert "frames" not in said
    assert "linear" not in said
    assert "nan" not in said


def test_a_new_voice_given_frames_is_mentioned_once_recorded(store: Store) -> None:
    write(store, "protocols", "HMoE-SiMBA (frames), new speaker", [30, 35, 40, 45])
    (said,) = (each for each in found.sentences(found.Recorded(store)) if "given frames" in each)
    assert "given frames **37.5 [" in said
    assert "on frames, a new voice 37.5" in found.page(store)
    write(store, "protocols", "HMoE-SiMBA (frames), nested selection", [80, 82])  # of five folds
    assert not any("points given frames" in each for each in found.sentences(found.Recorded(store)))
    write(store, "protocols", "HMoE-SiMBA (frames), nested selection", [80, 82, 84, 86, 88])
    (said,) = (each for each in found.sentences(found.Recorded(store)) if "voice is worth" in each)
    assert re.search(r"worth \+39\.0 \[[^]]*\] points \(\+46\.5 \[[^]]*\] points given frames\)", said)


def test_the_best_of_other_readings_is_named_without_those_that_contradict_the_paper(store: Store) -> None:
    write(store, "ambiguities", "Q6: Adam", [71, 72, 74, 76, 78])
    write(store, "ambiguities", "Q4: plain experts", [80, 81, 82, 83, 84])
    write(store, "ambiguities", "300 epochs", [90, 91, 92, 93, 94])
    write(store, "ambiguities", "Q1: three tokens", [95, 96])  # not a whole 5-fold
    letter = found.sentences(found.Recorded(store))[0]
    assert "Of 2 other answers" in letter
    assert "(“Q4: plain experts”) reaches 82.0" in letter


def test_what_simba_is_worth_given_frames_is_said_once_both_rows_are_recorded(store: Store) -> None:
    for row in experiment("table3").rows:
        write(store, "table3", row.name, [70, 72, 74, 76, 78])

    def said() -> str:
        return next(each for each in found.sentences(found.Recorded(store)) if each.startswith("Of Table 3"))

    assert "iven frames" not in said()
    write(store, "table3_frames", "Full model", [80, 82, 84, 86, 88])
    write(store, "table3_frames", "w/o SiMBA", [70, 73, 74, 75, 78])
    assert re.search(r"Given frames, removing SiMBA costs \+10\.0 \[.*\] points \(the paper: 2\.7\)", said())


def test_the_number_to_cite_is_that_of_a_new_voice(store: Store) -> None:
    cited = found.cite(found.Recorded(store))
    assert cited.startswith("Cite **35.0 [")
    assert "commit 0123456789" in cited


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    nothing = Store("casia", tmp_path)
    assert "not recorded yet" in found.cite(found.Recorded(nothing))
    assert "has been recorded yet" in found.page(nothing)


def test_the_figure_shows_each_row_that_is_recorded(store: Store) -> None:
    page = found.page(store)
    label = re.search(r'aria-label="([^"]*)"', page)[1]
    assert "voices known 74.0" in label and "a new voice 35.0" in label
    assert "frames" not in label
    assert np.isfinite([float(x) for x in re.findall(r"known (\d+\.\d)", label)]).all()
