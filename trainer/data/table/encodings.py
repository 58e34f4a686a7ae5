"""The encoding of a text file: as a key says, or detected from its first bytes."""

import codecs
import re

from trainer.errors import ConfigError

BOMS = (  # longer ones first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UNDEFINED_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def named_encoding(name: str, head: bytes) -> str:
    """Return the codec of a name, in the variant that the first bytes show; UTF-16 without a mark is little-endian.

    Args:
        name: as the user gave it.
        head: the first bytes of the file.

    Raises:
        ConfigError: where there is no such encoding.
    """
    try:
        "".encode(name)
        known = codecs.lookup(name).name
        guess = guess_encoding(head)
        if guess.startswith(known) or known.startswith(guess):
            known = guess
        elif known in ("utf-16", "utf-32"):
            known += "-le"
        codecs.getincrementaldecoder(known)("replace").decode(head[:1000] + bytes(range(256)))
    except (LookupError, UnicodeError) as error:  # of no codec, and of those that are not for whole texts
        raise ConfigError(f"data.encoding={name}: no encoding of that name, such as utf-8 or latin-1.") from error
    return known


def guess_encoding(head: bytes) -> str:
    """Guess the codec from the first bytes: by a mark, UTF-16 by NUL in every other byte, else UTF-8 or cp1252.

    Latin-1 takes the place of cp1252 where that does not define a byte.
    """
    for mark, name in BOMS:
        if head.startswith(mark):
            return name
    start = head[:1000]
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if (
            len(start) > 3
            and start[offset::2].count(0) > 0.7 * len(start[offset::2])
            and not start[1 - offset :: 2].count(0)
        ):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        if not head[: error.start].isascii():
            return "utf-8"  # with an invalid byte
        return "latin-1" if UNDEFINED_IN_CP1252.search(head) else "cp1252"
    return "utf-8"
