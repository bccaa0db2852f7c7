"""Where frames come from: pictures, videos, cameras and arrays; the only room that decodes them.

`list_inputs` turns what a user typed into single inputs and counts what it left out; `open_source`
opens one of them, or says in one line why it cannot; `Source.frames` gives its frames one by one,
in memory that does not grow with the length of the input.
"""

from mien.sources.base import MAX_PIXELS, Kind, Pixels, Source
from mien.sources.inputs import InputList, expand, list_inputs, summarize
from mien.sources.opening import media_kind, open_source
from mien.sources.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "VIDEO_SUFFIXES",
    "InputList",
    "Kind",
    "Pixels",
    "Source",
    "expand",
    "list_inputs",
    "media_kind",
    "open_source",
    "summarize",
]
