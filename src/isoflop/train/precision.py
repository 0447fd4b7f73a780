"""In what a step's matrix products are computed, and how gradients survive it.

Weights, gradients and moments are fp32 throughout. bf16 has the range of fp32 and needs nothing else. fp16 has not:
losses are scaled up so that small gradients are not lost, and a step whose gradients overflow is taken again at half
the scale, on the same batch, so that no batch is passed over and every step is an update. fp8 quantizes the inputs of
the blocks' linear layers (torchao), the rest is bf16.

Source: Micikevicius et al. 2018 (arXiv:1710.03740), sec. 3; Micikevicius et al. 2022 (arXiv:2209.05433).
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from isoflop.errors import UsageError
from isoflop.specs.engine import Computed

_PRODUCTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
_FP8_CAPABILITY = (8, 9)
_FP8_MULTIPLE = 16  # rows and columns of a matrix that torch's scaled product takes
_SMALLEST_SCALE = 1.0


def products(precision: Computed, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to what the precision multiplies in, where that is not fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, _PRODUCTS[precision])


def check(precision: Computed, device: torch.device) -> None:
    """Whether the device computes in it.

    Raises:
        UsageError: it does not, or only on paper; says what to take instead.
    """
    if precision == "fp16" and device.type == "cpu":
        raise UsageError(
            'recipe: precision = "fp16" on a CPU, whose fp16 products reach 1 GFLOP/s where bf16 reaches 430 (measured '
            'on two cores); take "bf16" or "fp32"'
        )
    if precision != "fp8":
        return
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _FP8_CAPABILITY:
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
        raise UsageError(
            f'recipe: precision = "fp8" on {where}, which has no fp8 products; they need a GPU of compute capability '
            '8.9 or more (Ada, Hopper, Blackwell). Take "bf16"'
        )
    if find_spec("torchao") is None:
        raise UsageError('recipe: precision = "fp8" needs torchao: pip install "isoflop[lowbit]"')


def to_fp8(model: nn.Module, *, emulate: bool = False) -> int:
    """Let the linear layers inside blocks multiply in fp8, in place; how many there are.

    Names and shapes of weights stay. Head and embedding, routers, and matrices whose sides are no multiple of 16 stay
    as they are, and so do products that are not a module's own (experts; the MLP under selective recomputation).

    Args:
        emulate: round as fp8 does but multiply in fp32, which any device can.

    Raises:
        UsageError: there is none.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    chosen = 0

    def fits(module: nn.Module, name: str) -> bool:
        nonlocal chosen
        sides = isinstance(module, nn.Linear) and not (
            module.in_features % _FP8_MULTIPLE or module.out_features % _FP8_MULTIPLE
        )
        taken = sides and "blocks." in name and not name.endswith("router")
        chosen += taken
        return taken

    convert_to_float8_training(model, module_filter_fn=fits, config=Float8LinearConfig(emulate=emulate))
    if not chosen:
        raise UsageError('recipe: precision = "fp8", but no matrix of the model has both sides a multiple of 16')
    return chosen


class Scaler:
    """Torch's GradScaler for a step that is repeated and never skipped.

    Attributes:
        overflows: steps taken again because their gradients overflowed, over the whole run.
    """

    def __init__(self, device: torch.device, weights: Iterable[nn.Parameter]) -> None:
        self.overflows = 0
        self._scaler = torch.amp.GradScaler(device.type)
        # GradScaler finds gradients through an optimizer; several may move the weights, so it gets one that does not.
        self._holder = torch.optim.SGD(weights, lr=0.0)
        self._device = device

    @property
    def scale(self) -> float:
        """What losses are multiplied by."""
        return float(self._scaler.get_scale())

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss whose gradients are large enough for fp16."""
        out: Tensor = self._scaler.scale(loss)
        return out

    def unscale(self) -> None:
        """Make the accumulated gradients those of the loss itself, and look whether one is not finite."""
        self._scaler.unscale_(self._holder)

    def overflowed(self, *, finite: bool) -> bool:
        """Change the scale by what `unscale` saw; whether the step is worth taking again.

        Half the scale after an overflow, down to 1: what overflows there does so for another reason.

        Args:
            finite: whether the gradients were.
        """
        before = self.scale
        self._scaler.update()
        self.overflows += not finite
        return not finite and before > _SMALLEST_SCALE

    def tensors(self) -> dict[str, Tensor]:
        """What a resume needs."""
        state = self._scaler.state_dict()
        return {
            "scale": torch.tensor(state["scale"], dtype=torch.float64),
            "steps": torch.tensor(state["_growth_tracker"]),
            "overflows": torch.tensor(self.overflows),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave."""
        state = self._scaler.state_dict()
        state |= {"scale": tensors["scale"].item(), "_growth_tracker": int(tensors["steps"].item())}
        self._scaler.load_state_dict(state)
        self.overflows = int(tensors["overflows"].item())
