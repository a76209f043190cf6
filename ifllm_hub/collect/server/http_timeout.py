"""HTTP with a limit of time: uvicorn waits for the head of a request as long as the connection stands."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# The same as for bodies (`Settings.body_seconds`).
HEAD_SECONDS = 30.0


class PatientProtocol(H11Protocol):
    """uvicorn's, but a connection is closed on which a request does not begin in time, or nobody reads its body."""

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
        """Set the time when the client still owes a head, or a body after it was answered; else take it back."""
        answered = self.conn.our_state in (h11.IDLE, h11.DONE)
        if not (answered and self.conn.their_state in (h11.IDLE, h11.SEND_BODY)):
            self._stop_watching()
        elif self._closing is None:
            self._closing = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_watching(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = None
