"""The command: help with examples; one line, exit code 2 and nothing lost for whatever is given wrongly."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
import torch
import typer
import yaml
from command import call, refused

from hmoe import __main__ as cli
from hmoe import peers, train
from hmoe.base.errors import ConfigError
from hmoe.config import Config
from hmoe.corpora import Corpus, audio
from hmoe.parrot.cached import Embeddings
from hmoe.study import grid
from hmoe.study.experiments import experiment
from hmoe.study.profiles import PROFILES, store_for
from hmoe.study.store import COLUMNS, Store
from hmoe.use.pretrained import Pretrained
from hmoe_book import build as book

RATE = 16_000


@pytest.fixture(scope="module", autouse=True)
def synthetic(small_corpus: Corpus) -> Iterator[None]:
    """The corpus that a command takes by default, a small one: making all of it takes longer than these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HMOE_SYNTHETIC", str(small_corpus.root))
        yield


def commands(group: typer.Typer, *names: str) -> list[tuple[str, ...]]:
    own = [(*names, command.name) for command in group.registered_commands]
    below = [(g.typer_instance, [g.name] if isinstance(g.name, str) else []) for g in group.registered_groups]
    return own + [path for typer_instance, name in below for path in commands(typer_instance, *names, *name)]


@pytest.mark.parametrize("path", commands(cli.app), ids=" ".join)
def test_every_command_helps_with_an_example_that_begins_with_its_own_name(
    capsys: pytest.CaptureFixture[str], path: tuple[str, ...]
) -> None:
    code, out, _ = call(capsys, *path, "--help")
    assert code == 0
    assert f"hmoe {' '.join(path)}" in out.split("Example", 1)[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "table9"], "got 'table9'; did you mean "),
        (["run", "table2", "--seeds", "0,x"], "--seeds: got '0,x'; write whole numbers"),
        (["run", "table2", "--seeds", "-1"], "--seeds: got '-1'"),
        (["run", "table2", "--profile", "quick"], "profile: got 'quick'; known: full, fast"),
        (["run", "table2", "--device", "abacus"], "--device: got 'abacus'; give cpu"),
        (["run", "table2", "--backend", "dask"], "dask needs both"),
        (["run", "table2", "--corpus", "nope", "--backend", "dsak"], "got 'dsak'; give loky or dask"),
        (["run", "table2", "--set", "d_state"], "got 'd_state'; write FIELD=VALUE"),
        (["run", "table2", "--set", "corpus=casia"], "no field 'corpus'"),
        (["run", "table2", "--set", "augment=["], "write YAML"),
        (["run", "table2", "--corpus", "nope"], "nope"),
        (["run", "table2", "--corpus", "casia", "--root", "/no/such/folder"], "/no/such/folder: no such directory"),
        (["features", "--set", "n_mfcc=200"], "must not exceed n_mels = 128"),
        (["config", "--set", "lr=fast"], "'lr': got 'fast'"),
        (["corpus", "check", "nope"], "nope"),
        (["corpus", "check", "casia", "/no/such/folder"], "no such directory"),
        (["corpus", "stats", "casia", "/no/such/folder"], "no such directory"),
        (["features", "--torch", "abacus"], "got 'abacus'; give cpu"),
        (["corpus", "pack", "casia", "/no/such/folder"], "no such directory"),
        (["corpus", "pack", "synthetic", "-o", "/"], "is a directory; name the file to write"),
        (["report", "table9"], "got 'table9'"),
        (
            ["report", "table2", "--corpus", "nowhere", "--set", "d_state=64", "--profile", "fast"],
            "`hmoe run table2 --dry-run --corpus nowhere --profile fast --set d_state=64`",
        ),
        (["report", "table2", "--corpus", "casia", "--name", "a/b"], "--name: got 'a/b'"),
        (["protocols", "--row", "tim-nett"], "did you mean TIM-Net"),
        (["protocols", "--set", "protocol=speaker"], "protocol is what this command varies"),
        (["list", "rowz"], "did you mean rows"),
        (["predict", "a.wav", "--model", "/no/such/model"], "/no/such/model: no such model; make one with"),
        (["demo", "--model", "/no/such/model"], "/no/such/model: no such model; make one with"),
        (["train", "my-model", "--set", "model=svm"], "use `hmoe run`"),
        (["train", "my-model", "--set", "reading=prosody"], "hears one recording at a time"),
        (["train", "/etc"], "which is no part of a model; name another folder"),
        (["train", "/etc/passwd"], "is a file; name the folder to write"),
        (["train", "/dev/null/my-model"], "/dev/null"),
        (["pretrain", "mamba"], "got 'mamba'; write KIND-SEED"),
        (["run", "table2", "--profile", "fast", "--row", "SVM", "--fold", "4"], "row 'SVM': no fold '4'; folds: 0, 1"),
        (["run", "table2", "--profile", "fast", "--row", "SVM", "--seeds", "4294967296"], "whole numbers below 2^32"),
        (
            ["run", "robustness", "--profile", "fast", "--row", "SVM, clean", "--set", "protocol=stratified-5"],
            "leave it out: 'SVM, clean' is disturbed",
        ),
        (["run", "parrot", "--profile", "fast", "--row", "Mamba"], "no such encoder; make it: `hmoe pretrain mamba-0-"),
        (["pretrain", "lstm-0", "--profile", "fast"], "got 'lstm', 'micro'; known: mamba, attention"),
        (["pretrain", "mamba-0", "--profile", "fast", "--without", "nobody"], "no speaker ['nobody']; have"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_given_wrongly_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert says in refused(capsys, *arguments)


@pytest.mark.parametrize("command", [["book"], ["train", "my-model"]], ids=" ".join)
def test_a_seed_that_no_generator_takes_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(book, "build", lambda *_: pytest.fail("built"))
    code, _, err = call(capsys, *command, "--seed", 2**32)
    assert code == 2
    assert "4294967295" in err


def test_chapters_are_told_where_a_corpus_is_and_not_how_to_get_there_from_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(book, "build", lambda corpus, root, *_: Path(root))
    assert call(capsys, "book", "--corpus", "casia", "--root", "here")[1] == f"The book: {tmp_path / 'here'}\n"


def test_a_report_is_of_one_experiment_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "report", "all")
    assert "got 'all'; known: table2, " in line
    assert line.count("all") == 1


