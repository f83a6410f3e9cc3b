"""Verdicts and p values are computed from the records, of the row's own configuration and protocol."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from records import of_other_emotions

from hmoe.base.errors import ConfigError
from hmoe.study import report
from hmoe.study.experiments import EXPERIMENTS, METRICS, Experiment, Row, experiment
from hmoe.study.metrics import estimate, holm, split_variance
from hmoe.study.report import Word
from hmoe.study.store import COLUMNS, EMOTION_COLUMNS, PREDICTION_COLUMNS, Store

FULL = Row("full", {}, {"accuracy": 82.0})
CUT = Row("cut", {"simba": False}, {"accuracy": 70.0})
POOR = Row("poor", {"d_state": 1}, {})
TABLE = Experiment("table", "A table", (FULL, CUT, POOR, Row("never run", {"d_state": 2})), "full")

ACCURACIES = {"full": [80, 84, 82, 86, 83], "cut": [79, 82, 82, 83, 81], "poor": [60, 61, 59, 62, 58]}
N = 100  # test utterances a fold


def write(
    store: Store, row: Row, accuracies: list[float], date: str = "2026-01-01T00:00Z", seed: int = 0, **other: object
) -> None:
    """A fold for each accuracy: so many of its first utterances are recognised."""
    config, records = row.config(**other.pop("changes", {})), []
    for fold, accuracy in enumerate(accuracies):
        record = dict.fromkeys(COLUMNS, accuracy) | {"n_train": 4 * N, "n_test": N, "best_epoch": 1, "parameters": 1}
        record |= {"experiment": "table", "row": row.name, "reading": "pooled", "protocol": row.protocol}
        record |= {"selection": "nested", "seed": seed, "fold": fold, "config": config.key(), "device": "cpu"}
        record |= {"commit": "0123456789", "machine": "a machine", "date": date, **other}
        predicted = "a" * int(accuracy) + "b" * (N - int(accuracy))
        records.append({"letters": "a=anger b=fear", "predicted": predicted, "actual": "a" * N} | record)
    for folder, columns in ((store.folder, COLUMNS), (store.folder / "predictions", PREDICTION_COLUMNS)):
        path = folder / f"{records[0]['experiment']}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(records, columns=columns).to_csv(path, mode="a", header=not path.exists(), index=False)


def thrice(
    store: Store, row: Row, accuracies: list[float], shifts: tuple[int, ...] = (-1, 0, 1), **other: object
) -> None:
    for seed, shift in enumerate(shifts):
        write(store, row, [accuracy + shift for accuracy in accuracies], seed=seed, **other)


def hits(accuracies: list[float]) -> np.ndarray:
    """What `write` says of each utterance, in percent."""
    return np.concatenate([np.repeat([100.0, 0.0], [int(a), N - int(a)]) for a in accuracies])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store("c", tmp_path)
    for row, shifts in ((FULL, (-1, 0, 1)), (CUT, (2, 0, -2)), (POOR, (1, 0, -1))):
        thrice(store, row, ACCURACIES[row.name], shifts)
    return store


def test_rows_stand_in_the_papers_order_with_intervals_from_utterances_and_partitions(store: Store) -> None:
    found = report.rows(store, TABLE)
    assert [row.name for row in found] == ["full", "cut", "poor"]
    shifts = {"full": (-1, 0, 1), "cut": (2, 0, -2), "poor": (1, 0, -1)}
    for row in found:
        seeds = np.array([hits(np.add(ACCURACIES[row.name], shift)) for shift in shifts[row.name]]).T
        by_hand = estimate(seeds.mean(1), split_variance(seeds.mean(0), math.nan), 15)
        assert (row.accuracy.mean, row.accuracy.low, row.accuracy.n) == pytest.approx((by_hand.mean, by_hand.low, 15))
        assert set(row.estimates) == {*METRICS, "uar"}
    assert report.splits(store).freedom == 6
    assert report.splits(store).deviation() == pytest.approx(math.sqrt((2 + 8 + 2) / 6))


def test_a_row_of_one_seed_takes_the_scatter_of_rows_that_have_three(store: Store, tmp_path: Path) -> None:
    once = Row("once", {"d_state": 2})
    write(store, once, ACCURACIES["full"])
    (found,) = report.rows(store, Experiment("table", "", (once,)))
    units = hits(ACCURACIES["full"])
    assert found.accuracy.error == pytest.approx(math.sqrt(units.var(ddof=1) / 500 + 12 / 6))
    alone = Store("d", tmp_path)
    write(alone, once, ACCURACIES["full"])
    (unknown,) = report.rows(alone, Experiment("table", "", (once,)))
    assert math.isnan(unknown.accuracy.low)  # nothing says how far a partition moves it
    assert unknown.accuracy.mean == found.accuracy.mean


@pytest.mark.parametrize("copies", [0, 1])
def test_utterances_whose_ids_hold_a_tilde_are_not_taken_for_copies_of_one(tmp_path: Path, copies: int) -> None:
    store, protocol = Store("d", tmp_path), "augment-then-split-5" if copies else "stratified-5"
    row, n = Row("once", {"d_state": 2}, protocol=protocol), 5 * N // (copies + 1)
    write(store, row, ACCURACIES["full"])
    dealt = ["/".join([str(k % 5)] * (copies + 1)) for k in range(n)]
    ids = pd.Index([f"anger~{k}" for k in range(n)], name="id")
    store.introduce(pd.DataFrame({f"{protocol}.0": dealt}, index=ids))
    (found,) = report.rows(store, Experiment("table", "", (row,)))
    assert set(found.values["accuracy"].index) == set(ids)


def test_two_folds_have_no_interval(store: Store) -> None:
    pair = Row("pair", {"d_state": 2}, {"accuracy": 80.0})
    write(store, pair, [80, 82])
    (found,) = report.rows(store, Experiment("table", "", (pair,)))
    assert (found.accuracy.mean, found.accuracy.n) == (81, 2) and math.isnan(found.accuracy.low)
    assert found.judge("accuracy").word == Word.CANNOT_TELL


def test_a_partial_seed_does_not_count_beside_a_whole_one(store: Store) -> None:
    write(store, FULL, [10, 10], seed=7)
    assert report.rows(store, TABLE)[0].accuracy.n == 15


def test_a_number_is_reproduced_if_it_is_shown_to_be_near(store: Store) -> None:
    for k in range(8):  # that move little, so that the scatter of all is small enough to show a number near
        thrice(store, Row(f"calm {k}", {"d_state": 10 + k}), ACCURACIES["cut"], (0, 0, 0))
    full, cut, poor = report.rows(store, TABLE)
    near, far, between = (Row("full", {}, {"accuracy": value}) for value in (82.5, 75.0, 81.5))
    words = [
        report.rows(store, Experiment("table", "", (row,)))[0].judge("accuracy").word for row in (near, far, between)
    ]
    assert words == [Word.HOLDS, Word.FAILS, Word.CANNOT_TELL]  # compatible: it may lie 2.5 points apart
    assert cut.judge("accuracy").word == Word.FAILS
    assert poor.verdict == "–" and full.apart().mean == pytest.approx(83 - 82)


def test_a_number_whose_classes_do_not_fit_is_not_reproduced(store: Store) -> None:
    """Covariances of six classes are known here only where rows scatter in all of them."""
    rng = np.random.default_rng(0)
    for k in range(12):
        row = Row(f"row {k}", {"d_state": 3 + k})
        for seed in range(3):
            write(store, row, [80] * 5, seed=seed, **dict(zip(EMOTION_COLUMNS, rng.normal(80, 1, 6), strict=True)))
    classes = dict.fromkeys(EMOTION_COLUMNS, 80.0)
    fits, crooked = ({"accuracy": 80.0, **classes, "acc_anger": anger} for anger in (80.0, 60.0))
    for paper, word in ((fits, Word.HOLDS), (crooked, Word.FAILS)):
        (row,) = report.rows(store, Experiment("table", "", (Row("row 0", {"d_state": 3}, paper),)))
        assert row.judge("accuracy").word == word


def test_no_verdict_on_what_was_guessed_or_trained_too_briefly(store: Store) -> None:
    guessed = Row("full", {}, {"accuracy": 82.0}, guessed=True)
    assert report.rows(store, Experiment("table", "", (guessed,)))[0].judge("accuracy").word is None
    brief = Row("brief", {"epochs": 10, "selection": "nested"}, {"accuracy": 82.0})
    for seed in range(3):
        write(store, brief, ACCURACIES["full"], seed=seed, best_epoch=9)
    table = Experiment("table", "", (FULL, brief))
    full, found = report.rows(store, table)
    assert found.still_falling and found.judge("accuracy").word is None and not full.still_falling
    (over,) = report.differences([full, found], table, {"full": ["brief"]})
    assert over.unjudged and report.order([over]).word is None


def test_differences_from_the_reference_are_paired_by_utterance_with_holms_correction(store: Store) -> None:
    full, cut, poor = report.rows(store, TABLE)
    assert math.isnan(full.p_value)  # the reference itself
    raw = []
    for row, shifts in ((cut, (3, 0, -3)), (poor, (2, 0, -2))):
        lost = np.array(
            [
                hits(np.add(ACCURACIES[row.name], s)) - hits(np.add(ACCURACIES["full"], f))
                for s, f in zip({"cut": (2, 0, -2), "poor": (1, 0, -1)}[row.name], (-1, 0, 1), strict=True)
            ]
        ).T
        by_hand = estimate(lost.mean(1), np.var(shifts, ddof=1) / 3, 15)
        assert (row.against.mean, row.against.low) == pytest.approx((by_hand.mean, by_hand.low))
        raw.append(by_hand.p_value)
    assert [cut.p_value, poor.p_value] == pytest.approx(list(holm(np.array(raw))))


def test_protocols_are_compared_on_the_utterances_that_both_test(tmp_path: Path) -> None:
    store, far, words = (
        Store("c", tmp_path),
        Row("far", {}, protocol="speaker"),
        Row("words", {}, protocol="sentence-5"),
    )
    # Five folds of a hundred utterances; speaker k says every fourth of them.
    said = pd.DataFrame({"id": [f"{k:03}" for k in range(500)], "speaker": ["abcd"[k % 4] for k in range(500)]})
    said["stratified-5.0"] = said["sentence-5.0"] = [str(k // 100) for k in range(500)]
    said["speaker.0"] = said["speaker"]
    store.introduce(
        said.set_index("id").assign(**{f"stratified-5.{k}": said["stratified-5.0"].to_numpy() for k in (1, 2)})
    )
    thrice(store, FULL, ACCURACIES["full"])
    write(store, words, [90, 90, 90, 90, 90])
    for speaker, right in zip("abcd", (20, 40, 60, 80), strict=True):
        said = "a" * (right * 125 // 100) + "b" * (125 - right * 125 // 100)
        write(store, far, [right], fold=speaker, predicted=said, actual="a" * 125)
    full, sentences, unseen = report.rows(store, Experiment("table", "", (FULL, words, far)))
    assert str(unseen.accuracy) == "50.0 (20.0, 40.0, 60.0, 80.0)" and unseen.whole and math.isnan(unseen.accuracy.low)
    more = report.worth(sentences, full)
    units = hits([90] * 5) - np.mean([hits(np.add(ACCURACIES["full"], shift)) for shift in (-1, 0, 1)], axis=0)
    # Two partitions, so two errors of a mean: one seed with the pooled deviation 1, and three.
    assert more.error == pytest.approx(math.sqrt(units.var(ddof=1) / 500 + 1 + 1 / 3))
    lost = report.worth(full, unseen)
    assert set(lost.parts) == set("abcd") and lost.mean == pytest.approx(33)
    assert np.mean(list(lost.parts.values())) == pytest.approx(33) and lost.low > 0
    right, n, p = unseen.above_chance()
    assert (right, n) == (250, 500) and p > 0.4


def test_what_is_kept_is_counted_from_half_of_the_lead_over_chance(store: Store) -> None:
    full, cut, _ = report.rows(store, TABLE)
    kept = report.above_half(cut, full)
    assert kept.mean == pytest.approx(81.4 - (83 + 50) / 2)  # two emotions
    assert kept.low < kept.mean < kept.high


def test_the_best_of_many_rows_is_chosen_by_the_other_speakers(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    rows = [Row(name, {"d_state": k}, protocol="speaker") for k, name in enumerate(("even", "lucky"), 1)]
    for row, accuracies in zip(rows, ([50, 50, 50, 50], [20, 20, 20, 90]), strict=True):
        for speaker, accuracy in zip("abcd", accuracies, strict=True):
            write(store, row, [accuracy], fold=speaker)
    found = report.rows(store, Experiment("table", "", tuple(rows)))
    chosen = report.chosen_by_others(found)
    # For speakers a to c the others prefer "even" (50 against 43.3); for d too, whom "lucky" alone serves.
    assert chosen.parts == {"a": 50, "b": 50, "c": 50, "d": 50}
    assert report.chosen_by_others([]).n == 0


def test_where_speaker_and_sentence_are_unseen_each_speaker_counts_once(tmp_path: Path) -> None:
    store, both = Store("c", tmp_path), Row("both", {}, protocol="speaker-sentence")
    by_speaker = {"ann": [30, 40, 50], "bob": [50, 50, 50], "cat": [55, 35, 45], "Dan": [20]}
    for speaker, accuracies in by_speaker.items():
        for k, accuracy in enumerate(accuracies):
            write(store, both, [accuracy], fold=f"{speaker}-{k}")
    (found,) = report.rows(store, Experiment("table", "", (both,)))
    assert found.accuracy.parts == pytest.approx({"ann": 40, "bob": 50, "cat": 45, "Dan": 20})
    assert list(found.accuracy.parts) == list(by_speaker)
    assert (found.accuracy.mean, found.accuracy.n) == (pytest.approx(38.75), 10)


def test_trials_that_another_experiment_recorded_of_the_same_configuration_are_the_rows_too(store: Store) -> None:
    """Or one quantity would have two numbers."""
    elsewhere = Row("the same", {})
    write(store, elsewhere, [50, 50, 50, 50, 50], seed=3, experiment="other")
    write(store, elsewhere, [1, 1, 1, 1, 1], seed=0, experiment="other")  # recorded here as well: ours count
    (found,) = report.rows(store, Experiment("table", "", (FULL,)))
    assert found.accuracy.n == 20 and found.accuracy.mean == pytest.approx((3 * 83 + 50) / 4)
    assert "other.csv" in report.provenance(store, TABLE, [found])


def test_rows_of_another_protocol_do_not_count_as_tests(store: Store) -> None:
    """They cannot be paired with the reference, so Holm's correction is for the two tests that are made."""
    voice = Row("voice", {}, protocol="speaker")
    for speaker, accuracy in zip("abcd", (30, 31, 32, 33), strict=True):
        write(store, voice, [accuracy], fold=speaker)
    alone = {row.name: row.p_value for row in report.rows(store, TABLE)}
    both = {row.name: row.p_value for row in report.rows(store, Experiment("table", "", (*TABLE.rows, voice), "full"))}
    assert math.isnan(both.pop("voice")) and repr(both) == repr(alone)


