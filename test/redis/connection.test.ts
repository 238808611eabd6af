/** Which node of a cluster a connection of one's own goes to, as the nodes answer: a fake cluster, told who is dead. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Link, type Native } from "../../src/redis/connection.ts"

const key = "{m}x"
const port = (options: object): number => (options as { readonly port: number }).port

/** Nodes by port: what each says to EXISTS, or "dead". The first are those that are taken for masters. */
const fakeCluster = (masters: ReadonlyArray<number>, says: Record<number, "yes" | "dead" | `MOVED 1 ${string}`>) => {
  const connected: Array<number> = []
  const makeNode = (number: number): Native => {
    const node = {
      status: "ready",
      options: { host: "127.0.0.1", port: number },
      call: async (command: string) => {
        const answer = says[number]!
        if (answer === "dead") throw new Error("Connection is closed.")
        if (command === "exists" && answer !== "yes") throw new Error(answer)
        return 1
      },
      connect: async () => {
        connected.push(number)
        if (says[number] === "dead") throw new Error(`connect ECONNREFUSED 127.0.0.1:${number}`)
      },
      duplicate: (options: object) => makeNode(port({ port: number, ...options })),
      disconnect: () => undefined,
      on: () => undefined,
      off: () => undefined
    }
    return node as unknown as Native
  }
  const nodes = Object.keys(says).map((number) => makeNode(Number(number)))
  const native = {
    ...makeNode(0),
    isCluster: true,
    status: "ready",
    setMaxListeners: () => undefined,
    natMapper: (address: string) => ({ host: "127.0.0.1", port: Number(address.split(":")[1]) }),
    nodes: (role: string) => nodes.filter(({ options }) => role === "all" || masters.includes(port(options)))
  }
  const link = new Link(native as unknown as Native, { name: "a fake", cluster: true, tls: false })
  return { connected, link }
}

describe("a connection of one's own, on a cluster", () => {
  it.effect("is to the node that answers for the key", () =>
    Effect.gen(function* () {
      const { connected, link } = fakeCluster([1, 2], { 1: "MOVED 1 127.0.0.1:2", 2: "yes" })
      yield* link.open(key)
      assert.strictEqual(connected.at(-1), 2)
    })
  )

  it.effect("is to where the living send it, while the dead is still taken for the master", () =>
    Effect.gen(function* () {
      const { connected, link } = fakeCluster([1, 2], { 1: "dead", 2: "MOVED 1 127.0.0.1:3", 3: "yes" })
      yield* link.open(key)
      assert.deepStrictEqual(connected, [3])
    })
  )

  it.effect("is to what was taken for a replica, where no master lives", () =>
    Effect.gen(function* () {
      const { connected, link } = fakeCluster([1], { 1: "dead", 3: "yes" })
      yield* link.open(key)
      assert.deepStrictEqual(connected, [3])
    })
  )

  it.effect("fails where nobody answers", () =>
    Effect.gen(function* () {
      const { link } = fakeCluster([1], { 1: "dead", 3: "dead" })
      const error = yield* Effect.flip(link.open(key))
      assert.strictEqual(error.reason, "Unreachable")
      assert.include(error.message, "no node of the cluster answers")
    })
  )
})
