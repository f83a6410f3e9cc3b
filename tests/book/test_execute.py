"""Executing notebooks: with the given parameters, again only when something changed, and a failure is named."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_notebook

from hmoe import corpora
from hmoe.base import source
from hmoe.base.errors import HmoeError
from hmoe.base.files import PROJECT
from hmoe.study.store import COLUMNS
from hmoe_book import build as book
from hmoe_book import kernels

GIVEN = {"corpus": "synthetic", "root": "", "profile": "fast", "device": "cpu", "seed": 3}


def write(path: Path, *cells: str) -> None:
    parameters = new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[parameters, *map(new_code_cell, cells)])
    notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, path)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one chapter."""
    monkeypatch.setattr(book, "PROJECT", tmp_path)
    monkeypatch.setattr(book, "BUILD", tmp_path / "_build")
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path / "results"))
    for folder in ("notebooks", "book"):
        (tmp_path / folder).mkdir()
    (tmp_path / "book" / "index.md").write_text("# A book")
    (tmp_path / "_toc.yml").write_text("root: book/index\nparts:\n- chapters:\n  - file: notebooks/01-a\n")
    write(tmp_path / "notebooks" / "01-a.ipynb", "print('seed is', seed)")
    return tmp_path


def test_a_notebook_gets_the_parameters_and_says_how_it_was_run(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = dict(os.environ)
    (done,) = book.execute(GIVEN)
    assert capfd.readouterr().err == ""
    assert dict(os.environ) == before  # what is for kernels is for no other process
    notebook = nbformat.read(done, as_version=4)
    assert "seed is 3" in notebook.cells[-2].outputs[0].text
    assert "corpus synthetic, profile fast, device cpu, seed 3" in notebook.cells[-1].source


def test_a_notebook_runs_again_when_what_it_depends_on_changed_and_only_then(project: Path) -> None:
    (first,) = book.execute(GIVEN)
    written = first.stat().st_mtime_ns
    (again,) = book.execute(GIVEN)
    assert (again, again.stat().st_mtime_ns) == (first, written)

    (other,) = book.execute(GIVEN | {"seed": 4})
    assert other != first


RECORDS = """
from hmoe.study.store import Store
Store("casia").read("table2")
"""


def test_a_record_makes_those_chapters_run_again_that_read_it(project: Path) -> None:
    write(project / "notebooks" / "01-a.ipynb", RECORDS)
    write(project / "notebooks" / "02-b.ipynb", "import os")
    (project / "_toc.yml").write_text(
        "root: book/index\nparts:\n- chapters:\n  - file: notebooks/01-a\n  - file: notebooks/02-b\n"
    )

    def ran() -> list[str]:
        before = {path: path.stat().st_mtime_ns for path in (project / "_build" / "executed").glob("*.ipynb")}
        return [path.name[:4] for path in book.execute(GIVEN) if before.get(path) != path.stat().st_mtime_ns]

    assert ran() == ["01-a", "02-b"]
    assert ran() == []
    folder = project / "results" / "casia"
    folder.mkdir(parents=True)
    (folder / "table3.csv").write_text("a record that nobody reads")
    assert ran() == []
    (folder / "table2.csv").write_text(",".join(COLUMNS))  # looked for in vain before
    assert ran() == ["01-a"]
    (folder / "table2.csv").write_text(",".join(COLUMNS) + "\n")
    assert ran() == ["01-a"]
    assert ran() == []


def test_a_chapter_depends_on_the_modules_that_it_imports_and_on_no_other(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = project / "notebooks" / "01-a.ipynb"
    write(notebook, "%matplotlib inline", "from hmoe_test import one\n!ls")
    package = project / "hmoe_test"
    package.mkdir()
    monkeypatch.setitem(source.OURS, "hmoe_test", package)
    for name, text in {"__init__": "", "one": "from hmoe_test import two", "two": "", "three": ""}.items():
        (package / f"{name}.py").write_text(text)
    before = book.fingerprint(notebook, GIVEN)
    (package / "three.py").write_text('"""Edited."""')
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "two.cpython-311.pyc").write_text("made by running it, on this machine")
    assert book.fingerprint(notebook, GIVEN) == before
    (package / "two.py").write_text('"""Edited."""')
    assert book.fingerprint(notebook, GIVEN) != before


@pytest.mark.parametrize("chapter", sorted((PROJECT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem[:2])
def test_no_chapter_depends_on_the_pages(chapter: Path) -> None:
    code = [cell.source for cell in nbformat.read(chapter, as_version=4).cells if cell.cell_type == "code"]
    needed = source.Needs.of("\n".join(code))
    names = {file.relative_to(PROJECT).as_posix() for file in needed.files}
    assert not names & {"book/hmoe_book/datasheets.py", "book/hmoe_book/pages.py", "book/hmoe_book/build.py"}
    assert {"matplotlib", "numpy"} <= set(needed.packages)


def test_another_recording_in_the_same_folder_is_noticed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = project / "recordings"
    (corpus / "anger").mkdir(parents=True)
    recording = corpus / "anger" / "1.wav"
    recording.write_bytes(b"one")
    os.utime(recording, ns=(5, 5))
    monkeypatch.setenv("HMOE_FOLDER", str(corpus))
    seen = [corpora.state("folder", "")]
    assert corpora.state("folder", "") == seen[0]
    os.utime(recording, ns=(6, 6))
    seen.append(corpora.state("folder", ""))
    recording.write_bytes(b"three")
    os.utime(recording, ns=(6, 6))
    seen.append(corpora.state("folder", ""))
    recording.rename(corpus / "anger" / "2.wav")
    seen.append(corpora.state("folder", ""))
    assert all(one != two for one, two in combinations(seen, 2))


def test_a_failing_cell_is_named_and_what_ran_is_kept(project: Path) -> None:
    write(project / "notebooks" / "01-a.ipynb", "print('ran')", "1 / 0")
    with pytest.raises(HmoeError) as failure:
        book.execute(GIVEN)
    line = str(failure.value)
    assert "notebooks/01-a.ipynb" in line
    assert "ZeroDivisionError: division by zero" in line
    kept = project / "_build" / "executed" / "01-a.failed.ipynb"
    assert str(kept.relative_to(project)) in line
    assert "ran" in kept.read_text()
    assert list(kept.parent.iterdir()) == [kept]


def test_a_kernel_that_dies_is_one_line(project: Path) -> None:
    write(project / "notebooks" / "01-a.ipynb", "import os", "os._exit(1)")
    with pytest.raises(HmoeError, match=r"^notebooks/01-a\.ipynb: .*--jobs 1$"):
        book.execute(GIVEN)


def build_of(project: Path) -> subprocess.Popen:
    """A process of its own, in which nothing has forked yet, executes the chapters."""
    command = f"""if True:
        from pathlib import Path
        from hmoe_book import build
        build.PROJECT, build.BUILD = Path({str(project)!r}), Path({str(project / "_build")!r})
        build.execute({GIVEN!r})"""
    return subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.DEVNULL)


HOLDING = """
import time
from filelock import FileLock
with FileLock("held"):
    open("begun", "w").close()
    time.sleep(600)
"""


def test_a_build_that_is_killed_leaves_no_kernel_behind(project: Path) -> None:
    write(project / "notebooks" / "01-a.ipynb", HOLDING)
    build = build_of(project)
    while not (project / "notebooks" / "begun").exists():
        assert build.poll() is None
        time.sleep(0.05)
    build.kill()
    build.wait()
    with FileLock(project / "notebooks" / "held", timeout=60):  # its end gives it back
        pass


class Telling(ThreadPoolExecutor):
    """A pool that tells when it takes no more work."""

    closed = threading.Event()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        self.closed.set()
        super().shutdown(wait)


def test_ctrl_c_runs_none_of_the_chapters_that_wait(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"0{number}-a" for number in range(1, 6)]
    chapters = "".join(f"  - file: notebooks/{name}\n" for name in names)
    (project / "_toc.yml").write_text(f"root: book/index\nparts:\n- chapters:\n{chapters}")
    for name in names:
        write(project / "notebooks" / f"{name}.ipynb")
    ran = []

    def stopped(notebook: Path, *_: object) -> float:
        ran.append(notebook.stem)
        if len(ran) == 1:
            raise KeyboardInterrupt
        Telling.closed.wait()
        return 0.0

    monkeypatch.setattr(book, "_execute", stopped)
    monkeypatch.setattr(book, "ThreadPoolExecutor", Telling)
    with pytest.raises(KeyboardInterrupt):
        book.execute(GIVEN, jobs=1)
    assert ran in (names[:1], names[:2])  # the second may have begun


def test_a_chapter_that_is_not_there_is_named(project: Path) -> None:
    (project / "notebooks" / "01-a.ipynb").unlink()
    with pytest.raises(HmoeError, match=r"notebooks/01-a\.ipynb: is not there"):
        book.execute(GIVEN)


@pytest.mark.skipif(not kernels.FORKS, reason="kernels are forked on Linux alone")
def test_a_chapter_starts_with_the_packages_of_others_and_imports_ours_itself(project: Path) -> None:
    """What it reads while ours are imported would else be seen by nobody."""
    code = (
        "import os, sys\nprint('torch' in sys.modules, 'hmoe' in sys.modules, os.getpid() == os.getsid(0), os.getcwd())"
    )
    write(project / "notebooks" / "01-a.ipynb", code, "import hmoe; print(hmoe.__file__)")
    assert build_of(project).wait() == 0
    (done,) = (project / "_build" / "executed").glob("*.ipynb")
    *_, first, second, _ = nbformat.read(done, as_version=4).cells
    assert first.outputs[0].text == f"True False True {project / 'notebooks'}\n"
    assert Path(second.outputs[0].text.strip()).parent == PROJECT / "hmoe"
