"""The error type for faults in the input, the files or the machine, as opposed to faults in this program."""


class UserError(Exception):
    """Message in one sentence: what is wrong and what to do. Command lines print it and exit with status 2."""
