/**
 * Faults around the ports of an engine: what a network and a server do to a program on a bad day, at the calls that you
 * choose. Works on every engine; the program is told nothing but what it would be told then.
 *
 *     const plan: Faults.Plan = (port, method, call) =>
 *       method === "commit" && call === 1 ? { _tag: "LoseReply" } : undefined
 *     program.pipe(Effect.provide(Faults.layer(plan).pipe(Layer.provideMerge(Engine.layerMemory))))
 *
 * Delays are on Effect's clock, so under `TestClock` they last until the test moves it.
 */
import { type Duration, Effect, Layer, Stream } from "effect"
import { Broker, type Reader } from "../Broker.ts"
import { Coordinator } from "../Coordinator.ts"
import { EngineError } from "../Errors.ts"
import { JobStore } from "../JobStore.ts"
import { TableStore } from "../TableStore.ts"
import { isHint, mapMethods, mapReader, type Port, type Ports, unreachable } from "./ports.ts"

export type { Port }

/**
 * What happens to one call. Failures are `EngineError`s, as a lost connection gives them. Calls that cannot fail and
 * only wait for a hint (`awaitRoom`, `wake`) lose the hint instead.
 */
export type Fault =
  /** Not applied; fails as `Unreachable`. */
  | { readonly _tag: "Fail" }
  /** Not applied; fails as `Full`: the server has no memory, or the disk no room. */
  | { readonly _tag: "Full" }
  /** Applied after a while. */
  | { readonly _tag: "Delay"; readonly by: Duration.Input }
  /** Applied at once, answered after a while. */
  | { readonly _tag: "DelayReply"; readonly by: Duration.Input }
  /** Applied; then fails as `Unreachable`. */
  | { readonly _tag: "LoseReply" }
  /** Applied twice in a row; the caller gets the answer to the first (default) or to the second. */
  | { readonly _tag: "SendTwice"; readonly answer?: "first" | "second" | undefined }
  /** Applied and answered, and applied once more so much later: a duplicate that the network had kept. */
  | { readonly _tag: "Late"; readonly by: Duration.Input }

/** Asked before every call: of which port and method, and how many times that method was called, from 1. */
export type Plan = (port: Port, method: string, call: number) => Fault | undefined

type Ask = (method: string) => Fault | undefined

const asking = (plan: Plan, port: Port): Ask => {
  const calls = new Map<string, number>()
  return (method) => {
    const call = (calls.get(method) ?? 0) + 1
    calls.set(method, call)
    return plan(port, method, call)
  }
}

const lost = (method: string): EngineError => unreachable(method, "a planned fault: applied, and its answer was lost")

const meet = <A, E, R>(
  fault: Fault | undefined,
  method: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | EngineError, R> => {
  switch (fault?._tag) {
    case undefined:
      return effect
    case "Fail":
      return Effect.fail(unreachable(method, "a planned fault: not applied"))
    case "Full":
      return Effect.fail(
        new EngineError({ operation: method, reason: "Full", detail: "a planned fault: no room, not applied" })
      )
    case "Delay":
      return Effect.delay(effect, fault.by)
    case "DelayReply":
      return Effect.flatMap(Effect.exit(effect), (exit) => Effect.delay(exit, fault.by))
    case "LoseReply":
      // A refusal is an answer too.
      return Effect.andThen(Effect.exit(effect), Effect.fail(lost(method)))
    case "SendTwice":
      return fault.answer === "second"
        ? Effect.andThen(Effect.exit(effect), effect)
        : Effect.flatMap(Effect.exit(effect), (first) => Effect.andThen(Effect.exit(effect), first))
    case "Late":
      // Nobody waits for it: it outlives its caller, as what the network keeps does.
      return Effect.andThen(Effect.forkDetach(Effect.delay(Effect.exit(effect), fault.by)), effect)
  }
}

/** A hint that is lost is no failure. */
const meetHint = (fault: Fault | undefined, effect: Effect.Effect<void>): Effect.Effect<void> => {
  if (fault?._tag === "Fail" || fault?._tag === "Full") return Effect.void
  return Effect.ignore(meet(fault, "", effect))
}

const aroundReader = (reader: Reader, ask: Ask): Reader =>
  mapReader(reader, (method, effect) =>
    Effect.suspend(() => {
      const fault = ask(method)
      // `mapReader` asks for the effect's own failures; those of `read` are `EngineError`s already.
      return (method === "wake" ? meetHint(fault, effect as Effect.Effect<any>) : meet(fault, method, effect)) as never
    })
  )

/** Subscribing or connecting twice, or late, is doing it: only what keeps it from happening is a fault. */
const opening = (fault: Fault | undefined): Fault | undefined =>
  fault?._tag === "SendTwice" || fault?._tag === "Late" ? undefined : fault

const aroundStream = <A, E, R>(stream: Stream.Stream<A, E, R>, method: string, ask: Ask) =>
  Stream.unwrap(Effect.suspend(() => meet(opening(ask(method)), method, Effect.succeed(stream))))

/** The same services, with faults. */
export const around = (ports: Ports, plan: Plan): Ports => {
  const wrap = <S extends object>(port: Port, service: S): S => {
    const ask = asking(plan, port)
    return mapMethods(service, (method, call) => {
      const result = call()
      if (Stream.isStream(result)) return aroundStream(result, method, ask)
      const effect = result as Effect.Effect<unknown, unknown, unknown>
      if (isHint(method)) return Effect.suspend(() => meetHint(ask(method), effect as Effect.Effect<void>))
      if (method !== "reader") return Effect.suspend(() => meet(ask(method), method, effect))
      const opened = Effect.suspend(() => meet(opening(ask(method)), method, effect))
      return Effect.map(opened, (reader) => aroundReader(reader as Reader, ask))
    })
  }
  return {
    Broker: wrap("Broker", ports.Broker),
    Coordinator: wrap("Coordinator", ports.Coordinator),
    TableStore: wrap("TableStore", ports.TableStore),
    JobStore: wrap("JobStore", ports.JobStore)
  }
}

type Services = Broker | Coordinator | TableStore | JobStore

/** The ports of the engine below, with faults. One plan sees all calls of the programs that this layer is given to. */
export const layer = (plan: Plan): Layer.Layer<Services, never, Services> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const ports = around(
        {
          Broker: yield* Broker,
          Coordinator: yield* Coordinator,
          TableStore: yield* TableStore,
          JobStore: yield* JobStore
        },
        plan
      )
      return Layer.mergeAll(
        Layer.succeed(Broker, ports.Broker),
        Layer.succeed(Coordinator, ports.Coordinator),
        Layer.succeed(TableStore, ports.TableStore),
        Layer.succeed(JobStore, ports.JobStore)
      )
    })
  )
