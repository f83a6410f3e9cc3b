"""The front page says what the records say, and nothing of what is not recorded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from records import write

from hmoe.study.claims import Records
from hmoe.study.experiments import TABLE_3
from hmoe.study.report import RowReport
from hmoe.study.robustness import CONDITIONS
from hmoe.study.store import Store
from hmoe_book import build as book
from hmoe_book import front_page as found
from hmoe_book import pages


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store("casia", tmp_path)
    folds = {"id": [f"{k:03}" for k in range(500)], "speaker": [str(k % 4) for k in range(500)]}
    folds |= {f"stratified-5.{seed}": [str(k // 100) for k in range(500)] for seed in range(3)}
    store.introduce(pd.DataFrame(folds | {"speaker.0": folds["speaker"]}).set_index("id"))
    for seed in range(3):
        write(store, "figure2", "D_state = 64", [80 + seed] * 5, seed)  # says how far partitions move a number
        write(store, "figure2", "D_state = 128", [80] * 5, seed)
    write(store, "table2", "HMoE-SiMBA", [70, 72, 74, 76, 78])
    write(store, "protocols", "HMoE-SiMBA, nested selection", [70, 72, 74, 76, 78])
    write(store, "protocols", "HMoE-SiMBA, new speaker", [20, 30, 40, 50])
    return store


def test_every_number_is_that_of_the_records(store: Store) -> None:
    said = found.sentences(Records(store))
    assert any("**74.0 [" in each and "(n = 5)" in each for each in said)
    (unseen,) = (each for each in said if "**35.0 (20.0, 30.0, 40.0, 50.0)**" in each)
    assert "(n = 4)" in unseen and "the first is 175 of 500" in unseen


def test_what_is_not_recorded_is_not_mentioned(store: Store) -> None:
    said = " ".join(found.sentences(Records(store)))
    for missing in ("frame-level", "linear", "nan", "gives away", "training step"):
        assert missing not in said


def test_a_leak_is_worth_what_the_same_trials_without_it_lack(store: Store) -> None:
    protocols = {
        "best epoch on the test fold": 75, "last epoch": 73, "augmented before the split, clean copies": 70,
        "augmented after the split, clean copies": 62,
    }  # fmt: skip
    for name, mean in protocols.items():
        assert not any("gives away" in each for each in found.sentences(Records(store)))
        write(store, "protocols", f"HMoE-SiMBA, {name}", [mean + k for k in (-4, -2, 0, 2, 4)])
    write(store, "protocols", "SVM, augmented before the split, clean copies", [90, 91, 92, 93, 94])
    (said,) = (each for each in found.sentences(Records(store)) if "gives away" in each)
    assert "machine reaches 92.0 [" in said
    worth = re.findall(r"([+−]\d+\.\d) [\[(]", said)
    assert worth == ["+2.0", "+8.0", "+39.0"]  # 74 against 35


def test_a_new_voice_given_frames_is_mentioned_once_recorded(store: Store) -> None:
    write(store, "protocols", "HMoE-SiMBA (frames), new speaker", [30, 35, 40, 45])
    (said,) = (each for each in found.sentences(Records(store)) if "unseen speaker the model" in each)
    assert "frame-level input **37.5 (" in said
    assert "on frames, a new voice 37.5" in found.page(Records(store))


def test_the_best_way_with_unseen_speakers_is_chosen_on_the_other_three(store: Store) -> None:
    write(store, "speakers", "linear", [80, 35, 40, 45])
    write(store, "speakers", "both, own scale", [50, 55, 40, 65])
    write(store, "speakers", "both, own scale, balanced", [70, 75, 80, 85])  # is told what nobody knows
    write(store, "speakers", "prosody", [90, 95])  # not all speakers
    (said,) = (each for each in found.sentences(Records(store)) if "ways of chapter 20" in each)
    # Without speaker 0 "both" is better, without any other "linear", or both are equal and "linear" stands first.
    assert "of the 2 ways" in said and "(50.0, " in said and "55.0 (" not in said


def test_two_folds_of_five_say_nothing(store: Store) -> None:
    for row in TABLE_3.rows:
        write(store, "table3", row.name, [70, 72])
    for condition in CONDITIONS:
        write(store, "robustness", f"HMoE-SiMBA, {condition}", [70, 72])
    write(store, "table2", "HMoE-SiMBA (frames)", [70, 72])
    write(store, "protocols", "HMoE-SiMBA (frames), new speaker", [70, 72])
    said = " ".join([*found.sentences(Records(store)), found.cite(Records(store))])
    for each in ("removal", "disturb", "frame-level", "the sequence of frames"):
        assert each not in said


def test_conditions_that_cost_half_are_counted_for_every_model_that_was_heard_in_all(store: Store) -> None:
    means = {"HMoE-SiMBA": (70, 40), "SVM": (60, 20), "CNN+Bi-GRU": (60, 60)}  # clean, and in noise
    for model, (clean, noisy) in means.items():
        for condition in list(CONDITIONS)[:-1] if model == "CNN+Bi-GRU" else CONDITIONS:
            mean = {"white": noisy, "pink": noisy / 2}.get(condition.split()[0], clean)
            spread = 9 if condition.startswith("pink") else 1  # half of 70 over chance is 43.3; fold by fold, ± spread
            write(store, "robustness", f"{model}, {condition}", [mean + spread * k for k in (-1, -0.5, 0, 0.5, 1)])
    (said,) = (each for each in found.sentences(Records(store)) if "disturb" in each)
    assert (
        f"10 of {len(CONDITIONS) - 1} ways" in said
        and "5 of them by more than chance explains (of the others: SVM 10)." in said
    )


def test_what_simba_is_worth_given_frames_is_said_once_both_rows_are_recorded(store: Store) -> None:
    for row in TABLE_3.rows:
        write(store, "table3", row.name, [70, 72, 74, 76, 78])

    def said() -> str:
        return next(each for each in found.sentences(Records(store)) if "whose removal" in each)

    assert "0 cost more than chance explains, and none of the others more than" in said()
    assert "frame-level" not in said()
    write(store, "table3_frames", "Full model", [80, 82, 84, 86, 88])
    write(store, "table3_frames", "w/o SiMBA", [70, 73, 74, 75, 78])
    assert re.search(r"; with frame-level input SiMBA is worth \+10\.0 \[.*\] points\.", said())


def test_a_reader_is_led_to_every_file_that_a_sentence_reads() -> None:
    class Watched(Records):
        def __getitem__(self, key: tuple[str, str]) -> RowReport:
            asked.add(key[0])
            return super().__getitem__(key)

    asked = {"speakers"}  # of which all rows are read
    records = Watched(Store(pages.RECORDED, book.PROJECT / "results"))
    found.sentences(records)
    page = found.page(records)
    assert asked <= set(found.READ)  # all of them, once everything is recorded
    for name in ("casia/" + name for name in asked):
        assert f"</results/{name}.csv>" in page
    assert "</results/bench/cost-length.csv>" in page


def test_ten_sentences_each_of_one_thought() -> None:
    """Of the project's own records: at most ten, none of them two, few enough numbers to be read."""
    said = found.sentences(Records(Store(pages.RECORDED, book.PROJECT / "results")))
    assert 5 <= len(said) <= 10
    for each in said:
        assert re.findall(r"[.!?](?=\s|$)", each) == ["."] and each.endswith(".")
        assert each.count("[") <= 4 and len(each.split()) <= 65
    assert sum(len(each.split()) for each in said) <= 460  # one screen, the figure apart


def test_what_to_cite_is_a_pair_of_seen_and_unseen_speakers(store: Store) -> None:
    cited = found.cite(Records(store))
    assert "**74.0 [" in cited and "**35.0 (20.0, 30.0, 40.0, 50.0) %**" in cited and cited.count("**") == 4
    assert "commit 0123456789" in cited


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    nothing = Store("casia", tmp_path)
    assert "not recorded yet" in found.cite(Records(nothing))
    assert "has been recorded yet" in found.page(Records(nothing))


def test_the_figure_shows_each_row_that_is_recorded(store: Store) -> None:
    page = found.page(Records(store))
    label = re.search(r'aria-label="([^"]*)"', page)[1]
    assert "voices known 74.0" in label and "a new voice 35.0" in label
    assert "frames" not in label
    assert np.isfinite([float(x) for x in re.findall(r"known (\d+\.\d)", label)]).all()
