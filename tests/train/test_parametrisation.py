"""The transfer rules against their closed form, against the same model with every multiplier folded into its weights,
and against what they promise: activations that move alike at every width and depth.
"""

import math

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from isoflop.count.parameters import parameters
from isoflop.data.batch import Batch
from isoflop.laws import hyperparameters
from isoflop.model.build import build as build_standard
from isoflop.model.decoder import Block
from isoflop.model.decoder import Decoder as Model
from isoflop.model.parametrise import parametrise
from isoflop.specs.architecture import Decoder, Routing
from isoflop.specs.architecture import Model as Trained
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.parametrisation import Parametrisation, scales
from isoflop.specs.recipe import Recipe
from isoflop.train import optim
from isoflop.train.learner import Learner, reproducible
from isoflop.train.objectives.causal import causal
from isoflop.train.optim import Updater

MODEL = Decoder(layers=2, width=32, heads=2, kv_heads=1, head_size=16, hidden=64, vocabulary=64, context=16)
STANDARD = Parametrisation()
PLAIN = Optimizer(weight_decay=0.0)
NAMES = ("mup", "completep")


def _model(*, width: int = 32, layers: int = 2, tied: bool = True, head_size: int = 16) -> Decoder:
    heads = width // head_size
    return replace(
        MODEL, width=width, layers=layers, heads=heads, kv_heads=heads, head_size=head_size, hidden=2 * width, tied=tied
    )


def build(model: Trained, *, seed: int, parametrisation: Parametrisation = STANDARD) -> Model:
    assert isinstance(model, Decoder)
    built = build_standard(model, seed=seed)
    parametrise(built, scales(parametrisation, model))
    return built


def _recipe(model: Decoder, parametrisation: Parametrisation = STANDARD, optimizer: Optimizer = PLAIN) -> Recipe:
    return Recipe(
        name="nano",
        shards="",
        model=model,
        n_tokens=2048,
        batch_tokens=128,
        optimizer=optimizer,
        parametrisation=parametrisation,
        device="cpu",
    )


def _tokens() -> Tensor:
    """Eight sequences in which every token follows from the one before."""
    columns = [torch.randint(0, 64, (8,), generator=torch.Generator().manual_seed(0))]
    for _ in range(16):
        columns.append((columns[-1] * 5 + 3) % 64)
    return torch.stack(columns, dim=1)


TOKENS = _tokens()


def _learn(model: Model, updater: Updater, steps: int) -> None:
    for _ in range(steps):
        loss, _ = causal(model, TOKENS[:, :-1], TOKENS[:, 1:], 0.0)
        torch.autograd.backward(loss)
        updater.step(share=1.0)


# --- At the base sizes nothing differs.


