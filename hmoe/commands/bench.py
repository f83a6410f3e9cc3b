"""`hmoe bench`: speed, as ratios against named peers."""

from __future__ import annotations

from typing import Annotated

import typer

from hmoe.commands.options import CorpusName, Device, Root, Workers

app = typer.Typer(help="Measure speed, as ratios against named peers.", no_args_is_help=True)


@app.command("scan")
def bench_scan_command(
    quick: Annotated[bool, typer.Option(help="Small sizes only.")] = False, device: Device = "cpu"
) -> None:
    """Time the selective scan against its peers; writes `results/bench/scan.csv`, of a GPU `scan-cuda.csv`.

    Example: `hmoe bench scan --quick`
    """
    from hmoe.bench.scan import bench_scan

    typer.echo(bench_scan(quick=quick, device=device).to_string(index=False))


@app.command("cost")
def bench_cost_command(
    quick: Annotated[bool, typer.Option(help="Short lengths only; stores nothing.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="length, rows or real-time; repeatable.")] = None,
) -> None:
    """Time parts against length, count operations, measure the real-time factor; writes `results/bench/cost-*.csv`.

    Example: `hmoe bench cost --quick`
    """
    from hmoe.bench.cost import TABLES, bench_cost

    for name, table in bench_cost(quick=quick, only=only or TABLES).items():
        typer.echo(f"{name}\n{table.to_string(index=False)}\n")


@app.command("paper")
def bench_paper_command(
    corpus: CorpusName = "synthetic", root: Root = None, device: Device = "cpu", workers: Workers = None,
    full: Annotated[bool, typer.Option(help="Run every trial (hours) instead of a few steps of each row.")] = False,
) -> None:  # fmt: skip
    """Time the whole paper, all rows in 5 folds, extrapolated from a few steps; writes `results/bench/paper.csv`.

    Example: `hmoe bench paper --corpus casia --root /data/casia`
    """
    from hmoe.bench.paper import bench_paper
    from hmoe.study import profiles

    data = profiles.load(corpus, root, profiles.PROFILES["full"])
    typer.echo(bench_paper(data, device, workers, full).to_string(index=False, float_format="{:.4g}".format))


@app.command("window")
def bench_window_command(
    corpus: CorpusName = "synthetic", root: Root = None,
    encoder: Annotated[str, typer.Option(help="A Whisper, by name or folder.")] = "openai/whisper-base",
    utterances: Annotated[int, typer.Option(min=2, help="How many are heard.")] = 48,
) -> None:  # fmt: skip
    """Measure what a window shorter than 30 s changes in Whisper's embedding, and saves; writes
    `results/bench/window.csv`.

    Example: `hmoe bench window --corpus casia --root /data/casia`
    """
    from hmoe.bench.window import bench_window
    from hmoe.study import profiles

    table = bench_window(profiles.load(corpus, root, profiles.PROFILES["full"]), encoder, utterances)
    typer.echo(table.pivot(index="layer", columns="window_s", values=["drift", "own"]).round(3).to_string())
    typer.echo(table.drop_duplicates("window_s")[["window_s", "cost"]].round(3).to_string(index=False))


@app.command("damage")
def bench_damage_command(
    files: Annotated[int, typer.Option(min=1, help="How many.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes at a time.")] = 2,
) -> None:
    """Damage valid files of every container and judge them; writes `results/bench/damage.csv`, what became of them.

    Exit code 1 if one ended or stopped the program.

    Example: `hmoe bench damage --files 1000`
    """
    from hmoe.bench.damage import FATES, bench_damage

    table = bench_damage(files, seed, jobs)
    found = table[list(FATES)].sum()
    typer.echo(table.groupby("container")[["files", *FATES]].sum().to_string())
    typer.echo(f"{len(table) and table['files'].sum()} files: {', '.join(f'{n} {fate}' for fate, n in found.items())}")
    if found[["crash", "hang", "fault"]].any():
        raise typer.Exit(1)
