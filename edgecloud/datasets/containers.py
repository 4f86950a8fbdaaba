"""The audio that a recording's container declares, and how much of it is there.

libsndfile reads a file that was cut off as if it had been meant so: it takes what is there for the whole.
Here the containers that declare the length of their audio are held to it.

=======================  =============================================================================
WAV, RIFX, RF64, BW64    chunk ``data`` (size 32 bits; 64 bits in chunk ``ds64``)
W64                      chunk ``data`` (64 bits, its own head of 24 bytes included)
AIFF, AIFF-C, 8SVX       chunk ``SSND`` or ``BODY``; AIFF's ``COMM`` counts frames besides
CAF                      chunk ``data`` (64 bits; -1: to the end of the file), whatever the codec
AU                       data size in the head
FLAC                     samples in STREAMINFO: counted by who decodes it; here only its head is looked at
NIST SPHERE              ``sample_count``, ``channel_count``, ``sample_n_bytes``
VOC                      blocks of 24 bits
AVR, WVE, MPC 2000       frames or bytes in the head
AAC (ADTS), AMR          no length, but frames that say theirs: one that ends early is cut
=======================  =============================================================================

All ones or nearly so, SoX's 0x7F000000 and 0x7FFFF000, and other large sizes that programs write into a pipe, where they
cannot go back, declare nothing: the audio goes to the end of the file. So does 0 with bytes after it (the program was killed
before it went back). A size of 32 bits is such a one from 0x7F000000 on, where less than 1 GB is there.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from edgecloud.errors import AudioError

__all__ = ["Layout", "Mended", "layout"]

_UNKNOWN_FROM: Final = 0x7F000000 - (1 << 10)
"""The least size that a program writes into a pipe: SoX's for AIFF, rounded down to whole frames."""
_FAR_SMALLER: Final = 10**9
"""Bytes of audio below which such a size is not believed."""
_NO_FILE: Final = 1 << 62
"""Bytes that no file has."""
_W64_RIFF: Final = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA: Final = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_W64_HEAD: Final = 24
_MAX_CHUNKS: Final = 100_000
_PLAIN_AIFF: Final = frozenset({
    b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"42ni", b"23ni",
    b"fl32", b"FL32", b"fl64", b"FL64",
})  # fmt: skip
_NIST_HEAD_BYTES: Final = 16_384
_AVR_HEAD: Final = 128
_ADTS_HEAD: Final = 7
_MPC_HEAD: Final = 42
_AMR_FRAMES: Final = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6, 0, 0, 0, 0, 0, 1, 1),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 0, 0, 0, 0, 1, 1),
}
"""Bytes of a frame by its type, its head included (RFC 4867, 5.3); 0: none that a file of speech has."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A container's declaration of its audio. ``declared`` are the bytes it announces (``None``: it goes
    to the end), ``present`` those that are there; ``patches`` are bytes by their place in the file,
    without which libsndfile would not read to the end of a file that declares nothing."""

    container: str
    declared: int | None
    present: int
    patches: Mapping[int, bytes] = field(default_factory=dict)


