"""Brokers that want TLS, a user and a password, or a client's certificate; and what is told where one is wrong."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from redis.asyncio import Redis

from compose.services.kafka import Kafka
from compose.services.programs import programs
from eventstore.errors import EventStoreError, LogUnavailable
from eventstore.ids import new_thread_id
from eventstore.kafka import topic
from eventstore.kafka.url import KafkaUrl
from eventstore.settings import Settings
from eventstore.wiring import open_clustered
from tests.support.cluster import a_worker
from tests.support.services import StartKafka
from tests.support.threads import a_live_thread, said
from tests.support.topics import an_append, made, opened

EVENTSTORE = str(Path(sys.executable).with_name("eventstore"))
WITHIN = 20.0
PASSWORD = "p/ss:w@rd"
IN_A_URL = "p%2Fss%3Aw%40rd"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True)
class Guarded:
    """A Kafka with guarded listeners, and the certificates that open them."""

    kafka: Kafka
    folder: Path

    def url(self, listener: str, *, user: str = "", name: str = "threads", **parameters: str) -> str:
        """Return the URL of a topic as whoever comes by the listener writes it."""
        given = {"ca": str(self.folder / "ca.pem"), **parameters}
        query = "&".join(f"{key}={value}" for key, value in given.items())
        return f"kafka://{user}{self.kafka.address(listener)}/{name}?{query}"


@pytest.fixture
async def guarded(own_kafka: StartKafka, tmp_path: Path) -> Guarded:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "another-ca.pem")
    _write(authority.issue_cert("127.0.0.1"), tmp_path / "broker.pem")
    _write(authority.issue_cert("agent@example.org", common_name="an-agent"), tmp_path / "client.pem")
    kafka = await own_kafka(
        listeners=("SECRET", "MUTUAL"),
        settings={
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECRET:SASL_SSL,MUTUAL:SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(tmp_path / "broker.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(tmp_path / "ca.pem"),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]*).*$/$1/",
            "listener.name.secret.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.secret.plain.sasl.jaas.config": (
                f'{_PLAIN} required user_alice="{PASSWORD}" user_bob="{PASSWORD}";'
            ),
            "listener.name.secret.scram-sha-512.sasl.jaas.config": f"{_SCRAM} required;",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # Whoever is not named here may do nothing.
            "super.users": "User:ANONYMOUS;User:alice;User:carol;User:an-agent",
        },
    )
    return Guarded(kafka, tmp_path)


def _write(issued: trustme.LeafCert, path: Path) -> None:
    """Write key and certificates; Java reads keys in PKCS #8 only."""
    key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(text + b"".join(blob.bytes() for blob in issued.cert_chain_pems))


