/**
 * A worker with three shards on a Redis Cluster: slots that move under it, primaries that hand over or die. Each test has
 * the same cluster, and leaves it whole.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as keys from "../../src/redis/keys.ts"
import { type Load, underLoad } from "../support/load.ts"
import { eventually, inStep, makeClusterWith, type Server } from "../support/redis.ts"
import { sharedInFile } from "../support/sharedInFile.ts"

const cluster = sharedInFile(makeClusterWith(1))
const shape = { partitions: 24, shards: 3, keys: 24 }

const isPrimary = (node: Server): Effect.Effect<boolean> =>
  Effect.map(node.call("role"), (role) => (role as ReadonlyArray<unknown>)[0] === "master")

/** The primary that has the slot of a key. */
const ownerOf = (
  nodes: ReadonlyArray<Server>,
  key: string
): Effect.Effect<{ readonly node: Server; readonly slot: number }> =>
  Effect.gen(function* () {
    const slot = Number(yield* nodes[0]!.call("cluster", "keyslot", key))
    const ranges = (yield* nodes[0]!.call("cluster", "slots")) as ReadonlyArray<
      readonly [number, number, readonly [string, number]]
    >
    const [, , [, port]] = ranges.find(([from, to]) => from <= slot && slot <= to)!
    return { node: nodes.find((node) => node.port === port)!, slot }
  })

/** Move a slot as redis-cli does, a few keys at a time, with a pause in the middle. */
const migrate = (nodes: ReadonlyArray<Server>, key: string, half: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const { node: from, slot } = yield* ownerOf(nodes, key)
    const primaries: Array<Server> = []
    for (const node of nodes) if (yield* isPrimary(node)) primaries.push(node)
    const to = primaries.find((node) => node !== from)!
    const [fromId, toId] = [yield* from.call("cluster", "myid"), yield* to.call("cluster", "myid")]
    yield* to.call("cluster", "setslot", slot, "importing", String(fromId))
    yield* from.call("cluster", "setslot", slot, "migrating", String(toId))
    for (let moved = 0; ; moved++) {
      const names = (yield* from.call("cluster", "getkeysinslot", slot, 5)) as ReadonlyArray<string>
      if (names.length === 0) break
      yield* from.call("migrate", "127.0.0.1", to.port, "", 0, 5_000, "keys", ...names)
      if (moved === 0) yield* half
    }
    for (const node of [to, from, ...primaries.filter((node) => node !== to && node !== from)]) {
      yield* node.call("cluster", "setslot", slot, "node", String(toId))
    }
    return to
  })

describe("a worker on a cluster", () => {
  it.live(
    "goes on when the slots of its shards and of the books move, one after the other",
    () =>
      Effect.gen(function* () {
        const { nodes, replicas, url } = yield* cluster
        const all = [...nodes, ...replicas]
        yield* underLoad({ ...shape, url }, (load: Load) =>
          Effect.gen(function* () {
            const { namespace } = load
            for (const key of [keys.shardTag(namespace, 0), keys.shardTag(namespace, 2), keys.topics(namespace)]) {
              // A real wait: work meets a slot of which a part has moved.
              yield* migrate(all, key, Effect.sleep("500 millis"))
              assert.isBelow(yield* load.resumes, 2_000)
              yield* load.handles(100)
            }
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "goes on when a primary hands over to its replica",
    () =>
      Effect.gen(function* () {
        const { nodes, replicas, url } = yield* cluster
        yield* underLoad({ ...shape, url }, (load) =>
          Effect.gen(function* () {
            for (const [i, node] of nodes.entries()) {
              const replica = replicas[i]!
              const [from, to] = (yield* isPrimary(node)) ? [node, replica] : [replica, node]
              yield* to.call("cluster", "failover")
              yield* eventually("the replica is the primary", isPrimary(to))
              assert.isBelow(yield* load.resumes, 2_000)
              yield* inStep(from)
            }
            yield* load.handles(100)
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "goes on when a primary dies and its replica takes over",
    () =>
      Effect.gen(function* () {
        const { nodes, replicas, url } = yield* cluster
        yield* underLoad({ ...shape, url }, (load) =>
          Effect.gen(function* () {
            const { node } = yield* ownerOf([...nodes, ...replicas], keys.shardTag(load.namespace, 1))
            const replica = replicas[nodes.indexOf(node)] ?? nodes[replicas.indexOf(node)]!
            // What it answered has left for its replica in the same turn: nothing is lost.
            yield* node.kill
            yield* eventually("the replica is the primary", isPrimary(replica))
            yield* load.resumes
            yield* node.again
            yield* inStep(node)
            yield* load.handles(100)
          })
        )
      }),
    60_000
  )
})
