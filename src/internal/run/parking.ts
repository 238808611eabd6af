/**
 * What a worker knows of the parked events of one partition: which keys wait aside, how many events each holds, when its
 * first one is tried again, and what the next commit changes of it. Plain bookkeeping without effects.
 *
 * Gotcha: the engine has what `committed` said it has. An event that was parked since then is counted, and cannot be read
 * yet; one that was removed since then still can, so the first event is read behind `after`.
 */
import type { Parking as Changes, Lane, LaneState, NewEntry, Park } from "../../Broker.ts"
import { type Needles, needlesOf } from "../record/received.ts"
import type { Steps } from "./tries.ts"

/** What is asked of an event. */
export interface Parkable {
  readonly topic: string
  readonly offset: string
  readonly key: string | undefined
  readonly source?: { readonly lacks: (needles: Needles) => boolean }
  stored(): NewEntry
}

export interface Bounds {
  /** Events of one lane, and of the partition. */
  readonly lane: number
  readonly partition: number
}

export const bounds: Bounds = { lane: 1_000, partition: 10_000 }

/** Why and until when a lane waits: what a policy made of the failure of its first event. Times are milliseconds since 1970. */
export interface Parked {
  readonly _tag: "Parked"
  readonly error: string
  readonly now: number
  readonly due: number
  /** Attempts at the event so far. */
  readonly attempts: number
  /** Events that its lane may hold. */
  readonly capacity: number
  /** Where the schedules stand that it went through. */
  readonly steps: Steps
}

/** A key that waits aside, or one event without a key. */
export interface Waiting {
  readonly lane: string
  /** Attempts at its first event so far. */
  readonly attempts: number
  /** How often a policy has made its first event wait. */
  readonly rounds: number
  readonly due: number
  /** When its first event failed first. */
  readonly since: number
  readonly error: string
  /** Events in it, also those that the engine does not have yet. */
  readonly count: number
  /** The first event is the one behind this id; undefined: the first that the engine has. */
  readonly after: string | undefined
  /** Where the schedules of its first event stand, as far as this worker has driven them. */
  readonly steps: Steps
}

interface Book extends Waiting {
  attempts: number
  rounds: number
  due: number
  since: number
  error: string
  count: number
  after: string | undefined
  steps: Steps
  readonly capacity: number
  /** Events that the engine has, less those that are removed with the next commits; and those that the next commit adds. */
  ready: number
  staged: number
  /** Its first event is being tried. */
  busy: boolean
}

/** The text that is stored with a lane: the rounds, and why it failed. */
export const noteOf = ({ error, rounds }: Pick<Waiting, "error" | "rounds">): string => `${rounds} ${error}`

/** What is stored of a lane, with its note taken apart. */
export const stateOf = (stored: LaneState): LaneState & { readonly rounds: number } => {
  const note = /^(\d+) (.*)$/s.exec(stored.error)
  return note === null ? { ...stored, rounds: 0 } : { ...stored, rounds: Number(note[1]), error: note[2]! }
}

/** A key's lane and the lane of one event cannot have the same name. */
export const laneOf = (event: Pick<Parkable, "topic" | "offset" | "key">): string =>
  event.key === undefined ? `event ${event.topic} ${event.offset}` : `${keyed}${event.key}`

/** The event of a lane without a key. */
export const eventOf = (lane: string): { readonly key: undefined; readonly topic: string; readonly offset: string } => {
  const [, topic = "", offset = ""] = lane.split(" ")
  return { key: undefined, topic, offset }
}

const keyed = "key "

/** The key of a lane; undefined for that of one event without a key. */
export const keyOf = (lane: string): string | undefined =>
  lane.startsWith(keyed) ? lane.slice(keyed.length) : undefined

