/** For commands that go on until somebody ends them: being interrupted is how they are done, and exits with 0. */
import { Context, Effect } from "effect"

/** Of this run of the program; main reads it when the run was interrupted. */
export const Interruption = Context.Reference<{ isDone: boolean }>("millrace/cli/Interruption", {
  defaultValue: () => ({ isDone: false })
})

export const interruptible = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Interruption, (state) => {
    state.isDone = true
    return self
  })