async def _name_carol(kafka: Kafka) -> None:
    """Make a user whose password the brokers keep salted."""
    paths = await programs("kafka")
    words = ("kafka.admin.ConfigCommand", "--bootstrap-server", kafka.bootstrap, "--alter", "--entity-type", "users")
    named = ("--entity-name", "carol", "--add-config", f"SCRAM-SHA-512=[password={PASSWORD}]")
    done = await asyncio.to_thread(
        subprocess.run,
        [paths["java"], "-cp", f"{paths['jars']}/*", *words, *named],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def _is_served(url: str, views: str) -> None:
    """Do what users, a store and a worker do with a topic."""
    settings = Settings(log=url, views=views, actor="a test", within=WITHIN)
    await topic.create(settings.kafka, partitions=2, replicas=1, min_insync=1, within=WITHIN)
    async with a_worker(settings), open_clustered(settings) as parts:
        thread_id = await a_live_thread(parts.store, "said in private")
        assert ["said in private"] == await said(parts.store, thread_id)
        assert [thread_id] == list(await parts.views.thread_ids(after=None, limit=9))


async def test_whoever_has_what_a_listener_asks_for_is_served(guarded: Guarded, redis_url: str) -> None:
    await _name_carol(guarded.kafka)
    for name, url in {
        "alice": guarded.url("SECRET", user=f"alice:{IN_A_URL}@", name="of-alice", sasl="PLAIN"),
        "carol": guarded.url("SECRET", user=f"carol:{IN_A_URL}@", name="of-carol", sasl="SCRAM-SHA-512"),
        "an agent": guarded.url("MUTUAL", name="of-an-agent", cert=str(guarded.folder / "client.pem")),
    }.items():
        async with Redis.from_url(redis_url) as redis:
            await redis.flushdb()
        try:
            await _is_served(url, redis_url)
        except EventStoreError as exc:
            exc.add_note(name)
            raise


async def test_a_worker_takes_user_and_password_from_the_environment_and_no_text_shows_them(
    guarded: Guarded, redis_url: str
) -> None:
    url = guarded.url("SECRET", sasl="PLAIN")
    environment = {
        **os.environ,
        "EVENTSTORE_LOG": url,
        "EVENTSTORE_VIEWS": redis_url,
        "EVENTSTORE_KAFKA_USERNAME": "alice",
        "EVENTSTORE_KAFKA_PASSWORD": PASSWORD,
    }

    async def run(*words: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(EVENTSTORE, *words, env=environment, stdout=PIPE, stderr=STDOUT)
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, said.decode()

    made = await run("topic", "create", "--partitions", "2", "--replicas", "1")
    worker = await asyncio.create_subprocess_exec(EVENTSTORE, "worker", env=environment, stdout=PIPE, stderr=STDOUT)
    listed = await run("list", "--json")
    worker.terminate()
    logged, _ = await worker.communicate()
    described = await run("topic", "describe")

    assert (made[0], listed[0], described[0], worker.returncode) == (0, 0, 0, 0), (made, listed, described, logged)
    assert '"items":[]' in listed[1].replace(" ", "")
    assert PASSWORD not in made[1] + listed[1] + described[1] + logged.decode()


async def test_whoever_lacks_it_is_told_in_time_what_to_look_at(guarded: Guarded) -> None:
    topic_of_alice = guarded.url("SECRET", user=f"alice:{IN_A_URL}@", sasl="PLAIN")
    await made(topic_of_alice, partitions=1)
    for url, told in (
        (guarded.url("SECRET", user="alice:wrong@", sasl="PLAIN"), "check user, password and sasl="),
        (guarded.url("SECRET", user="carol:never-made@", sasl="SCRAM-SHA-512"), "check user, password and sasl="),
        (guarded.url("SECRET", user=f"alice:{IN_A_URL}@", sasl="SCRAM-SHA-256"), "check user, password and sasl="),
        (topic_of_alice.replace("ca.pem", "another-ca.pem"), "certificate"),
        (guarded.url("MUTUAL"), "certificate"),
        # Let in, and allowed nothing.
        (guarded.url("SECRET", user=f"bob:{IN_A_URL}@", sasl="PLAIN"), "check user, password and sasl="),
    ):
        began = monotonic()
        with pytest.raises(EventStoreError) as caught:
            async with opened(KafkaUrl.parse(url), within=WITHIN) as engine:
                await engine.log.append([an_append(new_thread_id(), 0)], within=WITHIN)
        assert monotonic() - began < 2 * WITHIN
        assert isinstance(caught.value, LogUnavailable), (url, repr(caught.value))
        assert told in str(caught.value), url
        assert not re.search(f"wrong|never-made|{re.escape(PASSWORD)}|{re.escape(IN_A_URL)}", str(caught.value))


async def test_a_certificate_that_cannot_be_read_any_more_is_what_an_append_fails_of(guarded: Guarded) -> None:
    own = guarded.folder / "own.pem"
    shutil.copy(guarded.folder / "client.pem", own)
    async with opened(await made(guarded.url("MUTUAL", cert=str(own)), partitions=1), within=WITHIN) as engine:
        thread_id = new_thread_id()
        await engine.log.append([an_append(thread_id, 0)], within=WITHIN)
        own.unlink()
        engine.lose_its_session()
        with pytest.raises(LogUnavailable, match=r"own\.pem"):
            await engine.log.append([an_append(thread_id, 1)], within=0.5)
        shutil.copy(guarded.folder / "client.pem", own)
        await engine.log.append([an_append(thread_id, 1)], within=WITHIN)
