"""A form with a file in it, read piece by piece as it comes.

Owns which parts a form may have. Never keeps the file: its bytes are handed on as they come.
"""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sundog.serve.wire.errors import Refusal, wrong_request

MAX_FIELD_BYTES = 64 * 1024
MAX_FILENAME_CHARACTERS = 255
MAX_PARTS = 64
FILE = "file"


class FormReader:
    """This class reads one form, with one part named `file`. `feed` may raise Refusal, and so may `end`."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            what = "a file is sent as multipart/form-data, with its parts `file` and `purpose`"
            raise Refusal(400, what, code="no_form", is_final=True)
        #: The values of the other parts, by name.
        self.fields: dict[str, str] = {}
        #: None until the file has begun.
        self.filename: str | None = None
        self._has_ended = False
        self._num_parts = 0
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = ""
        #: The name of the part that comes, and what has come of it where it is none of a file.
        self._name = ""
        self._field = bytearray()
        self._pieces: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._data,
                    "on_part_end": self._end_part,
                    "on_end": self._end_form,
                },
            )
        except FormParserError as error:
            raise _broken(str(error)) from error

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bytes of the file that are in the next bytes of the form."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _broken(str(error)) from error
        pieces, self._pieces = self._pieces, []
        return pieces

    def end(self) -> None:
        """The bytes of the form have ended."""
        if not self._has_ended:
            raise _broken("it ends before its last part does")
        if self.filename is None:
            raise wrong_request(FILE, "the form has no such part", hint="send the file in it")

    def _begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise _broken(f"it has more than {MAX_PARTS} parts")
        self._disposition = self._name = ""
        self._field = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._header, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name != FILE:
            return
        if self.filename is not None:
            raise wrong_request(FILE, "the form has it twice")
        filename = options.get(b"filename", b"").decode("utf-8", "replace")
        self.filename = filename[:MAX_FILENAME_CHARACTERS]

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE:
            self._pieces.append(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) + sum(map(len, self.fields.values())) > MAX_FIELD_BYTES:
            raise wrong_request(self._name[:80], f"the fields of a form have {MAX_FIELD_BYTES:,} bytes at most")

    def _end_part(self) -> None:
        if self._name != FILE:
            self.fields[self._name] = self._field.decode("utf-8", "replace")

    def _end_form(self) -> None:
        self._has_ended = True


def _broken(what: str) -> Refusal:
    return Refusal(400, f"the form cannot be read: {what}", code="invalid_form", is_final=True)
