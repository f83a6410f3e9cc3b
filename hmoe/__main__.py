"""The `hmoe` command. Each subcommand has `--help` with an example; an error of the user's is one line, exit code 2."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from hmoe.base.errors import HmoeError
from hmoe.commands import bench, book, corpora, study, use
from hmoe.commands.options import warn

app = typer.Typer(
    help="Reproduce HMoE-SiMBA: corpora, features, trials, tables.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
)  # fmt: skip
app.add_typer(corpora.app, name="corpus")
app.add_typer(study.app)
app.add_typer(use.app)
app.add_typer(book.app)
app.add_typer(bench.app, name="bench")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors of `hmoe.base.errors` become one line, and so does each warning."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with one_line_warnings(in_workers=arguments[:1] == ["book"]):  # notebooks show what Python warns of
            app(arguments)
    except HmoeError as error:
        typer.secho(f"hmoe: {error}", fg="red", err=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C
            typer.secho("hmoe: stopped; finished trials are kept, run the same command to go on", fg="yellow", err=True)
        raise


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
