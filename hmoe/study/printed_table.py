"""A table that somebody typed from a paper, as `audit` reads it.

Columns go by their names: `Accuracy (%)`, `UAR`, `F1-score`, `sensitivity`, and the classes. Cells may hold what papers
print: `92.2`, `92.2%`, `0.922`, `92.2 ± 0.3`, a dash for nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from hmoe.base.errors import ConfigError

MEASURES = {
    "accuracy": ("acc", "overall accuracy", "oa", "wa", "war", "weighted accuracy", "weighted average recall"),
    "uar": (
        "ua", "unweighted accuracy", "unweighted average recall", "balanced accuracy", "bacc", "mean class accuracy",
    ),
    "recall": ("rec", "r", "macro recall", "weighted recall"),
    "precision": ("prec", "p", "macro precision", "weighted precision", "ppv"),
    "f1": ("f1 score", "f score", "f measure", "f1 measure", "macro f1", "weighted f1", "f"),
}  # fmt: skip
"""Our names of the overall measures, and what others call them."""

PARTS = {"acc": "acc_", "accuracy": "acc_", "recall": "acc_", "precision": "precision_", "f1": "f1_"}
"""Before the name of a class: `recall_anger` is its accuracy."""

NEITHER = {
    "auc", "auroc", "average precision", "ap", "map", "kappa", "mcc", "eer", "loss", "params", "parameters", "flops",
    "epochs", "time", "seconds", "year", "n", "seeds", "runs", "folds", "support", "std", "npv",
}  # fmt: skip
"""What no check can use, and is no class."""

BINARY = ("sensitivity", "specificity")
"""Two classes by the names that medicine gives their accuracies."""

NOTHING = {"", "-", "–", "—", "n/a", "na", "nan", "none", "/"}
NUMBER = re.compile(r"^[(\[]?\s*(\d+(?:[.,]\d+)?|\.\d+)\s*%?\s*(?:(?:±|\+/-|\+-|\(|\[).*)?[)\]]?\s*%?$")
LABELS = {"row", "model", "method", "classifier", "system", "name", "approach", "author", "authors"}


@dataclass(frozen=True)
class Printed:
    """A typed table in percent, by our column names; what each column was called; to how many decimals each row was
    printed; the columns that no check can use."""

    table: pd.DataFrame
    called: Mapping[str, str]
    decimals: Mapping[str, int]
    unused: Sequence[str]
    fractions: bool

    @property
    def classes(self) -> list[str]:
        return [column.removeprefix("acc_") for column in self.table.columns if column.startswith("acc_")]


def read(
    source: str | Path, classes: Sequence[str] = (), unit: Literal["auto", "percent", "fraction"] = "auto"
) -> Printed:
    """Read a CSV file, or standard input for "-". `classes` names the columns that are accuracies of classes, where
    that is not to be seen from their names: else each column of numbers that is no overall measure is one.

    `unit` "auto": fractions where no number exceeds 1. ConfigError, naming the cell, for what is no number.
    """
    where = "standard input" if str(source) == "-" else str(source)
    try:
        file = sys.stdin if where == "standard input" else source
        cells = pd.read_csv(file, dtype=str, keep_default_na=False, header=None, skipinitialspace=True)
    except FileNotFoundError:
        raise ConfigError(
            where, "no such file", "give a CSV file: a line for each model, a column for each number"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(where, f"not a CSV file ({str(error).splitlines()[0]})", "save it as UTF-8 CSV") from None
    cells = cells.map(str.strip)
    cells = cells.iloc[1:].set_axis(cells.iloc[0].str.removeprefix("\ufeff"), axis="columns").reset_index(drop=True)
    cells = cells.loc[(cells != "").any(axis=1)]
    if cells.empty:
        raise ConfigError(where, "has no line of numbers", "write a line for each model, below a line of column names")
    if doubled := cells.columns[cells.columns.duplicated()].tolist():
        raise ConfigError(where, f"has two columns {doubled[0]!r}", "give each a name of its own")
    label = _label(cells)
    names = pd.Series(range(1, len(cells) + 1)).astype(str) if label is None else cells.pop(label)
    again = names.groupby(names).cumcount()
    names = names.where(again == 0, names + " (" + (again + 1).astype(str) + ")")
    if missing := [name for name in classes if name not in cells.columns]:
        raise ConfigError("--classes", f"no column {missing[0]!r}", f"columns: {', '.join(cells.columns)}")
    roles, unused = _roles(cells, classes)
    if not roles:
        raise ConfigError(where, f"no column that an audit knows among {', '.join(cells.columns)}", "name one accuracy")
    values = {}
    for ours, column in roles.items():
        here = [f"{where}, row {row!r}, column {column!r}" for row in names]
        values[ours] = [_number(text, place) for text, place in zip(cells[column], here, strict=True)]
    texts = pd.DataFrame(values, index=pd.Index(names.to_list(), name="row"), dtype=object)
    table = texts.map(lambda digits: float(digits or "nan"))
    fractions = unit == "fraction" or (unit == "auto" and bool((table.max(axis=None) or 0) <= 1))
    places = _decimals(texts)
    if fractions:
        table, places = 100 * table, (places - 2).clip(lower=0)
    too_much = table > 100
    if too_much.any(axis=None):
        row, column = too_much.stack().idxmax()
        raise ConfigError(
            f"{where}, row {row!r}, column {roles[column]!r}", f"{table.loc[row, column]:g} is no percentage",
            "correct it, or say --unit percent or --unit fraction",
        )  # fmt: skip
    return Printed(table.round(8), roles, places.to_dict(), unused, fractions)


def per_class(given: str | None, printed: Printed) -> dict[str, int]:
    """Test items by class, from `"200"` (each class), `"75,304"` (in the order of the columns), `"anger=75,fear=60"`.

    Of a table without columns of classes, `"75,304"` and names say what accuracy is a share of. ConfigError for what
    names no class, or is no number.
    """
    if not given:
        return {}
    parts = [part.strip() for part in given.split(",")]
    remedy = f"classes: {', '.join(printed.classes) or 'none in this table'}; e.g. 200, or NAME=75,NAME=304"
    named = [part.rpartition("=") for part in parts]
    if not all(number.strip().isdecimal() and int(number) > 0 for _, _, number in named):
        raise ConfigError("--per-class", f"got {given!r}", remedy)
    counts = [int(number) for _, _, number in named]
    if all(equals for _, equals, _ in named):
        names = {_plain(name): name for name in printed.classes}
        keys = [names.get(_plain(name), "" if names else _plain(name)) for name, _, _ in named]
        if "" in keys:
            raise ConfigError("--per-class", f"no class {named[keys.index('')][0]!r}", remedy)
        return dict(zip(keys, counts, strict=True))
    if any(equals for _, equals, _ in named):
        raise ConfigError("--per-class", f"got {given!r}", remedy)
    if len(counts) == 1 and printed.classes:
        return dict.fromkeys(printed.classes, counts[0])
    names = printed.classes or [str(number) for number in range(1, len(counts) + 1)]
    if len(names) != len(counts):
        raise ConfigError("--per-class", f"got {len(counts)} numbers for {len(names)} classes", remedy)
    return dict(zip(names, counts, strict=True))


def _label(cells: pd.DataFrame) -> str | None:
    """The column that names the rows: one that is called so, else the first that is not of numbers."""
    called = [column for column in cells.columns if column.casefold() in LABELS]
    words = [column for column in cells.columns if not _numeric(cells[column])]
    return next(iter(called or words), None)


def _roles(cells: pd.DataFrame, classes: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Column of the file by our name; and the columns that are left over."""
    roles: dict[str, str] = {}
    rest: list[str] = []
    unused: list[str] = []
    for column in cells.columns:
        if column in classes:
            roles[f"acc_{_plain(column).split(' ', 1)[-1] if _part(column) else column}"] = column
            continue
        plain = _plain(column)
        measure = next((ours for ours, others in MEASURES.items() if plain == ours or plain in others), None)
        if measure and measure not in roles:
            roles[measure] = column
        elif measure or plain in NEITHER:
            unused.append(column)
        elif part := _part(column):
            roles[part] = column
        elif plain in BINARY:
            roles[f"acc_{plain}"] = column
        else:
            rest.append(column)
    if not classes and not any(name.startswith("acc_") for name in roles):
        own = [column for column in rest if _numeric(cells[column])]
        roles |= {f"acc_{column}": column for column in own}
        rest = [column for column in rest if column not in own]
    return roles, [*unused, *rest]


