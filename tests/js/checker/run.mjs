// A run of many users, controlled with lines of JSON; check.mjs checks what it records.
//
// First line: {"url", "folder", "seed", "users": [{"user", "token", "kind": "socket"|"library"}], "groups"}
//   → {"at":"ready"} once all clients are connected and the conversations exist
// Then: {"do":"start","rate"}: sends commands at this rate a second
//       {"do":"fault","name","on"} → {"at":"fault", name, …} at its end: what overlapped it
//       {"do":"probe","name"} → {"at":"probe", name, command, read, delivery, library}: milliseconds from this order until
//           a command, a read of it, its deliveries to sockets, and to clients of the library succeeded
//       {"do":"counts"} → {"at":"counts", …}
//       {"do":"stop"} → {"at":"stopped", …counts} once every command is decided
//       {"do":"answers"} → {"at":"answers"}: records what HTTP answers every user, twice
//       {"do":"clients"} → {"at":"clients", ready}: records what the clients have
//       {"do":"exit"}

import { createInterface } from 'node:readline';
import { HttpUser, request } from './http-user.mjs';
import { LibraryUser } from './library-user.mjs';
import { Recorder } from './recorder.mjs';
import { SocketReplica } from './socket-replica.mjs';
import { Traffic } from './traffic.mjs';
import { Probe } from './probe.mjs';
import { recordAnswers } from './record-answers.mjs';

const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });
const print = (line) => console.log(JSON.stringify(line));

class Run {
  counters = {
    sent: 0, acknowledged: 0, refused: 0, unknown: 0, retried: 0, attempts: 0, reads: 0, readRetries: 0, heldBack: 0,
    library: { sent: 0, acknowledged: 0, failed: 0 },
  };
  #faults = new Map();

  async start({ url, folder, seed, users, groups }) {
    this.recorder = new Recorder(folder);
    for (const { user, kind } of users) this.recorder.write('users', { user, kind });
    const login = ({ user, token }) => ({ url, user, token });
    const of = (kind) => users.filter((one) => one.kind === kind);
    const http = of('socket').map((user) => new HttpUser(login(user), this.counters, this.recorder));
    this.replicas = await Promise.all(http.map((user) => this.#replica(user)));
    this.libraries = of('library').map((user) => new LibraryUser(login(user), this.counters, this.recorder));
    await Promise.all(this.libraries.map(({ client }) => client.ready));
    this.http = http;
    this.traffic = new Traffic({ users: http, libraries: this.libraries, seed, counters: this.counters, recorder: this.recorder });
    await this.traffic.createConversations(groups);
    this.probe = new Probe(http[0], this.replicas, this.libraries);
    await this.probe.prepare();
    await this.#settle();
    return { at: 'ready' };
  }

  async #replica(user) {
    const { body } = await request(user, 'GET', '/api/messages/sync');
    const onViolation = (what, details) => user.violation(what, details);
    return new SocketReplica(user, body.next, onViolation);
  }

  /** Waits until every client is connected and has caught up. */
  async #settle() {
    while (!this.ready) await wait(50);
  }

  get ready() {
    return this.replicas.every(({ ready }) => ready) && this.libraries.every(({ client }) => client.state === 'live');
  }

  counts() {
    const frames = this.replicas.reduce((sum, replica) => sum + replica.frames, 0);
    return { ...this.counters, frames, underWay: this.traffic.underWay, violations: this.recorder.counts.violations };
  }

  fault({ name, on }) {
    const { sent, acknowledged, attempts, readRetries, underWay } = this.counts();
    if (on) {
      this.#faults.set(name, { sent, acknowledged, attempts, readRetries, underWay, began: Date.now() });
      return undefined;
    }
    const before = this.#faults.get(name);
    return {
      at: 'fault', name, ms: Date.now() - before.began, underWay: Math.max(before.underWay, underWay), sent: sent - before.sent,
      acknowledged: acknowledged - before.acknowledged, retries: attempts - before.attempts - (sent - before.sent),
    };
  }

  async obey(order) {
    switch (order.do) {
      case 'start': this.traffic.start(order.rate); return undefined;
      case 'fault': return this.fault(order);
      case 'probe': return this.probe.run(order.name);
      case 'counts': return { at: 'counts', ...this.counts() };
      case 'stop':
        await this.traffic.stop();
        return { at: 'stopped', ...this.counts() };
      case 'answers':
        await recordAnswers([...this.http, ...this.libraries], this.recorder);
        return { at: 'answers' };
      case 'clients':
        this.recorder.restart('clients');
        for (const client of [...this.replicas, ...this.libraries]) this.recorder.write('clients', client.dump());
        return { at: 'clients', ready: this.ready };
      default: return process.exit(0);
    }
  }
}

const run = new Run();
let started = false;
const lines = createInterface({ input: process.stdin });
lines.on('line', async (line) => {
  const order = JSON.parse(line);
  try {
    const first = !started;
    started = true;
    const answer = first ? await run.start(order) : await run.obey(order);
    if (answer) print(answer);
  } catch (error) {
    print({ at: 'failed', order: order.do, error: error.stack });
  }
});
lines.on('close', () => process.exit(0));
