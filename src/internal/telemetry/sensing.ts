/** Calls the hooks of `Sensor.layer`. What a step needs for that is made when its owner is; without hooks it is nothing. */
import { Clock, Context, Effect, type Exit } from "effect"
import type { Hook, Hooks } from "../../Sensor.ts"
import { Repeats } from "../run/repeats.ts"

export const CurrentHooks = Context.Reference<ReadonlyArray<Hooks>>("millrace/Sensor/Hooks", {
  defaultValue: () => []
})

type Begin<K extends keyof Hooks> = Hooks[K] extends Hook<infer B, any> | undefined ? B : never
type End = (exit: Exit.Exit<unknown, unknown>) => void

/** Begins a step with all hooks of this kind, and gives what ends it; undefined: there is none. */
export type Sense<K extends keyof Hooks> = ((begin: Begin<K>) => End) | undefined

/** What was said of hooks that fail. */
const told = new WeakMap<ReadonlyArray<Hooks>, Repeats>()

export const senseOf = <K extends keyof Hooks>(context: Context.Context<never>, kind: K): Sense<K> => {
  const all = Context.get(context, CurrentHooks)
  const hooks = all.flatMap((one) => (one[kind] as Hook<Begin<K>> | undefined) ?? [])
  if (hooks.length === 0) return undefined
  const clock = Context.get(context, Clock.Clock)
  let repeats = told.get(all)
  if (repeats === undefined) told.set(all, (repeats = new Repeats()))
  const said = repeats
  const guarded = <A>(f: () => A): A | undefined => {
    try {
      return f()
    } catch (error) {
      const line = Effect.logWarning(`a hook of Sensor.layer failed (${kind}); what it watches goes on`, error)
      Effect.runForkWith(context)(said.say(kind, clock.currentTimeMillisUnsafe(), line))
      return undefined
    }
  }
  return (begin) => {
    const ends = hooks.map((hook) => guarded(() => hook(begin)))
    return (exit) => {
      for (const end of ends) if (typeof end === "function") guarded(() => end(exit))
    }
  }
}

/** An effect as a step. */
export const sensed = <B, A, E, R>(
  sense: (begin: B) => End,
  begin: () => B,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const end = sense(begin())
    return Effect.onExit(effect, (exit) => Effect.sync(() => end(exit)))
  })
