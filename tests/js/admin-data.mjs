// Answers of the admin API for tests of what the page shows: of a busy system, with jobs under way, as no test has one.
// A route that isn't here goes to the server.

const at = (secondsAgo) => new Date(Date.now() - secondsAgo * 1_000).toISOString();

export const CONVERSATION = '407160a2-20eb-59a8-9416-f90f967e4c59';

/** A small lag that grows for some minutes, and goes again. */
const lagAt = (index) => Math.round(3 + 3 * Math.sin(index / 9) + 88 * Math.exp(-(((index - 140) / 14) ** 2)));

export const history = () => ({
  intervalSeconds: 10,
  samples: Array.from({ length: 330 }, (_, index) => {
    const appended = 34 + 9 * Math.sin(index / 60) + 4 * Math.sin(index / 2.3) + 18 * Math.exp(-(((index - 135) / 18) ** 2));
    const lag = lagAt(index);
    return {
      at: at((329 - index) * 10), lag, lagSeconds: lag / 60, appendedPerSecond: appended,
      foldedPerSecond: appended + (lagAt(index - 1) - lag) / 10,
    };
  }),
});

export const status = ({ lag = 3, sockets = 812, checks = {} } = {}) => ({
  topic: 'messages', topicId: '5d4ff5a3-0c51-4b86-9d70-0a0f6d0f7d4a', generation: 4, projectors: 2, openDeadLetters: 1,
  lag, lagSeconds: lag / 60,
  partitions: Array.from({ length: 8 }, (_, partition) => {
    const end = 118_204 + 1_931 * partition;
    const own = partition === 0 ? lag : 0;
    return {
      partition, end, readable: end, folded: end - own, lag: own, lagSeconds: own / 60,
      appendedPerSecond: 4.1 + partition / 10, foldedPerSecond: 4.1 + partition / 10, isProjected: true,
    };
  }),
  generations: [
    { generation: 4, status: 'live', changedAt: at(5_400) }, { generation: 3, status: 'retired', changedAt: at(5_400) },
  ],
  nodes: [
    { node: '0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47', sockets, rooms: 2_310, seenAt: at(1) },
    { node: '0193a5c0-9a41-7be0-8c55-6a1d0b7e2c10', sockets: 799, rooms: 2_204, seenAt: at(0) },
  ],
  process: {
    roles: ['command-api', 'query-api', 'projector', 'realtime'], startedAt: at(93_000), status: 'ready',
    checks: ['kafka', 'postgres', 'redis', 'projection', 'relay'].map((dependency) =>
      ({ dependency, status: 'works', since: at(93_000), detail: null, ...checks[dependency] })),
  },
});

export const limits = () => [
  { area: 'What a user may do in a window', limit: 'messages sent', value: '30', beyond: '429 `rate_limited`', protects: 'the log, and all who read the conversation' },
  { area: 'What a user may do in a window', limit: 'queries', value: '600', beyond: '429 `rate_limited`', protects: 'Postgres, and the other users\' queries' },
  { area: 'What a command may contain', limit: 'characters of a message\'s content', value: '4,000', beyond: '422 `too_long`', protects: 'the log, pages and frames' },
];

export const job = (number, changes = {}) => ({
  number, kind: 'rebuild', acceptDifferences: false, status: 'done', isCancelRequested: false, requestedBy: 'admin',
  requestedAt: at(600), startedAt: at(599), endedAt: at(540), runner: 'node-1', attempts: 1, step: null, outcome: null,
  error: null, ...changes,
});

const outcome = (changes = {}) => ({
  generation: 4, records: 960_112, rows: 1_203_554, isInUse: false, stoodStillMs: null, differingConversations: 0,
  staleViews: null, tables: [], first: [], ...changes,
});

/** Ended jobs of every kind. */
export const endedJobs = () => [
  job(3, {
    kind: 'dryRun', requestedBy: 'mira', requestedAt: at(7_300), startedAt: at(7_299), endedAt: at(7_231),
    outcome: outcome({
      generation: 5, differingConversations: 2,
      tables: [{ table: 'messages', missing: 0, added: 0, changed: 1 }, { table: 'reactions', missing: 1, added: 0, changed: 0 }],
      first: ['messages conversation_id=3b0c… seq=17: content is "hallo", must be "hi"', 'reactions conversation_id=3b0c… ordinal=0: the row is missing'],
    }),
  }),
  job(2, { kind: 'verify', status: 'failed', error: 'the topic lacks its first records', requestedAt: at(8_000), startedAt: at(7_999), endedAt: at(7_990) }),
  job(1, { status: 'cancelled', isCancelRequested: true, requestedAt: at(9_000), startedAt: at(8_999), endedAt: at(8_950) }),
];

export const swapped = outcome({ isInUse: true, stoodStillMs: 38, generation: 5 });

export const conversation = () => ({
  conversationId: CONVERSATION, partition: 6, created: '6:0', position: '6:2', participants: 2, rebuild: null,
});

const event = (offset, type, actor, payload) => ({
  position: `6:${offset}`, loggedAt: at(900 - offset), type, eventId: `0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a4${offset}`, actor,
  event: { eventId: `0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a4${offset}`, type, version: 1, conversationId: CONVERSATION, ...payload },
});

export const eventPages = () => ({
  '': { data: [event(0, 'CONVERSATION_CREATED', 'alice', { participantIds: ['alice', 'bob'] }), event(1, 'MESSAGE_SENT', 'alice', { content: '<b>hi</b> @bob' })], page: { next: '6:1' } },
  '6:1': { data: [], page: { next: '6:500' } },
  '6:500': { data: [event(2, 'REACTION_ADDED', 'bob', { emoji: '❤️' })], page: { next: null } },
});

export const state = (position) => ({
  at: position ?? '6:2', agrees: position ? null : false,
  differences: position ? [] : ['messages seq=1: content is "hallo", must be "<b>hi</b> @bob"'],
  items: [
    { kind: 'conversation', value: { id: CONVERSATION, type: 'DIRECT', title: null } },
    { kind: 'message', value: { id: '0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a41', content: '<b>hi</b> @bob' } },
  ],
});

export const views = () => [
  { view: 'the conversation', status: 'same', path: null, found: null, expected: null },
  { view: 'the newest messages', status: 'stale', path: '.content', found: 'hallo', expected: '<b>hi</b> @bob' },
  { view: 'the participants', status: 'absent', path: null, found: null, expected: null },
];

/** The audit as a file. */
export const auditLines = () => `${JSON.stringify({ number: 1, at: at(60), actor: 'root', action: 'start-job', target: 'rebuild', reason: null, requestId: 'x', outcome: 'done' })}\n`;
