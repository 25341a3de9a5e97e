"""Errors that are for people, and what an error says of the file that it came from."""

import errno
import os
import re
from pathlib import Path


class StudyError(Exception):
    """Something in the study's input is wrong.

    The message is one line that names the config key, file, tensor or position and says what
    to do about it. A workflow script prints the message alone; the traceback goes to its log.
    """


class WriteError(StudyError):
    """A result could not be written, for want of space or of the right to.

    HDF5 crashes when a file on a full disk is closed, so the process has to end without that.
    """


#: What to do where a file cannot be read for a reason that lies in the system and not in the file.
#: Not every system knows all of these names.
_REMEDIES = {
    "check its rights": "EACCES EPERM",
    "name a file": "EISDIR ENOTDIR ELOOP ENAMETOOLONG",
    "let fewer jobs run at once or raise the limit (ulimit -n), then run again": "EMFILE ENFILE",
    "let fewer jobs run at once or give the job more memory, then run again": "ENOMEM",
    "run again": "EINTR EAGAIN EBUSY ETXTBSY",
    "see to its disk or network file system, then run again": (
        "EIO ENXIO ENODEV ESTALE EREMOTEIO ETIMEDOUT ECOMM ENOTCONN ECONNABORTED ECONNREFUSED "
        "ECONNRESET EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ESHUTDOWN EPROTO"
    ),
}
_REMEDY = {
    getattr(errno, name): remedy
    for remedy, names in _REMEDIES.items()
    for name in names.split()
    if hasattr(errno, name)
}
#: What file systems without locks answer to the wish for one.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
#: Some libraries raise these without a number.
_KINDS = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
}
_OUT_OF_MEMORY = re.compile(
    "out of memory|not enough memory|allocate memory|memory allocation failed|unable to allocate",
    re.IGNORECASE,
)


def error_number(error: BaseException) -> int | None:
    """Number of the system's error (errno) that `error` is about, if it is about one.

    HDF5 and libraries written in Rust say it in the text, which is not always that of an OSError.
    """
    said = re.search(r"errno = (\d+)|\(os error (\d+)\)", str(error))
    if said:
        return int(said[1] or said[2])
    if isinstance(error, MemoryError) or (
        not isinstance(error, OSError) and _OUT_OF_MEMORY.search(str(error))
    ):
        return errno.ENOMEM
    number = getattr(error, "errno", None)
    kinds = (kind for kind in _KINDS if number is None and isinstance(error, kind))
    return next((_KINDS[kind] for kind in kinds), number)


def in_the_way(error: BaseException) -> str | None:
    """Say why a file that may well be sound cannot be read, and what to do.

    This is the one place that tells damage from everything else: whoever would advise to delete a
    file, or to get it again, asks here first.

    Returns
    -------
    str or None
        ``cannot be read (<why>); <remedy>``, to stand after the file's name; None if the system
        had no part in it, so that the file is damaged or something else than it should be.
    """
    if "already open for write" in str(error):
        # A mark in the file, which stays there when the program is killed.
        return (
            "cannot be read (a program has it open for writing, or was killed while it had); end "
            "that program, or take the mark off (h5clear --status)"
        )
    number = error_number(error)
    if number is None:
        return None
    why = os.strerror(number)
    lock = "unable to lock file" in str(error)
    if lock and number in (errno.EAGAIN, errno.EACCES):
        return (
            f"cannot be read (locked: {why}); another process has it open, maybe one that was "
            "left over: end it and run again, or set HDF5_USE_FILE_LOCKING=FALSE if none writes it"
        )
    if lock and number in _NO_LOCKS:
        return (
            f"cannot be read (its file system gives no locks: {why}); set "
            "HDF5_USE_FILE_LOCKING=FALSE and run again"
        )
    if number == errno.ENOENT:
        return "no such file"
    return f"cannot be read ({why}); {_REMEDY[number]}" if number in _REMEDY else None


def unreadable(path: str | Path, error: BaseException, otherwise: str) -> StudyError:
    """Word what `error` says of a file: what is in the way, or else `otherwise`."""
    return StudyError(f"{path}: {in_the_way(error) or otherwise}")
