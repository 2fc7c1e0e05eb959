"""A server that wants a bearer token, and a store that shows one with every call."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore import LoadThreadHistoryParams, open_store
from eventstore.errors import EventStoreError, Rejected
from eventstore.settings import Settings
from tests.support.serve_rig import a_rig
from tests.support.threads import a_live_thread, said

TOKEN = "a-token-" + "1" * 20


async def test_whoever_shows_a_token_is_let_in_and_named_in_the_events(
    either: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"an-agent {TOKEN}\n")
    tokens.chmod(0o600)
    async with a_rig(either, tokens=tokens) as rig:
        url = f"grpc://{rig.server.address}"
        for wrong in ("", "another-" + "2" * 20):
            monkeypatch.setenv("EVENTSTORE_SERVER_TOKEN", wrong)
            with pytest.raises(EventStoreError, match="authorization: Bearer TOKEN") as told:
                async with open_store(url):
                    pass
            assert isinstance(told.value, Rejected)

        monkeypatch.setenv("EVENTSTORE_SERVER_TOKEN", TOKEN)
        async with open_store(url) as store:
            thread_id = await a_live_thread(store, "let in")
            assert ["let in"] == await said(store, thread_id)
            streamed = [item async for item in store.iter_history(LoadThreadHistoryParams(thread_id=thread_id))]
            assert 2 == len(streamed)
            await store.shutdown_thread(thread_id)

        assert {"an-agent"} == {record.actor for record in await rig.records(thread_id)}
