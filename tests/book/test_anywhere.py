"""A chapter without `hmoe book`: by plain papermill, by `jupyter execute` from any folder, and where a button leads."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from hmoe.base.files import PROJECT
from hmoe.corpora import Corpus
from hmoe_book import build as book

SHORT = "15-arithmetic"
PROGRAMS = Path(sys.executable).parent


OF_A_CORPUS = "01-the-corpus"


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    """A copy of the shortest chapter, away from the project."""
    return Path(shutil.copy(PROJECT / "notebooks" / f"{SHORT}.ipynb", tmp_path))


def errors(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    said = [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    return [output.get("text") or "\n".join(output.traceback) for output in said]


def run(*command: object, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    words, env = [str(word) for word in command], os.environ | variables
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=env)


def test_plain_papermill_runs_a_chapter_on_a_corpus_of_the_readers(tmp_path: Path, small_corpus: Corpus) -> None:
    chapter, target = PROJECT / "notebooks" / f"{OF_A_CORPUS}.ipynb", tmp_path / "out.ipynb"
    given = ["-p", "corpus", "synthetic", "-p", "root", small_corpus.root, "-k", "python3"]
    done = run(PROGRAMS / "papermill", chapter, target, *given, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert errors(target) == []
    assert f"{len(small_corpus)} utterances" in target.read_text()


def test_jupyter_executes_a_chapter_from_any_folder(chapter: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run(PROGRAMS / "jupyter", "execute", "--inplace", chapter, folder=elsewhere)
    assert done.returncode == 0, done.stderr
    assert errors(chapter) == []


def test_nbconvert_runs_a_notebook_of_the_readers_in_the_kernel_that_set_up_registers(tmp_path: Path) -> None:
    """By its own name, from any folder, with bars of other libraries and no word about widgets."""
    (command,) = re.findall(r"-m (ipykernel install .*?) >", (PROJECT / "tools" / "setup.sh").read_text())
    where = command.replace("--sys-prefix", f"--prefix {tmp_path}")
    run(sys.executable, "-m", *shlex.split(where), folder=tmp_path)
    said = "import sys\nfrom hmoe.use.pretrained import Pretrained\nfrom tqdm.auto import trange\n"
    said += "[*trange(2)]\nprint(sys.prefix)"
    mine = tmp_path / "mine.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(said)]), mine)
    convert = ["nbconvert", "--to", "notebook", "--execute", "--inplace", "--ExecutePreprocessor.kernel_name=hmoe"]
    found = {"JUPYTER_PATH": str(tmp_path / "share" / "jupyter")}
    done = run(PROGRAMS / "jupyter", *convert, mine, folder=tmp_path, **found)
    assert done.returncode == 0, done.stderr
    assert sys.prefix in mine.read_text()
    assert "IProgress" not in mine.read_text() and "IProgress" not in done.stderr


def test_a_device_that_is_not_there_ends_a_chapter_in_one_line(chapter: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.ipynb"
    done = run(PROGRAMS / "papermill", chapter, target, "-p", "device", "cuda:99", "-k", "python3", folder=tmp_path)
    assert done.returncode != 0
    (line,) = errors(target)
    assert "\n" not in line and "device" in line and "cuda:99" in line


def test_launch_buttons_lead_to_the_chapter_at_the_commit_and_to_what_installs(tmp_path: Path) -> None:
    """One page, built by Jupyter Book as if the repository were known."""
    at, commit = "https://github.com/owner/name", "0123456789"
    config = yaml.safe_load((PROJECT / "_config.yml").read_text()) | {"repository": {"url": at}}
    launched = book.launched(yaml.safe_dump(config), commit)
    (tmp_path / "_config.yml").write_text(launched)
    (tmp_path / "_toc.yml").write_text(f"format: jb-book\nroot: notebooks/{SHORT}\n")
    shutil.copytree(PROJECT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("hmoe_book"))
    source = PROJECT / "notebooks" / f"{SHORT}.ipynb"
    (tmp_path / "notebooks").mkdir()
    shown = book.elsewhere(book.page(SHORT, source.read_text()), launched)
    (tmp_path / "notebooks" / source.name).write_text(shown)
    run(PROGRAMS / "jupyter-book", "build", "-q", tmp_path, folder=tmp_path)
    html = (tmp_path / "_build" / "html" / "notebooks" / f"{SHORT}.html").read_text()
    assert f"https://mybinder.org/v2/gh/owner/name/{commit}?urlpath=lab/tree/notebooks/{source.name}" in html
    assert f"https://colab.research.google.com/github/owner/name/blob/{commit}/notebooks/{source.name}" in html
    assert f"git clone -q {at} book" in html and f"git -C book checkout -q {commit}" in html
    # Binder makes the environment of environment.yml; Colab installs the extra `book`.
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    conda = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    wanted = {extra for line in conda for extra in Requirement(line.replace("-e .", "hmoe")).extras}
    assert "book" in wanted <= set(extras)
    assert json.loads(shown)["nbformat"] == 4
