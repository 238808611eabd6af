/** An app whose values hold secrets. */
import { Effect, Schema } from "effect"
import { Agent, App, Topic } from "../../src/index.ts"

class Login extends Schema.Class<Login>("Login")({
  user: Schema.String,
  password: Schema.RedactedFromValue(Schema.String)
}) {}

export const logins = Topic.make("logins", { schema: Login, partitionBy: "user", partitions: 1 })

export const lines = Topic.make("lines", {
  schema: Schema.Struct({ count: Schema.Int }),
  partitions: 1,
  encoding: "flat"
})

export const tokens = Agent.make("tokens", { request: Login, reply: Login, partitions: 1 })

export const secrets = App.make({ name: "secrets", parts: [Agent.handler(tokens, (login) => Effect.succeed(login))] })
