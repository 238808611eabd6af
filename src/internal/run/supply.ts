/**
 * What was read of a partition and not handed out yet, and in which order it goes out: as it came, or for joins by time.
 * What goes out again, or was never read (see `Partition.give`), comes first.
 */
import type { Entry, Position } from "../../Broker.ts"
import type { Received } from "../record/received.ts"
import { type Ahead, ReadAhead } from "./ahead.ts"
import type { Log } from "./log.ts"
import { Merging } from "./merging.ts"

export interface SupplyOptions {
  readonly logs: ReadonlyArray<Log>
  readonly partition: number
  readonly epoch: bigint
  /** By time. */
  readonly merges: boolean
  /** An entry was done before, but for the bookkeeping. */
  readonly onPassed: () => void
}

export class Supply {
  private readonly ahead = new ReadAhead()
  private readonly merging: Merging | undefined
  /** Goes out before anything else. */
  private first: Array<Received<unknown>> = []
  private readonly options: SupplyOptions
  constructor(options: SupplyOptions) {
    this.options = options
    this.merging = options.merges ? new Merging(options.logs) : undefined
  }

  get events(): number {
    return this.ahead.events + this.first.length + (this.merging?.waiting ?? 0)
  }

  /** Of what was not decoded yet. */
  get bytes(): number {
    return this.ahead.bytes
  }

  /** Nothing goes out before it was looked what there is. */
  get isCurious(): boolean {
    return this.merging?.curious === true
  }

  /** Nothing goes out before what was read. */
  get isPlain(): boolean {
    return this.first.length === 0
  }

  /** Where a read is to look. */
  positions(): ReadonlyArray<Position> {
    const { logs, partition } = this.options
    return (this.merging?.asked() ?? logs).map((log) => ({
      topic: log.topic,
      partition,
      after: log.after,
      entriesRead: log.entriesRead
    }))
  }

  /** False: it cannot be handed out before the read is over. */
  add(log: Log, entries: ReadonlyArray<Entry>): boolean {
    for (const entry of entries) this.ahead.add(log, entry)
    this.merging?.found(log)
    return this.merging === undefined
  }

  /** The read is over. False: nothing comes of that. */
  looked(): boolean {
    this.merging?.looked()
    return this.merging !== undefined && this.events > 0
  }

  /** These go out first. */
  prepend(events: ReadonlyArray<Received<unknown>>): void {
    this.first = [...events, ...this.first]
  }

  /** The next one is of this topic; false: there is none. */
  prefer(topic: string): boolean {
    return this.first.length > 0 || this.ahead.prefer(topic)
  }

  /** The next events, about so many; `asItCame`: not by time. */
  take(most: number, asItCame: boolean): Array<Received<unknown>> {
    const events = this.first
    this.first = []
    const taken =
      this.merging === undefined || asItCame
        ? this.next(events, most)
        : this.merging.take(events, most, this.ahead, (ahead) => this.unpack(ahead))
    this.ahead.compact()
    return taken
  }

  private next(events: Array<Received<unknown>>, most: number): Array<Received<unknown>> {
    while (events.length < most && !this.ahead.isEmpty) {
      const unpacked = this.unpack(this.ahead.take())
      if (events.length === 0 && this.ahead.isEmpty) return unpacked
      for (const event of unpacked) events.push(event)
    }
    return events
  }

  /** The events of an entry that are not done yet. */
  private unpack({ entry, log }: Ahead): Array<Received<unknown>> {
    const { epoch, onPassed, partition } = this.options
    const first = log.first(entry)
    if (first < entry.count) return log.codec.unpack(entry, partition, first, log.origin, epoch)
    log.passed(entry)
    onPassed()
    return []
  }
}
