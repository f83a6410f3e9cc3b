"""What an audio file says of itself: its kind, how long it is, where it ends, its checksum.

libsndfile returns what there is of a file that was cut off, and says nothing; so its header is read here first. A
length is held against a file only where it can be meant: a program that writes to a pipe does not know it, and writes
nothing or the most there can be.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from hmoe.base.errors import AudioError

UNMEANT = 0x7FFF_0000  # bytes: what GStreamer writes where it does not know; sox, arecord and ffmpeg write more
AGAIN = "copy it again from its source"
CONVERT = "convert it to WAV, e.g. `ffmpeg -i FILE out.wav`"
TAIL = 1 << 17  # bytes: an OGG page has at most half as many

FOREIGN = [
    (4, b"ftyp", "M4A, MP4 or 3GP", CONVERT),
    (0, bytes.fromhex("3026b2758e66cf11"), "WMA", CONVERT),
    (0, b"#!AMR", "AMR", CONVERT),
    (0, bytes.fromhex("1a45dfa3"), "WebM or Matroska", CONVERT),
    (0, b"ADIF", "AAC", CONVERT),
    (0, b"MAC ", "APE", CONVERT),
    (0, b"wvpk", "WavPack", CONVERT),
    (0, b".RMF", "RealMedia", CONVERT),
    (0, b".ra\xfd", "RealAudio", CONVERT),
    (0, b"\x0b\x77", "AC-3", CONVERT),
    (0, b"DSD ", "DSD", CONVERT),
    (0, b"ajkg", "Shorten", CONVERT),
    (0, b"\x00\x00\x01\xba", "MPEG video", CONVERT),
    (8, b"AVI ", "AVI video", CONVERT),
    (0, b"MThd", "MIDI", "give a recording: it holds notes"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "fetch the recording: `git lfs pull`"),
    (0, b"<!DOCTYPE", "a web page", "download the recording again"),
    (0, b"<html", "a web page", "download the recording again"),
    (0, b"%PDF", "a PDF", "give a recording"),
]
"""Where which bytes stand in files that are often taken for recordings; what they are; what to do."""

KNOWN = (
    b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b"caff", b".snd", b"dns.", b"NIST", b"fLaC", b"OggS", b"ID3", b"Crea",
)  # fmt: skip


class Truncated(AudioError):
    """A file that ends before its header says so."""


class Chunks(NamedTuple):
    """How a family of containers lays its chunks out: name, length, content, and again."""

    start: int  # of the first chunk
    name: int  # bytes of a chunk's name
    length: int  # bytes of its length
    order: str
    pad: int  # a chunk begins at a multiple of it
    holds: tuple[bytes, ...]  # the chunk with the samples
    counts_itself: bool = False


FAMILIES = {
    b"RIFF": Chunks(12, 4, 4, "little", 2, (b"data",)),
    b"RF64": Chunks(12, 4, 4, "little", 2, (b"data",)),
    b"RIFX": Chunks(12, 4, 4, "big", 2, (b"data",)),
    b"FORM": Chunks(12, 4, 4, "big", 2, (b"SSND", b"BODY")),
    b"riff": Chunks(40, 16, 8, "little", 8, (b"data",), counts_itself=True),
    b"caff": Chunks(8, 4, 8, "big", 1, (b"data",)),
}


def readable(head: bytes) -> bool:
    """Whether a file that begins so is of a kind that is read."""
    return head.startswith(KNOWN) or _is_mp3(head)


def foreign(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins so and is often taken for a recording that is read, and what to do."""
    for at, mark, kind, remedy in FOREIGN:
        if head[at:].startswith(mark):
            return kind, remedy
    return ("AAC", CONVERT) if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 else None


