"""What every record is: frozen, typed, JSON with a `schema` field, and back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from quant_action.errors import IntegrityError
from quant_action.storage import write_text


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that digests are taken of: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest_of(value: Any) -> str:
    """sha256, in hex, of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class Value(BaseModel):
    """A frozen value that has no file of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")


class Record(Value):
    """A value with a file of its own."""

    SCHEMA: ClassVar[str]

    def to_json(self) -> str:
        return json.dumps({"schema": self.SCHEMA, **self.model_dump(mode="json")}, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Self:
        """Raises `IntegrityError` for anything but a record of this schema."""
        try:
            data = json.loads(text)
            schema = data.pop("schema", None) if isinstance(data, dict) else None
            if schema != cls.SCHEMA:
                raise IntegrityError(f"expected a record of schema {cls.SCHEMA}, found {schema!r}", where=where)
            return cls.model_validate_json(json.dumps(data))
        except (ValueError, ValidationError) as error:
            raise IntegrityError(
                f"not a readable {cls.SCHEMA} record: {error}", where=where, remedy="Delete it; a rerun makes it again."
            ) from error

    def save(self, path: Path) -> None:
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls.from_json(path.read_text(encoding="utf-8"), where=str(path))
