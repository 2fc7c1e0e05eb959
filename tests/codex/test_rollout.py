"""Rollout lines, file names, session_metas and the names index: contract §1.5, §1.6, §2.11, §4.3, §8 B and K."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.codex import rollout
from eventstore.codex.metadata import EMPTY, apply_facts, observe
from eventstore.codex.names import NameEntry, format_name, read_names
from eventstore.codex.rollout import BadLine, MalformedLine, format_line, parse_line, read_lines
from eventstore.codex.rolloutfiles import RolloutName, parse_rollout_name, rollout_name
from eventstore.codex.sessionmeta import amended_session_meta, new_session_meta, renamed, session_meta_of
from eventstore.documents.params import BaseInstructions, CreateThreadParams, ThreadPersistenceMetadata
from eventstore.documents.threads import GitInfo, HistoryPosition, ThreadHistoryMode, ThreadMemoryMode
from eventstore.events import Item
from eventstore.ids import ThreadId

OWN = ThreadId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10")
OTHER = ThreadId("019dbb57-91c2-7e01-8a11-0a5d3f2b9c44")
STAMP, MILLIS = "2026-04-23T17:20:31.482Z", 1776964831482
PLAIN = f'{{"timestamp":"{STAMP}","type":"event_msg","payload":{{"type":"agent_message","message":"hi"}}}}'


def exactly(text: str) -> Any:
    """Parse with numbers as their source text, for comparison digit by digit."""
    return json.loads(text, parse_int=lambda digits: ("number", digits), parse_float=lambda digits: ("number", digits))


def parsed(line: str | bytes) -> Item:
    item = parse_line(line)
    assert item is not None
    return item


def test_codexs_own_layout() -> None:
    assert parsed(PLAIN) == Item(MILLIS, "event_msg", '{"type":"agent_message","message":"hi"}')
    assert parsed(PLAIN.encode() + b"\r\n") == parsed(PLAIN)
    assert format_line(parsed(PLAIN)) == PLAIN


def test_a_line_of_a_paginated_thread() -> None:
    line = f'{{"timestamp":"{STAMP}","ordinal":7,"type":"world_state","payload":{{"full":true}}}}'
    assert parsed(line) == Item(MILLIS, "world_state", '{"full":true}', '{"ordinal":7}')
    assert format_line(parsed(line)) == line


def test_other_keys_are_kept_in_order_with_their_source_text() -> None:
    line = f'{{"z": 1.50,"payload": {{"a" : 1}} ,"timestamp":"{STAMP}",'
    line += '"metadata":{"b": [1e400]},"type":"x","ordinal":0}'
    item = parsed(line)
    assert item == Item(MILLIS, "x", '{"a" : 1}', '{"z":1.50,"metadata":{"b": [1e400]},"ordinal":0}')
    assert format_line(item) == (
        f'{{"timestamp":"{STAMP}","ordinal":0,"type":"x","payload":{{"a" : 1}},"z":1.50,"metadata":{{"b": [1e400]}}}}'
    )


PAYLOADS = [
    '{"n":12345678901234567890123}',
    "1e400",
    "-0.0",
    r'{"lone":"\ud83d"}',
    r'"\u0000\/"',
    '{"twice":1,"twice":2}',
    "[]",
    "null",
    '"text"',
    "1" * 5000,
    "[" * 200 + "]" * 200,
    '{"é":"😀\u2028"}',
    '{"looks like":"},\\"m\\":{"}',
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
@pytest.mark.parametrize(
    "form", ['"type":"x","payload":{}', '"payload":{},"type":"x"', '"type":"x","payload":{},"m":0']
)
def test_a_payload_keeps_its_source_text_whatever_it_is(payload: str, form: str) -> None:
    line = f'{{"timestamp":"{STAMP}",' + form.replace("{}", payload) + "}"
    assert parsed(line).payload == parsed(line.encode()).payload == payload
    assert exactly(format_line(parsed(line))) == exactly(line)


STAMPS = {
    '"2026-04-23T17:20:31Z"': 1776964831000,
    '"2026-04-23T17:20:31.482123456Z"': MILLIS,
    '"2026-04-23T19:20:31.482+02:00"': MILLIS,
    '"2026-04-23t17:20:31.482z"': MILLIS,
    r'"2026\u002d04-23T17:20:31.482Z"': MILLIS,
    '"1969-12-31T23:59:59.999Z"': -1,
    "1776964831": 5,
    "null": 5,
    '["2026"]': 5,
}


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_timestamp_of_another_form_is_written_again_as_it_was(stamp: str) -> None:
    line = f'{{"timestamp":{stamp},"type":"x","payload":{{}}}}'
    item = parse_line(line, at=5)
    assert item is not None
    assert item.at == STAMPS[stamp]
    assert exactly(format_line(item)) == exactly(line)


def test_a_canonical_timestamp_is_not_kept_twice() -> None:
    assert parsed(f'{{"timestamp" : "{STAMP}","type":"x","payload":{{}}}}').extras is None


def test_a_line_without_a_timestamp_is_written_again_without_one() -> None:
    line = '{"type":"x","payload":{},"m":1}'
    item = parse_line(line, at=5)
    assert item is not None
    assert item.at == 5
    assert exactly(format_line(item)) == exactly(line)


@pytest.mark.parametrize("blank", ["", "\n", " \t\r\n", b"", b" \n"])
def test_a_blank_line_is_nothing(blank: str | bytes) -> None:
    assert parse_line(blank) is None


BAD: dict[str, tuple[str | bytes, str]] = {
    "not JSON": ("hello", "not a JSON object"),
    "torn": (PLAIN[:-9], "not a JSON object"),
    "two values": (PLAIN + PLAIN, "more than one JSON value"),
    "a list": ("[1]", "not a JSON object"),
    "a trailing comma": (PLAIN[:-1] + ",}", "key is missing"),
    "a leading zero": (PLAIN[:-1] + ',"a":01}', "not a JSON object"),
    "NaN": (f'{{"timestamp":"{STAMP}","type":"x","payload":NaN}}', "NaN is not JSON"),
    "-Infinity": (f'{{"timestamp":"{STAMP}","type":"x","payload":[-Infinity]}}', "-Infinity is not JSON"),
    "no type": (f'{{"timestamp":"{STAMP}","payload":{{}}}}', "no type"),
    "a type that is none": (f'{{"timestamp":"{STAMP}","type":5,"payload":{{}}}}', "no type"),
    "half a type": (rf'{{"timestamp":"{STAMP}","type":"\ud83d","payload":{{}}}}', "type '\\ud83d' is not UTF-8"),
    "no payload": (f'{{"timestamp":"{STAMP}","type":"x"}}', "no payload"),
    "an empty object": ("{}", "no type"),
    "an empty payload": (f'{{"timestamp":"{STAMP}","type":"x","payload":}}', "not a JSON object"),
    "a time that is none": (PLAIN.replace("04-23", "02-30"), "timestamp '2026-02-30T17:20:31.482Z' is none"),
    "a time of day only": (PLAIN.replace(STAMP, "17:20"), "timestamp '17:20' is none"),
    "an empty time": (PLAIN.replace(STAMP, ""), "timestamp '' is none"),
    "a key twice": (PLAIN[:-1] + ',"type":"y"}', "the key 'type' is there twice"),
    "a key twice, in disguise": (PLAIN[:-1] + r',"a":1,"\u0061":2}', "the key 'a' is there twice"),
    "a control character": (PLAIN.replace("hi", "h\x01"), "not a JSON object"),
    "invalid UTF-8": (PLAIN.encode().replace(b"hi", b"\xff\xfe"), "not UTF-8"),
    "an encoded surrogate": (PLAIN.encode().replace(b"hi", b"\xed\xa0\xbd"), "not UTF-8"),
    "a lone surrogate in text": (PLAIN.replace("hi", "\ud83d"), "not UTF-8"),
    "too deep": (PLAIN[:-1] + ',"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    "a deep payload": (f'{{"timestamp":"{STAMP}","type":"x","payload":' + "[" * 100_000 + "}", "nested too deeply"),
    "a byte order mark": ("\ufeff" + PLAIN, "not a JSON object"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_line_says_why(name: str) -> None:
    line, why = BAD[name]
    with pytest.raises(MalformedLine, match=re.escape(why)):
        parse_line(line)


JSON_TEXTS = st.recursive(
    st.sampled_from(["null", "true", "-1", "1.50", "1E+400", "12345678901234567890123", r'"\ud83d"', '"é\\n"'])
    | st.text(max_size=4).map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda texts: "[ " + " , ".join(texts) + "]")
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(
            lambda pairs: "{" + ",".join(f"{json.dumps(key)} :{text}" for key, text in pairs.items()) + "}"
        )
    ),
    max_leaves=5,
)
OTHER_KEYS = st.text(max_size=3).filter(lambda key: key not in ("timestamp", "type", "payload"))


@st.composite
def lines(draw: st.DrawFn) -> str:
    moment = draw(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 - UTC
    stamp = moment.isoformat(timespec=draw(st.sampled_from(["milliseconds", "seconds", "microseconds"]))) + "Z"
    pairs = [("type", json.dumps(draw(st.text(max_size=5)))), ("payload", draw(JSON_TEXTS))]
    if draw(st.booleans()):
        pairs.append(("timestamp", json.dumps(stamp)))
    if draw(st.booleans()):
        pairs.append(("ordinal", str(draw(st.integers(0, 9)))))
    pairs += draw(st.dictionaries(OTHER_KEYS.filter(lambda key: key != "ordinal"), JSON_TEXTS, max_size=2)).items()
    gap = draw(st.sampled_from(["", " ", "\t"]))
    return "{" + ",".join(f"{gap}{json.dumps(key)}:{gap}{text}" for key, text in draw(st.permutations(pairs))) + "}"


@given(lines())
@settings(max_examples=300)
def test_what_was_read_is_written_as_the_same_json(line: str) -> None:
    item = parsed(line)
    assert item.payload in line
    assert exactly(format_line(item)) == exactly(line)
    assert parse_line(format_line(item), at=item.at) is not None
    assert format_line(parsed(format_line(item))) == format_line(item)


@given(payload=JSON_TEXTS, ordinal=st.none() | st.integers(0, 10**6), millis=st.integers(-(10**13), 2 * 10**14))
@settings(max_examples=200)
def test_both_ways_of_reading_agree(payload: str, ordinal: int | None, millis: int) -> None:
    """One space before the type takes the line off the fast path and must change nothing."""
    fast = format_line(Item(millis, "x", payload, None if ordinal is None else f'{{"ordinal":{ordinal}}}'))
    slow = fast.replace('"type":', ' "type":', 1)
    assert (
        parsed(fast)
        == parsed(slow)
        == Item(millis, "x", payload, None if ordinal is None else f'{{"ordinal":{ordinal}}}')
    )


def test_comparison_as_text_can_tell_numbers_apart() -> None:
    assert exactly("[1.50]") != exactly("[1.5]")
    assert exactly("[1e400]") != exactly("[2e400]")


@pytest.mark.parametrize("fast", [True, False])
def test_codexs_own_layout_does_not_need_the_exact_reading(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """Import lives on it. A line with another key is read exactly, which shows that the trap works."""

    def trap(source: bytes) -> None:
        raise AssertionError("the exact reading was used")

    monkeypatch.setattr(rollout, "_members_of", trap)
    if fast:
        parsed(PLAIN)
        return
    with pytest.raises(AssertionError, match="exact reading"):
        parsed(PLAIN[:-1] + ',"m":1}')


def test_a_line_break_between_json_tokens_does_not_break_the_line() -> None:
    item = Item(MILLIS, "x", '{\r\n "a": "b\\n"\n}')
    assert "\n" not in format_line(item)
    assert json.loads(format_line(item))["payload"] == {"a": "b\n"}


def test_any_time_and_type_can_be_written() -> None:
    line = json.loads(format_line(Item(2**62, 'a "type"\ud83d', "{}")))
    assert line == {"timestamp": "9999-12-31T23:59:59.999Z", "type": 'a "type"\ud83d', "payload": {}}


def test_a_byte_order_mark_is_none_of_a_files_text() -> None:
    file = io.BytesIO(b"\xef\xbb\xbf" + f"{PLAIN}\n".encode() + b"\xef\xbb\xbf" + PLAIN.encode())

    first, second = read_lines(file)

    assert first == parsed(PLAIN)
    assert isinstance(second, BadLine), "anywhere else it is something odd"


def test_reading_a_file_goes_on_after_bad_lines() -> None:
    file = io.BytesIO(f'{PLAIN}\n\n{{"torn\n{PLAIN}\r\n{{"type":"x","payload":1}}\n{{"type":"y"}}'.encode())

    first, bad, second, timeless, last = read_lines(file)

    assert first == second == parsed(PLAIN)
    assert isinstance(bad, BadLine)
    assert bad.line_number == 3
    assert "not a JSON object" in bad.why
    assert isinstance(timeless, Item)
    assert timeless.at == MILLIS
    assert last == BadLine(6, "it has no payload")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"rollout-2026-11-22T12-32-11-{OWN}.jsonl", RolloutName(datetime(2026, 11, 22, 12, 32, 11, tzinfo=UTC), OWN)),
        (
            f"rollout-2026-11-22T12-32-11-{OWN.upper()}_{OTHER}.jsonl",
            RolloutName(datetime(2026, 11, 22, 12, 32, 11, tzinfo=UTC), OWN),
        ),
        (f"rollout-2026-13-22T12-32-11-{OWN}.jsonl", None),
        (f"rollout-2026-11-22T12-32-{OWN}.jsonl", None),
        (f"rollout-2026-11-22T12:32:11-{OWN}.jsonl", None),
        ("rollout-2026-11-22T12-32-11-no-uuid.jsonl", None),
        (f"rollout-2026-11-22T12-32-11-{OWN}.json", None),
        (f"rollout-2026-11-22T12-32-11-{OWN}.jsonl.tmp", None),
        (f"rollout-2026-11-22T12-32-11-{OWN}.jsonl\n", None),
        (f"x-rollout-2026-11-22T12-32-11-{OWN}.jsonl", None),
        (f"{OWN}.jsonl", None),
    ],
)
def test_only_rollout_files_are_called_so(name: str, expected: RolloutName | None) -> None:
    assert parse_rollout_name(name) == expected


def test_a_files_name_is_read_as_it_is_written() -> None:
    created = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    assert rollout_name(created, OWN) == f"rollout-2026-01-02T03-04-05-{OWN}.jsonl"
    assert parse_rollout_name(rollout_name(created, OWN)) == RolloutName(created.replace(microsecond=0), OWN)


def created(**params: Any) -> dict[str, Any]:
    item = new_session_meta(CreateThreadParams(thread_id=OWN, **params), at_millis=MILLIS)
    assert (item.at, item.type, item.extras) == (MILLIS, "session_meta", None)
    payload: dict[str, Any] = json.loads(item.payload)
    return payload


def test_a_session_meta_has_what_is_always_written_and_nothing_else() -> None:
    assert list(created().items()) == [
        ("id", OWN),
        ("timestamp", STAMP),
        ("cwd", ""),
        ("originator", "eventstore"),
        ("cli_version", ""),
        ("source", "cli"),
        ("model_provider", "openai"),
        ("base_instructions", None),
    ]


def test_a_session_meta_of_all_that_can_be_set() -> None:
    tool = {"name": "t", "description": "d", "inputSchema": {}, "deferLoading": False}
    source = {"subagent": {"thread_spawn": {"parent_thread_id": OTHER, "depth": 1, "agent_nickname": "Ada"}}}
    base = HistoryPosition(thread_id=OTHER, end_ordinal_exclusive=3, end_byte_offset=9)
    payload = created(
        forked_from_id=OTHER,
        source=source,
        base_instructions=BaseInstructions(text="be kind"),
        dynamic_tools=(tool,),
        session_id=OWN,
        parent_thread_id=OTHER,
        thread_source="subagent",
        originator="me",
        cli_version="1.2",
        history_mode=ThreadHistoryMode.PAGINATED,
        history_base=base,
        metadata=ThreadPersistenceMetadata(cwd="/srv", model_provider="p", memory_mode=ThreadMemoryMode.DISABLED),
    )
    assert payload == {
        "session_id": OWN,
        "id": OWN,
        "forked_from_id": OTHER,
        "parent_thread_id": OTHER,
        "timestamp": STAMP,
        "cwd": "/srv",
        "originator": "me",
        "cli_version": "1.2",
        "source": source,
        "thread_source": "subagent",
        "agent_nickname": "Ada",
        "model_provider": "p",
        "base_instructions": {"text": "be kind"},
        "dynamic_tools": [tool],
        "memory_mode": "disabled",
        "history_mode": "paginated",
        "history_base": base.model_dump(),
    }


def test_an_enabled_memory_and_a_legacy_history_are_not_written() -> None:
    assert not created().keys() & {"memory_mode", "history_mode", "history_base", "dynamic_tools", "forked_from_id"}


def test_a_session_meta_tells_the_threads_identity() -> None:
    base = HistoryPosition(thread_id=OTHER, end_ordinal_exclusive=3, end_byte_offset=9)
    params = CreateThreadParams(
        thread_id=OWN, forked_from_id=OTHER, history_mode=ThreadHistoryMode.PAGINATED, history_base=base
    )
    assert session_meta_of(new_session_meta(params, at_millis=1)) == (OWN, OTHER, ThreadHistoryMode.PAGINATED, base)
    plain = new_session_meta(CreateThreadParams(thread_id=OWN), at_millis=1)
    assert session_meta_of(plain) == (OWN, None, ThreadHistoryMode.LEGACY, None)


@pytest.mark.parametrize("payload", ["[]", "{}", '{"id":5}', '{"id":"x"}', "not JSON"])
def test_what_is_no_session_meta_tells_nothing(payload: str) -> None:
    assert session_meta_of(Item(1, "session_meta", payload)) is None
    assert session_meta_of(Item(1, "event_msg", f'{{"id":"{OWN}"}}')) is None


FIRST = Item(1, "session_meta", f'{{"id":"{OWN}","big":12345678901234567890123,"cwd":"/a"}}', '{"ordinal":0}')


def test_a_rename_is_an_event() -> None:
    item = renamed(OWN, "Fix it", at_millis=MILLIS)
    assert format_line(item) == (
        f'{{"timestamp":"{STAMP}","type":"event_msg","payload":'
        f'{{"type":"thread_name_updated","thread_id":"{OWN}","thread_name":"Fix it"}}}}'
    )
    assert apply_facts(EMPTY, observe(OWN, [item])).name == "Fix it"


def test_memory_and_git_are_a_changed_copy_of_the_first_session_meta() -> None:
    item = amended_session_meta(
        FIRST, at_millis=5, memory_mode=ThreadMemoryMode.DISABLED, git=GitInfo(commit_hash="c", repository_url="u")
    )
    assert item == Item(
        5,
        "session_meta",
        FIRST.payload[:-1] + ',"memory_mode":"disabled","git":{"commit_hash":"c","branch":null,"repository_url":"u"}}',
    )


def test_a_copy_says_again_what_it_does_not_change() -> None:
    both = amended_session_meta(FIRST, at_millis=5, memory_mode=ThreadMemoryMode.DISABLED, git=GitInfo(branch="b"))
    memory = amended_session_meta(both, at_millis=6, memory_mode=ThreadMemoryMode.ENABLED)
    assert json.loads(memory.payload) == {**json.loads(both.payload), "memory_mode": "enabled"}
    assert amended_session_meta(both, at_millis=1).payload == both.payload


def test_clearing_all_of_git_writes_an_empty_object() -> None:
    assert json.loads(amended_session_meta(FIRST, at_millis=5, git=GitInfo()).payload)["git"] == {}


def test_git_survives_being_written_and_read_again() -> None:
    states = [GitInfo(commit_hash="c", branch="b", repository_url="u"), GitInfo(commit_hash="c"), GitInfo()]
    items: list[Item] = []
    for git in states:
        items.append(parsed(format_line(amended_session_meta(FIRST, at_millis=5, git=git))))
        summary = apply_facts(EMPTY, observe(OWN, items))
        assert (summary.git_sha, summary.git_branch, summary.git_origin) == tuple(git.model_dump().values())


def test_the_newest_name_of_a_thread_counts() -> None:
    index = "\n".join(
        [
            format_name(OWN, "x", updated_at=1),
            "garbage",
            "",
            '{"id":"x","thread_name":"y"}',
            "[]",
            format_name(OTHER, "o", updated_at=MILLIS * 1000),
            format_name(OWN, " y ", updated_at=2),
            f'{{"id":"{OTHER}","thread_name":5}}',
        ]
    )
    names = read_names(io.BytesIO(index.encode()))
    assert list(names.items()) == [(OTHER, NameEntry("o", MILLIS * 1000)), (OWN, NameEntry("y", 2))]


def test_a_blank_name_clears() -> None:
    entries = [format_name(OWN, "x", updated_at=1), format_name(OWN, None, updated_at=2)]
    assert read_names(entry.encode() for entry in entries) == {OWN: NameEntry(None, 2)}
    assert json.loads(entries[1]) == {"id": OWN, "thread_name": "", "updated_at": "1970-01-01T00:00:00.000002Z"}


def test_a_name_with_a_time_of_another_form() -> None:
    line = f'{{"id":"{OWN.upper()}","thread_name":"n","updated_at":"2026-11-22T12:32:09.762738435Z"}}'
    assert read_names([line.encode()]) == {OWN: NameEntry("n", 1795350729762738)}
    assert read_names([line.replace("2026", "soon").encode()]) == {OWN: NameEntry("n", None)}
