"""The experiments: configuration, features, trials, tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
import yaml

from hmoe.base.errors import ConfigError
from hmoe.commands.options import (
    Called,
    Changes,
    CorpusName,
    Device,
    DryRun,
    Figure,
    Format,
    FormatName,
    ProfileName,
    Results,
    Root,
    Workers,
    again,
    numbers,
    on_device,
    overrides,
    save_figure,
    warn,
)

if TYPE_CHECKING:
    import pandas as pd

    from hmoe.corpora import Corpus
    from hmoe.study.store import Store
    from hmoe.study.trial import Trial

app = typer.Typer()


@app.command("config")
def config_command(
    changes: Changes = None,
    values: Annotated[bool, typer.Option("--values", help="Beside each field, what it may be.")] = False,
) -> None:
    """Print every field of the configuration with its value; `--values`: with the values that are allowed.

    Example: `hmoe config --values --set reading=frames`
    """
    from hmoe.config import Config
    from hmoe.study import catalogue

    config = Config(**overrides(changes))
    lines = (
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None).strip().splitlines()
    )
    if values:
        allowed = catalogue.allowed()
        wide = max(map(len, lines))
        lines = [f"{line.ljust(wide)}  # {allowed[line.partition(':')[0]]}" for line in lines]
    typer.echo("\n".join(lines))
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
    experiment: Annotated[str, typer.Argument(help="table2, table3, ..., or all; `hmoe list experiments` has them.")],
    corpus: CorpusName = "synthetic", root: Root = None, profile: ProfileName = "full", device: Device = "cpu",
    workers: Workers = None,
    seeds: Annotated[str | None, typer.Option(help="e.g. 0,1,2; default: the profile's.")] = None,
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only this row; repeatable.")] = None,
    folds: Annotated[list[str] | None, typer.Option("--fold", help="Only this fold; repeatable.")] = None,
    backend: Annotated[str, typer.Option(help="loky (this machine) or dask.")] = "loky",
    scheduler: Annotated[str | None, typer.Option(help="Address of a Dask scheduler, with --backend dask.")] = None,
    changes: Changes = None, name: Called = None, results: Results = None, dry_run: DryRun = False,
    graphs: Annotated[bool, typer.Option("--graphs", help="On a GPU, each training step as one CUDA graph.")] = False,
) -> None:  # fmt: skip
    """Run the trials of an experiment that are not recorded yet. Stop it at any time; run it again to go on.

    Says first what it is going to do. What has changed in the corpus since its last records is said too; the old
    records stay where they are.

    Example: `hmoe run table2 --corpus casia --root /data/casia --seeds 0,1,2`
    """
    from dataclasses import replace

    from hmoe import corpora
    from hmoe.study import grid, profiles
    from hmoe.study.experiments import EXPERIMENTS
    from hmoe.study.experiments import experiment as find

    experiments = list(EXPERIMENTS.values()) if experiment == "all" else [find(experiment)]
    chosen, changed, wanted_seeds = profiles.profile(profile), overrides(changes), numbers(seeds) if seeds else None
    if backend not in ("loky", "dask"):
        raise ConfigError("--backend", f"got {backend!r}", "give loky or dask")
    if (backend == "dask") != (scheduler is not None):
        raise ConfigError("--backend", f"got {backend!r} with --scheduler {scheduler}", "dask needs both, loky neither")
    whole = corpora.load(corpus, root)
    data = profiles.cut(whole, chosen)
    wanted = grid.trials(experiments, data, chosen, wanted_seeds, rows, device, folds, **changed)
    wanted = [replace(trial, graphs=graphs) for trial in wanted]
    records = profiles.store_for(data, chosen, device, name, results)
    if not announce(wanted, data, len(whole), records, workers, dry_run):
        return
    n = grid.run(wanted, data, records, workers, scheduler)
    typer.echo(f"{n} trainings computed, {len(wanted)} trials recorded under {records.folder}")


def announce(wanted: list[Trial], data: Corpus, whole: int, records: Store, workers: int | None, dry_run: bool) -> bool:
    """Say what changed in a corpus and what is going to be done with it; False where that is all."""
    from hmoe.study import home, plan

    planned = plan.plan(wanted, data, whole, records, workers)
    if dry_run:
        typer.echo(f"{planned}; records: {records.folder}")
        return False
    if changed := home.enter(records, data):
        warn(changed)
    typer.echo(f"hmoe: {planned}", err=True)
    return True


@app.command("report")
def report_command(
    experiment: Annotated[str, typer.Argument(help="table2, table3, ...; `hmoe list experiments` has them.")],
    corpus: CorpusName = "synthetic", profile: ProfileName = "full", format: FormatName = Format.table,
    changes: Changes = None,
    device: Annotated[str, typer.Option("--device", "-d", help="Whose trials: cpu or cuda.")] = "cpu",
    name: Called = None, results: Results = None,
    wide: Annotated[bool, typer.Option("--wide", "-w", help="Every column: classes, measures, tests.")] = False,
) -> None:  # fmt: skip
    """Print an experiment's table from the records; those of CASIA beside the paper's numbers, with the verdicts.

    `--set` shows the trials that were run with it. CSV and JSON have every column.

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
    store = profiles.store_for(corpus, wanted, device, name, results)
    found = report.rows(store, chosen, lambda row: wanted.config(row, **changed))
    table = report.table(found, chosen)
    if not found:
        own = {"profile": None if profile == "full" else profile, "set": changes, "name": name, "results": results}
        own |= {"device": None if device == "cpu" else device}
        remedy = again(f"run {chosen.name} --dry-run", corpus=corpus, **own)
        raise ConfigError(store.path(chosen.name), "holds no such trials yet", f"{remedy} says what they take")
    if format is Format.json:
        typer.echo(table.to_json(orient="records", indent=1))
    elif format is Format.csv:
        typer.echo(table.to_csv(index=False).strip())
    else:
        there = table["trials"] > 0
        shown = table[there].dropna(axis="columns", how="all")
        typer.echo(_wide(shown) if wide else _narrow(shown, judged=corpus == "casia"))
        if not there.all():
            typer.echo(_filled(f"Not recorded yet: {'; '.join(table['row'][~there])}."))
        typer.echo(_filled(report.provenance(store, chosen, found, on_disk=True)))


