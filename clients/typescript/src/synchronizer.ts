// Keeps the store equal to the server: applies deliveries in order, and fetches with `sync` what is missing.
//
// Each delivery names its position and the position of the one before it in its conversation. An example:
//
// 1. The socket connects and names position 7:10. The synchronizer syncs until 7:10 and queues deliveries meanwhile.
// 2. 7:12 arrives and names 7:9 as the one before it, which is applied already: the synchronizer applies 7:12.
// 3. 7:15 arrives and names 7:14, which never arrived: the synchronizer syncs until 7:15 and queues all deliveries.
// 4. No delivery arrives for a second or two: the synchronizer looks up what deliveries don't contain, such as a `seq`.
//
// It must never apply a delivery while an earlier change of the same conversation is missing.

import { MessagesError } from './errors.js';
import type { Http } from './http.js';
import type { Store } from './store.js';
import { offset, type Delivery, type Position, type SyncChange, type SyncPage } from './types.js';

/** How many changes a page of `sync` has at most. */
const CHANGES_PER_PAGE = 500;
/** How long no delivery may arrive before the client looks up what is unconfirmed, in milliseconds. */
const QUIET_MS = 1_000;
/** The clients of a conversation spread their look-ups over this time: milliseconds per participant, at least and at most. */
const SPREAD_PER_PARTICIPANT_MS = 20;
const SPREAD_MIN_MS = 1_000;
const SPREAD_MAX_MS = 60_000;
/** How long something may stay unconfirmed while deliveries keep arriving, in milliseconds. */
const UNCONFIRMED_MAX_MS = 15_000;
/** How many look-ups follow each other without a delivery in between. */
const LOOKUPS_MAX = 3;

/** Applies the deliveries of one client and syncs where one is missing. */
export class Synchronizer {
  /** The token from which the next sync continues. */
  #token = '';
  /** Whether the first catch-up has ended: what it brought is older than the client. */
  #firstCatchUpDone = false;
  /** By conversation: the offset of the last change that was applied. */
  readonly #appliedOffsets = new Map<string, number>();
  /** By conversation: the position of the last delivery that no sync has returned yet. */
  readonly #unsyncedDeliveries = new Map<string, Position>();
  /** By conversation: the offset up to which the initial list included it. */
  readonly #initialOffsets = new Map<string, number>();
  /** The deliveries that wait until the client has caught up. */
  #queue: Delivery[] = [];
  /** From a disconnection until the next connection names the position from which it delivers. */
  #disconnected = true;
  /** How many catch-ups are running or waiting. */
  #catchUps = 0;
  /** The end of the last sync: syncs run one after the other. */
  #lastSync: Promise<void> = Promise.resolve();
  /** The position that the next look-up has to include. */
  #lookupPosition: Position | undefined;
  #lookupTimer: ReturnType<typeof setTimeout> | undefined;
  /** Since when something is unconfirmed, in milliseconds since 1970; 0 where no look-up is planned. */
  #unconfirmedSince = 0;
  /** How many look-ups followed the last delivery. */
  #lookups = 0;
  /** The participants of the largest conversation in which something is unconfirmed. */
  #largestAudience = 0;

  readonly #store: Store;
  readonly #http: Http;
  readonly #onFailure: (error: MessagesError) => void;
  readonly #onCaughtUp: () => void;

  /** Calls `onFailure` when the server refuses a sync, and `onCaughtUp` when nothing is missing any more. */
  constructor(store: Store, http: Http, onFailure: (error: MessagesError) => void, onCaughtUp: () => void) {
    this.#store = store;
    this.#http = http;
    this.#onFailure = onFailure;
    this.#onCaughtUp = onCaughtUp;
  }

  /** Whether the client is connected and nothing is missing. */
  get isCurrent(): boolean {
    return !this.#disconnected && this.#catchUps === 0;
  }

  /** What a page of a conversation has to include to match what the store holds. */
  minPosition(conversationId: string): string {
    return this.#unsyncedDeliveries.get(conversationId) ?? this.#token;
  }

