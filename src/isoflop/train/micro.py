"""How many sequences' activations exist at once, and when they turn out to be too many.

A batch is summed from parts; its loss and gradient are those of the whole but for the order of summation. It begins
with what is fast on the device and, by the count of memory, fits; where memory runs out all the same, the step is taken
again in parts of half as many sequences.
"""

import torch

from isoflop.count.memory_peak import memory
from isoflop.specs.engine import Computed, Engine
from isoflop.specs.layout import Layout
from isoflop.specs.recipe import Recipe
from isoflop.train.cores import memory_of_machine
from isoflop.train.predicted import training_of

_SHARE = 0.9  # of what is available: the count leaves out what the process holds besides
_OUT = (
    "can't allocate memory",  # torch's CPU allocator, which has no error class of its own
    "std::bad_alloc",
    "could not create a memory object",  # oneDNN
    "could not create a primitive",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def ran_out(error: BaseException) -> bool:
    """Whether it is memory that an error tells the end of."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(said in str(error) for said in _OUT)


def halved(rows: int) -> int:
    """Half as many sequences, at least one."""
    return max(1, -(-rows // 2))


def begin_with(recipe: Recipe, *, precision: Computed, tokens: int, available_bytes: float | None) -> tuple[int, str]:
    """Sequences at once, and why it is not what is usual.

    Args:
        recipe: its `micro_tokens` goes before all else.
        tokens: of a part, as is fast on the device.
        available_bytes: on the device; None where nobody knows.
    """
    if recipe.micro_tokens is not None:
        return min(recipe.sequences, recipe.micro_tokens // recipe.row.text), ""
    usual = rows = min(recipe.sequences, max(1, tokens // recipe.row.text))
    if available_bytes is None:
        return rows, ""
    while rows > 1 and counted(recipe, rows=rows, precision=precision) > _SHARE * available_bytes:
        rows = halved(rows)
    if rows == usual:
        return rows, ""
    return rows, f"{usual} would not fit into the {available_bytes / 1e9:.2g} GB available, by the count of memory"


def counted(recipe: Recipe, *, rows: int, precision: Computed) -> float:
    """Bytes of a step with so many sequences at once, without an allocator's margin."""
    layout = Layout(
        sharding="ddp", recompute=recipe.recompute, devices=1, micro_batch=rows, sequence=recipe.model.context
    )
    engine = Engine(precision=precision, compiled=False, rows=rows)
    return memory(recipe.model, layout, training_of(recipe, engine)).tensors_bytes


def available(device: torch.device) -> float | None:
    """Bytes that a run may still take on the device; None where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return memory_of_machine()[1]
