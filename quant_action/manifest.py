"""The identity of a folder of files: path, size and sha256 of each, and one digest over all.

Two models are the same when their manifests are equal; a folder without a manifest that fits it is not an artifact.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar, Self

from quant_action.errors import IntegrityError
from quant_action.records import Record, Value, digest_of


class FileEntry(Value):
    path: str
    """Relative, POSIX."""
    size: int
    sha256: str


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Manifest(Record):
    SCHEMA: ClassVar[str] = "quant_action.manifest/v1"

    files: tuple[FileEntry, ...]

    @classmethod
    def of(cls, folder: Path, files: list[Path] | None = None) -> Self:
        """Hash `files` (default: every file below `folder`). Links and special files are refused: their bytes may change unseen."""
        entries = []
        for path in sorted(files if files is not None else folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
            name = path.relative_to(folder).as_posix()
            if files is None and (path.is_symlink() or not (path.is_file() or path.is_dir())):
                raise IntegrityError(
                    f"{name} is a link or a special file", where=str(folder), remedy="Only plain files can be part of an artifact."
                )
            if path.is_file():
                entries.append(FileEntry(path=name, size=path.stat().st_size, sha256=sha256_of(path)))
        return cls(files=tuple(entries))

    @property
    def digest(self) -> str:
        return digest_of([[entry.path, entry.size, entry.sha256] for entry in self.files])

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)

    def differences(self, other: Manifest) -> list[str]:
        """One line per file that `other` lacks, adds or has with other bytes."""
        mine, theirs = ({entry.path: entry for entry in manifest.files} for manifest in (self, other))
        lines = [f"{path} is missing" for path in sorted(mine.keys() - theirs.keys())]
        lines += [f"{path} is extra" for path in sorted(theirs.keys() - mine.keys())]
        return lines + [f"{path} differs" for path in sorted(mine.keys() & theirs.keys()) if mine[path] != theirs[path]]

    def verify(self, folder: Path) -> None:
        """Raise `IntegrityError` naming each file of `folder` that is not as recorded."""
        lines = self.differences(Manifest.of(folder))
        if lines:
            raise IntegrityError("; ".join(lines), where=str(folder), remedy="Delete the folder; a rerun makes it again.")
