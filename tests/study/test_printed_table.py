"""Tables as people type them from papers: names of columns, units, decimals; and what is no table."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from command import call, refused

from hmoe.base.errors import ConfigError
from hmoe.study import printed_table


def typed(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("model,Accuracy (%),UAR,Macro-F1,Prec.,Recall", {"accuracy", "uar", "f1", "precision", "recall"}),
        ("model,WA,UA,Accuracy,AUC", {"accuracy", "uar"}),
        ("model,Acc,sensitivity,specificity", {"accuracy", "acc_sensitivity", "acc_specificity"}),
        ("model,Recall (fear),F1 (fear),precision_fear", {"acc_fear", "f1_fear", "precision_fear"}),
        ("model,F1-score,anger,fear", {"f1", "acc_anger", "acc_fear"}),
    ],
)  # fmt: skip
def test_columns_go_by_their_names(tmp_path: Path, header: str, columns: set[str]) -> None:
    n = header.count(",")
    table = printed_table.read(typed(tmp_path, f"{header}\nours,{','.join(['71.5'] * n)}\n")).table
    assert set(table.columns) == columns


@pytest.mark.parametrize("cell", ["92.2", "92.2%", "92.2 %", "92.2 ± 0.3", "92.2±0.3%", "92.2 (0.3)", "92,2", "0.922"])
def test_a_cell_says_what_papers_print(tmp_path: Path, cell: str) -> None:
    printed = printed_table.read(typed(tmp_path, f'model,accuracy\nours,"{cell}"\ntheirs,–\n'))
    assert printed.table["accuracy"].iloc[0] == 92.2
    assert printed.table["accuracy"].isna().tolist() == [False, True]
    assert printed.decimals["ours"] == 1


def test_zeros_that_fill_a_row_up_are_no_decimals(tmp_path: Path) -> None:
    lines = "model,accuracy,a,b\nfilled,82.60,89.80,53.30\nmeasured,81.33,84.00,78.66\nshort,82.60,,\n"
    assert printed_table.read(typed(tmp_path, lines)).decimals == {"filled": 1, "measured": 2, "short": 2}


def test_what_no_check_can_use_is_left_over_and_named(tmp_path: Path) -> None:
    printed = printed_table.read(typed(tmp_path, "Model,Accuracy,Params,Anger\nours,91,1.2M,88\n"))
    assert (printed.unused, printed.classes) == (["Params"], ["Anger"])
    named = printed_table.read(typed(tmp_path, "Model,Accuracy,Epochs,Anger\nours,91,50,88\n"), classes=["Anger"])
    assert (named.unused, named.classes) == (["Epochs"], ["Anger"])


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ("200", {"anger": 200, "fear": 200}), ("75,304", {"anger": 75, "fear": 304}),
        ("fear=304, Anger=75", {"anger": 75, "fear": 304}), (None, {}),
    ],
)  # fmt: skip
def test_items_are_given_for_each_class_in_order_or_by_name(
    tmp_path: Path, given: str | None, counts: dict[str, int]
) -> None:
    printed = printed_table.read(typed(tmp_path, "model,anger,fear\nours,91,88\n"))
    assert printed_table.per_class(given, printed) == counts


@pytest.mark.parametrize("given", ["0", "many", "1,2,3", "joy=3", "anger=3,4", "anger="])
def test_items_that_fit_no_class_are_refused(tmp_path: Path, given: str) -> None:
    printed = printed_table.read(typed(tmp_path, "model,anger,fear\nours,91,88\n"))
    with pytest.raises(ConfigError) as error:
        printed_table.per_class(given, printed)
    assert error.value.where == "--per-class"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "table.csv"), ("model,accuracy\n", "table.csv"), ("model,note\nours,good\n", "table.csv"),
        ("model,accuracy\nours,ninety\nb,91\n", "row 'ours', column 'accuracy'"),
        ("model,accuracy\nours,922\n", "row 'ours', column 'accuracy'"),
        ("model,accuracy,accuracy\nours,91,92\n", "table.csv"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_percentages_is_refused_by_place(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(ConfigError) as error:
        printed_table.read(typed(tmp_path, text))
    assert where in error.value.where


MELANOMA = """method,accuracy,specificity,sensitivity
Gutman et al. 2016,85.50%,94.10%,50.70%
Lopez et al. 2017,81.33%,84.00%,78.66%
"""


def test_the_command_marks_cells_and_says_so_by_its_exit_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = typed(tmp_path, MELANOMA)
    code, out, _ = call(
        capsys, "audit", table, "--per-class", "sensitivity=75,specificity=304", "--figure", tmp_path / "a.png"
    )
    assert (code, out.count("×")) == (1, 4)
    assert max(map(len, out.splitlines())) <= 100
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "stdin", io.StringIO(MELANOMA))
    code, out, _ = call(capsys, "audit", "-", "--per-class", "75", "--truncated", "--format", "json")
    said = json.loads(out)
    assert code == 1
    assert {finding["row"] for finding in said["findings"] if not finding["possible"]} == {"Gutman et al. 2016"}
    assert all(line["assumes"] for line in said["checks"]) and said["cannot_know"]
    code, out, _ = call(capsys, "audit", table, "--format", "csv")
    assert code == 0  # without the sizes of the classes, all of it can be
    assert [line["possible"] for line in csv.DictReader(io.StringIO(out))] == ["True", "True"]


def test_a_figure_of_an_unknown_kind_and_a_table_that_is_not_there_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "--figure" in refused(capsys, "audit", typed(tmp_path, MELANOMA), "--figure", tmp_path / "a.bmp")
    assert "no such file" in refused(capsys, "audit", tmp_path / "nowhere.csv")
    assert "--classes" in refused(capsys, "audit", typed(tmp_path, MELANOMA), "--classes", "joy")
