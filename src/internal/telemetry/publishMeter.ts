/** What one sender measures, once per call that stores what was published; and the hooks of such calls. */
import { Clock, Context, Exit } from "effect"
import type { Append } from "../../Broker.ts"
import * as Metrics from "../../Metrics.ts"
import { senseOf } from "./sensing.ts"
import { timing, total } from "./series.ts"

/** What of a call goes to one partition. */
interface Flight {
  readonly append: Pick<Append, "partition">
  readonly events: number
}

export interface PublishMeter {
  /** Counted by the sender, as it hears of them. */
  published: number
  /** A call begins; what this gives is called when it is over. */
  readonly sends: (flights: ReadonlyArray<Flight>) => (exit: Exit.Exit<unknown, unknown>) => void
}

/** Senders live as long as their engine, so their totals have no end of their own. */
export const make = (topic: string, context: Context.Context<never>): PublishMeter => {
  const clock = Context.get(context, Clock.Clock)
  const sense = senseOf(context, "publish")
  const attributes = { topic }
  let failures = 0
  const time = timing(Metrics.appendSeconds, attributes, context)
  const meter: PublishMeter = {
    published: 0,
    sends: (flights) => {
      const since = clock.currentTimeNanosUnsafe()
      const end = sense?.({
        topic,
        partitions: flights.map(({ append }) => append.partition),
        events: flights.reduce((sum, { events }) => sum + events, 0)
      })
      return (exit) => {
        time.add(clock.currentTimeNanosUnsafe() - since)
        if (Exit.isFailure(exit)) failures++
        end?.(exit)
      }
    }
  }
  total(Metrics.published, attributes, context, () => meter.published)
  total(Metrics.appendFailures, attributes, context, () => failures)
  return meter
}
