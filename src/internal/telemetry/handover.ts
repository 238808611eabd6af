/** A group of partitions whose comings and goings are counted, timed and told to hooks. */
import { Clock, Context, Effect, Exit, Metric } from "effect"
import * as Metrics from "../../Metrics.ts"
import type { Rebalanced } from "../../Sensor.ts"
import type { Group } from "../run/group.ts"
import { senseOf } from "./sensing.ts"
import { timing } from "./series.ts"

export const metered = (group: Group, context: Context.Context<never>): Group => {
  const processor = group.definition.name
  const clock = Context.get(context, Clock.Clock)
  const sense = senseOf(context, "rebalance")
  const of = (change: Rebalanced["change"]) => {
    const attributes = { processor, change }
    const count = Metric.withAttributes(Metrics.handovers, attributes)
    const time = timing(Metrics.handoverSeconds, attributes, context)
    return <A, E>(partition: number, isDone: (value: A) => boolean, step: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.suspend(() => {
        const since = clock.currentTimeNanosUnsafe()
        const end = sense?.({ change, processor, partition })
        return Effect.onExit(step, (exit) => {
          if (Exit.isSuccess(exit) && isDone(exit.value)) {
            count.updateUnsafe(1, context)
            time.add(clock.currentTimeNanosUnsafe() - since)
          }
          end?.(exit)
          return Effect.void
        })
      })
  }
  const claimed = of("claimed")
  const released = of("released")
  const runs = (partition: number): boolean => group.epochs.has(partition)
  return {
    ...group,
    // Refused, or put aside at once: nothing came.
    start: (partition, epoch, paused) =>
      claimed(partition, () => runs(partition), group.start(partition, epoch, paused)),
    stop: (partition, grace) =>
      Effect.suspend(() =>
        runs(partition) ? released(partition, () => true, group.stop(partition, grace)) : Effect.void
      ),
    drop: (partition) =>
      Effect.suspend(() => (runs(partition) ? released(partition, () => true, group.drop(partition)) : Effect.void))
  }
}
