"""A folder becomes one tidy table, or one line that says what in it does not fit."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from hmoe.base.errors import AudioError, CorpusError
from hmoe.corpora import COLUMNS, Corpus, audio, check, checking, load, manifest, names, pack, state, stats, totals
from hmoe.corpora.casia import SPEAKERS, grammar
from hmoe.corpora.grammars import savee
from hmoe.corpora.labels import COMMON, NAMES, emotion
from hmoe.corpora.table import CorpusWarning, files, scan, tabulate

CASIA = ("angry", "sad", "happy", "neutral", "fear", "surprise")
RATE = 16_000


def speak(path: Path, rate: int = RATE) -> Path:
    """A short recording, another for each path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.as_posix().encode()))
    samples = 0.1 * rng.normal(size=round(rng.uniform(0.05, 0.2) * rate)).clip(-3, 3)
    soundfile.write(path, samples, rate)
    return path


def tree(root: Path, files: Iterable[str], rate: int = RATE) -> Path:
    for name in files:
        speak(root / name, rate)
    return root


@pytest.fixture
def casia(tmp_path: Path) -> Path:
    """4 speakers x 6 emotions x 2 sentences, as CASIA lies on disks, with what else lies there."""
    root = tmp_path / "casia"
    for speaker, label, sentence in itertools.product(SPEAKERS.values(), CASIA, (201, 202)):
        path = speak(root / speaker / label / f"{sentence}.wav")
        for sidecar in (".lab", ".peak", ".tag"):
            path.with_suffix(sidecar).write_bytes(b"0 100 SIL\n")
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    speak(root / "__MACOSX" / "wangzhe" / "angry" / "201.wav")
    for stray in ("_desktop.ini", "Thumbs.db", "readme.txt"):
        (root / "wangzhe" / stray).write_text("")
    return root


def message(error: pytest.ExceptionInfo[CorpusError]) -> str:
    text = str(error.value)
    assert "\n" not in text and "; " in text
    return text


# --- one table


def test_the_table_is_tidy(casia: Path) -> None:
    corpus = load("casia", casia)
    assert tuple(corpus.table.columns) == COLUMNS
    assert corpus.table.index.equals(pd.RangeIndex(48)) and len(corpus) == 48
    assert corpus.table["id"].is_monotonic_increasing and corpus.table["id"].is_unique
    assert corpus.emotions == ("anger", "sadness", "happiness", "neutral", "fear", "surprise")
    assert corpus.labels.dtype == np.int64
    assert [corpus.emotions[label] for label in corpus.labels] == corpus.table["emotion"].tolist()
    row = corpus.table.set_index("id").loc["ZhaoZuoxiang-happiness-202"]
    assert (row.corpus, row.speaker, row.emotion, row.sentence) == ("casia", "ZhaoZuoxiang", "happiness", "202")
    assert Path(row.path) == casia / "ZhaoZuoxiang" / "happy" / "202.wav"


def test_seconds_and_digests_are_of_the_samples(casia: Path) -> None:
    corpus = load("casia", casia)
    for i in (0, 17, 47):
        samples = corpus.waveform(i)
        assert corpus.table["seconds"][i] == len(samples) / RATE
        assert corpus.table["sha256"][i] == audio.digest(samples)


def test_a_subset_keeps_the_meaning_of_labels(casia: Path) -> None:
    corpus = load("casia", casia)
    part = corpus.subset(corpus.table["emotion"] == "fear")
    assert len(part) == 8 and part.emotions == corpus.emotions and set(part.labels) == {4}
    assert part.table.index.equals(pd.RangeIndex(8))
    assert np.array_equal(part.waveform(0), audio.read(part.table["path"][0]))


def test_stats_count_every_utterance_once(casia: Path) -> None:
    corpus = load("casia", casia)
    table = stats(corpus)
    assert table["utterances"].sum() == 48 and len(table) == 24
    assert table["emotion"].tolist()[:6] == list(corpus.emotions)
    assert (table["min"] <= table["mean"]).all() and (table["mean"] <= table["max"]).all()
    assert (table["mean"] * table["utterances"]).sum() == pytest.approx(corpus.table["seconds"].sum())


# --- CASIA


def other_layout(casia: Path, root: Path, name: Callable[[str, str, str], str]) -> Path:
    for path in sorted(casia.glob("*/*/[0-9]*.wav")):
        target = root / name(path.parts[-3], path.parts[-2], path.stem)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root


