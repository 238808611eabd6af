/**
 * How a handler answers: its reply, or its failure, is staged in the unit of work of the request, so it is there exactly if
 * that is committed. A failure is told to whoever waits for it; without anybody, it goes to the agent's policies.
 */
import { Cause, Context, Effect } from "effect"
import { Broker } from "../../Broker.ts"
import type { EngineError } from "../../Errors.ts"
import type { Event } from "../../Event.ts"
import * as Topic from "../../Topic.ts"
import { messageOf, tagOf } from "../dead/headers.ts"
import type { Wrap } from "../run/definition.ts"
import { type Emitted, type Host, unitOf } from "../run/unit.ts"
import { traced } from "../telemetry/tracing.ts"
import { type Address, addressOf, agentHeaders } from "./address.ts"
import { type Contract, defects, type Outcome, replyFields } from "./contract.ts"

/** Addresses that are remembered; they come from outside. */
const mostTargets = 1_000

const fieldsOf = (id: string, outcome?: Outcome): ReadonlyArray<string> =>
  outcome === undefined ? [replyFields.id, id] : [replyFields.id, id, replyFields.outcome, outcome]

/** Stages the reply, if the request has an address. Throws an `EncodeError` if it does not fit its schema. */
export const answer = (contract: Contract, event: Event<unknown>, reply: unknown): Effect.Effect<void, EngineError> => {
  const address = addressOf(event.headers)
  if (address === "none" || contract.replies === undefined) return Effect.void
  if (address === undefined) {
    return Effect.logWarning(
      `a request to agent ${contract.name} has no valid reply address (header ${agentHeaders.replyTo}): its reply is dropped`
    )
  }
  return Effect.withFiber((fiber) => {
    const unit = unitOf(fiber.context)
    const { host } = unit
    if (address._tag === "Inbox") {
      unit.emit(host.reply(contract.replies!, reply, address.asker, fieldsOf(address.id)))
      return Effect.void
    }
    // Whatever runs handlers has the engine.
    const broker = Context.get(fiber.context as Context.Context<Broker>, Broker)
    return Effect.map(target(contract, broker, address), (topic) => {
      if (topic === undefined) return
      const key = address.key ?? event.key
      const headers = address.id === undefined ? {} : { headers: { [agentHeaders.correlationId]: address.id } }
      unit.emit(host.encode(topic, reply, traced(fiber, { ...(key === undefined ? {} : { key }), ...headers })))
    })
  })
}

/** The topic that an address names, once it is known to be what it says; undefined if it is not. */
const target = (
  contract: Contract,
  broker: Broker["Service"],
  { partitions, retention, topic: name }: Extract<Address, { readonly _tag: "Topic" }>
): Effect.Effect<Topic.Any | undefined, EngineError> => {
  let targets = contract.targets.get(broker)
  if (targets === undefined) contract.targets.set(broker, (targets = new Map()))
  const known = targets
  const id = JSON.stringify([name, partitions, retention])
  if (known.has(id)) return Effect.succeed(known.get(id))
  const topic = Topic.variant(contract.replies!, name, { partitions, retention })
  return Effect.matchEffect(broker.declare([topic]), {
    onSuccess: () => Effect.succeed(topic),
    onFailure: (error) =>
      error._tag === "EngineError"
        ? Effect.fail(error)
        : Effect.as(
            Effect.logWarning(`replies of agent ${contract.name} to ${name} are dropped: ${error.message}`),
            undefined
          )
  }).pipe(
    Effect.tap((found) =>
      Effect.sync(() => {
        if (known.size >= mostTargets) known.clear()
        known.set(id, found)
      })
    )
  )
}

/** Stands closest to the handler: what fails for somebody who waits is answered, before any policy sees it. */
export const answersFailures = (contract: Contract): Wrap => ({
  _tag: "Catch",
  parks: false,
  deadTopics: [],
  settle: (cause, { headers }) => {
    const address = addressOf(headers)
    if (typeof address !== "object" || address._tag !== "Inbox" || Cause.hasInterruptsOnly(cause)) return undefined
    const failure = Cause.findErrorOption(cause)
    const declared = failure._tag === "Some" && !Cause.hasDies(cause) && contract.isError(failure.value)
    return {
      _tag: "Answer",
      declared,
      reply: (host) =>
        declared
          ? asDeclared(contract, host, address, failure.value)
          : asDefect(host, address, failure._tag === "Some" ? failure.value : Cause.squash(cause))
    }
  }
})

type Inbox = Extract<Address, { readonly _tag: "Inbox" }>

const asDeclared = ({ errors }: Contract, host: Host, { asker, id }: Inbox, error: unknown): Emitted => {
  try {
    return host.reply(errors!, error, asker, fieldsOf(id, "error"))
  } catch (refusal) {
    // It cannot be stored: too large, or its serializer refuses it.
    return asDefect(host, { _tag: "Inbox", asker, id }, refusal)
  }
}

const asDefect = (host: Host, { asker, id }: Inbox, error: unknown): Emitted =>
  host.reply(defects, { name: tagOf(error), message: messageOf(error) }, asker, fieldsOf(id, "defect"))
