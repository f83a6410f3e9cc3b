"""The bank holds what features and augment make, is the same however it is built, and mends itself."""

from __future__ import annotations

import logging
import pickle
import resource
from pathlib import Path

import joblib
import numpy as np
import pytest
import soundfile

from hmoe import augment, features
from hmoe.base.errors import AudioError, StoreError
from hmoe.config import Config
from hmoe.corpora import Corpus, Utterance
from hmoe.corpora.table import tabulate
from hmoe.inputs import bank
from hmoe.inputs.bank import Bank, build

CONFIG = Config(frame_stride=4, copies=2)
LENGTHS = (1600, 4800, 2400, 500, 3200)  # samples


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path))
    return tmp_path


def make_corpus(root: Path, seed: int = 0) -> Corpus:
    found = []
    for i, length in enumerate(LENGTHS):
        path = root / f"{i}.wav"
        samples = np.random.default_rng([seed, i]).standard_normal(length) / 10
        soundfile.write(path, np.sin(np.arange(length) / (5 + i)) / 4 + samples, 16_000)
        found.append((path, Utterance(f"u{i}", "s", "anger", str(i))))
    return tabulate("tiny", root, found)


def build_quietly(corpus: Corpus, config: Config = CONFIG, workers: int = 1, **kwargs: bool) -> Bank:
    return build(corpus, config, workers=workers, progress=False, **kwargs)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def expected_frames(corpus: Corpus, i: int, copy: int, config: Config = CONFIG) -> np.ndarray:
    drawn = augment.draw(corpus.table["id"][i], copy, config)
    return features.extract(augment.apply(corpus.waveform(i), drawn, 16_000), config)


@pytest.mark.parametrize("excess", [-301, 0, 300, 301])
def test_pad_to_cuts_or_pads_both_sides_alike(excess: int) -> None:
    wanted = Config(pad_to=4000)
    samples = np.arange(1, 4001 + excess, dtype=np.float32)
    found = bank.at_rate(samples, wanted)
    before = abs(excess) // 2
    if excess < 0:
        assert not found[:before].any() and (found[before : before + len(samples)] == samples).all()
        assert not found[before + len(samples) :].any()
    else:
        assert (found == samples[before : before + 4000]).all()
    assert len(found) == 4000


def test_pad_to_counts_samples_of_the_features_own_rate() -> None:
    at_22 = Config(pad_to=88_000, sample_rate=22_050, hop=512, n_fft=2048, window=2048)
    assert len(bank.heard(np.zeros(16_000, np.float32), at_22)) == 172


def test_it_holds_the_features_of_every_utterance_and_copy(corpus: Corpus) -> None:
    built = build_quietly(corpus, frames=True)
    assert built.ids == [f"u{i}" for i in range(5)] and built.copies == 2
    for copy in range(3):
        rows, copies = np.array([3, 0, 4, 1, 2, 0]), np.full(6, copy)
        expected = [expected_frames(corpus, i, copy) for i in rows]
        pooled = built.pooled(rows, copies)
        assert pooled.shape == (6, 260) and pooled.dtype == np.float32
        np.testing.assert_allclose(pooled, [features.pool(frames) for frames in expected], rtol=1e-5, atol=1e-4)
        statistics = built.statistics(rows, copies)
        assert statistics.shape == (6, 1300) and statistics.dtype == np.float32
        np.testing.assert_allclose(statistics, [features.statistics(f) for f in expected], rtol=1e-5, atol=1e-4)
        for found, frames in zip(built.frames(rows, copies, stride=4), expected, strict=True):
            assert found.dtype == np.float32
            # Half precision: 11 bits of the distance from the mean.
            spread = np.abs(frames - features.pool(frames)).max(axis=0)
            assert (np.abs(found - features.thin(frames, 4)) <= spread / 2**11 + 1e-4).all()


