/**
 * Hands out events of several topics in the order of their times, for joins: among those that were read, the lower time
 * goes first. The order within a topic stays as it is, so an event that came late to its topic holds up those behind it.
 */
import type { Received } from "../record/received.ts"
import type { Ahead, ReadAhead } from "./ahead.ts"
import type { Log } from "./log.ts"

interface Queue {
  readonly log: Log
  events: ReadonlyArray<Received<unknown>>
  head: number
}

export class Merging {
  private readonly queues: ReadonlyArray<Queue>
  /** Unpacked, and not handed out. */
  waiting = 0
  constructor(logs: ReadonlyArray<Log>) {
    this.queues = logs.map((log) => ({ log, events: [], head: 0 }))
  }

  /** Appends to `events` until there are `most` of them. `unpack` gives the events of an entry that are not done yet. */
  take(
    events: Array<Received<unknown>>,
    most: number,
    ahead: ReadAhead,
    unpack: (ahead: Ahead) => ReadonlyArray<Received<unknown>>
  ): void {
    while (events.length < most) {
      let first: Queue | undefined
      for (const queue of this.queues) {
        while (queue.head === queue.events.length && ahead.prefer(queue.log.topic.name)) {
          queue.events = unpack(ahead.take())
          queue.head = 0
          this.waiting += queue.events.length
        }
        if (queue.head === queue.events.length) continue
        if (first === undefined || timeOf(queue) < timeOf(first)) first = queue
      }
      if (first === undefined) return
      events.push(first.events[first.head++]!)
      this.waiting--
    }
  }
}

const timeOf = ({ events, head }: Queue): number => {
  const { index, source } = events[head]!
  return source.time(index)
}
