/**
 * Asking: all questions of a process to one engine share one inbox for each shard, and one blocking read on it, which runs
 * only while an answer is waited for. What a question leaves behind when it ends, in whatever way, is nothing here, and an
 * inbox in the engine that expires.
 *
 * Gotcha: the inbox is there before the request is sent, since a reply to an inbox that is not there is dropped.
 */
import { randomUUID } from "node:crypto"
import { Context, Effect, type Fiber, Semaphore, Tracer } from "effect"
import { Broker, type Entry } from "../../Broker.ts"
import { AgentDefect, type DecodeError, type EngineError } from "../../Errors.ts"
import { type Codec, Serializer } from "../../Serializer.ts"
import { forAWhile } from "../backoff.ts"
import { type Failure, Item, type Sender } from "../publish/sender.ts"
import { text } from "../record/received.ts"
import type { Encoded } from "../record/record.ts"
import { codecOf } from "../record/record.ts"
import { nobody } from "../tail.ts"
import { type Contract, defects, replyFields } from "./contract.ts"

/** Questions that may be open at once; it bounds the inbox. */
const mostOpen = 1_000

/** Replies that were read are removed when there are so many, which saves a command for each. */
const clearFrom = 100

/** How long one read waits; between two of them the inbox is prolonged. */
const readMillis = 10_000

type Answer = Effect.Effect<unknown, unknown>

/** One question that waits for its answer. */
interface Open {
  readonly contract: Contract
  readonly serializer: Codec
  readonly inbox: Inbox
  readonly resume: (answer: Answer) => void
}

interface Inbox {
  readonly shard: number
  open: number
  after: string
  /** Replies that were read and are still there. */
  read: number
  reading: Fiber.Fiber<void> | undefined
}

/** A request on its way: its place does not matter, its failure does. */
class Request extends Item {
  readonly events: readonly [Encoded]
  readonly size = 1
  private readonly onFailure: (failure: Failure) => void
  constructor(event: Encoded, onFailure: (failure: Failure) => void) {
    super(undefined, undefined)
    this.events = [event]
    this.onFailure = onFailure
  }
  place(): void {}
  settle(failure: Failure | undefined): void {
    if (failure !== undefined) this.onFailure(failure)
  }
}

export class Asker {
  /** Of the inbox; a new one for each start. */
  readonly id: string = randomUUID()
  readonly permits: Semaphore.Semaphore = Semaphore.makeUnsafe(mostOpen)
  private number = 0
  private readonly waiting = new Map<string, Open>()
  private readonly inboxes: Array<Inbox | undefined> = []
  private readonly broker: Broker["Service"]
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  constructor(broker: Broker["Service"], fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.broker = broker
    this.fork = fork
  }

  readonly next = (): string => String(++this.number)

  private inboxOf(shard: number): Inbox {
    return (this.inboxes[shard] ??= {
      shard,
      open: 0,
      after: "0-0",
      read: 0,
      reading: undefined
    })
  }

  /** The inbox of this shard is there. */
  opened(shard: number): Effect.Effect<void, EngineError> {
    const open = Effect.suspend(() => this.broker.openInbox(this.id, shard))
    // Nearly always it is there: what stands around one that is not is made only then.
    return Effect.catch(open, (error) =>
      isAway(error) ? Effect.retry(open, { schedule: forAWhile, while: isAway }) : Effect.fail(error)
    )
  }

  /** Send a request and wait for its answer; interrupted, it is taken back if it is not on its way yet. */
  answered(
    contract: Contract,
    serializer: Codec,
    shard: number,
    id: string,
    event: Encoded,
    sender: Pick<Sender, "submit" | "abandon">
  ): Effect.Effect<unknown, unknown> {
    return Effect.callback<unknown, unknown>((resume) => {
      const inbox = this.inboxOf(shard)
      this.waiting.set(id, { contract, serializer, inbox, resume })
      inbox.open++
      const request = new Request(event, (failure) => {
        this.settle(id, Effect.fail(failure))
        this.rest(inbox)
      })
      sender.submit(event.partition, request, true)
      // The request is on its way first: it takes longer to be answered than to be listened for.
      queueMicrotask(() => this.listen(inbox))
      return Effect.sync(() => {
        sender.abandon(event.partition, request)
        this.forget(id)
        this.rest(inbox)
      })
    })
  }

