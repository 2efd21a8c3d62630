// Plots of the last hour, drawn as SVG. A sentence says the same to those who don't see a plot.

import { createElement, setAttribute, setText } from '../dom.js';
import { timeOfDay } from '../times.js';
import { decimal } from './format.js';
import type { Sample } from './types.js';

export interface Series {
  name: string;
  /** The class of its line. */
  line: 'first' | 'second';
  value: (sample: Sample) => number;
}

export interface Plot {
  element: HTMLElement;
  draw(samples: readonly Sample[]): void;
}

const SVG_NAMESPACE = 'http://www.w3.org/2000/svg';
const HOUR_MS = 3_600_000;
const HEIGHT = 150;
/** The space around the lines, for the labels of the axes. */
const MARGIN = { top: 10, right: 10, bottom: 24, left: 44 };
/** The labels of the time axis stand this far apart. */
const TIME_STEP_MS = 15 * 60_000;
/** Samples that are further apart aren't joined: the process didn't run between them. */
const GAP_MS = 45_000;

function svg(tag: string, attributes: Record<string, string | number>, text = ''): SVGElement {
  const element = document.createElementNS(SVG_NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.textContent = text;
  return element;
}

/** The smallest step of 1, 2 or 5 times a power of ten of which at most four reach the maximum. */
export function axisStep(maximum: number): number {
  const raw = Math.max(maximum, 1) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw) ?? raw;
  return Math.max(step, .5);
}

/** The path of a line. It begins anew after a gap. */
function path(points: readonly { x: number; y: number; at: number }[]): string {
  return points.map(({ x, y, at }, index) => {
    const before = points[index - 1];
    const command = before && at - before.at <= GAP_MS ? 'L' : 'M';
    return `${command}${x.toFixed(1)} ${y.toFixed(1)}`;
  }).join('');
}

/** What a plot shows, in a sentence. */
function summary(samples: readonly Sample[], series: readonly Series[]): string {
  const newest = samples.at(-1);
  if (!newest) return 'Nothing is known yet: a process notes a sample every ten seconds.';
  return series.map(({ name, value }) => {
    const highest = samples.reduce((best, sample) => (value(sample) > value(best) ? sample : best), newest);
    const prefix = series.length > 1 ? `${name}: ` : '';
    return `${prefix}${decimal(value(newest))} now, at most ${decimal(value(highest))} at ${timeOfDay(highest.at)}`;
  }).join('\n');
}

/** Draws the axes and the lines for a width in pixels. */
function drawLines(picture: SVGElement, samples: readonly Sample[], series: readonly Series[], width: number): void {
  const to = Date.now();
  const from = to - HOUR_MS;
  const maximum = Math.max(1, ...series.flatMap(({ value }) => samples.map(value)));
  const step = axisStep(maximum);
  const top = Math.ceil(maximum / step) * step;
  const bottomY = HEIGHT - MARGIN.bottom;
  const x = (at: number): number => MARGIN.left + ((at - from) / HOUR_MS) * (width - MARGIN.left - MARGIN.right);
  const y = (value: number): number => bottomY - (value / top) * (bottomY - MARGIN.top);
  const parts: SVGElement[] = [];
  for (let value = 0; value <= top + step / 2; value += step) {
    parts.push(svg('line', { class: 'grid', x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }));
    parts.push(svg('text', { class: 'axis', x: MARGIN.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, decimal(value)));
  }
  for (let at = Math.ceil(from / TIME_STEP_MS) * TIME_STEP_MS; at <= to; at += TIME_STEP_MS) {
    const isAtEdge = x(at) > width - MARGIN.right - 20;
    const anchor = isAtEdge ? 'end' : 'middle';
    const labelX = isAtEdge ? width - MARGIN.right : Math.max(x(at), MARGIN.left + 8);
    parts.push(svg('text', { class: 'axis', x: labelX, y: HEIGHT - 6, 'text-anchor': anchor },
      timeOfDay(new Date(at).toISOString())));
  }
  for (const { line, value } of series) {
    const points = samples.map((sample) => {
      const at = Date.parse(sample.at);
      return { at, x: x(at), y: y(value(sample)) };
    }).filter(({ at }) => at >= from);
    parts.push(svg('path', { class: `line ${line}`, d: path(points) }));
    const newest = points.at(-1);
    if (newest) parts.push(svg('circle', { class: `point ${line}`, cx: newest.x, cy: newest.y, r: 3 }));
  }
  setAttribute(picture, 'viewBox', `0 0 ${width} ${HEIGHT}`);
  picture.replaceChildren(...parts);
}

export function plot(title: string, series: readonly Series[], testId: string): Plot {
  const picture = svg('svg', { class: 'plot', role: 'img', height: HEIGHT });
  const text = createElement('p', { class: 'hint plot-summary', 'data-testid': `${testId}-summary` });
  const legend = series.length < 2 ? [] : [createElement('p', { class: 'legend' }, ...series.map(({ name, line }) =>
    createElement('span', { class: `legend-item ${line}` }, name)))];
  const element = createElement('figure', { class: 'chart', 'data-testid': testId },
    createElement('figcaption', {}, title), ...legend, picture, text);
  let latest: readonly Sample[] = [];
  const redraw = (): void => {
    const width = Math.round(element.clientWidth);
    if (width > 0) drawLines(picture, latest, series, width);
  };
  new ResizeObserver(redraw).observe(element);
  return {
    element,
    draw(samples) {
      latest = samples;
      const sentence = summary(samples, series);
      setText(text, sentence);
      setAttribute(picture, 'aria-label', `${title} over the last hour. ${sentence.replace('\n', '; ')}`);
      redraw();
    },
  };
}
