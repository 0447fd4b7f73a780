"""Documents of tokens to the files of a split, as `shards` describes them."""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from isoflop.data.shards import ENDS, TYPES, ShardFile, ShardSplit, dtype_for
from isoflop.data.split import Split
from isoflop.files import disk

FILE_TOKENS = 1 << 26


class Writer:
    """Writes one split, file by file, until `close`.

    Attributes:
        folder: where it writes, already there.
        files: those finished.
    """

    def __init__(self, folder: Path, split: Split, *, vocabulary: int, file_tokens: int = FILE_TOKENS) -> None:
        self.folder = folder
        self.split = split
        self.kind = TYPES[dtype_for(vocabulary)]
        self.end_of_text = vocabulary - 1
        self.file_tokens = file_tokens
        self.files: list[ShardFile] = []
        self.n_bytes = 0
        self._ends: list[int] = []
        self._n_tokens = 0
        self._out: BinaryIO | None = None

    def add(self, tokens: npt.NDArray[np.uint32], *, n_bytes: int) -> None:
        """Append one document of `n_bytes` of text; its end of text is put behind it here.

        Raises:
            ResourceError: the disk is full.
        """
        content = np.append(tokens, self.end_of_text).astype(self.kind).tobytes()
        with disk(self.folder):
            if self._out is None:
                self._out = (self.folder / self._name()).open("wb")
                self._digest = hashlib.sha256()
            self._out.write(content)
        self._digest.update(content)
        self._n_tokens += len(tokens) + 1
        self._ends.append(self._n_tokens)
        self.n_bytes += n_bytes
        if self._n_tokens >= self.file_tokens:
            self._finish_file()

    def close(self) -> ShardSplit:
        """Finish the last file.

        Raises:
            ResourceError: the disk is full.
        """
        if self._out is not None:
            self._finish_file()
        return ShardSplit(
            n_tokens=sum(file.n_tokens for file in self.files),
            n_documents=sum(file.n_documents for file in self.files),
            n_bytes=self.n_bytes,
            files=self.files,
        )

    def abandon(self) -> None:
        """Let go of the open file; what it holds stays without a header."""
        if self._out is not None:
            self._out.close()
            self._out = None

    def _name(self) -> str:
        return f"{self.split}-{len(self.files):05d}.bin"

    def _finish_file(self) -> None:
        assert self._out is not None
        ends = np.array(self._ends, dtype=ENDS).tobytes()
        name = self._name()
        ends_name = name.replace(".bin", ".ends.bin")
        with disk(self.folder):
            _sync_close(self._out)
            self._out = None
            with (self.folder / ends_name).open("wb") as out:
                out.write(ends)
                _sync_close(out)
        self.files.append(
            ShardFile(
                name=name,
                n_tokens=self._n_tokens,
                sha256=self._digest.hexdigest(),
                ends_name=ends_name,
                n_documents=len(self._ends),
                ends_sha256=hashlib.sha256(ends).hexdigest(),
            )
        )
        self._ends, self._n_tokens = [], 0


def _sync_close(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())
    out.close()
