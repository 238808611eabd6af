/**
 * Process signals, for a worker that is asked to handle them: the first SIGTERM or SIGINT drains, a second one or SIGQUIT
 * ends the process at once, SIGUSR1 prints what every part is doing.
 *
 * Gotcha: `NodeRuntime.runMain` interrupts its program on the first SIGTERM or SIGINT too; that is the same drain.
 */
import { constants } from "node:os"
import { Console, Effect, type Scope } from "effect"

/** Handles them until the scope closes; afterwards they do again what they did before. */
export const install = (options: {
  readonly drain: () => void
  /** One line for each partition; what was asked for is printed as it is. */
  readonly report: () => string
}): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.contextWith((context) =>
      Effect.sync(() => {
        const print = (text: string): void => Effect.runSyncWith(context)(Console.error(text))
        let draining = false
        const now = (signal: NodeJS.Signals): void => {
          print(`${signal}: stopping now; what is not committed is handled again`)
          // What shells give for a signal: 130, 143, 131.
          process.exit(128 + constants.signals[signal])
        }
        const end = (signal: NodeJS.Signals): void => {
          if (draining) return now(signal)
          draining = true
          print(`${signal}: finishing what runs; again, or SIGQUIT, stops now`)
          options.drain()
        }
        const listeners: ReadonlyArray<readonly [NodeJS.Signals, (signal: NodeJS.Signals) => void]> = [
          ["SIGTERM", end],
          ["SIGINT", end],
          ["SIGQUIT", now],
          ["SIGUSR1", () => print(options.report())]
        ]
        for (const [signal, listener] of listeners) process.on(signal, listener)
        return listeners
      })
    ),
    (listeners) =>
      Effect.sync(() => {
        for (const [signal, listener] of listeners) process.off(signal, listener)
      })
  )
