"""Valid files of every container that libsndfile writes, damaged at random: judged like their originals, or refused.

Two kinds of damage no reader can tell, and they are counted apart: other samples in a container that is whole (FLAC and
OGG alone have a checksum), and a rate or number of channels that another file could have (AU, AIFF and CAF say each
once). `hmoe bench damage` counts what became of ten thousand. They are judged by other processes, a few hundred by
each, so that a crash or a hang of a decoder is counted and ends nothing. `damaged` is what the tests draw from.
"""

from __future__ import annotations

import faulthandler
import io
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
import torch
from tqdm import tqdm

from hmoe.base import stamp
from hmoe.base.errors import AudioError
from hmoe.base.extras import need
from hmoe.base.files import atomic_write, results_dir
from hmoe.config import Config
from hmoe.corpora import audio, containers
from hmoe.use import predict
from hmoe.use.pretrained import Judgement, Pretrained

RATE = 16_000
NARROW = {"GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "ALAW"}  # codecs of telephones: 8 kHz
APART = {"RAW", "SD2"}  # no container; a header in a second file
DAMAGES = ("bits", "lengths", "chunks", "cuts")
RIGHT = ("refused", "like its original", "other samples", "other rate or channels")
FATES = (*RIGHT, "otherwise", "crash", "hang", "fault")
AT_ONCE, PATIENCE = 500, 300  # files of one process; s for one of them
PROBABILITY, SECONDS = 0.05, 0.05  # how far a judgement may be from the original's and be like it
PADDING = 0.15  # s: what an MP3's encoder puts around it, which is heard where the frame that tells of it is hit


class Damaged(NamedTuple):
    """The content of a file, of which original it was and what was done to it, in order."""

    original: str
    damages: tuple[str, ...]
    content: bytes


@cache
def originals() -> dict[str, bytes]:
    """Half a second of speech-like sound in each container and codec that can be written, by "CONTAINER CODEC"."""
    found = {}
    for container in soundfile.available_formats():
        for codec in soundfile.available_subtypes(container) if container not in APART else ():
            rate, buffer = 8_000 if codec in NARROW else RATE, io.BytesIO()
            t = np.arange(rate // 2) / rate
            pitch = 2 * np.pi * np.cumsum(140 + 60 * np.sin(2 * np.pi * 3 * t)) / rate
            voice = sum(np.sin(k * pitch) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))
            try:
                soundfile.write(buffer, 0.2 * voice, rate, format=container, subtype=codec)
            except (soundfile.SoundFileError, ValueError):
                continue
            if len(buffer.getvalue()) > 1_000:
                found[f"{container} {codec}"] = buffer.getvalue()
    return found


def damaged() -> Any:
    """A hypothesis strategy of `Damaged`: one to three damages, more often where headers are."""
    st = need("hypothesis.strategies", "bench damage")

    @st.composite
    def strategy(draw: Callable) -> Damaged:
        name = draw(st.sampled_from(sorted(originals())))
        content, damages = bytearray(originals()[name]), []
        for kind in draw(st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=3)):
            if len(content) < 16:
                break
            damages.append(kind)
            anywhere, head = st.integers(0, len(content) - 9), st.integers(0, min(127, len(content) - 9))
            at = draw(st.one_of(head, anywhere))
            if kind == "bits":
                for where in [at, *draw(st.lists(st.one_of(head, anywhere), max_size=7))]:
                    content[where] ^= 1 << draw(st.integers(0, 7))
            elif kind == "lengths":
                width, n = draw(st.sampled_from([2, 4, 8])), len(content)
                known = [0, 1, n - 1, n, n + 1, 2 * n, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
                value = draw(st.one_of(st.sampled_from(known), st.integers(0, 2 * n))) % 256**width
                content[at : at + width] = value.to_bytes(width, draw(st.sampled_from(["little", "big"])))
            elif kind == "chunks":
                length = draw(st.integers(1, 200))
                part = bytes(content[at : at + length])
                what = draw(st.sampled_from(["lost", "twice", "zeros", "another"]))
                content[at : at + length] = {
                    "lost": b"", "twice": 2 * part, "zeros": bytes(len(part)), "another": b"junk\4\0\0\0abcd" + part,
                }[what]  # fmt: skip
            else:
                end = draw(st.integers(0, len(content)))
                content = content[:end] if draw(st.booleans()) else content[-end:]
        return Damaged(name, tuple(damages), bytes(content))

    return strategy()


@cache
def model() -> Pretrained:
    """One that judges fast; whether it is right does not matter here."""
    torch.manual_seed(0)
    config = Config(d_model=16, heads=2, einfft_blocks=2, d_state=4, d_selected=8, router_width=8)
    return Pretrained(config, ["anger", "sadness", "neutral"], {"corpus": "none"}).eval()


def judged(content: bytes, folder: Path) -> Judgement | AudioError:
    """What `hmoe predict` says of a file with this content. Anything that it raises is a fault."""
    path = folder / "file"
    path.write_bytes(content)
    said = predict.answers(model(), [str(path)], io.BytesIO())
    (one,) = [*said.judged, *said.refused]
    return one


@cache
def reference(name: str) -> Judgement | AudioError:
    """What is said of an original."""
    with tempfile.TemporaryDirectory() as folder:
        return judged(originals()[name], Path(folder))


def fate(damaged: Damaged, folder: Path) -> str:
    """What became of a damaged file, one of `FATES`."""
    try:
        found, whole = judged(damaged.content, folder), reference(damaged.original)
    except Exception:  # which `predict` has to have turned into a line
        return "fault"
    if isinstance(found, AudioError):
        line = str(found)
        return "refused" if "\n" not in line and found.remedy and "cannot be judged (" not in line else "fault"
    if not np.isfinite(list(found.probabilities.values())).all():
        return "fault"
    if isinstance(whole, AudioError):
        return "otherwise"
    if _shape(damaged.content) != _shape(originals()[damaged.original]):
        return "other rate or channels"
    longer = found.seconds - whole.seconds
    if not -SECONDS <= longer <= (PADDING if damaged.original.startswith("MP3") else SECONDS):
        return "otherwise"
    apart = max(abs(found.probabilities[name] - whole.probabilities[name]) for name in whole.probabilities)
    return "like its original" if apart <= PROBABILITY else "other samples"


def _shape(content: bytes) -> tuple[int, int]:
    """What a file says of its rate and channels."""
    mended = containers.check(io.BytesIO(content), "a file")
    with audio.Stream(io.BytesIO(content if mended is None else mended)) as sound:
        return sound.samplerate, sound.channels


def bench_damage(files: int = 10_000, seed: int = 0, jobs: int = 1, progress: bool = True) -> pd.DataFrame:
    """Damage and judge so many files, in `jobs` processes at a time.

    Writes `results/bench/damage.csv`, a line for each container and damage.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    bar = tqdm(total=files, unit="file", desc="damaged", disable=not progress)
    parts = [AT_ONCE] * (files // AT_ONCE) + [files % AT_ONCE] * bool(files % AT_ONCE)
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(_in_another_process, range(seed, seed + len(parts)), parts):
            for original, kind, what in found:
                counts[original.partition(" ")[0], kind, what] += 1
            bar.update(len(found))
    rows = {(container, kind): dict.fromkeys(FATES, 0) for container, kind, _ in sorted(counts)}
    for (container, kind, what), count in counts.items():
        rows[container, kind][what] = count
    made = {"commit": stamp.commit(), "date": stamp.now(), "machine": stamp.machine()}
    table = pd.DataFrame(
        {"container": container, "damage": kind, "files": sum(row.values()), **row, **made}
        for (container, kind), row in rows.items()
    )
    atomic_write(results_dir() / "bench" / "damage.csv", table.to_csv(index=False, lineterminator="\n"))
    return table


def _in_another_process(seed: int, n: int) -> list[tuple[str, str, str]]:
    """Original, damage and fate of each of `n` files; whatever ends the process is the fate of the one it was at."""
    done = subprocess.run(_command(seed, n), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found, begun = [], None
    for line in done.stdout.decode(errors="replace").splitlines():
        if not line.startswith('["'):  # of a decoder, or of hypothesis
            continue
        said = json.loads(line)
        begun = said if len(said) == 2 else None
        if begun is None:
            found.append(tuple(said))
    if done.returncode and begun:  # a signal is negative; faulthandler gives up with 1
        found.append((*begun, "hang" if done.returncode == 1 else "crash"))
    return found


def _command(seed: int, n: int) -> list[str]:
    return [sys.executable, "-m", "hmoe.bench.damage", str(seed), str(n)]


def _judge_some(seed: int, n: int) -> None:
    """Print, as JSON lines, each file before it is judged and what became of it."""
    hypothesis = need("hypothesis", "bench damage")
    checks = list(hypothesis.HealthCheck)
    with tempfile.TemporaryDirectory() as folder:

        @hypothesis.settings(max_examples=n, deadline=None, database=None, suppress_health_check=checks)
        @hypothesis.seed(seed)
        @hypothesis.given(damaged())
        def judge(case: Damaged) -> None:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)  # which no decoder can hold up
            kind = "+".join(sorted(set(case.damages)))
            print(json.dumps([case.original, kind]), flush=True)
            print(json.dumps([case.original, kind, fate(case, Path(folder))]), flush=True)

        reference("WAV PCM_16")  # what is compiled when it is first used takes its time, and is no hang
        judge()


if __name__ == "__main__":
    _judge_some(int(sys.argv[1]), int(sys.argv[2]))
