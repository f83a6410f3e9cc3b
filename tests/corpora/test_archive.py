"""A corpus as one file is the same corpus, bit for bit; anything else is refused in one line."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny

from hmoe import corpora
from hmoe.base.errors import AudioError, CorpusError, HmoeError, StoreError
from hmoe.corpora import Corpus, archive, audio
from hmoe.corpora.table import CorpusWarning
from hmoe.inputs import bank

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EMOTION/NAME in the kinds of files that people have: 16 and 24 bits, floats, stereo at 44.1 kHz, MP3."""
    root = tmp_path_factory.mktemp("kinds")
    for i, emotion in enumerate(tiny.EMOTIONS):
        place = root / emotion
        place.mkdir()
        voice = tiny.tone(emotion, "ann", i)
        for subtype in ("PCM_16", "PCM_24", "PCM_U8", "FLOAT"):
            soundfile.write(place / f"{subtype}.wav", voice, RATE, subtype=subtype)
        soundfile.write(place / "stereo.wav", np.stack([voice, voice[::-1]], axis=1), 44_100)
        mp3 = place / "mp3.wav"  # named wrongly, as some are
        soundfile.write(mp3, voice, RATE, format="MP3")
    return root


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("packed") / "one.zip"
    corpora.pack(corpora.load("folder", folder), target)
    return target


def test_every_sample_and_the_table_are_the_same(folder: Path, packed: Path) -> None:
    one, other = corpora.load("folder", folder), corpora.load("folder", packed)
    assert other.table.drop(columns="path").equals(one.table.drop(columns="path"))
    assert (other.name, other.emotions, bank.content(other)) == (one.name, one.emotions, bank.content(one))
    for i in range(len(one)):
        assert other.waveform(i).tobytes() == one.waveform(i).tobytes()


def test_what_flac_holds_exactly_is_flac_and_the_rest_is_kept_as_it_is(folder: Path, packed: Path) -> None:
    table = corpora.load("folder", packed).table
    kinds = {Path(original).stem: Path(path).suffix for original, path in zip(
        corpora.load("folder", folder).table["path"], table["path"], strict=True
    )}  # fmt: skip
    assert kinds == {"PCM_16": ".flac", "PCM_24": ".flac", "stereo": ".flac"} | dict.fromkeys(
        ("PCM_U8", "FLOAT", "mp3"), ".wav"
    )


def test_packing_twice_gives_the_same_file_and_an_archive_packs_into_itself(folder: Path, packed: Path) -> None:
    again = packed.with_name("again.zip")
    corpora.pack(corpora.load("folder", folder), again)
    assert again.read_bytes() == packed.read_bytes()
    corpora.pack(corpora.load("folder", packed), again)
    assert again.read_bytes() == packed.read_bytes()


def test_an_archive_is_checked_as_a_folder_is(tmp_path: Path, small_corpus: Corpus) -> None:
    root = tmp_path / "casia"
    for i, sentence in enumerate(("201", "202")):
        audio.write(root / "wangzhe" / "angry" / f"{sentence}.wav", tiny.tone("anger", "ann", i))
    corpora.pack(corpora.load("casia", root), tmp_path / "casia.zip")
    one, other = corpora.check("casia", root), corpora.check("casia", tmp_path / "casia.zip")
    assert (other.found, other.missing) == (one.found, one.missing)
    assert len(other.altered + other.truncated) == len(one.altered + one.truncated) == 2
    # The synthetic corpus of another machine, whose last bits differ from ours, is taken as it is.
    corpora.pack(small_corpus, tmp_path / "synthetic.zip")
    assert len(corpora.load("synthetic", tmp_path / "synthetic.zip")) == len(small_corpus)
    assert corpora.check("synthetic", tmp_path / "synthetic.zip").ok


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.7, 0.999])
def test_a_truncated_archive_is_refused(packed: Path, tmp_path: Path, share: float) -> None:
    cut = tmp_path / "cut.zip"
    content = packed.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    refused(cut, "cut.zip")


def rewritten(change: Callable[[str, bytes], bytes | None]) -> Callable[[Path, Path], None]:
    def damage(packed: Path, target: Path) -> None:
        with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w") as new:
            for name in old.namelist():
                if (content := change(name, old.read(name))) is not None:
                    new.writestr(name, content)

    return damage


