// Keeps the store as the server has it: the rule by which deliveries are applied, and what was missed is fetched.

import type { Changed, Changes, Delivery, Position } from './contract.js';
import { offset } from './contract.js';
import { MessagesError } from './errors.js';
import type { Http } from './http.js';
import type { Store } from './store.js';

/** How many things a page of `sync` has at most. */
const PAGE = 500;
/** So long nothing comes before what is unsettled is looked up, in milliseconds. */
const QUIET_MS = 1_000;
/** Over so long the clients of a conversation spread that, in milliseconds a participant, and at least. */
const SPREAD_MS = 20;
const SPREAD_AT_LEAST_MS = 1_000;
/** So long it may stay unsettled while something always comes, in milliseconds. */
const UNSETTLED_MS = 15_000;
/** So often in a row what is still unsettled is looked up again, when nothing came meanwhile. */
const LOOK_UPS = 3;

/** Applies deliveries in order, and syncs where something is missing. */
export class Follower {
  /** From here the next sync goes on. */
  token = '';
  /** The first catching up is done: what it brought was there when the client began. */
  #begun = false;
  /** The offset of the last change that was applied, by conversation. */
  readonly #known = new Map<string, number>();
  /** The position of the last delivery in each conversation that no sync has shown yet. */
  readonly #delivered = new Map<string, Position>();
  /** Up to which offset a conversation was read while the client began. */
  readonly #covered = new Map<string, number>();
  /** Deliveries that wait until this client has caught up. */
  #held: Delivery[] = [];
  /** From the end of a connection until the next one has said from where on it delivers. */
  #away = true;
  /** How many syncs that fetch what was missed are running, or waiting. */
  #behind = 0;
  #chain: Promise<void> = Promise.resolve();
  /** What the next look-up has to include. */
  #last: Position | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #since = 0;
  #again = 0;
  /** How many participants the largest conversation has in which something is unsettled. */
  #crowd = 0;

  readonly #store: Store;
  readonly #http: Http;
  readonly #failed: (error: MessagesError) => void;
  readonly #caughtUp: () => void;

  /** `failed` is called where the token is no good any more; `caughtUp` when all that was missed is here. */
  constructor(store: Store, http: Http, failed: (error: MessagesError) => void, caughtUp: () => void) {
    this.#store = store;
    this.#http = http;
    this.#failed = failed;
    this.#caughtUp = caughtUp;
  }

  /** Whether everything is here. */
  get current(): boolean {
    return !this.#away && this.#behind === 0;
  }

  /** What has to be in anything that is read of a conversation, so that it goes with what is here. */
  atLeast(conversationId: string): string {
    return this.#delivered.get(conversationId) ?? this.token;
  }

  /** Begins with what was read, and a token that it includes. */
  begin(token: string): void {
    this.token = token;
    this.#begun = false;
    this.#held = [];
    this.#last = undefined;
    this.#known.clear();
    this.#delivered.clear();
    this.#covered.clear();
    for (const { id, position } of this.#store.conversations) this.#covered.set(id, offset(position));
  }

  /** The connection ended: what comes next on another one waits. */
  left(): void {
    this.#away = true;
  }

  /** A connection delivers everything after this token. */
  ready(token: string): void {
    this.#away = false;
    void this.#catchUp(token);
  }

  deliver(delivery: Delivery): void {
    this.#held.push(delivery);
    this.#drain();
  }

  /** Something was done whose effect isn't delivered, such as a read mark in a large conversation. */
  settle(position: Position): void {
    this.#last = position;
    this.#store.unsettled = true;
    this.#again = 0;
    this.#settleSoon();
  }

  /** Ends: nothing is looked up any more. */
  end(): void {
    clearTimeout(this.#timer);
    this.#away = true;
    this.#held = [];
  }

  /**
   * Applies what was delivered, in order, but nothing while there is something to fetch: a change applied to what
   * lacks an earlier one would make it look newer than what the sync brings.
   */
  #drain(): void {
    while (this.current) {
      const delivery = this.#held.shift();
      if (!delivery) break;
      this.#apply(delivery);
    }
    if (this.current) this.#settleSoon();
  }

  #apply(delivery: Delivery): void {
    const { payload, meta } = delivery;
    const id = 'conversationId' in payload ? payload.conversationId : payload.id;
    const known = this.#known.get(id) ?? -1;
    if (offset(meta.position) <= known) return;
    this.#know(id, meta.position);
    if (offset(meta.previous) > Math.max(known, this.#covered.get(id) ?? -1)) {
      void this.#catchUp(meta.position); // it brings this delivery, too
      return;
    }
    this.#again = 0;
    this.#delivered.set(id, meta.position);
    this.#last = meta.position;
    this.#store.deliver(delivery);
    this.#crowd = Math.max(this.#crowd, this.#store.talk(id).value?.participantCount ?? 0);
  }

  #know(id: string, position: Position): void {
    this.#known.set(id, Math.max(offset(position), this.#known.get(id) ?? -1));
  }

