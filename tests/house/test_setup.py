"""What a newcomer installs is written in several places; they agree, and so does what the code imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec

from hmoe.base.files import PROJECT

DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: [Requirement(each) for each in lines] for name, lines in DECLARED["optional-dependencies"].items()}
CORE = [Requirement(each) for each in DECLARED["dependencies"]]
PINS = dict(line.split("==") for line in (PROJECT / "constraints.txt").read_text().split())
CONDA = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
# Chosen for the machine, not by version: CUDA kernels have no wheels.
UNPINNED = {canonicalize_name(each.name) for each in EXTRAS["cuda"]}


def named(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(each.name) for each in requirements}


@pytest.mark.parametrize("requirement", [*CORE, *sum(EXTRAS.values(), [])], ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert requirement.specifier, "has no range"
    if name not in UNPINNED:
        assert requirement.specifier.contains(PINS[name])


def test_constraints_name_versions_alone() -> None:
    for name, pin in PINS.items():
        assert name == canonicalize_name(name)
        assert re.fullmatch(r"[\w.]+", pin), f"{name}=={pin}: a local version fits one kind of machine only"


@pytest.mark.parametrize("line", [line for line in CONDA if isinstance(line, str)])
def test_conda_reads_each_line_as_pyproject_has_it(line: str) -> None:
    spec = MatchSpec(line)
    ranges = {each.name: each.specifier for each in CORE}
    ranges |= {"python": SpecifierSet(DECLARED["requires-python"]), "pytorch": ranges["torch"]}
    name = spec.name.normalized
    if name != "pip":
        assert SpecifierSet(str(spec.version)) == ranges[name]


def test_conda_and_make_install_the_same_extras() -> None:
    (pip,) = (line["pip"] for line in CONDA if isinstance(line, dict))
    wanted = re.findall(r"-e '?(\S*?)'?$", (PROJECT / "tools" / "setup.sh").read_text(), flags=re.MULTILINE)
    assert {f"-e {each}" for each in wanted} == set(pip) == {"-e .[book,test]"}


def test_the_lowest_python_is_the_one_that_setup_looks_for() -> None:
    lowest = re.search(r"sys\.version_info < \((\d+), (\d+)\)", (PROJECT / "tools" / "setup.sh").read_text())
    assert lowest
    assert DECLARED["requires-python"] == f">={lowest[1]}.{lowest[2]}"


def test_the_page_of_dependencies_names_each() -> None:
    page = (PROJECT / "book" / "dependencies.md").read_text()
    for requirement in [*CORE, *sum(EXTRAS.values(), [])]:
        assert f"`{requirement.name}`" in page


def imported(files: list[Path]) -> set[str]:
    """Top-level names that the files import, at any depth of their code."""
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"hmoe", "hmoe_book"}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("hmoe", ["book", "bench", "cluster", "demo"]), ("book", ["book", "cluster"]), ("tests", ["book", "test"])],
)
def test_whatever_is_imported_is_a_dependency(folder: str, extras: list[str]) -> None:
    declared = named(CORE + [each for extra in extras for each in EXTRAS[extra]])
    # Of numba, torch, papermill (three), pytest.
    declared |= {"llvmlite", "triton", "jupyter-client", "nbclient", "nbformat", "packaging"}
    # A package that is one extension module: its distribution does not list the name under which it is imported.
    distributions = {**packages_distributions(), "parselmouth": ["praat-parselmouth"]}
    own = {path.stem for path in (PROJECT / "tests").rglob("*.py")}
    for module in imported(sorted((PROJECT / folder).rglob("*.py"))) - own:
        sources = {canonicalize_name(name) for name in distributions.get(module, [module])}
        assert sources & declared, f"{folder}/ imports {module}, which pyproject.toml does not name"


@pytest.mark.parametrize("path", sorted((PROJECT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_workflows_call_targets_that_exist_and_end(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for target in re.findall(r"\bmake (\w+)", step.get("run", "")):
                assert target in targets
        if any("run" in step for step in job["steps"]):
            assert job["timeout-minutes"] <= 120


def test_make_help_names_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (PROJECT / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony
    for target in set(phony[1].split()) - {"help"}:
        assert f"make {target}" in shown


def test_make_book_passes_on_what_it_is_given() -> None:
    def commands(*arguments: str) -> str:
        return subprocess.run(
            ["make", "--dry-run", "book", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout

    assert "--profile 'fast' --device 'cpu'" in commands()
    assert "--corpus" not in commands()
    asked = commands("CASIA=/some where/casia", "PROFILE=full")
    assert "--profile 'full'" in asked
    assert "--corpus casia --root '/some where/casia'" in asked
