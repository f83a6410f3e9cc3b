"""The `hmoe` command. Each subcommand has `--help` with an example; an error of the user's is one line, exit code 2."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from hmoe.base.errors import ConfigError, HmoeError

app = typer.Typer(
    help="Reproduce HMoE-SiMBA: corpora, features, trials, tables.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
)  # fmt: skip
corpus_app = typer.Typer(help="Make, check and describe a corpus.", no_args_is_help=True)
bench_app = typer.Typer(help="Measure speed, as ratios against named peers.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")
app.add_typer(bench_app, name="bench")


def usable(device: str | None) -> str | None:
    """`device`, if torch can compute there; asked before hours of features rather than after."""
    import torch

    if device is None:
        return None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):  # a device unknown to torch, or one it was built without
        raise ConfigError("--device", f"got {device!r}", "give cpu, or cuda where torch sees a GPU") from None
    return device


class Format(StrEnum):
    """How a table is printed."""

    table = "table"
    csv = "csv"
    json = "json"


CorpusName = Annotated[str, typer.Option("--corpus", "-c", help="Which corpus; `hmoe corpus names` lists them.")]
Root = Annotated[
    Path | None, typer.Option("--root", "-r", help="Its folder or archive; else $HMOE_CASIA and the like.")
]
ProfileName = Annotated[str, typer.Option("--profile", "-p", help="`fast` to read along, `full` for the record.")]
Device = Annotated[str, typer.Option("--device", "-d", help="cpu, cuda or cuda:1.", callback=usable)]
Workers = Annotated[int | None, typer.Option("--workers", "-j", min=1, help="Processes; default: one a core.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="FIELD=VALUE", help="Change a field of the configuration; repeatable."),
]
FormatName = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]


def warn(what: object, *_: object) -> None:
    """A warning as a line of its own, in the place of Python's two with file and number."""
    typer.secho(f"hmoe: warning: {' '.join(str(what).split())}", fg="yellow", err=True)


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


def overrides(changes: list[str] | None) -> dict[str, Any]:
    """`["d_state=64", "augment=[]"]` -> a dict; values are read as YAML."""
    from hmoe.config import Config

    result = {}
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise ConfigError("--set", f"got {change!r}", "write FIELD=VALUE, e.g. --set d_state=64")
        if name not in (*Config.model_fields, "protocol"):
            raise ConfigError("--set", f"no field {name!r}", "see `hmoe config` for the fields")
        try:
            result[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError("--set", f"got {change!r}", "write YAML, e.g. --set 'augment=[noise]'") from None
    return result


def numbers(seeds: str) -> list[int]:
    """`"0,1,2"` -> [0, 1, 2]."""
    if not all(seed.strip().isdecimal() and int(seed) < 2**32 for seed in seeds.split(",")):
        raise ConfigError("--seeds", f"got {seeds!r}", "write whole numbers below 2^32, e.g. --seeds 0,1,2")
    return [int(seed) for seed in seeds.split(",")]


@corpus_app.command("names")
def corpus_names() -> None:
    """List the corpora that can be loaded.

    Example: `hmoe corpus names`
    """
    from hmoe import corpora

    typer.echo("\n".join(corpora.names()))


@corpus_app.command("make")
def corpus_make(root: Annotated[Path | None, typer.Argument(help="Where to; default: the cache.")] = None) -> None:
    """Make the synthetic corpus (less than a minute).

    Example: `hmoe corpus make`
    """
    from hmoe import corpora

    corpus = corpora.load("synthetic", root)
    typer.echo(f"{len(corpus)} utterances in {corpus.root}")


@corpus_app.command("check")
def corpus_check(name: str, root: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Say what is missing, extra, truncated or altered in a folder. Exit code 1 if anything is.

    Example: `hmoe corpus check casia /data/casia`
    """
    from hmoe import corpora

    report = corpora.check(name, root)
    typer.echo("\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(1)


@corpus_app.command("stats")
def corpus_stats(name: str, root: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Utterances and seconds for each speaker and emotion.

    Example: `hmoe corpus stats synthetic`
    """
    from hmoe import corpora

    typer.echo(corpora.stats(corpora.load(name, root)).to_string(index=False, float_format="{:.2f}".format))


@corpus_app.command("pack")
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


@app.command("config")
def config_command(changes: Changes = None) -> None:
    """Print every field of the configuration with its value.

    Example: `hmoe config --set reading=frames`
    """
    from hmoe.config import Config

    config = Config(**overrides(changes))
    typer.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).strip())
    typer.echo(f"# key {config.key()}")


@app.command("features")
def features_command(
    corpus: CorpusName = "synthetic", root: Root = None, profile: ProfileName = "full", workers: Workers = None,
    torch_on: Annotated[
        str | None, typer.Option("--torch", help="By PyTorch on cpu or cuda; else by librosa.", callback=usable)
    ] = None,
    changes: Changes = None,
) -> None:  # fmt: skip
    """Compute and cache the features of a corpus and of its augmented copies. Starts again where it stopped.

    Trials on a GPU read those of `--torch cuda`, all others those of librosa, the reference.

    Example: `hmoe features --corpus casia --root /data/casia`
    """
    from hmoe.study import grid
    from hmoe.study.experiments import Row

    chosen = grid.profile(profile)
    config = chosen.config(Row("HMoE-SiMBA"), **overrides(changes))
    bank = grid.open_bank(grid.load(corpus, root, chosen), config, workers, device=torch_on)
    typer.echo(f"{len(bank.ids)} utterances, each clean and in {bank.copies} augmented copies")


