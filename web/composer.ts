// Where one writes: new messages, answers and edits. What was begun stays with its conversation while one looks elsewhere.

import type { Client, StoredMessage } from 'messages-client';
import { completion } from './completion.js';
import { $, icon, setAttribute, setText } from './dom.js';
import { attempt } from './notices.js';

/** How much of a message is shown of what one answers. */
const EXCERPT = 120;

/** What is written, and about which message. */
interface Draft {
  text: string;
  reply?: StoredMessage;
  edit?: StoredMessage;
}

export interface Composer {
  /** Another conversation is open, or none. */
  open(conversationId: string | null): void;
  reply(message: StoredMessage): void;
  edit(message: StoredMessage): void;
  focus(): void;
}

/** On a touch screen the return key makes a line; elsewhere it sends. */
const byTouch = (): boolean => matchMedia('(pointer: coarse)').matches;

/** A field as high as its text, where the browser can't do that by itself. */
function fit(field: HTMLTextAreaElement): void {
  if (CSS.supports('field-sizing', 'content')) return;
  field.rows = 1;
  while (field.rows < 6 && field.scrollHeight > field.clientHeight) field.rows += 1;
}

/** The composer; `sent` hears of each message that goes out, `lastOwn` gives the newest that can be edited. */
export function composer(client: Client, sent: () => void, lastOwn: () => StoredMessage | undefined): Composer {
  const field = $<HTMLTextAreaElement>('composer');
  const drafts = new Map<string, Draft>();
  let current: string | null = null;

  const draft = (): Draft => drafts.get(current ?? '') ?? { text: '' };

  /** Everyone in a conversation of which the server doesn't name all at once. */
  const crowds = new Map<string, Promise<string[] | undefined>>();

  async function people(): Promise<string[]> {
    const conversation = current ? client.conversation(current) : undefined;
    if (!conversation) return [];
    const { id, participants, participantCount } = conversation;
    const named = participants.map((one) => one.userId);
    if (named.length < participantCount && !crowds.has(id)) crowds.set(id, attempt(client.participants(id)));
    return (await crowds.get(id) ?? named).filter((userId) => userId !== client.me);
  }

  const list = completion(field, $('people'), people, noteText);

  function draw(): void {
    const { text, reply, edit } = draft();
    const about = edit ?? reply;
    if (field.value !== text) field.value = text;
    $('context').hidden = !about;
    setText($('context-what'), edit ? 'Editing' : reply ? `Answering ${reply.senderId === client.me ? 'yourself' : reply.senderId}` : '');
    setText($('context-of'), (about?.content ?? '').slice(0, EXCERPT));
    setAttribute($('send'), 'aria-label', edit ? 'Save' : 'Send');
    fit(field);
  }

  function set(next: Draft): void {
    if (current) drafts.set(current, next);
    draw();
  }

  function noteText(): void {
    set({ ...draft(), text: field.value });
    if (!current || draft().edit) return;
    if (field.value.trim()) client.typing(current);
    else client.stopTyping(current);
  }

  function submit(): void {
    const { text, reply, edit } = draft();
    const content = text.trim();
    if (!current || !content) return;
    list.close();
    client.stopTyping(current);
    set({ text: '' });
    if (edit) {
      if (content !== edit.content) void attempt(client.edit(edit.id, content));
      return;
    }
    // Refused, it stays among the messages, which say why: nothing more is to be told here.
    client.send(current, { content, ...(reply ? { replyToId: reply.id } : {}) }).catch(() => {});
    sent();
  }

  $('send').append(icon('send'));
  $('context-cancel').append(icon('close'));
  const cancel = (): void => {
    set({ text: draft().edit ? '' : draft().text });
    field.focus();
  };
  $('context-cancel').addEventListener('click', cancel);
  $('compose').addEventListener('submit', (event) => {
    event.preventDefault();
    submit();
    field.focus();
  });
  field.addEventListener('input', noteText);
  field.addEventListener('blur', () => current && client.stopTyping(current));
  field.addEventListener('keydown', (event) => {
    if (list.takes(event) || event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey && !byTouch()) {
      event.preventDefault();
      submit();
    } else if (event.key === 'Escape' && (draft().edit || draft().reply)) {
      event.preventDefault();
      cancel();
    } else if (event.key === 'ArrowUp' && !field.value) {
      const own = lastOwn();
      if (!own) return;
      event.preventDefault();
      edit(own);
    }
  });

  function edit(message: StoredMessage): void {
    set({ text: message.content ?? '', edit: message });
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  return {
    edit,
    reply(message) {
      set({ text: draft().edit ? '' : draft().text, reply: message });
      field.focus();
    },
    open(conversationId) {
      if (current) client.stopTyping(current);
      current = conversationId;
      list.close();
      draw();
    },
    focus: () => field.focus(),
  };
}
