"""``/docs``: the API on one page, made here from its OpenAPI document, without any script."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from starlette.responses import HTMLResponse

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_TEMPLATES: Final = Path(__file__).parent / "templates"
_JSON: Final = "application/json"


class _Field(NamedTuple):
    """A parameter, or a field of a schema."""

    name: str
    place: str
    kind: str
    is_needed: bool
    text: str


class _Operation(NamedTuple):
    """A method of an address."""

    method: str
    path: str
    summary: str
    topic: str
    parameters: list[_Field]
    body: str
    answer: str


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """The API on one page."""
    app: FastAPI = request.app
    document = app.openapi()
    schemas = {}
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        schemas[name] = (schema.get("description", ""), list(_fields(schema)))
    page = _template().render(
        info=document["info"],
        operations=list(_operations(document["paths"])),
        schemas=schemas,
        base=str(request.base_url).rstrip("/"),
    )
    return HTMLResponse(page)


@lru_cache(maxsize=1)
def _template() -> Template:
    loader = FileSystemLoader(_TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("docs.html")


def _operations(paths: Mapping[str, Any]) -> Iterator[_Operation]:
    for path, methods in paths.items():
        for method, facts in methods.items():
            parameters = [
                _Field(
                    item["name"],
                    item["in"],
                    _kind(item["schema"]),
                    item.get("required", False),
                    item.get("description", ""),
                )
                for item in facts.get("parameters", ())
            ]
            yield _Operation(
                method.upper(),
                path,
                facts.get("description") or facts.get("summary", ""),
                facts.get("tags", [""])[0],
                parameters,
                _content(facts.get("requestBody", {})),
                _answer(facts["responses"]),
            )


def _answer(responses: Mapping[str, Any]) -> str:
    """What comes back where all is well."""
    for status, response in responses.items():
        if status.startswith("2"):
            return _content(response) or "nothing"
    return "nothing"


def _content(holder: Mapping[str, Any]) -> str:
    """What a body or an answer holds, in words."""
    for kind, content in holder.get("content", {}).items():
        schema = content.get("schema", {})
        return _kind(schema) if kind == _JSON else str(kind)
    return ""


def _fields(schema: Mapping[str, Any]) -> Iterator[_Field]:
    needed = schema.get("required", ())
    for name, facts in schema.get("properties", {}).items():
        yield _Field(name, "", _kind(facts), name in needed, facts.get("description", ""))


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in words, such as ``list of Job``."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(map(_kind, schema[key]))
    if "enum" in schema:
        return ", ".join(map(repr, schema["enum"]))
    if "const" in schema:
        return repr(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))