export class Parking {
  /** Somebody waits aside, or the next commit changes something of it: while false there is nothing to ask. */
  active = false
  /** Writes and bytes that wait for the next commit. */
  writes = 0
  bytes = 0
  /** First events that are being tried. */
  busy = 0
  /** Events in hand that wait for room. */
  heldUp = 0
  /** Something may be due, or due at another time, since somebody looked. */
  stirred = true
  private readonly books = new Map<string, Book>()
  /** Those that wait aside, so that no event needs its lane's name to be asked about. */
  private readonly keys = new Set<string>()
  /** The same, to be looked for in a batch; undefined: ask each event for its key. */
  private needles: Needles | undefined
  private readonly bounds: Bounds
  /** Set aside, and not passed by the offset yet. */
  private readonly pending = new Map<Parkable, Park & { readonly book: Book }>()
  private parks: Array<Park & { readonly book: Book }> = []
  private removals: Array<{ readonly lane: string; readonly id: string }> = []
  /** Those whose state differs from what the engine has. */
  private readonly changed = new Set<Book>()
  private sent: ReadonlyArray<Book> = []
  /** The lane that is due first; undefined when that is not known. */
  private first: { readonly book: Book | undefined } | undefined
  /** Events in all lanes. */
  events = 0
  constructor(lanes: ReadonlyArray<Lane>, limits: Bounds = bounds) {
    this.bounds = limits
    for (const stored of lanes) {
      const { attempts, count, due, error, lane, rounds, since } = { ...stored, ...stateOf(stored) }
      const rest = { ready: count, staged: 0, after: undefined, busy: false, capacity: limits.lane, steps: new Map() }
      this.open({ lane, attempts, rounds, due, since, error, count, ...rest })
      this.events += count
    }
  }

  /** Whether an event that comes now has to wait behind others of its key. Asks for the key only if some key waits. */
  holds(event: Pick<Parkable, "key" | "source">): boolean {
    if (this.keys.size === 0) return false
    if (this.needles !== undefined && event.source?.lacks(this.needles) === true) return false
    const { key } = event
    return key !== undefined && this.keys.has(key)
  }

  /** Whether one more event may be set aside: in a lane that holds some already, or in a new one. */
  hasRoom(event: Parkable): boolean {
    if (this.events >= this.bounds.partition) return false
    const book = this.books.get(laneOf(event))
    return book === undefined || book.count < book.capacity
  }

  /** Set an event aside that failed: it opens a lane. Its key must not be held, then nothing would have tried it. */
  park(event: Parkable, { attempts, capacity, due, error, now, steps }: Parked): number {
    const lane = laneOf(event)
    if (this.books.has(lane)) throw new Error(`${lane} is parked already: a later event of it joins it, untried`)
    const rest = { count: 0, ready: 0, staged: 0, after: undefined, busy: false }
    const book = { lane, attempts, rounds: 1, due, since: now, error, capacity, steps, ...rest }
    this.open(book)
    this.changed.add(book)
    return this.add(event, book)
  }

  /** An event of a key that waits aside goes behind the others. */
  join(event: Parkable): number {
    return this.add(event, this.book(laneOf(event)))
  }

  /** Gives the bytes that it adds to a commit. */
  private add(event: Parkable, book: Book): number {
    book.count++
    this.events++
    const { fields } = event.stored()
    const { offset, topic } = event
    this.pending.set(event, { lane: book.lane, topic, offset, fields, book })
    return sizeOf(fields)
  }

  /** The offset moves past an event that was set aside: the same commit stores it. */
  stage(event: Parkable): void {
    const park = this.pending.get(event)
    if (park === undefined) return
    this.pending.delete(event)
    this.parks.push(park)
    park.book.staged++
    this.writes++
    this.bytes += sizeOf(park.fields)
  }

  private open(book: Book): void {
    this.active = true
    this.first = undefined
    this.books.set(book.lane, book)
    const key = keyOf(book.lane)
    if (key === undefined) return
    this.keys.add(key)
    this.needles = needlesOf(this.keys)
  }

  private close(book: Book): void {
    this.books.delete(book.lane)
    this.changed.delete(book)
    const key = keyOf(book.lane)
    if (key === undefined) return
    this.keys.delete(key)
    this.needles = needlesOf(this.keys)
  }

