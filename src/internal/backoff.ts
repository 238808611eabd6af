/** How long to wait before asking an engine again: twice as long each time, up to a most, never all at the same moment. */
import { type Duration, Schedule } from "effect"

export const backoff = (first: Duration.Input, most: Duration.Input) =>
  Schedule.min([Schedule.exponential(first), Schedule.spaced(most)]).pipe(Schedule.jittered)