def test_a_batch_mixes_copies_and_statistics_are_clean_by_default(corpus: Corpus) -> None:
    built = build_quietly(corpus)
    mixed = built.pooled(np.array([1, 1]), np.array([0, 2]))
    np.testing.assert_array_equal(mixed[:1], built.pooled(np.array([1]), np.array([0])))
    np.testing.assert_array_equal(mixed[1:], built.pooled(np.array([1]), np.array([2])))
    np.testing.assert_array_equal(built.statistics(np.array([1]))[:, :260], mixed[:1])


def test_the_number_of_workers_changes_no_bit(corpus: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for workers in (1, 2):
        monkeypatch.setenv("HMOE_CACHE", str(cache / str(workers)))
        build_quietly(corpus, workers=workers, frames=True)
    alone, shared = contents(cache / "1"), contents(cache / "2")
    assert alone == shared and len(alone) == 12  # 3 copies, statistics and frames, each with its checksum


def test_two_processes_may_build_one_bank_at_once(corpus: Corpus, cache: Path) -> None:
    one, two = joblib.Parallel(2)(joblib.delayed(_build_in)(cache, corpus) for _ in range(2))
    assert one == two
    assert all(bank.intact(one.path("statistics", copy)) for copy in range(3))
    assert not list(cache.rglob("*.tmp"))


def _build_in(cache: Path, corpus: Corpus) -> Bank:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HMOE_CACHE", str(cache))
        return build_quietly(corpus)


def test_what_is_there_is_not_built_again(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    built = build_quietly(corpus)
    bank.sidecar(built.path("statistics", 1)).unlink()
    built.path("statistics", 1).unlink()
    kept = {copy: built.path("statistics", copy).stat().st_ino for copy in (0, 2)}
    build_quietly(corpus)
    assert {copy: built.path("statistics", copy).stat().st_ino for copy in (0, 2)} == kept
    assert bank.intact(built.path("statistics", 1))
    assert not caplog.records  # missing is not damaged


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lose_checksum(path: Path) -> None:
    bank.sidecar(path).unlink()


def spoil_checksum(path: Path) -> None:
    bank.sidecar(path).write_text("[1, 2")


def lose_array(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, empty, lose_checksum, spoil_checksum, lose_array])
@pytest.mark.parametrize("kind", ["statistics", "frames-4"])
def test_damage_is_mended_and_said(
    damage, kind: str, corpus: Corpus, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_quietly(corpus, frames=True)
    whole, path = contents(cache), built.path(kind, 1)
    damage(path)
    assert contents(cache) != whole
    with caplog.at_level(logging.WARNING):
        build_quietly(corpus, frames=True)
    assert contents(cache) == whole
    # Without a checksum it may be what another process just writes, which is no damage to speak of.
    said = [f"{path}: half-written or damaged; computed again"] * (damage is not lose_checksum)
    assert [record.getMessage() for record in caplog.records] == said


def test_frames_are_added_to_a_bank_without_them(corpus: Corpus, cache: Path) -> None:
    build_quietly(corpus)
    assert not list(cache.rglob("*frames*"))
    built = build_quietly(corpus, frames=True)
    coarse = build_quietly(corpus, CONFIG.replace(frame_stride=10), frames=True)
    assert len(built.frames(np.array([1]), np.array([0]), 4)[0]) == 8  # of 31 frames
    assert len(coarse.frames(np.array([1]), np.array([0]), 10)[0]) == 4


def test_augmentations_share_the_clean_copy_and_models_share_all(corpus: Corpus) -> None:
    usual = build_quietly(corpus)
    noise = build_quietly(corpus, CONFIG.replace(augment=("noise",)))
    model = build_quietly(corpus, CONFIG.replace(d_state=64, lr=1e-3))
    assert usual.path("statistics", 0) == noise.path("statistics", 0)
    for i in range(5):
        expected = features.pool(expected_frames(corpus, i, 1, CONFIG.replace(augment=("noise",))))
        np.testing.assert_allclose(noise.pooled(np.array([i]), np.array([1]))[0], expected, rtol=1e-5, atol=1e-4)
    assert model == usual


def test_other_features_or_other_audio_are_another_bank(
    corpus: Corpus, tmp_path_factory: pytest.TempPathFactory
) -> None:
    usual = build_quietly(corpus)
    peers = CONFIG.replace(sample_rate=22_050, window=2048, n_fft=2048, hop=512, n_mfcc=39, deltas=False)
    assert build_quietly(corpus, peers).pooled(np.array([1]), np.array([0])).shape == (1, 39 + 128 + 12)
    other = build_quietly(make_corpus(tmp_path_factory.mktemp("other"), seed=1))
    assert usual.folder.parent != other.folder.parent
    rows = np.arange(5), np.zeros(5, int)
    assert np.abs(usual.pooled(*rows) - other.pooled(*rows)).max() > 0.1
    some = build_quietly(corpus.subset(np.arange(5) < 2))
    np.testing.assert_array_equal(
        some.pooled(np.arange(2), np.ones(2, int)), usual.pooled(np.arange(2), np.ones(2, int))
    )


def test_a_bank_travels_as_its_paths(corpus: Corpus) -> None:
    built = build_quietly(corpus, frames=True)
    rows, copies = np.arange(5), np.arange(5) % 3
    before = built.pooled(rows, copies), built.frames(rows, copies, 4)
    assert len(pickle.dumps(built)) < 2000
    tasks = [joblib.delayed(built.pooled)(rows, copies), joblib.delayed(built.frames)(rows, copies, 4)]
    there = joblib.Parallel(n_jobs=2)(tasks)  # processes that the bank reaches as it reaches a grid's workers
    np.testing.assert_array_equal(there[0], before[0])
    for found, expected in zip(there[1], before[1], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_cache_that_cannot_be_written_is_one_clear_line(
    corpus: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "file").write_text("not a directory")
    monkeypatch.setenv("HMOE_CACHE", str(cache / "file"))
    with pytest.raises(StoreError, match="HMOE_CACHE") as caught:
        build_quietly(corpus)
    assert "\n" not in str(caught.value) and str(cache / "file") in str(caught.value)


def test_a_disk_that_fills_up_leaves_nothing_half_written(cache: Path) -> None:
    path = cache / "clean.statistics.npy"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreError, match=r"clean\.statistics\.npy: "):
            bank.save(path, np.zeros(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(cache.iterdir())


def test_an_utterance_that_became_unreadable_is_named(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> None:
    spoilt = make_corpus(tmp_path_factory.mktemp("spoilt"))
    Path(spoilt.table["path"][2]).write_bytes(b"")
    with pytest.raises(AudioError, match=r"2\.wav"):
        build_quietly(spoilt, workers=2)


def test_lengths_are_known_without_reading_frames(corpus: Corpus) -> None:
    built = build_quietly(corpus, frames=True)
    rows, copies = np.array([0, 1, 2, 3, 4, 1]), np.array([0, 0, 0, 0, 0, 2])
    found = built.lengths(rows, copies, 4)
    assert found.tolist() == [len(frames) for frames in built.frames(rows, copies, 4)]
    assert found[:5].tolist() == [-(-(1 + length // 160) // 4) for length in LENGTHS]


def test_a_digest_names_what_a_configuration_reads_and_no_more(corpus: Corpus) -> None:
    built = build_quietly(corpus, frames=True)
    pooled, frames = Config(copies=2), Config(copies=2, reading="frames", frame_stride=4)
    digests = {built.digest(each) for each in (pooled, frames, pooled.replace(copies=1), pooled.replace(augment=()))}
    assert len(digests) == 4
    assert built.digest(pooled.replace(d_state=64)) == built.digest(pooled)
    path = built.path("frames-4", 1)
    bank.save(path, np.load(path) + np.float16(1), lengths=built.lengths(np.arange(5), np.full(5, 1), 4).tolist())
    assert built.digest(pooled) in digests and built.digest(frames) not in digests
