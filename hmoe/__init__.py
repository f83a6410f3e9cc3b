"""HMoE-SiMBA, a model of Chinese speech emotion recognition, as the paper describes it: an equation, a file, a chapter.

`EQUATIONS` is the map. The modules beside this file are the paper; each other folder says by its name what it is for.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmoe.config import Config
    from hmoe.model import HMoESiMBA

__all__ = ["EQUATIONS", "Config", "HMoESiMBA"]

EQUATIONS: dict[int, tuple[str, str]] = {
    1: ("hmoe.model.HMoESiMBA.parts", "10-hmoe-simba"),  # the emotion of highest probability
    2: ("hmoe.features.pool", "02-features"),  # averaged over time ...
    3: ("hmoe.features.pool", "02-features"),  # ... and side by side
    4: ("hmoe.augment.mixed", "03-augmentation"),  # noise
    5: ("hmoe.model.HMoESiMBA.parts", "08-routing"),  # experts, weighted
    6: ("hmoe.router.Router.forward", "08-routing"),  # by the router
    7: ("hmoe.simba.EinFFT.forward", "09-simba"),  # into frequencies
    8: ("hmoe.simba.ChannelSelection.forward", "09-simba"),  # some of them selected
    9: ("hmoe.simba.SiMBA.forward", "09-simba"),  # a Mamba block; its recurrence: hmoe.scan, chapter 07
    10: ("hmoe.train.train_epoch", "10-hmoe-simba"),  # cross-entropy
}
"""Equation of the paper -> what is it here, and the chapter that takes it apart."""

# Of tqdm, by whatever library imports it in a notebook: bars are text there, which needs no widgets.
warnings.filterwarnings("ignore", message="IProgress not found")

_LAZY = {"Config": "hmoe.config", "HMoESiMBA": "hmoe.model"}


def __getattr__(name: str) -> Any:
    # When it is asked for: `hmoe --help` need not wait for PyTorch.
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'hmoe' has no attribute {name!r}")
