"""HTML forms: URL-encoded and multipart bodies, decoded into fields and files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from multipart import MultipartParser, parse_options_header

from hypern.errors import HTTPException

__all__ = ["Form", "UploadFile", "parse"]

URL_ENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

# The size of a body is bounded before it gets here; this bounds the objects made of it.
MAXIMUM_FIELDS = 1000


@dataclass(frozen=True, slots=True)
class UploadFile:
    """A file of a multipart form.

    ``filename`` and ``content_type`` are the client's word: never use the name as a path as it is.
    """

    filename: str
    content_type: str
    data: bytes


class Form(Mapping[str, str]):
    """A decoded form: a mapping from each field's name to its first value.

    ``files`` maps the name of each file field to its first file. Fields and files keep the order of the body.
    """

    __slots__ = ("_fields", "_files")

    def __init__(self, fields: list[tuple[str, str]], files: list[tuple[str, UploadFile]]) -> None:
        self._fields: dict[str, list[str]] = _grouped(fields)
        self._files: dict[str, list[UploadFile]] = _grouped(files)

    def __getitem__(self, name: str) -> str:
        return self._fields[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<Form fields={list(self._fields)} files={list(self._files)}>"

    def get_all(self, name: str) -> list[str]:
        """Return every value of a field, in order; an empty list if there is none."""
        return list(self._fields.get(name, ()))

    @property
    def files(self) -> dict[str, UploadFile]:
        """The first file of each file field, by the field's name."""
        return {name: files[0] for name, files in self._files.items()}

    def get_files(self, name: str) -> list[UploadFile]:
        """Return every file of a field (``<input type="file" multiple>``), in order; an empty list if there is none."""
        return list(self._files.get(name, ()))


def parse(body: bytes, content_type: str) -> Form:
    """Decode a form body.

    :param body: the whole body.
    :param content_type: the request's Content-Type, with its parameters.
    :raises HTTPException: 415 if the type is not that of a form; 400 if the body is malformed or has more than 1000
        fields. Sources: the URL standard, section 5.1, and RFC 7578.
    """
    media_type, options = parse_options_header(content_type)
    try:
        if media_type == URL_ENCODED:
            return Form(_parse_url_encoded(body), [])
        if media_type == MULTIPART:
            return _parse_multipart(body, options)
    except (ValueError, LookupError) as error:
        raise HTTPException(400, f"The form is malformed: {error}") from error
    raise HTTPException(415, f"A form is {URL_ENCODED} or {MULTIPART}")


def _parse_url_encoded(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAXIMUM_FIELDS)


def _parse_multipart(body: bytes, options: Mapping[str, str]) -> Form:
    if "boundary" not in options:
        message = "the content type has no boundary"
        raise ValueError(message)
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, UploadFile]] = []
    in_memory = len(body) + 1
    parser = MultipartParser(
        BytesIO(body),
        options["boundary"],
        content_length=len(body),
        part_limit=MAXIMUM_FIELDS,
        spool_limit=in_memory,
        memory_limit=in_memory,
    )
    for part in parser:
        if part.filename is None:
            fields.append((part.name, part.value))
        elif part.filename:
            # A file field left empty is sent as a file without a name, and is no file.
            files.append((part.name, UploadFile(part.filename, part.content_type, part.raw)))
    return Form(fields, files)


def _grouped(pairs: list[tuple[str, Any]]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return groups
