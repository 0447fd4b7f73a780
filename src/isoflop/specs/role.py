"""What a run is to a law."""

from typing import Literal, TypeAlias

Role: TypeAlias = Literal["fit", "held_out", "trunk", "tuning"]
"""fit: a law may see it. held_out: its proof. trunk: cooldown branches begin from it, and its own loss, at a rate that
never decayed, is no point of a law. tuning: it was trained to find a learning rate, most likely with a worse one."""

NO_POINT: dict[str, str] = {
    "held_out": "kept out of the fit as its proof",
    "trunk": "a trunk of branches: its rate never decayed",
    "tuning": "trained to find a learning rate",
}
"""Why a run of this role is no point of a law."""
