"""The kit's own view of the wire."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsewire.testing.resp import Framer, Push, ReplyError, decode, encode

CASES = [
    (b"+OK\r\n", b"OK"),
    (b"-READONLY no\r\n", "READONLY"),
    (b":-12\r\n", -12),
    (b"$5\r\nab\r\nc\r\n", b"ab\r\nc"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", [[1], b"x"]),
    (b"%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n", {b"a": 1, b"b": [None]}),
    (b"~2\r\n:1\r\n:2\r\n", [1, 2]),
    (b"#t\r\n", True),
    (b",1.5\r\n", 1.5),
    (b"(123456789012345678901234567890\r\n", 123456789012345678901234567890),
    (b"=6\r\ntxt:ab\r\n", b"ab"),
    (b"|1\r\n+ttl\r\n:3\r\n:7\r\n", 7),
    (b">2\r\n+invalidate\r\n_\r\n", Push([b"invalidate", None])),
]


@pytest.mark.parametrize(("frame", "value"), CASES)
def test_value_is_decoded(frame: bytes, value: object) -> None:
    decoded = decode(frame)
    if isinstance(decoded, ReplyError):
        assert decoded.code == value
    else:
        assert decoded == value
        assert type(decoded) is type(value)


@given(st.lists(st.sampled_from([frame for frame, _ in CASES])), st.lists(st.integers(0, 200)))
def test_framing_does_not_depend_on_where_the_stream_is_cut(
    frames: list[bytes], cuts: list[int]
) -> None:
    """The same values come out, byte for byte, in whatever pieces they arrive."""
    stream = b"".join(frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    framer = Framer()
    found: list[bytes] = []
    for start, end in pairwise(edges):
        found += framer.feed(stream[start:end])
    assert found == frames
    assert framer.take_rest() == b""


@given(st.lists(st.one_of(st.binary(), st.text(), st.integers()), min_size=1))
def test_command_is_encoded_as_an_array_of_its_arguments(
    arguments: list[bytes | str | int],
) -> None:
    expected = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
    assert decode(encode(*arguments)) == expected


def test_what_is_not_resp_is_refused_and_given_back() -> None:
    """The bytes that could not be framed are not lost."""
    framer = Framer()
    with pytest.raises(ValueError, match="no RESP value"):
        framer.feed(b"+OK\r\nHTTP/1.1 200\r\n")
    assert framer.take_rest() == b"+OK\r\nHTTP/1.1 200\r\n"


def test_inline_commands_are_lines() -> None:
    framer = Framer(inline=True)
    assert framer.feed(b"PING\r\n*1\r\n$4\r\nPING\r\nQUIT") == [
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
    ]
    assert framer.take_rest() == b"QUIT"
