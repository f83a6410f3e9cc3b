"""What a chapter shows beside figures: the lines of the package, which corpus it ran on, how a number was made."""

from __future__ import annotations

import html
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from IPython.display import display
from pandas.io.formats.style import Styler

from hmoe.base.files import PROJECT
from hmoe.base.stamp import commit, machine, now
from hmoe.corpora import Corpus
from hmoe.study import report
from hmoe.study.experiments import Experiment
from hmoe.study.report import RowReport
from hmoe_book import figures

COLUMNS = 88
"""Of code on a page: what a window of 1,400 pixels shows whole."""


def source(*objects: type | Callable) -> None:
    """Show classes, functions or methods as they stand in the package, so that the page cannot drift from the code.

    Shown as Markdown, which the book highlights in the colours of the page.
    """
    for item in objects:
        lines, first = inspect.getsourcelines(item)
        file = Path(inspect.getsourcefile(inspect.unwrap(item)) or "")
        code = textwrap.dedent("".join(lines)).rstrip()
        where = f"`{file.relative_to(PROJECT).as_posix()}`, lines {first} to {first + len(lines) - 1}"
        shown = wrapped(code, "code.py").rstrip()
        display({"text/markdown": f"{where}:\n\n```python\n{shown}\n```", "text/plain": code}, raw=True)


def wrapped(code: str, name: str) -> str:
    """Python, or a notebook, with lines of at most `COLUMNS` columns where that can be; as it is without ruff."""
    program = Path(sys.executable).with_name("ruff")
    if not program.exists():
        return code
    command = [program, "format", "--quiet", "--isolated", "--line-length", str(COLUMNS), "--stdin-filename", name, "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else code


def note(corpus: Corpus) -> None:
    """Say which corpus the page runs on; of the synthetic one also that its numbers mean nothing about emotion."""
    speakers = corpus.table["speaker"].nunique()
    text = f"This page ran on the corpus “{corpus.name}”: {len(corpus)} utterances, {speakers} speakers."
    if corpus.name == "synthetic":
        text += (
            " Its voices are synthetic. Whatever is measured on them shows how the method works;"
            " it means nothing about emotion in speech."
        )
    body = f'<p class="admonition-title">Corpus</p><p>{html.escape(text)}</p>'
    display({"text/html": f'<div class="admonition note">{body}</div>', "text/plain": text}, raw=True)


class Table(Styler):
    """A table with a caption and where its numbers come from; in the book numbered, {numref}`name` leads to it."""

    def __init__(self, data: pd.DataFrame, caption: str = "", record: str = "", name: str = "") -> None:
        super().__init__(data)
        self.said = caption, record, name
        for axis in ("index", "columns"):
            self.format_index(displayed, axis=axis)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return figures.framed("tabular", one_header(self.to_html()), *self.said) | {"text/plain": self.data.to_string()}


def idle(counts: pd.DataFrame, record: str, name: str) -> Table:
    """The table of `probe.idle` at T = 1: which parameters one frame leaves without a gradient, and how many of all."""
    counts = pd.concat([counts, counts.sum().to_frame("in all").T])
    shown = counts.assign(share=counts["idle"] / counts["numbers"])[counts["idle"] > 0]
    shown = shown.rename(columns={"numbers": "parameters"})
    form = {"parameters": "{:,}", "idle": "{:,}", "share": "{:.0%}"}
    return Table(shown, "Parameters that get no gradient from one frame.", record, name).format(form)


def displayed(label: object) -> object:
    """A label as a reader knows it: "anger" of the column "acc_anger"."""
    return label.removeprefix("acc_") if isinstance(label, str) else label


def one_header(table: str) -> str:
    """A table as pandas writes it, with the name of its index in the row of the column names, not in one of its own."""
    rows = re.findall(r"<tr>.*?</tr>", table, flags=re.DOTALL)
    if len(rows) < 2 or "index_name" not in rows[1]:
        return table
    names = iter(re.findall(r"<th class=\"index_name[^>]*>.*?</th>", rows[1], flags=re.DOTALL))
    head = re.sub(r"<th class=\"blank[^>]*>.*?</th>", lambda _: next(names, ""), rows[0], flags=re.DOTALL)
    return table.replace(rows[1], "", 1).replace(rows[0], head, 1)


def accuracies(found: Sequence[RowReport], experiment: Experiment, name: str = "") -> Table:
    """The table of an experiment: our accuracy, the paper's, the difference from the reference row, the verdict."""
    metrics = report.shown(row.trials for row in found)
    table = report.table(found, experiment).set_index("row").drop(columns=metrics)
    title = experiment.title.rstrip("?")
    tested = ""
    if experiment.reference:
        tested = (
            f"; points over “{experiment.reference}” on the same utterances, and the smallest true difference that "
            f"would have been seen in 80 of 100 repetitions"
        )
    caption = f"{title}: accuracy in percent{tested}."
    form = {name: "{:.1f}" for name in ("paper", "detectable") if name in table}
    return Table(table, caption, recorded(found, experiment), name).format(form, na_rep="–")


def recorded(found: Sequence[RowReport], experiment: Experiment) -> str:
    """`report.provenance` of rows, which know their store; or that there are none."""
    return report.provenance(found[0].store, experiment, list(found)) if found else "Nothing recorded yet."


def made(corpus: Corpus, profile: str, seed: int, device: str) -> str:
    """One line for the caption of a figure or table that a page computed: on what, by which code, where and when."""
    return (
        f"Computed on this page: corpus {corpus.name}, {len(corpus)} utterances, profile {profile}, seed {seed}, "
        f"{device} ({machine(device)}), commit {commit()}, {now()[:10]}."
    )


def stated(what: str) -> str:
    """The same of what is printed or listed rather than measured: what it is, at which commit."""
    return f"{what}, commit {commit()}, {now()[:10]}."