  #shown(id: string, position: Position): void {
    this.#know(id, position);
    if (offset(this.#delivered.get(id)) <= offset(position)) this.#delivered.delete(id);
  }

  /** Fetches what was missed, until at least a position. */
  async #catchUp(atLeast: string): Promise<void> {
    this.#behind += 1;
    const done = await this.#sync(atLeast);
    this.#behind -= 1;
    if (!done || this.#behind > 0) return;
    this.#begun = true;
    this.#drain();
    if (this.current) this.#caughtUp();
  }

  /**
   * Looks up what is unsettled, once it is quiet. Deliveries go on meanwhile: none is missing, so that what is applied
   * is never less than what the look-up brings, unless that is newer.
   */
  #settleSoon(): void {
    if (!this.#store.unsettled || this.#again >= LOOK_UPS) return;
    const now = Date.now();
    this.#since ||= now;
    clearTimeout(this.#timer);
    const spread = Math.max(SPREAD_AT_LEAST_MS, this.#crowd * SPREAD_MS);
    const quiet = QUIET_MS + spread * Math.random();
    this.#timer = setTimeout(() => {
      this.#since = 0;
      if (!this.current || !this.#store.unsettled) return; // catching up settles it, too
      this.#again += 1;
      void this.#sync(this.#last);
    }, Math.max(0, Math.min(quiet, this.#since + UNSETTLED_MS + spread * Math.random() - now)));
  }

  /** From the own token on, one sync after the other. False where it came to nothing. */
  #sync(atLeast: string | undefined): Promise<boolean> {
    const run = async (): Promise<boolean> => {
      this.#store.unsettled = false;
      this.#crowd = 0;
      try {
        for (let more = true; more;) more = await this.#page(atLeast);
        // What the server hadn't folded yet is still to be looked up; what never shows has changed nothing.
        if (this.#again >= LOOK_UPS) this.#delivered.clear();
        if (this.#delivered.size) this.#store.unsettled = true;
        if (this.current) this.#settleSoon();
        return true;
      } catch (error) {
        this.#store.unsettled = true;
        if (error instanceof MessagesError && error.code !== 'closed') this.#failed(error);
        else if (!(error instanceof MessagesError)) throw error;
        return false;
      }
    };
    const result = this.#chain.then(run);
    this.#chain = result.then(() => undefined, () => undefined);
    return result;
  }

  async #page(atLeast: string | undefined): Promise<boolean> {
    const { token } = this;
    const path = `/api/messages/sync?limit=${PAGE}&since=${encodeURIComponent(token)}`;
    const { body } = await this.#http.ask<Changes>({ method: 'GET', path, atLeast, patience: Infinity });
    if (token !== this.token) return false; // begun anew meanwhile
    this.#store.missed(() => body.data.forEach((changed) => this.#take(changed)), body.more);
    this.token = body.next;
    return body.more;
  }

  #take(changed: Changed): void {
    if (changed.kind === 'conversation') this.#store.conversation(changed.value);
    else if (changed.kind === 'message') this.#store.read(changed.value, this.#begun);
    else this.#store.readMark(changed.value);
    this.#shown('conversationId' in changed.value ? changed.value.conversationId : changed.value.id, changed.position);
  }
}
