"""The environment a training process must be born with; nothing here imports torch.

glibc returns every large tensor to the kernel when it is freed and takes a page fault for each page of the next one.
The three settings make it keep them: 1.13 to 1.46 times the tokens per second of models whose logits are materialised;
1.02 to 1.06 here, where the head works in cache-sized chunks. They are read when a process starts, so they
belong into a worker's environment, or a program must begin anew with them. On a GPU, segments that grow keep torch's
allocator from being full of holes when parts of a batch, and with them all shapes, change size.
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}
_GPU_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # the second is the first's older name
_BORN = "ISOFLOP_TRAINING_ENVIRONMENT"


def worker_environment(threads: int, *, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables for a process that trains with so many threads, to be added to its parent's `environment`."""
    count = str(threads)
    told = any(environment.get(name) for name in _GPU_ALLOCATOR)
    return {
        **_ALLOCATOR,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        # Threads that wait by spinning take the core from whom they wait for once anything else runs: 1.6 times slower
        # with four busy processes on two cores.
        **({"OMP_WAIT_POLICY": "PASSIVE"} if threads > 1 else {}),
        # Without it cuBLAS may choose other kernels from run to run, and a resume would not be exact.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        **({} if told else {_GPU_ALLOCATOR[0]: "expandable_segments:True"}),
        _BORN: "1",
    }


def begin_anew(threads: int, *, environment: Mapping[str, str] = os.environ) -> None:
    """Replace this process, if it is the `isoflop` program, by itself in the training environment; once.

    What the user has set stays as it is. Another program that calls isoflop is never replaced.
    """
    program = Path(sys.argv[0])
    ours = program.stem == "isoflop" or (program.name == "__main__.py" and program.parent.name == "isoflop")
    if environment.get(_BORN) or not ours:
        return
    ours_first = worker_environment(threads, environment=environment)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**ours_first, **environment})


def missing(*, environment: Mapping[str, str] = os.environ) -> str:
    """What a run in this process goes without, in a sentence; "" where there is nothing to say.

    A program that calls the trainer as a library was not born in the training environment, and cannot take it on late.
    """
    if platform.libc_ver()[0] != "glibc" or all(environment.get(name) for name in _ALLOCATOR):
        return ""
    settings = " ".join(f"{name}={value}" for name, value in _ALLOCATOR.items())
    return (
        "this process gives the memory of large tensors back to the system, which costs 2 to 6 % of the speed, and up "
        f'to a third with loss_head = "eager"; start it with {settings}, or train by `isoflop train`'
    )
