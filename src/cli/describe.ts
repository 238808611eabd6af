/** `millrace describe <module>`: what an app consists of; as text, as JSON with schemas, or as an AsyncAPI 3 document. */
import { Console, Duration, Effect, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { build, describeRetention } from "../internal/asyncApi.ts"
import type { Codec } from "../Serializer.ts"
import { type Found, load, module } from "./modules.ts"
import { show, table, toJson } from "./output.ts"

const schemaOf = (schema: Schema.ConstraintCodec<any, any>): unknown => {
  const { definitions, schema: body } = Schema.toJsonSchemaDocument(schema)
  return Object.keys(definitions).length === 0 ? body : { ...body, $defs: definitions }
}

const serializerOf = (serializer: Codec | undefined): string => serializer?.format ?? "the engine's"

/** All of it as data. */
const describing = (found: Found) => ({
  name: found.app?.name,
  version: found.app?.version,
  namespace: found.namespace,
  topics: Array.from(found.topics.values(), (topic) => ({
    name: topic.name,
    partitions: topic.partitions,
    retention: topic.retention,
    keyed: topic.partitionBy !== undefined,
    serializer: topic.flat ? "flat" : serializerOf(topic.serializer),
    schema: schemaOf(topic.schema)
  })),
  processors: Array.from(found.processors.values(), ({ agent, name, shape, tables, topics }) => ({
    name,
    kind: agent === undefined ? shape._tag.toLowerCase() : "agent",
    topics: topics.map((topic) => topic.name),
    tables: tables.map((table) => table.name)
  })),
  agents: Array.from(found.agents.values(), ({ errors, name, replies, topic }) => ({
    name,
    topic: topic.name,
    request: schemaOf(topic.schema),
    reply: replies && schemaOf(replies.schema),
    error: errors && schemaOf(errors.schema)
  })),
  tables: Array.from(found.tables.values(), ({ definition }) => ({
    name: definition.name,
    scope: definition.scope,
    windowed: definition.windowed !== undefined,
    key: schemaOf(definition.key),
    value: schemaOf(definition.value)
  })),
  jobs: Array.from(found.jobs.values(), (job) => ({
    name: job.name,
    queue: job.queue,
    priority: job.priority,
    retries: job.retries,
    timeoutMillis: job.timeout,
    payload: schemaOf(job.payload),
    success: schemaOf(job.success)
  })),
  schedules: Array.from(found.schedules.values(), ({ kind, name, onLeader, timing }) => ({
    name,
    kind,
    onLeader,
    everyMillis: timing._tag === "Every" ? timing.millis : undefined
  })),
  commands: found.app?.commands.map(({ name }) => name) ?? []
})

const section = (title: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length <= 1 ? [] : ["", title, ...lines.map((line) => `  ${line}`)]

const textOf = (found: Found): ReadonlyArray<string> => {
  const about = describing(found)
  const name = about.name ?? found.spec
  return [
    about.version === undefined ? name : `${name} ${about.version}`,
    ...section(
      "topics",
      table(
        ["name", "partitions", "retention"],
        Array.from(found.topics.values(), (topic) => [topic.name, topic.partitions, describeRetention(topic.retention)])
      )
    ),
    ...section(
      "processors",
      table(
        ["name", "kind", "reads", "tables"],
        about.processors.map(({ kind, name, tables, topics }) => [name, kind, topics.join(", "), tables.join(", ")])
      )
    ),
    ...section(
      "agents",
      table(
        ["name", "topic", "replies"],
        about.agents.map(({ name, reply, topic }) => [name, topic, reply !== undefined])
      )
    ),
    ...section(
      "tables",
      table(
        ["name", "scope", "windowed"],
        about.tables.map(({ name, scope, windowed }) => [name, scope, windowed])
      )
    ),
    ...section(
      "jobs",
      table(
        ["name", "queue", "priority", "retries", "timeout"],
        about.jobs.map((job) => [
          job.name,
          job.queue,
          job.priority,
          job.retries,
          Duration.format(Duration.millis(job.timeoutMillis))
        ])
      )
    ),
    ...section(
      "schedules",
      table(
        ["name", "kind", "runs on"],
        about.schedules.map(({ kind, name, onLeader }) => [name, kind, onLeader ? "the leader" : "every worker"])
      )
    ),
    ...section("commands (millrace run)", ["name", ...about.commands])
  ]
}

export const describe = Command.make(
  "describe",
  {
    module,
    asyncapi: Flag.Boolean("asyncapi").pipe(
      Flag.withDescription("Print an AsyncAPI 3 document (JSON)"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  },
  Effect.fn(function* ({ asyncapi, module }) {
    const found = yield* load(module)
    if (!asyncapi) return yield* show(describing(found), () => textOf(found))
    // With what the module exports beside its app: topics that are only written to.
    const info = { title: found.app?.name ?? "millrace", version: found.app?.version ?? "0.0.0" }
    yield* Console.log(toJson(build(info, found), 2))
  })
).pipe(Command.withDescription("What an app consists of: topics, processors, agents, tables, jobs, schedules, schemas"))
