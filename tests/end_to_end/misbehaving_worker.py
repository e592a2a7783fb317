"""A worker that does what its request says: end well, fail in known and unknown ways, talk too much, hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quant_action.errors import EngineError
from quant_action.workers.protocol import Progress, serve


def behave(request: dict[str, Any], progress: Progress) -> dict[str, Any]:
    match request["do"]:
        case "answer":
            for number in range(3):
                progress("count", number + 1, 3)
            return {"path": sys.path[:1], "cwd": str(Path.cwd())}
        case "dump everything":
            print(os.environ)
            print(json.dumps(dict(os.environ)), file=sys.stderr)
            names = ("quant_action", "tests", "pydantic", "torch", "pytest")
            return {"environment": dict(os.environ), "importable": [name for name in names if find_spec(name)]}
        case "dump everything and crash":
            raise ZeroDivisionError(str(os.environ))
        case "chatter":
            for _ in range(5000):
                print("out" * 30)
                print("err" * 30, file=sys.stderr)
            print("o" * 1_000_000)  # nobody reads lines only
            for number in range(20_000):
                progress("count", number + 1, 20_000)
            return {}
        case "nonsense":
            pipe = progress._pipe
            assert pipe is not None
            for line in ("{", "[]", "null", '{"step": 1}', '{"step": "a", "done": "b", "total": []}', "x" * 100_000):
                pipe.write(line + "\n")
            progress("count", 1, 1)
            return {}
        case "answer badly":
            (Path(sys.argv[1]) / "result.json").write_text(request["answer"])
            print("the last words")
            os._exit(0)
        case "leave a daemon":
            daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
            return {"daemon": daemon.pid}
        case "segmentation fault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "bad_alloc":
            os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
            os.abort()
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
