/** How the laws of a port are registered: by which clock, with how many random ones, and what each group of them is given. */
import { randomUUID } from "node:crypto"
import { it, type Vitest } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { TestClock } from "effect/testing"

export interface Options {
  /** Real time (the default); false runs the laws on the test's clock, for engines that go by Effect's. */
  readonly live?: boolean | undefined
  /** Random schedules of members, of the coordinator's laws: 3 in real time, 40 on the test's clock. */
  readonly seeds?: number | undefined
}

/** Registers the laws of a port under this name. */
export type Suite<Port> = (name: string, layer: Layer.Layer<Port, unknown>, options?: Options) => void

/** Let so many milliseconds pass on the engine's clock. */
export type Elapse = (millis: number) => Effect.Effect<void>

/** With the defaults. */
export const chosen = ({ live = true, seeds = live ? 3 : 40 }: Options = {}) => {
  const elapse: Elapse = live ? (millis) => Effect.sleep(millis) : (millis) => TestClock.adjust(millis)
  return { live, seeds, elapse }
}

export type Chosen = ReturnType<typeof chosen>

/** What a group of laws is registered with. */
export interface Registering<Port> {
  readonly it: Vitest.MethodsNonLive<Port>
  readonly elapse: Elapse
}

/** Laws that share one engine, under the name of their port. */
export const suite =
  <Port>(port: string, register: (laws: Registering<Port>) => void): Suite<Port> =>
  (name, layer, options) => {
    const { elapse, live } = chosen(options)
    it.layer(layer, { excludeTestServices: live, timeout: "30 seconds" })(`${port} laws: ${name}`, (it) =>
      register({ it, elapse })
    )
  }

/** A name that no other law uses, in this run or another. */
export const unique = (name: string): string => `${name}-${randomUUID()}`
