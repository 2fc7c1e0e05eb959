"""Views of another fold are folded anew only if the fold's number says that it is another one."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256

import orjson
import pytest

from eventstore.documents.items import Position
from eventstore.events import Event, Field, Item, ItemsAppended, MetadataPatched, ThreadArchived, ThreadCreated
from eventstore.ids import EventId, ThreadId, WriterId
from eventstore.ports import Entry
from eventstore.state import head_to_json
from projections.fold import FOLD, fold, is_newer

THREAD = ThreadId("01a00000-0000-7000-8000-000000000001")
SAYS = {"thread_id": THREAD, "occurred_at": 1_760_000_000_000_000, "actor": "ann"}
META = (
    '{"id":"01a00000-0000-7000-8000-000000000001","timestamp":"2026-05-01T10:00:00.000Z","cwd":"/home/dev/p",'
    '"originator":"o","cli_version":"0.129.0","source":"cli","model_provider":"openai","git":{"branch":"main"}}'
)
ITEMS = (
    Item(1_760_000_001_000, "event_msg", '{"type":"user_message","message":"Why?"}'),
    Item(1_760_000_002_000, "turn_context", '{"cwd":"/x","model":"m","effort":"high","approval_policy":"never"}'),
    Item(1_760_000_003_000, "event_msg", '{"type":"token_count","info":{"total_token_usage":{"total_tokens":7}}}'),
    Item(1_760_000_004_000, "event_msg", '{"type":"thread_name_updated","thread_name":"Named"}'),
)
LOG: list[Event] = [
    ThreadCreated(
        event_id=EventId("e1"),
        writer_id=WriterId("w"),
        writer_seq=0,
        session_meta=Item(1_760_000_000_000, "session_meta", META),
        **SAYS,  # type: ignore[arg-type]
    ),
    ItemsAppended(event_id=EventId("e2"), writer_id=WriterId("w"), writer_seq=1, items=ITEMS, **SAYS),  # type: ignore[arg-type]
    MetadataPatched(event_id=EventId("e3"), commands_seen=0, fields=(Field("git_sha", '"c"'),), **SAYS),  # type: ignore[arg-type]
    ThreadArchived(event_id=EventId("e4"), commands_seen=1, **SAYS),  # type: ignore[arg-type]
]


def test_who_changes_what_the_fold_gives_raises_its_number() -> None:
    """If this fails, the same log gives other views than before: raise `FOLD`, and write the new digest here."""
    folded = fold({}, [Entry(Position(0, n), THREAD, event) for n, event in enumerate(LOG)])
    state = folded.changes[THREAD].after
    seen = orjson.dumps([head_to_json(state.head), asdict(state.summary), state.start], option=orjson.OPT_SORT_KEYS)

    assert (FOLD, sha256(seen).hexdigest()[:16]) == (1, "e4997a7b83e07225")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("1/1-ffffffff", "2/1-00000000"), ("2/1-ffffffff", "2/2-00000000"), ("9/1-0", "10/1-0"), ("2/1-0a", "2/1-0b")],
)
def test_of_any_two_folds_one_is_the_later(monkeypatch: pytest.MonkeyPatch, earlier: str, later: str) -> None:
    for ours, theirs, expected in ((earlier, later, True), (later, earlier, False), (earlier, earlier, False)):
        monkeypatch.setattr("projections.fold.fold_in_force", lambda ours=ours: ours)
        assert expected is is_newer(theirs)
    assert not is_newer("of another program")
