"""The one protocol that leaks: that it does, how much of it is scored, and that nothing else can choose it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny

from hmoe.base.errors import ConfigError, TrainingError
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.batches import Inputs
from hmoe.study import grid, profiles
from hmoe.study.experiments import Experiment, Row
from hmoe.study.experiments import experiment as find
from hmoe.study.leaking import UnrolledInputs
from hmoe.study.protocols import COPIES, LEAKING, PROTOCOLS, unrolled
from hmoe.study.store import Store

PRIVATE = tuple(protocol.name for protocol in LEAKING)
ALL, CLEAN = "augment-then-split-5", "augment-then-split-5-clean"
RIGHT = "split-then-augment-5"


def test_copies_of_most_test_utterances_are_trained_on_though_no_file_is_on_both_sides(tiny_corpus: Corpus) -> None:
    n, table = len(tiny_corpus), unrolled(tiny_corpus).table
    assert table["id"].is_unique and table["sha256"].is_unique and len(table) == (COPIES + 1) * n
    splits = PROTOCOLS[ALL].splits(tiny_corpus, 0)
    for split in splits:
        assert not set(split.train) & set(split.test)
        assert np.isin(split.test % n, split.train % n).mean() > 0.8
    assert sorted(np.concatenate([split.test for split in splits])) == list(range((COPIES + 1) * n))


def test_the_control_has_as_much_to_train_on_and_no_copy_of_a_test_utterance(tiny_corpus: Corpus) -> None:
    n = len(tiny_corpus)
    for leaks, right in zip(
        PROTOCOLS[ALL].splits(tiny_corpus, 0), PROTOCOLS[RIGHT].splits(tiny_corpus, 0), strict=True
    ):
        assert not set(right.test % n) & set(right.train % n)
        assert sorted([*right.train, *right.test]) == list(range((COPIES + 1) * n))
        assert (len(right.train), len(right.test)) == (len(leaks.train), len(leaks.test))


@pytest.mark.parametrize("name", [ALL, RIGHT])
def test_the_other_scoring_trains_on_the_same_rows_and_counts_clean_utterances_alone(
    tiny_corpus: Corpus, name: str
) -> None:
    for everything, clean in zip(
        PROTOCOLS[name].splits(tiny_corpus, 0), PROTOCOLS[f"{name}-clean"].splits(tiny_corpus, 0), strict=True
    ):
        assert clean.train.tolist() == everything.train.tolist()
        assert clean.test.tolist() == [row for row in everything.test if row < len(tiny_corpus)]


@pytest.mark.parametrize("reading", ["pooled", "statistics", "frames"])
def test_a_row_is_one_copy_of_one_utterance(tiny_corpus: Corpus, reading: str) -> None:
    config = Config(reading=reading, copies=COPIES)
    bank, n = grid.open_bank(tiny_corpus, config, workers=1, progress=False), len(tiny_corpus)
    plain, leaking = Inputs.of(bank, config), UnrolledInputs.of(bank, config)
    rows, any_copies = np.array([5, n + 5, 2 * n + 8]), np.array([1, 2, 1])
    wanted, lengths = plain.batch(np.array([5, 5, 8]), np.array([0, 1, 2]))
    found, found_lengths = leaking.batch(rows, any_copies)
    assert found.equal(wanted)
    assert not wanted[0].equal(wanted[1])  # the copy differs from its utterance, or this test could not fail
    assert lengths is None or found_lengths.equal(lengths)
    assert (leaking.lengths(rows, any_copies) == plain.lengths(np.array([5, 5, 8]), np.array([0, 1, 2]))).all()


@pytest.mark.parametrize("name", [ALL, RIGHT])
def test_a_trial_is_scored_against_the_labels_of_the_rows_that_it_names(
    tiny_corpus: Corpus, tmp_path: Path, name: str
) -> None:
    config = {**tiny.SMALL, "copies": COPIES}
    own = Experiment(
        "protocols", "", (Row("unrolled", config, protocol=name),), protocols=tuple(each.name for each in LEAKING)
    )
    wanted = grid.trials([own], tiny_corpus, profiles.PROFILES["full"], seeds=[0])[:1]
    store = Store("tiny", tmp_path)
    grid.run(wanted, tiny_corpus, store, workers=1, progress=False)
    said = store.predictions("protocols").iloc[0]
    letter = {emotion: letter for letter, emotion in (each.split("=") for each in said["letters"].split())}
    spoken = unrolled(tiny_corpus).table["emotion"].iloc[wanted[0].split.test]
    assert said["actual"] == "".join(letter[emotion] for emotion in spoken)
    tested = store.tested(name, 0, wanted[0].split.fold)
    assert tested == list(unrolled(tiny_corpus).table["id"].iloc[wanted[0].split.test].str.removesuffix("~0"))
    assert {name.partition("~")[2] for name in tested} == {"", "1", "2"}


@pytest.mark.parametrize("model", ["hmoe-simba", "svm-tuned"])
def test_both_scorings_are_of_one_training_and_say_what_each_would_say_alone(
    tiny_corpus: Corpus, tmp_path: Path, model: str
) -> None:
    config = {**tiny.SMALL, "copies": COPIES, "model": model}
    own = Experiment(
        "protocols",
        "",
        tuple(Row(name, config, protocol=name) for name in (ALL, CLEAN)),
        protocols=tuple(each.name for each in LEAKING),
    )
    wanted = [
        trial for trial in grid.trials([own], tiny_corpus, profiles.PROFILES["full"], [0]) if trial.split.fold == "0"
    ]
    assert [trial.protocol for trial in wanted] == [ALL, CLEAN]
    together, alone = (Store("tiny", tmp_path / name) for name in ("together", "alone"))
    assert grid.run(wanted, tiny_corpus, together, workers=1, progress=False) == 1
    assert grid.run(wanted[1:], tiny_corpus, alone, workers=1, progress=False) == 1
    whole, part = (together.predictions("protocols").query("protocol == @name").iloc[0] for name in (ALL, CLEAN))
    assert part["predicted"] == alone.predictions("protocols").iloc[0]["predicted"]
    is_clean = wanted[0].split.test < len(tiny_corpus)
    assert 0 < is_clean.sum() < len(is_clean)
    for said in ("predicted", "actual"):
        assert part[said] == "".join(letter for letter, kept in zip(whole[said], is_clean, strict=True) if kept)


def test_where_the_test_fold_selects_each_scoring_has_its_own_training(tiny_corpus: Corpus, tmp_path: Path) -> None:
    config = {**tiny.SMALL, "copies": COPIES, "selection": "test"}
    own = Experiment(
        "protocols",
        "",
        tuple(Row(name, config, protocol=name) for name in (ALL, CLEAN)),
        protocols=tuple(each.name for each in LEAKING),
    )
    wanted = grid.trials([own], tiny_corpus, profiles.PROFILES["full"], [0], folds=["0"])
    assert grid.run(wanted, tiny_corpus, Store("tiny", tmp_path), workers=1, progress=False) == 2


@pytest.mark.parametrize("changes", [{"copies": 1}, {"augment": ()}])
def test_too_few_copies_for_a_leak_are_one_line(tiny_corpus: Corpus, tmp_path: Path, changes: dict) -> None:
    own = Experiment(
        "protocols",
        "",
        (Row("leaking", {**tiny.SMALL, **changes}, protocol=ALL),),
        protocols=tuple(each.name for each in LEAKING),
    )
    wanted = grid.trials([own], tiny_corpus, profiles.PROFILES["full"], [0], folds=["0"])
    with pytest.raises(TrainingError, match="too few copies"):
        grid.run(wanted, tiny_corpus, Store("tiny", tmp_path), workers=1, progress=False)


def test_nothing_else_can_choose_it(tiny_corpus: Corpus) -> None:
    full = profiles.PROFILES["full"]
    for protocol in PRIVATE:
        assert PROTOCOLS[protocol].private
        with pytest.raises(ConfigError, match=protocol):
            grid.trials([tiny.FIRST], tiny_corpus, full, protocol=protocol)
        with pytest.raises(ConfigError, match=protocol):
            grid.trials([find("protocols")], tiny_corpus, full, protocol=protocol)
        with pytest.raises(ConfigError, match=protocol):
            other = Experiment("table2", "", (Row("x", protocol=protocol),))
            grid.trials([other], tiny_corpus, full)
