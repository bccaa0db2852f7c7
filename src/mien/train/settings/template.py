"""A settings file to start from: every key with its default and what it means, taken from the settings themselves."""

import ast
import inspect
import re
import textwrap
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from mien.data.registry import Drawn, Set
from mien.documents.yaml import SCHEMA
from mien.train.settings.network import OWN
from mien.train.settings.training import KNOWN_TASKS, Settings

__all__ = ["template"]

_WIDTH: Final = 100
# One entry of the section `Attributes:`; further lines of its text are indented.
_ATTRIBUTE: Final = re.compile(r"^(?P<name>\w+): (?P<text>.*(?:\n[ ]+.*)*)", re.MULTILINE)
_MORE: Final = {
    "name": "name of the bundle: small letters, digits, points, dashes",
    "tasks": f"keys of label sets, or tasks spelled out; known are {', '.join(KNOWN_TASKS)}",
    "backbone": f"{', '.join(OWN)}, or a timm model's name; features for none, where heads read cached features",
    "template": "fractions of the crop: both eyes, the nose tip, both mouth corners",
}
"""What a newcomer must know beyond a key's own docstring."""


def template() -> str:
    """YAML that trains as it is, on drawn faces, and says what every key means; what is commented out are further choices."""
    start = Settings(
        name="mine", data=(Drawn(set="drawn", count=2000, seed=0, size=96),), tasks=("expr.abaw8", "va", "au.abaw12")
    )  # fmt: skip
    head = [
        "# Settings of mien train. Every key is here with its default; leave out what you do not change.",
        "",
        "# version of this form; 1 if left out",
        f"settings: {SCHEMA}",
        "",
    ]
    return "\n".join([*head, *_section(start, "")]) + "\n"


def _section(given: BaseModel, indent: str) -> list[str]:
    """The lines of a model's keys, with its values."""
    docs, lines = _docs(type(given)), []
    plain = given.model_dump(mode="json")
    for name, field in type(given).model_fields.items():
        lines += _comment(_told(name, docs, field.annotation), indent)
        value = getattr(given, name)
        if name == "data":
            lines += _sets(value[0])
        elif isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_section(value, indent + "  ")]
        else:
            lines += [f"{indent}{name}: {_inline(plain[name])}", *_choice(field.annotation, indent)]
        lines += [""] if not indent else []
    return lines


def _told(name: str, docs: dict[str, str], annotation: Any) -> str:
    said = _MORE.get(name) or docs.get(name, "")
    words = [word for word in _literals(annotation) if isinstance(word, str)]
    words = [] if all(word in said for word in words) else words
    parts = (
        said.rstrip(".").replace("`", ""),
        f"one of {', '.join(words)}" if len(words) > 1 else "",
    )
    return "; ".join(part for part in parts if part)


def _sets(example: BaseModel) -> list[str]:
    """The data section: one set that can be used at once, the others as comments."""
    keys = {
        name: value for name, value in example.model_dump(mode="json").items() if value is not None
    }
    lines = [f"data:\n  - {_inline(keys)}"]
    for kind in get_args(get_args(Set)[0]):
        lines += _comment(inspect.getdoc(kind) or "", "  ")
        lines += [
            f"  # - {line}" if i == 0 else f"  #   {line}"
            for i, line in enumerate(_empty(kind, ""))
        ]
    return lines


def _choice(annotation: Any, indent: str) -> list[str]:
    """A section that may stand in the place of null or of an empty table, as comments."""
    found = [kind for kind in _models(annotation) if kind.__name__ != "TaskSettings"]
    by_family = getattr(annotation, "__origin__", None) is dict
    inner = [
        f"{indent}#   {line}"
        for kind in found
        for line in ([*_keyed(kind)] if by_family else _empty(kind, ""))
    ]
    return inner if len(found) == 1 else []


def _keyed(kind: type[BaseModel]) -> list[str]:
    return ["expr:", *_empty(kind, "  ")]


def _empty(kind: type[BaseModel], indent: str) -> list[str]:
    """A model's keys with their defaults, and what each means behind it; what has no default is in capitals."""
    docs, lines = _docs(kind), []
    for name, field in kind.model_fields.items():
        literals = _literals(field.annotation)
        value = (
            name.upper() if field.is_required() else field.get_default(call_default_factory=True)
        )
        value = literals[0] if field.is_required() and len(literals) == 1 else value
        said = _told(name, docs, field.annotation)
        lines.append(
            f"{indent}{name}: {_inline(to_jsonable_python(value))}"
            + (f"  # {said}" if said else "")
        )
    return lines


def _inline(value: Any) -> str:
    return (
        str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000))
        .removesuffix("...\n")
        .strip()
    )


def _comment(text: str, indent: str) -> list[str]:
    return [
        f"{indent}# {line}" for line in textwrap.wrap(text.replace("`", ""), _WIDTH - len(indent))
    ]


def _docs(kind: type[BaseModel]) -> dict[str, str]:
    """What each key of a model means, by key.

    Taken from the strings under the keys, or from the section ``Attributes:`` of a docstring; what
    a model inherits comes first.
    """
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        _, _, section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        for match in _ATTRIBUTE.finditer(textwrap.dedent(section)):
            docs[match["name"]] = " ".join(match["text"].split())
        docs |= _strings_under_keys(base)
    return docs


def _strings_under_keys(kind: type[BaseModel]) -> dict[str, str]:
    """The attribute docstrings of one class, which Python itself does not keep."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for key, below in zip(body.body, body.body[1:], strict=False):
        if not isinstance(key, ast.AnnAssign) or not isinstance(key.target, ast.Name):
            continue
        if isinstance(below, ast.Expr):
            docs[key.target.id] = " ".join(str(ast.literal_eval(below.value)).split())
    return docs


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type speaks of."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _models(part)]


def _literals(annotation: Any) -> list[Any]:
    """The values that a type allows, where it lists them."""
    if "Literal" in str(getattr(annotation, "__origin__", "")):
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _literals(part)]
