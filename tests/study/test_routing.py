"""The router watched and overruled: weights are what their name says, and nothing is fitted to a test fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from hmoe.base.errors import ConfigError
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.inputs.batches import Inputs
from hmoe.model import HMoESiMBA
from hmoe.study import grid, profiles, routing
from hmoe.study.experiments import HEARD, ROUTER, WEIGHTS, Experiment, Row
from hmoe.study.store import Store
from hmoe.train import predict

CONFIG = Config(**tiny.SMALL)


@pytest.fixture
def model() -> HMoESiMBA:
    torch.manual_seed(0)
    return HMoESiMBA(CONFIG, 3).eval()


@pytest.fixture
def inputs(tiny_corpus: Corpus) -> Inputs:
    return Inputs.of(grid.open_bank(tiny_corpus, CONFIG, workers=1, progress=False), CONFIG)


def test_each_version_has_the_weights_of_its_name(model: HMoESiMBA, inputs: Inputs) -> None:
    train, test = np.arange(20), np.arange(20, 30)
    versions = routing.forced(model, inputs, train)
    assert tuple(versions) == WEIGHTS
    x, _ = inputs.clean(test)
    with torch.no_grad():
        g = model.parts(x)["g"]
        mean = model.parts(inputs.clean(train)[0])["g"].mean(0)  # of training utterances, none of the test's
        expected = dict(zip(WEIGHTS, (g, mean.expand(10, 3), torch.full((10, 3), 1 / 3)), strict=False))
        expected |= {f"{name} alone": torch.eye(3)[k].expand(10, 3) for k, name in enumerate(CONFIG.experts)}
        for name, weights in expected.items():
            logits = predict(versions[name], inputs, test)
            torch.testing.assert_close(logits, model.parts(x, routing=weights)["logits"])
    torch.testing.assert_close(routing.routing(model, inputs, test), g)


def test_the_experts_must_all_be_there(inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match="transformer alone"):
        routing.forced(HMoESiMBA(CONFIG.replace(experts=("lstm", "cnn")), 3).eval(), inputs, np.arange(20))


@pytest.mark.parametrize("wrong", [{"model": "lstm"}, {"experts": ("lstm", "cnn")}])
def test_a_model_without_these_experts_is_refused_before_it_is_trained(
    tiny_corpus: Corpus, wrong: dict[str, object]
) -> None:
    with pytest.raises(ConfigError) as refused:
        grid.trials([ROUTER], tiny_corpus, profiles.PROFILES["full"], seeds=[0], selection="last", **wrong)
    assert refused.value.where == f"config field {min(wrong)!r}"


def test_entropy_and_explained_shares_at_their_borders() -> None:
    g = pd.DataFrame({"a": [1 / 3, 1.0, 0.5], "b": [1 / 3, 0.0, 0.5], "c": [1 / 3, 0.0, 0.0]})
    assert routing.entropy(g).to_numpy() == pytest.approx([1, 0, np.log(2) / np.log(3)])
    table = pd.DataFrame({"a": [1.0, 1.0, 3.0, 3.0], "b": [1.0, 3.0, 1.0, 3.0]})
    assert routing.explained(table, pd.Series(["x", "x", "y", "y"])).to_dict() == {"a": 1.0, "b": 0.0}


def test_one_training_gives_every_row_and_keeps_every_weight(tiny_corpus: Corpus, tmp_path: Path) -> None:
    rows = tuple(replace(row, changes=tiny.SMALL) for row in ROUTER.rows)
    watched = Experiment("router", "", rows, protocols=ROUTER.protocols)
    plain = Experiment("first", "", (Row("full", tiny.SMALL),))
    full, store = profiles.PROFILES["full"], Store("tiny", tmp_path)
    wanted = grid.trials([watched], tiny_corpus, full, seeds=[0])
    assert grid.run(wanted, tiny_corpus, store, workers=1, progress=False) == 5  # trainings
    found = store.read("router")
    assert len(found) == 5 * len(ROUTER.rows)
    grid.run(grid.trials([plain], tiny_corpus, full, seeds=[0]), tiny_corpus, store, workers=1, progress=False)
    own = found[found["row"] == "its own weights, clean"].set_index("fold")["accuracy"].sort_index()
    assert own.equals(store.read("first").set_index("fold")["accuracy"].sort_index())

    weights = routing.kept(store, CONFIG)
    assert list(weights.columns) == list(CONFIG.experts)
    assert weights.sum(axis=1).to_numpy() == pytest.approx(np.ones(len(weights)), abs=2e-3)
    assert weights.groupby("condition").size().to_dict() == dict.fromkeys(HEARD, len(tiny_corpus))
    tested = weights.xs("clean", level="condition").reset_index().groupby("trial")["id"].apply(set)
    for trial in wanted:
        assert tested[f"{trial.seed}-{trial.split.fold}"] == set(tiny_corpus.table["id"].iloc[trial.split.test])
    assert routing.kept(Store("tiny", tmp_path / "nothing"), CONFIG).empty


def test_of_an_empty_store_there_are_no_weights_and_chapter_8_can_ask_whose_they_are(tmp_path: Path) -> None:
    weights = routing.kept(Store("casia", tmp_path), Config())
    assert len(weights) == 0 and list(weights.columns) == list(Config().experts)
    assert list(weights.index.get_level_values("id").str.split("-")) == []
