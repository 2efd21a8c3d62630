# Folds the log as kcat prints it, and prints each user's read mark and each message's reactions as lines of JSON:
#
#     kcat -b 127.0.0.1:19092 -t messages -C -o beginning -e -q -J | jq -nc -f fold.jq

# The event of a record, if it is one that may change something.
def event:
  .offset as $offset
  | (.payload // "" | try fromjson catch null)
  | select(type == "object" and .version == 1)
  | select(.type | IN("CONVERSATION_CREATED", "MESSAGE_SENT", "MESSAGE_EDITED", "MESSAGE_DELETED", "REACTION_ADDED",
                      "REACTION_REMOVED", "MESSAGES_READ"))
  | . + {offset: $offset};

# Leaves out the events of a conversation whose id or idempotency key an earlier one has.
def once:
  reduce .[] as $event ({events: [], seen: {}};
    ([[$event.eventId], ($event | select(.idempotencyKey) | [.actorId, .idempotencyKey])] | map(tojson)) as $names
    | .seen as $seen
    | if any($names[]; $seen[.]) then . else .events += [$event] | .seen[$names[]] = true end)
  | .events;

def without_selectors: gsub("[\uFE0E\uFE0F]"; "");

def mark($user; $seq): .members[$user] = ([.members[$user], $seq] | max);

# What an event does to a message that isn't deleted.
def change($event):
  $event.actorId as $user
  | ($event.data.emoji // "" | without_selectors) as $emoji
  | if $event.type == "MESSAGE_DELETED" and .sender == $user then .isDeleted = true | .reactions = {}
    elif $event.type == "REACTION_ADDED" then
      .reactions[$emoji] |= ((. // {emoji: $event.data.emoji, users: []}) | .users += ([$user] - .users))
    elif $event.type == "REACTION_REMOVED" and .reactions[$emoji] then .reactions[$emoji].users -= [$user]
    else . end;

def apply($event):
  $event.actorId as $user
  | ($event.data.messageId // "") as $id
  | if $event.type == "CONVERSATION_CREATED" then
      if .members == {} then .members = ([$event.data.participantIds[] | {(.): 0}] | add // {}) else . end
    elif .members[$user] == null then .
    elif $event.type == "MESSAGE_SENT" then
      if .messages[$id] then . else
        .last += 1
        | .messages[$id] = {seq: .last, sender: $user, isDeleted: false, reactions: {}}
        | mark($user; .last)
      end
    elif $event.type == "MESSAGES_READ" then
      mark($user; if $id == "" then .last else .messages[$id].seq // 0 end)
    elif .messages[$id] and (.messages[$id].isDeleted | not) then .messages[$id] |= change($event)
    else . end;

def lines($conversation):
  [.messages[]] as $messages
  | (.members | to_entries[] | .key as $user | .value as $seq
      | {conversation: $conversation, user: $user, lastReadSeq: $seq,
         unread: ($messages | map(select(.seq > $seq and .sender != $user and (.isDeleted | not))) | length)}),
    (.messages | to_entries[] | .key as $message | .value.reactions[] | select(.users != [])
      | {conversation: $conversation, message: $message, emoji, users});

[inputs | event]
| group_by(.conversationId)[]
| .[0].conversationId as $conversation
| reduce (sort_by(.offset) | once[]) as $event ({members: {}, messages: {}, last: 0}; apply($event))
| lines($conversation)
