"""TensorBoard: event files in the run's folder; `tensorboard --logdir runs` shows all runs side by side."""

from collections.abc import Mapping

from isoflop.train.sinks import Opening

NEEDS, EXTRA = "tensorboard", "tensorboard"


class EventFiles:
    """One more event file; TensorBoard reads all of a folder as one run."""

    rewinds = True

    def __init__(self, opening: Opening) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        where = opening.folder / (opening.setting or "tensorboard")
        self._writer = EventFileWriter(str(where))

    def rewind(self, step: int) -> None:
        """A session that starts there: readers drop what they have of that step and later."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._add(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar each."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(Event(step=step, summary=Summary(value=scalars)))

    def _add(self, event: object) -> None:
        import time

        event.wall_time = time.time()  # type: ignore[attr-defined]
        self._writer.add_event(event)

    def close(self, status: str) -> None:
        """Write the rest."""
        self._writer.close()


def open(opening: Opening) -> EventFiles:
    """Event files in `tensorboard/`, or the folder of that name in the run's own."""
    return EventFiles(opening)
