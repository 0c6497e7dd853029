"""Warns of a feed that is wrong as a whole, though each of its snapshots can be published."""

import time

import config
from config import Settings
from velib.feed.snapshot import Snapshot
from velib.runtime import local_time, log

STANDSTILL = 600.0  # seconds with the same snapshot; the feed has a new one about every minute


class FeedWatch:
    """Sees the snapshot of every poll: has the feed stopped, or lost most of its stations?"""

    def __init__(self, standstill: float = STANDSTILL) -> None:
        """standstill: the seconds with the same snapshot after which a line says so."""
        self.standstill = standstill
        self.newest: Snapshot | None = None
        self.first_seen = 0.0  # when the newest snapshot came, on the monotonic clock
        self.stands_still = False

    def warn(self, snapshot: Snapshot) -> None:
        """Log once that the feed stands still, that it moves again, that it has shrunk."""
        if self.newest is None or snapshot.last_updated > self.newest.last_updated:
            self._log_change(snapshot)
            self.newest, self.first_seen, self.stands_still = snapshot, time.monotonic(), False
        elif not self.stands_still and time.monotonic() - self.first_seen >= self.standstill:
            log.warning(
                "The feed has stood still since its snapshot of %s: no newer one for %.0f s",
                local_time(self.newest.last_updated),
                time.monotonic() - self.first_seen,
            )
            self.stands_still = True

    def _log_change(self, snapshot: Snapshot) -> None:
        if self.newest is None:
            return
        if self.stands_still:
            log.info("The feed moves again after %.0f s", time.monotonic() - self.first_seen)
        if 2 * len(snapshot.stations) < len(self.newest.stations):
            log.warning(
                "The feed has shrunk: its snapshot of %s has %d stations, the one before had %d."
                " It is published as it is",
                local_time(snapshot.last_updated),
                len(snapshot.stations),
                len(self.newest.stations),
            )


class MissingStations:
    """Warns once of each station of VELIB_STATIONS that the feed does not have."""

    def __init__(self, settings: Settings) -> None:
        self.expected = set() if settings.stations == config.ALL else set(settings.stations)

    def warn(self, snapshot: Snapshot) -> None:
        """Log the expected stations that a snapshot lacks, and expect them no more."""
        stations = (station for station in snapshot.stations if isinstance(station, dict))
        missing = self.expected - {str(station.get("stationCode")) for station in stations}
        if missing:
            log.warning("The feed has no station %s (VELIB_STATIONS)", ", ".join(sorted(missing)))
        self.expected -= missing
