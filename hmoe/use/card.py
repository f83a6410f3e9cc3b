"""What is said of a trained model: a sentence beside each of its answers, and its card after Mitchell et al. (2019).

Everything comes from `about`, which a checkpoint carries: the corpus and its ranges, and what was recorded in
`results/` of the same configuration when it was trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import isnan
from typing import Any

import yaml

from hmoe import corpora
from hmoe.base.files import DATA, cache_dir
from hmoe.base.markdown import table
from hmoe.config import Config
from hmoe.corpora.casia import SHOWN
from hmoe.model import HMoESiMBA, count_parameters
from hmoe.study import report
from hmoe.study.store import Store
from hmoe.use.likeness import SAID

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
    if about.get("corpus") == "synthetic":
        return "Trained on synthetic voices: its labels mean nothing about emotion."
    trained = f"Trained on {_voices(about)} of {about.get('corpus', 'an unknown corpus')}"
    new = about.get("measured", {}).get("speaker")
    if not new:
        return f"{trained}; how often it is right about other speakers has not been measured."
    return (
        f"{trained}; across speakers it is right about {new['mean']:.0f} % of the time: {new['accuracy']} % of the "
        f"utterances of a speaker left out, {new['trials']} trials, {new['record']}; chance is "
        f"{100 / len(emotions):.1f} %."
    )


def readme(config: Config, emotions: Sequence[str], about: Mapping[str, Any], parameters: int) -> str:
    """The README.md of a checkpoint, as the Hugging Face Hub reads it."""
    corpus = about.get("corpus", "an unknown corpus")
    front = {
        "library_name": "hmoe",
        "pipeline_tag": "audio-classification",
        "tags": ["speech-emotion-recognition", "model_hub_mixin", "pytorch_model_hub_mixin"],
        "license": "other",
        "license_name": "code-mit-weights-as-the-corpus-allows",
    }
    if code := published().get(corpus, {}).get("code"):
        front["language"] = code
    usage = 'from hmoe.use.pretrained import Pretrained\n\nprint(Pretrained.load("this folder").judge("utterance.wav"))'
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# HMoE-SiMBA, trained on {corpus}\n\n"
        f"> {note(about, emotions)}\n\n```python\n{usage}\n```\n\n{body(config, emotions, about, parameters)}"
    )


def body(config: Config, emotions: Sequence[str], about: Mapping[str, Any], parameters: int) -> str:
    """The sections of the card."""
    found = about.get("measured", {})
    seconds = f", {about['minutes']:.0f} minutes" if "minutes" in about else ""
    changes = ", ".join(f"`{name}: {value}`" for name, value in config.changes().items())
    return (DATA / "model-card.md").read_text(encoding="utf-8").format(
        experts=", ".join(config.experts),
        emotions=", ".join(emotions),
        parameters=f"{parameters:,}",
        reading=_read(config, about),
        key=config.key(),
        changes=changes or "the default reading of the paper",
        made=f"Trained at commit {about['commit']}, {about['date'][:10]}." if "commit" in about else "",
        chance=100 / len(emotions),
        factors=_folds(found),
        evaluation=_evaluation(about),
        training=f"{_called(about)}: {about.get('utterances', 'unknown')} utterances of {_voices(about)}{seconds}.",
        ranges=_ranges(about),
        quantitative=_quantitative(found, emotions),
        note=note(about, emotions),
    )  # fmt: skip


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
    return f"> {note(about, emotions)}\n\n{body(config, emotions, about, parameters)}"


def _read(config: Config, about: Mapping[str, Any]) -> str:
    """What a token of the input is."""
    if "encoder" not in about:
        return f"Reading `{config.reading}`"
    encoder, ours = about["encoder"], f", beside {', '.join(config.modalities)}" if config.modalities else ""
    which = f"layer {encoder['layer']} of the frozen encoder `{encoder['name']}` ({encoder['identity']})"
    return f"Reads frames of {which}{ours}"


def _called(about: Mapping[str, Any]) -> str:
    name = about.get("corpus", "An unknown corpus")
    return published().get(name, {}).get("title", f"the user's own corpus (`{name}`)")


def _voices(about: Mapping[str, Any]) -> str:
    speakers = [name for name in about.get("speakers", []) if name != "unknown"]
    kind = published().get(about.get("corpus", ""), {}).get("speech", "speakers")
    return f"{len(speakers)} {kind}" if speakers else "an unknown number of speakers"


def _folds(found: Mapping[str, Any]) -> str:
    if "speaker" not in found:
        return "How accuracy differs between speakers has not been measured for this configuration."
    header = ["speaker left out", "accuracy, %"]
    return table(header, [(SHOWN.get(name, name), f"{value:.1f}") for name, value in found["speaker"]["folds"].items()])


def _evaluation(about: Mapping[str, Any]) -> str:
    found, held_out, parts = about.get("measured", {}), about.get("held_out"), []
    if found:
        records = "; ".join(dict.fromkeys(each["record"] for each in found.values()))
        parts.append(
            f"The training corpus, by cross-validation of models of this configuration ({records}). A model trained on "
            f"all of it cannot be tested on it; no other corpus was tried."
        )
    else:
        parts.append("No trial of this configuration is recorded.")
    if held_out:
        parts.append(
            f"While this checkpoint was trained, {held_out['utterances']} utterances were held out to choose the epoch "
            f"({held_out['epoch']}): it recognised {held_out['accuracy']:.1f} % of them. Their speakers and sentences "
            f"are those of training, and they chose the epoch, so this is more than it will be right about others."
        )
    elif not found:
        parts.append("This checkpoint was tested on nothing.")
    return " ".join(parts)


def _ranges(about: Mapping[str, Any]) -> str:
    known = about.get("ranges", {})
    lines = [(f"{words}, {unit}", *known[name]) for name, (words, unit) in SAID.items() if name in known]
    if not lines:
        return ""
    return table(["of its recordings", "1st percentile", "99th percentile"], lines)


def _quantitative(found: Mapping[str, Any], emotions: Sequence[str]) -> str:
    if not found:
        return "None recorded for this configuration."
    known = {words: found[name] for name, words in TESTED.items() if name in found}
    lines = [
        (
            words,
            each["accuracy"],
            each["utterances"],
            each["trials"],
            *(each["emotions"].get(emotion, "–") for emotion in emotions),
        )
        for words, each in known.items()
    ]
    return table(["tested on", "accuracy, %", "utterances", "trials", *emotions], lines)
