// The socket: connects, and reconnects after every disconnection with a token that is still valid, or with the cookie.

import { io, type Socket } from 'socket.io-client';
import type { Auth } from './auth.js';
import { MessagesError, unreachableError } from './errors.js';
import { uuidV7 } from './ids.js';
import {
  FRAME_NAMES, type ClientEvents, type Delivery, type Meta, type Presence, type ServerEvents, type Typing,
} from './types.js';

/** The callbacks of a connection. */
export interface ConnectionHandlers {
  /** Connected as this user: the server delivers everything after this position. */
  connected(userId: string, position: string): void;
  disconnected(): void;
  delivery(delivery: Delivery): void;
  typing(typing: Typing, active: boolean): void;
  presence(presence: Presence): void;
  /** An attempt failed, and another one follows. */
  connectionError(error: MessagesError): void;
  /** The connection can't be established, and no other attempt follows. */
  failed(error: MessagesError): void;
}

/** In milliseconds: the first pause between two attempts, and the longest. */
const RECONNECT_DELAY_MS = 500;
const RECONNECT_DELAY_MAX_MS = 5_000;
/** How long the server may take to answer a request over the socket, in milliseconds. */
const ACK_TIMEOUT_MS = 10_000;
/** The codes with which the server refuses a token. */
const TOKEN_ERRORS = new Set(['missing_token', 'expired_token', 'invalid_token']);

/** The socket of one client. */
export class Connection {
  readonly #socket: Socket<ServerEvents, ClientEvents>;
  readonly #auth: Auth;
  readonly #handlers: ConnectionHandlers;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempts = 0;

  constructor(url: string, auth: Auth, handlers: ConnectionHandlers) {
    this.#auth = auth;
    this.#handlers = handlers;
    this.#socket = io(url, {
      auth: (respond) => void this.#auth.token().then((token) => respond({ token }), (error: MessagesError) => {
        this.#handlers.connectionError(error);
        this.reconnect();
      }),
      autoConnect: false,
      forceNew: true,
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: RECONNECT_DELAY_MS,
      reconnectionDelayMax: RECONNECT_DELAY_MAX_MS,
      // A load balancer routes all requests of a polling client to one node by this id.
      query: { client: uuidV7() },
    });
    this.#listen();
  }

  /** Connects now, without waiting for the next attempt. */
  connect(): void {
    clearTimeout(this.#timer);
    if (this.#socket.connected) return;
    if (this.#socket.active) this.#socket.disconnect();
    this.#socket.connect();
  }

  /** Ends the connection and schedules another one. */
  reconnect(): void {
    this.#socket.disconnect();
    this.#scheduleReconnect();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#socket.disconnect();
  }

  /** Requests the presence of up to 100 users; without an answer, the list is empty. */
  async presences(userIds: string[]): Promise<Presence[]> {
    try {
      const response = await this.#socket.timeout(ACK_TIMEOUT_MS).emitWithAck('presence:get', { userIds });
      return Array.isArray(response) ? response : [];
    } catch {
      return []; // the client requests it again after the next connect
    }
  }

  #listen(): void {
    const socket = this.#socket;
    const on = socket.on.bind(socket) as (name: string, listener: (payload: never, meta: never) => void) => void;
    for (const name of FRAME_NAMES) {
      on(name, (payload, meta: Meta) => this.#handlers.delivery({ name, payload, meta } as Delivery));
    }
    socket.on('typing:start', (typing) => this.#handlers.typing(typing, true));
    socket.on('typing:stop', (typing) => this.#handlers.typing(typing, false));
    socket.on('presence:update', (presence) => this.#handlers.presence(presence));
    socket.on('connection:ready', ({ userId, position }) => {
      this.#attempts = 0;
      this.#handlers.connected(userId, position);
    });
    socket.on('disconnect', (reason) => {
      this.#handlers.disconnected();
      // The server disconnects a socket whose token expires, and then Socket.IO doesn't reconnect by itself.
      if (reason === 'io server disconnect') this.#scheduleReconnect();
    });
    socket.on('connect_error', (error) => {
      this.#handlers.disconnected();
      if (socket.active) this.#handlers.connectionError(unreachableError(error)); // Socket.IO tries again by itself
      else this.#handleRefusal(error);
    });
  }

  #handleRefusal(cause: Error): void {
    const isTokenError = TOKEN_ERRORS.has(cause.message);
    const message = `the server refuses the ${isTokenError ? 'access token' : 'connection'}`;
    const error = new MessagesError(cause.message, message, { status: isTokenError ? 401 : 0, cause });
    if (isTokenError && !this.#auth.renewable) {
      this.#handlers.failed(error);
      return;
    }
    if (isTokenError) this.#auth.invalidate();
    this.#handlers.connectionError(error);
    this.#scheduleReconnect();
  }

  #scheduleReconnect(): void {
    clearTimeout(this.#timer);
    const delay = Math.min(RECONNECT_DELAY_MS * 2 ** this.#attempts, RECONNECT_DELAY_MAX_MS) * (0.5 + Math.random());
    this.#attempts += 1;
    this.#timer = setTimeout(() => this.#socket.connect(), delay);
  }
}
