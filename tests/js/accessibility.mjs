// How the tests of the pages check accessibility: with axe, and with the keyboard.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { assert } from './page.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** The impacts of axe violations that fail the test. */
const FAILING_IMPACTS = new Set(['serious', 'critical']);
/** The rules that fail the test whatever their impact is. */
const FAILING_RULES = new Set(['aria-allowed-role']);

/** Checks the page with axe. */
export async function assertAccessible(person, where) {
  // Evaluated instead of loaded: the page's content security policy refuses foreign scripts.
  await person.page.evaluate(AXE);
  const { violations } = await person.page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const failures = violations.filter(({ id, impact }) => FAILING_IMPACTS.has(impact) || FAILING_RULES.has(id));
  const messages = failures.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).slice(0, 3).join(' ')}`);
  assert(failures.length === 0, `${where}: ${messages.join('\n')}`);
}

/** The test id of the element that has the focus, or its id or class. */
export const focused = (person) => person.page.evaluate(() => {
  const { dataset, id, className } = document.activeElement;
  return dataset.testid ?? (id || className);
});

/** Presses a key until the element `what` has the focus. */
export async function tabTo(person, what, key = 'Tab') {
  const seen = [];
  for (let i = 0; i < 40; i += 1) {
    if (await focused(person) === what) return;
    await person.page.keyboard.press(key);
    seen.push(await focused(person));
  }
  throw new Error(`${key} never reached ${what}, but ${seen.join(', ')}`);
}

/** By how many pixels the page is wider than the screen. */
export const overflow = (person) => person.page.evaluate(() =>
  document.documentElement.scrollWidth - document.documentElement.clientWidth);
