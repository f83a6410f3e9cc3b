"""What is said of a trained model: a sentence beside each of its answers, and its card after Mitchell et al. (2019).

Everything comes from `about`, which a checkpoint carries: the corpus and its ranges, and what was recorded in
`results/` of the same configuration when it was trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import isnan
from typing import TYPE_CHECKING, Any

import yaml

from hmoe import corpora
from hmoe.base.files import DATA, cache_dir
from hmoe.base.markdown import table
from hmoe.config import Config
from hmoe.corpora.casia import SHOWN
from hmoe.model import HMoESiMBA, count_parameters
from hmoe.use.likeness import SAID

if TYPE_CHECKING:
    from hmoe.study.store import Store

TESTED = {
    "stratified-5": "seen speakers and sentences (stratified 5-fold)",
    "sentence-5": "seen speakers, unseen sentences",
    "speaker": "an unseen speaker",
    "speaker-sentence": "an unseen speaker and unseen sentences",
}
"""Protocols, from the easiest to what a user will meet."""


@cache
def published() -> dict[str, dict[str, Any]]:
    """What is published of each corpus that can be loaded, by its name in `hmoe.corpora`."""
    return yaml.safe_load((DATA / "corpora.yml").read_text(encoding="utf-8"))


def measured(stores: Iterable[Store], config: Config) -> dict[str, dict[str, Any]]:
    """What is recorded of this very configuration, whichever experiment recorded it; of several stores by the first.

    By protocol: accuracy in percent with its interval, the number of trials, the mean of each emotion, the mean of
    each fold (a speaker, perhaps), the utterances that were tested.
    """
    from hmoe.study import report  # statistics and their libraries, which to predict takes none of

    found: dict[str, dict[str, Any]] = {}
    for store in stores:
        for row in report.of_configuration(store, config):
            if row.name not in TESTED or row.name in found:
                continue
            emotions = {name: row.estimates[name].mean for name in row.estimates if name.startswith("acc_")}
            tables = ", ".join(f"{name}.csv" for name in row.trials["experiment"].unique())
            scratch = store.root.is_relative_to(cache_dir())
            found[row.name] = {
                "accuracy": str(row.accuracy),
                "mean": round(row.accuracy.mean, 1),
                "trials": len(row.trials),
                "utterances": int(row.trials.groupby("seed")["n_test"].sum().max()),
                "emotions": {k.removeprefix("acc_"): round(mean, 1) for k, mean in emotions.items() if not isnan(mean)},
                "folds": row.trials.groupby("fold")["accuracy"].mean().round(1).to_dict(),
                "record": f"profile fast, {tables}" if scratch else f"results/{store.corpus}/{tables}",
            }
    return found


def note(about: Mapping[str, Any], emotions: Sequence[str]) -> str:
    """What anyone who reads an answer of the model must know, in one line."""
    return _said().note(_known(about, emotions))


def readme(config: Config, emotions: Sequence[str], about: Mapping[str, Any], parameters: int) -> str:
    """The README.md of a checkpoint, as the Hugging Face Hub reads it."""
    front = {
        "library_name": "hmoe",
        "pipeline_tag": "audio-classification",
        "tags": ["speech-emotion-recognition", "model_hub_mixin", "pytorch_model_hub_mixin"],
        "license": "other",
        "license_name": "code-mit-weights-as-the-corpus-allows",
    }
    if code := published().get(about.get("corpus", ""), {}).get("code"):
        front["language"] = code
    known = _known(about, emotions) | _of_model(config, parameters)
    return _said().readme(known | {"front": yaml.safe_dump(front, sort_keys=False)})


def body(config: Config, emotions: Sequence[str], about: Mapping[str, Any], parameters: int) -> str:
    """The sections of the card."""
    return _said().body(_known(about, emotions) | _of_model(config, parameters))


def page(store: Store) -> str:
    """The card of the paper's default reading trained on the corpus of `store`, known by its manifest alone."""
    config, emotions = Config(), published()[store.corpus]["emotions"]
    manifest = corpora.manifest(store.corpus)
    about = {
        "corpus": store.corpus,
        "utterances": len(manifest),
        "minutes": manifest["seconds"].sum() / 60,
        "speakers": sorted({name.split("-")[0] for name in manifest.index}),
        "measured": measured([store], config),
    }
    parameters = count_parameters(HMoESiMBA(config, len(emotions)))
    return _said().page(_known(about, emotions) | _of_model(config, parameters))


@cache
def _said() -> Any:
    """The macros of the template, where the sentences stand."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(loader=FileSystemLoader(DATA), undefined=StrictUndefined, keep_trailing_newline=True)
    made.globals["table"] = table
    return made.get_template("model-card.md.jinja").module


def _of_model(config: Config, parameters: int) -> dict[str, Any]:
    return {
        "experts": config.experts,
        "modalities": config.modalities,
        "reading": config.reading,
        "key": config.key(),
        "changes": config.changes(),
        "parameters": f"{parameters:,}",
    }


def _known(about: Mapping[str, Any], emotions: Sequence[str]) -> dict[str, Any]:
    """What the sentences may say of the training and of the trials; nothing, where it is unknown."""
    found, corpus = about.get("measured", {}), published().get(about.get("corpus", ""), {})
    unseen, ranges = found.get("speaker", {}), about.get("ranges", {})
    return {
        "corpus": about.get("corpus"),
        "title": corpus.get("title"),
        "speech": corpus.get("speech", "speakers"),
        "speakers": len([name for name in about.get("speakers", []) if name != "unknown"]),
        "utterances": about.get("utterances"),
        "minutes": about.get("minutes"),
        "commit": about.get("commit"),
        "date": about.get("date", "")[:10],
        "encoder": about.get("encoder"),
        "held_out": about.get("held_out"),
        "emotions": list(emotions),
        "chance": 100 / len(emotions),
        "records": list(dict.fromkeys(each["record"] for each in found.values())),
        "unseen": unseen,
        "by_speaker": [(SHOWN.get(k, k), f"{value:.1f}") for k, value in unseen.get("folds", {}).items()],
        "ranges": [(f"{words}, {unit}", *ranges[name]) for name, (words, unit) in SAID.items() if name in ranges],
        "tested": [
            (words, one["accuracy"], one["utterances"], one["trials"], *(one["emotions"].get(e, "–") for e in emotions))
            for name, words in TESTED.items()
            if (one := found.get(name))
        ],
    }
