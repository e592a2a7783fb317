"""Scalars of the spec, and what all its mappings have in common."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def _parse_size(value: object) -> object:
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B)", value.strip(), re.IGNORECASE)):
        return int(float(match[1]) * UNITS[match[2].upper()])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("expected a size such as 6GB, 1.5GiB or a number of bytes")


def _inside_repository(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or not value.isprintable():
        raise ValueError("expected a path below the folder of the spec, with forward slashes")
    return value


NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")
Name = Annotated[str, StringConstraints(pattern=NAME.pattern)]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
DataPath = Annotated[str, StringConstraints(min_length=1, max_length=400), AfterValidator(_inside_repository)]
Size = Annotated[int, BeforeValidator(_parse_size, json_schema_input_type=int | str), Field(gt=0)]
Positive = Annotated[int, Field(gt=0)]


def _parse_group_size(value: object) -> object:
    if value == "channel":
        return -1
    if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != -1):
        raise ValueError("expected a number of inputs such as 128, or channel for one scale per output channel")
    return value


GroupSize = Annotated[int, BeforeValidator(_parse_group_size, json_schema_input_type=int | Literal["channel"])]


class SpecModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
