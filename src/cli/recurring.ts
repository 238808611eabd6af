/** `millrace recurring list | pause | resume | remove`: jobs that recur, which are data beside their queue. */
import { Effect } from "effect"
import { Argument, Command } from "effect/cli"
import * as Admin from "../Admin.ts"
import { change, dryRun, yes } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { list } from "./pages.ts"
import { setPaused, type Verb } from "./pausing.ts"
import { queueName } from "./queues.ts"

const scheduleName = Argument.String("name").pipe(Argument.withDescription("The name that it was set under"))

const listing = Command.make(
  "list",
  {},
  Effect.fn(function* () {
    const all = yield* withEngine()(Admin.jobSchedules)
    yield* list(all, ["queue", "name", "job", "when", "state", "last", "next"], (one) => [
      one.queue,
      one.name,
      one.job,
      one.every === null ? `${one.expression} (${one.timezone})` : `every ${one.every / 1_000} s`,
      one.paused ? "paused" : "on",
      one.last ?? undefined,
      one.next[0]
    ])
  })
).pipe(Command.withDescription("Jobs that recur, with their last and next slots"))

const pausing = (verb: Verb, description: string) =>
  Command.make(verb, { queue: queueName, name: scheduleName, dryRun }, ({ dryRun, name, queue }) =>
    setPaused(verb, dryRun, {
      what: `${name} of queue ${queue}`,
      look: Admin.jobSchedule(queue, name),
      pause: Admin.pauseSchedule(queue, name),
      resume: Admin.resumeSchedule(queue, name),
      names: { queue, name }
    })
  ).pipe(Command.withDescription(description))

const remove = Command.make(
  "remove",
  { queue: queueName, name: scheduleName, dryRun, yes },
  Effect.fn(function* ({ dryRun, name: schedule, queue, yes }) {
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `forget ${schedule} of queue ${queue}, for good`,
          look: Admin.jobSchedule(queue, schedule),
          act: Admin.removeSchedule(queue, schedule),
          json: () => ({ queue, name: schedule, removed: true }),
          line: () => `${schedule} of queue ${queue} is forgotten`
        }
      )
    )
  })
).pipe(Command.withDescription("Forget one; the jobs that it has enqueued stay"))

export const recurring = Command.make("recurring").pipe(
  Command.withDescription("Jobs that recur: list, pause, resume, remove"),
  Command.withSubcommands([
    listing,
    pausing("pause", "Enqueue no more of it until it is resumed"),
    pausing("resume", "Go on with the next slot"),
    remove
  ])
)
