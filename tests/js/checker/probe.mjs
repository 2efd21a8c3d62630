// Probes how soon after a fault everything works again: a command, a read of it, and its deliveries.

import { request } from './http-user.mjs';
import { keyOfNow } from './traffic.mjs';

const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });
/** The pause between two attempts, and how long a probe goes on. */
const PAUSE_MS = 50;
const PROBE_MS = 120_000;

export class Probe {
  #user;
  #replicas;
  #libraries;
  #conversation;
  #number = 0;

  /** `user` sends, and everybody listens. */
  constructor(user, replicas, libraries) {
    this.#user = user;
    this.#replicas = replicas;
    this.#libraries = libraries;
  }

  async prepare() {
    const participantIds = this.#libraries.map(({ user }) => user);
    const body = { action: 'conversation', participantIds, title: 'probe' };
    const done = await this.#user.command('conversation', keyOfNow(), 'POST', '/api/messages', body);
    this.#conversation = done.data.id;
  }

  /** Returns after how many milliseconds each kind of use succeeded; null for one that didn't in time. */
  async run(name) {
    const began = performance.now();
    this.#number += 1;
    const content = `probe ${this.#number} after ${name}`;
    const body = { conversationId: this.#conversation, content };
    const sent = await this.#user.command('message', keyOfNow(), 'POST', '/api/messages', body);
    const took = () => Math.round(performance.now() - began);
    const command = sent ? took() : null;
    const until = async (succeeds) => {
      for (; performance.now() - began < PROBE_MS; await wait(PAUSE_MS)) if (await succeeds()) return took();
      return null;
    };
    const id = sent?.data.id;
    // Each client must catch up once. Not all at the same moment: some always sync, because they do it now and then.
    const behind = new Set(this.#replicas);
    const [read, delivery, library] = await Promise.all([
      until(() => this.#isReadable(id, sent?.position)),
      until(() => this.#isDelivered(id, behind)),
      until(() => this.#libraries.every(({ client }) => client.state === 'live' && client.message(id))),
    ]);
    return { at: 'probe', name, command, read, delivery, library };
  }

  #isDelivered(id, behind) {
    if (!this.#replicas[0].messages.has(id)) return false;
    behind.forEach((replica) => { if (replica.ready) behind.delete(replica); });
    return behind.size === 0;
  }

  async #isReadable(id, position) {
    const { status } = await request(this.#user, 'GET', `/api/messages/${id}`, { position });
    if (status === 404) this.#user.violation('wrong answer to a read', { id, position, status });
    return status === 200;
  }
}
