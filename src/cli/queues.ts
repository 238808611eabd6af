/** `millrace queues list | pause | resume | flush | redrive | declare | remove`. */
import { Effect } from "effect"
import { Argument, Command } from "effect/cli"
import * as Admin from "../Admin.ts"
import { change, dryRun, yes } from "./changing.ts"
import { declareQueue } from "./declaring.ts"
import { withEngine } from "./engine.ts"
import { list } from "./pages.ts"
import { setPaused, type Verb } from "./pausing.ts"
import { removeQueue } from "./removing.ts"

export const queueName = Argument.String("queue").pipe(Argument.withDescription("The name of a queue"))

const listing = Command.make(
  "list",
  {},
  Effect.fn(function* () {
    const all = yield* withEngine()(Admin.queues)
    yield* list(
      all,
      ["queue", "state", "ready", "delayed", "waiting", "active", "dead", "done"],
      ({ counts, name, paused }) => [
        name,
        paused ? "paused" : "on",
        counts.ready,
        counts.delayed,
        counts.waiting,
        counts.active,
        counts.dead,
        counts.done
      ]
    )
  })
).pipe(Command.withDescription("Queues, and how many jobs are in each state"))

const pausing = (verb: Verb, description: string) =>
  Command.make(verb, { queue: queueName, dryRun }, ({ dryRun, queue }) =>
    setPaused(verb, dryRun, {
      what: `queue ${queue}`,
      where: " on all workers",
      look: Admin.queue(queue),
      pause: Admin.pauseQueue(queue),
      resume: Admin.resumeQueue(queue),
      names: { queue }
    })
  ).pipe(Command.withDescription(description))

const flush = Command.make(
  "flush",
  { queue: queueName, dryRun, yes },
  Effect.fn(function* ({ dryRun, queue, yes }) {
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `forget all jobs of queue ${queue} that are ready, delayed or waiting, for good`,
          look: Admin.queue(queue),
          act: Admin.flushQueue(queue),
          json: (flushed) => ({ queue, flushed }),
          line: (flushed) => `${flushed} jobs of queue ${queue} are forgotten`
        }
      )
    )
  })
).pipe(Command.withDescription("Forget the jobs that wait"))

const redrive = Command.make(
  "redrive",
  { queue: queueName, dryRun, yes },
  Effect.fn(function* ({ dryRun, queue, yes }) {
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `make all dead jobs of queue ${queue} ready again`,
          look: Admin.queue(queue),
          act: Admin.redriveQueue(queue),
          json: (redriven) => ({ queue, redriven }),
          line: (redriven) => `${redriven} dead jobs of queue ${queue} are ready again`
        }
      )
    )
  })
).pipe(Command.withDescription("Make its dead jobs ready again, with all their retries"))

export const queues = Command.make("queues").pipe(
  Command.withDescription("Queues: list, pause, resume, flush, redrive, declare, remove"),
  Command.withSubcommands([
    listing,
    pausing("pause", "Start no job of a queue, on any worker, until it is resumed"),
    pausing("resume", "Let a paused queue go on"),
    flush,
    redrive,
    declareQueue,
    removeQueue
  ])
)