@pytest.mark.parametrize("optimizer", [Optimizer(), Optimizer(name="muon")], ids=lambda each: each.name)
@pytest.mark.parametrize(
    "parametrisation",
    [
        Parametrisation(name="mup", base_width=32),
        Parametrisation(name="completep", base_width=32),
        Parametrisation(name="completep", base_width=32, base_layers=2, base_head_size=16),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_at_the_base_sizes_the_run_is_the_standard_one_to_the_bit(
    parametrisation: Parametrisation, optimizer: Optimizer, tied: bool
) -> None:
    found = []
    for each in (STANDARD, parametrisation):
        recipe = _recipe(_model(tied=tied), each, optimizer)
        with reproducible(recipe):
            learner = Learner(recipe, peak_learning_rate=0.01)
            batch = Batch(inputs_ST=TOKENS[:, :-1].numpy().copy(), targets_SU=TOKENS[:, 1:].numpy().copy())
            said = [learner.step(k, batch) for k in range(3)]
            found.append((said, learner.tensors()))
    (said, ours), (standard_said, standard) = found
    assert said == standard_said
    for file, tensors in standard.items():
        assert all(torch.equal(value, ours[file][key]) for key, value in tensors.items())


# --- Closed form: width 4 times, depth 8 times, head size twice the base's.


def _settings(recipe: Recipe) -> dict[str, tuple[float, float, float]]:
    """Rate, epsilon and decay by the name of the weight."""
    model = build(recipe.model, seed=0, parametrisation=recipe.parametrisation)
    names = {id(weight): name for name, weight in model.named_parameters()}
    return {
        names[id(weight)]: (group["peak"], group["eps"], group["weight_decay"])
        for group in optim.adamw(model, recipe, peak_learning_rate=1.0).param_groups
        for weight in group["params"]
    }


def test_rate_epsilon_and_decay_of_every_weight_are_those_of_the_tables() -> None:
    model = replace(
        _model(width=128, layers=16, tied=False), experts=Routing(count=4, active=2, shared=16, router_z_loss=0.0)
    )
    spec = Optimizer(epsilon=1.0, weight_decay=1.0, decay_on="all")
    mup = _settings(_recipe(model, Parametrisation(name="mup", base_width=32), spec))
    complete = _settings(_recipe(model, Parametrisation(name="completep", base_width=32, base_layers=2), spec))
    outside = {"embedding.weight", "head.weight", "norm.weight"}
    vectors = {"attention_norm.weight", "mlp_norm.weight", "attention.query_norm", "attention.key_norm"}
    matrices = {
        "attention.qkv.weight", "attention.out.weight", "mlp.router.weight", "mlp.gate_up", "mlp.down",
        "mlp.shared.gate_up.weight", "mlp.shared.down.weight",
    }  # fmt: skip
    inside = vectors | matrices
    assert set(mup) == outside | {f"blocks.{k}.{name}" for k in range(16) for name in inside}
    for name in outside:
        assert mup[name] == complete[name] == (1.0, 1 / 4, 1.0)
    for name in vectors:
        assert (mup[f"blocks.3.{name}"], complete[f"blocks.3.{name}"]) == ((1.0, 1 / 4, 1.0), (1.0, 1 / 32, 1.0))
    for name in matrices:
        assert mup[f"blocks.3.{name}"] == (1 / 4, 1 / 4, 1.0)
        assert complete[f"blocks.3.{name}"] == (1 / 4, 1 / 32, 4.0)  # so that rate times decay stays


@pytest.mark.parametrize("tied", [True, False])
def test_first_weights_have_the_base_s_embedding_and_head_and_go_as_the_root_of_fan_in_inside(tied: bool) -> None:
    """Hand-computed for m = 4, l = 8 over a base of width 32 and 2 layers."""
    model = replace(_model(width=128, layers=16, tied=tied), vocabulary=1024)
    experts = replace(model, experts=Routing(count=64, active=2))
    for name, writing in (("mup", (2 * 16) ** -0.5), ("completep", (2 * 2) ** -0.5)):
        ruled = Parametrisation(name=name, base_width=32, base_layers=2 if name == "completep" else None)  # type: ignore[arg-type]
        expected = {
            "embedding.weight": 32**-0.5,
            "blocks.7.attention.qkv.weight": 128**-0.5,
            "blocks.7.attention.out.weight": writing * 128**-0.5,
            "blocks.7.mlp.gate_up.weight": 128**-0.5,
            "blocks.7.mlp.down.weight": writing * 256**-0.5,
        } | ({} if tied else {"head.weight": 32**-0.5})
        weights = dict(build(model, seed=0, parametrisation=ruled).named_parameters())
        for weight, std in expected.items():
            assert weights[weight].std().item() == pytest.approx(std, rel=0.03)
        router = dict(build(experts, seed=0, parametrisation=ruled).named_parameters())["blocks.7.mlp.router.weight"]
        assert router.std().item() == pytest.approx(128**-0.5 / 2, rel=0.03)
        assert all((weight == 1).all() for weight in weights.values() if weight.ndim == 1)


def test_multipliers_of_the_forward_pass_are_those_of_the_tables() -> None:
    model = build(
        _model(width=128, layers=16, head_size=64),
        seed=0,
        parametrisation=Parametrisation(name="completep", base_width=32, base_layers=2, base_head_size=16),
    )
    block = model.blocks[5]
    assert isinstance(block, Block)
    assert (model.head_scale, block.branch_scale, block.attention.scale) == (1 / 4, 1 / 8, 4 / 64)


def test_muon_s_rate_falls_as_the_root_of_width_unless_its_updates_are_spectral() -> None:
    model = _model(width=128)
    for scale, rate in (("adamw-rms", 1 / 2), ("spectral", 1.0)):
        spec = Optimizer(name="muon", muon_scale=scale, muon_learning_rate=1.0, weight_decay=1.0)  # type: ignore[arg-type]
        for name, decay in (("mup", 1.0), ("completep", 1 / rate)):
            recipe = _recipe(model, Parametrisation(name=name, base_width=32), spec)  # type: ignore[arg-type]
            (group,) = optim.muon([nn.Parameter(torch.zeros(4, 4))], recipe, peak_learning_rate=9.0).param_groups
            assert (group["peak"], group["weight_decay"]) == (rate, decay)


def test_a_learning_rate_left_to_the_rule_is_that_of_the_base() -> None:
    base, large = _model(), _model(width=256, layers=16)
    ruled = Parametrisation(name="completep", base_width=32, base_layers=2)
    free = Optimizer()
    found = optim.learning_rate(_recipe(large, ruled, free), parameters(large))
    assert found == pytest.approx(hyperparameters.learning_rate(n_params=parameters(base).total), rel=0.01)
    mup = optim.learning_rate(_recipe(large, Parametrisation(name="mup", base_width=32), free), parameters(large))
    shallow = parameters(_model(layers=16)).total
    assert mup == pytest.approx(hyperparameters.learning_rate(n_params=shallow), rel=0.01)
    assert optim.learning_rate(_recipe(large, ruled, Optimizer(learning_rate=0.5)), parameters(large)) == 0.5


# --- The same model without multipliers: each folded into the weight before it, as Adam's invariance has it.


def _fold(model: Model, recipe: Recipe) -> tuple[Model, list[dict[str, object]]]:
    """A plain model that computes what `model` does, and AdamW's groups for it, written here from the papers.

    A weight W' = c W computes without its multiplier c what W does with it. Its gradient is that of W over c, so its
    epsilon is over c and its rate times c, and its decay over c, for the product of the two to stay.
    """
    spec, m = recipe.model, recipe.model.width / 32
    complete = recipe.parametrisation.name == "completep"
    depth = spec.layers / 2 if complete else 1.0
    plain = build(spec, seed=9).double()
    plain.load_state_dict(model.state_dict())
    groups: list[dict[str, object]] = []
    for name, weight in plain.named_parameters():
        inside, matrix = name.startswith("blocks."), weight.ndim > 1
        hidden = inside and matrix
        rate = 0.01 / m if hidden else 0.01
        decay = (0.3 * m if complete else 0.3) if hidden else 0.3 if name == "head.weight" else 0.0
        epsilon = 1e-3 / m / (depth if inside else 1)
        factor = 1.0
        if name.endswith(("out.weight", "down.weight")):
            factor = 1 / depth
        if name == ("norm.weight" if spec.tied else "head.weight"):
            factor = 1 / m
        if name.endswith("query_norm"):
            factor = math.sqrt(16 / spec.head_size)
        with torch.no_grad():
            weight.mul_(factor)
        groups.append(
            {"params": [weight], "lr": rate * factor, "eps": epsilon / factor, "weight_decay": decay / factor}
        )
    return plain, groups


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tied", [True, False])
def test_three_steps_are_those_of_a_plain_model_with_every_multiplier_folded_in(name: str, tied: bool) -> None:
    ruled = Parametrisation(
        name=name,  # type: ignore[arg-type]
        base_width=32,
        base_layers=2 if name == "completep" else None,
        base_head_size=16,
    )
    spec = Optimizer(weight_decay=0.3, epsilon=1e-3, beta2=0.95)
    recipe = _recipe(_model(width=96, layers=5, tied=tied, head_size=32), ruled, spec)
    model = build(recipe.model, seed=0, parametrisation=ruled).double()
    plain, groups = _fold(model, recipe)
    other = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    updater = Updater(model, recipe, peak_learning_rate=0.01)
    for _ in range(3):
        losses = []
        for each in (model, plain):
            loss, _ = causal(each, TOKENS[:, :-1], TOKENS[:, 1:], 0.0)
            torch.autograd.backward(loss)
            losses.append(loss.item())
        updater.step(share=1.0)
        other.step()
        other.zero_grad()
        assert losses[0] == pytest.approx(losses[1], rel=1e-7)  # rotary turns are taken in fp32
    folded = ("out.weight", "down.weight", "query_norm", "norm.weight" if tied else "head.weight")
    for key, weight in model.named_parameters():
        if not key.endswith(folded):
            torch.testing.assert_close(weight, plain.get_parameter(key), rtol=0, atol=1e-6)


# --- Coordinate check: how far activations move in a few steps.


def _moved(model: Decoder, parametrisation: Parametrisation, optimizer: Optimizer = PLAIN) -> dict[str, float]:
    """Root mean square of what five steps change in the last block's attention and MLP and in the stream after it."""
    recipe, seen = _recipe(model, parametrisation, optimizer), {}
    total = dict.fromkeys(("attention", "mlp", "stream"), 0.0)
    for seed in range(2):
        built = build(model, seed=seed, parametrisation=parametrisation)
        last = built.blocks[-1]
        assert isinstance(last, Block)
        for name, module in (("attention", last.attention), ("mlp", last.mlp), ("stream", last)):
            module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.detach()}))
        built(TOKENS[:, :-1])
        before = dict(seen)
        _learn(built, Updater(built, recipe, peak_learning_rate=0.01), steps=5)
        built(TOKENS[:, :-1])
        for name, value in seen.items():
            total[name] += (value - before[name]).square().mean().sqrt().item() / 2
    return total


