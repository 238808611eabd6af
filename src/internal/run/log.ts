/** How far a partition is in one of its topics: what was read, what is done, and inside which entry. */
import type { Claim, Commit, Entry, LogInfo } from "../../Broker.ts"
import type { Origin } from "../../Event.ts"
import type { Any } from "../../Topic.ts"
import { before, compare, offset, parseOffset } from "../entryId.ts"
import type { Received } from "../record/received.ts"
import type { TopicCodec } from "../record/record.ts"

type Claimed = Extract<Claim, { readonly _tag: "Claimed" }>

/** Keeps the books of one log's events. */
export interface Book extends Origin {
  log: Pick<Log, "done">
}

/** How far one topic of the partition is. */
export class Log {
  readonly topic: Any
  readonly codec: TopicCodec
  readonly origin: Book
  /** Read up to here. */
  after: string
  entriesRead: number
  /** Resuming inside an entry: its events up to this index are done. */
  private resume: { readonly id: string; readonly index: number } | undefined
  /** Done up to here, in order. */
  offset: string | undefined
  private source: { readonly id: string } | undefined
  private index = 0
  entry: string
  entries: number
  events: number
  moved = false
  /** Events that the last answered commit has. */
  committed: number
  /** The last entry of the log when it was claimed. */
  readonly end: string
  constructor(topic: Any, codec: TopicCodec, origin: Book, claimed: Claimed) {
    origin.log = this
    this.topic = topic
    this.codec = codec
    this.origin = origin
    const start = claimed.committed.find((committed) => committed.topic === topic.name)
    if (start === undefined) throw new Error(`the group has no position in topic ${topic.name}`)
    const at = parseOffset(start.offset)
    const inside = at !== undefined && compare(at.id, start.entry) > 0
    this.resume = inside ? at : undefined
    this.after = inside ? before(at.id) : start.entry
    this.entriesRead = start.entries
    this.entry = start.entry
    this.entries = start.entries
    this.events = start.events
    this.committed = start.events
    this.offset = start.offset
    this.end = claimed.logs.find((log) => log.topic === topic.name)?.last ?? "0-0"
  }
  /** The index of the first event of this entry that is not done yet; asked once for each entry, in order. */
  first(entry: Entry): number {
    if (this.resume === undefined) return 0
    const index = this.firstOf(entry)
    this.resume = undefined
    return index
  }
  /** The same for somebody who only looks. */
  firstOf(entry: Entry): number {
    return this.resume?.id === entry.id ? Math.min(this.resume.index + 1, entry.count) : 0
  }
  /** How far it is, as a commit says it. */
  get reached(): Commit["offsets"][number] {
    const { entries, entry, events, position, topic } = this
    return { topic: topic.name, layout: topic, offset: position, entry, entries, events }
  }
  /** There was more when it was claimed than is done by now. */
  get isBehind(): boolean {
    return compare(this.end, this.entry) > 0
  }
  /** The next event in order is done. */
  done(event: Received<unknown>): void {
    this.source = event.source
    this.index = event.index
    this.events++
    this.moved = true
    if (event.index + 1 === event.source.count) {
      this.entries++
      this.entry = event.source.id
    }
  }
  /** An entry that was done before, but for the bookkeeping (a commit stood at its last event). */
  passed(entry: Entry): void {
    this.entries++
    this.entry = entry.id
    this.moved = true
  }
  /** Unread entries are gone; go on with what is left. They held one event each at least. */
  lost(entries: number): void {
    this.entriesRead += entries
    this.entries += entries
    this.events += entries
    this.moved = true
    this.resume = undefined
  }
  /** The log ends before the committed offset: go on from its end. */
  truncated(info: LogInfo): void {
    this.resume = undefined
    this.after = this.entry = info.last
    this.offset = offset(info.last, 0)
    this.entriesRead = this.entries = info.added
    this.events = this.committed = info.added + info.extra
    this.moved = true
  }
  get position(): string {
    return this.source === undefined ? (this.offset ?? "0-0.0") : `${this.source.id}.${this.index}`
  }
}
