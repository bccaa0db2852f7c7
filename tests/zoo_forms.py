"""Random networks in the form in which HSEmotion and EmotiEffLib publish theirs: ONNX and .pt.

Architectures and last layers as they are known: `tf_efficientnet_b0` and `_b2` whose `classifier`
is a Sequential with one Linear (expressions only) or a plain Linear (with valence and arousal),
`mobilevit_s` with `head.fc`, InsightFace's MobileFaceNet with `fc`.
"""

import functools
import io
import sys
import types
import warnings
from pathlib import Path

import timm
import torch
from torch import nn

__all__ = ["mobilefacenet", "network", "onnx_bytes", "pt_file", "randomise"]


def randomise(net: nn.Module, size: int, seed: int = 0) -> nn.Module:
    """Fit the statistics of the norms to noise of `size` px, so that outputs depend on the input.

    The network is in evaluation mode afterwards.
    """
    torch.manual_seed(seed)
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.normal_(norm.bias, 0, 0.1)
        norm.momentum = 1.0
    channels = next(part.in_channels for part in net.modules() if isinstance(part, nn.Conv2d))
    with torch.no_grad():
        net.train()(torch.randn(4 if size > 100 else 16, channels, size, size))
    for norm in norms:
        norm.momentum = 0.1
        norm.running_var.clamp_(min=0.05)  # what hardly varied must not outgrow the rest elsewhere
    for part in net.modules():
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.normal_(part.bias, 0, 0.5)
    return net.eval()


@functools.cache
def network(
    architecture: str = "tf_efficientnet_b0",
    outputs: int = 8,
    size: int = 224,
    *,
    sequential: bool | None = None,
    seed: int = 0,
) -> nn.Module:
    """A timm network with that many outputs, for crops of `size` px.

    It is the same object each time: leave it as it is. With `sequential` the classifier is in a
    Sequential; by default as theirs.
    """
    torch.manual_seed(seed)
    net = timm.create_model(architecture, pretrained=False, num_classes=outputs)
    nn.init.normal_(net.get_classifier().weight, 0, 0.05)
    if architecture.startswith("tf_") and outputs < 10 if sequential is None else sequential:
        net.classifier = nn.Sequential(net.classifier)
    return randomise(net, size, seed)


class ConvBlock(nn.Module):
    def __init__(self, a: int, b: int, k: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d(
            a,
            b,
            (k, k),
            stride=(stride, stride),
            padding=(k // 2, k // 2),
            groups=groups,
            bias=False,
        )
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(b), nn.PReLU(b))

    def forward(self, x):
        return self.layers(x)


class LinearBlock(nn.Module):
    def __init__(self, a: int, b: int, k: int, groups: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(a, b, (k, k), groups=groups, bias=False), nn.BatchNorm2d(b)
        )

    def forward(self, x):
        return self.layers(x)


class DepthWise(nn.Module):
    def __init__(
        self, a: int, b: int, groups: int, stride: int = 2, residual: bool = False
    ) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.Sequential(
            ConvBlock(a, groups, 1),
            ConvBlock(groups, groups, 3, stride, groups),
            LinearBlock(groups, b, 1),
        )

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


class Residual(nn.Module):
    def __init__(self, width: int, blocks: int, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(DepthWise(width, width, groups, 1, True) for _ in range(blocks))
        )

    def forward(self, x):
        return self.layers(x)


class Flatten(nn.Module):
    def forward(self, x):
        return x.view(x.size(0), -1)


class GDC(nn.Module):
    def __init__(self, embedding: int) -> None:
        super().__init__()
        last = nn.Linear(512, embedding, bias=False)
        self.layers = nn.Sequential(
            LinearBlock(512, 512, 7, 512), Flatten(), last, nn.BatchNorm1d(embedding)
        )

    def forward(self, x):
        return self.layers(x)


class MobileFaceNet(nn.Module):
    """In the names and order of InsightFace's arcface_torch, with `fc` besides."""

    def __init__(self, outputs: int, blocks: tuple[int, int, int, int], scale: int) -> None:
        super().__init__()
        n, w = 64 * scale, 128 * scale
        first = ConvBlock(n, n, 3, 1, 64) if blocks[0] == 1 else Residual(n, blocks[0], 128)
        self.layers = nn.ModuleList(
            [
                ConvBlock(3, n, 3, 2),
                first,
                DepthWise(n, n, 128),
                Residual(n, blocks[1], 128),
                DepthWise(n, w, 256),
                Residual(w, blocks[2], 256),
                DepthWise(w, w, 512),
                Residual(w, blocks[3], 256),
            ]
        )
        self.conv_sep = ConvBlock(w, 512, 1)
        self.features = GDC(512)
        self.fc = nn.Linear(512, outputs)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.fc(self.features(self.conv_sep(x)))


@functools.cache
def mobilefacenet(outputs: int = 10, *, large: bool = False, seed: int = 0) -> nn.Module:
    """A MobileFaceNet for 112 px. The same object each time: leave it as it is."""
    torch.manual_seed(seed)
    return randomise(
        MobileFaceNet(outputs, (2, 8, 12, 4) if large else (1, 4, 6, 2), 4 if large else 2),
        112,
        seed,
    )


@functools.cache
def onnx_bytes(
    net: nn.Module,
    size: int = 224,
    *,
    free_batch: bool = True,
    opset: int = 14,
    keep_inputs: bool = False,
) -> bytes:
    """The network as ONNX with the input `input` and the output `output`.

    With `keep_inputs`, weights are listed as inputs, as old exporters did.
    """
    axes = {"input": {0: "batch_size"}, "output": {0: "batch_size"}} if free_batch else None
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, size, size),),
            file,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=axes,
            opset_version=opset,
            keep_initializers_as_inputs=keep_inputs,
            dynamo=False,
        )
    return file.getvalue()


def pt_file(net: nn.Module, path: Path, *, whole: bool = True, legacy: bool = False) -> Path:
    """The whole pickled network, or its state dict, in torch.save's zip format or the older one.

    A `MobileFaceNet` is pickled as a class of the module `mobilefacenet`, which no reader of the
    file has.
    """
    theirs = types.ModuleType("mobilefacenet")
    classes = (ConvBlock, LinearBlock, DepthWise, Residual, Flatten, GDC, MobileFaceNet)
    before = {one: one.__module__ for one in classes}
    sys.modules[theirs.__name__] = theirs
    try:
        for one in classes:
            one.__module__ = theirs.__name__
            setattr(theirs, one.__name__, one)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the older format cannot find the source of these classes
            torch.save(
                net if whole else net.state_dict(), path, _use_new_zipfile_serialization=not legacy
            )
    finally:
        del sys.modules[theirs.__name__]
        for one, module in before.items():
            one.__module__ = module
    return path
