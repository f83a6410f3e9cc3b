"""Verdicts and p values are computed from the records, of the row's own configuration and protocol."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hmoe.base.errors import ConfigError
from hmoe.study import report
from hmoe.study.experiments import EXPERIMENTS, METRICS, Experiment, Row, experiment
from hmoe.study.metrics import difference, holm, interval
from hmoe.study.store import COLUMNS, Store

FULL = Row("full", {}, {"accuracy": 82.0})
CUT = Row("cut", {"simba": False}, {"accuracy": 70.0})
POOR = Row("poor", {"d_state": 1}, {})
TABLE = Experiment("table", "A table", (FULL, CUT, POOR, Row("never run", {"d_state": 2})), "full")

ACCURACIES = {"full": [80, 84, 82, 86, 83], "cut": [79, 82, 82, 83, 81], "poor": [60, 61, 59, 62, 58]}
N = 100  # test utterances a fold, against 400


def write(
    store: Store, row: Row, accuracies: list[float], date: str = "2026-01-01T00:00Z", seed: int = 0, **other: object
) -> None:
    config = row.config(**other.pop("changes", {}))
    for fold, accuracy in enumerate(accuracies):
        record = dict.fromkeys(COLUMNS, accuracy) | {"n_train": 4 * N, "n_test": N, "best_epoch": 1, "parameters": 1}
        record |= {"experiment": "table", "row": row.name, "reading": "pooled", "protocol": "stratified-5"}
        record |= {"selection": "nested", "seed": seed, "fold": fold, "config": config.key(), "device": "cpu"}
        record |= {"commit": "0123456789", "machine": "a machine", "date": date, **other}
        predicted = "a" * int(accuracy) + "b" * (N - int(accuracy))
        store.append(record, {"letters": "a=x b=y", "predicted": predicted, "actual": "a" * N}, config)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store("c", tmp_path)
    for row in (FULL, CUT, POOR):
        write(store, row, ACCURACIES[row.name])
    return store


def test_rows_stand_in_the_papers_order_with_their_intervals(store: Store) -> None:
    found = report.rows(store, TABLE)
    assert [row.name for row in found] == ["full", "cut", "poor"]
    for row in found:
        assert row.accuracy == interval(np.array(ACCURACIES[row.name]), N / (4 * N))
        assert set(row.estimates) == {*METRICS, "uar"}


def test_an_interval_of_percentages_stays_between_0_and_100(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    write(store, FULL, [2, 98])
    (full,) = report.rows(store, TABLE)
    assert (full.accuracy.low, full.accuracy.mean, full.accuracy.high) == (0, 50, 100)


def test_a_verdict_says_whether_the_papers_number_lies_in_our_interval(store: Store) -> None:
    full, cut, poor = report.rows(store, TABLE)
    assert full.accuracy.holds(82.0)
    assert full.verdict.startswith("reproduced: ")
    assert not cut.accuracy.holds(70.0)
    assert cut.verdict == "not reproduced: the paper is 11.4 points below our mean"
    assert poor.verdict == "no number in the paper"


def test_one_trial_judges_nothing(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    write(store, FULL, [80])
    (full,) = report.rows(store, TABLE)
    assert math.isnan(full.accuracy.low)
    assert "one trial" in full.verdict
    assert "reproduced" not in full.verdict
    assert "+2.0" in full.verdict


def test_p_values_are_of_the_differences_fold_by_fold_corrected_for_their_number(store: Store) -> None:
    full, cut, poor = report.rows(store, TABLE)
    assert math.isnan(full.p_value)  # the reference itself
    raw = []
    for name in ("cut", "poor"):
        difference = np.subtract(ACCURACIES[name], ACCURACIES["full"])
        t = difference.mean() / math.sqrt((1 / 5 + 1 / 4) * difference.var(ddof=1))
        raw.append(2 * stats.t.sf(abs(t), 4))
    assert [cut.p_value, poor.p_value] == pytest.approx(list(holm(np.array(raw))))


def test_mcnemar_counts_the_utterances_of_all_folds_of_a_seed(store: Store) -> None:
    _, cut, poor = report.rows(store, TABLE)
    lost = [sum(np.subtract(ACCURACIES["full"], ACCURACIES[name])) for name in ("cut", "poor")]  # and none won
    raw = [stats.binomtest(0, int(n)).pvalue for n in lost]
    assert [cut.mcnemar, poor.mcnemar] == pytest.approx(list(holm(np.array(raw))))


def test_over_seeds_mcnemar_is_twice_the_median(store: Store) -> None:
    for name, row in (("full", FULL), ("cut", CUT), ("poor", POOR)):
        write(store, row, [value - 5 * (name == "cut") for value in ACCURACIES[name]], seed=1)
    _, cut, _ = report.rows(store, TABLE)
    lost = sum(np.subtract(ACCURACIES["full"], ACCURACIES["cut"]))
    p_values = [stats.binomtest(0, int(n)).pvalue for n in (lost, lost + 25)]
    assert cut.mcnemar == pytest.approx(2 * np.median(p_values))


def test_what_a_row_is_worth_is_counted_fold_by_fold_or_speaker_by_speaker(tmp_path: Path) -> None:
    store, far = Store("c", tmp_path), Row("far", {}, protocol="speaker")
    for row in (FULL, CUT):
        write(store, row, ACCURACIES[row.name])
    write(store, far, [30, 41, 25, 36], protocol="speaker")
    full, cut, voices = report.rows(store, Experiment("table", "", (FULL, CUT, far)))
    assert report.worth(full, cut) == interval(np.array([1, 2, 0, 3, 2]), 0.25)
    # Of the 500 utterances each speaker says 125, a quarter of each fold; the letters of a fold are right up to its
    # accuracy, so that whatever a fold has wrong was said by speaker 3.
    said = pd.DataFrame({"id": [f"{k:03}" for k in range(500)], "speaker": [str(k // 125) for k in range(500)]})
    said["stratified-5.0"] = [str(k % 5) for k in range(500)]
    store.introduce(said.set_index("id"))
    wrong = np.mean(np.subtract(100, ACCURACIES["full"])) * 4
    by_speaker = np.array([100, 100, 100, 100 - wrong]) - [30, 41, 25, 36]
    assert vars(report.worth(full, voices)) == pytest.approx(vars(interval(by_speaker, 0.25)))
    back = report.worth(voices, full)
    assert (back.mean, back.n) == (pytest.approx(-by_speaker.mean()), 4)


def test_what_is_kept_is_counted_from_half_of_the_lead_over_chance_fold_by_fold(store: Store) -> None:
    full, cut, poor = report.rows(store, TABLE)
    half = [(accuracy + 20) / 2 for accuracy in ACCURACIES["full"]]
    for row in (full, cut, poor):
        assert report.above_half(row, full, chance=20) == interval(np.subtract(ACCURACIES[row.name], half), 0.25)


def test_rows_of_other_folds_of_known_voices_are_compared_mean_by_mean(tmp_path: Path) -> None:
    store, words = Store("c", tmp_path), Row("words", {}, protocol="sentence-5")
    write(store, FULL, ACCURACIES["full"])
    write(store, words, [70, 74, 78], protocol="sentence-5")
    full, sentences = report.rows(store, Experiment("table", "", (FULL, words)))
    apart = report.worth(full, sentences)
    assert apart == difference(np.array(ACCURACIES["full"]), 0.25, np.array([70, 74, 78]), 0.25)
    assert (apart.mean, apart.n) == (9, 3)


def test_where_speaker_and_sentence_are_new_each_speaker_counts_once(tmp_path: Path) -> None:
    store, both = Store("c", tmp_path), Row("both", {}, protocol="speaker-sentence")
    by_speaker = {"ann": [30, 40, 50], "bob": [50, 50, 50], "cat": [55, 35, 45]}
    dealt = {"protocol": "speaker-sentence", "n_train": 720, "n_test": 60}  # of 300 utterances a speaker
    for speaker, accuracies in by_speaker.items():
        for k, accuracy in enumerate(accuracies):
            write(store, both, [accuracy], fold=f"{speaker}-{k}", **dealt)
    (found,) = report.rows(store, Experiment("table", "", (both,)))
    wide = interval(np.array([40.0, 50, 45]), 1 / 3)  # 300 utterances are tested by what 900 have taught
    assert (found.accuracy.mean, found.accuracy.n) == (45, 3)
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((wide.low, wide.high))
    better = Row("better", {"d_state": 2}, protocol="speaker-sentence")
    for speaker, gain in {"ann": 3, "bob": 5, "cat": 7}.items():  # in one fold of the three
        write(store, better, [by_speaker[speaker][1] + gain], fold=f"{speaker}-1", **dealt)
    more, less = report.rows(store, Experiment("table", "", (better, both)))
    assert report.worth(more, less) == interval(np.array([3.0, 5, 7]), 1 / 3)
    assert len(found.trials) == 9 and report.table([found], Experiment("table", "", (both,)))["trials"].item() == 9


def test_seeds_of_a_left_out_speaker_are_no_new_voices(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    rows = Row("voice", {}, protocol="speaker"), Row("other", {"d_state": 2}, protocol="speaker")
    for seed in range(3):
        for row, accuracies in zip(rows, ([40, 50, 60, 70], [45, 53, 66, 76]), strict=True):
            for speaker, accuracy in zip("abcd", accuracies, strict=True):
                write(store, row, [accuracy], protocol="speaker", fold=speaker, seed=seed, n_train=900, n_test=300)
    table = Experiment("table", "", rows, "voice")
    voice, other = report.rows(store, table)
    assert voice.accuracy == interval(np.array([40.0, 50, 60, 70]), 1 / 3) and len(voice.trials) == 12
    (gain,) = report.differences([voice, other], table, {"other": ["voice"]})
    assert gain.points == interval(np.array([5.0, 3, 6, 6]), 1 / 3)
    assert gain.verdict.word == report.SUPPORTED  # four speakers are all there are
    assert other.p_value == pytest.approx(gain.p_value)


def test_rows_of_another_protocol_do_not_count_as_tests(store: Store) -> None:
    """They cannot be paired with the reference, so Holm's correction is for the two tests that are made."""
    voice = Row("voice", {}, protocol="speaker")
    write(store, voice, [30, 31, 32, 33], protocol="speaker")
    alone = {row.name: row.p_value for row in report.rows(store, TABLE)}
    both = {row.name: row.p_value for row in report.rows(store, Experiment("table", "", (*TABLE.rows, voice), "full"))}
    assert math.isnan(both.pop("voice")) and repr(both) == repr(alone)


