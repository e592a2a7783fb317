"""The Hugging Face Hub. Models are fetched at a pinned commit, and only the files that are read: never pickle, never code."""

from __future__ import annotations

from pathlib import Path

from quant_action.errors import ModelError, RemoteError
from quant_action.model_files import COMPANIONS, INDEX


def fetch_model(source: str, revision: str) -> Path:
    """Folder of a Hub model at a commit, from the Hub's own cache where it is there already.

    Raises `ModelError` for what the Hub does not have or does not let us have, `RemoteError` when it cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{source}@{revision[:12]}"
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=["model*.safetensors", INDEX, "config.json", *COMPANIONS]))
    except GatedRepoError as error:
        raise ModelError(
            "is gated", where=where, remedy="Accept its terms on the Hub and set HF_TOKEN to a token that may read it."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelError(
            "is not on the Hub, or is private", where=where, remedy="Check id and commit, or set HF_TOKEN to a token that may read it."
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise RemoteError(
            f"could not be fetched ({type(error).__name__})",
            where=where,
            remedy="Check the network and run again: what was fetched is kept.",
        ) from error
