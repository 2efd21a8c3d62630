// A user of the client library (clients/typescript). The library chooses the keys, and retries by itself.

import { connect } from '../../../clients/typescript/dist/index.js';

/** Two of them are the same. */
const EMOJI = ['👍', '❤', '❤️'];
/** Errors of commands that are no fault: they lost a race with a deletion, or the outage outlasted their retries. */
const EXPECTED = new Set(['message_deleted', 'append_unknown', 'append_refused', 'no_answer', 'unavailable', 'projection_behind', 'timeout', 'busy']);

export class LibraryUser {
  underWay = 0;
  #recorder;
  #counters;

  constructor({ user, token, url }, counters, recorder) {
    Object.assign(this, { user, token, url });
    this.#recorder = recorder;
    this.#counters = counters;
    this.client = connect({ url, token });
    this.client.on('error', (error) => this.#violation('a library client has closed itself', error));
    this.client.on('reset', () => this.#violation('a library client took the log for another one', {}));
  }

  /** Does something at random in a conversation, and waits for its end. */
  async act({ id }, pick, text) {
    if (!this.client.conversation(id)) return;
    this.underWay += 1;
    this.#counters.library.sent += 1;
    try {
      await this.#command(id, pick, text);
      this.#counters.library.acknowledged += 1;
    } catch (error) {
      this.#counters.library.failed += 1;
      if (!EXPECTED.has(error.code)) this.#violation('a library command failed', error);
    }
    this.underWay -= 1;
  }

  async #command(id, pick, text) {
    const { client } = this;
    const known = client.messages(id).filter(({ pending, deletedAt }) => !pending && !deletedAt).slice(-50);
    const any = known[pick(known.length || 1)];
    const own = known.filter(({ senderId }) => senderId === this.user);
    const mine = own[pick(own.length || 1)];
    const kind = pick(20);
    if (kind < 2 && mine) await client.edit(mine.id, `edited ${text}`);
    else if (kind < 3 && mine) await client.delete(mine.id);
    else if (kind < 6 && any) await client.react(any.id, EMOJI[pick(EMOJI.length)], pick(2) ? 'label' : undefined);
    else if (kind < 7 && any) await client.unreact(any.id, EMOJI[pick(EMOJI.length)]);
    else if (kind < 9) await client.markRead(id);
    else {
      const { id: messageId } = await client.send(id, text);
      this.#recorder.write('libraryMessages', { user: this.user, id: messageId });
    }
  }

  #violation(what, { code, message, status }) {
    this.#recorder.write('violations', { what, user: this.user, at: new Date().toISOString(), code, message, status });
  }

  dump() {
    const conversations = this.client.conversations();
    const messages = Object.fromEntries(conversations.map(({ id }) => [id, this.client.messages(id)]));
    return { user: this.user, kind: 'library', conversations, messages };
  }
}
