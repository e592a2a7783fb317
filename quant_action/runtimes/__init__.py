"""What will run an artifact, beside the scorer: the library that loads it, where that is installed, and the comparison of the two.

Scoring computes weights from the stored integers itself. Here the same folder is loaded as its users will load it, and what that computes
is compared with what was scored.
"""

from __future__ import annotations

from collections.abc import Sequence

from quant_action.records import BitsandbytesScheme, Scheme, digest_of
from quant_action.workers.environment import HOST, Environment
from quant_action.workers.fingerprint import fingerprint

WORKER = "quant_action.runtimes.worker"
SOURCES = ("quant_action.runtimes", "quant_action.checkpoints", "quant_action.scorer", "quant_action.model_files")
"""Whose code decides whether a check passes."""
HOST_REQUIRES = ("torch", "transformers", "accelerate", "bitsandbytes", "safetensors")


def runtime_environment(scheme: Scheme) -> str:
    """bitsandbytes is part of the host; GPTQModel and compressed-tensors, which run every other format, are in `modern`."""
    return HOST if isinstance(scheme, BitsandbytesScheme) else "modern"


def runtime_library(scheme: Scheme, sources: Sequence[str]) -> str:
    """Digest of the versions that run an artifact of this scheme, and of our `sources` that load it."""
    name = runtime_environment(scheme)
    return fingerprint(HOST_REQUIRES, sources) if name == HOST else digest_of([Environment(name).key, fingerprint((), sources)])
