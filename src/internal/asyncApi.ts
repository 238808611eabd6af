/**
 * An app as an AsyncAPI 3.0 document: topics are channels, what processors do with them operations; an agent's operation
 * has its reply. Schemas are those of the JSON form of the values, whatever serializer writes them.
 */
import { JsonSchema, Schema } from "effect"
import type { Retention } from "../Retention.ts"
import type { Any } from "../Topic.ts"
import type { Catalog } from "./catalog.ts"

/** JSON, as the AsyncAPI specification has it. */
export type Document = Readonly<Record<string, unknown>>

type Codec = Schema.ConstraintCodec<any, any>
type Json = Record<string, unknown>

const ref = (...path: ReadonlyArray<string>): Json => ({ $ref: `#/${path.join("/")}` })

export const describeRetention = (retention: Retention): string => {
  switch (retention._tag) {
    case "Consumed":
      return "kept until every processor has consumed it"
    case "MaxLength":
      return `the last ${retention.events} events of a partition are kept`
    case "MaxAge":
      return `kept for ${retention.millis} ms`
    case "Forever":
      return "kept for ever"
  }
}

export const build = (info: { readonly title: string; readonly version: string }, catalog: Catalog): Document => {
  const schemas: Json = {}
  const messages: Json = {}
  /** The payload of one message; what its schema names goes to the components. */
  const payloadOf = (schema: Codec): JsonSchema.JsonSchema => {
    const generated = Schema.toJsonSchemaDocument(schema)
    const multi = JsonSchema.toMultiDocumentOpenApi3_1({
      dialect: generated.dialect,
      schemas: [generated.schema],
      definitions: generated.definitions
    })
    Object.assign(schemas, multi.definitions)
    return multi.schemas[0]
  }
  const message = (name: string, schema: Codec): Json => {
    messages[name] = { name, contentType: "application/json", payload: payloadOf(schema) }
    return ref("components", "messages", name)
  }

  const channels: Json = {}
  const channel = (topic: Any): void => {
    const flat = topic.flat ? ", the record's own fields" : ""
    channels[topic.name] = {
      address: topic.name,
      description: `${topic.partitions} partitions${flat}; ${describeRetention(topic.retention)}`,
      messages: { [topic.name]: message(topic.name, topic.schema) }
    }
  }
  for (const topic of catalog.topics.values()) channel(topic)

  const operations: Json = {}
  for (const [name, { agent, topics }] of catalog.processors) {
    for (const topic of topics) {
      if (!(topic.name in channels)) channel(topic)
      operations[topics.length === 1 ? name : `${name}.${topic.name}`] = {
        action: "receive",
        title: name,
        channel: ref("channels", topic.name),
        messages: [ref("channels", topic.name, "messages", topic.name)],
        ...(agent?.replies === undefined ? {} : { reply: replyOf(name, agent.replies, agent.errors) })
      }
    }
  }

  function replyOf(name: string, replies: Any, errors: Any | undefined): Json {
    const own: Json = { reply: message(`${name}.reply`, replies.schema) }
    if (errors !== undefined) own["error"] = message(`${name}.error`, errors.schema)
    // Replies travel to the inbox of the process that asked: there is no address to write down.
    channels[`${name}.reply`] = { address: null, description: "the inbox of the process that asked", messages: own }
    return {
      channel: ref("channels", `${name}.reply`),
      messages: Object.keys(own).map((key) => ref("channels", `${name}.reply`, "messages", key))
    }
  }

  for (const [name, spec] of catalog.jobs) {
    channels[`job.${name}`] = {
      address: spec.queue,
      description: `jobs on queue ${spec.queue}, priority ${spec.priority}, ${spec.retries} retries`,
      messages: { payload: message(`job.${name}`, spec.payload) }
    }
    operations[`job.${name}`] = {
      action: "receive",
      title: name,
      channel: ref("channels", `job.${name}`),
      messages: [ref("channels", `job.${name}`, "messages", "payload")]
    }
  }
  return {
    asyncapi: "3.0.0",
    info,
    defaultContentType: "application/json",
    channels,
    operations,
    components: { messages, schemas }
  }
}
