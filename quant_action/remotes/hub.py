"""The Hugging Face Hub. Models are read at a pinned commit, and only the files that are needed: never pickle, never code.

`check` and `plan` need the small files and what the Hub says of the weights: their size and sha256, which stand in its listing, and their
safetensors headers, which it gives by range requests. Only work fetches the weights themselves.
"""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quant_action.errors import DiskFull, IntegrityError, ModelError, RemoteError
from quant_action.manifest import FileEntry, sha256_of
from quant_action.model_files import COMPANIONS, INDEX, ModelFiles, RemoteWeights, Tensor, open_model, refuse_pickles, weight_names

SMALL_FILES = ("config.json", INDEX, *COMPANIONS)
COMMIT_FORM = "the 40-digit commit that the model's page on the Hub shows under Files"


def open_hub_model(source: str, revision: str) -> ModelFiles:
    """A Hub model at a commit, without its weights where they are not in the Hub's local cache.

    Raises `ModelError` for what the Hub does not have, does not let us have, or should not be used; `RemoteError` when it cannot be
    reached, `DiskFull` when the small files do not fit.
    """
    with _named_errors(source, revision):
        folder = _snapshot(source, revision, silent=True)
        missing = _missing_weights(source, revision, folder)
        remote = _remote_weights(source, revision, missing) if missing else {}
    return open_model(folder, remote)


def fetch_weights(source: str, revision: str, remote: Mapping[str, RemoteWeights]) -> Path:
    """Folder of a Hub model at a commit with these weight files, and the small ones, in it.

    Raises as `open_hub_model` does, and `IntegrityError` for other bytes than the Hub lists: they are removed from its cache.
    """
    with _named_errors(source, revision):
        folder = _snapshot(source, revision, remote)
    for name, weights in remote.items():
        path = folder / name
        if sha256_of(path) != weights.entry.sha256:
            path.resolve().unlink()  # the cache's blob, to which the name is a link
            path.unlink(missing_ok=True)
            raise IntegrityError(
                "what was fetched is not what the Hub lists; it was removed from the cache",
                where=f"{source}@{revision[:12]}/{name}",
                remedy="Run again; if it happens again, check HF_ENDPOINT and what lies between this machine and the Hub.",
            )
    return folder


def cache_folder() -> Path:
    """Where the Hub's client keeps what was fetched."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def find_commit(source: str, revision: str | None) -> str:
    """The commit that a branch or tag (default: the main branch) of a Hub model stands at. Raises as `open_hub_model` does."""
    from huggingface_hub import HfApi

    with _named_errors(source, revision or "main"):
        return str(HfApi().model_info(source, revision=revision).sha)


def _snapshot(source: str, revision: str, weights: Iterable[str] = (), *, silent: bool = False) -> Path:
    """Folder in the Hub's cache that has the small files and these weights, and perhaps others."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    if silent:
        disable_progress_bars()
    try:
        patterns = [*SMALL_FILES, *map(glob.escape, weights)]
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns, local_files_only=constants.is_offline_mode()))
    finally:
        if silent:
            enable_progress_bars()


def _missing_weights(source: str, revision: str, folder: Path) -> list[str]:
    """Weight files that the cache does not have. Raises `RemoteError` where there are any and none may be fetched."""
    from huggingface_hub import constants

    missing = [name for name in weight_names(folder) if not (folder / name).is_file()]
    if missing and constants.is_offline_mode():
        raise _offline(f"{source}@{revision[:12]}")
    return missing


