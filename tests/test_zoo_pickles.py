"""Files of torch.save are read right; what else a pickle may ask for is refused and never run."""

import struct
import sys
import tarfile
import zipfile
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from pickletools import genops

import numpy as np
import pytest
import torch
from torch import nn
from zoo_forms import mobilefacenet, network, pt_file, randomise

from mien.errors import BundleError
from mien.zoo.pickles import Name, Record, read_pt, tensors


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def zipped(
    path: Path, program: bytes, storages: dict[str, bytes] | None = None, *, packed: bool = False
) -> Path:
    """An archive as torch.save writes it, around a program of our own."""
    with zipfile.ZipFile(
        path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    ) as archive:
        archive.writestr("x/data.pkl", program)
        archive.writestr("x/byteorder", "little")
        for key, content in (storages or {}).items():
            archive.writestr(f"x/data/{key}", content)
        archive.writestr("x/version", "3\n")
    return path


def text(value: str) -> bytes:
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        tensors(read_pt(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert len(message) < len(str(path)) + 220
    return message


# -- good files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "make",
    [lambda: network(size=64), mobilefacenet, lambda: network("mobilevit_s", 10, 64)],
    ids=["b0", "mobilefacenet", "mobilevit"],
)
def test_a_whole_pickled_network_gives_its_state_dict(make, legacy, tmp_path):
    net = make()
    content = tensors(read_pt(pt_file(net, tmp_path / "net.pt", legacy=legacy)))
    expected = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    assert list(content) == list(expected)
    for name, tensor in expected.items():
        assert content[name].dtype == tensor.dtype
        np.testing.assert_array_equal(content[name], tensor, err_msg=name)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_reads_as_torch_reads_it(legacy, tmp_path):
    path = pt_file(network(size=64), tmp_path / "state.pt", whole=False, legacy=legacy)
    expected = torch.load(path, weights_only=True)
    content = tensors(read_pt(path))
    assert list(content) == list(expected)
    assert all(np.array_equal(content[name], tensor.numpy()) for name, tensor in expected.items())


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    ],
)
def test_kinds_of_numbers(dtype, tmp_path):
    tensor = (torch.arange(-6, 6) * 1.37).to(dtype).reshape(3, 4)
    torch.save({"t": tensor, "flags": tensor > 0}, tmp_path / "t.pt")
    content = tensors(read_pt(tmp_path / "t.pt"))
    expected = tensor.float().numpy() if dtype == torch.bfloat16 else tensor.numpy()
    assert content["t"].dtype == expected.dtype
    np.testing.assert_array_equal(content["t"], expected)
    np.testing.assert_array_equal(content["flags"], expected > 0)


def test_strides_offsets_and_shared_storages(tmp_path):
    whole = torch.arange(24.0).reshape(2, 3, 4)
    views = {
        "whole": whole,
        "turned": whole.permute(2, 0, 1),
        "part": whole[1, 1:, ::2],
        "last": whole[1, 2, 3],
        "none": whole[:, :0],
    }
    last = nn.Parameter(torch.randn(8, 3, 3, 3).to(memory_format=torch.channels_last))
    torch.save({**views, "last_channels": last}, tmp_path / "t.pt")
    content = tensors(read_pt(tmp_path / "t.pt"))
    for name, tensor in views.items():
        np.testing.assert_array_equal(content[name], tensor.numpy())
    np.testing.assert_array_equal(content["last_channels"], last.detach().numpy())
    assert np.shares_memory(content["whole"], content["turned"])
    with pytest.raises(ValueError, match="read-only"):
        content["whole"][0] = 1


