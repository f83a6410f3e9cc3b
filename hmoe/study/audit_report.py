"""What `hmoe audit` says of a table: as text, as JSON, as a figure."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pandas as pd

from hmoe.study import audit
from hmoe.study.audit import Design
from hmoe.study.printed_table import Printed

CROSS = "×"
WIDTH = 98
UNKNOWN = (
    "Whether folds were drawn class by class. Where they were not, averages over folds may differ a little from what "
    "is checked here; a cell that this could explain says so.",
    "Whether a number is the average of several runs. Averages are finer than the grid of one run; a cell says how "
    "many runs would do.",
    "Whether rows were tested on the same items, and whether the numbers were typed as they were measured.",
)
"""What arithmetic cannot know."""


def text(printed: Printed, design: Design, findings: pd.DataFrame, name: str) -> str:
    """The table with a cross at each cell that cannot be, the checks with their assumptions, what else could explain a
    cell, what cannot be known, and a line that sums up."""
    parts = [
        _wrap(f"{name}: {_described(printed, design)}."),
        _marked(printed, findings),
        "\n".join(["Checks, and what each assumes", *_checks(findings)]),
    ]
    if cells := _cells(printed, findings):
        title = f"Impossible ({CROSS}) if all of that is true: what could stand there (what else could explain it)"
        parts.append("\n".join([_wrap(title), *cells]))
    parts.append("\n".join(["What arithmetic cannot know", *(_wrap(f"- {line}", "  ") for line in UNKNOWN)]))
    return "\n\n".join([*parts, _wrap(conclusion(printed, findings))])


def conclusion(printed: Printed, findings: pd.DataFrame) -> str:
    """One line: how many cells cannot be, and what follows from it."""
    n = audit.summary(printed.table, findings)
    if not n["checked"]:
        return f"No check applies to these {n['cells']} numbers: give --per-class, or a column of each class."
    if not n["impossible"]:
        return f"All {n['checked']} numbers that a check could look at can come from such an experiment."
    said = f"{n['impossible']} of {n['checked']} numbers checked cannot come from such an experiment"
    said += f", in {n['rows']} of {len(printed.table)} rows: there the assumptions cannot all be true."
    if explained := n["impossible"] - n["unexplained"]:
        said += f" What is listed in brackets could explain {explained} of them"
        said += f", but not the other {n['unexplained']}." if n["unexplained"] else "."
    return said


def as_json(printed: Printed, design: Design, findings: pd.DataFrame) -> str:
    """An object: `design`, `columns`, `summary`, `checks`, `findings`, `cannot_know`, `conclusion`."""
    said: dict[str, Any] = {
        "design": {**vars(design), "per_class": dict(design.per_class)},
        "columns": dict(printed.called),
        "unused": list(printed.unused),
        "fractions": printed.fractions,
        "summary": audit.summary(printed.table, findings),
        "checks": json.loads(audit.by_check(findings).reset_index().to_json(orient="records")),
        "findings": json.loads(findings.to_json(orient="records")),
        "cannot_know": list(UNKNOWN),
        "conclusion": conclusion(printed, findings),
    }
    return json.dumps(said, indent=1, ensure_ascii=False)


def figure(printed: Printed, findings: pd.DataFrame, title: str) -> Any:
    """The table as a grid: a cross and a colour at each cell that cannot be. A `matplotlib` Figure of its own."""
    from matplotlib.figure import Figure

    table, marks = printed.table, audit.marks(printed.table, findings)
    fig = Figure(figsize=(2.5 + 0.95 * table.shape[1], 1.3 + 0.42 * len(table)), layout="constrained")
    ax = fig.subplots()
    ax.imshow(marks.to_numpy(float), cmap=_two_colours(), vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(table.index):
        for x, column in enumerate(table.columns):
            if pd.notna(value := table.loc[row, column]):
                cross = f" {CROSS}" if marks.loc[row, column] else ""
                ax.text(x, y, f"{value:.{printed.decimals[row]}f}{cross}", ha="center", va="center")
    ax.set_xticks(range(table.shape[1]), [printed.called[name] for name in table.columns], rotation=30, ha="right")
    ax.set_yticks(range(len(table)), list(table.index))
    ax.set_xticks([x - 0.5 for x in range(1, table.shape[1])], minor=True)
    ax.set_yticks([y - 0.5 for y in range(1, len(table))], minor=True)
    ax.grid(which="minor", color="white", linewidth=2)
    ax.tick_params(which="both", length=0)
    ax.set_title(f"{title}\n{CROSS}: no such experiment gives this number", fontsize="medium", loc="left")
    for side in ax.spines.values():
        side.set_visible(False)
    return fig


def _two_colours() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap(["#eceff1", "#f2b8b3"])


def _described(printed: Printed, design: Design) -> str:
    classes = [f"{printed.called[f'acc_{one}']} {design.per_class.get(one) or '?'}" for one in printed.classes]
    if not classes and design.per_class:
        classes = [f"{one} {n}" for one, n in design.per_class.items()]
    places = sorted(set(printed.decimals.values()) if isinstance(design.decimals, dict) else {design.decimals})
    unit = "fractions, here in percent" if printed.fractions else "percent"
    parts = [
        f"{len(printed.table)} row{'s' * (len(printed.table) != 1)}",
        f"items of each class: {', '.join(classes) or 'unknown'}",
        f"{design.folds} folds" if design.folds > 1 else "one test set",
        f"the average of {design.runs} runs" if design.runs > 1 else "one run",
        f"{design.average} averages",
        f"{unit} to {' or '.join(map(str, places))} decimals, rounded{' or cut off' * design.truncated}",
    ]
    unused = f"; not used: {', '.join(printed.unused)}" if printed.unused else ""
    return "; ".join(parts) + unused


def _marked(printed: Printed, findings: pd.DataFrame) -> str:
    marks = audit.marks(printed.table, findings)
    shown = pd.DataFrame(
        {
            printed.called[column]: [
                "–"
                if pd.isna(value)
                else f"{value:.{printed.decimals[row]}f} {CROSS if marks.loc[row, column] else ' '}"
                for row, value in printed.table[column].items()
            ]
            for column in printed.table.columns
        },
        index=printed.table.index.rename(None),
    )
    return shown.to_string(line_width=WIDTH)


def _checks(findings: pd.DataFrame) -> list[str]:
    table = audit.by_check(findings)
    lines = []
    for name, line in table[table["cells"] > 0].iterrows():
        looked = f"{line['cells']} number{'s' * (line['cells'] != 1)}, {line['impossible']} impossible"
        lines.append(_wrap(f"- {name}: {looked}. Assumes: {line['assumes']}.", "  "))
    if idle := list(table.index[table["cells"] == 0]):
        lines.append(_wrap(f"- Not for these columns: {'; '.join(idle)}.", "  "))
    return lines


def _cells(printed: Printed, findings: pd.DataFrame) -> list[str]:
    lines = []
    bad = findings[~findings["possible"].astype(bool)]
    for row in printed.table.index:
        for finding in bad[bad["row"] == row].itertuples():
            may = [f"an average of {finding.runs} runs"] * (finding.runs > 0) + ["unstratified folds"] * finding.folds
            may += ["digits cut off"] * finding.cut
            explained = f" ({' or '.join(may)})" if may else ""
            said = f"- {row}, {printed.called[finding.column]} {finding.printed:g}: {finding.expected}"
            said += f", by {finding.check}{explained}"
            lines.append(_wrap(said, "  "))
    return lines


def _wrap(line: str, indent: str = "") -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent=indent)
