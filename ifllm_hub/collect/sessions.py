"""Ids of who is at which page of an app whose sessions are named by the client, as Gradio's are."""

import uuid
from collections import OrderedDict
from threading import Lock

# Of how many pages it is remembered who is there; who was silent for longest is then somebody new.
_REMEMBERED = 50_000


class SessionIds:
    """Random ids, made here: whatever name a client gives its session, it is nobody's id.

    Args:
        namespace: in front of them, so that they are none that somebody was registered by either.
    """

    def __init__(self, namespace: str):
        self._namespace, self._lock = namespace, Lock()
        self._ids: OrderedDict[str, str] = OrderedDict()

    def of(self, session: str | None) -> str:
        """The id for a session: the same as long as the session goes on.

        Args:
            session: its name; None: it has none, and nothing more will come of it.
        """
        made = f"{self._namespace}-{uuid.uuid4().hex}"
        if session is None:
            return made
        with self._lock:
            self._ids[session] = self._ids.pop(session, made)
            if len(self._ids) > _REMEMBERED:
                self._ids.popitem(last=False)
            return self._ids[session]
