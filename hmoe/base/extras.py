"""What is installed only where it is asked for: `pip install -e '.[book]'`. One line says which extra is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from hmoe.base.errors import ConfigError
from hmoe.base.files import PROJECT

EXTRAS = {
    "book": (
        "IPython", "ipykernel", "jupyter_book", "nbclient", "nbformat", "papermill", "sphinx", "docutils",
        "sphinx_book_theme", "sphinx_mathjax_offline", "pyroomacoustics", "openwakeword", "onnxruntime",
    ),
    "encoders": ("transformers",),
    "test": ("hypothesis",),
    "bench": ("mambapy",),
    "demo": ("gradio",),
    "cuda": ("triton", "mamba_ssm", "causal_conv1d"),
    "cluster": ("dask", "distributed", "dask_jobqueue"),
}  # fmt: skip
"""The modules of each extra of `pyproject.toml`, as they are imported."""
APART = {"resemblyzer": "pip install --no-deps Resemblyzer==0.1.4"}
"""What no extra can name, since what it depends on cannot be installed, and how it is installed."""


@contextmanager
def extra(what_for: str) -> Iterator[None]:
    """Around imports of what is of an extra. ConfigError, naming the extra, where it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing(error, what_for) from None


def need(module: str, what_for: str) -> ModuleType:
    """Import `module`, as within `extra`."""
    with extra(what_for):
        return import_module(module)


def missing(error: ModuleNotFoundError, what_for: str) -> Exception:
    """The line to say of a module that is not there, if it is of an extra or `APART`; else the error itself."""
    module = (error.name or "").partition(".")[0]
    if module in APART:
        return ConfigError(what_for, f"needs {module}, which is not installed", APART[module])
    for extra, modules in EXTRAS.items():
        if module in modules:
            remedy = f"pip install -c constraints.txt -e '.[{extra}]'"
            return ConfigError(what_for, f"needs {module}, of the extra `{extra}`, which is not installed", remedy)
    return error


def need_checkout(what_for: str) -> None:
    """ConfigError where the package was installed without the folder that it was made in."""
    if not (PROJECT / "notebooks").is_dir():
        remedy = "clone the project and `pip install -e '.[book]'` there"
        raise ConfigError(what_for, f"needs the project's checkout, and there is none at {PROJECT}", remedy)
