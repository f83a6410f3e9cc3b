"""`hmoe corpus`: make, check, describe and pack a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmoe.base.errors import ConfigError

app = typer.Typer(help="Make, check and describe a corpus.", no_args_is_help=True)


@app.command("names")
def corpus_names() -> None:
    """List the corpora that can be loaded.

    Example: `hmoe corpus names`
    """
    from hmoe import corpora

    typer.echo("\n".join(corpora.names()))


@app.command("make")
def corpus_make(root: Annotated[Path | None, typer.Argument(help="Where to; default: the cache.")] = None) -> None:
    """Make the synthetic corpus (less than a minute).

    Example: `hmoe corpus make`
    """
    from hmoe import corpora

    corpus = corpora.load("synthetic", root)
    typer.echo(f"{len(corpus)} utterances in {corpus.root}")


@app.command("check")
def corpus_check(name: str, root: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Say what is missing, extra, truncated or altered in a folder. Exit code 1 if anything is.

    Example: `hmoe corpus check casia /data/casia`
    """
    from hmoe import corpora

    report = corpora.check(name, root)
    summary, *lines = report.lines()
    typer.echo("\n".join([summary, report.content, *lines]))
    if not report.ok:
        raise typer.Exit(1)


@app.command("stats")
def corpus_stats(name: str, root: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Utterances and seconds for each speaker and emotion, the totals, and how many files were passed over and why.

    Example: `hmoe corpus stats synthetic`
    """
    from hmoe import corpora

    corpus = corpora.load(name, root)
    typer.echo(corpora.stats(corpus).to_string(index=False, float_format="{:.2f}".format))
    typer.echo("\n".join(["", *corpora.totals(corpus)]))


@app.command("pack")
def corpus_pack(
    name: str, root: Annotated[Path | None, typer.Argument()] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; default: NAME.zip.")] = None,
) -> None:  # fmt: skip
    """Write a corpus as one file, which every command takes as its --root. No sample changes.

    Keep it where the corpus may be kept: it holds the recordings.

    Example: `hmoe corpus pack casia /data/casia -o /data/casia.zip`
    """
    from hmoe import corpora

    target = output or Path(f"{name}.zip")
    if target.is_dir():
        raise ConfigError(target, "is a directory", "name the file to write, e.g. casia.zip")
    corpus = corpora.load(name, root)
    size = corpora.pack(corpus, target)
    typer.echo(f"{len(corpus)} utterances, {corpus.table['seconds'].sum():.0f} s, {size / 1e6:.1f} MB: {target}")
