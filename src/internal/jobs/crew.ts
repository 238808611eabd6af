/** All job handlers of one worker: one runner for each queue, one bound for what runs at a time, one end. */
import { type Clock, type Context, Effect, type Scope } from "effect"
import type { Durability } from "../../Broker.ts"
import type { EngineError } from "../../Errors.ts"
import type { JobStore } from "../../JobStore.ts"
import type * as Part from "../../Part.ts"
import type { Codec } from "../../Serializer.ts"
import type { Limit } from "../run/limit.ts"
import type { Counts } from "../run/runner.ts"
import { annotated } from "../telemetry/annotating.ts"
import { instrumented } from "../telemetry/running.ts"
import { type Doing, line } from "./doing.ts"
import { QueueRunner } from "./queueRunner.ts"
import type { Handler } from "./spec.ts"
import { tell } from "./telling.ts"

export interface Post {
  readonly handler: Handler
  readonly handle: Handler["handle"]
  /** What the handler needs. */
  readonly context: Context.Context<never>
  readonly counts: Counts
}

export interface Options {
  readonly store: JobStore["Service"]
  readonly serializer: Codec
  readonly clock: Clock.Clock
  readonly posts: ReadonlyArray<Post>
  readonly worker: string
  readonly concurrency: number
  /** Milliseconds. */
  readonly lease: number
  readonly grace: number
  readonly limit: Limit | undefined
  /** How safe a settlement must be. */
  readonly durability: Durability
  readonly onProgress: () => void
}

/** Those of the parts that handle jobs, each with what it needs. */
export const postsOf = <R>(
  parts: ReadonlyArray<Part.Any>,
  servicesOf: (part: Part.Any) => Effect.Effect<Context.Context<never>, never, R>,
  counts: ReadonlyMap<string, Counts>
): Effect.Effect<ReadonlyArray<Post>, never, R | Scope.Scope> =>
  Effect.gen(function* () {
    const posts: Array<Post> = []
    for (const part of parts) {
      const handler = part.job
      if (handler === undefined) continue
      const context = yield* servicesOf(part)
      // A handler has its services, and the running job, from who runs it.
      const prepared = handler.prepare && ((yield* handler.prepare()) as Handler["handle"])
      const handle = instrumented(handler, prepared ?? handler.handle, context)
      const place = { queue: handler.spec.queue, job: handler.name }
      posts.push({ handler, handle, context: annotated(context, place), counts: counts.get(part.name)! })
    }
    return posts
  })

/** What all queues of a worker share. */
export class Shared {
  /** Jobs that may be claimed yet. */
  free: number
  /** Those that run. */
  running = 0
  /** One that twice lost its lease is in hand, alone. */
  alone = false
  readonly total: number
  constructor(total: number) {
    this.total = total
    this.free = total
  }
  get empty(): boolean {
    return this.free === this.total
  }
}

export interface Crew {
  /** Claims and runs, until interrupted. */
  readonly run: Effect.Effect<never>
  /** Take no more, finish what runs within the grace, hand back the rest. */
  readonly drain: Effect.Effect<void>
  /** Nothing is in hand, and all is settled. */
  readonly quiet: () => boolean
  /** Jobs that could be run now are ready, or run elsewhere. */
  readonly behind: Effect.Effect<boolean>
  readonly report: (now: number) => ReadonlyArray<string>
  readonly doing: (now: number) => ReadonlyArray<Doing>
}

export const make = (options: Options): Effect.Effect<Crew, EngineError, Scope.Scope> =>
  Effect.gen(function* () {
    const queues = Map.groupBy(options.posts, ({ handler }) => handler.spec.queue)
    for (const [queue, posts] of queues) {
      yield* tell(
        options.store,
        queue,
        posts.map(({ handler }) => handler.spec)
      )
    }
    const shared = new Shared(options.concurrency)
    const runners = Array.from(queues, ([queue, posts]) => new QueueRunner({ ...options, queue, posts, shared }))
    for (const runner of runners) {
      runner.others = () => {
        for (const other of runners) if (other !== runner) other.poke()
      }
    }
    return {
      run: Effect.andThen(
        Effect.forEach(runners, (runner) => Effect.annotateLogs(runner.run, { queue: runner.options.queue }), {
          concurrency: "unbounded",
          discard: true
        }),
        Effect.never
      ),
      drain: Effect.forEach(runners, (runner) => runner.drain, { concurrency: "unbounded", discard: true }),
      quiet: () => runners.every((runner) => runner.quiet()),
      behind: Effect.map(
        Effect.forEach(runners, (runner) => runner.behind),
        (each) => each.includes(true)
      ),
      report: (now) => runners.flatMap((runner) => runner.doing(now).map(line)),
      doing: (now) => runners.flatMap((runner) => runner.doing(now))
    }
  })
