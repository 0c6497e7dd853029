"""The topics: the first script that starts creates those that are missing."""

from threading import Event

from kafka import KafkaAdminClient
from kafka.errors import TopicAlreadyExistsError, for_code

from config import Settings
from velib.kafka import clients
from velib.runtime import log

DAY_MS = 24 * 3600 * 1000


def ensure(settings: Settings, stop: Event | None = None) -> bool:
    """Wait for Kafka and create the topics that are missing.

    Returns False if `stop` is set first. Raises Failure if Kafka refuses.
    """
    return clients.when_reachable(
        settings, lambda admin: _create_missing(admin, settings), stop or Event()
    )


def configurations(settings: Settings) -> dict[str, dict[str, str]]:
    """The Kafka configuration of each topic, by name.

    All topics have one partition. A transaction's commit reaches the partitions of a topic one by
    one, so a reader of several could see a part of a snapshot; of one partition it sees all or
    nothing. A day of the bike network is 65 MB.
    """
    return {
        settings.raw_topic: {"retention.ms": str(7 * DAY_MS)},
        # The newest total of each postal code is kept permanently, the older ones for a week.
        settings.final_topic: {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(7 * DAY_MS),
        },
        # A dead letter is the raw record and its headers: larger than the largest raw record.
        settings.dead_letter_topic: {
            "retention.ms": str(30 * DAY_MS),
            "max.message.bytes": str(4 * 1024 * 1024),
        },
        # The newest name and position of each station are kept permanently.
        settings.station_topic: {"cleanup.policy": "compact"},
    }


def transactional_id(settings: Settings) -> str:
    """The producers' transactional id: a new producer fences the earlier ones with the same id."""
    return f"{settings.raw_topic}-producer"


def positions_id(settings: Settings) -> str:
    """The transactional id with which the positions of the stations are published."""
    return f"{settings.raw_topic}-positions"


def _create_missing(admin: KafkaAdminClient, settings: Settings) -> None:
    topics = configurations(settings)
    described = admin.describe_topics(list(topics))
    present = {topic["name"] for topic in described if topic["error_code"] == 0}
    # A cluster that is starting has fewer brokers than addresses.
    addresses = settings.kafka.bootstrap_servers.split(",")
    brokers = max(len(admin.describe_cluster()["brokers"]), len(addresses))
    # -1 is the cluster's default replication factor.
    replicas, safety = (3, {"min.insync.replicas": "2"}) if brokers >= 3 else (-1, {})
    for name in topics.keys() - present:
        configuration = {
            "num_partitions": 1,
            "replication_factor": replicas,
            "configs": topics[name] | safety,
        }
        answer = admin.create_topics(
            {name: configuration}, raise_errors=False, wait_for_metadata=False
        )
        code, message = answer["topics"][0]["error_code"], answer["topics"][0]["error_message"]
        error = for_code(code)
        if error is TopicAlreadyExistsError:  # another script was faster
            continue
        if code != 0:
            raise error(message)
        log.info("Created topic %s", name)
    admin.wait_for_topics(list(topics))