def _remote_weights(source: str, revision: str, names: list[str]) -> dict[str, RemoteWeights]:
    """Name -> weight file that only the Hub has. What it keeps in git itself, which is small, is fetched into the cache instead."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()
    listed = {file.path: file for file in api.list_repo_tree(source, revision=revision) if isinstance(file, RepoFile)}
    if not any(name in listed for name in names):
        refuse_pickles(f"{source}@{revision[:12]}", sorted(listed))
    stored = {name: listed[name].lfs for name in names if name in listed}
    if in_git := [name for name, lfs in stored.items() if lfs is None]:
        _snapshot(source, revision, in_git, silent=True)
    return {
        name: RemoteWeights(
            entry=FileEntry(path=name, size=lfs.size, sha256=lfs.sha256), tensors=_read_header(api, source, revision, name, lfs.size)
        )
        for name, lfs in stored.items()
        if lfs is not None
    }


def _read_header(api: Any, source: str, revision: str, name: str, size: int) -> dict[str, Tensor]:
    from huggingface_hub.errors import SafetensorsParsingError

    where = f"{source}@{revision[:12]}/{name}"
    try:
        found = api.parse_safetensors_file_metadata(source, name, revision=revision).tensors
        tensors = {
            str(key): Tensor(file=name, dtype=str(info.dtype), shape=tuple(int(length) for length in info.shape))
            for key, info in found.items()
        }
        end = max((int(info.data_offsets[1]) for info in found.values()), default=0)
    except (SafetensorsParsingError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ModelError(f"has no readable safetensors header ({type(error).__name__})", where=where) from error
    if end + 8 >= size:
        raise ModelError(f"is truncated: its header speaks of {end:,} bytes of data, it has {size:,}", where=where)
    return tensors


def token_source() -> str:
    """Which token the Hub's client sends, in words; its value is nobody's business."""
    from huggingface_hub import constants

    if os.environ.get("HF_OIDC_RESOURCE"):
        return "with the token exchanged for this CI job's identity"
    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return "without a token, because HF_HUB_DISABLE_IMPLICIT_TOKEN is set"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if os.environ.get(name, "").strip():
            return f"with the token in {name}"
    if Path(constants.HF_TOKEN_PATH).is_file():
        return "with the token that `hf auth login` saved"
    return "without a token"


@contextmanager
def _named_errors(source: str, revision: str) -> Iterator[None]:
    """Whatever the Hub's client raises, said in our errors. Messages of the client may hold URLs with signatures: none is passed on."""
    from httpx import HTTPError
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        XetDownloadError,
    )

    where = f"{source}@{revision[:12]}"
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"is gated, and was asked for {token_source()}",
            where=where,
            remedy=f"Ask for access at {constants.ENDPOINT}/{source} and set HF_TOKEN to a token of the account that was granted it.",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"is not on the Hub, or is private; it was asked for {token_source()}",
            where=where,
            remedy="Check the id, or set HF_TOKEN to a token that may read it.",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError("is a revision that the Hub does not have", where=where, remedy=f"Use {COMMIT_FORM}.") from error
    except HFValidationError as error:
        raise ModelError("is not a Hub id", where=where, remedy="A Hub id looks like organisation/name.") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, HTTPError, XetDownloadError, OSError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise ModelError(
                f"is refused by the Hub ({error.response.status_code}); it was asked for {token_source()}",
                where=where,
                remedy="Set HF_TOKEN to a token that is valid and may read it.",
            ) from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                "no space left while fetching it",
                where=where,
                remedy=f"Free space below {constants.HF_HUB_CACHE}, or set HF_HOME to a folder on a larger disk.",
            ) from error
        if constants.is_offline_mode():
            raise _offline(where) from error
        raise RemoteError(
            f"could not be fetched ({type(error).__name__})",
            where=where,
            remedy="Check the network and run again: what was fetched is kept.",
        ) from error
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise RemoteError(
            f"got an answer that is not the Hub's ({type(error).__name__})",
            where=where,
            remedy="Check HF_ENDPOINT, and whether a proxy or a login page answers in its place.",
        ) from error


def _offline(where: str) -> RemoteError:
    return RemoteError(
        "is not complete in the Hub's local cache, and HF_HUB_OFFLINE forbids to fetch the rest",
        where=where,
        remedy="Unset HF_HUB_OFFLINE, or fill the cache first where there is a network: quant-action run, or hf download.",
    )
