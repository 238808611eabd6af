/** An app with settings of its own; its command and its processor say which they have. */
import { Console, Effect, Schema } from "effect"
import { Command } from "effect/cli"
import { App, Processor, Settings, Topic } from "../../src/index.ts"

export const numbers = Topic.make("numbers", { schema: Schema.Int, partitions: 1 })

const look = Effect.map(Settings.current, ({ grace, lease }) => `lease ${lease}, grace ${grace}`)

export const app = App.make({
  name: "settled",
  parts: [Processor.make("looking", { topic: numbers }, () => Effect.flatMap(look, Effect.logInfo))],
  commands: [Command.make("look", {}, () => Effect.flatMap(look, Console.log))],
  settings: { lease: "3 seconds", logFormat: "json" }
})
