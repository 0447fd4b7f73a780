"""The loop of `isoflop data mix`: domains, proxies, law, choice, forecast, check, page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct

from isoflop import units
from isoflop.data import domain_shards
from isoflop.data.domain_shards import DomainFolder
from isoflop.data.shards import HEADER, Shards
from isoflop.data.tokenizer import Tokenizer
from isoflop.errors import UsageError
from isoflop.laws.mixture_advice import advise, target_weights
from isoflop.loop import VALIDATION_FRACTION, Clock, Listener
from isoflop.plan import ladder_rules
from isoflop.plan.ladder_recipes import Ground
from isoflop.plan.mixture_plan import CHECKED, TOKENS_PER_PARAM, MixturePlan, laid
from isoflop.train import ladder as climbing
from isoflop.train import mix as mixing
from isoflop.train.ladder_trunks import Where
from isoflop.train.mix import Mix
from isoflop.train.team import alone

MIX, SHARDS = "mix", "shards"
BYTES_PER_TOKEN = 2.9  # of code in a vocabulary of 1,024: for costs before the text is in tokens


class Asked(Struct, frozen=True, kw_only=True):
    """What is wanted.

    Attributes:
        target: as `laws.mixture_advice.target_weights` reads it.
        for_tokens: length of the run that the mixture is for; None takes that of a proxy.
        vocabulary: of a tokenizer that is learned from text; None by the rule of ladders.
    """

    target: tuple[str, ...] = ()
    budget_flop: float = 1e13
    proxies: int = 32
    check_seeds: int = 1
    for_tokens: float | None = None
    epochs: float = 4.0
    vocabulary: int | None = None
    tokenizer: Path | None = None
    seed: int = 0
    settings: tuple[str, ...] = ()

    def plan(self, sizes: Mapping[str, int], *, vocabulary: int) -> MixturePlan:
        """The runs for domains of so many tokens.

        Raises:
            InfeasibleError, UsageError: as `plan.mixture_plan.laid`.
        """
        return laid(
            sizes,
            vocabulary=vocabulary,
            budget_flop=self.budget_flop,
            runs=self.proxies,
            check_seeds=self.check_seeds,
            for_tokens=self.for_tokens,
            epochs=self.epochs,
            seed=self.seed,
            settings=self.settings,
        )

    @property
    def usual_vocabulary(self) -> int:
        """What is learned from text: as asked for, or by the size that the budget pays."""
        if self.vocabulary is not None:
            return self.vocabulary
        each = self.budget_flop / (self.proxies + CHECKED * self.check_seeds)
        return ladder_rules.vocabulary(max(max(each, 0.0) / 6 / TOKENS_PER_PARAM, _LEAST_FOR_BYTES**2) ** 0.5)


_LEAST_FOR_BYTES = 2e4  # parameters below which even the bytes weigh too much; the plan then says what is too small


class Layout(Struct, frozen=True, kw_only=True):
    """A plan, and whether its sizes were counted in tokens or estimated from bytes of text."""

    plan: MixturePlan
    target: dict[str, float]
    estimated: bool


def looked_at(asked: Asked, paths: Sequence[Path], folder: Path) -> Layout:
    """What would be trained, writing nothing.

    Raises:
        InputError: fewer than two domains, or no text in one.
    """
    found = domain_shards.find(paths)
    there = [DomainFolder(name=each.name, path=folder / SHARDS / each.name) for each in found]
    known = found if found[0].in_tokens else there if all(each.in_tokens for each in there) else None
    if known:
        shards = domain_shards.open_all(known, context=1)
        sizes, vocabulary = _sizes(shards), next(iter(shards.values())).header.vocabulary
    else:
        sizes = {each.name: max(1, round(_bytes(each) / BYTES_PER_TOKEN)) for each in found}
        vocabulary = asked.usual_vocabulary
    plan = asked.plan(sizes, vocabulary=vocabulary)
    return Layout(plan=plan, target=_target(asked, plan), estimated=known is None)


def _bytes(domain: DomainFolder) -> int:
    from isoflop.data.read import Text

    return sum(len(document.text.encode()) for document in Text(domain.path).documents())


def _sizes(shards: Mapping[str, Shards]) -> dict[str, int]:
    return {name: each.header.splits["train"].n_tokens for name, each in shards.items()}


def _target(asked: Asked, plan: MixturePlan) -> dict[str, float]:
    natural = dict(zip(plan.domains, map(float, plan.natural), strict=True))
    return target_weights(asked.target, plan.domains, natural=natural)


def tokens(asked: Asked, paths: Sequence[Path], folder: Path, *, clock: Clock, listener: Listener) -> dict[str, Shards]:
    """Shards of every domain, written from text where they are not there.

    Raises:
        InputError: fewer than two domains, different tokenizers, or too little text.
        UsageError: a tokenizer for what is in tokens already, or several processes were started.
    """
    alone("a mixture")
    found = domain_shards.find(paths)
    if not found[0].in_tokens:
        taken = None
        if asked.tokenizer is not None:
            taken = Tokenizer.load(asked.tokenizer / "tokenizer.json" if asked.tokenizer.is_dir() else asked.tokenizer)
        with clock.stage("text to tokens"):
            found = domain_shards.write_all(
                found,
                folder=folder / SHARDS,
                vocabulary=taken.vocabulary if taken else asked.usual_vocabulary,
                validation_fraction=VALIDATION_FRACTION,
                tokenizer=taken,
                on_domain=lambda name: listener.say(f"text to tokens: {name}"),
            )
    elif asked.tokenizer is not None or asked.vocabulary is not None:
        raise UsageError(
            f"{found[0].path / HEADER}: is in tokens already; leave --tokenizer and --vocabulary out, or give text"
        )
    return domain_shards.open_all(found, context=1)


def choose(
    asked: Asked, shards: Mapping[str, Shards], folder: Path, *, clock: Clock, listener: Listener, where: Where
) -> Mix:
    """Proxies, law, choice, forecast, and only then the check.

    Raises:
        FitError: too few proxies finished.
        InfeasibleError, UsageError: as `plan.mixture_plan.laid`.
        InputError: a domain is shorter than a window.
    """
    first = next(iter(shards.values()))
    plan = asked.plan(_sizes(shards), vocabulary=first.header.vocabulary)
    domain_shards.open_all(
        [DomainFolder(name=name, path=each.folder) for name, each in shards.items()], context=plan.proxy.model.context
    )
    target, place = _target(asked, plan), folder / MIX
    folders = {name: str(each.folder) for name, each in shards.items()}
    with clock.stage("machine measured"):
        made = climbing.setup(place, plan.recipe(plan.trials[0], folders, Ground("", 1, 1)))
    listener.say(f"cores: {made.choice.reason}")
    ground = Ground("", made.choice.threads, made.choice.threads)
    with clock.stage("proxies", f"{len(plan.trials)} runs"), listener.progress("proxies") as on_event:
        runs = mixing.train_proxies(plan, folders, ground, folder=place, made=made, where=where, on_event=on_event)
    with clock.stage("law"):
        table = mixing.table_of(plan, runs, folder=place)
        law, advice = advise(table, target, most=np.array(plan.most), seed=42)
        said = mixing.forecast(plan, table, law, advice, folder=place)
        mixing.write_mixture(plan, advice.shares, folders, folder=place)
    loss = said.checks[0].loss_nats
    listener.say(
        f"forecast of the chosen mixture: {loss.value:.4f} nats, 90 % interval {loss.lo:.4f} to {loss.hi:.4f} (written "
        f"{said.written}, {'before' if said.blind else 'after'} the first run of the check)"
    )
    with clock.stage("check"), listener.progress("check") as on_event:
        proved, said = mixing.prove(
            plan, said, target, folders, ground, folder=place, made=made, where=where, on_event=on_event
        )
    return Mix(plan=plan, runs=[*runs, *proved], table=table, law=law, advice=advice, forecast=said)


def facts(shards: Mapping[str, Shards]) -> str:
    """The domains in one line."""
    sizes = ", ".join(f"{name} {units.show(size, 'tokens')}" for name, size in _sizes(shards).items())
    return f"domains: {sizes}; vocabulary {next(iter(shards.values())).header.vocabulary}"
