/** Entries that were read and not handed out yet, in the order in which they came. */
import type { Entry } from "../../Broker.ts"
import type { Log } from "./log.ts"

export interface Ahead {
  readonly log: Log
  readonly entry: Entry
}

export class ReadAhead {
  private entries: Array<Ahead> = []
  private head = 0
  events = 0
  bytes = 0

  get isEmpty(): boolean {
    return this.head === this.entries.length
  }

  add(log: Log, entry: Entry): void {
    this.entries.push({ log, entry })
    this.events += entry.count
    this.bytes += size(entry)
  }

  /** Only while it is not empty. */
  take(): Ahead {
    const ahead = this.entries[this.head++]!
    this.events -= ahead.entry.count
    this.bytes -= size(ahead.entry)
    return ahead
  }

  /** Gives room back; to be called after some were taken. */
  compact(): void {
    if (this.isEmpty) this.entries = []
    else if (this.head > 64) this.entries = this.entries.slice(this.head)
    else return
    this.head = 0
  }

  /** The next one is the first of this topic; false: there is none. */
  prefer(topic: string): boolean {
    const at = this.entries.findIndex(({ log }, i) => i >= this.head && log.topic.name === topic)
    if (at > this.head) this.entries.splice(this.head, 0, ...this.entries.splice(at, 1))
    return at >= 0
  }
}

const size = (entry: Entry): number => {
  let bytes = 64
  for (const field of entry.fields) bytes += field.byteLength
  return bytes
}
