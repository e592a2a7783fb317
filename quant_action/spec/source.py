"""The text of a spec: YAML made safe, the place of every value, and validation faults said in words with that place."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag

from quant_action.errors import SpecError

MAX_BYTES = 1024 * 1024
MAX_NODES = 50_000
"""Values after aliases are expanded: far above any real spec, far below what a bomb of nested aliases makes."""


class SpecLoader(yaml.SafeLoader):
    """YAML's safe loader with the scalars of YAML 1.2: `no` and `12:30` are text, `1e-3` is a number."""


SpecLoader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("bool", r"true|false|True|False|TRUE|FALSE", "tfTF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    SpecLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))


def _construct_float(loader: SpecLoader, node: yaml.ScalarNode) -> float:
    return float(node.value)  # PyYAML's own constructor reads YAML 1.1, where 1:30 is ninety


SpecLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class SpecSource:
    path: Path
    digest: str
    """sha256 of the text."""
    value: Any
    places: dict[Keys, tuple[int, int]]
    """Line and column, from 1, of each value; of a key's value, the place of the key."""

    def where(self, keys: Sequence[str | int]) -> str:
        known = tuple(keys)
        while known and known not in self.places:
            known = known[:-1]
        line, column = self.places.get(known, (1, 1))
        return f"{self.path}:{line}:{column}"

    def explain(self, fault: Any, model: type[BaseModel]) -> str:
        """One line for one of pydantic's faults: place, key, what is wrong, what was probably meant."""
        keys = self._keys(fault["loc"])
        message = MESSAGES.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        if fault["type"] == "missing":
            message = f"{fault['loc'][-1]} is missing"
        elif fault["type"] == "extra_forbidden":
            message += _did_you_mean(str(keys[-1]), _fields_at(model, fault["loc"][:-1]))
        elif fault["type"] in ("literal_error", "union_tag_invalid"):
            given = fault["ctx"].get("tag", fault["input"])
            message = f"{given!r} is not one of {fault['ctx'].get('expected_tags') or fault['ctx']['expected']}"
            message += _did_you_mean(str(given), re.findall(r"'([^']*)'", message)[1:])
        elif isinstance(fault["input"], str | int | float | bool | None) and "found" not in message:
            message += f" (found {fault['input']!r})"
        name = ".".join(map(str, keys))
        return f"{self.where(keys)}: {name}: {message}" if name else f"{self.where(keys)}: {message}"

    def _keys(self, location: Sequence[str | int]) -> Keys:
        """The part of pydantic's location that stands in the file: the names of union members and `[key]` do not."""
        keys: list[str | int] = []
        value: Any = self.value
        for key in location:
            stands_here = (isinstance(value, dict) and key in value) or (isinstance(value, list) and isinstance(key, int))
            if stands_here:
                keys.append(key)
                value = value[key]
        return tuple(keys)


MESSAGES = {
    "extra_forbidden": "unknown key",
    "union_tag_not_found": "method is missing; choose one of 'gptq', 'awq', 'rtn', 'bitsandbytes', or name a preset",
}


def read_source(path: Path) -> SpecSource:
    """Read and parse a spec. Raises `SpecError` for a file that cannot be read, and as `parse_source`."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise SpecError(f"is {size:,} bytes; a spec has at most {MAX_BYTES:,}", where=str(path))
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError("no such file", where=str(path), remedy="Name the spec, or have one written: quant-action init.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot be read ({error})", where=str(path)) from error
    return parse_source(text, path)


def parse_source(text: str, path: Path) -> SpecSource:
    """Parse a spec's text without building anything but plain values. Raises `SpecError` for what is not safe, single-document YAML."""
    loader = SpecLoader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise SpecError("expected keys such as version, name and model", where=f"{path}:1:1")
        places: dict[Keys, tuple[int, int]] = {}
        for count, (keys, place) in enumerate(_walk(node, (), str(path), ())):
            if count > MAX_NODES:
                raise SpecError(f"has more than {MAX_NODES:,} values once its aliases are expanded", where=str(path))
            places[keys] = place
        return SpecSource(path, hashlib.sha256(text.encode()).hexdigest(), loader.construct_document(node), places)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(f"is not YAML that a spec may hold: {error.problem or error.context}", where=where) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"is not YAML that a spec may hold: {error}", where=str(path)) from error
    finally:
        loader.dispose()


def _walk(node: yaml.Node, keys: Keys, file: str, parents: tuple[yaml.Node, ...]) -> Iterator[tuple[Keys, tuple[int, int]]]:
    """Every value's keys and place; refuses duplicate keys, keys that are not text, and aliases that contain themselves."""
    if any(node is parent for parent in parents):
        raise SpecError("an alias contains itself", where=_place(file, node))
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise SpecError("a key must be plain text; quote it", where=_place(file, key))
            if key.value in seen:
                raise SpecError(f"duplicate key {key.value!r}; it first stands at {_place(file, seen[key.value])}", where=_place(file, key))
            seen[key.value] = key
            yield (*keys, key.value), (key.start_mark.line + 1, key.start_mark.column + 1)
            yield from _walk(value, (*keys, key.value), file, (*parents, node))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*keys, index), (value.start_mark.line + 1, value.start_mark.column + 1)
            yield from _walk(value, (*keys, index), file, (*parents, node))


def _place(file: str, node: yaml.Node) -> str:
    return f"{file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _did_you_mean(given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _fields_at(annotation: Any, location: Sequence[str | int]) -> list[str]:
    """Names of the fields that a model has at one of pydantic's locations."""
    for key in location:
        members = [member for member in _members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)]
        if key in (tags := _tags(annotation)):
            annotation = tags[key]
        elif members and key in members[0].model_fields:
            annotation = members[0].model_fields[str(key)].annotation
        else:
            inner = next((member for member in _members(annotation) if get_origin(member) in (dict, list)), None)
            annotation = get_args(inner)[-1] if inner else annotation
    return [name for member in _members(annotation) if hasattr(member, "model_fields") for name in member.model_fields]


def _tags(annotation: Any) -> dict[str | int, Any]:
    """Tag -> type of a discriminated union."""
    union = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return {
        mark.tag: get_args(member)[0]
        for member in (get_args(union) if get_origin(union) in (Union, UnionType) else ())
        if get_origin(member) is Annotated
        for mark in get_args(member)[1:]
        if isinstance(mark, Tag)
    }


def _members(annotation: Any) -> list[Any]:
    """The types of a union, or the one type, without `Annotated` and `None`."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [inner for member in get_args(annotation) if member is not NoneType for inner in _members(member)]
    return [annotation]
