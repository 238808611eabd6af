/** `millrace agents list | ask | cast`: the agents of a module, and speaking with them. Asking needs a worker that answers. */
import { Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Agent from "../Agent.ts"
import * as Errors from "../Errors.ts"
import type { Contract } from "../internal/agent/contract.ts"
import { dryRun, unless } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { Answered } from "./failures.ts"
import { load, module, pick } from "./modules.ts"
import { show, table, toJson } from "./output.ts"
import * as Values from "./values.ts"

const agentName = Argument.String("agent").pipe(Argument.withDescription("The name of an agent of the module"))

/** What clients speak with, from the contract that its handler carries. */
const agentOf = (contract: Contract): Agent.Agent<any, any, any> =>
  ({ name: contract.name, topic: contract.topic, contract }) as Agent.Agent<any, any, any>

const sending = { module, agent: agentName, request: Values.json, key: Values.key, headers: Values.headers }

const optionsOf = (key: Option.Option<string>, headers: Record<string, string>): Agent.SendOptions => ({
  key: Option.getOrUndefined(key),
  headers: Object.keys(headers).length > 0 ? headers : undefined
})

/** Why there is no answer, whatever the contract declares: a schema may take any value. */
const isOurs = (error: unknown): boolean =>
  [
    Errors.AgentTimeout,
    Errors.AgentDefect,
    Errors.AskCycle,
    Errors.DecodeError,
    Errors.DurabilityNotReached,
    Errors.EncodeError,
    Errors.EngineError,
    Errors.Misconfigured,
    Errors.TopicFull
  ].some((type) => error instanceof type)

/** Its error is data, as its reply is: printed under `--json`. */
const answered =
  ({ errors, name }: Contract) =>
  (error: unknown) => {
    const shown = errors === undefined ? error : Values.encoder(errors.schema)(error)
    const failed = new Answered({ message: `agent ${name} answered with an error: ${toJson(shown)}` })
    return Effect.andThen(
      show(shown, () => []),
      failed
    )
  }

const ask = Command.make(
  "ask",
  {
    ...sending,
    timeout: Flag.Finite("timeout").pipe(
      Flag.withMetavar("seconds"),
      Flag.withDescription("How long to wait for the reply"),
      Flag.withDefault(30)
    )
  },
  Effect.fn(function* ({ agent: name, headers, key, module, request, timeout }) {
    const found = yield* load(module)
    const contract = yield* pick(found, "agent", found.agents, name)
    const value = yield* Values.read(`agent ${name}`, contract.topic.schema, request)
    const options = { ...optionsOf(key, headers), timeout: `${timeout} seconds` as const }
    const reply = yield* Agent.ask(agentOf(contract), value, options).pipe(
      withEngine(found),
      Effect.catchIf((error) => contract.isError(error) && !isOurs(error), answered(contract))
    )
    const shown = contract.replies === undefined ? reply : Values.encoder(contract.replies.schema)(reply)
    yield* show(shown, () => [typeof shown === "string" ? shown : toJson(shown)])
  })
).pipe(Command.withDescription("Ask an agent, and print its reply; exit code 4: it answered with an error of its own"))

const cast = Command.make(
  "cast",
  { ...sending, dryRun },
  Effect.fn(function* ({ agent: name, dryRun, headers, key, module, request }) {
    const found = yield* load(module)
    const contract = yield* pick(found, "agent", found.agents, name)
    const value = yield* Values.read(`agent ${name}`, contract.topic.schema, request)
    const casting = Effect.gen(function* () {
      yield* Agent.cast(agentOf(contract), value, optionsOf(key, headers)).pipe(withEngine(found))
      yield* show({ agent: name, sent: 1 }, () => [`sent to agent ${name}`])
    })
    yield* unless(dryRun, `send one request to agent ${name}`, casting)
  })
).pipe(Command.withDescription("Send an agent a request that nobody waits for"))

const list = Command.make(
  "list",
  { module },
  Effect.fn(function* ({ module }) {
    const found = yield* load(module)
    const agents = Array.from(found.agents.values(), ({ errors, name, replies, topic }) => ({
      name,
      topic: topic.name,
      partitions: topic.partitions,
      replies: replies !== undefined,
      errors: errors !== undefined,
      handled: found.processors.has(name)
    }))
    yield* show(agents, () =>
      table(
        ["agent", "topic", "partitions", "replies", "handled here"],
        agents.map((one) => [one.name, one.topic, one.partitions, one.replies, one.handled])
      )
    )
  })
).pipe(Command.withDescription("The agents of a module"))

export const agents = Command.make("agents").pipe(
  Command.withDescription("Agents: list them, ask, cast"),
  Command.withSubcommands([list, ask, cast])
)
