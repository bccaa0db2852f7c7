"""A server on this machine that behaves as well or as badly as a test needs.

Networks of the zoo's form can be put on its shelf.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Shelf:
    """The files of a server, by path, and how it answers.

    Attributes:
        ranges: Whether it resumes in the middle of a file.
        tag: The version of all files.
        cut: Bytes after which the connection breaks, one number per request.
        stall: Bytes after which nothing comes any more.
        status: Codes of answers without a file.
        to: Addresses that paths redirect to.
        claimed_length: The length that it claims for a file's; None for none.
        headers: Further headers.
        drips: Whether the header comes byte by byte.
        endless: Whether a redirect has a body without end.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tag: str | None = '"one"'
    cut: list[int] = field(default_factory=list)
    stall: int | None = None
    pause: float = 0.0
    status: list[int] = field(default_factory=list)
    to: dict[str, str] = field(default_factory=dict)
    wrong_place: bool = False
    claimed_length: Callable[[int], int | str | None] = lambda size: size
    headers: dict[str, str] = field(default_factory=dict)
    drips: bool = False
    endless: bool = False
    tunnel: int = 403
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    address: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def put(self, name: str, content: bytes) -> str:
        self.files[f"/{COMMIT}/{name}"] = content
        return f"{self.address}/{COMMIT}/{name}"

    @property
    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    shelf: Shelf

    def log_message(self, *args: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_error(self.shelf.tunnel)

    def do_GET(self) -> None:
        shelf, path = self.shelf, urlsplit(self.path).path
        shelf.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        if shelf.drips:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-")
            self._go_on(b"x")
        if path in shelf.to:
            self.send_response(302)
            self.send_header("Location", shelf.to[path])
            if not shelf.endless:
                self.send_header("Content-Length", "0")
            self.end_headers()
            if shelf.endless:
                self._go_on(b"x" * 1000)
            return
        if shelf.status:
            self.send_response(shelf.status.pop(0))
            self.send_header("Content-Length", "0")
            self._send_more()
            self.end_headers()
            return
        if path not in shelf.files:
            self.send_error(404)
            return
        self._hand_out(shelf.files[path])

    def _go_on(self, piece: bytes) -> None:
        """For as long as any test has patience."""
        for _ in range(300):
            if self.shelf.over.wait(0.01):
                return
            self.wfile.write(piece)

    def _send_more(self) -> None:
        for name, value in self.shelf.headers.items():
            self.send_header(name, value)

    def _hand_out(self, content: bytes) -> None:
        shelf = self.shelf
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        start = (
            int(wanted.removeprefix("bytes=").rstrip("-"))
            if wanted and shelf.ranges and condition in (None, shelf.tag)
            else 0
        )
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        rest = content[start:]
        if (claimed := shelf.claimed_length(len(rest))) is not None:
            self.send_header("Content-Length", str(claimed))
        if start:
            first = start + 7 * shelf.wrong_place
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if shelf.tag:
            self.send_header("ETag", shelf.tag)
        self._send_more()
        self.end_headers()
        if shelf.cut:
            rest = rest[: shelf.cut.pop(0)]
        for i in range(0, len(rest), 256):
            if shelf.stall is not None and i >= shelf.stall:
                shelf.over.wait(20)
                return
            self.wfile.write(rest[i : i + 256])
            time.sleep(shelf.pause)


@contextmanager
def serving(tls: ssl.SSLContext | None = None, **manner: Any) -> Iterator[Shelf]:
    shelf = Shelf(**manner)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"shelf": shelf}))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    shelf.address = f"http{'s' * bool(tls)}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield shelf
    finally:
        shelf.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _model(
    nodes: list[Any],
    weights: dict[str, np.ndarray],
    eats: list[Any],
    gives: dict[str, list[Any]],
    opset: int,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, eats)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in gives.items()
        ],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def affect_network(outputs: int = 10, seed: int = 0, width: int = 6) -> bytes:
    """Colour (N, 3, 32, 32) to (N, outputs) by one convolution and one linear layer."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node(
            "Gemm", ["f", "classifier.weight", "classifier.bias"], ["output"], transB=1
        ),
    ]
    weights = {
        "w": random.normal(size=(width, 3, 3, 3)),
        "classifier.weight": random.normal(size=(outputs, width)),
        "classifier.bias": random.normal(size=outputs),
    }
    return _model(
        nodes, weights, ["batch_size", 3, 32, 32], {"output": ["batch_size", outputs]}, 12
    )


def face_network(seed: int = 0) -> bytes:
    """Of YuNet's form: colour (N, 3, H, W) to twelve maps."""
    random = np.random.default_rng(seed)
    nodes, weights, gives = [], {}, {}
    for stride in (8, 16, 32):
        nodes.append(
            helper.make_node(
                "AveragePool",
                ["input"],
                [f"p{stride}"],
                kernel_shape=[stride, stride],
                strides=[stride, stride],
            )
        )
        for part, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            name = f"{part}_{stride}"
            weights[f"w_{name}"] = random.normal(size=(width, 3, 1, 1)) / 100
            nodes.append(helper.make_node("Conv", [f"p{stride}", f"w_{name}"], [f"c_{name}"]))
            nodes.append(
                helper.make_node("Transpose", [f"c_{name}"], [f"t_{name}"], perm=[0, 2, 3, 1])
            )
            shape = numpy_helper.from_array(np.array([0, -1, width], np.int64), f"s_{name}")
            nodes.append(helper.make_node("Constant", [], [f"s_{name}"], value=shape))
            last = name if width > 1 else f"r_{name}"
            nodes.append(helper.make_node("Reshape", [f"t_{name}", f"s_{name}"], [last]))
            if width == 1:
                nodes.append(helper.make_node("Sigmoid", [last], [name]))
            gives[name] = ["batch", "dim", width]
    # Reshape with a first side of 0 keeps the batch; it flattens rows and columns.
    return _model(nodes, weights, ["batch", 3, "height", "width"], gives, 11)
