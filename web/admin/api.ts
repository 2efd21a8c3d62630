// Sends requests to the admin API, and says in words what a failure means and what to do next.

import { showToast } from '../toasts.js';

/** How long a request may take, in milliseconds. The server itself gives up earlier. */
const TIMEOUT_MS = 30_000;

/** A request that failed: the server refused it, or didn't answer. */
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, detail: string, readonly field = '') {
    super(detail);
  }
}

/** An answer without an HTTP status: the server can't be reached. */
const NO_ANSWER = 0;

let token = '';
let onRefusedToken: (reason: string) => void = () => {};

/** Sets the token of all requests, and what happens when the server refuses it. */
export function authenticate(accessToken: string, onRefused: (reason: string) => void): void {
  token = accessToken;
  onRefusedToken = onRefused;
}

interface Problem {
  code?: string;
  detail?: string;
  errors?: { field: string; code: string; detail: string }[];
}

async function failure(response: Response): Promise<ApiError> {
  let problem: Problem = {};
  try {
    problem = await response.json() as Problem;
  } catch {
    // a proxy answered, not the server
  }
  const [first] = problem.errors ?? [];
  const detail = first?.detail ?? problem.detail ?? `the server answered with status ${response.status}`;
  return new ApiError(response.status, problem.code ?? 'unknown', detail, first?.field);
}

async function send(path: string, options: RequestInit & { timeoutMs?: number } = {}): Promise<Response> {
  const { timeoutMs = TIMEOUT_MS, ...init } = options;
  const headers = { ...init.headers as Record<string, string>, Authorization: `Bearer ${token}` };
  const sentToken = token;
  let response: Response;
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    response = await fetch(`/admin/api/${path}`, { ...init, headers, cache: 'no-store', signal });
  } catch {
    const code = init.method === 'POST' ? 'no_answer_to_action' : 'no_answer';
    throw new ApiError(NO_ANSWER, code, 'the server doesn’t answer');
  }
  if (response.ok) return response;
  const error = await failure(response);
  const isRefused = response.status === 401 || error.code === 'not_an_admin';
  if (isRefused && sentToken === token) onRefusedToken(errorText(error));
  throw error;
}

/** A page of a list that `next` continues. */
export interface Page<Item> {
  data: Item;
  page?: { next: string | null };
}

export async function getPage<Item>(path: string): Promise<Page<Item>> {
  return await (await send(path)).json() as Page<Item>;
}

export async function get<Data>(path: string, timeoutMs = TIMEOUT_MS): Promise<Data> {
  return (await (await send(path, { timeoutMs })).json() as { data: Data }).data;
}

export async function post<Data>(path: string, body: object = {}): Promise<Data> {
  const headers = { 'Content-Type': 'application/json' };
  const response = await send(path, { method: 'POST', headers, body: JSON.stringify(body) });
  return (await response.json() as { data: Data }).data;
}

/** Gets a file. */
export async function getBlob(path: string): Promise<Blob> {
  return (await send(path)).blob();
}

/** What the codes of the API mean to an admin, with what to do next. */
const TEXTS: Record<string, string> = {
  no_answer: 'The server doesn’t answer. Check that a node runs and that the proxy reaches it, then try again.',
  no_answer_to_action: 'The server didn’t answer. The audit says whether the action began: look at it, then try again.',
  not_an_admin: 'This token isn’t an admin’s. Ask an operator for one: messages token NAME --role admin.',
  expired_token: 'Your token has expired. Sign in with a new one.',
  job_at_work: 'Another job waits or runs. Wait until it ends, or cancel it.',
  wrong_status: 'Somebody else was faster: the status doesn’t allow that any more. Nothing was changed; look at it again.',
  rate_limited: 'You did more than 60 actions within a minute. Wait a minute, then try again.',
  not_found: 'There is nothing with this id or position. Check it for typing errors.',
  no_such_route: 'The node that answered is of a release without this function. Upgrade it, then try again.',
  unavailable: 'A service that this request needs is unavailable. The overview shows which one. Try again when it works.',
  timeout: 'The request took too long. Try again.',
  internal: 'The server failed. Its log says why, under the request’s id.',
};

/** A failure in a sentence or two. */
export function errorText(error: unknown): string {
  if (!(error instanceof ApiError)) return 'Something went wrong in this page. Reload it.';
  const known = TEXTS[error.code];
  if (known) return known;
  const reason = error.field ? `${error.field} ${error.message}` : error.message;
  const sentence = `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`.replace(/\.\.$/, '.');
  return error.status === 401 ? `${sentence} Sign in again.` : sentence;
}

/** A failure of a request that the page repeats by itself. The banner says already that nobody answers. */
export const pollErrorText = (error: unknown): string =>
  (error instanceof ApiError && error.status === NO_ANSWER ? '' : errorText(error));

/** Waits for an action; shows a toast and returns undefined where it fails. */
export async function orToast<Result>(action: Promise<Result>): Promise<Result | undefined> {
  try {
    return await action;
  } catch (error) {
    if (!(error instanceof ApiError)) console.warn(error);
    showToast(errorText(error));
    return undefined;
  }
}
