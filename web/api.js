// The HTTP API: commands with a key, reads that are at least as new as what this page has seen.

const TRIES = 5;
const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });

/** `patience` is told when a try failed and the next is coming (true), and when one came through (false). */
export const session = {
  token: null,
  position: null, // of the last command, or of the socket's last ready
  positions: new Map(), // of the last command, by conversation
  patience: () => {},
};

/** What the server says is wrong, with the fields that it names. */
export class Problem extends Error {
  constructor(answer, body) {
    const fields = (body.errors ?? []).map((e) => `${e.field}: ${e.detail}`);
    super([body.detail ?? body.title ?? `The server answered ${answer.status}.`, ...fields].join(' · '));
    Object.assign(this, { status: answer.status, code: body.code });
    this.after = Number(answer.headers.get('Retry-After')) || 0;
  }
}

export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID(); // absent where the page isn't secure
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

async function request(method, path, headers, body) {
  const answer = await fetch(path, {
    method,
    cache: 'no-store',
    signal: AbortSignal.timeout(15_000),
    headers: { Authorization: `Bearer ${session.token}`, ...headers },
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Problem(answer, await answer.json().catch(() => ({})));
  return { ...await answer.json(), position: answer.headers.get('Messages-Position') };
}

/** Tries again, the same way, while nobody answers or the answer is "not now". */
async function patiently(attempt) {
  for (let n = 1; ; n += 1) {
    try {
      const answer = await attempt();
      if (n > 1) session.patience(false);
      return answer;
    } catch (error) {
      const passing = !(error instanceof Problem) || error.status === 503;
      if (!passing || n === TRIES) throw error;
      session.patience(true);
      await wait(Math.max((error.after ?? 0) * 1000, 200 * 2 ** n));
    }
  }
}

/** A read that includes `at`. */
export async function get(path, at) {
  try {
    return await patiently(() => request('GET', path, at ? { 'Messages-Position': at } : {}));
  } catch (error) {
    if (!at || error.status !== 400) throw error;
    return request('GET', path, {}); // a position of another log, after a restore
  }
}

/** The position that a read of a conversation needs, so that users see what they did themselves. */
export const seen = (conversationId) => session.positions.get(conversationId) ?? session.position;

/** A command; trying again with its key has one effect. `conversationId` says whose position to remember. */
export async function command(method, path, body, conversationId, key = newKey()) {
  const headers = { 'Idempotency-Key': key };
  if (body) headers['Content-Type'] = 'application/json';
  const answer = await patiently(() => request(method, path, headers, body));
  if (answer.position) {
    session.position = answer.position;
    session.positions.set(conversationId ?? answer.data.id, answer.position);
  }
  return answer;
}

/** Typing needs no key, and its position is nothing to wait for; that it got lost is no harm. */
export function typing(action, conversationId) {
  const body = { action, conversationId };
  request('POST', '/api/messages', { 'Content-Type': 'application/json' }, body).catch(() => {});
}

export const post = (body, conversationId = body.conversationId, key = undefined) =>
  command('POST', '/api/messages', body, conversationId, key);
