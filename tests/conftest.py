"""What several tests share: corpora that are made once, and folders of their own for what tests write."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright

from hmoe import features
from hmoe.corpora import Corpus, load
from hmoe.corpora.synthetic import make, sentences

pytest.register_assert_rewrite("reading")

torch.set_num_threads(1)  # small tensors: threads only wait for each other, most of all on a busy machine
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it once, when it is imported


# Files that take longest, in three processes: one builds the book with both cores while the others go on.
LONGEST = (
    "test_read_one_half", "test_grid", "test_gpu", "test_docs", "test_cli", "test_lab", "test_execute",
    "test_anywhere", "test_parrot", "test_scan_triton", "test_train",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process is left alone with one; last those that wait for the built book."""

    def turn(item: pytest.Item) -> int:
        if item.path.stem in LONGEST:
            return LONGEST.index(item.path.stem)
        return len(LONGEST) + ("html" in item.fixturenames)

    last = {item.path for item in items if turn(item) > len(LONGEST)}  # a file stays together
    items.sort(key=lambda item: len(LONGEST) + 1 if item.path in last else turn(item))


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of all processes of this run."""
    folder = tmp_path_factory.getbasetemp()
    return folder if worker_id == "master" else folder.parent


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, session: Path) -> Iterator[Path]:
    """No test reads or writes the user's cache or the project's records. The synthetic corpus is made once for all."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HMOE_SYNTHETIC", str(session / "synthetic"))
        patch.setenv("HMOE_CACHE", str(folder / "cache"))
        patch.setenv("HMOE_RESULTS", str(folder / "results"))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def compiled(session: Path) -> None:
    """Numba compiles a function when it is first called, and keeps that: one process does, the others wait and read."""
    from hmoe.scan import selective_scan  # reaches Triton, which has to find the variable above when it is imported

    with FileLock(session / "compiled.lock"):
        if not (done := session / "compiled").exists():
            features.extract(np.random.default_rng(0).normal(size=16_000).astype(np.float32))
            u, A, B = torch.ones(1, 2, 3, requires_grad=True), -torch.ones(2, 4), torch.ones(1, 4, 3)
            selective_scan(u, u, A, B, B).sum().backward()
            done.touch()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all tests: playwright refuses a second beside it in the same process."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine: no page is tested")
    with sync_playwright() as playwright:
        # --no-sandbox: continuous integration runs as root, and the pages are our own.
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture(scope="session")
def html(session: Path) -> Path:
    """The folder of the built book, with the project's own records; what is up to date is not built again."""
    from hmoe_book import build as book  # reaches Triton, which has to find the variable above when it is imported

    with FileLock(session / "book.lock"), pytest.MonkeyPatch.context() as patch:
        built = session / "book.built"  # a second build would write files that another process just serves
        if not built.exists():
            patch.setenv("HMOE_RESULTS", str(book.PROJECT / "results"))
            patch.setenv("HMOE_CACHE", str(session / "cache"))
            built.write_text(str(book.build().parent))
        return Path(built.read_text())


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(html: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=html))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """4 voices x 6 emotions x 2 sentences of the synthetic corpus: 48 utterances."""
    root: Path = tmp_path_factory.mktemp("corpora") / "synthetic"
    make(root, sentences()[:2])
    return load("synthetic", root)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """2 speakers x 3 emotions x 5 sentences, tones of 0.3 s."""
    return tiny.make(tmp_path_factory.mktemp("tiny"))
