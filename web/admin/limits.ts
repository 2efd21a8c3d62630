// The limits in force, by what they are about.

import { $, createElement, setText } from '../dom.js';
import { errorText, get } from './api.js';
import type { Section } from './section.js';
import { table } from './table.js';
import type { Limit } from './types.js';

/** The server writes names in backquotes, as Markdown does. */
const plain = (text: string): string => text.replaceAll('`', '');

function createArea(area: string, limits: readonly Limit[]): HTMLElement {
  const rows = table<Limit>({
    caption: area, testId: 'limits', isStacked: true, keyOf: ({ limit }) => limit,
    columns: [
      { name: 'Limit', text: ({ limit }) => plain(limit) },
      { name: 'Value', text: ({ value }) => plain(value) },
      { name: 'Beyond it', text: ({ beyond }) => plain(beyond) },
      { name: 'It protects', text: ({ protects }) => plain(protects) },
    ],
  });
  rows.draw(limits);
  return createElement('div', { class: 'panel' }, createElement('h3', {}, area), rows.element);
}

async function load(): Promise<void> {
  try {
    const all = await get<Limit[]>('limits');
    const areas = [...new Set(all.map(({ area }) => area))];
    $('limits').replaceChildren(...areas.map((area) => createArea(area, all.filter((each) => each.area === area))));
    setText($('limits-error'), '');
  } catch (error) {
    setText($('limits-error'), errorText(error));
  }
}

/** They don't change while a process runs, so they are loaded when the section is opened. */
export const limits = (): Section => ({ open: () => void load(), close: () => {} });
