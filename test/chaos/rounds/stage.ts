/**
 * The engine of a round: a Redis of its own behind a proxy, which writes down what it was told before it answers, or a
 * file. Faults of the engine are told here; those of processes to the cast.
 */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { Effect, Scope } from "effect"
import { makeProxy, type Proxy } from "../../support/proxy.ts"
import { makeServer, type Server } from "../../support/redis.ts"
import type { Plan } from "./plan.ts"
import type { Timeline } from "./timeline.ts"

export interface Stage {
  /** For the processes of the round. */
  readonly url: string
  /** For those who look on: past the proxy. */
  readonly direct: string
  /** Of Redis. */
  readonly proxy: Proxy | undefined
  readonly restartServer: (crash: boolean, away: number) => Effect.Effect<void>
  /** Keep the write lock of the file. */
  readonly lock: (millis: number) => Effect.Effect<void>
}

/** Nothing that was answered may be lost by a kill. */
const safe = ["--appendonly", "yes", "--appendfsync", "always"]

const none = Effect.die(new Error("this engine has no such fault"))

export const makeStage = (
  plan: Plan,
  directory: string,
  timeline: Timeline
): Effect.Effect<Stage, never, Scope.Scope> =>
  plan.engine === "file" ? ofFile(directory) : ofRedis(directory, timeline)

const ofFile = (directory: string): Effect.Effect<Stage> =>
  Effect.sync(() => {
    const file = join(directory, "engine.db")
    const lock = (millis: number) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          const database = new DatabaseSync(file, { timeout: 1_000 })
          database.exec("BEGIN IMMEDIATE")
          return database
        }),
        () => Effect.sleep(millis),
        (database) =>
          Effect.sync(() => {
            database.exec("ROLLBACK")
            database.close()
          })
      ).pipe(Effect.catchDefect(() => Effect.void))
    const url = `file:${file}`
    return { url, direct: url, proxy: undefined, restartServer: () => none, lock }
  })

const ofRedis = (directory: string, timeline: Timeline): Effect.Effect<Stage, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    // Its own directory goes with each of its processes; what it stores stays from one to the next.
    const stored = join(directory, "redis")
    mkdirSync(stored)
    const options = [...safe, "--dir", stored]
    let server = yield* makeServer(options)
    const { port } = server
    const proxy = yield* makeProxy(port)
    const restartServer = (crash: boolean, away: number) =>
      Effect.gen(function* () {
        yield* crash ? server.kill : endOf(server)
        yield* Effect.sleep(away)
        server = yield* Scope.provide(scope)(makeServer(options, { port }))
        timeline.note("the server is back")
      })
    return { url: proxy.url, direct: server.url, proxy, restartServer, lock: () => none }
  })

/** Told to end, as by an administrator: it answers nobody any more, writes what is left, and exits. */
const endOf = (server: Server): Effect.Effect<void> =>
  Effect.gen(function* () {
    process.kill(server.pid, "SIGTERM")
    // Real time: another process ends.
    while (isAlive(server.pid)) yield* Effect.sleep("5 millis")
    yield* server.kill
  })

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
