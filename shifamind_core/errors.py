"""Known errors: what is wrong, where, and what to do, in one line for the person."""


class ShifamindError(Exception):
    """Bad input or an impossible request. Its text is one line, written for the person who caused it.

    Anything else that is raised is a defect of this program and surfaces as such.
    """


class PolicyRefused(ShifamindError):
    """A precision policy that this device cannot honour; the text says why."""