def one_bit(packed: Path, target: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[len(content) // 3] ^= 1
    target.write_bytes(content)


def of_version(packed: Path, target: Path) -> None:
    content = packed.read_bytes()
    at = content.rindex(b"PK\x01\x02") + 6  # of the last member, which is the table: the version that reads it
    target.write_bytes(content[:at] + b"\x72" + content[at + 1 :])


def compressed_by(method: int) -> Callable[[Path, Path], None]:
    def damage(packed: Path, target: Path) -> None:
        content = packed.read_bytes()
        for mark, after in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
            at = content.rindex(mark) + after
            content = content[:at] + method.to_bytes(2, "little") + content[at + 2 :]
        target.write_bytes(content)

    return damage


def beyond(packed: Path, target: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[content.rindex(b"PK\x03\x04") + 29] = 255  # of the length of what stands before the table: it ends the file
    target.write_bytes(content)


def without_sums(name: str, content: bytes) -> bytes:
    return content.replace(b"sha256", b"sha") if name == archive.TABLE else content


def swapped(packed: Path, target: Path) -> None:
    with zipfile.ZipFile(packed) as old:
        other = old.read("audio/0007.flac")
    rewritten(lambda name, content: other if name == "audio/0001.flac" else content)(packed, target)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (one_bit, "damaged"),
        (rewritten(lambda name, content: None if name == archive.TABLE else content), "not an archive of a corpus"),
        (rewritten(lambda name, content: None if name == "audio/0002.flac" else content), "not an archive of a corpus"),
        (rewritten(lambda name, content: b"id,words\n" if name == archive.TABLE else content), "not an archive"),
        (rewritten(lambda name, content: b"\xff\xfe" if name == archive.TABLE else content), "not an archive"),
        (swapped, "other samples than were packed"),
        (of_version, "damaged"),
        (compressed_by(12), "damaged"),
        (compressed_by(14), "damaged"),
        (compressed_by(97), "damaged"),
        (beyond, "damaged"),
        (rewritten(without_sums), "not an archive"),
    ],
    ids=[
        "a bit",
        "no table",
        "no recording",
        "another table",
        "no text",
        "recordings swapped",
        "version",
        "bz2",
        "lzma",
        "method",
        "beyond the end",
        "no sums",
    ],
)
def test_a_damaged_or_foreign_archive_is_refused(
    packed: Path, tmp_path: Path, damage: Callable[[Path, Path], None], says: str
) -> None:
    damage(packed, tmp_path / "bad.zip")
    refused(tmp_path / "bad.zip", says)


def refused(file: Path, says: str) -> None:
    for use in (corpora.load, corpora.check):
        if use is corpora.check and says == "other samples than were packed":
            continue  # a check against a manifest says that by itself
        with pytest.raises((CorpusError, AudioError), match=says) as caught:
            use("folder", file)
        assert "\n" not in str(caught.value)
        assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.with_name("0001.flac").replace(path)],
    ids=["lost", "emptied", "another"],
)
def test_what_has_been_damaged_in_the_cache_is_unpacked_again(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path / "cache"))
    whole = corpora.load("folder", packed)
    damage(Path(whole.table["path"].iloc[0]))
    assert corpora.load("folder", packed).table.equals(whole.table)


def test_another_corpus_is_not_taken_for_the_one_asked_for(packed: Path) -> None:
    with pytest.raises(CorpusError, match="folder.*'casia'"):
        corpora.load("casia", packed)


def test_what_cannot_be_written_leaves_nothing(
    packed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        corpora.pack(corpora.load("folder", folder), tmp_path / "file" / "one.zip")
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="set HMOE_CACHE"):
        corpora.load("folder", packed)
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path / "cache"))
    shutil.copy(packed, tmp_path / "bad.zip")
    one_bit(packed, tmp_path / "bad.zip")
    with pytest.raises(HmoeError):
        corpora.load("folder", tmp_path / "bad.zip")
    assert not list((tmp_path / "cache" / "corpora").iterdir())


def test_a_spreadsheet_and_a_zip_of_something_else_are_called_what_they_are(tmp_path: Path) -> None:
    for member, says in {
        "xl/workbook.xml": "a spreadsheet",
        "wangzhe/angry/201.wav": "a zip file without corpus.csv",
    }.items():
        with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as file:
            file.writestr(member, "x")
        with pytest.raises(CorpusError, match=f"a.xlsx: .*{says}.*; "):
            corpora.load("csv", tmp_path / "a.xlsx")


def test_a_table_whose_header_begins_as_a_zip_file_does_is_a_table(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tiny.tone("anger", "ann", 0), RATE)
    (tmp_path / "list.csv").write_text("PK,path,emotion\n1,a.wav,anger\n")
    assert list(corpora.load("csv", tmp_path / "list.csv").table["emotion"]) == ["anger"]


def test_what_is_kept_as_it_is_is_said_and_no_temporary_folder_is_needed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.warns(CorpusWarning, match="9 of 18 recordings are kept as they are"):
        corpora.pack(corpora.load("folder", folder), tmp_path / "one.zip")
