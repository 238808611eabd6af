/** Wrong use of every kind: one line on stderr that says what there is, exit code 2 (3: no engine), no stack trace. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { freePort } from "../support/redis.ts"
import { good, json, refused, run, shop, spawned } from "./support.ts"

const index = fileURLToPath(new URL("../../src/index.ts", import.meta.url))
const effect = fileURLToPath(new URL("../../node_modules", import.meta.url))

/** A directory with these files in it, which find `effect`. */
const project = (files: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const directory = mkdtempSync(join(tmpdir(), "millrace-module-"))
      symlinkSync(effect, join(directory, "node_modules"))
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(join(directory, name, ".."), { recursive: true })
        writeFileSync(join(directory, name), text)
      }
      return directory
    }),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
  )

const heading = `
import { Effect, Schema } from "effect"
import { App, Processor, Topic } from ${JSON.stringify(index)}
`

const part = (name: string): string => `${heading}
const topic = Topic.make("${name}s", { schema: Schema.String, partitions: 1 })
export const ${name} = Processor.make("${name}", { topic }, () => Effect.void)
`

const app = (name: string): string => `${part("worker")}
export const ${name} = App.make({ name: "${name}", parts: [worker] })
`

describe("a module", () => {
  it.live("that is not there is told what lies beside it", () =>
    Effect.gen(function* () {
      const directory = yield* project({ "app.ts": app("one"), "notes.txt": "" })
      const at = (path: string) => run(["describe", join(directory, path)])
      refused(yield* at("ap.ts"), 2, "there is no file", "ap.ts; there are app.ts")
      refused(yield* at("missing/app.ts"), 2, "there is no directory")
      refused(yield* at("**/*.nothing"), 2, "matches no TypeScript or JavaScript file")
    })
  )

  it.live("that is broken is named, with the reason", () =>
    Effect.gen(function* () {
      const directory = yield* project({
        "syntax.ts": "export const = 1",
        "throws.ts": `throw new RangeError("out of\\nreach")`,
        "imports.ts": `import "./gone.ts"`,
        "wrong.ts": `${heading}export const topic = Topic.make("a b", { schema: Schema.String })`
      })
      const at = (path: string) => run(["describe", join(directory, path)])
      refused(yield* at("syntax.ts"), 2, "syntax.ts cannot be loaded: ")
      refused(yield* at("throws.ts"), 2, "throws.ts cannot be loaded: RangeError: out of; reach")
      refused(yield* at("imports.ts"), 2, "imports.ts cannot be loaded: ", "gone.ts")
      refused(yield* at("wrong.ts"), 2, "wrong.ts cannot be loaded: ", 'topic name "a b"')
      refused(yield* at("*.ts"), 2, "imports.ts cannot be loaded: ")
    })
  )

  it.live("without anything of ours, or with several apps, says what it exports", () =>
    Effect.gen(function* () {
      const directory = yield* project({
        "empty.ts": "export {}",
        "other.ts": "export const a = 1, b = 2",
        "two.ts": `${app("one")}export const two = App.make({ name: "two", parts: [] })`,
        "topics.ts": `${heading}export const only = Topic.make("only", { schema: Schema.String })`
      })
      const at = (path: string) => run(["describe", join(directory, path), "--json"])
      refused(yield* at("empty.ts"), 2, "exports no app, parts, topics or jobs (but nothing)")
      refused(yield* at("other.ts"), 2, "(but a, b)", "App.make")
      refused(yield* at("two.ts"), 2, "several apps", "two.ts#one", "two.ts#two")
      assert.strictEqual(json(yield* at("two.ts#two")).name, "two")
      assert.deepStrictEqual(
        json(yield* at("two.ts#worker")).processors.map((one: { name: string }) => one.name),
        ["worker"]
      )
      refused(yield* at("two.ts#three"), 2, "of the name three", "two.ts#worker")
      refused(yield* at("topics.ts#only"), 2, "it exports no app and no parts")
      refused(yield* run(["worker", join(directory, "topics.ts"), "--url", "memory:"]), 2, "nothing to run")
    })
  )

  it.live("that is a glob or a directory gives the parts of all files, those of tests left out", () =>
    Effect.gen(function* () {
      const directory = yield* project({
        "a/one.ts": part("one"),
        "b/deep/two.mts": part("two"),
        "c/three.js": part("three"),
        "c/three.test.ts": `throw new Error("a test was loaded")`,
        "c/types.d.ts": "export declare const nothing: 1",
        "tests/four.ts": `throw new Error("a test was loaded")`
      })
      for (const spec of [join(directory, "{a,b,c}/**/*.{ts,mts,js}"), directory]) {
        const found = json(yield* run(["describe", spec, "--json"]))
        assert.deepStrictEqual(found.processors.map((one: { name: string }) => one.name).toSorted(), [
          "one",
          "three",
          "two"
        ])
      }
    })
  )
})

