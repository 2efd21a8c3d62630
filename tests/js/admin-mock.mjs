// Answers requests of the admin page in the place of the server.

import * as data from './admin-data.mjs';

const problem = (code, detail, status) => ({ status, body: { code, detail, errors: [] } });

/** The answers of a system whose state the test changes. */
export class Mock {
  constructor() {
    this.jobs = data.endedJobs();
    this.status = () => data.status();
    /** The requests that change something: the method, the path and the body. */
    this.actions = [];
    this.isGone = false;
  }

  /** Answers the requests of a page from now on. Those about `names` only. */
  async answer(page, names = ['status', 'history', 'limits', 'jobs', 'conversations', 'audit.jsonl']) {
    await page.route(/\/admin\/api\//, async (route) => {
      const url = new URL(route.request().url());
      const [name, ...rest] = url.pathname.replace('/admin/api/', '').split('/');
      if (this.isGone) return route.abort('connectionrefused');
      if (!names.includes(name)) return route.fallback();
      if (name === 'audit.jsonl') return route.fulfill({ contentType: 'application/x-ndjson', body: data.auditLines() });
      const { status = 200, body } = this.respond(route.request(), name, rest, url.searchParams);
      return route.fulfill({ status, contentType: status < 400 ? 'application/json' : 'application/problem+json', body: JSON.stringify(body) });
    });
  }

  respond(request, name, rest, parameters) {
    if (request.method() === 'POST') {
      const body = request.postDataJSON();
      this.actions.push({ path: [name, ...rest].join('/'), body });
      return this.act(name, rest, body);
    }
    if (name === 'jobs') return { body: { data: parameters.has('before') ? [] : this.jobs } };
    if (name === 'conversations') return this.conversation(rest, parameters);
    const known = { status: this.status, history: data.history, limits: data.limits };
    return { body: { data: known[name]() } };
  }

  act(name, [number, action], body) {
    if (name === 'conversations') return { status: 202, body: { data: { conversationId: data.CONVERSATION, status: 'requested' } } };
    if (action === 'cancel') {
      const job = this.jobs.find((each) => String(each.number) === number);
      job.isCancelRequested = true;
      return { status: 202, body: { data: job } };
    }
    if (this.jobs[0].status === 'running') return problem('job_at_work', 'another job is at work', 409);
    const job = data.job(this.jobs[0].number + 1, {
      kind: body.kind, acceptDifferences: body.acceptDifferences ?? false, status: 'waiting',
      requestedAt: new Date().toISOString(), startedAt: null, endedAt: null, runner: null, attempts: 0,
    });
    this.jobs.unshift(job);
    return { status: 202, body: { data: job } };
  }

  conversation([id, part], parameters) {
    if (id !== data.CONVERSATION) return problem('not_found', 'there is nothing with this id that you can see', 404);
    if (part === 'events') return { body: data.eventPages()[parameters.get('after') ?? ''] };
    if (part === 'state') return { body: { data: data.state(parameters.get('at')) } };
    if (part === 'views') return { body: { data: data.views() } };
    return { body: { data: data.conversation() } };
  }

  /** Changes the newest job. */
  update(changes) {
    Object.assign(this.jobs[0], changes);
  }
}
