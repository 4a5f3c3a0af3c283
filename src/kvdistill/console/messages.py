"""Messages as a terminal shows them: no control characters, no endless quotations, no bare error numbers."""

import errno
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 200
"""Characters of a file that a message quotes at most."""

_SEPARATORS = ("Zl", "Zp")
_CAUSES = {
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "this is a folder, not a file",
    errno.EEXIST: "there is a file of this name",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "it cannot be read or written (input/output error)",
    errno.ELOOP: "its symbolic links form a loop",
    errno.ENXIO: "this is a device or socket, not a file",
}


def printable(text: str) -> str:
    """``text`` with every character that steers a terminal or is no text written as its escape; line breaks
    and tabs stay.
    """
    return "".join(_escaped(letter) for letter in text) if not text.isprintable() else text


def shortened(text: str, longest: int = LONGEST) -> str:
    """At most ``longest`` characters of ``text``; what is left out is counted."""
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text) - longest} more characters)"


def quoted(value: object, longest: int = LONGEST) -> str:
    """``value`` as Python writes it, shortened."""
    if isinstance(value, str) and len(value) > longest:
        return f"{value[:longest]!r}... ({len(value)} characters)"
    return shortened(repr(value)) if not isinstance(value, str) else repr(value)


def did_you_mean(name: str, known: Iterable[str], form: str = "{!r}", most: int = 1) -> str:
    """A suggestion to append to a message about an unknown name.

    Args:
        name: What was typed.
        known: The names that exist.
        form: How a name is written, as a format string of one field.
        most: Number of names suggested at most, the nearest first.

    Returns:
        `` Did you mean 'rkv'?`` with its leading space, or an empty string where no known name is near.
    """
    near = get_close_matches(name, list(known), n=most)
    return f" Did you mean {' or '.join(form.format(each) for each in near)}?" if near else ""


def explain_os_error(error: OSError) -> str:
    """A sentence in place of ``[Errno 20] Not a directory: 'x'``; what has no error number keeps its own
    message.
    """
    if error.errno is None:
        return str(error)
    cause = _CAUSES.get(error.errno, (error.strerror or "it cannot be used").lower())
    where = "A file" if error.filename is None else shortened(str(error.filename))
    return f"{where}: {cause}. Check the path, or choose another."


def _escaped(letter: str) -> str:
    category = unicodedata.category(letter)
    steers = (category.startswith("C") and letter not in "\n\t") or category in _SEPARATORS
    return letter.encode("unicode_escape").decode("ascii") if steers else letter
