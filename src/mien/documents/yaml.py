"""YAML, read strictly and within bounds.

Every refusal is one line that names the file, the key and the line.
"""

import re
from collections.abc import Callable, Hashable
from itertools import chain
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
# The largest file of mien's own has a twentieth of it.
_MOST_BYTES: Final = 1 << 18
_DEEPEST: Final = 60
_MOST_VALUES: Final = 20_000
# Digits of a number; turning longer ones into numbers takes quadratic time.
_LONGEST_NUMBER: Final = 40
# Characters of a key that messages show.
_MOST_SHOWN: Final = 60
_TOO_DEEP: Final = f"lists and sections in one another, more than {_DEEPEST} deep"
_CORE: Final = "tag:yaml.org,2002:"
# PyYAML's numbers, except those of base 60, such as 1:30.
_NUMBERS: Final = {
    f"{_CORE}int": re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    f"{_CORE}float": re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?"
        r"|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"
    ),
}
# What PyYAML takes for more than a text and is one here.
_TEXTS: Final = {f"{_CORE}timestamp", f"{_CORE}value"}
# What PyYAML can build and no file of mien's has.
_REFUSED_TAGS: Final = ("timestamp", "binary", "set", "omap", "pairs")


def read_yaml(path: Path, then: str) -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        then: The next step, the end of messages.

    Returns:
        Its content, as `parse_yaml` gives it.

    Raises:
        DataError: It cannot be read, is too large, or is not such YAML as `parse_yaml` takes.
    """
    content = read_bounded(path, _MOST_BYTES, DataError, then)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 (byte {error.start}); {then}") from error
    return parse_yaml(text, str(path), then)


def parse_yaml(text: str, where: str, then: str) -> Any:
    """Parse YAML.

    A key that comes twice is an error, as is what contains itself, is nested more than 60 deep, or
    comes to more than 20,000 values once all its aliases are written out. Dates and times of day
    stay texts: ``1:30`` is no number of minutes.

    Args:
        text: The YAML.
        where: What messages begin with, such as the file's name.
        then: The next step, the end of messages.

    Returns:
        Nested dicts, lists, texts, numbers, booleans and None.

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


def _strict_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's table of what an unquoted word is, by its first character, with our numbers."""
    strict = {}
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items():
        kept = []
        for tag, pattern in resolvers:
            if tag not in _TEXTS:
                kept.append((tag, _NUMBERS.get(tag, pattern)))
        strict[first] = kept
    return strict


def _strict_constructors() -> dict[str | None, Callable[[Any, Any], Any]]:
    """PyYAML's functions that build values, by tag, without those for kinds that are refused."""
    strict = {}
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items():
        if tag is None or tag.removeprefix(_CORE) not in _REFUSED_TAGS:
            strict[tag] = constructor
    return strict


class _RefusedError(yaml.YAMLError):
    """What PyYAML would take and mien does not."""


