"""Keeping in touch: what is known of the ways to the servers, and that lost ones are opened again."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from pulsewire._core import lag
from pulsewire._core.vitals import WaySign
from pulsewire._redis.contact import Contact
from pulsewire._redis.link import Link
from pulsewire.errors import ConnectionLost, ServerUnavailable
from pulsewire.testing import FaultProxy, SentinelGroup, SingleServer, wait_until
from tests._redis.kit import opened_link
from tests.facts import PATIENCE

SILENCE = 0.4


async def only(link: Link) -> WaySign:
    """The one way there is."""
    (way,) = Contact(link).signs()
    return way


async def test_a_way_is_connected_from_the_beginning(proxy: FaultProxy) -> None:
    async with opened_link(proxy.url) as link:
        way = await only(link)
        assert way.is_connected
        assert way.silent_for == 0.0
        assert str(proxy.port) in way.address
        before = dict(proxy.statistics().commands)
        await Contact(link).keep_once()
        after = dict(proxy.statistics().commands)
        assert after == {**before, "PING": before.get("PING", 0) + 1}


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
async def test_the_slowest_answer_of_late_counts(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, direction: Any
) -> None:
    """While it is waited for already, and for some seconds after it has come."""
    async with opened_link(proxy.url) as link, anyio.create_task_group() as tasks:
        contact = Contact(link)
        await contact.keep_once()
        proxy.stall(direction)
        tasks.start_soon(contact.keep_once)
        await wait_until(lambda: round_trip(contact) > SILENCE, what="an answer is waited for")
        proxy.resume()
        await wait_until(lambda: not contact._asked_at, what="it has come")
        slowest = round_trip(contact)
        assert slowest > SILENCE
        await contact.keep_once()
        assert round_trip(contact) == slowest
        monkeypatch.setattr(lag, "REMEMBERED", 0.0)
        assert round_trip(contact) == 0.0


def round_trip(contact: Contact) -> float:
    """Of the one way there is."""
    (way,) = contact.signs()
    return way.round_trip


async def test_a_refusal_is_an_answer(proxy: FaultProxy) -> None:
    """It is opened again when there is somebody who takes connections."""
    async with opened_link(proxy.url) as link:
        await proxy.refuse()
        proxy.cut()
        await wait_until(lambda: not link.lanes()[0].connection, what="the connection is lost")
        contact = Contact(link)
        for _ in range(2):
            await contact.keep_once()
            way = await only(link)
            assert not way.is_connected
            assert way.silent_for == 0.0
            assert way.seconds > 0.0
        await proxy.accept()
        await wait_until(lambda: _keep(contact, link), timeout=PATIENCE, what="it is connected")


async def _keep(contact: Contact, link: Link) -> bool:
    await contact.keep_once()
    return (await only(link)).is_connected


async def test_silence_counts_from_the_question(proxy: FaultProxy) -> None:
    """Until somebody answers; attempts that time out go on with it."""
    async with opened_link(proxy.url, silence=SILENCE, wait_for_server=SILENCE) as link:
        proxy.stall()
        with pytest.raises((ServerUnavailable, ConnectionLost)):
            await link.time()
        way = await only(link)
        assert not way.is_connected
        assert way.silent_for >= SILENCE
        await asyncio.gather(*(Contact(link).keep_once() for _ in range(2)))
        assert (await only(link)).silent_for > way.silent_for
        proxy.resume()
        await wait_until(
            lambda: _keep(Contact(link), link), timeout=PATIENCE, what="it is connected"
        )
        assert (await only(link)).silent_for == 0.0


async def test_silence_is_over_when_the_server_refuses(proxy: FaultProxy) -> None:
    async with opened_link(proxy.url, silence=SILENCE, wait_for_server=SILENCE) as link:
        proxy.stall()
        with pytest.raises((ServerUnavailable, ConnectionLost)):
            await link.time()
        assert (await only(link)).silent_for > 0.0
        await proxy.refuse()
        proxy.cut()
        proxy.resume()
        await Contact(link).keep_once()
        way = await only(link)
        assert (way.is_connected, way.silent_for) == (False, 0.0)


async def test_a_silent_connection_beside_is_no_silence_of_the_server(proxy: FaultProxy) -> None:
    """The lane is asked, and answers."""
    async with opened_link(proxy.url) as link:
        (lane,) = link.lanes()
        beside = await lane.open_beside(silence=SILENCE)
        proxy.swallow_reply("ECHO", then="stall")
        with pytest.raises(ConnectionLost):
            await beside.submit(("ECHO", "a"))
        way = await only(link)
        assert way.is_connected
        assert way.silent_for >= SILENCE
        await Contact(link).keep_once()
        way = await only(link)
        assert (way.is_connected, way.silent_for) == (True, 0.0)


async def test_whatever_a_server_says_it_speaks(proxy: FaultProxy) -> None:
    async with opened_link(proxy.url) as link:
        link.lanes()[0].silent_since = 0.0
        proxy.inject_error(b"LOADING Redis is loading the dataset in memory", "PING")
        await Contact(link).keep_once()
        assert (await only(link)).silent_for == 0.0


async def test_sentinels_say_whether_they_could_decide(sentinel_group: SentinelGroup) -> None:
    """A link to one server has none to ask."""
    async with opened_link(sentinel_group.url) as link:
        answers = await link.ask_sentinels()
        assert [able for _, able, _ in answers] == [True] * 3
        assert all("sentinel" in address for address, _, _ in answers)


async def test_a_single_server_has_no_sentinels(single_server: SingleServer) -> None:
    async with opened_link(single_server.url) as link:
        assert await link.ask_sentinels() == []
        await link.look_around()
