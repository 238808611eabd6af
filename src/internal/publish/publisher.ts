/** Publishing single events, and the senders that all publishers of an engine share. */
import { Context, Effect, Tracer } from "effect"
import { type Append, Broker, type Durability } from "../../Broker.ts"
import { EncodeError } from "../../Errors.ts"
import { type Codec, Serializer } from "../../Serializer.ts"
import type { Any, Position, PublishError, PublishOptions } from "../../Topic.ts"
import { offset } from "../entryId.ts"
import { checkName } from "../names.ts"
import { codecOf, type Encoded } from "../record/record.ts"
import * as PublishMeter from "../telemetry/publishMeter.ts"
import { traced } from "../telemetry/tracing.ts"
import { CurrentMiddleware } from "./middleware.ts"
import { type Failure, Item, Sender } from "./sender.ts"

type BrokerService = Context.Service.Shape<typeof Broker>

/** The senders of one engine, and the one that was asked for last. */
interface Senders {
  readonly byKey: Map<string, Sender>
  last:
    | { readonly topic: Any; readonly serializer: Codec; readonly durability: Durability; readonly sender: Sender }
    | undefined
}

// Senders live as long as their engine: one per topic and durability, shared by all fibers of the program.
const senders = new WeakMap<BrokerService, Senders>()
let serial = 0
const identities = new WeakMap<object, number>()
const identity = (value: object): number => {
  let id = identities.get(value)
  if (id === undefined) identities.set(value, (id = ++serial))
  return id
}

export const senderOf = (context: Context.Context<Broker | Serializer>, topic: Any, durability: Durability): Sender => {
  const broker = Context.get(context, Broker)
  const serializer = Context.get(context, Serializer)
  let known = senders.get(broker)
  if (known === undefined) senders.set(broker, (known = { byKey: new Map(), last: undefined }))
  const { last } = known
  if (last?.topic === topic && last.serializer === serializer && last.durability === durability) return last.sender
  const safety = typeof durability === "string" ? durability : durability.replicas
  const key = `${identity(topic)}/${identity(serializer)}/${safety}`
  let sender = known.byKey.get(key)
  if (sender === undefined) {
    // Not the caller's own scope, span or interruption: others' events travel with its own.
    const base = Context.omit(Tracer.ParentSpan)(context) as Context.Context<never>
    const fork = Effect.runForkWith(base)
    const meter = PublishMeter.make(topic.name, base)
    sender = new Sender(topic, codecOf(topic, serializer), broker, durability, meter, (effect) => {
      fork(effect)
    })
    known.byKey.set(key, sender)
  }
  known.last = { topic, serializer, durability, sender }
  return sender
}

export const encodeFailure = (error: unknown): Effect.Effect<never, EncodeError> =>
  error instanceof EncodeError ? Effect.fail(error) : Effect.die(error)

type Resume = (result: Effect.Effect<Position, PublishError>) => void

/** One event of one caller. */
class Single extends Item {
  readonly events: readonly [Encoded]
  readonly size = 1
  private readonly resume: Resume
  private position: Position | undefined
  constructor(event: Encoded, resume: Resume, producer: Append["producer"]) {
    super(undefined, producer)
    this.events = [event]
    this.resume = resume
  }
  place(topic: string, partition: number, id: string, index: number, repeated: boolean): void {
    // The id of a sequence below the producer's last is not known any more.
    const at = id === "" ? "" : offset(id, index)
    this.position = { topic, partition, offset: at, repeated: repeated && this.producer !== undefined }
  }
  settle(failure: Failure | undefined): void {
    this.resume(failure === undefined ? Effect.succeed(this.position!) : Effect.fail(failure as PublishError))
  }
}

export const publish = (
  topic: Any,
  value: unknown,
  options: PublishOptions | undefined
): Effect.Effect<Position, PublishError, Broker | Serializer> =>
  Effect.withFiber((fiber) => {
    const context = fiber.context as Context.Context<Broker | Serializer>
    const sender = senderOf(context, topic, options?.durability ?? "memory")
    let event: Encoded
    try {
      event = sender.encode(value, traced(fiber, options), Context.get(context, CurrentMiddleware))
    } catch (error) {
      return encodeFailure(error)
    }
    const producer =
      options?.producer === undefined
        ? undefined
        : { id: checkName("producer", options.producer), sequence: options.sequence }
    return Effect.callback<Position, PublishError>((resume) => {
      const item = new Single(event, resume, producer)
      sender.submit(event.partition, item, true)
      return Effect.sync(() => sender.abandon(event.partition, item))
    })
  })