class Odd(nn.Module):
    """Everything that decides how torch names a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.register_parameter("nothing", None)
        self.register_buffer("lasting", torch.arange(3))
        self.register_buffer("passing", torch.ones(3), persistent=False)
        self.twice = nn.Linear(2, 2)
        self.again = self.twice
        self.empty = None
        self.parts = nn.ModuleDict({"a": nn.Conv2d(1, 2, 3), "b": nn.Sequential(nn.BatchNorm2d(2))})
        self.weight.note = "attributes of a parameter go through another function"
        self.settings = {
            "where": torch.device("cpu"),
            "shape": torch.Size([1, 2]),
            "kind": torch.float16,
            "rate": np.float64(0.5),
        }
        self.act = torch.nn.functional.silu


def test_parameters_buffers_and_shared_modules_are_named_as_torch_names_them(tmp_path):
    net = Odd()
    torch.save(net, tmp_path / "odd.pt")
    content = read_pt(tmp_path / "odd.pt")
    assert isinstance(content, Record)
    assert content.name == f"{Odd.__module__}.Odd"
    assert content.state["act"] == Name("torch.nn.functional.silu") or isinstance(
        content.state["act"], Name
    )
    assert content.state["settings"]["where"].args == ("cpu",)
    named = tensors(content)
    assert list(named) == list(net.state_dict())
    assert all(
        np.array_equal(named[name], tensor.numpy()) for name, tensor in net.state_dict().items()
    )


def test_nothing_is_imported(tmp_path):
    path = zipped(tmp_path / "x.pt", b"cantigravity2\nFlight\n)\x81}b.")
    assert read_pt(path).name == "antigravity2.Flight"
    assert "antigravity2" not in sys.modules


# -- files that ask for more -----------------------------------------------------------------------


@pytest.fixture
def marker(tmp_path):
    """A file that a pickle would make if anything in it ran; it must not be there at the end."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists()


