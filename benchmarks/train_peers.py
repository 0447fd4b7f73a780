"""One peer of `benchmarks/train.py`, in a process and an environment of its own: PEER SIZE PRECISION BATCHES.

BATCHES is a .npy of token ids (steps, S sequences, T + 1), gone through again and again. The nanoGPT shape is written
here from its description (GPT-2's block as Radford et al. 2019 have it, learned positions, LayerNorm and exact GELU
without biases, tied head, whole logits); litgpt and transformers are their own code.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, layer_norm, scaled_dot_product_attention
from train_gate import Gate
from train_sizes import (
    BETA1,
    BETA2,
    CLIP_NORM,
    EPSILON,
    LEARNING_RATE,
    NORM_EPSILON,
    ROPE_THETA,
    SIZES,
    WEIGHT_DECAY,
    Size,
)

Loss = Callable[[Tensor, Tensor], Tensor]


class Norm(nn.Module):
    """LayerNorm with a gain and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return layer_norm(x, self.gain.shape, self.gain, None, 1e-5)


class GPTBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), the MLP four widths wide."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.norms = nn.ModuleList((Norm(size.width), Norm(size.width)))
        self.qkv = nn.Linear(size.width, 3 * size.width, bias=False)
        self.out = nn.Linear(size.width, size.width, bias=False)
        self.up = nn.Linear(size.width, 4 * size.width, bias=False)
        self.down = nn.Linear(4 * size.width, size.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        parts = self.qkv(self.norms[0](x_BTD)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed_BHTS = scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(mixed_BHTS.transpose(1, 2).flatten(2))
        out: Tensor = x_BTD + self.down(gelu(self.up(self.norms[1](x_BTD))))
        return out


class GPT(nn.Module):
    """Tokens and learned positions, blocks, a norm, the tied head."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        self.positions = nn.Embedding(size.context, size.width)
        self.blocks = nn.ModuleList(GPTBlock(size) for _ in range(size.layers))
        self.norm = Norm(size.width)
        self.head = nn.Linear(size.width, size.vocabulary, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:  # of the paper, the last matrix of each branch by the depth of the residual stream
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 * (2 * size.layers) ** (-0.5 if residual else 0.0))
        self.head.weight = self.tokens.weight

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) to logits (B, T, V)."""
        x_BTD = self.tokens(tokens_BT) + self.positions(torch.arange(tokens_BT.shape[1]))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits: Tensor = self.head(self.norm(x_BTD))
        return logits


def litgpt(size: Size) -> nn.Module:
    """Litgpt's model in a Llama's shape."""
    import litgpt as theirs

    config = theirs.Config(
        block_size=size.context, n_layer=size.layers, n_embd=size.width, n_head=size.heads,
        n_query_groups=size.kv_heads, vocab_size=size.vocabulary, padded_vocab_size=size.vocabulary,
        rotary_percentage=1.0, rope_base=int(ROPE_THETA), parallel_residual=False, bias=False,
        norm_class_name="RMSNorm", norm_eps=NORM_EPSILON, mlp_class_name="LLaMAMLP", intermediate_size=size.hidden,
    )  # fmt: skip
    model: nn.Module = theirs.GPT(config)
    model.lm_head.weight = model.transformer.wte.weight  # type: ignore[union-attr]
    return model


def llama(size: Size) -> Any:
    """Transformers' Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary, hidden_size=size.width, intermediate_size=size.hidden,
            num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.kv_heads,
            max_position_embeddings=size.context, rms_norm_eps=NORM_EPSILON, tie_word_embeddings=True, use_cache=False,
        )
    )  # fmt: skip


def contender(peer: str, size: Size) -> tuple[nn.Module, Loss]:
    """The model, and its loss of inputs and targets: whole logits, torch's cross-entropy, as each has it."""
    model = {"nanogpt": GPT, "litgpt": litgpt, "transformers": llama}[peer](size)
    logits = (lambda x: model(input_ids=x).logits) if peer == "transformers" else model
    return model, lambda x, y: cross_entropy(logits(x).flatten(0, 1).float(), y.flatten())


def optimizer(model: nn.Module) -> torch.optim.AdamW:
    """Fused AdamW; matrices decay, norms do not."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True)


def precision(name: str) -> AbstractContextManager[object]:
    """Autocast to bf16, or nothing."""
    return torch.autocast("cpu", torch.bfloat16) if name == "bf16" else nullcontext()


def steps(peer: str, size: Size, name: str, batches: Iterator[Tensor], *, compiled: bool) -> None:
    """A plain loop: forward, backward, clip, step."""
    model, loss_of = contender(peer, size)
    if compiled:
        model.compile()
    updater = optimizer(model)
    gate = Gate(n_params=sum(weight.numel() for weight in model.parameters()))
    while gate():
        rows = next(batches)
        with precision(name):
            loss = loss_of(rows[:, :-1], rows[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        updater.step()
        updater.zero_grad(set_to_none=True)


def trainer(size: Size, name: str, batches: np.ndarray[Any, Any], folder: str, *, compiled: bool) -> None:
    """Hugging Face's Trainer on its Llama, with its own loader, collator and schedule."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model = llama(size)
    gate = Gate(n_params=model.num_parameters())

    class Rounds(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = not gate()

    rows = torch.from_numpy(batches).flatten(0, 1)[:, :-1]
    Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=folder, per_device_train_batch_size=size.sequences, max_steps=10**6, save_strategy="no",
            report_to="none", disable_tqdm=True, use_cpu=True, bf16=name == "bf16", learning_rate=LEARNING_RATE,
            adam_beta1=BETA1, adam_beta2=BETA2, adam_epsilon=EPSILON, weight_decay=WEIGHT_DECAY,
            max_grad_norm=CLIP_NORM, optim="adamw_torch_fused", torch_compile=compiled,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=[Rounds()],
    ).train()  # fmt: skip


def main() -> None:
    """Train until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["nanogpt", "litgpt", "transformers", "trainer"])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("precision", choices=["fp32", "bf16"])
    parser.add_argument("batches")
    parser.add_argument("folder")
    parser.add_argument("--compile", action="store_true")
    told = parser.parse_args()
    torch.manual_seed(0)
    size, batches = SIZES[told.size], np.load(told.batches)
    if told.peer == "trainer":
        trainer(size, told.precision, batches, told.folder, compiled=told.compile)
    else:
        endless = itertools.cycle(torch.from_numpy(rows) for rows in batches)
        steps(told.peer, size, told.precision, endless, compiled=told.compile)


if __name__ == "__main__":
    main()
