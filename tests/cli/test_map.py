"""`pulsewire map`: what one command writes the others show."""

from __future__ import annotations

import json
import signal

import pytest
import redis

from tests.cli.maps import Map, exported, stored
from tests.cli.programs import Programs

# --- looking


def test_maps_are_listed(flags: Map) -> None:
    lines = flags("ls").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["map", "keys", "revision", "last", "change", "ttl", "replicas"],
        ["flags", "2", "2", "set", "-", "0"],
    ]
    (found,) = json.loads(flags("ls", "fl*", "--json").stdout)
    assert (found["name"], found["entries"], found["revision"]) == ("flags", 2, 2)
    assert flags("ls", "users*").stdout == "no maps\n"


def test_one_map_is_described(flags: Map, namespace: str) -> None:
    lines = flags("info", "flags").stdout.splitlines()
    shown = dict(line.split("  ", 1) for line in lines)
    assert shown["key"].strip() == f"{namespace}:map:flags:content"
    assert shown["keys"].strip() == "2"
    found = json.loads(flags("info", "flags", "--json").stdout)
    assert (found["exists"], found["last_change"], found["is_destroyed"]) == (True, "set", False)


@pytest.mark.parametrize("command", ["info", "get", "export", "rm"])
def test_a_missing_map_is_said_to_be_missing(on_map: Map, command: str) -> None:
    result = on_map(command, "nothing", *(["--yes"] if command == "rm" else []))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: there is no map 'nothing'\nhint: ")


def test_a_value_is_printed_alone(flags: Map) -> None:
    result = flags("get", "flags", "signup")
    assert (result.exit_code, result.stdout) == (0, "on\n")


def test_several_values_or_all_are_a_table(flags: Map) -> None:
    flags("set", "flags", "text", "two words\nand a line")
    assert [
        line.split() for line in flags("get", "flags", "signup", "beta").stdout.splitlines()
    ] == [
        ["key", "value"],
        ["beta", "off"],
        ["signup", "on"],
    ]
    assert r"'two words\nand a line'" in flags("get", "flags").stdout
    assert json.loads(flags("get", "flags", "--json").stdout) == {
        "beta": "off",
        "signup": "on",
        "text": "two words\nand a line",
    }


def test_a_missing_key_is_said_to_be_missing(flags: Map) -> None:
    result = flags("get", "flags", "beta", "gamma")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: there is no key 'gamma' in map 'flags'\nhint: ")
    assert "off" in result.stdout


def test_an_empty_map_has_no_keys(flags: Map) -> None:
    flags("del", "flags", "signup", "beta")
    result = flags("get", "flags")
    assert (result.exit_code, result.stdout) == (0, "no keys\n")


def test_a_value_that_is_no_text_comes_out_as_it_is(flags: Map, url: str, namespace: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.hset(f"{namespace}:map:flags:content", "raw", b"\xff\x00")
    assert flags("get", "flags", "raw").stdout_bytes == b"\xff\x00\n"
    assert json.loads(flags("get", "flags", "raw", "--json").stdout) == {"raw": {"base64": "/wA="}}


# --- writing


def test_set_says_what_was_there(on_map: Map, url: str, namespace: str) -> None:
    assert on_map("set", "flags", "beta", "off").stdout == "set beta, which was not there\n"
    assert on_map("set", "flags", "beta", "on").stdout == "set beta, which was off\n"
    assert json.loads(on_map("set", "flags", "beta", "x", "--json").stdout) == {
        "updated": True,
        "existed": True,
        "old": "on",
    }
    assert stored(url, namespace) == {b"beta": b"x", b"=rev": b"3", b"=kind": b"set"}


def test_set_reads_standard_input(on_map: Map, url: str, namespace: str) -> None:
    assert on_map("set", "flags", "text", "-", stdin="a long\none\n").exit_code == 0
    assert stored(url, namespace)[b"text"] == b"a long\none\n"


def test_set_only_where_nothing_is(flags: Map) -> None:
    assert flags("set", "flags", "new", "1", "--if-absent").exit_code == 0
    refused = flags("set", "flags", "beta", "on", "--if-absent")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "error: not set: the key 'beta' is there already\n"
    assert flags("get", "flags", "beta").stdout == "off\n"


def test_set_only_where_the_value_is_as_expected(flags: Map) -> None:
    refused = flags("set", "flags", "beta", "maybe", "--if", "on")
    assert refused.exit_code == 1
    assert refused.stderr == "error: not set: 'beta' holds off, not 'on'\n"
    absent = flags("set", "flags", "gamma", "maybe", "--if", "")
    assert absent.stderr == "error: not set: there is no key 'gamma'\n"
    assert flags("set", "flags", "beta", "maybe", "--if", "off").exit_code == 0
    told = flags("set", "flags", "beta", "on", "--if", "off", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout) == {"updated": False, "existed": True, "old": "maybe"}


def test_keys_are_deleted(flags: Map) -> None:
    result = flags("del", "flags", "beta", "gamma")
    assert (result.exit_code, result.stdout) == (1, "deleted 1 of 2 keys\n")
    refused = flags("del", "flags", "signup", "--if", "off")
    assert refused.exit_code == 1
    assert refused.stderr == "error: not deleted: 'signup' holds on, not 'off'\n"
    done = flags("del", "flags", "signup", "--if", "on", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"deleted": ["signup"]})
    assert flags("get", "flags").stdout == "no keys\n"


def test_numbers_go_up_and_down(on_map: Map) -> None:
    assert on_map("inc", "counters", "visits").stdout == "1\n"
    assert on_map("inc", "counters", "visits", "41").stdout == "42\n"
    assert on_map("inc", "counters", "visits", "-50").stdout == "-8\n"
    assert json.loads(on_map("inc", "counters", "visits", "--json").stdout) == {"value": -7}


