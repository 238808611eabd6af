/** Every law on an embedded file, and what only files have: other processes, crashes, busy files, files that cannot be used. */

import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { createInterface } from "node:readline"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue, type Scope, Stream } from "effect"
import { Broker } from "../src/Broker.ts"
import * as Engine from "../src/Engine.ts"
import * as EmbeddedBroker from "../src/embedded/broker.ts"
import { type FileOptions, layerFile, Sqlite } from "../src/embedded/client.ts"
import * as EmbeddedTables from "../src/embedded/tableStore.ts"
import {
  append,
  claimed,
  commit,
  commitOf,
  eventsOf,
  fence,
  from,
  read,
  single,
  stored,
  text,
  topicOf
} from "../src/laws/broker/support.ts"
import * as Laws from "../src/laws/Laws.ts"
import { TableStore } from "../src/TableStore.ts"

const temporary: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

const engineOf = (options: FileOptions) =>
  Layer.mergeAll(EmbeddedBroker.layer, EmbeddedTables.layer).pipe(Layer.provideMerge(layerFile(options)))

const engine = Layer.unwrap(Effect.map(temporary, (directory) => engineOf({ file: join(directory, "laws.db") })))

Laws.broker("file", engine)
Laws.tableStore("file", engine)

const program = new URL("support/embedded.process.ts", import.meta.url).pathname

/** Another process, killed with the scope; its lines as a queue. */
const processOf = (
  role: string,
  file: string,
  argument: string
): Effect.Effect<{ readonly child: ChildProcess; readonly lines: Queue.Queue<string> }, never, Scope.Scope> =>
  Effect.gen(function* () {
    const lines = yield* Queue.unbounded<string>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [program, role, file, argument], { stdio: ["ignore", "pipe", "inherit"] })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    createInterface({ input: child.stdout! }).on("line", (line) => Queue.offerUnsafe(lines, line))
    return { child, lines }
  })

describe("several processes on one file", () => {
  it.live("an append wakes a blocked reader in another process within 20 ms", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "shared.db")
      const topic = topicOf()
      yield* Effect.gen(function* () {
        const { lines } = yield* processOf("read", file, topic.name)
        assert.strictEqual(yield* Queue.take(lines), "ready")
        const delays: Array<number> = []
        for (let i = 0; i < 41; i++) {
          // Not in step with the other side's polling.
          yield* Effect.sleep(7 + (i % 11))
          const sent = process.hrtime.bigint()
          yield* stored(topic, [single(`e${i}`)])
          const [event, at] = (yield* Queue.take(lines)).split(" ")
          assert.strictEqual(event, `e${i}`)
          delays.push(Number(BigInt(at!) - sent) / 1e6)
        }
        delays.sort((a, b) => a - b)
        assert.isBelow(delays[20]!, 20, `median of ${delays.map((delay) => delay.toFixed(1)).join(" ")}`)
      }).pipe(Effect.provide(engineOf({ file })))
    })
  )

  it.live("what a writer was told is stored survives its SIGKILL, and offset and rows agree", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "killed.db")
      const topic = topicOf()
      const { child, lines } = yield* processOf("write", file, topic.name)
      const told = yield* Stream.fromQueue(lines).pipe(Stream.take(200), Stream.runCollect)
      const exited = Effect.callback<void>((resume) => {
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
      yield* exited
      yield* Effect.gen(function* () {
        const batches = yield* read([from(topic)], 1_000_000)
        const events = eventsOf(batches)
        const ids = batches[0]!.entries.map((entry) => entry.id)
        assert.deepStrictEqual(
          told,
          events.slice(0, told.length).map((event, i) => `${event} ${ids[i]}`)
        )
        assert.deepStrictEqual(
          events,
          events.map((_, i) => `${i + 1}`)
        )
        const { committed, number } = yield* claimed("writer", [topic], fence(2))
        const [row] = yield* (yield* TableStore).readMany("writer", "count", 0, ["n"])
        assert.deepStrictEqual([text(row), committed[0]!.events], [`${number - 1}`, number - 1])
        assert.isAtLeast(number - 1, told.length)
      }).pipe(Effect.provide(engineOf({ file })))
    })
  )

  it.live("a file that another process keeps busy does not hold up the event loop", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "busy.db")
      const topic = topicOf()
      yield* Effect.gen(function* () {
        yield* stored(topic, [single("first")])
        const { lines } = yield* processOf("hold", file, "800")
        yield* Queue.take(lines)
        const loop = monitorEventLoopDelay({ resolution: 1 })
        loop.enable()
        const started = process.hrtime.bigint()
        const writing = yield* Effect.forkChild(stored(topic, [single("second")]))
        // Reading does not wait for a writer.
        assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), ["first"])
        assert.isBelow(Number(process.hrtime.bigint() - started) / 1e6, 200)
        yield* Fiber.join(writing)
        // The delay is measured when the loop turns again.
        yield* Effect.sleep(5)
        loop.disable()
        assert.isAbove(Number(process.hrtime.bigint() - started) / 1e6, 200)
        // A waiting SQLite would have stopped it for all of the 800 ms; a busy machine alone may take some.
        assert.isBelow(loop.max / 1e6, 400)
        assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), ["first", "second"])
      }).pipe(Effect.provide(engineOf({ file })))
    })
  )

  it.live("several connections append to one partition at once, and every entry is there once", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "contended.db")
      const topic = topicOf()
      const writer = (name: string) =>
        Effect.gen(function* () {
          for (let number = 1; number <= 100; number++) {
            const answer = yield* append(topic, [single(`${name} ${number}`)], { publisher: name, number })
            assert.strictEqual(answer._tag, "Stored")
            if (number % 10 === 0) yield* Effect.sleep(1)
          }
        }).pipe(Effect.provide(engineOf({ file }), { local: true }))
      yield* Effect.all(["a", "b", "c"].map(writer), { concurrency: 3 })
      const events = yield* Effect.provide(Effect.map(read([from(topic)]), eventsOf), engineOf({ file }))
      for (const name of ["a", "b", "c"]) {
        const own = events.filter((event) => event.startsWith(name))
        assert.deepStrictEqual(
          own,
          Array.from({ length: 100 }, (_, i) => `${name} ${i + 1}`)
        )
      }
      assert.strictEqual(events.length, 300)
    })
  )
})

