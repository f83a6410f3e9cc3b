"""The house: who may import whom, what the paper's model loads, and where each equation stands."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hmoe
from hmoe.base.files import PACKAGE, PROJECT


def test_rooms_import_one_another_in_one_direction() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_reaches_itself() -> None:
    """A contract holds between rooms; within a room a circle would still be one."""
    imports = {name: imported(path) for name, path in modules().items()}
    seen: dict[str, int] = {}

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if seen.setdefault(name, 0):
            return
        for other in imports[name]:
            visit(other, (*way, name))
        seen[name] = 1

    for name in imports:
        visit(name, ())


def modules() -> dict[str, Path]:
    roots = ((PACKAGE, "hmoe"), (PROJECT / "book" / "hmoe_book", "hmoe_book"))
    found = {}
    for root, name in roots:
        for path in root.rglob("*.py"):
            parts = [name, *path.relative_to(root).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imported(path: Path) -> set[str]:
    """Our modules that a file imports when it is itself imported: those of its functions come later."""
    known, found = modules(), set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & known.keys() or {node.module} & known.keys()
    return found


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """What `import hmoe.model` loads, in a process of its own."""
    code = "import json, sys, hmoe.model; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    return json.loads(done.stdout)


def test_the_papers_model_is_a_small_world(loaded: list[str]) -> None:
    ours = [name for name in loaded if name.partition(".")[0] in ("hmoe", "hmoe_book")]
    assert len(ours) <= 15, ours


@pytest.mark.parametrize("package", ["pandas", "matplotlib", "parselmouth", "IPython", "joblib"])
def test_the_papers_model_does_without(package: str, loaded: list[str]) -> None:
    assert package not in loaded


@pytest.mark.parametrize("number", range(1, 11))
def test_an_equation_stands_at_the_lines_that_are_it(number: int) -> None:
    where, chapter = hmoe.EQUATIONS[number]
    item, path = hmoe, where.split(".")[1:]
    for i, name in enumerate(path):
        item = getattr(item, name, None) or import_module(f"hmoe.{'.'.join(path[: i + 1])}")
    assert f"# Eq. {number}: \\" in inspect.getsource(item)
    cells = json.loads((PROJECT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    assert any(f"(eq-{number:02d})" in "".join(cell["source"]) for cell in cells)


def test_the_paper_is_the_listing() -> None:
    """`ls hmoe/*.py` is the paper's table of contents."""
    assert {path.stem for path in PACKAGE.glob("*.py")} == {
        "__init__", "__main__", "config", "readings", "features", "masking", "augment", "experts", "router", "simba",
        "mamba", "model", "train",
    }  # fmt: skip
