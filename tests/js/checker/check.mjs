// Checks a recorded run: node check.mjs FOLDER. Prints one line of JSON, {"sizes", "differences", "first"}; the exit code
// is 1 if there is a difference. The folder has files of JSON lines:
//   users      {user, kind}
//   commands   what each command was answered in the end (see http-user.mjs)
//   violations what was answered wrongly while the run went on
//   libraryMessages {user, id}: messages that the client library reported as sent
//   log        {partition, offset, key, value}: the topic
//   conversations, members, messages, reactions, applied_events, partitions: the tables of Postgres
//   answers    {user, about, id, status, cache, data}: what HTTP answered after the run
//   clients    {user, kind, conversations, messages}: what each client had after the run

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { answerDifferences, clientDifferences } from './answers.mjs';
import { commandDifferences } from './commands.mjs';
import { Fold } from './fold.mjs';
import { rowDifferences } from './rows.mjs';

/** A recorded run. */
class Run {
  #folder;

  constructor(folder) {
    this.#folder = folder;
    for (const name of ['users', 'commands', 'violations', 'libraryMessages', 'log']) this[name] = [...this.rows(name)];
    if (this.commands.length === 0 || this.log.length === 0) throw new Error(`there is nothing to check in ${folder}`);
  }

  /** The lines of a file, one by one: together they may be larger than a string can be. */
  * rows(name) {
    const path = join(this.#folder, `${name}.jsonl`);
    if (!existsSync(path)) throw new Error(`${path} is missing`);
    const bytes = readFileSync(path);
    for (let start = 0, end; start < bytes.length; start = end + 1) {
      end = bytes.indexOf(0x0a, start);
      if (end < 0) throw new Error(`${path} ends within a line`);
      if (end > start) yield JSON.parse(bytes.toString('utf8', start, end));
    }
  }
}

const run = new Run(process.argv[2]);
const fold = new Fold(run.log);
const parts = { commands: commandDifferences, rows: rowDifferences, answers: answerDifferences, clients: clientDifferences };
const differences = {};
let first = null;
for (const [part, compare] of Object.entries(parts)) {
  differences[part] = 0;
  for (const wrong of compare(run, fold)) {
    differences[part] += 1;
    first ??= `${part}: ${wrong}`;
  }
}
const sizes = {
  records: run.log.length, effects: fold.applied.size, conversations: fold.conversations.size, messages: fold.messages.size,
};
const count = (name, counts) => {
  let sum = 0;
  for (const row of run.rows(name)) sum += Number(counts(row));
  return sum;
};
sizes.answers = count('answers', () => true);
sizes.hits = count('answers', ({ cache }) => cache === 'hit');
sizes.clients = count('clients', () => true);
console.log(JSON.stringify({ sizes, differences, first }));
process.exitCode = first ? 1 : 0;