WIDTH = 100  # columns of a terminal that a report keeps within, unless it is asked for everything


def _wide(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.1f}".format, na_rep="–")


def _narrow(table: pd.DataFrame, judged: bool) -> str:
    """README's columns: the row, the paper's accuracy, ours with its interval, trials, and the verdict."""
    import textwrap

    import pandas as pd

    columns = {
        "row": table["row"],
        "paper": None,
        "accuracy, % [95 %]": table["accuracy, 95 % interval"],
        "trials": table["trials"],
    }
    if judged and "paper" in table:
        columns["paper"] = table["paper"].map(lambda value: "–" if pd.isna(value) else f"{value:.1f}")
    cells = [[name, *column.astype(str)] for name, column in columns.items() if column is not None]
    padded = [[cell.ljust(max(map(len, column))) for cell in column] for column in cells]
    lines = ["  ".join(line) for line in zip(*padded, strict=True)]
    if not judged:
        return "\n".join(line.rstrip() for line in lines)
    room = max(24, WIDTH - len(lines[0]) - 2)
    said = []
    for line, verdict in zip(lines, ["verdict", *table["verdict"].astype(str)], strict=True):
        first, *rest = textwrap.wrap(verdict, room) or [""]
        said += [f"{line}  {first}", *(" " * (len(line) + 2) + part for part in rest)]
    return "\n".join(line.rstrip() for line in said)


def _filled(text: str) -> str:
    import textwrap

    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


