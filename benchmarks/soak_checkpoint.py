"""Attack a training run at random moments, many times, and hold its end against an undisturbed one, bit for bit.

    python benchmarks/soak_checkpoint.py [--kills 100] [--signals 20] [--full-disks 10] [--seed 0]

Kills are `kill -9`; signals are SIGTERM and SIGUSR1, after which the process must end with 75 and its newest checkpoint
be of the step it says it has reached; a full disk is a limit on the size of files, set at a random step, after which it
must end with 6. The run saves after every step, so most attacks fall into the writing of a checkpoint. A step is
acknowledged once the run has said that it is saved. Prints the acknowledged steps that the next start did not find
(must be 0), the damaged checkpoints that it met (0: no attack leaves a half behind a name), the wrong exit codes (0)
and whether the ends are equal.
"""

import argparse
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import torch

from isoflop import files
from isoflop.data.read import Document
from isoflop.data.tokenization import tokenize
from isoflop.errors import IsoflopError
from isoflop.specs.architecture import Decoder
from isoflop.specs.recipe import Recipe
from isoflop.specs.saving import Saving
from isoflop.train import checkpoint, record, store
from isoflop.train.events import Event
from isoflop.train.interrupt import listening
from isoflop.train.loop import train

Attack: TypeAlias = Literal["kill", "signal", "full disk"]
CONTEXT, SEQUENCES, VOCABULARY = 16, 4, 300
MOST_EVENTS = 60  # of saving that are waited for before an attack
CODES: dict[Attack, int] = {"kill": -signal.SIGKILL, "signal": 75, "full disk": 6}


class Tally:
    """What has come of the attacks."""

    def __init__(self) -> None:
        self.done: dict[Attack, int] = {"kill": 0, "signal": 0, "full disk": 0}
        self.lost = self.damaged = self.wrong = self.acknowledged = 0

    def bad(self) -> int:
        """Things that must not be."""
        return self.lost + self.damaged + self.wrong