@pytest.mark.parametrize(
    "name",
    [
        lambda speaker, label, sentence: f"{label}/{sentence}-{label}-{speaker}.wav",
        lambda speaker, label, sentence: f"{label}/{sentence}-{label}-{speaker.lower()}.WAV",
        lambda speaker, label, sentence: f"{sentence}-{label}-{speaker}.wav",
        lambda speaker, label, sentence: f"CASIA/1200/{speaker.upper()}/{label.title()}/{sentence}.wav",
    ],
)
def test_the_same_table_from_other_layouts(casia: Path, tmp_path: Path, name: Callable[[str, str, str], str]) -> None:
    one, other = load("casia", casia).table, load("casia", other_layout(casia, tmp_path / "other", name)).table
    pd.testing.assert_frame_equal(one.drop(columns="path"), other.drop(columns="path"))


@pytest.mark.parametrize(
    ("stray", "expected"),
    [
        ("lisi/angry/201.wav", "unknown speaker 'lisi'; known are liuchanhg, wangzhe, zhaoquanyin, ZhaoZuoxiang"),
        ("wangzhe/bored stiff/201.wav", "unknown emotion 'bored stiff'; rename it to one of anger, sadness, "),
        ("angry/203-happy-wangzhe.wav", "'happy' lies in the folder 'angry'; move or rename it"),
        ("misc/203-happy-wangzhe.wav", "unknown emotion 'misc'; rename it"),
        ("angry/203-angry-lisi.wav", "unknown speaker 'lisi'; known are"),
        ("angry/201-angry-wangzhe.wav", "'wangzhe-anger-201' is also "),
    ],
)
def test_a_file_that_does_not_fit_is_named(casia: Path, stray: str, expected: str) -> None:
    path = speak(casia / stray)
    with pytest.raises(CorpusError) as caught:
        load("casia", casia)
    assert str(path) in message(caught) and expected in message(caught)


def test_hidden_folders_are_passed_over_as_hidden_files_are(casia: Path) -> None:
    before = load("casia", casia).table
    shutil.copytree(next(each for each in sorted(casia.iterdir()) if each.is_dir()), casia / ".trash")
    assert load("casia", casia).table.equals(before)


def test_a_name_in_another_encoding_is_one_line(casia: Path) -> None:
    """As unzip leaves names that were written in GBK."""
    some = next(casia.rglob("*.wav"))
    try:
        os.rename(os.fsencode(some), os.fsencode(some.parent) + b"/\xb8\xdf.wav")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(CorpusError, match=r"\\udcb8.*\.wav: the name is not UTF-8; rename it"):
        load("casia", casia)


def test_several_bad_files_are_named_and_counted(casia: Path) -> None:
    bad = sorted(casia.glob("liuchanhg/*/201.wav"))[:5]
    for path in bad:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorpusError) as caught:
        load("casia", casia)
    text = message(caught)
    assert "5 of 48 files unusable: " in text and "truncated" in text and " and 2 more; replace" in text
    assert sum(str(path) in text for path in bad) == 3


def test_a_file_that_goes_bad_after_loading_is_named(casia: Path) -> None:
    corpus = load("casia", casia)
    path = Path(corpus.table["path"][3])
    path.write_bytes(b"")
    with pytest.raises(AudioError, match=f"{path}: empty file"):
        corpus.waveform(3)


# --- where corpora are


def test_a_directory_that_is_none_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HMOE_CASIA", raising=False)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, root, expected in [
        ("casia", None, "corpus 'casia': no directory given; give its root, or set HMOE_CASIA"),
        ("casia", "", "corpus 'casia': no directory given"),
        ("casia", tmp_path / "missing", "missing: no such directory; give the directory of the corpus casia"),
        ("casia", tmp_path / "file", "file: is not a directory; "),
        ("casia", tmp_path / "empty", "empty: no utterances found; "),
        ("csv", tmp_path, "is not a CSV file; "),
        ("casio", tmp_path, f"corpus 'casio': unknown; known are {', '.join(names())}"),
    ]:
        with pytest.raises(CorpusError) as caught:
            load(name, root)
        assert expected in message(caught)


