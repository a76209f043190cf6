"""Why the store does not do what it was asked. Whoever asked hears of it, and nobody else."""


class Refused(Exception):
    """What a job raises to its caller alone, before it has written anything."""


class Withdrawn(Refused):
    """The person has withdrawn since the token was issued."""


class Conflict(Refused):
    """This (session, sequence) is stored with another body, or the session is another person's."""


class Full(Refused):
    """As much of the person as is stored in a day is stored."""


class Unknown(Refused):
    """There is no such answer: it was never registered, or its time is over."""
