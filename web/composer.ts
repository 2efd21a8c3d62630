// The composer: new messages, replies and edits. A draft stays with its conversation while another one is open.

import { contentError, type Client, type MessagesError, type StoredMessage } from 'messages-client';
import { $, icon, isolate, setAttribute, setText } from './dom.js';
import type { Edit } from './edits.js';
import { errorSentence, reportFailure } from './errors.js';
import { mentionCompletion } from './mention-completion.js';
import { announce } from './toasts.js';

/** How many characters of the message that is edited or replied to are shown. */
const EXCERPT_CHARS = 120;

/** The server's limit of a message. */
const CONTENT_MAX_CHARS = 4_000;
/** The composer shows how many characters are left when fewer than these are. */
const SHOW_REMAINING_CHARS = 200;

/** The text of a conversation that isn't sent, and the message that it edits or replies to. */
interface Draft {
  text: string;
  reply?: StoredMessage;
  edit?: StoredMessage;
  /** The draft before the edit, which is restored after it. */
  draftBeforeEdit?: Draft;
}

/** What the composer needs of the conversation view. */
export interface ComposerCallbacks {
  /** A message was sent. */
  onSent(): void;
  /** Returns this user's newest message that can be edited. */
  lastEditable(): StoredMessage | undefined;
  save(message: StoredMessage, content: string): void;
}

export interface Composer {
  /** Shows the draft of a conversation. */
  open(conversationId: string | null): void;
  reply(message: StoredMessage): void;
  edit(message: StoredMessage): void;
  /** Puts the text of an edit that wasn't saved back into its conversation's draft; false where that isn't empty. */
  restore(edit: Edit): boolean;
  focus(): void;
}

/** On a touch screen, Enter starts a new line; elsewhere it sends the message. */
const isTouchScreen = (): boolean => matchMedia('(pointer: coarse)').matches;

/** How many characters exceed the limit; negative if characters are left. */
const excessChars = (text: string): number => [...text.trim()].length - CONTENT_MAX_CHARS;

function lengthHint(text: string): string {
  const excess = excessChars(text);
  if (excess > 0) return `${excess} ${excess > 1 ? 'characters' : 'character'} too long.`;
  return excess > -SHOW_REMAINING_CHARS ? `${-excess} left` : '';
}

/** Fits the height of the field to its text in browsers without `field-sizing`. */
function fitHeight(field: HTMLTextAreaElement): void {
  if (CSS.supports('field-sizing', 'content')) return;
  field.rows = 1;
  while (field.rows < 6 && field.scrollHeight > field.clientHeight) field.rows += 1;
}