def main() -> int:
    """Run as a program; with `--go-on` as one attempt of the run under attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--signals", type=int, default=20)
    parser.add_argument("--full-disks", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--go-on", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--full-after", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.go_on:
        return _go_on(arguments.go_on, full_after=arguments.full_after)
    counts: dict[Attack, int] = {
        "kill": arguments.kills,
        "signal": arguments.signals,
        "full disk": arguments.full_disks,
    }
    attacks = [attack for attack, count in counts.items() for _ in range(count)]
    dice = random.Random(arguments.seed)
    dice.shuffle(attacks)
    with tempfile.TemporaryDirectory() as place:
        return _soak(Path(place), attacks, dice)


def _soak(place: Path, attacks: list[Attack], dice: random.Random) -> int:
    recipe = _recipe(place / "shards", steps=(MOST_EVENTS + 10) * len(attacks))
    files.write_json(place / "recipe.json", recipe)
    usual = msgspec.structs.replace(recipe, checkpoint=Saving())
    whole, tally = train(usual, folder=place / "whole"), Tally()
    for number, attack in enumerate(attacks, 1):
        _attempt(place, attack, dice, tally)
        if number % 10 == 0:
            print(f"{number} of {len(attacks)} attacks, {tally.bad()} bad", file=sys.stderr, flush=True)
    again = train(usual, folder=place / "attacked")
    equal = whole.loss_nats == again.loss_nats and _same(_last(place / "whole"), _last(place / "attacked"))
    said = ", ".join(f"{count} {attack}s" for attack, count in tally.done.items())
    print(f"{said}; {tally.acknowledged} steps acknowledged")
    print(
        f"acknowledged steps lost: {tally.lost}; damaged checkpoints met: {tally.damaged}; exits: {tally.wrong} wrong"
    )
    print(f"the ends are {'equal to the bit' if equal else 'DIFFERENT'}")
    return 0 if equal and not tally.bad() else 1


def _attempt(place: Path, attack: Attack, dice: random.Random, tally: Tally) -> None:
    """Start, wait for some steps to be saved, attack."""
    command = [sys.executable, __file__, "--go-on", str(place)]
    wait_for = dice.randint(0, MOST_EVENTS)
    if attack == "full disk":
        command += ["--full-after", str(wait_for)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        heard: list[str] = []
        while attack == "full disk" or len(heard) <= wait_for:
            if not (line := process.stdout.readline()):
                break
            heard.append(line)
        if attack != "full disk":
            time.sleep(dice.uniform(0.0, 0.02))
            process.send_signal(signal.SIGKILL if attack == "kill" else dice.choice([signal.SIGTERM, signal.SIGUSR1]))
            heard += process.stdout.readlines()
    heard = [line for line in heard if line.endswith("\n")]  # a kill tears the last
    begun = [int(line.split()[1]) for line in heard if line.startswith("started")]
    tally.lost += max(0, tally.acknowledged - begun[0]) if begun else 0
    tally.damaged += sum("skipped" in line for line in heard)
    saved = [int(line.split()[1]) for line in heard if line.startswith("saved")]
    tally.acknowledged = max(saved, default=tally.acknowledged)
    tally.done[attack] += 1
    reached = [int(line.split()[1]) for line in heard if line.startswith("ended")]
    newest = checkpoint.listing(place / "attacked")[-1].step
    if process.returncode != CODES[attack] or (attack == "signal" and reached != [newest]):
        tally.wrong += 1
        print(f"{attack}: ended with {process.returncode} at {reached}, newest checkpoint {newest}", *heard[-3:])


def _go_on(place: Path, *, full_after: int | None) -> int:
    """One attempt: train on from wherever the folder stands."""
    recipe = msgspec.json.decode((place / "recipe.json").read_bytes(), type=Recipe)
    seen = 0

    def tell(event: Event) -> None:
        nonlocal seen
        seen += event.kind == "saved"
        if event.kind in {"started", "saved"} or event.text:
            print(event.kind, event.step, event.text, flush=True)
        if full_after is not None and seen >= full_after:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 + seen * 997 % 20_000, hard))

    with listening():
        try:
            train(recipe, folder=place / "attacked", on_event=tell)
        except IsoflopError as error:
            run = store.read(place / "attacked")
            print("ended", int(run.n_tokens // recipe.batch_tokens) if run else None, flush=True)
            return error.exit_code
    return 0


def _recipe(shards: Path, *, steps: int) -> Recipe:
    words = ["law", "run", "token", "shard", "ladder", "fit", "plan", "loss", "model", "data", "step", "rate", "heat"]
    texts = [" ".join(words[i * j % len(words)] for j in range(1, 200)) for i in range(1, 60)]
    documents = [Document(f"{i}.txt", text) for i, text in enumerate(texts)]
    tokenize(lambda: documents, folder=shards, vocabulary=270, validation_fraction=0.3, source="words in a circle")
    model = Decoder(
        layers=1, width=16, heads=2, kv_heads=1, head_size=8, hidden=32, vocabulary=VOCABULARY, context=CONTEXT
    )
    batch = SEQUENCES * CONTEXT
    return Recipe(
        name="soak", shards=str(shards), model=model, n_tokens=steps * batch, batch_tokens=batch, device="cpu",
        validation_tokens=512, evaluations=4, checkpoint=Saving(every_steps=1),
    )  # fmt: skip


def _last(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return checkpoint.load(max((folder / record.CHECKPOINTS).glob("step-*"))).tensors


def _same(a: dict[str, dict[str, torch.Tensor]], b: dict[str, dict[str, torch.Tensor]]) -> bool:
    return all(a[group].keys() == b[group].keys() for group in a) and all(
        torch.equal(a[group][name], b[group][name]) for group in a for name in a[group]
    )


if __name__ == "__main__":
    sys.exit(main())
