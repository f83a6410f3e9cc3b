"""PARROT: plans are plans, fusion follows its batch, encoders refuse what they cannot hear, and no test row leaks."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import joblib
import librosa
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from command import refused
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import nn

from hmoe.base.errors import AudioError, ConfigError, CorpusError, StoreError
from hmoe.bench.window import bench_window
from hmoe.config import Config
from hmoe.corpora import Corpus, audio
from hmoe.inputs.batches import Inputs
from hmoe.model import count_parameters
from hmoe.parrot import audio_mamba, cached, encoders, fusion, pretraining, ssamba
from hmoe.parrot.fusion import PARROT
from hmoe.study import grid, plan, profiles
from hmoe.study.experiments import PARROT as ROWS
from hmoe.study.experiments import Experiment, Row
from hmoe.study.store import Store
from hmoe.train import predict

RATE = 16_000
VOICE = (0.3 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)).astype(np.float32)
ROW = ROWS.row("openWakeWord + Resemblyzer, PARROT").changes


def model(**changes: object) -> PARROT:
    torch.manual_seed(0)
    return PARROT(Config(**{**ROW, **changes}), 3).eval()


def embeddings(B: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(B, 1, 96 + 256, generator=torch.Generator().manual_seed(seed))


# Optimal transport


def test_the_plan_has_uniform_marginals() -> None:
    p, q = torch.randn(12, 5).double(), torch.randn(7, 5).double()
    plan, _ = fusion.sinkhorn(p, q, iterations=2000)
    assert plan.sum(1).numpy() == pytest.approx(1 / 12, abs=1e-8)
    assert plan.sum(0).numpy() == pytest.approx(1 / 7, abs=1e-8)


def test_equal_inputs_give_the_identity_up_to_epsilon() -> None:
    p = torch.randn(10, 5).double()
    distance = [(10 * fusion.sinkhorn(p, p, e)[0] - torch.eye(10)).abs().max().item() for e in (0.1, 0.02, 0.01)]
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 1e-3


def test_the_plan_has_the_gradients_of_finite_differences() -> None:
    p, q = torch.randn(4, 3).double().requires_grad_(), torch.randn(5, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, q: fusion.sinkhorn(p, q, 0.2, 20)[0], (p, q))


def test_the_extension_of_a_plan_agrees_with_it_on_its_own_rows() -> None:
    p, q = torch.randn(9, 4).double(), torch.randn(9, 4).double()
    assert torch.allclose(fusion.across_one_by_one(p, q, p, q), fusion.across(p, q), atol=1e-3)


@pytest.mark.parametrize("kind", list(fusion.PARTS))
def test_permuting_the_batch_permutes_the_output(kind: str) -> None:
    x, order = embeddings(16), torch.randperm(16)
    one = model(fusion=kind)
    with torch.no_grad():
        assert torch.allclose(one(x[order]), one(x)[order], atol=1e-4)


@pytest.mark.parametrize(("kind", "plan", "alone"), [
    ("parrot", "batch", False), ("parrot", "anchors", True), ("transport", "anchors", True),
    ("hadamard", "batch", True),
])  # fmt: skip
def test_a_prediction_depends_on_its_batch_only_through_a_plan_of_the_batch(kind: str, plan: str, alone: bool) -> None:
    one = model(fusion=kind, plan=plan)
    one.train()
    one(embeddings(40))
    one.eval()
    x = embeddings(8, seed=2)
    with torch.no_grad():
        together, separate = one(x), torch.cat([one(row[None]) for row in x])
    assert torch.allclose(together, separate, atol=1e-5) == alone


def test_who_is_tested_together_does_not_follow_the_order_of_the_table() -> None:
    class Watched(nn.Module):
        batch_matters = True

        def forward(self, x: torch.Tensor, lengths: None = None) -> torch.Tensor:
            met.append(x[:, 0, 0].tolist())
            return x[:, 0]

    class Numbers:
        def clean(self, rows: np.ndarray) -> tuple[torch.Tensor, None]:
            return torch.from_numpy(rows)[:, None, None].double(), None

    met: list[list[float]] = []
    rows = np.arange(40) + 5
    assert predict(Watched(), Numbers(), rows, batch_size=10)[:, 0].tolist() == rows.tolist()
    assert len(met) == 4
    assert all(max(batch) - min(batch) > 20 for batch in met)  # from all over the table
    assert PARROT.batch_matters


def test_anchors_are_training_utterances_and_travel_with_the_weights() -> None:
    one, other = model(), model()
    x = embeddings(20)
    one.train()
    one(x)
    other.load_state_dict(one.state_dict())
    assert int(other.seen) == 20
    assert torch.equal(other.anchors[:20], x[:, 0])


def test_every_branch_learns() -> None:
    for names in (("openwakeword", "resemblyzer"), ("hmoe-simba", "resemblyzer")):
        one = model(encoders=names).train()
        width = one.anchors.shape[1]
        one(torch.randn(8, 1, width)).square().sum().backward()
        assert all(any(p.grad.abs().sum() > 0 for p in b.parameters() if p.grad is not None) for b in one.branches)


def test_three_encoders_or_another_reading_are_refused() -> None:
    for wrong in ({"encoders": ("resemblyzer",) * 3}, {"encoders": ()}, {"reading": "pooled"}):
        with pytest.raises(ConfigError) as caught:
            model(**wrong)
        assert caught.value.where == "config field 'encoders'"


# Encoders


@pytest.mark.parametrize("name", ["openwakeword", "resemblyzer"])
def test_a_shipped_encoder_hears_and_says_its_rate(name: str) -> None:
    if encoders.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    encoder = encoders.load(name)
    long = np.tile(VOICE, 3)
    said, again = encoder(long, RATE), encoder(long, RATE)
    assert said.frames.shape[1] == encoder.width == len(said.pooled)
    assert len(said.frames) / said.rate == pytest.approx(3, abs=0.8)  # windows end before the utterance does
    assert np.array_equal(said.frames, again.frames)
    assert not np.allclose(said.pooled, encoder(long * np.linspace(0, 1, len(long), dtype=np.float32), RATE).pooled)
    with pytest.raises(AudioError, match="8000 Hz, expected 16000 Hz"):
        encoder(VOICE, 8000)
    with pytest.raises(AudioError, match="silent"):
        encoder(np.zeros(RATE, np.float32), RATE)


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
CONVOLUTIONS = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (10, 8), "num_feat_extract_layers": 2,
                "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}  # fmt: skip
CLASSES = {
    "Hubert": 200.0, "WavLM": 200.0, "Wav2Vec2": 200.0, "UniSpeechSat": 200.0, "Whisper": 50.0,
}  # frames a second; MMS is Wav2Vec2  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small model of each class with random weights, in a folder as one downloads it."""
    folders = {}
    for name in CLASSES:
        folders[name] = tmp_path_factory.mktemp(name)
        if name == "Whisper":
            config = transformers.WhisperConfig(
                d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                decoder_start_token_id=1,
            )  # fmt: skip
            transformers.WhisperFeatureExtractor().save_pretrained(folders[name])
        else:
            config = getattr(transformers, f"{name}Config")(**SMALL, **CONVOLUTIONS)
            transformers.Wav2Vec2FeatureExtractor().save_pretrained(folders[name])
        getattr(transformers, f"{name}Model")(config).save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_of_transformers_loads_from_a_folder_and_runs(name: str, saved: dict[str, Path]) -> None:
    encoder = encoders.load(str(saved[name]))
    said = encoder(VOICE, RATE)
    assert (encoder.width, said.rate) == (16, CLASSES[name])
    assert len(said.frames) / said.rate == pytest.approx(1, abs=0.02)
    assert np.isfinite(said.frames).all()


