"""One record of every choice: validated with messages, hashed by what differs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hmoe.base.errors import ConfigError
from hmoe.base.files import PROJECT
from hmoe.config import Architecture, Augmenting, Config, Features, Training
from hmoe.study.experiments import AUDITS, EXPERIMENTS
from hmoe.study.profiles import PROFILES


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"reading": "framse"}, "reading", "pooled"),
        ({"d_state": 0}, "d_state", "greater than 0"),
        ({"d_sate": 64}, "d_sate", "no such field"),
        ({"lr": float("nan")}, "lr", "finite"),
        ({"lr": float("inf")}, "lr", "finite"),
        ({"experts": ()}, "experts", "at least one"),
        ({"experts": ("cnn", "cnn")}, "experts", "once"),
        ({"modalities": ()}, "modalities", "at least one"),
        ({"augment": ("noise", "noise")}, "augment", "once"),
        ({"augment": ("echo",)}, "augment.0", "stretch"),
        ({"heads": 3}, "heads", "divide d_model = 128"),
        ({"einfft_blocks": 3}, "einfft_blocks", "divide d_model = 128"),
        ({"kernel_size": 4}, "kernel_size", "odd"),
        ({"n_mfcc": 200}, "n_mfcc", "n_mels = 128"),
        ({"window": 513}, "window", "n_fft = 512"),
        ({"stretch_range": (0.0, 1.0)}, "stretch_range", "0 < low <= high"),
        ({"stretch_range": (1.2, 0.8)}, "stretch_range", "0 < low <= high"),
        ({"snr_range": (25.0, 10.0)}, "snr_range", "low <= high"),
        ({"pitch_semitones": ()}, "pitch_semitones", "at least one"),
        ({"betas": (0.9, 1.0)}, "betas", "beta < 1"),
        ({"validation_fraction": 1.0}, "validation_fraction", "less than 1"),
        ({"encoders": ("resemblyzer",), "augment": ()}, "encoders", "reading=embeddings"),
        ({"encoders": ("resemblyzer",), "augment": (), "reading": "prosody"}, "encoders", "reading=embeddings"),
        ({"encoders": ("resemblyzer",), "augment": (), "reading": "statistics"}, "encoders", "reading=embeddings"),
        ({"encoders": ("mamba-0",), "augment": (), "reading": "frames", "pad_to": 40_000}, "pad_to", "modalities=[]"),
        ({"lr": True}, "lr", "number"),
        ({"epochs": True}, "epochs", "number"),
        ({"pad_to": True}, "pad_to", "number"),
        ({"layer": True}, "layer", "number"),
        ({"betas": (0.9, False)}, "betas", "number"),
        ({"router_hidden_layers": True}, "router_hidden_layers", ""),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_field_and_what_is_expected(
    values: dict, field: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**values)
    line = str(caught.value)
    assert repr(field) in line
    assert says in line
    assert "\n" not in line


COUNTS = (
    "sample_rate", "window", "hop", "n_chroma", "pad_to", "frame_stride", "lstm_layers", "cnn_layers", "kernel_size",
    "transformer_layers", "heads", "router_width", "einfft_blocks", "d_selected", "d_state", "expand", "d_conv",
    "batch_size", "epochs",
)  # fmt: skip


@pytest.mark.parametrize("field", COUNTS)
def test_a_count_begins_with_one(field: str) -> None:
    assert getattr(Config(**{field: 1}), field) == 1
    with pytest.raises(ConfigError) as refused:
        Config(**{field: 0})
    assert repr(field) in str(refused.value)


def test_the_defaults_are_what_the_paper_prints() -> None:
    config = Config()
    assert (config.lr, config.weight_decay, config.batch_size, config.epochs) == (1e-4, 1e-5, 32, 100)
    assert (config.lr_decay, config.lr_decay_every, config.optimizer) == (0.9, 10, "adamw")
    assert (config.d_state, config.d_selected) == (256, 128)
    assert (config.window / config.sample_rate, config.hop / config.sample_rate) == (0.025, 0.010)
    assert list(config.dims.values()) == [120, 128, 12]
    assert config.stretch_range == (0.8, 1.2)
    assert config.snr_range == (10, 25)
    assert config.selection == "last"  # Q7: the paper's rule is kept as "nested"


def test_the_key_is_of_the_differences_alone() -> None:
    assert Config(d_state=256).key() == Config().key() == Config(reading="pooled").key()
    assert Config(d_state=64).changes() == {"d_state": 64}
    assert len({Config().key(), Config(d_state=64).key(), Config(d_state=65).key(), Config(lr=1e-3).key()}) == 4
    assert Config(lr=1e-3, d_state=64).key() == Config(d_state=64, lr=0.001).key()


def test_the_key_is_the_same_in_another_process() -> None:
    code = "from hmoe.config import Config; print(Config(d_state=64, augment=['noise']).key())"
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert elsewhere.stdout.strip() == Config(d_state=64, augment=("noise",)).key()


def test_keys_that_records_bear_stay_as_they_are() -> None:
    # A change here orphans every record: the default of a new field must be the old behaviour.
    assert Config(selection="nested").key() == "44136fa355b3"
    assert Config(selection="nested", reading="frames", frame_stride=4).key() == "6284a7d271cf"
    assert Config(selection="last").key() == Config().key() == "ee376248cc87"


@pytest.mark.parametrize("path", sorted((PROJECT / "results" / "configs").glob("*.json")), ids=lambda path: path.stem)
def test_a_record_still_means_the_configuration_that_it_was_made_with(path: Path) -> None:
    # Every field is kept, so a default that has changed since is now a difference, and the key another.
    kept = json.loads(path.read_text())
    assert set(kept) <= set(Config.model_fields)
    assert Config(**kept).key() == path.stem


def test_an_encoder_stands_where_a_reading_has_a_place_for_it() -> None:
    one = {"encoders": ("resemblyzer",), "augment": ()}
    assert Config(**one, reading="embeddings").encoders == ("resemblyzer",)
    assert Config(**one, reading="statistics+prosody+embeddings").encoders == ("resemblyzer",)
    assert Config(**one, reading="frames", modalities=(), pad_to=40_000).pad_to == 40_000
    assert Config(deltas=False, simba=False).changes() == {"deltas": False, "simba": False}


def test_every_row_has_a_configuration() -> None:
    for experiment in (EXPERIMENTS | AUDITS).values():
        for row in experiment.rows:
            for profile in PROFILES.values():
                assert profile.config(row).key()


def test_changes_make_the_configuration_again() -> None:
    config = Config(reading="frames", experts=("cnn",), stretch_range=(0.9, 1.1), augment=(), label_smoothing=0.1)
    assert Config(**json.loads(json.dumps(config.changes()))) == config
    assert Config(**config.model_dump()) == config


def test_replace_validates_again_and_leaves_the_original() -> None:
    config = Config()
    assert config.replace(d_state=64).d_state == 64
    assert config.d_state == 256
    with pytest.raises(ConfigError, match="heads"):
        config.replace(d_model=126)


def test_the_sections_share_no_field_and_make_up_the_whole() -> None:
    sections = [Features, Augmenting, Architecture, Training]
    names = [name for section in sections for name in section.model_fields]
    assert len(names) == len(set(names))
    assert set(names) | {"model"} == set(Config.model_fields)


def test_only_keeps_what_a_section_depends_on() -> None:
    assert Config(d_state=64).only(Features).key() == Config().only(Features).key()
    assert Config(hop=80).only(Features) == Features(hop=80)
