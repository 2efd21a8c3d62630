// The access token: where it comes from, and when a new one is needed.

import { MessagesError } from './errors.js';

/** A token (JWT), or what gives one: it is asked again whenever the last one is about to expire or was refused. */
export type TokenSource = string | (() => string | Promise<string>);

/** So long before it expires a token isn't used any more, in milliseconds: it has to arrive while it is good. */
const MARGIN_MS = 10_000;

/** The token in use. */
export class Auth {
  /** The user of the token; empty until the first one came. */
  me = '';
  #current: Promise<string> | undefined;
  #expires = Infinity;
  readonly #source: TokenSource;

  constructor(source: TokenSource) {
    this.#source = source;
    if (typeof source === 'string') this.#read(source);
  }

  /** Whether a new token can be had. */
  get renewable(): boolean {
    return typeof this.#source === 'function';
  }

  /** The token. Fails with `token` where the source does. */
  token(): Promise<string> {
    if (this.renewable && Date.now() > this.#expires - MARGIN_MS) this.refused();
    return this.#current ?? this.#anew();
  }

  /** The server has refused the token: the next one is asked for anew. */
  refused(): void {
    this.#current = undefined;
    this.#expires = Infinity;
  }

  #anew(): Promise<string> {
    const asked = this.#ask();
    this.#current = asked;
    asked.catch(() => { // which may be at once
      if (this.#current === asked) this.#current = undefined;
    });
    return asked;
  }

  async #ask(): Promise<string> {
    try {
      const token = typeof this.#source === 'string' ? this.#source : await this.#source();
      this.#read(token);
      return token;
    } catch (cause) {
      if (cause instanceof MessagesError) throw cause;
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new MessagesError('token', `no access token could be had: ${why}`, { cause });
    }
  }

  #read(token: string): void {
    try {
      const payload = atob((token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'));
      const bytes = Uint8Array.from(payload, (char) => char.charCodeAt(0));
      const { sub, exp } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown; exp?: unknown };
      if (typeof sub !== 'string' || !sub) throw new Error('without sub');
      this.me = sub;
      this.#expires = typeof exp === 'number' ? exp * 1000 : Infinity;
    } catch (cause) {
      throw new MessagesError('token', 'that is not an access token: it needs a user id (sub)', { cause });
    }
  }
}
