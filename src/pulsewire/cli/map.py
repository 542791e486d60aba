"""`pulsewire map`: look at replicated maps, read and write them, watch them.

Values are bytes here, so whatever programs have stored can be shown. What only reads or writes single keys asks the
server and joins nothing. Files: `map_files.py`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import typer

import pulsewire
from pulsewire.cli import describe, files, map_files, render
from pulsewire.cli.asking import ask_each
from pulsewire.cli.confirm import confirm
from pulsewire.cli.failures import FAILED
from pulsewire.cli.map_access import delete_each, missing, open_map, whole_of
from pulsewire.cli.map_document import value_as_data
from pulsewire.cli.options import AsJson, NamespaceOption, UrlOption
from pulsewire.cli.running import Signals, run

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at replicated maps, read and write them.")

Name = Annotated[str, typer.Argument(help="The map.", metavar="NAME")]
Key = Annotated[str, typer.Argument(help="The key.", metavar="KEY")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Condition = Annotated[
    str | None, typer.Option("--if", help="Only if the key holds this value.", metavar="VALUE")
]

_NUMBER_IS_NO_OPTION = {"ignore_unknown_options": True}
"""So that `-5` can be written as it is."""


# --- looking


@app.command("ls")
def list_maps(
    pattern: Annotated[str, typer.Argument(help="Names with * and ?.")] = "*",
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """List the maps, with their size, their revision and who listens; destroyed ones until `prune` forgets them."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            infos = await _infos(hub, pattern)
        if as_json:
            render.json_document([describe.map_as_data(info) for info in infos])
        elif infos:
            render.table(
                ("map", "keys", "revision", "last change", "ttl", "replicas"),
                [describe.map_row(info) for info in infos],
                numbers=("keys", "revision", "ttl", "replicas"),
            )
        else:
            render.say("no maps")

    run(command)


@app.command()
def info(
    name: Name, *, as_json: AsJson = False, url: UrlOption = None, namespace: NamespaceOption = ""
) -> None:
    """Show one map: its size, revision, time to live, memory, and how many connections listen to it."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            found = await open_map(hub, name).info()
        if as_json:
            render.json_document(describe.map_as_data(found))
        elif found.exists:
            describe.show_map(found)
        else:
            return missing(name)
        return 0 if found.exists else FAILED

    run(command)


@app.command()
def get(
    name: Name,
    keys: Annotated[
        list[str] | None, typer.Argument(help="Which keys; none means all.", metavar="KEY")
    ] = None,
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Print values: of one key the value alone, of several or all a table. All come from one revision."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            if keys:
                found = await _fetch(hub, name, keys)
            else:
                revision, found = await whole_of(hub, name)
                if not revision and not found:
                    return missing(name)
        absent = [key for key in keys or () if key not in found]
        for key in absent:
            render.fail(
                f"there is no key {key!r} in map {name!r}",
                f"`pulsewire map get {name}` shows which there are.",
            )
        if as_json:
            render.json_document({key: value_as_data(value) for key, value in found.items()})
        elif keys and len(keys) == 1:
            for value in found.values():
                render.raw(value)
        elif found:
            render.table(("key", "value"), [_readable(key, found[key]) for key in sorted(found)])
        elif not keys:
            render.say("no keys")
        return FAILED if absent else 0

    run(command)


@app.command()
def watch(
    name: Name,
    keys: Annotated[
        list[str] | None, typer.Argument(help="Only these keys, and resets.", metavar="KEY")
    ] = None,
    *,
    initial: Annotated[
        bool, typer.Option("--initial", help="First what is there already, as sets.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="End after this many.")
    ] = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Print each change of a map as one line, until Ctrl-C. Changes that come too fast are joined per key."""

    async def command(_: Signals) -> None:
        async with (
            pulsewire.connect(url, namespace=namespace) as hub,
            open_map(hub, name) as joined,
        ):
            printed = 0
            changes = joined.changes(initial=initial)
            if not as_json:
                render.note(f"watching map {name!r} from revision {joined.revision:,}")
            async for change in changes:
                if keys and change.key is not None and change.key not in keys:
                    continue
                if as_json:
                    render.json_line(describe.change_as_data(change))
                else:
                    render.say(describe.change_line(change))
                printed += 1
                if printed == limit:
                    break

    run(command)


