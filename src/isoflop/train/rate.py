"""Rates that need more than one operation: a training step of our own model, and a collective among processes."""

import os
import socket
import statistics
import time
from datetime import timedelta
from pathlib import Path

import numpy as np

from isoflop.data.corrupt import Place
from isoflop.errors import UsageError
from isoflop.specs.recipe import Recipe

_GATHER_BYTES = 32 * 2**20
_MEETING_S = 60.0
_WARM, _LEAST = 2, 3


def measure_steps(recipe: Recipe, *, seconds: float) -> float:
    """Tokens/s of the median optimizer step on random tokens, at least three of them after two to warm up.

    Args:
        recipe: model, batch, precision, threads; its shards are not read.
        seconds: to spend, warm-up included.
    """
    from isoflop.train import objectives
    from isoflop.train.learner import Learner, reproducible

    if not seconds > 0:
        raise UsageError(f"measure_steps: seconds is {seconds}; it must be positive")
    random = np.random.default_rng(recipe.seed)
    row = recipe.row
    text_vocabulary, shape = recipe.model.vocabulary - row.extra_ids, (recipe.sequences, row.text + 1)
    objective = objectives.load(str(recipe.learned.name))
    terms = objectives.terms(recipe, text_vocabulary=text_vocabulary)
    with reproducible(recipe):
        learner = Learner(recipe, peak_learning_rate=1e-4)
        took: list[float] = []
        end = time.perf_counter() + seconds
        while len(took) < _WARM + _LEAST or time.perf_counter() < end:
            text = random.integers(0, text_vocabulary, shape)
            place = Place(seed=recipe.seed, step=len(took), first_row=0)
            batch = objective.batch(text[:, :-1].copy(), text[:, 1:].copy(), place, terms)
            begin = time.perf_counter()
            learner.step(0, batch)  # reads its loss, so it has ended
            took.append(time.perf_counter() - begin)
    return recipe.batch_tokens / statistics.median(took[_WARM:])


def measure_gather(meeting: Path, *, ranks: int, seconds: float) -> float:
    """Bytes a second that each process sends in a ring's gather, by gloo; the median.

    Called in every process alike; who comes first is rank 0.

    Args:
        meeting: a file that does not exist yet, in which they find each other.
        seconds: to spend, by the clock of rank 0.
    """
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore, PrefixStore

    if ranks < 2:
        raise UsageError(f"measure_gather: {ranks} process has nobody to gather from")
    # All are on this machine: a host whose own name does not resolve, as in a container, still has its loopback.
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    store = FileStore(str(meeting), ranks)
    rank = store.add("ranks", 1) - 1
    dist.init_process_group(
        "gloo", store=PrefixStore("gather", store), rank=rank, world_size=ranks,
        timeout=timedelta(seconds=_MEETING_S),
    )  # fmt: skip
    try:
        mine = torch.ones(_GATHER_BYTES // 4)
        parts = [torch.empty_like(mine) for _ in range(ranks)]
        took: list[float] = []
        end, going = time.perf_counter() + seconds, torch.ones(1)
        while going.item():
            begin = time.perf_counter()
            dist.all_gather(parts, mine)
            took.append(time.perf_counter() - begin)
            going[0] = float(len(took) < _WARM + _LEAST or time.perf_counter() < end)
            dist.broadcast(going, src=0)
    finally:
        dist.destroy_process_group()
    return (ranks - 1) * _GATHER_BYTES / statistics.median(took[_WARM:])