@app.command("train")
def train_command(
    output: Annotated[Path, typer.Argument(help="The folder to write the model to.")],
    corpus: CorpusName = "synthetic", root: Root = None, profile: ProfileName = "full", device: Device = "cpu",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0, changes: Changes = None,
) -> None:  # fmt: skip
    """Train HMoE-SiMBA on a whole corpus and save it for `hmoe predict`. Taken up where it was cut off.

    Example: `hmoe train my-model --corpus casia --root /data/casia --set reading=frames`
    """
    import numpy as np

    from hmoe.base.files import atomic_write
    from hmoe.base.seeds import stable_seed
    from hmoe.inputs.batches import Inputs
    from hmoe.study import grid, protocols
    from hmoe.study.experiments import Row
    from hmoe.train import fit
    from hmoe.use.pretrained import Pretrained, facts, vacant

    chosen = grid.profile(profile)
    config = chosen.config(Row("HMoE-SiMBA"), **overrides(changes))
    if config.model != "hmoe-simba" or config.selection == "test":
        raise ConfigError("--set", "a model for `hmoe predict` is HMoE-SiMBA, and nothing tests it", "use `hmoe run`")
    if config.by_speaker or "prosody" in config.reading or config.reading == "embeddings":
        raise ConfigError("--set", "`hmoe predict` hears one recording at a time, and its spectrum", "use `hmoe run`")
    output = vacant(output)
    probe = output.with_name(f".{output.name}.tmp")  # what cannot be written is told now, not after training
    atomic_write(probe, "")
    probe.unlink()
    data = grid.load(corpus, root, chosen)
    about = facts(data, config, grid.store_for(corpus, chosen))
    inputs = Inputs.of(grid.open_bank(data, config), config, device)
    rows, held_out = np.arange(len(data)), None
    if config.selection == "nested":
        rows, held_out = protocols.validation(rows, data.labels, config.validation_fraction, seed)
    started = stable_seed(config.key(), seed, device, grid.source_digest(), *data.table["sha256"])
    model, run = fit(
        lambda: Pretrained(config, list(data.emotions), about), inputs, data.labels, rows, held_out, config, seed,
        output.with_name(f".{output.name}.{started:x}.tmp"), progress=True,
    )  # fmt: skip
    model.cpu().save(output)
    judged = "" if held_out is None else f", {100 * run.best[0]:.1f} % of {len(held_out)} held-out utterances"
    typer.echo(f"epoch {run.best_epoch}{judged}: {output}\n{model.note}")


@app.command("pretrain")
def pretrain_command(
    name: Annotated[str, typer.Argument(help="Kind and seed of the encoder: mamba-0, attention-0, mamba-1, ...")],
    corpus: CorpusName = "synthetic", root: Root = None, profile: ProfileName = "full",
    size: Annotated[str, typer.Option(help="micro, or the published tiny, small, base.")] = "micro",
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    without: Annotated[list[str] | None, typer.Option(help="A speaker to leave out; repeatable.")] = None,
) -> None:  # fmt: skip
    """Pre-train an encoder on masked patches of a corpus, whose labels it never reads (micro: about 5 minutes).

    Example: `hmoe pretrain mamba-0 --corpus synthetic`
    """
    from hmoe.parrot.encoders import own_path, register
    from hmoe.parrot.pretraining import pretrain, save_encoder
    from hmoe.study import grid, store

    kind, dash, seed = name.partition("-")
    if not dash or not seed.isdecimal():
        raise ConfigError("name of the encoder", f"got {name!r}", "write KIND-SEED, e.g. mamba-0 or attention-1")
    data = grid.load(corpus, root, grid.profile(profile))
    strangers = set(without or ()) - set(data.table["speaker"])
    if strangers:
        raise ConfigError("--without", f"no speaker {sorted(strangers)}", f"have {sorted(set(data.table['speaker']))}")
    data = data.subset(~data.table["speaker"].isin(without or ()))
    encoder, history = pretrain(data, kind, size, epochs, int(seed), progress=True)
    facts = {"corpus": corpus, "utterances": str(len(data)), "without": " ".join(without or ()), "seed": seed}
    facts |= {"epochs": str(epochs), "commit": store.commit(), "date": store.now()}
    save_encoder(encoder, own_path(name), facts)
    register(name, history[-1], {"size": size, **facts, "machine": store.machine()})
    typer.echo(f"loss {history[0]:.3f} to {history[-1]:.3f} (1 is guessing the mean): {own_path(name)}")