export function composer(client: Client, { onSent, lastEditable, save }: ComposerCallbacks): Composer {
  const field = $<HTMLTextAreaElement>('composer');
  const drafts = new Map<string, Draft>();
  let current: string | null = null;

  const draft = (): Draft => drafts.get(current ?? '') ?? { text: '' };

  /** By conversation id: all participants, where the conversation itself doesn't name all. */
  const allParticipants = new Map<string, Promise<string[] | undefined>>();

  async function mentionablePeople(): Promise<string[]> {
    const conversation = current ? client.conversation(current) : undefined;
    if (!conversation) return [];
    const { id, participants, participantCount } = conversation;
    const named = participants.map(({ userId }) => userId);
    if (named.length < participantCount && !allParticipants.has(id)) {
      allParticipants.set(id, reportFailure(client.participants(id)));
    }
    return (await allParticipants.get(id) ?? named).filter((userId) => userId !== client.me);
  }

  const completion = mentionCompletion(field, $('mention-options'), mentionablePeople, updateDraft);

  function contextLabel({ edit, reply }: Draft): string {
    if (edit) return 'Editing';
    return reply ? `Replying to ${reply.senderId === client.me ? 'yourself' : isolate(reply.senderId)}` : '';
  }

  function draw(): void {
    const { text, reply, edit } = draft();
    const subject = edit ?? reply;
    if (field.value !== text) field.value = text;
    $('composer-context').hidden = !subject;
    setText($('composer-context-label'), contextLabel(draft()));
    setText($('composer-context-excerpt'), (subject?.content ?? '').slice(0, EXCERPT_CHARS));
    setAttribute($('send'), 'aria-label', edit ? 'Save' : 'Send');
    showHint(lengthHint(text));
    fitHeight(field);
  }

  /** Shows a hint under the field. Announces it once when the text becomes too long, not with each key. */
  function showHint(text: string): void {
    const tooLong = excessChars(field.value) > 0;
    if (tooLong && field.getAttribute('aria-invalid') !== 'true') announce(text);
    setText($('composer-hint'), text);
    $('composer-hint').classList.toggle('field-error', tooLong);
    setAttribute(field, 'aria-invalid', String(tooLong));
  }

  function showRefusal(refusal: MessagesError, isEdit: boolean): void {
    const text = errorSentence(refusal) + (isEdit ? ' To remove it, delete the message instead.' : '');
    showHint(text);
    announce(text);
  }

  function setDraft(next: Draft): void {
    if (current) drafts.set(current, next);
    draw();
  }

  /** Takes the field's text into the draft, and reports that this user types. */
  function updateDraft(): void {
    setDraft({ ...draft(), text: field.value });
    if (!current || draft().edit) return;
    if (field.value.trim()) client.typing(current);
    else client.stopTyping(current);
  }

  function submit(): void {
    const { text, reply, edit, draftBeforeEdit } = draft();
    const content = text.trim();
    const refusal = contentError(content, Boolean(edit?.attachments.length));
    if (refusal?.code === 'empty' && (text || edit)) showRefusal(refusal, edit !== undefined);
    if (!current || refusal) return;
    completion.close();
    client.stopTyping(current);
    setDraft(draftBeforeEdit ?? { text: '' });
    if (edit) {
      if (content !== edit.content) save(edit, content);
      return;
    }
    // The timeline shows a refused message with its error.
    client.send(current, { content, ...(reply ? { replyToId: reply.id } : {}) }).catch(() => {});
    onSent();
  }

  $('send').append(icon('send'));
  $('composer-context-cancel').append(icon('close'));
  /** The draft without its edit or reply. */
  const withoutContext = ({ text, edit, draftBeforeEdit }: Draft): Draft =>
    (edit ? draftBeforeEdit ?? { text: '' } : { text });
  const cancel = (): void => {
    setDraft(withoutContext(draft()));
    field.focus();
  };
  $('composer-context-cancel').addEventListener('click', cancel);
  $('composer-form').addEventListener('submit', (event) => {
    event.preventDefault();
    submit();
    field.focus();
  });
  field.addEventListener('input', updateDraft);
  field.addEventListener('blur', () => current && client.stopTyping(current));
  field.addEventListener('keydown', (event) => {
    if (completion.handleKey(event) || event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey && !isTouchScreen()) {
      event.preventDefault();
      submit();
    } else if (event.key === 'Escape' && (draft().edit || draft().reply)) {
      event.preventDefault();
      cancel();
    } else if (event.key === 'ArrowUp' && !field.value) {
      const message = lastEditable();
      if (!message) return;
      event.preventDefault();
      edit(message);
    }
  });

  function edit(message: StoredMessage): void {
    const draftBeforeEdit = draft().edit ? draft().draftBeforeEdit : draft();
    setDraft({ text: message.content ?? '', edit: message, ...(draftBeforeEdit ? { draftBeforeEdit } : {}) });
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  return {
    edit,
    reply(message) {
      setDraft({ text: withoutContext(draft()).text, reply: message });
      field.focus();
    },
    restore({ message, content }) {
      const existing = drafts.get(message.conversationId);
      if (existing?.text || existing?.edit || existing?.reply) return false;
      drafts.set(message.conversationId, { text: content, edit: message });
      draw();
      return true;
    },
    open(conversationId) {
      if (current) client.stopTyping(current);
      current = conversationId;
      completion.close();
      draw();
    },
    focus: () => field.focus(),
  };
}
