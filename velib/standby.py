"""Waits while another producer publishes the same feed, until that one gives no sign of life."""

import time

from config import Settings
from velib import last_poll
from velib.runtime import log

TAKEOVER = 30.0  # seconds without a sign of life; a producer gives one every 10 s
LOOK_INTERVAL = 3.0  # seconds between two looks at the note of the last poll


def stand_by(settings: Settings, producer: str) -> None:
    """Wait until no other producer with the same transactional id publishes.

    A sign of life is that the note of the last poll has changed. This machine's own clock measures
    how long it has not: the clocks of two machines may differ. If the note is that of `producer`,
    which is this one, none has taken over since.

    Raises KafkaError: while Kafka is away the other producer cannot give a sign of life.
    """
    note = _note(settings)
    if last_poll.writer(note) in ("", producer):
        return
    log.info(
        "Standing by: taking over if the producer of %s gives no sign of life for %.0f s",
        settings.raw_topic,
        TAKEOVER,
    )
    changed_at = time.monotonic()
    while last_poll.writer(note):
        if time.monotonic() - changed_at > TAKEOVER:
            log.warning(
                "No sign of the producer of %s for %.0f s: taking over",
                settings.raw_topic,
                TAKEOVER,
            )
            return
        time.sleep(LOOK_INTERVAL)
        note_before, note = note, _note(settings)
        if note != note_before:
            changed_at = time.monotonic()
    log.info("The producer of %s has stopped: taking over", settings.raw_topic)


def _note(settings: Settings) -> str:
    """The note as it is now, read by a new client; raises KafkaError."""
    with last_poll.client(settings) as admin:
        return last_poll.read_text(admin, settings)