def _slopes(sizes: list[int], found: list[dict[str, float]]) -> dict[str, float]:
    """Of the logarithm of each by that of the size."""
    return {name: float(np.polyfit(np.log(sizes), np.log([each[name] for each in found]), 1)[0]) for name in found[0]}


def test_across_widths_activations_move_alike_in_mup_and_more_and_more_in_the_standard() -> None:
    widths = [32, 64, 128, 256]
    standard = _slopes(widths, [_moved(_model(width=width), STANDARD) for width in widths])
    assert min(standard.values()) > 0.3
    for name in NAMES:
        ruled = Parametrisation(name=name, base_width=32)  # type: ignore[arg-type]
        slopes = _slopes(widths, [_moved(_model(width=width), ruled) for width in widths])
        assert max(abs(slope) for slope in slopes.values()) < 0.1


@pytest.mark.parametrize("scale", ["adamw-rms", "spectral"])
def test_across_widths_activations_moved_by_muon_move_alike(scale: str) -> None:
    spec = Optimizer(name="muon", muon_scale=scale, muon_learning_rate=0.02, weight_decay=0.0)  # type: ignore[arg-type]
    widths, ruled = [32, 64, 128, 256], Parametrisation(name="mup", base_width=32)
    slopes = _slopes(widths, [_moved(_model(width=width), ruled, spec) for width in widths])
    assert max(abs(slope) for slope in slopes.values()) < 0.15


