"""What there is to run, by kind (`hmoe list`); what a field of the configuration may be (`hmoe config --values`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args, get_origin

from hmoe import corpora
from hmoe.config import Config
from hmoe.experts import EXPERTS
from hmoe.parrot import encoders
from hmoe.peers import MODELS, NETWORKS
from hmoe.study import home
from hmoe.study.experiments import AUDITS, EXPERIMENTS
from hmoe.study.protocols import PROTOCOLS


def experiments() -> dict[str, str]:
    """Name and title, with how many rows; those of the paper first."""
    return {one.name: f"{one.title}, {len(one.rows)} rows" for one in (EXPERIMENTS | AUDITS).values()}


def rows() -> dict[str, str]:
    """Row and the experiments that have it."""
    found: dict[str, list[str]] = {}
    for one in (EXPERIMENTS | AUDITS).values():
        for row in one.rows:
            found.setdefault(row.name, []).append(one.name)
    return {name: ", ".join(where) for name, where in found.items()}


def models() -> dict[str, str]:
    """For `--set model=`; "network" where it is trained in epochs."""
    return {name: "network" if name in NETWORKS else "scikit-learn" for name in MODELS}


def own_encoders() -> dict[str, str]:
    """What `--set encoders=` may name: packaged ones, kinds, and those that were pre-trained on this machine."""
    made = sorted(encoders.own_path("x").parent.glob("*.safetensors"))
    return {
        "openwakeword": "in its package",
        "resemblyzer": "in its package",
        **{path.stem: "pre-trained here" for path in made},
        "mamba-SEED, attention-SEED": "made by `hmoe pretrain`",
        "FILE.safetensors": "of `hmoe convert-encoder` or `hmoe pretrain`",
        "OWNER/NAME": "a speech encoder of the Hugging Face Hub",
        "hmoe-simba": "HMoE-SiMBA itself, trained with the rest",
    }


def results() -> dict[str, str]:
    """Where the records of a corpus are, by whose it is."""
    others = home.root_of("csv")
    return {
        "the book's corpora (casia, synthetic, ravdess)": str(home.root_of("casia")),
        "your corpora (NAME-DIGEST of recordings and labels)": str(others),
        "elsewhere": "--results FOLDER, or HMOE_RESULTS",
    }


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "experiments": experiments,
    "rows": rows,
    "models": models,
    "protocols": lambda: {name: one.title for name, one in PROTOCOLS.items() if name != "inner"},
    "encoders": own_encoders,
    "corpora": lambda: dict.fromkeys(corpora.names(), ""),
    "results": results,
}


def allowed() -> dict[str, str]:
    """By field of the configuration, the values that it may have."""
    return {name: _allowed(name, field) for name, field in Config.model_fields.items()}


def _allowed(name: str, field: Any) -> str:
    if name == "model":
        return "see `hmoe list models`"
    if name == "experts":
        return f"any of {', '.join(EXPERTS)}"
    if name == "encoders":
        return "one or two of `hmoe list encoders`"
    bounds = [
        f"{sign} {getattr(limit, of):g}"
        for limit in field.metadata
        for of, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if hasattr(limit, of)
    ]
    return " ".join([_kind(field.annotation), *bounds])


def _kind(annotation: Any) -> str:
    parts = get_args(annotation)
    if annotation is bool:
        return "true or false"
    if parts and get_origin(annotation) is tuple:
        inner = [_kind(part) for part in parts if part is not Ellipsis]
        return f"any of {inner[0]}" if Ellipsis in parts else f"[{', '.join(inner)}]"
    if parts and all(isinstance(part, str | int) and not isinstance(part, type) for part in parts):
        return ", ".join(map(str, parts))
    if parts:
        return " or ".join("null" if part is type(None) else _kind(part) for part in parts)
    return {int: "whole number", float: "number", str: "name"}.get(annotation, str(annotation))
