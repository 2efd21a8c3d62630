// The chat page: who is signed in, which conversation is open, and what is drawn when. Everything that it knows and does
// goes through the client library.

import { connect, type Client, type StoredMessage } from 'messages-client';
import { beginDialog } from './begin.js';
import { $, icon, setText } from './dom.js';
import { conversationList, unreadInAll } from './list.js';
import { announce, say } from './notices.js';
import { avatar, nameOf } from './people.js';
import { askWho, forget, knownToken } from './sign-in.js';
import { talk } from './talk.js';

/** In the address: which conversation is open. */
const OPEN = '#/';
/** A connection that comes back at once is not worth a word. */
const AWAY_MS = 1_500;

const opened = (): string | null => (location.hash.startsWith(OPEN) ? location.hash.slice(OPEN.length) : null);

/** Draws once for all that changes until the next frame; in a window that isn't seen, now and then. */
function eventually(draw: () => void): () => void {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    const now = (): void => {
      asked = false;
      draw();
    };
    if (document.visibilityState === 'visible') requestAnimationFrame(now);
    else setTimeout(now, 200);
  };
}

/** Shows how the connection is, and says it where it lasts. */
function drawState(client: Client): void {
  const { state } = client;
  $('connection').dataset['state'] = state;
  setText($('connection'), state);
  const away = $('away');
  const lost = state === 'offline' || state === 'connecting';
  if (!lost) {
    away.hidden = true;
    away.dataset['since'] = '';
  } else if (!away.dataset['since']) {
    away.dataset['since'] = 'now';
    setTimeout(() => { away.hidden = away.dataset['since'] === ''; }, AWAY_MS);
  }
  if (lost) setText(away, 'No connection. What you write is sent as soon as there is one.');
}

/** What a new message says to who can't see it. */
function readOut(client: Client, message: StoredMessage): void {
  if (message.senderId === client.me) return;
  if (message.conversationId === opened()) {
    announce(`${message.senderId}: ${message.content ?? ''}`);
    return;
  }
  const conversation = client.conversation(message.conversationId);
  announce(`New message from ${message.senderId}${conversation?.title ? ` in ${nameOf(conversation, client.me)}` : ''}`);
}

function chat(token: string): void {
  let client: Client;
  try {
    client = connect({ url: location.origin, token });
  } catch {
    refuse('That is not a token.', chat);
    return;
  }
  setText($('me'), client.me);
  $('my-avatar').replaceChildren(avatar(client.me));
  $('chat').hidden = false;

  const conversation = talk(client);
  const drawList = conversationList(client, open);
  const begin = beginDialog(client, open);
  const draw = eventually(() => {
    const id = opened();
    if (id !== null && client.state === 'live' && !client.conversation(id)) leave(); // such as another user's
    drawState(client);
    drawList(opened());
    conversation.draw();
    const unread = unreadInAll(client);
    document.title = unread > 0 ? `(${unread}) Messages` : 'Messages';
  });

  function show(): void {
    $('chat').dataset['open'] = String(opened() !== null);
    conversation.open(opened());
    draw();
  }

  function open(id: string): void {
    // From the list, the way back leads there; from one conversation to the next, it isn't longer.
    if (opened() === null) history.pushState({ fromList: true }, '', OPEN + id);
    else history.replaceState(history.state, '', OPEN + id);
    show();
  }

  function back(): void {
    if ((history.state as { fromList?: boolean } | null)?.fromList) {
      history.back(); // which shows, once it is there
      return;
    }
    leave();
  }

  function leave(): void {
    history.replaceState(null, '', location.pathname);
    show();
  }

  $('start').addEventListener('click', begin);
  $('empty-start').addEventListener('click', begin);
  $('back').addEventListener('click', back);
  const unsent = (): boolean => conversation.unsaved > 0
    || client.conversations().some(({ id }) => client.messages(id).some(({ pending }) => pending));
  const signOut = (): void => {
    client.close();
    forget();
    // Nothing of this user stays behind.
    history.replaceState(null, '', location.pathname);
    location.reload();
  };
  $('sign-out').addEventListener('click', () => {
    if (unsent()) askFirst(signOut);
    else signOut();
  });
  window.addEventListener('beforeunload', (event) => {
    if (client.state !== 'closed' && unsent()) event.preventDefault();
  });
  window.addEventListener('popstate', show);
  client.subscribe(draw);
  client.on('state', draw);
  client.on('message:new', (message) => readOut(client, message));
  client.on('error', (error) => {
    $('chat').hidden = true;
    // A page that had somebody begins from nothing.
    refuse(`You were signed out: ${error.message}.`, () => location.reload());
  });
  show();
}

/** Asks whether to go although something would be lost. */
function askFirst(go: () => void): void {
  const dialog = $<HTMLDialogElement>('unsent');
  dialog.returnValue = '';
  dialog.onclose = () => { if (dialog.returnValue === 'yes') go(); };
  dialog.showModal();
}

/** Says why not, and asks anew who it is. */
function refuse(why: string, then: (token: string) => void): void {
  forget();
  askWho(then);
  say(why);
}

$('start').append(icon('new'));
$('back').append(icon('back'));
// A link that signs in, opened in a tab that has the page already.
window.addEventListener('hashchange', () => {
  if (location.hash.startsWith('#token=') && knownToken()) location.reload();
});
const token = knownToken();
if (token) chat(token);
else askWho(chat);
