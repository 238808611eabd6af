/**
 * `millrace run <module> <command>`: the app's own commands (`App.make({ commands })`), with their flags, arguments and
 * help. Which there are is known when the module is imported, so that is done before anything is parsed.
 */
import { Effect, Layer } from "effect"
import { Command } from "effect/cli"
import type * as Engine from "../Engine.ts"
import { engine } from "./engine.ts"
import { WrongUse } from "./failures.ts"
import { load } from "./modules.ts"

/** Flags that may stand before the module and are followed by a value. */
const withValue = new Set(["--url", "--namespace", "--log-format", "--log-level", "--completions"])

/** Index of the first argument, from `begin` on, that is no flag and no flag's value; -1: there is none. */
const positional = (args: ReadonlyArray<string>, begin: number): number => {
  for (let i = begin; i < args.length; i++) {
    const arg = args[i]!
    if (!arg.startsWith("-")) return i
    if (withValue.has(arg)) i++
  }
  return -1
}

// What they need is checked where the app is made.
type Own = Command.Command<string, any, any, unknown, Engine.Services>

const runOf = (module: string, layer: Layer.Layer<Engine.Services>, commands: ReadonlyArray<Own>) =>
  Command.make("run").pipe(
    Command.withDescription(
      commands.length === 0
        ? "Run a command of an app's own: millrace run <module> <command>"
        : `The commands of ${module}: millrace run <module> <command>`
    ),
    Command.withSubcommands(commands),
    Command.provide(layer)
  )

/** The `run` of this call, and the arguments without its module. */
export const own = (args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const at = positional(args, 0)
    const moduleAt = at >= 0 && args[at] === "run" ? positional(args, at + 1) : -1
    if (moduleAt < 0) return { run: runOf("", Layer.empty as unknown as Layer.Layer<Engine.Services>, []), rest: args }
    const module = args[moduleAt]!
    const found = yield* load(module)
    const { app } = found
    if (app === undefined || app.commands.length === 0) {
      const what = app === undefined ? `${module} exports no app` : `app ${app.name} has no commands of its own`
      return yield* new WrongUse({ message: `${what}: give them in App.make({ name, parts, commands })` })
    }
    const layer = Layer.provideMerge(app.layer ?? Layer.empty, engine(found)) as unknown as Layer.Layer<Engine.Services>
    return {
      run: runOf(module, layer, app.commands as unknown as ReadonlyArray<Own>),
      rest: args.toSpliced(moduleAt, 1)
    }
  })
