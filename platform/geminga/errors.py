"""The errors a user can cause and mend."""

from __future__ import annotations


class GemingaError(Exception):
    """Something the user can put right; the command line prints it in one line and exits with 2."""


class InputError(GemingaError):
    """A file, key or argument that cannot be used.

    Parameters
    ----------
    where : str
        The file, configuration key or argument that is at fault.
    problem : str
        What is wrong with it, quoting the value.
    remedy : str
        What would be right.
    """

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}; {remedy}")
        self.where = where
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        # Exceptions cross process boundaries when a worker raises them.
        return (InputError, (self.where, self.problem, self.remedy))


class StorageError(InputError):
    """An object store that cannot be used now; says nothing about the file that was wanted."""
