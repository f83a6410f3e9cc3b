"""Whisper's encoder: from its own weights alone, every layer, windows as short as the utterance; layers of a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import transformers
from command import call, refused
from joblib.externals.loky import get_reusable_executor
from safetensors.torch import load_file, save_file
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hmoe import peers
from hmoe.base.errors import ConfigError
from hmoe.bench.window import WINDOWS, bench_window
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.batches import Inputs
from hmoe.parrot import cached, encoders
from hmoe.parrot.fusion import WeightedSum
from hmoe.study import grid
from hmoe.study.experiments import Experiment, Row
from hmoe.study.profiles import PROFILES
from hmoe.study.store import Store
from hmoe.train import predict
from hmoe.use.pretrained import Pretrained

RATE = 16_000
VOICE = (0.3 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)).astype(np.float32)
LAYERS = 3  # blocks


@pytest.fixture(scope="module")
def whole() -> transformers.WhisperModel:
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=LAYERS, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1,
    )  # fmt: skip
    return transformers.WhisperModel(config).eval()


@pytest.fixture(scope="module")
def folder(whole: transformers.WhisperModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder alone, in half precision, by the names of the whole model."""
    folder = tmp_path_factory.mktemp("encoders") / "whisper-small"
    whole.config.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    alone = {f"model.encoder.{name}": tensor.half() for name, tensor in whole.encoder.state_dict().items()}
    save_file(alone, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name by which configurations know it, without a path of this machine."""
    monkeypatch.setenv("HMOE_ENCODERS", str(folder.parent))
    get_reusable_executor().shutdown(wait=True)  # processes of tests before have the environment of then
    encoders._loaded.cache_clear()
    return "openai/whisper-small"


def test_the_encoder_alone_is_enough_and_nothing_is_reported(
    folder: Path, whole: transformers.WhisperModel, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = encoders.load(str(folder))
    assert capfd.readouterr() == ("", "")
    assert isinstance(encoder.model, WhisperEncoder)
    for name, weights in whole.encoder.state_dict().items():
        assert torch.equal(encoder.model.state_dict()[name], weights.half().float())


def test_a_whole_checkpoint_gives_the_same_encoder(
    whole: transformers.WhisperModel, folder: Path, tmp_path: Path
) -> None:
    whole.half().save_pretrained(tmp_path)
    whole.float()
    transformers.WhisperFeatureExtractor().save_pretrained(tmp_path)
    both = [encoders.load(str(place))(VOICE, RATE).frames for place in (folder, tmp_path)]
    assert np.array_equal(*both)


def test_an_encoder_that_lacks_weights_of_its_own_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("model.encoder.layers.1.fc1.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks or misfits layers\.1\.fc1\.weight"):
        encoders.load(str(tmp_path))


def test_a_window_of_30_s_is_what_the_library_hears(folder: Path) -> None:
    encoder = encoders.Whisper(str(folder), window=30)
    said = encoder.every_layer(VOICE, RATE)
    theirs = WhisperEncoder.from_pretrained(folder, key_mapping={r"^model\.encoder\.": ""}, dtype=torch.float32).eval()
    x = encoder.prepare(VOICE, sampling_rate=RATE, return_tensors="pt")["input_features"]
    with torch.no_grad():
        hidden = theirs(x, output_hidden_states=True)
    assert len(said) == encoder.depth == LAYERS + 1
    for layer, one in enumerate(said):
        assert one.frames == pytest.approx(hidden.hidden_states[layer][0, :50].numpy(), abs=1e-5)
    assert said[-1].frames == pytest.approx(hidden.last_hidden_state[0, :50].numpy(), abs=1e-5)


def test_a_window_is_as_long_as_the_utterance_whatever_was_heard_before(folder: Path) -> None:
    encoder = encoders.Whisper(str(folder))
    first = encoder(VOICE[: RATE // 2], RATE).frames
    assert len(encoder(np.tile(VOICE, 3), RATE).frames) == 150
    assert np.array_equal(encoder(VOICE[: RATE // 2], RATE).frames, first)
    assert len(first) == 25


def test_a_layer_is_chosen_by_number_and_a_wrong_one_refused(folder: Path) -> None:
    encoder = encoders.load(str(folder))
    layers = [encoder(VOICE, RATE, layer=layer).frames for layer in range(LAYERS + 1)]
    assert np.array_equal(encoder(VOICE, RATE).frames, layers[-1])
    assert not any(np.allclose(a, b) for a, b in zip(layers, layers[1:], strict=False))
    with pytest.raises(ConfigError, match=f"has 0 to {LAYERS}"):
        encoder(VOICE, RATE, layer=LAYERS + 1)


def test_random_weights_are_others_but_always_the_same(folder: Path) -> None:
    encoders._loaded.cache_clear()
    state = torch.random.get_rng_state()
    random = encoders.load(f"random:{folder}")
    assert torch.equal(torch.random.get_rng_state(), state)
    encoders._loaded.cache_clear()
    again, real = encoders.load(f"random:{folder}"), encoders.load(str(folder))
    assert random.identity == again.identity != real.identity
    assert not np.allclose(random(VOICE, RATE).frames, real(VOICE, RATE).frames)
    assert (random.depth, random.width) == (real.depth, real.width)


EMBEDDED = {"reading": "embeddings", "augment": ()}


def test_all_layers_of_a_corpus_are_one_pass(
    named: str, tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path))
    config = Config(**EMBEDDED, encoders=(named,), layer=1)
    first = cached.build(tiny_corpus, config, workers=1, progress=False).table
    monkeypatch.setattr(cached, "_heard", None)  # whoever heard once need not hear again
    every = cached.build(
        tiny_corpus, config.replace(layer="all", pooling="mean+deviation"), workers=1, progress=False
    ).table
    assert every.shape == (len(tiny_corpus), (LAYERS + 1) * 2 * 16)
    assert cached.widths(config.replace(layer="all", pooling="mean+deviation")) == [every.shape[1]]
    said = encoders.load(named)(tiny_corpus.waveform(3), RATE, layer=1)
    assert first[3] == pytest.approx(said.pooled, abs=1e-6)
    several = cached.build(tiny_corpus, config.replace(layer=(2, 1)), workers=1, progress=False).table
    assert np.array_equal(several[:, 16:], first)
    assert cached.depths(config.replace(layer=(2, 1))) == [2]
    assert every[3, 32:64] == pytest.approx(np.concatenate([said.pooled, said.frames.std(axis=0)]), abs=1e-6)


def test_a_window_of_the_configuration_is_heard_and_kept_apart(
    named: str, tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path))
    config = Config(**EMBEDDED, encoders=(named,), encoder_window=2.0)
    tables = [
        cached.build(tiny_corpus, config.replace(encoder_window=window), workers=1, progress=False).table
        for window in (2.0, 0)
    ]
    said = encoders.Whisper(encoders.located(named), window=2.0)(tiny_corpus.waveform(3), RATE)
    assert tables[0][3] == pytest.approx(said.pooled, abs=1e-6)
    assert not np.allclose(*tables, atol=1e-3)
    with pytest.raises(ConfigError, match="encoder_window"):
        Config(encoder_window=2.0)


def test_the_path_of_an_encoder_is_no_part_of_a_configuration(named: str, folder: Path) -> None:
    assert encoders.load(named).identity == encoders.load(str(folder)).identity
    assert str(folder) not in str(Config(**EMBEDDED, encoders=(named,)).model_dump())


def test_a_weighted_sum_starts_as_the_mean_of_layers_and_learns() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3 * 4)
    sum_ = WeightedSum(3)
    assert torch.allclose(sum_(x), x.reshape(5, 3, 4).mean(1))
    with torch.no_grad():
        sum_.logits.copy_(torch.tensor([0.0, 40.0, 0.0]))
    assert torch.allclose(sum_(x), x.reshape(5, 3, 4)[:, 1])
    sum_(x).square().sum().backward()
    assert sum_.logits.grad is not None


@pytest.mark.parametrize("modalities", [(), ("mfcc", "mel", "chroma")])
def test_the_papers_model_reads_an_encoders_frames_alone_or_beside_ours(
    named: str, tiny_corpus: Corpus, tmp_path: Path, modalities: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMOE_CACHE", str(tmp_path))
    config = Config(
        reading="frames", encoders=(named,), layer=1, modalities=modalities, augment=(), frame_stride=8, d_model=8,
        d_selected=8, d_state=4, heads=2,
    )  # fmt: skip
    inputs = Inputs.of(grid.open_bank(tiny_corpus, config, workers=1, progress=False), config)
    x, lengths = inputs.clean(np.array([0, 5]))
    said = encoders.load(named)(tiny_corpus.waveform(5), RATE, layer=1).frames
    assert x.shape[2] == (260 if modalities else 0) + 16
    assert x[1, 0, -16:].numpy() == pytest.approx(said[:4].mean(axis=0), abs=2e-3)  # half precision
    logits = predict(peers.build(config, 3), inputs, np.arange(4))
    assert logits.shape == (4, 3)
    assert int(lengths[1]) * 8 == pytest.approx(100 * tiny_corpus.table["seconds"].iloc[5], abs=9)


def test_frames_that_do_not_fit_together_are_refused(named: str, tiny_corpus: Corpus) -> None:
    config = Config(reading="frames", encoders=(named,), layer=1, augment=(), frame_stride=3)
    with pytest.raises(ConfigError, match="frame_stride"):
        grid.open_bank(tiny_corpus, config, workers=1, progress=False)


def test_a_trial_on_a_layer_is_recorded_like_any_other(named: str, tiny_corpus: Corpus, tmp_path: Path) -> None:
    row = Row("SVM", {"model": "svm-scaled", **EMBEDDED, "encoders": (named,), "layer": 2})
    wanted = grid.trials([Experiment("encoders", "", (row,))], tiny_corpus, PROFILES["full"], seeds=[0])
    assert grid.run(wanted, tiny_corpus, Store("tiny", tmp_path), workers=1, progress=False) == 5


@pytest.mark.parametrize(("modalities", "width"), [((), 16), (("mfcc", "mel", "chroma"), 276)], ids=["alone", "beside"])
def test_a_model_on_an_encoders_frames_judges_a_recording_as_it_was_trained(
    named: str, tiny_corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], modalities: tuple, width: int
) -> None:
    table = tiny_corpus.table
    table[["path", "speaker", "emotion", "sentence"]].to_csv(tmp_path / "tiny.csv", index=False)
    small = [part for name, value in tiny.SMALL.items() for part in ("--set", f"{name}={value}")]
    given = ("-c", "csv", "-r", tmp_path / "tiny.csv", *small, "--set", "epochs=1", "--set", "frame_stride=8")
    given += ("--set", f"modalities={list(modalities)}", "--set", "augment=[]")
    assert call(capsys, "train", tmp_path / "model", *given, "--encoder", named)[0] == 0
    model = Pretrained.load(tmp_path / "model")
    assert (model.about["encoder"]["layer"], len(model.standardise.columns)) == (2, width)  # the middle of 0 to 3
    inputs = Inputs.of(cached.build(tiny_corpus, model.config, 1, progress=False), model.config)
    wanted = predict(model, inputs, np.array([3])).softmax(-1)[0]
    found = torch.tensor(list(model.judge(table["path"].iloc[3]).probabilities.values()))
    assert torch.allclose(found, wanted, atol=1e-6)
    assert model.about["encoder"]["identity"] in (tmp_path / "model" / "README.md").read_text()
    model.about["encoder"]["identity"] = "another"
    with pytest.raises(ConfigError) as error:
        model.judge(table["path"].iloc[3])
    assert named in error.value.where


def test_an_encoder_is_given_by_its_option(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "hears one recording" in refused(capsys, "train", tmp_path / "model", "--set", "encoders=[mamba-0]", "--set",
                                            "reading=frames", "--set", "augment=[]")  # fmt: skip


def test_a_window_as_long_as_the_utterance_moves_the_embedding_and_one_of_30_s_does_not(
    folder: Path, tiny_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMOE_RESULTS", str(tmp_path))
    table = bench_window(tiny_corpus, str(folder), utterances=2)
    assert len(table) == len(WINDOWS) * (LAYERS + 1)
    last = table["window_s"] == WINDOWS[-1]
    assert (table.loc[last, ["drift", "cost"]] == [0, 1]).all(axis=None)
    assert (table.loc[~last & (table["layer"] > 0), "drift"] > 0).all()
    assert len(pd.read_csv(tmp_path / "bench" / "window.csv")) == len(table)
