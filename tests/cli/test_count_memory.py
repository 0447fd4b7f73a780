"""`isoflop count memory`: the answer, where it does not fit, and garbage."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Isoflop = Callable[..., "subprocess.CompletedProcess[str]"]
ASKED = (
    "count", "memory", "llama3-8b", "--gpus", "64xH100", "--layout", "fsdp=64", "--micro-batch", "2", "--seq", "8192",
    "--precision", "bf16", "--recompute", "selective",
)  # fmt: skip


def test_the_answer_as_json(isoflop: Isoflop) -> None:
    done = isoflop(*ASKED, "--json", "--explain", "memory.activations")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["schema"] == "isoflop/count-memory@1"
    assert answer["capacity_bytes"] == 80e9
    assert answer["fits"] is True
    parts = answer["memory_breakdown_bytes"]
    assert sum(parts.values()) == pytest.approx(answer["memory_bytes_per_device"])
    assert parts["loss_head"] / 2**30 == pytest.approx(23.5, abs=0.05)
    assert parts["weights"] == 4 * 8030261248 / 64
    assert answer["memory_bytes_per_device_lo"] < answer["memory_bytes_per_device"]
    (term,) = answer["explain"]
    assert term["filled"].startswith("1 * 16384 * 32 * (2 * 4096 + 2 * (32 * 128 + 2 * 8 * 128 + 32 * 128 + 14336) + ")


def test_a_sequence_beyond_the_published_context_is_counted_and_told(isoflop: Isoflop) -> None:
    """torchtitan measured 84.5 GiB; Llama 3.1's own context is half as long."""
    done = isoflop(
        "count", "memory", "llama3.1-8b", "--gpus", "8xH100", "--layout", "fsdp=1,cp=8", "--seq", "262144",
        "--precision", "fp8", "--recompute", "full", "--json",
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert answer["memory_bytes_per_device_lo"] <= 84.5 * 2**30 <= answer["memory_bytes_per_device_hi"]
    assert "more than the context of 131,072" in answer["notes"][0]


@pytest.mark.parametrize(
    "name",
    ["memory_bytes_per_device", "memory_bytes_per_device_lo", "memory_bytes_per_device_hi", "capacity_bytes",
     "memory_breakdown_bytes.loss_head"],
)  # fmt: skip
def test_a_number_explains_itself_under_its_name_in_json(isoflop: Isoflop, name: str) -> None:
    answer = json.loads(isoflop(*ASKED, "--json", "--explain", name).stdout)
    value = answer
    for key in name.split("."):
        value = value[key]
    assert answer["explain"][0]["value"] == pytest.approx(value)


def test_the_answer_for_people(isoflop: Isoflop) -> None:
    done = isoflop(*ASKED)
    assert done.returncode == 0
    assert "69.1 GB a device of 80 GB: fits" in done.stdout
    for part in ("weights", "optimizer", "activations", "loss head", "margin"):
        assert re.search(rf"^ {part} +[0-9.]+ [GM]B", done.stdout, re.MULTILINE), part


def test_what_does_not_fit_ends_with_3_and_says_what_would(isoflop: Isoflop) -> None:
    done = isoflop("count", "memory", "llama3-8b", "--gpus", "8xH100", "--seq", "8192", "--micro-batch", "2", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["fits"] is False
    assert done.stderr.startswith("CapacityError: ")
    advice = re.search(r"(--loss chunked|--recompute \w+): ", done.stderr)
    assert advice is not None
    again = isoflop(
        "count", "memory", "llama3-8b", "--gpus", "8xH100", "--seq", "8192", "--micro-batch", "2", *advice[1].split()
    )
    assert again.returncode == 0


def test_devices_that_would_do_are_named_where_nothing_else_does(isoflop: Isoflop) -> None:
    done = isoflop("count", "memory", "llama3-70b", "--gpus", "8xH100", "--seq", "4096")
    assert done.returncode == 3
    named = re.search(r"--gpus (\d+xh100-sxm)", done.stderr)
    assert named is not None
    enough = isoflop("count", "memory", "llama3-70b", "--gpus", named[1], "--seq", "4096", "--recompute", "full",
                     "--loss", "chunked")  # fmt: skip
    assert enough.returncode == 0


def test_a_close_fit_is_told(isoflop: Isoflop) -> None:
    done = isoflop("count", "memory", "llama3-8b", "--gpus", "8xH100", "--seq", "8192", "--micro-batch", "2",
                   "--recompute", "full", "--json")  # fmt: skip
    answer = json.loads(done.stdout)
    close = answer["fits"] and answer["memory_bytes_per_device_hi"] > 80e9
    assert bool(answer["warnings"]) is close


@pytest.mark.parametrize(
    ("model", "notes"),
    [
        ("recipes/tiny.toml", 0), ("llama3-8b", 0), ("recipes/bert-base.toml", 1), ("recipes/t5-base.toml", 2),
        ("recipes/mixture.toml", 1), ("t5-base", 2),
    ],
)  # fmt: skip
def test_a_kind_of_model_that_was_not_measured_is_told(isoflop: Isoflop, model: str, notes: int) -> None:
    done = isoflop("count", "memory", model, "--gpus", "8xH100", "--json")
    told = json.loads(done.stdout)["notes"]
    assert len(told) == notes
    assert all("not verified" in note for note in told[:1])
    assert all("on a CPU attention keeps its scores" in note for note in told[1:])


def test_a_package_of_two_dies_is_two_devices(isoflop: Isoflop) -> None:
    done = isoflop("count", "memory", "llama-7b", "--gpus", "4xMI250X", "--layout", "fsdp=8", "--seq", "2048", "--json",
                   "--recompute", "full")  # fmt: skip
    answer = json.loads(done.stdout)
    assert answer["capacity_bytes"] == 64e9
    assert answer["layout"]["devices"] == 8


def test_verify_prints_the_tracker_beside_the_closed_form(isoflop: Isoflop, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "r"\nshards = "s"\nn_tokens = 8192\nbatch_tokens = 4096\n[model]\nfamily = "decoder"\nlayers = 2\n'
        "width = 512\nheads = 8\nkv_heads = 4\nhead_size = 64\nhidden = 1408\nvocabulary = 8192\ncontext = 2048\n"
    )
    done = isoflop("count", "memory", str(recipe), "--gpus", "8xH100", "--micro-batch", "2", "--verify", "--json")
    assert done.returncode == 0, done.stderr
    verified = json.loads(done.stdout)["verify"]
    assert abs(verified["error"]) < 0.02
    assert verified["tracked_bytes"] == pytest.approx(verified["closed_bytes"], rel=0.02)


def test_the_page_holds_all_it_shows(isoflop: Isoflop, tmp_path: Path) -> None:
    pytest.importorskip("altair")
    page = tmp_path / "memory.html"
    assert isoflop(*ASKED, "--html", str(page)).returncode == 0
    written = page.read_text()
    assert "Memory of llama3-8b on 64xh100-sxm" in written
    assert "It fits: 69.1 GB of 80 GB" in written
    page_alone = re.sub(r"<script.*?</script>", "", written, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page_alone)
    assert "default-src &#x27;none&#x27;" in page_alone


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--gpus", "64xH1000"), 2, "no device named 'H1000'; did you mean"),
        (("--gpus", "0xH100"), 2, "not a whole number of devices"),
        (("--gpus", "80 GB"), 2, "no device named 'GB'"),
        (("--gpus", "64xH100", "--layout", "fsdp=8,tp=4"), 2, "is 32 devices, but --gpus has 64"),
        (("--gpus", "64xH100", "--layout", "tp=64"), 2, "32 heads do not divide by it"),
        (("--gpus", "64xH100", "--layout", "pp=64"), 2, "only 32 layers"),
        (("--gpus", "64xH100", "--layout", "fsdp=64,ep=8"), 2, "the model has no experts"),
        (("--gpus", "8xH100", "--seq", "8k"), 2, "'8k' is not a valid integer"),
        (("--gpus", "8xH100", "--micro-batch", "0"), 2, "0 is not in the range"),
        (("--gpus", "8xH100", "--precision", "int8"), 2, "int8 weights cannot be trained"),
        (("--gpus", "8xH100", "--precision", "fp4"), 2, "'fp4' is not one of"),
        (("--gpus", "8xH100", "--explain", "memory.activation"), 2, "did you mean 'memory.activations'"),
        (("--gpus", "8xH100", "--verify", "--layout", "tp=8"), 2, "this cannot be tracked: only ddp and fsdp can be"),
        (("--gpus", "8xH100", "--tables", "absent.toml"), 2, "absent.toml: no such file"),
    ],
)
def test_garbage_is_one_clear_error(isoflop: Isoflop, args: tuple[str, ...], code: int, said: str) -> None:
    done = isoflop("count", "memory", "llama3-8b", *args)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_own_margin_replaces_the_shipped_one(isoflop: Isoflop, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[margins.reserved]\nshare = 0.0\nlo = 0.0\nhi = 0.0\nrows = 3\nof = "ours"\nsource = "our cluster"\n'
    )
    done = isoflop(*ASKED, "--loss", "chunked", "--tables", str(own), "--json", "--explain", "memory.margin")
    answer = json.loads(done.stdout)
    assert "3 measurements" in answer["explain"][0]["note"]
    assert answer["memory_bytes_per_device_lo"] == answer["memory_bytes_per_device_hi"]
