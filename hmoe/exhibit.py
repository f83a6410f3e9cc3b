"""What a chapter shows beside figures: the lines of the package, which corpus it ran on, how a number was made."""

from __future__ import annotations

import html
import inspect
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from IPython.display import display
from pandas.io.formats.style import Styler

from hmoe import report
from hmoe.corpora import Corpus
from hmoe.experiments import METRICS, Experiment
from hmoe.report import RowReport
from hmoe.store import commit, machine, now


def source(*objects: type | Callable) -> None:
    """Show classes, functions or methods as they stand in the package, so that the page cannot drift from the code.

    Shown as Markdown, which the book highlights in the colours of the page.
    """
    for item in objects:
        lines, first = inspect.getsourcelines(item)
        file = Path(inspect.getsourcefile(inspect.unwrap(item)) or "")
        code = textwrap.dedent("".join(lines)).rstrip()
        where = f"`{file.parent.name}/{file.name}`, lines {first} to {first + len(lines) - 1}"
        display({"text/markdown": f"{where}:\n\n```python\n{code}\n```", "text/plain": code}, raw=True)


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


def accuracies(found: Sequence[RowReport], experiment: Experiment) -> Styler:
    """The table of an experiment: our accuracy, the paper's, the tests against the reference row, the verdict."""
    table = report.table(found, experiment).set_index("row").drop(columns=list(METRICS))
    form = {"paper": "{:.1f}", "p (t-test)": "{:.2g}", "p (McNemar)": "{:.2g}"}
    caption = f"p: against “{experiment.reference}”, with Holm's correction."
    return table.style.format(form, na_rep="–").set_caption(caption)


def made(corpus: Corpus, profile: str, seed: int, device: str) -> str:
    """One line for the caption of a figure or table that a page computed: on what, by which code, where and when."""
    return (
        f"Computed on this page: corpus {corpus.name}, {len(corpus)} utterances, profile {profile}, seed {seed}, "
        f"{device} ({machine(device)}), commit {commit()}, {now()[:10]}."
    )
