/** The topics of a probe: where its runs are asked for by real traffic, and where their signals go. */
import { Schema } from "effect"
import * as Retention from "../../Retention.ts"
import * as Topic from "../../Topic.ts"

const Signal = Schema.Struct({
  /** Of the run. */
  id: Schema.String,
  signal: Schema.String,
  value: Schema.optionalKey(Schema.Json)
})

/** Signals that are kept: who waits for one is reading already. */
const mostSignals = 10_000

const remembered = <A>(make: (probe: string) => A): ((probe: string) => A) => {
  const known = new Map<string, A>()
  return (probe) => {
    let topic = known.get(probe)
    if (topic === undefined) known.set(probe, (topic = make(probe)))
    return topic
  }
}

export const signalsOf = remembered((probe) =>
  Topic.make(`${probe}.signals`, { schema: Signal, partitions: 1, retention: Retention.maxLength(mostSignals) })
)

/** Ids of runs. */
export const runsOf = remembered((probe) => Topic.make(`${probe}.runs`, { schema: Schema.String, partitions: 1 }))
