// The overview: health, lag, rates, nodes, generations and partitions, with plots of the last hour.

import { $, setText } from '../dom.js';
import { get } from './api.js';
import type { Picture } from './connection.js';
import { NOTHING, count, decimal, duration, number, since, time } from './format.js';
import { plot, type Series } from './plot.js';
import { poller } from './polling.js';
import { drawFacts, setBadge, type Section } from './section.js';
import { table } from './table.js';
import type { Check, Generation, History, Partition, RealtimeNode, Sample, Status } from './types.js';

const HISTORY_INTERVAL_MS = 10_000;
const HOUR_MS = 3_600_000;
/** The table of the last hour has a row for each of so many milliseconds. */
const TABLE_STEP_MS = 5 * 60_000;

const CHECK_TEXTS: Record<Check['status'], string> = { works: 'works', half_works: 'half works', gone: 'gone' };
const PROCESS_TEXTS = { ready: 'ready', not_ready: 'not ready', stopping: 'stopping' } as const;

const checks = table<Check>({
  caption: 'Dependencies of the process that answers', testId: 'checks', isStacked: true,
  keyOf: ({ dependency }) => dependency,
  empty: 'The process that answers doesn’t say what it depends on. Look at /readyz.',
  columns: [
    { name: 'Dependency', text: ({ dependency }) => dependency },
    { name: 'State', text: ({ status }) => CHECK_TEXTS[status] ?? status, state: ({ status }) => status },
    { name: 'Since', text: (check) => (check.since ? `${time(check.since)} (${duration(age(check.since))})` : NOTHING) },
    { name: 'Detail', text: ({ detail }) => detail ?? NOTHING },
  ],
});

const partitions = table<Partition>({
  caption: 'Partitions of the topic', testId: 'partitions', keyOf: ({ partition }) => String(partition),
  columns: [
    { name: 'Partition', text: ({ partition }) => String(partition) },
    { name: 'Lag', text: ({ lag }) => number(lag), isNumber: true },
    { name: 'Lag in time', text: ({ lagSeconds }) => duration(lagSeconds), isNumber: true },
    { name: 'Appended/s', text: ({ appendedPerSecond }) => decimal(appendedPerSecond), isNumber: true },
    { name: 'Folded/s', text: ({ foldedPerSecond }) => decimal(foldedPerSecond), isNumber: true },
    { name: 'End', text: ({ end }) => number(end), isNumber: true },
    { name: 'Readable', text: ({ readable }) => number(readable), isNumber: true },
    { name: 'Folded', text: ({ folded }) => number(folded), isNumber: true },
    {
      name: 'Projector', text: ({ isProjected }) => (isProjected ? 'at work' : 'none'),
      state: ({ isProjected }) => (isProjected ? 'works' : 'gone'),
    },
  ],
});

const nodes = table<RealtimeNode>({
  caption: 'Realtime nodes', testId: 'nodes', isStacked: true, keyOf: ({ node }) => node,
  empty: 'No realtime node tells Redis that it runs.',
  columns: [
    { name: 'Node', text: ({ node }) => node, isCode: true },
    { name: 'Sockets', text: ({ sockets }) => number(sockets), isNumber: true },
    { name: 'Rooms', text: ({ rooms }) => number(rooms), isNumber: true },
    { name: 'Seen', text: ({ seenAt }) => time(seenAt) },
  ],
});

const GENERATION_STATES = { live: 'works', building: 'half_works', retired: 'unknown' } as const;
const generations = table<Generation>({
  caption: 'Generations', testId: 'generations', keyOf: ({ generation }) => String(generation),
  empty: 'There are none yet: no projector has run.',
  columns: [
    { name: 'Generation', text: ({ generation }) => String(generation) },
    { name: 'State', text: ({ status }) => status, state: ({ status }) => GENERATION_STATES[status] },
    { name: 'Since', text: ({ changedAt }) => time(changedAt) },
  ],
});

const historyTable = table<Sample>({
  caption: 'Lag and rates of the last hour, every five minutes', testId: 'history', keyOf: ({ at }) => at,
  empty: 'Nothing is known yet.',
  columns: [
    { name: 'Time', text: ({ at }) => time(at) },
    { name: 'Lag', text: ({ lag }) => number(lag), isNumber: true },
    { name: 'Lag in time', text: ({ lagSeconds }) => duration(lagSeconds), isNumber: true },
    { name: 'Appended/s', text: ({ appendedPerSecond }) => decimal(appendedPerSecond), isNumber: true },
    { name: 'Folded/s', text: ({ foldedPerSecond }) => decimal(foldedPerSecond), isNumber: true },
  ],
});

