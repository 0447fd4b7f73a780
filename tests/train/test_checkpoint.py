"""Checkpoints under attack: flipped bytes, cut files, a full disk, a foreign run."""

import ast
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from isoflop import files
from isoflop.errors import InputError, ResourceError, UsageError
from isoflop.train import checkpoint, manifest, tensor_file

KEY = "0123456789abcdef"


def _tensors(step: int) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    model = {"a": torch.randn(7, 5, generator=generator), "b": torch.randn(3, generator=generator).bfloat16()}
    return {"model": model, "optimizer": {"a.step": torch.tensor(float(step)), "random.cpu": torch.get_rng_state()}}


def _save(parent: Path, step: int) -> Path:
    return checkpoint.save(parent, step=step, key=KEY, tensors=_tensors(step), state={"train_s": 0.1 + step})


def _newest(parent: Path) -> tuple[int | None, list[str]]:
    warnings: list[str] = []
    found = checkpoint.newest(parent, key=KEY, warn=warnings.append)
    if found is not None:
        for group, tensors in _tensors(found.manifest.step).items():
            assert all(torch.equal(found.tensors[group][name], tensor) for name, tensor in tensors.items())
        assert found.manifest.state == {"train_s": 0.1 + found.manifest.step}
    return (None if found is None else found.manifest.step), warnings


def test_the_newest_two_are_kept_and_read_back_to_the_bit(tmp_path: Path) -> None:
    for step in (3, 20, 100):
        _save(tmp_path, step)
    assert _newest(tmp_path) == (100, [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000020", "step-00000100"]


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    place = _save(tmp_path, 2)
    for path in sorted(place.iterdir()):
        whole = path.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 40)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :])
            step, warnings = _newest(tmp_path)
            assert step == 1, f"byte {at} of {path.name} went unnoticed"
            assert "step-00000002" in warnings[0]
        path.write_bytes(whole)
    assert _newest(tmp_path) == (2, [])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "manifest.json"])
def test_a_cut_or_missing_file_sends_back_to_the_checkpoint_before(tmp_path: Path, name: str) -> None:
    _save(tmp_path, 1)
    path = _save(tmp_path, 2) / name
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:size])
        assert _newest(tmp_path)[0] == 1
    path.unlink()
    assert _newest(tmp_path)[0] == 1
    with pytest.raises(InputError, match=name):
        checkpoint.load(path.parent)


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    (_save(tmp_path, 2) / "model.safetensors").write_bytes(b"")
    assert _newest(tmp_path)[0] == 1
    _save(tmp_path, 2)
    assert _newest(tmp_path) == (2, [])


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    with pytest.raises(UsageError, match="two different runs"):
        checkpoint.newest(tmp_path, key="another", warn=lambda _: None)


