"""What a model says of itself: the recorded accuracy of its own configuration, or that there is none."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from records import of_other_emotions, write

from hmoe import corpora
from hmoe.base.files import PROJECT
from hmoe.config import Config
from hmoe.corpora import grammars, synthetic
from hmoe.study import report
from hmoe.study.experiments import PROTOCOLS, experiment
from hmoe.study.store import Store
from hmoe.use import card
from hmoe_book import datasheets

EMOTIONS = ["anger", "sadness", "happiness", "neutral", "fear", "surprise"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store("casia", tmp_path)
    write(store, "protocols", "HMoE-SiMBA, nested selection", [70, 72, 74, 76, 78])
    write(store, "protocols", "HMoE-SiMBA, unseen speaker", [20, 30, 40, 50])
    return store


def about(store: Store, config: Config) -> dict[str, object]:
    return {"corpus": "casia", "speakers": ["a", "b", "c", "d"], "measured": card.measured([store], config)}


def numbers(said: str) -> list[str]:
    return re.findall(r"\d+(?:\.\d+)?", said)


def test_the_note_has_the_recorded_accuracy_on_new_speakers(store: Store) -> None:
    said = card.note(about(store, Config(selection="nested")), EMOTIONS)
    assert numbers(said) == ["4", "35", "35.0", "20.0", "30.0", "40.0", "50.0", "4", "16.7"]
    assert "results/casia/protocols.csv" in said
    assert "\n" not in said


@pytest.mark.parametrize("changes", [{"d_state": 64}, {"selection": "last"}, {"reading": "frames"}])
def test_the_accuracy_of_another_configuration_is_not_borrowed(store: Store, changes: dict[str, object]) -> None:
    said = card.note(about(store, Config(**changes)), EMOTIONS)
    assert numbers(said) == ["4"]  # of speakers


def test_a_record_of_the_configuration_is_found_whichever_experiment_made_it(tmp_path: Path) -> None:
    store = Store("casia", tmp_path)
    write(store, "table2", "HMoE-SiMBA", [70, 72, 74, 76, 78])
    found = card.measured([store, Store("other", tmp_path)], Config())
    assert (found["stratified-5"]["mean"], found["stratified-5"]["trials"]) == (74.0, 5)
    assert found["stratified-5"]["record"] == "results/casia/table2.csv"
    assert card.measured([Store("other", tmp_path), store], Config()) == found
    # Disturbed test folds and dealt copies are no test of it.
    write(store, "robustness", "HMoE-SiMBA, babble 0 dB", [20] * 5)
    assert card.measured([store], experiment("robustness").row("HMoE-SiMBA, babble 0 dB").config()).keys() <= {
        "stratified-5"
    }


def test_emotions_beyond_casias_are_on_the_card_and_those_that_a_corpus_lacks_are_not(tmp_path: Path) -> None:
    store, config = Store("emodb", tmp_path), Config()
    of_other_emotions(store)
    said = about(store, config)
    text = card.body(config, ["anger", "disgust", "boredom"], said, 1)
    (line,) = (line for line in text.splitlines() if line.startswith("| seen speakers and sentences"))
    assert line.endswith("| 60.0 | 20.0 | 40.0 |")
    assert set(said["measured"]["stratified-5"]["emotions"]) == {"anger", "disgust", "boredom"}


def test_what_training_held_out_is_on_the_card(tmp_path: Path) -> None:
    said = about(Store("casia", tmp_path), Config())
    assert "tested on nothing" in card.body(Config(), EMOTIONS, said, 1)
    said["held_out"] = {"accuracy": 61.25, "utterances": 120, "epoch": 37}
    text = card.body(Config(), EMOTIONS, said, 1)
    assert "tested on nothing" not in text
    assert "120 utterances were held out to choose the epoch (37): it recognised 61.2 %" in " ".join(text.split())


def test_synthetic_labels_mean_nothing(store: Store) -> None:
    said = card.note(about(store, Config()) | {"corpus": "synthetic"}, EMOTIONS)
    assert "synthetic" in said and not numbers(said)


def test_of_a_corpus_of_the_users_own_it_says_what_it_knows() -> None:
    known, nothing = card.note({"corpus": "folder", "speakers": ["unknown"]}, ["anger"]), card.note({}, ["anger"])
    assert " folder" in known and " folder" not in nothing
    assert "unknown" in known and not numbers(known + nothing)


def test_the_card_of_the_page_shows_the_records() -> None:
    store = Store("casia", PROJECT / "results")
    page = card.page(store)
    key = Config().key()
    rows = [row for row in report.rows(store, PROTOCOLS) if row.trials["config"].iloc[0] == key]
    tested = [row for row in rows if row.trials["protocol"].iloc[0] in card.TESTED]
    assert tested
    for row in tested:
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {_words(row)} |"))
        assert f"| {row.accuracy} |" in line and f"| {len(row.trials)} |" in line
        assert line.endswith("".join(f" {row.estimates[f'acc_{name}'].mean:.1f} |" for name in EMOTIONS))
        if row.name.endswith("unseen speaker"):
            for fold, accuracy in zip(row.trials["fold"], row.trials["accuracy"], strict=True):
                assert f"| {fold} | {accuracy:.1f} |" in page
    for heading in (
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    ):  # fmt: skip
        assert f"\n## {heading}\n" in page
    assert "{" not in page


def _words(row: report.RowReport) -> str:
    return card.TESTED[row.trials["protocol"].iloc[0]]


def test_without_records_the_card_says_so(tmp_path: Path) -> None:
    page = card.page(Store("casia", tmp_path))
    assert "None recorded for this configuration." in page
    assert "1200 utterances of 4 actors, 38 minutes." in page


# --- datasheets


def test_every_corpus_that_is_known_by_name_has_a_line_with_the_labels_that_its_loader_gives() -> None:
    published = card.published()
    assert set(published) == set(corpora.names()) - {"folder", "csv"}
    codes = {
        "emodb": grammars.EMODB.values(), "ravdess": grammars.RAVDESS, "savee": grammars.SAVEE.values(),
        "crema-d": grammars.CREMA_D.values(), "synthetic": synthetic.EMOTIONS, "casia": EMOTIONS,
    }  # fmt: skip
    for name, emotions in codes.items():
        assert sorted(published[name]["emotions"]) == sorted(emotions)
    lines = datasheets.others().splitlines()
    assert len(lines) == 2 + len(published)


def test_the_synthetic_corpus_is_as_its_recipe_has_it() -> None:
    said = card.published()["synthetic"]
    assert said["speakers"] == len(synthetic.VOICES)
    assert said["utterances"] == len(synthetic.VOICES) * len(synthetic.EMOTIONS) * len(synthetic.sentences())
    text = datasheets.recipe()
    assert text.startswith(f"{said['utterances']} utterances: 4 voices, 6 emotions, 50 sentences")
    assert f"| anger | {synthetic.TYPICAL['anger'].pitch:g} | {synthetic.TYPICAL['anger'].span:g} |" in text


def test_the_numbers_of_casia_are_those_of_its_manifest() -> None:
    manifest = pd.read_csv(PROJECT / "hmoe" / "data" / "casia.csv")
    text = datasheets.casia()
    assert f"{len(manifest)} utterances: 4 speakers, 6 emotions, 50 sentences, 50 utterances of each" in text
    assert f"{manifest['seconds'].sum() / 60:.0f} minutes in all, {manifest['seconds'].min():.1f} to" in text
    of_one = manifest[manifest["id"].str.startswith("wangzhe-fear-")]["seconds"].mean()
    (line,) = (line for line in text.splitlines() if line.startswith("| S2 |"))
    assert line.split(" | ")[5] == f"{round(of_one, 2):g}"
