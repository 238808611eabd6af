/** `millrace jobs list | show | retry | cancel`. */
import { Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Admin from "../Admin.ts"
import { change, dryRun, yes } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { show, toJson } from "./output.ts"
import { limit, listPages } from "./pages.ts"
import { queueName } from "./queues.ts"

const id = Argument.String("id").pipe(Argument.withDescription("The id of a job"))

const listing = Command.make(
  "list",
  {
    queue: queueName,
    state: Flag.Literals("state", Admin.State.literals).pipe(
      Flag.withDescription("Jobs in this state"),
      Flag.withDefault("ready")
    ),
    name: Flag.String("name").pipe(Flag.withDescription("Only jobs of this name"), Flag.optional),
    limit
  },
  Effect.fn(function* ({ limit, name, queue, state }) {
    const options = { name: Option.getOrUndefined(name) }
    yield* withEngine()(
      listPages(
        limit,
        (cursor) => Admin.jobs(queue, state, { ...options, cursor }),
        ["id", "job", "priority", "failures", "at", "error"],
        (job) => [job.id, job.name, job.priority, job.failures, job.at, job.error ?? job.reason ?? undefined]
      )
    )
  })
).pipe(Command.withDescription("Jobs of a queue in one state"))

const one = Command.make(
  "show",
  { queue: queueName, id },
  Effect.fn(function* ({ id, queue }) {
    const job = yield* withEngine()(Admin.job(queue, id))
    const { payload } = job
    yield* show(job, () => [
      `job        ${job.name} (${job.id}) of queue ${job.queue}`,
      `state      ${job.state}${job.reason === null ? "" : `: ${job.reason}`} at ${job.at}`,
      `enqueued   ${job.enqueuedAt}, priority ${job.priority}`,
      `failures   ${job.failures}, leases lost ${job.lost}`,
      `progress   ${job.progress ?? "-"}`,
      `${job.state === "done" ? "result " : "payload"}    ${payload.problem ?? toJson(payload.value)}`,
      ...job.history.map(({ at, exit, message }) => `attempt    ${at} ${exit}${message === null ? "" : `: ${message}`}`)
    ])
  })
).pipe(Command.withDescription("One job with its history and payload"))

const retry = Command.make(
  "retry",
  { queue: queueName, id, dryRun },
  Effect.fn(function* ({ dryRun, id, queue }) {
    yield* withEngine()(
      change(
        { dryRun },
        {
          what: `make job ${id} of queue ${queue} ready now`,
          look: Admin.job(queue, id),
          act: Admin.retryJob(queue, id),
          json: () => ({ queue, id, ready: true }),
          line: () => `job ${id} of queue ${queue} is ready`
        }
      )
    )
  })
).pipe(Command.withDescription("Make a dead or a delayed job ready now"))

const cancel = Command.make(
  "cancel",
  { queue: queueName, id, dryRun, yes },
  Effect.fn(function* ({ dryRun, id, queue, yes }) {
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `cancel job ${id} of queue ${queue}`,
          look: Admin.job(queue, id),
          act: Admin.cancelJob(queue, id),
          json: () => ({ queue, id, cancelled: true }),
          line: () => `job ${id} of queue ${queue} is cancelled; one that runs is told`
        }
      )
    )
  })
).pipe(Command.withDescription("Cancel a job that waits or runs"))

export const jobs = Command.make("jobs").pipe(
  Command.withDescription("Jobs: list, show, retry, cancel"),
  Command.withSubcommands([listing, one, retry, cancel])
)
