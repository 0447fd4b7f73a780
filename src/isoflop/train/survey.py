"""Measure this machine by worker processes: the rates that MFU divides by, without torch in the caller."""

from statistics import fmean

from isoflop.train.cores import cores
from isoflop.train.crew import Crew
from isoflop.train.meter import Machine, Precision, Rate
from isoflop.train.protocol import Copy, Matmul


def measure_machine(
    *, precisions: tuple[Precision, ...] = ("fp32", "bf16"), processes: int | None = None, seconds: float = 0.4
) -> Machine:
    """Matmul rates of one process with all threads and of one-thread processes all at once, and copy bandwidth.

    On a GPU: of one process, there.

    Args:
        processes: how many of the one-thread processes; one per usable core if None. Each holds 0.3 GB for torch.
        seconds: for each rate; the whole takes about 2 s more, for torch to start.

    Raises:
        IsoflopError: torch is missing or does not start; the message holds its last words.
    """
    usable = cores().usable
    alone, many = 1, processes or usable
    with Crew.of_processes(many, threads=1) as crew:
        first = crew.all_ready()[0]
        configurations = [(alone, usable)] if first.device == "cuda" or usable == 1 else [(alone, usable), (many, 1)]
        rates = [
            Rate(
                precision=precision,
                processes=processes,
                threads=threads,
                flop_per_s=fmean(
                    crew.ask(
                        Matmul(threads=threads, precision=precision, seconds=seconds, device=first.device), of=processes
                    )
                ),
            )
            for precision in precisions
            for processes, threads in configurations
        ]
        copy = crew.ask(Copy(threads=usable, seconds=seconds / 2, device=first.device), of=alone)[0]
    return Machine(
        torch=first.torch,
        cuda=first.cuda,
        accelerators=first.accelerators,
        cores=usable,
        rates=rates,
        copy_bytes_per_s=copy,
        how="matmul: median call of the best square size, in every process of a configuration at once; "
        "copy: 128 MiB, bytes read plus written",
    )
