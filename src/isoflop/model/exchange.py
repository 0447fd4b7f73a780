"""Our weights in Hugging Face's layout, and back again, to the bit.

What differs is where rows stand, never what they hold: matrices that we keep as one are parts there, experts that we
stack have a name each, and rotary channels that we turn as neighbours (2i, 2i + 1) stand half a head apart there,
(i, i + S/2), which permutes the rows of q and k and the gains of their norms. Which is which `names` says.

Multipliers of a parametrisation other than the standard one are no weights: no layout of these has them.

Shapes: S head size.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from isoflop.errors import InputError
from isoflop.model.build import build
from isoflop.model.names import Part, parts
from isoflop.specs import architecture as specs

_TIED_WEIGHTS = (
    "lm_head.weight", "lm_head.decoder.weight", "cls.predictions.decoder.weight", "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
)  # fmt: skip
_TIED_BIASES = ("lm_head.decoder.bias", "cls.predictions.decoder.bias")
_UNUSED_PREFIXES = ("cls.seq_relationship.", "bert.pooler.", "roberta.pooler.")
# The last stands in the first T5's files, whose class has no such weight.
_UNUSED_SUFFIXES = (".position_ids", ".inv_freq", ".EncDecAttention.relative_attention_bias.weight")


def to_hugging_face(spec: specs.Model, state: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """Our state under the names of `model_type`, one of `names.model_types(spec)`.

    Raises:
        UsageError: the model has no such layout.
        InputError: a weight is missing, none of this model's or of another shape.
    """
    known = parts(spec, model_type)
    _check(state, _empty(spec), whose="the model's")
    found: dict[str, Tensor] = {}
    for part in known:
        weight = state[part.ours].flatten(0, 1) if part.stacked else state[part.ours]
        if part.spare:
            weight = torch.cat((weight.new_zeros(part.spare, *weight.shape[1:]), weight))
        pieces = weight.split_with_sizes(part.rows or [len(weight) // len(part.theirs)] * len(part.theirs))
        for at, (name, piece) in enumerate(zip(part.theirs, pieces, strict=True)):
            found[name] = (_to_halves(piece, spec.head_size) if at < part.turned else piece).clone()
    if (types := _token_types(spec, model_type)) is not None:
        found[types] = state["embedding.weight"].new_zeros(1, spec.width)
    return found


def from_hugging_face(spec: specs.Model, state: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """The state of our model from that of `model_type`; tied weights said twice and heads of other tasks are left out.

    Raises:
        UsageError: the model has no such layout.
        InputError: a weight is missing, none of this model's or of another shape; a head is not tied, or token types
            have a table, and the architecture says otherwise.
    """
    known = parts(spec, model_type)
    kept = _kept(spec, state, known, model_type)
    found = {}
    for part in known:
        pieces = [kept[name] for name in part.theirs]
        pieces[: part.turned] = [_to_pairs(piece, spec.head_size) for piece in pieces[: part.turned]]
        weight = torch.cat(pieces)[part.spare :]
        found[part.ours] = weight.reshape(part.stacked, -1, *weight.shape[1:]) if part.stacked else weight
    return found


def _to_halves(rows: Tensor, head_size: int) -> Tensor:
    """Within each head, the first channels of all pairs, then the second ones."""
    return rows.reshape(-1, head_size // 2, 2, *rows.shape[1:]).transpose(1, 2).flatten(0, 2)


def _to_pairs(rows: Tensor, head_size: int) -> Tensor:
    """The inverse."""
    return rows.reshape(-1, 2, head_size // 2, *rows.shape[1:]).transpose(1, 2).flatten(0, 2)


def _token_types(spec: specs.Model, model_type: str) -> str | None:
    """The table of token types, which is there even where ours has none."""
    if isinstance(spec, specs.Encoder) and not spec.segments:
        return f"{model_type}.embeddings.token_type_embeddings.weight"
    return None


def _kept(spec: specs.Model, state: Mapping[str, Tensor], known: list[Part], model_type: str) -> dict[str, Tensor]:
    """What our model has weights for, all of it; what it has none for must say nothing."""
    theirs = {part.ours: part.theirs[0] for part in known}
    expected, types = to_hugging_face(spec, _empty(spec), model_type), _token_types(spec, model_type)
    kept = {}
    for name, weight in state.items():
        if name in expected and name != types:
            kept[name] = weight
        elif name in _TIED_WEIGHTS + _TIED_BIASES:
            twin = theirs.get("embedding.weight" if name in _TIED_WEIGHTS else "head_bias", "")
            if twin in state and not torch.equal(weight, state[twin]):
                way_out = "encoders of ours tie them" if isinstance(spec, specs.Encoder) else "give it tied = false"
                raise InputError(f"{name} is not {twin}, which the architecture says it is; {way_out}")
        elif name == types:
            if weight.any():
                raise InputError(f"{name} is not all 0; give the architecture segments = {len(weight)}")
        elif not name.startswith(_UNUSED_PREFIXES) and not name.endswith(_UNUSED_SUFFIXES):
            kept[name] = weight
    if types is not None:
        del expected[types]
    _check(kept, expected, whose=f"this {model_type}'s")
    return kept


def _empty(spec: specs.Model) -> dict[str, Tensor]:
    """The model's state without memory."""
    return build(spec, seed=0, device="meta").state_dict()


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, whose: str) -> None:
    if missing := sorted(expected.keys() - state.keys()):
        raise InputError(f"{len(missing)} of {whose} weights are missing, the first of them {missing[0]}")
    if foreign := sorted(state.keys() - expected.keys()):
        raise InputError(f"{len(foreign)} weights are none of {whose}, the first of them {foreign[0]}")
    for name, weight in expected.items():
        if state[name].shape != weight.shape:
            raise InputError(
                f"{name}: its shape is {[*state[name].shape]}; the architecture asks for {[*weight.shape]}"
            )