def test_the_environment_says_where_a_corpus_is(casia: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMOE_CASIA", str(casia))
    assert load("casia").root == casia and len(load("casia")) == 48
    monkeypatch.setenv("HMOE_CREMA_D", str(tree(casia.parent / "crema", ["1001_DFA_ANG_XX.wav"])))
    assert load("crema-d").table["id"].tolist() == ["1001_DFA_ANG_XX"]


def test_the_state_of_a_corpus_is_that_of_every_file_that_is_read(casia: Path, tmp_path: Path) -> None:
    said = state("casia", casia)
    assert [path for path, _, _ in said] == sorted(
        str(Path(path).relative_to(casia)) for path in load("casia", casia).table["path"]
    )
    assert [size for _, size, _ in said] == [(casia / path).stat().st_size for path, _, _ in said]
    pack(load("casia", casia), tmp_path / "casia.zip")
    assert [path for path, _, _ in state("casia", tmp_path / "casia.zip")] == ["casia.zip"]
    (tmp_path / "list.csv").write_text("path,emotion\ncasia/wangzhe/angry/201.wav,anger\n")
    assert [path for path, _, _ in state("csv", tmp_path / "list.csv")] == ["casia/wangzhe/angry/201.wav", "list.csv"]
    assert state("synthetic") == []  # nor is it made
    (casia / "wangzhe" / "angry" / "203.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(CorpusError, match=r"203\.wav: cannot be read \(No such file or directory\); "):
        state("casia", casia)


# --- labels


@pytest.mark.parametrize(("name", "alias"), [(name, alias) for name in NAMES for alias in (name, *NAMES[name])])
def test_every_name_leads_to_the_common_one(name: str, alias: str) -> None:
    for written in (alias, alias.upper(), alias.title(), f" {alias}", "-".join(alias), "_".join(alias)):
        assert emotion(written, "here") == name


def test_no_alias_has_two_meanings() -> None:
    aliases = [alias for name in NAMES for alias in (name, *NAMES[name])]
    assert len(aliases) == len(set(aliases))


@given(st.text(max_size=12))
def test_a_label_is_common_or_refused_with_the_known_ones(label: str) -> None:
    try:
        assert emotion(label, "row 7") in COMMON
    except CorpusError as error:
        assert str(error) == f"row 7: unknown emotion {label!r}; rename it to one of {', '.join(COMMON)}"


# --- other corpora: their own names, what they mean, and a name that they do not have

OTHERS = {
    "emodb": (
        {"wav/03a01Wa.wav": ("03a01Wa", "03", "anger", "a01"), "wav/16b10Lb.wav": ("16b10Lb", "16", "boredom", "b10")},
        "wav/03a01Xa.wav",
    ),
    "ravdess": (
        {
            "Actor_12/03-01-06-01-02-01-12.wav": ("03-01-06-01-02-01-12", "12", "fear", "02"),
            "Actor_01/03-01-02-02-01-02-01.wav": ("03-01-02-02-01-02-01", "01", "calm", "01"),
        },
        "Actor_12/03-01-09-01-02-01-12.wav",
    ),
    "savee": (
        {
            "AudioData/DC/sa01.wav": ("DC_sa01", "DC", "sadness", "common-01"),
            "AudioData/KL/a15.wav": ("KL_a15", "KL", "anger", "a15"),
            "JE_su03.wav": ("JE_su03", "JE", "surprise", "common-03"),
        },
        "AudioData/DC/x01.wav",
    ),
    "crema-d": (
        {
            "AudioWAV/1001_DFA_ANG_XX.wav": ("1001_DFA_ANG_XX", "1001", "anger", "DFA"),
            "AudioWAV/1091_IEO_HAP_HI.wav": ("1091_IEO_HAP_HI", "1091", "happiness", "IEO"),
            "AudioWAV/1040_ITH_SAD_X.wav": ("1040_ITH_SAD_X", "1040", "sadness", "ITH"),
        },
        "AudioWAV/1001_DFA_SUR_XX.wav",
    ),
    "esd": (
        {
            "0001/Angry/0001_000351.wav": ("0001_000351", "0001", "anger", "zh-001"),
            "0010/Surprise/train/0010_001750.wav": ("0010_001750", "0010", "surprise", "zh-350"),
            "0011/Neutral/evaluation/0011_000007.wav": ("0011_000007", "0011", "neutral", "en-007"),
        },
        "0001/Bliss/0001_000351.wav",
    ),
    "folder": (
        {
            "Angry/a.wav": ("unknown-anger-a", "unknown", "anger", "a"),
            "li/厌恶/3.wav": ("li-disgust-3", "li", "disgust", "3"),
        },
        "noise/a.wav",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_corpora_say_in_their_names_what_they_are(name: str, tmp_path: Path) -> None:
    files, wrong = OTHERS[name]
    root = tree(tmp_path, files)
    table = load(name, root).table.set_index("path")
    assert set(table["corpus"]) == {name} and len(table) == len(files)
    for file, expected in files.items():
        assert tuple(table.loc[str(root / file), ["id", "speaker", "emotion", "sentence"]]) == expected
    report = check(name, root)
    assert report.ok and report.expected is None and "there is no manifest" in report.lines()[0]

    path = speak(root / wrong)
    with pytest.raises(CorpusError, match="unknown emotion") as caught:
        load(name, root)
    assert message(caught).startswith(str(path))
    assert [line.split(": ")[1] for line in check(name, root).lines()[1:]] == [str(path)]


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "FLAC"])
def test_a_loader_takes_each_kind_of_file_that_can_be_read(casia: Path, kind: str) -> None:
    wav = load("casia", casia)
    for path in casia.rglob("201.wav"):
        soundfile.write(path.with_suffix(f".{kind}"), audio.read(path), RATE)
        path.unlink()
    other = load("casia", casia)
    assert other.table["id"].tolist() == wav.table["id"].tolist()
    assert sum(path.endswith(kind) for path in other.table["path"]) == 24
    assert np.abs(other.table["seconds"] - wav.table["seconds"]).max() < 0.1  # MP3 pads to whole blocks
    if kind.lower() == "flac":
        assert other.table["sha256"].tolist() == wav.table["sha256"].tolist()


def test_a_recording_that_is_there_in_two_kinds_is_taken_once_if_it_is_the_same(casia: Path) -> None:
    path, before = casia / "wangzhe" / "angry" / "201.wav", load("casia", casia).table
    soundfile.write(path.with_suffix(".flac"), audio.read(path), RATE)
    with pytest.warns(CorpusWarning, match="passed over 1 file: 1 bit-identical to another .*201"):
        corpus = load("casia", casia)
    pd.testing.assert_frame_equal(corpus.table.drop(columns="path"), before.drop(columns="path"))
    soundfile.write(path.with_suffix(".mp3"), audio.read(path), RATE)
    with pytest.raises(CorpusError, match="'wangzhe-anger-201' is also .*201.*; remove one of the two"):
        load("casia", casia)


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "folder"])
def test_a_name_without_grammar_is_refused_with_an_example(name: str, tmp_path: Path) -> None:
    speak(tmp_path / "take one.wav")
    with pytest.raises(CorpusError, match=r"take one.wav: not named as .*; expected a name like .*\.wav"):
        load(name, tmp_path)


