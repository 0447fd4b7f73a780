"""Tensors as a safetensors file, hashed while they are written.

Eight bytes with the header's length, a JSON header with type, shape and place of each tensor, then their bytes
(github.com/huggingface/safetensors, "Format"). The library's own writer copies all tensors into Python bytes first,
keeps other threads waiting, and leaves the hash to a second reading; this one does none of it, and the library reads
what it writes.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from isoflop.train.manifest import Member

_CODES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
_CHUNK = 1 << 24
_ALIGN = 8


def write(path: Path, tensors: Mapping[str, Tensor]) -> Member:
    """Write the file and sync it to disk; its size and hash.

    Tensors on a device come over one at a time, so no second copy of all of them ever exists.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    assert sys.byteorder == "little", "safetensors are little-endian"
    # Wide types first: every tensor then begins at a multiple of its own item size.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    digest, n_bytes = hashlib.sha256(), 0
    with path.open("wb", buffering=0) as out:
        for piece in _pieces(tensors, names):
            digest.update(piece)
            n_bytes += len(piece)
            while piece:  # an unbuffered file may take less than it is given
                piece = piece[out.write(piece) :]
        os.fsync(out.fileno())
    return Member(sha256=digest.hexdigest(), n_bytes=n_bytes)


def _pieces(tensors: Mapping[str, Tensor], names: list[str]) -> Iterator[memoryview]:
    yield memoryview(_header(tensors, names))
    for name in names:
        flat = tensors[name].detach().to("cpu").contiguous().reshape(-1)
        content = flat.view(torch.uint8).numpy().data
        for start in range(0, len(content), _CHUNK):
            yield content[start : start + _CHUNK]


def _header(tensors: Mapping[str, Tensor], names: list[str]) -> bytes:
    fields, at = {}, 0
    for name in names:
        tensor = tensors[name]
        end = at + tensor.numel() * tensor.element_size()
        fields[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    text = msgspec.json.encode(fields)
    text += b" " * (-len(text) % _ALIGN)
    return len(text).to_bytes(8, "little") + text
