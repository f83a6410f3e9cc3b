"""What a chapter shows beside figures: the lines of the package, which corpus it ran on, how a number was made."""

from __future__ import annotations

import ast
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
from hmoe.corpora.casia import SHOWN
from hmoe.study import report
from hmoe.study.experiments import Experiment
from hmoe.study.report import RowReport
from hmoe_book import figures, prose

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
        shown = filled(wrapped(code, "code.py").rstrip())
        display({"text/markdown": f"{where}:\n\n```python\n{shown}\n```", "text/plain": code}, raw=True)


def wrapped(code: str, name: str) -> str:
    """Python, or a notebook, with lines of at most `COLUMNS` columns where that can be; as it is without ruff."""
    program = Path(sys.executable).with_name("ruff")
    if not program.exists():
        return code
    command = [program, "format", "--quiet", "--isolated", "--line-length", str(COLUMNS), "--stdin-filename", name, "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else code


def filled(code: str) -> str:
    """Python with its docstrings and comments in lines of at most `COLUMNS` columns too, which no formatter touches."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, documented) and ast.get_docstring(node)]
    inside = {line for node in nodes for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    lines, rest = [], list(enumerate(code.splitlines(), 1))
    while rest:
        number, line = rest.pop(0)
        indent, comment = line[: len(line) - len(line.lstrip())], line.lstrip().startswith("#")
        if len(line) <= COLUMNS or not (comment or number in inside):
            lines.append(line)
            continue
        # The rest of its paragraph flows on behind it.
        further = indent + "# " * comment
        while rest and re.match(further + r'(?!\s|- |""")', rest[0][1]) and (comment or rest[0][0] in inside):
            line += " " + rest.pop(0)[1].removeprefix(further)
        lines += textwrap.wrap(line, COLUMNS, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


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
    """A table with a caption and where its numbers come from; in the book numbered, {numref}`name` leads to it.

    Of a `folded` one the book shows the caption, and the rest when it is asked for.
    """

    def __init__(
        self, data: pd.DataFrame, caption: str = "", record: str = "", name: str = "", folded: bool = False
    ) -> None:
        data = aligned(data)
        if data.index.name:  # the first column has one header: the name of the rows
            data.columns.names = [None] * data.columns.nlevels
        super().__init__(data)
        self.said, self.folded = (caption, record, name), folded
        for axis in ("index", "columns"):
            self.format_index(displayed, axis=axis)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        shown = figures.framed("tabular", one_header(self.to_html()), *self.said, folded=self.folded)
        return shown | {"text/plain": self.data.to_string()}


NUMBERS = re.compile(r"[−+-]?\d+\.\d+(?: \[[−+-]?\d+\.\d+, [−+-]?\d+\.\d+\])?( \*)?")
PAD = "\u2007"  # a space as wide as a digit


def aligned(data: pd.DataFrame) -> pd.DataFrame:
    """The same with the means and intervals of a column padded, so that decimal points stand one beneath the other, and
    with yes and no for a truth."""
    data = data.copy()
    for k, column in enumerate(data.columns):
        cells = data.iloc[:, k]
        if pd.api.types.is_bool_dtype(cells.infer_objects()):
            data.isetitem(k, ["yes" if each else "no" for each in cells])
            continue
        numbers = [each for each in cells if isinstance(each, str) and NUMBERS.fullmatch(each)]
        if len(numbers) < 2 or not data.columns.is_unique:
            continue
        parts = [re.findall(r"[−+-]?\d+\.\d+", each) for each in numbers]
        widths = [max(len(each[n]) for each in parts if len(each) > n) for n in range(max(map(len, parts)))]
        data[column] = [_padded(each, widths) if each in numbers else each for each in cells]
    return data


def _padded(cell: str, widths: list[int]) -> str:
    widths = iter(widths)
    return re.sub(r"[−+-]?\d+\.\d+", lambda number: number[0].rjust(next(widths), PAD), cell)


def idle(counts: pd.DataFrame, record: str, name: str) -> Table:
    """The table of `probe.idle` at T = 1: which parameters one frame leaves without a gradient, and how many of all."""
    counts = pd.concat([counts, counts.sum().to_frame("in all").T])
    shown = counts.assign(share=counts["idle"] / counts["numbers"])[counts["idle"] > 0]
    shown = shown.rename(columns={"numbers": "parameters"})
    form = {"parameters": "{:,}", "idle": "{:,}", "share": "{:.0%}"}
    return Table(shown, "Parameters that get no gradient from one frame.", record, name).format(form)


NAMES = {
    "shared_by": "rows with the same",
    "acc_": "", "f1": "F1",
    "lstm": "LSTM", "cnn": "CNN", "transformer": "Transformer",
    **SHOWN,
}  # fmt: skip
"""What a reader sees in place of a name that the records use."""


def displayed(label: object) -> object:
    """A label as a reader knows it: "anger" of the column "acc_anger", S1 to S4 for the speakers of CASIA."""
    if isinstance(label, str):
        for name, said in NAMES.items():
            label = said if label == name else label.replace(name, said) if name != "f1" else label
    return label


def one_header(table: str) -> str:
    """A table as pandas writes it, with the name of its index in the row of the column names, not in one of its own."""
    rows = re.findall(r"<tr>.*?</tr>", table[: table.find("</thead>")], flags=re.DOTALL)
    if len(rows) < 2 or "index_name" not in rows[-1]:
        return table
    names = iter(re.findall(r"<th class=\"index_name[^>]*>.*?</th>", rows[-1], flags=re.DOTALL))
    head = re.sub(r"<th class=\"blank[^>]*>.*?</th>", lambda _: next(names, ""), rows[-2], flags=re.DOTALL)
    return table.replace(rows[-1], "", 1).replace(rows[-2], head, 1)


def accuracies(found: Sequence[RowReport], experiment: Experiment, name: str = "") -> Table:
    """The table of an experiment, folded: our accuracy, the paper's, the points over the reference row, the verdict."""
    metrics = report.shown(row.trials for row in found)
    table = report.table(found, experiment).set_index("row").drop(columns=metrics)
    judged = {row.name: row.judge("accuracy") for row in found if row.paper}
    if any(row.paper for row in experiment.rows):
        table["verdict"] = [prose.marked(judged[name]) if name in judged else "–" for name in table.index]
        table["why"] = [judged[name].why if name in judged else "–" for name in table.index]
    else:
        table = table.drop(columns=["verdict", "paper"])
    table.loc[table["trials"] == 0, "accuracy, 95 % interval"] = "not recorded"
    title = experiment.title.rstrip("?")
    tested = ""
    if experiment.reference:
        tested = (
            f"; points over “{displayed(experiment.reference)}” on the same utterances; detectable: the smallest true "
            f"difference that 80 of 100 repetitions would show"
        )
    caption = f"{title}: accuracy in percent{tested}."
    form = {name: "{:.1f}" for name in ("paper", "detectable") if name in table}
    return Table(table, caption, recorded(found, experiment), name, folded=True).format(form, na_rep="–")


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