class Mended(io.RawIOBase):
    """A file as it would be with some bytes of its head replaced; nothing is written."""

    def __init__(self, stream: BinaryIO, patches: Mapping[int, bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._patches = patches

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset`` of the file and return the new position."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """The position in the file, bytes."""
        return self._stream.tell()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read into ``buffer``, with the replaced bytes in place; returns their number."""
        begin = self._stream.tell()
        content = bytearray(self._stream.read(len(buffer)))
        for place, patch in self._patches.items():
            for number, byte in enumerate(patch, start=place - begin):
                if 0 <= number < len(content):
                    content[number] = byte
        buffer[: len(content)] = content
        return len(content)


def layout(path: Path) -> Layout | None:
    """The declaration of the container at ``path``; ``None``: it is none that declares a length, or
    not well formed, about which the decoder has its own words.

    Raises:
        AudioError: the file ends inside its container's head, or before all of the audio that it announces.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        found = _layout(_Reader(stream, size, path))
    if found is not None and found.declared is not None and found.declared > found.present:
        raise AudioError(
            f"recording {path} is cut off: its {found.container} header announces "
            f"{found.declared} bytes of audio, {found.present} are there; copy it again"
        )
    return found


class _Reader:
    """Pieces of a file at given places."""

    def __init__(self, stream: BinaryIO, size: int, path: Path) -> None:
        self._stream = stream
        self.size = size
        self._path = path

    def at(self, place: int, count: int) -> bytes:
        """``count`` bytes at ``place``, or as many as there are."""
        self._stream.seek(place)
        return self._stream.read(count)

    def ends_early(self, container: str) -> AudioError:
        return AudioError(
            f"recording {self._path} is cut off inside its {container} header, before any audio; copy it "
            "again"
        )

    def number(self, place: int, form: str) -> int:
        """An unsigned number; 0 where the file ends before it."""
        count = struct.calcsize(form)
        content = self.at(place, count)
        return int(struct.unpack(form, content)[0]) if len(content) == count else 0


def _layout(file: _Reader) -> Layout | None:
    head = file.at(0, 16)
    kind = head[:4]
    if kind in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wav(file, kind)
    if head == _W64_RIFF:
        return _w64(file)
    if kind == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return _form(file, head[8:12])
    if kind == b"caff":
        return _caf(file)
    if kind in (b".snd", b"dns."):
        return _au(file, ">" if kind == b".snd" else "<")
    if kind == b"fLaC" or kind[:3] == b"ID3":
        return _flac(file)
    if head[:8] == b"NIST_1A\n":
        return _nist(file)
    if head == b"Creative Voice F":
        return _voc(file)
    if kind == b"2BIT":
        return _avr(file)
    if head == b"ALawSoundFile**\0":
        return _counted_in_head("WVE", file, begin=32, count=file.number(18, ">I"))
    if head[:2] == b"\x01\x04" and file.size > _MPC_HEAD:
        channels = 2 if file.at(21, 1) == b"\x01" else 1
        frames = file.number(30, "<I")
        return _counted_in_head("MPC 2000", file, begin=_MPC_HEAD, count=frames, width=2 * channels)
    if head[:5] == b"#!AMR":
        return _amr(file, head)
    if head[:1] == b"\xff" and head[1:2] and head[1] & 0xF6 == 0xF0:
        return _adts(file)
    return None


def _wav(file: _Reader, kind: bytes) -> Layout | None:
    order = ">" if kind == b"RIFX" else "<"
    container = "WAV" if kind in (b"RIFF", b"RIFX") else kind.decode()
    patches: dict[int, bytes] = {0: b"RF64"} if kind == b"BW64" else {}
    place, long_at = 12, None
    for _ in range(_MAX_CHUNKS):
        head = file.at(place, 8)
        if len(head) < 8:
            break
        size, begin = struct.unpack(f"{order}I", head[4:])[0], place + 8
        if head[:4] == b"data":
            present = file.size - begin
            declared = int(size)
            where, form = place + 4, f"{order}I"
            if long_at is not None and size == 0xFFFFFFFF:
                where, form = long_at, "<Q"
                declared = file.number(where, form)
            if _unknown(declared, present, wide=form == "<Q") and not (
                declared == 0 and _chunks_to_the_end(file, begin, order)
            ):
                limit = 2 ** (8 * struct.calcsize(form)) - 1
                if form == "<Q" or declared != limit:
                    patches[where] = struct.pack(form, min(present, limit))
                return Layout(container, None, present, patches)
            return Layout(container, declared, present, patches)
        if head[:4] == b"ds64" and container != "WAV":
            long_at = begin + 8
        if begin + size > file.size:
            raise file.ends_early(container)
        place = begin + size + size % 2
    if file.number(4, f"{order}I") + 8 > file.size:
        raise file.ends_early(container)
    return None


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _chunks_to_the_end(file: _Reader, place: int, order: str) -> bool:
    """True when what begins at ``place`` is chunks and nothing else: then a data chunk of size 0 is empty."""
    if place >= file.size:
        return True
    for _ in range(_MAX_CHUNKS):
        head = file.at(place, 8)
        if len(head) < 8 or not _is_name(head[:4]):
            return False
        size = struct.unpack(f"{order}I", head[4:])[0]
        place += 8 + size + size % 2
        if place >= file.size:
            return place <= file.size + 1
    return False


def _unknown(declared: int, present: int, *, wide: bool = False) -> bool:
    """True when a size, or a count of frames, means that its writer did not know it; ``wide``: one of 64 bits,
    which large files need."""
    if declared == 0:
        return present > 0
    if declared == 0xFFFFFFFF or declared >= _NO_FILE:
        return True
    return not wide and _UNKNOWN_FROM < declared <= 0xFFFFFFFF and present < _FAR_SMALLER


def _w64(file: _Reader) -> Layout | None:
    place = 40
    for _ in range(_MAX_CHUNKS):
        head = file.at(place, _W64_HEAD)
        if len(head) < _W64_HEAD:
            break
        size = int.from_bytes(head[16:], "little")
        if head[:16] == _W64_DATA:
            present = file.size - place - _W64_HEAD
            declared = max(0, size - _W64_HEAD)
            unknown = any(_unknown(number, present, wide=True) for number in (declared, size))
            return Layout("W64", None if unknown else declared, present)
        if size < _W64_HEAD:
            return None
        if place + size > file.size:
            raise file.ends_early("W64")
        place += size + -size % 8
    if file.size < 64 or file.number(16, "<Q") > file.size:
        raise file.ends_early("W64")
    return None


def _form(file: _Reader, kind: bytes) -> Layout | None:
    container = kind.decode() if kind in (b"8SVX", b"16SV") else "AIFF"
    body = b"SSND" if container == "AIFF" else b"BODY"
    place, counted, found = 12, 0, None
    for _ in range(_MAX_CHUNKS):
        head = file.at(place, 8)
        if len(head) < 8:
            break
        size, begin = struct.unpack(">I", head[4:])[0], place + 8
        if head[:4] == body:
            skipped = 8 + file.number(begin, ">I") if container == "AIFF" else 0
            present, declared = max(0, file.size - begin - skipped), max(0, size - skipped)
            if _unknown(size, present) or (declared == 0 and present > 0):
                if _chunks_to_the_end(file, begin + skipped, ">") and size in (0, skipped):
                    found = Layout(container, 0, present)
                else:
                    patch = struct.pack(">I", min(present + skipped, 0xFFFFFFFF))
                    return _counted(Layout(container, None, present, {place + 4: patch}), counted)
            else:
                found = Layout(container, declared, present)
            if begin + size > file.size:
                break
        elif head[:4] == b"COMM" and container == "AIFF":
            counted = _aiff_bytes(file, begin, kind)
        if begin + size > file.size:
            if found is None:
                raise file.ends_early(container)
            break
        place = begin + size + size % 2
    if found is None:
        if file.number(4, ">I") + 8 > file.size:
            raise file.ends_early(container)
        return None
    return _counted(found, counted)


def _aiff_bytes(file: _Reader, begin: int, kind: bytes) -> int:
    """Bytes of audio that the frames in a ``COMM`` chunk take; 0 where that is not known."""
    content = file.at(begin, 22)
    if len(content) < 18 or (kind == b"AIFC" and content[18:22] not in _PLAIN_AIFF):
        return 0
    channels, frames, bits = struct.unpack(">HIH", content[:8])
    counted = int(channels * frames * -(-bits // 8))
    unknown = _unknown(frames, file.size) or _unknown(counted, file.size)
    return 0 if unknown else counted


def _counted(found: Layout, counted: int) -> Layout:
    """The layout, where the count of frames announces more than the chunk of audio does."""
    if counted <= (found.declared or 0):
        return found
    if found.declared is None and counted <= found.present:
        return found
    return Layout(found.container, counted, min(found.present, found.declared or found.present))


def _caf(file: _Reader) -> Layout | None:
    place = 8
    for _ in range(_MAX_CHUNKS):
        head = file.at(place, 12)
        if len(head) < 12:
            break
        size, begin = int.from_bytes(head[4:], "big", signed=True), place + 12
        if head[:4] == b"data":
            # Four bytes of the chunk count edits.
            present, declared = max(0, file.size - begin - 4), max(0, size - 4)
            if size < 0 or _unknown(declared, present, wide=True):
                patch = struct.pack(">Q", present + 4)
                return Layout("CAF", None, present, {place + 4: patch})
            return Layout("CAF", declared, present)
        if size < 0:
            return None
        if begin + size > file.size:
            raise file.ends_early("CAF")
        place = begin + size
    raise file.ends_early("CAF")


def _au(file: _Reader, order: str) -> Layout | None:
    begin, declared = file.number(4, f"{order}I"), file.number(8, f"{order}I")
    if file.size < 24 or begin > file.size:
        raise file.ends_early("AU")
    present = file.size - begin
    if not _unknown(declared, present):
        return Layout("AU", declared, present)
    if declared == 0xFFFFFFFF:  # as its definition has it
        return Layout("AU", None, present)
    size = struct.pack(f"{order}I", min(present, 0xFFFFFFFE))
    return Layout("AU", None, present, {8: size})


def _flac(file: _Reader) -> Layout | None:
    """Only whether the head is whole: its samples are counted by who decodes them."""
    place = 0
    head = file.at(0, 10)
    if head[:3] == b"ID3" and len(head) == 10:
        sizes = head[6:10]
        place = 10 + sum((byte & 0x7F) << (7 * (3 - i)) for i, byte in enumerate(sizes))
    if file.at(place, 4) != b"fLaC":
        return None
    place += 4
    for _ in range(_MAX_CHUNKS):
        block = file.at(place, 4)
        end = place + 4 + int.from_bytes(block[1:], "big")
        if len(block) < 4 or end > file.size:
            raise file.ends_early("FLAC")
        place = end
        if block[0] & 0x80:
            break
    if place == file.size and file.size:
        raise file.ends_early("FLAC")
    return None


_NIST_FIELD: Final = re.compile(
    rb"^(sample_count|channel_count|sample_n_bytes) -i (\d+)", re.MULTILINE
)


def _nist(file: _Reader) -> Layout | None:
    digits = file.at(8, 8).strip()
    begin = int(digits) if digits.isdigit() else 0
    if not 0 < begin <= _NIST_HEAD_BYTES:
        return None
    if begin > file.size:
        raise file.ends_early("NIST")
    head = file.at(0, begin)
    values = {name: int(value) for name, value in _NIST_FIELD.findall(head)}
    present = file.size - begin
    if b"shorten" in head or b"wavpack" in head or len(values) < 3:
        return None
    declared = values[b"sample_count"] * values[b"channel_count"] * values[b"sample_n_bytes"]
    return Layout("NIST", None if _unknown(declared, present) else declared, present)


def _voc(file: _Reader) -> Layout | None:
    place, declared, present = file.number(20, "<H"), 0, 0
    if file.size < max(26, place):
        raise file.ends_early("VOC")
    for _ in range(_MAX_CHUNKS):
        head = file.at(place, 4)
        if not head or head[0] == 0:  # an end that some writers leave out
            break
        size, begin = int.from_bytes(head[1:4], "little"), place + 4
        if head[0] in (1, 2, 9):
            if size in (0, 0xFFFFFF):  # written into a pipe
                return Layout("VOC", None, present + max(0, file.size - begin))
            declared += size
            present += min(size, max(0, file.size - begin))
        elif begin + size > file.size:
            raise file.ends_early("VOC")
        place = begin + size
    return Layout("VOC", declared, present) if declared else None


def _avr(file: _Reader) -> Layout | None:
    channels = 2 if file.number(12, ">H") == 0xFFFF else 1
    width = -(-file.number(14, ">H") // 8)
    return _counted_in_head(
        "AVR", file, begin=_AVR_HEAD, count=file.number(26, ">I"), width=channels * width
    )


def _counted_in_head(
    container: str, file: _Reader, *, begin: int, count: int, width: int = 1
) -> Layout:
    """Audio of ``count`` frames of ``width`` bytes each."""
    if file.size < begin:
        raise file.ends_early(container)
    present, declared = file.size - begin, count * width
    unknown = _unknown(count, present) or _unknown(declared, present)
    return Layout(container, None if unknown else declared, present)


def _adts(file: _Reader) -> Layout | None:
    """AAC as a stream: each frame's head says how long it is."""
    return _framed("AAC frame", file, 0, _adts_length)


def _adts_length(head: bytes) -> int:
    begins = head[0] == 0xFF and (len(head) == 1 or head[1] & 0xF6 == 0xF0)
    if not begins or len(head) < _ADTS_HEAD:
        return _ADTS_HEAD if begins else 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length >= _ADTS_HEAD else 0


def _amr(file: _Reader, head: bytes) -> Layout | None:
    """AMR as a file: each frame begins with its type, which says how long it is."""
    for begins, sizes in _AMR_FRAMES.items():
        if head.startswith(begins):
            return _framed("AMR frame", file, len(begins), partial(_amr_length, sizes))
    return None  # of several channels


def _amr_length(sizes: Sequence[int], head: bytes) -> int:
    # The first and the last two bits of a frame's head are always 0.
    return 0 if head[0] & 0x83 else sizes[head[0] >> 3 & 15]


def _framed(
    container: str, file: _Reader, begin: int, length: Callable[[bytes], int]
) -> Layout | None:
    """Audio in frames, whose ``length`` in bytes their first seven bytes tell (0: it is no frame; then the
    decoder may say what it is)."""
    content, place = file.at(begin, file.size), 0
    while place < len(content):
        size = length(content[place : place + _ADTS_HEAD])
        if size <= 0:
            return None
        place += size
    return Layout(container, place, len(content))