describe("a file", () => {
  it.live("is there again after it was closed", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "again.db")
      const topic = topicOf()
      const publisher = randomUUID()
      const first = yield* Effect.provide(append(topic, [single("a")], { publisher }), engineOf({ file }))
      const again = yield* Effect.provide(append(topic, [single("a")], { publisher }), engineOf({ file }))
      assert(first._tag === "Stored")
      assert.deepStrictEqual(again, { _tag: "Stored", ids: first.ids, repeated: true })
    })
  )

  it.live("of schema 1 is brought up to date, with what it holds", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "older.db")
      const topic = topicOf()
      const first = Effect.gen(function* () {
        yield* stored(topic, [single("a")])
        yield* claimed("p", [topic], fence(1))
        yield* commit(commitOf("p", fence(1), 1))
      })
      yield* Effect.provide(first, engineOf({ file }))
      // As schema 1 was.
      const older = new DatabaseSync(file)
      older.exec(
        "DROP TABLE lanes; DROP TABLE parked; DROP TABLE job_facts; ALTER TABLE fences DROP COLUMN trial; " +
          "ALTER TABLE tables DROP COLUMN redacted; PRAGMA user_version = 1"
      )
      older.close()
      const second = Effect.gen(function* () {
        const { number, probation } = yield* claimed("p", [topic], fence(2, "two"))
        assert.deepStrictEqual([number, probation], [2, undefined])
        const parking = { drop: [], park: [], remove: [], states: [] }
        const park = [{ lane: "k", topic: topic.name, offset: "1-0.0", fields: ["v", "a"] }]
        yield* commit(commitOf("p", fence(2, "two"), 2, { parking: { ...parking, park } }))
        return (yield* claimed("p", [topic], fence(3, "three"))).lanes.map(({ lane }) => lane)
      })
      assert.deepStrictEqual(yield* Effect.provide(second, engineOf({ file })), ["k"])
      const newer = new DatabaseSync(file)
      assert.deepStrictEqual({ ...newer.prepare("PRAGMA user_version").get() }, { user_version: 3 })
      newer.close()
    })
  )

  it.live("holds several namespaces that do not see each other", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "names.db")
      const topic = topicOf()
      yield* Effect.provide(stored(topic, [single("a")]), engineOf({ file, namespace: "one" }))
      const other = engineOf({ file, namespace: "two" })
      assert.deepStrictEqual(yield* Effect.provide(read([from(topic)]), other), [])
    })
  )

  it.live("reaches the disk when asked to, and has no replicas", () =>
    Effect.gen(function* () {
      const topic = topicOf()
      const entries = [single("a")]
      yield* Effect.gen(function* () {
        const broker = yield* Broker
        const publisher = randomUUID()
        const one = { topic, partition: 0, publisher, number: 1, entries }
        assert.strictEqual((yield* broker.append([one], "fsync"))[0]!._tag, "Stored")
        const error = yield* Effect.flip(broker.append([{ ...one, number: 2 }], { replicas: 1 }))
        assert.strictEqual(error._tag, "DurabilityNotReached")
        assert.strictEqual(eventsOf(yield* read([from(topic)])).length, 2)
      }).pipe(Effect.provide(engine))
    })
  )
})

