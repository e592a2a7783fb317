"""`quant.yml` as the team wrote it: what was asked, not yet what will be done (that is the plan).

The models below are the reference of the file and the source of its JSON Schema. Unknown keys, wrong types and impossible values are
refused with file, line and column by `load_spec`; what depends on the model or the data is the planner's business.
"""

from quant_action.spec.candidates import (
    AwqCandidate,
    BitsandbytesCandidate,
    CandidateSpec,
    GptqCandidate,
    PresetCandidate,
    RtnCandidate,
)
from quant_action.spec.document import Calibration, LoadedSpec, Model, Release, Spec, json_schema, load_spec, parse_spec
from quant_action.spec.evaluation import DataTask, Evaluation, Latency, LmEvalTask, LongText, Text
from quant_action.spec.gates import CeilingGate, FloorGate, Gate, Gates, MarginGate, RatioGate, ReleaseRatioGate, SizeGate, SpeedGate
from quant_action.spec.types import HUB_ID, NAME, SpecModel

__all__ = [
    "HUB_ID",
    "NAME",
    "AwqCandidate",
    "BitsandbytesCandidate",
    "Calibration",
    "CandidateSpec",
    "CeilingGate",
    "DataTask",
    "Evaluation",
    "FloorGate",
    "Gate",
    "Gates",
    "GptqCandidate",
    "Latency",
    "LmEvalTask",
    "LoadedSpec",
    "LongText",
    "MarginGate",
    "Model",
    "PresetCandidate",
    "RatioGate",
    "Release",
    "ReleaseRatioGate",
    "RtnCandidate",
    "SizeGate",
    "Spec",
    "SpecModel",
    "SpeedGate",
    "Text",
    "json_schema",
    "load_spec",
    "parse_spec",
]
