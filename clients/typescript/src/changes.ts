// What one delivery does to a message: the same that the server's fold does. Pure.

import type { Delivery, Message, Reactions } from './contract.js';

/** How many people of a reaction the server names. */
const NAMED = 20;

/** What a change comes to; `unsure` where only the server can tell, for it doesn't show all it knows. */
export interface Changed<Value> {
  value: Value;
  changed: boolean;
  unsure: boolean;
}

/** A change to a message that is there. */
export type Change = Extract<Delivery, { name: 'message:edited' | 'message:deleted' | 'reaction:added' | 'reaction:removed' }>;

/** Applies a change. A deletion is final. */
export function change(message: Message, { name, payload }: Change): Changed<Message> {
  if (message.deletedAt) return { value: message, changed: false, unsure: false };
  switch (name) {
    case 'message:edited': {
      const { content, mentions, editedAt } = payload;
      return { value: { ...message, content, mentions, editedAt }, changed: true, unsure: false };
    }
    case 'message:deleted': {
      const gone = { content: null, attachments: [], mentions: [], reactions: [], deletedAt: payload.deletedAt };
      return { value: { ...message, ...gone }, changed: true, unsure: false };
    }
    case 'reaction:added':
      return withReactions(message, added(message.reactions, payload));
    case 'reaction:removed':
      return withReactions(message, removed(message.reactions, payload));
  }
}

function withReactions(message: Message, { value, changed, unsure }: Changed<Reactions[]>): Changed<Message> {
  return { value: changed ? { ...message, reactions: value } : message, changed, unsure };
}

interface Reacted {
  userId: string;
  emoji: string;
  label: string | null;
}

function added(list: Reactions[], { userId, emoji, label }: Reacted): Changed<Reactions[]> {
  const group = list.find((one) => one.emoji === emoji);
  if (!group) {
    const made = { emoji, label, count: 1, userIds: [userId] };
    // An emoji that was there before comes back to its old place, which isn't shown, and with its old label.
    return { value: [...list, made], changed: true, unsure: true };
  }
  const known = group.userIds.includes(userId);
  const hidden = group.count > group.userIds.length;
  if (!known && hidden) return { value: list, changed: false, unsure: true };
  const next = { ...group, label: label ?? group.label };
  if (!known) {
    next.count += 1;
    if (next.userIds.length < NAMED) next.userIds = [...group.userIds, userId];
  }
  const changed = !known || next.label !== group.label;
  return { value: changed ? list.map((one) => (one === group ? next : one)) : list, changed, unsure: false };
}

function removed(list: Reactions[], { userId, emoji }: Reacted): Changed<Reactions[]> {
  const group = list.find((one) => one.emoji === emoji);
  if (!group) return { value: list, changed: false, unsure: false };
  // Who moves up among those that are named is only known to the server.
  if (group.count > group.userIds.length) return { value: list, changed: false, unsure: true };
  if (!group.userIds.includes(userId)) return { value: list, changed: false, unsure: false };
  const next = { ...group, count: group.count - 1, userIds: group.userIds.filter((one) => one !== userId) };
  const left = list.map((one) => (one === group ? next : one)).filter((one) => one.count > 0);
  return { value: left, changed: true, unsure: false };
}

/** Which reactions came and went between two states of a message, as far as both name people. */
export function reactionDifferences(before: Message, after: Message): { name: 'reaction:added' | 'reaction:removed'; reacted: Reacted }[] {
  const differences: { name: 'reaction:added' | 'reaction:removed'; reacted: Reacted }[] = [];
  const all = (message: Message): Map<string, Reacted> => new Map(message.reactions.flatMap(({ emoji, label, userIds }) =>
    userIds.map((userId) => [`${emoji} ${userId}`, { userId, emoji, label }] as const)));
  const [old, now] = [all(before), all(after)];
  for (const [key, reacted] of now) if (!old.has(key)) differences.push({ name: 'reaction:added', reacted });
  for (const [key, reacted] of old) {
    if (!now.has(key)) differences.push({ name: 'reaction:removed', reacted: { ...reacted, label: null } });
  }
  return differences;
}
