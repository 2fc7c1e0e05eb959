"""Which items of a live thread are kept: the persistence policy (contract §3).

Every store applies it to what callers append; initial session_meta lines and metadata updates never pass here.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.codex.payloads import Member, inner_type, joined, members, parsed_object, type_first
from eventstore.documents.items import RolloutItem, parsed_item
from eventstore.documents.params import ThreadEventPersistenceMode
from eventstore.documents.threads import ThreadHistoryMode
from eventstore.jsontext import MalformedJson, dumps, loads

EXEC_OUTPUT_BYTES = 10_000
"""How much of a command's output the Extended mode keeps, UTF-8 bytes (contract §3.4)."""

_RESPONSE_ITEMS = frozenset(
    {
        "message",
        "agent_message",
        "reasoning",
        "local_shell_call",
        "function_call",
        "function_call_output",
        "tool_search_call",
        "tool_search_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "web_search_call",
        "image_generation_call",
        "compaction",
        "compaction_summary",
        "context_compaction",
    }
)
RESPONSE_ITEMS = {
    ThreadHistoryMode.LEGACY: _RESPONSE_ITEMS | {"ghost_snapshot"},
    ThreadHistoryMode.PAGINATED: _RESPONSE_ITEMS,
}
"""The response items that are kept, by history mode (§3.3)."""

PAGINATED_EVENTS = frozenset(
    {
        "token_count",
        "thread_rolled_back",
        "turn_aborted",
        "task_started",
        "turn_started",
        "task_complete",
        "turn_complete",
        "item_completed",
        "thread_goal_updated",
        "thread_settings_applied",
    }
)
"""The events that paginated threads keep (§3.4, newer)."""

LIMITED_EVENTS = frozenset(
    {
        "user_message",
        "agent_message",
        "agent_reasoning",
        "agent_reasoning_raw_content",
        "token_count",
        "thread_name_updated",
        "context_compacted",
        "entered_review_mode",
        "exited_review_mode",
        "thread_rolled_back",
        "undo_completed",
        "turn_aborted",
        "task_started",
        "turn_started",
        "task_complete",
        "turn_complete",
        "image_generation_end",
        # Unknown to the seed, kept by the newer column for legacy threads.
        "thread_goal_updated",
        "thread_settings_applied",
        "sub_agent_activity",
    }
)
"""The events that legacy threads keep in either mode (§3.4, seed); of item_completed, see `keeps`."""

EXTENDED_EVENTS = LIMITED_EVENTS | {
    "patch_apply_end",
    "mcp_tool_call_end",
    "web_search_end",
    "error",
    "guardian_assessment",
    "exec_command_end",
    "view_image_tool_call",
    "collab_agent_spawn_end",
    "collab_agent_interaction_end",
    "collab_waiting_end",
    "collab_close_end",
    "collab_resume_end",
    "dynamic_tool_call_request",
    "dynamic_tool_call_response",
}
"""The events that legacy threads keep in Extended mode (§3.4, seed)."""

_BLANKED = frozenset({"stdout", "stderr", "formatted_output"})


def keeps(
    type: str,  # noqa: A002 - the contract's name
    text: str,
    *,
    history_mode: ThreadHistoryMode,
    event_mode: ThreadEventPersistenceMode,
) -> bool:
    """Whether an item of this type and payload (JSON text) belongs into the history.

    Unknown top-level types are kept, unknown events and response items are not. `event_mode` matters to legacy
    threads only: the newer column knows no such mode.
    """
    if type == "response_item":
        return inner_type(text) in RESPONSE_ITEMS[history_mode]
    if type == "event_msg":
        return _keeps_event(text, history_mode, event_mode)
    return True


def persisted(
    items: Sequence[RolloutItem],
    *,
    history_mode: ThreadHistoryMode,
    event_mode: ThreadEventPersistenceMode,
) -> tuple[list[RolloutItem], list[str]]:
    """Split an append: the items to keep, in order, and labels (`event_msg/warning`) of the others, in order.

    Items are kept as they are, but for the outputs of a legacy thread's exec_command_end (§3.4).
    """
    kept: list[RolloutItem] = []
    dropped: list[str] = []
    answers = RESPONSE_ITEMS[history_mode]
    for item in items:
        # Most items are these, and told without a call for each of them.
        if item.type == "response_item" and (found := type_first(item.text)) is not None and found[1] in answers:
            kept.append(item)
        elif keeps(item.type, item.text, history_mode=history_mode, event_mode=event_mode):
            kept.append(_sanitised(item))
        else:
            kind = inner_type(item.text)
            dropped.append(item.type if kind is None else f"{item.type}/{kind}")
    return kept, dropped


def _keeps_event(text: str, history_mode: ThreadHistoryMode, event_mode: ThreadEventPersistenceMode) -> bool:
    kind = inner_type(text)
    if history_mode is ThreadHistoryMode.PAGINATED:
        return kind in PAGINATED_EVENTS
    if kind == "item_completed":
        return _completes_a_plan(text)
    return kind in (EXTENDED_EVENTS if event_mode is ThreadEventPersistenceMode.EXTENDED else LIMITED_EVENTS)


def _completes_a_plan(text: str) -> bool:
    if '"Plan"' not in text:  # spares parsing whole command outputs
        return False
    payload = parsed_object(text)
    item = None if payload is None else payload.get("item")
    return isinstance(item, dict) and item.get("type") == "Plan"


def _sanitised(item: RolloutItem) -> RolloutItem:
    if item.type != "event_msg" or inner_type(item.text) != "exec_command_end":
        return item
    try:
        parts = [_sanitised_member(part) for part in members(item.text)]
    except MalformedJson:
        return item
    return parsed_item(item.type, joined(parts))


def _sanitised_member(part: Member) -> Member:
    if part.key in _BLANKED:
        return part._replace(text='""')
    if part.key != "aggregated_output" or not part.text.startswith('"'):
        return part
    output = loads(part.text)
    cut = _middle_cut(output)
    return part if cut == output else part._replace(text=dumps(cut))


def _middle_cut(output: str) -> str:
    """Keep the first and the last half of the allowed bytes, whole characters only."""
    source = output.encode("utf-8", "surrogatepass")
    if len(source) <= EXEC_OUTPUT_BYTES:
        return output
    half = EXEC_OUTPUT_BYTES // 2
    # Cut marks inside a character leave broken bytes at the cut only; "ignore" takes them away.
    head, tail = source[:half].decode("utf-8", "ignore"), source[-half:].decode("utf-8", "ignore")
    return f"{head}…{len(output) - len(head) - len(tail)} chars truncated…{tail}"
