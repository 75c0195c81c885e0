"""The error type for faults in the input, the files or the machine, as opposed to faults in this program."""


class UserError(Exception):
    """Message in one sentence: the fault and its remedy. Command lines print it on stderr and exit with status 2."""
