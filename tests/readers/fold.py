"""Folds the log with a Kafka client, and prints each user's read mark and each message's reactions as lines of JSON:

    python fold.py 127.0.0.1:19092 messages
"""

import json
import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition


def records(brokers, topic):
    """The values of the records from the beginning to the end, those of a partition in their order."""
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": "an-outside-reader",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    })
    unfinished = set(consumer.list_topics(topic).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in unfinished])
    while unfinished:
        record = consumer.poll(10)
        if record is None:
            sys.exit("Kafka returned no record in time")
        if record.error() is None:
            yield record.value()
        elif record.error().code() == KafkaError._PARTITION_EOF:
            unfinished.discard(record.partition())
        else:
            raise KafkaException(record.error())
    consumer.close()


def events(values):
    """The events of this version, each once."""
    seen = set()
    for value in values:
        try:
            event = json.loads(value or b"")
        except ValueError:
            continue
        if not isinstance(event, dict) or event.get("version") != 1 or event["type"] not in RULES:
            continue
        conversation, key = event["conversationId"], event.get("idempotencyKey")
        names = {(conversation, event["eventId"])}
        if key is not None:
            names.add((conversation, event["actorId"], key))
        if seen.isdisjoint(names):
            seen |= names
            yield event


class Conversation:
    def __init__(self, participants):
        self.read_up_to = dict.fromkeys(participants, 0)
        self.messages = {}

    def send(self, user, data):
        if data["messageId"] not in self.messages:
            self.messages[data["messageId"]] = {"seq": len(self.messages) + 1, "sender": user, "reactions": {}}
            self.read(user, data)

    def read(self, user, data):
        if data.get("messageId") is None:
            seq = len(self.messages)
        else:
            seq = self.messages.get(data["messageId"], {"seq": 0})["seq"]
        self.read_up_to[user] = max(self.read_up_to[user], seq)

    def edit(self, user, data):
        """Changes nothing that is printed."""

    def delete(self, user, data):
        message = self.messages.get(data["messageId"])
        if message and message["sender"] == user:
            message["reactions"] = None

    def reactions_to(self, data):
        """The reactions to a message, by their emoji without selectors. None if the message is missing or deleted."""
        return self.messages.get(data["messageId"], {"reactions": None})["reactions"]

    def add_reaction(self, user, data):
        reactions = self.reactions_to(data)
        if reactions is not None:
            # A dictionary keeps the order in which its keys came.
            reactions.setdefault(plain(data["emoji"]), (data["emoji"], {}))[1].setdefault(user)

    def remove_reaction(self, user, data):
        reactions = self.reactions_to(data)
        if reactions is not None and plain(data["emoji"]) in reactions:
            reactions[plain(data["emoji"])][1].pop(user, None)

    def unread(self, user):
        newer = list(self.messages.values())[self.read_up_to[user]:]
        return sum(message["sender"] != user and message["reactions"] is not None for message in newer)


RULES = {
    "CONVERSATION_CREATED": None,
    "MESSAGE_SENT": Conversation.send,
    "MESSAGE_EDITED": Conversation.edit,
    "MESSAGE_DELETED": Conversation.delete,
    "REACTION_ADDED": Conversation.add_reaction,
    "REACTION_REMOVED": Conversation.remove_reaction,
    "MESSAGES_READ": Conversation.read,
}


def plain(emoji):
    return emoji.replace("\ufe0e", "").replace("\ufe0f", "")


def fold(all_events):
    conversations = {}
    for event in all_events:
        name, user, data = event["conversationId"], event["actorId"], event["data"]
        conversation = conversations.get(name)
        if conversation is None:
            if event["type"] == "CONVERSATION_CREATED" and data["participantIds"]:
                conversations[name] = Conversation(data["participantIds"])
        elif user in conversation.read_up_to and event["type"] != "CONVERSATION_CREATED":
            RULES[event["type"]](conversation, user, data)
    return conversations


for name, conversation in fold(events(records(sys.argv[1], sys.argv[2]))).items():
    for user, seq in conversation.read_up_to.items():
        print(json.dumps({"conversation": name, "user": user, "lastReadSeq": seq, "unread": conversation.unread(user)}))
    for message, state in conversation.messages.items():
        for emoji, users in (state["reactions"] or {}).values():
            if users:
                print(json.dumps({"conversation": name, "message": message, "emoji": emoji, "users": list(users)}))
