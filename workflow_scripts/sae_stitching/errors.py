"""Errors that are for people."""


class StudyError(Exception):
    """Something in the study's input is wrong.

    The message is one line that names the config key, file, tensor or position and says what
    to do about it. A workflow script prints the message alone; the traceback goes to its log.
    """


class WriteError(StudyError):
    """A result could not be written, for want of space or of the right to.

    HDF5 crashes when a file on a full disk is closed, so the process has to end without that.
    """
