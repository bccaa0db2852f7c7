"""What random changes of inputs have brought out, and the program that makes them."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mien.errors import SourceError
from mien.sources import open_source


def test_a_page_without_a_width_is_told():
    out = io.BytesIO()
    page = Image.new("RGB", (64, 48))
    page.save(out, "TIFF", save_all=True, append_images=[page])
    content = bytearray(out.getvalue())
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    second = struct.unpack_from("<I", content, first + 2 + 12 * entries)[0]
    assert struct.unpack_from("<H", content, second + 2)[0] == 256  # the width
    struct.pack_into("<H", content, second + 2, 0x7FFF)
    with pytest.raises(SourceError, match="its list of pages is damaged"):
        open_source(bytes(content))


@pytest.mark.parametrize("reader", ["card", "container"])
def test_the_program_runs(reader, tmp_path):
    program = Path(__file__).parents[1] / "bench" / "fuzz.py"
    words = [sys.executable, str(program), "--only", reader, "--seconds", "1", "--plain"]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"by": "random changes"' in done.stdout
