/** Carries out the faults of a plan, each at its time, over one another as they come; ends when all are over. */
import { Effect, Semaphore } from "effect"
import type { Cast } from "./cast.ts"
import { describe, type Fault, type Plan } from "./plan.ts"
import type { Stage } from "./stage.ts"
import type { Timeline } from "./timeline.ts"

export const carryOut = (plan: Plan, stage: Stage, cast: Cast, timeline: Timeline): Effect.Effect<void> =>
  Effect.suspend(() => {
    const rolling = Semaphore.makeUnsafe(1)
    const server = Semaphore.makeUnsafe(1)
    const network = Semaphore.makeUnsafe(1)

    const proxied = (f: (proxy: NonNullable<Stage["proxy"]>) => Effect.Effect<void>): Effect.Effect<void> => {
      timeline.count("cuts")
      return stage.proxy === undefined ? Effect.die("there is no proxy") : network.withPermits(1)(f(stage.proxy))
    }

    const perform = (fault: Fault): Effect.Effect<void> => {
      switch (fault._tag) {
        case "Kill":
          return cast.kill(fault.worker, fault.away)
        case "Pause":
          return cast.pause(fault.worker, fault.millis, fault.thenKill)
        case "Restart":
          return cast.restart(fault.worker, fault.patience)
        case "RestartAll":
          return rolling.withPermits(1)(
            Effect.forEach(plan.workers.keys(), (worker) => cast.restart(worker, 0), { discard: true })
          )
        case "Replace":
          return cast.replace(fault.worker, fault.millis)
        case "KillPublisher":
          return cast.killPublisher(fault.publisher)
        case "ServerRestart":
          timeline.count("server restarts")
          return server.withPermits(1)(stage.restartServer(fault.crash, fault.away))
        case "Lock":
          timeline.count("locks")
          return stage.lock(fault.millis)
        case "Cut":
          return proxied((proxy) => proxy.cut)
        case "CutAfter":
          return proxied((proxy) => proxy.cutAfter(fault.bytes, fault.direction))
        case "Slow":
          return proxied((proxy) =>
            Effect.andThen(proxy.delay(fault.by), Effect.andThen(Effect.sleep(fault.millis), proxy.delay(0)))
          )
        case "LoseAnswers":
          return proxied((proxy) =>
            Effect.andThen(proxy.loseAnswers, Effect.andThen(Effect.sleep(fault.millis), proxy.cut))
          )
        case "Hold":
          return proxied((proxy) =>
            Effect.andThen(proxy.hold(true), Effect.andThen(Effect.sleep(fault.millis), proxy.hold(false)))
          )
      }
    }

    return Effect.forEach(
      plan.faults,
      ({ at, fault }) =>
        Effect.gen(function* () {
          // Real time: processes run meanwhile.
          yield* Effect.sleep(at)
          timeline.note(describe(fault))
          yield* perform(fault)
          timeline.note(`over: ${describe(fault)}`)
        }),
      { concurrency: "unbounded", discard: true }
    )
  })
