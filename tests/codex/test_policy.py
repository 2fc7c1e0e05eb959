"""The persistence policy, row by row of the contract's §3."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import JsonValue

from eventstore.codex.payloads import inner_type
from eventstore.codex.policy import EXEC_OUTPUT_BYTES, keeps, persisted
from eventstore.documents.items import RolloutItem
from eventstore.documents.params import ThreadEventPersistenceMode
from eventstore.documents.threads import ThreadHistoryMode

LEGACY, PAGINATED = ThreadHistoryMode.LEGACY, ThreadHistoryMode.PAGINATED
LIMITED, EXTENDED = ThreadEventPersistenceMode.LIMITED, ThreadEventPersistenceMode.EXTENDED

ALWAYS, LEGACY_ONLY, EXTENDED_ONLY, NEVER = (True, True, True), (True, True, False), (False, True, False), (False,) * 3
"""Kept by a legacy thread in Limited mode, in Extended mode, and by a paginated thread."""

EVENTS = {
    ALWAYS: "token_count thread_rolled_back turn_aborted task_started turn_started task_complete turn_complete"
    " thread_goal_updated thread_settings_applied",
    LEGACY_ONLY: "user_message agent_message agent_reasoning agent_reasoning_raw_content thread_name_updated"
    " context_compacted entered_review_mode exited_review_mode undo_completed image_generation_end sub_agent_activity",
    EXTENDED_ONLY: "patch_apply_end mcp_tool_call_end web_search_end error guardian_assessment exec_command_end"
    " view_image_tool_call collab_agent_spawn_end collab_agent_interaction_end collab_waiting_end collab_close_end"
    " collab_resume_end dynamic_tool_call_request dynamic_tool_call_response",
    NEVER: "warning guardian_warning realtime_conversation_started model_reroute model_verification"
    " agent_message_delta agent_reasoning_delta agent_reasoning_raw_content_delta agent_reasoning_section_break"
    " agent_message_content_delta plan_delta reasoning_content_delta reasoning_raw_content_delta raw_response_item"
    " session_configured mcp_tool_call_begin web_search_begin exec_command_begin exec_command_output_delta"
    " terminal_interaction exec_approval_request request_permissions request_user_input elicitation_request"
    " apply_patch_approval_request background_event stream_error patch_apply_begin patch_apply_updated turn_diff"
    " get_history_entry_response undo_started mcp_list_tools_response mcp_startup_update mcp_startup_complete"
    " list_skills_response skills_update_available plan_update shutdown_complete deprecation_notice item_started"
    " hook_started hook_completed collab_agent_spawn_begin image_generation_begin thread_queue_changed"
    " safety_buffering turn_moderation_metadata raw_response_completed environment_connected"
    " environment_disconnected never_heard_of",
}
RESPONSE_ITEMS = {
    ALWAYS: "message agent_message reasoning local_shell_call function_call function_call_output tool_search_call"
    " tool_search_output custom_tool_call custom_tool_call_output web_search_call image_generation_call compaction"
    " compaction_summary context_compaction",
    LEGACY_ONLY: "ghost_snapshot",
    NEVER: "additional_tools compaction_trigger other never_heard_of",
}
TOP_LEVEL = (
    "session_meta compacted turn_context world_state security_risk_score inter_agent_communication"
    " inter_agent_communication_metadata token_usage_record never_heard_of"
)

ROWS = (
    [("event_msg", name, kept) for kept, names in EVENTS.items() for name in names.split()]
    + [("response_item", name, kept) for kept, names in RESPONSE_ITEMS.items() for name in names.split()]
    + [(name, "anything", ALWAYS) for name in TOP_LEVEL.split()]
)


def verdicts(type_: str, text: str) -> tuple[bool, bool, bool]:
    return (
        keeps(type_, text, history_mode=LEGACY, event_mode=LIMITED),
        keeps(type_, text, history_mode=LEGACY, event_mode=EXTENDED),
        keeps(type_, text, history_mode=PAGINATED, event_mode=LIMITED),
    )


@pytest.mark.parametrize(("type_", "name", "kept"), ROWS, ids=[f"{row[0]}/{row[1]}" for row in ROWS])
def test_the_contracts_row(type_: str, name: str, kept: tuple[bool, bool, bool]) -> None:
    """Wherever in the payload the type stands."""
    assert verdicts(type_, json.dumps({"type": name, "rest": {"type": "warning"}})) == kept
    assert verdicts(type_, json.dumps({"rest": {"type": "warning"}, "type": name})) == kept


def test_the_event_mode_means_nothing_to_a_paginated_thread() -> None:
    for name in " ".join(EVENTS.values()).split():
        text = json.dumps({"type": name})
        assert keeps("event_msg", text, history_mode=PAGINATED, event_mode=EXTENDED) == keeps(
            "event_msg", text, history_mode=PAGINATED, event_mode=LIMITED
        )


@pytest.mark.parametrize(
    ("item", "kept"),
    [
        ({"type": "Plan", "text": "1. look"}, ALWAYS),
        ({"text": "1. look", "type": "Plan"}, ALWAYS),
        ({"type": "UserMessage", "content": []}, (False, False, True)),
        ({"type": "UserMessage", "content": [{"type": "text", "text": '"Plan"'}]}, (False, False, True)),
        ({"type": "CommandExecution", "aggregated_output": {"type": "Plan"}}, (False, False, True)),
        ("Plan", (False, False, True)),
    ],
)
def test_a_legacy_thread_keeps_a_completed_item_only_if_it_is_a_plan(
    item: object, kept: tuple[bool, bool, bool]
) -> None:
    assert verdicts("event_msg", json.dumps({"type": "item_completed", "item": item})) == kept


@pytest.mark.parametrize(
    "text", ["[]", "null", '"user_message"', "{}", '{"type":5}', '{"type":["message"]}', "not JSON"]
)
def test_a_payload_without_a_type_is_dropped_and_never_raises(text: str) -> None:
    assert verdicts("event_msg", text) == NEVER
    assert verdicts("response_item", text) == NEVER
    assert verdicts("world_state", text) == ALWAYS


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"type":"warning","message":"x"}', "warning"),
        (' {\n "type" : "warning" }', "warning"),
        ('{"a":1,"type":"warning"}', "warning"),
        ('{"type":"wa\\u0072ning"}', "warning"),
        ('{"typ":"warning"}', None),
    ],
)
def test_the_inner_type_is_found_however_it_is_written(text: str, kind: str | None) -> None:
    assert inner_type(text) == kind


def test_what_is_kept_keeps_its_order_and_what_is_not_is_named() -> None:
    items = [
        RolloutItem("event_msg", {"type": "user_message", "message": "hi"}),
        RolloutItem("event_msg", {"type": "agent_message_delta", "delta": "h"}),
        RolloutItem("response_item", {"type": "message", "role": "user", "content": []}),
        RolloutItem("response_item", {"type": "brand_new"}),
        RolloutItem("event_msg", ["odd"]),
        RolloutItem("world_state", {"full": True}),
    ]

    kept, dropped = persisted(items, history_mode=LEGACY, event_mode=LIMITED)

    assert kept == [items[0], items[2], items[5]]
    assert dropped == ["event_msg/agent_message_delta", "response_item/brand_new", "event_msg"]


def exec_end(**fields: JsonValue) -> RolloutItem:
    return RolloutItem("event_msg", {"type": "exec_command_end", "call_id": "c", "exit_code": 0, **fields})


def stored(item: RolloutItem) -> dict[str, Any]:
    (kept,), dropped = persisted([item], history_mode=LEGACY, event_mode=EXTENDED)
    assert not dropped
    payload: dict[str, Any] = kept.payload
    return payload


@pytest.mark.parametrize("sign", ["x", "é", "€", "😀", "\n", '"'])
def test_a_commands_output_is_cut_in_the_middle(sign: str) -> None:
    output = "begin" + sign * 50_000 + "end"

    cut = stored(exec_end(aggregated_output=output))["aggregated_output"]

    head, marker, tail = cut.split("…")
    assert output.startswith(head + sign)
    assert output.endswith(sign + tail)
    assert EXEC_OUTPUT_BYTES - 8 < len((head + tail).encode()) <= EXEC_OUTPUT_BYTES
    assert marker == f"{len(output) - len(head) - len(tail)} chars truncated"


def test_an_output_of_the_allowed_size_is_not_cut() -> None:
    output = "x" * EXEC_OUTPUT_BYTES
    assert stored(exec_end(aggregated_output=output))["aggregated_output"] == output


def test_a_commands_other_outputs_become_blank_and_all_else_stays() -> None:
    event = exec_end(aggregated_output="ok", stdout="ok", stderr="oh", formatted_output="ok", cwd="/srv")

    payload = stored(event)

    assert payload == event.payload | {"stdout": "", "stderr": "", "formatted_output": ""}
    assert "stdout" not in stored(exec_end())


def test_cutting_an_output_leaves_the_source_text_of_all_else() -> None:
    text = '{"type":"exec_command_end","n":12345678901234567890123,"f":1e400,"s":"\\ud800","stdout":"x"}'

    (kept,), _ = persisted([RolloutItem.from_text("event_msg", text)], history_mode=LEGACY, event_mode=EXTENDED)

    assert kept.text == text.replace('"x"', '""')


def test_no_other_event_is_altered() -> None:
    item = RolloutItem("event_msg", {"type": "patch_apply_end", "stdout": "x" * 20_000})
    assert persisted([item], history_mode=LEGACY, event_mode=EXTENDED) == ([item], [])
