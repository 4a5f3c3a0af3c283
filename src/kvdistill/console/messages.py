"""Text of error messages: escaped, shortened, with suggestions for misspelled names."""

import errno
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 200
"""Most characters that a message quotes from a file."""

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
    """Escape characters that control a terminal or are not text; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def shortened(text: str, longest: int = LONGEST) -> str:
    """The first ``longest`` characters of ``text``, with the number of those left out."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}... ({len(text) - longest} more characters)"


def quoted(value: object, longest: int = LONGEST) -> str:
    """The ``repr`` of ``value``, shortened."""
    if not isinstance(value, str):
        return shortened(repr(value))
    if len(value) > longest:
        return f"{value[:longest]!r}... ({len(value)} characters)"
    return repr(value)


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
    if not near:
        return ""
    return f" Did you mean {' or '.join(form.format(each) for each in near)}?"


def explain_os_error(error: OSError) -> str:
    """A sentence in place of ``[Errno 20] Not a directory: 'x'``.

    Errors without a number, which libraries raise, keep their own message.
    """
    if error.errno is None:
        return str(error)
    cause = _CAUSES.get(error.errno, (error.strerror or "it cannot be used").lower())
    where = "A file"
    if error.filename is not None:
        where = shortened(str(error.filename))
    return f"{where}: {cause}. Check the path, or choose another."


def _escaped(letter: str) -> str:
    # Categories C*: control, format, surrogate, private use and unassigned characters.
    category = unicodedata.category(letter)
    steers = (category.startswith("C") and letter not in "\n\t") or category in _SEPARATORS
    if not steers:
        return letter
    return letter.encode("unicode_escape").decode("ascii")
