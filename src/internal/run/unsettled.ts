/**
 * What was handed out and may finish out of order, oldest first. Whatever is done without a hole is merged into what the
 * next commit takes, unit of work by unit of work: the events of one unit and all that it changed go into one commit.
 *
 * A barrier is where the partition is to be put aside: what comes before it is finished, nothing from it on counts.
 */
import type { Quarantine } from "../../Coordinator.ts"
import type { Received } from "../record/received.ts"
import type { Changes } from "./unit.ts"

/** What fills the next commit. */
export interface Target {
  /** There is room for these. */
  readonly fits: (changes: ReadonlyArray<Changes>) => boolean
  readonly merge: (changes: Changes) => void
  readonly done: (event: Received<unknown>) => void
}

export class Unsettled {
  private events: Array<Received<unknown>> = []
  private head = 0
  /** What a unit changed, beside the last of its events. */
  private readonly changes = new Map<Received<unknown>, Array<Changes>>()
  /** Units of several events, from the first to the last. */
  private readonly spans = new Map<Received<unknown>, Received<unknown>>()
  private barrier: { readonly event: Received<unknown>; readonly entry: Quarantine } | undefined
  private readonly target: Target
  constructor(target: Target) {
    this.target = target
  }

  get oldest(): Received<unknown> | undefined {
    return this.events[this.head]
  }

  /** The oldest ones. */
  open(most: number): ReadonlyArray<Received<unknown>> {
    return this.events.slice(this.head, this.head + most)
  }

  add(events: ReadonlyArray<Received<unknown>>): void {
    for (const event of events) this.events.push(event)
  }

  private indexOf(event: Received<unknown>): number {
    return this.events.indexOf(event, this.head)
  }

  /** Changes of a unit of work that count when its events are done. */
  stage(events: ReadonlyArray<Received<unknown>>, changes: Changes): void {
    if (changes.rows.length === 0 && changes.emits.length === 0 && changes.aside === undefined) return
    const sorted = this.inOrder(events.length === 1 ? [events[0]!.read] : events.map((event) => event.read))
    const last = sorted[sorted.length - 1]!
    const known = this.changes.get(last)
    if (known === undefined) this.changes.set(last, [changes])
    else known.push(changes)
    if (sorted.length > 1) this.spans.set(sorted[0]!, last)
  }

  /** A pipeline may have changed their order. */
  private inOrder(events: ReadonlyArray<Received<unknown>>): ReadonlyArray<Received<unknown>> {
    if (events.length === 1) return events
    const at = this.indexOf(events[0]!)
    if (events.every((event, i) => this.events[at + i] === event)) return events
    const indexes = new Map(events.map((event) => [event, this.indexOf(event)]))
    return events.toSorted((a, b) => indexes.get(a)! - indexes.get(b)!)
  }

  /** These are done. */
  close(events: ReadonlyArray<Received<unknown>>): void {
    for (const event of events) if (this.barrier === undefined || !this.barred(event)) event.finish()
    this.advance()
  }

  /** Everything is done that was handed out up to and including this event. */
  closeUpTo(event: Received<unknown>): void {
    const at = this.indexOf(event.read)
    if (at >= 0) this.close(this.events.slice(this.head, event.isLast ? at + 1 : at))
  }

  /** Merge what is done, unit by unit, as long as there is room. */
  advance(): void {
    let end = this.unitEnd()
    while (end !== undefined && this.hasRoom(end)) {
      while (this.head <= end) {
        const event = this.events[this.head++]!
        const changes = this.changes.get(event)
        if (changes !== undefined) {
          this.changes.delete(event)
          for (const change of changes) this.target.merge(change)
        }
        if (this.spans.size > 0) this.spans.delete(event)
        this.target.done(event)
      }
      end = this.unitEnd()
    }
    if (this.head > 1_000 && this.head * 2 > this.events.length) {
      this.events = this.events.slice(this.head)
      this.head = 0
    }
  }

  /** Something is done and waits for room only. */
  get waits(): boolean {
    return this.unitEnd() !== undefined
  }

  /** Where the unit ends that begins with the oldest event; undefined if not all of it is done. */
  private unitEnd(): number | undefined {
    let end = this.head
    for (let i = this.head; i <= end; i++) {
      const event = this.events[i]
      if (event === undefined || !event.done) return undefined
      // Units of a pipeline may overlap: then they go together.
      const last = this.spans.size === 0 ? undefined : this.spans.get(event)
      if (last !== undefined) end = Math.max(end, this.indexOf(last))
    }
    return end
  }

  private hasRoom(end: number): boolean {
    if (this.changes.size === 0) return true
    const all: Array<Changes> = []
    for (let i = this.head; i <= end; i++) all.push(...(this.changes.get(this.events[i]!) ?? []))
    return this.target.fits(all)
  }

  /** A policy puts the partition aside at these events; of several such places the first counts. */
  bar(events: ReadonlyArray<Received<unknown>>, entry: Quarantine): void {
    const event = events[0]!.read.read
    // One that came back is in no window: it stops nothing that is in hand.
    if (this.barrier === undefined || (!this.barred(event) && this.indexOf(event) >= 0)) this.barrier = { event, entry }
  }

  /** Not to be started or acknowledged any more. */
  barred(event: Received<unknown>): boolean {
    if (this.barrier === undefined) return false
    const at = this.indexOf(this.barrier.event)
    return at >= 0 && this.indexOf(event.read.read) >= at
  }

  /** Why the partition is to be put aside. */
  get aside(): Quarantine | undefined {
    return this.barrier?.entry
  }

  /** Events before the barrier that a pipeline has taken and not given back. */
  get unfinished(): number {
    return this.barrier === undefined ? 0 : Math.max(0, this.indexOf(this.barrier.event) - this.head)
  }
}
