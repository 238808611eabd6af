/** One claimed job in this worker, from its claim until what became of it is stored. */
import { Context, DateTime, Effect, type Exit, type Fiber } from "effect"
import type { Claimed, JobStore, Outcome, Session } from "../../JobStore.ts"
import type { Codec } from "../../Serializer.ts"
import type { StagedJob } from "../run/unit.ts"
import { codecOf } from "./codecs.ts"
import type { Post } from "./crew.ts"
import { type Answer, Current, type Running } from "./current.ts"
import type { Exchanger } from "./exchanger.ts"
import { lineOf } from "./ledger.ts"
import type { Stop } from "./settle.ts"
import type { Run } from "./spec.ts"
import { Staged } from "./staging.ts"

/** Where the jobs of one exchange run. */
export interface Setting {
  readonly serializer: Codec
  readonly store: JobStore["Service"]
  readonly session: Session
  readonly onEnd: (hand: InHand, exit: Exit.Exit<unknown, unknown>) => void
}

const noHeaders = {}

/** Made for each job and mostly not looked at, so nothing in it is made before it is asked for. */
class Told implements Run {
  readonly id: string
  readonly queue: string
  private readonly job: Claimed
  constructor(job: Claimed, queue: string) {
    this.id = job.id
    this.job = job
    this.queue = queue
  }
  get attempt(): number {
    return this.job.failures + 1
  }
  get enqueuedAt(): DateTime.Utc {
    return DateTime.makeUnsafe(this.job.enqueuedAt)
  }
  get headers(): Readonly<Record<string, string>> {
    return this.job.headers === "" ? noHeaders : JSON.parse(this.job.headers)
  }
  get after(): ReadonlyArray<string> {
    return this.job.after
  }
}

export class InHand implements Running {
  readonly job: Claimed
  readonly post: Post
  /** It came with one of its exchanges, and is settled with another. */
  readonly exchanger: Exchanger
  payload: unknown
  began = 0
  deadline = Number.POSITIVE_INFINITY
  stop: Stop | undefined
  answer: Answer | undefined
  acknowledged = false
  released = false
  onSettled: (() => void) | undefined
  private followUps: Staged | undefined
  private fiber: Fiber.Fiber<unknown, unknown> | undefined
  private readonly setting: Setting
  readonly run: Run
  constructor(job: Claimed, post: Post, exchanger: Exchanger, setting: Setting) {
    this.job = job
    this.post = post
    this.exchanger = exchanger
    this.setting = setting
    this.run = new Told(job, post.handler.spec.queue)
  }

  /** What has ended, or is settled already, stages nothing any more. */
  get stage(): Running["stage"] {
    if (this.ended || this.acknowledged) return undefined
    return (staged: StagedJob) => (this.followUps ??= new Staged(this.job.name)).add(staged)
  }
  private ended = false

  get staged(): Staged | undefined {
    return this.followUps
  }

  progress(value: unknown): Effect.Effect<void> {
    const { serializer, session, store } = this.setting
    return Effect.suspend(() => {
      const { data, format } = codecOf(this.post.handler.spec, "progress", serializer).encode(value)
      const stored =
        typeof data === "string" ? { format, data } : { format, base64: Buffer.from(data).toString("base64") }
      return Effect.ignore(store.progress(session, this.job, JSON.stringify(stored)))
    })
  }

  /** Runs the handler; one that needs not wait has ended when this returns. `now`: milliseconds since 1970. */
  begin(now: number): void {
    this.began = now
    const { context, handle } = this.post
    const services = Context.add(context, Current, this) as Context.Context<never>
    const effect = Effect.scoped(Effect.suspend(() => handle(this.payload, this.run)))
    const fiber = Effect.runForkWith(services)(effect)
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) return this.end(exit)
    this.fiber = fiber
    if (this.stop !== undefined) fiber.interruptUnsafe()
    fiber.addObserver((exit) => this.end(exit))
  }

  private end(exit: Exit.Exit<unknown, unknown>): void {
    this.ended = true
    this.setting.onEnd(this, exit)
  }

  /** False: it does not run, so nothing will end. */
  interrupt(why: Stop | undefined): boolean {
    this.stop ??= why
    if (this.fiber === undefined) return false
    this.fiber.interruptUnsafe()
    return true
  }
}

/** Why it is not to be run at all; else its payload is decoded. */
export const refusalOf = (hand: InHand, now: number, serializer: Codec): Outcome | undefined => {
  const { job } = hand
  const { spec } = hand.post.handler
  if (spec.ttl !== undefined && now - job.enqueuedAt > spec.ttl) {
    const entry = lineOf({ at: now, exit: "Expired", message: `older than ${spec.ttl} ms` })
    return { _tag: "Dead", reason: "Expired", entry }
  }
  try {
    hand.payload = codecOf(spec, "payload", serializer).decode(job.format, job.payload, job.id)
    return undefined
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return { _tag: "Dead", reason: "Undecodable", entry: lineOf({ at: now, exit: "Undecodable", message }) }
  }
}

/** A job that is dead waits for somebody to look at it. */
export const tellDead = (
  { job, post }: InHand,
  { entry, reason }: Extract<Outcome, { readonly _tag: "Dead" }>
): void => {
  const { message } = JSON.parse(entry)
  const told = Effect.logWarning(`a job is dead; look at it with Queue.peek, put it back with Queue.redrive`, message)
  const annotations = { job: job.name, id: job.id, queue: post.handler.spec.queue, reason }
  Effect.runForkWith(post.context)(Effect.annotateLogs(told, annotations))
}
