/**
 * How late the event loop of this process is: between two looks at it, at least a second apart, from the first look on.
 * There is one loop in a process, so there is one monitor.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { Clock, Context } from "effect"
import * as Metrics from "../../Metrics.ts"
import { reading } from "./series.ts"

/** Milliseconds between two samples; a sample is the time from the one before. */
const resolution = 10
const quantiles = [0.5, 0.99, 1]

let monitor: ReturnType<typeof monitorEventLoopDelay> | undefined
let looked = 0
let seconds: ReadonlyArray<number> = quantiles.map(() => 0)

const look = (now: number): void => {
  if (monitor === undefined) {
    monitor = monitorEventLoopDelay({ resolution })
    monitor.enable()
    looked = now
  }
  if (Math.abs(now - looked) < 1_000) return
  looked = now
  const { count, max } = monitor
  const delay = (nanos: number): number => (count === 0 ? 0 : Math.max(0, nanos / 1e9 - resolution / 1_000))
  const histogram = monitor
  seconds = quantiles.map((quantile) => delay(quantile === 1 ? max : histogram.percentile(quantile * 100)))
  monitor.reset()
}

export const observeLoop = (context: Context.Context<never>): void => {
  const clock = Context.get(context, Clock.Clock)
  quantiles.forEach((quantile, i) => {
    reading(Metrics.loopDelay, { quantile: String(quantile) }, context, () => {
      look(clock.currentTimeMillisUnsafe())
      return seconds[i]!
    })
  })
}
