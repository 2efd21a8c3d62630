// The chat page: who is signed in, what the user does, and what arrives live. `io` is the vendored client.

import { Problem, command, get, newKey, post, seen, session, typing } from './api.js';
import * as model from './model.js';
import { $, draw as drawWith, drawNow, say } from './view.js';

const { state } = model;
const PAGE = 30;
const TYPING_EVERY = 3000;
const enc = encodeURIComponent;
const act = { select, toggle: (...what) => doing(() => toggle(...what)), edit, erase: (what) => doing(() => erase(what)) };
const draw = () => drawWith(act);

const ui = {
  socket: null, listTurn: 0, turn: 0, // turns: an answer that was overtaken by a later question is dropped
  unsent: null, sending: Promise.resolve(), started: 0, typing: false, marking: 0, marked: null,
};

/** Does something that the user wants, and says politely what went wrong. */
async function doing(work) {
  try {
    const result = await work();
    if ($('status').dataset.kind === 'problem') say('');
    return result;
  } catch (error) {
    if (error.status === 401) signOut();
    const known = error instanceof Problem;
    if (!known) console.warn(error);
    say(known ? error.message : 'The server can’t be reached. Please try again.', 'problem');
    return undefined;
  }
}

session.patience = (waiting) => say(waiting ? 'The server isn’t ready; trying again…' : '');

// ---- Reading

async function loadConversations(at = session.position, cursor = null) {
  const turn = (ui.listTurn += 1);
  const { data, page } = await get(`/api/messages?limit=50${cursor ? `&cursor=${enc(cursor)}` : ''}`, at);
  if (turn !== ui.listTurn) return;
  model.mergeConversations(data);
  state.listCursor = page?.nextCursor ?? null;
  draw();
  askPresence();
}

async function loadMessages(at = seen(state.current)) {
  const id = state.current;
  const turn = (ui.turn += 1);
  const { data, page } = await get(`/api/messages?conversationId=${enc(id)}&limit=${PAGE}`, at);
  if (turn !== ui.turn || id !== state.current) return;
  model.replaceMessages(data);
  state.cursor = page?.nextCursor ?? null;
  draw();
  markRead();
}

async function loadOlder() {
  const { current: id, cursor } = state;
  const turn = (ui.turn += 1);
  const { data, page } = await get(`/api/messages?conversationId=${enc(id)}&limit=${PAGE}&cursor=${enc(cursor)}`, seen(id));
  if (turn !== ui.turn || id !== state.current) return;
  model.addOlder(data);
  state.cursor = page?.nextCursor ?? null;
  drawNow(act, true);
}

async function reread(messageId, at) {
  const { data } = await get(`/api/messages/${enc(messageId)}`, at);
  model.replaceMessage(data);
  draw();
}

const catchUp = (at) => doing(() => Promise.all([loadConversations(at), state.current && loadMessages(at)]));

function select(id) {
  stopTyping();
  Object.assign(state, { current: id, messages: new Map(), cursor: null, reads: new Map() });
  ui.marked = null;
  stopEditing();
  if (!id) return;
  $('composer').focus();
  doing(() => Promise.all([loadMessages(), loadConversations()])); // the list has the others' read marks
}

// ---- Commands

async function startConversation() {
  const participantIds = $('people').value.split(',').map((id) => id.trim()).filter(Boolean);
  const { data } = await post({ action: 'conversation', participantIds });
  $('people').value = '';
  const known = state.conversations.get(data.id);
  if (!known) state.conversations.set(data.id, { ...data, updatedAt: new Date().toISOString() });
  select(data.id);
}

function submit() {
  const content = $('composer').value.trim();
  const { current: conversationId, editing } = state;
  if (!content || !conversationId) return;
  const again = !editing && ui.unsent?.content === content && ui.unsent.conversationId === conversationId;
  const draft = { content, conversationId, editing, key: again ? ui.unsent.key : newKey() };
  stopTyping();
  stopEditing();
  ui.sending = ui.sending.then(() => doing(() => send(draft))); // one after another, so that order stays
}