@pytest.mark.filterwarnings("ignore::hmoe.corpora.audio.ConversionWarning")
def test_seconds_do_not_depend_on_the_rate_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "angry" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=(48_000, 2)).clip(-3, 3), 48_000)
    assert load("folder", tmp_path).table["seconds"].tolist() == [1.0]


# --- a CSV manifest


def test_a_csv_manifest_with_all_columns_and_with_the_fewest(tmp_path: Path) -> None:
    tree(tmp_path, ["x/a.wav", "x/b.wav"])
    full, short = tmp_path / "full.csv", tmp_path / "short.csv"
    full.write_text("id,path,emotion,speaker,sentence\nu1,x/a.wav,Angry,s1,7\nu2,x/b.wav,悲伤,s2,8\n", "utf-8-sig")
    short.write_text("Emotion, path\nhappy,x/b.wav\ncontempt,x/a.wav\n")
    columns = ["id", "speaker", "emotion", "sentence"]
    assert load("csv", full).table[columns].values.tolist() == [
        ["u1", "s1", "anger", "7"],
        ["u2", "s2", "sadness", "8"],
    ]
    corpus = load("csv", short)
    assert corpus.table[columns].values.tolist() == [
        ["x-a", "unknown", "contempt", "a"],
        ["x-b", "unknown", "happiness", "b"],
    ]
    assert corpus.emotions == ("happiness", "contempt")