# --- writing


@app.command("set")
def set_value(
    name: Name,
    key: Key,
    value: Annotated[
        str, typer.Argument(help="The value; - reads standard input.", metavar="VALUE")
    ],
    *,
    if_absent: Annotated[
        bool, typer.Option("--if-absent", help="Only if the key is not there.")
    ] = False,
    test: Condition = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Store a value, and say what was there before."""
    if if_absent and test is not None:
        raise typer.BadParameter("not together with --if", param_hint="--if-absent")
    data = files.read_payload(value)

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            target = open_map(hub, name)
            if if_absent:
                updated = await target.set_if_absent(key, data)
                old, existed = None, not updated
            elif test is not None:
                done = await target.test_and_set(key, test.encode(), data)
                updated, old, existed = done.updated, done.old, done.existed
            else:
                old = await target.set(key, data)
                updated, existed = True, old is not None
        if as_json:
            told = {"updated": updated, "existed": existed}
            render.json_document(told if if_absent else told | {"old": value_as_data(old)})
        elif not updated:
            _say_unchanged("not set", key, old, existed=existed, test=test)
        elif existed:
            render.say(f"set {render.readable(key)}, which was {render.readable(old)}")
        else:
            render.say(f"set {render.readable(key)}, which was not there")
        return 0 if updated else FAILED

    run(command)


@app.command("del")
def delete(
    name: Name,
    keys: Annotated[list[str], typer.Argument(help="Which keys.", metavar="KEY")],
    *,
    test: Condition = None,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Remove keys."""
    if test is not None and len(keys) > 1:
        raise typer.BadParameter("a condition is for one key", param_hint="--if")

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            target = open_map(hub, name)
            if test is not None:
                done = await target.test_and_delete(keys[0], test.encode())
                deleted = [keys[0]] if done.deleted else []
                if not done.deleted and not as_json:
                    _say_unchanged(
                        "not deleted", keys[0], done.old, existed=done.existed, test=test
                    )
                    return FAILED
            else:
                once = list(dict.fromkeys(keys))
                before = await delete_each(target, once)
                deleted = [key for key, old in zip(once, before, strict=True) if old is not None]
        if as_json:
            render.json_document({"deleted": deleted})
        else:
            render.say(f"deleted {len(deleted):,} of {len(keys):,} keys")
        return 0 if len(deleted) == len(keys) else FAILED

    run(command)


@app.command(context_settings=_NUMBER_IS_NO_OPTION)
def inc(
    name: Name,
    key: Key,
    by: Annotated[int, typer.Argument(help="How much, also below 0.", metavar="BY")] = 1,
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Add to a whole number, and print what it is now."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            number = await open_map(hub, name).inc(key, by)
        if as_json:
            render.json_document({"value": number})
        else:
            render.say(str(number))

    run(command)


@app.command()
def append(
    name: Name,
    key: Key,
    items: Annotated[list[str], typer.Argument(help="What to append.", metavar="ITEM")],
    *,
    unique: Annotated[
        bool, typer.Option("--unique", help="Only items that are not in the list yet.")
    ] = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Append to a list, and print it, one item a line."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            target = open_map(hub, name)
            write = target.append_unique_values if unique else target.append_values
            found = await write(key, *items)
        _show_list(found, as_json=as_json)

    run(command)


@app.command()
def remove(
    name: Name,
    key: Key,
    items: Annotated[list[str], typer.Argument(help="What to remove.", metavar="ITEM")],
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Remove items from a list, and print what is left. An empty list goes with its key."""

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            done = await open_map(hub, name).remove_values(key, *items)
        _show_list(done.values, as_json=as_json)
        if not done.removed:
            render.fail(
                f"nothing was removed: {key!r} of map {name!r} has none of these items",
                f"`pulsewire map get {name} {key}` shows what it has.",
            )
        return 0 if done.removed else FAILED

    run(command)


map_files.register(app)


# --- removing


@app.command()
def reset(
    name: Name,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Remove all keys of a map, and its time to live until a program that knows of one writes again."""
    confirm(
        f"Remove all keys of map {name!r}?",
        yes=yes,
        refusal="this removes all keys: add --yes",
        about="NAME",
    )

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            await open_map(hub, name).reset()
        render.outcome({"map": name, "reset": True}, f"reset map {name!r}", as_json=as_json)

    run(command)


@app.command()
def rm(
    name: Name,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Destroy a map. Its revision stays, so that it can go on if the map is used again: see `prune`."""
    confirm(
        f"Destroy map {name!r}, with all its keys?",
        yes=yes,
        refusal="this destroys the map: add --yes",
        about="NAME",
    )

    async def command(_: Signals) -> int:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            target = open_map(hub, name)
            found = await target.info()
            if not found.exists or found.is_destroyed:
                return missing(name)
            await target.destroy()
        done = {"map": name, "destroyed": True}
        render.outcome(done, f"destroyed map {name!r}", as_json=as_json)
        return 0

    run(command)


@app.command()
def prune(
    pattern: Annotated[str, typer.Argument(help="Names with * and ?.")] = "*",
    *,
    as_json: AsJson = False,
    url: UrlOption = None,
    namespace: NamespaceOption = "",
) -> None:
    """Forget the revisions of destroyed maps that nobody listens to."""

    async def command(_: Signals) -> None:
        async with pulsewire.connect(url, namespace=namespace) as hub:
            destroyed = [info.name for info in await _infos(hub, pattern) if info.is_destroyed]
            done = await ask_each(destroyed, lambda name: open_map(hub, name).forget())
        forgotten = [name for name, is_done in zip(destroyed, done, strict=True) if is_done]
        kept = [name for name, is_done in zip(destroyed, done, strict=True) if not is_done]
        if as_json:
            render.json_document({"forgotten": forgotten, "kept": kept})
            return
        for name in forgotten:
            render.say(f"forgot {render.readable(name)}")
        for name in kept:
            render.say(f"kept {render.readable(name)}: somebody listens to it")
        if not destroyed:
            render.say("no destroyed maps")

    run(command)


# --- shared by several


async def _fetch(hub: pulsewire.Hub, name: str, keys: list[str]) -> dict[str, bytes]:
    if len(keys) > 1:  # of one revision
        _, entries = await whole_of(hub, name)
        return {key: entries[key] for key in keys if key in entries}
    value = await open_map(hub, name).fetch(keys[0])
    return {} if value is None else {keys[0]: value}


async def _infos(hub: pulsewire.Hub, pattern: str) -> list[pulsewire.MapInfo]:
    names = [name for name in await hub.maps() if fnmatchcase(name, pattern)]
    found = await ask_each(names, lambda name: open_map(hub, name).info())
    return [info for info in found if info.exists]


def _readable(key: str, value: bytes) -> tuple[str, str]:
    return render.readable(key), render.readable(value)


def _show_list(items: list[str], *, as_json: bool) -> None:
    if as_json:
        render.json_document(items)
        return
    for item in items:
        render.say(render.readable(item))


def _say_unchanged(
    what: str, key: str, old: bytes | None, *, existed: bool, test: str | None
) -> None:
    if not existed:
        render.fail(f"{what}: there is no key {key!r}")
    elif test is None:
        render.fail(f"{what}: the key {key!r} is there already")
    else:
        render.fail(f"{what}: {key!r} holds {render.readable(old)}, not {test!r}")
