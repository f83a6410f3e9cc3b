"""Which code made something: the names of what is kept on disk, so that it is made again when that code changes.

What is in a cache depends on the functions that made it and on all that they use: `made_by`. What a chapter shows or a
trial records depends on the modules that it imports, and on those that they import: `Needs`. Both count the versions of
the packages that are used directly.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from hmoe.base.files import PACKAGE, PROJECT

OURS = {"hmoe": PACKAGE, "hmoe_book": PROJECT / "book" / "hmoe_book"}
APART = ("hmoe.config", "hmoe.corpora", "hmoe.base.errors", "hmoe.base.extras", "hmoe.base.files")
"""Parameters, sound and messages: what of them decides an entry of a cache is in its name already."""


@dataclass(frozen=True)
class Needs:
    """What some code depends on: files of ours, and other packages by the name under which they are imported."""

    files: tuple[Path, ...]
    packages: tuple[str, ...]

    @classmethod
    def of(cls, code: str, ours: dict[str, Path] = OURS) -> Needs:
        """Those of Python code: whatever it imports, at any depth of it, and what that imports."""
        files: set[Path] = set()
        packages: set[str] = set()
        waiting = [code]
        while waiting:
            for name in _imported(waiting.pop(), ours):
                top = name.partition(".")[0]
                if top not in ours:
                    packages.add(top)
                elif (file := _file(name, ours)) and file not in files:
                    files.add(file)
                    waiting.append(file.read_text(encoding="utf-8"))
        return cls(tuple(sorted(files)), tuple(sorted(packages - sys.stdlib_module_names)))

    def digest(self) -> str:
        """12 hexadecimal digits that change with every edit of a file and every version of a package."""
        sources = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in self.files]
        return _digest([*sources, *map(_versioned, self.packages)])


def _imported(code: str, ours: dict[str, Path]) -> Iterator[str]:
    """The modules that code names in its imports, and packages of ours that it names in a string to import from."""
    imports, strings = _said(code)
    for name in (*imports, *(module for text in strings for module in _named(text, ours))):
        yield name
        parts = name.split(".")  # a package is imported before what is in it
        if parts[0] in ours:
            yield from (".".join(parts[:n]) for n in range(1, len(parts)))


@cache
def _said(code: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names in the imports of code, and its strings that may be the beginning of one; parsed once for all chapters
    that lead there."""
    imports, strings = [], []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith("."):
            strings.append(node.value)
    return tuple(imports), tuple(strings)


def _named(text: str, ours: dict[str, Path]) -> list[str]:
    """`"hmoe.scan."`, as in `import_module(f"hmoe.scan.{name}")`: all modules of that package."""
    package = text.removesuffix(".")
    if not text.endswith(".") or text.partition(".")[0] not in ours or not package.replace(".", "").isidentifier():
        return []
    file = _file(package, ours)
    return [f"{package}.{one.stem}" for one in sorted(file.parent.glob("*.py"))] if file else []


def _file(module: str, ours: dict[str, Path]) -> Path | None:
    top, *parts = module.split(".")
    place = ours[top].joinpath(*parts)
    return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)


@cache
def made_by(*makers: Any) -> str:
    """12 hexadecimal digits that name functions and classes with all of ours that they use, but for `APART`.

    Comments, docstrings and annotations do not count; the versions of the packages used do. What is reached by an
    attribute of an argument alone is not seen: name it as a maker of its own.
    """
    parts: set[str] = set()
    seen: dict[int, Any] = {}  # kept, so that no other object gets the number of one that is gone
    waiting: list[tuple[str, Any]] = [("", maker) for maker in makers]
    while waiting:
        name, maker = waiting.pop()
        while isinstance(maker, classmethod | staticmethod) or hasattr(maker, "__wrapped__"):
            maker = maker.__wrapped__
        maker = getattr(maker, "py_func", maker)  # numba's
        if type(maker).__module__.startswith("triton."):
            maker = getattr(maker, "fn", getattr(maker, "value", maker))  # of a kernel; of one of its constants
        if isinstance(maker, str | int | float | bool | bytes | None):
            parts.add(f"{name} = {maker!r}")
        elif id(maker) in seen:
            continue
        elif isinstance(maker, partial):
            waiting += [(name, maker.func), (name, maker.args), (name, maker.keywords)]
        elif isinstance(maker, dict):
            waiting += [(f"{name}[{key!r}]", value) for key, value in maker.items()]
        elif isinstance(maker, list | tuple):
            waiting += [(f"{name}[{i}]", value) for i, value in enumerate(maker)]
        else:
            module = maker.__name__ if isinstance(maker, ModuleType) else getattr(maker, "__module__", None) or ""
            top = module.partition(".")[0]
            if top not in OURS:
                parts.update([_versioned(top)] if top and top not in sys.stdlib_module_names else [])
            elif not module.startswith(APART):
                instance = not isinstance(maker, ModuleType) and not hasattr(maker, "__qualname__")
                source, used = _read(type(maker) if instance else maker)
                parts.add(source)
                waiting += used.items()
        seen[id(maker)] = maker
    return _digest(sorted(parts))


def _read(maker: Any) -> tuple[str, dict[str, Any]]:
    """Its code without comments, docstrings and annotations; by name, what of its module the code uses."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(maker)))
    own = vars(maker if isinstance(maker, ModuleType) else sys.modules[maker.__module__])
    _Bare().visit(tree)
    used: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            used |= _value(node, own)
        elif isinstance(node, ast.Import):
            used |= {alias.name: _Package(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module.partition(".")[0] in OURS
            found = importlib.import_module(node.module) if inside else _Package(node.module)
            used |= {alias.name: getattr(found, alias.name) if inside else found for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # `package.__init__`, imported by that name, would run a second time.
            names = [name.removesuffix(".__init__") for name in _named(node.value, OURS)]
            used |= {name: importlib.import_module(name) for name in names}
    return ast.unparse(tree), used


class _Package:
    """A package that a function imports when it is called; stands for whatever it takes of it."""

    def __init__(self, name: str) -> None:
        self.__module__ = name


class _Bare(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None and not isinstance(node, ast.AnnAssign):
                setattr(node, name, None)
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(getattr(node, "body", None), list):
            node.body = [
                line for line in node.body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            ] or [ast.Pass()]
        return node


def _value(node: ast.Name | ast.Attribute, own: dict[str, Any]) -> dict[str, Any]:
    """What a name, or an attribute of a module, stands for at the top of its module; nothing for a local one."""
    if isinstance(node, ast.Name):
        value = own.get(node.id)
        return {} if value is None or hasattr(builtins, node.id) or _ours(value) else {node.id: value}
    module = own.get(node.value.id) if isinstance(node.value, ast.Name) else None
    return {node.attr: getattr(module, node.attr)} if _ours(module) and hasattr(module, node.attr) else {}


def _ours(value: Any) -> bool:
    """Whether it is a module of ours, of which attributes are used, rather than the whole."""
    return isinstance(value, ModuleType) and value.__name__.partition(".")[0] in OURS


@cache
def _versioned(package: str) -> str:
    """`librosa 0.11.0`, by the name under which it is imported; the bare name where it is not installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        pass
    for distribution in packages_distributions().get(package, []):
        return f"{package} {version(distribution)}"
    try:  # one extension module, whose distribution does not list it
        return f"{package} {getattr(importlib.import_module(package), '__version__', '')}"
    except ImportError:
        return package


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
