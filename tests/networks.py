"""Every kind of network that the tables name, by the name of its model and what it reads."""

from __future__ import annotations

from torch import nn

from hmoe import peers
from hmoe.config import Config
from hmoe.study.experiments import EXPERIMENTS

NETWORKS = {
    f"{config.model}, {config.reading}": config
    for experiment in EXPERIMENTS.values()
    for row in experiment.rows
    if isinstance(peers.build(config := row.config(), 3), nn.Module)
} | {f"hmoe-simba, {reading}": Config(reading=reading) for reading in ("modalities", "features", "statistics")}