def _part(column: str) -> str | None:
    """`acc_anger` of "Recall (anger)" or "recall_anger"."""
    first, _, rest = _plain(column).partition(" ")
    known = any(_plain(column) in (ours, *others) for ours, others in MEASURES.items())
    return f"{PARTS[first]}{rest}" if first in PARTS and rest and not known else None


def _plain(column: str) -> str:
    """A column's name in small letters, without what says percent, and with spaces between its words."""
    words = re.sub(r"\(\s*%\s*\)|\[\s*%\s*\]|%|,\s*percent", " ", column.casefold())
    return " ".join(re.sub(r"[_\-()\[\]:.]+", " ", words).split())


def _numeric(column: pd.Series) -> bool:
    given = [text for text in column if text.casefold() not in NOTHING]
    return bool(given) and all(NUMBER.match(text) for text in given)


def _number(text: str, where: str) -> str:
    """The digits of a cell; none for a dash."""
    if text.casefold() in NOTHING:
        return ""
    found = NUMBER.match(text)
    if not found:
        raise ConfigError(where, f"got {text!r}", "write a number such as 92.2, or leave the cell empty")
    return found[1].replace(",", ".")


def _decimals(texts: pd.DataFrame) -> pd.Series:
    """To how many decimals each row was printed.

    Tables that collect other papers' numbers fill them up with zeros: where all of a row end in them, they do not
    count. Of one or two numbers that may be chance, and the rest of the table says how many there are.
    """
    length = texts.map(lambda digits: len(digits.partition(".")[2]))
    needed = texts.map(lambda digits: len(digits.partition(".")[2].rstrip("0")))
    enough = (texts != "").sum(axis=1) >= 3
    return needed.max(axis=1).where(enough, int(length.max(axis=None)))