@app.command("list")
def list_command(
    what: Annotated[
        str, typer.Argument(help="experiments, rows, models, protocols, encoders, corpora or results.")
    ] = "",
    format: FormatName = Format.table,
) -> None:  # fmt: skip
    """What there is to run: experiments, rows, models, protocols, encoders, corpora; and where results are kept.

    Example: `hmoe list rows`
    """
    import json

    from hmoe.base.names import chosen
    from hmoe.study import catalogue

    kinds = (
        catalogue.KINDS
        if not what
        else {name: catalogue.KINDS[name] for name in [chosen(what, catalogue.KINDS, "list")]}
    )
    listed = {kind: make() for kind, make in kinds.items()}
    if format is Format.json:
        typer.echo(json.dumps(listed, indent=1, ensure_ascii=False))
        return
    for kind, lines in listed.items():
        if format is Format.csv:
            typer.echo("\n".join(f"{kind},{json.dumps(name, ensure_ascii=False)}" for name in lines))
            continue
        typer.secho(f"{kind}", bold=True)
        wide = max(map(len, lines), default=0)
        typer.echo("\n".join(f"  {name.ljust(wide)}  {about}".rstrip() for name, about in lines.items()) + "\n")


@app.command("protocols")
def protocols_command(
    corpus: CorpusName = "synthetic", root: Root = None, device: Device = "cpu", workers: Workers = None,
    rows: Annotated[
        list[str] | None, typer.Option("--row", help="A row of an experiment beside the SVM; repeatable.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Partitions; from three on there are intervals.")] = "0,1,2",
    changes: Changes = None, name: Called = None, results: Results = None, format: FormatName = Format.table,
    figure: Figure = None, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Is my number honest? One model under every protocol that a corpus permits, and what each leak is worth.

    Trains an SVM (minutes for 1,500 utterances), and any row that is asked for, on folds with seen speakers and
    sentences, with unseen ones, and with augmented copies dealt before and after the split. `--set` changes the
    configuration of the rows that `--row` names.

    Example: `hmoe protocols --corpus csv --root my.csv --figure ladder.png`
    """
    from hmoe.study import grid, ladder, profiles

    wanted_rows, changed, wanted_seeds = [ladder.row(one) for one in rows or ()], overrides(changes), numbers(seeds)
    if "protocol" in changed:
        raise ConfigError("--set", "protocol is what this command varies", "leave it out")
    full = profiles.PROFILES["full"]
    data = profiles.load(corpus, root, full)
    records = profiles.store_for(data, full, device, name, results)
    steps, refused = ladder.permitted(data, wanted_seeds)
    models = [(ladder.SVM, {}), *((one, changed) for one in wanted_rows if one != ladder.SVM)]
    wanted = [
        trial
        for row, own in models
        for trial in grid.trials([ladder.experiment(row, steps, **own)], data, full, wanted_seeds, device=device)
        if not ladder.repeated(trial, wanted_seeds)
    ]
    if not announce(wanted, data, len(data), records, workers, dry_run):
        return
    grid.run(wanted, data, records, workers)
    ladders = [ladder.read(records, row, steps, **own) for row, own in models]
    if figure:
        save_figure(ladder.figure(ladders, data.name, ladder.chance(data.table)), figure)
    if format is Format.table:
        typer.echo(ladder.text(ladders, data, refused))
        typer.echo(f"\nRecords: {records.path(ladder.NAME)}")
        return
    tables = {"steps": _stacked(one.steps() for one in ladders), "leaks": _stacked(one.worth() for one in ladders)}
    if format is Format.json:
        import json

        said = {part: json.loads(table.to_json(orient="records")) for part, table in tables.items()}
        typer.echo(json.dumps(said | {"not_permitted": refused}, indent=1, ensure_ascii=False))
    else:
        typer.echo(tables["steps"].to_csv(index=False).strip())


def _stacked(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(tables, ignore_index=True)


@app.command("audit")
def audit_command(
    table: Annotated[str, typer.Argument(help="CSV: a line for each model, a column for each number; - for a pipe.")],
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

    Marks each impossible cell, with the assumption behind it. It shows that the assumptions cannot all hold; not
    which is wrong, and nothing about intent. Exit code 0: all cells are possible; 1: some are not; 2: the table
    cannot be read.

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
