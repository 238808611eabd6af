/** An agent's contract that several processes share. */
import { Schema } from "effect"
import { Agent } from "../../src/index.ts"

export const echo = Agent.make("echo", { request: Schema.String, reply: Schema.String, partitions: 8 })
