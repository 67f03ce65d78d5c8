"""The fields of a message, for a model with `@agent_message`."""

from __future__ import annotations

import peewee

from agentsession.store.message_rows import ROLE_LENGTH, TURN_LENGTH


class MessageFields(peewee.Model):
    """The columns of a message, as a base of your own model of messages. You add the foreign key to the
    session, called `session`, and the database; then the two indexes are made with the table.

    - `seq`: the position in the conversation, from 0. Order by it, never by a time.
    - `turn`: the id of the turn; a message of the transcript has the id `turn:seq`.
    - `role`: `user`, `assistant`, or `system` for a pinned instruction.
    - `content`: text, a list of parts, or a dict for structured input, as `Message.content` has it.
    - `metadata`: what `Message.metadata` holds.

    Columns of your own are welcome: with a default or `null=True`, since the library inserts the rows.

    ```python
    @agent_message
    class ChatMessage(MessageFields):
        session = peewee.ForeignKeyField(ChatAgent, backref="messages", on_delete="CASCADE", index=False)

        class Meta:
            database = db
    ```
    """

    seq = peewee.IntegerField()
    turn = peewee.CharField(max_length=TURN_LENGTH)
    role = peewee.CharField(max_length=ROLE_LENGTH)
    content = peewee.JSONField()
    metadata = peewee.JSONField()

    class Meta:
        indexes = ((("session", "seq"), True), (("session", "turn"), False))