def test_a_corpus_that_is_empty_or_holds_a_bad_file_or_an_unknown_speaker_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "no utterances found" in refused(capsys, "corpus", "stats", "casia", tmp_path)
    tone = tiny.tone("anger", "ann", 0)
    audio.write(tmp_path / "liuchanhg" / "angry" / "201.wav", tone, RATE)
    (tmp_path / "liuchanhg" / "angry" / "202.wav").write_bytes(b"")
    line = refused(capsys, "corpus", "stats", "casia", tmp_path)
    assert "202.wav" in line
    assert "empty file" in line
    (tmp_path / "liuchanhg" / "angry" / "202.wav").unlink()
    audio.write(tmp_path / "somebody" / "angry" / "201.wav", tone, RATE)
    assert "somebody" in refused(capsys, "corpus", "stats", "casia", tmp_path)
    (tmp_path / "somebody").rename(tmp_path / "wangzhe")
    (tmp_path / "wangzhe" / "angry").rename(tmp_path / "wangzhe" / "thirsty")
    assert "thirsty" in refused(capsys, "corpus", "stats", "casia", tmp_path)


def test_a_class_with_fewer_utterances_than_folds_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for number in range(201, 205):
        path = tmp_path / "liuchanhg" / "angry" / f"{number}.wav"
        audio.write(path, tiny.tone("anger", "ann", number), RATE)
    line = refused(capsys, "run", "table2", "--corpus", "casia", "--root", tmp_path)
    assert re.search(r"'anger'.*\b4\b.*\b5\b", line)


