"""What it takes to choose a mixture: one small model, many mixtures of the same length, and what the choice is held
against; nothing is trained here.

All runs are of one model and one length, so that only the mixture tells them apart. The natural mixture is trained
with several seeds: what those losses differ by is the noise below which two mixtures are as good. A run of the check
has a seed that no run of the law has seen, so that none of them is known beforehand.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from isoflop.count.parameters import parameters
from isoflop.errors import InfeasibleError, UsageError
from isoflop.laws import hyperparameters
from isoflop.laws.law import Array
from isoflop.laws.mixture import LEAST_RUNS
from isoflop.plan import ladder_rules, mixtures
from isoflop.plan.ladder_recipes import Ground
from isoflop.plan.mixture_design import designed, least_shares, rounded
from isoflop.specs.architecture import Decoder
from isoflop.specs.data import Data, Source
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import changed

TOKENS_PER_PARAM = 20.0
LEAST_TOKENS_PER_PARAM = 5.0  # below it a proxy has hardly begun to tell one text from another
LEAST_STEPS = 200
VALIDATION_TOKENS = 32_768  # of each domain
CHOSEN = "chosen"
SAME = 2e-4  # shares closer than this are one mixture
CHECKED = 5  # mixtures in the check: the choice and four rules

Kind: TypeAlias = Literal["proxy", "repeat", "check"]


class Trial(Struct, frozen=True, kw_only=True):
    """One run: a mixture and a seed.

    Attributes:
        mixture: what the mixture is called; repeats share it.
        shares: by domain, in the order of the plan.
    """

    kind: Kind
    mixture: str
    shares: tuple[float, ...]
    seed: int

    @property
    def name(self) -> str:
        """Of its run."""
        return f"{'check' if self.kind == 'check' else 'mix'}-{self.mixture}-s{self.seed}"


class MixturePlan(Struct, frozen=True, kw_only=True):
    """All that is trained but the choice itself.

    Attributes:
        sizes: training tokens of each domain.
        proxy: the recipe of every run, but for its mixture, seed, name and role.
        most: share of each domain that a few epochs of it allow, in a proxy and in the run the mixture is for.
        for_tokens: length of the run that the mixture is for.
        trials: the runs that the law is fitted to.
        seeds: of each mixture in the check.
    """

    sizes: dict[str, int]
    proxy: Recipe
    n_params: int
    least: tuple[float, ...]
    most: tuple[float, ...]
    epochs: float
    for_tokens: float
    trials: tuple[Trial, ...]
    seeds: tuple[int, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(self.sizes)

    @property
    def tokens(self) -> Array:
        """(D,) training tokens."""
        return np.array(list(self.sizes.values()), dtype=float)

    @property
    def natural(self) -> Array:
        """(D,) shares as sizes."""
        return mixtures.natural(self.tokens)

    @property
    def run_tokens(self) -> int:
        """Of one run."""
        return self.proxy.steps * self.proxy.batch_tokens

    @property
    def run_flop(self) -> float:
        """6 N D of one run."""
        return 6.0 * self.n_params * self.run_tokens

    @property
    def rules(self) -> list[mixtures.Rule]:
        """What the choice is held against."""
        return mixtures.rules(self.tokens, n_tokens=self.for_tokens)

    @property
    def compute_flop(self) -> float:
        """Of everything; less where two mixtures of the check are one."""
        return self.run_flop * (len(self.trials) + CHECKED * len(self.seeds))

    def checks(self, chosen: Array) -> dict[str, list[Trial]]:
        """The runs of the check by mixture, each with each seed; mixtures that come to the same share their runs.

        Args:
            chosen: (D,) shares.
        """
        found: dict[str, list[Trial]] = {}
        for name, exact in [(CHOSEN, chosen), *((rule.name, rule.shares) for rule in self.rules)]:
            shares = tuple(map(float, rounded(exact[None])[0]))
            same = [trials for trials in found.values() if np.allclose(trials[0].shares, shares, atol=SAME, rtol=0)]
            own = [Trial(kind="check", mixture=name, shares=shares, seed=seed) for seed in self.seeds]
            found[name] = [*same, own][0]
        return found

    def recipe(self, trial: Trial, folders: Mapping[str, str], ground: Ground) -> Recipe:
        """The recipe of a run.

        Args:
            folders: shards of each domain.
        """
        sources = tuple(
            Source(name=name, shards=folders[name], weight=share)
            for name, share in zip(self.sizes, trial.shares, strict=True)
        )
        return replace(
            self.proxy,
            name=trial.name,
            data=Data(sources=sources),
            seed=trial.seed,
            threads=ground.threads,
            role="held_out" if trial.kind == "check" else "fit",
        )


def laid(
    sizes: Mapping[str, int],
    *,
    vocabulary: int,
    budget_flop: float,
    runs: int,
    repeats: int | None = None,
    check_seeds: int = 1,
    for_tokens: float | None = None,
    epochs: float = mixtures.MOST_EPOCHS,
    seed: int = 0,
    settings: Sequence[str] = (),
) -> MixturePlan:
    """Lay out runs that together cost the budget, or less where model sizes do not allow more.

    Args:
        sizes: training tokens of each domain.
        runs: that the law is fitted to.
        repeats: how many of them are further seeds of the natural mixture; one in eight, three at most, where None.
        check_seeds: runs of each mixture in the check.
        for_tokens: length of the run that the mixture is for; that of a proxy where None.
        epochs: passes over a domain that are allowed.
        settings: changes of the proxies' recipe, "key=value" each.

    Raises:
        InfeasibleError: the budget is too small, said with the smallest; or the text is too little for `for_tokens`.
        UsageError: too few runs.
    """
    repeats = min(3, runs // LEAST_RUNS) if repeats is None else repeats
    if runs - repeats < LEAST_RUNS:
        raise UsageError(
            f"{runs} runs, {repeats} of them repeats: a law of mixtures needs {LEAST_RUNS} that differ. Raise --proxies"
        )
    if check_seeds < 1 or repeats < 0:
        raise UsageError(f"{check_seeds} seeds in the check and {repeats} repeats: at least 1 and 0")
    tokens = np.array(list(sizes.values()), dtype=float)
    natural = mixtures.natural(tokens)
    proxy = _of_budget(budget_flop, runs + CHECKED * check_seeds, vocabulary)
    proxy = changed(replace(proxy, validation_tokens=proxy.validation_tokens * len(sizes)), settings)
    n_tokens = proxy.steps * proxy.batch_tokens
    lengths = (float(n_tokens), float(n_tokens if for_tokens is None else for_tokens))
    most = np.min([mixtures.most_shares(tokens, n_tokens=length, epochs=epochs) for length in lengths], axis=0)
    trials = [
        Trial(kind="proxy", mixture="natural" if i == 0 else f"{i:02d}", shares=tuple(map(float, row)), seed=seed)
        for i, row in enumerate(designed(natural, runs=runs - repeats, most=most, seed=seed))
    ]
    trials += [replace(trials[0], kind="repeat", seed=seed + 1 + i) for i in range(repeats)]
    first_check = seed + repeats + 1
    return MixturePlan(
        sizes=dict(sizes),
        proxy=proxy,
        n_params=parameters(proxy.model).total,
        least=tuple(map(float, least_shares(natural, most))),
        most=tuple(map(float, most)),
        epochs=epochs,
        for_tokens=lengths[1],
        trials=tuple(trials),
        seeds=tuple(range(first_check, first_check + check_seeds)),
    )


def _of_budget(budget_flop: float, runs: int, vocabulary: int) -> Recipe:
    """The largest proxy at 20 tokens a parameter, fewer where the vocabulary makes even a small model large.

    Raises:
        InfeasibleError: so many runs of the smallest model, as short as they may be, cost more.
    """
    if not 0 < budget_flop < math.inf:
        raise UsageError(f"budget {budget_flop:g}: must be positive and finite")
    each = budget_flop / runs
    for model in _models(math.sqrt(each / 6 / TOKENS_PER_PARAM), vocabulary):
        n_params = parameters(model).total
        if (n_tokens := each / 6 / n_params) >= _least_tokens(model):
            return _proxy(model, n_tokens)
    least = 6.0 * parameters(model).total * _least_tokens(model) * runs
    raise InfeasibleError(
        f"a budget of {budget_flop:.3g} FLOP is too small for {runs} runs with a vocabulary of {vocabulary}: the "
        f"smallest is {_up(least):.3g} FLOP. Fewer runs cost less, and so does a smaller vocabulary"
    )


def _models(n_params: float, vocabulary: int) -> Iterator[Decoder]:
    """Of that size, and ever smaller ones down to the smallest."""
    while n_params > ladder_rules.LEAST_PARAMS:
        yield _model(n_params, vocabulary)
        n_params *= 0.8
    yield _model(ladder_rules.LEAST_PARAMS, vocabulary)


def _model(n_params: float, vocabulary: int) -> Decoder:
    return ladder_rules.model_of(n_params, vocabulary=vocabulary, context=ladder_rules.context(n_params))


def _least_tokens(model: Decoder) -> float:
    return max(LEAST_TOKENS_PER_PARAM * parameters(model).total, float(LEAST_STEPS * model.context))


def _proxy(model: Decoder, n_tokens: float) -> Recipe:
    """By the rules of ladders."""
    n_params = parameters(model).total
    batch = ladder_rules.batch_tokens(n_params, context=model.context, shortest_tokens=n_tokens, least_steps=500)
    steps = max(1, int(n_tokens // batch))
    beta2 = ladder_rules.beta2(sequences=batch // model.context, shortest_steps=steps)
    return Recipe(
        name="mix",
        model=model,
        n_tokens=steps * batch,
        batch_tokens=batch,
        optimizer=Optimizer(learning_rate=hyperparameters.learning_rate(n_params=n_params), beta2=beta2),
        validation_tokens=VALIDATION_TOKENS,
        evaluations=1,
    )


def _up(flop: float) -> float:
    """Rounded up to three digits, so that the budget named is enough."""
    step = 10.0 ** (math.floor(math.log10(flop)) - 2)
    return math.ceil(flop / step) * step
