"""`rename`, `set`, `archive`, `unarchive`, `delete`: a word about a thread, which counts when the command returns."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import AcknowledgedOption, ThreadArgument, resolve, with_threads
from eventstore.cli.printing import acknowledge, one_line
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.cli.opening import Threads
    from eventstore.documents.patch import ThreadMetadataPatch
    from eventstore.documents.threads import StoredThread
    from eventstore.ids import ThreadId


def rename(
    context: typer.Context,
    thread: ThreadArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name it gets.", show_default=False)],
    json: AcknowledgedOption = False,
) -> int:
    """Give a thread a name."""

    async def work(store: Threads) -> None:
        from eventstore.documents.patch import ThreadMetadataPatch

        if not name.strip():
            raise InvalidRequest("Thread name cannot be empty.")
        thread_id = await resolve(store, thread)
        renamed = await _patch(store, thread_id, ThreadMetadataPatch(name=name.strip()))
        told = f"renamed {thread_id} to {one_line(renamed.name or '')}"
        acknowledge(told, json, thread_id=thread_id, version=renamed.version, token=renamed.token)

    return with_threads(context, work)


def set_(
    context: typer.Context,
    thread: ThreadArgument,
    assignments: Annotated[
        list[str],
        typer.Argument(
            metavar="FIELD=VALUE…",
            help="E.g. model=gpt-5 git.branch=main; FIELD= clears what can be cleared.",
            show_default=False,
        ),
    ],
    json: AcknowledgedOption = False,
) -> int:
    """Set or clear metadata of a thread, all fields or none."""

    async def work(store: Threads) -> None:
        from eventstore.cli.assignments import patch_of

        patch = patch_of(assignments)
        thread_id = await resolve(store, thread)
        changed = await _patch(store, thread_id, patch)
        told = f"changed {thread_id}, now at version {changed.version}"
        acknowledge(told, json, thread_id=thread_id, version=changed.version, token=changed.token)

    return with_threads(context, work)


def archive(context: typer.Context, thread: ThreadArgument, json: AcknowledgedOption = False) -> int:
    """Move a thread to the archived ones."""

    async def work(store: Threads) -> None:
        from eventstore.documents.params import ArchiveThreadParams

        thread_id = await resolve(store, thread)
        token = await store.archive_thread(ArchiveThreadParams(thread_id=thread_id))
        acknowledge(f"archived {thread_id}", json, thread_id=thread_id, token=token)

    return with_threads(context, work)


def unarchive(context: typer.Context, thread: ThreadArgument, json: AcknowledgedOption = False) -> int:
    """Move a thread back from the archived ones."""

    async def work(store: Threads) -> None:
        from eventstore.documents.params import ArchiveThreadParams

        thread_id = await resolve(store, thread)
        back = await store.unarchive_thread(ArchiveThreadParams(thread_id=thread_id))
        told = f"unarchived {thread_id}"
        acknowledge(told, json, thread_id=thread_id, version=back.version, token=back.token)

    return with_threads(context, work)


def delete(
    context: typer.Context,
    thread: ThreadArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for the audit trail.")] = None,
    json: AcknowledgedOption = False,
) -> int:
    """Delete a thread for good: nothing appended later counts. Its events stay in the log."""

    async def work(store: Threads) -> None:
        from eventstore.documents.params import DeleteThreadParams, ReadThreadParams

        thread_id = await resolve(store, thread)
        if not yes:
            if sys.stdin is None or not sys.stdin.isatty():
                raise InvalidRequest(
                    f"nothing was deleted, for nobody can be asked here; give --yes to delete {thread_id}"
                )
            found = await store.read_thread(ReadThreadParams(thread_id=thread_id, include_archived=True))
            name = one_line(found.name or found.preview, 60)
            typer.confirm(f"Delete thread {thread_id} ({name}) for good?", abort=True, err=True)
        token = await store.delete_thread(DeleteThreadParams(thread_id=thread_id, reason=reason))
        acknowledge(f"deleted {thread_id}", json, thread_id=thread_id, token=token)

    return with_threads(context, work)


async def _patch(store: Threads, thread_id: ThreadId, patch: ThreadMetadataPatch) -> StoredThread:
    from eventstore.documents.params import UpdateThreadMetadataParams

    return await store.update_thread_metadata(
        UpdateThreadMetadataParams(thread_id=thread_id, patch=patch, include_archived=True)
    )