describe("changes", () => {
  const changes = Effect.gen(function* () {
    const sqlite = yield* Sqlite
    const ticket = sqlite.ticket("a")
    const failed = sqlite.transaction("fails", () => {
      sqlite.notify("a")
      throw new Error("rolled back")
    })
    yield* Effect.exit(failed)
    assert.strictEqual(sqlite.ticket("a"), ticket)
    yield* sqlite.transaction("succeeds", () => sqlite.notify("a"))
    // It happened before the wait began.
    yield* sqlite.changed("a", ticket)
    const waiting = yield* Effect.forkChild(sqlite.changed("a"), { startImmediately: true })
    sqlite.notify("b")
    yield* Effect.yieldNow
    assert.isUndefined(waiting.pollUnsafe())
    sqlite.notify("a")
    yield* Fiber.join(waiting)
  })

  it.live("are told after the commit, on their own channel, also to who comes late", () =>
    Effect.provide(changes, engine)
  )

  it.live("of another connection wake every channel", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "foreign.db")
      yield* Effect.gen(function* () {
        const sqlite = yield* Sqlite
        const ticket = sqlite.ticket("any")
        const other = new DatabaseSync(file)
        other.exec("INSERT INTO topics (name, partitions) VALUES ('x', 1)")
        other.close()
        yield* sqlite.changed("any", ticket)
      }).pipe(Effect.provide(engineOf({ file })))
    })
  )
})

describe("a file that cannot be used is refused with its name and what to do", () => {
  const refusal = (file: string) => Effect.flip(Effect.scoped(Layer.build(engineOf({ file }))))

  const refusedWith = (file: string, ...parts: ReadonlyArray<string>) =>
    Effect.map(refusal(file), (error) => {
      assert.strictEqual(error._tag, "EngineError")
      assert.strictEqual(error.reason, "Refused")
      for (const part of [file, ...parts]) assert.include(error.message, part)
    })

  it.live("no database, another program's, a newer release's, a directory", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const words = join(directory, "words.txt")
      writeFileSync(words, "these are words, and no database at all. ".repeat(100))
      yield* refusedWith(words, "not an SQLite database", "name another file")

      const foreign = join(directory, "foreign.db")
      const other = new DatabaseSync(foreign)
      other.exec("CREATE TABLE mine (x)")
      other.close()
      yield* refusedWith(foreign, "another program", "name another file")

      const newer = join(directory, "newer.db")
      yield* Effect.scoped(Layer.build(engineOf({ file: newer })))
      const later = new DatabaseSync(newer)
      later.exec("PRAGMA user_version = 99")
      later.close()
      yield* refusedWith(newer, "newer release", "upgrade")
      yield* refusedWith(directory, "not a file")
    })
  )

  it.live("a missing directory", () =>
    Effect.gen(function* () {
      const missing = join(yield* temporary, "missing")
      const error = yield* refusal(join(missing, "x.db"))
      assert.include(error.message, `the directory ${missing} does not exist; create it`)
    })
  )

  it.live("no lock is needed to open what is there: another program may be writing without a pause", () =>
    Effect.gen(function* () {
      const file = join(yield* temporary, "busy.db")
      yield* Effect.scoped(Layer.build(Engine.layerEmbedded({ file })))
      const writer = new DatabaseSync(file)
      writer.exec("BEGIN IMMEDIATE")
      yield* Effect.scoped(Layer.build(Engine.layerEmbedded({ file })))
      writer.exec("ROLLBACK")
      writer.close()
    })
  )

  it.live("a file that may not be written", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const file = join(directory, "locked.db")
      yield* Effect.scoped(Layer.build(engineOf({ file })))
      chmodSync(file, 0o444)
      chmodSync(directory, 0o555)
      // Nothing is read-only for root: then another user tries.
      const { lines } = yield* processOf("open", file, process.getuid?.() === 0 ? "65534" : "")
      const message = yield* Queue.take(lines)
      chmodSync(directory, 0o755)
      assert.include(message, file)
      assert.include(message, "let this user")
    })
  )
})
