"""The book: notebooks are executed with papermill, then Jupyter Book makes pages of them.

All of it happens in `_build/`, which can be deleted at any time: `executed/` keeps the notebooks that need not run
again, `src/` is what Jupyter Book reads, `html/` is the book.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from html import escape
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import papermill
import yaml
from filelock import FileLock
from IPython.core.inputtransformer2 import TransformerManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from hmoe import corpora
from hmoe.base.errors import HmoeError
from hmoe.base.files import DATA, PROJECT, atomic_write, results_dir
from hmoe.base.source import Needs
from hmoe.base.stamp import commit, machine
from hmoe_book import exhibit, figures, kernels, pages, questions, reads, runs

BUILD = PROJECT / "_build"
FOLDED_FROM = 11
"""From this chapter on the book is about results: their code is folded. Before, the code is what a chapter shows."""
SHOWS = re.compile(r"\b(figures\.(show|slider|listen|use)|exhibit\.(Table|source|note))\(")
"""Code that draws, lays out or prepares what a page shows, rather than being what it is about."""
NUMBER = re.compile(
    r"<(td)\b((?![^>]*data-number)[^>]*)>((?:<p>)?\s*[−+-]?\d[\d.,]*(?: to \d[\d.,]*)?(?:e[+-]?\d+)?(?: ?%| s| min)?"
    r"(?: \[[^\]<]*\]| \([−+\d][\d.,−+ to]*(?: speakers)?\))?\s*(?:</p>)?)</td>"
)
"""A cell of a table that holds a number: with its interval, its speakers, or the paper's number beside it."""
INTERVAL = re.compile(r"(\d) \[(\u2007*[−+-]?\d[\d.]*), (\u2007*[−+-]?\d[\d.]*)\]")
QUESTION = re.compile(r'<a class="reference internal" href="(?:[^"#]*deviations\.html)?#(q\d+)"')
QUIET = ",".join(f"ignore:{message}" for message in figures.OF_THE_MACHINE)
UNUSED = re.compile(r'<script src="[^"]*fontawesome/[^"]*"></script>|<link rel="preload"[^>]*fa-(brands|regular)[^>]*>')
"""1.6 MB a page: a script that draws the icons which the theme's font draws as well, and fonts that no page uses."""


def build(
    corpus: str = "synthetic",
    root: str = "",
    profile: str = "fast",
    device: str = "cpu",
    seed: int = 0,
    jobs: int = 2,
    single: bool = False,
) -> Path:
    """Execute what is not up to date, build the book, return its first page. HmoeError names what failed.

    With `single` the whole book is one page, to print or to search.
    """
    parameters = {"corpus": corpus, "root": root, "profile": profile, "device": device, "seed": seed}
    source = BUILD / "src"
    BUILD.mkdir(exist_ok=True)
    with FileLock(BUILD / "book.lock"), environment():
        # Unchanged files keep their times, so that only pages with something new are written anew.
        shutil.copytree(
            PROJECT / "book", source / "book", dirs_exist_ok=True, ignore=shutil.ignore_patterns("hmoe_book")
        )
        shutil.copy2(PROJECT / "_toc.yml", source / "_toc.yml")
        config = launched((PROJECT / "_config.yml").read_text(encoding="utf-8"), commit())
        _write_if_new(source / "_config.yml", config)
        (source / "notebooks").mkdir(exist_ok=True)
        execute(parameters, jobs)
        executed = execute(parameters, jobs)  # chapters that recorded trials: to show them; nothing is trained again
        for notebook in executed:
            target = source / "notebooks" / f"{notebook.name.split('.')[0]}.ipynb"
            shown = page(target.stem, notebook.read_text(encoding="utf-8"))
            _write_if_new(target, elsewhere(shown, config))
        for record in runs.records(results_dir()):
            kept = source / "results" / record.parent.name / record.name
            _write_if_new(kept, record.read_text(encoding="utf-8"))
        records = pages.recorded()
        for name, text in pages.fragments(records).items():
            _write_if_new(source / "book" / "generated" / name, text)
        readme = PROJECT / "README.md"
        _write_if_new(readme, pages.fill(readme.read_text(encoding="utf-8"), pages.readme(records)))
        program = Path(sys.executable).with_name("jupyter-book")
        builder = "singlehtml" if single else "html"
        command = [program, "build", "-q", "-W", "-n", "--keep-going", "--builder", builder]
        command += ["--path-output", PROJECT, source]
        if subprocess.run(command).returncode:
            raise HmoeError(source, "Jupyter Book found errors", "they are printed above")
        for html in (BUILD / builder).rglob("*.html"):
            _write_if_new(html, polished(html.read_text(encoding="utf-8")))
    toc = yaml.safe_load((PROJECT / "_toc.yml").read_text())
    return BUILD / "singlehtml" / f"{toc['root']}.html" if single else BUILD / "html" / "index.html"


