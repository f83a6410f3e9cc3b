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

from hmoe.base.files import PROJECT

pytest.importorskip("jupyterlab", reason="make install puts JupyterLab beside the tests")

CHAPTERS = {"02-features": 4, "08-routing": 3}  # the least number of figures that each draws
PATIENCE = 600  # seconds: a busy machine is no fault of the book


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what `make lab` opens: running a chapter saves it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(PROJECT / "tools" / "lab", folder / "tools" / "lab")
    shutil.copy(PROJECT / "Makefile", folder)
    return folder


@pytest.fixture(scope="module")
def lab(project: Path, session: Path) -> Iterator[str]:
    """The address of the server that the command of `make lab` starts; chapters read the project's own records."""
    options = "--no-browser --expose-app-in-browser --ServerApp.port=0 --ServerApp.allow_root=True"
    options = f"LAB={options} --IdentityProvider.token=''"
    command = ["make", "--dry-run", "--old-file=.venv/installed", "lab", options]
    shown = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(r"^JUPYTER.*jupyterlab.*", shown.replace("\\\n", " "), flags=re.MULTILINE)
    runtime = project / "runtime"
    environment = {
        **os.environ, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_CONFIG_DIR": str(project / "config"),
        "HMOE_RESULTS": str(PROJECT / "results"), "HMOE_CACHE": str(session / "cache"),  # the features of the book
        "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1",
    }  # fmt: skip
    with open(project / "log", "w") as log:
        server = subprocess.Popen(
            line.replace(".venv/bin/python", sys.executable, 1), shell=True, cwd=project, env=environment,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield address(runtime, server, project / "log")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


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
def window(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    page, asked = browser.new_page(viewport={"width": 1400, "height": 900}), []
    page.set_default_timeout(1000 * PATIENCE)
    page.on("request", lambda request: asked.append(request.url))
    yield page, asked
    page.context.close()


def test_the_book_is_opened_at_its_first_chapter_with_the_kernel_of_this_environment(
    lab: str, window: tuple[Page, list[str]]
) -> None:
    page, _ = window
    page.goto(lab)
    page.wait_for_url("**/lab/tree/notebooks/00-how-to-read-this-book.ipynb")
    specs = json.load(urllib.request.urlopen(f"{lab}api/kernelspecs"))["kernelspecs"]
    assert specs["python3"]["spec"]["argv"][0] in ("python", sys.executable)  # "python" stands for the server's own


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_to_its_end_with_figures_and_without_an_error(
    chapter: str, window: tuple[Page, list[str]], lab: str, project: Path
) -> None:
    page, asked = window
    page.goto(f"{lab}lab/tree/notebooks/{chapter}.ipynb?reset")
    page.wait_for_function(READY)
    page.click("text=Run >> visible=true")
    page.click("text=Run All Cells")
    page.wait_for_function(DONE, polling=1000)
    assert page.locator(".jp-NotebookPanel figure.hmoe-figure svg").count() > 0  # seen; cells off screen are not drawn
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("!jupyterapp.shell.currentWidget.context.model.dirty")
    assert [url for url in asked if not url.startswith((lab, "data:", "blob:", lab.replace("http", "ws")))] == []

    saved = json.loads((project / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in saved["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [each for each in outputs if each["output_type"] == "error" or each.get("name") == "stderr"] == []
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    drawn = [each for each in outputs if 'class="hmoe-figure"' in "".join(each.get("data", {}).get("text/html", ""))]
    assert len(drawn) >= CHAPTERS[chapter]


# The notebook's own model says how far it is: of cells off screen the page holds nothing.
READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.sessionContext?.isReady && panel.context.isReady
        && panel.sessionContext.session?.kernel?.status === "idle";
}"""

DONE = """() => {
    const cells = [...jupyterapp.shell.currentWidget.content.model.sharedModel.cells]
        .filter(cell => cell.cell_type === "code");
    return cells.every(cell => cell.execution_count !== null && cell.executionState !== "running")
        || cells.some(cell => cell.getOutputs().some(output => output.output_type === "error"));
}"""
