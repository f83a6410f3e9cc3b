"""The front page says what the records say, and nothing of what is not recorded."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from jinja2 import UndefinedError
from records import write

from hmoe.study.claims import Records
from hmoe.study.experiments import TABLE_3
from hmoe.study.report import RowReport
from hmoe.study.robustness import CONDITIONS
from hmoe.study.store import Store
from hmoe_book import build as book
from hmoe_book import front_page as found
from hmoe_book import pages, prose


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
    write(store, "protocols", "HMoE-SiMBA, unseen speaker", [20, 30, 40, 50])
    return store


def percentages(title: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+(?=\s%)", title)]


def test_every_number_is_that_of_the_records(store: Store) -> None:
    page = found.page(Records(store))
    assert percentages(page.splitlines()[0]) == [found.PAPER, 74.0, 35.0]
    assert " 74.0 [" in page and " 35.0 (20.0, 30.0, 40.0, 50.0) %" in page
    known = found.facts(Records(store))
    assert (known["unseen"]["right"], known["unseen"]["n"], known["unseen"]["guessed"]) == (175, 500, 83)
    assert known["trainings"] == 3 * 5 * 2 + 5 + 5 + 4
    write(store, "baselines", "HMoE-SiMBA", [70, 72, 74, 76, 78])  # what the protocols call nested selection
    assert found.facts(Records(store))["trainings"] == 44


def test_what_is_not_recorded_is_not_mentioned(store: Store) -> None:
    known = found.facts(Records(store))
    assert [name for name in ("svm", "leaks", "tried", "robust", "parts", "cost") if known[name] is not None] == []
    page = found.page(Records(store))
    assert "nan" not in page and "None" not in page


def test_a_row_on_frames_is_counted_also_when_its_table_is_whole(store: Store) -> None:
    before = found.facts(Records(store))["again"]
    for row in TABLE_3.rows:
        write(store, "table3_frames", row.name, [70, 72, 74, 76, 78])
    assert found.facts(Records(store))["again"] == before | {"whole": before["whole"] + len(TABLE_3.rows)}


def test_a_leak_is_worth_what_the_same_trials_without_it_lack(store: Store) -> None:
    protocols = {
        "best epoch on the test fold": 75, "last epoch": 73, "augmented before the split, clean copies": 70,
        "augmented after the split, clean copies": 62,
    }  # fmt: skip
    for name, mean in protocols.items():
        assert found.facts(Records(store))["leaks"] is None
        write(store, "protocols", f"HMoE-SiMBA, {name}", [mean + k for k in (-4, -2, 0, 2, 4)])
    write(store, "protocols", "SVM, augmented after the split, clean copies", [84, 85, 86, 87, 88])
    write(store, "protocols", "SVM, augmented before the split, clean copies", [90, 91, 92, 93, 94])
    known = found.facts(Records(store))
    leaks = known["leaks"]
    assert (round(leaks["epoch"].mean, 1), round(leaks["copies"].mean, 1)) == (2.0, 8.0)
    assert round(leaks["svm"].accuracy.mean) == 92 and round(leaks["svm_copies"].mean) == 6
    bars = {bar.label: (round(bar.left), round(bar.right)) for bar in found.waterfall(known)}
    assert bars.pop("The paper's claim") == (0, 92) and bars.pop("The difference") == (74, 92)
    assert list(bars.values()) == [(0, 74), (73, 75), (62, 70), (35, 74), (0, 35)]  # shortcuts do not add up


def test_frame_level_input_takes_the_place_of_averages_once_it_is_recorded(store: Store) -> None:
    write(store, "protocols", "HMoE-SiMBA (frames), unseen speaker", [30, 35, 40, 45])
    assert percentages(found.page(Records(store)).splitlines()[0])[-1] == 35  # seen speakers are still to come
    write(store, "protocols", "HMoE-SiMBA (frames), nested selection", [80] * 5)
    write(store, "table2", "HMoE-SiMBA (frames)", [82] * 5)
    known = found.facts(Records(store))
    assert round(known["seen"].accuracy.mean) == 82 and known["unseen"]["row"].accuracy.mean == 37.5
    # Two settings of the model: a reader is told that the pair is not of one.
    assert not known["unseen"]["same"]
    assert " 80.0 [" in found.page(Records(store))


def test_the_best_way_with_unseen_speakers_is_chosen_on_the_other_three(store: Store) -> None:
    write(store, "speakers", "linear", [80, 35, 40, 45])
    write(store, "speakers", "both, per-speaker normalisation", [50, 55, 40, 65])
    write(store, "speakers", "both, per-speaker normalisation, balanced", [70, 75, 80, 85])  # is told what nobody knows
    write(store, "speakers", "prosody", [90, 95])  # not all speakers
    tried = found.facts(Records(store))["tried"]
    # Without speaker 0 "both" is better, without any other "linear", or both are equal and "linear" stands first.
    assert tried["rows"] == 2 and list(tried["best"].parts.values())[0] == 50


def test_two_folds_of_five_say_nothing(store: Store) -> None:
    for row in TABLE_3.rows:
        write(store, "table3", row.name, [70, 72])
    for condition in CONDITIONS:
        write(store, "robustness", f"HMoE-SiMBA, {condition}", [70, 72])
    write(store, "table2", "HMoE-SiMBA (frames)", [70, 72])
    write(store, "protocols", "HMoE-SiMBA (frames), unseen speaker", [70, 72])
    known = found.facts(Records(store))
    assert known["parts"] is None and known["robust"] is None
    assert "frames" not in known["seen"].name + known["unseen"]["row"].name


def test_conditions_that_cost_half_are_counted_for_every_model_that_was_heard_in_all(store: Store) -> None:
    means = {"HMoE-SiMBA": (70, 40), "SVM": (60, 20), "CNN+Bi-GRU": (60, 60)}  # clean, and in noise
    for model, (clean, noisy) in means.items():
        for condition in list(CONDITIONS)[:-1] if model == "CNN+Bi-GRU" else CONDITIONS:
            mean = {"white": noisy, "pink": noisy / 2}.get(condition.split()[0], clean)
            spread = 9 if condition.startswith("pink") else 1  # half of 70 over chance is 43.3; fold by fold, ± spread
            write(store, "robustness", f"{model}, {condition}", [mean + spread * k for k in (-1, -0.5, 0, 0.5, 1)])
    robust = found.facts(Records(store))["robust"]
    assert robust == {"conditions": len(CONDITIONS) - 1, "lost": 10, "shown": 5, "others": {"SVM": 10}, "bare": None}


def test_the_ablation_is_of_averages_until_that_of_frames_is_recorded(store: Store) -> None:
    for row in TABLE_3.rows:
        write(store, "table3", row.name, [70, 72, 74, 76, 78])
    parts = found.facts(Records(store))["parts"]
    assert (parts["removed"], parts["costly"], parts["input"]) == (8, [], "averaged input")
    means = {"w/o SiMBA": 70, "w/o router": 96}
    for row in TABLE_3.rows:
        write(store, "table3_frames", row.name, [means.get(row.name, 90)] * 5)
    parts = found.facts(Records(store))["parts"]
    assert (parts["removed"], parts["costly"], parts["input"]) == (8, ["SiMBA"], "frame-level input")
    assert parts["harmful"] == ["the router"]


def test_a_reader_is_led_to_every_file_that_a_sentence_reads() -> None:
    class Watched(Records):
        def __getitem__(self, key: tuple[str, str]) -> RowReport:
            asked.add(key[0])
            return super().__getitem__(key)

    asked = {"speakers"}  # of which all rows are read
    page = found.page(Watched(Store(pages.RECORDED, book.PROJECT / "results")))
    assert asked <= set(found.READ)  # all of them, once everything is recorded
    for name in ("casia/" + name for name in asked):
        assert f"</results/{name}.csv>" in page
    assert "</results/bench/cost-length.csv>" in page


def test_four_findings_each_of_one_sentence_and_the_same_in_the_readme() -> None:
    """Of the project's own records."""
    records = Records(Store(pages.RECORDED, book.PROJECT / "results"))
    page, readme = found.page(records), found.readme(records)
    findings = re.findall(r"^1\. \*\*.*$", readme, flags=re.MULTILINE)
    assert len(findings) == 4 and all(each in page for each in findings)
    for each in findings:
        sentence = re.sub(r"\*\*.*?\*\*", "", each.removeprefix("1. "))
        assert re.findall(r"[.!?](?=\s|$)", sentence) == ["."]
        assert sentence.count("[") <= 4 and len(sentence.split()) <= 45
    title = page.splitlines()[0].removeprefix("# ")
    assert title in readme and title.count("%") == 3


def test_a_template_that_asks_for_what_is_not_given_is_refused() -> None:
    with pytest.raises(UndefinedError, match="bars"):
        prose.page("waterfall", paper=92.2, chance=16.7)


def test_an_empty_store_has_no_number_of_ours_in_its_title(tmp_path: Path) -> None:
    assert percentages(found.page(Records(Store("casia", tmp_path))).splitlines()[0]) == [found.PAPER]
