"""The rows of Table 2, by name: a model is a `torch.nn.Module` or a scikit-learn estimator.

A network reads `forward(x, lengths) -> logits` and has a `standardise` module; it may bring its own `loss(logits,
targets)`. An estimator reads `fit(X, y)` and `predict(X)`.
"""

from __future__ import annotations

from collections.abc import Callable

from sklearn.base import BaseEstimator
from torch import nn

from hmoe.base.errors import ConfigError
from hmoe.config import Config
from hmoe.model import HMoESiMBA
from hmoe.parrot.cached import beside
from hmoe.parrot.fusion import PARROT
from hmoe.peers import classical
from hmoe.peers.cnn_bigru import CNNBiGRU
from hmoe.peers.controls import CONTROLS
from hmoe.peers.cpac import CPAC
from hmoe.peers.dcnn_lstm import DCNNLSTM
from hmoe.peers.sequence import LSTM, Transformer
from hmoe.peers.tim_net import TIMNet
from hmoe.peers.tlfmrf import tlfmrf
from hmoe.peers.unseen import across_speakers
from hmoe.peers.wide import CLASSIFIERS, builder

ESTIMATORS: dict[str, Callable[[Config, int], BaseEstimator]] = {
    "svm": classical.svm,
    "lr": classical.lr,
    "rf": classical.rf,
    "svm-centred": classical.scaled(classical.svm, with_std=False),
    "svm-scaled": classical.scaled(classical.svm),
    "lr-scaled": classical.scaled(classical.lr),
    "rf-scaled": classical.scaled(classical.rf),
    "svm-tuned": classical.svm_tuned,
    "lr-tuned": classical.lr_tuned,
    "rf-tuned": classical.rf_tuned,
    **{f"wide-{kind}": builder(kind, across=False) for kind in CLASSIFIERS},
    **{f"wide-{kind}-across-speakers": builder(kind, across=True) for kind in CLASSIFIERS},
    "across-speakers-statistics": across_speakers.statistics,
    "across-speakers-prosody": across_speakers.prosody,
    "across-speakers-both": across_speakers.both,
    "across-speakers-balanced": across_speakers.balanced,
    "across-speakers-network": across_speakers.network,
    "across-speakers-adversarial": across_speakers.penalised("adversarial"),
    "across-speakers-coral": across_speakers.penalised("coral"),
    "across-speakers-apart": across_speakers.apart,
    "across-speakers-everyone": across_speakers.everyone,
    "tlfmrf": tlfmrf,
}

NETWORKS: dict[str, Callable[[Config, int], nn.Module]] = {
    "lstm": LSTM,
    "transformer": Transformer,
    "dcnn-lstm": DCNNLSTM,
    "cnn-bigru": CNNBiGRU,
    "cpac": CPAC,
    "tim-net": TIMNet,
    "parrot": PARROT,
    "hmoe-simba": lambda config, C: HMoESiMBA(config, C, beside=beside(config)),
    **CONTROLS,
}

MODELS = {**ESTIMATORS, **NETWORKS}


def build(config: Config, C: int) -> nn.Module | BaseEstimator:
    """The untrained model that `config.model` names, for C classes."""
    if config.model not in MODELS:
        raise ConfigError("config field 'model'", f"got {config.model!r}", f"known: {', '.join(sorted(MODELS))}")
    return MODELS[config.model](config, C)
