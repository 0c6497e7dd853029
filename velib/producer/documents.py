"""Reads the JSON documents in a file: one, or several in a row, as `curl >>` appends them.

The file is plain or compressed (gzip, bzip2, xz), in UTF-8 or UTF-16.
"""

import bz2
import codecs
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from velib.errors import Failure
from velib.feed.api import MAX_ANSWER_BYTES

CHUNK = 256 * 1024  # bytes read at once
LONGEST_START = 256  # bytes: a longer match of STARTS may be missed

OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
"""How to open a compressed file, by its first bytes."""

STARTS = (
    re.compile(rb'\}\s*(\{)\s*"[^"\\]{0,100}"\s*:'),
    re.compile(rb'(\{)\s*"lastUpdatedOther"\s*:'),
)
"""Where the next document starts: at `{` after `}` without a comma, or with the first field of the
feed's answers, whatever precedes it.
"""


class Unusable(Exception):
    """A file, or a part of it, cannot be used. The text says why."""


def documents(path: Path) -> Iterator[bytes]:
    """Each JSON document of a file (UTF-8), together with any other text that follows it.

    A document may be incomplete. Raises Unusable if there is none, or if the rest of the file is
    damaged, and Failure if it cannot be read.
    """
    is_empty = True
    try:
        with _open(path) as file:
            for document in _split(_in_utf8(file)):
                if b"{" in document:  # not just a byte order mark or a web page
                    is_empty = False
                    yield document
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise Unusable(f"it is damaged: {error}") from None
    except OSError as error:
        if error.errno is None:  # from gzip or bz2
            raise Unusable(f"it is damaged: {error}") from None
        if isinstance(error, FileNotFoundError) and path.parent.is_dir():
            raise Unusable("it has been removed") from None
        raise Failure(
            f"{path} cannot be read: {error.strerror}. The replay stops here, so that it leaves"
            " nothing out. Run it again once this is fixed"
        ) from None
    if is_empty:
        raise Unusable("it contains no JSON object")


def without_rest(document: bytes) -> bytes:
    """The JSON document without the text that follows it, such as a web page; raises Unusable."""
    try:
        text = document.decode()
        return text[: json.JSONDecoder().raw_decode(text)[1]].encode()
    except (ValueError, RecursionError) as error:
        raise Unusable(f"it is not valid JSON: {error}") from None


def _open(path: Path) -> Any:
    with path.open("rb") as file:
        magic = file.read(max(map(len, OPENERS)))
    openers = (opener for start, opener in OPENERS.items() if magic.startswith(start))
    return next(openers, open)(path, "rb")


def _in_utf8(file: Any) -> Iterator[bytes]:
    """The content of a file in chunks; raises what its decompression raises."""
    chunk = file.read1(CHUNK)  # unlike `read`, it returns what precedes damaged data
    encoding = json.detect_encoding(chunk)
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    while chunk:
        yield chunk if encoding.startswith("utf-8") else decoder.decode(chunk).encode()
        chunk = file.read1(CHUNK)


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The text of the chunks, split where documents start; raises Unusable."""
    buffer, searched = bytearray(), 1
    for chunk in chunks:
        buffer += chunk
        matches = (match for start in STARTS for match in start.finditer(buffer, searched))
        begin = 0
        for end in sorted({match.start(1) for match in matches}):
            yield bytes(buffer[begin:end])
            begin = end
        del buffer[:begin]
        if len(buffer) > MAX_ANSWER_BYTES:
            raise Unusable(f"it is damaged: no document ends within {MAX_ANSWER_BYTES >> 20} MB")
        searched = max(1, len(buffer) - LONGEST_START)
    yield bytes(buffer)
