"""The page "All runs": what is in `results/`, each file with its link, each row with the trials behind it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from hmoe.base.markdown import table
from hmoe.study.store import Store
from hmoe_book.exhibit import displayed

GROUP = ["row", "reading", "protocol", "selection", "device", "machine", "commit"]
HEADER = [
    "row", "reading", "protocol", "selection", "seeds", "folds", "trials", "tested", "seconds", "device", "machine",
    "commit", "date",
]  # fmt: skip


def page(root: Path) -> str:
    """A section for each file of records under `root`, as MyST; that there are none, if there are none."""
    trials = [path for path in records(root) if path.parent.name != "bench"]
    parts = [_section(path, Store(path.parent.name, root).read(path.stem)) for path in trials]
    bench = [path for path in records(root) if path.parent.name == "bench"]
    if bench:
        parts.append(_measurements(bench))
    return "\n".join(parts) or "Nothing has been recorded yet.\n"


def records(root: Path) -> list[Path]:
    """The files of records: `<corpus>/<experiment>.csv` of trials, `bench/<name>.csv` of measured costs."""
    return sorted(root.glob("*/*.csv"))


def grouped(trials: pd.DataFrame) -> pd.DataFrame:
    """One line for the trials that share row, reading, protocol, selection, device, machine and commit."""
    lines = []
    for key, some in trials.groupby(GROUP, sort=False):
        counted = {
            "seeds": _names(some["seed"]),
            "folds": displayed(_names(some["fold"])),
            "trials": len(some),
            "tested": int(some["n_test"].sum()),
            "seconds": f"{some['seconds'].sum():.0f}",
            "date": _dates(some["date"]),
        }
        lines.append(dict(zip(GROUP, key, strict=True)) | counted)
    return pd.DataFrame(lines, columns=HEADER)


def _section(path: Path, trials: pd.DataFrame) -> str:
    title = f"## {path.parent.name}: {path.stem}\n\n{_link(path)}: {len(trials)} trials.\n"
    lines = grouped(trials)
    literal = lines.assign(row="`" + lines["row"] + "`")  # as `--row` wants it
    shown = table(HEADER, literal.itertuples(index=False))
    return f"{title}\n:::{{dropdown}} {len(lines)} lines\n{shown}:::\n"


def _measurements(paths: list[Path]) -> str:
    lines = []
    for path in paths:
        found = pd.read_csv(path)
        made = {name: ", ".join(dict.fromkeys(found[name].astype(str))) for name in ("machine", "commit")}
        lines.append({"record": _link(path), "lines": len(found)} | made | {"date": _dates(found["date"])})
    return f"## Measured costs\n\n{table(lines[0], (line.values() for line in lines))}"


def linked(text: str) -> str:
    """MyST of a line that names files of `results/`: a link to each."""
    # Sphinx copies the file into the book, so that the link holds offline; see hmoe_book.build.
    return re.sub(r"results/[\w-]+/[\w-]+\.csv", lambda path: f"{{download}}`{path[0]} </{path[0]}>`", text)


def _link(path: Path) -> str:
    return linked(f"results/{path.parent.name}/{path.name}")


def _names(values: pd.Series) -> str:
    return ", ".join(sorted(set(values.astype(str))))


def _dates(values: pd.Series) -> str:
    days = values.str[:10]
    return days.min() if days.min() == days.max() else f"{days.min()} to {days.max()}"
