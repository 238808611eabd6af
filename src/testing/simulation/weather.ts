/**
 * What a seed lets happen, and how often. Each seed has its own few kinds of trouble: where everything goes wrong at
 * once, most of it hides the rest.
 */

import type { Choices } from "../choices.ts"
import type { Fault, Plan } from "../Faults.ts"
import { isRead } from "../ports.ts"

/** Of worker processes, of the connection, of the server. */
export const kinds = [
  "join",
  "return",
  "leave",
  "crash",
  "crash at a call",
  "stop",
  "suspend",
  "twin",
  "crash all",
  "stop all",
  "cut",
  "disconnect",
  "server away",
  "server stalls",
  "server's clock"
] as const

export type Kind = (typeof kinds)[number] | "snapshot" | "server went back"

export interface Weather {
  readonly kinds: ReadonlyArray<Kind>
  /** Milliseconds between two steps, at most. */
  readonly rest: number
  /** Milliseconds that a message takes, mostly. */
  readonly pace: number
  /** How often a handler takes its time, and how long that is at most; some are not to be interrupted meanwhile. */
  readonly slow: { readonly chance: number; readonly millis: number; readonly stuck: number }
  readonly faults: ReadonlyArray<readonly [kind: Fault["_tag"], chance: number]>
}

/** How long leases and hand-overs take in a simulation, in milliseconds. */
export const timing = { lease: 2_000, grace: 800, settle: 50 } as const

export const weather = (choices: Choices, serverWentBack: boolean): Weather => {
  const own: Array<Kind> = kinds.filter(() => choices.chance(0.45))
  if (own.length === 0) own.push("crash")
  if (serverWentBack) own.push("snapshot", "server went back")
  const tags: ReadonlyArray<Fault["_tag"]> = ["Fail", "Full", "Delay", "DelayReply", "LoseReply", "SendTwice", "Late"]
  return {
    kinds: own,
    rest: choices.pick([150, 500, 1_200]),
    pace: choices.pick([1, 4, 20]),
    slow: {
      chance: choices.pick([0, 0.1, 0.4]),
      millis: choices.pick([20, 300, 2 * timing.lease]),
      stuck: choices.pick([0, 0.2])
    },
    faults: tags.filter(() => choices.chance(0.4)).map((tag) => [tag, choices.pick([0.01, 0.05, 0.15])])
  }
}

/** The faults that one process meets; none once it is calm. */
export const planOf = (weather: Weather, choices: Choices, calm: () => boolean, tell: (what: string) => void): Plan => {
  const drawn = (tag: Fault["_tag"]): Fault => {
    switch (tag) {
      case "Delay":
      case "DelayReply":
      case "Late":
        return { _tag: tag, by: choices.pick([5, 60, 700, 1.5 * timing.lease]) }
      case "SendTwice":
        return { _tag: tag, answer: choices.pick(["first", "second"]) }
      default:
        return { _tag: tag }
    }
  }
  return (port, method, call) => {
    if (calm()) return undefined
    for (const [tag, chance] of weather.faults) {
      if (!choices.chance(chance)) continue
      // Reading twice or late is reading.
      if (isRead(method) && tag !== "Fail" && tag !== "Delay" && tag !== "DelayReply") continue
      const fault = drawn(tag)
      tell(`${port}.${method}, call ${call}: ${described(fault)}`)
      return fault
    }
    return undefined
  }
}

const described = (fault: Fault): string => {
  switch (fault._tag) {
    case "Fail":
      return "fails"
    case "Full":
      return "finds the server full"
    case "Delay":
      return `is kept up for ${fault.by} ms`
    case "DelayReply":
      return `is answered ${fault.by} ms late`
    case "LoseReply":
      return "loses its answer"
    case "SendTwice":
      return `is sent twice, and gets the ${fault.answer} answer`
    case "Late":
      return `comes again ${fault.by} ms later`
  }
}
