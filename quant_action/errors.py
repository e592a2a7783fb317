"""Every way in which quant_action can end badly, with its exit code.

A gate's bad news is not an error: verdicts have the exit codes 0, 1 and 3 (see `records.Outcome`). What stands here is a breakage:

    QuantActionError                 70  a bug of ours
    ├── InputError                    2  the spec, the command line or what they point to
    │   ├── SpecError                    quant.yml, with line and column
    │   ├── DataError                    a calibration or evaluation file, with line
    │   └── ModelError                   a base model that cannot or must not be loaded
    ├── RunError                      4  engine, environment or resources
    │   ├── EngineError                  an engine failed or wrote an artifact that does not pass its checks
    │   ├── EnvironmentMissing           a package that the work needs is not installed
    │   ├── OutOfMemory                  GPU or host memory
    │   ├── DiskFull
    │   ├── TimedOut                     a job took longer than --timeout
    │   ├── ReleaseNotMeasured           the last release was given, and cannot be compared with
    │   └── WorkerCrashed                a child process ended without a result
    ├── RemoteError                   5  Hub, DVC or GitHub
    │   ├── RemoteRefused                the token may not do this
    │   ├── RemoteMissing                there is no such thing, or not for this token
    │   └── RemoteUncertain              no answer came: it may have been done or not
    ├── IntegrityError                6  bytes that are not what a record says they are
    └── Cancelled                   130  Ctrl-C

Every message says what happened and where; `remedy` says what to do about it.
"""

from __future__ import annotations


class QuantActionError(Exception):
    """Base of all of them. `str()` is the cause; `where` is a place such as `quant.yml:7:3`; `remedy` is the next step."""

    exit_code = 70

    def __init__(self, message: str, *, where: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.where}: {message}" if self.where else message


class InputError(QuantActionError):
    exit_code = 2


class SpecError(InputError):
    pass


class DataError(InputError):
    pass


class ModelError(InputError):
    pass


class RunError(QuantActionError):
    exit_code = 4


class EngineError(RunError):
    pass


class EnvironmentMissing(RunError):
    pass


class OutOfMemory(RunError):
    pass


class DiskFull(RunError):
    pass


class TimedOut(RunError):
    pass


class WorkerCrashed(RunError):
    pass


class ReleaseNotMeasured(RunError):
    pass


class RemoteError(QuantActionError):
    exit_code = 5


class RemoteRefused(RemoteError):
    pass


class RemoteMissing(RemoteError):
    pass


class RemoteUncertain(RemoteError):
    pass


class IntegrityError(QuantActionError):
    exit_code = 6


class Cancelled(QuantActionError):
    exit_code = 130


#: Kinds that a worker may report in its result file; a name that is not here is a crash.
WORKER_ERRORS: dict[str, type[QuantActionError]] = {
    error.__name__: error for error in (DataError, ModelError, EngineError, EnvironmentMissing, OutOfMemory, DiskFull, IntegrityError)
}
