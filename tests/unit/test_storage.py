from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from quant_action.errors import DiskFull
from quant_action.storage import complete_folder, disk_errors, write_text


def test_folder_appears_only_when_complete(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    with complete_folder(folder) as part:
        (part / "a.txt").write_text("a")
        assert not folder.exists()
    assert (folder / "a.txt").read_text() == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    def break_off() -> None:
        with complete_folder(tmp_path / "artifact") as part:
            (part / "a.txt").write_text("a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert list(tmp_path.iterdir()) == []


def test_leftover_of_a_killed_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "artifact.part").mkdir()
    (tmp_path / "artifact.part/old.txt").write_text("old")
    with complete_folder(tmp_path / "artifact") as part:
        (part / "new.txt").write_text("new")
    assert [path.name for path in (tmp_path / "artifact").iterdir()] == ["new.txt"]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="no space left while writing") as caught:
        write_text(path, "new")
    assert caught.value.exit_code == 4
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


def test_other_errors_keep_their_name(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "no")