def test_where_a_corpus_lies_is_no_part_of_its_ids(tmp_path: Path) -> None:
    """They decide folds and augmented copies. Full paths beside the CSV file name what relative ones do."""
    (tmp_path / "elsewhere").mkdir()
    for home in (tmp_path / "one", tmp_path / "another"):
        tree(home, ["x/a.wav", "y/a.wav"])
        for csv in (home / "beside.csv", tmp_path / "elsewhere" / "apart.csv"):
            csv.write_text(f"path,emotion\n{home}/x/a.wav,anger\n{home}/y/a.wav,anger\n")
            assert list(load("csv", csv).table["id"]) == ["x-a", "y-a"]
        (home / "relative.csv").write_text("path,emotion\nx/a.wav,anger\ny/a.wav,anger\n")
        assert list(load("csv", home / "relative.csv").table["id"]) == ["x-a", "y-a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"file,label\na.wav,angry\n", "has the columns file, label; needs at least path and emotion"),
        (b"path;emotion\na.wav;angry\n", "has the columns path;emotion; needs at least path and emotion, with a comma"),
        (b"", "has the columns nothing; needs at least path and emotion"),
        (b"path,emotion\na,b,c,d\n", "line 2: 4 cells for 2 columns; remove a comma, or write quotes"),
        (b"path,emotion,speaker\na.wav,anger,f2,\n", "line 2: 4 cells for 3 columns; "),
        (b'path,emotion\n\na.wav,anger\n"', "line 4: not a CSV file ("),
        (b"path,emotion\na.wav,anger\n\n\nb.wav,anger\n", "line 5: no such file b.wav"),
        (b'path,emotion,note\na.wav,anger,"two\nlines"\nb.wav,anger,\n', "line 4: no such file b.wav"),
        (b"path,emotion,emotion\na.wav,anger,fear\n", "has the column emotion 2 times; keep one of them"),
        (b"path,emotion\na.wav,\xff\xfe\n", "not a CSV file ("),
        (b"path,emotion\na.wav,angry\na.wav,meh\n", "line 3: unknown emotion 'meh'; rename it to one of"),
        (b"path,emotion\na.wav,\n", "line 2: unknown emotion ''; rename"),
        (b"path,emotion\n,angry\n", "line 2: has no path; "),
        (b"path,emotion\nb.wav,angry\n", "line 2: no such file b.wav; give its path as seen from the folder of"),
        (b"path,emotion\na.wav,angry\na.wav,sad\n", "'a' is also"),
        (b"path,emotion\n", "no utterances found; write a line for each recording"),
    ],
)
def test_a_csv_manifest_that_does_not_fit_is_one_line(tmp_path: Path, text: bytes, expected: str) -> None:
    speak(tmp_path / "a.wav")
    (tmp_path / "list.csv").write_bytes(text)
    with pytest.raises(CorpusError) as caught:
        load("csv", tmp_path / "list.csv")
    assert expected in message(caught)


def test_a_csv_manifest_as_spreadsheets_write_it(tmp_path: Path) -> None:
    """With commas behind every line, blank lines, or in UTF-16."""
    speak(tmp_path / "a.wav")
    text = "path,emotion,speaker,,\r\n\r\na.wav,anger,ann,,\r\n,,,,\r\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "list.csv").write_bytes(text.encode(encoding))
        assert load("csv", tmp_path / "list.csv").table[["emotion", "speaker"]].values.tolist() == [["anger", "ann"]]


def listed(folder: Path, rows: list[tuple[str, str]]) -> Path:
    """A CSV file of (speaker, sentence), a recording each."""
    lines = ["path,emotion,speaker,sentence"]
    for i, (speaker, sentence) in enumerate(rows):
        speak(folder / f"{i}.wav")
        lines.append(f'{i}.wav,anger,"{speaker}","{sentence}"')
    (folder / "list.csv").write_text("\n".join(lines), "utf-8")
    return folder / "list.csv"


SAME = ["f2 ", "F2", "f2", "f２", "f2\n", "\u200bf2", " f2", "f2\u00a0"]


def test_a_speaker_is_one_however_the_name_is_written(tmp_path: Path) -> None:
    with pytest.warns(CorpusWarning, match="taken for one speaker: .*'f2'"):
        table = load("csv", listed(tmp_path, [(name, name) for name in [*SAME, "f2"]])).table
    assert set(table["speaker"]) == {"f2"}  # the most frequent spelling
    assert table["sentence"].nunique() == 1


