"""What a newcomer installs is written in several places; they agree, and so does what the code imports."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

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


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """pip's own settings, as a machine has them whose packages come from a folder alone, with one small wheel in it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with ZipFile(folder / "small-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small.py", "")
        wheel.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        wheel.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("small-1.0.dist-info/RECORD", "")
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nno-index = true\nfind-links = {tmp_path / 'nothing'}\n    {folder}\n")
    return config


@pytest.mark.parametrize(("hashes", "installer"), [("0", "uv"), ("1", "pip")])
def test_packages_come_from_where_pip_was_told_and_by_pip_where_uv_cannot(
    mirror: Path, tmp_path: Path, hashes: str, installer: str
) -> None:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    given |= {"PIP_CONFIG_FILE": str(mirror), "UV_REQUIRE_HASHES": hashes, "UV_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, PROJECT / "tools" / "install.py", "--target", tmp_path / "here", "small==1.0"]
    subprocess.run(command, env=given, check=True, capture_output=True)
    assert (tmp_path / "here" / "small-1.0.dist-info" / "INSTALLER").read_text().strip() == installer


@pytest.mark.parametrize(
    ("variables", "passed_on"),
    [
        (
            {"PIP_INDEX_URL": "https://a.example", "PIP_EXTRA_INDEX_URL": "https://b.example file:///c"},
            ["--default-index https://a.example", "--index https://b.example --index file:///c"],
        ),
        (
            {
                "PIP_FIND_LINKS": "{folder} https://e",
                "PIP_NO_INDEX": "0",
                "PIP_CONSTRAINT": "a",
                "PIP_TRUSTED_HOST": "d",
            },
            ["--find-links {folder} --find-links https://e", "--constraint a", "--allow-insecure-host d"],
        ),
    ],
)
def test_what_pip_was_told_is_passed_on_to_uv(
    variables: dict[str, str], passed_on: list[str], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the environment rather than of a file; and torch is chosen by uv unless a folder has it."""
    (tmp_path / "torch-2.13.0-py3-none-any.whl").touch()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in (variables | {"PIP_CONFIG_FILE": str(mirror)}).items():
        monkeypatch.setenv(name, value.format(folder=tmp_path))
    install = runpy.run_path(str(PROJECT / "tools" / "install.py"))
    given = " ".join(install["options"](install["settings"]()))
    for each in passed_on:
        assert each.format(folder=tmp_path) in given
    own_torch, no_index = "PIP_FIND_LINKS" in variables, "PIP_NO_INDEX" not in variables
    assert ("--torch-backend" in given) != own_torch and ("--no-index" in given) == no_index
