// What a delivery changes in a message, by the same rules as the server's fold. Pure functions.

import { emojiKey, isSameEmoji } from './emoji.js';
import type { Delivery, Message, Reactions } from './types.js';

/** How many people of a reaction the server names. */
const NAMED_PEOPLE_MAX = 20;

/** The outcome of a reducer. `uncertain`: only the server can tell, because it doesn't show all that it knows. */
export interface Reduced<Value> {
  value: Value;
  changed: boolean;
  uncertain: boolean;
}

/** A delivery that changes an existing message. */
export type MessageChange = Extract<
  Delivery, { name: 'message:edited' | 'message:deleted' | 'reaction:added' | 'reaction:removed' }
>;

/** Applies a change to a message. A deletion is final. */
export function reduceMessage(message: Message, { name, payload }: MessageChange): Reduced<Message> {
  if (message.deletedAt) return { value: message, changed: false, uncertain: false };
  switch (name) {
    case 'message:edited': {
      const { content, mentions, editedAt } = payload;
      return { value: { ...message, content, mentions, editedAt }, changed: true, uncertain: false };
    }
    case 'message:deleted': {
      const cleared = { content: null, attachments: [], mentions: [], reactions: [], deletedAt: payload.deletedAt };
      return { value: { ...message, ...cleared }, changed: true, uncertain: false };
    }
    case 'reaction:added':
      return withReactions(message, addReaction(message.reactions, payload));
    case 'reaction:removed':
      return withReactions(message, removeReaction(message.reactions, payload));
  }
}

function withReactions(message: Message, { value, changed, uncertain }: Reduced<Reactions[]>): Reduced<Message> {
  return { value: changed ? { ...message, reactions: value } : message, changed, uncertain };
}

/** One user's reaction; the group that it joins may show its emoji in another form. */
interface Reaction {
  userId: string;
  emoji: string;
  label: string | null;
}

function addReaction(groups: Reactions[], { userId, emoji, label }: Reaction): Reduced<Reactions[]> {
  const group = groups.find((candidate) => isSameEmoji(candidate.emoji, emoji));
  if (!group) {
    const created = { emoji, label, count: 1, userIds: [userId] };
    // An emoji that was used before returns to its old place, form and label, which only the server knows.
    return { value: [...groups, created], changed: true, uncertain: true };
  }
  const known = group.userIds.includes(userId);
  const hasUnnamedPeople = group.count > group.userIds.length;
  if (!known && hasUnnamedPeople) return { value: groups, changed: false, uncertain: true };
  const next = { ...group, label: label ?? group.label };
  if (!known) {
    next.count += 1;
    if (next.userIds.length < NAMED_PEOPLE_MAX) next.userIds = [...group.userIds, userId];
  }
  const changed = !known || next.label !== group.label;
  const value = changed ? groups.map((candidate) => (candidate === group ? next : candidate)) : groups;
  return { value, changed, uncertain: false };
}

function removeReaction(groups: Reactions[], { userId, emoji }: Reaction): Reduced<Reactions[]> {
  const group = groups.find((candidate) => isSameEmoji(candidate.emoji, emoji));
  if (!group) return { value: groups, changed: false, uncertain: false };
  // Only the server knows which person is named next.
  if (group.count > group.userIds.length) return { value: groups, changed: false, uncertain: true };
  if (!group.userIds.includes(userId)) return { value: groups, changed: false, uncertain: false };
  const next = { ...group, count: group.count - 1, userIds: group.userIds.filter((id) => id !== userId) };
  const value = groups.map((candidate) => (candidate === group ? next : candidate)).filter(({ count }) => count > 0);
  return { value, changed: true, uncertain: false };
}

interface ReactionDifference {
  name: 'reaction:added' | 'reaction:removed';
  reaction: Reaction;
}

/** The reactions that were added and removed between two states of a message, among the people that both name. */
export function reactionDifferences(before: Message, after: Message): ReactionDifference[] {
  const differences: ReactionDifference[] = [];
  const byKey = ({ reactions }: Message): Map<string, Reaction> => new Map(reactions.flatMap(
    ({ emoji, label, userIds }) =>
      userIds.map((userId) => [`${emojiKey(emoji)} ${userId}`, { userId, emoji, label }] as const),
  ));
  const [old, now] = [byKey(before), byKey(after)];
  for (const [key, reaction] of now) if (!old.has(key)) differences.push({ name: 'reaction:added', reaction });
  for (const [key, reaction] of old) {
    if (!now.has(key)) differences.push({ name: 'reaction:removed', reaction: { ...reaction, label: null } });
  }
  return differences;
}
