"""Files from disk as responses, over real sockets."""

import pytest

from hypern import Hypern
from hypern.middleware import CompressionMiddleware
from hypern.testing import TestClient
from raw_http import Connection, fetch
from test_compression import ENCODINGS, decoded

LINES = "".join(f"{number}: what a file of text may hold\n" for number in range(20_000)).encode()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "lines.txt").write_bytes(LINES)
    (folder / "small.txt").write_bytes(b"small")
    (folder / "picture.png").write_bytes(LINES)
    app = Hypern()
    app.use(CompressionMiddleware())
    app.get("/files/:name")(lambda req, res: res.file(folder / req.param("name")) and None)
    app.get("/gone/:name")(lambda req, res: res.status(410).file(folder / req.param("name")) and None)

    @app.get("/dressed")
    def dressed(res):
        res.cookie("one", "1").cookie("two", "2").header("etag", '"mine"').file(folder / "small.txt")

    with TestClient(app) as client:
        yield client


def test_what_the_handler_has_set_is_kept(client):
    head, body = fetch(client.port, "/dressed")
    assert [value.split(";")[0] for name, value in head.headers if name == "set-cookie"] == ["one=1", "two=2"]
    assert (head.get("etag"), body) == ('"mine"', b"small")


def test_a_part_of_it(client):
    whole, _ = fetch(client.port, "/files/lines.txt")
    head, body = fetch(client.port, "/files/lines.txt", headers={"range": "bytes=10-29"})
    assert (head.status, head.get("content-range"), body) == (206, f"bytes 10-29/{len(LINES)}", LINES[10:30])
    assert head.get("etag") == whole.get("etag")


@pytest.mark.parametrize("encoding", ["identity", *ENCODINGS])
def test_a_part_of_a_file_that_has_changed_is_all_of_it(client, encoding):
    headers = {"range": "bytes=10-29", "if-range": '"another"', "accept-encoding": encoding}
    head, body = fetch(client.port, "/files/lines.txt", headers=headers)
    assert head.status == 200
    assert (body if encoding == "identity" else decoded(encoding, body)) == LINES


def test_a_part_of_the_same_file(client):
    etag = fetch(client.port, "/files/lines.txt")[0].get("etag")
    head, body = fetch(client.port, "/files/lines.txt", headers={"range": "bytes=-5", "if-range": etag})
    assert (head.status, body) == (206, LINES[-5:])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_it_is_compressed(client, encoding):
    plain, _ = fetch(client.port, "/files/lines.txt")
    head, body = fetch(client.port, "/files/lines.txt", headers={"accept-encoding": encoding})
    assert decoded(encoding, body) == LINES
    assert len(body) < len(LINES) / 3
    assert sorted(head.headers) == [
        ("content-encoding", encoding),
        ("content-type", "text/plain; charset=utf-8"),
        ("etag", f"W/{plain.get('etag')}"),
        ("last-modified", plain.get("last-modified")),
        ("transfer-encoding", "chunked"),
        ("vary", "accept-encoding"),
    ]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_was_compressed_can_be_validated(client, encoding):
    asked = {"accept-encoding": encoding}
    etag = fetch(client.port, "/files/lines.txt", headers=asked)[0].get("etag")
    head, body = fetch(client.port, "/files/lines.txt", headers={**asked, "if-none-match": etag})
    assert (head.status, body, head.get("content-encoding")) == (304, b"", None)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_head_of_a_compressed_file(client, encoding):
    with Connection(client.port) as connection:
        head = connection.send("/files/lines.txt", "HEAD", {"accept-encoding": encoding})
        assert (head.status, head.get("content-encoding"), head.get("content-length")) == (200, encoding, None)
        # Had a body come, the next response would not be where it is.
        assert connection.body(connection.send("/files/small.txt")) == b"small"


@pytest.mark.parametrize("path", ["/files/small.txt", "/files/picture.png"])
def test_what_is_not_worth_it_stays_as_it_is(client, path):
    plain = fetch(client.port, path)
    assert fetch(client.port, path, headers={"accept-encoding": "gzip"}) == plain
    assert plain[0].get("content-length") == str(len(plain[1]))


@pytest.mark.parametrize("headers", [{"range": "bytes=1-2"}, {"if-none-match": "*"}])
def test_conditions_are_for_what_is_there(client, headers):
    head, body = fetch(client.port, "/gone/small.txt", headers=headers)
    assert (head.status, body, head.get("content-range")) == (410, b"small", None)
