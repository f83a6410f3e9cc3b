"""The `hmoe` command. Each subcommand has `--help` with an example; an error of the user's is one line, exit code 2."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

from hmoe.base.errors import ConfigError, HmoeError, StoreError
from hmoe.base.extras import missing
from hmoe.base.files import settle
from hmoe.commands import bench, book, corpora, study, use
from hmoe.commands.options import warn

app = typer.Typer(
    help="Reproduce HMoE-SiMBA: corpora, features, trials, tables.",
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.add_typer(corpora.app, name="corpus")
app.add_typer(study.app)
app.add_typer(use.app)
app.add_typer(book.app)
app.add_typer(bench.app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from hmoe.base.stamp import commit

        typer.echo(f"hmoe {version('hmoe')}, commit {commit()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and the commit."),
    ] = False,
) -> None:
    """Reproduce HMoE-SiMBA: corpora, features, trials, tables."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors of `hmoe.base.errors` become one line, and so does each warning."""
    if (
        arguments is None and sys.getfilesystemencoding() == "ascii"
    ):  # the locale C, where no name may have other letters
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "hmoe", *sys.argv[1:]])
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # a locale may have no "–", and no Chinese
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        settle()
        refuse_empty(arguments)
        with one_line_warnings(in_workers=arguments[:1] == ["book"]):  # notebooks show what Python warns of
            app(arguments)
    except ModuleNotFoundError as error:
        failed(missing(error, "hmoe " + " ".join(arguments[:1])))
    except (HmoeError, OSError) as error:
        failed(error)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C
            typer.secho("hmoe: stopped; finished trials are kept, run the same command to go on", fg="yellow", err=True)
        raise


def refuse_empty(arguments: Sequence[str]) -> None:
    """ConfigError for an argument that is empty, as that of an empty shell variable is: it would mean this folder.

    `predict` refuses its own, and judges the others.
    """
    names = [name.removesuffix("=") for name in arguments if name.startswith("--") and name.endswith("=")]
    if names or ("" in arguments and arguments[:1] != ["predict"]):
        remedy = "is a shell variable empty? The folder you stand in is `.`"
        raise ConfigError(names[0] if names else "an argument", "is empty", remedy)


def failed(error: Exception) -> NoReturn:
    """One line and exit code 2 for what a user or the machine can cause; anything else is a fault of ours."""
    if isinstance(error, OSError):
        where = error.filename or "the system"
        error = StoreError(where, error.strerror or str(error), "free some space, or set HMOE_CACHE and TMPDIR")
    if not isinstance(error, HmoeError):
        raise error
    typer.secho(f"hmoe: {error}", fg="red", err=True)
    sys.exit(2)


@contextmanager
def one_line_warnings(in_workers: bool) -> Iterator[None]:
    """Warnings and what is logged as one are lines of ours; worker processes say none, but for `in_workers`."""
    quiet = {} if in_workers or "PYTHONWARNINGS" in os.environ else {"PYTHONWARNINGS": "ignore"}
    os.environ.update(quiet)
    if logging.lastResort:
        logging.lastResort.setFormatter(logging.Formatter("hmoe: warning: %(message)s"))
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn
            yield
    finally:
        for name in quiet:
            del os.environ[name]


if __name__ == "__main__":
    main()