def test_a_full_disk_leaves_the_earlier_checkpoint_and_no_rubbish(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        with pytest.raises(ResourceError, match="the disk is full"):
            _save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert _newest(tmp_path) == (1, [])
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_when_none_is_whole_nothing_begins_again_in_silence(tmp_path: Path) -> None:
    for step in (1, 2):
        (_save(tmp_path, step) / "optimizer.safetensors").unlink()
    warnings: list[str] = []
    with pytest.raises(InputError, match="none of its 2 checkpoints is whole"):
        checkpoint.newest(tmp_path, key=KEY, warn=warnings.append)
    assert len(warnings) == 2


def test_the_library_reads_what_is_written_whatever_its_type_and_shape(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(6, 10, generator=generator)
    tensors = {
        "scalar": torch.tensor(3.5), "empty": torch.empty(0, 4), "half": wide.half(), "brain": wide.bfloat16(),
        "double": wide.double(), "turned": wide.T, "strided": wide[::2, 1::3], "flags": wide > 0,
        "long": torch.arange(7), "bytes": torch.arange(5, dtype=torch.uint8), "float8": wide.to(torch.float8_e4m3fn),
    }  # fmt: skip
    member = tensor_file.write(tmp_path / "a.safetensors", tensors)
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape)
        assert torch.equal(read[name].to(torch.float64), value.to(torch.float64))
    assert member.n_bytes == (tmp_path / "a.safetensors").stat().st_size
    assert member.sha256 == files.sha256_file(tmp_path / "a.safetensors")


def test_a_checkpoint_of_a_newer_isoflop_is_neither_skipped_nor_overwritten(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    path = _save(tmp_path, 2) / "manifest.json"
    newer = {**msgspec.json.decode(path.read_bytes()), "schema": "isoflop/checkpoint@3", "more": [1]}
    newer["sha256"] = files.sha256_value({**newer, "sha256": ""})
    files.write_json(path, newer)
    with pytest.raises(UsageError, match=r"schema isoflop/checkpoint@3, written by isoflop .* Go on with that version"):
        checkpoint.newest(tmp_path, key=KEY, warn=lambda _: None)


def test_a_checkpoint_of_the_first_schema_is_still_read(tmp_path: Path) -> None:
    path = _save(tmp_path, 2) / "manifest.json"
    old = msgspec.json.decode(path.read_bytes())
    for name in ("metrics", "recipe", "isoflop"):
        del old[name]
    old |= {"schema": "isoflop/checkpoint@1", "sha256": ""}
    files.write_json(path, old | {"sha256": files.sha256_value(old)})
    assert _newest(tmp_path) == (2, [])


def test_the_newest_is_the_one_of_the_latest_step_whatever_the_clock_says(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    later = _save(tmp_path, 2)
    os.utime(later, (0, 0))
    assert _newest(tmp_path) == (2, [])
    _save(tmp_path, 3)
    assert [entry.step for entry in manifest.listing(tmp_path)] == [2, 3]


def test_what_a_recipe_keeps_for_good_stays(tmp_path: Path) -> None:
    keep = checkpoint.Keep(newest=1, every=10, steps=frozenset({25}))
    for step in range(0, 36, 5):
        checkpoint.save(tmp_path, step=step, key=KEY, tensors=_tensors(step), state={"train_s": 0.1 + step}, keep=keep)
    assert [entry.step for entry in manifest.listing(tmp_path)] == [10, 20, 25, 30, 35]
    assert checkpoint.load(tmp_path / "step-00000010").manifest.step == 10


LISTED = """
import sys
sys.modules["torch"] = sys.modules["safetensors"] = None  # importing them fails
from pathlib import Path
from isoflop.train import checkpoint
for entry in checkpoint.listing(Path(sys.argv[1])):
    about = entry.manifest
    print(entry.step, entry.n_bytes > 1000, about and about.metrics.loss_nats, about and about.recipe, entry.damage)
"""


def test_checkpoints_are_listed_without_torch(tmp_path: Path) -> None:
    parent, metrics = tmp_path / "checkpoints", manifest.Metrics(n_tokens=640, loss_nats=2.5)
    checkpoint.save(parent, step=1, key=KEY, tensors=_tensors(1), state={}, metrics=metrics, recipe={"seed": 7})
    (_save(parent, 2) / "model.safetensors").write_bytes(b"torn")
    said = subprocess.run([sys.executable, "-c", LISTED, str(tmp_path)], capture_output=True, text=True, check=True)
    first, second = said.stdout.splitlines()
    assert first == "1 True 2.5 {'seed': 7} "
    assert second.startswith("2 True None {} ")
    assert "model.safetensors: 4 bytes where" in second


def test_nothing_in_the_package_unpickles() -> None:
    """No module that loads pickles is imported, and torch loads nothing."""
    picklers = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}
    package = Path(checkpoint.__file__).parents[1]
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not picklers & {name.partition(".")[0] for name in names}, path
            assert not any(name.startswith("torch.distributed.checkpoint") for name in names), path
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"torch.load", "torch.jit.load", "torch.package"}, path
                assert "allow_pickle" not in {keyword.arg for keyword in node.keywords}, path
