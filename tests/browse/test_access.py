"""Who may see the pages: hosts, sites, tokens; and what browsers are told."""

import httpx
import pytest
from browse_client import BEARER, TOKEN, browser, get

ADDRESSES = [
    "/",
    "/?text=a",
    "/slides/1",
    "/pictures/1/thumbnail.jpg",
    "/pictures/1/tiles/11/0_0.jpg",
    "/pictures/1/tiles.json",
    "/queries",
    "/queries/results.csv",
    "/her2d-static/her2d.css",
    "/nothing",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_answered_without_the_token(site, address):
    refused = get(site.url + address)
    assert refused.status_code == 401
    assert "Open the address that her2d browse printed" in refused.text
    assert "positive.tif" not in refused.text


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"her2d={TOKEN}"},
        {"cookie": "her2d-{port}=wrong"},
        {"cookie": "her2d-{port}"},
    ],
)
def test_a_wrong_token_is_refused(site, header):
    port = site.url.rpartition(":")[2]
    sent = {name: value.replace("{port}", port) for name, value in header.items()}
    assert get(site.url, headers=sent).status_code == 401


@pytest.mark.parametrize("value", [b"Bearer \xff\xfe", b"bearer " + b"a" * 8000, b'"\\"'])
def test_a_token_of_any_bytes_is_refused(site, value):
    for header in (b"authorization", b"cookie"):
        assert get(site.url, headers=[(header, value)]).status_code == 401


def test_the_printed_address_gives_a_cookie_and_leads_to_itself_without_the_token(site):
    port = site.url.rpartition(":")[2]
    answer = get(f"{site.url}/slides/1?token={TOKEN}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/slides/1"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"her2d-{port}={TOKEN};")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    with browser(base_url=site.url, follow_redirects=True) as client:
        first = client.get(f"/?text=pos&token={TOKEN}")
        assert str(first.url) == f"{site.url}/?text=pos"
        assert "positive.tif" in first.text
        assert client.get("/slides/1").status_code == 200


def test_a_wrong_token_in_the_address_is_refused_even_with_the_cookie(site):
    with browser(base_url=site.url, follow_redirects=True) as client:
        client.get(f"/?token={TOKEN}")
        refused = client.get("/?token=wrong")
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("path", ["//evil.example/", "/%5Cevil.example/", "///evil.example"])
def test_the_token_never_leads_to_another_server(site, path):
    with browser() as client:
        request = client.build_request("GET", site.url)
        request.url = httpx.URL(f"{site.url}/?token={TOKEN}").copy_with(
            raw_path=f"{path}?token={TOKEN}".encode()
        )
        location = client.send(request).headers["location"]
    assert location.startswith("/")
    assert location[1] not in "/\\"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8001", "127.0.0.1.evil.example"])
def test_a_request_for_another_host_is_rejected(site, host):
    assert get(site.url, headers={**BEARER, "host": host}).status_code == 421


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "unheard-of"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"referer": "http://evil.example/"},
        {"referer": "{url}.evil.example/"},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
    ],
)
def test_a_page_of_another_site_makes_nothing_compute(site, address, headers):
    sent = {name: value.replace("{url}", site.url) for name, value in headers.items()}
    refused = get(site.url + address, headers={**BEARER, **sent})
    assert refused.status_code == 403
    assert "a page of another site" in refused.text


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "referer": "{url}/"},
        {"origin": "{url}"},
        {"referer": "{url}/slides/1"},
    ],
)
def test_the_servers_own_pages_and_typed_addresses_are_answered(site, headers):
    sent = {name: value.replace("{url}", site.url) for name, value in headers.items()}
    assert get(site.url, headers={**BEARER, **sent}).status_code == 200


def test_a_link_on_another_site_leads_to_a_page_from_which_a_person_can_go_on(site):
    sent = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}
    refused = get(f"{site.url}/slides/a%22%3E%3Cb%3E?x=%22", headers=sent)
    assert refused.status_code == 403
    assert 'href="/slides/a%22%3E%3Cb%3E?x=%22"' in refused.text


@pytest.mark.parametrize("address", [*ADDRESSES, "/?page=-1", "/?token=wrong"])
def test_every_answer_forbids_other_content_frames_and_referers(site, address):
    answers = [site.get(address), get(site.url + address)]
    answers.append(site.get(address, sec_fetch_site="cross-site"))
    answers.append(get(site.url + address, headers={"host": "evil.example"}))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_head_are_answered(site, method):
    for address in ("/", "/slides/1", "/queries/results.csv"):
        refused = get(site.url + address, BEARER, method)
        assert refused.status_code == 405
    assert get(site.url, BEARER, "HEAD").status_code == 200


def test_a_page_has_no_style_or_script_in_it(site):
    for address in ("/", "/slides/1", "/queries"):
        page = site.get(address).text
        assert "style=" not in page
        assert "<style" not in page