const RATES: Series[] = [
  { name: 'appended', line: 'first', value: ({ appendedPerSecond }) => appendedPerSecond },
  { name: 'folded', line: 'second', value: ({ foldedPerSecond }) => foldedPerSecond },
];
const plots = [
  plot('Lag, in events', [{ name: 'lag', line: 'first', value: ({ lag }) => lag }], 'plot-lag'),
  plot('Lag, in seconds', [{ name: 'lag', line: 'first', value: ({ lagSeconds }) => lagSeconds }], 'plot-lag-seconds'),
  plot('Events per second', RATES, 'plot-rates'),
];

const age = (at: string): number => Math.max(0, Math.floor((Date.now() - Date.parse(at)) / 1_000));

/** The sum of a number of all partitions; nothing if no partition knows it. */
function sum(status: Status, value: (partition: Partition) => number | null | undefined): number | null {
  const known = status.partitions.map(value).filter((each) => each != null);
  return known.length > 0 ? known.reduce((total, each) => total + each, 0) : null;
}

function drawFigures(status: Status): void {
  const lag = status.lag ?? sum(status, (partition) => partition.lag);
  const { projectors, openDeadLetters } = status;
  drawFacts($('figures'), [
    { name: 'Lag', text: lag === null ? NOTHING : count(lag, 'event'), testId: 'lag' },
    { name: 'Lag in time', text: duration(status.lagSeconds), testId: 'lag-seconds' },
    { name: 'Appended', text: `${decimal(sum(status, (partition) => partition.appendedPerSecond))}/s`, testId: 'appended' },
    { name: 'Folded', text: `${decimal(sum(status, (partition) => partition.foldedPerSecond))}/s`, testId: 'folded' },
    { name: 'Projectors', text: number(projectors), state: projectors > 0 ? 'works' : 'gone', testId: 'projectors' },
    {
      name: 'Sockets', testId: 'sockets',
      text: status.nodes ? number(status.nodes.reduce((total, { sockets }) => total + sockets, 0)) : NOTHING,
    },
    { name: 'Generation', text: number(status.generation), testId: 'generation' },
    { name: 'Dead letters', text: number(openDeadLetters), href: '#dead-letters', testId: 'dead-letter-count' },
  ]);
}

function drawHealth({ status, faults }: Picture): void {
  const rows = faults ?? status?.process?.checks ?? [];
  checks.draw(rows);
  const failing = rows.filter((check) => check.status !== 'works');
  const isGone = failing.some((check) => check.status === 'gone');
  const names = failing.map(({ dependency, status: state }) => `${dependency} ${CHECK_TEXTS[state]}`).join(', ');
  const unprojected = status?.partitions.filter(({ isProjected }) => !isProjected).length ?? 0;
  const badge = $('health-badge');
  if (failing.length > 0) setBadge(badge, names, isGone ? 'gone' : 'half_works');
  else if (unprojected > 0) setBadge(badge, `${count(unprojected, 'partition')} without a projector`, 'gone');
  else if (rows.length > 0) setBadge(badge, 'Everything works', 'works');
  else setBadge(badge, 'The projection works', 'works');
  const process = status?.process;
  setText($('process'), process && !faults
    ? `The process that answers runs ${process.roles.join(', ')} ${since(process.startedAt)}. `
      + `It is ${PROCESS_TEXTS[process.status]}.`
    : '');
}

/** Draws what is new. */
export function drawOverview(picture: Picture): void {
  drawHealth(picture);
  const { status } = picture;
  if (!status) return;
  drawFigures(status);
  partitions.draw(status.partitions);
  nodes.draw(status.nodes ?? []);
  generations.draw(status.generations ?? []);
  setText($('topic'), `The topic ${status.topic} is the system of record. Its id is ${status.topicId}.`);
}

/** Each process has samples since its own start. Several processes together know more of the hour than one does. */
const samples = new Map<number, Sample>();

async function loadHistory(): Promise<void> {
  const history = await get<History>('history');
  const intervalMs = history.intervalSeconds * 1_000;
  for (const sample of history.samples) samples.set(Math.round(Date.parse(sample.at) / intervalMs), sample);
  const oldest = Date.now() - HOUR_MS;
  for (const [slot, { at }] of samples) if (Date.parse(at) < oldest) samples.delete(slot);
  const inOrder = [...samples].sort(([one], [other]) => one - other).map(([, sample]) => sample);
  for (const { draw } of plots) draw(inOrder);
  let nextRow = 0;
  historyTable.draw(inOrder.filter(({ at }) => {
    const isRow = Date.parse(at) >= nextRow;
    if (isRow) nextRow = Date.parse(at) + TABLE_STEP_MS;
    return isRow;
  }));
}

export function overview(): Section {
  const places = { checks, partitions, nodes, generations, 'history-table': historyTable };
  for (const [id, { element }] of Object.entries(places)) $(id).append(element);
  $('charts').append(...plots.map(({ element }) => element));
  for (const { draw } of plots) draw([]);
  const history = poller(HISTORY_INTERVAL_MS, loadHistory);
  return { open: history.start, close: history.stop };
}
