"""YAML, read strictly and within bounds; every refusal is one line that names the file, the key and the line."""

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Final

from mien.documents import read_bounded
from mien.errors import DataError, MissingExtraError
from mien.text import printable

try:
    import yaml
except ImportError as error:
    raise MissingExtraError("evaluate", "reading YAML") from error

__all__ = ["SCHEMA", "parse_yaml", "read_yaml", "take_schema"]

SCHEMA: Final = 1
"""The version of settings and recipe files that is read here; a file that names none has it."""
_MOST_BYTES: Final = 1 << 18  # the largest file of mien's own has a twentieth of it
_DEEPEST: Final = 60
_MOST_VALUES: Final = 20_000
_LONGEST_NUMBER: Final = 40  # digits
_SHOWN: Final = 60  # letters of a key in messages
_TOO_DEEP: Final = f"lists and sections in one another, more than {_DEEPEST} deep"
_CORE: Final = "tag:yaml.org,2002:"
_NUMBERS: Final = {
    f"{_CORE}int": re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    f"{_CORE}float": re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
    ),
}
"""PyYAML's numbers, but those of base 60, such as 1:30."""
_TEXTS: Final = {f"{_CORE}{kind}" for kind in ("timestamp", "value")}
"""What PyYAML takes for more than a text and is one here."""


def read_yaml(path: Path, then: str) -> Any:
    """What a YAML file holds; raises as `parse_yaml` does, and DataError where it cannot be read. then: the next step, for messages."""
    content = read_bounded(path, _MOST_BYTES, DataError, then)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 (byte {error.start}); {then}") from error
    return parse_yaml(text, str(path), then)


def parse_yaml(text: str, where: str, then: str) -> Any:
    """What YAML says, as dictionaries, lists, texts, numbers, true, false and None.

    A key that comes twice is an error, as is what holds itself, is nested more than 60 deep, or comes to more than 20,000 values once
    all its aliases are written out. Dates and times of day stay texts: ``1:30`` is no number of minutes.

    Args:
        text: The YAML.
        where: What messages begin with, such as the file's name.
        then: The next step, the end of messages.

    Raises:
        DataError: It is not such YAML; the message names the key and the line.
    """
    try:
        loader = _Reader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except _RefusedError as error:
        raise DataError(printable(f"{where}: {error}; {then}")) from error
    except yaml.YAMLError as error:
        raise DataError(printable(f"{where}: not YAML: {_line_of(error)}; {then}")) from error
    except RecursionError as error:
        raise DataError(f"{where}: {_TOO_DEEP}; {then}") from error


def _line_of(error: yaml.YAMLError) -> str:
    """What PyYAML says is wrong, in a line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return " ".join(str(problem).split())[:200] + _line(mark)


def _line(mark: Any) -> str:
    return f" (line {mark.line + 1})" if mark is not None else ""


class _RefusedError(yaml.YAMLError):
    """What PyYAML would take and mien does not."""


class _Reader(yaml.SafeLoader):
    """PyYAML's safe reader, with bounds that hold before anything is built."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in ways if tag not in _TEXTS]
        for first, ways in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(_CORE) not in ("timestamp", "binary", "set", "omap", "pairs")
    }  # fmt: skip

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._path: list[str] = []  # the key of what is being read; "?" for a key itself
        self._extents: dict[
            int, tuple[int, int]
        ] = {}  # of each node that is whole: its values once written out, and its depth

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """A node, whole and found to be within bounds."""
        if parent is not None:
            key = index.value if isinstance(index, yaml.ScalarNode) else index
            self._path.append("?" if key is None else str(key))
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if len(self._path) > _DEEPEST:
            raise self._refused(_TOO_DEEP, event.start_mark)
        node: yaml.Node = super().compose_node(parent, index)  # type: ignore[assignment]
        if isinstance(event, yaml.AliasEvent) and id(node) not in self._extents:
            raise self._refused(
                f"*{event.anchor} stands for what it is in itself", event.start_mark
            )
        if id(node) not in self._extents:
            self._extents[id(node)] = self._extent(node)
        if parent is not None:
            self._path.pop()
        return node

    def _refused(self, why: str, mark: Any) -> _RefusedError:
        key = ".".join(part for part in self._path if part != "?")
        key = key if len(key) <= _SHOWN else f"{key[:_SHOWN]}…"
        return _RefusedError(f"{key or 'the file'}: {why}{_line(mark)}")

    def _extent(self, node: yaml.Node) -> tuple[int, int]:
        """Values and depth of a node that has just become whole, its aliases written out."""
        below: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            below = [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        else:
            self._check_scalar(node)
        extents = [self._extents[id(one)] for one in below]
        values, depth = (
            1 + sum(count for count, _ in extents),
            1 + max((deep for _, deep in extents), default=0),
        )
        if values > _MOST_VALUES:
            raise self._refused(
                f"more than {_MOST_VALUES} values, what aliases (*) stand for written out",
                node.start_mark,
            )
        if depth > _DEEPEST + 1:
            raise self._refused(_TOO_DEEP, node.start_mark)
        return values, depth

    def _check_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[Hashable, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._refused(
                    "a key that is a list or a section; keys are words", key.start_mark
                )
            if key.tag == f"{_CORE}merge":
                continue
            name = self.construct_object(key)
            if name in lines:
                self._path.append(str(key.value))
                raise self._refused(
                    f"given twice, first on line {lines[name]}; keep one", key.start_mark
                )
            lines[name] = key.start_mark.line + 1 if key.start_mark else 0

    def _check_scalar(self, node: yaml.Node) -> None:
        if node.tag == f"{_CORE}merge":
            return
        text = str(node.value)
        if node.tag in _NUMBERS and len(text) > _LONGEST_NUMBER:
            raise self._refused(f"a number of {len(text)} digits", node.start_mark)
        if any(letter < " " and letter not in "\n\t" for letter in text):
            raise self._refused("a text with a control character in it", node.start_mark)
        if node.tag in _NUMBERS or node.tag == f"{_CORE}bool":
            self.construct_object(
                node
            )  # so that a word that is no number, though its tag says so, is told with its key

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """What a node says; a word that is not what its tag says is told with its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._refused(
                f"no {node.tag.rpartition(':')[2]}: {str(node.value)[:40]}", node.start_mark
            ) from error


def take_schema(content: dict[str, Any], kind: str, where: str) -> dict[str, Any]:
    """A file's content without the version of its schema, which is the one that is known here.

    Args:
        content: The file, a mapping; ``settings: 1`` in it says the version, and 1 where it says
            none. It is left as it is.
        kind: The key that holds the version: ``settings`` or ``recipe``.
        where: What messages begin with, such as the file's name.

    Returns:
        The content without that key.

    Raises:
        DataError: It is a version that is not known here.

    >>> take_schema({"recipe": 1, "name": "mine"}, "recipe", "mine.yaml")
    {'name': 'mine'}
    """
    version = content.get(kind, SCHEMA)
    if version != SCHEMA or isinstance(version, bool):
        why = f"{where}: {kind}: {version} is a version of {kind} files that is not known here"
        raise DataError(printable(f"{why}; write {SCHEMA}, or install a newer mien"))
    return {key: value for key, value in content.items() if key != kind}
