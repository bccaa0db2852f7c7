"""The zoo: bundles that others published, verified before use and converted to mien's form.

>>> from mien import zoo
>>> zoo.entry("mt-emotieffnet-b0").tasks[0].key
'expr.affectnet8'

`pull` fetches one; it is the only call in mien that reaches for the network. `pack` and `add` carry
bundles to machines without one.
"""

from mien.zoo.archive import add, pack
from mien.zoo.fetch import RetryPolicy
from mien.zoo.index import Entry, entries, entry, page
from mien.zoo.install import Pulled, kept, pull, remove, verify, weights

__all__ = [
    "Entry",
    "Pulled",
    "RetryPolicy",
    "add",
    "entries",
    "entry",
    "kept",
    "pack",
    "page",
    "pull",
    "remove",
    "verify",
    "weights",
]
