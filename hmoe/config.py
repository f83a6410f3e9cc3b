"""Every choice that the paper makes or leaves open, as one typed, validated, hashable record.

The field comments name the paper's section and the row (Q1 ... Q19) of the page "Deviations and ambiguities".
`Config()` is the default reading of the paper; `Config(reading="frames", d_state=64)` switches two choices.
The sections are classes of their own so that a function can say which choices it depends on: the feature
extractor takes `Features`, and any `Config` is one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from hmoe.base.errors import ConfigError
from hmoe.readings import READINGS

Modality = Literal["mfcc", "mel", "chroma"]
Augmentation = Literal["stretch", "pitch", "noise", "tract"]


FIRST_DEFAULTS: dict[str, Any] = {"selection": "nested"}
"""What a field was by default when the first records were made, where that has changed since (Q7)."""


class Section(BaseModel):
    """Frozen, strict about names, and hashed by what differs from the first defaults.

    Hashing the differences alone keeps old records valid when a later version adds a switch whose default
    is the old behaviour; and a default that changes changes no key, because the hash is against the first one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or type(self).__name__
            if first["type"] == "extra_forbidden":
                first["msg"] = "no such field"
            raise ConfigError(
                f"config field {field!r}", f"got {first['input']!r}: {first['msg']}", "see `hmoe config` for the fields"
            ) from None

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        # pydantic takes True for 1, and YAML takes yes and on for True.
        kept = handler(value)
        given = value if isinstance(value, list | tuple) else [value]
        if cls.model_fields[info.field_name].annotation is not bool and any(isinstance(one, bool) for one in given):
            raise ValueError("a number is expected, not yes or no")
        return kept

    def changes(self) -> dict[str, Any]:
        """The fields that differ from the paper's default reading, as plain JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def key(self) -> str:
        """12 hexadecimal digits that name this configuration, the same on every machine."""
        first = {name: field.default for name, field in type(self).model_fields.items()} | FIRST_DEFAULTS
        differing = {name for name in type(self).model_fields if getattr(self, name) != first[name]}
        text = json.dumps(self.model_dump(mode="json", include=differing), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def only(self, section: type[Section]) -> Section:
        """The part of this configuration that belongs to `section`, e.g. `config.only(Features)`."""
        return section(**{name: getattr(self, name) for name in section.model_fields})

    def replace(self, **values: Any) -> Self:
        """A copy with some fields changed, validated again."""
        return type(self)(**{**dict(self), **values})


class Features(Section):
    """§3.2, Q10: MFCC, log-mel and chroma on one 25 ms / 10 ms grid."""

    sample_rate: int = Field(16_000, gt=0)  # Hz; table 1
    window: int = Field(400, gt=0)  # samples: 25 ms
    n_fft: int = Field(512, gt=0)  # Q10: the next power of two
    hop: int = Field(160, gt=0)  # samples: 10 ms
    n_mfcc: int = Field(40, gt=0)
    deltas: bool = True  # first and second differences of the MFCC: D_mfcc = 3 * n_mfcc
    n_mels: int = Field(128, gt=0)
    n_chroma: int = Field(12, gt=0)
    pad_to: int | None = Field(None, gt=0)  # samples: cut, or padded with silence, on both sides; None: as it is
    level: Literal["absolute", "utterance"] = "absolute"  # Q10: 0 dB is full scale, or the utterance's own maximum

    @property
    def dims(self) -> dict[str, int]:
        """Width of each modality in the T x D matrix, in the order of eq. 3."""
        return {"mfcc": self.n_mfcc * (3 if self.deltas else 1), "mel": self.n_mels, "chroma": self.n_chroma}


class Augmenting(Section):
    """§3.3, Q8, Q9: what happens to a training waveform."""

    augment: tuple[Augmentation, ...] = ("stretch", "pitch", "noise")
    augment_probability: float = Field(0.5, ge=0, le=1)  # Q8: of each augmentation, independently
    stretch_range: tuple[float, float] = (0.8, 1.2)  # Q9: factors of the duration
    pitch_semitones: tuple[int, ...] = (-2, -1, 0, 1, 2)
    snr_range: tuple[float, float] = (10.0, 25.0)  # dB
    tract_range: tuple[float, float] = (0.85, 1.15)  # factors of the formants; not in the paper (chapter 20)


class Architecture(Section):
    """§3.4 to §3.6."""

    reading: Literal[tuple(READINGS)] = "pooled"  # Q1; see `readings`
    modalities: tuple[Modality, ...] = ("mfcc", "mel", "chroma")  # Q15: a removed one loses its columns everywhere
    standardise: bool = True  # Q10: with statistics of the training utterances
    by_speaker: bool = False  # first each speaker's own mean and deviation, which need no labels (chapter 20)
    frame_stride: int = Field(1, ge=1)  # Q17: `frames` averages this many consecutive frames into one
    d_model: int = Field(128, gt=0)  # Q17
    dropout: float = Field(0.1, ge=0, lt=1)  # Q17

    experts: tuple[str, ...] = ("lstm", "cnn", "transformer")  # §3.4; Q15: a removed one is not there
    expert_mamba: bool = True  # Q4: a Mamba block in each expert
    lstm_layers: int = Field(1, ge=1)  # Q17
    cnn_layers: int = Field(2, ge=1)  # Q17
    kernel_size: int = Field(5, ge=1)  # Q17
    transformer_layers: int = Field(1, ge=1)  # Q17
    heads: int = Field(4, ge=1)  # Q17

    router: Literal["learned", "uniform"] = "learned"  # Q15: w/o router = uniform weights
    router_hidden_layers: Literal[1, 2] = 2  # Q5
    router_width: int = Field(64, gt=0)  # Q17

    simba: bool = True  # Q15: w/o SiMBA = identity
    simba_order: Literal["einfft-mamba", "mamba-einfft"] = "einfft-mamba"  # Q3
    einfft: Literal["simba", "rfft", "einsum"] = "simba"  # Q2
    einfft_blocks: int = Field(4, ge=1)  # SiMBA's block-diagonal MLP
    d_selected: int = Field(128, gt=0)  # eq. 8, fig. 3
    d_state: int = Field(256, gt=0)  # fig. 2; each Mamba block scales it (Q4)
    expand: int = Field(2, ge=1)  # Mamba
    d_conv: int = Field(4, ge=1)  # Mamba

    encoders: tuple[str, ...] = ()  # names of `hmoe.parrot.encoders`; PARROT reads one or two, or "hmoe-simba"
    layer: int | tuple[int, ...] | Literal["last", "all"] = "last"  # of an encoder; 0 is the first block's input
    encoder_window: float = Field(0.0, ge=0, le=30)  # s that Whisper hears at least; 0: as long as the utterance is
    pooling: Literal["mean", "mean+deviation"] = "mean"  # what is kept of a layer's frames
    fusion: Literal["parrot", "concatenation", "hadamard", "transport"] = "parrot"
    plan: Literal["batch", "anchors"] = "batch"  # whom a tested utterance is transported among
    filters: int = Field(64, ge=1)  # of a branch's first convolution; the second has twice as many


class Training(Section):
    """§3.7 and §4.1."""

    optimizer: Literal["adamw", "adam"] = "adamw"  # Q6
    lr: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-5, ge=0)
    lr_decay: float = Field(0.9, gt=0, le=1)  # factor ...
    lr_decay_every: int = Field(10, ge=1)  # ... every so many epochs
    betas: tuple[float, float] = (0.9, 0.999)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    batch_size: int = Field(32, ge=1)
    epochs: int = Field(100, ge=1)
    selection: Literal["last", "nested", "test"] = "last"  # Q7: which epoch is tested
    validation_fraction: float = Field(0.1, gt=0, lt=1)  # of the training folds, for `nested`
    copies: int = Field(32, ge=1)  # Q8: distinct augmented copies of an utterance; each epoch draws one of them


class Config(Features, Augmenting, Architecture, Training):
    """The whole paper on one page: all sections, flat."""

    model: str = "hmoe-simba"  # or a peer's name, see hmoe.peers

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        def refuse(field: str, why: str) -> None:
            raise ConfigError(f"config field {field!r}", f"got {getattr(self, field)!r}", why)

        if not self.experts or len(set(self.experts)) < len(self.experts):
            refuse("experts", "name each expert once, at least one")
        given = READINGS[self.reading].sequence and self.encoders  # whose frames may stand in the place of ours
        if not (self.modalities or given) or len(set(self.modalities)) < len(self.modalities):
            refuse("modalities", "name each modality once, at least one")
        if self.encoders and not {"frames", "embeddings"} & set(READINGS[self.reading].blocks):
            refuse("encoders", f"reading {self.reading!r} reads no encoder: reading=embeddings, or reading=frames")
        if given and self.modalities and self.pad_to:  # ours begin with silence then, theirs with the utterance
            refuse("pad_to", "an encoder hears no padding: leave pad_to out, or modalities=[]")
        if self.encoders and self.reading == "frames" and self.augment:
            refuse("augment", "encoders hear no augmented copies: augment=[]")
        if self.encoder_window and not self.encoders:
            refuse("encoder_window", "it is an encoder's: name Whisper in encoders")
        numbers = self.layer if isinstance(self.layer, tuple) else (self.layer,)
        if not numbers or any(isinstance(number, int) and number < 0 for number in numbers):
            refuse("layer", "layers count from 0: one of them, several side by side, last, or all")
        if len(set(self.augment)) < len(self.augment):
            refuse("augment", "name each augmentation once")
        if not self.pitch_semitones:
            refuse("pitch_semitones", "name at least one; augment=[] switches augmentation off")
        if not all(0 <= beta < 1 for beta in self.betas):
            refuse("betas", "each needs 0 <= beta < 1")
        if self.d_model % self.heads:
            refuse("heads", f"must divide d_model = {self.d_model}")
        if self.d_model % self.einfft_blocks:
            refuse("einfft_blocks", f"must divide d_model = {self.d_model}")
        if self.kernel_size % 2 == 0:
            refuse("kernel_size", "must be odd, so that a convolution keeps the number of frames")
        if self.n_mfcc > self.n_mels:
            refuse("n_mfcc", f"must not exceed n_mels = {self.n_mels}")
        if self.window > self.n_fft:
            refuse("window", f"must not exceed n_fft = {self.n_fft}")
        if self.stretch_range[0] <= 0 or self.stretch_range[0] > self.stretch_range[1]:
            refuse("stretch_range", "needs 0 < low <= high")
        if self.tract_range[0] <= 0 or self.tract_range[0] > self.tract_range[1]:
            refuse("tract_range", "needs 0 < low <= high")
        if self.snr_range[0] > self.snr_range[1]:
            refuse("snr_range", "needs low <= high")
        return self
