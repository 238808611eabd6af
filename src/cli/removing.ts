/** `millrace processors remove`, `millrace queues remove`: what is gone for good is forgotten with all that belongs to it. */
import { Effect } from "effect"
import { Argument, Command } from "effect/cli"
import * as Admin from "../Admin.ts"
import { change, dryRun, yes } from "./changing.ts"
import { withEngine } from "./engine.ts"

export const removeProcessor = Command.make(
  "remove",
  {
    processor: Argument.String("processor").pipe(Argument.withDescription("The name of a processor or an agent")),
    dryRun,
    yes
  },
  Effect.fn(function* ({ dryRun, processor, yes }) {
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `forget processor ${processor} with its position and its tables, for good`,
          look: Admin.processor(processor),
          act: Admin.removeProcessor(processor),
          json: () => ({ processor, removed: true }),
          line: () => `${processor} is forgotten; its topics wait for it no more`
        }
      )
    )
  })
).pipe(Command.withDescription("Forget a processor that is stopped, with its position and its tables"))

export const removeQueue = Command.make(
  "remove",
  { queue: Argument.String("queue").pipe(Argument.withDescription("The name of a queue")), dryRun, yes },
  Effect.fn(function* ({ dryRun, queue, yes }) {
    yield* withEngine()(
      change(
        { dryRun, yes },
        {
          what: `forget queue ${queue} with all of its jobs, results and schedules, for good`,
          look: Admin.queue(queue),
          act: Admin.removeQueue(queue),
          json: () => ({ queue, removed: true }),
          line: () => `queue ${queue} is forgotten`
        }
      )
    )
  })
).pipe(Command.withDescription("Forget a queue with its jobs and schedules; what runs goes on, and is not stored"))
