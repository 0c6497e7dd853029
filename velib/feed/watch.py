"""Warns if something is wrong with the feed as a whole, although its snapshots can be published."""

import time

import config
from config import Settings
from velib.feed.snapshot import Snapshot
from velib.runtime import local_time, log

STALLED_AFTER = 600.0  # seconds with the same snapshot; the feed has a new one about every minute


class FeedWatch:
    """Warns if the feed has stalled, has lost most of its stations, or lacks a selected one.

    Each warning is logged once for each occurrence: a feed that recovers may stall again.
    """

    def __init__(self, settings: Settings) -> None:
        self.expected = set() if settings.stations == config.ALL else set(settings.stations)
        self.newest: Snapshot | None = None
        self.first_seen = 0.0  # when the newest snapshot came, on the monotonic clock
        self.has_stalled = False

    def check(self, snapshot: Snapshot) -> None:
        """Check the snapshot of a poll."""
        self._check_expected(snapshot)
        if self.newest is None or snapshot.last_updated > self.newest.last_updated:
            self._check_change(snapshot)
            self.newest, self.first_seen, self.has_stalled = snapshot, time.monotonic(), False
        elif not self.has_stalled and time.monotonic() - self.first_seen >= STALLED_AFTER:
            log.warning(
                "The feed has had no new snapshot since %s", local_time(self.newest.last_updated)
            )
            self.has_stalled = True

    def _check_expected(self, snapshot: Snapshot) -> None:
        stations = (station for station in snapshot.stations if isinstance(station, dict))
        missing = self.expected - {str(station.get("stationCode")) for station in stations}
        if missing:
            log.warning("The feed has no station %s (VELIB_STATIONS)", ", ".join(sorted(missing)))
        self.expected -= missing

    def _check_change(self, snapshot: Snapshot) -> None:
        if self.newest is None:
            return
        if self.has_stalled:
            log.info("The feed is updating again after %.0f s", time.monotonic() - self.first_seen)
        if 2 * len(snapshot.stations) < len(self.newest.stations):
            log.warning(
                "The feed has shrunk: snapshot %s has %d stations, the previous one had %d."
                " It is published as it is",
                local_time(snapshot.last_updated),
                len(snapshot.stations),
                len(self.newest.stations),
            )
