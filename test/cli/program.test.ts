/** The program as people and shells meet it: running workers, descriptions, own commands, help, completions, progress. */
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import Ajv from "ajv"
import addFormats from "ajv-formats"
import { Effect, Stream } from "effect"
import * as App from "../../src/App.ts"
import { lineOf } from "../../src/cli/progress.ts"
import { fileUrl } from "../support/places.ts"
import { eventually, freePort } from "../support/redis.ts"
import { shop as app } from "./shop.app.ts"
import { good, json, onBoth, refused, run, shop, spawned } from "./support.ts"

const order = (id: number) => JSON.stringify({ id, customer: "ada", amount: 5 })

const shell = promisify(execFile)

describe("worker, as a process", () => {
  onBoth(
    "handles events and requests, serves its port, and ends with 0 on SIGTERM",
    ({ at }) =>
      Effect.gen(function* () {
        good(yield* run(["send", shop, "orders", order(1), ...at]))
        const port = String(yield* Effect.promise(freePort))
        const meanwhile = Effect.gen(function* () {
          // The event came first, and a request is answered by the same worker.
          const ask = (text: string) => run(["agents", "ask", shop, "shout", JSON.stringify({ text }), ...at])
          assert.strictEqual(good(yield* ask("hello")), "HELLO\n")
          const tooLong = yield* ask("a".repeat(30))
          refused(tooLong, 4, 'agent shout answered with an error: {"_tag":"TooLong","most":20}')
          const asJson = yield* run(["agents", "ask", shop, "shout", `{"text":"${"a".repeat(30)}"}`, "--json", ...at])
          assert.deepStrictEqual([asJson.code, JSON.parse(asJson.out)], [4, { _tag: "TooLong", most: 20 }])
          const health = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/health/live`))
          assert.strictEqual(health.status, 200)
          const total = Effect.map(run(["tables", "get", "totals", "ada", ...at]), ({ out }) => out === "5\n")
          yield* eventually("the order in the totals", total)
        })
        const outcome = yield* spawned(["worker", shop, "--web-port", port, "--json", ...at], {
          endAfter: { printed: "running ", meanwhile }
        })
        const summary = json(outcome)
        assert.deepInclude(summary.parts.billing, { processed: 1, failed: 0 })
        assert.deepInclude(summary.parts.shout, { processed: 1, failed: 2 })
      }),
    90_000
  )

  it.live("runs some of its parts, up to a limit, and shows what they did", () =>
    Effect.gen(function* () {
      const at = ["--url", yield* fileUrl]
      const stdin = Stream.make([order(1), order(2), order(3)].join("\n"))
      good(yield* run(["sendmany", shop, "orders", ...at], { stdin }))
      const outcome = yield* run(["worker", shop, "--processors", "billing", "--limit", "3", ...at])
      assert.match(good(outcome), /^part +processed .*\nbilling +3 +0 /)
      assert.include(outcome.err, "running billing")
      refused(yield* run(["worker", shop, "--processors", "biling", "--quiet", ...at]), 2, "biling", "billing, shout")
      refused(yield* run(["worker", shop, "--limit", "0", "--quiet", ...at]), 2, "limit")
      refused(yield* run(["worker", shop, "--grace", "soon", "--quiet", ...at]), 2, "grace", "soon")
    })
  )
})

describe("describe", () => {
  it.live("tells what an app consists of", () =>
    Effect.gen(function* () {
      const text = good(yield* run(["describe", shop]))
      for (const line of ["shop 1.2", "topics", "billing", "totals", "mail", "cleanup", "greet"])
        assert.include(text, line)
      const all = json(yield* run(["describe", shop, "--json"]))
      assert.deepStrictEqual(Object.keys(all), [
        "name",
        "version",
        "namespace",
        "topics",
        "processors",
        "agents",
        "tables",
        "jobs",
        "schedules",
        "commands"
      ])
      assert.strictEqual(all.namespace, "shop.1.2")
      assert.deepInclude(all.processors[0], { name: "billing", kind: "each", topics: ["orders"], tables: ["totals"] })
      assert.deepInclude(all.schedules[0], { name: "cleanup", kind: "timer", everyMillis: 3_600_000 })
    })
  )

  it.live("prints an AsyncAPI document that fits its schema", () =>
    Effect.gen(function* () {
      const require = createRequire(import.meta.url)
      const schema = JSON.parse(readFileSync(require.resolve("@asyncapi/specs/schemas/3.0.0-without-$id.json"), "utf8"))
      const ajv = new Ajv.default({ strict: false, allErrors: true })
      addFormats.default(ajv)
      const validate = ajv.compile(schema)
      const printed = json(yield* run(["describe", shop, "--asyncapi"]))
      const document = JSON.parse(JSON.stringify(App.asyncApi(app)))
      for (const one of [printed, document]) {
        assert.isTrue(validate(one), JSON.stringify(validate.errors?.slice(0, 5), null, 2))
      }
      // What validates must be able not to.
      assert.isFalse(validate({ ...document, channels: { orders: { address: 1 } } }))
      assert.deepStrictEqual(document.info, { title: "shop", version: "1.2" })
      assert.sameMembers(Object.keys(document.operations), ["billing", "shout", "job.mail"])
      assert.deepStrictEqual(document.operations.shout.reply.channel, { $ref: "#/channels/shout.reply" })
      const at = (reference: string) =>
        reference
          .slice(2)
          .split("/")
          .reduce((value: any, key: string) => value?.[key], document)
      // Nothing points nowhere.
      for (const [, reference] of JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)) {
        assert.isDefined(at(reference!), reference)
      }
      assert.include(Object.keys(printed.channels), "receipts")
    })
  )
})

describe("an app's own commands", () => {
  it.live("are run with their flags, the engine and the app's layer", () =>
    Effect.gen(function* () {
      const at = ["--url", yield* fileUrl]
      const outcome = yield* run(["run", shop, "greet", "ada", "--twice", ...at])
      assert.strictEqual(good(outcome), "hello ada, receipts\nhello ada, receipts\n")
      assert.include(good(yield* run([...at, "run", shop, "greet", "bob"])), "hello bob")
      assert.include(good(yield* run(["run", shop, "--help"])), "Greet somebody")
      assert.include(good(yield* run(["run", shop, "greet", "--help"])), "--twice")
      assert.include(good(yield* run(["run", "--help"])), "millrace run <module> <command>")
      refused(yield* run(["run", shop, "greet", ...at]), 2, "name")
      refused(yield* run(["run", shop, "great", ...at]), 2, "great")
      refused(yield* run(["run", `${shop}x`, "greet"]), 2, "there is no file")
    })
  )
})

describe("the program", () => {
  it.live("has help for every command, and says what is asked on every one", () =>
    Effect.gen(function* () {
      const help = good(yield* run(["--help"]))
      const commands = Array.from(help.matchAll(/^ {2}([a-z]+) {2,}\S/gm), ([, name]) => name!)
      assert.includeMembers(commands, ["worker", "send", "tail", "lag", "seek", "dead", "jobs", "doctor", "acl"])
      for (const command of commands) {
        const text = good(yield* run([command, "--help"]))
        for (const flag of ["--json", "--url", "--namespace", "--quiet", "--log-level", "--log-format"]) {
          assert.include(text, flag, command)
        }
      }
      assert.strictEqual(good(yield* run(["--version"])), "millrace v1.2.3\n")
      assert.include(good(yield* run([])), "USAGE")
    })
  )

  it.live("prints completions that bash and zsh load", () =>
    Effect.gen(function* () {
      const bash = good(yield* run(["--completions", "bash"]))
      const loaded = yield* Effect.promise(() =>
        shell("bash", ["-c", `${bash}\ncomplete -p millrace`], { encoding: "utf8" })
      )
      assert.match(loaded.stdout, /complete .*millrace/)
      const zsh = good(yield* run(["--completions", "zsh"]))
      assert.match(zsh, /^#compdef millrace/)
      const hasZsh = yield* Effect.promise(() =>
        shell("sh", ["-c", "command -v zsh"]).then(
          () => true,
          () => false
        )
      )
      if (hasZsh) yield* Effect.promise(() => shell("zsh", ["-n", "-c", zsh]))
    })
  )

  it.live("writes logs to stderr, in the format and from the level that is asked for", () =>
    Effect.gen(function* () {
      const at = ["--url", yield* fileUrl]
      good(yield* run(["send", shop, "orders", '{"id":1,"customer":"a","amount":-1}', ...at]))
      const worker = ["worker", shop, "--processors", "billing", "--limit", "1", "--json", ...at]
      const logged = yield* run([...worker, "--log-format", "json"])
      assert.isObject(json(logged))
      const line = logged.err.split("\n").find((line) => line.startsWith("{"))
      assert.include(JSON.parse(line!).level, "WARN")
      good(yield* run(["send", shop, "orders", '{"id":2,"customer":"a","amount":-1}', ...at]))
      const quiet = yield* run([...worker, "--quiet"])
      assert.isObject(json(quiet))
      assert.strictEqual(quiet.err, "")
    })
  )

  it.live("shows progress on a terminal only", () =>
    Effect.gen(function* () {
      const at = ["--url", "memory:"]
      const stdin = Stream.make(order(1))
      const silent = yield* run(["sendmany", shop, "orders", ...at], { stdin })
      assert.strictEqual(silent.err, "")
      const shown = yield* run(["sendmany", shop, "orders", ...at], { stdin, isTerminal: true })
      assert.include(shown.err, "\rsent 1\u001b[K\n")
      const quiet = yield* run(["sendmany", shop, "orders", "--quiet", ...at], { stdin, isTerminal: true })
      assert.strictEqual(quiet.err, "")
      assert.strictEqual(
        lineOf("sent", { done: 12_000, part: 1, whole: 3 }),
        `sent 12,000  [${"#".repeat(8)}${"-".repeat(16)}]  33 %`
      )
      assert.strictEqual(lineOf("sent", { done: 5, part: 9, whole: 3 }), `sent 5  [${"#".repeat(24)}] 100 %`)
    })
  )
})
