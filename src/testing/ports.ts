/**
 * Something around every operation of a port, whatever the port: the kit's faults and the simulation's network are
 * written once for all methods, those that a port gains later included.
 */
import { type Context, Effect } from "effect"
import type { Broker, Reader } from "../Broker.ts"
import type { Coordinator } from "../Coordinator.ts"
import { EngineError } from "../Errors.ts"
import type { JobStore } from "../JobStore.ts"
import type { TableStore } from "../TableStore.ts"

/** The ports of one engine. */
export interface Ports {
  readonly Broker: Context.Service.Shape<typeof Broker>
  readonly Coordinator: Context.Service.Shape<typeof Coordinator>
  readonly TableStore: Context.Service.Shape<typeof TableStore>
  readonly JobStore: Context.Service.Shape<typeof JobStore>
}

export type Port = keyof Ports

type Method = (...args: ReadonlyArray<unknown>) => unknown

/** The same service with each method's result changed; `again` makes the call once more. */
export const mapMethods = <S extends object>(
  service: S,
  f: (method: string, result: () => unknown, args: ReadonlyArray<unknown>) => unknown
): S => {
  const mapped = { ...service } as Record<string, unknown>
  for (const [name, value] of Object.entries(service)) {
    if (typeof value !== "function") continue
    mapped[name] = (...args: ReadonlyArray<unknown>) => f(name, () => (value as Method)(...args), args)
  }
  // Each method keeps its parameters, and `f` the type of its result: the caller's part of the bargain.
  return mapped as S
}

/** Methods that only wait for a hint: nothing is wrong when it never comes, and they cannot fail. */
export const isHint = (method: string): boolean => method === "awaitRoom" || method === "wake"

/** Methods that change nothing. */
export const isRead = (method: string): boolean =>
  /^(reader|read|replies|inspect|entriesBefore|lag|lanes|parked|hasRoom|group|quarantined|readMany|readTimed|entries|due|windowsDue|layout|layouts|wakes|ticks|topics|processors|reports|get|list|counts|isPaused|recurrences|signals)$/.test(
    method
  ) || isHint(method)

/** A reader with something around both of its operations. */
export const mapReader = (
  reader: Reader,
  f: <A, E>(method: "read" | "wake", effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
): Reader => ({
  read: (from, options) =>
    f(
      "read",
      Effect.suspend(() => reader.read(from, options))
    ),
  wake: f("wake", reader.wake)
})

export const unreachable = (operation: string, detail: string): EngineError =>
  new EngineError({ operation, reason: "Unreachable", detail })
