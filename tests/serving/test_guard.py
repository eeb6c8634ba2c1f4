"""Who may speak to a server, and how much."""

import pytest

from mimicmotion.errors import InputError
from mimicmotion.serving.guard import MOST_SOCKETS_OF_ADDRESS, Files, Guard, Rate, Sockets, is_loopback, new_token

TOKEN = "tGuG9iQ2LMPmX4T0bD0w1V7q_kz8-eZr"  # the same in each worker of the tests, whose names have it


def refused(guard, host, origin=None, kind="http", method="GET", query="", public=False, **more):
    headers = {"host": host, **more} | ({} if origin is None else {"origin": origin})
    return guard.refusal(kind, method, headers, query, public)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:9", "LOCALHOST", "[::1]:8000", "127.3.4.5:1"])
def test_at_home_any_of_its_names_and_any_port_will_do(host):
    guard = Guard("127.0.0.1", None)
    assert not refused(guard, host)
    assert not refused(guard, host, f"http://{host}", method="POST")
    assert not refused(guard, host, f"https://{host.lower()}", kind="websocket", method="")


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8000", "127.0.0.1@evil",
     "192.168.0.7:8000", "8.8.8.8", "[::1", "localhost:port", "localhost:99999", "a b", "0x7f000001", "2130706433"],
)  # fmt: skip
def test_a_name_that_was_made_to_lead_here_is_refused(host):
    assert refused(Guard("127.0.0.1", None), host)


@pytest.mark.parametrize(
    "origin", [None, "", "null", "http://evil.example", "http://localhost:8001", "http://127.0.0.1:8000", "ws://localhost:8000",
               "http://localhost:8000.evil.example", "http://localhost", "file://"],
)  # fmt: skip
@pytest.mark.parametrize(("kind", "method"), [("websocket", ""), ("http", "POST"), ("http", "PUT"), ("http", "DELETE")])
def test_pages_of_others_cannot_send_anything(origin, kind, method):
    assert refused(Guard("127.0.0.1", None), "localhost:8000", origin, kind, method)


def test_reading_asks_for_no_origin():
    assert not refused(Guard("127.0.0.1", None), "localhost:8000", "http://evil.example")


@pytest.mark.parametrize(
    "given", ["", "token=", f"token={TOKEN[:-1]}", f"token={TOKEN}x", f"t={TOKEN}", "token=%ff", "token=ä"]
)
def test_without_the_token_nothing_is_to_be_had(given):
    guard = Guard("0.0.0.0", TOKEN)
    assert refused(guard, "10.0.0.1:8000", query=given)
    assert not refused(guard, "10.0.0.1:8000", query=f"session=1&token={TOKEN}")
    assert not refused(guard, "10.0.0.1:8000", **{"x-token": TOKEN})
    assert not refused(guard, "10.0.0.1:8000", query=given, public=True)


def test_beyond_this_machine_numbers_and_given_names_will_do():
    guard = Guard("0.0.0.0", TOKEN, frozenset({"GPU1.cluster"}))
    query = f"token={TOKEN}"
    assert not refused(guard, "gpu1.cluster:8000", query=query) and not refused(guard, "[2001:db8::1]:80", query=query)
    assert refused(guard, "evil.example:8000", query=query)
    assert not refused(Guard("gpu1.cluster", TOKEN), "gpu1.cluster:8000", query=query)


def test_behind_a_proxy_its_name_will_do_where_it_was_given():
    guard = Guard("127.0.0.1", None, frozenset({"Play.example"}))
    for origin in ("https://play.example", "http://PLAY.example:8443"):
        assert not refused(guard, "localhost:8000", origin, "websocket", "")
    for origin in ("https://play.example.evil", "https://evil.example", "ftp://play.example", "play.example"):
        assert refused(guard, "localhost:8000", origin, "websocket", "")
    assert refused(guard, "localhost:8000", "http://localhost:3000", "websocket", ""), "a neighbour's page"


def test_what_only_this_machine_reaches():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost", "Localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.1", "example.org", "localhost.example.org", "")))


def test_tokens_are_long_and_new():
    assert len({new_token() for _ in range(100)}) == 100 and len(new_token()) >= 32


def test_a_rate_lets_so_many_through():
    rate = Rate(10, 5)
    assert [rate.take(0) for _ in range(6)] == [True] * 5 + [False]
    assert [rate.take(0.2) for _ in range(3)] == [True, True, False]
    assert sum(rate.take(100) for _ in range(100)) == 5
    assert not rate.take(50), "a clock that goes back gives nothing"


def test_files_are_counted_by_address_and_few_addresses_are_remembered():
    files = Files()
    while files.take("one", 0):
        pass
    assert files.take("other", 0)
    for number in range(3000):
        files.take(str(number), 0)
    assert len(files._rates) <= 1000


def test_sockets_are_limited_in_all_and_by_address():
    sockets = Sockets()
    for _ in range(MOST_SOCKETS_OF_ADDRESS):
        sockets.enter("one")
    with pytest.raises(InputError):
        sockets.enter("one")
    sockets.leave("one")
    sockets.enter("one")
    with pytest.raises(InputError):
        for number in range(1000):
            sockets.enter(str(number))
