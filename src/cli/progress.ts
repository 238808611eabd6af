/**
 * How far long work is, as one line of a terminal's stderr that is written again and again; where stderr is no terminal,
 * nothing. Told by counting up, so that nobody waits for it.
 */
import { Effect, Stdio, Stream } from "effect"
import { Quiet } from "./globals.ts"

const width = 24
const everyMillis = 100

export interface Progress {
  /** Things that are done. */
  done: number
  /** Of so many, in whatever unit; 0: nobody knows. */
  part: number
  whole: number
}

const grouped = (count: number): string => count.toLocaleString("en-US")

/** `sent 12,000  [########----------------]  33 %`. */
export const lineOf = (verb: string, { done, part, whole }: Progress): string => {
  if (whole <= 0) return `${verb} ${grouped(done)}`
  const share = Math.min(1, part / whole)
  const filled = Math.round(share * width)
  return `${verb} ${grouped(done)}  [${"#".repeat(filled)}${"-".repeat(width - filled)}] ${String(Math.floor(share * 100)).padStart(3)} %`
}

/** Shows it while the work goes on; the last state stays. */
export const withProgress = <A, E, R>(
  verb: string,
  whole: number,
  work: (progress: Progress) => Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const stdio = yield* Stdio.Stdio
    const progress: Progress = { done: 0, part: 0, whole }
    if ((yield* Quiet) || !(yield* stdio.stderrIsTerminal)) return yield* work(progress)
    const write = (text: string) => Effect.ignore(Stream.run(Stream.make(text), stdio.stderr()))
    // Carriage return, and the rest of the old line is cleared.
    const draw = Effect.suspend(() => write(`\r${lineOf(verb, progress)}\u001b[K`))
    return yield* Effect.scoped(
      Effect.gen(function* () {
        yield* Effect.addFinalizer(() => Effect.andThen(draw, write("\n")))
        yield* Effect.forkScoped(Effect.forever(Effect.andThen(draw, Effect.sleep(everyMillis))))
        return yield* work(progress)
      })
    )
  })
