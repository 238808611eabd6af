/**
 * What a worker knows of the parked events of one partition: which keys wait aside, how many events each holds, when its
 * first one is tried again, and what the next commit changes of it. Plain bookkeeping without effects.
 *
 * Gotcha: the engine has what `committed` said it has. An event that was parked since then is counted, and cannot be read
 * yet; one that was removed since then still can, so the first event is read behind `after`.
 */
import type { Parking as Changes, Lane, NewEntry, Park } from "../../Broker.ts"

/** What is asked of an event. */
export interface Parkable {
  readonly topic: string
  readonly offset: string
  readonly key: string | undefined
  stored(): NewEntry
}

export interface Bounds {
  /** Events of one lane, and of the partition. */
  readonly lane: number
  readonly partition: number
}

export const bounds: Bounds = { lane: 1_000, partition: 10_000 }

/** Why and until when a lane waits. Times are milliseconds since 1970. */
export interface Failure {
  readonly error: string
  readonly now: number
  readonly due: number
}

/** A key that waits aside, or one event without a key. */
export interface Waiting {
  readonly lane: string
  /** Attempts at its first event so far. */
  readonly attempts: number
  readonly due: number
  readonly since: number
  readonly error: string
  /** Events in it, also those that the engine does not have yet. */
  readonly count: number
  /** The first event is the one behind this id; undefined: the first that the engine has. */
  readonly after: string | undefined
}

interface Book extends Waiting {
  attempts: number
  due: number
  since: number
  error: string
  count: number
  after: string | undefined
  /** Events that the engine has, less those that are removed with the next commits. */
  ready: number
  /** Its first event is being tried. */
  busy: boolean
  /** Its state differs from what the engine has. */
  changed: boolean
}

/** A key's lane and the lane of one event cannot have the same name. */
export const laneOf = (event: Pick<Parkable, "topic" | "offset" | "key">): string =>
  event.key === undefined ? `event ${event.topic} ${event.offset}` : `${keyed}${event.key}`

const keyed = "key "

export class Parking {
  private readonly books = new Map<string, Book>()
  /** Those that wait aside, so that no event needs its lane's name to be asked about. */
  private readonly keys = new Set<string>()
  private readonly bounds: Bounds
  private parks: Array<Park & { readonly book: Book }> = []
  private removals: Array<{ readonly lane: string; readonly id: string }> = []
  private drops: Array<string> = []
  /** The lane of each event in the commit in flight, as it was then: one that was dropped since may be there anew. */
  private sent: Array<Book> = []
  /** Events in all lanes. */
  events = 0
  constructor(lanes: ReadonlyArray<Lane>, limits: Bounds = bounds) {
    this.bounds = limits
    for (const { lane, attempts, due, since, error, count } of lanes) {
      const rest = { ready: count, after: undefined, busy: false, changed: false }
      this.open({ lane, attempts, due, since, error, count, ...rest })
      this.events += count
    }
  }

  /** Whether an event that comes now has to wait behind others of its key. Asks for the key only if some key waits. */
  holds(event: Pick<Parkable, "key">): boolean {
    if (this.keys.size === 0) return false
    const { key } = event
    return key !== undefined && this.keys.has(key)
  }

  /** Whether one more event may be parked: of a lane that holds some already, or of a new one. */
  hasRoom(event: Parkable): boolean {
    return this.events < this.bounds.partition && (this.books.get(laneOf(event))?.count ?? 0) < this.bounds.lane
  }

  /** Set an event aside that failed after so many attempts. Its key must not be held: then nothing would have tried it. */
  park(event: Parkable, attempts: number, { error, now, due }: Failure): void {
    const lane = laneOf(event)
    if (this.books.has(lane)) throw new Error(`${lane} is parked already: a later event of it joins it, untried`)
    const rest = { count: 0, ready: 0, after: undefined, busy: false, changed: true }
    this.open({ lane, attempts, due, since: now, error, ...rest })
    this.add(event, lane)
  }

  /** An event of a key that waits aside goes behind the others. */
  join(event: Parkable): void {
    this.add(event, laneOf(event))
  }

  private add(event: Parkable, lane: string): void {
    const book = this.book(lane)
    book.count++
    this.events++
    this.parks.push({ lane, topic: event.topic, offset: event.offset, fields: event.stored().fields, book })
  }

  private open(book: Book): void {
    this.books.set(book.lane, book)
    if (book.lane.startsWith(keyed)) this.keys.add(book.lane.slice(keyed.length))
  }

  private close(lane: string): void {
    this.books.delete(lane)
    if (lane.startsWith(keyed)) this.keys.delete(lane.slice(keyed.length))
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
    let first: Book | undefined
    for (const book of this.books.values()) {
      if (book.ready === 0 || book.busy) continue
      if (first === undefined || book.due < first.due) first = book
    }
    return first
  }

  /** Its first event is tried now: it is nobody's `next` until it succeeded or failed. */
  begin(lane: string): void {
    this.book(lane).busy = true
  }

  /** Not tried after all. */
  cancel(lane: string): void {
    const book = this.books.get(lane)
    if (book !== undefined) book.busy = false
  }

  /** The first event is done, or a policy settled it: the next one of the lane may follow at once. */
  succeeded(lane: string, id: string, now: number): void {
    const book = this.book(lane)
    book.busy = false
    book.after = id
    book.count--
    book.ready--
    this.events--
    this.removals.push({ lane, id })
    if (book.count === 0) {
      this.close(lane)
      return
    }
    book.attempts = 0
    book.due = now
    book.error = ""
    book.changed = true
  }

  /** The first event failed again. */
  failed(lane: string, { error, due }: Failure): void {
    const book = this.book(lane)
    book.busy = false
    book.attempts++
    book.due = due
    book.error = error
    book.changed = true
  }

  /** All that waits there is given up. */
  drop(lane: string): void {
    const { count } = this.book(lane)
    this.close(lane)
    this.events -= count
    this.parks = this.parks.filter((park) => park.lane !== lane)
    this.removals = this.removals.filter((removal) => removal.lane !== lane)
    this.drops.push(lane)
  }

  private book(lane: string): Book {
    const book = this.books.get(lane)
    if (book === undefined) throw new Error(`${lane} is not parked`)
    return book
  }

  /** Writes that wait for the next commit. */
  get staged(): number {
    return this.parks.length + this.removals.length + this.drops.length
  }

  /** What the next commit holds, or undefined if nothing changed. One is in flight at a time. */
  cut(): Changes | undefined {
    const states = Array.from(this.books.values()).filter((book) => book.changed)
    if (this.staged === 0 && states.length === 0) return undefined
    const changes: Changes = {
      drop: this.drops,
      park: this.parks.map(({ lane, topic, offset, fields }) => ({ lane, topic, offset, fields })),
      remove: this.removals,
      states: states.map(({ lane, attempts, due, since, error }) => ({ lane, attempts, due, since, error }))
    }
    for (const book of states) book.changed = false
    this.sent = this.parks.map(({ book }) => book)
    this.parks = []
    this.removals = []
    this.drops = []
    return changes
  }

  /** The engine has what was cut last. */
  committed(): void {
    for (const book of this.sent) book.ready++
    this.sent = []
  }

  /** Everything that waits aside, for reports. */
  waiting(): ReadonlyArray<Waiting> {
    return Array.from(this.books.values())
  }
}
