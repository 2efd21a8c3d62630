// Edits on their way: what their messages show meanwhile, and what becomes of a text that wasn't saved.

import { MessagesError, type Client, type StoredMessage } from 'messages-client';
import { say, sentence } from './notices.js';

/** A text that a message is to have. Replaced, never changed. */
export interface Edit {
  message: StoredMessage;
  content: string;
  /** Saved, it's shown until the message itself is heard to have changed. */
  state: 'saving' | 'saved' | 'failed';
  error?: unknown;
}

export class Edits {
  readonly #client: Client;
  readonly #changed: () => void;
  readonly #giveBack: (edit: Edit) => boolean;
  readonly #edits = new Map<string, Edit>();

  /** `giveBack` lets the user go on with a text that wasn't saved, and says whether there was room for that. */
  constructor(client: Client, changed: () => void, giveBack: (edit: Edit) => boolean) {
    this.#client = client;
    this.#changed = changed;
    this.#giveBack = giveBack;
  }

  /** How many texts would be lost now. */
  get unsaved(): number {
    return [...this.#edits.values()].filter(({ state }) => state !== 'saved').length;
  }

  /** What a message is to become. */
  of(id: string): Edit | undefined {
    const edit = this.#edits.get(id);
    const now = this.#client.message(id);
    if (!edit || !now) return edit;
    const heard = now.editedAt !== edit.message.editedAt || now.content === edit.content;
    if (!now.deletedAt && !(edit.state === 'saved' && heard)) return edit;
    this.#edits.delete(id);
    return undefined;
  }

  async save(message: StoredMessage, content: string): Promise<void> {
    this.#set({ message, content, state: 'saving' });
    try {
      await this.#client.edit(message.id, content);
      this.#set({ message, content, state: 'saved' });
    } catch (error) {
      if (error instanceof MessagesError && error.code === 'closed') return;
      this.#failed({ message, content, state: 'failed', error });
    }
  }

  retry({ message, content }: Edit): void {
    void this.save(this.#client.message(message.id) ?? message, content);
  }

  discard({ message: { id } }: Edit): void {
    this.#edits.delete(id);
    this.#changed();
  }

  #failed(edit: Edit): void {
    say(sentence(edit.error, 'Your edit wasn’t saved'));
    if (this.#giveBack(edit)) this.discard(edit);
    else this.#set(edit);
  }

  #set(edit: Edit): void {
    this.#edits.set(edit.message.id, edit);
    this.#changed();
  }
}
