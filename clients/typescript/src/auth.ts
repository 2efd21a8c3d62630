// The access token: holds the current one and requests the next one when it is needed. A client whose user signs in by
// a cookie has none: the browser adds the cookie to every request.

import { MessagesError } from './errors.js';

/** A token (a JWT), or a function that returns one. The client calls it before a token expires and after a refusal. */
export type TokenSource = string | (() => string | Promise<string>);

/** In milliseconds. A token this close to its expiry isn't used: it has to be valid when it arrives. */
const EXPIRY_MARGIN_MS = 10_000;
/** How long the source may take, in milliseconds. */
const SOURCE_TIMEOUT_MS = 15_000;

/** The access token of one client, or none where the browser sends a cookie. */
export class Auth {
  /** The user of the token or, without one, the user whom the server has named; empty until then. */
  me = '';
  #current: Promise<string> | undefined;
  /** Milliseconds since 1970; infinite while no expiry is known. */
  #expiresAt = Infinity;
  readonly #source: TokenSource | undefined;

  /** Throws `token` where a token given as text can't be read. */
  constructor(source: TokenSource | undefined) {
    this.#source = source;
    if (typeof source === 'string') this.#read(source);
  }

  /** Whether the client signs in by a token, and not by a cookie. */
  get usesToken(): boolean {
    return this.#source !== undefined;
  }

  /** Whether the source can return another token. */
  get renewable(): boolean {
    return typeof this.#source === 'function';
  }

  /** Returns the token; undefined with a cookie. Rejects with `token` where the source fails. */
  async token(): Promise<string | undefined> {
    if (this.#source === undefined) return undefined;
    if (this.renewable && Date.now() > this.#expiresAt - EXPIRY_MARGIN_MS) this.invalidate();
    return this.#current ?? this.#request(this.#source);
  }

  /** Drops a token that the server refused; the next call of {@link Auth.token} requests another one. */
  invalidate(): void {
    this.#current = undefined;
    this.#expiresAt = Infinity;
  }

  #request(source: TokenSource): Promise<string> {
    const request = this.#call(source);
    this.#current = request;
    request.catch(() => { // a failure isn't cached: the next call asks the source again
      if (this.#current === request) this.#current = undefined;
    });
    return request;
  }

  async #call(source: TokenSource): Promise<string> {
    try {
      const token = typeof source === 'string' ? source : await inTime(source());
      this.#read(token);
      return token;
    } catch (cause) {
      if (cause instanceof MessagesError) throw cause;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new MessagesError('token', `the token source failed: ${reason}`, { cause });
    }
  }

  /** Takes the user and the expiry from a token. The server verifies it; the client doesn't. */
  #read(token: string): void {
    try {
      const payload = atob((token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'));
      const bytes = Uint8Array.from(payload, (char) => char.charCodeAt(0));
      const { sub, exp } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown; exp?: unknown };
      if (typeof sub !== 'string' || !sub) throw new Error('without sub');
      this.me = sub;
      this.#expiresAt = typeof exp === 'number' ? exp * 1000 : Infinity;
    } catch (cause) {
      throw new MessagesError('token', 'this is not an access token: it must be a JWT with a user id (sub)', { cause });
    }
  }
}

/** Rejects where the source doesn't return in time: everything that the client does waits for it. */
async function inTime(token: string | Promise<string>): Promise<string> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no token in time')), SOURCE_TIMEOUT_MS);
  });
  try {
    return await Promise.race([token, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
