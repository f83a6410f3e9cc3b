"""Executing notebooks: with the given parameters, again only when something changed, and a failure is named."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from hmoe.base.errors import HmoeError
from hmoe_book import build as book

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
    for folder in ("hmoe", "notebooks", "book"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hmoe" / "module.py").write_text("answer = 42")
    (tmp_path / "book" / "index.md").write_text("# A book")
    (tmp_path / "_toc.yml").write_text("root: book/index\nparts:\n- chapters:\n  - file: notebooks/01-a\n")
    write(tmp_path / "notebooks" / "01-a.ipynb", "print('seed is', seed)")
    return tmp_path


def test_a_notebook_gets_the_parameters_and_says_how_it_was_run(project: Path) -> None:
    (done,) = book.execute(GIVEN)
    notebook = nbformat.read(done, as_version=4)
    assert "seed is 3" in notebook.cells[-2].outputs[0].text
    assert "corpus synthetic, profile fast, device cpu, seed 3" in notebook.cells[-1].source


def test_a_notebook_runs_again_when_what_it_depends_on_changed_and_only_then(project: Path) -> None:
    (first,) = book.execute(GIVEN)
    written = first.stat().st_mtime_ns
    (again,) = book.execute(GIVEN)
    assert (again, again.stat().st_mtime_ns) == (first, written)

    assert book.fingerprint(GIVEN | {"seed": 4}) != book.fingerprint(GIVEN)
    before = book.fingerprint(GIVEN)
    (project / "hmoe" / "module.py").write_text("answer = 43")
    assert book.fingerprint(GIVEN) != before
    before = book.fingerprint(GIVEN)
    (project / "hmoe" / "__pycache__").mkdir()
    for name in ("module.cpython-311.pyc", "module.f-1.py311.nbi", "module.f-1.py311.1.nbc"):
        (project / "hmoe" / "__pycache__" / name).write_text("made by running it, on this machine")
    assert book.fingerprint(GIVEN) == before
    (project / "results" / "casia").mkdir(parents=True)
    (project / "results" / "casia" / "table2.csv").write_text("a record")
    assert book.fingerprint(GIVEN) != before
    (changed,) = book.execute(GIVEN)
    assert changed != first
    assert not first.exists()


def test_another_recording_in_the_same_folder_is_noticed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, given = project / "recordings", GIVEN | {"corpus": "folder"}
    (corpus / "anger").mkdir(parents=True)
    recording = corpus / "anger" / "1.wav"
    recording.write_bytes(b"one")
    os.utime(recording, ns=(5, 5))
    monkeypatch.setenv("HMOE_FOLDER", str(corpus))
    seen = [book.fingerprint(given)]
    assert book.fingerprint(given) == seen[0]
    os.utime(recording, ns=(6, 6))
    seen.append(book.fingerprint(given))
    recording.write_bytes(b"three")
    os.utime(recording, ns=(6, 6))
    seen.append(book.fingerprint(given))
    recording.rename(corpus / "anger" / "2.wav")
    seen.append(book.fingerprint(given))
    assert len(set(seen)) == 4


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
    with pytest.raises(HmoeError, match=r"^notebooks/01-a\.ipynb: its kernel died, .*; run again with --jobs 1$"):
        book.execute(GIVEN)


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