def page(name: str, notebook: str) -> str:
    """What the book shows of an executed notebook, `name` starting with its chapter's number.

    Code that draws or lays out, and in chapters of results all code, is folded. The parameters stand once, as they
    were given, with what they mean. Lines of code have at most `COLUMNS` columns.
    """
    result = nbformat.reads(notebook, as_version=4)
    results = int(name.split("-")[0]) >= FOLDED_FROM
    given = [cell for cell in result.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    result.cells = [cell for cell in result.cells if cell not in given]
    for cell in result.cells:
        if cell.cell_type != "code":
            continue
        tags = set(cell.metadata.get("tags", []))
        if "parameters" in tags and given:
            cell.source = _with_values(cell.source, given[0].source)
        if results and "exhibit.source(" in cell.source:
            tags.add("hide-cell")  # what it shows is code too
        elif "hide-cell" not in tags and (results or SHOWS.search(cell.source)):
            tags.add("hide-input")
        cell.metadata.tags = sorted(tags)
    return exhibit.wrapped(nbformat.writes(result), f"{name}.ipynb")


def _with_values(parameters: str, given: str) -> str:
    """The lines of the cell of parameters, each with the value that was given and its comment."""
    values = {name: ast.unparse(value) for name, value in _assigned(given)}
    lines = parameters.splitlines()
    for node in ast.parse(parameters).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in values:
            comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            lines[node.lineno - 1 : node.end_lineno] = [f"{node.targets[0].id} = {values[node.targets[0].id]}{comment}"]
    return "\n".join(lines)


def _assigned(code: str) -> list[tuple[str, ast.expr]]:
    nodes = [node for node in ast.parse(code).body if isinstance(node, ast.Assign)]
    return [(target.id, node.value) for node in nodes for target in node.targets if isinstance(target, ast.Name)]


def launched(config: str, at: str) -> str:
    """`_config.yml` with buttons that open each notebook on Binder, which installs commit `at`, and on Colab.

    Only where the configuration says where the repository is (`repository: {url: ...}`), and `at` names a commit
    that can be fetched: of code that is not committed there is none.
    """
    given = yaml.safe_load(config)
    if not given.get("repository", {}).get("url") or not at.isalnum():
        return config
    given["repository"]["branch"] = at
    given["launch_buttons"] = {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    }
    # Jupyter Book forgets both where `_config.yml` gives the theme options of its own, as ours does.
    theme = given.setdefault("sphinx", {}).setdefault("config", {}).setdefault("html_theme_options", {})
    theme |= {"repository_url": given["repository"]["url"], "repository_branch": at}
    theme |= {"launch_buttons": given["launch_buttons"]}
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True)


def elsewhere(notebook: str, config: str) -> str:
    """The notebook, and if its page has the buttons of `launched`, how to install the same commit on Colab."""
    given = yaml.safe_load(config)
    if "launch_buttons" not in given:
        return notebook
    url, at = given["repository"]["url"], given["repository"]["branch"]
    install = f"!git clone -q {url} book && git -C book checkout -q {at} && pip install -q -e 'book[book]'"
    result = nbformat.reads(notebook, as_version=4)
    text = f"The button opens this chapter at commit {at}. Run this in a first cell, then restart the session:"
    how = f":::{{dropdown}} On Colab\n{text}\n\n```\n{install}\n```\n:::"
    result.cells.insert(1, nbformat.v4.new_markdown_cell(how))
    return nbformat.writes(result)


