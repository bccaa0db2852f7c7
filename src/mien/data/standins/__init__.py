"""Stand-ins: generated data in a real data set's official layout, codes and traps included.

With them a recipe can be rehearsed before access to the real data is granted. `make_standin` makes
one; `KINDS` says which there are. Scores on a stand-in say nothing about scores on the real data;
docs/standins.md says what they do show.
"""

from mien.data.standins.make import KINDS, Kind, make_standin

__all__ = ["KINDS", "Kind", "make_standin"]