async function send(draft) {
  const { content, conversationId, editing, key } = draft;
  try {
    if (editing) {
      await afterwards(command('PATCH', `/api/messages/${enc(editing)}`, { content }, conversationId, key));
      return;
    }
    const { data, position } = await post({ action: 'message', conversationId, content }, conversationId, key);
    ui.unsent = null;
    arrive(data, position);
  } catch (error) { // the text comes back; sent again unchanged it has the same key, for it may have arrived
    if (!editing) ui.unsent = draft;
    if (state.current === conversationId && !$('composer').value) {
      state.editing = editing;
      $('composer').value = content;
      draw();
    }
    throw error;
  }
}

/** Changes come back live, in order; without a socket they are read. */
async function afterwards(asked) {
  const { position } = await asked;
  if (!ui.socket?.connected) await loadMessages(position);
}

function erase({ id, conversationId }) {
  if (state.editing === id) stopEditing();
  return afterwards(command('DELETE', `/api/messages/${enc(id)}`, undefined, conversationId));
}

function toggle(message, emoji) {
  const mine = message.reactions?.some((group) => group.emoji === emoji && group.userIds.includes(state.me));
  const body = { action: mine ? 'remove_reaction' : 'reaction', messageId: message.id, emoji };
  return afterwards(post(body, message.conversationId));
}

function edit(message) {
  state.editing = message.id;
  $('composer').value = message.content;
  $('composer').focus();
  draw();
}

function stopEditing() {
  state.editing = null;
  $('composer').value = '';
  draw();
}

function noteTyping() {
  if (!state.current || state.editing || Date.now() - ui.started < TYPING_EVERY) return;
  Object.assign(ui, { started: Date.now(), typing: true });
  typing('typing_start', state.current);
}

function stopTyping() {
  if (!ui.typing) return;
  ui.typing = false;
  typing('typing_stop', state.current);
}

function markRead() {
  clearTimeout(ui.marking);
  ui.marking = setTimeout(() => doing(markReadNow), 150); // a burst of messages makes one mark
}

async function markReadNow() {
  const conversationId = state.current;
  const newest = model.sorted().at(-1);
  if (document.visibilityState !== 'visible' || !newest || newest.id === ui.marked) return;
  if (newest.senderId === state.me && !state.conversations.get(conversationId)?.unreadCount) return;
  ui.marked = newest.id;
  await post({ action: 'mark_read', conversationId, messageId: newest.id });
  model.marked({ conversationId, userId: state.me, messageId: newest.id });
  draw();
}

// ---- What arrives live

function arrive(message, position) {
  model.arrive(message, position);
  if (message.conversationId === state.current) markRead();
  draw();
}

function reaction(event, added, at) {
  if (!model.reacted(event, added, at)) doing(() => reread(event.messageId, at));
}

const LIVE = {
  'message:new': (message, at) => {
    model.typist({ userId: message.senderId, conversationId: message.conversationId }, false);
    if (!state.conversations.has(message.conversationId)) doing(() => loadConversations(at));
    arrive(message, at);
  },
  'message:edited': model.edited,
  'message:deleted': model.deleted,
  'reaction:added': (event, at) => reaction(event, true, at),
  'reaction:removed': (event, at) => reaction(event, false, at),
  'typing:start': (event) => model.typist(event, true, draw),
  'typing:stop': (event) => model.typist(event, false),
  'messages:read': (event, at) => {
    if (!model.marked(event)) doing(() => loadConversations(at));
  },
  'conversation:created': (conversation, at) => {
    if (!state.conversations.has(conversation.id)) {
      state.conversations.set(conversation.id, {
        updatedAt: conversation.createdAt ?? new Date().toISOString(), ...conversation, position: at,
      });
    }
    askPresence();
  },
  'presence:update': ({ userId, status }) => state.presence.set(userId, status),
};

function deliver(name, payload, meta) {
  const news = model.receive(payload, meta);
  if (news === 'known') return;
  LIVE[name](payload, meta?.position);
  if (news === 'gap') catchUp(meta.position);
  draw();
}