def polished(html: str) -> str:
    """A page as Sphinx made it, with what no directive of its can say."""
    # A table that scrolls is reached by keyboard only if the box it scrolls in is.
    box = 'class="pst-scrollable-table-container"'
    html = UNUSED.sub("", html).replace(f"<div {box}>", f'<div {box} tabindex="0">')
    # Where a question is cited, what it is can be seen without going there (hmoe.js shows it).
    html = QUESTION.sub(lambda link: f'{link[0]} data-preview="{escape(questions.preview(link[1]))}"', html)
    # A header of nothing is no header.
    html = re.sub(r"<th\b([^>]*)>((?:<p>|&nbsp;|&#160;|\s|</p>)*)</th>", r"<td\1>\2</td>", html)
    # Numbers stand one beneath the other, and no line breaks within one or within an interval.
    html = NUMBER.sub(r'<\1\2 data-number="">\3</\1>', html)
    html = re.sub(r"<table\b.*?</table>", lambda table: _headed(table[0]), html, flags=re.DOTALL)
    parts = re.split(r"(<pre\b.*?</pre>|<script\b.*?</script>)", html, flags=re.DOTALL)
    return "".join(part if k % 2 else INTERVAL.sub("\\1\xa0[\\2,\xa0\\3]", part) for k, part in enumerate(parts))


