from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.errors import IntegrityError
from quant_action.manifest import FileEntry, Manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model/sub").mkdir(parents=True)
    (tmp_path / "model/b.txt").write_text("bee")
    (tmp_path / "model/sub/a.txt").write_text("")
    return tmp_path / "model"


def test_every_file_by_path_size_and_sha256(folder: Path) -> None:
    assert Manifest.of(folder).files == (
        FileEntry(path="b.txt", size=3, sha256=hashlib.sha256(b"bee").hexdigest()),
        FileEntry(path="sub/a.txt", size=0, sha256=hashlib.sha256(b"").hexdigest()),
    )


def test_round_trip_and_verify(folder: Path, tmp_path: Path) -> None:
    Manifest.of(folder).save(tmp_path / "manifest.json")
    Manifest.load(tmp_path / "manifest.json").verify(folder)


def test_each_change_is_named(folder: Path) -> None:
    manifest = Manifest.of(folder)
    (folder / "b.txt").write_text("fee")
    (folder / "sub/a.txt").unlink()
    (folder / "c.txt").write_text("c")
    with pytest.raises(IntegrityError) as caught:
        manifest.verify(folder)
    assert str(caught.value) == f"{folder}: sub/a.txt is missing; c.txt is extra; b.txt differs"
    assert caught.value.exit_code == 6


def test_links_are_refused(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(IntegrityError, match="link is a link or a special file"):
        Manifest.of(folder)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": "quant_action.plan/v1", "files": []}', '{"schema": "quant_action.manifest/v1", "files": 3}']
)
def test_what_is_no_manifest_is_an_integrity_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        Manifest.load(tmp_path / "manifest.json")


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.integers(0, 9), st.text("0123456789abcdef", min_size=64, max_size=64)),
        unique_by=lambda entry: entry[0],
        min_size=1,
    )
)
def test_digest_depends_on_every_field(entries: list[tuple[str, int, str]]) -> None:
    files = [FileEntry(path=path, size=size, sha256=sha256) for path, size, sha256 in entries]
    digest = Manifest(files=tuple(files)).digest
    first = files[0]
    for changed in ({"path": first.path + "x"}, {"size": first.size + 1}, {"sha256": first.sha256[::-1] + "0"}):
        other = [first.model_copy(update=changed), *files[1:]]
        assert Manifest(files=tuple(other)).digest != digest