class _Reader(yaml.SafeLoader):
    """PyYAML's safe reader, with bounds that hold before anything is built."""

    yaml_implicit_resolvers: ClassVar = _strict_resolvers()  # type: ignore[misc]
    yaml_constructors: ClassVar = _strict_constructors()

    def __init__(self, text: str) -> None:
        super().__init__(text)
        # The keys down to what is being read; "?" for a key itself.
        self._path: list[str] = []
        # Of each complete node: its values once aliases are written out, and its depth.
        self._extents: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Read a node, and those below it, and check that it is within bounds.

        Args:
            parent: The node that holds it; None for the whole document.
            index: Its key or position there; None for what is a key itself.

        Returns:
            The node.
        """
        if parent is not None:
            key = index.value if isinstance(index, yaml.ScalarNode) else index
            self._path.append("?" if key is None else str(key))
        event = self.peek_event()  # type: ignore[no-untyped-call]
        # Before the node is composed, which recurses.
        if len(self._path) > _DEEPEST:
            raise self._refused(_TOO_DEEP, event.start_mark)
        node: yaml.Node = super().compose_node(parent, index)  # type: ignore[assignment]
        if id(node) not in self._extents:
            # An alias gives a node that was read before, unless it stands inside that very node.
            if isinstance(event, yaml.AliasEvent):
                problem = f"*{event.anchor} stands for what it is in itself"
                raise self._refused(problem, event.start_mark)
            self._extents[id(node)] = self._extent(node)
        if parent is not None:
            self._path.pop()
        return node

    def _refused(self, why: str, mark: Any) -> _RefusedError:
        key = ".".join(part for part in self._path if part != "?")
        if len(key) > _MOST_SHOWN:
            key = f"{key[:_MOST_SHOWN]}…"
        return _RefusedError(f"{key or 'the file'}: {why}{_line(mark)}")

    def _extent(self, node: yaml.Node) -> tuple[int, int]:
        """Values and depth of a node that has just been read, its aliases written out."""
        values = 1
        depth = 1
        for child in self._children(node):
            child_values, child_depth = self._extents[id(child)]
            values += child_values
            depth = max(depth, 1 + child_depth)
        if values > _MOST_VALUES:
            problem = f"more than {_MOST_VALUES} values, what aliases (*) stand for written out"
            raise self._refused(problem, node.start_mark)
        if depth > _DEEPEST + 1:
            raise self._refused(_TOO_DEEP, node.start_mark)
        return values, depth

    def _children(self, node: yaml.Node) -> list[yaml.Node]:
        """The nodes right below a node; raises where its keys or its text are refused."""
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            return list(chain.from_iterable(node.value))
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        self._check_scalar(node)
        return []

    def _check_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[Hashable, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key that is a list or a section; keys are words"
                raise self._refused(problem, key.start_mark)
            # <<, which may come several times, brings in the keys of another section.
            if key.tag == f"{_CORE}merge":
                continue
            name = self.construct_object(key)
            if name in lines:
                self._path.append(str(key.value))
                problem = f"given twice, first on line {lines[name]}; keep one"
                raise self._refused(problem, key.start_mark)
            lines[name] = key.start_mark.line + 1 if key.start_mark else 0

    def _check_scalar(self, node: yaml.Node) -> None:
        if node.tag == f"{_CORE}merge":
            return
        text = str(node.value)
        if node.tag in _NUMBERS and len(text) > _LONGEST_NUMBER:
            raise self._refused(f"a number of {len(text)} digits", node.start_mark)
        if any(character < " " and character not in "\n\t" for character in text):
            raise self._refused("a text with a control character in it", node.start_mark)
        # Built once here, where the key is known, as a tag may call any word a number.
        if node.tag in _NUMBERS or node.tag == f"{_CORE}bool":
            self.construct_object(node)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build the value of a node.

        Args:
            node: The node.
            deep: Whether to build what it holds at once.

        Returns:
            The value. A word that is not what its tag says is refused with its line.
        """
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            raise self._refused(f"no {kind}: {str(node.value)[:40]}", node.start_mark) from error


def take_schema(content: dict[str, Any], kind: str, where: str) -> dict[str, Any]:
    """Check the version of a file's schema, and drop it from the content.

    Args:
        content: The file, a mapping; ``settings: 1`` in it says the version, and 1 where it says
            none. It is left as it is.
        kind: The key that holds the version: ``settings`` or ``recipe``.
        where: What messages begin with, such as the file's name.

    Returns:
        The content without that key.

    Raises:
        DataError: It has another version than `SCHEMA`.

    >>> take_schema({"recipe": 1, "name": "mine"}, "recipe", "mine.yaml")
    {'name': 'mine'}
    """
    version = content.get(kind, SCHEMA)
    # True equals 1, and is no version.
    if version != SCHEMA or isinstance(version, bool):
        why = f"{where}: {kind}: {version} is a version of {kind} files that is not known here"
        raise DataError(printable(f"{why}; write {SCHEMA}, or install a newer mien"))
    return {key: value for key, value in content.items() if key != kind}
