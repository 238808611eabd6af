/**
 * What `Policy.park` decides about failed events: until when they wait aside, by its schedule, or that the schedule has run
 * out and the next policy is asked. Whoever runs them then puts them there (`aside.ts`).
 */
import { Cause, Effect } from "effect"
import type { Settlement } from "../../Policy.ts"
import { messageOf, tagOf } from "../dead/headers.ts"
import { invalid } from "../names.ts"
import type { Received } from "../record/received.ts"
import { cannotPark } from "./definition.ts"
import type { Parked } from "./parking.ts"
import { Returned } from "./returned.ts"
import type { Setup } from "./runner.ts"
import { delayAside, mayRetry } from "./tries.ts"

/** The last millisecond that a date can name: for schedules that wait until somebody releases the key. */
const never = 8_640_000_000_000_000

type Park = Extract<Settlement, { readonly _tag: "Park" }>

/** The unit of these events is undone. `at`: the place of the policy among the wraps. Undefined: it does not take them. */
export const postpone = (
  setup: Setup,
  events: ReadonlyArray<Received<unknown>>,
  settlement: Park,
  at: number,
  cause: Cause.Cause<unknown>
): Effect.Effect<Parked | undefined> =>
  Effect.suspend(() => {
    const { definition, observer } = setup
    const reason = cannotPark(definition)
    if (reason !== undefined) return Effect.die(invalid(`processor ${definition.name}: Policy.park: ${reason}`))
    // The same bytes decode no better when they come back.
    if (!mayRetry(events)) return Effect.succeed(undefined)
    const last = events[events.length - 1]!
    const isBack = last instanceof Returned
    const { since, steps, rounds } = isBack ? last.waiting : { since: 0, steps: new Map(), rounds: 0 }
    const error = Cause.squash(cause)
    const tag = tagOf(error)
    return Effect.map(
      delayAside(steps, at, settlement.schedule, { rounds, since }, error),
      (delay): Parked | undefined => {
        if (delay === undefined) return undefined
        setup.count("park", tag, events.length)
        if (!isBack) for (const event of events) observer?.settled(definition.name, event, settlement, cause)
        const now = setup.now()
        return {
          _tag: "Parked",
          error: `${tag}: ${messageOf(error)}`,
          now,
          due: Math.min(Math.ceil(now + delay), never),
          attempts: last.attempt,
          capacity: settlement.capacity,
          steps
        }
      }
    )
  })