def test_config_prints_every_field_and_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "config", "--set", "reading=frames", "--set", "augment=[noise]", "--set", "lr=1e-3")
    assert code == 0
    said = yaml.safe_load(out)
    assert set(said) == set(Config.model_fields)
    config = Config(reading="frames", augment=("noise",), lr=1e-3)
    assert Config(**said) == config
    assert out.splitlines()[-1] == f"# key {config.key()}"


ABOUT = {"corpus": "tiny", "speakers": ["ann", "bob"], "ranges": {"level": [-40.0, -1.0], "rate": [RATE, RATE]}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "model"
    Pretrained(Config(**tiny.SMALL), list(tiny.EMOTIONS), ABOUT).eval().save(path)
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder with two good recordings and one of each bad kind."""
    tone = tiny.tone("anger", "ann", 0)
    audio.write(tmp_path / "good.wav", tone, RATE)
    audio.write(tmp_path / "in" / "folder.wav", tone, RATE)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no audio at all, " * 9)
    (tmp_path / "truncated.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:5000])
    audio.write(tmp_path / "short.wav", tone[:300], RATE)
    audio.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "nan.wav", np.where(np.arange(RATE) == 7, np.nan, 0.1), RATE, subtype="FLOAT")
    audio.write(tmp_path / "long.wav", np.tile(tone, 250), RATE)
    return tmp_path


BAD = {
    "empty.wav": "empty file", "text.wav": "not audio", "truncated.wav": "truncated", "short.wav": "too short",
    "silent.wav": "silent", "nan.wav": "NaN", "long.wav": "too long",
}  # fmt: skip


def listed(out: str) -> list[dict[str, str]]:
    """The table that `predict` prints: no path of these tests has a space in it."""
    lines = [line.split() for line in out.partition("\n\n")[0].splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_predict_judges_the_good_and_names_each_bad_file_in_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], model: Path, recordings: Path
) -> None:
    (recordings / "nothing").mkdir()
    code, out, err = call(
        capsys, "predict", "--model", model, recordings, recordings / "missing.wav", recordings / "nothing"
    )
    assert code == 1
    judged = listed(out)
    assert [Path(row["path"]).name for row in judged] == ["good.wav", "folder.wav"]
    assert judged[0]["emotion"] in tiny.EMOTIONS
    assert sum(float(judged[0][name]) for name in tiny.EMOTIONS) == pytest.approx(1, abs=0.02)
    lines = err.splitlines()
    assert len(lines) == len(BAD) + 2
    for name, why in {**BAD, "missing.wav": "no such file", "nothing": "no recordings in it"}.items():
        (line,) = [line for line in lines if line.startswith(f"hmoe: {recordings / name}: ")]
        assert why in line
        assert "; " in line  # and what to do


def test_predict_in_all_formats_says_the_same_and_how_often_it_is_right(
    capsys: pytest.CaptureFixture[str], model: Path, recordings: Path
) -> None:
    good = recordings / "good.wav"
    note = "Trained on 2 speakers of tiny; how often it is right about other speakers has not been measured."
    code, out, err = call(capsys, "predict", "-m", model, good)
    assert (code, err) == (0, "")
    assert out.endswith(f"\n\n{note}\n")
    (shown,) = listed(out)
    code, out, err = call(capsys, "predict", "-m", model, good, recordings / "empty.wav", "--format", "json")
    assert code == 1
    said = json.loads(out)
    assert said["note"] == note
    (refused,) = said["refused"]
    assert (refused["path"], refused["why"]) == (str(recordings / "empty.wav"), "empty file")
    (one,) = said["predictions"]
    code, out, err = call(capsys, "predict", "-m", model, good, "-f", "csv")
    assert (code, err) == (0, f"hmoe: {note}\n")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["emotion"] == one["emotion"] == shown["emotion"]
    for name in tiny.EMOTIONS:
        assert float(row[name]) == one["probabilities"][name] == pytest.approx(float(shown[name]), abs=0.006)
    for name in ("cnn", "lstm", "transformer"):
        assert float(row[f"g_{name}"]) == one["routing"][name] == pytest.approx(float(shown[f"g_{name}"]), abs=0.006)


def test_predict_warns_in_one_line_of_audio_that_is_unlike_the_corpus_and_judges_it(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    audio.write(tmp_path / "quiet.wav", 0.01 * tiny.tone("anger", "ann", 0), RATE)
    code, out, err = call(capsys, "predict", "-m", model, tmp_path / "quiet.wav", "-f", "csv")
    assert code == 0
    (row,) = csv.DictReader(io.StringIO(out))
    assert re.fullmatch(r"level -\d\d\.\d dB \(-40 to -1 in training\)", row["warnings"])
    (warning, _) = err.splitlines()
    assert warning == f"hmoe: warning: {tmp_path}/quiet.wav is unlike the training corpus: {row['warnings']}"


def test_predict_where_nothing_can_be_judged_prints_nothing(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    assert f"{tmp_path}: no recordings in it; " in refused(capsys, "predict", "-m", model, tmp_path)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_predict_takes_each_kind_of_file_from_a_folder(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, kind: str
) -> None:
    soundfile.write(tmp_path / f"a.{kind}", tiny.tone("anger", "ann", 4), RATE)
    (tmp_path / "a.txt").write_text("what is said")
    code, out, err = call(capsys, "predict", "-m", model, tmp_path)
    assert (code, err) == (0, "")
    assert [row["path"] for row in listed(out)] == [str(tmp_path / f"a.{kind}")]


@pytest.mark.parametrize("kind", ["experiments", "rows", "models", "protocols", "encoders", "corpora", "results"])
def test_each_kind_of_thing_is_listed_by_name(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    listed = json.loads(call(capsys, "list", kind.upper(), "-f", "json")[1])
    assert list(listed) == [kind] and len(listed[kind]) > 2


def test_what_is_trained_in_epochs_is_listed_as_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(call(capsys, "list", "models", "-f", "json")[1])["models"]
    assert {name for name, kind in listed.items() if kind == "network"} == set(peers.NETWORKS)


def test_every_field_of_the_configuration_says_what_it_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    lines = call(capsys, "config", "--values")[1].splitlines()
    said = {line.partition(":")[0]: line.partition("# ")[2] for line in lines if not line.startswith("#")}
    assert set(said) == set(Config.model_fields)
    assert said["selection"] == "last, nested, test" and said["dropout"] == "number >= 0 < 1"
    assert all(said.values())


def test_the_version_is_said_and_help_has_a_short_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version")[1].startswith("hmoe 0.")
    assert call(capsys, "run", "-h")[1] == call(capsys, "run", "--help")[1]


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], listing: Path, tmp_path: Path
) -> None:
    given = ("-c", "csv", "-r", listing, "--results", tmp_path / "mine", "--row", "svm", "--seeds", "0")
    out = call(capsys, "run", "table2", *given, "--dry-run")[1]
    assert "30 of 30 utterances" in out and "5 trials, 0 of them recorded; 5 trainings" in out
    assert not (tmp_path / "mine").exists()
    code, _, err = call(capsys, "run", "table2", *given, "-j", 1)
    assert code == 0 and "5 trainings to run" in err
    assert "5 trials, 5 of them recorded; nothing to run" in call(capsys, "run", "table2", *given, "--dry-run")[1]
    fast = ("-p", "fast", "--set", "protocol=speaker-sentence")
    assert "speaker-sentence 2 of 10 folds" in call(capsys, "run", "table2", *given, *fast, "--dry-run")[1]
    told = ("--row", "ours; discriminant; one recording at a time; unseen speaker")  # its `fit` takes the speakers
    code, out, _ = call(capsys, "run", "takes", *given[:6], *told, "--seeds", "0", "--dry-run")
    assert code == 0 and "0 of them recorded" in out


def test_a_corpus_that_grows_keeps_its_old_records_and_says_what_changed(
    capsys: pytest.CaptureFixture[str], listing: Path, tmp_path: Path
) -> None:
    lines = listing.read_text().splitlines(keepends=True)
    given = ("-c", "csv", "-r", listing, "--results", tmp_path / "mine", "--name", "own", "-j", 1)
    run = ("run", "table2", *given, "--row", "SVM", "--seeds", "0")
    listing.write_text("".join(lines[:-1]))
    assert call(capsys, *run)[0] == 0
    listing.write_text("".join(lines))
    code, _, err = call(capsys, *run)
    assert code == 0 and "1 added" in err
    first, second = sorted((tmp_path / "mine").glob("own-*"), key=lambda path: path.stat().st_mtime)
    assert {len(Store(each.name, tmp_path / "mine").read("table2")) for each in (first, second)} == {5}
    shown = ("report", "table2", "-c", "csv", "--name", "own", "--results", tmp_path / "mine")
    assert second.name in call(capsys, *shown)[1]
    listing.write_text("".join(lines[:-1]))  # as it was: its own records are found again
    assert "nothing to run" in call(capsys, *run)[2]
    assert first.name in call(capsys, *shown)[1]


def standard_input(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content))


def test_predict_reads_paths_or_a_recording_from_standard_input(
    capsys: pytest.CaptureFixture[str], model: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = recordings / "good.wav"
    monkeypatch.setattr(sys, "stdin", standard_input(f"{good}\n\n{recordings / 'in'}\n".encode()))
    code, out, _ = call(capsys, "predict", "-m", model, "-")
    assert code == 0
    paths = listed(out)
    assert [row["path"] for row in paths] == [str(good), str(recordings / "in" / "folder.wav")]

    monkeypatch.setattr(sys, "stdin", standard_input(good.read_bytes()))
    code, out, _ = call(capsys, "predict", "-m", model, "-", "-f", "json")
    assert code == 0
    (said,) = json.loads(out)["predictions"]
    assert said["path"] == "standard input"
    assert said["probabilities"]["anger"] == pytest.approx(float(paths[0]["anger"]), abs=0.006)

    # A program that writes to a pipe cannot know how long its recording will be.
    streamed = bytearray(good.read_bytes())
    streamed[4:8] = streamed[40:44] = b"\xff\xff\xff\xff"
    monkeypatch.setattr(sys, "stdin", standard_input(bytes(streamed)))
    assert json.loads(call(capsys, "predict", "-m", model, "-", "-f", "json")[1])["predictions"] == [said]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "standard input: empty; give paths, one a line, or the bytes of one WAV recording"),
        (b"RIFF", "standard input: truncated"),
        (b"no-such.wav\n", "no-such.wav: no such file"),
        (b"\xff\xfe.wav\n", r"\udcff\udcfe.wav: no such file"),
        (b"-\n", "standard input: empty"),
    ],
)
def test_standard_input_that_holds_no_recording_is_one_line(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str
) -> None:
    monkeypatch.setattr(sys, "stdin", standard_input(content))
    assert says in refused(capsys, "predict", "-m", model, "-")


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3", "AIFF"])
def test_standard_input_takes_the_bytes_of_every_kind_that_is_read(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tiny.tone("anger", "ann", 4), RATE, format=kind)
    monkeypatch.setattr(sys, "stdin", standard_input(buffer.getvalue()))
    code, out, err = call(capsys, "predict", "-m", model, "-", "-f", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["predictions"][0]["path"] == "standard input"


@pytest.mark.parametrize(
    "write",
    [
        lambda names: "\0".join([*names, ""]).encode(),  # find -print0
        lambda names: "\r\n".join(names).encode("utf-16"),  # as PowerShell writes
        lambda names: "\n".join(names).encode("utf-16-le"),
        lambda names: "\n".join(names).encode("utf-8-sig"),
    ],
)
def test_standard_input_takes_lists_as_programs_write_them(
    capsys: pytest.CaptureFixture[str],
    model: Path,
    recordings: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[list[str]], bytes],
) -> None:
    names = [str(recordings / "good.wav"), str(recordings / "in" / "folder.wav")]
    monkeypatch.setattr(sys, "stdin", standard_input(write(names)))
    code, out, _ = call(capsys, "predict", "-m", model, "-")
    assert code == 0
    assert [row["path"] for row in listed(out)] == names


@pytest.mark.parametrize("content", [bytes(range(256)) * 9, b"\0\0\0\x20ftypM4A \0\0", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_bytes_that_are_neither_are_one_line(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(sys, "stdin", standard_input(content))
    assert refused(capsys, "predict", "-m", model, "-").startswith("hmoe: standard input: ")


def test_an_empty_name_is_not_the_folder_one_stands_in(
    capsys: pytest.CaptureFixture[str], model: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recordings)
    assert "''" in refused(capsys, "predict", "-m", model, "")
    code, out, err = call(capsys, "predict", "-m", model, "", "good.wav")
    assert (code, err.count("\n")) == (1, 1)
    assert [row["path"] for row in listed(out)] == ["good.wav"]
    for arguments in (
        ["corpus", "stats", "folder", ""], ["corpus", "check", "folder", ""], ["train", ""], ["features", "--root="],
        ["predict", "good.wav", "--model", ""],
    ):  # fmt: skip
        assert "is a shell variable empty?" in refused(capsys, *arguments)


def test_what_a_decoder_or_the_model_raises_is_a_line_of_that_file(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone = tiny.tone("anger", "ann", 0)
    soundfile.write(tmp_path / "gsm.wav", tone[::2], RATE // 2, subtype="GSM610")
    (tmp_path / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(99))
    audio.write(tmp_path / "good.wav", tone, RATE)
    audio.write(tmp_path / "odd.wav", 0.9 * tone, RATE)
    judge = Pretrained.judge
    monkeypatch.setattr(Pretrained, "judge", lambda self, path: 1 / 0 if "odd" in str(path) else judge(self, path))
    code, out, err = call(capsys, "predict", "-m", model, tmp_path)
    assert code == 1
    assert [Path(row["path"]).name for row in listed(out)] == ["good.wav"]
    gsm, odd, phone = sorted(err.splitlines())
    assert "gsm.wav: GSM 6.10 in WAV is not read" in gsm
    assert "odd.wav: cannot be judged (ZeroDivisionError" in odd
    assert "phone.m4a: M4A, MP4 or 3GP, which is not read" in phone


def test_a_terminal_without_our_letters_is_no_error(model: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "情感.wav", tiny.tone("anger", "ann", 0), RATE)
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }
    command = [sys.executable, "-m", "hmoe", "predict", "-m", model, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_no_command_shows_a_raw_warning_of_python(tmp_path: Path) -> None:
    """Worker processes included: the corpus is stereo at 8 kHz, and converted by each."""
    lines = ["path,emotion,speaker"]
    for number, (speaker, emotion) in enumerate(itertools.product(tiny.SPEAKERS, tiny.EMOTIONS)):
        tone = tiny.tone(emotion, speaker, 4)
        soundfile.write(tmp_path / f"{number}.wav", np.stack([tone, tone], axis=1)[::2], RATE // 2)
        lines.append(f"{number}.wav,{emotion},{speaker}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    command = [sys.executable, "-m", "hmoe.__main__", "features", "--corpus", "csv", "--root", tmp_path / "list.csv"]
    done = subprocess.run([*command, "--workers", "2", "--set", "copies=1"], capture_output=True, text=True)
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if line and "features:" not in line]
    assert sorted(said) == [
        "hmoe: warning: audio at 8000 Hz is resampled to 16000 Hz",
        "hmoe: warning: audio with 2 channels is averaged to one",
    ]


def recorded(corpus: str, accuracies: list[float], changes: dict[str, object], protocol: str = "stratified-5") -> None:
    """Trials of Table 2's last row but one, a fold each."""
    row = experiment("table2").row("HMoE-SiMBA")
    config = row.config(**changes)
    store = store_for(corpus, PROFILES["full"])
    for fold, accuracy in enumerate(accuracies):
        record = dict.fromkeys(COLUMNS, accuracy) | {"n_train": 96, "n_test": 24, "best_epoch": 1, "parameters": 1}
        record |= {"experiment": "table2", "row": row.name, "reading": "pooled", "protocol": protocol}
        record |= {"selection": "nested", "seed": 0, "fold": fold, "config": config.key(), "device": "cpu"}
        record |= {"commit": "0123456789", "machine": "a machine", "date": "2026-01-01T00:00Z"}
        store.append(record, {"letters": "a=x", "predicted": "a", "actual": "a"}, config)


def test_report_prints_the_records_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    recorded("casia", [60.0, 70, 65, 66, 64], {})
    code, out, _ = call(capsys, "report", "table2", "--corpus", "casia")
    assert code == 0
    words = " ".join(out.split())
    assert "5 trials (seeds 0)" in words
    assert str(store_for("casia", PROFILES["full"]).path("table2")) in words.replace(" ", "")  # what was really read
    assert max(map(len, out.splitlines())) <= 100
    assert out.splitlines()[1].startswith("HMoE-SiMBA ")
    assert "Not recorded yet: SVM; SVM, tuned; " in words
    wide = call(capsys, "report", "table2", "--corpus", "casia", "--wide")[1]
    assert "acc_fear" in wide and "acc_fear" not in out
    listed = json.loads(call(capsys, "report", "table2", "--corpus", "casia", "--format", "json")[1])
    (ours,) = [line for line in listed if line["row"] == "HMoE-SiMBA"]
    assert (ours["accuracy"], ours["paper"], ours["trials"]) == (65, 92.2, 5)
    text = call(capsys, "report", "table2", "--corpus", "casia", "--format", "csv")[1]
    assert [line["trials"] for line in csv.DictReader(io.StringIO(text)) if line["row"] == "HMoE-SiMBA"] == ["5"]


def test_report_of_another_corpus_does_not_judge_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    recorded("folder", [60.0, 70, 65, 66, 64], {})
    _, out, _ = call(capsys, "report", "table2", "--corpus", "folder")
    assert "65.0" in out
    assert "92.2" not in out
    assert "reproduced" not in out


def test_report_shows_what_was_run_with_another_field_or_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    recorded("csv", [60.0] * 5, {})
    recorded("csv", [50.0] * 5, {"d_state": 64})
    recorded("csv", [30.0] * 2, {}, protocol="speaker")
    for changes, mean in ([], "60.0"), (["--set", "d_state=64"], "50.0"), (["--set", "protocol=speaker"], "30.0"):
        _, out, _ = call(capsys, "report", "table2", "--corpus", "csv", *changes)
        assert f" {mean}" in out.splitlines()[1]


@pytest.fixture
def listing(tmp_path: Path, tiny_corpus: Corpus) -> Path:
    """The tiny corpus as a CSV file, as `--corpus csv` takes it."""
    tiny_corpus.table[["path", "speaker", "emotion", "sentence"]].to_csv(tmp_path / "tiny.csv", index=False)
    return tmp_path / "tiny.csv"


def test_a_packed_corpus_is_given_wherever_a_root_is(
    capsys: pytest.CaptureFixture[str], listing: Path, tmp_path: Path, tiny_corpus: Corpus
) -> None:
    packed = tmp_path / "tiny.zip"
    code, out, _ = call(capsys, "corpus", "pack", "csv", listing, "-o", packed)
    assert code == 0
    assert out.startswith(f"{len(tiny_corpus)} utterances, ") and str(packed) in out
    answers = [call(capsys, "corpus", "stats", "csv", root) for root in (listing, packed)]
    assert answers[0] == answers[1]
    done = call(capsys, "features", "-c", "csv", "-r", packed, "--set", "copies=1", "-j", 1, "--torch", "cpu")
    assert done[:2] == (0, f"{len(tiny_corpus)} utterances, each clean and in 1 augmented copies\n")


SMALL = [part for name, value in tiny.SMALL.items() for part in ("--set", f"{name}={value}")]


def test_ctrl_c_says_that_nothing_is_lost_and_keeps_what_was_done(listing: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hmoe.__main__", "run", "table3", "--corpus", "csv", "--root", str(listing)]
    process = subprocess.Popen(
        [*command, "--workers", "1", *SMALL, "--set", "epochs=12"],  # of 45 trials, so that the last is far away
        stderr=subprocess.PIPE, text=True, env={**os.environ, "HMOE_RESULTS": str(tmp_path)},
        # Where tests run in the background, as of `nohup`, a shell has children ignore what is sent here.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and not list(tmp_path.glob("csv-*/table3.csv")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert err.splitlines()[-1] == "hmoe: stopped; finished trials are kept, run the same command to go on"
    assert "Traceback" not in err
    assert len(store_for("csv", PROFILES["full"], results=tmp_path).read("table3")) >= 1


@pytest.mark.parametrize("command", [["features"], ["train", "my-model"]], ids=" ".join)
def test_a_profile_asks_of_frames_what_it_asks_in_trials(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, listing: Path, command: list[str]
) -> None:
    asked = []

    def no_more(corpus: Corpus, config: Config, *_: object, **__: object) -> None:
        asked.append(config)
        raise ConfigError("test", "has seen enough")

    monkeypatch.setattr(grid, "open_bank", no_more)
    monkeypatch.chdir(listing.parent)
    given = ("-c", "csv", "-r", listing, "-p", "fast", "--set", "reading=frames")
    refused(capsys, *command, *given)
    refused(capsys, *command, *given, "--set", "epochs=9")
    assert [(config.frame_stride, config.epochs, config.lr) for config in asked] == [(8, 4, 1e-3), (8, 9, 1e-3)]


def test_train_does_not_go_on_with_weights_of_other_labels(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, listing: Path
) -> None:
    checkpoints = []

    def no_more(*given: object, **_: object) -> None:
        checkpoints.append(given[-1])
        raise ConfigError("test", "has seen enough")

    monkeypatch.setattr(grid, "open_bank", lambda *_: Embeddings([], np.zeros((1, 1))))
    monkeypatch.setattr(train, "fit", no_more)
    monkeypatch.chdir(listing.parent)
    command = ("train", "my-model", "-c", "csv", "-r", listing, *SMALL)
    for _ in range(2):
        call(capsys, *command)
    corrected = pd.read_csv(listing)
    corrected["emotion"] = np.roll(corrected["emotion"], 1)
    corrected.to_csv(listing, index=False)
    call(capsys, *command)
    assert checkpoints[0] == checkpoints[1] != checkpoints[2]


def test_train_makes_a_model_that_predict_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, listing: Path, tiny_corpus: Corpus
) -> None:
    output, given = tmp_path / "tiny", ["--corpus", "csv", "--root", listing, *SMALL, "--set", "selection=nested"]
    own = ["--name", "mine", "--results", tmp_path / "own"]
    assert call(capsys, "run", "figure4", "--row", "all", "--fold", "0", "--seeds", "0", *given, *own)[0] == 0
    code, out, err = call(capsys, "train", output, *given, *own)
    assert code == 0
    assert "held-out utterances" in out and "30 of 30 utterances" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "tiny", "tiny.csv"]  # no checkpoint left
    about = Pretrained.load(output).about
    assert (about["utterances"], about["speakers"]) == (30, ["ann", "bob"])
    # What another experiment recorded of this configuration and corpus, and what training held out, are on the card.
    assert {name: each["trials"] for name, each in about["measured"].items()} == {"stratified-5": 1}
    assert about["held_out"]["utterances"] > 0
    card = (output / "README.md").read_text()
    assert "figure4.csv" in card and "were held out to choose the epoch" in " ".join(card.split())
    seconds = tiny_corpus.table["seconds"]
    assert about["ranges"]["seconds"] == [round(seconds.min(), 1), round(seconds.max(), 1)]
    assert about["ranges"]["rate"] == [RATE, RATE]
    code, out, err = call(capsys, "predict", "-m", output, tiny_corpus.table["path"].iloc[12])
    assert (code, err) == (0, "")
    assert len(listed(out)) == 1
