"""A trained model: train and save it, ask it; and the encoders of PARROT."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from hmoe.base.errors import ConfigError
from hmoe.commands.options import (
    Called,
    Changes,
    CorpusName,
    Device,
    Format,
    FormatName,
    ProfileName,
    Results,
    Root,
    overrides,
    warn,
)

app = typer.Typer()


@app.command("train")
def train_command(
    output: Annotated[Path, typer.Argument(help="The folder to write the model to.")],
    corpus: CorpusName = "synthetic", root: Root = None, profile: ProfileName = "full", device: Device = "cpu",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0, changes: Changes = None,
    name: Called = None, results: Results = None,
    encoder: Annotated[
        str | None, typer.Option(help="Read the frames of this pre-trained encoder, e.g. openai/whisper-base.")
    ] = None,
) -> None:  # fmt: skip
    """Train HMoE-SiMBA on a whole corpus and save it for `hmoe predict`. Goes on where it was cut off.

    Its card shows what `hmoe run` has recorded of the same configuration and corpus: `--name` and `--results` as there.
    With `--encoder` it reads frames of the encoder's middle layer (or of another: `--set layer=1`) in place of our
    features; `--set "modalities=[mfcc, mel, chroma]"` keeps ours beside them.

    Example: `hmoe train my-model --corpus casia --root /data/casia --set reading=frames`
    """
    import numpy as np

    from hmoe import corpora, experts
    from hmoe.base.seeds import stable_seed
    from hmoe.inputs.batches import Inputs
    from hmoe.readings import READINGS
    from hmoe.study import grid, home, profiles, protocols
    from hmoe.study.experiments import ENCODED, Row
    from hmoe.train import fit
    from hmoe.use.pretrained import Pretrained, facts, probe, vacant

    chosen = profiles.profile(profile)
    read = {}
    if encoder is not None:
        from hmoe.parrot import encoders

        read = {**ENCODED, "encoders": (encoder,), "layer": encoders.load(encoder).depth // 2}
    config = chosen.config(Row("HMoE-SiMBA", read), **overrides(changes))
    experts.check(config)
    if config.model != "hmoe-simba" or config.selection == "test":
        raise ConfigError("--set", "a model for `hmoe predict` is HMoE-SiMBA, and nothing tests it", "use `hmoe run`")
    reading = READINGS[config.reading]
    if config.by_speaker or reading.prosody or "embeddings" in reading.blocks or (config.encoders and not encoder):
        raise ConfigError("--set", "`hmoe predict` hears one recording at a time, and its spectrum", "use `hmoe run`")
    output = vacant(output)
    probe(output)  # what cannot be written is told now, not after training
    whole = corpora.load(corpus, root)
    data = profiles.cut(whole, chosen)
    protocols.learnable(data.table, f"corpus {corpus!r}")
    others = [each for each in profiles.PROFILES.values() if each is not chosen]
    records = [
        profiles.store_for(profiles.cut(whole, each), each, kind, name, results)
        for kind in dict.fromkeys((device, "cpu", "cuda"))
        for each in (chosen, *others)
    ]
    about = facts(data, config, records)
    bank = grid.open_bank(data, config)
    inputs = Inputs.of(bank, config, device)
    typer.echo(f"hmoe: {len(data)} of {len(whole)} utterances, at most {config.epochs} epochs", err=True)
    inputs = inputs if device == "cpu" else inputs.hold()
    rows, held_out = np.arange(len(data)), None
    if config.selection == "nested":
        rows, held_out = protocols.validation(rows, data.labels, config.validation_fraction, seed)
    heard = home.digest(data), bank.digest(config)  # labels and, of an encoder, its very weights
    started = stable_seed(config.key(), seed, device, profiles.source_digest(), *heard)
    checkpoint = output.with_name(f".{output.name}.{started:x}.tmp")
    model, run = fit(
        lambda: Pretrained(config, list(data.emotions), about), inputs, data.labels, rows, held_out, config, seed,
        checkpoint, progress=True,
    )  # fmt: skip
    judged = ""
    if held_out is not None:
        about["held_out"] = {
            "accuracy": round(100 * run.best[0], 1), "utterances": len(held_out), "epoch": run.best_epoch,
        }  # fmt: skip
        judged = f", {100 * run.best[0]:.1f} % of {len(held_out)} held-out utterances"
    model.cpu().save(output)
    checkpoint.unlink(missing_ok=True)
    typer.echo(f"epoch {run.best_epoch}{judged}: {output}\n{model.note}")


ModelName = Annotated[
    str, typer.Option("--model", "-m", help="A folder from `hmoe train`, or OWNER/NAME on the Hugging Face Hub.")
]


@app.command("predict")
def predict_command(
    recordings: Annotated[
        list[str], typer.Argument(help="Files; folders; - for standard input (paths or a recording)")
    ],
    model: ModelName = "my-model",
    format: FormatName = Format.table,
) -> None:
    """Say the emotion of recordings, with probabilities and routing weights.

    What cannot be judged is named, and the rest is judged: exit code 1; 2 if nothing could be.

    Example: `hmoe predict --model my-model greeting.wav recordings/`
    """
    # One process judges: what joblib says of semaphores, where there is no /dev/shm, concerns nobody.
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")
    from hmoe.use import predict as predicting
    from hmoe.use.pretrained import Pretrained

    standard_input = getattr(sys.stdin, "buffer", None) or io.BytesIO()  # there is none where it was closed
    said = predicting.answers(Pretrained.load(model), recordings, standard_input)
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


@app.command("pretrain")
def pretrain_command(
    name: Annotated[
        str, typer.Argument(help="Kind, seed and, if you like, a label of your own: mamba-0, attention-1-open, ...")
    ],
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", "-c", envvar="HMOE_CORPUS", help="What it hears; repeatable; default: synthetic."),
    ] = None,
    root: Root = None, profile: ProfileName = "full",
    size: Annotated[str, typer.Option(help="micro, or the published tiny, small, base.")] = "micro",
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    without: Annotated[list[str] | None, typer.Option(help="A speaker to leave out; repeatable.")] = None,
    results: Results = None,
) -> None:  # fmt: skip
    """Pre-train an encoder on masked patches of corpora, whose labels it never reads (micro: half a minute an epoch of
    an hour of speech).

    Example: `hmoe pretrain mamba-0-open --corpus synthetic --corpus ravdess --epochs 40`
    """
    from hmoe.base import stamp
    from hmoe.parrot.encoders import own_path, register
    from hmoe.parrot.pretraining import pretrain, save_encoder
    from hmoe.study import home, profiles

    kind, seed, *_ = *name.split("-", 2), ""
    if not seed.isdecimal() or "/" in name or name.endswith(".safetensors"):  # by such names others are loaded
        remedy = "write KIND-SEED or KIND-SEED-LABEL, e.g. mamba-0 or attention-1-open"
        raise ConfigError("name of the encoder", f"got {name!r}", remedy)
    names = list(dict.fromkeys(corpus or ["synthetic"]))
    if root and len(names) > 1:
        raise ConfigError("--root", f"one folder for {len(names)} corpora", "set HMOE_CASIA, HMOE_RAVDESS and the like")
    heard = [profiles.load(one, root, profiles.profile(profile)) for one in names]
    known = {speaker for data in heard for speaker in data.table["speaker"]}
    if unknown := set(without or ()) - known:
        raise ConfigError("--without", f"no speaker {sorted(unknown)}", f"have {sorted(known)}")
    heard = [data.subset(~data.table["speaker"].isin(without or ())) for data in heard]
    encoder, history = pretrain(heard, kind, size, epochs, int(seed), progress=True)
    facts = {"corpus": " ".join(names), "utterances": str(sum(map(len, heard))), "without": " ".join(without or ())}
    facts |= {"seed": seed}
    facts |= {"epochs": str(epochs), "commit": stamp.commit(), "date": stamp.now()}
    save_encoder(encoder, own_path(name), facts)
    facts = {"size": size, **facts, "machine": stamp.machine()}
    own = [data.name for data in heard if data.name not in home.BOOK]  # the book's are of the book's corpora alone
    register(name, history, facts, home.root_of((own or names)[0], results))
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
