/**
 * An event that was set aside, as it comes back: the first of its lane, made anew from what is stored, with the place it
 * was read from and the attempts so far. It is in no window, since the offset has long passed it; what it changes goes
 * into the commit that removes it from its lane.
 */
import { Effect } from "effect"
import type { Broker, Entry, Fence, Parked } from "../../Broker.ts"
import { DecodeError } from "../../Errors.ts"
import { untilAnswered } from "../backoff.ts"
import { parseOffset } from "../entryId.ts"
import { Received } from "../record/received.ts"
import type { Log } from "./log.ts"
import type { Waiting } from "./parking.ts"
import type { Changes } from "./unit.ts"

export class Returned extends Received<unknown> {
  readonly waiting: Waiting
  /** What names it when it is removed. */
  readonly id: string
  /** What its unit of work changed. */
  readonly changes: Array<Changes> = []
  private readonly place: string
  constructor(event: Received<unknown>, parked: Parked, waiting: Waiting) {
    super(event.value, event.source, event.index, event.failure && moved(event.failure, parked.offset))
    this.id = parked.id
    this.place = parked.offset
    this.waiting = waiting
    this.attempt = waiting.attempts + 1
  }
  /** Where it was read from: there it may have been one of a batch. */
  override get offset(): string {
    return this.place
  }
}

const moved = ({ bytes, detail, partition, reason, topic }: DecodeError, offset: string): DecodeError =>
  new DecodeError({ topic, partition, offset, reason, detail, bytes })

/** Reads the first event of a lane; waits while the engine is away. Undefined: the engine has lost it. */
export const retriever =
  (options: {
    readonly broker: Pick<Broker["Service"], "parked">
    readonly processor: string
    readonly partition: number
    readonly fence: Fence
    readonly logs: ReadonlyArray<Log>
  }) =>
  (waiting: Waiting): Effect.Effect<Returned | undefined> => {
    const { broker, fence, logs, partition, processor } = options
    const { after, lane } = waiting
    const read = broker.parked({ processor, partition, lane, after, count: 1 })
    return Effect.map(untilAnswered(read), ({ events: [parked] }) => {
      if (parked === undefined) return undefined
      const log = logs.find((log) => log.topic.name === parked.topic)
      if (log === undefined) throw new Error(gone(processor, partition, parked))
      const entry: Entry = { id: parseOffset(parked.offset)!.id, count: 1, fields: parked.fields }
      const [event] = log.codec.unpack(entry, partition, 0, log.origin, fence.epoch)
      return new Returned(event!, parked, waiting)
    })
  }

const gone = (processor: string, partition: number, { offset, topic }: Parked): string =>
  `an event of ${topic} (${offset}) waits aside in partition ${partition} of ${processor}, which does not read that topic ` +
  `any more: give it back to the processor, or drop the event with Processor.skip`
