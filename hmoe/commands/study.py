"""The experiments: configuration, features, trials, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml

from hmoe.base.errors import ConfigError
from hmoe.commands.options import (
    Changes,
    CorpusName,
    Device,
    Figure,
    Format,
    FormatName,
    ProfileName,
    Root,
    Workers,
    numbers,
    on_device,
    overrides,
    save_figure,
)

app = typer.Typer()


@app.command("config")
def config_command(changes: Changes = None) -> None:
    """Print every field of the configuration with its value.

    Example: `hmoe config --set reading=frames`
    """
    from hmoe import experts
    from hmoe.config import Config

    config = Config(**overrides(changes))
    experts.check(config)
    typer.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).strip())
    typer.echo(f"# key {config.key()}")


@app.command("features")
def features_command(
    corpus: CorpusName = "synthetic", root: Root = None, profile: ProfileName = "full", workers: Workers = None,
    torch_on: Annotated[
        str | None, typer.Option("--torch", help="By PyTorch on cpu or cuda; else by librosa.", callback=on_device)
    ] = None,
    changes: Changes = None,
) -> None:  # fmt: skip
    """Compute and cache the features of a corpus and of its augmented copies. Starts again where it stopped.

    Trials on a GPU read those of `--torch cuda`, all others those of librosa, the reference.

    Example: `hmoe features --corpus casia --root /data/casia`
    """
    from hmoe.study import grid, profiles
    from hmoe.study.experiments import Row

    chosen = profiles.profile(profile)
    config = chosen.config(Row("HMoE-SiMBA"), **overrides(changes))
    bank = grid.open_bank(profiles.load(corpus, root, chosen), config, workers, device=torch_on)
    typer.echo(f"{len(bank.ids)} utterances, each clean and in {bank.copies} augmented copies")


@app.command("run")
def run_command(
    experiment: Annotated[str, typer.Argument(help="table2, table3, figure2, figure3, figure4, ..., or all.")],
    corpus: CorpusName = "synthetic", root: Root = None, profile: ProfileName = "full", device: Device = "cpu",
    workers: Workers = None,
    seeds: Annotated[str | None, typer.Option(help="e.g. 0,1,2; default: the profile's.")] = None,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; repeatable.")] = None,
    folds: Annotated[list[str] | None, typer.Option("--fold", help="Only this fold; repeatable.")] = None,
    backend: Annotated[str, typer.Option(help="loky (this machine) or dask.")] = "loky",
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, with --backend dask.")] = None,
    changes: Changes = None,
) -> None:  # fmt: skip
    """Run the trials of an experiment that are not recorded yet. Stop it at any time; run it again to go on.

    Example: `hmoe run table2 --corpus casia --root /data/casia --seeds 0,1,2`
    """
    from hmoe.study import grid, profiles
    from hmoe.study.experiments import EXPERIMENTS
    from hmoe.study.experiments import experiment as find

    experiments = list(EXPERIMENTS.values()) if experiment == "all" else [find(experiment)]
    chosen, changed, wanted_seeds = profiles.profile(profile), overrides(changes), numbers(seeds) if seeds else None
    if backend not in ("loky", "dask"):
        raise ConfigError("--backend", f"got {backend!r}", "give loky or dask")
    if (backend == "dask") != (scheduler is not None):
        raise ConfigError("--backend", f"got {backend!r} with --scheduler {scheduler}", "dask needs both, loky neither")
    data = profiles.load(corpus, root, chosen)
    wanted = grid.trials(experiments, data, chosen, wanted_seeds, rows, device, folds, **changed)
    records = profiles.store_for(corpus, chosen, device)
    n = grid.run(wanted, data, records, workers, scheduler)
    typer.echo(f"{n} trainings computed, {len(wanted)} trials recorded under {records.folder}")


@app.command("report")
def report_command(
    experiment: Annotated[str, typer.Argument(help="table2, table3, figure2, figure3, figure4, ...")],
    corpus: CorpusName = "casia", profile: ProfileName = "full", format: FormatName = Format.table,
    changes: Changes = None,
    device: Annotated[str, typer.Option("--device", "-d", help="Whose trials: cpu or cuda.")] = "cpu",
) -> None:  # fmt: skip
    """Print an experiment's table from the records; those of CASIA beside the paper's numbers, with the verdicts.

    `--set` shows the trials that were run with it.

    Example: `hmoe report table3 --corpus casia`
    """
    from dataclasses import replace

    from hmoe.study import profiles, report
    from hmoe.study.experiments import experiment as find

    chosen, changed, wanted = find(experiment), overrides(changes), profiles.profile(profile)
    if corpus != "casia":
        chosen = report.without_paper(chosen)
    if protocol := changed.pop("protocol", None):
        chosen = replace(chosen, rows=tuple(replace(row, protocol=protocol) for row in chosen.rows))
    store = profiles.store_for(corpus, wanted, device)
    found = report.rows(store, chosen, lambda row: wanted.config(row, **changed))
    table = report.table(found, chosen)
    if not found:
        raise ConfigError(store.path(experiment), "holds no trials yet", f"`hmoe run {experiment} --corpus {corpus}`")
    if format is Format.json:
        typer.echo(table.to_json(orient="records", indent=1))
    elif format is Format.csv:
        typer.echo(table.to_csv(index=False).strip())
    else:
        there = table["trials"] > 0
        shown = table[there].dropna(axis="columns", how="all")
        typer.echo(shown.to_string(index=False, float_format="{:.2f}".format, na_rep="–"))
        if not there.all():
            typer.echo(f"Not recorded yet: {'; '.join(table['row'][~there])}.")
        typer.echo(report.provenance(store, chosen, found))


@app.command("audit")
def audit_command(
    table: Annotated[str, typer.Argument(help="CSV: a line a model, a column a measure or a class; - for a pipe.")],
    per_class: Annotated[
        str | None,
        typer.Option(metavar="N or NAME=N,...", help="Test items of each class, all folds together."),
    ] = None,
    folds: Annotated[int, typer.Option(min=1, help="Of the cross-validation; 1: a single test set.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Each number is the average of so many runs.")] = 1,
    decimals: Annotated[
        int | None, typer.Option(min=0, max=6, help="Of a percentage, as printed; else as many as a row needs.")
    ] = None,
    unit: Annotated[Literal["auto", "percent", "fraction"], typer.Option(help="Of the numbers in the file.")] = "auto",
    average: Annotated[
        Literal["macro", "weighted", "binary"], typer.Option(help="Of precision, recall, F1; binary: of one class.")
    ] = "macro",
    truncated: Annotated[bool, typer.Option("--truncated", help="Digits may have been cut off, not rounded.")] = False,
    classes: Annotated[
        str | None, typer.Option(metavar="COLUMN,...", help="Which columns are class accuracies, if not all others.")
    ] = None,
    format: FormatName = Format.table,
    figure: Figure = None,
) -> None:  # fmt: skip
    """Can the numbers of a printed table come from the experiment that is described? Needs no data.

    Marks each cell that cannot be, with the assumption behind it. It shows that assumptions cannot all hold; not which
    is wrong, and nothing about intent. Exit code 0: all can be; 1: some cannot; 2: the table cannot be read.

    Example: `hmoe audit table.csv --per-class 200 --folds 5`
    """
    from hmoe.study import audit, audit_report, printed_table

    printed = printed_table.read(table, [name.strip() for name in classes.split(",")] if classes else (), unit)
    design = audit.Design(
        printed_table.per_class(per_class, printed), folds, runs,
        printed.decimals if decimals is None else decimals, average, truncated,
    )  # fmt: skip
    findings = audit.audit(printed.table, design)
    name = "standard input" if table == "-" else Path(table).name
    if figure:
        save_figure(audit_report.figure(printed, findings, name), figure)
    if format is Format.json:
        typer.echo(audit_report.as_json(printed, design, findings))
    elif format is Format.csv:
        typer.echo(findings.to_csv(index=False).strip())
    else:
        typer.echo(audit_report.text(printed, design, findings, name))
    if not findings["possible"].all():
        raise typer.Exit(1)
