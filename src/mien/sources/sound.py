"""The sound of a recording: mono, by the container's clock."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from mien.errors import SourceError
from mien.sources.base import one_line

__all__ = ["SoundPiece", "read_sound"]


class SoundPiece(NamedTuple):
    """Consecutive samples.

    Attributes:
        time_s: Time of the first sample by the container's clock, s.
        rate: Samples per second.
        samples: The samples (N,), -1 to 1; the mean of all channels.
    """

    time_s: float
    rate: int
    samples: NDArray[np.float32]


def read_sound(path: Path) -> Iterator[SoundPiece]:
    """Read the sound of a film or a sound file.

    Args:
        path: The file; of several streams of sound, the first is read.

    Yields:
        Its pieces in order. Where the file lacks sound, none begins as the one before it ends.

    Raises:
        SourceError: The file cannot be opened, or has no sound.
    """
    # A playlist must not make FFmpeg open addresses on the network.
    options = {"protocol_whitelist": "file"}
    try:
        with av.open(str(path), "r", options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise SourceError(f"{path}: has no sound; name a recording that has")
            # It only mixes the channels: the rate stays, so that nothing is delayed.
            to_mono = AudioResampler(format="flt", layout="mono")
            for frame in container.decode(container.streams.audio[0]):
                for part in to_mono.resample(frame):
                    samples = part.to_ndarray().ravel().astype(np.float32, copy=False)
                    yield SoundPiece(frame.time or 0.0, part.sample_rate, samples)
    except (OSError, av.FFmpegError) as error:
        raise SourceError(
            f"{path}: its sound cannot be read ({one_line(error)}); check that it plays elsewhere"
        ) from error
