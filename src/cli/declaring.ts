/** `millrace queues declare`: what holds for a whole queue, which may be there already or not. */
import { Duration, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Admin from "../Admin.ts"
import { isName } from "../internal/names.ts"
import { change, dryRun, yes } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { WrongUse } from "./failures.ts"

/** Milliseconds of a duration as it is written, such as "1 minute". */
const millisOf = (flag: string, given: string): Effect.Effect<number, WrongUse> => {
  const millis = Option.map(Duration.fromInput(given as Duration.Input), Duration.toMillis)
  return Option.isSome(millis) && Number.isFinite(millis.value) && millis.value >= 1
    ? Effect.succeed(Math.ceil(millis.value))
    : Effect.fail(
        new WrongUse({
          message: `${flag} is ${JSON.stringify(given)}: give a duration, such as "30 seconds" or "7 days"`
        })
      )
}

const atLeast = (name: string, least: number, description: string) =>
  Flag.Int(name).pipe(
    Flag.withDescription(description),
    Flag.filter(
      (count) => count >= least,
      (count) => `--${name} is ${count}: give a number of at least ${least}`
    ),
    Flag.optional
  )

const described = ({ keepDead, keepDone, limit }: Admin.QueueSettings): string => {
  const span = (millis: number) => Duration.format(Duration.millis(millis))
  const dead = [
    ...(keepDead?.count === undefined ? [] : [`${keepDead.count} at most`]),
    ...(keepDead?.millis === undefined ? [] : [`for ${span(keepDead.millis)}`])
  ]
  return [
    limit === undefined ? "no limit" : `at most ${limit.count} jobs in ${span(limit.millis)}`,
    `finished jobs kept: ${keepDone ?? "the default"}`,
    `dead jobs kept: ${dead.length === 0 ? "for ever" : dead.join(", ")}`
  ].join("; ")
}

export const declareQueue = Command.make(
  "declare",
  {
    queue: Argument.String("queue").pipe(
      Argument.withDescription("The name of a queue, also of one that is not there yet")
    ),
    limit: atLeast("limit", 1, "Jobs that are given out in a time, by all workers together"),
    per: Flag.String("per").pipe(
      Flag.withMetavar("duration"),
      Flag.withDescription("The time of the limit"),
      Flag.withDefault("1 second")
    ),
    keepDone: atLeast("keep-done", 0, "Finished jobs that are kept at most"),
    keepDead: atLeast("keep-dead", 1, "Dead jobs that are kept at most"),
    keepDeadFor: Flag.String("keep-dead-for").pipe(
      Flag.withMetavar("duration"),
      Flag.withDescription("How long dead jobs are kept"),
      Flag.optional
    ),
    dryRun,
    yes
  },
  Effect.fn(function* ({ dryRun, keepDead, keepDeadFor, keepDone, limit, per, queue, yes }) {
    if (!isName(queue)) return yield* new WrongUse({ message: `${JSON.stringify(queue)} is no name of a queue` })
    const millis = yield* millisOf("--per", per)
    const age = Option.isNone(keepDeadFor) ? undefined : yield* millisOf("--keep-dead-for", keepDeadFor.value)
    const count = Option.getOrUndefined(keepDead)
    const settings: Admin.QueueSettings = {
      ...(Option.isSome(limit) ? { limit: { count: limit.value, millis } } : {}),
      ...(Option.isSome(keepDone) ? { keepDone: keepDone.value } : {}),
      ...(count === undefined && age === undefined ? {} : { keepDead: { count, millis: age } })
    }
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `replace the settings of queue ${queue} by: ${described(settings)}`,
          look: Effect.void,
          act: Admin.declareQueue(queue, settings),
          json: () => ({ queue, ...settings }),
          line: () => `queue ${queue}: ${described(settings)}`
        }
      )
    )
  })
).pipe(Command.withDescription("Say what holds for a whole queue; what is left out has its default again"))