  private forget(id: string): Open | undefined {
    const open = this.waiting.get(id)
    if (open === undefined) return undefined
    this.waiting.delete(id)
    open.inbox.open--
    return open
  }

  /** Nobody waits there any more: neither does the read. */
  private rest(inbox: Inbox): void {
    if (inbox.open === 0) inbox.reading?.interruptUnsafe()
  }

  private settle(id: string, answer: Answer): void {
    this.forget(id)?.resume(answer)
  }

  private listen(inbox: Inbox): void {
    if (inbox.reading !== undefined || inbox.open === 0) return
    const fiber = this.fork(this.read(inbox))
    inbox.reading = fiber
    fiber.addObserver(() => {
      inbox.reading = undefined
      this.listen(inbox)
    })
  }

  private read(inbox: Inbox): Effect.Effect<void> {
    const { shard } = inbox
    const once: Effect.Effect<void, EngineError> = Effect.suspend(() => {
      if (inbox.open === 0) return Effect.void
      const clear = inbox.read >= clearFrom
      const request = { asker: this.id, shard, after: inbox.after, clear }
      const read = Effect.andThen(this.broker.openInbox(this.id, shard), this.broker.replies(request, readMillis))
      return Effect.flatMap(read, (entries) => {
        inbox.read = (clear ? 0 : inbox.read) + entries.length
        for (const entry of entries) {
          inbox.after = entry.id
          this.take(entry)
        }
        return once
      })
    })
    return Effect.catch(once, (error) => {
      // It may be another server, or one that went back: whatever is in the inbox by then is looked at.
      inbox.after = "0-0"
      if (inbox.open === 0) return Effect.void
      if (isAway(error)) return Effect.andThen(Effect.sleep("50 millis"), this.read(inbox))
      for (const [id, open] of this.waiting) if (open.inbox === inbox) this.settle(id, Effect.fail(error))
      return Effect.void
    })
  }

  private take(entry: Entry): void {
    const id = idOf(entry)
    const open = id === undefined ? undefined : this.waiting.get(id)
    // A late one, or one that was read before.
    if (id === undefined || open === undefined) return
    this.settle(id, answerOf(open, entry))
  }
}

const fieldOf = ({ fields }: Entry, name: string): string | undefined => {
  for (let i = 0; i < fields.length; i += 2) if (text(fields[i]!) === name) return text(fields[i + 1]!)
  return undefined
}

/** The request that an entry of an inbox answers. */
export const idOf = (entry: Entry): string | undefined => fieldOf(entry, replyFields.id)

const isAway = (error: EngineError): boolean => error.reason === "Unreachable" || error.reason === "Full"

/** What an entry of the inbox says. */
export const answerOf = ({ contract, serializer }: Pick<Open, "contract" | "serializer">, entry: Entry): Answer => {
  const outcome = fieldOf(entry, replyFields.outcome)
  const topic = outcome === undefined ? contract.replies : outcome === "error" ? contract.errors : defects
  if (topic === undefined) {
    const cause = new Error(
      `it answered with ${outcome === undefined ? "a reply" : "an error"} that this program's contract does not have`
    )
    return Effect.fail(new AgentDefect({ agent: contract.name, cause }))
  }
  const [event] = codecOf(topic, serializer).unpack(entry, 0, 0, nobody, 0n)
  const failure: DecodeError | undefined = event!.failure
  if (failure !== undefined) return Effect.fail(failure)
  if (outcome === undefined) return Effect.succeed(event!.value)
  if (outcome === "error") return Effect.fail(event!.value)
  const { message, name } = event!.value as (typeof defects.schema)["Type"]
  const cause = new Error(message)
  cause.name = name
  return Effect.fail(new AgentDefect({ agent: contract.name, cause }))
}

// One for each engine, shared by all fibers of the program, as long as the engine lives.
const askers = new WeakMap<Broker["Service"], Asker>()

export const askerOf = (context: Context.Context<Broker | Serializer>): Asker => {
  const broker = Context.get(context, Broker)
  let asker = askers.get(broker)
  if (asker === undefined) {
    // Not the caller's own span or interruption: others read the same inbox.
    const base = Context.omit(Tracer.ParentSpan)(context) as Context.Context<never>
    asker = new Asker(broker, Effect.runForkWith(base))
    askers.set(broker, asker)
  }
  return asker
}

export const serializerOf = (context: Context.Context<Broker | Serializer>): Codec => Context.get(context, Serializer)
