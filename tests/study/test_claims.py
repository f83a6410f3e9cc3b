"""Verdicts follow from records: constructed ones here, so that each verdict is seen at least once."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hmoe.base.files import PROJECT
from hmoe.config import Config
from hmoe.study import claims, report
from hmoe.study.claims import Claim, Records, judged
from hmoe.study.experiments import EXPERIMENTS, FIGURE_2, METRICS, TABLE_3, experiment
from hmoe.study.report import Word
from hmoe.study.store import COLUMNS, EMOTION_COLUMNS, PREDICTION_COLUMNS, Store
from hmoe_book import claims_page, plots

CLAIMS = claims.claims()
DIFFERENT = {"D_state = 64": 80.0, "D_state = 128": 84.0, "D_state = 256": 88.0, "D_state = 512": 84.0}


def put(
    store: Store, name: str, row: str, accuracies: list[float], protocol: str = "", config: Config | None = None,
    best_epoch: int = 1,
) -> None:  # fmt: skip
    """Trials of a row, five folds a seed, with these accuracies; its predictions are right as often as they say."""
    chosen = experiment(name).row(row)
    config = config or chosen.config()
    records = []
    for i, accuracy in enumerate(accuracies):
        right = min(100, max(0, round(accuracy)))
        record = {
            "experiment": name, "row": row, "reading": config.reading, "protocol": protocol or chosen.protocol,
            "selection": config.selection, "seed": i // 5, "fold": i % 5, "config": config.key(), "n_train": 400,
            "n_test": 100, **dict.fromkeys([*METRICS, "uar", *EMOTION_COLUMNS], accuracy), "best_epoch": best_epoch,
            "parameters": 1, "seconds": 1.0, "device": "cpu", "commit": "-", "machine": "a machine",
            "date": f"2026-01-01T00:{i:02d}Z",
        }  # fmt: skip
        said = {"letters": "a=anger b=fear", "predicted": "a" * right + "b" * (100 - right), "actual": "a" * 100}
        records.append(record | said)
    for path, columns in (
        (store.path(name), COLUMNS),
        (store.root / store.corpus / "predictions" / f"{name}.csv", PREDICTION_COLUMNS),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(records, columns=columns).to_csv(path, mode="a", header=not path.exists(), index=False)


def luck(mean: float, n: int = 15, spread: float = 1.0, seed: int = 0) -> list[float]:
    """`n` accuracies around a mean, which they have exactly."""
    draws = np.random.default_rng(seed).normal(0, spread, n)
    return list(mean + draws - draws.mean())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("casia", tmp_path)


def test_the_claims_are_numbered_without_a_gap_and_say_who_says_so() -> None:
    assert [claim.id for claim in CLAIMS] == [f"C{i}" for i in range(1, len(CLAIMS) + 1)]
    for claim in CLAIMS:
        assert claim.words and re.search(r"§\d|abstract|table \d|fig. \d", claim.where)
        assert claim.numbers or claim.above or claim.protocols or claim.corpus or claim.cost or claim.never, (
            f"{claim.id}: unmeasured"
        )


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_names_a_chapter_and_rows_that_are_there(claim: Claim) -> None:
    assert (PROJECT / f"{claim.chapter}.ipynb").exists()
    for some in (claim, Claim(claim.id, "", "", "", **claim.beside)):
        for name, row, metrics in some.numbers:
            assert set(metrics) <= set(EXPERIMENTS[name].row(row).paper), "the paper has no such number"
        for said in some.above:
            for row in itertools.chain(said["rows"], *said["rows"].values()):
                assert experiment(said["experiment"]).row(row)
            assert set(said.get("metrics", [])) <= set(METRICS)
        for name, *rows in some.protocols:
            assert len(list(map(experiment(name).row, rows))) == 2
        assert some.corpus in ("", *claims.FACTS)
        assert some.cost in ("", *claims.COSTS)


def test_every_row_with_a_number_in_the_paper_and_every_figure_is_in_a_claim() -> None:
    everything = [*CLAIMS, *(Claim(claim.id, "", "", "", **claim.beside) for claim in CLAIMS)]
    named = {(name, row) for claim in everything for name, row, _ in claim.numbers}
    for said in (said for claim in everything for said in claim.above):
        named |= {(said["experiment"], row) for row in itertools.chain(said["rows"], *said["rows"].values())}
    for each in EXPERIMENTS.values():
        printed = [row.name for row in each.rows if row.paper or each.name.startswith("figure")]
        assert {(each.name, name) for name in printed} <= named


def test_without_records_no_row_decides_and_the_page_says_so_of_every_claim(store: Store) -> None:
    records = Records(store)
    for claim in CLAIMS:
        verdict, _ = judged(claim, records)
        if claim.numbers or claim.above:
            assert verdict.word == Word.CANNOT_TELL, claim.id
        elif not claim.corpus:
            assert verdict.word == Word.NOT_TESTABLE, claim.id
    text = claims_page.page(Records(store))
    for claim in CLAIMS:
        assert f":name: claim-{claim.id.lower()}" in text and claim.words in text


def test_each_claim_stands_once_under_one_of_four_words(store: Store) -> None:
    text = claims_page.page(Records(store))
    listed = dict(re.findall(r"^\*\*(C\d+) (.+?)\*\*:", text, flags=re.MULTILINE))
    assert listed == {claim.id: judged(claim, Records(store))[0].word for claim in CLAIMS}


def calm(store: Store) -> None:
    """Rows of which three seeds are alike, so that a difference of a few points can be seen."""
    for k in range(8):
        name = f"D_state = {(64, 128, 256, 512)[k % 4]}"
        config = experiment("figure2").row(name).config(d_model=32 + 4 * k)
        put(store, "figure2", name, luck(70, spread=0.1), config=config)


@pytest.mark.parametrize(
    ("accuracies", "word"),
    [(luck(92.0), Word.HOLDS), (luck(77.0), Word.FAILS), (luck(99.0), Word.FAILS), ([92.2], Word.CANNOT_TELL)],
)
def test_a_number_holds_if_it_is_reproduced(store: Store, accuracies: list[float], word: Word) -> None:
    calm(store)
    put(store, "table3", "Full model", accuracies)
    (row,) = report.rows(store, TABLE_3)
    assert row.judge("accuracy").word == word
    claim = Claim("C", "", "", "", numbers=(("table3", "Full model", ["accuracy"]),))
    assert judged(claim, Records(store))[0].word == word


@pytest.mark.parametrize(
    ("means", "word"),
    [
        (DIFFERENT, Word.HOLDS),
        (DIFFERENT | {"D_state = 512": 98.0}, Word.FAILS),
        (DIFFERENT | {"D_state = 512": 88.0}, Word.CANNOT_TELL),
        (dict.fromkeys(DIFFERENT, 80.0), Word.CANNOT_TELL),
    ],
)
def test_a_shape_holds_if_each_of_its_steps_is_shown(store: Store, means: dict[str, float], word: Word) -> None:
    for seed, (row, mean) in enumerate(means.items()):
        put(store, "figure2", row, luck(mean, spread=0.5, seed=seed))
    shape = {"D_state = 128": ["D_state = 64"], "D_state = 256": ["D_state = 128", "D_state = 512"]}
    claim = Claim("C", "", "", "", above=({"experiment": "figure2", "rows": shape},))
    verdict, lines = judged(claim, Records(store))
    assert verdict.word == word and len(lines) == 3
    assert all(float(line.detectable) > 0 for line in lines)  # stands beside every interval


def test_an_order_with_a_row_to_come_is_open_unless_it_is_refuted_already(store: Store) -> None:
    put(store, "figure2", "D_state = 64", luck(80))
    put(store, "figure2", "D_state = 128", luck(90, seed=1))
    shape = {"D_state = 128": ["D_state = 64"], "D_state = 256": ["D_state = 128"]}

    def word() -> Word | None:
        return report.order(report.differences(report.rows(store, FIGURE_2), FIGURE_2, shape)).word

    assert word() == Word.CANNOT_TELL
    put(store, "figure2", "D_state = 256", luck(80, seed=2))
    assert word() == Word.FAILS


def test_one_reversal_refutes_a_claim_of_all(store: Store) -> None:
    rows = experiment("table2").rows
    for k, row in enumerate(rows[:4]):
        put(store, "table2", row.name, luck(60 + 10 * (k == 3), seed=k))
    put(store, "table2", "HMoE-SiMBA", luck(66, seed=9))
    above = {"HMoE-SiMBA": [row.name for row in rows[:4]]}
    claim = Claim(
        "C", "", "", "", above=({"experiment": "table2", "rows": above, "metrics": ["accuracy", "acc_fear"]},)
    )
    assert judged(claim, Records(store))[0].word == Word.FAILS
    fewer = {"HMoE-SiMBA": above["HMoE-SiMBA"][:3]}
    claim = Claim("C", "", "", "", above=({"experiment": "table2", "rows": fewer},))
    assert judged(claim, Records(store))[0].word == Word.HOLDS


def test_what_stands_beside_decides_nothing(store: Store) -> None:
    put(store, "table3", "Full model", luck(80))
    put(store, "table3", "w/o SiMBA", luck(60, seed=1))
    above = ({"experiment": "table3", "rows": {"Full model": ["w/o SiMBA"]}},)
    frames = ({"experiment": "table3_frames", "rows": {"Full model": ["w/o SiMBA"]}},)
    assert judged(Claim("C", "", "", "", above=above), Records(store))[0].word == Word.HOLDS
    verdict, lines = judged(Claim("C", "", "", "", above=frames, beside={"above": above}), Records(store))
    assert verdict.word == Word.CANNOT_TELL and len(lines) == 2
    assert [line.verdict for line in lines] == [None, None]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_folds_in_common_give_no_test(store: Store, n: int) -> None:
    put(store, "table3", "Full model", luck(80))
    put(store, "table3", "w/o SiMBA", [70.0] * n)
    (lost,) = report.differences(report.rows(store, TABLE_3), TABLE_3, {"Full model": ["w/o SiMBA"]})
    assert math.isnan(lost.p_value) and lost.points.n == n and lost.sign == 0
    assert lost.paper == 2.7


def test_a_difference_is_taken_utterance_by_utterance(store: Store) -> None:
    """Folds differ by 30 points, rows by 3 and a little: as unpaired samples nothing could be seen."""
    hard = np.linspace(50, 80, 15)
    put(store, "table3", "Full model", list(hard + luck(3, spread=0.2)))
    put(store, "table3", "w/o SiMBA", list(hard))
    (lost,) = report.differences(report.rows(store, TABLE_3), TABLE_3, {"Full model": ["w/o SiMBA"]})
    assert lost.points.mean == pytest.approx(3) and lost.sign == 1


def test_more_differences_in_a_claim_make_each_p_value_larger(store: Store) -> None:
    put(store, "table3", "Full model", luck(80))
    for seed, row in enumerate(TABLE_3.rows[1:], 1):
        put(store, "table3", row.name, luck(79, seed=seed))
    found, others = report.rows(store, TABLE_3), [row.name for row in TABLE_3.rows[1:]]
    alone = {name: report.differences(found, TABLE_3, {"Full model": [name]})[0].p_value for name in others}
    together = {each.lower: each.p_value for each in report.differences(found, TABLE_3, {"Full model": others})}
    assert all(together[name] >= alone[name] for name in others)
    assert min(together.values()) == pytest.approx(min(1, len(others) * min(alone.values())))


def test_costs_are_compared_with_what_the_paper_claims_less_of() -> None:
    lengths = [100, 200, 1000, 2000, 20_000]
    table = pd.DataFrame({"part": ["SiMBA"] * 5 + ["attention"] * 5, "L": lengths * 2})
    table["step_s"] = [2e-5 * L for L in lengths] + [1e-7 * L**2 for L in lengths]  # equal at 200
    table["peak_mb"] = [3.0] * 5 + [1.0] * 5
    found = {name: judge for name, (_, judge) in claims.COSTS.items()}
    short, long, *memory = found["length"](table)
    assert [(each.ours.split()[0], each.verdict.word) for each in memory] == [("3", Word.FAILS)] * 2
    assert (short.ours.split()[0], short.verdict.word) == ("1", Word.FAILS)
    assert (long.ours.split()[0], long.verdict.word) == ("0.01", Word.HOLDS)
    for power, word in ((2.0, Word.FAILS), (1.0, Word.HOLDS)):
        table["step_s"] = table["L"] ** power
        assert next(found["growth"](table)).verdict.word == word
    table.loc[2:3, "step_s"] *= 4  # no power fits
    assert next(found["growth"](table)).verdict.word == Word.CANNOT_TELL
    rows = ["HMoE-SiMBA", "Transformer", "HMoE-SiMBA (frames)", "Transformer (frames)"]
    fewer, more = found["rows"](pd.DataFrame({"row": rows, "operations": [1, 2, 6, 3]}))
    assert (fewer.verdict.word, more.verdict.word) == (Word.HOLDS, Word.FAILS) and more.ours.startswith("2 times")
    for total, word in ((1.5, Word.HOLDS), (0.1, Word.CANNOT_TELL)):  # that attention hinders it: of long speech
        table = pd.DataFrame({"row": ["Transformer", "Transformer (frames)", "HMoE-SiMBA"], "total": [0.1, total, 0.1]})
        assert [each.verdict.word for each in found["real-time"](table)] == [word]


@pytest.mark.parametrize(("new", "word"), [(70, Word.FAILS), (90, Word.FAILS), (80.05, Word.HOLDS)])
def test_a_protocol_is_unbiased_if_a_stricter_one_finds_neither_less_nor_more(
    store: Store, new: float, word: Word
) -> None:
    known, strict = "HMoE-SiMBA, nested selection", "HMoE-SiMBA, new sentences"
    claim = Claim("C", "", "", "", protocols=(("protocols", known, strict),))

    def said() -> Word | None:
        return judged(claim, Records(store))[0].word

    deal(store)
    put(store, "protocols", known, luck(80))
    assert said() == Word.CANNOT_TELL
    put(store, "protocols", strict, luck(new, 4))
    assert said() == Word.CANNOT_TELL
    put(store, "protocols", strict, luck(new, 5, seed=1))
    assert said() == word


def deal(store: Store) -> None:
    """500 utterances to five folds of three seeds, alike under both protocols."""
    ids = [f"{k:03}" for k in range(500)]
    dealt = {f"{protocol}.{seed}": [str(k // 100) for k in range(500)]
             for protocol in ("stratified-5", "sentence-5") for seed in range(3)}  # fmt: skip
    store.introduce(pd.DataFrame({"id": ids, **dealt}).set_index("id"))


def test_a_protocol_is_not_judged_by_a_row_whose_loss_was_still_falling(store: Store) -> None:
    known, strict = "HMoE-SiMBA, nested selection", "HMoE-SiMBA, new sentences"
    last = experiment("protocols").row(strict).config().epochs
    deal(store)
    put(store, "protocols", known, luck(80))
    put(store, "protocols", strict, luck(70, seed=1), best_epoch=last)
    (line,) = judged(Claim("C", "", "", "", protocols=(("protocols", known, strict),)), Records(store))[1]
    assert line.verdict.word is None
    assert Records(store).row("protocols", strict).unjudged in line.verdict.why


def test_what_chance_explains_is_said_with_both_ends(store: Store) -> None:
    for seed, (row, mean) in enumerate({"D_state = 64": 80.0, "D_state = 128": 80.5, "D_state = 256": 79.5}.items()):
        put(store, "figure2", row, luck(mean, spread=2, seed=seed))
    shape = {"D_state = 128": ["D_state = 64"], "D_state = 256": ["D_state = 128"]}
    some = report.differences(report.rows(store, FIGURE_2), FIGURE_2, shape)
    said = re.findall(r"[−+]\d+\.\d", report.order(some).why)
    low, high = min(each.points.low for each in some), max(each.points.high for each in some)
    assert [float(end.replace("−", "-")) for end in said] == [round(low, 1), round(high, 1)]
    assert low < 0 < high


def test_rows_of_another_configuration_are_not_mixed_in(store: Store) -> None:
    row = TABLE_3.row("Full model")
    small = row.config(d_model=32)
    put(store, "table3", row.name, luck(80))
    put(store, "table3", row.name, luck(60), config=small)
    assert report.rows(store, TABLE_3)[0].accuracy.mean == pytest.approx(80)
    assert report.rows(store, TABLE_3, lambda row: small)[0].accuracy.mean == pytest.approx(60)


@pytest.mark.parametrize("n", [0, 1, 5, 15])
@pytest.mark.parametrize("chosen", EXPERIMENTS.values(), ids=lambda chosen: chosen.name)
def test_tables_and_figures_name_every_row_however_many_trials_there_are(store: Store, chosen, n: int) -> None:  # noqa: ANN001
    put(store, chosen.name, chosen.rows[0].name, luck(80, n) if n else [])
    found = report.rows(store, chosen)
    table = report.table(found, chosen)
    assert list(table["row"]) == [row.name for row in chosen.rows]
    assert list(table["trials"]) == [n] + [0] * (len(chosen.rows) - 1)
    assert (table["verdict"] == "not recorded yet").sum() == len(chosen.rows) - bool(n)
    names = [label.get_text() for label in plots.accuracies(found, chosen).axes[0].get_yticklabels()]
    assert [name.removesuffix(" (not recorded yet)") for name in names] == list(table["row"])
    assert all(row.name in report.described(found, chosen) for row in chosen.rows)
    fig, ax = plt.subplots()
    plots.curve(ax, found, chosen)
    assert len(ax.get_xticks()) == len(chosen.rows) and len(ax.lines[0].get_xdata()) == bool(n)
    lost = report.differences(found, chosen, {chosen.reference: [chosen.rows[1].name]})
    assert plots.losses(lost).axes[0].get_yticklabels()[0].get_text() == chosen.rows[1].name
    plt.close("all")
    assert (chosen.name in report.provenance(store, chosen, found)) and list(report.beside(found, chosen).index)


def test_the_corpus_contradicts_table_1() -> None:
    (seconds,) = claims.FACTS["seconds"]()
    assert seconds.verdict.word == Word.FAILS and "1.91 s, n = 1200" in seconds.ours
    (balance,) = claims.FACTS["balance"]()
    assert balance.verdict.word == Word.FAILS and balance.ours == "200 utterances an emotion, n = 1200"
    assert {each.verdict.word for each in claims.FACTS["folds"]()} == {Word.FAILS}


def test_a_corpus_as_table_1_has_it_would_not_contradict_it() -> None:
    ids = [f"a-{emotion}-{k}" for emotion, n in (("anger", 9), ("neutral", 40)) for k in range(n)]
    manifest = pd.DataFrame({"seconds": np.linspace(5, 60, len(ids))}, index=ids)
    assert [each.verdict.word for each in claims.mean_length(manifest)] == [Word.HOLDS]
    (balance,) = claims.balance(manifest)
    assert balance.verdict.word == Word.HOLDS and "9 to 40 utterances an emotion, n = 49" in balance.ours


def test_a_claim_says_on_how_many_trials_of_which_rows_it_rests(store: Store) -> None:
    chosen = experiment("table2")
    first, second = (row.name for row in chosen.rows[:2])
    put(store, "table2", first, luck(80, 5))
    put(store, "table2", second, luck(80, 10))
    records = claims.Records(store)
    alone = claims.Claim("C", "", "", "", numbers=(("table2", first, ["accuracy"]),))
    assert "5 trials" in claims.recorded([alone], records)
    both = claims.Claim("C", "", "", "", above=({"experiment": "table2", "rows": {first: [second]}},))
    assert "15 trials" in claims.recorded([both], records)
    assert "15 trials" in claims.recorded([alone, both], records)  # each row once