def test_one_spelling_is_kept_and_accents_of_a_mac_are_the_same(tmp_path: Path) -> None:
    table = load("csv", listed(tmp_path, [("André", "a"), ("Andre\u0301", "b"), ("ＬＩ", "c")])).table
    assert table["speaker"].nunique() == 2 and "ＬＩ" in set(table["speaker"])


def test_speakers_with_nearly_one_name_are_reported_and_kept_apart(tmp_path: Path) -> None:
    with pytest.warns(CorpusWarning, match="nearly the same: 'f-2' and 'f02' and 'f2'$"):
        table = load(
            "csv", listed(tmp_path, [("f2", "a"), ("f-2", "b"), ("f02", "c"), ("f3", "d"), ("f12", "e")])
        ).table
    assert table["speaker"].nunique() == 5


def test_no_name_that_is_accepted_has_a_line_break_or_is_empty(tmp_path: Path) -> None:
    table = load("csv", listed(tmp_path, [("f2\nx", "a\rb"), ("\t", "\u200b"), ("\x07", "\x00x")])).table
    assert set(table["speaker"]) == {"f2 x", "unknown"}
    assert (
        not table[["id", "speaker", "sentence"]].apply(lambda names: names.str.contains(r"[\x00-\x1f]")).any(axis=None)
    )
    assert (table[["id", "speaker", "sentence"]] != "").all(axis=None)


# --- corpora as they are found


def test_a_mirror_that_holds_every_file_twice_is_the_corpus_and_a_warning(tmp_path: Path) -> None:
    names = ["03-01-05-01-01-01-02.wav", "03-01-05-01-02-01-02.wav"]
    root = tree(tmp_path, [f"Actor_02/{name}" for name in names])
    before = load("ravdess", root)
    shutil.copytree(root / "Actor_02", root / "mirror" / "Actor_05")
    with pytest.warns(CorpusWarning, match="passed over 2 files: 2 bit-identical to another") as said:
        corpus = load("ravdess", root)
    assert len(said) == 1
    pd.testing.assert_frame_equal(corpus.table, before.table)
    assert len(corpus.passed_over["bit-identical to another"]) == 2
    report = check("ravdess", root)
    assert len(report.duplicates) == 2 and not report.ok
    speak(root / "other" / names[0])
    with pytest.raises(CorpusError, match="'03-01-05-01-01-01-02' is also .*; remove one of the two"):
        load("ravdess", root)


def test_three_copies_of_one_recording_are_one_and_not_all_well(tmp_path: Path) -> None:
    path = speak(tmp_path / "ann" / "anger" / "a.wav")
    for copy in ("b.wav", "copy of a.wav"):
        shutil.copy(path, path.with_name(copy))
    report = check("folder", tmp_path)
    assert len(report.duplicates) == 2 and not report.ok
    with pytest.warns(CorpusWarning, match="2 bit-identical"):
        assert len(load("folder", tmp_path)) == 1


def test_what_a_corpus_has_published_under_two_names_is_there_twice_and_said(tmp_path: Path) -> None:
    path = speak(tmp_path / "03-01-03-01-02-01-07.wav")
    shutil.copy(path, tmp_path / "03-01-03-01-02-02-07.wav")
    corpus = load("ravdess", tmp_path)
    assert len(corpus) == 2 and not corpus.passed_over
    assert totals(corpus)[-1] == "published twice: 03-01-03-01-02-01-07 = 03-01-03-01-02-02-07"
    report = check("ravdess", tmp_path)
    assert report.ok and len(report.twins) == 1


def test_one_recording_with_two_emotions_is_an_error(tmp_path: Path) -> None:
    path = speak(tmp_path / "anger" / "a.wav")
    (tmp_path / "sad").mkdir()
    shutil.copy(path, tmp_path / "sad" / "b.wav")
    with pytest.raises(CorpusError, match=r"sadness.*\ba\.wav.*anger"):
        load("folder", tmp_path)


def test_files_that_do_not_fit_the_tree_are_passed_over_with_one_warning(casia: Path) -> None:
    before = load("casia", casia)
    strays = [casia / "test.wav", casia / "wangzhe" / "angry" / "copy of 201.wav", casia / "notes" / "a.wav"]
    for stray in strays:
        speak(stray)
    with pytest.warns(CorpusWarning, match="passed over 3 files: 3 not named as .*notes/a.wav, test.wav") as said:
        corpus = load("casia", casia)
    assert len(said) == 1
    pd.testing.assert_frame_equal(corpus.table, before.table)
    assert len(check("casia", casia).extra) == 3