  /** Starts from the conversations in the store, and a token that they include. */
  start(token: string): void {
    this.#token = token;
    this.#firstCatchUpDone = false;
    this.#queue = [];
    this.#lookupPosition = undefined;
    this.#appliedOffsets.clear();
    this.#unsyncedDeliveries.clear();
    this.#initialOffsets.clear();
    for (const { id, position } of this.#store.conversations) this.#initialOffsets.set(id, offset(position));
  }

  /** The connection ended: deliveries of the next one wait in the queue. */
  disconnected(): void {
    this.#disconnected = true;
  }

  /** A connection delivers everything after this position. */
  connected(position: string): void {
    this.#disconnected = false;
    void this.#catchUp(position);
  }

  receive(delivery: Delivery): void {
    this.#queue.push(delivery);
    this.#applyQueue();
  }

  /** Looks up the effect of a command that isn't delivered, such as a read mark in a large conversation. */
  confirm(position: Position): void {
    this.#lookupPosition = position;
    this.#store.unconfirmed = true;
    this.#lookups = 0;
    this.#scheduleLookup();
  }

  stop(): void {
    clearTimeout(this.#lookupTimer);
    this.#disconnected = true;
    this.#queue = [];
  }

  /**
   * Applies the queue in order, but nothing while something is missing: a value that lacks an earlier change would look
   * newer than the one that the sync returns.
   */
  #applyQueue(): void {
    while (this.isCurrent) {
      const delivery = this.#queue.shift();
      if (!delivery) break;
      this.#apply(delivery);
    }
    if (this.isCurrent) this.#scheduleLookup();
  }

  #apply(delivery: Delivery): void {
    const { payload, meta } = delivery;
    const id = 'conversationId' in payload ? payload.conversationId : payload.id;
    const appliedOffset = this.#appliedOffsets.get(id) ?? -1;
    if (offset(meta.position) <= appliedOffset) return;
    this.#recordApplied(id, meta.position);
    if (offset(meta.previous) > Math.max(appliedOffset, this.#initialOffsets.get(id) ?? -1)) {
      void this.#catchUp(meta.position); // the sync returns this delivery, too
      return;
    }
    this.#lookups = 0;
    this.#unsyncedDeliveries.set(id, meta.position);
    this.#lookupPosition = meta.position;
    this.#store.applyDelivery(delivery);
    const audience = this.#store.conversationState(id).value?.participantCount ?? 0;
    this.#largestAudience = Math.max(this.#largestAudience, audience);
  }

  #recordApplied(id: string, position: Position): void {
    this.#appliedOffsets.set(id, Math.max(offset(position), this.#appliedOffsets.get(id) ?? -1));
  }

  #recordSynced(id: string, position: Position): void {
    this.#recordApplied(id, position);
    if (offset(this.#unsyncedDeliveries.get(id)) <= offset(position)) this.#unsyncedDeliveries.delete(id);
  }

  /** Fetches everything that is missing, up to at least a position. */
  async #catchUp(minPosition: string): Promise<void> {
    this.#catchUps += 1;
    const succeeded = await this.#sync(minPosition);
    this.#catchUps -= 1;
    if (!succeeded || this.#catchUps > 0) return;
    this.#firstCatchUpDone = true;
    this.#applyQueue();
    if (this.isCurrent) this.#onCaughtUp();
  }

  /**
   * Schedules a look-up of what is unconfirmed, for when no deliveries arrive. The client goes on applying deliveries
   * during a look-up: nothing is missing, so the store is never older than the look-up, except where that is newer.
   */
  #scheduleLookup(): void {
    if (!this.#store.unconfirmed || this.#lookups >= LOOKUPS_MAX) return;
    const now = Date.now();
    this.#unconfirmedSince ||= now;
    clearTimeout(this.#lookupTimer);
    const spread = Math.min(Math.max(SPREAD_MIN_MS, this.#largestAudience * SPREAD_PER_PARTICIPANT_MS), SPREAD_MAX_MS);
    const quiet = QUIET_MS + spread * Math.random();
    const latest = this.#unconfirmedSince + UNCONFIRMED_MAX_MS + spread * Math.random() - now;
    this.#lookupTimer = setTimeout(() => {
      this.#unconfirmedSince = 0;
      if (!this.isCurrent || !this.#store.unconfirmed) return; // a catch-up confirms it, too
      this.#lookups += 1;
      void this.#sync(this.#lookupPosition);
    }, Math.max(0, Math.min(quiet, latest)));
  }

  /** Syncs from the token on, after the sync before. Returns whether it succeeded. */
  #sync(minPosition: string | undefined): Promise<boolean> {
    const run = async (): Promise<boolean> => {
      this.#store.unconfirmed = false;
      this.#largestAudience = 0;
      try {
        for (let more = true; more;) more = await this.#syncPage(minPosition);
        // The server hasn't folded these yet; after the last look-up, they are known to have changed nothing.
        if (this.#lookups >= LOOKUPS_MAX) this.#unsyncedDeliveries.clear();
        if (this.#unsyncedDeliveries.size) this.#store.unconfirmed = true;
        if (this.isCurrent) this.#scheduleLookup();
        return true;
      } catch (error) {
        this.#store.unconfirmed = true;
        if (error instanceof MessagesError && error.code !== 'closed') this.#onFailure(error);
        else if (!(error instanceof MessagesError)) throw error;
        return false;
      }
    };
    const result = this.#lastSync.then(run);
    this.#lastSync = result.then(() => undefined, () => undefined);
    return result;
  }

  /** Applies one page; returns whether there is another. */
  async #syncPage(minPosition: string | undefined): Promise<boolean> {
    const token = this.#token;
    const path = `/api/messages/sync?limit=${CHANGES_PER_PAGE}&since=${encodeURIComponent(token)}`;
    const { body } = await this.#http.request<SyncPage>({ method: 'GET', path, minPosition, retryForMs: Infinity });
    if (token !== this.#token) return false; // the synchronizer was started again meanwhile
    this.#store.applyCatchUp(() => body.data.forEach((change) => this.#applyChange(change)), body.more);
    this.#token = body.next;
    return body.more;
  }

  #applyChange(change: SyncChange): void {
    if (change.kind === 'conversation') this.#store.upsertConversation(change.value);
    else if (change.kind === 'message') this.#store.upsertMessage(change.value, this.#firstCatchUpDone);
    else this.#store.upsertReadMark(change.value);
    const { value, position } = change;
    this.#recordSynced('conversationId' in value ? value.conversationId : value.id, position);
  }
}
