"""The part of JSON Schema that docs/*.schema.json use: what of a value does not fit."""
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.conftest import ROOT

TYPES = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int,
         "boolean": bool, "null": type(None)}
KNOWN = {"$schema", "$defs", "$ref", "title", "description", "type", "required", "properties",
         "additionalProperties", "items", "minItems", "maxItems", "minimum", "pattern", "enum",
         "const", "anyOf"}


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text())
    return found


def is_of(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind])


def misfits(value: Any, of: dict[str, Any], whole: dict[str, Any] | None = None, at: str = ""
            ) -> Iterator[str]:
    """A line for each thing that is not as the schema says; nothing where the value fits."""
    whole = whole or of
    assert set(of) <= KNOWN, f"{set(of) - KNOWN} of the schema is not checked"
    if "$ref" in of:
        yield from misfits(value, whole["$defs"][of["$ref"].rpartition("/")[2]], whole, at)
    if "type" in of and not is_of(value, of["type"]):
        yield f"{at}: no {of['type']}"
        return
    if "const" in of and value != of["const"]:
        yield f"{at}: not {of['const']!r}"
    if "enum" in of and not any(value is one or (type(value) is type(one) and value == one)
                                for one in of["enum"]):
        yield f"{at}: none of {of['enum']}"
    if "anyOf" in of and all(list(misfits(value, one, whole, at)) for one in of["anyOf"]):
        yield f"{at}: none of the forms that it may have"
    if "pattern" in of and not re.search(of["pattern"], value):
        yield f"{at}: not of the form {of['pattern']}"
    if "minimum" in of and value < of["minimum"]:
        yield f"{at}: below {of['minimum']}"
    if isinstance(value, dict):
        known, more = of.get("properties", {}), of.get("additionalProperties", True)
        yield from (f"{at}: no {name}" for name in of.get("required", ()) if name not in value)
        for name, one in value.items():
            if name in known or isinstance(more, dict):
                yield from misfits(one, known.get(name, more), whole, f"{at}/{name}")
            elif not more:
                yield f"{at}: {name} is not in the schema"
    if isinstance(value, list):
        if not of.get("minItems", 0) <= len(value) <= of.get("maxItems", len(value)):
            yield f"{at}: {len(value)} items"
        for i, one in enumerate(value):
            yield from misfits(one, of.get("items", {}), whole, f"{at}/{i}")
