"""Masked patches: an encoder learns to fill in hidden parts of unlabelled speech (Audio Mamba, Yadav and Tan 2024)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from hmoe.base.errors import ConfigError, TrainingError
from hmoe.base.files import atomic_write
from hmoe.base.seeds import stable_seed
from hmoe.corpora import Corpus
from hmoe.parrot.ssamba import BANDS, BLOCKS, FRAMES, PER_STEP, SIZES, PatchEncoder, log_mel

HIDDEN = 0.5  # share of the patches
CROP = 200  # frames: 2 s
BATCH, LR = 32, 1e-3


def pretrain(
    heard: Sequence[Corpus], kind: str, size: str = "micro", epochs: int = 10, seed: int = 0, progress: bool = False
) -> tuple[PatchEncoder, list[float]]:
    """Train on every utterance of the corpora `heard`; returns the encoder and the mean loss of each epoch.

    The loss is the squared error of hidden patches, standardised: 1 is what guessing the mean would give. Labels are
    not read. Whoever evaluates the encoder on one of these corpora leaves out what is tested first (`Corpus.subset`).
    """
    if kind not in BLOCKS or size not in SIZES:
        raise ConfigError("encoder", f"got {kind!r}, {size!r}", f"known: {', '.join(BLOCKS)}; {', '.join(SIZES)}")
    if not any(map(len, heard)):
        raise ConfigError("pre-training", "no utterance is left to hear", "leave out fewer speakers")
    mels = [log_mel(corpus.waveform(i)) for corpus in heard for i in range(len(corpus))]
    torch.manual_seed(stable_seed(seed, "pretrain"))
    encoder = PatchEncoder(kind, size)
    head = nn.Linear(SIZES[size][0], FRAMES * BANDS)
    everything = torch.cat(mels)
    encoder.mean.copy_(everything.mean())
    encoder.deviation.copy_(everything.std())
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=epochs * -(-len(mels) // BATCH))
    history = []
    bar = tqdm(range(epochs), unit="epoch", disable=not progress)
    for epoch in bar:
        rng = np.random.default_rng(stable_seed(seed, "pretrain", epoch))
        total = 0.0
        for rows in np.array_split(rng.permutation(len(mels)), -(-len(mels) // BATCH)):
            batch = torch.stack([crop(mels[i], rng) for i in rows])
            masked = torch.from_numpy(rng.random((len(rows), PER_STEP * (CROP // FRAMES))) < HIDDEN)
            loss = masked_loss(encoder, head, batch, masked)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        history.append(total / len(mels))
        bar.set_postfix(loss=f"{history[-1]:.3f}")
        if not np.isfinite(history[-1]):
            raise TrainingError(f"epoch {epoch + 1}", f"the loss is {history[-1]}", "check the audio")
    return encoder.eval(), history


def masked_loss(encoder: PatchEncoder, head: nn.Module, mel: Tensor, masked: Tensor) -> Tensor:
    """Squared error over the hidden patches alone; `mel` (B, T, 80), `masked` (B, P)."""
    said = head(encoder.states(mel, masked))[masked]
    return F.mse_loss(said, encoder.standardised(mel)[masked])


def crop(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """(T, 80) -> (CROP, 80) from anywhere; a shorter utterance is repeated."""
    mel = mel.repeat(-(-CROP // len(mel)), 1)
    start = rng.integers(len(mel) - CROP + 1)
    return mel[start : start + CROP]


def save_encoder(encoder: PatchEncoder, path: str | Path, facts: dict[str, str]) -> None:
    header = {"kind": encoder.kind, "size": encoder.size, "facts": json.dumps(facts)}
    atomic_write(path, save({k: v.contiguous() for k, v in encoder.state_dict().items()}, metadata=header))


def load_encoder(path: str | Path) -> PatchEncoder:
    """With its `facts`, as saved. ConfigError if the file is missing, damaged or of another shape than it says."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            encoder = PatchEncoder(header["kind"], header["size"])
            encoder.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            encoder.facts = json.loads(header.get("facts", "{}"))
    except FileNotFoundError:
        raise ConfigError(path, "no such encoder", f"make it: `hmoe pretrain {Path(path).stem}`") from None
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        why = str(error)[:200]
        raise ConfigError(path, f"not an encoder of patches ({why})", "make one with `hmoe pretrain`") from None
    return encoder.eval()