def test_an_order_holds_fails_or_cannot_be_told(store: Store) -> None:
    found = report.rows(store, TABLE)

    def word(above: dict[str, list[str]], sized: bool = False, table: Experiment = TABLE) -> Word | None:
        return report.order(report.differences(found, table, above), sized).word

    assert word({"full": ["poor"]}) == Word.HOLDS
    assert word({"poor": ["full"]}) == Word.FAILS
    assert word({"full": ["poor", "cut"]}) == Word.CANNOT_TELL  # 1.6 points are not shown
    assert word({"full": ["poor"], "poor": ["cut"]}) == Word.FAILS
    assert word({"full": ["poor", "never run"]}) == Word.CANNOT_TELL
    assert word({"full": ["cut"]}, sized=True) == Word.FAILS  # the paper's 12 points are excluded
    more = Experiment("table", "", (FULL, CUT, Row("poor", {"d_state": 1}, {"accuracy": 80.0})), "full")
    assert word({"full": ["poor"]}, sized=True, table=more) == Word.HOLDS  # by more than the paper's 2


def test_a_difference_around_zero_says_what_it_excludes(store: Store) -> None:
    (none,) = report.differences(report.rows(store, TABLE), TABLE, {"full": ["cut"]})
    assert none.points.holds(0) and none.bound("loss").startswith(f"no loss above {none.points.high:.1f} points")
    assert f"{none.points.detectable:.1f}" in none.bound()


