/** Child processes of a test: their lines as they come, ended with the scope. */
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"

export interface Line {
  readonly what: string
  readonly [field: string]: unknown
}

export interface Child {
  readonly process: ChildProcess
  readonly lines: ReadonlyArray<Line>
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
      const child = spawn(process.execPath, [file], {
        env: { ...process.env, ...env },
        stdio: ["ignore", "pipe", "inherit"]
      })
      const lines: Array<Line> = []
      const listeners = new Set<() => void>()
      createInterface({ input: child.stdout! }).on("line", (text) => {
        if (text.startsWith("{")) lines.push(JSON.parse(text))
        for (const look of listeners) look()
      })
      const exited = new Promise<number | NodeJS.Signals | null>((resolve) => {
        child.once("exit", (code, signal) => resolve(code ?? signal))
      })
      return {
        process: child,
        lines,
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
    ({ process: child }) =>
      Effect.sync(() => {
        child.kill("SIGCONT")
        child.kill("SIGKILL")
      })
  )