def check(file: BinaryIO, where: object) -> bytes | None:
    """Raise Truncated for a file that is shorter than it says, AudioError for one that is empty or of another kind.

    Of a file whose length nobody knew, the content with the length that it has; None of all others.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if not size:
        raise AudioError(where, "empty file", AGAIN)
    if kind := foreign(head):
        raise AudioError(where, f"{kind[0]}, which is not read", kind[1])
    if family := FAMILIES.get(head[:4]):
        if head.startswith(b"caff"):
            _check_packets(file, size, family, where)
        return _check_chunks(file, size, head, family, where)
    if head[:4] in (b".snd", b"dns."):
        order = "big" if head[:4] == b".snd" else "little"
        begin, announced = (int.from_bytes(head[at : at + 4], order) for at in (4, 8))
        if not _compare(file, size, begin, announced, where):
            return _mended(file, size, 8, 4, order, size - begin)
    elif head.startswith(b"NIST_1A"):
        _check_nist(file, size, where)
    elif head.startswith(b"Creative Voice File"):
        _check_voc(file, size, where)
    elif head.startswith(b"OggS"):
        _check_ogg(file, size, where)
    elif xing := _xing(file):
        _check_mp3(*xing, size, where)
    return None


def estimated(file: BinaryIO) -> bool:
    """Whether a file is an MP3 without the frame that tells its length, as encoders write to a pipe."""
    xing = _xing(file)
    return xing is not None and not (xing[1][:4] in (b"Xing", b"Info") and xing[1][7] & 1)


def _xing(file: BinaryIO) -> tuple[int, bytes] | None:
    """Of an MP3 where its first frame begins, and what that tells of the others, if anything; None for other files."""
    file.seek(0)
    head = file.read(10)
    begin = _after_id3(head)
    if not begin and not _is_mp3(head):
        return None
    file.seek(begin)
    first = file.read(TAIL)
    start = next((i for i in range(len(first)) if _is_mp3(first[i : i + 2])), 0)
    return begin + start, _told(first[start : start + 64])


def _told(frame: bytes) -> bytes:
    """What the first frame of an MP3 tells of the others, where decoders look for it: behind zeros alone."""
    if len(frame) < 4:
        return b""
    lsf, mono = not frame[1] & 8, frame[3] >> 6 == 3
    behind = 4 + ((9 if mono else 17) if lsf else (17 if mono else 32))
    for tag, at in ((b"Xing", behind), (b"Info", behind), (b"VBRI", 36)):
        if frame[at:].startswith(tag) and not any(frame[6:at]) and len(frame) >= at + 16:
            return frame[at : at + 16]
    return b""


def _check_mp3(begin: int, told: bytes, size: int, where: object) -> None:
    held, announced = size - begin, 0
    if told[:4] in (b"Xing", b"Info") and told[7] & 3 == 3:  # it tells the number of frames, and of bytes
        announced = int.from_bytes(told[12:16], "big")
    elif told.startswith(b"VBRI"):
        announced = int.from_bytes(told[10:14], "big")
    if held < 0.99 * announced:
        raise Truncated(where, f"truncated: {held} of {announced} bytes", AGAIN)


def _after_id3(head: bytes) -> int:
    """Where the tag ends that some programs put before the audio; 0 without one."""
    if not head.startswith(b"ID3") or len(head) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def check_flac(file: BinaryIO, samples: np.ndarray, where: object) -> None:
    """Raise AudioError unless `samples` (n, channels), int32 from full scale, have the checksum that the file gives."""
    file.seek(0)
    file.seek(_after_id3(file.read(10)))
    information = file.read(42)
    bits = ((information[20] & 1) << 4 | information[21] >> 4) + 1
    given, width = information[26:42], -(-bits // 8)
    whole = np.ascontiguousarray(samples >> (32 - bits)).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :width]
    if information.startswith(b"fLaC") and any(given) and hashlib.md5(whole.tobytes()).digest() != given:
        raise AudioError(where, "damaged: its samples do not have its checksum", AGAIN)


def _is_mp3(head: bytes) -> bool:
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6)


def _compare(file: BinaryIO, size: int, begin: int, announced: int, where: object) -> bool:
    """`announced` bytes of samples from `begin` on, against what there is; False if that many cannot be meant."""
    held = size - begin
    if not 0 < announced < UNMEANT:
        return False
    if held < announced:
        raise Truncated(where, f"truncated: {max(held, 0)} of {announced} bytes of samples", AGAIN)
    file.seek(begin + announced)
    if file.read(TAIL).strip(b"\0"):
        what = f"damaged: its header tells of {announced} of {held} bytes of samples"
        raise AudioError(where, what, AGAIN)
    return True


def _mended(file: BinaryIO, size: int, at: int, width: int, order: str, length: int) -> bytes | None:
    """The content of a file with `length` in the `width` bytes at `at`; None where nothing can be mended."""
    if not 0 < length < min(UNMEANT, size):
        return None
    file.seek(0)
    content = file.read()
    return content[:at] + length.to_bytes(width, order) + content[at + width :]


def _check_chunks(file: BinaryIO, size: int, head: bytes, family: Chunks, where: object) -> bytes | None:
    said, long = int.from_bytes(head[4:8], family.order), None
    end = min(size, said + 8) if 0 < said < UNMEANT and family.start == 12 else size
    for name, begin, announced in _walk(file, family):
        held = size - begin
        if name == b"ds64":  # of RF64, which has lengths of 64 bits
            file.seek(begin + 8)
            long = int.from_bytes(file.read(8), family.order)
        elif name == b"fmt " and held >= 16:
            file.seek(begin)
            _check_format(file.read(16), family.order, where)
        if name not in family.holds:
            if announced > held:
                break
            continue
        if long is not None and announced == 0xFFFF_FFFF:
            announced = long
        elif head.startswith(b"RF64") and announced == 0xFFFF_FFFF:
            raise AudioError(where, "damaged: an RF64 without the chunk that tells its lengths", AGAIN)
        after = begin + (announced + -announced % family.pad if announced < UNMEANT else 0)
        file.seek(after)
        chunk_follows = re.fullmatch(rb"[ -~]{4}.*|\0+", file.read(family.name), re.DOTALL)
        if not 0 < announced < UNMEANT:
            if held < 8 or announced == 0 and chunk_follows:
                return None  # there are no samples
            own = family.name + family.length if family.counts_itself else 0
            return _mended(file, size, begin - family.length, family.length, family.order, held + own)
        if held < announced:
            raise Truncated(where, f"truncated: {held} of {announced} bytes of samples", AGAIN)
        if end - after >= 8 and not chunk_follows:
            raise AudioError(where, f"damaged: its header tells of {announced} of {held} bytes of samples", AGAIN)
        return None
    raise Truncated(where, "truncated: ends before its samples", AGAIN)


def _walk(file: BinaryIO, family: Chunks) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and length of each chunk's content."""
    at, header, size = family.start, family.name + family.length, file.seek(0, os.SEEK_END)
    while at + header <= size:  # a length may lead beyond what can be sought
        file.seek(at)
        head = file.read(header)
        length = int.from_bytes(head[family.name :], family.order)
        length = max(0, length - header) if family.counts_itself else length
        yield head[:4], at + header, length
        at += header + length + -length % family.pad


