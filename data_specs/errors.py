"""The one error type that means: the input, the files or the machine are at fault, not this program."""


class UserError(Exception):
    """One clear sentence for a person: what is wrong and what to do. Command lines print it and exit with 2."""
