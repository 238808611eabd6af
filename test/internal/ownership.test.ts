/** What a worker does with statements that were on their way while it let a partition go. */
import { assert, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { Coordinator, Statement, Sync } from "../../src/Coordinator.ts"
import type { Group } from "../../src/internal/run/group.ts"
import { Lease } from "../../src/internal/run/lease.ts"
import * as Ownership from "../../src/internal/run/ownership.ts"

it.effect("an epoch that was let go is not taken up again: it is granted anew, under a higher one", () =>
  Effect.gen(function* () {
    const asked: Array<Sync> = []
    const answers = yield* Effect.forEach(Array.from({ length: 5 }), () => Deferred.make<Statement>())
    const coordinator = {
      sync: (request: Sync) => {
        asked.push(request)
        return Deferred.await(answers[asked.length - 1]!)
      },
      wakes: () => Stream.never
    } as unknown as Coordinator["Service"]
    const epochs = new Map<number, bigint>()
    const started: Array<bigint> = []
    const group = {
      definition: { topics: [{ partitions: 1 }] },
      epochs,
      start: (partition: number, epoch: bigint) =>
        Effect.sync(() => {
          started.push(epoch)
          epochs.set(partition, epoch)
        }),
      revoke: () => {},
      drop: (partition: number) => Effect.sync(() => void epochs.delete(partition)),
      pause: () => {}
    } as unknown as Group
    const ownership = yield* Ownership.make({
      coordinator,
      member: "m",
      incarnation: "i",
      lease: new Lease(yield* Clock.Clock),
      leaseMillis: 1_000,
      settle: 0,
      grace: 0,
      groups: new Map([["p", group]]),
      onChange: () => {}
    })
    yield* Effect.forkScoped(ownership.run)
    // In steps, so that what one moment sets going has gone on before the test does.
    const settle = Effect.repeat(TestClock.adjust(1), { times: 10 })
    const mine = (epoch: bigint) => [{ processor: "p", partition: 0, epoch, paused: false, giveUp: false }]

    yield* settle
    yield* Deferred.succeed(answers[0]!, { number: 1n, mine: mine(1n), next: 300 })
    yield* TestClock.adjust(300)
    assert.lengthOf(asked, 2)
    // The engine states what we own; we lose it before the statement is here.
    ownership.lost("p", 0, 1n, undefined)
    yield* settle
    yield* Deferred.succeed(answers[1]!, { number: 2n, mine: mine(1n), next: 300 })
    yield* settle
    assert.deepStrictEqual(started, [1n])
    assert.lengthOf(asked, 3)
    const grant = { processor: "p", partition: 0 }
    assert.deepStrictEqual(asked[2]!.released, [{ ...grant, epoch: 1n }])
    assert.deepStrictEqual(asked[2]!.refused, [{ ...grant, epoch: 1n }])
    yield* Deferred.succeed(answers[2]!, { number: 3n, mine: mine(5n), next: 300 })
    yield* settle
    assert.deepStrictEqual(started, [1n, 5n])

    // Once more, and the engine comes back in a state in which a still older epoch was ours.
    ownership.lost("p", 0, 5n, undefined)
    yield* settle
    assert.lengthOf(asked, 4)
    yield* Deferred.succeed(answers[3]!, { number: 4n, mine: mine(3n), next: 300 })
    yield* settle
    assert.deepStrictEqual(started, [1n, 5n])
    assert.deepStrictEqual(asked[4]!.refused, [{ ...grant, epoch: 5n }])
    yield* Deferred.succeed(answers[4]!, { number: 5n, mine: mine(6n), next: 300 })
    yield* settle
    assert.deepStrictEqual(started, [1n, 5n, 6n])
  })
)