def calls(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Programs that run something where a pickle is loaded, and what they ask for."""
    touch = text(f"touch {marker}")
    code = text(f"__import__('pathlib').Path({str(marker)!r}).touch()")
    inner = b"\x80\x02cos\nsystem\n" + touch + b"\x85R."
    return {
        "reduce": (b"\x80\x02cos\nsystem\n" + touch + b"\x85R.", "os.system"),
        "posix": (b"\x80\x02cposix\nsystem\n" + touch + b"\x85R.", "posix.system"),
        "eval": (b"\x80\x02c__builtin__\neval\n" + code + b"\x85R.", "__builtin__.eval"),
        "exec": (
            b"\x80\x04" + text("builtins") + text("exec") + b"\x93" + code + b"\x85R.",
            "builtins.exec",
        ),
        "import": (
            b"\x80\x02c__builtin__\n__import__\n" + text("os") + b"\x85R.",
            "__builtin__.__import__",
        ),
        "getattr": (
            b"\x80\x02cbuiltins\ngetattr\ncos\nenviron\n" + text("x") + b"\x86R.",
            "builtins.getattr",
        ),
        "attribute": (
            b"\x80\x04" + text("torch.nn") + text("os.system") + b"\x93" + touch + b"\x85R.",
            "torch.nn.os.system",
        ),
        "dotted": (
            b"\x80\x04" + text("timm") + text("sys.modules") + b"\x93" + touch + b"\x85R.",
            "timm.sys.modules",
        ),
        "dotted-dict": (
            b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93.",
            "collections.OrderedDict.fromkeys",
        ),
        "subclasses": (
            b"\x80\x04" + text("torch.nn") + text("Module.__subclasses__") + b"\x93)R.",
            "torch.nn.Module.__subclasses__",
        ),
        "inst": (b"(S'touch " + str(marker).encode() + b"'\nios\nsystem\n.", "os.system"),
        "obj": (b"(cos\nsystem\n" + touch + b"o.", "os.system"),
        "newobj": (b"\x80\x02csubprocess\nPopen\n" + touch + b"\x85\x81.", "subprocess.Popen"),
        "newobj-ex": (b"\x80\x04csubprocess\nPopen\n" + touch + b"\x85}\x92.", "subprocess.Popen"),
        "function": (
            b"\x80\x02ctimm.models\nload_checkpoint\n" + touch + b"\x85R.",
            "a call of timm.models.load_checkpoint",
        ),
        "torch-load": (b"\x80\x02ctorch\nload\n" + touch + b"\x85R.", "torch.load"),
        "torch-hub": (b"\x80\x02ctorch.hub\nload\n" + touch + b"\x85R.", "torch.hub.load"),
        "library": (
            b"\x80\x02ctorch._ops\nload_library\n" + touch + b"\x85R.",
            "torch._ops.load_library",
        ),
        "numpy": (
            b"\x80\x02cnumpy.testing._private.utils\nrunstring\n" + code + b"}\x86R.",
            "numpy.testing._private.utils.runstring",
        ),
        "copyreg": (
            b"\x80\x02ccopyreg\n_reconstructor\nctorch.nn\nModule\nctorch.nn\nLinear\nN\x87R.",
            "copyreg._reconstructor",
        ),
        "old-copyreg": (b"\x80\x02ccopy_reg\n_reconstructor\n)R.", "copy_reg._reconstructor"),
        "nested": (
            b"\x80\x02cpickle\nloads\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R.",
            "pickle.loads",
        ),
        "old-nested": (b"\x80\x02ccPickle\nloads\n" + touch + b"\x85R.", "cPickle.loads"),
        "partial": (
            b"\x80\x02cfunctools\npartial\ncos\nsystem\n\x85R" + touch + b"\x85R.",
            "functools.partial",
        ),
        "setstate-text": (b"\x80\x02" + text("a") + text("b") + b"b.", "a state for a str"),
        "setstate-dict": (
            b"\x80\x02ccollections\nOrderedDict\n)R}" + text("__class__") + touch + b"sb.",
            "a state for a dict",
        ),
        "setstate-class": (
            b"\x80\x02ctorch.nn\nLinear\n}" + text("forward") + touch + b"sb.",
            "a state for a Name",
        ),
        "setstate-twice": (
            b"\x80\x02ctorch.nn\nLinear\n)\x81}b}b.",
            "a state for a torch.nn.Linear",
        ),
        "ext1": (b"\x80\x02\x82\x01.", "the operation EXT1"),
        "ext2": (b"\x80\x02\x83\x01\x00.", "the operation EXT2"),
        "ext4": (b"\x80\x02\x84\x01\x00\x00\x00.", "the operation EXT4"),
        "buffer": (b"\x80\x05\x97.", "the operation NEXT_BUFFER"),
        "text-id": (b"\x80\x02Pevil\n.", "the operation PERSID"),
        "id": (
            b"\x80\x02" + text("file") + text(str(marker)) + b"\x86Q.",
            "the persistent id 'file'",
        ),
        "id-call": (
            b"\x80\x02" + text("storage") + text("os.system") + touch + b"\x87Q.",
            "the persistent id 'storage'",
        ),
        "called-call": (b"\x80\x02ctorch.nn\nLinear\n)\x81)R.", "a call of a Record"),
        "called-result": (b"\x80\x02" + touch + b"\x85" + touch + b"\x85R.", "a call of a tuple"),
        "name": (b"\x80\x04" + text("os\x00") + text("system") + b"\x93.", "os\\x00.system"),
        "name-number": (b"\x80\x04K\x01" + text("system") + b"\x93.", "a name that is no text"),
        "append": (b"\x80\x02ctorch.nn\nLinear\n)\x81Na.", "items for a Record"),
        "key": (b"\x80\x02})Ns.", "a tuple as a key"),
    }


CALLS = sorted(calls(Path("x")))


@pytest.mark.parametrize("kind", CALLS)
def test_what_no_file_of_weights_needs_is_refused_by_name(kind, marker, tmp_path):
    program, what = calls(marker)[kind]
    message = refusal(zipped(tmp_path / "evil.pt", program))
    assert message.endswith(
        f"asks for {what}, which no file of weights needs; do not trust this file"
    )


@pytest.mark.parametrize("kind", ["reduce", "inst", "eval", "nested"])
def test_they_do_run_where_a_pickle_is_simply_loaded(kind, tmp_path):
    """The programs above are no harmless ones: the plain loader runs them."""
    import pickle

    marker = tmp_path / "it-ran"
    pickle.loads(calls(marker)[kind][0])  # noqa: S301
    assert marker.exists()


def test_in_the_older_format_too(marker, tmp_path):
    program, what = calls(marker)["reduce"]
    path = pt_file(nn.Linear(2, 2), tmp_path / "old.pt", whole=False, legacy=True)
    content = path.read_bytes()
    start = content.index(b"ccollections") - 2
    path.write_bytes(content[:start] + program)
    assert f"asks for {what}," in refusal(path)
    path.write_bytes(program)
    assert "is no file of torch.save" in refusal(path)


def test_a_class_of_the_files_own_stays_a_record(marker, tmp_path):
    """Where a real loader would make the object and call its `__setstate__`."""
    state = b"}" + text("path") + text(str(marker)) + b"s"
    content = read_pt(
        zipped(
            tmp_path / "own.pt",
            b"\x80\x02cmobilefacenet\nTouches\n" + text(str(marker)) + b"\x85\x81" + state + b"b.",
        )
    )
    assert (type(content), content.name, content.args, content.state) == (
        Record,
        "mobilefacenet.Touches",
        (str(marker),),
        {"path": str(marker)},
    )


# -- tensors that lie ------------------------------------------------------------------------------


def tensor(
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *,
    offset: int = 0,
    count: int = 6,
    key: str = "0",
    kind: str = "Float",
) -> bytes:
    """The program of one tensor."""
    pid = (
        b"("
        + text("storage")
        + f"ctorch\n{kind}Storage\n".encode()
        + text(key)
        + text("cpu")
        + number(count)
        + b"tQ"
    )
    sizes = b"".join(b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (size, stride))
    made = b"(" + pid + number(offset) + sizes + b"\x89ccollections\nOrderedDict\n)R" + b"tR"
    return b"\x80\x02}" + text("t") + b"ctorch._utils\n_rebuild_tensor_v2\n" + made + b"s."


SIX = np.arange(6, dtype="<f4").tobytes()


def test_our_own_program_of_a_tensor_is_good(tmp_path):
    content = tensors(
        read_pt(zipped(tmp_path / "t.pt", tensor((2, 2), (3, 1), offset=1), {"0": SIX}))
    )
    np.testing.assert_array_equal(content["t"], [[1, 2], [4, 5]])


def test_a_file_from_a_graphics_card_reads_anywhere(tmp_path):
    program = tensor((6,), (1,)).replace(text("cpu"), text("cuda:3"))
    np.testing.assert_array_equal(
        tensors(read_pt(zipped(tmp_path / "t.pt", program, {"0": SIX})))["t"], np.arange(6)
    )


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (tensor((2, 4), (4, 1)), "reaches beyond its storage of 6"),
        (tensor((2, 3), (3, 1), offset=1), "reaches beyond its storage"),
        (tensor((2**40, 2**40), (0, 0)), "reaches beyond its storage"),
        (tensor((2**20,), (0,)), "reaches beyond its storage"),
        (tensor((2,), (2**60,)), "strange offset, size or stride"),
        (tensor((2,), (-1,), offset=5), "strange offset, size or stride"),
        (tensor((2,), (1,), offset=-4), "strange offset, size or stride"),
        (tensor((2, 3), (1,)), "strange offset, size or stride"),
        (tensor((0, 2**40), (1, 1)), "empty tensor with huge sides"),
        (tensor((1,) * 40, (1,) * 40), "strange offset, size or stride"),
        (tensor((6,), (1,), count=2**36), "storage 0 has 24 bytes, not 68719476736 x 4"),
        (tensor((6,), (1,), count=2**50), "without a proper key or length"),
        (tensor((6,), (1,), key="1"), "no item named 'x/data/1'"),
        (tensor((6,), (1,), key="../../etc/passwd"), "without a proper key"),
        (
            tensor((6,), (1,))[:-1] + tensor((6,), (1,), kind="Int")[2:-1] + b"0.",
            "storage 0 is there twice, with different lengths or kinds",
        ),
        (
            tensor((6,), (1,), kind="Evil"),
            "numbers of a kind that mien does not read (torch.EvilStorage)",
        ),
        (
            tensor((6,), (1,)).replace(b"_rebuild_tensor_v2", b"_rebuild_sparse_tensor"),
            "a tensor of a kind that mien does not read",
        ),
    ],
)
def test_a_tensor_that_is_not_what_the_file_holds(program, why, tmp_path):
    assert why in refusal(zipped(tmp_path / "t.pt", program, {"0": SIX}))


# -- bombs -----------------------------------------------------------------------------------------


def test_compressed_and_overlapping_archives(tmp_path):
    bomb = zipped(
        tmp_path / "bomb.pt", tensor((2**22,), (1,), count=2**22), {"0": bytes(2**24)}, packed=True
    )
    assert bomb.stat().st_size < 2**16
    assert "is compressed, which torch.save never does; do not trust this file" in refusal(bomb)
    twice = zipped(tmp_path / "twice.pt", tensor((6,), (1,)), {"0": SIX})
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("x/data/0", bytes(24))
    assert "its entries overlap" in refusal(twice)
    lying = zipped(tmp_path / "lying.pt", tensor((6,), (1,)), {"0": SIX})
    content = lying.read_bytes()
    place = content.index(
        b"PK\x01\x02", content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4) + 4
    )  # the third entry
    lying.write_bytes(
        content[: place + 20] + struct.pack("<II", 2**31, 2**31) + content[place + 28 :]
    )
    assert "its entries overlap" in refusal(lying)


def test_a_deep_pickle_ends_in_no_recursion(tmp_path):
    deep = zipped(tmp_path / "deep.pt", b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
    assert "a list where a network" in _message(deep)
    deep_id = zipped(tmp_path / "id.pt", b"\x80\x02" + b")" + b"\x85" * 200_000 + b"Q.")
    assert "the persistent id of a tuple" in refusal(deep_id)
    marks = zipped(tmp_path / "marks.pt", b"\x80\x02" + b"(" * 200_000 + b".")
    assert "damaged or cut off" in refusal(marks)
    module = (
        b"ctorch.nn\nModule\n)\x81}("
        + text("_parameters")
        + b"}"
        + text("_buffers")
        + b"}"
        + text("_modules")
        + b"}"
        + text("m")
    )
    nested = zipped(
        tmp_path / "nested.pt", b"\x80\x02" + module * 2000 + b"N" + b"sub" * 2000 + b"."
    )
    assert "is no part of a network that mien can read" in _message(nested)


def _message(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        tensors(read_pt(path))
    return str(caught.value)


def test_a_deep_list_of_storages_in_the_older_format(tmp_path):
    path = pt_file(nn.Linear(2, 2), tmp_path / "old.pt", whole=False, legacy=True)
    stream = BytesIO(path.read_bytes())
    for _ in range(4):
        list(genops(stream))
    path.write_bytes(
        stream.getvalue()[: stream.tell()] + b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    )
    assert "its list of storages is not that of its tensors" in refusal(path)


def test_endless_files_end(tmp_path):
    memo = zipped(
        tmp_path / "memo.pt",
        b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", i) for i in range(2_100_000)) + b".",
    )
    assert "more than 2,000,000 steps" in refusal(memo)
    huge = zipped(tmp_path / "huge.pt", b"\x80\x02X\xff\xff\xff\x7fabc.")
    assert "damaged or cut off" in refusal(huge)
    # A tuple of two of the one before, and so on: 2^60 parts for whoever compares or walks it.
    laughs = zipped(tmp_path / "laughs.pt", b"\x80\x02})" + b"2\x86" * 60 + b"Ns.")
    assert "a tuple as a key" in refusal(laughs)


def test_a_network_that_holds_itself_ends(tmp_path):
    head = (
        b"ctorch.nn\nModule\n)\x81q\x00}("
        + text("_parameters")
        + b"}"
        + text("_buffers")
        + b"}"
        + text("_modules")
        + b"}"
    )
    itself = zipped(tmp_path / "itself.pt", b"\x80\x02" + head + text("m") + b"h\x00sub.")
    assert "is no part of a network" in _message(itself)
    twins = zipped(
        tmp_path / "twins.pt",
        b"\x80\x02" + head + b"(" + text("a") + b"h\x00" + text("b") + b"h\x00uub.",
    )
    with pytest.raises(BundleError, match=r"is no part of a network|more than 100,000 parts"):
        tensors(read_pt(twins))
    # Sixty modules, each twice in the one before.
    level = (
        b"q\x010ctorch.nn\nModule\n)\x81}("
        + text("_parameters")
        + b"}"
        + text("_buffers")
        + b"}"
        + text("_modules")
        + b"}("
    )
    level += text("a") + b"h\x01" + text("b") + b"h\x01uub"
    tower = zipped(tmp_path / "tower.pt", b"\x80\x02N" + level * 60 + b".")
    with pytest.raises(BundleError, match="more than 100,000 parts"):
        tensors(read_pt(tower))


LIST = b"](" + b"N" * 3000 + b"eq\x000"
TENSOR = tensor((6,), (1,))[3 + len(text("t")) : -3]


@pytest.mark.parametrize(
    "program",
    [
        LIST + b"cbuiltins\nset\nq\x010" + b"h\x01h\x00\x85R0" * 20 + b"N.",
        LIST + b"cbuiltins\nfrozenset\nq\x010" + b"h\x01h\x00\x85R0" * 20 + b"N.",
        b"]("
        + b"NN\x86" * 3000
        + b"eq\x000ccollections\nOrderedDict\nq\x010"
        + b"h\x01h\x00\x85R0" * 20
        + b"N.",
        b"("
        + b"N" * 3000
        + b"tq\x000}NNsq\x010ctorch.nn\nLinear\nq\x020"
        + b"h\x02h\x00h\x01\x920" * 20
        + b"N.",
        b"}(" + b"".join(b"M" + struct.pack("<H", i) + b"N" for i in range(1000)) + b"u.",
        b"\x8f(" + b"".join(b"G" + struct.pack(">d", i) for i in range(1000)) + b"\x90.",
        TENSOR.replace(b"\n(", b"\nq\x000(", 1) + b"q\x010" + b"h\x00h\x01R0" * 1000 + b"N.",
    ],
    ids=[
        "set",
        "frozenset",
        "OrderedDict",
        "newobj-ex",
        "numbers in a dict",
        "numbers in a set",
        "tensors",
    ],
)
def test_what_takes_long_counts_for_more_than_a_step(program, monkeypatch, tmp_path):
    """Copies of many items, numbers whose hashes could collide, and tensors, in a few steps."""
    monkeypatch.setattr("mien.zoo.pickle_machine._MOST_STEPS", 20_000)
    assert "more than 20,000 steps" in refusal(
        zipped(tmp_path / "x.pt", b"\x80\x04" + program, {"0": SIX})
    )


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (b"}\x8a\x09" + (2**64).to_bytes(9, "little") + b"Ns.", "a huge int as a key"),
        (
            b"}\x8a\x09" + (-(2**63) - 1).to_bytes(9, "little", signed=True) + b"Ns.",
            "a huge int as a key",
        ),
        (b"}" + text("a" * 501) + b"Ns.", "a huge str as a key"),
        (b"}B" + struct.pack("<I", 501) + b"a" * 501 + b"Ns.", "a huge bytes as a key"),
        (text("a" * 500) + text("B") + b"\x93.", "a name of more than 500 letters"),
    ],
)
def test_keys_and_names_that_take_long_to_hash_or_compare(program, why, tmp_path):
    assert f"asks for {why}" in refusal(zipped(tmp_path / "x.pt", b"\x80\x04" + program))


def test_the_memo_is_numbered_in_order(tmp_path):
    assert read_pt(zipped(tmp_path / "two.pt", b"(lp1\nI7\np2\nag2\na.")) == [
        7,
        7,
    ]  # as Python 2 counts, from 1
    colliding = b"N" + b"".join(b"p%d\n" % (i * (2**61 - 1)) for i in range(10)) + b"."
    assert "remembers out of order" in refusal(zipped(tmp_path / "x.pt", colliding))
    assert "remembers out of order" in refusal(zipped(tmp_path / "x.pt", b"Np-1\n."))


def module(parameters: bytes = b"", modules: bytes = b"") -> bytes:
    parts = {"_parameters": parameters, "_buffers": b"", "_modules": modules}
    return (
        b"ctorch.nn\nModule\n)\x81}("
        + b"".join(text(name) + b"}(" + items + b"u" for name, items in parts.items())
        + b"ub"
    )


def test_places_left_empty_are_parts_too(monkeypatch, tmp_path):
    monkeypatch.setattr("mien.zoo.pickles._MOST_PARTS", 1000)
    empty = module(b"".join(text(f"p{i}") + b"N" for i in range(400))) + b"q\x000"
    net = module(modules=b"".join(text(f"m{i}") + b"h\x00" for i in range(3)))
    assert "more than 1,000 parts" in _message(
        zipped(tmp_path / "x.pt", b"\x80\x02" + empty + net + b".")
    )


def test_names_that_no_message_could_hold(tmp_path):
    assert "a dict where a network" in _message(
        zipped(tmp_path / "x.pt", tensor((6,), (1,)).replace(text("t"), text("a\nb")), {"0": SIX})
    )
    for name in ("a\nb", "a\x1b[2J"):
        assert "has no proper name" in _message(
            zipped(tmp_path / "x.pt", b"\x80\x02" + module(text(name) + b"N") + b".")
        )
    deep = module(text("w") + b"N")
    for _ in range(5):
        deep = module(modules=text("m" * 120) + deep)
    assert "has no proper name" in _message(zipped(tmp_path / "x.pt", b"\x80\x02" + deep + b"."))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("kind", "why"),
    [(MemoryError, "needs more memory than there is"), (RecursionError, "damaged or cut off")],
)
def test_a_file_too_large_for_the_machine(kind, why, legacy, monkeypatch, tmp_path):
    def ended(_: object) -> None:
        raise kind

    monkeypatch.setattr("mien.zoo.pickle_operations.genops", ended)
    assert why in refusal(pt_file(nn.Linear(2, 2), tmp_path / "x.pt", legacy=legacy))


# -- damaged files, and other files ----------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_every_cut_is_noticed(legacy, tmp_path):
    path = pt_file(
        randomise(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), 8),
        tmp_path / "net.pt",
        legacy=legacy,
    )
    content = path.read_bytes()
    for end in np.linspace(1, len(content) - 1, 60).astype(int):
        path.write_bytes(content[:end])
        refusal(path)


def test_names_in_an_archive_are_told_and_not_obeyed(tmp_path):
    path = zipped(tmp_path / "x.pt", b"\x80\x02}.")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/\x1b[2J", b"", zipfile.ZIP_DEFLATED)
    assert "x/\\x1b[2J is compressed" in refusal(path)


def test_random_changes_end_in_a_clear_line_or_in_tensors(tmp_path):
    whole = pt_file(
        randomise(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), 8), tmp_path / "net.pt"
    )
    with zipfile.ZipFile(whole) as archive:
        program = archive.read("net/data.pkl")
        storages = {
            name.rpartition("/")[2]: archive.read(name)
            for name in archive.namelist()
            if "/data/" in name
        }
    lines: list[str] = []
    made = np.random.default_rng(0)
    for _ in range(400):
        changed = bytearray(program)
        for place in made.integers(len(changed), size=made.integers(1, 4)):
            changed[place] = made.integers(256)
        try:
            content = tensors(read_pt(zipped(tmp_path / "changed.pt", bytes(changed), storages)))
        except BundleError as error:
            lines.append(str(error))
        else:
            assert all(isinstance(value, np.ndarray) for value in content.values())
    assert len(lines) > 200
    assert not [line for line in lines if "\n" in line]


@pytest.mark.parametrize("legacy", [False, True])
def test_random_changes_of_the_whole_file_too(legacy, tmp_path):
    """In the zip archive's directory, say; bytes changed, cut away, or there twice."""
    path = pt_file(
        randomise(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), 8),
        tmp_path / "net.pt",
        legacy=legacy,
    )
    original = path.read_bytes()
    random = np.random.default_rng(1)
    lines: list[str] = []
    for turn in range(200):
        changed = bytearray(original)
        start, end = sorted(random.integers(len(original), size=2))
        if turn % 8 == 0:
            del changed[start : start + (end - start) // 8]
        elif turn % 8 == 1:
            changed[start:start] = original[start:end]
        else:
            for place in random.integers(
                len(original) - 1000 if turn % 2 else 0, len(original), size=random.integers(1, 5)
            ):
                changed[place] = random.choice([0, 255, random.integers(256)])
        path.write_bytes(changed)
        try:
            content = tensors(read_pt(path))
        except BundleError as error:
            lines.append(str(error))
        else:
            assert all(isinstance(value, np.ndarray) for value in content.values())
    assert len(lines) > 50
    assert not [line for line in lines if "\n" in line]


def test_a_directory_whose_names_are_no_text(tmp_path):
    content = zipped(tmp_path / "t.pt", tensor((6,), (1,)), {"0": SIX}).read_bytes()
    start = content.index(b"PK\x01\x02")
    directory = bytearray(content[start:].replace(b"x/data.pkl", b"x/data.pk\xff", 1))
    directory[9] = 0x08  # "its name is UTF-8"
    (tmp_path / "t.pt").write_bytes(content[:start] + directory)
    assert "damaged or cut off ('utf-8' codec can't decode byte 0xff" in refusal(tmp_path / "t.pt")


def test_an_altered_tensor_is_noticed(tmp_path):
    path = zipped(tmp_path / "t.pt", tensor((6,), (1,)), {"0": SIX})
    path.write_bytes(path.read_bytes().replace(SIX, SIX[::-1]))
    assert "damaged or cut off (Bad CRC-32" in refusal(path)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\x80\x02.",
        b"\x80\x02NN.",
        b"0.",
        b"\x80\x02h\x05.",
        b"\xff",
        b"\x80\x02R.",
        b"\x80\x02e.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02(N",
    ],
)
def test_a_program_that_makes_no_sense(program, tmp_path):
    assert "damaged or cut off" in refusal(zipped(tmp_path / "x.pt", program))