@pytest.mark.parametrize("kind", ["m4a", "opus", "wma", "aac", "amr", "MP4"])
def test_recordings_of_a_kind_that_is_not_read_are_counted_and_named(casia: Path, kind: str) -> None:
    for number in (203, 204):
        (casia / "wangzhe" / "angry" / f"{number}.{kind}").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(99))
    with pytest.warns(CorpusWarning, match=f"2 of a kind that is not read: convert to WAV .*203.{kind}.*204.{kind}"):
        assert len(load("casia", casia)) == 48
    report = check("casia", casia)
    assert len(report.unread) == 2 and not report.ok


def test_other_containers_are_read_where_they_can_be(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, RATE)
    (tmp_path / "sad").mkdir()
    for i, (suffix, kind) in enumerate({"opus": "OGG", "aiff": "AIFF", "w64": "W64", "au": "AU", "caf": "CAF"}.items()):
        subtype = "OPUS" if suffix == "opus" else "PCM_16"
        soundfile.write(tmp_path / "sad" / f"{i}.{suffix}", np.roll(samples, i), RATE, format=kind, subtype=subtype)
    assert len(load("folder", tmp_path)) == 5


def test_of_ravdess_speech_is_taken_once_and_song_and_video_are_said(tmp_path: Path) -> None:
    root = tree(tmp_path, ["Actor_01/03-01-05-01-01-01-01.wav", "Actor_01/03-02-05-01-01-01-01.wav"])
    shutil.copy(root / "Actor_01" / "03-01-05-01-01-01-01.wav", root / "Actor_01" / "01-01-05-01-01-01-01.wav")
    speak(root / "Actor_01" / "02-01-05-01-01-01-01.wav")
    with pytest.warns(CorpusWarning, match="2 the sound of a video.* 1 song, not speech"):
        assert load("ravdess", root).table["id"].tolist() == ["03-01-05-01-01-01-01"]
    report = check("ravdess", root)
    assert sorted(map(len, report.passed_over.values())) == [1, 2]
    assert any("song" in line for line in report.lines())
    (root / "Actor_01" / "03-01-05-01-01-01-01.wav").unlink()
    with pytest.raises(CorpusError, match="the sound of a video"):
        load("ravdess", root)


def test_no_two_folds_of_savee_share_a_sentence(tmp_path: Path) -> None:
    """3 sentences are common to all emotions, and 12 neutral ones are the others' own."""
    codes = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
    said = {
        code: [savee(PurePath(f"DC/{code}{i:02d}.wav")).sentence for i in range(1, n + 1)] for code, n in codes.items()
    }
    assert len({tuple(sentences[:3]) for sentences in said.values()}) == 1
    own = {sentence for code, sentences in said.items() if code != "n" for sentence in sentences[3:5]}
    assert set(said["n"][3:]) == own
    generic = [sentence for code, sentences in said.items() if code != "n" for sentence in sentences[5:]]
    assert len(set(generic)) == 60 and not set(generic) & {*own, *said["n"]}


def test_links_are_followed_once_and_never_upward(tmp_path: Path) -> None:
    root = tree(tmp_path / "corpus", ["ann/anger/a.wav"])
    outside = tree(tmp_path / "disk", ["bob/anger/b.wav", "bob/anger/c.wav"])
    here = root / "ann" / "anger"
    for name, target in {"up": "..", "self": "../anger", "root": "../../..", "disk": "/"}.items():
        (here / name).symlink_to(target)
    (here / "again.wav").symlink_to("a.wav")
    (root / "bob").symlink_to(outside / "bob")
    (root / "twice").symlink_to(outside / "bob")
    (here / "linked.wav").symlink_to(outside / "bob" / "anger" / "c.wav")
    assert [path.relative_to(root).as_posix() for path in files(root)] in (
        ["ann/anger/a.wav", "bob/anger/b.wav", "bob/anger/c.wav"],
        ["ann/anger/a.wav", "ann/anger/linked.wav", "bob/anger/b.wav"],
    )
    with pytest.warns(CorpusWarning, match="links lead out of it: .* -> "):
        load("folder", root)
    assert check("folder", root).links


