"""Runs in the environment `modern`: the runtime check, where the runtime loads another folder than the one that was scored.

python runtime_of_another.py REQUEST.json OUT.json FOLDER...

OUT.json gets, for each folder, `{"kernels": ...}` or `{"error": ..., "where": ...}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from quant_action.errors import QuantActionError
from quant_action.runtimes import worker


def main() -> None:
    request_file, out, *folders = sys.argv[1:]
    request = json.loads(Path(request_file).read_text())
    load = worker.load_runtime
    results: list[dict[str, Any]] = []
    for folder in folders:
        worker.load_runtime = lambda scored, device, folder=folder: load(Path(folder), device)  # type: ignore[misc]
        try:
            results.append({"kernels": worker.check(request, lambda *step: None)["kernels"]})
        except QuantActionError as error:
            results.append({"error": str(error.args[0]), "where": error.where})
    Path(out).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
