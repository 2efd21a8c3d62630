// A user of the HTTP API: commands with a key that are retried until they are decided, and reads of one's own writes.

import { Agent, request as send } from 'node:http';

const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** How long a request may take. */
const REQUEST_MS = 8_000;
/** How long a command or a read is retried. */
const RETRY_MS = 90_000;
/** The longest pause between two attempts. */
const PAUSE_MAX_MS = 2_000;

/** One connection for each request under way. The checker has little of the machine: fetch would take twice as much. */
const agent = new Agent({ keepAlive: true });

/** Sends one request. Returns {status, code, body, headers}; without a response, the status is 0. */
export function request({ url, token }, method, path, { body, key, position } = {}) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (key) headers['Idempotency-Key'] = key;
  if (position) headers['Messages-Position'] = position;
  return new Promise((done) => {
    const fail = (error) => done({ status: 0, code: error.code ?? error.name, body: null, headers: new Headers() });
    const signal = AbortSignal.timeout(REQUEST_MS);
    const sent = send(`${url}${path}`, { method, headers, agent, signal }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk)).on('error', fail).on('end', () => {
        try {
          const parsed = chunks.length ? JSON.parse(Buffer.concat(chunks)) : null;
          done({ status: response.statusCode, code: parsed?.code, body: parsed, headers: new Headers(response.headers) });
        } catch (error) {
          fail(error);
        }
      });
    });
    sent.on('error', fail).end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** How long to wait after an attempt: what the server says, but not long, and not together with all others. */
function pause({ headers }, attempt) {
  const asked = 1000 * Number(headers.get('Retry-After'));
  const most = Math.min(asked || 100 * 2 ** attempt, PAUSE_MAX_MS);
  return most * (0.5 + Math.random() / 2);
}

/** An answer after which nobody knows whether the command was executed. */
const isUnknown = ({ status, code }) => status === 0 || code === 'append_unknown';
const isDecided = ({ status }) => status !== 0 && status < 500 && status !== 429;

export class HttpUser {
  /** How many commands of this user aren't decided. */
  underWay = 0;
  #counters;
  #recorder;

  constructor(login, counters, recorder) {
    Object.assign(this, login);
    this.#counters = counters;
    this.#recorder = recorder;
  }

  /**
   * Sends a command until it is decided, and records what became of it: `acknowledged`, `refused` (nothing may have
   * happened), or `unknown`. Returns the decisive response, or undefined.
   */
  async command(kind, key, method, path, body) {
    const record = { user: this.user, kind, key, method, path, body, attempts: [] };
    this.underWay += 1;
    this.#counters.sent += 1;
    let maybe = false;
    let response;
    const deadline = Date.now() + RETRY_MS;
    for (let attempt = 0; ; attempt += 1) {
      response = await request(this, method, path, { body, key });
      record.attempts.push([response.status, response.code ?? null]);
      this.#counters.attempts += 1;
      if (isDecided(response)) break;
      maybe ||= isUnknown(response);
      if (Date.now() > deadline) break;
      await wait(pause(response, attempt));
    }
    this.underWay -= 1;
    return this.#record(record, response, maybe);
  }

  #record(record, { status, code, body, headers }, maybe) {
    const done = status >= 200 && status < 300;
    record.outcome = done ? 'acknowledged' : maybe ? 'unknown' : 'refused';
    Object.assign(record, { status, code });
    if (done) {
      const replayed = headers.get('Idempotent-Replayed') === 'true';
      Object.assign(record, { data: body.data, position: headers.get('Messages-Position'), replayed });
    }
    this.#counters[record.outcome] += 1;
    if (record.attempts.length > 1) this.#counters.retried += 1;
    this.#recorder.write('commands', record);
    // Every command is valid, unless somebody has deleted its message meanwhile.
    if (!done && status !== 0 && status < 500 && status !== 429 && code !== 'message_deleted') this.violation('wrong refusal', record);
    return done ? record : undefined;
  }

  /**
   * Reads from at least a position, until the server answers. A 404 is a violation: every path that is read is known.
   * Returns the response, or undefined.
   */
  async read(path, position) {
    const deadline = Date.now() + RETRY_MS;
    for (let attempt = 0; Date.now() < deadline; attempt += 1) {
      const response = await request(this, 'GET', path, { position });
      if (response.status === 200) {
        this.#counters.reads += 1;
        return response;
      }
      if (isDecided(response)) {
        this.violation('wrong answer to a read', { path, position, status: response.status, code: response.code });
        return undefined;
      }
      this.#counters.readRetries += 1;
      await wait(pause(response, attempt));
    }
    this.violation('a read was never answered', { path, position });
    return undefined;
  }

  violation(what, details) {
    this.#recorder.write('violations', { what, user: this.user, at: new Date().toISOString(), ...details });
  }
}
