"""torch.compile for a model's blocks, which can be taken back.

Only a block is compiled and not the whole model: all blocks share one graph, so a cold start is that of one block (8 to
15 s on CPU where a whole model takes 50 to 115), and the head keeps its own chunks. Shapes are fixed. Evaluations run
eagerly: their shapes would each cost another graph, and their losses would depend on what the training was run by.

Guaranteed: a resume on the same machine with the same torch and compiler makes the same kernels, and so the same bits.
Elsewhere the last digits may differ, as they may for torch's own kernels.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from isoflop.model.attention import Attention
from isoflop.model.experts import Mixture


def compile_blocks(model: nn.Module) -> None:
    """Send each block through torch.compile when it is first used in training."""
    with quietly():  # what is imported here is deprecated, says torch of torch
        for part in _parts(model):
            part.forward = torch.compile(part.forward, dynamic=False)


def uncompile(model: nn.Module) -> None:
    """Take `compile_blocks` back."""
    for part in _parts(model):
        part.__dict__.pop("forward", None)


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    """Blocks; of one with experts, whose shapes change at every step, its attention."""
    for block in blocks(model):
        inner = list(block.modules())
        mixed = any(isinstance(part, Mixture) for part in inner)
        yield from (part for part in inner if isinstance(part, Attention)) if mixed else [block]


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Of every stack in the model."""
    for name, stack in model.named_modules():
        if isinstance(stack, nn.ModuleList) and name.rpartition(".")[2] == "blocks":
            yield from stack


@contextmanager
def eagerly() -> Iterator[None]:
    """As if nothing were compiled, while inside."""
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def quietly() -> Iterator[None]:
    """Without the compiler's warnings about its own workings, while it may be at work inside."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\b")
        warnings.filterwarnings(
            "ignore", message="The .grad attribute of a Tensor that is not a leaf"
        )  # it asks for it
        yield


def reason(error: BaseException) -> str:
    """Why it did not compile, in one line: the first cause that has something to say."""
    # Dynamo keeps what a backend raised beside its own error and not as its cause.
    while (cause := getattr(error, "inner_exception", None) or error.__cause__) is not None:
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