def test_a_wide_interval_reproduces_nothing(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    write(store, FULL, [60, 95, 82, 70, 99])
    (found,) = report.rows(store, Experiment("table", "", (FULL,)))
    assert found.accuracy.holds(82.0)
    assert found.judge("accuracy").word == report.UNDECIDED
    assert re.search(r"inside our interval, \d+\.\d points to either side", found.verdict)


def test_four_speakers_are_a_whole_and_four_folds_are_not(tmp_path: Path) -> None:
    store, voice = Store("c", tmp_path), Row("voice", {}, {"accuracy": 92.2}, protocol="speaker")
    write(store, voice, [30, 31, 32, 33], protocol="speaker")
    write(store, FULL, [30, 31, 32, 33])
    voices, folds = report.rows(store, Experiment("table", "", (voice, FULL)))
    assert voices.judge("accuracy").word == report.NOT_REPRODUCED
    assert folds.judge("accuracy").word == report.FEW


def test_only_folds_that_both_rows_have_are_compared(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    write(store, FULL, ACCURACIES["full"])
    write(store, CUT, ACCURACIES["cut"][:3])
    write(store, POOR, [10], seed=5)  # no fold in common
    _, cut, poor = report.rows(store, TABLE)
    difference = np.subtract(ACCURACIES["cut"], ACCURACIES["full"])[:3]
    t = difference.mean() / math.sqrt((1 / 3 + 1 / 4) * difference.var(ddof=1))
    assert cut.p_value == pytest.approx(min(1, 2 * 2 * stats.t.sf(abs(t), 2)))
    assert math.isnan(poor.p_value)
    assert math.isnan(poor.mcnemar)


def test_trials_of_other_protocols_and_of_tried_out_settings_do_not_mix_in(store: Store) -> None:
    before = [(row.accuracy, row.p_value, row.mcnemar) for row in report.rows(store, TABLE)]
    write(store, FULL, [10, 20, 30, 40, 50], date="2027-01-01T00:00Z", protocol="sentence-5")
    write(store, CUT, [10, 20, 30, 40, 50], date="2027-01-01T00:00Z", changes={"epochs": 1})
    after = [(row.accuracy, row.p_value, row.mcnemar) for row in report.rows(store, TABLE)]
    assert repr(after) == repr(before)


def test_a_row_of_which_only_another_configuration_is_recorded_counts_as_not_recorded(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    write(store, FULL, [10, 12], changes={"epochs": 7})
    assert report.rows(store, TABLE) == []
    write(store, FULL, [20, 22], seed=1)
    assert report.rows(store, TABLE)[0].accuracy.mean == 21


def test_provenance_says_where_from_how_many_when_and_on_what(store: Store) -> None:
    write(store, FULL, [81], seed=1, date="2026-02-03T00:00Z", commit="abcdefabcd")
    line = report.provenance(store, TABLE, report.rows(store, TABLE))
    for part in (
        "results/c/table.csv", "stratified-5", "nested", "16 trials", "seeds 0, 1", "100 test utterances a fold",
        "cpu (a machine)", "0123456789, abcdefabcd", "2026-01-01 to 2026-02-03",
    ):  # fmt: skip
        assert part in line
    empty = Experiment("other", "", (FULL,))
    assert report.provenance(store, empty, report.rows(store, empty)) == "other on c: nothing recorded yet"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_configured_and_has_its_reference_among_its_rows(name: str) -> None:
    chosen = experiment(name)
    assert len({row.name for row in chosen.rows}) == len(chosen.rows)
    assert len({(row.config().key(), row.protocol) for row in chosen.rows}) == len(chosen.rows)
    assert chosen.row(chosen.reference).name == chosen.reference
    assert chosen.title
    for row in chosen.rows:
        assert set(row.paper) <= set(METRICS)
        assert all(0 < value < 100 for value in row.paper.values())


def test_the_papers_numbers_are_as_printed() -> None:
    full = experiment("table2").row("HMoE-SiMBA")
    assert [full.paper[metric] for metric in METRICS] == [90.4, 92.3, 90.5, 92.8, 88.7, 93.4, 92.2, 92.0, 92.3, 92.1]
    table_3 = {row.name: row.paper["accuracy"] for row in experiment("table3").rows}
    assert table_3 == {
        "Full model": 92.2, "w/o SiMBA": 89.5, "w/o router": 90.1, "w/o CNN expert": 91.3, "w/o LSTM expert": 91.5,
        "w/o Transformer expert": 91.0, "w/o MFCC": 88.7, "w/o mel": 89.1, "w/o chroma": 91.8,
    }  # fmt: skip


def test_an_unknown_experiment_is_refused_with_the_known() -> None:
    with pytest.raises(ConfigError, match="got 'table9'; known: table2"):
        experiment("table9")
