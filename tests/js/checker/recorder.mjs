// Records a run as files of JSON lines; see check.mjs.

import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const NAMES = ['users', 'commands', 'violations', 'libraryMessages', 'answers', 'clients'];

export class Recorder {
  /** How many lines each file has. */
  counts = {};
  #files = new Map();
  #folder;

  constructor(folder) {
    this.#folder = folder;
    for (const name of NAMES) this.restart(name);
  }

  /** Empties a file. */
  restart(name) {
    const open = this.#files.get(name);
    if (open) closeSync(open);
    this.#files.set(name, openSync(join(this.#folder, `${name}.jsonl`), 'w'));
    this.counts[name] = 0;
  }

  write(name, line) {
    writeSync(this.#files.get(name), `${JSON.stringify(line)}\n`);
    this.counts[name] += 1;
  }
}
