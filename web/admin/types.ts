// What the admin API answers, as this page reads it. `null` and a missing field mean the same: a node of another
// release may not send a field.

export type Maybe<Value> = Value | null | undefined;

export interface Check {
  dependency: string;
  status: 'works' | 'half_works' | 'gone';
  since: Maybe<string>;
  detail: Maybe<string>;
}

export interface ProcessStatus {
  roles: string[];
  startedAt: string;
  status: 'ready' | 'not_ready' | 'stopping';
  checks: Check[];
}

export interface Partition {
  partition: number;
  end: number;
  readable: number;
  folded: number;
  lag: number;
  lagSeconds: Maybe<number>;
  appendedPerSecond: Maybe<number>;
  foldedPerSecond: Maybe<number>;
  isProjected: boolean;
}

export interface Generation {
  generation: number;
  status: 'live' | 'building' | 'retired';
  changedAt: Maybe<string>;
}

export interface RealtimeNode {
  node: string;
  sockets: number;
  rooms: number;
  seenAt: string;
}

export interface Status {
  topic: string;
  topicId: string;
  generation: Maybe<number>;
  projectors: number;
  openDeadLetters: number;
  lag: Maybe<number>;
  lagSeconds: Maybe<number>;
  partitions: Partition[];
  generations: Maybe<Generation[]>;
  nodes: Maybe<RealtimeNode[]>;
  process: Maybe<ProcessStatus>;
}

/** The sums of all partitions at one time. */
export interface Sample {
  at: string;
  lag: number;
  lagSeconds: number;
  appendedPerSecond: number;
  foldedPerSecond: number;
}

export interface History {
  intervalSeconds: number;
  samples: Sample[];
}

export interface Limit {
  area: string;
  limit: string;
  value: string;
  beyond: string;
  protects: string;
}

export type JobKind = 'rebuild' | 'dryRun' | 'goBack' | 'verify';

export interface JobOutcome {
  generation: Maybe<number>;
  records: number;
  rows: Maybe<number>;
  isInUse: boolean;
  stoodStillMs: Maybe<number>;
  differingConversations: number;
  staleViews: Maybe<number>;
  tables: { table: string; missing: number; added: number; changed: number }[];
  first: string[];
}

export interface Job {
  number: number;
  kind: JobKind;
  acceptDifferences: boolean;
  status: 'waiting' | 'running' | 'done' | 'failed' | 'cancelled';
  isCancelRequested: boolean;
  requestedBy: string;
  requestedAt: string;
  startedAt: Maybe<string>;
  endedAt: Maybe<string>;
  runner: Maybe<string>;
  attempts: number;
  step: Maybe<{ name: string; unit: string; done: number; total: Maybe<number> }>;
  outcome: Maybe<JobOutcome>;
  error: Maybe<string>;
}

export interface DeadLetter {
  position: string;
  status: 'parked' | 'retrying' | 'folded' | 'discarded';
  reason: string;
  parkedAt: string;
  changedAt: string;
  conversationId: Maybe<string>;
  note: Maybe<string>;
  record?: Maybe<{ key: string; eventType: Maybe<string>; value: string; bytes: number }>;
}

export interface Conversation {
  conversationId: string;
  partition: number;
  created: Maybe<string>;
  position: Maybe<string>;
  participants: number;
  rebuild: Maybe<{ status: string; reason: Maybe<string>; requestedAt: string }>;
}

export interface LoggedEvent {
  position: string;
  loggedAt: string;
  type: string;
  eventId: string;
  actor: string;
  event: unknown;
}

export interface ConversationState {
  at: Maybe<string>;
  items: { kind: string; value: unknown }[];
  agrees: Maybe<boolean>;
  differences: string[];
}

export interface CachedView {
  view: string;
  status: 'same' | 'stale' | 'absent' | 'changing';
  path: Maybe<string>;
  found: unknown;
  expected: unknown;
}

export interface AuditEntry {
  number: number;
  at: string;
  actor: string;
  action: string;
  target: string;
  reason: Maybe<string>;
  requestId: string;
  outcome: Maybe<string>;
}