function askPresence() {
  const ids = new Set([...state.conversations.values()].flatMap(model.others));
  if (!ui.socket?.connected || !ids.size) return;
  ui.socket.timeout(5000).emit('presence:get', { userIds: [...ids].slice(0, 100) }, (error, list) => {
    if (error || !Array.isArray(list)) return;
    for (const { userId, status } of list) state.presence.set(userId, status);
    draw();
  });
}

function connection(on) {
  $('connection').dataset.state = on ? 'on' : 'off';
  $('connection').textContent = on ? 'live' : 'connecting';
}

function connect() {
  const socket = io({ auth: { token: session.token }, transports: ['websocket', 'polling'], tryAllTransports: true });
  ui.socket = socket;
  for (const name of Object.keys(LIVE)) socket.on(name, (payload, meta) => deliver(name, payload, meta));
  socket.on('connection:ready', ({ position }) => {
    connection(true);
    session.position = position;
    state.delivered.clear();
    catchUp(position);
  });
  socket.on('disconnect', (reason) => {
    connection(false);
    if (reason === 'io server disconnect') setTimeout(() => socket === ui.socket && socket.connect(), 1000);
  });
  socket.on('connect_error', (error) => {
    connection(false);
    if (!socket.active) say(`Live updates are refused: ${error.message}`, 'problem'); // it won't try again
  });
}

// ---- Signing in

function subject(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof sub === 'string' && sub ? sub : null;
  } catch {
    return null;
  }
}

function signIn(token) {
  const me = subject(token);
  if (!me) {
    show(false);
    say('That is not a token: it needs a user id (sub).', 'problem');
    return;
  }
  sessionStorage.setItem('token', token);
  session.token = token;
  state.me = me;
  $('me').textContent = me;
  show(true);
  say('');
  connect();
  doing(() => loadConversations());
}

function signOut() {
  sessionStorage.removeItem('token');
  ui.socket?.disconnect();
  ui.listTurn += 1;
  ui.turn += 1;
  Object.assign(ui, { socket: null, unsent: null, typing: false });
  Object.assign(session, { token: null, position: null });
  Object.assign(state, { me: null, current: null, editing: null, listCursor: null, cursor: null });
  for (const map of [session.positions, state.conversations, state.messages, state.presence, state.delivered]) map.clear();
  connection(false);
  show(false);
  draw();
}

function show(chat) {
  $('chat').hidden = !chat;
  $('who').hidden = !chat;
  $('sign-in').hidden = chat;
}

/** A token in the address is taken, and not left there. */
function tokenInAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (token) history.replaceState(null, '', location.pathname + location.search);
  return token;
}

function on(id, event, handle) {
  $(id).addEventListener(event, (what) => {
    if (event === 'submit') what.preventDefault();
    handle(what);
  });
}

on('sign-in', 'submit', () => {
  signIn($('token').value.trim());
  $('token').value = '';
});
on('sign-out', 'click', signOut);
on('start', 'submit', () => doing(startConversation));
on('compose', 'submit', submit);
on('composer', 'keydown', (key) => {
  if (key.key === 'Escape' && state.editing) stopEditing();
  if (key.key !== 'Enter' || key.shiftKey || key.isComposing) return;
  key.preventDefault();
  submit();
});
on('composer', 'input', noteTyping);
on('composer', 'blur', stopTyping);
on('edit-cancel', 'click', stopEditing);
on('back', 'click', () => select(null));
on('older', 'click', () => doing(loadOlder));
on('more', 'click', () => doing(() => loadConversations(session.position, state.listCursor)));
document.addEventListener('visibilitychange', () => {
  draw();
  if (document.visibilityState === 'visible' && state.current) markRead();
});
window.addEventListener('hashchange', () => {
  const token = tokenInAddress();
  if (!token) return;
  signOut();
  signIn(token);
});

const token = tokenInAddress() ?? sessionStorage.getItem('token');
if (token) signIn(token);
else show(false);
