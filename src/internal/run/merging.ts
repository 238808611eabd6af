/**
 * Hands out events of several topics in the order of their times, for joins. Nothing goes out before it is known what each
 * topic has next: an event of it was read, or the last read found nothing more (`dry`). Who does not know asks for a read
 * that does not wait (`curious`). The order within a topic stays: an event that came late to it holds up those behind it.
 */
import type { Received } from "../record/received.ts"
import type { Ahead, ReadAhead } from "./ahead.ts"
import type { Log } from "./log.ts"

interface Queue {
  readonly log: Log
  events: ReadonlyArray<Received<unknown>>
  head: number
  /** The last read that looked for more has found nothing. */
  dry: boolean
  /** The read that is under way looks at it, and has found something. */
  asked: boolean
  fresh: boolean
}

export class Merging {
  private readonly queues: ReadonlyArray<Queue>
  /** Unpacked, and not handed out. */
  waiting = 0
  /** Nothing more goes out before somebody has looked. */
  curious = false
  constructor(logs: ReadonlyArray<Log>) {
    this.queues = logs.map((log) => ({ log, events: [], head: 0, dry: false, asked: false, fresh: false }))
  }

  /** What a read is to look at: all logs, or those of which somebody has to know now what they have next. */
  asked(): ReadonlyArray<Log> {
    for (const queue of this.queues) queue.asked = !this.curious || (isEmpty(queue) && !queue.dry)
    return this.queues.flatMap(({ asked, log }) => (asked ? [log] : []))
  }

  /** Something of this log was read. */
  found(log: Log): void {
    for (const queue of this.queues) if (queue.log === log) queue.fresh = true
  }

  /** The read is over. */
  looked(): void {
    this.curious = false
    for (const queue of this.queues) {
      if (queue.asked) queue.dry = !queue.fresh
      queue.fresh = false
    }
  }

  /** Appends to `events` until there are `most` of them. `unpack` gives the events of an entry that are not done yet. */
  take(
    events: Array<Received<unknown>>,
    most: number,
    ahead: ReadAhead,
    unpack: (ahead: Ahead) => ReadonlyArray<Received<unknown>>
  ): Array<Received<unknown>> {
    while (events.length < most) {
      let first: Queue | undefined
      let knows = true
      for (const queue of this.queues) {
        while (isEmpty(queue) && ahead.prefer(queue.log.topic.name)) {
          queue.events = unpack(ahead.take())
          queue.head = 0
          this.waiting += queue.events.length
        }
        if (isEmpty(queue)) knows &&= queue.dry
        else if (first === undefined || timeOf(queue) < timeOf(first)) first = queue
      }
      if (first === undefined) return events
      if (!knows) {
        this.curious = true
        return events
      }
      events.push(first.events[first.head++]!)
      this.waiting--
    }
    return events
  }
}

const isEmpty = ({ events, head }: Queue): boolean => head === events.length

const timeOf = ({ events, head }: Queue): number => {
  const { index, source } = events[head]!
  return source.time(index)
}
