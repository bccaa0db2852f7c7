"""MobileFace takes MXNet's parameters, all of them, and nothing that is not whole."""

import struct

import numpy as np
import pytest
import torch

from mien.train.networks.backbones import backbone
from mien.train.networks.starting_weights import load_start

PARTS = {
    "0.weight": "weight",
    "1.weight": "gamma",
    "1.bias": "beta",
    "1.running_mean": "moving_mean",
    "1.running_var": "moving_var",
}


def mxnet_name(name):
    """The published file's name of a tensor of the network."""
    unit, part = name.rsplit(".", 2)[0], ".".join(name.rsplit(".", 2)[1:])
    kind = PARTS[part]
    table = "aux" if kind.startswith("moving") else "arg"
    layer = "convolution" if kind == "weight" else "batchnorm"
    if unit == "stem":
        return f"{table}:{'conv1' if layer == 'convolution' else 'bn1'}_{kind}"
    _, block, place = unit.split(".")
    number = 3 * int(block) + ("expand", "filter", "project").index(place)
    return f"{table}:{layer}{number}_{kind}"


def packed(arrays):
    """A list of arrays as MXNet writes it."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        shape = struct.pack(f"<{array.ndim}q", *array.shape)
        head = struct.pack("<Ii", 0xF993FAC9, 0) + struct.pack("<I", array.ndim) + shape
        parts.append(head + struct.pack("<iii", 1, 0, 0) + array.astype("<f4").tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        parts.append(struct.pack("<Q", len(name)) + name.encode())
    return b"".join(parts)


@pytest.fixture(scope="module")
def published():
    """A network with random numbers in every tensor, and its file."""
    torch.manual_seed(3)
    net = backbone("mobileface", 3).eval()
    arrays = {}
    for name, tensor in net.state_dict().items():
        if tensor.dtype == torch.float32:
            tensor.copy_(torch.rand_like(tensor) * 0.2 + 0.1)
            arrays[mxnet_name(name)] = tensor.numpy().copy()
    bias = np.linspace(-1, 1, 32, dtype=np.float32)
    arrays["arg:conv1_bias"] = bias
    arrays["arg:fc1_weight"] = np.ones((4, 2048), np.float32)
    with torch.no_grad():
        # A bias before a norm is a smaller mean.
        net.stem[1].running_mean -= torch.from_numpy(bias)
    return net, packed(arrays)


def test_every_tensor_of_the_published_file_has_its_place(published, tmp_path):
    net, content = published
    path = tmp_path / "net.params"
    path.write_bytes(content)
    other = backbone("mobileface", 3).eval()
    report = load_start(other, path)
    assert report.unused == ("head.arg:fc1_weight",)
    assert all(name.endswith("num_batches_tracked") for name in report.fresh)
    crops = torch.rand(2, 3, 112, 112)
    assert torch.equal(net(crops), other(crops))
    assert net(crops).shape == (2, net.num_features) == (2, 2048)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:1000],
        lambda content: b"\x13" + content[1:],
        lambda content: content[:28] + b"\x01" + content[29:],
        lambda content: content[:-8],
    ],
    ids=["cut", "magic", "sparse", "names"],
)
def test_a_file_that_is_not_whole_is_refused(published, tmp_path, change):
    path = tmp_path / "net.params"
    path.write_bytes(change(published[1]))
    with pytest.raises(ValueError, match=r"net\.params: cannot be read as weights; save"):
        load_start(backbone("mobileface", 3), path)
