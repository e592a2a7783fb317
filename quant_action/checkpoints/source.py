"""A model folder's tensors, read one at a time.

What `model_files` refuses from the headers (pickle, truncated files, a tensor that two files claim) is refused here too; and so is what
only the values show and what would poison everything after it: a NaN or an infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from quant_action.errors import ModelError
from quant_action.model_files import read_tensors


class Source:
    """The safetensors of a folder, opened once; tensors come in the dtype in which they are stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_of = {name: tensor.file for name, tensor in read_tensors(folder).items()}
        self._files: dict[str, Any] = {}
        for name in sorted(set(self._file_of.values())):
            try:
                self._files[name] = safe_open(folder / name, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelError(f"is truncated or damaged ({error})", where=str(folder / name), remedy="Fetch the model again.") from error

    @property
    def names(self) -> list[str]:
        """All tensors, sorted."""
        return sorted(self._file_of)

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def check(self, progress: Callable[[str, int, int], None]) -> None:
        """Read everything once, for libraries that would quantize a NaN without a word. Raises `ModelError` that names the tensor."""
        for number, name in enumerate(self.names):
            self.read(name)
            progress("read", number + 1, len(self.names))

    def read(self, name: str) -> torch.Tensor:
        """One tensor, finite, in a copy of its own. Raises `ModelError` that names it and its file."""
        if name not in self:
            raise ModelError(
                f"has no tensor {name}", where=str(self.folder), remedy="The config does not fit the weights: fetch the model again."
            )
        path = self.folder / self._file_of[name]
        try:
            tensor: torch.Tensor = self._files[self._file_of[name]].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {name} ({error})", where=str(path), remedy="Fetch the model again.") from error
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name} holds NaN or infinite values", where=str(path), remedy="The model is damaged: use another revision.")
        return tensor
