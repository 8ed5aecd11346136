"""HTML forms."""

import pytest

from hypern import HTTPException, Hypern
from hypern.forms import Form, UploadFile, parse
from hypern.testing import TestClient

BOUNDARY = "x-boundary"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def part(disposition, body, *headers):
    lines = [f"--{BOUNDARY}", f"content-disposition: form-data; {disposition}", *headers, "", body]
    return "\r\n".join(lines) + "\r\n"


def multipart(*parts):
    return ("".join(parts) + f"--{BOUNDARY}--\r\n").encode()


def test_url_encoded_fields_are_decoded():
    form = parse(b"name=Ada+L%C3%B6ve&name=again&empty=", "application/x-www-form-urlencoded; charset=utf-8")
    assert dict(form) == {"name": "Ada Löve", "empty": ""}
    assert form.get_all("name") == ["Ada Löve", "again"]
    assert form.get_all("absent") == []
    assert form.get("absent") is None
    assert len(form) == 2
    assert form.files == {}


def test_multipart_fields_and_files_are_decoded():
    form = parse(
        multipart(
            part('name="title"', "Notes é"),
            part('name="doc"; filename="a.txt"', "line\r\nline", "content-type: text/plain"),
            part('name="doc"; filename="b.bin"', "second"),
            part('name="none"; filename=""', "", "content-type: application/octet-stream"),
        ),
        MULTIPART,
    )
    assert dict(form) == {"title": "Notes é"}
    assert form.files == {"doc": UploadFile("a.txt", "text/plain", b"line\r\nline")}
    assert form.get_files("doc")[1] == UploadFile("b.bin", "application/octet-stream", b"second")
    assert form.get_files("none") == []
    assert repr(form) == "<Form fields=['title'] files=['doc']>"


def test_a_file_larger_than_any_buffer_stays_in_memory():
    form = parse(multipart(part('name="doc"; filename="big"', "x" * 1_000_000)), MULTIPART)
    assert len(form.files["doc"].data) == 1_000_000


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json; charset=utf-8"])
def test_another_content_type_is_refused(content_type):
    with pytest.raises(HTTPException) as caught:
        parse(b"a=1", content_type)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"a=\xff", "application/x-www-form-urlencoded"),
        (b"a=%ff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(1001)), "application/x-www-form-urlencoded"),
        (b"", "multipart/form-data"),
        (b"no boundary here", MULTIPART),
        (multipart(part('name="a"', "1"))[:-8], MULTIPART),
        (multipart(part('name="a"', "1", "content-type: text/plain; charset=hex")), MULTIPART),
        (multipart(*(part('name="a"', "1") for _ in range(1001))), MULTIPART),
    ],
)
def test_a_malformed_form_is_a_bad_request(body, content_type):
    with pytest.raises(HTTPException) as caught:
        parse(body, content_type)
    assert caught.value.status == 400
    assert caught.value.detail.startswith("The form is malformed: ")


def test_a_handler_gets_the_form_of_a_request():
    app = Hypern()

    @app.post("/")
    def handler(req):
        form = req.form()
        assert isinstance(form, Form)
        return {"fields": dict(form), "files": {name: file.filename for name, file in form.files.items()}}

    with TestClient(app) as client:
        assert client.post("/", data={"a": "1"}).json() == {"fields": {"a": "1"}, "files": {}}
        uploaded = client.post("/", data={"a": "1"}, files={"doc": ("x.txt", b"data")})
        assert uploaded.json() == {"fields": {"a": "1"}, "files": {"doc": "x.txt"}}
        assert client.post("/", content=b"a=1").status_code == 415
