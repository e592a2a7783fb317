"""The whole file: its models put together, read and validated, and where in it each value stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from quant_action.errors import SpecError
from quant_action.spec.candidates import CandidateSpec
from quant_action.spec.evaluation import Evaluation
from quant_action.spec.gates import Gates
from quant_action.spec.overrides import Override
from quant_action.spec.source import SpecSource, parse_source, read_source
from quant_action.spec.types import HUB_ID, Commit, DataPath, Id, Name, Positive, SpecModel

SUBJECTS = {
    "baseline": "the unquantized model",
    "floor": "the unquantized model measured a second time",
    "release": "the last released artifact",
}
"""Names that no candidate can have: a run measures these too."""


SUBJECTS = {
    "baseline": "the unquantized model",
    "floor": "the unquantized model measured a second time",
    "release": "the last released artifact",
}
"""Names that no candidate can have: a run measures these too."""


class Model(SpecModel):
    source: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    """A Hugging Face Hub id (`organisation/name`), or a path relative to the spec."""
    revision: Commit | None = None
    """The commit; required for a Hub id, so that a run can be repeated."""

    @property
    def is_local(self) -> bool:
        return self.revision is None

    @model_validator(mode="after")
    def _hub_id_has_commit(self) -> Model:
        if self.revision is not None and not HUB_ID.fullmatch(self.source):
            raise ValueError("revision belongs to a Hub id such as organisation/name; a local folder has none")
        return self


class Calibration(SpecModel):
    data: DataPath
    samples: Positive = 128
    tokens: Annotated[int, Field(ge=16)] = 2048
    """Length of one sample."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Release(SpecModel):
    choose: Literal["smallest", "most-accurate", "least-memory"] = "smallest"
    hub: Annotated[str, StringConstraints(pattern=rf"^{HUB_ID.pattern}$")] | None = None
    dvc_remote: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None


class Spec(SpecModel):
    version: Literal[1]
    name: Name
    """The artifact's name in the registry."""
    model: Model
    calibration: Calibration | None = None
    candidates: Annotated[dict[Id, CandidateSpec], Field(min_length=1)]
    evaluation: Evaluation = Evaluation()
    gates: Gates | None = None
    overrides: Annotated[list[Override], Field(max_length=1000)] = Field(default=[])
    release: Release = Release()

    @model_validator(mode="after")
    def _something_is_measured(self) -> Spec:
        if self.evaluation.text is None and self.evaluation.long_text is None and not self.evaluation.tasks:
            raise ValueError("evaluation needs text, long_text or tasks: without any of them nothing can be judged")
        if self.evaluation.runtime and self.evaluation.text is None:
            raise ValueError("evaluation.runtime compares on the evaluation's text: give evaluation.text too")
        latency, gates = self.evaluation.latency, self.gates
        if gates and gates.prefill and not (latency and latency.prefill):
            raise ValueError("gates.prefill needs something to judge: give evaluation.latency.prefill too, such as [512]")
        if gates and gates.decode and not (latency and latency.decode):
            raise ValueError("gates.decode needs something to judge: give evaluation.latency.decode too, such as 128")
        for name, meaning in SUBJECTS.items():
            if name in self.candidates:
                raise ValueError(f"no candidate can be called {name}: that is {meaning}")
        return self


class LoadedSpec:
    """A valid spec, and where in the file each of its values stands."""

    def __init__(self, spec: Spec, source: SpecSource) -> None:
        self.spec = spec
        self.source = source

    @property
    def folder(self) -> Path:
        return self.source.path.parent

    def where(self, *keys: str | int) -> str:
        """`file:line:column` of the value under these keys, or of the closest parent that the file has."""
        return self.source.where(keys)

    def resolve(self, path: str) -> Path:
        """A path of the spec; links that lead out of the spec's folder are followed: they are the team's own."""
        return self.folder / path


def load_spec(path: Path) -> LoadedSpec:
    """Read and validate a spec. Raises `SpecError` with every fault that it has, each with line, column and remedy."""
    return _validated(read_source(path))


def parse_spec(text: str, path: Path) -> LoadedSpec:
    """Validate the text that a spec at `path` would have. Raises as `load_spec`."""
    return _validated(parse_source(text, path))


def _validated(source: SpecSource) -> LoadedSpec:
    try:
        spec = Spec.model_validate(source.value)
    except ValidationError as error:
        raise SpecError("\n".join(source.explain(fault, Spec) for fault in error.errors(include_url=False))) from None
    return LoadedSpec(spec, source)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `quant.yml`, for editors."""
    schema = Spec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "quant.yml of quant_action"}
