/** Where engines of tests store things that real processes share: each is gone with the scope. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, type Scope } from "effect"
import { makeServer } from "./redis.ts"

export const directory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

export const fileUrl = Effect.map(directory, (path) => `file:${join(path, "engine.db")}`)

/** A new one each time. */
export const urls: ReadonlyArray<readonly [name: string, url: Effect.Effect<string, unknown, Scope.Scope>]> = [
  ["file", fileUrl],
  ["redis", Effect.map(makeServer(), (server) => server.url)]
]
