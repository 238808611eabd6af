/** What a processor's partitions need for windows, if one of its tables has any: logs that keep time, and what is due. */
import { type Context, Effect } from "effect"
import type { Broker, Claim } from "../../Broker.ts"
import type { Codec } from "../../Serializer.ts"
import type { TableStore } from "../../TableStore.ts"
import { codecOf } from "../record/record.ts"
import { Books } from "./books.ts"
import type { Definition } from "./definition.ts"
import { Log } from "./log.ts"
import type { Partition } from "./partition.ts"
import { ticking } from "./ticking.ts"
import { EngineClock, TimedLog } from "./timedLog.ts"
import { Windows } from "./windows.ts"

export interface Options {
  readonly definition: Definition
  readonly broker: Context.Service.Shape<typeof Broker>
  readonly tables: Context.Service.Shape<typeof TableStore>
  readonly serializer: Codec
  /** Milliseconds since 1970, in this process. */
  readonly now: () => number
  /** How many events came too late for a window, so far. */
  readonly onLate: (events: number) => void
  /** What was due of a partition is done. */
  readonly onDone: () => void
}

export const make = ({ broker, definition, now, onDone, onLate, serializer, tables }: Options) => {
  const { topics } = definition
  const isWindowed = definition.tables.some(
    ({ definition: { holding, windowed } }) => holding !== undefined || windowed !== undefined
  )
  let late = 0

  const open = (number: number, claimed: Extract<Claim, { readonly _tag: "Claimed" }>) => {
    if (!isWindowed) {
      const logs = topics.map((topic) => new Log(topic, codecOf(topic, serializer), new Books(), claimed))
      return { logs, windows: undefined }
    }
    const clock = new EngineClock(now)
    const logs = topics.map((topic) => new TimedLog(topic, codecOf(topic, serializer), new Books(), claimed, clock))
    const windows = new Windows({
      definitions: definition.tables.map((table) => table.definition),
      logs,
      clock,
      claimed,
      due: (table, most) => tables.windowsDue(definition.name, table, number, most),
      onLate: () => onLate(++late),
      onDone
    })
    return { logs, windows }
  }

  return {
    /** The logs of a partition, and its windows. */
    open,
    /** Time goes on in it where no event comes. */
    ticking: (partition: Partition): Effect.Effect<never> => {
      const { windows } = partition
      if (windows === undefined) return Effect.never
      return ticking({
        partition,
        windows,
        last: ({ topic }) => Effect.map(broker.inspect(topic, [partition.partition]), ([info]) => info?.last ?? "0-0"),
        now,
        late: () => late,
        warn: (events) =>
          Effect.logWarning(
            `${events} events came too late for a window, which left them out, or for a join, which may have let go of ` +
              "what they belong to: give it more lateness, if they matter"
          )
      })
    }
  }
}
