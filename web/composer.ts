// Where one writes: new messages, answers and edits. What was begun stays with its conversation while one looks elsewhere.

import type { Client, StoredMessage } from 'messages-client';
import { completion } from './completion.js';
import { $, icon, setAttribute, setText } from './dom.js';
import type { Edit } from './edits.js';
import { announce, attempt } from './notices.js';

/** How much of a message is shown of what one answers. */
const EXCERPT = 120;

/** How long a message may be, which the server counts in characters. */
const MOST = 4_000;
/** So near to that, it's said how many are left. */
const NEAR = 200;

/** What is written, and about which message. */
interface Draft {
  text: string;
  reply?: StoredMessage;
  edit?: StoredMessage;
  /** What was being written before the edit, which it gives way to again. */
  kept?: Draft;
}

/** Whom the composer tells, and asks. */
export interface Around {
  /** A message goes out. */
  sent(): void;
  /** The newest message that can be edited. */
  lastOwn(): StoredMessage | undefined;
  save(message: StoredMessage, content: string): void;
}

export interface Composer {
  /** Another conversation is open, or none. */
  open(conversationId: string | null): void;
  reply(message: StoredMessage): void;
  edit(message: StoredMessage): void;
  /** Lets one go on with an edit that wasn't saved, if nothing else is being written there. */
  giveBack(edit: Edit): boolean;
  focus(): void;
}

/** On a touch screen the return key makes a line; elsewhere it sends. */
const byTouch = (): boolean => matchMedia('(pointer: coarse)').matches;

/** How many characters are too many; below zero, so many are left. */
const tooMany = (text: string): number => [...text.trim()].length - MOST;

/** What is to be said of a text's length. */
function remark(text: string): string {
  const over = tooMany(text);
  if (over > 0) return `${over} ${over > 1 ? 'characters' : 'character'} too long to be sent.`;
  return over > -NEAR ? `${-over} left` : '';
}

/** A field as high as its text, where the browser can't do that by itself. */
function fit(field: HTMLTextAreaElement): void {
  if (CSS.supports('field-sizing', 'content')) return;
  field.rows = 1;
  while (field.rows < 6 && field.scrollHeight > field.clientHeight) field.rows += 1;
}

export function composer(client: Client, { sent, lastOwn, save }: Around): Composer {
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
    say(remark(text));
    fit(field);
  }

  /** Says something about what is written, beside it; aloud only once, and not with each key. */
  function say(text: string): void {
    const tooLong = tooMany(field.value) > 0;
    if (tooLong && field.getAttribute('aria-invalid') !== 'true') announce(text);
    setText($('remark'), text);
    $('remark').classList.toggle('problem', tooLong);
    setAttribute(field, 'aria-invalid', String(tooLong));
  }

  function sayEmpty(): void {
    const text = 'Nothing is left of it. To take it back, delete the message instead.';
    say(text);
    announce(text);
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
    const { text, reply, edit, kept } = draft();
    const content = text.trim();
    if (edit && !content) sayEmpty();
    if (!current || !content || tooMany(text) > 0) return;
    list.close();
    client.stopTyping(current);
    set(kept ?? { text: '' });
    if (edit) {
      if (content !== edit.content) save(edit, content);
      return;
    }
    // Refused, it stays among the messages, which say why: nothing more is to be told here.
    client.send(current, { content, ...(reply ? { replyToId: reply.id } : {}) }).catch(() => {});
    sent();
  }

  $('send').append(icon('send'));
  $('context-cancel').append(icon('close'));
  /** What remains where one neither edits nor answers. */
  const plain = ({ text, edit, kept }: Draft): Draft => (edit ? kept ?? { text: '' } : { text });
  const cancel = (): void => {
    set(plain(draft()));
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
    const kept = draft().edit ? draft().kept : draft();
    set({ text: message.content ?? '', edit: message, ...(kept ? { kept } : {}) });
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  return {
    edit,
    reply(message) {
      set({ text: plain(draft()).text, reply: message });
      field.focus();
    },
    giveBack({ message, content }) {
      const there = drafts.get(message.conversationId);
      if (there?.text || there?.edit || there?.reply) return false;
      drafts.set(message.conversationId, { text: content, edit: message });
      draw();
      return true;
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