def test_text_cannot_be_counted(flags: Map) -> None:
    refused = flags("inc", "flags", "beta")
    assert (refused.exit_code, refused.stdout) == (1, "")
    error, hint = refused.stderr.splitlines()
    assert "inc of 'beta' in map 'flags' is not possible" in error
    assert hint.startswith("hint: ")


def test_lists_grow_and_shrink(on_map: Map) -> None:
    assert on_map("append", "groups", "eu", "oslo", "rome").stdout == "oslo\nrome\n"
    assert on_map("append", "groups", "eu", "rome").stdout == "oslo\nrome\nrome\n"
    assert json.loads(
        on_map("append", "groups", "eu", "--unique", "rome", "bonn", "--json").stdout
    ) == [
        "oslo",
        "rome",
        "rome",
        "bonn",
    ]
    assert on_map("remove", "groups", "eu", "rome", "bonn").stdout == "oslo\n"
    nothing = on_map("remove", "groups", "eu", "paris")
    assert (nothing.exit_code, nothing.stdout) == (1, "oslo\n")
    assert "nothing was removed" in nothing.stderr
    assert on_map("remove", "groups", "eu", "oslo").exit_code == 0
    assert on_map("get", "groups", "eu").exit_code == 1


# --- watching


def test_watch_prints_changes_until_ctrl_c(flags: Map, programs: Programs, namespace: str) -> None:
    watch = programs.pulsewire("map", "watch", "flags", "--namespace", namespace)
    watch.wait_line("watching map 'flags' from revision 2")
    flags("set", "flags", "beta", "on")
    assert watch.wait_line("beta").split("  ")[1:] == ["3", "set", "beta", "on", "(was off)"]
    flags("del", "flags", "signup")
    assert watch.wait_line("signup").split("  ")[1:] == ["4", "delete", "signup", "(was on)"]
    flags("reset", "flags", "--yes")
    assert watch.wait_line("reset").split("  ")[1:] == ["5", "reset"]
    watch.send(signal.SIGINT)
    assert watch.wait_end() == 130
    assert "Traceback" not in watch.output


def test_watch_can_begin_with_what_is_there(flags: Map) -> None:
    printed = flags("watch", "flags", "--initial", "--json", "--limit", "2").stdout
    told = {change["key"]: change for change in map(json.loads, printed.splitlines())}
    assert told["beta"] == {"kind": "set", "key": "beta", "old": None, "new": "off", "revision": 2}
    assert told["signup"]["new"] == "on"


def test_watch_can_be_narrowed_to_keys(flags: Map) -> None:
    result = flags("watch", "flags", "beta", "--initial", "--limit", "1")
    assert result.stdout.split("  ")[1:] == ["2", "set", "beta", "off\n"]
    assert result.stderr == "watching map 'flags' from revision 2\n"


# --- removing


def test_a_map_is_reset(flags: Map) -> None:
    assert flags("reset", "flags", "--yes").stdout == "reset map 'flags'\n"
    found = json.loads(flags("info", "flags", "--json").stdout)
    assert (found["entries"], found["revision"], found["last_change"]) == (0, 3, "reset")


def test_a_map_is_destroyed_and_then_forgotten(flags: Map) -> None:
    assert flags("prune").stdout == "no destroyed maps\n"
    assert flags("rm", "flags", "--yes").stdout == "destroyed map 'flags'\n"
    assert flags("ls").stdout.splitlines()[1].split() == ["flags", "0", "3", "destroy", "-", "0"]
    again = flags("rm", "flags", "--yes")
    assert (again.exit_code, again.stdout) == (1, "")
    assert flags("prune", "users*").stdout == "no destroyed maps\n"
    assert flags("prune").stdout == "forgot flags\n"
    assert flags("ls").stdout == "no maps\n"


def test_what_is_listened_to_is_not_forgotten(
    flags: Map, programs: Programs, namespace: str
) -> None:
    flags("rm", "flags", "--yes")
    watch = programs.pulsewire("map", "watch", "flags", "--namespace", namespace)
    watch.wait_line("watching map")
    assert flags("ls").stdout.splitlines()[1].split()[-1] == "1"
    assert flags("prune").stdout == "kept flags: somebody listens to it\n"
    assert json.loads(flags("prune", "--json").stdout) == {"forgotten": [], "kept": ["flags"]}


def test_nothing_is_removed_unasked(flags: Map) -> None:
    for command in ("reset", "rm"):
        refused = flags(command, "flags")
        assert refused.exit_code == 2
        assert "add --yes" in refused.stderr
    assert exported(flags) == {"beta": "off", "signup": "on"}


# --- wrong calls


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["set", "flags", "a=b", "on"], "'=' is not allowed"),
        (["set", "flags", "", "on"], "it is empty"),
        (["set", "flags", "beta"], "VALUE"),
        (["set", "flags", "beta", "on", "--if-absent", "--if", "off"], "--if"),
        (["del", "flags"], "KEY"),
        (["del", "flags", "a", "b", "--if", "on"], "one key"),
        (["inc", "flags", "beta", "many"], "'BY'"),
        (["inc", "flags", "beta", "--many"], "'BY'"),
        (["inc", "flags", "beta", "9223372036854775808"], "64 bits"),
        (["get", "two words"], "map name"),
        (["append", "flags", "beta"], "ITEM"),
        (["import", "flags"], "FILE"),
        (["watch", "flags", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_calls_are_usage_errors_that_name_the_culprit(
    on_map: Map, arguments: list[str], culprit: str
) -> None:
    result = on_map(*arguments)
    assert result.exit_code == 2, result.output
    assert culprit in result.stderr
    assert "Traceback" not in result.stderr
