"""A worker that does what its request says: end well, fail in known and unknown ways, talk too much, hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from quant_action.errors import EngineError
from quant_action.workers.protocol import Progress, serve


def behave(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    match request["do"]:
        case "answer":
            for number in range(3):
                progress("count", number + 1, 3)
            return {"environment": sorted(os.environ), "path": sys.path[:1], "cwd": str(Path.cwd())}
        case "chatter":
            for _ in range(5000):
                print("out" * 30)
                print("err" * 30, file=sys.stderr)
            return {}
        case "fail":
            raise EngineError("layer 3 is odd", where="model.layers.3", remedy="Make it even.")
        case "crash":
            print("the last words")
            raise ZeroDivisionError
        case "exit":
            sys.exit(0)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "allocate":
            return {"bytes": len(bytearray(1 << 60))}
        case "allocate a tensor":
            import torch

            return {"bytes": torch.empty(1 << 60, dtype=torch.uint8).nbytes}
        case "fill the disk":
            with Path("/dev/full").open("w") as file:
                file.write("x" * 100_000)
        case "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path(request["note"]).write_text(f"{os.getpid()} {child.pid}")
            progress("hang", 0, 1)
            time.sleep(600)
    raise AssertionError(request)


if __name__ == "__main__":
    serve(behave)
