"""The command line: arguments in, one pipeline function, exit code out. No logic."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from quant_action import __version__
from quant_action.errors import Cancelled, InputError, QuantActionError, RunError
from quant_action.guide import GOALS, HARDWARE

EXIT_CODES = """exit codes:
  0  approved, or done            4  engine, environment or resources
  1  rejected by a gate           5  a remote: Hub, DVC, GitHub
  2  bad input: spec, data, model 6  integrity: bytes are not what a record says
  3  inconclusive                70  a bug of ours          130  cancelled"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message, remedy=f"{self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="quant-action",
        description="CI/CD for quantized language models: quantize, measure, judge, report.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"quant-action {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(
        name: str,
        summary: str,
        *,
        work: bool = True,
        release: bool = False,
        timed: bool = False,
        candidate: bool = False,
        as_json: bool = False,
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.add_argument("spec", nargs="?", type=Path, default=Path("quant.yml"), metavar="SPEC", help="default: quant.yml")
        sub.add_argument("--cache", type=Path, metavar="DIR", help="where results are kept (default: .quant/cache beside the spec)")
        if work:
            sub.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: the GPU if there is one")
        if release:
            sub.add_argument("--release", type=Path, metavar="DIR", help="what was released last, to compare with: a model's folder")
        if timed:
            sub.add_argument(
                "--timeout", type=_duration, metavar="TIME", help="most that one job may take, such as 90m, 2h or 30s (default: no limit)"
            )
        if candidate:
            sub.add_argument("--candidate", metavar="ID", help="this one only")
        if as_json:
            sub.add_argument("--json", action="store_true", help="print the record")
        return sub

    _add_init(commands)
    command("run", "quantize, evaluate, judge and report", release=True, timed=True, as_json=True)
    command("check", "say what would not work, before anything heavy starts", release=True, as_json=True)
    plan = command("plan", "show what would be done, and what is cached", release=True, as_json=True)
    plan.add_argument(
        "--rehearse", action="store_true", help="take a random two-layer twin of the model through all of it: a minute or two"
    )
    command("quantize", "make the candidates", timed=True, candidate=True)
    command("evaluate", "measure the original, the release and the candidates that were made", release=True, timed=True, candidate=True)
    command("judge", "judge the last run's records again under the spec as it is now", work=False, as_json=True)
    command("report", "write the last run's report again", work=False)
    commands.add_parser("engines", help="list the engines that are installed", description="List the engines that are installed.")
    environments = commands.add_parser(
        "environments",
        help="list, install or remove the environments of engines and of lm-evaluation-harness",
        description="Environments of engines and of lm-evaluation-harness.",
    )
    environments.add_argument("--install", metavar="NAME", help="make it, if it is not there")
    environments.add_argument("--remove", metavar="NAME", help="delete every version of it")
    schema = commands.add_parser("schema", help="print the JSON Schema of quant.yml", description="Print the JSON Schema of quant.yml.")
    schema.set_defaults(spec=None)
    return parser


def _duration(text: str) -> float:
    """Seconds of a time such as 90m."""
    if not (match := re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smh])", text)) or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90m, 2h or 30s")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _add_init(commands: argparse._SubParsersAction[_Parser]) -> None:
    summary = "write a first spec, stubs of its data, .gitignore and a workflow"
    init = commands.add_parser(
        "init",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. Nothing is overwritten; on a terminal, what is not given is asked.",
    )
    init.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    init.add_argument("--model", metavar="ID|PATH", help="a model on the Hub (organisation/name), or a folder")
    init.add_argument("--revision", metavar="COMMIT", help="of a Hub model; default: what its main branch stands at")
    init.add_argument("--goal", metavar="|".join(GOALS), help="what matters most; easy is the least friction")
    init.add_argument("--calibration", metavar="FILE|none", help="text to calibrate on; where there is no such file, a stub is written")
    init.add_argument("--hardware", metavar="|".join(HARDWARE), help="what will quantize it; default: what this machine has")
    init.add_argument("--name", help="of the quantized model; default: from the Hub id or the folder")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `quant-action`; returns the exit code, and prints one clear error with a remedy."""
    signal.signal(signal.SIGTERM, _cancel)
    try:
        return _dispatch(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return _complain(Cancelled("cancelled; what was complete is kept, run again to continue"))
    except QuantActionError as error:
        return _complain(error)
    except BrokenPipeError:
        return 0
    except OSError as error:
        return _complain(_of_a_file(error))
    except Exception:
        traceback.print_exc()
        return _complain(QuantActionError("a bug of ours", remedy="Please report it with what stands above; what was complete is kept."))


def _dispatch(options: argparse.Namespace) -> int:
    if options.command == "schema":
        from quant_action.spec import json_schema

        print(json.dumps(json_schema(), indent=2))
        return 0
    from quant_action import commands

    return commands.COMMANDS[options.command](options)


def _of_a_file(error: OSError) -> QuantActionError:
    """Inputs that cannot be read have errors of their own; what is left are the files that we write."""
    from quant_action.workers.diagnosis import expected

    return expected(error) or RunError(
        (error.strerror or str(error)).lower(),
        where=None if error.filename is None else str(error.filename),
        remedy="Results are written beside the spec, or to --cache: both must be folders that may be written to.",
    )


def _complain(error: QuantActionError) -> int:
    print(f"quant-action: error: {error}", file=sys.stderr)
    if error.remedy:
        print(f"  {error.remedy}", file=sys.stderr)
    return error.exit_code


def _cancel(number: int, frame: FrameType | None) -> None:
    """A cancelled CI job sends SIGTERM: leave as on Ctrl-C, so that workers end and locks are released."""
    raise KeyboardInterrupt
