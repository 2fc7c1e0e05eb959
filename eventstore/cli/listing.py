"""`list` and `show`: which threads there are, and what is known of one."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventstore.cli.opening import (
    ThreadArgument,
    TokensOption,
    absolute,
    given_path,
    holds_nothing,
    resolve,
    settings_of,
    with_store,
    with_threads,
)
from eventstore.cli.printing import counted, local, one_line, print_facts, print_json, print_table, short_ids, shown
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.cli.opening import Threads
    from eventstore.documents.params import ListThreadsParams
    from eventstore.documents.threads import StoredThread, ThreadPage
    from eventstore.wiring import Parts

_DAMAGED = "DAMAGED "
"""Stands before the name of a thread that cannot be read on; `show` and `events` say why."""

_WITH_SECRET = re.compile("((?:kafka|rediss?)://).*@")


class SortBy(StrEnum):
    CREATED = "created"
    UPDATED = "updated"


def list_(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="How many threads a page has.")] = 25,
    cursor: Annotated[
        str | None, typer.Option(metavar="C", help="Go on behind this; each page names the next, a time will do.")
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="The archived threads instead of the others.")] = False,
    sort: Annotated[SortBy, typer.Option(help="By which date.")] = SortBy.UPDATED,
    ascending: Annotated[bool, typer.Option("--asc", help="Oldest first.")] = False,
    source: Annotated[
        list[str] | None, typer.Option(metavar="S", help="Only threads that this started: cli, exec, … Repeatable.")
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option(metavar="P", help="Only threads of this model provider. Repeatable.")
    ] = None,
    cwd: Annotated[
        list[Path] | None,
        typer.Option(metavar="D", help="Only threads of this directory. Repeatable.", parser=given_path),
    ] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TERM", help="Only threads with this in name or first message.")
    ] = None,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="The threads that cannot be read on, and why, whatever their state.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Wait for what was logged a moment ago and is not in the views yet.")
    ] = False,
    at_least: TokensOption = None,
    json: Annotated[bool, typer.Option("--json", help='One document: {"items": […], "next_cursor": …}.')] = False,
) -> int:
    """List threads, those you worked on last first."""
    if damaged:
        _must_stand_alone(context)
        return with_store(context, lambda parts: _print_damaged(parts, json))

    async def work(store: Threads) -> None:
        from eventstore.documents.fields import is_utf8
        from eventstore.documents.params import ListThreadsParams, SortDirection, ThreadSortKey
        from eventstore.tokens import merged

        folders = tuple(absolute(folder) for folder in cwd or ())
        for text in (*(source or ()), *(provider or ()), *folders, search or ""):
            if not is_utf8(text):
                raise InvalidRequest(f"{text!r} is not UTF-8 text; give it in the encoding of your terminal")
        # Nothing else is left to check, and a validator takes longer to build than the page to read.
        asked = ListThreadsParams.model_construct(
            page_size=limit,
            cursor=cursor,
            sort_key=ThreadSortKey.CREATED_AT if sort is SortBy.CREATED else ThreadSortKey.UPDATED_AT,
            sort_direction=SortDirection.ASC if ascending else SortDirection.DESC,
            allowed_sources=tuple(_source(text) for text in source or ()),
            model_providers=tuple(provider) if provider else None,
            cwd_filters=folders or None,
            archived=archived,
            search_term=search,
            exact=exact,
            at_least=merged(at_least or ()),
        )
        page = await store.list_threads(asked)
        if json:
            print_json(page.model_dump_json(indent=2))
        else:
            _print_page(page, asked, sort, yet=holds_nothing(settings_of(context, threads_suffice=True)))

    return with_threads(context, work)


def _must_stand_alone(context: typer.Context) -> None:
    """Refuse what `--damaged` would not heed."""
    for option in context.command.params:
        if option.name in (None, "damaged", "json"):
            continue
        source = context.get_parameter_source(option.name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidRequest(f"--damaged lists every thread that cannot be read on; leave {option.opts[0]} away")


async def _print_damaged(parts: Parts, as_json: bool) -> None:
    from eventstore.jsontext import dumps

    await parts.views.matching("0", limit=1)  # returns once the views have followed the log to its end
    frozen = [pair for census in await parts.censuses() if census is not None for pair in census.frozen]
    if as_json:
        items = [{"thread_id": thread_id, "damaged": why} for thread_id, why in sorted(frozen)]
        print_json(dumps({"items": items, "next_cursor": None}))
    elif not frozen:
        print("no thread is damaged")
    else:
        print_table(("ID", "WHY"), [(thread_id, one_line(why)) for thread_id, why in sorted(frozen)])
        print("once eventstore is upgraded to a version that understands them: eventstore retry ID", file=sys.stderr)


def show(
    context: typer.Context,
    thread: ThreadArgument,
    at_least: TokensOption = None,
    json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
) -> int:
    """Show what is known of a thread."""

    async def work(store: Threads) -> None:
        from eventstore.documents.params import ReadThreadParams
        from eventstore.tokens import merged

        thread_id = await resolve(store, thread)
        found = await store.read_thread(
            ReadThreadParams(thread_id=thread_id, include_archived=True, at_least=merged(at_least or ()))
        )
        if json:
            print_json(found.model_dump_json(indent=2, exclude={"history"}))
        else:
            print_facts(list(_facts(found)))

    return with_threads(context, work)


def _source(text: str) -> Any:
    """Return a session source: a word, or an object given as JSON (contract §1.5)."""
    if not text.startswith("{"):
        return text
    from eventstore.jsontext import MalformedJson, loads

    try:
        return loads(text)
    except MalformedJson as exc:
        raise InvalidRequest(f"the source {text!r} is not JSON: {exc}") from exc


def _print_page(page: ThreadPage, asked: ListThreadsParams, sort: SortBy, *, yet: bool) -> None:
    """Print the page; `yet` says of an empty one that nothing was ever kept."""
    if not page.items and page.next_cursor is not None:
        # Shared views look through so many threads at once and no more, however rare what is looked for.
        print(f"none among those looked at; more: {_same_again(page.next_cursor)}", file=sys.stderr)
        return
    if not page.items:
        none = "no threads" if asked.cursor is None else "no more threads"
        print(f"{none} yet; eventstore import PATH and eventstore new make some" if yet else none, file=sys.stderr)
        return
    ids = short_ids([thread.thread_id for thread in page.items])
    rows = [
        (
            ids[thread.thread_id],
            local(thread.created_at if sort is SortBy.CREATED else thread.updated_at),
            f"{thread.item_count}",
            one_line(source_text(thread.source), 16),
            one_line(f"{_DAMAGED if thread.damaged else ''}{thread.name or thread.preview}"),
        )
        for thread in page.items
    ]
    print_table(("ID", sort.value.upper(), "ITEMS", "SOURCE", "NAME OR FIRST MESSAGE"), rows, right=frozenset({2}))
    if page.next_cursor is not None:
        print(f"more: {_same_again(page.next_cursor)}", file=sys.stderr)


def _same_again(cursor: str) -> str:
    """Return the command that was given, with another cursor and without the passwords in its URLs."""
    words = sys.argv[1:] if "list" in sys.argv[1:] else ["list"]
    kept = [_WITH_SECRET.sub(r"\1…@", word) for i, word in enumerate(words) if not _is_cursor(words, i)]
    return shlex.join(["eventstore", *kept, "--cursor", cursor])


def _is_cursor(words: list[str], place: int) -> bool:
    return words[place].startswith("--cursor") or (place > 0 and words[place - 1] == "--cursor")


def source_text(source: Any) -> str:
    """Return who started a thread in a word or two."""
    match source:
        case str():
            return source
        case {"subagent": {"thread_spawn": dict()}}:
            return "subagent"
        case {"subagent": str(kind)}:
            return f"subagent {kind}"
        case dict():
            return " ".join(source)
        case _:
            return "unknown"


def _facts(thread: StoredThread) -> Iterator[tuple[str, str]]:
    """Yield what is known, and nothing of what is not."""
    yield "thread", thread.thread_id
    yield from _present(
        ("name", thread.name),
        ("first message", thread.first_user_message or thread.preview),
        ("created", local(thread.created_at)),
        ("updated", local(thread.updated_at)),
        ("archived", local(thread.archived_at) if thread.archived_at else None),
    )
    yield "items", f"{thread.item_count:,}, at version {thread.version}"
    agent = " ".join(filter(None, (thread.agent_nickname, thread.agent_role, thread.agent_path)))
    yield from _present(
        ("source", source_text(thread.source)),
        ("agent", agent),
        ("directory", thread.cwd),
        ("model", " ".join(filter(None, (thread.model_provider, thread.model, thread.reasoning_effort)))),
        ("client", thread.cli_version),
        ("forked from", thread.forked_from_id),
        ("parent", thread.parent_thread_id),
        ("memory", None if thread.memory_mode.value == "enabled" else thread.memory_mode.value),
        ("history", None if thread.history_mode.value == "legacy" else thread.history_mode.value),
    )
    yield from _where_it_stands(thread)


def _where_it_stands(thread: StoredThread) -> Iterator[tuple[str, str]]:
    if (git := thread.git_info) is not None:
        yield from _present(
            ("git branch", git.branch), ("git commit", git.commit_hash), ("git origin", git.repository_url)
        )
    if (used := thread.token_usage) is not None:
        yield (
            "tokens",
            f"{used.total_tokens:,} ({used.input_tokens:,} in, of which {used.cached_input_tokens:,} cached; "
            f"{used.output_tokens:,} out, of which {used.reasoning_output_tokens:,} reasoning)",
        )
    if (base := thread.history_base) is not None:
        yield (
            "history base",
            f"goes on from {counted(base.end_ordinal_exclusive, 'line')} of thread {base.thread_id}; "
            "its own items only are kept here",
        )


def _present(*facts: tuple[str, str | None]) -> Iterator[tuple[str, str]]:
    for name, value in facts:
        if value:
            yield name, one_line(shown(value), 300)
