"""`hmoe book`: notebooks are executed, the book is built."""

from __future__ import annotations

from typing import Annotated

import typer

from hmoe.commands.options import CorpusName, Device, ProfileName, Root

app = typer.Typer()


@app.command("book")
def book_command(
    corpus: CorpusName = "synthetic", root: Root = None, profile: ProfileName = "fast", device: Device = "cpu",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Notebooks at a time.")] = 2,
    single: Annotated[bool, typer.Option("--single", help="The whole book as one page.")] = False,
) -> None:  # fmt: skip
    """Execute every notebook that is not up to date, build the book, print where it is.

    Example: `hmoe book --corpus casia --root /data/casia --profile full`
    """
    from hmoe.base.extras import need_checkout

    need_checkout("hmoe book")
    from hmoe_book import build as book

    # Notebooks run in their own folder, from which a relative path would lead elsewhere.
    page = book.build(corpus, str(root.resolve()) if root else "", profile, device, seed, jobs, single)
    typer.echo(f"The book: {page}")
