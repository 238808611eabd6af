/**
 * Schedules of the leader that the leader does not have: one worker leads for all, so it runs those that it was given, and
 * what only others have waits until one of them leads. That is nearly always a mistake, or a release that is being rolled
 * out, so the others say so.
 */
import { Effect, Option, Schema } from "effect"
import { type Coordinator, leaderGroup } from "../../Coordinator.ts"

/** By then a leader that has just come has said what it does. */
const firstLook = "1 second"
const laterLooks = "30 seconds"

const decode = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Struct({ schedules: Schema.Array(Schema.Struct({ name: Schema.String })) }))
)

/** Warns of each of these names, once for each leader that does not have it. */
export const unled = (
  coordinator: Coordinator["Service"],
  member: string,
  names: ReadonlyArray<string>
): Effect.Effect<never> => {
  const told = new Set<string>()
  const look = Effect.gen(function* () {
    const leader = (yield* coordinator.group(leaderGroup)).owners[0]?.member
    if (leader === undefined || leader === member) return
    const said = (yield* coordinator.reports()).find((report) => report.member === leader)
    const known = Option.getOrUndefined(said === undefined ? Option.none() : decode(said.text))
    if (known === undefined) return
    for (const name of names) {
      if (known.schedules.some((one) => one.name === name) || told.has(`${leader} ${name}`)) continue
      told.add(`${leader} ${name}`)
      yield* Effect.logWarning(
        `schedule ${name} does not run: ${leader} leads and does not have it; give all workers the same schedules of the leader`
      )
    }
  })
  // An engine that is away is asked again the next time.
  const quietly = Effect.ignore(look)
  return Effect.andThen(
    Effect.andThen(Effect.sleep(firstLook), quietly),
    Effect.forever(Effect.andThen(Effect.sleep(laterLooks), quietly))
  )
}