def test_a_folds_that_only_one_row_has_is_not_compared(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    thrice(store, FULL, ACCURACIES["full"])
    write(store, CUT, ACCURACIES["cut"][:3])
    thrice(store, POOR, [10, 10, 10, 10, 10])
    write(store, Row("never run", {"d_state": 2}), [50, 50, 50, 50, 50], seed=5)  # no partition in common
    _, cut, poor, late = report.rows(store, TABLE)
    assert (cut.against.n, cut.against.mean) == (3, pytest.approx(-1 + 1))  # of seed 0, which is a point below
    assert math.isnan(cut.against.low) and late.against.n == 0 and math.isnan(late.p_value)


def test_trials_of_other_protocols_and_of_tried_out_settings_do_not_mix_in(store: Store) -> None:
    before = [(row.accuracy, row.p_value) for row in report.rows(store, TABLE)]
    write(store, FULL, [10, 20, 30, 40, 50], date="2027-01-01T00:00Z", protocol="sentence-5")
    write(store, CUT, [10, 20, 30, 40, 50], date="2027-01-01T00:00Z", changes={"epochs": 1})
    after = [(row.accuracy, row.p_value) for row in report.rows(store, TABLE)]
    assert repr(after) == repr(before)


def test_a_row_of_which_only_another_configuration_is_recorded_counts_as_not_recorded(tmp_path: Path) -> None:
    store = Store("c", tmp_path)
    write(store, FULL, [10, 12], changes={"epochs": 7})
    assert report.rows(store, TABLE) == []
    write(store, FULL, [20, 22], seed=1)
    assert report.rows(store, TABLE)[0].accuracy.mean == 21


def test_provenance_says_where_from_how_many_when_and_on_what(store: Store) -> None:
    write(store, Row("never run", {"d_state": 2}), ACCURACIES["cut"], date="2026-02-03T00:00Z", commit="abcdefabcd")
    line = report.provenance(store, TABLE, report.rows(store, TABLE))
    for part in (
        str(store.path("table")), "stratified-5", "nested", "50 trials", "seeds 0, 1, 2", "100 test utterances a fold",
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
    with pytest.raises(ConfigError, match="got 'table9'; .*table2"):
        experiment("table9")


def test_a_table_whose_rule_has_changed_is_read_under_one_rule_alone(tmp_path: Path) -> None:
    rows = (Row("full", {}), Row("peer", {"epochs": 300}))
    nested = {"selection": "nested"}
    table = Experiment("table", "A table", rows, "full", {"full": nested, "peer": {**nested, "epochs": 100}})
    store = Store("c", tmp_path)
    for row, accuracy in zip(rows, (80, 70), strict=True):
        write(store, row, [accuracy] * 5, changes=table.earlier[row.name])
    write(store, rows[0], [90] * 5)
    assert [row.accuracy.mean for row in report.rows(store, table)] == [80, 70]
    write(store, rows[1], [75] * 5)
    assert [row.accuracy.mean for row in report.rows(store, table)] == [90, 75]
    (other,) = report.rows(store, table, lambda row: row.config(selection="nested", epochs=100))[1:]
    assert other.accuracy.mean == 70  # who asks for a configuration gets it


def test_the_emotions_of_a_corpus_are_columns_and_those_that_it_lacks_are_not(tmp_path: Path) -> None:
    store, table = Store("emodb", tmp_path), report.without_paper(experiment("table2"))
    of_other_emotions(store, seeds=3)
    found = report.rows(store, table)
    shown = report.table(found, table).set_index("row").loc["HMoE-SiMBA"]
    assert [name for name in shown.index if name.startswith("acc_")] == ["acc_anger", "acc_disgust", "acc_boredom"]
    assert (shown["acc_anger"], shown["acc_disgust"], shown["acc_boredom"], shown["accuracy"]) == (60, 20, 40, 40)
    (row,) = found
    assert row.emotions == ("anger", "disgust", "boredom")
    assert row.estimates["acc_disgust"].low < 20 < row.estimates["acc_disgust"].high
    # Where nothing is recorded, the paper's emotions are shown.
    assert {"acc_fear", "acc_surprise"} <= set(report.table([], table).columns)
