"""Feedback exports in Open WebUI's format, about chats that nobody had."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Chat:
    """A chat that grows. Ids of messages are the texts' first words."""

    id: str = "chat"
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ask(self, text: str, after: str | None = None) -> str:
        return self._add({"role": "user", "content": text}, after)

    def answer(self, to: str, text: str, **more: Any) -> str:
        """By the model `model`, unless `more` says something else."""
        return self._add(
            {"role": "assistant", "content": text, "model": "model", "timestamp": 1_735_689_600} | more, to
        )

    def _add(self, message: dict[str, Any], parent: str | None) -> str:
        id_ = message["content"].split()[0]
        self.messages[id_] = {"id": id_, "parentId": parent, "childrenIds": []} | message
        if parent is not None:
            self.messages[parent]["childrenIds"].append(id_)
        return id_

    def snapshot(self) -> dict[str, Any]:
        chat = {"title": "a chat", "history": {"messages": self.messages, "currentId": next(reversed(self.messages))}}
        return {"chat": {"id": self.id, "user_id": "ignored", "title": "a chat", "chat": chat}}


def feedback(
    chat: Chat, message: str, rating: Any, user: str = "user", at: int = 1_735_700_000, **data: Any
) -> dict[str, Any]:
    """A row of the export as of now."""
    row = {
        "id": f"{user} {message} {at}",
        "user_id": user,
        "version": 0,
        "type": "rating",
        "data": {"rating": rating, "model_id": "model", "reason": "", "comment": "", "tags": []} | data,
        "meta": {"arena": False, "chat_id": chat.id, "message_id": message, "message_index": 2},
        "snapshot": chat.snapshot(),
        "created_at": at,
        "updated_at": at,
    }
    copy: dict[str, Any] = json.loads(json.dumps(row))
    return copy


def export(folder: Path, feedbacks: Any) -> Path:
    """The file that the page saves; newest first, as from the server, where it can be sorted."""
    file = folder / "feedback-history-export-1.json"
    file.write_text(json.dumps(feedbacks))
    return file
