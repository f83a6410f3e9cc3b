"""What several commands share: options, and how their values are read."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from hmoe.base.device import usable
from hmoe.base.errors import ConfigError


class Format(StrEnum):
    """How a table is printed."""

    table = "table"
    csv = "csv"
    json = "json"


def on_device(device: str | None) -> str | None:
    """`usable`, as a callback: Typer hands its second parameter something else."""
    return usable(device)


CorpusName = Annotated[
    str, typer.Option("--corpus", "-c", envvar="HMOE_CORPUS", help="Which corpus; `hmoe corpus names` lists them.")
]
Root = Annotated[
    Path | None, typer.Option("--root", "-r", help="Its folder or archive; default: HMOE_CASIA and so on.")
]
ProfileName = Annotated[str, typer.Option("--profile", "-p", help="`fast` to read along, `full` for the record.")]


Device = Annotated[str, typer.Option("--device", "-d", help="cpu, cuda or cuda:1.", callback=on_device)]
Workers = Annotated[int | None, typer.Option("--workers", "-j", min=1, help="Processes; default: one for each core.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="FIELD=VALUE", help="Change a field of the configuration; repeatable."),
]
Called = Annotated[
    str | None, typer.Option("--name", help="What to call the corpus in the records; default: its own name.")
]
Results = Annotated[
    Path | None,
    typer.Option("--results", metavar="FOLDER", help="Where records are; default: see `hmoe list results`."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be run, and how long it may take; run nothing.")
]
FormatName = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]


def drawable(path: Path | None) -> Path | None:
    """A file that a figure can be written to, told before hours of work; ConfigError for a kind that is not known."""
    if path is not None and path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError("--figure", f"got {str(path)!r}", "name a file that ends in .png, .svg or .pdf")
    return path


Figure = Annotated[
    Path | None,
    typer.Option("--figure", metavar="FILE", help="Draw it too: a .png, .svg or .pdf file.", callback=drawable),
]


def warn(what: object, *_: object) -> None:
    """A warning as a line of its own, in the place of Python's two with file and number."""
    typer.secho(f"hmoe: warning: {' '.join(str(what).split())}", fg="yellow", err=True)


def again(command: str, **options: object) -> str:
    """A command to suggest, in backquotes, with the user's own options; those that are None are left out.

    A list gives an option several times. What a shell would take apart is quoted.
    """
    words = ["hmoe", *command.split()]
    for name, value in options.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None:
                words += [f"--{name.replace('_', '-')}", str(one)]
    return f"`{shlex.join(words)}`"


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


def save_figure(figure: Any, path: Path) -> None:
    """Write a `matplotlib` figure to a `drawable` file, whole or not at all."""
    import io

    from hmoe.base.files import atomic_write

    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lstrip(".").lower(), dpi=150)
    atomic_write(path, buffer.getvalue())
