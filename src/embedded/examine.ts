/** What the file of an embedded engine is like: may it be written, is it sound, is there room on its disk. */
import { accessSync, constants, statfsSync } from "node:fs"
import { dirname, resolve } from "node:path"
import { Effect } from "effect"
import type { EngineError } from "../Errors.ts"
import { type Finding, finding } from "../internal/finding.ts"
import { type FileOptions, layerFile, Sqlite } from "./client.ts"

const mebibyte = 1024 * 1024
/** With less room on its disk a file is a problem. */
const leastFree = 64 * mebibyte

const room = (directory: string): Finding => {
  const { bavail, bsize } = statfsSync(directory)
  const free = bavail * bsize
  const text = `${Math.floor(free / mebibyte).toLocaleString("en-US")} MiB are free on its disk`
  return free >= leastFree ? finding("storage", "ok", text) : finding("storage", "problem", `only ${text}: make room`)
}

const writable = (directory: string): Finding => {
  try {
    accessSync(directory, constants.W_OK)
    return finding("acl", "ok", `${directory} may be written`)
  } catch {
    return finding("acl", "problem", `this user may not write ${directory}, where SQLite keeps its journal`)
  }
}

/** Opens the file; one that cannot be opened is the failure. */
export const examine = (options: FileOptions): Effect.Effect<ReadonlyArray<Finding>, EngineError> =>
  Effect.gen(function* () {
    const sqlite = yield* Sqlite
    const [version, mode, sound] = yield* sqlite.query("examine", (db) => [
      db.prepare("SELECT sqlite_version() AS value").get<{ readonly value: string }>()!.value,
      db.prepare("PRAGMA journal_mode").get<{ readonly journal_mode: string }>()!.journal_mode,
      db.prepare("PRAGMA quick_check(1)").get<{ readonly quick_check: string }>()!.quick_check
    ])
    const directory = dirname(resolve(options.file))
    return [
      finding("version", "ok", `SQLite ${version}`),
      mode === "wal"
        ? finding("persistence", "ok", "write-ahead log: what is committed survives the death of the process")
        : finding(
            "persistence",
            "problem",
            `journal mode ${mode} instead of wal: another program has changed the file`
          ),
      sound === "ok"
        ? finding("storage", "ok", "the file is sound")
        : finding("storage", "problem", `the file is damaged (${sound}): restore it from a backup`),
      room(directory),
      writable(directory)
    ]
  }).pipe(Effect.provide(layerFile(options)))
