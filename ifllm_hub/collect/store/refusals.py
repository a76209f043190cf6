"""Why the store refuses a job. Only the caller of that job is told."""


class Refused(Exception):
    """Raised by a job to its caller alone, before it has written anything."""


class Withdrawn(Refused):
    """The person has withdrawn since the token was issued."""


class Conflict(Refused):
    """This (session, sequence) is stored with another body, or the session belongs to another person."""


class OtherArm(Refused):
    """An answer to this question is stored with another arm, or another probability of it."""


class Full(Refused):
    """The person's daily limit is reached."""


class Unknown(Refused):
    """There is no such answer: it was never registered, or retention has deleted it."""
