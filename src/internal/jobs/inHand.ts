/** One claimed job in this worker, from its claim until what became of it is stored. */
import { Context, Effect, type Exit, type Fiber } from "effect"
import type { Claimed, JobStore, Session } from "../../JobStore.ts"
import type { Codec } from "../../Serializer.ts"
import { codecOf } from "./codecs.ts"
import type { Post } from "./crew.ts"
import { type Answer, Current, type Running } from "./current.ts"
import type { Stop } from "./settle.ts"
import type { Told } from "./spec.ts"

interface Run {
  readonly queue: string
  readonly serializer: Codec
  readonly store: JobStore["Service"]
  readonly session: Session
  /** Milliseconds since 1970. */
  readonly began: number
  readonly onEnd: (exit: Exit.Exit<unknown, unknown>) => void
}

const noHeaders = {}

export class InHand implements Running {
  readonly job: Claimed
  readonly post: Post
  payload: unknown
  began = 0
  deadline = Number.POSITIVE_INFINITY
  stop: Stop | undefined
  answer: Answer | undefined
  acknowledged = false
  onSettled: ((counted: boolean) => void) | undefined
  private fiber: Fiber.Fiber<unknown, unknown> | undefined
  private run: Run | undefined
  constructor(job: Claimed, post: Post) {
    this.job = job
    this.post = post
  }

  get told(): Told {
    const { after, enqueuedAt, failures, headers, id } = this.job
    return {
      id,
      attempt: failures + 1,
      queue: this.run!.queue,
      enqueuedAt,
      headers: headers === "" ? noHeaders : JSON.parse(headers),
      after
    }
  }

  progress(value: unknown): Effect.Effect<void> {
    const { serializer, session, store } = this.run!
    return Effect.suspend(() => {
      const { data, format } = codecOf(this.post.handler.spec, "progress", serializer).encode(value)
      const stored =
        typeof data === "string" ? { format, data } : { format, base64: Buffer.from(data).toString("base64") }
      return Effect.ignore(store.progress(session, this.job, JSON.stringify(stored)))
    })
  }

  /** Runs the handler; one that needs not wait has ended when this returns. */
  begin(run: Run): void {
    this.run = run
    this.began = run.began
    const { context, handle } = this.post
    const services = Context.add(context, Current, this) as Context.Context<never>
    const effect = Effect.scoped(Effect.suspend(() => handle(this.payload, this)))
    const fiber = Effect.runForkWith(services)(effect)
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return run.onEnd(exit)
    this.fiber = fiber
    if (this.stop !== undefined) fiber.interruptUnsafe()
    fiber.addObserver(run.onEnd)
  }

  /** False: it does not run, so nothing will end. */
  interrupt(why: Stop | undefined): boolean {
    this.stop ??= why
    if (this.fiber === undefined) return false
    this.fiber.interruptUnsafe()
    return true
  }
}
