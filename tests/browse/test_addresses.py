"""Every address that the server has, with hostile values: a sentence, and nothing in the log."""

import itertools
import logging
import random
import re
from http.client import HTTPConnection

import pytest
from browse_client import BEARER

from her2d.browse.database import ResultsDatabase
from her2d.browse.downloads import QUERIES
from her2d.browse.pages import PARAMETERS
from her2d.browse.routes import Pages

HOSTILE = [
    "",
    "0",
    "-1",
    "1e9",
    "9223372036854775808",
    "9" * 5000,
    "%D9%A3",  # a digit that is not ASCII
    "%00",
    "a%00b",
    "%0d%0aset-cookie:%20x=1",
    "%1b%5b2J",
    "%E2%80%AE",  # reverses text
    "%ff%fe",
    "%C3",
    "%ED%A0%80",  # a surrogate
    "%",
    "%zz",
    "%252e%252e%252f",
    "..%2f..%2fetc%2fpasswd",
    "%5c..%5c",
    "%3Cscript%3E",
    "';%20drop%20table%20runs;--",
    "%25%25%25%25_",
    "*" * 300,
    "id:",
    "id:99999999999999999999",
    "barcode:%00",
    "name:" + 900 * "%F0%9F%98%80",
    "a" * 12_000,
    "~root",
    "{0}",
    "%7B%7B7*7%7D%7D",
    "1;1",
    "true",
    "null",
    "%F0%9F%91%A9%E2%80%8D%F0%9F%94%AC",
]
SENTENCE = re.compile(r"[A-Z][^\n]*\.")


def routes() -> list[str]:
    """Return the addresses that the server has, with `{}` for each variable part."""
    pages = Pages(ResultsDatabase("/nowhere"))
    pages.close()
    found = [re.sub(r"\{[^}]*\}", "{}", route.path) for route in pages.routes()]
    return [f"{path}/{{}}" if path == "/her2d-static" else path for path in found]


def names() -> list[str]:
    queries = itertools.chain.from_iterable(query.parameters for query in QUERIES.values())
    return sorted({*PARAMETERS, *queries, "after", "token", "_where", "sql", ""})


@pytest.fixture
def send(site, caplog):
    """Send an address as it is, and check that the answer is none that nobody has foreseen."""
    caplog.set_level(logging.WARNING)
    client = HTTPConnection("127.0.0.1", int(site.url.rpartition(":")[2]), timeout=30)

    def send(target: str) -> int:
        client.request("GET", target, headers=BEARER)
        answer = client.getresponse()
        text, shown = answer.read().decode(errors="replace"), target[:200]
        assert answer.status < 500, (shown, text)
        if answer.status >= 400 and "json" not in answer.headers["content-type"]:
            assert SENTENCE.fullmatch(text), (shown, text)
        assert "set-cookie" not in answer.headers, shown
        assert "\x1b" not in text, shown
        return answer.status

    yield send
    client.close()
    assert [record for record in caplog.records if record.name.startswith(("her2d", "uvic"))] == []


def test_the_list_of_addresses_is_complete():
    assert len(routes()) == 11
    assert "/pictures/{}/tiles/{}/{}_{}.jpg" in routes()


@pytest.mark.parametrize("route", routes())
def test_no_value_in_a_path_is_an_error_of_the_server(send, route):
    count = route.count("{}")
    for value in HOSTILE:
        target = route.format(*[value] * count)
        if len(target) < 15_000:
            send(target)
        for place in range(count if count > 1 else 0):
            parts = ["1", "11", "0", "0"][:count]
            parts[place] = value
            send(route.format(*parts))


@pytest.mark.parametrize("route", [route for route in routes() if "static" not in route])
def test_no_parameter_is_an_error_of_the_server(send, route):
    path = route.format(*["1", "11", "0", "0"][: route.count("{}")])
    path = path.replace("/queries/1", "/queries/results")
    for name, value in itertools.product(names(), HOSTILE):
        if name != "token":
            send(f"{path}?{name}={value}")


def test_no_mixture_of_parameters_is_an_error_of_the_server(send):
    choose = random.Random(1)
    for _ in range(150):
        pairs = [
            f"{choose.choice(names())}={choose.choice(HOSTILE)[:500]}"
            for _ in range(choose.randint(0, 40))
        ]
        target = "&".join(pairs).replace("token=", "tokens=")
        path = choose.choice(["/", "/slides/1", "/queries/results.csv", "/queries/files.json"])
        send(f"{path}?{choose.choice(['', '&', '=', '?', '%'])}{target}"[:15_000])


@pytest.mark.parametrize("target", ["/" + "a" * 200_000, "/?text=" + "a" * 200_000])
def test_a_very_long_address_is_refused(site, target):
    client = HTTPConnection("127.0.0.1", int(site.url.rpartition(":")[2]), timeout=30)
    client.request("GET", target, headers=BEARER)
    assert client.getresponse().status == 400
    client.close()
