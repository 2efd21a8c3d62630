// The AsyncAPI document, as the official parser reads it: it has neither errors nor warnings.
//
// node asyncapi-document.mjs FILE
// Prints {"ok":true}, or {"ok":false, error, diagnostics} and exits with 1.

import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

/** The severities that fail the test: errors and warnings. Hints and information don't. */
const LEAST_SEVERITY = 1;

try {
  const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'));
  const severe = diagnostics.filter(({ severity }) => severity <= LEAST_SEVERITY);
  const messages = severe.map(({ code, path, message }) => `${code} at ${path.join('/')}: ${message}`);
  if (!document || messages.length) throw new Error(messages.join('\n') || 'there is no document');
  console.log(JSON.stringify({ ok: true }));
} catch (error) {
  console.log(JSON.stringify({ ok: false, error: error.message }));
  process.exitCode = 1;
}
