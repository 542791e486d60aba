"""`pulsewire map export|import`: what one writes the other reads, all of it or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis

from tests.cli.maps import Map, exported, stored


def test_what_is_exported_can_be_imported(
    flags: Map, tmp_path: Path, url: str, namespace: str
) -> None:
    with redis.Redis.from_url(url) as client:
        client.hset(f"{namespace}:map:flags:content", b"k\xff", b"\xff\x00")
    file = tmp_path / "flags.json"
    result = flags("export", "flags", "-o", str(file))
    assert result.stdout == f"exported 3 keys at revision 2 to {file}\n"
    document = json.loads(file.read_text())
    assert (document["map"], document["revision"]) == ("flags", 2)
    assert document["entries"]["beta"] == "off"
    assert flags("import", "copy", str(file)).stdout == (
        "3 added, 0 changed, 0 removed, 0 unchanged\n"
    )
    original, copy = stored(url, namespace), stored(url, namespace, "copy")
    assert copy.pop(b"=rev") == b"3"
    assert original.pop(b"=rev") == b"2"
    assert copy == original
    assert [path.name for path in tmp_path.iterdir()] == ["flags.json"]


def test_import_writes_only_what_differs(flags: Map) -> None:
    document = json.dumps({"entries": {"beta": "on", "signup": "on", "gamma": "1"}})
    result = flags("import", "flags", "-", stdin=document)
    assert result.stdout == "1 added, 1 changed, 0 removed, 1 unchanged\n"
    assert json.loads(flags("info", "flags", "--json").stdout)["revision"] == 4
    again = json.loads(flags("import", "flags", "-", "--json", stdin=document).stdout)
    assert again == {"dry_run": False, "added": [], "changed": [], "removed": [], "unchanged": 3}
    assert json.loads(flags("info", "flags", "--json").stdout)["revision"] == 4


def test_import_can_replace(flags: Map) -> None:
    document = json.dumps({"entries": {"beta": "on"}})
    kept = flags("import", "flags", "-", stdin=document)
    assert kept.stdout == "0 added, 1 changed, 0 removed, 0 unchanged\n"
    replaced = flags("import", "flags", "-", "--replace", stdin=document)
    assert replaced.stdout == "0 added, 0 changed, 1 removed, 1 unchanged\n"
    assert exported(flags) == {"beta": "on"}


def test_import_can_be_tried_dry(flags: Map) -> None:
    document = json.dumps({"entries": {"beta": "on", "gamma": "1"}})
    result = flags("import", "flags", "-", "--replace", "--dry-run", stdin=document)
    assert result.stdout.splitlines() == [
        "~ beta  off -> on",
        "+ gamma  1",
        "- signup  on",
        "would be: 1 added, 1 changed, 1 removed, 0 unchanged",
    ]
    assert exported(flags) == {"beta": "off", "signup": "on"}


@pytest.mark.parametrize(
    ("document", "culprit"),
    [
        ("no json", "it is no JSON"),
        ("[]", '"entries"'),
        ('{"entries": []}', '"entries"'),
        ('{"entries": {}, "extra": 1}', "'extra'"),
        ('{"entries": {"a": "1", "a": "2"}}', "'a' is in it twice"),
        ('{"entries": {"a": "1", "": "2"}}', "'' is not a map key"),
        ('{"entries": {"a": "1", "=rev": "9"}}', "'=rev' is not a map key"),
        ('{"entries": {"a": "1", "b": 2}}', "the value of 'b'"),
        ('{"entries": {"a": "1", "b": {"base64": "%"}}}', "the entry 'b'"),
        ('{"entries": {"a": "1", "b": {"base64": 1}}}', "the entry 'b'"),
        (r'{"entries": {"a": "1", "b": "\ud800"}}', "the entry 'b'"),
        (r'{"entries": {"a": "1", "b\ud800": "x"}}', "surrogates not allowed"),
    ],
)
def test_a_document_is_checked_before_anything_is_written(
    on_map: Map, tmp_path: Path, document: str, culprit: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(document)
    result = on_map("import", "flags", str(file))
    assert result.exit_code == 2, result.output
    assert culprit in result.stderr
    assert str(file) in result.stderr
    assert on_map("ls").stdout == "no maps\n"


def test_files_that_are_not_there_are_named(flags: Map, tmp_path: Path) -> None:
    missing = flags("import", "flags", str(tmp_path / "none.json"))
    assert missing.exit_code == 2
    assert "No such file" in missing.stderr
    unwritable = flags("export", "flags", "-o", str(tmp_path / "none" / "flags.json"))
    assert unwritable.exit_code == 1
    assert "cannot be written: No such file" in unwritable.stderr
