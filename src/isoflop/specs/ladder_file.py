"""A ladder's plan as people write it: a TOML file and `--set key=value`, read strictly."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from isoflop.errors import InputError, UnknownNameError, UsageError
from isoflop.specs.ladder_plan import LadderPlan
from isoflop.specs.optimizer import Optimizer
from isoflop.specs.recipe_file import put


def load(path: Path | None, *, settings: Sequence[str] = ()) -> LadderPlan:
    """Read a plan.

    Args:
        path: a TOML file; None takes every rule as it is.
        settings: "key=value" each, the key with a dot for the table `optimizer`, the value as TOML writes it.

    Raises:
        InputError: no such file.
        UsageError: not TOML, an unknown key (the nearest one is named), or a wrong type or value.
    """
    content: dict[str, Any] = {}
    where = "--set"
    if path is not None:
        where = str(path)
        try:
            content = tomllib.loads(path.read_text())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not TOML: {error}") from error
    for setting in settings:
        put(content, setting, example="sizes=4")
    _known(content, where)
    try:
        return msgspec.convert(content, LadderPlan)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from error


def _known(content: dict[str, Any], where: str) -> None:
    """Refuse keys that nothing answers to."""
    for table, kind, at in ((content, LadderPlan, ""), (content.get("optimizer"), Optimizer, "optimizer.")):
        fields = [f"{at}{name}" for name in kind.__struct_fields__]
        for name in table if isinstance(table, dict) else ():
            if f"{at}{name}" not in fields:
                raise UnknownNameError(f"key in {where}", f"{at}{name}", fields)