@pytest.mark.parametrize("name", ["Hubert", "Whisper"])
def test_a_checkpoint_of_half_precision_is_computed_in_single(
    name: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    model = transformers.AutoModel.from_pretrained(saved[name]).half()
    model.save_pretrained(tmp_path)
    transformers.AutoFeatureExtractor.from_pretrained(saved[name]).save_pretrained(tmp_path)
    encoder = encoders.load(str(tmp_path))
    assert np.isfinite(encoder(VOICE, RATE).frames).all()
    assert {weights.dtype for weights in encoder.model.parameters()} == {torch.float32}


def test_whisper_refuses_what_it_would_hear_the_beginning_of(
    saved: dict[str, Path], tmp_path: Path, tiny_corpus: Corpus
) -> None:
    name = str(saved["Whisper"])
    encoder, just = encoders.load(name), np.tile(VOICE, 30)
    assert len(encoder(just, RATE).frames) == 1500
    with pytest.raises(AudioError, match=r"32\.0 s.*\b30 s"):
        encoder(np.tile(VOICE, 32), RATE)
    audio.write(tmp_path / "long.wav", np.tile(VOICE, 32))
    table = tiny_corpus.table.head(3).reset_index(drop=True)
    table.loc[1, "path"] = str(tmp_path / "long.wav")
    with pytest.raises(CorpusError, match=r"1 of 3.*long\.wav.*32\.0 s"):
        config = Config(reading="embeddings", augment=(), encoders=(name,))
        cached.build(Corpus("x", tmp_path, table, tiny_corpus.emotions), config, workers=1, progress=False)


def test_whatever_an_encoder_raises_is_one_line_of_that_recording(
    saved: dict[str, Path], tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(saved["Hubert"])
    encoder = encoders.load(name)
    for raised, says in ((IndexError("a\nb"), "IndexError: a b"), (KeyError("input_values"), "KeyError")):
        monkeypatch.setattr(encoder, "layers", lambda samples, raised=raised: (_ for _ in ()).throw(raised))
        with pytest.raises(AudioError, match=says) as failure:
            encoder(VOICE, RATE)
        assert "\n" not in str(failure.value)
    monkeypatch.setattr(encoder, "layers", lambda samples: [np.full((3, 16), np.nan)])
    with pytest.raises(AudioError, match="not finite"):
        encoder(VOICE, RATE)


@pytest.mark.parametrize("kind", ["AST", "Wav2Vec2Bert", "Clap"])
def test_a_model_that_hears_no_samples_is_refused_by_its_kind(kind: str, tmp_path: Path) -> None:
    config = getattr(transformers, f"{kind}Config")()
    config.save_pretrained(tmp_path)
    for name in (str(tmp_path), f"random:{tmp_path}"):
        with pytest.raises(ConfigError, match=f"{config.model_type}.* is not read.*HuBERT"):
            encoders.load(name)


def test_the_window_of_what_has_none_is_not_measured(saved: dict[str, Path], tiny_corpus: Corpus) -> None:
    with pytest.raises(ConfigError) as caught:
        bench_window(tiny_corpus, str(saved["Hubert"]))
    assert caught.value.where == f"encoder {str(saved['Hubert'])!r}"


def test_an_extractor_of_another_rate_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    for file in saved["Hubert"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="8000 Hz, expected 16000 Hz"):
        encoders.load(str(tmp_path))


def test_settings_of_an_extractor_are_part_of_its_identity_where_they_are_not_its_classes(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    usual = encoders.load(str(saved["Hubert"])).identity
    assert usual == f"{saved['Hubert'].name}-{encoders.digest(encoders.load(str(saved['Hubert'])).model)}"
    folder = tmp_path / saved["Hubert"].name
    shutil.copytree(saved["Hubert"], folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    assert encoders.load(str(folder)).identity.startswith(f"{usual}-")


def test_a_checkpoint_that_lacks_weights_is_refused_and_not_made_up(saved: dict[str, Path], tmp_path: Path) -> None:
    for file in saved["Hubert"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in weights if "attention.q_proj.weight" in name)
    save_file({k: v for k, v in weights.items() if k != gone}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="lacks or misfits"):
        encoders.HuggingFace(str(tmp_path))


def test_an_encoder_that_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (str(tmp_path), "nobody/no-such-model"):
        with pytest.raises(ConfigError, match="cannot be loaded") as failure:
            encoders.HuggingFace(name)
        assert "\n" not in str(failure.value)
    with pytest.raises(ConfigError, match="hmoe pretrain mamba-7"):
        encoders.load("mamba-7")


# Patches and their pre-training


def test_patches_are_bands_of_a_step_one_after_the_other() -> None:
    mel = torch.arange(2 * 9 * 80.0).reshape(2, 9, 80)
    found = ssamba.patches(mel)
    assert found.shape == (2, 10, 64)
    assert torch.equal(found[1, 7].reshape(4, 16), mel[1, 4:8, 32:48])  # second step, third band


@pytest.mark.parametrize("size", ["micro", "tiny"])
def test_the_twins_are_of_equal_size(size: str) -> None:
    mamba, attention = (count_parameters(ssamba.PatchEncoder(kind, size)) for kind in ssamba.BLOCKS)
    assert attention == pytest.approx(mamba, rel=0.005)


@pytest.mark.parametrize("kind", list(ssamba.BLOCKS))
def test_a_hidden_patch_is_not_seen_and_its_error_alone_counts(kind: str) -> None:
    encoder, head = ssamba.PatchEncoder(kind, "micro"), nn.Linear(96, 64)
    mel, masked = torch.randn(2, 40, 80), torch.rand(2, 50) < 0.5
    masked[0, :2] = torch.tensor([True, False])
    changed = mel.clone()
    changed[0, :4, :16] += 1  # the first patch
    with torch.no_grad():
        assert torch.equal(encoder.states(mel, masked), encoder.states(changed, masked))
        before, after = (pretraining.masked_loss(encoder, head, x, masked) for x in (mel, changed))
        assert before != after
        masked[0, 0] = False
        assert not torch.equal(encoder.states(mel, masked), encoder.states(changed, masked))


@pytest.fixture(scope="module")
def pretrained(tiny_corpus: Corpus) -> tuple[ssamba.PatchEncoder, list[float]]:
    return pretraining.pretrain([tiny_corpus], "mamba", epochs=6)


def test_where_nobody_is_left_to_hear_is_refused(tiny_corpus: Corpus) -> None:
    nobody = tiny_corpus.subset(np.zeros(len(tiny_corpus), bool))
    with pytest.raises(ConfigError):
        pretraining.pretrain([nobody], "mamba", epochs=1)


@pytest.mark.parametrize("name", ["mamba-0-a/b", "mamba-0-a.safetensors", "mamba-x"])
def test_an_encoder_is_not_made_by_a_name_that_none_is_loaded_by(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert repr(name) in refused(capsys, "pretrain", name)


def test_pretraining_beats_guessing_and_reads_no_labels(
    pretrained: tuple[ssamba.PatchEncoder, list[float]], tiny_corpus: Corpus
) -> None:
    encoder, history = pretrained
    assert history[-1] < history[0]
    shuffled = Corpus("x", tiny_corpus.root, tiny_corpus.table.assign(emotion="anger"), tiny_corpus.emotions)
    first = np.arange(len(shuffled)) < 12
    parts = [shuffled.subset(first), shuffled.subset(~first)]  # several corpora are heard as one
    again, _ = pretraining.pretrain(parts, "mamba", epochs=6)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), again.parameters(), strict=True))


def test_who_was_heard_in_pre_training_is_said_to_be_no_unseen_speaker(
    pretrained: tuple[ssamba.PatchEncoder, list[float]],
    tiny_corpus: Corpus,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for heard in ("elsewhere", f"elsewhere {tiny_corpus.name}"):
        path = tmp_path / f"{len(heard)}.safetensors"
        pretraining.save_encoder(pretrained[0], path, {"corpus": heard})
        cached.build(tiny_corpus, Config(**{**ROW, "encoders": (str(path),)}), workers=1, progress=False)
        cached.build(tiny_corpus, Config(**{**ROW, "encoders": (f"random:{path}",)}), workers=1, progress=False)
    assert [record.args[0] for record in caplog.records] == [str(path)]  # the second, and not its random weights


def test_an_own_encoder_is_kept_and_another_shape_is_refused(
    pretrained: tuple[ssamba.PatchEncoder, list[float]], tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    pretraining.save_encoder(pretrained[0], path, {})
    encoder = encoders.load(str(path))
    said = encoder(VOICE, RATE)
    assert said.frames.shape == (25, 480)
    assert said.rate == 25
    save_file(load_file(path), path, {"kind": "mamba", "size": "tiny"})
    with pytest.raises(ConfigError, match="not an encoder of patches"):
        encoders.Patches(path)


def test_a_name_stands_for_the_weights_of_the_records(
    pretrained: tuple[ssamba.PatchEncoder, list[float]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path / "results"))
    pretraining.save_encoder(pretrained[0], encoders.own_path("mamba-8"), {})
    encoders.register("mamba-8", [0.9, 0.6], {"machine": "mine"}, tmp_path / "own")  # of a corpus of the user's
    assert not len(encoders.registered()) and len(encoders.registered(tmp_path / "own" / "encoders.csv")) == 1
    encoders.register("mamba-8", [0.9, 0.5], {"machine": "mine"})
    encoders.register("mamba-8", [0.9, 0.4], {"machine": "mine"})
    assert encoders.registered()[["encoder", "loss", "machine"]].values.tolist() == [["mamba-8", "0.4000", "mine"]]
    curve = encoders.registered(tmp_path / "results" / "pretraining.csv")
    assert curve[["epoch", "loss"]].values.tolist() == [["1", "0.9000"], ["2", "0.4000"]]  # of these weights, once
    encoders._loaded.cache_clear()
    encoders.load("mamba-8")
    assert not caplog.records
    pretraining.save_encoder(ssamba.PatchEncoder("mamba", "micro"), encoders.own_path("mamba-8"), {})
    encoders._loaded.cache_clear()
    encoders.load("mamba-8")
    assert "other weights than those of the records" in caplog.text
    caplog.clear()
    encoders.register("mamba-8", [0.9, 0.3], {"machine": "yours"})  # whose processor gave other bits
    encoders._loaded.cache_clear()
    encoders.load("mamba-8")
    assert not caplog.records
    assert encoders.registered()["machine"].tolist() == ["mine", "yours"]


def test_who_registers_waits_for_who_is_registering(
    pretrained: tuple[ssamba.PatchEncoder, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path / "results"))
    pretraining.save_encoder(pretrained[0], encoders.own_path("mamba-8"), {})
    locked, registered = [], encoders.registered

    def watched(path: Path) -> pd.DataFrame:
        with pytest.raises(Timeout), FileLock(tmp_path / "results" / "encoders.lock", timeout=0):
            pass
        locked.append(True)
        return registered(path)

    monkeypatch.setattr(encoders, "registered", watched)
    encoders.register("mamba-8", [0.9, 0.5], {"machine": "mine"})
    assert all(locked)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="cannot be written"):
        encoders.register("mamba-8", [0.9, 0.5], {"machine": "mine"})


# Trials


@pytest.mark.parametrize("reading", ["embeddings", "statistics+prosody+embeddings"])
def test_a_plan_is_probed_with_batches_of_the_width_that_a_training_reads(reading: str, tiny_corpus: Corpus) -> None:
    encoders = ("hmoe-simba", "openwakeword") if reading == "embeddings" else ("openwakeword",)
    config = Config(**{**ROW, "encoders": encoders, "reading": reading})
    rows, copies = np.arange(2), np.zeros(2, int)
    made_up, _ = plan.MadeUp(config, tiny_corpus, "cpu").batch(rows, copies)
    real, _ = Inputs.of(grid.open_bank(tiny_corpus, config, progress=False), config).batch(rows, copies)
    assert made_up.shape == real.shape


def test_a_plan_has_no_features_of_ours_where_encoders_alone_are_read(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path / "cache"))  # empty
    monkeypatch.setattr(plan, "_training", lambda *_: (1.0, "a test"))
    frames = {**ROW, "reading": "frames", "model": "hmoe-simba", "encoders": ("resemblyzer",), "augment": ()}
    copies = {}
    for name, changes in {
        "alone": {**ROW, "encoders": ("resemblyzer",)}, "and HMoE-SiMBA": {**ROW, "encoders": ("hmoe-simba",)},
        "frames": {**frames, "modalities": ()}, "frames and ours": frames,
    }.items():  # fmt: skip
        rows = Experiment("e", "", (Row(name, changes),))
        wanted = grid.trials([rows], tiny_corpus, profiles.PROFILES["full"], seeds=[0], folds=["0"])
        copies[name] = plan.plan(wanted, tiny_corpus, len(tiny_corpus), Store("tiny", tmp_path), 1).copies
    assert copies == {"alone": 0, "and HMoE-SiMBA": 1, "frames": 0, "frames and ours": 1}


def test_trials_of_parrot_are_recorded_like_all_others(tiny_corpus: Corpus, tmp_path: Path) -> None:
    short = {**ROW, "encoders": ("openwakeword", "hmoe-simba"), "epochs": 2, "filters": 2, "d_state": 4}
    rows = (Row("pair", short), Row("alone", {**short, "encoders": ("openwakeword",)}))
    wanted = grid.trials([Experiment("parrot", "", rows)], tiny_corpus, profiles.PROFILES["full"], seeds=[0])
    store = Store("tiny", tmp_path)
    assert grid.run(wanted, tiny_corpus, store, workers=1, progress=False) == 10
    assert grid.run(wanted, tiny_corpus, store, workers=1, progress=False) == 0
    assert set(store.read("parrot")["row"]) == {"pair", "alone"}
    assert tiny_corpus.name in {path.name.split("-")[0] for path in (cached.cache_dir() / "embeddings").iterdir()}


def test_embeddings_stand_beside_each_other_in_the_order_of_the_names(tiny_corpus: Corpus) -> None:
    config = Config(**{**ROW, "encoders": ("openwakeword", "hmoe-simba")})
    table = cached.build(tiny_corpus, config, workers=1, progress=False).embeddings(np.array([2]), np.array([0]))
    assert cached.widths(config) == [96, 260]
    assert table[0, :96] == pytest.approx(encoders.load("openwakeword")(tiny_corpus.waveform(2), RATE).pooled)


def test_embeddings_take_a_process_a_core_unless_told_otherwise(
    tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, parallel = [], joblib.Parallel

    def watched(n_jobs: int | None, **how: object) -> joblib.Parallel:
        asked.append(n_jobs)
        return parallel(1, **how)

    monkeypatch.setattr(joblib, "Parallel", watched)
    config = Config(**{**ROW, "encoders": ("openwakeword",)})
    for number, workers in enumerate((None, 3)):
        monkeypatch.setenv("HMOE_CACHE", str(tmp_path / str(number)))
        cached.build(tiny_corpus, config, workers, progress=False)
    assert asked == [joblib.cpu_count(), 3]


def test_every_pair_is_measured_on_known_and_on_new_speakers() -> None:
    known = {row.name for row in ROWS.rows if row.protocol == "stratified-5"}
    assert {f"{name}, unseen speaker" for name in known} == {row.name for row in ROWS.rows if row.protocol == "speaker"}
    assert ROWS.reference in known


def test_resemblyzers_states_are_those_of_its_own_recipe() -> None:
    if encoders.find_spec("resemblyzer") is None:
        pytest.skip("resemblyzer is not installed")
    encoder = encoders.load("resemblyzer")
    quiet = 0.01 * VOICE
    loud = quiet * 10 ** (-30 / 20) / np.sqrt(np.mean(quiet**2))
    mel = librosa.feature.melspectrogram(y=loud, sr=RATE, n_fft=400, hop_length=160, n_mels=40)
    with torch.no_grad():
        expected = encoder.lstm(torch.from_numpy(mel.T.astype(np.float32))[None])[0][0]
    assert encoder(quiet, RATE).frames == pytest.approx(expected.numpy(), abs=1e-4)


# Published weights of Audio Mamba


def theirs(width: int = 32, depth: int = 2) -> dict[str, torch.Tensor]:
    """Random weights by the names and shapes of the published checkpoints, the head of pre-training among them."""
    torch.manual_seed(3)
    E, R, N = 3 * width, -(-width // 16), 24
    shapes = {
        "cls_token": (1, 1, width), "pos_embed": (1, 251, width), "mask_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 1, 4, 16), "patch_embed.proj.bias": (width,),
        "encoder_norm.weight": (width,), "encoder_norm.bias": (width,), "pred.0.weight": (width, width),
    }  # fmt: skip
    for i in range(depth):
        shapes |= {
            f"blocks.{i}.norm.weight": (width,), f"blocks.{i}.norm.bias": (width,), f"blocks.{i}.mixer.D": (E,),
            f"blocks.{i}.mixer.A_log": (E, N), f"blocks.{i}.mixer.in_proj.weight": (2 * E, width),
            f"blocks.{i}.mixer.conv1d.weight": (E, 1, 4), f"blocks.{i}.mixer.conv1d.bias": (E,),
            f"blocks.{i}.mixer.x_proj.weight": (R + 2 * N, E), f"blocks.{i}.mixer.dt_proj.weight": (E, R),
            f"blocks.{i}.mixer.dt_proj.bias": (E,), f"blocks.{i}.mixer.out_proj.weight": (width, E),
        }  # fmt: skip
    return {name: 0.2 * torch.randn(shape) for name, shape in shapes.items()}


def by_their_recipe(state: dict[str, torch.Tensor], mel: torch.Tensor) -> torch.Tensor:
    """A piece of 200 frames (200, 80) -> (50, 5 D): convolution, place, add-norm-mix, with transformers' Mamba."""
    width, E = len(state["encoder_norm.bias"]), len(state["blocks.0.mixer.D"])
    x = nn.functional.conv2d(
        mel[None, None], state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=(4, 16)
    )
    x = x.permute(0, 2, 3, 1).reshape(1, -1, width)
    x = torch.cat([state["cls_token"], x], 1) + state["pos_embed"]
    residual = torch.zeros_like(x)
    for i in range(sum(name.endswith("A_log") for name in state)):
        residual = residual + x
        normed = nn.functional.layer_norm(
            residual, (width,), state[f"blocks.{i}.norm.weight"], state[f"blocks.{i}.norm.bias"], 1e-6
        )
        config = transformers.MambaConfig(
            hidden_size=width, state_size=24, intermediate_size=E, expand=3, conv_kernel=4,
            time_step_rank=state[f"blocks.{i}.mixer.dt_proj.weight"].shape[1], use_bias=False, use_conv_bias=True,
        )  # fmt: skip
        mixer = transformers.models.mamba.modeling_mamba.MambaMixer(config, layer_idx=0)
        prefix = f"blocks.{i}.mixer."
        mixer.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        x = mixer(normed)
    said = nn.functional.layer_norm(
        residual + x, (width,), state["encoder_norm.weight"], state["encoder_norm.bias"], 1e-6
    )
    return said[0, 1:].reshape(50, 5 * width)


def test_published_weights_say_what_their_recipe_says(tmp_path: Path) -> None:
    torch.save({"model": theirs(), "epoch": 99}, tmp_path / "ssam.pth")
    audio_mamba.convert(tmp_path / "ssam.pth", tmp_path / "ssam.safetensors")
    encoder = encoders.load(str(tmp_path / "ssam.safetensors"))
    samples = np.concatenate([VOICE, 0.5 * VOICE, VOICE])  # 3 s: two pieces
    said = encoder(samples, RATE)
    mel = audio_mamba.log_mel(samples)
    padded = nn.functional.pad(mel, (0, 0, 0, 400 - len(mel)))
    with torch.no_grad():
        expected = torch.cat([by_their_recipe(theirs(), piece) for piece in (padded[:200], padded[200:])])
    assert said.frames.shape == (-(-len(mel) // 4), 5 * 32) == (len(said.frames), encoder.width)
    assert said.frames == pytest.approx(expected[: len(said.frames)].numpy(), abs=1e-4)


def test_published_sizes_have_their_published_widths() -> None:
    widths = {size: ssamba.PER_STEP * width for size, (width, _) in ssamba.SIZES.items() if size != "micro"}
    assert widths == {"tiny": 960, "small": 1920, "base": 3840}  # as PARROT reads them
    assert 4.7e6 < count_parameters(audio_mamba.AudioMamba(*ssamba.SIZES["tiny"])) < 4.9e6  # 4.8 M


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s: s | {"blocks.0.mixer.A_b_log": torch.zeros(2)}, "A_b_log"),
        (lambda s: {k: v for k, v in s.items() if k != "blocks.1.mixer.D"}, "blocks.1"),
        (lambda s: s | {"pos_embed": torch.zeros(1, 513, 32)}, "place"),
        (lambda s: {k: v for k, v in s.items() if "patch" not in k}, "patch_embed"),
    ],
)
def test_weights_of_another_network_are_refused(change: object, why: str, tmp_path: Path) -> None:
    torch.save(change(theirs()), tmp_path / "ssam.pth")
    with pytest.raises(ConfigError, match=why):
        audio_mamba.convert(tmp_path / "ssam.pth", tmp_path / "ssam.safetensors")
    assert not (tmp_path / "ssam.safetensors").exists()


@pytest.mark.parametrize(
    "content",
    [b"X\1\0\0\0\xff.", b"J\0", b".", b"Nb.", b"half", b""],
    ids=["text", "number", "stack", "build", "word", "nothing"],
)
def test_a_damaged_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ssam.pth").write_bytes(content)
    refuses_to_convert(tmp_path / "ssam.pth")


@pytest.mark.parametrize("count", range(3))
def test_a_checkpoint_with_a_byte_of_another_value_is_refused_or_read(count: int, tmp_path: Path) -> None:
    torch.save({"model": theirs(4, 1)}, tmp_path / "ssam.pth", _use_new_zipfile_serialization=False)
    content, rng = bytearray((tmp_path / "ssam.pth").read_bytes()), np.random.default_rng(count)
    for place in rng.integers(0, 2000, 60):
        (tmp_path / "ssam.pth").write_bytes(content[:place] + rng.bytes(1) + content[place + 1 :])
        with contextlib.suppress(ConfigError):
            audio_mamba.convert(tmp_path / "ssam.pth", tmp_path / "ssam.safetensors")


@pytest.mark.parametrize(
    "held",
    [
        {"model": torch.ones(3)}, {"model": 3}, [1], {3: torch.ones(2)}, {"model": theirs() | {7: torch.ones(2)}},
        {audio_mamba.MARK: torch.tensor(1.0)}, {audio_mamba.MARK: 3}, {audio_mamba.MARK: torch.ones(0, 1)},
    ],
)  # fmt: skip
def test_a_checkpoint_of_something_else_is_refused(held: object, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "ssam.pth")
    refuses_to_convert(tmp_path / "ssam.pth")


def refuses_to_convert(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        audio_mamba.convert(file, file.with_suffix(".safetensors"))
    assert caught.value.where == str(file) and caught.value.remedy
    assert not file.with_suffix(".safetensors").exists()


def test_code_hidden_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"model": Trap()}, tmp_path / "ssam.pth")
    with pytest.raises(ConfigError, match="not a checkpoint of tensors"):
        audio_mamba.convert(tmp_path / "ssam.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_their_log_mel_is_that_of_another_library() -> None:
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    scale = {"min_frequency": 50.0, "max_frequency": 8000.0, "norm": None, "mel_scale": "htk"}
    filters = mel_filter_bank(201, 80, sampling_rate=RATE, **scale)
    # Noise, because a pure tone leaves bands where rounding is all there is.
    samples = VOICE + 0.01 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    grid = {"frame_length": 400, "hop_length": 160, "power": 2.0, "center": True, "pad_mode": "reflect"}
    mel = spectrogram(samples, window_function(400, "hann"), mel_filters=filters, mel_floor=1e-12, **grid)
    mel = np.log(mel.T + np.finfo(np.float32).eps)
    expected = (mel - mel.mean()) / mel.std(ddof=1)
    assert audio_mamba.log_mel(samples).numpy() == pytest.approx(expected, abs=1e-3)