def _headed(table: str) -> str:
    """The table with the names of columns of numbers above the numbers, and the numbers in a column of words as words;
    one with cells across columns as it is."""
    start, head, *body = [*re.split(r"(?=<tr\b)", table), ""]
    if "span=" in table or not any(body):
        return table
    cells = [re.findall(r"<t[hd]\b([^>]*)>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in body]
    kinds: dict[int, list[bool]] = {}
    for k, (mark, cell) in (each for row in cells for each in enumerate(row)):
        if re.sub(r"<[^>]*>", "", cell).strip(" –\n"):
            kinds.setdefault(k, []).append("data-number" in mark)
    numbers = {k for k, found in kinds.items() if any(found) and 2 * sum(found) >= len(found)}

    def marked(row: str, above: bool) -> str:
        place = count()

        def cell(found: re.Match[str]) -> str:
            bare = found[0].replace(' data-number=""', "")
            number = next(place) in numbers and (above or bare != found[0] or found["none"])
            return f'{bare[:-1]} data-number="">' if number else bare

        return re.sub(r"<t[hd]\b[^>]*>(?=(?P<none>(?:<p>)?–(?:</p>)?</t)?)", cell, row)

    return start + marked(head, True) + "".join(marked(row, False) for row in body)


def _write_if_new(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic_write(path, text)


def execute(parameters: dict[str, Any], jobs: int = 2) -> list[Path]:
    """Run the notebooks of the table of contents that are not `current`, `jobs` at a time; those are kept."""
    chapters = [path for path in sources() if path.parent.name == "notebooks"]
    given = {**parameters, "files": corpora.state(parameters["corpus"], parameters["root"])}
    done = {path: BUILD / "executed" / f"{path.stem}.{fingerprint(path, given)}.ipynb" for path in chapters}
    due = [path for path in chapters if not current(done[path])]
    with environment(), ThreadPoolExecutor(jobs) as pool:
        runs = {pool.submit(_execute, path, done[path], parameters): path for path in due}
        try:
            for count, run in enumerate(as_completed(runs), 1):
                print(f"[{count}/{len(due)}] {runs[run].name}: {run.result():.0f} s", flush=True)
        except BaseException:  # Ctrl-C too: what waits would otherwise run first
            pool.shutdown(cancel_futures=True)
            raise
    return list(done.values())


@contextmanager
def environment() -> Iterator[None]:
    """What kernels and programs of the build find in their environment; this process has its own back afterwards."""
    given = {
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, whatever else is installed for this user
        "OMP_NUM_THREADS": "1",  # notebooks run side by side
        "TQDM_DISABLE": "1",  # a page shows results, not progress
        "PYTHONWARNINGS": QUIET,
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def sources() -> list[Path]:
    """The sources of all pages, in reading order."""
    toc = yaml.safe_load((PROJECT / "_toc.yml").read_text())
    names = [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    files = [PROJECT / f"{name}{'.md' if name.startswith('book') else '.ipynb'}" for name in names]
    for file in files:
        if not file.exists():
            raise HmoeError(
                file.relative_to(PROJECT), "is not there", "_toc.yml names it: add the one, or remove the other"
            )
    return files


def fingerprint(notebook: Path, given: dict[str, Any]) -> str:
    """Names what is known to decide a notebook's outputs before it runs: itself, what it is given, and its imports.

    The imports are followed through our modules; of other packages the version counts.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    code = [TransformerManager().transform_cell(cell.source) for cell in cells if cell.cell_type == "code"]
    needs = Needs.of("\n".join(code)).digest()
    return _digest(notebook.read_bytes(), json.dumps(given, sort_keys=True), needs)


def current(executed: Path) -> bool:
    """Whether a notebook was executed, and what it read of the records then is what there is now."""
    if not executed.exists():
        return False
    seen = nbformat.read(executed, as_version=4).metadata["hmoe"]["read"]
    return all(reads.state(_place(name)) == state for name, state in seen.items())


def _read(report: Path) -> dict[str, str]:
    """What `reads.trace` wrote down, by names that hold wherever the project lies."""
    lines = [line.split(" ", 1) for line in report.read_text(encoding="utf-8").splitlines()] if report.exists() else []
    named = {}
    for state, path in lines:
        place = next(place for place, folder in _places().items() if Path(path).is_relative_to(folder))
        named[f"{place}:{Path(path).relative_to(_places()[place]).as_posix()}"] = state
    return named


def _place(name: str) -> Path:
    place, _, path = name.partition(":")
    return _places()[place] / path


def _places() -> dict[str, Path]:
    return {"results": results_dir().resolve(), "data": DATA.resolve()}


def _digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()[:16]


def _execute(notebook: Path, target: Path, parameters: dict[str, Any]) -> float:
    """Run one notebook; its seconds. The result appears under its name only if every cell ran."""
    started = time.monotonic()
    for old in target.parent.glob(f"{notebook.stem}.*.ipynb"):
        old.unlink()
    failed = target.with_name(f"{notebook.stem}.failed.ipynb")
    failed.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory() as folder:
            report = Path(folder, "read")
            traced = ", ".join(repr(str(each)) for each in (report, *_places().values()))
            papermill.execute_notebook(
                notebook,
                failed,
                parameters,
                kernel_name="python3",
                cwd=notebook.parent,
                progress_bar=False,
                kernel_manager_class=f"{kernels.__name__}.Manager",
                extra_arguments=[  # to the kernel, which else warns that it listens on localhost
                    "--log-level=ERROR",
                    f"--IPKernelApp.exec_lines=__import__('hmoe_book.reads').reads.trace({traced})",
                ],
            )
            seen = _read(report)
    except PapermillExecutionError as error:
        raise HmoeError(
            notebook.relative_to(PROJECT),
            f"cell {error.exec_count} raised {error.ename}: {error.evalue}",
            f"the whole traceback is in {failed.relative_to(PROJECT)}",
        ) from None
    except DeadKernelError:
        raise HmoeError(
            notebook.relative_to(PROJECT), "its kernel died, perhaps for want of memory", "run again with --jobs 1"
        ) from None
    seconds = time.monotonic() - started
    result = nbformat.read(failed, as_version=4)
    result.metadata["hmoe"] = {"read": seen}
    result.cells.append(nbformat.v4.new_markdown_cell(_provenance(parameters, seconds)))
    atomic_write(target, nbformat.writes(result))
    failed.unlink()
    return seconds


def _provenance(parameters: dict[str, Any], seconds: float) -> str:
    given = ", ".join(f"{name} {parameters[name]}" for name in ("corpus", "profile", "device", "seed"))
    when = time.strftime("%Y-%m-%d")
    return f"---\n*This page ran on {when} in {seconds:.0f} s: {given}; commit {commit()}; {machine()}.*"
