"""URLs: every scheme understood, every wrong one refused with its culprit, no secret ever shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pulsewire._redis.doors import doors_of_target
from pulsewire._redis.targets import Target, Topology, parse_target, without_secrets
from pulsewire.errors import InvalidTarget

STANDALONE, SENTINEL, CLUSTER = Topology.STANDALONE, Topology.SENTINEL, Topology.CLUSTER


# --- what is understood


@pytest.mark.parametrize(
    ("url", "topology", "hosts", "tls"),
    [
        ("redis://", STANDALONE, (("localhost", 6379),), False),
        ("redis://example.org", STANDALONE, (("example.org", 6379),), False),
        ("redis://example.org:7000", STANDALONE, (("example.org", 7000),), False),
        ("valkey://example.org:7000/3", STANDALONE, (("example.org", 7000),), False),
        ("rediss://example.org", STANDALONE, (("example.org", 6379),), True),
        ("valkeys://example.org", STANDALONE, (("example.org", 6379),), True),
        ("REDIS://example.org", STANDALONE, (("example.org", 6379),), False),
        ("redis://[::1]", STANDALONE, (("::1", 6379),), False),
        ("redis://[2001:db8::7]:7000/1", STANDALONE, (("2001:db8::7", 7000),), False),
        ("redis+cluster://a", CLUSTER, (("a", 6379),), False),
        ("redis+cluster://a:1,b:2,c", CLUSTER, (("a", 1), ("b", 2), ("c", 6379)), False),
        ("valkey+cluster://[::1]:1,[::2]:2", CLUSTER, (("::1", 1), ("::2", 2)), False),
        ("rediss+cluster://a:1,b:2", CLUSTER, (("a", 1), ("b", 2)), True),
        ("valkeys+cluster://a:1", CLUSTER, (("a", 1),), True),
        ("redis+sentinel://a,b:2/main", SENTINEL, (("a", 26379), ("b", 2)), False),
        ("valkey+sentinel://a/main", SENTINEL, (("a", 26379),), False),
        ("rediss+sentinel://a/main", SENTINEL, (("a", 26379),), True),
        ("valkeys+sentinel://a/main", SENTINEL, (("a", 26379),), True),
        ("unix:///run/valkey.sock", STANDALONE, (), False),
    ],
)
def test_each_scheme_is_understood(
    url: str, topology: Topology, hosts: tuple[tuple[str, int], ...], tls: bool
) -> None:
    target = parse_target(url)
    assert (target.topology, target.hosts, target.tls) == (topology, hosts, tls)
    assert target.shown == url


@pytest.mark.parametrize(
    "place",
    ["redis://{}@h", "rediss://{}@h:1/0", "redis+cluster://{}@h,i", "redis+sentinel://{}@h/m"],
)
def test_user_and_password_are_percent_decoded(place: str) -> None:
    """What is special in a URL can be in a password nevertheless."""
    target = parse_target(place.format("anna%3Amaria:p%40ss%2Fw%C3%B6rd%3F"))
    assert target.options["username"] == "anna:maria"
    assert target.options["password"] == "p@ss/wörd?"


def test_password_may_stand_without_a_user() -> None:
    target = parse_target("redis://:secret@h")
    assert target.options["password"] == "secret"
    assert not target.options.get("username")


def test_password_may_hold_an_at_sign_as_it_is() -> None:
    """The last @ ends it, as in every URL parser."""
    target = parse_target("redis://user:p@ss@h:7000")
    assert target.options["password"] == "p@ss"
    assert target.hosts == (("h", 7000),)


def test_password_may_hold_a_colon_as_it_is() -> None:
    """The first one ends the user."""
    target = parse_target("redis://anna:p:w@h")
    assert (target.options["username"], target.options["password"]) == ("anna", "p:w")


def test_topologies_are_called_as_people_call_them() -> None:
    assert [topology.value for topology in Topology] == ["standalone", "sentinel", "cluster"]


@pytest.mark.parametrize(
    ("url", "db"),
    [
        ("redis://h/3", 3),
        ("redis://h?db=3", 3),
        ("redis:///3", 3),
        ("redis://?db=3", 3),
        ("unix:///run/x.sock?db=3", 3),
        ("redis+sentinel://h/main/3", 3),
        ("redis+sentinel://h/main?db=3", 3),
    ],
)
def test_database_number_is_found(url: str, db: int) -> None:
    assert parse_target(url).options["db"] == db


def test_unix_socket_has_path_user_and_password() -> None:
    target = parse_target("unix://anna:s3cret@/run/valkey.sock")
    assert target.options["path"] == "/run/valkey.sock"
    assert target.options["username"] == "anna"
    assert target.options["password"] == "s3cret"


def test_sentinel_url_has_service_user_and_options_of_its_sentinels() -> None:
    """`sentinel_...` is for the connections to the sentinels, the rest for those to the master."""
    target = parse_target(
        "redis+sentinel://anna:pw@h1:1,h2:2/main/2?sentinel_username=guard&sentinel_password=gpw"
        "&socket_keepalive=yes"
    )
    assert target.service == "main"
    assert target.options["username"] == "anna"
    assert target.options["password"] == "pw"
    assert target.options["db"] == 2
    assert target.options["socket_keepalive"] is True
    assert target.sentinel_options == {"username": "guard", "password": "gpw"}


def test_service_name_is_percent_decoded() -> None:
    assert parse_target("redis+sentinel://h/my%20master").service == "my master"


def test_options_are_those_of_redis_py_with_their_types() -> None:
    options = parse_target("redis://h?socket_timeout=2.5&socket_keepalive=no&client_name=x").options
    assert options == {"socket_timeout": 2.5, "socket_keepalive": False, "client_name": "x"}


def test_options_of_sentinels_have_their_types_too() -> None:
    """A timeout is a number there as well: the text "0.5" would fail at the first connection."""
    target = parse_target("redis+sentinel://h/main?sentinel_socket_timeout=0.5&sentinel_protocol=2")
    assert target.sentinel_options == {"socket_timeout": 0.5, "protocol": 2}


@pytest.mark.parametrize(
    "url",
    [
        "redis://h?socket_timeout=2",
        "rediss://h?ssl_cert_reqs=none",
        "unix:///run/x.sock",
        "redis+cluster://h",
        "rediss+cluster://h?ssl_cert_reqs=none",
        "redis+sentinel://h/main",
        "rediss+sentinel://h/main?ssl_cert_reqs=none&sentinel_password=x",
    ],
)
def test_doors_can_be_made_of_it_without_a_connection(url: str) -> None:
    doors_of_target(parse_target(url))


# --- what is refused


@pytest.mark.parametrize(
    ("url", "culprit"),
    [
        ("", "no scheme"),
        ("localhost:6379", "no scheme"),
        ("redis:/localhost", "no scheme"),
        ("http://localhost", "'http'"),
        ("redis+proxy://localhost", r"'redis\+proxy'"),
        ("cluster://localhost", "'cluster'"),
        ("redis+cluster+sentinel://h/m", r"'redis\+cluster\+sentinel'"),
        ("unix+cluster:///x", "Unix socket"),
        ("unix://", "path"),
        ("redis://h:port", "'h:port'"),
        ("redis://h:70000", "'h:70000'"),
        ("redis://h:-1", "'h:-1'"),
        ("redis://::1", "'::1'"),
        ("redis://[::1", r"'\[::1'"),
        ("redis://a,b", r"redis\+cluster://"),
        ("redis+cluster://a,,b", "''"),
        ("redis+cluster://,", "''"),
        ("redis+cluster://a,:7000", "':7000'"),
        ("redis+cluster://a/3", "database 0"),
        ("redis+cluster://a?db=3", "database 0"),
        ("redis+sentinel://h", "name of the master"),
        ("redis+sentinel://h/", "name of the master"),
        ("redis+sentinel://h?db=1", "name of the master"),
        ("redis+sentinel://h/main/three", "'three'"),
        ("redis://h/three", "'three'"),
        ("redis://h/-1", "'-1'"),
        ("redis://h/1/2", "'1/2'"),
        ("redis://h/²", "'²'"),
        ("redis://h?db=three", "db"),
        ("redis://h?socket_timeout=soon", "socket_timeout"),
        ("redis://h/0#fragment", "%23"),
        ("redis://anna:p/w@h", "%2F"),
        ("redis://anna:p?w@h", "%3F"),
        ("redis://h/main@2", "%40"),
        ("unix://relative/path", "path"),
        ("unix://anna:p/w@/run/x.sock", "%2F"),
        ("redis://h?socket_timeout=0", "socket_timeout"),
        ("redis://h?socket_timeout=-1", "socket_timeout"),
        ("redis://h?socket_timeout=nan", "socket_timeout"),
        ("redis://h?socket_timeout=10000000000", "socket_timeout"),
        ("redis://h?socket_connect_timeout=0", "socket_connect_timeout"),
        ("redis+sentinel://h/main?sentinel_socket_timeout=soon", "socket_timeout"),
    ],
)
def test_wrong_url_is_refused_and_the_culprit_is_named(url: str, culprit: str) -> None:
    with pytest.raises(InvalidTarget, match=culprit) as caught:
        parse_target(url)
    assert caught.value.target == without_secrets(url)


@pytest.mark.parametrize(
    ("url", "culprit"),
    [
        ("redis://h?colour=blue", "colour"),
        ("redis+cluster://h?colour=blue", "colour"),
        ("redis+sentinel://h/main?colour=blue", "colour"),
        ("redis+sentinel://h/main?sentinel_colour=blue", "colour"),
        ("unix:///run/x.sock?colour=blue", "colour"),
        ("redis://h?protocol=nine", "protocol"),
        ("redis://h?ssl_certfile=/etc/hosts", "ssl_certfile"),
        ("rediss://h?ssl_certfile=/nowhere/x.pem", "/nowhere/x.pem"),
    ],
)
def test_option_that_redis_py_does_not_know_is_refused_before_anything_is_opened(
    url: str, culprit: str
) -> None:
    with pytest.raises(InvalidTarget, match=culprit):
        doors_of_target(parse_target(url))


def test_wrong_scheme_is_answered_with_the_list_of_right_ones() -> None:
    with pytest.raises(InvalidTarget) as caught:
        parse_target("mysql://h")
    for scheme in (
        "redis://",
        "rediss://",
        "valkey://",
        "unix://",
        "redis+cluster://",
        "redis+sentinel://",
    ):
        assert scheme in str(caught.value)


# --- secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://anna@h", "redis://anna@h"),
        ("redis://:pw@h", "redis://:***@h"),
        ("redis://anna:pw@h:1/2?db=3", "redis://anna:***@h:1/2?db=3"),
        ("redis://anna:p@w@h", "redis://anna:***@h"),
        ("redis://anna:p:w@h", "redis://anna:***@h"),
        ("redis://anna:pw@h?password=pw&token=t", "redis://anna:***@h?password=***&token=***"),
        ("redis+cluster://anna:pw@a:1,b:2", "redis+cluster://anna:***@a:1,b:2"),
        ("unix://anna:pw@/run/x.sock", "unix://anna:***@/run/x.sock"),
        ("redis://h?password=pw&db=1", "redis://h?password=***&db=1"),
        ("redis+sentinel://h/m?sentinel_password=pw", "redis+sentinel://h/m?sentinel_password=***"),
        ("rediss://h?ssl_password=pw", "rediss://h?ssl_password=***"),
        ("unix:///run/a:b@c.sock", "unix:///run/a:b@c.sock"),
    ],
)
def test_shown_url_keeps_everything_but_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


SECRET = "XSECRETX"
places = st.sampled_from(
    [
        "redis://user:{}@host:6379/0",
        "redis://:{}@host",
        "redis://user:{}@",
        "redis+cluster://user:{}@a:1,b:2",
        "redis+cluster://user:{}@a:1,b:port",
        "redis+sentinel://user:{}@a:1/main",
        "redis+sentinel://user:{}@a:1",
        "redis+sentinel://a:1/main?sentinel_password={}",
        "redis+sentinel://a:1/main/x?sentinel_password={}",
        "unix://user:{}@/run/x.sock",
        "unix://user:{}@",
        "redis://host?password={}",
        "redis://host?password={}&db=x",
        "mysql://user:{}@host",
        "user:{}@host",
        "redis://user:{}@host/nine",
        "redis://user:{}@host:port",
    ]
)
awkward = st.text("/?#@:,;&=%[] aä\u2100\n", max_size=3)


@given(places, awkward, awkward)
def test_secret_is_in_no_message_whatever_surrounds_it(place: str, before: str, after: str) -> None:
    """A password with characters that should have been percent-encoded is not shown in part, either."""
    if "={}" in place:  # there, & and # end the value, as in every URL
        assume(not set("&#") & set(before + after))
    url = place.format(f"{before}{SECRET}{after}")
    said: list[Any] = [without_secrets(url)]
    try:
        target: Target = parse_target(url)
        said += [target, doors_of_target(target)]
    except InvalidTarget as error:
        chain: BaseException | None = error
        while chain is not None:
            said += [str(chain), repr(chain), vars(chain)]
            chain = chain.__cause__
    for text in map(str, said):
        assert SECRET not in text
