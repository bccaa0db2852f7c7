"""A settings file to start from, with every key, its default and its meaning.

All of it is taken from the settings themselves.
"""

import ast
import inspect
import re
import textwrap
from typing import Any, Final, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from mien.data.registry import Drawn, Set
from mien.documents.yaml import SCHEMA
from mien.extensions.entry_points import Extension
from mien.extensions.settings import Extensible
from mien.train.settings.network import OWN
from mien.train.settings.training import KNOWN_TASKS, Settings

__all__ = ["template"]

_WIDTH: Final = 100
# One entry of the section `Attributes:`; further lines of its text are indented.
_ATTRIBUTE: Final = re.compile(r"^(?P<name>\w+): (?P<text>.*(?:\n[ ]+.*)*)", re.MULTILINE)
# What a newcomer must know beyond a key's own docstring.
_MORE: Final = {
    "name": "name of the bundle: small letters, digits, points, dashes",
    "tasks": f"keys of label sets, or tasks spelled out; known are {', '.join(KNOWN_TASKS)}",
    "backbone": (
        f"{', '.join(OWN)}, or a timm model's name; "
        "features for none, where heads read cached features"
    ),
    "template": "fractions of the crop: both eyes, the nose tip, both mouth corners",
}
_HEAD: Final = f"""\
# Settings of mien train. Every key is here with its default; leave out what you do not change.

# version of this form; 1 if left out
settings: {SCHEMA}

"""


def template() -> str:
    """Write a settings file to start from.

    Returns:
        YAML that trains as it is, on drawn faces, and says what every key means; further choices
        are commented out.
    """
    example = Settings(
        name="mine",
        data=(Drawn(set="drawn", count=2000, seed=0, size=96),),
        tasks=("expr.abaw8", "va", "au.abaw12"),
    )
    return _HEAD + "\n".join(_section(example, "")) + "\n"


def _section(model: BaseModel, indent: str) -> list[str]:
    """The lines of a model's keys, with its values."""
    docs = _docs(type(model))
    plain = model.model_dump(mode="json")
    lines = []
    for name, field in type(model).model_fields.items():
        lines += _comment(_meaning(name, docs, field.annotation), indent)
        value = getattr(model, name)
        if name == "data":
            lines += _sets(value[0])
        elif isinstance(value, BaseModel):
            lines.append(f"{indent}{name}:")
            lines += _section(value, indent + "  ")
        else:
            lines.append(f"{indent}{name}: {_inline(plain[name])}")
            lines += _choice(field.annotation, indent)
        # Sections of the file stand apart from one another.
        if not indent:
            lines.append("")
    return lines


def _meaning(name: str, docs: dict[str, str], annotation: Any) -> str:
    """What a key means, and the words that it allows where its text does not name them all."""
    text = _MORE.get(name) or docs.get(name, "")
    words = [value for value in _literals(annotation) if isinstance(value, str)]
    parts = []
    if text:
        parts.append(text.rstrip(".").replace("`", ""))
    is_listed = all(word in text for word in words)
    if len(words) > 1 and not is_listed:
        parts.append(f"one of {', '.join(words)}")
    return "; ".join(parts)


def _sets(example: BaseModel) -> list[str]:
    """The data section: one set that can be used at once, the others as comments."""
    given = example.model_dump(mode="json", exclude_none=True)
    lines = ["data:", f"  - {_inline(given)}"]
    kinds = dict.fromkeys(get_args(get_args(Set)[0]), "")
    for extension, kind in _extensions(Set).items():
        kinds[kind] = f" (of {extension.origin})"
    for kind, origin in kinds.items():
        lines += _comment((inspect.getdoc(kind) or "") + origin, "  ")
        first, *others = _defaults(kind, "")
        lines.append(f"  # - {first}")
        lines += [f"  #   {line}" for line in others]
    return lines


def _choice(annotation: Any, indent: str) -> list[str]:
    """A section that may stand in the place of null or of an empty table, as comments."""
    kinds = [kind for kind in _models(annotation) if kind.__name__ != "TaskSettings"]
    # Where there are several, none of them is the obvious one to show.
    if len(kinds) != 1:
        return []
    lines = _defaults(kinds[0], "")
    if get_origin(annotation) is dict:
        lines = ["expr:", *_defaults(kinds[0], "  ")]
    for extension, kind in _extensions(annotation).items():
        lines += [f"# or, of {extension.origin}:", "expr:", *_defaults(kind, "  ")]
    return [f"{indent}#   {line}" for line in lines]


def _extensions(annotation: Any) -> dict[Extension, type[BaseModel]]:
    """The settings of installed extensions that a type takes; empty for most types."""
    kinds: dict[Extension, type[BaseModel]] = {}
    for part in getattr(annotation, "__metadata__", ()):
        if isinstance(part, Extensible):
            kinds |= part.kinds()
    for part in get_args(annotation):
        kinds |= _extensions(part)
    return kinds


def _defaults(kind: type[BaseModel], indent: str) -> list[str]:
    """A model's keys with their defaults, and what each means behind it."""
    docs = _docs(kind)
    lines = []
    for name, field in kind.model_fields.items():
        line = f"{indent}{name}: {_inline(to_jsonable_python(_default(name, field)))}"
        meaning = _meaning(name, docs, field.annotation)
        if meaning:
            line += f"  # {meaning}"
        lines.append(line)
    return lines


def _default(name: str, field: FieldInfo) -> Any:
    """A key's default; where it has none, the one word that it allows, or its name in capitals."""
    if not field.is_required():
        return field.get_default(call_default_factory=True)
    literals = _literals(field.annotation)
    return literals[0] if len(literals) == 1 else name.upper()


def _inline(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    # PyYAML ends a document that is a plain value with a line of its own.
    return str(text).removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> list[str]:
    """A text as lines of comment."""
    wrapped = textwrap.wrap(text.replace("`", ""), _WIDTH - len(indent))
    return [f"{indent}# {line}" for line in wrapped]


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
    """The models that a type mentions."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    models = []
    for part in get_args(annotation):
        models += _models(part)
    return models


def _literals(annotation: Any) -> list[Any]:
    """The values that a type allows, where it lists them."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    literals = []
    for part in get_args(annotation):
        literals += _literals(part)
    return literals
