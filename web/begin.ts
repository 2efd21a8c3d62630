// The dialog that begins a conversation: with one person directly, with several or a title as a group.

import { MessagesError, type Client, type FieldError } from 'messages-client';
import { $, button, setAttribute, setText } from './dom.js';
import { capital, sentence, wrongWith } from './notices.js';
import { avatar, others } from './people.js';

/** How many known people are offered. */
const OFFERED = 8;
const NOBODY = 'Name at least one person besides yourself.';

/** Under which field it is shown what is wrong with which. */
const PROBLEMS = { participantIds: 'begin-people-problem', title: 'begin-name-problem', '': 'begin-problem' } as const;

function clear(): void {
  for (const id of Object.values(PROBLEMS)) setText($(id), '');
}

/** Says what is wrong, each under its field. */
function complain(error: unknown): void {
  const errors = error instanceof MessagesError ? error.errors : [];
  for (const one of errors) {
    const name = one.field.replace(/\[.*$/, '');
    setText($(name in PROBLEMS ? PROBLEMS[name as keyof typeof PROBLEMS] : PROBLEMS['']), inWords(one));
  }
  if (errors.length === 0) setText($(PROBLEMS['']), sentence(error, 'The conversation wasn’t started'));
}

/** What is wrong with a field, which stands above it. */
function inWords({ code, field, detail }: FieldError): string {
  if (code === 'too_few') return NOBODY;
  if (code === 'invalid_id') return 'One of these is no user name: names have no spaces and up to 128 characters.';
  return capital(`${wrongWith({ code, field, detail })}.`);
}

/** The people in what was written. */
const written = (text: string): string[] => [...new Set(text.split(/[\s,;]+/).map((id) => id.replace(/^@/, '')).filter(Boolean))];

/** The dialog; gives what opens it. */
export function beginDialog(client: Client, open: (id: string) => void): () => void {
  const dialog = $<HTMLDialogElement>('begin');
  const people = $<HTMLInputElement>('begin-people');
  const title = $<HTMLInputElement>('begin-name');

  const drawKnown = (): void => {
    const chosen = written(people.value);
    const known = new Set(client.conversations().flatMap((conversation) => others(conversation, client.me)));
    $('begin-known').replaceChildren(...[...known].slice(0, OFFERED).map((userId) => button(
      { class: 'chip', 'aria-pressed': String(chosen.includes(userId)), 'data-user': userId },
      () => {
        const now = written(people.value);
        people.value = (now.includes(userId) ? now.filter((one) => one !== userId) : [...now, userId]).join(', ');
        drawKnown();
        $('begin-known').querySelector<HTMLElement>(`[data-user="${CSS.escape(userId)}"]`)?.focus();
      },
      avatar(userId), userId,
    )));
  };

  /** Which beginning is under way, if any: who closed the dialog doesn't go where it leads. */
  let underWay: symbol | undefined;
  const become = (now: symbol | undefined): void => {
    underWay = now;
    // It keeps the focus, which a button that is really disabled would lose.
    setAttribute($('begin-submit'), 'aria-disabled', String(now !== undefined));
    setText($('begin-submit'), now ? 'Starting…' : 'Start');
  };

  async function begin(): Promise<void> {
    const participantIds = written(people.value);
    const named = title.value.trim();
    clear();
    if (participantIds.every((id) => id === client.me)) {
      setText($(PROBLEMS.participantIds), NOBODY);
      return;
    }
    const mine = Symbol('begun');
    become(mine);
    try {
      const made = await client.startConversation({ participantIds, ...(named ? { title: named } : {}) });
      if (underWay !== mine) return;
      dialog.close();
      open(made.id);
    } catch (error) {
      if (underWay !== mine) return;
      become(undefined);
      complain(error);
    }
  }

  people.addEventListener('input', drawKnown);
  dialog.addEventListener('close', () => become(undefined));
  $('begin-cancel').addEventListener('click', () => dialog.close());
  $('begin-form').addEventListener('submit', (event) => {
    event.preventDefault();
    if (!underWay) void begin();
  });
  return () => {
    $<HTMLFormElement>('begin-form').reset();
    clear();
    drawKnown();
    dialog.showModal();
  };
}
