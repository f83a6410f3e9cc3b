"""JupyterLab as `make lab` opens it, in a real browser: chapters run from their first cell to their last."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
CHAPTERS = {"02-features": 2, "08-routing": 3}  # the least number of figures that each draws


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what `make lab` opens: running a chapter saves it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(ROOT / "tools" / "lab", folder / "tools" / "lab")
    shutil.copy(ROOT / "Makefile", folder)
    return folder


@pytest.fixture(scope="module")
def lab(project: Path) -> Iterator[str]:
    """The address of the server that the command of `make lab` starts."""
    options = "LAB=--no-browser --ServerApp.port=0 --ServerApp.allow_root=True --IdentityProvider.token=''"
    command = ["make", "--dry-run", "--old-file=.venv/installed", "lab", options]
    shown = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(r"^JUPYTER.*jupyterlab.*", shown.replace("\\\n", " "), flags=re.MULTILINE)
    runtime = project / "runtime"
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_CONFIG_DIR": str(project / "config")}
    with open(project / "log", "w") as log:
        server = subprocess.Popen(
            line.replace(".venv/bin/python", sys.executable, 1), shell=True, cwd=project, env=environment,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield address(runtime, server, project / "log")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def address(runtime: Path, server: subprocess.Popen, log: Path) -> str:
    while server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                url = json.loads(file.read_text())["url"]
                urllib.request.urlopen(f"{url}api/status", timeout=60)
                return url
            except (OSError, ValueError):
                pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def window(browser: Browser, lab: str) -> Iterator[tuple[Page, list[str]]]:
    page, asked = browser.new_page(viewport={"width": 1400, "height": 900}), []
    page.set_default_timeout(600_000)  # a busy machine is no fault of the book
    page.on("request", lambda request: asked.append(request.url))
    yield page, asked
    page.context.close()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_to_its_end_with_figures_and_without_an_error(
    chapter: str, window: tuple[Page, list[str]], lab: str, project: Path
) -> None:
    page, asked = window
    page.goto(f"{lab}lab/tree/notebooks/{chapter}.ipynb?reset")
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status='idle']")
    page.click("text=Run >> visible=true")
    page.click("text=Run All Cells")
    page.wait_for_function(DONE)
    assert page.evaluate(COMPLAINTS) == []
    assert page.locator(".jp-NotebookPanel figure.hmoe-figure svg").count() >= CHAPTERS[chapter]
    assert [url for url in asked if not url.startswith((lab, "data:", "blob:", lab.replace("http", "ws")))] == []
    page.keyboard.press("Control+s")
    page.wait_for_selector(".jp-NotebookPanel:not(.jp-mod-dirty)")
    saved = json.loads((project / "notebooks" / f"{chapter}.ipynb").read_text())
    counts = [cell["execution_count"] for cell in saved["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


DONE = """() => {
    const cells = [...document.querySelectorAll(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")];
    const prompts = cells.map(cell => cell.querySelector(".jp-InputPrompt")?.textContent ?? "");
    return cells.length > 0 && (prompts.every(prompt => /\\d/.test(prompt))
        || document.querySelector("[data-mime-type='application/vnd.jupyter.error']"));
}"""

COMPLAINTS = """() => ["error", "stderr"].flatMap(kind =>
    [...document.querySelectorAll(`[data-mime-type='application/vnd.jupyter.${kind}']`)].map(e => e.innerText))"""


def test_the_book_is_opened_at_its_first_chapter_with_the_kernel_of_this_environment(
    lab: str, browser: Browser
) -> None:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(lab)
    page.wait_for_url("**/lab/tree/notebooks/00-how-to-read-this-book.ipynb")
    specs = json.load(urllib.request.urlopen(f"{lab}api/kernelspecs"))["kernelspecs"]
    assert specs["python3"]["spec"]["argv"][0] in ("python", sys.executable)  # "python" stands for the server's own
    page.context.close()