@app.command("convert-encoder")
def convert_command(
    source: Annotated[Path, typer.Argument(help="A published checkpoint of Audio Mamba, e.g. ssam_tiny.pth.")],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
) -> None:
    """Make a published Mamba encoder readable for PARROT.

    Example: `hmoe convert-encoder ssam_tiny.pth ssam_tiny.safetensors`
    """
    from hmoe.parrot.audio_mamba import convert

    convert(source, target)
    typer.echo(f"{target}: give it as an encoder, `hmoe run parrot --set 'encoders=[{target}, resemblyzer]'`")


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
    from hmoe_book import build as book

    # Notebooks run in their own folder, from which a relative path would lead elsewhere.
    page = book.build(corpus, str(root.resolve()) if root else "", profile, device, seed, jobs, single)
    typer.echo(f"The book: {page}")


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
    from hmoe.study import grid
    from hmoe.study.experiments import EXPERIMENTS
    from hmoe.study.experiments import experiment as find

    experiments = list(EXPERIMENTS.values()) if experiment == "all" else [find(experiment)]
    chosen, changed, wanted_seeds = grid.profile(profile), overrides(changes), numbers(seeds) if seeds else None
    if backend not in ("loky", "dask"):
        raise ConfigError("--backend", f"got {backend!r}", "give loky or dask")
    if (backend == "dask") != (scheduler is not None):
        raise ConfigError("--backend", f"got {backend!r} with --scheduler {scheduler}", "dask needs both, loky neither")
    data = grid.load(corpus, root, chosen)
    wanted = grid.trials(experiments, data, chosen, wanted_seeds, rows, device, folds, **changed)
    records = grid.store_for(corpus, chosen, device)
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

    from hmoe.study import grid, report
    from hmoe.study.experiments import experiment as find

    chosen, changed, wanted = find(experiment), overrides(changes), grid.profile(profile)
    if corpus != "casia":
        chosen = report.without_paper(chosen)
    if protocol := changed.pop("protocol", None):
        chosen = replace(chosen, rows=tuple(replace(row, protocol=protocol) for row in chosen.rows))
    store = grid.store_for(corpus, wanted, device)
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


ModelName = Annotated[
    str, typer.Option("--model", "-m", help="A folder from `hmoe train`, or OWNER/NAME on the Hugging Face Hub.")
]


@app.command("predict")
def predict_command(
    recordings: Annotated[list[str], typer.Argument(help="Files; folders; - for standard input (paths, or a WAV).")],
    model: ModelName = "my-model",
    format: FormatName = Format.table,
) -> None:
    """Say the emotion of recordings, with probabilities and routing weights.

    What cannot be judged is named, and the rest is judged: exit code 1; 2 if nothing could be.

    Example: `hmoe predict --model my-model greeting.wav recordings/`
    """
    from hmoe.use import predict as predicting
    from hmoe.use.pretrained import Pretrained

    said = predicting.answers(Pretrained.load(model), recordings, sys.stdin.buffer)
    for error in said.refused:
        typer.secho(f"hmoe: {error}", fg="red", err=True)
    for one in said.judged:
        if one.warnings:
            warn(f"{one.path} is unlike the training corpus: {'; '.join(one.warnings)}")
    if not said.judged:
        raise typer.Exit(2)
    table = said.table()
    if format is Format.json:
        typer.echo(said.json())
    elif format is Format.csv:
        typer.echo(table.to_csv(index=False, float_format="%.4f").strip())
        typer.echo(f"hmoe: {said.model.note}", err=True)
    else:
        typer.echo(table.drop(columns="warnings").to_string(index=False, float_format="{:.2f}".format))
        typer.echo(f"\n{said.model.note}")
    if said.refused:
        raise typer.Exit(1)


@app.command("demo")
def demo_command(
    model: ModelName = "my-model",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 7860,
) -> None:
    """Open a page on this machine: record or upload an utterance, see what the model says. Ctrl-C ends it.

    Example: `hmoe demo --model my-model`
    """
    from hmoe.use import demo
    from hmoe.use.pretrained import Pretrained

    page = demo.serve(Pretrained.load(model), port)
    typer.echo(f"The page: http://{demo.HERE}:{port} (Ctrl-C ends it)")
    page.block_thread()


@bench_app.command("scan")
def bench_scan_command(quick: Annotated[bool, typer.Option(help="Small sizes only.")] = False) -> None:
    """Time the selective scan against its peers; writes `results/bench/scan.csv`.

    Example: `hmoe bench scan --quick`
    """
    from hmoe.bench.scan import bench_scan

    typer.echo(bench_scan(quick=quick).to_string(index=False))


@bench_app.command("cost")
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


@bench_app.command("paper")
def bench_paper_command(
    corpus: CorpusName = "synthetic", root: Root = None, device: Device = "cpu", workers: Workers = None,
    full: Annotated[bool, typer.Option(help="Run every trial (hours) instead of a few steps of each row.")] = False,
) -> None:  # fmt: skip
    """Time the whole paper, all rows in 5 folds, extrapolated from a few steps; writes `results/bench/paper.csv`.

    Example: `hmoe bench paper --corpus casia --root /data/casia`
    """
    from hmoe.bench.paper import bench_paper
    from hmoe.study import grid

    data = grid.load(corpus, root, grid.PROFILES["full"])
    typer.echo(bench_paper(data, device, workers, full).to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