def test_other_files_are_told_apart(tmp_path):
    assert "No such file" in refusal(tmp_path / "missing.pt")
    assert "Is a directory" in refusal(tmp_path)
    (tmp_path / "page.pt").write_text("<html>rate limit</html>")
    assert "is no file of torch.save" in refusal(tmp_path / "page.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    assert "is no file of torch.save" in refusal(tmp_path / "empty.pt")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "no data.pkl" in refusal(tmp_path / "other.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("x/data.pkl", "N.")
        archive.writestr("x/constants.pkl", "N.")
        archive.writestr("x/code/net.py", "pass", zipfile.ZIP_DEFLATED)  # as torch.jit.save does
    assert "is a TorchScript program" in refusal(tmp_path / "script.pt")
    with tarfile.open(tmp_path / "tar.pt", "w") as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            tar.addfile(tarfile.TarInfo(name))
    assert (
        "is no file of torch.save, or one from before torch 0.2; name a .pt file, or save it again"
        in refusal(tmp_path / "tar.pt")
    )
    big = zipped(tmp_path / "big.pt", b"N.")
    big.write_bytes(big.read_bytes().replace(b"little", b"big\x20\x20\x20"))
    assert "damaged" in refusal(big)


@pytest.mark.parametrize(
    ("saved", "why"),
    [
        ({"epoch": 3, "model": OrderedDict()}, "a dict where a network"),
        ([torch.ones(2)], "a list where a network"),
        (torch.ones(2), "a ndarray where a network"),
        ({}, "a dict where a network"),
    ],
)
def test_files_without_a_network(saved, why, tmp_path):
    torch.save(saved, tmp_path / "x.pt")
    assert why in _message(tmp_path / "x.pt")
