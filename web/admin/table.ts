// Tables. A wide one scrolls inside itself; on a phone a stacked one shows each row as a card with the names of its
// columns.

import { createElement, drawList, setAttribute, setText } from '../dom.js';

export interface Column<Row> {
  name: string;
  text: (row: Row) => string;
  isNumber?: boolean;
  /** Makes the text a link. */
  href?: (row: Row) => string;
  /** Shows the state of the row as a dot before the text. */
  state?: (row: Row) => string;
  /** Shows the text in a font of fixed width. */
  isCode?: boolean;
}

export interface TableOptions<Row> {
  /** What the table shows, for screen readers. */
  caption: string;
  testId: string;
  keyOf: (row: Row) => string;
  columns: readonly Column<Row>[];
  /** Whether rows become cards on a phone; otherwise the table scrolls. */
  isStacked?: boolean;
  /** The text in the place of rows where there are none. */
  empty?: string;
}

export interface Table<Row> {
  element: HTMLElement;
  draw(rows: readonly Row[]): void;
}

// The roles are explicit because browsers drop them from tables that style sheets lay out otherwise.
function createCell<Row>(column: Column<Row>, isFirst: boolean): HTMLElement {
  const attributes: Record<string, string> = { role: isFirst ? 'rowheader' : 'cell', 'data-label': column.name };
  const classes = [column.isNumber ? 'number' : '', column.isCode ? 'code' : ''].filter(Boolean).join(' ');
  if (classes) attributes['class'] = classes;
  const content = column.href ? createElement('a', {}) : createElement('span', { dir: 'auto' });
  const cell = createElement(isFirst ? 'th' : 'td', attributes, content);
  if (isFirst) cell.setAttribute('scope', 'row');
  if (column.state) cell.prepend(createElement('span', { class: 'dot', 'aria-hidden': 'true' }));
  return cell;
}

function updateCell<Row>(cell: Element, column: Column<Row>, row: Row): void {
  const content = cell.lastElementChild;
  if (!content) return;
  setText(content, column.text(row));
  if (column.href) setAttribute(content, 'href', column.href(row));
  if (column.state && cell.firstElementChild) setAttribute(cell.firstElementChild, 'data-state', column.state(row));
}

export function table<Row>(options: TableOptions<Row>): Table<Row> {
  const { caption, testId, keyOf, columns, isStacked = false, empty = '' } = options;
  const head = createElement('tr', { role: 'row' }, ...columns.map(({ name, isNumber }) => createElement(
    'th', { role: 'columnheader', scope: 'col', ...(isNumber ? { class: 'number' } : {}) }, name)));
  const body = createElement('tbody', { role: 'rowgroup' });
  const element = createElement('table', { role: 'table', 'data-testid': testId },
    createElement('caption', { class: 'visually-hidden' }, caption),
    createElement('thead', { role: 'rowgroup' }, head), body);
  const hint = createElement('p', { class: 'hint', 'data-testid': `${testId}-empty` }, empty);
  // Who has only a keyboard scrolls a wide table with the arrows.
  const wideAttributes = { class: 'table wide', role: 'group', tabindex: '0', 'aria-label': caption };
  const container = createElement('div', isStacked ? { class: 'table stacked' } : wideAttributes, element, hint);
  return {
    element: container,
    draw(rows) {
      element.hidden = rows.length === 0;
      hint.hidden = rows.length > 0 || !empty;
      drawList(body, rows, keyOf,
        (row) => createElement('tr', { role: 'row', 'data-key': keyOf(row) },
          ...columns.map((column, index) => createCell(column, index === 0))),
        (tr, row) => columns.forEach((column, index) => {
          const cell = tr.children[index];
          if (cell) updateCell(cell, column, row);
        }));
    },
  };
}
