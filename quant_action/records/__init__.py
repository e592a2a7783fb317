"""What flows between the stages: frozen, typed, JSON with a `schema` field, and back.

    Spec -> Plan[Job] -> Candidate -> Evaluation -> Verdict -> Report

A record holds results and where they came from, never behaviour of a stage. Sizes are bytes, times seconds, shares fractions; a
number is finite or null. Paths inside records are relative and POSIX, so that a run folder can be moved.
"""

from quant_action.records.base import Record, Value, canonical_json, digest_of
from quant_action.records.plan import (
    BitsandbytesScheme,
    CalibrationRef,
    HarnessTask,
    Job,
    LongTextProtocol,
    ModelRef,
    Phase,
    Plan,
    Protocol,
    RuntimeProtocol,
    Samples,
    Scheme,
    SpeedCase,
    SpeedProtocol,
    TaskProtocol,
    TextProtocol,
    WeightScheme,
)
from quant_action.records.results import (
    Candidate,
    Estimate,
    Evaluation,
    Failure,
    LogitDifference,
    Measurement,
    RuntimeCheck,
    Scoring,
    Stage,
    SubjectKind,
)
from quant_action.records.speed import CpuState, GpuState, Speed, TimedCase, Timing
from quant_action.records.verdict import CandidateVerdict, Check, Decision, GateLimit, Interval, Outcome, Override, Verdict, Versus

__all__ = [
    "BitsandbytesScheme",
    "CalibrationRef",
    "Candidate",
    "CandidateVerdict",
    "Check",
    "CpuState",
    "Decision",
    "Estimate",
    "Evaluation",
    "Failure",
    "GateLimit",
    "GpuState",
    "HarnessTask",
    "Interval",
    "Job",
    "LogitDifference",
    "LongTextProtocol",
    "Measurement",
    "ModelRef",
    "Outcome",
    "Override",
    "Phase",
    "Plan",
    "Protocol",
    "Record",
    "RuntimeCheck",
    "RuntimeProtocol",
    "Samples",
    "Scheme",
    "Scoring",
    "Speed",
    "SpeedCase",
    "SpeedProtocol",
    "Stage",
    "SubjectKind",
    "TaskProtocol",
    "TextProtocol",
    "TimedCase",
    "Timing",
    "Value",
    "Verdict",
    "Versus",
    "WeightScheme",
    "canonical_json",
    "digest_of",
]
