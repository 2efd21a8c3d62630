// The chat page: signs in, opens conversations, and draws when something changes. All data come from the client
// library.

import { connect, type Client, type StoredMessage } from 'messages-client';
import { conversationList, totalUnread } from './conversation-list.js';
import { conversationView } from './conversation-view.js';
import { $, icon, setText } from './dom.js';
import { newConversationDialog } from './new-conversation-dialog.js';
import { avatar, conversationName } from './people.js';
import { forgetToken, savedToken, showSignIn } from './sign-in.js';
import { announce, showToast } from './toasts.js';

/** The fragment of the address that names the open conversation. */
const CONVERSATION_HASH = '#/';
/** The banner appears after this time, in milliseconds: most connections come back earlier. */
const OFFLINE_BANNER_DELAY_MS = 1_500;

const openConversationId = (): string | null =>
  (location.hash.startsWith(CONVERSATION_HASH) ? location.hash.slice(CONVERSATION_HASH.length) : null);

/** Draws at most once a frame; in a hidden window, where no frames are drawn, a few times a second. */
function throttled(draw: () => void): () => void {
  let scheduled = false;
  return () => {
    if (scheduled) return;
    scheduled = true;
    const run = (): void => {
      scheduled = false;
      draw();
    };
    if (document.visibilityState === 'visible') requestAnimationFrame(run);
    else setTimeout(run, 200);
  };
}

/** Shows the state of the connection, and a banner if it stays offline. */
function drawConnectionState(client: Client): void {
  const { state } = client;
  $('connection').dataset['state'] = state;
  setText($('connection'), state);
  const offlineBanner = $('offline-banner');
  const offline = state === 'offline' || state === 'connecting';
  if (!offline) {
    offlineBanner.hidden = true;
    offlineBanner.dataset['pending'] = '';
  } else if (!offlineBanner.dataset['pending']) {
    offlineBanner.dataset['pending'] = 'true';
    setTimeout(() => { offlineBanner.hidden = offlineBanner.dataset['pending'] === ''; }, OFFLINE_BANNER_DELAY_MS);
  }
  if (offline) setText(offlineBanner, 'You’re offline. Your messages will be sent when the connection is back.');
}

/** Announces a new message to screen readers. */
function announceMessage(client: Client, message: StoredMessage): void {
  if (message.senderId === client.me) return;
  if (message.conversationId === openConversationId()) {
    announce(`${message.senderId}: ${message.content ?? ''}`);
    return;
  }
  const conversation = client.conversation(message.conversationId);
  const where = conversation?.title ? ` in ${conversationName(conversation, client.me)}` : '';
  announce(`New message from ${message.senderId}${where}`);
}

function startChat(token: string): void {
  let client: Client;
  try {
    client = connect({ url: location.origin, token });
  } catch {
    signInAgain('This is not an access token.', startChat);
    return;
  }
  setText($('me'), client.me);
  $('my-avatar').replaceChildren(avatar(client.me));
  $('chat').hidden = false;

  const view = conversationView(client);
  const drawList = conversationList(client, open);
  const openNewConversationDialog = newConversationDialog(client, open);
  const draw = throttled(() => {
    const id = openConversationId();
    // An address may name another user's conversation.
    if (id !== null && client.state === 'live' && !client.conversation(id)) closeConversation();
    drawConnectionState(client);
    drawList(openConversationId());
    view.draw();
    const unread = totalUnread(client);
    document.title = unread > 0 ? `(${unread}) Messages` : 'Messages';
  });

  function showConversation(): void {
    $('chat').dataset['open'] = String(openConversationId() !== null);
    view.open(openConversationId());
    draw();
  }

  /** Adds one entry to the browser's history at most, so that Back leads to the list from every conversation. */
  function open(id: string): void {
    if (openConversationId() === null) history.pushState({ fromList: true }, '', CONVERSATION_HASH + id);
    else history.replaceState(history.state, '', CONVERSATION_HASH + id);
    showConversation();
  }

  function goBack(): void {
    if ((history.state as { fromList?: boolean } | null)?.fromList) {
      history.back(); // `popstate` then shows the list
      return;
    }
    closeConversation();
  }

  function closeConversation(): void {
    history.replaceState(null, '', location.pathname);
    showConversation();
  }

  $('new-conversation').addEventListener('click', openNewConversationDialog);
  $('empty-new-conversation').addEventListener('click', openNewConversationDialog);
  $('back').addEventListener('click', goBack);
  const hasUnsent = (): boolean => view.unsavedEdits > 0
    || client.conversations().some(({ id }) => client.messages(id).some(({ pending }) => pending));
  const signOut = (): void => {
    client.close();
    forgetToken();
    // The page starts again without any of this user's data.
    history.replaceState(null, '', location.pathname);
    location.reload();
  };
  $('sign-out').addEventListener('click', () => {
    if (hasUnsent()) confirmSignOut(signOut);
    else signOut();
  });
  window.addEventListener('beforeunload', (event) => {
    if (client.state !== 'closed' && hasUnsent()) event.preventDefault();
  });
  window.addEventListener('popstate', showConversation);
  client.subscribe(draw);
  client.on('state', draw);
  client.on('message:new', (message) => announceMessage(client, message));
  client.on('error', (error) => {
    $('chat').hidden = true;
    // The next user gets a page without any of this user's data.
    signInAgain(`You were signed out: ${error.message}.`, () => location.reload());
  });
  showConversation();
}

/** Asks for confirmation before unsent text is lost. */
function confirmSignOut(signOut: () => void): void {
  const dialog = $<HTMLDialogElement>('sign-out-dialog');
  dialog.returnValue = '';
  dialog.onclose = () => { if (dialog.returnValue === 'yes') signOut(); };
  dialog.showModal();
}

/** Forgets the token, says why, and shows the sign-in form. */
function signInAgain(reason: string, onToken: (token: string) => void): void {
  forgetToken();
  showSignIn(onToken);
  showToast(reason);
}

$('new-conversation').append(icon('new'));
$('back').append(icon('back'));
// A sign-in link, opened in a tab that already shows the page.
window.addEventListener('hashchange', () => {
  if (location.hash.startsWith('#token=') && savedToken()) location.reload();
});
const token = savedToken();
if (token) startChat(token);
else showSignIn(startChat);
