"""Files that are whole or absent: written under a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quant_action.errors import DiskFull

PART = ".part"
"""Suffix of a folder that is not complete; whoever finds one may delete it."""


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn 'no space left', 'quota' and 'file too large' into `DiskFull`, which names the place and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(
                f"no space left while writing ({error.strerror})",
                where=str(where),
                remedy="Free space or point --cache at a larger disk, then run again: what was complete is kept.",
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Atomically replace `path`; readers see the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
    try:
        with disk_errors(path), os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Give a fresh `<folder>.part`; on leaving without an error, sync every file in it and rename it to `folder`.

    After an error or a kill, `folder` does not exist. An older, incomplete `.part` is removed first.
    """
    part = folder.with_name(folder.name + PART)
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    try:
        with disk_errors(folder):
            yield part
            for path in sorted(part.rglob("*")):
                if path.is_file():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
                else:
                    sync_folder(path)
            sync_folder(part)
        part.replace(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync_folder(folder.parent)