def test_stats_and_check_say_what_there_is(casia: Path) -> None:
    lines = totals(load("casia", casia))
    assert lines[0].startswith("48 utterances, 6 emotions, 4 speakers, 2 sentences, ")
    assert len(lines) == 7 and lines[1].startswith("anger: 8 utterances, ")
    assert check("folder", casia).content == lines[0]


# --- a copy against its manifest


def compare(corpus: Corpus, root: Path) -> checking.CheckReport:
    return checking.compare("casia", root, grammar, checking.read_manifest(checking.manifest(corpus)))


def test_a_whole_copy_is_whole_in_whatever_layout(casia: Path, tmp_path: Path) -> None:
    corpus = load("casia", casia)
    flat = other_layout(casia, tmp_path / "flat", lambda speaker, label, sentence: f"{sentence}-{label}-{speaker}.wav")
    for root in (casia, flat):
        report = compare(corpus, root)
        assert report.ok
        assert report.lines() == [f"casia at {root}: 48 audio files, the manifest has 48: all well"]


def test_each_thing_that_is_wrong_is_named_under_what_it_is(casia: Path) -> None:
    corpus = load("casia", casia)
    here = casia / "wangzhe"
    (here / "fear" / "201.wav").unlink()
    cut = here / "angry" / "201.wav"
    cut.write_bytes(cut.read_bytes()[:-400])
    shortened = here / "angry" / "202.wav"
    audio.write(shortened, audio.read(shortened)[:-200])
    altered = here / "sad" / "201.wav"
    samples = audio.read(altered)
    samples[5] += 0.01
    audio.write(altered, samples)
    (here / "sad" / "202.wav").write_bytes(b"no audio")
    audio.write(here / "happy" / "201.wav", np.zeros(8_000))
    more = [speak(here / "happy" / "203.wav"), speak(casia / "lisi" / "sad" / "201.wav"), speak(here / "x.wav")]
    twice = speak(casia / "fear" / "202-fear-wangzhe.wav")

    report = compare(corpus, casia)
    assert not report.ok
    assert report.missing == ["wangzhe-fear-201"]
    assert [line.split(" ")[0] for line in report.truncated] == ["wangzhe-anger-201", "wangzhe-anger-202"]
    assert [line.split(" ")[0] for line in report.altered] == ["wangzhe-sadness-201"]
    assert [line.split(" ")[0] for line in report.unreadable] == ["wangzhe-happiness-201", "wangzhe-sadness-202"]
    assert len(report.extra) == 4
    for path in more:
        assert any(line.startswith(f"{path}: ") for line in report.extra)
    # Of two files of one utterance, the one with other samples is the extra one.
    assert any(line.startswith(f"{twice}: wangzhe-fear-202 is also {here}") for line in report.extra)
    summary, *lines = report.lines()
    assert summary.endswith(": 1 missing, 4 extra, 2 truncated, 1 altered, 2 unreadable")
    assert len(lines) == 10 and all("\n" not in line for line in lines)


def test_a_check_of_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(CorpusError, match="no audio files found; give the directory"):
        check("casia", tmp_path)
    with pytest.raises(CorpusError, match="no such directory"):
        check("casia", tmp_path / "missing")
    with pytest.raises(CorpusError, match="is its own manifest"):
        check("csv", tmp_path / "list.csv")


def test_the_committed_manifest_is_of_the_1200(casia: Path) -> None:
    published = manifest("casia")
    assert published is not None and len(published) == 1200
    grid = itertools.product(SPEAKERS.values(), COMMON[:6], range(201, 251))
    assert set(published.index) == {f"{speaker}-{name}-{sentence}" for speaker, name, sentence in grid}
    assert published["sha256"].str.fullmatch("[0-9a-f]{64}").all() and published["sha256"].is_unique
    assert published["seconds"].between(0.955, 4.934).all()
    assert published["seconds"].mean() == pytest.approx(1.9056, abs=1e-4)

    report = check("casia", casia)  # noise under CASIA's names
    assert len(report.missing) == 1200 - 48 and len(report.truncated) == 48


def test_tabulating_does_not_depend_on_the_order_of_files(casia: Path) -> None:
    found = list(scan(casia, grammar))
    pd.testing.assert_frame_equal(
        tabulate("casia", casia, found).table, tabulate("casia", casia, reversed(found)).table
    )
