"""CodeCarbon: the machine's energy and the carbon of its country's electricity, in the run's folder; no network."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isoflop.errors import UsageError
from isoflop.files import write_json
from isoflop.train.sinks import Opening

NEEDS, EXTRA = "codecarbon", "carbon"
_COUNTRY = "CODECARBON_COUNTRY_ISO_CODE"


class Tracker:
    """Measures while it is open; each part of a resumed run has a file of its own."""

    rewinds = True

    def __init__(self, opening: Opening) -> None:
        from codecarbon import OfflineEmissionsTracker

        country = opening.setting or os.environ.get(_COUNTRY, "")
        if len(country) != 3:
            raise UsageError(
                f"codecarbon needs a country: --to codecarbon:DEU (three letters of ISO 3166), or ${_COUNTRY}"
            )
        self._path = own_file(opening.folder / "carbon", opening.from_step)
        self._country = country.upper()
        self._tracker: Any = OfflineEmissionsTracker(
            country_iso_code=self._country, project_name=opening.run_id, save_to_file=False, log_level="error",
            allow_multiple_runs=True,
        )  # fmt: skip
        self._tracker.start()

    def rewind(self, step: int) -> None:
        """What was burnt stays burnt."""

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """It listens to the machine, not to the run."""

    def close(self, status: str) -> None:
        """Write what it came to."""
        carbon_kg = self._tracker.stop()
        data = self._tracker.final_emissions_data
        energy_j = 3.6e6 * data.energy_consumed
        found = {"carbon_kg": carbon_kg, "energy_j": energy_j, "wall_s": data.duration, "country": self._country}
        self._path.parent.mkdir(exist_ok=True)
        write_json(self._path, found)


def own_file(folder: Path, step: int) -> Path:
    """A new one: a run may begin at the same step twice, after a rollback for one, and both parts have burnt."""
    names = (f"from-step-{step}{'' if again == 1 else f'-again-{again}'}.json" for again in itertools.count(1))
    return next(path for name in names if not (path := folder / name).exists())


def open(opening: Opening) -> Tracker:
    """With the country behind the name, `codecarbon:DEU`."""
    return Tracker(opening)
