"""A damaged file is judged like its original or refused in one line, whatever was done to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings

from hmoe.base.errors import AudioError
from hmoe.bench import damage
from hmoe.bench.damage import RIGHT, Damaged, damaged, fate, judged, originals
from hmoe.corpora.audio import READ

GIVES_UP = "import faulthandler, time; faulthandler.dump_traceback_later(1, exit=True); time.sleep(99)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def cut(name: str, share: float) -> Damaged:
    return Damaged(name, ("cuts",), originals()[name][: int(share * len(originals()[name]))])


@pytest.mark.filterwarnings("ignore::hmoe.corpora.audio.ConversionWarning")
@given(case=damaged())
@example(case=cut("FLAC PCM_16", 0.5))
@example(case=cut("OGG VORBIS", 0.9))
@example(case=cut("CAF PCM_16", 0.9))
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_is_damaged_is_judged_or_refused_in_one_line(folder: Path, case: Damaged) -> None:
    found = fate(case, folder)
    assert found in RIGHT
    if case.damages == ("cuts",) and originals()[case.original].startswith(case.content):
        assert found in ("refused", "like its original")  # that something is missing can be told


def changed(name: str, at: int, new: bytes) -> Damaged:
    content = originals()[name]
    return Damaged(name, ("bits",), content[:at] + new + content[at + len(new) :])


@pytest.mark.filterwarnings("ignore::hmoe.corpora.audio.ConversionWarning")
def test_what_is_left_of_a_file_is_never_taken_for_the_whole(folder: Path) -> None:
    """Ten thousand damaged files had these among them: half of each was judged."""
    alac, rf64, mp3 = (originals()[name] for name in ("CAF ALAC_32", "RF64 ALAW", "MP3 MPEG_LAYER_III"))
    packets = alac.index(b"pakt") + 36  # the length of the first one, of two bytes
    other_length = changed("CAF ALAC_32", packets, bytes([alac[packets] ^ 4]))
    without_lengths = Damaged("RF64 ALAW", ("bits", "cuts"), rf64.replace(b"ds64", b"ds65")[: len(rf64) // 3])
    assert [fate(case, folder) for case in (other_length, without_lengths)] == ["refused", "refused"]
    pushed = bytearray(mp3[:6] + b"junk\4\0\0\0abcd" + mp3[6:])
    pushed[34], pushed[139] = 8, 223  # the number of frames; the first of them
    for at in range(8, 140, 4):  # a length that leads beyond what can be sought
        assert fate(changed("CAF ALAC_16", at, b"\x7f" + b"\xff" * 7), folder) in RIGHT
    moved = Damaged("MP3 MPEG_LAYER_III", ("bits", "chunks"), bytes(pushed))
    renamed = changed("MP3 MPEG_LAYER_III", mp3.index(b"Xing"), b"Ting")
    assert [fate(case, folder) for case in (moved, renamed)] == ["like its original", "like its original"]


@pytest.mark.filterwarnings("ignore::hmoe.corpora.audio.ConversionWarning")
def test_what_no_reader_can_tell_has_words_of_its_own(folder: Path) -> None:
    silenced = changed("WAV PCM_16", 2_000, bytes(12_000))
    assert fate(silenced, folder) == "other samples"
    assert fate(changed("AU PCM_16", 16, (11_025).to_bytes(4, "big")), folder) == "other rate or channels"


@pytest.mark.filterwarnings("ignore::hmoe.corpora.audio.ConversionWarning")
def test_the_originals_are_judged_wherever_their_kind_is_read(folder: Path) -> None:
    assert len(originals()) > 90
    said = {name: judged(content, folder) for name, content in originals().items()}
    refused = {name for name, found in said.items() if isinstance(found, AudioError)}
    assert {name.partition(" ")[0] for name in said.keys() - refused} == READ
    assert {name.partition(" ")[0] for name in refused} >= {"AVR", "IRCAM", "PAF", "PVF", "XI"}


def test_a_crash_and_a_hang_of_a_decoder_are_counted_and_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    done = ['["A B", "bits"]', '["A B", "bits", "refused"]', '["C D", "cuts"]']
    for end, expected in (("import os; os.abort()", "crash"), (GIVES_UP, "hang")):
        script = f"print({chr(10).join(done)!r}, flush=True); {end}"
        monkeypatch.setattr(damage, "_command", lambda *_, script=script: [damage.sys.executable, "-c", script])
        found = damage._in_another_process(0, 2)
        assert found == [("A B", "bits", "refused"), ("C D", "cuts", expected)]
