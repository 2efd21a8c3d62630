// Edits that aren't confirmed: what their messages show meanwhile, and what happens to a text that wasn't saved.

import { MessagesError, type Client, type StoredMessage } from 'messages-client';
import { errorSentence } from './errors.js';
import { showToast } from './toasts.js';

/** The new content of a message. Replaced, never modified. */
export interface Edit {
  message: StoredMessage;
  content: string;
  /** A saved edit is shown until the client receives the changed message. */
  state: 'saving' | 'saved' | 'failed';
  error?: unknown;
}

export class Edits {
  readonly #client: Client;
  readonly #onChange: () => void;
  readonly #restore: (edit: Edit) => boolean;
  /** By message id. */
  readonly #edits = new Map<string, Edit>();

  /** `restore` puts a text that wasn't saved back into the composer, and returns false where that isn't empty. */
  constructor(client: Client, onChange: () => void, restore: (edit: Edit) => boolean) {
    this.#client = client;
    this.#onChange = onChange;
    this.#restore = restore;
  }

  /** How many edits aren't saved. */
  get unsavedCount(): number {
    return [...this.#edits.values()].filter(({ state }) => state !== 'saved').length;
  }

  /** The edit of a message; undefined once the client has received the changed message. */
  of(id: string): Edit | undefined {
    const edit = this.#edits.get(id);
    const message = this.#client.message(id);
    if (!edit || !message) return edit;
    const received = message.editedAt !== edit.message.editedAt || message.content === edit.content;
    if (!message.deletedAt && !(edit.state === 'saved' && received)) return edit;
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
    this.#onChange();
  }

  #failed(edit: Edit): void {
    showToast(errorSentence(edit.error, 'Your edit wasn’t saved'));
    if (this.#restore(edit)) this.discard(edit);
    else this.#set(edit);
  }

  #set(edit: Edit): void {
    this.#edits.set(edit.message.id, edit);
    this.#onChange();
  }
}