def _check_packets(file: BinaryIO, size: int, family: Chunks, where: object) -> None:
    """Of a CAF whose packets differ in length (ALAC), their table must add up to the samples."""
    chunks = {name: (begin, length) for name, begin, length in _walk(file, family)}
    begin, length = chunks.get(b"pakt", (0, 0))
    held = chunks.get(b"data", (0, 0))[1] - 4  # after the number of edits
    if not length or not 0 < held < UNMEANT:
        return
    file.seek(begin)
    table = file.read(min(length, size))
    packets = re.findall(rb"[\x80-\xff]*[\0-\x7f]", table[24:])[: int.from_bytes(table[:8], "big")]
    announced = sum((byte & 0x7F) << 7 * i for packet in packets for i, byte in enumerate(reversed(packet)))
    if announced and announced != held:
        raise AudioError(where, f"damaged: its table of packets tells of {announced} of {held} bytes of samples", AGAIN)


def _check_format(fields: bytes, order: str, where: object) -> None:
    tag, _, rate, speed, frame = (
        int.from_bytes(fields[at:to], order) for at, to in ((0, 2), (2, 4), (4, 8), (8, 12), (12, 14))
    )
    if tag in (1, 3, 6, 7, 0xFFFE) and speed and speed != rate * frame:
        what = f"damaged: its header tells of {rate} Hz with {frame} bytes each, and of {speed} bytes a second"
        raise AudioError(where, what, "copy it again from its source, or export it again")


def _check_nist(file: BinaryIO, size: int, where: object) -> None:
    file.seek(0)
    head = file.read(4096)
    begin = re.match(rb"NIST_1A\s+(\d{1,6})\s", head)
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    count, channels, width = (re.search(rb"%s -i (\d{1,12})\b" % name, head) for name in names)
    if not (begin and count and channels):
        raise AudioError(where, "damaged: a header that does not say how many samples follow", AGAIN)
    announced = int(count[1]) * int(channels[1]) * (int(width[1]) if width else 1)  # mu-law and A-law have one byte
    _compare(file, size, int(begin[1]), announced, where)


def _check_voc(file: BinaryIO, size: int, where: object) -> None:
    file.seek(20)
    at = int.from_bytes(file.read(2), "little")
    while at + 4 <= size:
        file.seek(at)
        head = file.read(4)
        if head[0] == 0:
            break
        held, announced = size - at - 4, int.from_bytes(head[1:], "little")
        if held < announced:
            raise Truncated(where, f"truncated: {held} of {announced} bytes of samples", AGAIN)
        at += 4 + announced


def _check_ogg(file: BinaryIO, size: int, where: object) -> None:
    """The last page must be whole, and say that it is the last."""
    begin = max(0, size - TAIL)
    file.seek(begin)
    tail = file.read(TAIL)
    page = tail[tail.rfind(b"OggS") :]
    if len(page) >= 27 and page[5] & 4:
        lengths = page[27 : 27 + page[26]]
        if len(lengths) == page[26] and len(page) >= 27 + len(lengths) + sum(lengths):
            return
    raise Truncated(where, "truncated: ends before its last page", AGAIN)
