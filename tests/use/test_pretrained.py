"""A model as a folder: the same bits back, damage refused, recordings judged alike in every reading."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from hmoe.base.errors import AudioError, ConfigError, HmoeError, StoreError
from hmoe.base.files import PROJECT
from hmoe.config import Config
from hmoe.corpora import Corpus, audio
from hmoe.inputs import bank
from hmoe.inputs.batches import Inputs
from hmoe.use.predict import answers
from hmoe.use.pretrained import FILES, Pretrained, probe, vacant

EMOTIONS = ("anger", "sadness", "neutral")
ABOUT = {"corpus": "tiny", "utterances": 30, "speakers": ["ann", "bob"], "ranges": {"seconds": [0.3, 0.4]}}


def made(**changes: object) -> Pretrained:
    torch.manual_seed(0)
    model = Pretrained(Config(**{**tiny.SMALL, **changes}), list(EMOTIONS), ABOUT).eval()
    model.standardise.fit(torch.full_like(model.standardise.mean, -3.0), torch.full_like(model.standardise.mean, 9.0))
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made().save(tmp_path / "model")
    return tmp_path / "model"


def same(one: Pretrained, other: Pretrained) -> bool:
    tensors = one.state_dict(), other.state_dict()
    assert list(tensors[0]) == list(tensors[1])
    equal = all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())
    return equal and (one.config, one.emotions, one.about) == (other.config, other.emotions, other.about)


def test_what_was_saved_is_loaded_bit_by_bit_and_silently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = made(reading="frames", experts=["lstm", "cnn"], frame_stride=3)
    before.save(tmp_path / "a")
    after = Pretrained.load(tmp_path / "a")
    assert same(before, after)
    assert not after.training
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(FILES)
    assert capsys.readouterr() == ("", "")


def test_the_folder_is_what_the_hub_takes(folder: Path, tmp_path: Path) -> None:
    """Whoever has huggingface_hub loads it without a word of ours, and saves the same again."""
    after = Pretrained.from_pretrained(str(folder))
    assert same(made(), after)
    after.save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "audio-classification"
    assert made().note in card.text


def test_an_older_model_is_replaced_and_anything_else_is_left_alone(folder: Path) -> None:
    other = made(d_state=8)
    other.save(folder)
    assert same(Pretrained.load(folder), other)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"model: .*'thesis\.txt'"):
        made().save(folder)
    with pytest.raises(ConfigError, match="is a file; name the folder"):
        made().save(folder / "thesis.txt")


def test_a_save_that_fails_loses_nothing_and_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Pretrained, save_directory: Path) -> None:
        (save_directory / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Pretrained, "_save_pretrained", full)
    with pytest.raises(StoreError, match="model: cannot be written .No space left"):
        made(d_state=8).save(folder)
    assert same(Pretrained.load(folder), made())
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def renaming(refused: Callable[[Path, Path], bool]) -> Callable[[Path, Path], Path]:
    """`Path.rename` where the system refuses some."""
    rename = Path.rename

    def tried(self: Path, target: Path) -> Path:
        if refused(self, target):
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    return tried


def test_where_the_new_model_cannot_take_its_place_the_older_one_keeps_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "rename", renaming(lambda source, target: source.suffix == ".tmp" and target == folder))
    with pytest.raises(StoreError):
        made(d_state=8).save(folder)
    assert same(Pretrained.load(folder), made())
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_replaced_is_told_before_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(folder)
    assert same(Pretrained.load(folder), made())
    monkeypatch.setattr(Path, "rename", renaming(lambda source, target: source == folder))
    with pytest.raises(StoreError) as caught:
        probe(folder)
    assert caught.value.where == str(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [ConfigError, StoreError])
def test_what_concerns_the_model_is_said_once_and_not_of_each_recording(
    tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, error: type[HmoeError]
) -> None:
    def deaf(self: Pretrained, recording: object) -> None:
        raise error("encoder 'gone'", "no such encoder", "give its folder")

    monkeypatch.setattr(Pretrained, "judge", deaf)
    with pytest.raises(error) as caught:
        answers(made(), list(tiny_corpus.table["path"][:2]), io.BytesIO())
    assert caught.value.where == "encoder 'gone'"


@pytest.mark.parametrize("reading", ["pooled", "frames", "modalities", "features", "statistics"])
def test_it_judges_a_recording_as_the_corpus_it_was_trained_on(tiny_corpus: Corpus, reading: str) -> None:
    pretrained = made(reading=reading, frame_stride=2, augment=[])
    path = tiny_corpus.table["path"].iloc[4]
    judgement = pretrained.judge(path)
    built = bank.build(tiny_corpus, pretrained.config, copies=0, frames=reading == "frames", workers=1, progress=False)
    x, lengths = Inputs.of(built, pretrained.config).clean(np.array([4]))
    with torch.no_grad():
        expected = pretrained(x, lengths).softmax(-1)[0]
    assert list(judgement.probabilities) == list(EMOTIONS)
    assert list(judgement.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-4)  # frames are halves
    assert judgement.emotion == max(judgement.probabilities, key=judgement.probabilities.get)
    assert list(judgement.routing) == ["lstm", "cnn", "transformer"]
    assert sum(judgement.routing.values()) == pytest.approx(1)
    assert judgement.seconds == tiny_corpus.table["seconds"].iloc[4]


def test_a_folder_brings_what_it_hears_with(folder: Path, tiny_corpus: Corpus) -> None:
    """So that a recording is judged without the libraries that make it; where it is missing, they make the same."""
    path = tiny_corpus.table["path"].iloc[4]
    before = made().judge(path)
    code = (
        "import json, sys; from hmoe.use.pretrained import Pretrained; Pretrained.load(sys.argv[1]).judge(sys.argv[2]);"
        "print(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", code, folder, path]
    loaded = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT).stdout)
    assert not {"librosa.core", "scipy.signal", "scipy.stats", "numba", "sklearn", "hmoe.study.report"} & set(loaded)
    refiltered(folder, lambda mel: mel.flip(0).contiguous())
    other = Pretrained.load(folder)
    assert other.judge(path).probabilities != before.probabilities
    other.save(folder)  # with the filters that it was trained with, not with those of the library that is here
    assert Pretrained.load(folder).judge(path) == other.judge(path)
    (folder / "filters.safetensors").unlink()
    assert Pretrained.load(folder).judge(path) == before


def test_a_recording_with_more_treble_than_a_corpus_has_is_judged_without_it(tmp_path: Path) -> None:
    t = np.arange(44_100) / 44_100
    voice, treble = 0.3 * np.sin(2 * np.pi * 220 * t), 0.1 * np.sin(2 * np.pi * 10_000 * t)
    audio.write(tmp_path / "plain.wav", voice, 44_100)
    audio.write(tmp_path / "bright.wav", voice + treble, 44_100)
    pretrained = made(sample_rate=22_050)
    plain, bright = (pretrained.judge(tmp_path / f"{name}.wav") for name in ("plain", "bright"))
    assert list(bright.probabilities.values()) == pytest.approx(list(plain.probabilities.values()), abs=1e-2)
    assert plain.seconds == pytest.approx(1)


def rewritten(folder: Path, **fields: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def refiltered(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    kept = load_file(folder / "filters.safetensors")
    save_file(kept | {"model.mel": change(kept["model.mel"])}, folder / "filters.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-50]),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: (folder / "model.safetensors").write_text("not a model " * 50),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: save_file({"x": torch.ones(3)}, folder / "model.safetensors"),
        lambda folder: save_file(
            {k: v for k, v in load_file(folder / "model.safetensors").items() if "router" not in k},
            folder / "model.safetensors",
        ),
        lambda folder: (folder / "filters.safetensors").write_bytes(b"half"),
        lambda folder: save_file({"model.mel": torch.ones(3)}, folder / "filters.safetensors"),
        lambda folder: refiltered(folder, lambda mel: mel[:-1].contiguous()),
        lambda folder: refiltered(folder, lambda mel: mel * torch.nan),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text("[1]"),
        lambda folder: rewritten(folder, configuration={}),  # the default configuration has other shapes
        lambda folder: rewritten(folder, configuration={"d_sate": 3}),
        lambda folder: rewritten(folder, emotions=7),
        lambda folder: rewritten(folder, emotions=["a", "b"]),
    ],
)
def test_a_folder_that_is_no_model_is_refused_in_one_line_that_names_it(
    folder: Path, damage: Callable[[Path], object]
) -> None:
    damage(folder)
    with pytest.raises(ConfigError, match="not a model of this project.*make one with `hmoe train`") as caught:
        Pretrained.load(folder)
    assert str(caught.value).startswith(f"{folder}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    for name in (tmp_path / "nothing", "nothing", "./no/where"):
        with pytest.raises(ConfigError, match=f"{name}: no such model; make one with `hmoe train`"):
            Pretrained.load(name)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not a model"):
        Pretrained.load(tmp_path / "file")


def test_without_a_network_a_name_of_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="^owner/name: "):
        Pretrained.load("owner/name")


def test_what_is_no_utterance_is_not_judged(tmp_path: Path) -> None:
    audio.write(tmp_path / "short.wav", np.sin(np.arange(300)) / 2)
    with pytest.raises(AudioError, match="short.wav.*too short"):
        made().judge(tmp_path / "short.wav")


def test_the_folder_one_stands_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert vacant(".") == tmp_path
