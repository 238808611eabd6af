/**
 * Child processes of a test: their lines as they come, ended with the scope. They write into a file, since what stands in
 * a pipe when a process exits may be lost.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"

export interface Line {
  readonly what: string
  readonly [field: string]: unknown
}

export interface Child {
  readonly process: ChildProcess
  readonly close: () => void
  readonly lines: ReadonlyArray<Line>
  /** What it wrote to stderr so far. */
  readonly errors: () => string
  /** The first line, from now or before, that fits; fails after 20 seconds. */
  readonly until: (fits: (line: Line) => boolean, what: string) => Effect.Effect<Line>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Its exit code, or the signal that ended it. */
  readonly exit: Effect.Effect<number | NodeJS.Signals | null>
}

/** Start `test/support/<name>.process.ts`. */
export const start = (name: string, env: Record<string, string>): Effect.Effect<Child, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync((): Child => {
      const file = fileURLToPath(new URL(`./${name}.process.ts`, import.meta.url))
      const directory = mkdtempSync(join(tmpdir(), "millrace-process-"))
      const output = openSync(join(directory, "lines"), "a+")
      const errors = openSync(join(directory, "errors"), "a+")
      const child = spawn(process.execPath, [file], {
        env: { ...process.env, ...env },
        stdio: ["ignore", output, errors]
      })
      const lines: Array<Line> = []
      const listeners = new Set<() => void>()
      const buffer = Buffer.alloc(64 * 1024)
      let read = 0
      let rest = ""
      const look = (): void => {
        for (let size = 1; size > 0; read += size) {
          size = readSync(output, buffer, 0, buffer.length, read)
          rest += buffer.toString("utf8", 0, size)
        }
        const complete = rest.split("\n")
        rest = complete.pop()!
        for (const text of complete) if (text.startsWith("{")) lines.push(JSON.parse(text))
        if (complete.length > 0) for (const listener of listeners) listener()
      }
      // Real time: another process writes.
      const timer = setInterval(look, 10)
      const close = (): void => {
        clearInterval(timer)
        closeSync(output)
        closeSync(errors)
        rmSync(directory, { recursive: true, force: true })
      }
      const exited = new Promise<number | NodeJS.Signals | null>((resolve) => {
        child.once("exit", (code, signal) => resolve(code ?? signal))
      })
      return {
        process: child,
        lines,
        errors: () => readFileSync(join(directory, "errors"), "utf8"),
        close,
        until: (fits, what) =>
          Effect.callback<Line>((resume) => {
            const look = (): void => {
              const line = lines.find(fits)
              if (line === undefined) return
              listeners.delete(look)
              resume(Effect.succeed(line))
            }
            listeners.add(look)
            look()
            return Effect.sync(() => listeners.delete(look))
          }).pipe(
            Effect.timeoutOrElse({
              duration: "20 seconds",
              orElse: () =>
                Effect.die(new Error(`${name} never said: ${what}; it said ${JSON.stringify(lines.slice(-10))}`))
            })
          ),
        signal: (signal) => Effect.sync(() => void child.kill(signal)),
        exit: Effect.promise(() => exited)
      }
    }),
    ({ close, process: child }) =>
      Effect.sync(() => {
        child.kill("SIGCONT")
        child.kill("SIGKILL")
        close()
      })
  )
