"""HTTP with a time limit: uvicorn by itself waits for a request's head as long as the connection is open."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# The same as for bodies (`Settings.body_seconds`).
HEAD_SECONDS = 30.0


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, but it closes a connection on which no request begins in time, or whose body nobody reads."""

    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start the timer if the client still owes a head, or a body after the answer; else stop it."""
        answered = self.conn.our_state in (h11.IDLE, h11.DONE)
        if not (answered and self.conn.their_state in (h11.IDLE, h11.SEND_BODY)):
            self._stop_watching()
        elif self._closing is None:
            self._closing = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_watching(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = None