  /** A lane whose first event is to be tried by now, if there is one; the longest overdue goes first. */
  next(now: number): Waiting | undefined {
    const first = this.earliest()
    return first !== undefined && first.due <= now ? first : undefined
  }

  /** When a lane is due next, if any is; what the engine does not have yet is due after its commit. */
  get due(): number | undefined {
    return this.earliest()?.due
  }

  private earliest(): Book | undefined {
    if (this.first !== undefined) return this.first.book
    let first: Book | undefined
    for (const book of this.books.values()) {
      if (book.ready === 0 || book.busy) continue
      if (first === undefined || book.due < first.due) first = book
    }
    this.first = { book: first }
    return first
  }

  /** Its first event is tried now: it is nobody's `next` until it succeeded or failed. */
  begin(lane: string): void {
    this.setBusy(this.book(lane), true)
  }

  /** Not tried after all. */
  cancel(lane: string): void {
    this.setBusy(this.book(lane), false)
  }

  private setBusy(book: Book, busy: boolean): void {
    if (book.busy !== busy) this.busy += busy ? 1 : -1
    book.busy = busy
    this.first = undefined
  }

  /** The first event is done, or a policy settled it: the next one of the lane may follow at once. */
  succeeded(lane: string, id: string, now: number): void {
    const book = this.book(lane)
    this.setBusy(book, false)
    book.after = id
    book.count--
    book.ready--
    this.events--
    this.removals.push({ lane, id })
    this.writes++
    if (book.count === 0) return this.close(book)
    book.attempts = 0
    book.rounds = 0
    book.due = now
    book.error = ""
    book.steps = new Map()
    this.changed.add(book)
  }

  /** The first event failed again. */
  failed(lane: string, { attempts, due, error, now, steps }: Parked): void {
    const book = this.book(lane)
    this.setBusy(book, false)
    if (book.rounds === 0) book.since = now
    book.attempts = attempts
    book.rounds++
    book.due = due
    book.error = error
    book.steps = steps
    this.changed.add(book)
  }

  private book(lane: string): Book {
    const book = this.books.get(lane)
    if (book === undefined) throw new Error(`${lane} is not parked`)
    return book
  }

  /** The next commit changes something. */
  get dirty(): boolean {
    if (!this.active) return false
    if (this.writes > 0) return true
    for (const book of this.changed) if (isStored(book)) return true
    return false
  }

  /** What the next commit holds, or undefined if nothing changed. One is in flight at a time. */
  cut(): Changes | undefined {
    const states: Array<LaneState> = []
    for (const book of this.changed) {
      // The engine keeps no state of a lane without events.
      if (!isStored(book)) continue
      this.changed.delete(book)
      const { attempts, due, lane, since } = book
      states.push({ lane, attempts, due, since, error: noteOf(book) })
    }
    if (this.writes === 0 && states.length === 0) {
      this.active = this.books.size > 0
      return undefined
    }
    const park = this.parks.map(({ lane, topic, offset, fields }) => ({ lane, topic, offset, fields }))
    const changes: Changes = { drop: [], park, remove: this.removals, states }
    this.sent = this.parks.map(({ book }) => book)
    for (const book of this.sent) book.staged = 0
    this.parks = []
    this.removals = []
    this.writes = 0
    this.bytes = 0
    this.active = this.books.size > 0
    return changes
  }

  /** The engine has what was cut last. */
  committed(): void {
    if (this.sent.length === 0) return
    for (const book of this.sent) book.ready++
    this.sent = []
    this.first = undefined
    this.stirred = true
  }

  /** Everything that waits aside, for reports. */
  waiting(): ReadonlyArray<Waiting> {
    return Array.from(this.books.values())
  }
}

const isStored = ({ ready, staged }: Book): boolean => ready > 0 || staged > 0

const sizeOf = (fields: Park["fields"]): number => {
  let bytes = 0
  for (const field of fields) bytes += typeof field === "string" ? Buffer.byteLength(field) : field.byteLength
  return bytes
}
