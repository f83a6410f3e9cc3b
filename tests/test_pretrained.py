"""A model as one file: the same bits back, damage refused, recordings judged alike in every reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from hmoe import audio, bank
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.errors import AudioError, ConfigError
from hmoe.inputs import Inputs
from hmoe.model import HMoESiMBA
from hmoe.pretrained import Pretrained

EMOTIONS = ("anger", "sadness", "neutral")


def made(**changes: object) -> Pretrained:
    torch.manual_seed(0)
    config = Config(**{**tiny.SMALL, **changes})
    model = HMoESiMBA(config, 3).eval()
    model.standardise.fit(torch.full_like(model.standardise.mean, -3.0), torch.full_like(model.standardise.mean, 9.0))
    return Pretrained(model, config, EMOTIONS, {"corpus": "tiny", "utterances": "30"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made().save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_what_was_saved_is_loaded_bit_by_bit(tmp_path: Path) -> None:
    before = made(reading="frames", experts=["lstm", "cnn"], frame_stride=3)
    before.save(tmp_path / "a.safetensors")
    after = Pretrained.load(tmp_path / "a.safetensors")
    assert (after.config, after.emotions, after.facts) == (before.config, before.emotions, before.facts)
    tensors = before.model.state_dict(), after.model.state_dict()
    assert list(tensors[0]) == list(tensors[1])
    assert all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())
    assert not after.model.training


@pytest.mark.parametrize("reading", ["pooled", "frames", "modalities", "features", "statistics"])
def test_it_judges_a_recording_as_the_corpus_it_was_trained_on(tiny_corpus: Corpus, reading: str) -> None:
    pretrained = made(reading=reading, frame_stride=2, augment=[])
    path = tiny_corpus.table["path"].iloc[4]
    judgement = pretrained.judge(path)
    built = bank.build(tiny_corpus, pretrained.config, copies=0, frames=reading == "frames", workers=1, progress=False)
    x, lengths = Inputs.of(built, pretrained.config).clean(np.array([4]))
    with torch.no_grad():
        expected = pretrained.model(x, lengths).softmax(-1)[0]
    assert list(judgement.probabilities) == list(EMOTIONS)
    assert list(judgement.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-4)  # frames are halves
    assert judgement.emotion == max(judgement.probabilities, key=judgement.probabilities.get)
    assert list(judgement.routing) == ["lstm", "cnn", "transformer"]
    assert sum(judgement.routing.values()) == pytest.approx(1)
    assert judgement.seconds == tiny_corpus.table["seconds"].iloc[4]


def test_a_recording_with_more_treble_than_a_corpus_has_is_judged_without_it(tmp_path: Path) -> None:
    t = np.arange(44_100) / 44_100
    voice, treble = 0.3 * np.sin(2 * np.pi * 220 * t), 0.1 * np.sin(2 * np.pi * 10_000 * t)
    audio.write(tmp_path / "plain.wav", voice, 44_100)
    audio.write(tmp_path / "bright.wav", voice + treble, 44_100)
    pretrained = made(sample_rate=22_050)
    plain, bright = (pretrained.judge(tmp_path / f"{name}.wav") for name in ("plain", "bright"))
    assert list(bright.probabilities.values()) == pytest.approx(list(plain.probabilities.values()), abs=1e-2)
    assert plain.seconds == pytest.approx(1)


def rewritten(file: Path, **header: str) -> None:
    known = {"config": "{}", "emotions": '["a", "b", "c"]', "facts": "{}"} | header
    save_file(load_file(file), file, {name: text for name, text in known.items() if text})


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-50]),
        lambda file: file.write_bytes(file.read_bytes()[:50]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("not a model " * 50),
        lambda file: save_file({"x": torch.ones(3)}, file),
        lambda file: rewritten(file),  # the default configuration has other shapes
        lambda file: rewritten(file, config=""),
        lambda file: rewritten(file, config="{"),
        lambda file: rewritten(file, config="[1]"),
        lambda file: rewritten(file, config='{"d_sate": 3}'),
        lambda file: rewritten(file, emotions="7"),
        lambda file: rewritten(file, facts=""),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_line_that_names_it(
    file: Path, damage: Callable[[Path], object]
) -> None:
    damage(file)
    with pytest.raises(ConfigError, match="not a model of this project.*make one with `hmoe train`") as caught:
        Pretrained.load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing.safetensors: no such model"):
        Pretrained.load(tmp_path / "nothing.safetensors")
    with pytest.raises(ConfigError, match="not a model"):
        Pretrained.load(tmp_path)


def test_what_is_no_utterance_is_not_judged(tmp_path: Path) -> None:
    audio.write(tmp_path / "short.wav", np.sin(np.arange(300)) / 2)
    with pytest.raises(AudioError, match="short.wav.*too short"):
        made().judge(tmp_path / "short.wav")
