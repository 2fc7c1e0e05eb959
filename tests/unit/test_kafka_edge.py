"""The Kafka engine's edge: foreign errors, loud loggers, and what is wrong with a topic."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka
from aiokafka.protocol.metadata import MetadataRequest

from eventstore.errors import EventStoreError, LogUnavailable, TopicMisconfigured
from eventstore.kafka.edge import REFUSALS, quieten, translated
from eventstore.kafka.topic import SETTINGS, PartitionFacts, TopicFacts, judged

WHERE = "10.0.0.7:9092"


@pytest.mark.parametrize(
    ("exc", "error", "says"),
    [
        (kafka.UnknownTopicOrPartitionError(), TopicMisconfigured, "there is no topic threads"),
        (kafka.InvalidTopicError(), TopicMisconfigured, "there is no topic threads"),
        (kafka.TopicAuthorizationFailedError(), LogUnavailable, "check user, password and sasl="),
        (kafka.GroupAuthorizationFailedError("threads.views"), LogUnavailable, "threads.views); check user"),
        (kafka.SaslAuthenticationFailed("no"), LogUnavailable, "check user, password and sasl="),
        (kafka.UnsupportedSaslMechanismError(), LogUnavailable, "check user, password and sasl="),
        (kafka.MessageSizeTooLargeError(), TopicMisconfigured, "max.message.bytes"),
        (kafka.RecordListTooLargeError(), TopicMisconfigured, "max.message.bytes"),
        (kafka.InvalidTimestampError(), TopicMisconfigured, "eventstore topic verify"),
        (kafka.KafkaConnectionError("gone"), LogUnavailable, "gone"),
        (kafka.LeaderNotAvailableError(), LogUnavailable, "LeaderNotAvailableError"),
        (TimeoutError(), LogUnavailable, "TimeoutError"),
        (OSError("no route"), LogUnavailable, "no route"),
    ],
)
def test_a_foreign_error_becomes_one_that_says_what_to_do(
    exc: Exception, error: type[EventStoreError], says: str
) -> None:
    found = translated(exc, topic="threads", where=WHERE)
    assert type(found) is error
    assert says in str(found)


def test_texts_name_the_address() -> None:
    for exc in (kafka.KafkaConnectionError(), kafka.UnknownTopicOrPartitionError(), kafka.InvalidTimestampError()):
        assert WHERE in str(translated(exc, topic="threads", where=WHERE))


def test_what_brokers_refuse_for_good_is_never_tried_again() -> None:
    """An error that aiokafka tries again itself never reaches us; one that is in both would be a contradiction."""
    assert not [exc for exc in REFUSALS if getattr(exc, "retriable", False)]


@pytest.fixture
def loud() -> Iterator[logging.Logger]:
    logger = logging.getLogger("aiokafka.loud.test")
    logger.setLevel(logging.INFO)
    yield logger
    for known in list(logger.filters):
        logger.removeFilter(known)


def test_a_flood_passes_once_and_is_counted(
    loud: logging.Logger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("eventstore.kafka.edge.time.monotonic", lambda: now)
    quieten()
    quieten()
    for number in range(1_000):
        loud.error("Unable connect to node with id %s: %s", number, "refused")
    loud.error("another thing")
    now += 11
    loud.error("Unable connect to node with id %s: %s", 7, "refused")
    now += 11
    loud.error("Unable connect to node with id %s: %s", 8, "refused")
    assert [record.getMessage() for record in caplog.records] == [
        "Unable connect to node with id 0: refused",
        "another thing",
        "Unable connect to node with id 7: refused (and 999 times like it before)",
        "Unable connect to node with id 8: refused",
    ]


def test_other_loggers_are_left_alone() -> None:
    other = logging.getLogger("aiokafkaesque.loud")
    quieten()
    assert not other.filters


async def test_what_is_private_in_aiokafka_is_still_there() -> None:
    """The engine leans on these. When a version changes them, this says so, and not a wedged producer."""
    producer = AIOKafkaProducer(enable_idempotence=True, request_timeout_ms=1_234)
    try:
        assert producer._closed is False
        assert producer._message_accumulator._batch_ttl == 1.234
        assert callable(producer._message_accumulator.add_batch)
        assert callable(producer._sender._send_produce_req)
        assert producer._sender.sender_task is None
        assert producer.client._conns == {}
        assert callable(producer.client._get_conn)
        assert MetadataRequest([])._allow_auto_topic_creation is None
    finally:
        await producer.stop()


GOOD = TopicFacts(
    "threads",
    "a cluster",
    dict(SETTINGS) | {"min.insync.replicas": "2"},
    tuple(PartitionFacts(number, 0, 9, 1, (1, 2, 3), (3, 1, 2)) for number in range(3)),
)


def test_a_good_topic_is_found_good() -> None:
    assert judged(GOOD) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000"),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "1"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("unclean.leader.election.enable", "true"),
    ],
)
def test_a_setting_that_loses_threads_is_found_and_said_how_to_set(name: str, value: str) -> None:
    (finding,) = judged(replace(GOOD, settings={**GOOD.settings, name: value}))
    assert finding.loses
    assert str(finding) == f"{name} is {value}; set it to {SETTINGS[name]}"


def test_every_setting_is_judged() -> None:
    wrong = dict.fromkeys(SETTINGS, "1")
    assert len(SETTINGS) == len(judged(replace(GOOD, settings={**wrong, "min.insync.replicas": "2"})))


def test_larger_records_than_needed_are_no_harm_and_an_unknown_setting_is_not_judged() -> None:
    settings = {**GOOD.settings, "max.message.bytes": str(2**30)}
    del settings["message.timestamp.after.max.ms"]
    assert judged(replace(GOOD, settings=settings)) == []


@pytest.mark.parametrize(
    ("partition", "settings", "says", "loses"),
    [
        (
            PartitionFacts(1, 0, 9, 1, (1,), (1,)),
            {},
            "replicas: 1; with 3 a broker may be lost: give the partitions more with kafka-reassign-partitions.sh",
            False,
        ),
        (
            PartitionFacts(1, 0, 9, 1, (1, 2, 3), (1, 2)),
            {},
            "1 partitions have replicas that are not in sync; see that all brokers run",
            False,
        ),
        (
            PartitionFacts(1, 4, 9, 1, (1, 2, 3), (1, 2, 3)),
            {},
            "partition 1 begins at offset 4: records were deleted, and the threads that began before cannot be read; "
            "copy a log that has them into another topic (eventstore copy)",
            True,
        ),
        (GOOD.partitions[0], {"min.insync.replicas": "1"}, "min.insync.replicas is 1; set it to 2", False),
        (GOOD.partitions[0], {"min.insync.replicas": "3"}, "min.insync.replicas is 3 of 3; set it to 2", False),
    ],
)
def test_what_ails_partitions_is_found_and_said_how_to_mend(
    partition: PartitionFacts, settings: dict[str, str], says: str, loses: bool
) -> None:
    facts = replace(GOOD, settings={**GOOD.settings, **settings}, partitions=(GOOD.partitions[0], partition))
    (finding,) = judged(facts)
    assert says in str(finding)
    assert finding.loses is loses
