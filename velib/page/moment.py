"""The moment that a page shows: the newest snapshot, or an earlier one, paused or playing."""

from bisect import bisect_right

from velib.page.state import PipelineState
from velib.totals.records import Counts

HOUR = 3600  # seconds


class Moment:
    """One reader's place in the history of the state: following, paused or playing."""

    def __init__(self, state: PipelineState, chosen: int = 0) -> None:
        self.state = state
        self.chosen = chosen
        """Epoch seconds; 0 follows the newest snapshot."""

        self.speed = 0
        """Snapshots a second; 0 unless it is playing."""

        self._moved_at = 0.0  # when it last played a snapshot

    @property
    def is_live(self) -> bool:
        """Whether it follows the newest snapshot."""
        return not self.chosen

    @property
    def snapshot(self) -> int:
        """The newest snapshot, or the last one until the chosen time; 0 if there is none."""
        if self.is_live or not self.state.history:
            return self.state.newest_snapshot
        return self.state.snapshots()[self.index()]

    def index(self) -> int:
        """The index of the shown snapshot among those kept; the oldest is 0."""
        snapshots = self.state.snapshots()
        return max(0, bisect_right(snapshots, self.chosen or self.state.newest_snapshot) - 1)

    def go_to(self, index: int) -> None:
        """Show a snapshot by its index; the last one means live."""
        snapshots = self.state.snapshots()
        if index < len(snapshots) - 1:
            self.chosen = snapshots[max(0, index)]
        else:
            self.chosen = self.speed = 0

    def play(self, speed: int, now: float) -> None:
        """Play at a speed, from the oldest snapshot if the newest is shown; 0 pauses."""
        if speed and self.is_live:
            self.go_to(0)
        self.chosen = self.chosen or self.snapshot
        self.speed, self._moved_at = speed, now

    def advance(self, now: float) -> bool:
        """Play the snapshots that are due; returns whether another one is shown."""
        steps = int((now - self._moved_at) * self.speed)
        if steps < 1:
            return False
        self._moved_at += steps / self.speed
        self.go_to(self.index() + steps)
        return True

    def totals(self) -> dict[str, Counts]:
        """The totals by postal code."""
        return self.state.history.get(self.snapshot, {})

    def sum(self) -> Counts | None:
        """The totals summed over all postal codes; None if there are none."""
        return self.state.sum(self.snapshot)

    def previous(self) -> int:
        """The previous snapshot; 0 if there is none."""
        return max((s for s in self.state.history if s < self.snapshot), default=0)

    def hour_before(self) -> int:
        """The last snapshot that is at least an hour older, or else the oldest; 0 if there is none.

        The hour is by the feed's own clock. Snapshots before that clock was put back, as when a
        recorded day starts over, do not count.
        """
        found, shown = 0, self.snapshot
        for snapshot in reversed(self.state.snapshots()[: self.index()]):
            if self._clock(snapshot) > self._clock(found or shown):
                break
            found = snapshot
            if self._clock(snapshot) <= self._clock(shown) - HOUR:
                break
        return found

    def _clock(self, snapshot: int) -> float:
        recorded = self.state.recorded.get(snapshot)
        return recorded.timestamp() if recorded else snapshot