def test_across_depths_branches_move_alike_in_completep_while_the_standard_s_stream_runs_away() -> None:
    layers = [2, 4, 8, 16]
    standard = _slopes(layers, [_moved(_model(layers=each), STANDARD) for each in layers])
    assert standard["mlp"] < -0.3
    assert standard["stream"] > 0.3
    ruled = Parametrisation(name="completep", base_layers=2)
    complete = _slopes(layers, [_moved(_model(layers=each), ruled) for each in layers])
    assert max(abs(complete["attention"]), abs(complete["mlp"])) < 0.15
    assert complete["stream"] < 0.0  # independent branches add up to less and less, aligned ones to the same


def test_logits_of_first_weights_vanish_with_width_and_stay_with_depth() -> None:
    """Yang et al. 2022, sec. 5: at the start the output goes as 1 / sqrt(width), whether tied or not."""
    for tied in (True, False):
        found = []
        for width in (32, 512):
            ruled = Parametrisation(name="mup", base_width=32)
            model = build(_model(width=width, tied=tied), seed=0, parametrisation=ruled)
            with torch.no_grad():
                found.append(model.logits(model(TOKENS[:, :-1])).std().item())
        assert found[1] / found[0] == pytest.approx(1 / 4, rel=0.25)


def test_scales_of_the_standard_change_nothing() -> None:
    ruled = scales(STANDARD, _model(width=256))
    assert (ruled.branch, ruled.logits, ruled.attention) == (1.0, 1.0, None)