describe("arguments", () => {
  it.live("that are wrong are refused in one line that says where to read on", () =>
    Effect.gen(function* () {
      refused(yield* run(["sned"]), 2, 'Unknown subcommand "sned"', "send", "millrace --help")
      refused(yield* run(["send"]), 2, "Missing required argument: module", "millrace send --help")
      refused(yield* run(["send", shop, "orders", "1", "--bogus"]), 2, "--bogus")
      refused(yield* run(["worker", shop, "--limit", "many"]), 2, "--limit", "many")
      refused(yield* run(["describe", shop, "--log-format", "xml"]), 2, "log-format", "xml")
      refused(yield* run(["describe", shop, "extra"]), 2, "extra")
    })
  )

  it.live("of the engine are refused as such, and never shown with their password", () =>
    Effect.gen(function* () {
      const tail = (url: string) => run(["tail", shop, "orders", "--end", "--url", url])
      refused(yield* tail("mysql://user:hunter2@host"), 2, "unknown scheme mysql://")
      refused(yield* tail(""), 2, "there is no engine")
      const missing = yield* tail("file:/nowhere/at/all/x.db")
      refused(missing, 3, "/nowhere/at/all")
      const port = yield* Effect.promise(freePort)
      const away = yield* tail(`redis://user:hunter2@127.0.0.1:${port}`)
      refused(away, 3, `127.0.0.1:${port}`)
      assert.notInclude(away.err, "hunter2")
      refused(yield* run(["tail", shop, "orders", "--url", "file:./x.db", "--end", "--namespace", "a b"]), 2, "a b")
    })
  )
})

describe("the program, as a process", () => {
  it.live(
    "prints help, reads its environment, and fails with exit codes",
    () =>
      Effect.gen(function* () {
        const env = { MILLRACE_URL: "memory:", MILLRACE_LOG_LEVEL: "loud" }
        const [help, level, wrong, away] = yield* Effect.all(
          [
            spawned(["--help"]),
            spawned(["tail", shop, "orders", "--end"], { env }),
            spawned(["describe", "nowhere.ts"]),
            spawned(["tail", shop, "orders"], { env: { MILLRACE_URL: "redis://127.0.0.1:1" } })
          ],
          { concurrency: 2 }
        )
        assert.include(good(help), "sendmany")
        refused(level, 2, "MILLRACE_LOG_LEVEL", "loud")
        refused(wrong, 2, "there is no file nowhere.ts")
        refused(away, 3, "127.0.0.1:1")
      }),
    // Four processes on a machine that may have more to do.
    120_000
  )

  it.live(
    "says where in a module it broke, also if another one imports that",
    () =>
      Effect.gen(function* () {
        const directory = yield* project({
          "package.json": `{"type":"module"}`,
          "syntax.ts": "export const = 1",
          "throws.ts": `\nthrow new RangeError("out of reach")`,
          "nested.ts": `import "./throws.ts"`
        })
        const [syntax, nested] = yield* Effect.all(
          ["syntax.ts", "nested.ts"].map((path) => spawned(["describe", join(directory, path)])),
          { concurrency: 2 }
        )
        refused(syntax!, 2, "syntax.ts cannot be loaded: SyntaxError: ", "syntax.ts:1)")
        refused(nested!, 2, "nested.ts cannot be loaded: RangeError: out of reach (", "throws.ts:2)")
      }),
    120_000
  )
})
