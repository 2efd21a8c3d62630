// The socket: connects, and comes back whatever ended it, with a token that is still good.

import { io, type Socket } from 'socket.io-client';
import type { Auth } from './auth.js';
import { FRAMES, type Delivery, type FromServer, type Meta, type Presence, type ToServer, type Typing } from './contract.js';
import { MessagesError, unreachable } from './errors.js';
import { uuidV7 } from './ids.js';

/** What a connection tells. */
export interface Told {
  ready(token: string): void;
  left(): void;
  deliver(delivery: Delivery): void;
  typing(typing: Typing, on: boolean): void;
  presence(presence: Presence): void;
  /** It can't connect, and tries again. */
  trouble(error: MessagesError): void;
  /** It can't connect, and won't try again. */
  failed(error: MessagesError): void;
}

/** The pause before the first and the longest before a later try, in milliseconds. */
const PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;
/** How long the server has to answer a question, in milliseconds. */
const ANSWER_MS = 10_000;
/** What the server says about a token that is no good. */
const NO_GOOD = new Set(['missing_token', 'expired_token', 'invalid_token']);

/** The socket of one client. */
export class Connection {
  readonly #socket: Socket<FromServer, ToServer>;
  readonly #auth: Auth;
  readonly #told: Told;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #tries = 0;

  constructor(url: string, auth: Auth, told: Told) {
    this.#auth = auth;
    this.#told = told;
    this.#socket = io(url, {
      auth: (give) => void this.#auth.token().then((token) => give({ token }), (error: MessagesError) => {
        this.#told.trouble(error);
        this.again();
      }),
      autoConnect: false,
      forceNew: true,
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      reconnectionDelay: PAUSE_MS,
      reconnectionDelayMax: LONGEST_PAUSE_MS,
      // All requests of a polling client have to reach the same node: this says which they are.
      query: { client: uuidV7() },
    });
    this.#listen();
  }

  /** Connects, or, where it waits to, does so now. */
  connect(): void {
    clearTimeout(this.#timer);
    if (this.#socket.connected) return;
    if (this.#socket.active) this.#socket.disconnect();
    this.#socket.connect();
  }

  /** Ends the connection and begins another. */
  again(): void {
    this.#socket.disconnect();
    this.#later();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#socket.disconnect();
  }

  /** Asks who of these people (up to 100) is there; nothing where there is no answer. */
  async presences(userIds: string[]): Promise<Presence[]> {
    try {
      const answer = await this.#socket.timeout(ANSWER_MS).emitWithAck('presence:get', { userIds });
      return Array.isArray(answer) ? answer : [];
    } catch {
      return []; // the next connection asks again
    }
  }

  #listen(): void {
    const socket = this.#socket;
    const on = socket.on.bind(socket) as (name: string, listener: (payload: never, meta: never) => void) => void;
    for (const name of FRAMES) {
      on(name, (payload, meta: Meta) => this.#told.deliver({ name, payload, meta } as Delivery));
    }
    socket.on('typing:start', (typing) => this.#told.typing(typing, true));
    socket.on('typing:stop', (typing) => this.#told.typing(typing, false));
    socket.on('presence:update', (presence) => this.#told.presence(presence));
    socket.on('connection:ready', ({ position }) => {
      this.#tries = 0;
      this.#told.ready(position);
    });
    socket.on('disconnect', (reason) => {
      this.#told.left();
      // By the server, because the token expired: the library doesn't come back from that by itself.
      if (reason === 'io server disconnect') this.#later();
    });
    socket.on('connect_error', (error) => {
      this.#told.left();
      if (socket.active) this.#told.trouble(unreachable(error)); // it tries again by itself
      else this.#refused(error);
    });
  }

  #refused(cause: Error): void {
    const token = NO_GOOD.has(cause.message);
    const error = new MessagesError(cause.message, `the ${token ? 'access token' : 'connection'} is refused`, {
      status: token ? 401 : 0, cause,
    });
    if (token && !this.#auth.renewable) {
      this.#told.failed(error);
      return;
    }
    if (token) this.#auth.refused();
    this.#told.trouble(error);
    this.#later();
  }

  #later(): void {
    clearTimeout(this.#timer);
    const pause = Math.min(PAUSE_MS * 2 ** this.#tries, LONGEST_PAUSE_MS) * (0.5 + Math.random());
    this.#tries += 1;
    this.#timer = setTimeout(() => this.#socket.connect(), pause);
  }
}
